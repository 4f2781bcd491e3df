import { setTimeout as sleep } from "node:timers/promises";
import { CllmError } from "../errors.js";
import { type Access, get, type Response, readText } from "./http.js";
import { describeNetworkError, isFinal, RetryError, statusError } from "./network-errors.js";
import { tuning } from "./tuning.js";

/**
 * Fetches a small text, such as a list of files, and tries again where the network fails.
 *
 * @throws {@link CllmError} `CLLM_PULL_FAILED`; `signal.reason` when aborted.
 */
export async function fetchText(
  what: string,
  url: URL,
  access: Access,
  accept: string,
  signal?: AbortSignal,
): Promise<{ response: Response; text: string }> {
  for (let failures = 1; ; failures++) {
    try {
      const response = await get(url, access, { accept }, signal);
      if (response.status !== 200) {
        response.body.destroy();
        throw statusError(what, response);
      }
      return { response, text: await readText(response) };
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      if (error instanceof CllmError) throw error;
      if (isFinal(error) || failures > tuning.retries) throw describeNetworkError(what, error);
      const delay = (error instanceof RetryError ? error.delay : null) ?? tuning.retryDelay * 2 ** (failures - 1);
      await sleep(delay, undefined, { signal }).catch(() => signal?.throwIfAborted());
    }
  }
}

import { CllmError } from "../errors.js";
import { formatBytes } from "./cache.js";
import type { Response } from "./http.js";
import { displayUrl } from "./source.js";

/** A failure that may pass: the download is tried again and continues. */
export class RetryError extends Error {
  constructor(
    message: string,
    /** Milliseconds until the next try, or null for the usual delay. */
    readonly delay: number | null = null,
  ) {
    super(message);
  }
}

/** False for a failure that may pass when tried again: a lost connection, a busy server. */
export function isFinal(error: unknown): boolean {
  if (error instanceof RetryError) return false;
  const { code, path } = error as NodeJS.ErrnoException;
  // Errors of the file system have a `path`. An error without a code is a mistake in this program.
  return error instanceof CllmError || typeof code !== "string" || path !== undefined || isCertificateError(code);
}

/** Makes the error for an answer that is not the file. */
export function statusError(what: string, response: Response): Error {
  const { status, headers, url } = response;
  const where = displayUrl(url);
  if (status === 408 || status === 429 || status >= 500) {
    const after = Number(headers["retry-after"]);
    return new RetryError(`${where} answered ${status}`, after >= 0 ? Math.min(after, 60) * 1000 : null);
  }
  const detail = headers["x-error-message"] === undefined ? "" : ` (${headers["x-error-message"]})`;
  let text = `${where} answered ${status}${detail}`;
  if (status === 404 || status === 410) text = `there is no ${where} (${status})${detail}`;
  if (status === 401 || status === 403) {
    text = `${where} needs permission (${status})${detail}`;
    if (what.startsWith("hf:")) {
      text += process.env.HF_TOKEN
        ? ". The token in HF_TOKEN has none for this file: check the name, and on the model's page whether its terms must be accepted"
        : ". Check the name; for a private or gated model set HF_TOKEN to an access token";
    }
  }
  return new CllmError("CLLM_PULL_FAILED", `Could not pull ${what}: ${text}.`);
}

/** Makes the error for the user after the last try. */
export function describeNetworkError(
  what: string,
  error: unknown,
  progress?: { received: number; total: number | null; resumable: boolean },
): Error {
  if (!(error instanceof Error)) return new Error(String(error));
  const { code, path } = error as NodeJS.ErrnoException;
  if (!(error instanceof RetryError) && typeof code !== "string") return error;
  let text = error.message || code;
  if (code !== undefined && isCertificateError(code)) {
    text = `the server's certificate is not trusted (${code}). Name your organisation's CA file in NODE_EXTRA_CA_CERTS`;
  } else if (path !== undefined) {
    text = error.message;
  } else if (code === "ENOTFOUND" || code === "EAI_AGAIN") {
    text = `the server's name is not known (${error.message}). Check the network connection${proxyHint()}`;
  } else {
    // The AggregateError of failed connections to several addresses has no message of its own.
    const cause =
      error instanceof AggregateError ? error.errors.map((e: Error) => e.message).join("; ") : error.message;
    text = `the connection failed (${cause || code})${proxyHint()}`;
  }
  if (progress?.resumable) {
    const ofTotal = progress.total === null ? "" : ` of ${formatBytes(progress.total)}`;
    text += `. ${formatBytes(progress.received)}${ofTotal} are here: run the same command again and it resumes`;
  } else if (path === undefined) {
    text += ". Run the same command again to retry";
  }
  return new CllmError("CLLM_PULL_FAILED", `Could not pull ${what}: ${text}.`, { cause: error });
}

function proxyHint(): string {
  const { HTTPS_PROXY, https_proxy, NODE_USE_ENV_PROXY } = process.env;
  if (!(HTTPS_PROXY || https_proxy) || NODE_USE_ENV_PROXY === "1") return "";
  return "; HTTPS_PROXY is set, which Node (24.5 or later) uses only with NODE_USE_ENV_PROXY=1";
}

function isCertificateError(code: string): boolean {
  return /CERT|SELF_SIGNED|UNABLE_TO_VERIFY|UNABLE_TO_GET_ISSUER|ERR_TLS/.test(code);
}

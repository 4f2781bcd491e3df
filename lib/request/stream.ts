import type { GenerateChunk, GenerateResult, GenerateStream } from "./result.js";

interface Reader {
  resolve(result: IteratorResult<GenerateChunk>): void;
  reject(error: unknown): void;
}

/** Buffers chunks between the decode thread and the reader, each of which has its own pace. */
export class ChunkStream implements GenerateStream {
  readonly result: Promise<GenerateResult>;
  readonly #chunks: GenerateChunk[] = [];
  /** Calls of next() that wait for a chunk, in order; the protocol allows several at once. */
  readonly #readers: Reader[] = [];
  readonly #stop: () => void;
  #ended = false;
  #failure: { error: unknown } | null = null;

  /** `start` begins the generation and pushes chunks; `stop` ends it early. */
  constructor(start: (push: (chunk: GenerateChunk) => void) => Promise<GenerateResult>, stop: () => void) {
    this.#stop = stop;
    this.result = start((chunk) => {
      if (this.#ended) return;
      const reader = this.#readers.shift();
      if (reader === undefined) this.#chunks.push(chunk);
      else reader.resolve({ done: false, value: chunk });
    });
    this.result.then(
      () => this.#end(null),
      (error: unknown) => this.#end({ error }),
    );
  }

  async next(): Promise<IteratorResult<GenerateChunk>> {
    const chunk = this.#chunks.shift();
    if (chunk !== undefined) return { done: false, value: chunk };
    if (this.#failure !== null) {
      const { error } = this.#failure;
      this.#failure = null;
      throw error;
    }
    if (this.#ended) return { done: true, value: undefined };
    return new Promise((resolve, reject) => this.#readers.push({ resolve, reject }));
  }

  /** Called by `break` and `return` in a for-await loop. */
  async return(): Promise<IteratorResult<GenerateChunk>> {
    this.#chunks.length = 0;
    if (!this.#ended) {
      this.#end(null);
      this.#stop();
      // The lane must be free again when the loop has ended.
      await this.result.catch(() => {});
    }
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  #end(failure: { error: unknown } | null): void {
    if (this.#ended) return;
    this.#ended = true;
    const [first, ...others] = this.#readers.splice(0);
    if (failure === null) first?.resolve({ done: true, value: undefined });
    else if (first !== undefined) first.reject(failure.error);
    else this.#failure = failure; // only the next reader gets it
    for (const reader of others) reader.resolve({ done: true, value: undefined });
  }
}

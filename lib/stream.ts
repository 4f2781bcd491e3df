import type { GenerateResult } from "./generate.js";

/** A piece of an answer: whole characters, and the token ids they came from. */
export interface GenerateChunk {
  /** Never splits a character, never contains a part of a stop string. Empty only in the last chunk. */
  text: string;
  tokens: number[];
}

/** An answer as it is made. Ending the iteration early (`break`) aborts the generation. */
export interface GenerateStream extends AsyncIterableIterator<GenerateChunk> {
  /** The whole answer. Rejects like generate(); a rejection nobody looks at is not reported as unhandled. */
  readonly result: Promise<GenerateResult>;
}

/** Buffers chunks between the decode thread's pace and the consumer's. */
export class ChunkStream implements GenerateStream {
  readonly result: Promise<GenerateResult>;
  readonly #chunks: GenerateChunk[] = [];
  readonly #stop: () => void;
  #ended = false;
  #failure: { error: unknown } | null = null;
  #wake: (() => void) | null = null;

  /** `start` begins the generation and pushes chunks; `stop` ends it early. */
  constructor(start: (push: (chunk: GenerateChunk) => void) => Promise<GenerateResult>, stop: () => void) {
    this.#stop = stop;
    this.result = start((chunk) => {
      if (this.#ended) return;
      this.#chunks.push(chunk);
      this.#wake?.();
    });
    this.result.then(
      () => this.#end(null),
      (error: unknown) => this.#end({ error }),
    );
  }

  async next(): Promise<IteratorResult<GenerateChunk>> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk !== undefined) return { done: false, value: chunk };
      if (this.#failure !== null) {
        const { error } = this.#failure;
        this.#failure = null;
        throw error;
      }
      if (this.#ended) return { done: true, value: undefined };
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Called by `break` and `return` in a for-await loop. */
  async return(): Promise<IteratorResult<GenerateChunk>> {
    this.#chunks.length = 0;
    if (!this.#ended) {
      this.#end(null);
      this.#stop();
      // The lane is free again when the loop has been left.
      await this.result.catch(() => {});
    }
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #end(failure: { error: unknown } | null): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#failure = failure;
    this.#wake?.();
  }
}

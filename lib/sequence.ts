import type { NativeDecoder, IterateOptions as NativeIterateOptions } from "./addon.js";
import { CllmError } from "./errors.js";
import type { Input } from "./model-info.js";
import { rangeError, readOptions, requiredInteger, tokenIds } from "./options.js";
import {
  DRAFT_SOURCES,
  type DraftSource,
  type GenerateOptions,
  generateOn,
  streamOn,
  type Target,
} from "./request/generate.js";
import type { GenerateResult, GenerateStream } from "./request/result.js";
import { readSampling, type SamplingOptions } from "./request/sampling.js";

/** Options of Sequence.iterate(). */
export interface IterateOptions extends SamplingOptions {
  /** Tokens per block n, from 1 to the decoder's blockSize; fewer where the context ends. Default: the decoder's. */
  blockSize?: number | undefined;
  /** Where the draft comes from. Default `choices`: what the last iteration chose for these positions. */
  draftSource?: DraftSource | undefined;
  /** n - 1 token ids that replace the draft. */
  draft?: readonly number[] | Int32Array | undefined;
  /** Return the logits of the block, a copy of n * vocabSize floats. Default false. */
  logits?: boolean | undefined;
}

/** One Jacobi iteration of one sequence; n is the block size. */
export interface Iteration {
  /** Absolute position of block[0] before the iteration. */
  position: number;
  /** [n] The tokens that went through the model: the last confirmed token, then the draft. */
  block: number[];
  /** [n - 1] The block without its first token. */
  draft: number[];
  /** [n] The model's choice after each token of the block. */
  choices: number[];
  /** m: leading draft tokens that equal the choice before them, 0 to n - 1. */
  accepted: number;
  /** The tokens this iteration confirmed: choices[0..m] (fewer only where the context ends). */
  tokens: number[];
  /** tokens.length - 1: tokens beyond the one that ordinary decoding gives (CLLM, arXiv 2403.00835, section 3.3). */
  fastForwarded: number;
  /**
   * Fast-forwarded tokens that stood at their position already in the iteration before, when a token in front of them
   * was still wrong, and stayed (CLLM, arXiv 2403.00835, section 3.3).
   */
  stationary: number;
  /** [n * vocabSize] The logits of the block, row-major; null where they were not asked for. */
  logits: Float32Array | null;
  /** Milliseconds of the forward pass. */
  forwardMilliseconds: number;
}

/**
 * A lane of a decoder, held until dispose(): for chats (its KV stays between turns, so a turn prefills only what is
 * new) and for working with Jacobi iterations one by one. Operations on one sequence run in the order they were called.
 */
export class Sequence implements AsyncDisposable {
  readonly #target: Target;
  readonly #stop = new AbortController();
  #tokens: number[];
  #disposing: Promise<void> | null = null;
  /** The latest operation. The next one starts when it has ended, so that `tokens` and the lane always agree. */
  #lastOperation: Promise<unknown> = Promise.resolve();

  /** @internal Use Decoder.sequence(). */
  constructor(target: Target, tokens: number[]) {
    this.#tokens = tokens;
    this.#target = {
      ...target,
      stop: this.#stop.signal,
      onLane: (laneTokens) => {
        this.#tokens = laneTokens;
      },
    };
  }

  /** A copy of the sequence's tokens. */
  get tokens(): number[] {
    return [...this.#tokens];
  }

  /** tokens.length: where the next token will stand. */
  get position(): number {
    return this.#tokens.length;
  }

  /** Whether dispose() has been called. */
  get disposed(): boolean {
    return this.#disposing !== null;
  }

  /**
   * Makes the sequence hold exactly `tokens`, keeping the KV rows of the longest common prefix. To append, pass
   * `[...sequence.tokens, ...more]`. The last token's row is written by the first iteration, not here.
   *
   * @returns `reused` rows that were there already, and `prefilled` rows computed now.
   * @throws {@link CllmError} `CLLM_CONTEXT_OVERFLOW`
   */
  async prefill(tokens: readonly number[] | Int32Array): Promise<{ reused: number; prefilled: number }> {
    const checked = tokenIds(tokens, "tokens", this.#target.model.info.vocabSize);
    if (checked.length === 0) throw rangeError("at least one token", "tokens", tokens);
    return this.#enqueue(async () => {
      const answer = await this.#send((native, id) => native.prefill(id, this.#target.sequence, checked));
      this.#tokens = Array.from(checked);
      const { reused, prefilled } = answer as { reused: number; prefilled: number };
      return { reused, prefilled };
    });
  }

  /**
   * One Jacobi iteration: the block goes through the model, the accepted tokens are appended, and the choices behind
   * them become the next draft. It does not stop at end-of-generation tokens. Iterations of several sequences that are
   * asked for at once share one forward pass, unless the decode thread has begun with the first already.
   *
   * @throws {@link CllmError} `CLLM_CONTEXT_OVERFLOW` when the context is full.
   */
  async iterate(options: IterateOptions = {}): Promise<Iteration> {
    const { sequence } = this.#target;
    const request = this.#readIteration(options);
    return this.#enqueue(async () => {
      const answer = await this.#send((native, id) => native.iterate(id, sequence, request));
      if (answer.type !== "iteration") throw new Error(`Unexpected answer ${answer.type} to iterate`);
      const { iteration } = answer;
      const block = Array.from(iteration.block);
      const emitted = Array.from(iteration.tokens);
      this.#tokens.push(...emitted);
      return {
        position: iteration.position,
        block,
        draft: block.slice(1),
        choices: Array.from(iteration.choices),
        accepted: iteration.accepted,
        tokens: emitted,
        fastForwarded: emitted.length - 1,
        stationary: iteration.stationary,
        logits: iteration.logits,
        forwardMilliseconds: iteration.forwardMilliseconds,
      };
    });
  }

  #readIteration(options: IterateOptions): NativeIterateOptions {
    const { model, blockSize: maxBlockSize, seed } = this.#target;
    return readOptions(options, (read) => {
      const blockSize = read.integer("blockSize", 1, maxBlockSize, maxBlockSize);
      const choosing = readSampling(read, seed);
      const value = read.value("draft");
      const draft = value === undefined ? null : tokenIds(value, "draft", model.info.vocabSize);
      if (draft !== null && draft.length !== blockSize - 1) {
        throw rangeError(`${blockSize - 1} token ids`, "draft", value);
      }
      return {
        blockSize,
        seed: choosing.seed,
        choosing,
        draftSource: read.oneOf("draftSource", DRAFT_SOURCES, "choices"),
        draft,
        logits: read.boolean("logits", false),
      };
    });
  }

  /** Keeps the first `position` tokens (0 to the sequence's own position) and drops the draft. */
  async rollback(position: number): Promise<void> {
    return this.#enqueue(async () => {
      requiredInteger(position, "position", 0, this.#tokens.length);
      await this.#send((native, id) => native.rollback(id, this.#target.sequence, position));
      this.#tokens.length = position;
    });
  }

  /**
   * Copies this sequence into a free lane: tokens, KV rows and draft. Original and copy go on independently.
   *
   * @throws {@link CllmError} `CLLM_NO_FREE_LANE`
   */
  async fork(): Promise<Sequence> {
    return this.#enqueue(async () => {
      const answer = await this.#send((native, id) => native.fork(id, this.#target.sequence));
      if (answer.type !== "sequence") throw new Error(`Unexpected answer ${answer.type} to fork`);
      return new Sequence({ ...this.#target, sequence: answer.sequence }, Array.from(answer.tokens));
    });
  }

  /**
   * Like Decoder.generate, on this lane; only the part of `input` behind the common prefix with `tokens` is prefilled.
   * It starts when the operations asked for before have ended, generations included; an abort while it waits rejects at
   * once.
   */
  async generate(input: Input, options: GenerateOptions = {}): Promise<GenerateResult> {
    this.#open();
    return generateOn(this.#target, input, options, (operation) => this.#enqueue(operation));
  }

  /** Like Decoder.stream, on this lane; it waits for its turn like generate(). */
  stream(input: Input, options: GenerateOptions = {}): GenerateStream {
    return streamOn(this.#target, input, options, (operation) => this.#enqueue(operation));
  }

  /** Aborts a running generation, then gives the lane back. Idempotent. */
  dispose(): Promise<void> {
    this.#disposing ??= (async () => {
      this.#stop.abort(new CllmError("CLLM_DISPOSED", "The sequence is disposed"));
      await this.#lastOperation;
      try {
        await this.#send((native, id) => native.closeSequence(id, this.#target.sequence));
      } catch (error) {
        // Where the decoder is disposed, the lane is gone already.
        if (!(error instanceof CllmError) || error.code !== "CLLM_DISPOSED") throw error;
      }
    })();
    return this.#disposing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  #open(): void {
    if (this.#disposing !== null) throw new CllmError("CLLM_DISPOSED", "The sequence is disposed");
  }

  #send(call: (native: NativeDecoder, id: number) => void) {
    return this.#target.commands.send(call).answer;
  }

  #enqueue<T>(operation: () => Promise<T>): Promise<T> {
    const result = this.#lastOperation.then(() => {
      this.#open();
      return operation();
    });
    this.#lastOperation = result.catch((error: unknown) => {
      // llama.cpp failed in the middle: the native side has emptied the lane.
      if (error instanceof CllmError && error.code === "CLLM_DECODE_FAILED") this.#tokens = [];
    });
    return result;
  }
}

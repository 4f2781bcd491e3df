/** Counts of one generation. */
export interface GenerateStats {
  /** Tokens of the prompt, cached or not. */
  promptTokens: number;
  /** Prompt tokens whose KV rows were there already (the longest common prefix with the lane). */
  cachedTokens: number;
  /** Tokens of the answer, the token that ended it included. */
  emittedTokens: number;
  /** Jacobi iterations, that is forward passes after the prompt. */
  iterations: number;
  /** emittedTokens / iterations: 1 for ordinary decoding, 0 without iterations. */
  tokensPerIteration: number;
  /** Tokens beyond the one that every iteration gives (CLLM, arXiv 2403.00835, section 3.3). */
  fastForwardedTokens: number;
  /**
   * Fast-forwarded tokens that already stood at their position in the iteration before, when a token in front of them
   * was still wrong, and stayed (CLLM, arXiv 2403.00835, section 3.3).
   */
  stationaryTokens: number;
  /** Number of iterations by block size; with `auto` it shows which sizes paid. */
  blockSizes: Record<number, number>;
  /** Number of iterations by how many blocks they verified at once. */
  candidates: Record<number, number>;
  /** Time of the forward passes over the prompt. */
  prefillMilliseconds: number;
  /** Time of the iterations with all engine work, without the prefill of other lanes. */
  decodeMilliseconds: number;
  /**
   * The part of decodeMilliseconds that was spent inside llama.cpp; where the resident runner runs on a GPU, the time that it
   * took to give the GPU its work.
   */
  forwardMilliseconds: number;
  /** emittedTokens per second of decodeMilliseconds; 0 when no time has passed. */
  tokensPerSecond: number;
}

/** A whole answer. */
export interface GenerateResult {
  text: string;
  /** Every emitted token, the token that ended the generation included. */
  tokens: number[];
  /** `eog`: an end-of-generation token; `stop`: a stop string; `length`: maxTokens or the context's end. */
  finishReason: "eog" | "stop" | "length";
  /** The seed that was used. The same seed and options give the same text again. */
  seed: number;
  /** One entry for each of `tokens`, or null where none were asked for. */
  logprobs: TokenLogprobs[] | null;
  stats: GenerateStats;
}

/**
 * Natural logarithms of probabilities: softmax of the logits that the token was chosen from, after biases, penalties
 * and grammar, and before temperature, top-k, top-p and min-p.
 */
export interface TokenLogprobs {
  token: number;
  logprob: number;
  /** The most probable tokens, the most probable first. */
  top: { token: number; logprob: number }[];
}

/** A piece of an answer: whole characters, and the token ids that they came from. */
export interface GenerateChunk {
  /** Never splits a character, never contains a part of a stop string. Empty only in the last chunk. */
  text: string;
  tokens: number[];
}

/**
 * An answer as it is made. Ending the iteration early (`break`, or disposing the stream) aborts the generation. Chunks
 * wait in memory for a slow reader: the decode thread does not, because other lanes share its passes.
 */
export interface GenerateStream extends AsyncIterableIterator<GenerateChunk>, AsyncDisposable {
  /** The whole answer. It rejects like generate(); a rejection that nobody handles is not reported as unhandled. */
  readonly result: Promise<GenerateResult>;
}

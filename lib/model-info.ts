import type { ChatMessage } from "./chat/template.js";
import { MAX_BLOCK_SIZE } from "./limits.js";

/**
 * A prompt: text (tokenised with BOS where the model wants it; control tokens in it stay text), token ids (taken as
 * they are), or chat messages (rendered with the model's template).
 */
export type Input = string | readonly number[] | Int32Array | readonly ChatMessage[];

/** Facts about a model, from its file. Each size says its unit: tokens, elements or bytes. */
export interface ModelInfo {
  /** llama.cpp's one-line description, e.g. `llama 256M Q4_1`. */
  description: string;
  /** llama.cpp's name of the architecture, e.g. `llama`, `qwen3`. */
  architecture: string;
  parameterCount: number;
  /** Bytes of all tensors. */
  fileSize: number;
  /** Bytes of weights that were packed while loading (`packWeights`), on the CPU. */
  packedBytes: number;
  /** Token ids go from 0 to vocabSize - 1. */
  vocabSize: number;
  /** `bpe`, `spm`, `wpm`, `ugm`, `rwkv`, `plamo2`, or `none` for a model without tokenizer. */
  vocabType: string;
  /** Tokens of the longest context that it was trained on. */
  trainContextSize: number;
  /** Elements of a hidden state. */
  embeddingSize: number;
  layerCount: number;
  headCount: number;
  /** Heads that keys and values have; fewer than headCount with grouped-query attention. */
  headCountKv: number;
  /**
   * Tokens that a sequence can go back from the end of its last pass, at most, without being read again; null: any
   * number, as all layers have attention. Recurrent and hybrid models decode in blocks of at most one token more: their
   * decoders keep a snapshot of the state for each token of a block. 0 where llama.cpp cannot.
   */
  maxRollback: number | null;
  /** Tokens that the layers with sliding-window attention see, or null where all layers see the whole context. */
  slidingWindow: number | null;
  /** Bytes of a lane's recurrent state. A decoder has blockSize of them for each lane, and one more if it is resident. */
  stateBytes: number;
  /** Tokens of the blocks that a consistency LLM was trained for (`cllm.block_size`), or null for other models. */
  trainBlockSize: number | null;
}

/** Tokens of the largest block that a model decodes in. The first token of a block is never taken back. */
export function maxBlockSize({ maxRollback }: Pick<ModelInfo, "maxRollback">): number {
  return maxRollback === null ? MAX_BLOCK_SIZE : maxRollback + 1;
}

/** Special tokens; null where the vocabulary has none. */
export interface SpecialTokens {
  bos: number | null;
  eos: number | null;
  eot: number | null;
  nl: number | null;
  pad: number | null;
  sep: number | null;
  /** Whether tokenize() with addSpecial puts BOS in front. */
  addBos: boolean;
  /** Whether tokenize() with addSpecial puts EOS behind. promptTokens() never does. */
  addEos: boolean;
}

/** One entry of the vocabulary. */
export interface TokenInfo {
  /** The token's text as the vocabulary stores it (not decoded: `Ġthe`, `▁the`). */
  text: string;
  /**
   * `normal`, `control`, `userDefined`, `byte`, `unknown`, `unused`, `normalized`, `lstrip`, `rstrip`, `singleWord`.
   */
  attributes: string[];
  /** Whether it ends a generation. */
  endOfGeneration: boolean;
}

/** The part of a model that decoders and requests need: its vocabulary and its facts. {@link Model} implements it. */
export interface LoadedModel {
  readonly path: string;
  readonly info: Readonly<ModelInfo>;
  readonly specialTokens: Readonly<SpecialTokens>;
  readonly metadata: Readonly<Record<string, string>>;
  readonly chatTemplate: string | null;
  readonly disposed: boolean;
  tokenize(text: string, options?: { addSpecial?: boolean; parseSpecial?: boolean }): number[];
  detokenize(tokens: readonly number[] | Int32Array, options?: { renderSpecial?: boolean }): string;
  token(id: number): TokenInfo;
  applyChatTemplate(
    messages: readonly ChatMessage[],
    options?: { addGenerationPrompt?: boolean; template?: string },
  ): string;
  promptTokens(input: Input): Int32Array;
}

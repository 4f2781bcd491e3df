import fs from "node:fs/promises";
import path from "node:path";
import { CllmError } from "../errors.js";
import { MAX_BLOCK_SIZE, MAX_THREADS } from "../limits.js";
import { isSameFile, outputFile, writeModel } from "../machine/model-output.js";
import { defaultThreads } from "../machine/threads.js";
import * as check from "../options.js";
import type { PullProgress } from "../pull/pull.js";
import { quantize } from "../quantize.js";
import { configKeys, readConfig, ropeFactors } from "./config.js";
import { append, encodeHeader, type GgufValue } from "./gguf-writer.js";
import { type Json, readObject, readText } from "./json-files.js";
import { invalid } from "./refusals.js";
import { type Dtype, readCheckpoint, refusePickles, type StoredTensor, weightFiles } from "./safetensors.js";
import { TOKENIZER_FILES, tokenizerKeys } from "./tokenizer.js";
import { planWeights, writeWeights } from "./weights.js";

const FAILED = "CLLM_CONVERT_FAILED";
/** llama.cpp's numbers of the formats that are written without its quantiser. */
const FILE_TYPES: Record<Dtype, number> = { F32: 0, F16: 1, BF16: 32 };
/** Formats of llama.cpp's quantiser. */
export const QUANTIZED =
  "Q8_0 Q6_K Q5_0 Q5_1 Q5_K_S Q5_K_M Q4_0 Q4_1 Q4_K_S Q4_K_M IQ4_NL IQ4_XS Q3_K_S Q3_K_M Q3_K_L Q2_K".split(" ");

export interface ConvertProgress {
  /** `pull`: the checkpoint is brought into the cache; `convert`; `quantize`. */
  phase: "pull" | "convert" | "quantize";
  /** Share of the phase that is done, from 0 to 1; null where that is not known. */
  fraction: number | null;
  /** What {@link pull} tells, in its phase. */
  pull?: PullProgress;
}

export interface ConvertOptions {
  /**
   * Format of the weights: `F32`, `F16`, `BF16`, or a format of {@link quantize} such as `Q8_0` and `Q4_0`. Default: that of
   * the checkpoint, and F16 for one in F32.
   */
  type?: string | undefined;
  /**
   * Tokens of the blocks that a consistency LLM was trained for, from 2 to 128. They are written into the file
   * (`cllm.block_size`), so that decoders expect good drafts from the start. Default: none.
   */
  trainBlockSize?: number | undefined;
  /** Directory of the cache, for `hf:` sources. Default: as for {@link pull}. */
  cacheDir?: string | undefined;
  /** Called as the work goes on. An error that it throws rejects the call. */
  onProgress?: ((progress: ConvertProgress) => void) | undefined;
  /** Stops the work; no output is left behind, and pulled files stay. */
  signal?: AbortSignal | undefined;
  /** Threads of the quantiser, from 1 to 512. Default: physical cores. */
  threads?: number | undefined;
}

/**
 * Writes a checkpoint of the transformers library as a GGUF file. `source` is a folder with config.json, safetensors and a
 * tokenizer, or `hf:owner/repo[@revision]`. Architectures: Llama (2, 3, SmolLM, DeepSeek-Coder), Qwen2 and Qwen3.
 *
 * What llama.cpp would read otherwise than transformers is refused by name: other architectures, activations and rope
 * scalings, quantised weights, unknown tokenizers. Pickled weights are refused because reading them runs them.
 *
 * @throws {@link CllmError} `CLLM_MODEL_NOT_FOUND`, `CLLM_UNSUPPORTED_MODEL`, `CLLM_INVALID_MODEL` (a missing shard, a wrong
 * shape, a file cut off), `CLLM_CONVERT_FAILED` (disk full), `CLLM_PULL_FAILED`.
 * @throws TypeError, RangeError for a wrong option.
 * @throws `signal.reason` when aborted.
 * @example
 * await convert("hf:JacobiForcing/JacobiForcing_Coder_7B_v1", "coder.gguf", { type: "Q8_0", trainBlockSize: 64 });
 */
export async function convert(source: string, output: string, options: ConvertOptions = {}): Promise<void> {
  check.nonEmptyString(source, "source");
  check.nonEmptyString(output, "output");
  for (const [name, value] of Object.entries({ source, output })) {
    if (value.includes("\0")) throw check.rangeError("a path without NUL characters", name, value);
  }
  const settings = check.readOptions(options, (read) => ({
    type: readType(read.value("type")),
    trainBlockSize: read.integer("trainBlockSize", 2, MAX_BLOCK_SIZE, null),
    cacheDir: read.nonEmptyString("cacheDir", null) ?? undefined,
    onProgress: read.callback<(progress: ConvertProgress) => void>("onProgress"),
    signal: read.abortSignal("signal") ?? undefined,
    threads: read.integer("threads", 1, MAX_THREADS, defaultThreads()),
  }));
  const { signal, onProgress, threads } = settings;
  signal?.throwIfAborted();
  const target = await outputFile(output, FAILED);
  const folder = await checkpointFolder(source, settings);
  const { header, weights, dtype, quantized } = await plan(source, folder, settings);
  await refuseSourceFile(folder, target, output);
  await writeModel(target, FAILED, async (temporary) => {
    const file = quantized === null ? temporary : `${temporary}.${dtype}`;
    const total = weights.reduce((sum, { bytes }) => sum + bytes, 0);
    const handle = await fs.open(file, "wx");
    try {
      await append(handle, header);
      const report = (written: number): void => onProgress?.({ phase: "convert", fraction: written / total });
      await writeWeights(handle, weights, report, signal);
    } finally {
      await handle.close();
    }
    if (quantized === null) return;
    const report = (fraction: number): void => onProgress?.({ phase: "quantize", fraction });
    await quantize(file, temporary, quantized, { signal, threads, onProgress: report });
  });
}

function readType(value: unknown): string | null {
  if (value === undefined) return null;
  const names = [...Object.keys(FILE_TYPES), ...QUANTIZED];
  if (typeof value !== "string") throw check.typeError(`one of ${names.join(", ")}`, "type", value);
  const name = value.toUpperCase();
  if (!names.includes(name)) throw check.rangeError(`one of ${names.join(", ")}`, "type", value);
  return name;
}

/** Refuses an output that is a file of the source, by whatever name. */
async function refuseSourceFile(folder: string, target: string, output: string): Promise<void> {
  for (const name of await fs.readdir(folder)) {
    if (await isSameFile(target, path.join(folder, name))) {
      throw new CllmError(FAILED, `The output ${output} is ${name} of the source itself. Choose another name.`);
    }
  }
}

/** Reads all of the checkpoint but its weights. */
async function plan(
  source: string,
  folder: string,
  { type, trainBlockSize }: { type: string | null; trainBlockSize: number | null },
): Promise<{ header: Buffer; weights: ReturnType<typeof planWeights>; dtype: Dtype; quantized: string | null }> {
  const json = await readObject(folder, "config.json");
  if (json === null) throw invalid(folder, "there is no config.json in it");
  const config = readConfig(folder, json);
  const stored = await readCheckpoint(folder);
  // llama.cpp's quantiser gets the weights as they are, so that they are rounded once.
  const own = mainDtype(stored);
  const quantized = type === null || Object.hasOwn(FILE_TYPES, type) ? null : type;
  const dtype = quantized === null ? ((type ?? (own === "F32" ? "F16" : own)) as Dtype) : own;
  const weights = planWeights(folder, config, stored, dtype, ropeFactors(config));
  const keys = new Map<string, GgufValue>([
    ["general.architecture", { type: "string", value: config.architecture }],
    ["general.type", { type: "string", value: "model" }],
    ["general.name", { type: "string", value: nameOf(source, folder) }],
    ...(await descriptionKeys(source, folder)),
    ...configKeys(config),
    ["general.file_type", { type: "u32", value: FILE_TYPES[dtype] }],
    ["general.quantization_version", { type: "u32", value: 2 }],
    ...(await tokenizerKeys(folder, config.vocab, json)),
    ...(trainBlockSize === null ? [] : ([["cllm.block_size", { type: "u32", value: trainBlockSize }]] as const)),
  ]);
  return { header: encodeHeader(keys, weights), weights, dtype, quantized };
}

/** The type of most weights. */
function mainDtype(stored: ReadonlyMap<string, StoredTensor>): Dtype {
  const bytes: Record<Dtype, number> = { F32: 0, F16: 0, BF16: 0 };
  for (const tensor of stored.values()) bytes[tensor.dtype] += tensor.bytes;
  return (Object.keys(bytes) as Dtype[]).reduce((most, each) => (bytes[each] > bytes[most] ? each : most));
}

function nameOf(source: string, folder: string): string {
  return /^hf:/i.test(source) ? source.slice(3).replace(/@.*$/s, "") : path.basename(path.resolve(folder));
}

/** What the model's card says of its licence, and where the checkpoint comes from. */
async function descriptionKeys(source: string, folder: string): Promise<[string, GgufValue][]> {
  const card = (await readText(folder, "README.md").catch(() => null)) ?? "";
  const licence = /^license:\s*["']?([\w.+-]+)["']?\s*$/m.exec(/^---\n(.*?)\n---/s.exec(card)?.[1] ?? "")?.[1];
  const keys: [string, GgufValue][] = [];
  if (licence !== undefined) keys.push(["general.license", { type: "string", value: licence }]);
  if (/^hf:/i.test(source)) {
    keys.push([
      "general.source.repo_url",
      { type: "string", value: `https://huggingface.co/${nameOf(source, folder)}` },
    ]);
  }
  return keys;
}

async function checkpointFolder(
  source: string,
  {
    cacheDir,
    onProgress,
    signal,
  }: Pick<ConvertOptions, "cacheDir" | "signal"> & { onProgress: ((progress: ConvertProgress) => void) | null },
): Promise<string> {
  if (!/^hf:/i.test(source)) {
    const stat = await fs.stat(source).catch(() => null);
    if (stat?.isDirectory()) return source;
    const reason = stat === null ? "There is no folder" : "This is no folder but a file:";
    throw new CllmError(
      "CLLM_MODEL_NOT_FOUND",
      `${reason} ${source}. A checkpoint is a folder with config.json, or hf:owner/repo.`,
    );
  }
  const { pullCheckpoint } = await import("../pull/checkpoint.js");
  return pullCheckpoint(source, checkpointFiles(source), {
    cacheDir,
    signal,
    onProgress: (progress) => {
      const { received, total } = progress;
      onProgress?.({ phase: "pull", fraction: total ? received / total : null, pull: progress });
    },
  });
}

/** Chooses the files of a repository that a conversion reads. */
function checkpointFiles(source: string): Parameters<typeof import("../pull/checkpoint.js").pullCheckpoint>[1] {
  return async (names, pull) => {
    const others = ["config.json", "README.md", ...TOKENIZER_FILES].filter((name) => names.includes(name));
    if (!others.includes("config.json")) throw invalid(source, "there is no config.json in it");
    const read = async (file: string): Promise<Json | null> =>
      names.includes(file) ? readObject(path.dirname(await pull(file)), file) : null;
    const files = await weightFiles(source, read);
    if (files.some((file) => !names.includes(file))) refusePickles(source, names);
    // What is no JSON was no file of the repository; it must not stay in the cache.
    for (const name of others.filter((each) => each.endsWith(".json"))) {
      await read(name).catch(async (error: unknown) => {
        await fs.rm(await pull(name), { force: true });
        throw error;
      });
    }
    return [...others, ...files];
  };
}

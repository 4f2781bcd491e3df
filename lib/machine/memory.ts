import { statSync } from "node:fs";
import os from "node:os";
import type { NativeDevice, NativeModelInfo, DecoderOptions as NativeOptions } from "../addon.js";
import { CllmError } from "../errors.js";
import { CELL_PADDING, MAX_PART_TOKENS, MAX_WINDOW_PASS_TOKENS } from "../limits.js";

/** Memory that a context takes, in bytes. */
export interface ContextNeeds {
  kv: number;
  /** The lanes' recurrent states, with a snapshot for each token of a block. */
  states: number;
  /** Logits of all blocks of a pass. */
  logits: number;
  /** The lanes' texts, with the index of what stands where. */
  texts: number;
}

/** Bytes per element of a KV row. Formats that are not listed have 4 bits and take 20 bytes for 32 elements, with scales. */
const KV_ELEMENT_BYTES: Record<string, number> = {
  f32: 4,
  f16: 2,
  bf16: 2,
  q8_0: 34 / 32,
  q5_1: 24 / 32,
  q5_0: 22 / 32,
};

/** Bytes of a GPU that stay free for cuBLAS's workspace, the activations of a pass and ggml's pools. */
const GPU_RESERVE = 256 * 2 ** 20;

/** Bytes that a lane's text takes where the resident runner works on it: the tokens, and the index of their places. */
const TEXT_BYTES_PER_TOKEN = 40;

/** What a model needs for each token and lane, as in NativeModelInfo. */
type ModelNeeds = Pick<
  NativeModelInfo,
  "kvBytesPerToken" | "windowedKvBytesPerToken" | "slidingWindow" | "stateBytes" | "maxRollback" | "vocabSize"
>;

/** Memory of a decoder's context. */
export function contextNeeds(options: NativeOptions, model: ModelNeeds): ContextNeeds {
  const { contextSize, lanes, blockSize, candidates, kvType, runner } = options;
  const logitRows = Math.max(blockSize, Math.min(blockSize * candidates, MAX_PART_TOKENS));
  const snapshots = (model.maxRollback ?? 0) > 0;
  // Candidates have rows behind the context, and a lane with snapshots of its state has one.
  const scratch = Math.max(snapshots ? 1 : 0, Math.min((candidates - 1) * blockSize, MAX_PART_TOKENS));
  const cells = padded(contextSize + scratch);
  const rows = cells * model.kvBytesPerToken + windowCells(options, model, cells) * model.windowedKvBytesPerToken;
  return {
    kv: ((rows * lanes) / 2) * (KV_ELEMENT_BYTES[kvType] ?? 20 / 32),
    // The resident runner, where it may run, needs one state more.
    states: lanes * (blockSize + (snapshots && runner !== "host" && rows > 0 ? 1 : 0)) * model.stateBytes,
    logits: lanes * logitRows * model.vocabSize * Float32Array.BYTES_PER_ELEMENT,
    texts: lanes * contextSize * TEXT_BYTES_PER_TOKEN,
  };
}

/** Cells that a layer with a window has for each lane: those of the window and of a pass, in steps of llama.cpp's. */
function windowCells(options: NativeOptions, { slidingWindow }: ModelNeeds, cells: number): number {
  const { candidates, prefillChunk, swaFull } = options;
  if (swaFull || candidates > 1) return cells;
  return Math.min(cells, padded(slidingWindow + Math.max(MAX_WINDOW_PASS_TOKENS, prefillChunk)));
}

function padded(cells: number): number {
  return Math.ceil(cells / CELL_PADDING) * CELL_PADDING;
}

/** Where a model's layers run; "both": some on the GPU, some on the CPU. llama.cpp counts the output as a layer more. */
export function placement(gpuLayers: number, layerCount: number, gpu: NativeDevice | null): "gpu" | "cpu" | "both" {
  if (gpu === null || gpuLayers === 0) return "cpu";
  return gpuLayers < 0 || gpuLayers > layerCount ? "gpu" : "both";
}

/** Bytes that this process may still take: free memory of the machine, or of its container if that is less. */
export function availableMemory(): number {
  const free = os.freemem();
  // Node has this function from version 22 on. It returns 0 or undefined where no limit is known.
  const available = (process as { availableMemory?: () => number }).availableMemory?.();
  return available ? Math.min(free, available) : free;
}

/**
 * Refuses what cannot fit into memory before it is allocated, because Linux hands out memory that it does not have and
 * kills the process later, when the KV cache is cleared.
 *
 * @throws {@link CllmError} `CLLM_OUT_OF_MEMORY`
 */
export function checkMemory(
  needed: number,
  what: string,
  advice = "use a smaller contextSize, fewer lanes or a quantised kvType",
): void {
  const available = availableMemory();
  if (needed <= available) return;
  throw new CllmError(
    "CLLM_OUT_OF_MEMORY",
    `Expected ${what} to fit into memory but it needs ${gib(needed)} and ${gib(available)} are available: ${advice}`,
  );
}

/**
 * Refuses what cannot fit into a GPU's memory. ggml ends the process when an allocation fails in the middle of a pass,
 * so room for its smaller buffers must stay free.
 *
 * @throws {@link CllmError} `CLLM_OUT_OF_MEMORY`
 */
export function checkGpuMemory(needed: number, what: string, gpu: NativeDevice, advice: string): void {
  // The total is 0 where the driver does not tell.
  if (gpu.totalMemory === 0 || needed + GPU_RESERVE <= gpu.freeMemory) return;
  throw new CllmError(
    "CLLM_OUT_OF_MEMORY",
    `Expected ${what} to fit into the memory of ${gpu.description} but it needs ${gib(needed + GPU_RESERVE)} ` +
      `with what a pass needs, and ${gib(gpu.freeMemory)} of ${gib(gpu.totalMemory)} are free: ${advice}`,
  );
}

/** Bytes of a model file, with all parts of a split one. Missing files count as 0 bytes; loading reports them. */
export function modelFileBytes(file: string): number {
  const [, head, count] = /^(.*-)\d{5}-of-(\d{5})\.gguf$/.exec(file) ?? [];
  if (head === undefined) return bytes(file);
  let sum = 0;
  for (let part = 1; part <= Number(count); part++) {
    sum += bytes(`${head}${String(part).padStart(5, "0")}-of-${count}.gguf`);
  }
  return sum;
}

function bytes(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}

function gib(count: number): string {
  return `${(count / 2 ** 30).toFixed(2)} GiB`;
}

import { statSync } from "node:fs";
import os from "node:os";
import type { NativeDevice, DecoderOptions as NativeOptions } from "../addon.js";
import { CllmError } from "../errors.js";
import { MAX_PART_TOKENS } from "../limits.js";

/** What a context takes, in bytes. */
export interface ContextNeeds {
  kv: number;
  /** Of all blocks of a pass. */
  logits: number;
}

/** Bytes per element of a KV row; the rest are 4-bit and 5-bit formats in blocks of 32 with a scale. */
const KV_ELEMENT: Record<string, number> = { f32: 4, f16: 2, bf16: 2, q8_0: 34 / 32, q5_1: 24 / 32, q5_0: 22 / 32 };

/** Of a GPU's memory: left for cuBLAS's workspace, the activations of a pass, ggml's pools. */
const GPU_RESERVE = 256 * 2 ** 20;

/** `kvBytesPerToken` is that of F16 rows, as NativeModelInfo has it. */
export function contextNeeds(
  { contextSize, lanes, blockSize, candidates, kvType }: NativeOptions,
  model: { kvBytesPerToken: number; vocabSize: number },
): ContextNeeds {
  const rows = Math.max(blockSize, Math.min(blockSize * candidates, MAX_PART_TOKENS));
  const perToken = (model.kvBytesPerToken / 2) * (KV_ELEMENT[kvType] ?? 20 / 32);
  return {
    kv: (contextSize + Math.min((candidates - 1) * blockSize, MAX_PART_TOKENS)) * lanes * perToken,
    logits: lanes * rows * model.vocabSize * Float32Array.BYTES_PER_ELEMENT,
  };
}

/** Where layers run: all of them on the GPU, none, or some. llama.cpp counts the output as one layer more. */
export function placement(gpuLayers: number, layerCount: number, gpu: NativeDevice | null): "gpu" | "cpu" | "both" {
  if (gpu === null || gpuLayers === 0) return "cpu";
  return gpuLayers < 0 || gpuLayers > layerCount ? "gpu" : "both";
}

/** Bytes that this process may still take: free memory of the machine, or of its container if that is less. */
export function availableMemory(): number {
  const free = os.freemem();
  // Node >= 22; 0 or undefined where no limit is known.
  const available = (process as { availableMemory?: () => number }).availableMemory?.();
  return available ? Math.min(free, available) : free;
}

/**
 * Refuses what cannot fit before anything is allocated: Linux hands out memory it does not have and kills the process
 * later, when the cache is cleared.
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
 * so nothing may be started that leaves no room for its smaller buffers.
 *
 * @throws {@link CllmError} `CLLM_OUT_OF_MEMORY`
 */
export function checkGpuMemory(needed: number, what: string, gpu: NativeDevice, advice: string): void {
  // 0 of 0: the driver did not say.
  if (gpu.totalMemory === 0 || needed + GPU_RESERVE <= gpu.freeMemory) return;
  throw new CllmError(
    "CLLM_OUT_OF_MEMORY",
    `Expected ${what} to fit into the memory of ${gpu.description} but it needs ${gib(needed + GPU_RESERVE)} ` +
      `with what a pass needs, and ${gib(gpu.freeMemory)} of ${gib(gpu.totalMemory)} are free: ${advice}`,
  );
}

/** Bytes of a model file, of a split one of all its parts; what is missing counts as nothing, loading will say so. */
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

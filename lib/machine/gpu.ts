import type { NativeDevice, NativeModelInfo, DecoderOptions as NativeOptions } from "../addon.js";
import { addon } from "../binary/binding.js";
import { availableMemory, checkGpuMemory, checkMemory, contextNeeds, modelFileBytes, placement } from "./memory.js";

/** The first GPU, on which models run and are trained; null on the backend cpu. */
export function gpuDevice(): NativeDevice | null {
  const isGpu = ({ kind }: NativeDevice) => kind === "gpu" || kind === "integrated";
  return addon().devices(false).find(isGpu) ?? null;
}

/**
 * Refuses a model that does not fit into the GPU, before it is loaded. A model of which some layers stay in host memory
 * is not checked; llama.cpp refuses it after it has tried.
 *
 * @throws {@link CllmError} `CLLM_OUT_OF_MEMORY`
 */
export function checkWeights(path: string, gpuLayers: number): void {
  const gpu = gpuDevice();
  if (gpu === null || gpuLayers >= 0) return;
  const advice = "use a smaller or more quantised model, fewer gpuLayers, or the backend cpu";
  checkGpuMemory(modelFileBytes(path), `the weights of ${path}`, gpu, advice);
}

/**
 * Refuses a decoder whose KV cache and logits do not fit into the memory where the model's layers are.
 *
 * @throws {@link CllmError} `CLLM_OUT_OF_MEMORY`
 */
export function checkContext(options: NativeOptions, model: NativeModelInfo, gpuLayers: number): void {
  const { contextSize, lanes, blockSize } = options;
  const { kv, states, logits, texts } = contextNeeds(options, model);
  const needed = kv + states + logits + texts;
  const snapshots = states > 0 ? `, ${lanes} x ${blockSize} snapshots of the recurrent state` : "";
  const what = `a KV cache of ${lanes} x ${contextSize} tokens${snapshots} and logits of ${lanes} x ${blockSize}`;
  const advice = `use a smaller contextSize, fewer lanes${states > 0 ? ", a smaller blockSize" : ""} or a quantised kvType`;
  const gpu = gpuDevice();
  const where = placement(gpuLayers, model.layerCount, gpu);
  if (where === "cpu") checkMemory(needed, what, advice);
  if (where === "gpu" && gpu !== null) checkGpuMemory(needed, what, gpu, advice);
}

/** Share of free memory that the snapshots of recurrent states take at most, where the block size is chosen. */
const SNAPSHOT_SHARE = 0.25;

/** Makes the largest block of `auto` smaller until the snapshots of recurrent states are a part of the free memory. */
export function limitSnapshots(options: NativeOptions, model: NativeModelInfo, gpuLayers: number): void {
  const gpu = gpuDevice();
  const onGpu = placement(gpuLayers, model.layerCount, gpu) === "gpu" && gpu !== null && gpu.totalMemory > 0;
  const free = onGpu ? gpu.freeMemory : availableMemory();
  while (options.blockSize > 1 && contextNeeds(options, model).states > SNAPSHOT_SHARE * free) {
    options.blockSize = Math.ceil(options.blockSize / 2);
  }
}

import type { NativeDevice, NativeModelInfo, DecoderOptions as NativeOptions } from "../addon.js";
import { addon } from "../binary/binding.js";
import { checkGpuMemory, checkMemory, contextNeeds, modelFileBytes, placement } from "./memory.js";

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
  const { kv, logits, texts } = contextNeeds(options, model);
  const needed = kv + logits + texts;
  const what = `a KV cache of ${lanes} x ${contextSize} tokens and logits of ${lanes} x ${blockSize}`;
  const gpu = gpuDevice();
  const where = placement(gpuLayers, model.layerCount, gpu);
  if (where === "cpu") checkMemory(needed, what);
  if (where === "gpu" && gpu !== null) {
    checkGpuMemory(needed, what, gpu, "use a smaller contextSize, fewer lanes or a quantised kvType");
  }
}

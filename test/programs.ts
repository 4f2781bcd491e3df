import path from "node:path";

/**
 * A program of test/native. CLLM_TEST_PROGRAMS names the folder of another build's: scripts/cuda/check.mjs that of the CUDA
 * build, whose rounding is the GPU's.
 */
export function program(name: string): string {
  const folder = process.env.CLLM_TEST_PROGRAMS ?? path.join(__dirname, "..", "..", ".cmake", "native", "bin");
  return path.join(folder, name);
}

import { existsSync } from "node:fs";
import path from "node:path";
import { cpuFeatures } from "../lib/binary/cpu.js";

/**
 * A program of test/native. It must be of the same build as the binary under test, or it would round otherwise:
 * CLLM_TEST_PROGRAMS names the folder of another build than the native one (scripts/test.mjs --levels, and
 * scripts/cuda/check.mjs).
 */
export function program(name: string): string {
  const folder = process.env.CLLM_TEST_PROGRAMS ?? path.join(__dirname, "..", "..", ".cmake", "native", "bin");
  const file = path.join(folder, name);
  if (!existsSync(file)) throw new Error(`Expected ${file}: build it with npm test`);
  return file;
}

/** Whether the CPU has AMX. The instructions run where the system allows them too, and CLLM_AMX=off forbids them. */
export const hasAmx = cpuFeatures().flags?.has("amx_bf16") ?? false;

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { cpuFeatures } from "../lib/binary/cpu.js";

/**
 * A program of test/native. It must be of the same build as the binary under test, or its rounding would differ. For a
 * build other than the native one CLLM_TEST_PROGRAMS names the folder (scripts/test.mjs --levels, scripts/cuda/check.mjs).
 */
export function program(name: string): string {
  const folder = process.env.CLLM_TEST_PROGRAMS ?? path.join(__dirname, "..", "..", ".cmake", "native", "bin");
  const file = path.join(folder, name);
  if (!existsSync(file)) throw new Error(`Expected ${file}: build it with npm test`);
  return file;
}

/** Makes a model with random weights (test/native/make_model.cpp). */
export function makeModel(architecture: string, file: string, ...options: string[]): void {
  const made = spawnSync(program("cllm-make-model"), [architecture, file, ...options], { encoding: "utf8" });
  assert.equal(made.status, 0, made.stderr);
}

/** Whether the CPU has AMX. AMX instructions run only where the system allows them, too; CLLM_AMX=off forbids them. */
export const hasAmx = cpuFeatures().flags?.has("amx_bf16") ?? false;

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { writeFixtures } from "./fixtures/gguf.js";
import { program } from "./programs.js";

const fixtures = writeFixtures();
// scripts/cuda/check.mjs runs the same on the GPU, whose products would be in TF32 otherwise.
const onGpu = process.env.CLLM_TEST_GPU === "1";
const binary = program("cllm-train-test");

function run(args: string[] = [], env: NodeJS.ProcessEnv = {}): void {
  const child = spawnSync(binary, args, { encoding: "utf8", env: { ...process.env, ...env } });
  assert.equal(child.error, undefined);
  assert.equal(child.status, 0, child.stdout);
}

describe("trainer (test/native/train_test.cpp)", () => {
  it("transpose and BF16 products against plain loops", () => run()).timeout(60_000);
  it("the same without AMX, where the CPU has it", () => run([], { CLLM_AMX: "off" })).timeout(60_000);

  for (const name of ["llama", "llamaTied", "llamaWide", "llamaQ8", "qwen2", "qwen3"] as const) {
    it(`${name}: gradients of all weights and of adapters against finite differences`, () =>
      onGpu ? run([fixtures[name], "gpu"], { NVIDIA_TF32_OVERRIDE: "0" }) : run([fixtures[name]])).timeout(60_000);
  }
});

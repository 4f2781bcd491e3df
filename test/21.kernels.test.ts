import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import path from "node:path";

const binary = path.join(__dirname, "..", "..", ".cmake", "native", "bin", "cllm-kernel-test");

function run(args: string[], seed: number): string {
  const env = { ...process.env, CLLM_HARNESS_SEED: String(seed) };
  const child = spawnSync(binary, args, { encoding: "utf8", env });
  assert.equal(child.error, undefined);
  assert.equal(child.status, 0, child.stdout || String(child.signal));
  return child.stdout;
}

// The unchanged sources of cuda/kernels, compiled as C++ with test/cuda_harness, run CUDA threads as fibers in shuffled order.
describe("CUDA sources on the CPU harness equal the CPU kernels", () => {
  it("all sizes", () => {
    assert.match(
      run([], 1),
      /^device cuda\nok choose.*\nok sampling.*\nok planted.*\nok loop.*\nok loop.*\nok recorded iterations.*\nok recorded loops.*\n$/,
    );
  }).timeout(300_000);

  it("in eight orders of threads and blocks", () => {
    for (let seed = 2; seed < 10; seed++) run(["--quick"], seed);
  }).timeout(120_000);
});

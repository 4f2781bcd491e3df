import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { writeFixtures } from "./fixtures/gguf.js";
import { program } from "./programs.js";

const fixtures = writeFixtures();
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
      run([fixtures[name]])).timeout(60_000);
  }
});

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import path from "node:path";

describe("engine without a model", () => {
  const binary = path.join(__dirname, "..", "..", ".cmake", "native", "bin", "cllm-engine-test");
  const run = (env: NodeJS.ProcessEnv) => {
    const child = spawnSync(binary, { encoding: "utf8", env: { ...process.env, ...env } });
    assert.equal(child.error, undefined);
    assert.equal(child.status, 0, child.stdout);
  };
  it("test/native/engine_test.cpp: choose, stop rule, lane, text stream", () => run({})).timeout(60_000);
  it("the same without AMX, where the CPU has it", () => run({ CLLM_AMX: "off" })).timeout(60_000);
});

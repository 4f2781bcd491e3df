import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import path from "node:path";

describe("engine without a model", () => {
  it("test/native/engine_test.cpp: choose, stop rule, lane, text stream", () => {
    const binary = path.join(__dirname, "..", "..", ".cmake", "native", "bin", "cllm-engine-test");
    const child = spawnSync(binary, { encoding: "utf8" });
    assert.equal(child.error, undefined);
    assert.equal(child.status, 0, child.stdout);
  }).timeout(60_000);
});

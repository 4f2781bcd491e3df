import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { program } from "./programs.js";

describe("grammars and JSON schemas without a model", () => {
  it("test/native/grammar_test.cpp: bounds are checked by their numbers, and what is accepted is small", () => {
    const child = spawnSync(program("cllm-grammar-test"), { encoding: "utf8" });
    assert.equal(child.error, undefined);
    assert.equal(child.status, 0, child.stdout);
  }).timeout(300_000);
});

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { program } from "./programs.js";

// On a GPU: npm run check:gpu. Here the program itself is tested, the CPU's kernels against themselves.
describe("kernels of the build's device against the CPU's", () => {
  it("test/native/device_test.cpp", () => {
    const child = spawnSync(program("cllm-device-test"), { encoding: "utf8" });
    assert.equal(child.error, undefined);
    assert.equal(child.status, 0, child.stdout);
    assert.match(child.stdout, /^device cpu\nok choose.*\nok sampling.*\nok planted.*\nok loop.*\nok loop.*\n$/);
  }).timeout(60_000);
});

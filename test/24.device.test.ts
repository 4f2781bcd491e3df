import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { program } from "./programs.js";

// This compares the CPU's kernels with themselves, which tests the program. npm run check:gpu runs it on a GPU.
describe("kernels of the build's device equal the CPU's", () => {
  it("in all checks of test/native/device_test.cpp", () => {
    const child = spawnSync(program("cllm-device-test"), { encoding: "utf8" });
    assert.equal(child.error, undefined);
    assert.equal(child.status, 0, child.stdout);
    assert.match(child.stdout, /^device cpu\nok choose.*\nok sampling.*\nok planted.*\nok loop.*\nok loop.*\n$/);
  }).timeout(60_000);
});

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import path from "node:path";

const root = path.join(__dirname, "..", "..");

describe("CUDA sources", () => {
  it("compile with nvcc for sm_80, sm_90 and sm_120, without a warning or a spilled register", function () {
    this.timeout(300_000);
    if (process.platform !== "linux" || process.arch !== "x64") this.skip(); // nvcc's wheels are for Linux on x64
    const script = (name: string) =>
      spawnSync(process.execPath, [path.join(root, "scripts", "cuda", name)], { cwd: root, encoding: "utf8" });
    const toolkit = script("toolkit.mjs");
    if (toolkit.status !== 0) {
      assert.doesNotMatch(toolkit.stderr, /DO NOT MATCH THE HASHES/);
      console.log(`      needs nvcc, or the Python package index to fetch it: ${toolkit.stderr.trim()}`);
      this.skip();
    }
    const { status, stdout, stderr } = script("compile.mjs");
    assert.equal(status, 0, stderr);
    for (const architecture of ["sm_80", "sm_90", "sm_120"]) {
      for (const kernel of ["choose", "sample", "bias", "verify", "roll_forward", "keep_state", "advance"]) {
        assert.match(stdout, new RegExp(`^${architecture} +${kernel}_kernel +\\d+ +\\d+ +\\d+ +0$`, "m"));
      }
    }
  });
});

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { cllm } from "./fixtures/cli-child.js";
import { writeFixtures } from "./fixtures/gguf.js";

const SOURCE = path.join(__dirname, "..", "..", "test", "fixtures", "fail-threads.c");

// In a child process with a pthread_create() that fails, because root, whom CI runs tests as, has no limit of threads.
describe("a decoder where the system starts only some of its threads", function () {
  this.timeout(60_000);
  let directory: string;
  let preload: string;

  before(function () {
    writeFixtures();
    directory = fs.mkdtempSync(path.join(os.tmpdir(), "cllm-threads-"));
    preload = path.join(directory, "fail-threads.so");
    const suite = this.test?.parent as Mocha.Suite;
    if (process.platform !== "linux") {
      suite.title += " (needs Linux: LD_PRELOAD)";
      this.skip();
    }
    const compiled = spawnSync("cc", ["-shared", "-fPIC", "-o", preload, SOURCE, "-ldl"], { encoding: "utf8" });
    if (compiled.error !== undefined) {
      suite.title += " (needs a C compiler named cc)";
      this.skip();
    }
    assert.equal(compiled.status, 0, compiled.stderr);
  });
  after(() => fs.rmSync(directory, { recursive: true, force: true }));

  it("is refused with a code, whichever thread is missing; the process goes on and ends", async () => {
    const child = spawn(process.execPath, [require.resolve("./fixtures/threads-child.js")], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, LD_PRELOAD: preload },
    });
    const timer = setTimeout(() => child.kill("SIGKILL"), 30_000);
    const { stdout, stderr, ...end } = await cllm.ended(child);
    clearTimeout(timer);
    assert.deepEqual(end, { code: 0, signal: null }, stdout + stderr);
    // Threads in their order: 1 creates, 3 are tried, 2 compute, 1 decodes.
    assert.deepEqual(stdout.trim().split("\n"), [...Array<string>(6).fill("CLLM_OUT_OF_MEMORY"), "decoded"], stderr);
  });
});

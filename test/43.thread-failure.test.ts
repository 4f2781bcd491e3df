import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { cllm } from "./fixtures/cli-child.js";
import { writeFixtures } from "./fixtures/gguf.js";

const LIMIT_MILLISECONDS = 20_000;
const SOURCE = path.join(__dirname, "..", "..", "test", "fixtures", "fail-threads.c");
const NO_THREAD = "CLLM_OUT_OF_MEMORY No thread could be started: a limit of threads or of memory is reached";

/** Runs child processes in which a preloaded pthread_create fails from a moment on. Each must end by itself, with 0. */
describe("where no thread can start, or too few", function () {
  this.timeout(2 * LIMIT_MILLISECONDS);
  let directory: string;
  let shim: string;
  before(function () {
    directory = fs.mkdtempSync(path.join(os.tmpdir(), "cllm-thread-failure-"));
    shim = path.join(directory, "fail-threads.so");
    const needs = this.test?.parent as Mocha.Suite;
    if (process.platform !== "linux") {
      needs.title += " (needs Linux: LD_PRELOAD)";
      this.skip();
    }
    const compiled = spawnSync("cc", ["-shared", "-fPIC", "-o", shim, SOURCE, "-ldl"], { encoding: "utf8" });
    if (compiled.error !== undefined) {
      needs.title += " (needs a C compiler named cc)";
      this.skip();
    }
    assert.equal(compiled.status, 0, compiled.stderr);
    writeFixtures();
  });
  after(() => fs.rmSync(directory, { recursive: true, force: true }));

  function rejects(moment: string, ...messages: (string | RegExp)[]): void {
    it(`${moment}: ${messages.length === 0 ? "done" : "rejected with a code"}, and the process ends`, async () => {
      const child = spawn(process.execPath, [require.resolve("./fixtures/thread-failure-child.js"), moment], {
        stdio: ["ignore", "pipe", "pipe"],
        env: { ...process.env, LD_PRELOAD: shim },
      });
      const timer = setTimeout(() => child.kill("SIGKILL"), LIMIT_MILLISECONDS);
      const { stdout, stderr, ...end } = await cllm.ended(child);
      clearTimeout(timer);
      assert.deepEqual(end, { code: 0, signal: null }, stderr);
      assert.equal(stderr, "");
      const lines = stdout.split("\n").slice(0, -1);
      assert.equal(lines.length, messages.length, stdout);
      for (const [i, message] of messages.entries()) {
        if (typeof message === "string") assert.equal(lines[i], message);
        else assert.match(lines[i] as string, message);
      }
    });
  }

  rejects("load", NO_THREAD);
  rejects("quantize", NO_THREAD);
  rejects("quantize with fewer threads");
  rejects("createDecoder", NO_THREAD);
  // The threads start in this order: one that creates, three that are tried, two that compute, one that decodes.
  rejects("createDecoder with fewer threads", ...Array<string>(6).fill("CLLM_OUT_OF_MEMORY"));
  rejects("dispose", /^CLLM_DISPOSED /, /^CLLM_DISPOSED /);
  rejects("dispose of the model with its decoders");
  rejects("train", NO_THREAD, NO_THREAD);
});

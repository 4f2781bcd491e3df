import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { cllm, type Ended } from "./fixtures/cli-child.js";
import { writeFixtures } from "./fixtures/gguf.js";

const LIMIT_MILLISECONDS = 20_000;
/** Several runs, because the order of the threads differs from run to run. */
const RUNS = 3;

/** Runs the child; `files` are the files that it left in its directory. */
async function run(stage: string): Promise<Ended & { files: string[] }> {
  const directory = await fs.mkdtemp(path.join(os.tmpdir(), "cllm-exit-"));
  const args = ["--expose-gc", require.resolve("./fixtures/exit-child.js"), stage, directory];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
  const timer = setTimeout(() => child.kill("SIGKILL"), LIMIT_MILLISECONDS);
  try {
    return { ...(await cllm.ended(child)), files: await fs.readdir(directory) };
  } finally {
    clearTimeout(timer);
    await fs.rm(directory, { recursive: true });
  }
}

describe("process exit", function () {
  this.timeout(RUNS * LIMIT_MILLISECONDS);
  before(() => writeFixtures());

  const ends = (stage: string, code: number, message = /^$/) =>
    it(`${stage}: ends with ${code}`, async () => {
      const results = await Promise.all(Array.from({ length: RUNS }, () => run(stage)));
      for (const { code: actual, signal, stdout, stderr, files } of results) {
        assert.deepEqual({ code: actual, signal }, { code, signal: null }, stderr);
        assert.match(stdout, /^reached\n/);
        assert.match(stderr, message);
        assert.deepEqual(files, []);
      }
    });

  describe("by process.exit(7)", () => {
    ends("loading", 7);
    ends("creating a decoder", 7);
    ends("prefilling", 7);
    ends("decoding", 7);
    ends("streaming", 7);
    ends("iterating", 7);
    ends("aborting", 7);
    ends("aborted", 7);
    ends("disposing", 7);
    ends("disposing, and the thread has ended", 7);
    ends("disposed", 7);
    ends("exit in a chunk loop", 7);
    ends("exit in onProgress", 7);
    ends("quantizing", 7);
    ends("quantizing, before the file is there", 7);
    ends("exit in quantize's onProgress", 7);
    ends("a forgotten model that decodes", 7);
  });

  describe("by an error of the program", () => {
    const thrown = /Error: thrown by the child/;
    ends("throw in a chunk loop", 1, thrown);
    ends("throw in onProgress", 1, thrown);
    ends("uncaught exception while decoding", 1, thrown);
    ends("unhandled rejection", 1, /TimeoutError/);
  });

  describe("by itself, when nothing is pending", () => {
    ends("never disposed", 0);
    ends("never disposed, after an abort", 0);
    ends("a pending generation", 0);
    ends("natural end", 0);
    ends("a forgotten decoder", 0);
  });
});

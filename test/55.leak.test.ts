import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { cllm } from "./fixtures/cli-child.js";
import { writeFixtures } from "./fixtures/gguf.js";
import type { Report } from "./fixtures/leak-child.js";

/** Runs of the same scenario have differed by at most 2 MB. */
const NOISE_BYTES = 6 << 20;
/** One or two forgotten decoders of 10 MB wait for the collector at any time. */
const FORGOTTEN_BYTES = 20 << 20;

describe("memory", function () {
  this.timeout(120_000);
  before(() => writeFixtures());

  /** Runs a scenario in a process of its own, so that the heaps of other scenarios do not disturb it. */
  async function report(scenario: string): Promise<Report> {
    const args = ["--expose-gc", require.resolve("./fixtures/leak-child.js"), scenario];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
    const { code, signal, stdout, stderr } = await cllm.ended(child);
    // stderr is empty where there was neither an error nor a warning.
    assert.deepEqual({ code, signal, stderr }, { code: 0, signal: null, stderr: "" });
    return JSON.parse(stdout);
  }
  function doesNotGrow({ first, last }: Report, bound = NOISE_BYTES): void {
    const megabytes = ((last - first) / 2 ** 20).toFixed(1);
    assert.ok(last - first < bound, `Expected less than ${bound >> 20} MB more but it was ${megabytes} MB`);
  }

  it("500 decoders created, used and disposed leave nothing", async () => doesNotGrow(await report("decoders")));
  it("100 models loaded and disposed leave nothing", async () => doesNotGrow(await report("models")));
  it("300 aborted generations leave nothing", async () => doesNotGrow(await report("aborted generations")));
  it("300 sequences opened, forked and closed leave nothing", async () => doesNotGrow(await report("sequences")));

  it("50 decoders forgotten without dispose() are collected while their model lives", async () => {
    const result = await report("forgotten decoders");
    assert.ok(result.counts.alive !== undefined && result.counts.alive <= 2, `${result.counts.alive} are alive`);
    doesNotGrow(result, NOISE_BYTES + FORGOTTEN_BYTES);
  });

  it("2,000 generations with one signal leave no listener and cause no warning", async () => {
    const result = await report("one signal");
    assert.equal(result.counts.left, 0);
    doesNotGrow(result);
  });
});

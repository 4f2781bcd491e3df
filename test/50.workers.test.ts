import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { Model } from "../lib/index.js";
import { cllm } from "./fixtures/cli-child.js";
import { writeFixtures } from "./fixtures/gguf.js";
import { decodeAll, startWorker } from "./fixtures/worker-child.js";

describe("workers", function () {
  this.timeout(60_000);

  it("several decoders in several workers, and in the main thread meanwhile, give the main thread's tokens", async () => {
    await using model = await Model.load(writeFixtures().llama);
    const expected = await decodeAll(model);
    assert.deepEqual(expected[0], expected[1]);
    const workers = [1, 2, 3].map(() => startWorker("decode"));
    const exits = workers.map((worker) => once(worker, "exit"));
    const answers = workers.map(async (worker) => (await once(worker, "message"))[0]);
    assert.deepEqual(await decodeAll(model), expected);
    for (const tokens of await Promise.all(answers)) assert.deepEqual(tokens, expected);
    for (const [code] of await Promise.all(exits)) assert.equal(code, 0);
  });

  // These run in processes of their own, because what goes wrong here ends the process.
  const scenario = (name: string) =>
    it(name, async () => {
      writeFixtures();
      const child = spawn(process.execPath, [require.resolve("./fixtures/worker-child.js"), name], {
        stdio: ["ignore", "pipe", "pipe"],
      });
      const { stderr, ...end } = await cllm.ended(child);
      assert.deepEqual(end, { code: 0, signal: null, stdout: "" }, stderr);
      assert.equal(stderr, "");
    });

  describe("terminate(), 20 times", () => {
    for (const stage of ["load", "prefill", "generate", "stream", "dispose", "idle"]) scenario(`terminate: ${stage}`);
  });
  describe("other ends", () => {
    scenario("process.exit in a worker");
    scenario("an uncaught error in a worker");
    scenario("process.exit of the program");
    scenario("idle decoders never disposed");
  });
  describe("a process whose main thread never loads the addon", () => {
    scenario("only workers");
  });
});

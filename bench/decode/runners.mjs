// The resident runner against the host runner: the same prompts, in turn, after the outputs were found equal.
import { bench, goal, step } from "../lib/bench.mjs";
import { models } from "../lib/models.mjs";
import { interleave, median, ratio, sum } from "../lib/numbers.mjs";
import { chat, questions } from "../lib/prompts.mjs";

const { Model } = await import("../../dist/esm.mjs");
const about = "Jacobi decoding on the resident runner over the host runner (llama_decode), blocks of n tokens";
const options = { formats: "Q4_1,Q4_0,BF16", blocks: "1,2,4,8,16", tokens: 96, prompts: 2, rounds: 7 };

await bench({ name: "runners", about, options }, async (settings) => {
  const { tokens, rounds, threads } = settings;
  const sizes = settings.blocks.split(",").map(Number);
  const rows = [];
  const goals = [];
  const samples = {};
  for (const { format, file } of await models(settings)) {
    const model = await Model.load(file);
    const prompts = questions
      .slice(0, settings.prompts)
      .map((question) => model.tokenize(model.applyChatTemplate(chat(question)), { parseSpecial: true }));
    const decoders = {};
    for (const runner of ["host", "resident"]) {
      const shape = { contextSize: 512, lanes: 1, blockSize: Math.max(...sizes), threads };
      decoders[runner] = await model.createDecoder({ ...shape, runner });
    }
    for (const n of sizes) {
      const run = async (runner) => {
        const results = [];
        for (const prompt of prompts) {
          results.push(await decoders[runner].generate(prompt, { maxTokens: tokens, blockSize: n }));
        }
        return results;
      };
      const [host, resident] = [await run("host"), await run("resident")];
      for (const [i, { tokens: expected }] of host.entries()) {
        if (expected.join() !== resident[i].tokens.join()) {
          throw new Error(`${format}, n = ${n}: prompt ${i} gives other tokens on the resident runner`);
        }
      }
      const measure = (runner) => async (round) => {
        step(`${format}, n = ${n}: ${runner}, round ${round + 1} of ${rounds}`);
        const results = await run(runner);
        const total = (name) => sum(results.map(({ stats }) => stats[name]));
        const iterations = total("iterations");
        return {
          speed: iterations / total("decodeMilliseconds"),
          milliseconds: total("decodeMilliseconds") / iterations,
          outside: (1000 * (total("decodeMilliseconds") - total("forwardMilliseconds"))) / iterations,
        };
      };
      const measured = await interleave(rounds, { host: measure("host"), resident: measure("resident") });
      samples[`${format} ${n}`] = measured;
      const speeds = (runner) => measured[runner].map(({ speed }) => [speed]);
      const of = (runner, name) => median(measured[runner].map((sample) => sample[name]));
      const quotient = ratio(speeds("resident"), speeds("host"));
      rows.push({
        format,
        n,
        "host, ms": of("host", "milliseconds"),
        "resident, ms": of("resident", "milliseconds"),
        ratio: quotient,
        "host, µs outside the pass": of("host", "outside"),
        "resident, µs outside the graph": of("resident", "outside"),
      });
      goals.push(goal(`${format}, n = ${n}: resident over host, iterations per second`, quotient, ">=", 0.98));
    }
    for (const decoder of Object.values(decoders)) await decoder.dispose();
    await model.dispose();
  }
  return { rows, goals, samples };
});

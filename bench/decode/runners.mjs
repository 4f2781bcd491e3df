// The resident runner against the host runner on the same prompts, in turn. Their outputs must be equal before they are timed.
import { bench, goal, integers, step } from "../lib/bench.mjs";
import { models } from "../lib/models.mjs";
import { interleave, median, ratio, total } from "../lib/numbers.mjs";
import { tokenizedQuestions } from "../lib/prompts.mjs";

const { Model } = await import("../../dist/esm.mjs");
const about = "Jacobi decoding on the resident runner over the host runner (llama_decode), blocks of n tokens";
const options = { formats: "Q4_1,Q4_0,BF16", blocks: "1,2,4,8,16", tokens: 96, prompts: 2, rounds: 7 };

await bench({ name: "runners", about, options }, async (settings) => {
  const { tokens, rounds, threads } = settings;
  const sizes = integers(settings.blocks);
  const rows = [];
  const goals = [];
  const samples = {};
  for (const { format, file } of await models(settings)) {
    const model = await Model.load(file);
    const prompts = tokenizedQuestions(model, settings.prompts);
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
      expectEqual(await run("host"), await run("resident"), `${format}, n = ${n}`);
      const measure = (runner) => async (round) => {
        step(`${format}, n = ${n}: ${runner}, round ${round + 1} of ${rounds}`);
        const results = await run(runner);
        const decode = total(results, "decodeMilliseconds");
        const iterations = total(results, "iterations");
        return {
          speed: iterations / decode,
          milliseconds: decode / iterations,
          outside: (1000 * (decode - total(results, "forwardMilliseconds"))) / iterations,
        };
      };
      const measured = await interleave(rounds, { host: measure("host"), resident: measure("resident") });
      samples[`${format} ${n}`] = measured;
      const speeds = (runner) => measured[runner].map(({ speed }) => [speed]);
      const medianOf = (runner, name) => median(measured[runner].map((sample) => sample[name]));
      const quotient = ratio(speeds("resident"), speeds("host"));
      rows.push({
        format,
        n,
        "host, ms": medianOf("host", "milliseconds"),
        "resident, ms": medianOf("resident", "milliseconds"),
        ratio: quotient,
        "host, µs outside the pass": medianOf("host", "outside"),
        "resident, µs outside the graph": medianOf("resident", "outside"),
      });
      goals.push(goal(`${format}, n = ${n}: resident over host, iterations per second`, quotient, ">=", 0.98));
    }
    for (const decoder of Object.values(decoders)) await decoder.dispose();
    await model.dispose();
  }
  return { rows, goals, samples };
});

function expectEqual(host, resident, what) {
  for (const [i, { tokens }] of host.entries()) {
    if (tokens.join() !== resident[i].tokens.join()) {
      throw new Error(`${what}: prompt ${i} gives other tokens on the resident runner`);
    }
  }
}

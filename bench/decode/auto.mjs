// blockSize "auto" against ordinary decoding, by kind of request: it should never be slower, and be faster where the answer
// repeats what was asked. The table says how many outputs are equal; the others differ after a near-tie
// (docs/exactness.md).
import { bench, goal, step } from "../lib/bench.mjs";
import { models } from "../lib/models.mjs";
import { interleave, median, ratio, total } from "../lib/numbers.mjs";
import { requests } from "../lib/requests.mjs";

const { Model } = await import("../../dist/esm.mjs");
const about = "blockSize auto over blockSize 1, tokens per second of decoding, by kind of request";
const options = { formats: "Q4_0,Q4_1,BF16", tokens: 128, rounds: 5 };

await bench({ name: "auto", about, options }, async (settings) => {
  const { tokens, rounds, threads } = settings;
  const rows = [];
  const goals = [];
  const samples = {};
  for (const { format, file } of await models(settings)) {
    const model = await Model.load(file);
    const decoder = await model.createDecoder({ contextSize: 1024, threads });
    for (const { kind, repeats, prompts } of requests) {
      const inputs = prompts.map((content) => [{ role: "user", content }]);
      const run = async (blockSize) => {
        const results = [];
        for (const input of inputs) results.push(await decoder.generate(input, { maxTokens: tokens, blockSize }));
        return results;
      };
      const [single, auto] = [await run(1), await run("auto")];
      const equal = single.filter(({ tokens: expected }, i) => expected.join() === auto[i].tokens.join()).length;
      const measure = (blockSize) => async (round) => {
        step(`${format}, ${kind}: ${blockSize}, round ${round + 1} of ${rounds}`);
        const results = await run(blockSize);
        return {
          speed: (1000 * total(results, "emittedTokens")) / total(results, "decodeMilliseconds"),
          perIteration: total(results, "emittedTokens") / total(results, "iterations"),
        };
      };
      const measured = await interleave(rounds, { single: measure(1), auto: measure("auto") });
      samples[`${format} ${kind}`] = measured;
      const speeds = (side) => measured[side].map(({ speed }) => [speed]);
      const quotient = ratio(speeds("auto"), speeds("single"));
      rows.push({
        format,
        kind,
        "n = 1, tok/s": median(speeds("single").flat()),
        "auto, tok/s": median(speeds("auto").flat()),
        ratio: quotient,
        "tokens per iteration": median(measured.auto.map(({ perIteration }) => perIteration)),
        "iterations of n": iterationsBySize(auto),
        equal: `${equal} of ${single.length}`,
      });
      goals.push(goal(`${format}, ${kind}: auto over n = 1`, quotient, ">=", repeats ? 1.3 : 0.98));
    }
    await decoder.dispose();
    await model.dispose();
  }
  return { rows, goals, samples };
});

/** How many iterations had blocks of which size: "4: 20, 8: 3". */
function iterationsBySize(results) {
  const counts = {};
  for (const { stats } of results) {
    for (const [n, count] of Object.entries(stats.blockSizes)) counts[n] = (counts[n] ?? 0) + count;
  }
  return Object.entries(counts)
    .map(([n, count]) => `${n}: ${count}`)
    .join(", ");
}

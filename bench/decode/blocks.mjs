// What a block of n tokens costs and brings, by file format. The outputs are compared first: all n >= 2 must agree, and
// agree with n = 1 up to near-ties (llama.cpp computes one token with other kernels than two or more; docs/exactness.md).
// At a near-tie the logits of the two tokens differ by less than --near thousandths.
import { bench, goal, integers, step } from "../lib/bench.mjs";
import { models } from "../lib/models.mjs";
import { partsAtNearTie } from "../lib/near-ties.mjs";
import { interleave, median, total } from "../lib/numbers.mjs";
import { tokenizedQuestions } from "../lib/prompts.mjs";

const { Model } = await import("../../dist/esm.mjs");
const about = "Jacobi decoding in blocks of n tokens; SmolLM2 is an ordinary model, so few drafts are accepted";
const options = {
  formats: "Q4_1,Q4_0,Q8_0,F16,BF16",
  blocks: "1,2,4,8,16,32",
  tokens: 96,
  prompts: 3,
  rounds: 3,
  near: 100,
};

await bench({ name: "blocks", about, options }, async (settings) => {
  const { tokens, rounds, threads } = settings;
  const sizes = integers(settings.blocks);
  const rows = [];
  const goals = [];
  const samples = {};
  for (const { format, file } of await models(settings)) {
    const model = await Model.load(file);
    const decoder = await model.createDecoder({ contextSize: 512, lanes: 1, blockSize: Math.max(...sizes), threads });
    const prompts = tokenizedQuestions(model, settings.prompts);
    const run = async (blockSize) => {
      const results = [];
      for (const prompt of prompts) results.push(await decoder.generate(prompt, { maxTokens: tokens, blockSize }));
      return results;
    };
    const nearTies = await compare(decoder, prompts, sizes, run, settings.near / 1000, format);
    const measure = (n) => async (round) => {
      step(`${format}: blocks of ${n}, round ${round + 1} of ${rounds}`);
      const results = await run(n);
      const decode = total(results, "decodeMilliseconds");
      const iterations = total(results, "iterations");
      return {
        speed: (1000 * total(results, "emittedTokens")) / decode,
        perIteration: total(results, "emittedTokens") / iterations,
        milliseconds: decode / iterations,
        overhead: (1000 * (decode - total(results, "forwardMilliseconds"))) / iterations,
      };
    };
    samples[format] = await interleave(rounds, Object.fromEntries(sizes.map((n) => [n, measure(n)])));
    const medianOf = (n, name) => median(samples[format][n].map((sample) => sample[name]));
    for (const n of sizes) {
      rows.push({
        format,
        n,
        "tok/s": medianOf(n, "speed"),
        "tokens per iteration": medianOf(n, "perIteration"),
        "ms per iteration": medianOf(n, "milliseconds"),
        "time over n = 1": medianOf(n, "milliseconds") / medianOf(sizes[0], "milliseconds"),
        "overhead, µs": medianOf(n, "overhead"),
        "near-ties": nearTies[n],
      });
    }
    if (sizes.includes(8))
      goals.push(goal(`${format}: engine overhead per iteration at n = 8, µs`, medianOf(8, "overhead"), "<", 100));
    await decoder.dispose();
    await model.dispose();
  }
  return { rows, goals, samples };
});

/** Throws where outputs differ by more than a near-tie. Resolves to the number of prompts that part from n = 1, by n. */
async function compare(decoder, prompts, sizes, run, near, format) {
  const outputs = new Map();
  for (const n of sizes) {
    step(`${format}: comparing outputs, blocks of ${n}`);
    const results = await run(n);
    outputs.set(
      n,
      results.map(({ tokens }) => tokens),
    );
  }
  const blocks = sizes.filter((n) => n > 1);
  const counts = { 1: 0 };
  for (const n of blocks) {
    counts[n] = 0;
    for (const [i, prompt] of prompts.entries()) {
      const [output, first] = [outputs.get(n)[i], outputs.get(blocks[0])[i]];
      if (output.join() !== first.join()) {
        throw new Error(`${format}: prompt ${i} gives other tokens in blocks of ${n} than of ${blocks[0]}`);
      }
      const single = outputs.get(1)?.[i] ?? output;
      const what = `${format}, prompt ${i}: blocks of ${n} over n = 1`;
      if (await partsAtNearTie({ decoder, prompt, output, expected: single, near, what })) counts[n]++;
    }
  }
  return counts;
}

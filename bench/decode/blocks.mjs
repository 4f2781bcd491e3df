// What a block of n tokens costs and brings, per file format. First the outputs are compared: all n >= 2 must agree, and
// agree with n = 1 up to near-ties (llama.cpp computes one token with other kernels than two or more; see
// docs/exactness.md): where they part, the two tokens' logits must be closer than --near thousandths.
import { bench, goal, step } from "../lib/bench.mjs";
import { models } from "../lib/models.mjs";
import { interleave, median, sum } from "../lib/numbers.mjs";
import { chat, questions } from "../lib/prompts.mjs";

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
  const sizes = settings.blocks.split(",").map(Number);
  const rows = [];
  const goals = [];
  const samples = {};
  for (const { format, file } of await models(settings)) {
    const model = await Model.load(file);
    const decoder = await model.createDecoder({ contextSize: 512, lanes: 1, blockSize: Math.max(...sizes), threads });
    const prompts = questions
      .slice(0, settings.prompts)
      .map((question) => model.tokenize(model.applyChatTemplate(chat(question)), { parseSpecial: true }));
    const run = async (blockSize) => {
      const results = [];
      for (const prompt of prompts) results.push(await decoder.generate(prompt, { maxTokens: tokens, blockSize }));
      return results;
    };
    const nearTies = await compare(decoder, prompts, sizes, run, settings.near / 1000, format);
    const sides = sizes.map((n) => [
      n,
      async (round) => {
        step(`${format}: blocks of ${n}, round ${round + 1} of ${rounds}`);
        const total = (name, results) => sum(results.map(({ stats }) => stats[name]));
        const results = await run(n);
        const decode = total("decodeMilliseconds", results);
        const iterations = total("iterations", results);
        return {
          speed: (1000 * total("emittedTokens", results)) / decode,
          perIteration: total("emittedTokens", results) / iterations,
          milliseconds: decode / iterations,
          overhead: (1000 * (decode - total("forwardMilliseconds", results))) / iterations,
        };
      },
    ]);
    samples[format] = await interleave(rounds, Object.fromEntries(sides));
    const of = (n, name) => median(samples[format][n].map((sample) => sample[name]));
    for (const n of sizes) {
      rows.push({
        format,
        n,
        "tok/s": of(n, "speed"),
        "tokens per iteration": of(n, "perIteration"),
        "ms per iteration": of(n, "milliseconds"),
        "time over n = 1": of(n, "milliseconds") / of(sizes[0], "milliseconds"),
        "overhead, µs": of(n, "overhead"),
        "near-ties": nearTies[n],
      });
    }
    if (sizes.includes(8))
      goals.push(goal(`${format}: engine overhead per iteration at n = 8, µs`, of(8, "overhead"), "<", 100));
    await decoder.dispose();
    await model.dispose();
  }
  return { rows, goals, samples };
});

/** Throws where outputs differ for no good reason. Resolves to the number of prompts that part from n = 1, by n. */
async function compare(decoder, prompts, sizes, run, near, format) {
  const outputs = new Map();
  for (const n of sizes) {
    step(`${format}: comparing outputs, blocks of ${n}`);
    outputs.set(
      n,
      (await run(n)).map(({ tokens }) => tokens),
    );
  }
  const blocks = sizes.filter((n) => n > 1);
  const counts = { 1: 0 };
  for (const n of blocks) {
    counts[n] = 0;
    for (const [i, prompt] of prompts.entries()) {
      const [ours, first] = [outputs.get(n)[i], outputs.get(blocks[0])[i]];
      if (ours.join() !== first.join()) {
        throw new Error(`${format}: prompt ${i} gives other tokens in blocks of ${n} than of ${blocks[0]}`);
      }
      const single = outputs.get(1)?.[i] ?? ours;
      const at = ours.findIndex((token, k) => token !== single[k]);
      if (at < 0) continue;
      const distance = await logitDistance(decoder, [...prompt, ...ours.slice(0, at)], ours[at], single[at]);
      if (!(distance < near)) {
        throw new Error(`${format}: prompt ${i}, token ${at}: blocks of ${n} choose another token than n = 1 does`);
      }
      counts[n]++;
    }
  }
  return counts;
}

/** How far apart the logits of two tokens are after `tokens`. */
async function logitDistance(decoder, tokens, a, b) {
  const sequence = await decoder.sequence();
  try {
    await sequence.prefill(tokens);
    const { logits } = await sequence.iterate({ blockSize: 1, logits: true });
    return Math.abs(logits[a] - logits[b]);
  } finally {
    await sequence.dispose();
  }
}

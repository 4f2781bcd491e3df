// What temperature, penalties and log-probabilities cost: milliseconds per iteration, over those of greedy decoding.
import { bench, goal, integers, step } from "../lib/bench.mjs";
import { models } from "../lib/models.mjs";
import { interleave, median, ratio } from "../lib/numbers.mjs";
import { requests } from "../lib/requests.mjs";

const { Model } = await import("../../dist/esm.mjs");
const about = "Time of an iteration, sampled over greedy, blocks of n tokens";
const options = { formats: "Q4_0,BF16", blocks: "1,8", tokens: 64, rounds: 7 };
const WAYS = {
  greedy: {},
  temperature: { temperature: 0.8 },
  "top-k 40": { temperature: 0.8, topK: 40 },
  "top-p 0.95": { temperature: 0.8, topP: 0.95 },
  "top-k, top-p, min-p": { temperature: 0.8, topK: 40, topP: 0.95, minP: 0.05 },
  "greedy, penalties": { repeatPenalty: 1.1 },
  "greedy, 5 logprobs": { logprobs: 5 },
};
/** The goal for ways with a temperature: time over greedy. */
const GOAL = 1.1;

await bench({ name: "sampling", about, options }, async ({ blocks, tokens, rounds, ...settings }) => {
  const rows = [];
  const goals = [];
  const samples = {};
  for (const { format, file } of await models(settings)) {
    const model = await Model.load(file);
    const decoder = await model.createDecoder({ contextSize: 1024, threads: settings.threads });
    const prompt = [{ role: "user", content: requests[0].prompts[0] }];
    for (const blockSize of integers(blocks)) {
      const measure = (way) => async (round) => {
        step(`${format}, n = ${blockSize}: ${way}, round ${round + 1} of ${rounds}`);
        const choosing = { maxTokens: tokens, blockSize, draftSource: "random", seed: round, ...WAYS[way] };
        const { stats } = await decoder.generate(prompt, choosing);
        return { iteration: stats.decodeMilliseconds / stats.iterations };
      };
      await measure("greedy")(0);
      const measured = await interleave(
        rounds,
        Object.fromEntries(Object.keys(WAYS).map((way) => [way, measure(way)])),
      );
      samples[`${format}, n = ${blockSize}`] = measured;
      const times = (way) => measured[way].map(({ iteration }) => [iteration]);
      for (const way of Object.keys(WAYS)) {
        const quotient = ratio(times(way), times("greedy"));
        rows.push({
          format,
          n: blockSize,
          way,
          "ms per iteration": median(times(way).flat()),
          "over greedy": quotient,
        });
        if (WAYS[way].temperature)
          goals.push(goal(`${format}, n = ${blockSize}: ${way} over greedy`, quotient, "<=", GOAL));
      }
    }
    await decoder.dispose();
    await model.dispose();
  }
  return { rows, goals, samples };
});

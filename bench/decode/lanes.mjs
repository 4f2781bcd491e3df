// The tokens per second of all lanes together, by the number of lanes, one token at a time and with blockSize "auto".
//
// Every setting answers the same requests, in waves of one request for each lane. The prompts of a wave are read before, so
// prefill does not count. The clock runs while all lanes are busy: from the moment at which each lane has given a token to
// that at which the first lane ends. A lane's speed is that of its tokens within this window, and the speeds of the lanes
// add up. Waves count by the length of their windows. Requests with answers of equal length share a wave, so that little is
// left out.
//
// The outputs are compared first: each lane's answer is that of the same request alone, up to near-ties (--near thousandths;
// docs/exactness.md), because "auto" has single tokens too.
import { bench, goal, integers, step } from "../lib/bench.mjs";
import { modelsWithRequests } from "../lib/models.mjs";
import { partsAtNearTie } from "../lib/near-ties.mjs";
import { interleave, median, ratio } from "../lib/numbers.mjs";

const { Model } = await import("../../dist/esm.mjs");
const about = "Tokens per second of all lanes together, over those of one lane and of fewer lanes";
const options = { formats: "Q8_0", lanes: "1,2,4,8,16", requests: 32, tokens: 48, rounds: 5, near: 100 };
const BLOCK_SIZES = [1, "auto"];
/** What eight lanes should bring over one, and the share of its speed that a lane more may cost. */
const GOALS = { lanes: 8, gain: 3.2, step: 0.97 };

await bench({ name: "lanes", about, options }, async (settings) => {
  const counts = [...new Set([1, ...integers(settings.lanes)])].sort((a, b) => a - b);
  const results = { rows: [], goals: [], samples: {} };
  for (const { name, file, inputs } of await modelsWithRequests(settings)) {
    const model = await Model.load(file);
    const prompts = Array.from({ length: settings.requests }, (_, i) => model.promptTokens(inputs[i % inputs.length]));
    const contextSize = Math.max(...prompts.map((prompt) => prompt.length)) + settings.tokens;
    const decoders = new Map();
    for (const lanes of counts) {
      decoders.set(lanes, await model.createDecoder({ lanes, contextSize, threads: settings.threads }));
    }
    await measureModel(name, decoders, prompts, settings, results);
    await model.dispose();
  }
  return results;
});

/** Compares and measures every number of lanes at every block size, and adds to the rows, goals and samples. */
async function measureModel(name, decoders, unordered, { tokens, rounds, near }, { rows, goals, samples }) {
  const prompts = await byLengthOfAnswer(decoders.get(1), unordered, tokens);
  const sides = {};
  const nearTies = {};
  for (const blockSize of BLOCK_SIZES) {
    let alone;
    for (const [lanes, decoder] of decoders) {
      const key = settingKey(lanes, blockSize);
      step(`${name}: comparing outputs, ${key}`);
      const { outputs } = await answerAll(decoder, lanes, prompts, { maxTokens: tokens, blockSize });
      alone ??= outputs;
      nearTies[key] = 0;
      for (const [i, output] of outputs.entries()) {
        const what = `${name}, ${key}, request ${i}, over the same alone`;
        const compared = { decoder, prompt: prompts[i], output, expected: alone[i], near: near / 1000, what };
        if (await partsAtNearTie(compared)) nearTies[key]++;
      }
      sides[key] = async (round) => {
        step(`${name}: ${key}, round ${round + 1} of ${rounds}`);
        return (await answerAll(decoder, lanes, prompts, { maxTokens: tokens, blockSize })).speed;
      };
    }
  }
  const speeds = await interleave(rounds, sides);
  samples[name] = speeds;
  const over = (a, b) => ratio(...[a, b].map((key) => speeds[key].map((speed) => [speed])));
  for (const blockSize of BLOCK_SIZES) {
    const keys = [...decoders.keys()].map((lanes) => settingKey(lanes, blockSize));
    const steps = keys.slice(1).map((key, i) => over(key, keys[i]));
    for (const [i, lanes] of [...decoders.keys()].entries()) {
      rows.push({
        model: name,
        lanes,
        n: blockSize,
        "tok/s": median(speeds[keys[i]]),
        "over one lane": over(keys[i], keys[0]),
        "over fewer lanes": i > 0 ? steps[i - 1] : undefined,
        "near-ties": nearTies[keys[i]],
      });
      if (lanes === GOALS.lanes && name === "SmolLM2 Q8_0")
        goals.push(
          goal(`${name}, n = ${blockSize}: ${lanes} lanes over one`, over(keys[i], keys[0]), ">=", GOALS.gain),
        );
    }
    const what = `${name}, n = ${blockSize}: lanes over fewer lanes, the lowest step`;
    if (steps.length > 0) goals.push(goal(what, Math.min(...steps), ">=", GOALS.step));
  }
}

/** The name of a setting in messages and samples. */
function settingKey(lanes, blockSize) {
  return `${lanes} ${lanes === 1 ? "lane" : "lanes"}, n = ${blockSize}`;
}

/** The prompts, those with the longest answers first. */
async function byLengthOfAnswer(decoder, prompts, maxTokens) {
  step("Answering each request alone");
  const lengths = new Map();
  for (const prompt of prompts) {
    const { tokens } = await decoder.generate(prompt, { maxTokens, blockSize: "auto" });
    lengths.set(prompt, tokens.length);
  }
  return prompts.toSorted((a, b) => lengths.get(b) - lengths.get(a));
}

/** Answers all prompts in waves. Resolves to { outputs, speed }: tokens by prompt, tokens per second of all lanes together. */
async function answerAll(decoder, lanes, prompts, options) {
  const outputs = [];
  let [tokens, milliseconds] = [0, 0];
  for (let first = 0; first < prompts.length; first += lanes) {
    const answers = await wave(decoder, prompts.slice(first, first + lanes), options);
    outputs.push(...answers.map(({ chunks }) => chunks.flatMap((chunk) => chunk.tokens)));
    const [start, end] = windowOf(answers);
    // A wave with fewer prompts than lanes is answered for the comparison only.
    if (answers.length < lanes || end <= start) continue;
    const speed = answers.reduce((sum, { chunks }) => sum + speedBetween(chunks, start, end), 0);
    tokens += speed * (end - start);
    milliseconds += end - start;
  }
  if (milliseconds === 0)
    throw new Error(`Expected answers that overlap but none of ${lanes} lanes do: raise --tokens`);
  return { outputs, speed: (1000 * tokens) / milliseconds };
}

/** The time in which all lanes are busy: each has given a token, and none has given its last one. */
function windowOf(answers) {
  const starts = answers.map(({ chunks }) => chunks[0].at);
  const ends = answers.map(({ chunks }) => chunks.at(-1).at);
  return [Math.max(...starts), Math.min(...ends)];
}

/**
 * Tokens per millisecond of a lane in the window: those after its last chunk before the window, up to its last chunk in it.
 * So a lane counts whole iterations, whichever lane's chunk JavaScript sees first.
 */
function speedBetween(chunks, start, end) {
  const before = chunks.findLast(({ at }) => at <= start);
  const inside = chunks.filter(({ at }) => at > before.at && at <= end);
  if (inside.length === 0) return 0;
  return inside.reduce((sum, { tokens }) => sum + tokens.length, 0) / (inside.at(-1).at - before.at);
}

/** Answers a prompt on each lane at once. Resolves to [{ chunks: [{ at, tokens }] }], `at` in milliseconds. */
async function wave(decoder, prompts, options) {
  const lanes = await Promise.all(prompts.map(() => decoder.sequence()));
  try {
    await Promise.all(lanes.map((lane, i) => lane.prefill(prompts[i])));
    const answer = async (lane, prompt) => {
      const chunks = [];
      for await (const { tokens } of lane.stream(prompt, options)) chunks.push({ at: performance.now(), tokens });
      return { chunks };
    };
    return await Promise.all(lanes.map((lane, i) => answer(lane, prompts[i])));
  } finally {
    await Promise.all(lanes.map((lane) => lane.dispose()));
  }
}

// The speed beside other programs, over that on a quiet machine: what the system's scheduler leaves to threads that wait for
// each other after each product. Every scenario is measured once in a round; its programs start for that and end after it.
// Two threads on two cores get, without losses, 0.67 beside one busy process, 0.9 beside two at nice 10 (their weight is a
// tenth), and 0.5 beside a second decoder.
// The outputs beside other programs are compared with those of the quiet machine, by equality.
import { bench, goal, integers, step } from "../lib/bench.mjs";
import { modelsWithRequests } from "../lib/models.mjs";
import { beside } from "../lib/neighbours.mjs";
import { interleave, median, ratios, total } from "../lib/numbers.mjs";

const { Model } = await import("../../dist/esm.mjs");
const about = "Tokens per second beside other programs, over those on a quiet machine, one lane";
const options = { formats: "Q8_0", blocks: "1,8", requests: 3, tokens: 48, seconds: 1, rounds: 7 };
const SCENARIOS = {
  quiet: [],
  "one busy process": [{ kind: "spin" }],
  "two busy processes, nice 10": Array(2).fill({ kind: "spin", niceness: 10 }),
  "a second decoder": [{ kind: "decode" }],
};
/** The share of the quiet speed that is asked for, by model and scenario. */
const GOALS = {
  "SmolLM2 Q8_0": { "one busy process": 0.55 },
  default: { "two busy processes, nice 10": 0.6 },
};
/** Beside others the requests are answered less often where this many times --seconds have passed, but all of them once. */
const PATIENCE = 4;
/** Milliseconds before a measurement. */
const SETTLING = 3000;

await bench({ name: "neighbours", about, options }, async (settings) => {
  const { threads, tokens, rounds } = settings;
  const sizes = integers(settings.blocks);
  const [rows, goals, samples] = [[], [], {}];
  for (const { name, file, inputs } of await modelsWithRequests(settings)) {
    const model = await Model.load(file);
    const decoder = await model.createDecoder({ contextSize: 1024, lanes: 1, blockSize: Math.max(...sizes), threads });
    const requests = inputs.slice(0, settings.requests);
    const answerAll = async (blockSize) => {
      const results = [];
      for (const input of requests) results.push(await decoder.generate(input, { maxTokens: tokens, blockSize }));
      return results;
    };
    const expected = {};
    const passes = {}; // how often the requests are answered, so that a measurement takes --seconds on the quiet machine
    for (const n of sizes) {
      step(`${name}: blocks of ${n}, warming up`);
      expected[n] = (await answerAll(n)).map((result) => result.tokens.join());
      passes[n] = Math.ceil((1000 * settings.seconds) / total(await answerAll(n), "decodeMilliseconds"));
    }
    const speedOf = async (n) => {
      // The number of threads follows what the machine gives, so it must forget the scenario before: that takes 2 s.
      for (const end = performance.now() + SETTLING; performance.now() < end; ) await answerAll(n);
      const results = [];
      const end = performance.now() + PATIENCE * 1000 * settings.seconds;
      for (let pass = 0; pass < passes[n] && performance.now() < end; pass++) results.push(...(await answerAll(n)));
      for (const [i, { tokens: found }] of results.entries()) {
        if (found.join() !== expected[n][i % requests.length])
          throw new Error(`${name}, blocks of ${n}: request ${i % requests.length} got other tokens than before`);
      }
      return (1000 * total(results, "emittedTokens")) / total(results, "decodeMilliseconds");
    };
    const measure = (scenario) => async (round) => {
      step(`${name}: ${scenario}, round ${round + 1} of ${rounds}`);
      return beside(SCENARIOS[scenario], { file, threads, inputs: requests }, async () => {
        const speeds = {};
        for (const n of sizes) speeds[n] = await speedOf(n);
        return speeds;
      });
    };
    const sides = Object.fromEntries(Object.keys(SCENARIOS).map((scenario) => [scenario, measure(scenario)]));
    // The rounds make load themselves, so nobody asks whether there is any.
    samples[name] = await interleave(rounds, sides, { watch: false });
    for (const n of sizes) {
      const speeds = (scenario) => samples[name][scenario].map((found) => [found[n]]);
      for (const scenario of Object.keys(SCENARIOS)) {
        const quotients = ratios(speeds(scenario), speeds("quiet"));
        rows.push({
          model: name,
          n,
          beside: scenario === "quiet" ? "(nothing)" : scenario,
          "tok/s": median(speeds(scenario).flat()),
          "over quiet": median(quotients),
          "lowest round": Math.min(...quotients),
          "highest round": Math.max(...quotients),
        });
        const limit = GOALS[name]?.[scenario];
        if (limit) goals.push(goal(`${name}, n = ${n}: beside ${scenario}`, median(quotients), ">=", limit));
      }
    }
    await decoder.dispose();
    await model.dispose();
  }
  return { rows, goals, samples };
});

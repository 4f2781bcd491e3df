// What the portable binaries cost: each prebuild and a build for this very machine, in processes of their own. Run
// `npm run prebuilds` first, then `npm run build:native` (which makes build/Release/cllm.node again).
import { bench, goal, step } from "../lib/bench.mjs";
import { models } from "../lib/models.mjs";
import { interleave, median, ratio } from "../lib/numbers.mjs";
import { child } from "../lib/processes.mjs";

const about = "The prebuilt binaries against one built for this machine";
const options = {
  formats: "Q4_1,Q4_0,BF16",
  levels: "native,x86-64-avx512,x86-64-v3",
  tokens: 96,
  prompt: 385,
  rounds: 5,
  repetitions: 2,
};

await bench({ name: "levels", about, options }, async (settings) => {
  const { tokens, prompt, rounds, repetitions, threads } = settings;
  const levels = settings.levels.split(",");
  const rows = [];
  const goals = [];
  const samples = {};
  for (const { format, file } of await models(settings)) {
    const decoder = { contextSize: prompt + tokens, lanes: 1, blockSize: 8, threads };
    const cases = {
      ar: { prompt: 1, maxTokens: tokens, blockSize: 1 },
      block: { prompt: 16, maxTokens: tokens, blockSize: 8 },
      prefill: { prompt, maxTokens: 1, blockSize: 1 },
    };
    const measure = (level) => async (round) => {
      step(`${format} ${level}: round ${round + 1} of ${rounds}`);
      const input = { file, decoder, repetitions, cases };
      const { cpuLevel, results } = await child("decode-child", input, { env: { CLLM_BINARY: level } });
      if (cpuLevel !== level) throw new Error(`Expected the ${level} binary but ${cpuLevel} was loaded`);
      return results;
    };
    const runs = await interleave(rounds, Object.fromEntries(levels.map((level) => [level, measure(level)])));
    const speeds = Object.fromEntries(levels.map((level) => [level, figures(runs[level], prompt)]));
    const native = speeds.native;
    for (const level of levels) {
      const row = { format, level };
      for (const [name, values] of Object.entries(speeds[level])) row[name] = median(values.flat());
      for (const [name, values] of native ? Object.entries(speeds[level]) : []) {
        const quotient = ratio(values, native[name]);
        row[`over native: ${name}`] = quotient;
        if (level === "x86-64-avx512")
          goals.push(goal(`${format}: ${level} over native, ${name}`, quotient, ">=", 0.97));
      }
      rows.push(row);
    }
    samples[format] = speeds;
  }
  return { rows, goals, samples };
});

/** The speeds by their names, each as a list of samples per round. */
function figures(rounds, prompt) {
  const samples = (name, value) => rounds.map((results) => results[name].map(value));
  return {
    "AR tok/s": samples("ar", (run) => run.emittedTokens / run.seconds),
    "blocks of 8 per s": samples("block", (run) => (1000 * run.iterations) / run.decodeMilliseconds),
    "prefill tok/s": samples("prefill", (run) => (1000 * (prompt - 1)) / run.prefillMilliseconds),
  };
}

// Ordinary decoding (blockSize 1) against llama.cpp's own bench: what the addon, the decode thread and Node cost.
//
// Both sides do equal work: llama-bench's `tg N` decodes N single tokens into an empty context. A prompt of one token needs
// no prefill, so generate() with maxTokens N makes N passes at the same positions. The clock runs around generate(), so it
// includes all JavaScript; each process warms up with one run that is not counted.
import { bench, goal, step } from "../lib/bench.mjs";
import { buildLlamaBench, llamaBench } from "../lib/llama-bench.mjs";
import { machine } from "../lib/machine.mjs";
import { models } from "../lib/models.mjs";
import { interleave, median, ratios } from "../lib/numbers.mjs";
import { child } from "../lib/processes.mjs";

const about =
  "Tokens per second of ordinary decoding: node-cllm with blockSize 1, and llama-bench's tg of the same build";
const options = { formats: "Q4_1,Q4_0,BF16", tokens: 128, rounds: 5, repetitions: 3 };

await bench({ name: "ar", about, options }, async (settings) => {
  const { tokens, rounds, repetitions, threads } = settings;
  const binary = await buildLlamaBench(machine().binary.cpuLevel);
  const rows = [];
  const goals = [];
  const samples = {};
  for (const { format, file } of await models(settings)) {
    const speeds = await interleave(rounds, {
      llamaBench: async (round) => {
        step(`${format}: round ${round + 1} of ${rounds}`);
        const args = ["-p", "0", "-n", `${tokens}`];
        const { seconds } = await llamaBench(binary, file, { threads, repetitions, args });
        return seconds.map((s) => tokens / s);
      },
      nodeCllm: async () => {
        // The KV cache then has as many cells as llama-bench's, because both round up to 256.
        const decoder = { contextSize: tokens + 1, lanes: 1, blockSize: 1, threads };
        const cases = { ar: { prompt: 1, maxTokens: tokens, blockSize: 1 } };
        const { results } = await child("decode-child", { file, decoder, repetitions, cases });
        return results.ar.map(({ seconds }) => tokens / seconds);
      },
    });
    const quotients = ratios(speeds.nodeCllm, speeds.llamaBench);
    rows.push({
      format,
      "llama-bench tok/s": median(speeds.llamaBench.flat()),
      "node-cllm tok/s": median(speeds.nodeCllm.flat()),
      ratio: median(quotients),
      "lowest round": Math.min(...quotients),
      "highest round": Math.max(...quotients),
    });
    goals.push(goal(`${format}: speed over llama-bench's`, median(quotients), ">=", 0.98));
    samples[format] = speeds;
  }
  return { rows, goals, samples };
});

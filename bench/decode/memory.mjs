// Resident memory against llama.cpp's own bench, with the same file, context, threads and tokens. What a bare Node process
// takes is subtracted from ours. Passes are equally long on both sides (-ub), because they decide how large the compute
// buffers are; a second comparison has llama-bench's own 512. It works on Linux only (/proc).
import { bench, goal, step } from "../lib/bench.mjs";
import { buildLlamaBench, llamaBench } from "../lib/llama-bench.mjs";
import { machine } from "../lib/machine.mjs";
import { models } from "../lib/models.mjs";
import { interleave, median } from "../lib/numbers.mjs";
import { child, execute } from "../lib/processes.mjs";

const about = "Resident memory in MB (highest): node-cllm less a bare Node process, and llama-bench";
const options = { formats: "Q4_1,Q4_0,BF16", prompt: 896, tokens: 128, chunk: 32, rounds: 3 };

await bench({ name: "memory", about, options }, async (settings) => {
  const { prompt, tokens, chunk, rounds, threads } = settings;
  const binary = await buildLlamaBench(machine().binary.cpuLevel);
  const rows = [];
  const goals = [];
  const samples = {};
  for (const { format, file } of await models(settings)) {
    const llama = (batch) => async () => {
      const args = ["-p", "0", "-n", "0", "-pg", `${prompt},${tokens}`, "-b", `${batch}`, "-ub", `${batch}`];
      return (await llamaBench(binary, file, { threads, repetitions: 1, args, watch: true })).memory;
    };
    const runs = await interleave(rounds, {
      bare: async (round) => {
        step(`${format}: round ${round + 1} of ${rounds}`);
        // The process lives long enough to be found in /proc, with the flags and module system of the measured process.
        const script = "setTimeout(() => console.log('{}'), 500)";
        return (await execute(process.execPath, ["--input-type=module", "-e", script], { watch: true })).memory;
      },
      nodeCllm: async () => {
        const decoder = { contextSize: prompt + tokens, lanes: 1, blockSize: 4, prefillChunk: chunk, threads };
        const cases = { answer: { prompt, maxTokens: tokens, blockSize: 4 } };
        return (await child("decode-child", { file, decoder, repetitions: 1, cases }, { watch: true })).memory;
      },
      equalPasses: llama(chunk),
      usualPasses: llama(512),
    });
    const medianOf = (side, name = "highest") => median(runs[side].map((memory) => memory[name]));
    const net = medianOf("nodeCllm") - medianOf("bare");
    rows.push({
      format,
      "bare Node": medianOf("bare"),
      "node-cllm": net,
      "llama-bench": medianOf("equalPasses"),
      ratio: net / medianOf("equalPasses"),
      "llama-bench, -ub 512": medianOf("usualPasses"),
      "ratio to that": net / medianOf("usualPasses"),
      "node-cllm, not of the file": medianOf("nodeCllm", "anonymous") - medianOf("bare", "anonymous"),
      "llama-bench, not of the file": medianOf("equalPasses", "anonymous"),
    });
    goals.push(goal(`${format}: memory over llama-bench's`, net / medianOf("equalPasses"), "<=", 1.05));
    samples[format] = runs;
  }
  return { rows, goals, samples };
});

// Resident memory against llama.cpp's own bench: the same file, context, threads and tokens; of the Node process what a
// bare Node process takes is subtracted. Passes are equally long on both sides (-ub), because they decide how large the
// compute buffers are; the second comparison is with llama-bench's own 512. Linux only (/proc).
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
    const theirs = (batch) => async () => {
      const args = ["-p", "0", "-n", "0", "-pg", `${prompt},${tokens}`, "-b", `${batch}`, "-ub", `${batch}`];
      return (await llamaBench(binary, file, { threads, repetitions: 1, args, watch: true })).memory;
    };
    const runs = await interleave(rounds, {
      bare: async (round) => {
        step(`${format}: round ${round + 1} of ${rounds}`);
        // As long as a look at /proc needs; the same flags and module system as the other.
        const script = "setTimeout(() => console.log('{}'), 500)";
        return (await execute(process.execPath, ["--input-type=module", "-e", script], { watch: true })).memory;
      },
      ours: async () => {
        const decoder = { contextSize: prompt + tokens, lanes: 1, blockSize: 4, prefillChunk: chunk, threads };
        const cases = { answer: { prompt, maxTokens: tokens, blockSize: 4 } };
        return (await child("decode-child", { file, decoder, repetitions: 1, cases }, { watch: true })).memory;
      },
      same: theirs(chunk),
      usual: theirs(512),
    });
    const of = (side, name = "highest") => median(runs[side].map((memory) => memory[name]));
    const ours = of("ours") - of("bare");
    rows.push({
      format,
      "bare Node": of("bare"),
      "node-cllm": ours,
      "llama-bench": of("same"),
      ratio: ours / of("same"),
      "llama-bench, -ub 512": of("usual"),
      "ratio to that": ours / of("usual"),
      "node-cllm, not of the file": of("ours", "anonymous") - of("bare", "anonymous"),
      "llama-bench, not of the file": of("same", "anonymous"),
    });
    goals.push(goal(`${format}: memory over llama-bench's`, ours / of("same"), "<=", 1.05));
    samples[format] = runs;
  }
  return { rows, goals, samples };
});

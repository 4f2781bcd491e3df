// A CLLM on prompts of its own kind: tokens per second by block size and way of launching, against llama-bench's ordinary
// decoding of the same file on the same card. The answers are compared with those of n = 1.
//   CLLM_BACKEND=cuda npm run bench -- cllm [--model FILE --data FILE.jsonl]
// Without --model it is the default model on its questions written by hand. --backend cpu tries the bench itself on a machine
// without a GPU.
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { bench, goal, integers, step } from "../lib/bench.mjs";
import { llamaBenchOnGpu } from "../lib/llama-bench-gpu.mjs";
import { machine, root } from "../lib/machine.mjs";
import { execute } from "../lib/processes.mjs";

const { binaryInfo, defaultModel, evaluate, Model, readPromptData } = await import("../../dist/esm.mjs");
const about = "A CLLM on prompts of its own kind, against llama-bench's ordinary decoding of the same file";
const options = {
  backend: "cuda",
  data: "",
  blocks: "1,4,8,16,32",
  graphs: "off,loop",
  limit: 64,
  tokens: 256,
  rounds: 3,
};
/** Speed that is asked for: over n = 1 for the default model, over llama-bench for one of a useful size. */
const GOALS = { "n = 1": 3, "llama-bench": 2 };

await bench({ name: "gpu-cllm", about, options }, async ({ model, data, blocks, graphs, limit, ...settings }) => {
  if (settings.backend === "cuda" && machine().binary.backend !== "cuda")
    throw new Error(`CUDA does not run: ${binaryInfo().cuda}`);
  if (model && !data)
    throw new Error("Expected --data FILE.jsonl beside --model: prompts of the kind it was trained on");
  const file = model || defaultModel;
  const items = (await readPromptData(data || (await handWritten()))).slice(0, limit);
  step("llama-bench");
  const [ordinary] = await llamaBenchOnGpu(file, [1], { tokens: 128, rounds: settings.rounds });
  const rows = ordinary ? [{ n: 1, launches: "llama-bench", "tok/s": ordinary["tok/s"] }] : [];
  const loaded = await Model.load(file);
  for (const mode of graphs.split(",")) {
    process.env.CLLM_CUDA_GRAPHS = mode; // read when a decoder is made
    step(`${items.length} prompts, CLLM_CUDA_GRAPHS=${mode}`);
    const found = await evaluate(loaded, items, {
      blockSizes: integers(blocks),
      maxTokens: settings.tokens,
      rounds: settings.rounds,
      threads: settings.threads,
    });
    for (const row of found.rows) {
      rows.push({
        n: row.blockSize,
        launches: mode,
        "tokens per iteration": row.tokensPerIteration,
        "tok/s": row.tokensPerSecond,
        "over n = 1": row.speedUp,
        "over llama-bench": ordinary ? row.tokensPerSecond / ordinary["tok/s"] : undefined,
        "answers as at n = 1": row.equal,
        "right answers": row.exact ?? undefined,
      });
    }
  }
  await loaded.dispose();
  const best = (key) => Math.max(...rows.map((row) => row[key] ?? 0));
  const wanted = model ? "llama-bench" : "n = 1";
  return { rows, goals: [goal(`the best n over ${wanted}`, best(`over ${wanted}`), ">=", GOALS[wanted])] };
});

/** The default model's questions that were written by hand, as a file. */
async function handWritten() {
  const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), "cllm-hand-")), "hand.jsonl");
  await execute(process.execPath, [path.join(root, "models", "text-to-sql", "hand.mjs"), "--out", file], {});
  return file;
}

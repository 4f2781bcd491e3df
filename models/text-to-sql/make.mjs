// The recipe of the default model, from nothing:
//   node models/text-to-sql/make.mjs --out FOLDER
// A recipe that is started again goes on where it was interrupted. It takes five hours on two cores without the stage
// many.gguf, which would take ten hours more there and takes eight minutes on an H100 with the CUDA binary (docs/gpu.md).
import path from "node:path";
import { parseArgs } from "node:util";
import { Failure, main, root } from "../../scripts/common.mjs";
import { Recipe } from "../recipe.mjs";

const OTHERS = path.join(root, "models", "text-to-sql", "others.jsonl");

/** Options of generate.mjs by file: schemas, questions for each, the seed, and more. */
const DATA = {
  "train.jsonl": [58_000, 8, 1],
  "consistency.jsonl": [30_000, 2, 3, "--limit", "24000"],
  "settle.jsonl": [30_000, 2, 3, "--skip", "24000", "--limit", "5500"],
  "long.jsonl": [30_000, 8, 5, "--limit", "114000"],
  "answers.jsonl": [30_000, 8, 5, "--skip", "114000", "--limit", "66000"],
  "last.jsonl": [30_000, 8, 5, "--skip", "180000", "--limit", "34000"],
  "many.jsonl": [50_000, 8, 7],
  "wide.jsonl": [12_000, 8, 12, "--wide", "--limit", "77000"],
  "held-out.jsonl": [200, 5, 1000],
  "held-out-wide.jsonl": [200, 5, 1000, "--wide"],
};

const COMMON = { answers: "given", trainEmbeddings: true, rowTokens: 384, batch: 10, heldBack: 48, seed: 1 };
const CONSISTENCY = { ...COMMON, blockSize: 16, rowSteps: 3, pool: 480, heldBack: 64 };
const ANSWERS = { ...CONSISTENCY, cleanShare: 0.85, decay: 0.8, rowSteps: 2 };

/** Stages of training: the model that a stage writes, the model that it begins with, its data, and options of distill(). */
const STAGES = [
  ["ar.gguf", "base.gguf", "train.jsonl", { ...COMMON, arEpochs: 1, epochs: 0, arLearningRate: 0.0012 }],
  // A larger rate, and rows that stay for long in a small pool, cost right answers: 741 steps with 0.0008, six steps a row
  // and 48 rows left 25% of 91% by hand, and even without blocks 50% of the held-back ones.
  ["blocks.gguf", "ar.gguf", "consistency.jsonl", { ...CONSISTENCY, learningRate: 0.0003, arWeight: 2 }],
  ["settled.gguf", "blocks.gguf", "settle.jsonl", { ...CONSISTENCY, learningRate: 0.00015, arWeight: 8 }],
  // With the AR loss in front a larger rate does no harm, and several questions per table leave more of a row for answers.
  [
    ...["long.gguf", "settled.gguf", "long.jsonl"],
    { ...CONSISTENCY, cleanShare: 0.75, decay: 0.8, learningRate: 0.0006, arWeight: 8 },
  ],
  // Blocks are learned by now; these stages win right answers back.
  ["answers.gguf", "long.gguf", "answers.jsonl", { ...ANSWERS, learningRate: 0.0004, arWeight: 20 }],
  ["last.gguf", "answers.gguf", "last.jsonl", { ...ANSWERS, learningRate: 0.0003, arWeight: 30 }],
  // The stages above had too few steps. This stage has 36,512, and its rate falls to 0 over all of them. On a GPU f32 is
  // TF32, which is as fast as BF16 there.
  [
    ...["many.gguf", "last.gguf", "many.jsonl"],
    { ...ANSWERS, epochs: 3.47, batch: 16, learningRate: 0.0008, arWeight: 40, precision: "f32" },
  ],
  // This stage adds names and phrasings that others used and the generator lacked. The model partly forgets what many.gguf
  // knew (98.4% by hand became 87.5%); the mean of the two models knows both.
  ["wide.gguf", "many.gguf", "wide.jsonl", { ...ANSWERS, learningRate: 0.0004, arWeight: 30 }],
];

await main(import.meta.url, async (argv) => {
  const { values } = parseArgs({ args: argv, options: { out: { type: "string" } } });
  if (!values.out) throw new Failure("Expected --out FOLDER");
  const recipe = new Recipe(values.out);
  for (const [name, [schemas, questions, seed, ...more]] of Object.entries(DATA)) {
    const counts = ["--schemas", String(schemas), "--questions", String(questions), "--seed", String(seed)];
    await recipe.script(name, "text-to-sql/generate.mjs", ...counts, ...more);
  }
  await recipe.script("hand.jsonl", "text-to-sql/hand.mjs");
  await recipe.script("base.gguf", "text-to-sql/base.mjs");
  for (const [name, base, data, options] of STAGES) await recipe.distill(name, base, data, options);
  const mean = ["--base", "many.gguf", "--tuned", "wide.gguf", "--share", "0.4"];
  await recipe.script("text-to-sql.gguf", "average.mjs", ...mean);
  const models = ["text-to-sql.gguf", "ar.gguf"];
  const heldOut = { limit: 1000, rounds: 1 };
  recipe.publish("text-to-sql", "The default model, and the same before consistency training (ar.gguf)", {
    "held out of the generator": await recipe.evaluate("held-out.json", "held-out.jsonl", models, heldOut),
    "held out of it, wide": await recipe.evaluate("held-out-wide.json", "held-out-wide.jsonl", models, heldOut),
    "by hand": await recipe.evaluate("hand.json", "hand.jsonl", models, { limit: 1000 }),
    "by others": await recipe.evaluate("others.json", OTHERS, models, { limit: 1000 }),
  });
});

// The recipe of the default model, from nothing; takes four hours on two cores:
//   node models/text-to-sql/make.mjs --out FOLDER
// Started again it goes on where it was interrupted.
import { parseArgs } from "node:util";
import { Failure, main } from "../../scripts/common.mjs";
import { Recipe } from "../recipe.mjs";

const COMMON = { answers: "given", trainEmbeddings: true, rowTokens: 384, batch: 10, heldBack: 48, seed: 1 };

await main(import.meta.url, async (argv) => {
  const { values } = parseArgs({ args: argv, options: { out: { type: "string" } } });
  if (!values.out) throw new Failure("Expected --out FOLDER");
  const recipe = new Recipe(values.out);
  const questions = (name, schemas, count, seed, ...more) =>
    recipe.script(
      name,
      "text-to-sql/generate.mjs",
      ...["--schemas", String(schemas), "--questions", String(count), "--seed", String(seed), ...more],
    );
  await questions("train.jsonl", 58_000, 8, 1);
  await questions("consistency.jsonl", 30_000, 2, 3, "--limit", "24000");
  await questions("settle.jsonl", 30_000, 2, 3, "--skip", "24000", "--limit", "5500");
  await questions("long.jsonl", 30_000, 8, 5, "--limit", "114000");
  await questions("answers.jsonl", 30_000, 8, 5, "--skip", "114000", "--limit", "66000");
  await questions("last.jsonl", 30_000, 8, 5, "--skip", "180000", "--limit", "34000");
  await questions("held-out.jsonl", 200, 5, 1000);
  await recipe.script("hand.jsonl", "text-to-sql/hand.mjs");
  await recipe.script("base.gguf", "text-to-sql/base.mjs");
  await recipe.distill("ar.gguf", "base.gguf", "train.jsonl", {
    ...COMMON,
    arEpochs: 1,
    epochs: 0,
    arLearningRate: 0.0012,
  });
  const consistency = { ...COMMON, blockSize: 16, rowSteps: 3, pool: 480, heldBack: 64 };
  await recipe.distill("blocks.gguf", "ar.gguf", "consistency.jsonl", {
    ...consistency,
    // A larger rate, and rows that stay for long in a small pool, cost right answers: 741 steps with 0.0008, six steps a row
    // and 48 rows left 25% of 91% by hand, and even without blocks 50% of the held-back ones.
    learningRate: 0.0003,
    arWeight: 2,
  });
  await recipe.distill("settled.gguf", "blocks.gguf", "settle.jsonl", {
    ...consistency,
    learningRate: 0.00015,
    arWeight: 8,
  });
  // With the AR loss in front a larger rate does no harm, and several questions per table leave more of a row for answers.
  await recipe.distill("long.gguf", "settled.gguf", "long.jsonl", {
    ...consistency,
    cleanShare: 0.75,
    decay: 0.8,
    learningRate: 0.0006,
    arWeight: 8,
  });
  // Blocks are learned by now: what is left is to win back right answers.
  const answers = { ...consistency, cleanShare: 0.85, decay: 0.8, rowSteps: 2 };
  await recipe.distill("answers.gguf", "long.gguf", "answers.jsonl", {
    ...answers,
    learningRate: 0.0004,
    arWeight: 20,
  });
  await recipe.distill("text-to-sql.gguf", "answers.gguf", "last.jsonl", {
    ...answers,
    learningRate: 0.0003,
    arWeight: 30,
  });
  const models = ["text-to-sql.gguf", "ar.gguf"];
  recipe.publish("text-to-sql", "The default model, and the same before consistency training (ar.gguf)", {
    "held out of the generator": await recipe.evaluate("held-out.json", "held-out.jsonl", models, {
      limit: 1000,
      rounds: 1,
    }),
    "by hand": await recipe.evaluate("hand.json", "hand.jsonl", models, { limit: 1000 }),
  });
});

// The recipe of the default model, from nothing; takes near two hours on two cores:
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
  const questions = (name, schemas, count, seed) =>
    recipe.script(
      name,
      "text-to-sql/generate.mjs",
      ...["--schemas", String(schemas), "--questions", String(count), "--seed", String(seed)],
    );
  await questions("train.jsonl", 58_000, 8, 1);
  await questions("consistency.jsonl", 4_000, 8, 2);
  await questions("held-out.jsonl", 200, 5, 1000);
  await recipe.script("hand.jsonl", "text-to-sql/hand.mjs");
  await recipe.script("base.gguf", "text-to-sql/base.mjs");
  await recipe.distill("ar.gguf", "base.gguf", "train.jsonl", {
    ...COMMON,
    arEpochs: 1,
    epochs: 0,
    arLearningRate: 0.0012,
  });
  await recipe.distill("text-to-sql.gguf", "ar.gguf", "consistency.jsonl", {
    ...COMMON,
    blockSize: 16,
    learningRate: 0.0006,
  });
  const models = ["text-to-sql.gguf", "ar.gguf"];
  recipe.publish("text-to-sql", "The default model, and the same before consistency training (ar.gguf)", {
    "held out of the generator": await recipe.evaluate("held-out.json", "held-out.jsonl", models, { limit: 300 }),
    "by hand": await recipe.evaluate("hand.json", "hand.jsonl", models, { limit: 1000 }),
  });
});

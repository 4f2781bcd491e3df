// Questions about random schemas with their SQL, as JSON lines {"prompt", "answer"}:
//   node models/text-to-sql/generate.mjs --schemas 20000 --questions 8 --seed 1 [--wide] --out train.jsonl
// The same options give the same file. --wide adds names and phrasings that the vocabulary and the first stages of
// training were made without. --skip N and --limit N choose the examples that are written. Seeds below
// 1000 are for training, seeds from 1000 on for held-out data.
import fs from "node:fs";
import { parseArgs } from "node:util";
import { Failure, main } from "../../scripts/common.mjs";
import { ask } from "./questions.mjs";
import { Random, render, schema } from "./schemas.mjs";

/** The prompt of the model: the tables, the question, and where the answer begins. */
export function prompt(tables, question) {
  return `${tables}question: ${question}\nsql:\n`;
}

/** `schemas` times `questions` examples; a question that a schema gives twice is left out. */
export function* examples({ schemas, questions, seed, wide = false }) {
  const random = new Random(Math.imul(seed + 1, 0x9e3779b1), wide);
  for (let s = 0; s < schemas; s++) {
    const tables = schema(random);
    const text = render(tables);
    const seen = new Set();
    for (let q = 0; q < questions; q++) {
      const [question, sql] = ask(random, tables);
      if (seen.has(question)) continue;
      seen.add(question);
      yield { prompt: prompt(text, question), answer: sql };
    }
  }
}

await main(import.meta.url, (argv) => {
  const { values } = parseArgs({
    args: argv,
    options: {
      schemas: { type: "string", default: "1000" },
      questions: { type: "string", default: "8" },
      seed: { type: "string", default: "1" },
      wide: { type: "boolean", default: false },
      skip: { type: "string", default: "0" },
      limit: { type: "string", default: "Infinity" },
      out: { type: "string" },
    },
  });
  if (!values.out) throw new Failure("Expected --out FILE");
  const [schemas, questions, seed, skip, limit] = ["schemas", "questions", "seed", "skip", "limit"].map(
    (name) => +values[name],
  );
  const all = [...examples({ schemas, questions, seed, wide: values.wide })];
  const chosen = all.slice(skip, skip + limit).map((example) => JSON.stringify(example));
  fs.writeFileSync(values.out, `${chosen.join("\n")}\n`);
});

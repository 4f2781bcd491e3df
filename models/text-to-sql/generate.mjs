// Questions about random schemas with their SQL, as JSON lines {"prompt", "answer"}:
//   node models/text-to-sql/generate.mjs --schemas 20000 --questions 8 --seed 1 [--wide] --out train.jsonl
// The same options give the same file. --wide: with the names and phrasings that were added after the vocabulary and the
// first stages of training had been made without them. Seeds below 1000 are for training, those from 1000 on for what is
// held back.
import fs from "node:fs";
import { parseArgs } from "node:util";
import { ask } from "./questions.mjs";
import { Random, render, schema } from "./schemas.mjs";

/** The prompt of the model: the tables, the question, and where the answer begins. */
export function prompt(tables, question) {
  return `${tables}question: ${question}\nsql:\n`;
}

/** `schemas` times `questions` examples; fewer where a schema gives the same question twice. */
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

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const { values } = parseArgs({
    options: {
      schemas: { type: "string", default: "1000" },
      questions: { type: "string", default: "8" },
      seed: { type: "string", default: "1" },
      wide: { type: "boolean", default: false },
      skip: { type: "string", default: "0" }, // of the examples, so many at the beginning
      limit: { type: "string", default: "Infinity" }, // and at most so many behind them
      out: { type: "string" },
    },
  });
  const lines = [];
  const { schemas, questions, seed, wide } = values;
  for (const example of examples({ schemas: +schemas, questions: +questions, seed: +seed, wide })) {
    lines.push(JSON.stringify(example));
  }
  const chosen = lines.slice(+values.skip, +values.skip + +values.limit);
  fs.writeFileSync(values.out, `${chosen.join("\n")}\n`);
}

// Prompt data for `cllm distill` and `cllm eval` from Spider (Yu et al. 2018, CC BY-SA 4.0), split by database:
//   node models/smollm2-sql/prepare.mjs --spider FOLDER --out train.jsonl
//   node models/smollm2-sql/prepare.mjs --spider FOLDER --out held-out.jsonl --held-out
// FOLDER holds spider-train.jsonl {db_id, question, query} and spider-schemas.jsonl {db_id, tables: [[name, [columns]]]}.
// Twelve databases are held out, and training never sees them. Prompts of more than 1,000 characters and answers of more
// than 300 are left out (a training row has 512 tokens) and counted on stderr.
import fs from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";

const HELD_OUT = 12;
const MAX_CHARACTERS = { prompt: 1000, answer: 300 };

const { values } = parseArgs({
  options: { spider: { type: "string" }, out: { type: "string" }, "held-out": { type: "boolean", default: false } },
});
if (!values.spider || !values.out) throw new Error("Expected --spider FOLDER --out FILE");
const lines = (name) =>
  fs
    .readFileSync(path.join(values.spider, name), "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));

const schemas = new Map(
  lines("spider-schemas.jsonl").map(({ db_id, tables }) => [
    db_id,
    tables.map(([name, columns]) => `${name}(${columns.join(", ")})`).join("\n"),
  ]),
);
const databases = [...schemas.keys()].sort();
const heldOut = new Set(
  Array.from({ length: HELD_OUT }, (_, i) => databases[Math.floor(((i + 0.5) * databases.length) / HELD_OUT)]),
);

let leftOut = 0;
const examples = [];
for (const { db_id, question, query } of lines("spider-train.jsonl")) {
  if (heldOut.has(db_id) !== values["held-out"]) continue;
  const prompt = `${schemas.get(db_id)}\nQ: ${question.trim()}\nSQL:`;
  const answer = ` ${query.replace(/\s+/g, " ").trim()}`;
  if (prompt.length > MAX_CHARACTERS.prompt || answer.length > MAX_CHARACTERS.answer) {
    leftOut++;
    continue;
  }
  examples.push(JSON.stringify({ prompt, answer }));
}
fs.writeFileSync(values.out, `${examples.join("\n")}\n`);
process.stderr.write(`${leftOut} examples left out\n`);

// Prompt data for `cllm distill` and `cllm eval` from Spider (Yu et al. 2018, CC BY-SA 4.0), split by database:
//   node models/smollm2-sql/prepare.mjs --spider FOLDER --out FOLDER [--held-out 12] [--longest 1400]
// FOLDER holds spider-train.jsonl {db_id, question, query} and spider-schemas.jsonl {db_id, tables: [[name, [columns]]]}.
// Writes train.jsonl, and held-out.jsonl with the databases that training never sees. Prompts of more than `longest`
// characters are left out (a training row has 512 tokens), and counted on stderr.
import fs from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    spider: { type: "string" },
    out: { type: "string" },
    "held-out": { type: "string", default: "12" },
    longest: { type: "string", default: "1400" },
  },
});
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
const count = Number(values["held-out"]);
const heldOut = new Set(
  Array.from({ length: count }, (_, i) => databases[Math.floor(((i + 0.5) * databases.length) / count)]),
);

let leftOut = 0;
const parts = { "train.jsonl": [], "held-out.jsonl": [] };
for (const { db_id, question, query } of lines("spider-train.jsonl")) {
  const prompt = `${schemas.get(db_id)}\nQ: ${question.trim()}\nSQL:`;
  if (prompt.length > Number(values.longest)) {
    leftOut++;
    continue;
  }
  const answer = ` ${query.replace(/\s+/g, " ").trim()}`;
  parts[heldOut.has(db_id) ? "held-out.jsonl" : "train.jsonl"].push(JSON.stringify({ prompt, answer }));
}
fs.mkdirSync(values.out, { recursive: true });
for (const [name, all] of Object.entries(parts)) fs.writeFileSync(path.join(values.out, name), `${all.join("\n")}\n`);
process.stderr.write(`${leftOut} prompts left out\n`);

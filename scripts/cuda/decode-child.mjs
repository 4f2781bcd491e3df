// Decodes with 8 lanes in blocks of several sizes, so that the shape of passes changes, and prints a hash of the tokens of each
// size and runner as JSON. Started by check.mjs with other environment variables each time:
//   node scripts/cuda/decode-child.mjs MODEL BLOCKS TOKENS [CHANGES]
// With CHANGES it goes on until the shape has changed that often, and fails where a size gives other tokens than at first.
import { createHash } from "node:crypto";
import path from "node:path";
import { lanePrompts } from "../../bench/lib/prompts.mjs";
import { root } from "../common.mjs";

const LANES = 8;
const { Model } = await import(path.join(root, "dist", "esm.mjs"));
const [file, blocks, tokens, changes] = process.argv.slice(2);
const sizes = blocks.split(",").map(Number);
const prompts = lanePrompts(LANES);
const hashes = {};
const model = await Model.load(file);
let changed = 0;
for (const runner of changes ? ["resident"] : ["host", "resident"]) {
  const decoder = await model.createDecoder({ contextSize: 512, lanes: LANES, blockSize: Math.max(...sizes), runner });
  // At least three times, because the second pass of a shape is the first that a CUDA graph can run.
  for (let round = 0; round < 3 || changed < Number(changes ?? 0); round++) {
    for (const blockSize of sizes) {
      const answers = prompts.map((prompt, seed) =>
        decoder.generate(prompt, { maxTokens: Number(tokens), blockSize, seed }),
      );
      const text = (await Promise.all(answers)).map((answer) => answer.tokens.join()).join("|");
      const hash = createHash("sha256").update(text).digest("hex").slice(0, 16);
      const key = `${runner}, n = ${blockSize}`;
      if (changes && hashes[key] && hashes[key] !== hash)
        throw new Error(`${key}: other tokens after ${changed} changes`);
      hashes[key] = hash;
      changed++;
    }
  }
  await decoder.dispose();
}
if (changes) hashes.changes = changed;
await model.dispose();
console.log(JSON.stringify(hashes));

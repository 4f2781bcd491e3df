// Tokens per iteration by draft source and kind of request: counts, which do not depend on the machine's speed.
import { bench, step } from "../lib/bench.mjs";
import { models } from "../lib/models.mjs";
import { sum } from "../lib/numbers.mjs";
import { requests } from "../lib/requests.mjs";

const { Model } = await import("../../dist/esm.mjs");
const about = "Tokens per iteration by where drafts come from, blocks of 8 tokens";
const options = { formats: "Q4_0", block: 8, tokens: 128 };
const SOURCES = ["random", "own", "lookup", "auto"];

await bench({ name: "drafts", about, options }, async ({ block, tokens, ...settings }) => {
  const rows = [];
  for (const { format, file } of await models(settings)) {
    const model = await Model.load(file);
    const decoder = await model.createDecoder({ contextSize: 1024, threads: settings.threads });
    for (const { kind, prompts } of requests) {
      const row = { format, kind };
      for (const draftSource of SOURCES) {
        step(`${format}, ${kind}: ${draftSource}`);
        const results = [];
        for (const content of prompts) {
          const choice = { maxTokens: tokens, blockSize: block, draftSource };
          results.push(await decoder.generate([{ role: "user", content }], choice));
        }
        const total = (name) => sum(results.map(({ stats }) => stats[name]));
        row[draftSource] = total("emittedTokens") / total("iterations");
      }
      rows.push(row);
    }
    await decoder.dispose();
    await model.dispose();
  }
  return { rows, goals: [] };
});

// Tokens per iteration by draft source, number of candidates and kind of request. These are counts, which do not depend on
// the machine's speed.
import { bench, step } from "../lib/bench.mjs";
import { models } from "../lib/models.mjs";
import { total } from "../lib/numbers.mjs";
import { requests } from "../lib/requests.mjs";

const { Model } = await import("../../dist/esm.mjs");
const about = "Tokens per iteration by where drafts come from, blocks of 8 tokens";
const options = { formats: "Q4_0", block: 8, tokens: 128 };
const SOURCES = ["random", "choices", "lookup", "auto"];
const CANDIDATES = [2, 4, 6];

await bench({ name: "drafts", about, options }, async ({ block, tokens, threads, ...settings }) => {
  const columns = [
    ...SOURCES.map((draftSource) => [draftSource, { draftSource }]),
    ...CANDIDATES.map((candidates) => [`C = ${candidates}`, { candidates }]),
  ];
  const rows = [];
  for (const { format, file } of await models(settings)) {
    const model = await Model.load(file);
    const byKind = new Map(requests.map(({ kind }) => [kind, { format, kind }]));
    for (const [name, drafting] of columns) {
      const decoder = await model.createDecoder({ contextSize: 1024, threads, blockSize: block, ...drafting });
      for (const { kind, prompts } of requests) {
        step(`${format}, ${kind}: ${name}`);
        const results = [];
        for (const content of prompts) {
          results.push(await decoder.generate([{ role: "user", content }], { maxTokens: tokens }));
        }
        byKind.get(kind)[name] = total(results, "emittedTokens") / total(results, "iterations");
      }
      await decoder.dispose();
    }
    rows.push(...byKind.values());
    await model.dispose();
  }
  return { rows };
});

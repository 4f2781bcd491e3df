// Tokens per iteration by draft source, number of candidates and kind of request: counts, which do not depend on the
// machine's speed.
import { bench, step } from "../lib/bench.mjs";
import { models } from "../lib/models.mjs";
import { requests } from "../lib/requests.mjs";

const { Model } = await import("../../dist/esm.mjs");
const about = "Tokens per iteration by where drafts come from, blocks of 8 tokens";
const options = { formats: "Q4_0", block: 8, tokens: 128 };
const SOURCES = ["random", "choices", "lookup", "auto"];
const CANDIDATES = [2, 4, 6];

await bench({ name: "drafts", about, options }, async ({ block, tokens, ...settings }) => {
  const rows = [];
  for (const { format, file } of await models(settings)) {
    const model = await Model.load(file);
    const context = { contextSize: 1024, threads: settings.threads };
    const sides = [
      ...SOURCES.map((draftSource) => [draftSource, { draftSource }]),
      ...CANDIDATES.map((candidates) => [`C = ${candidates}`, { candidates }]),
    ];
    const byKind = new Map(requests.map(({ kind }) => [kind, { format, kind }]));
    for (const [name, choice] of sides) {
      const decoder = await model.createDecoder({ ...context, ...choice, blockSize: block });
      for (const { kind, prompts } of requests) {
        step(`${format}, ${kind}: ${name}`);
        const total = { emittedTokens: 0, iterations: 0 };
        for (const content of prompts) {
          const { stats } = await decoder.generate([{ role: "user", content }], { maxTokens: tokens });
          for (const key of Object.keys(total)) total[key] += stats[key];
        }
        byKind.get(kind)[name] = total.emittedTokens / total.iterations;
      }
      await decoder.dispose();
    }
    rows.push(...byKind.values());
    await model.dispose();
  }
  return { rows, goals: [] };
});

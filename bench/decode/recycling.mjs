// Would drafts from rejected tails pay ("rejection recycling": what blocks held behind their first wrong token, found again by
// the last confirmed tokens)? They are no draft source of the engine; this bench drafts them through the low-level API, and
// several candidates too: the greedy answer is known, so the one that would win is as well. Counts, no times.
import { bench, step } from "../lib/bench.mjs";
import { models } from "../lib/models.mjs";
import { requests } from "../lib/requests.mjs";

const { Model } = await import("../../dist/esm.mjs");
const about = "Tokens per iteration, drafts looked up in the text, or in the text and rejected tails; C candidates";
const options = { formats: "Q4_0", block: 8, tokens: 96 };
const LONGEST_KEY = 3;
const TAILS = 64; // the latest so many are kept

await bench({ name: "recycling", about, options }, async ({ block, tokens, ...settings }) => {
  const rows = [];
  for (const { format, file } of await models(settings)) {
    const model = await Model.load(file);
    const decoder = await model.createDecoder({ contextSize: 1024, blockSize: block, threads: settings.threads });
    for (const { kind, prompts } of requests) {
      const row = { format, kind };
      const texts = [];
      for (const content of prompts) {
        const prompt = model.tokenize(model.applyChatTemplate([{ role: "user", content }]), { parseSpecial: true });
        const { tokens: answer } = await decoder.generate(prompt, { maxTokens: tokens, blockSize: block });
        texts.push({ prompt, answer });
      }
      for (const recycles of [false, true]) {
        for (const candidates of [1, 2, 4]) {
          const name = `${recycles ? "with tails" : "text"}, C = ${candidates}`;
          step(`${format}, ${kind}: ${name}`);
          const total = { tokens: 0, iterations: 0 };
          for (const { prompt, answer } of texts) {
            total.tokens += answer.length;
            total.iterations += await iterations(decoder, prompt, answer, { block, candidates, recycles });
          }
          row[name] = total.tokens / total.iterations;
        }
      }
      rows.push(row);
    }
    await decoder.dispose();
    await model.dispose();
  }
  return { rows, goals: [] };
});

async function iterations(decoder, prompt, answer, { block, candidates, recycles }) {
  const sequence = await decoder.sequence();
  await sequence.prefill(prompt);
  const tails = [];
  let own = [];
  let done = 0;
  let count = 0;
  for (; done < answer.length; count++) {
    const text = [...prompt, ...answer.slice(0, done)];
    const found = lookUp([text, ...(recycles ? tails : [])], text.slice(-LONGEST_KEY), block - 1, candidates);
    const drafts = candidates === 1 && found.length > 0 ? found : [own, ...found.slice(0, candidates - 1)];
    const right = (draft) => {
      const wrong = draft.findIndex((token, i) => token !== answer[done + i]);
      return wrong < 0 ? draft.length : wrong;
    };
    const best = drafts.reduce((a, b) => (right(b) > right(a) ? b : a));
    const draft = Array.from({ length: block - 1 }, (_, i) => best[i] ?? prompt[(done + i) % prompt.length]);
    const { choices, tokens } = await sequence.iterate({ blockSize: block, draft });
    done += tokens.length;
    own = choices.slice(tokens.length);
    tails.unshift(choices.slice(tokens.length - 1));
    tails.splice(TAILS);
  }
  await sequence.dispose();
  return count;
}

/** What followed `key` in the texts: longest key first, then the first text, then the latest place; each next token once. */
function lookUp(texts, key, length, most) {
  const found = [];
  for (let size = key.length; size > 0; size--) {
    const wanted = key.slice(-size);
    for (const text of texts) {
      for (let place = text.length - 1; place >= size; place--) {
        if (wanted.some((token, i) => text[place - size + i] !== token)) continue;
        if (found.some(([token]) => token === text[place])) continue;
        found.push(text.slice(place, place + length));
        if (found.length === most) return found;
      }
    }
  }
  return found;
}

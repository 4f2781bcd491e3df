// A process that loads a model, runs some cases and prints their times. child("decode-child", input) starts it; the input is
//   { file, decoder: DecoderOptions, repetitions, cases: { name: { prompt, maxTokens, blockSize } } }
// `prompt` is the length of the prompt in tokens. Every case runs once before it is timed, to warm up.
import { text } from "./prompts.mjs";

const { Model, binaryInfo } = await import("../../dist/esm.mjs");
const { file, decoder: options, repetitions, cases } = JSON.parse(process.argv[2]);
const model = await Model.load(file);
const decoder = await model.createDecoder(options);
const words = model.tokenize(text);
const results = {};
for (const [name, { prompt, maxTokens, blockSize }] of Object.entries(cases)) {
  results[name] = [];
  let firstWord = 0;
  for (let i = -1; i < repetitions; i++) {
    const start = performance.now();
    // The first token differs each time, so that no KV row of the prompt is reused.
    const tokens = [words[firstWord], ...Array.from({ length: prompt - 1 }, (_, k) => words[k % words.length])];
    const { stats, finishReason } = await decoder.generate(tokens, { maxTokens, blockSize });
    const seconds = (performance.now() - start) / 1000;
    if (finishReason !== "length") {
      // Both sides must answer with the same number of tokens, so another first token is tried.
      if (++firstWord === words.length) throw new Error(`No prompt leads to ${maxTokens} tokens`);
      i--;
      continue;
    }
    if (i >= 0) results[name].push({ seconds, ...stats });
    if (prompt > 1) firstWord++;
  }
}
const { cpuLevel } = binaryInfo();
await decoder.dispose();
await model.dispose();
console.log(JSON.stringify({ cpuLevel, results }));

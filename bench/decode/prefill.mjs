// The speed of prefill by the length of its passes, to choose prefillChunk. A long pass is faster per token but keeps the
// other lanes waiting longer ("ms per pass"). Passes of 64 and more also run llama.cpp's tiled attention kernel, which
// rounds differently, so the first tokens of the answer are compared with those at the first length.
import { bench, integers, step } from "../lib/bench.mjs";
import { models } from "../lib/models.mjs";
import { interleave, median } from "../lib/numbers.mjs";
import { text } from "../lib/prompts.mjs";

const { Model } = await import("../../dist/esm.mjs");
const about = "Prefill by the length of its passes (prefillChunk)";
const options = { formats: "Q4_1,Q4_0,F16,BF16", chunks: "32,48,64,128,256,512", prompt: 601, rounds: 4 };

await bench({ name: "prefill", about, options }, async (settings) => {
  const { prompt, rounds, threads } = settings;
  const chunks = integers(settings.chunks);
  const rows = [];
  const samples = {};
  for (const { format, file } of await models(settings)) {
    const model = await Model.load(file);
    const words = model.tokenize(text);
    const decoders = [];
    for (const prefillChunk of chunks) {
      const options = { contextSize: prompt + 32, lanes: 1, blockSize: 4, prefillChunk, threads };
      decoders.push([prefillChunk, await model.createDecoder(options)]);
    }
    const measure = (chunk, decoder) => {
      let firstWord = 0;
      return async (round) => {
        step(`${format}: passes of ${chunk}, round ${round + 1} of ${rounds + 1}`);
        // The first token differs each time, in a repeated round too, so that no KV row is reused.
        const tokens = [words[firstWord++], ...Array.from({ length: prompt - 1 }, (_, k) => words[k % words.length])];
        const { stats, tokens: answer } = await decoder.generate(tokens, { maxTokens: 16 });
        return { milliseconds: stats.prefillMilliseconds, answer: answer.join() };
      };
    };
    const sides = decoders.map(([chunk, decoder]) => [chunk, measure(chunk, decoder)]);
    const runs = await interleave(rounds + 1, Object.fromEntries(sides)); // the first round warms up
    for (const chunk of chunks) {
      const milliseconds = median(runs[chunk].slice(1).map((run) => run.milliseconds));
      const equal = runs[chunk].filter((run, round) => run.answer === runs[chunks[0]][round].answer).length;
      rows.push({
        format,
        prefillChunk: chunk,
        "tok/s": (1000 * (prompt - 1)) / milliseconds,
        "ms per pass": milliseconds / Math.ceil((prompt - 1) / chunk),
        "equal answers": `${equal} of ${rounds + 1}`,
      });
    }
    samples[format] = runs;
    for (const [, decoder] of decoders) await decoder.dispose();
    await model.dispose();
  }
  return { rows, samples };
});

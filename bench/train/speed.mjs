// Tokens per second of consistency training on random tokens in packed rows. All weights but the embeddings are trained.
// GFLOP/s count 6 x trained parameters + 4 x head per token (forward and two backward products; the head's weights get no gradient
// and see labelled positions only, so this counts a little too much). The table also has the GFLOP/s that BF16
// products of such shapes reach by themselves.
import { execFileSync } from "node:child_process";
import path from "node:path";
import { build } from "../../scripts/build.mjs";
import { bench, goal, step } from "../lib/bench.mjs";
import { root } from "../lib/machine.mjs";
import { models } from "../lib/models.mjs";
import { median } from "../lib/numbers.mjs";

const { Model } = await import("../../dist/esm.mjs");
const { addon } = (await import("../../dist/binary/binding.js")).default;
const about = "Training of all weights but the embeddings: tokens per second";
const options = { formats: "BF16", rowTokens: 512, batch: 4, steps: 4 };
// Half of what PyTorch's compiled BF16 reached on one 2-core machine with AVX512-BF16.
const GOAL = 300;

await bench({ name: "train", about, options }, async (settings) => {
  const { threads, rowTokens, batch, steps } = settings;
  const program = path.join(root, ".cmake", "native", "bin", "cllm-product-bench");
  await build({ targets: ["cllm-product-bench"] });
  const peak = JSON.parse(execFileSync(program, [String(threads)], { encoding: "utf8" }));
  const rows = [];
  const samples = {};
  const goals = [];
  for (const { format, file } of await models(settings)) {
    const model = await Model.load(file);
    const { vocabSize, embeddingSize } = model.info;
    await model.dispose();
    const native = {
      ...{ bf16: true, trainEmbeddings: false, loraRank: 0, rowTokens, rowsPerPass: 1, passesPerStep: batch },
      ...{ labels: Math.floor(rowTokens * 0.75), blockSize: 16, arEpochs: 0, epochs: 100, cleanShare: 0.55, pool: 8 },
      ...{ rowSteps: 6, arWeight: 1, consistencyWeight: 1, softShare: 0.5, decay: 0.85, learningRate: 1e-5 },
      ...{ arLearningRate: 1e-5, weightDecay: 0.01, clip: 1, warmup: 10, seed: 1, threads },
      ...{ gpu: false, fingerprint: "bench" },
    };
    const trainer = await addon().createTrainer(file, native, randomData(vocabSize)).promise;
    const { trainedParameters, bytes } = trainer.info();
    await trainer.load(null).promise;
    const speeds = [];
    for (let i = 0; i <= steps; i++) {
      step(`${format}: step ${i} of ${steps}`);
      const begin = performance.now();
      const [{ tokens }] = await trainer.run(0).promise;
      if (i > 0) speeds.push((1000 * tokens) / (performance.now() - begin));
    }
    trainer.dispose();
    const speed = median(speeds);
    const flops = 6 * trainedParameters + 4 * vocabSize * embeddingSize;
    rows.push({
      format,
      "trained parameters": trainedParameters,
      "tok/s": speed,
      "GFLOP/s": (speed * flops) / 1e9,
      "product peak, GFLOP/s": peak.ours,
      "ggml's product": peak.ggml,
      "planned memory, MB": bytes / 1e6,
      "peak resident, MB": process.resourceUsage().maxRSS / 1024,
    });
    samples[format] = speeds;
    goals.push(goal(`${format}: tokens per second`, speed, ">=", GOAL));
    goals.push(goal(`${format}: peak memory in MB`, process.resourceUsage().maxRSS / 1024, "<", 4000));
  }
  return { rows, goals, samples };
});

/** Twelve prefixes with ten questions each, made of random tokens because only the sizes matter. */
function randomData(vocab) {
  let state = 1;
  const draw = (count) =>
    Array.from({ length: count }, () => {
      state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
      return state % vocab;
    });
  const tokens = [];
  const lengths = [];
  for (let group = 0; group < 12; group++) {
    const prefix = draw(120);
    for (let i = 0; i < 10; i++) {
      tokens.push(...prefix, ...draw(20), ...draw(36));
      lengths.push(140, 36);
    }
  }
  return { tokens: Int32Array.from(tokens), lengths: Int32Array.from(lengths) };
}

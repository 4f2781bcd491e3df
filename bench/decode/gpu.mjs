// Jacobi decoding on the GPU: both runners, bursts of the resident one, blocks and lanes, and llama.cpp's own bench on the same
// file and card. The runners' tokens are compared first. On a GPU a pass may round otherwise when it attends to more padding,
// so a difference is a missed goal and no reason to measure nothing.
//   CLLM_BACKEND=cuda npm run bench -- gpu [--shape qwen2] [--model FILE]
// --backend cpu tries the bench itself on a machine without a GPU; its figures mean nothing.
import fs from "node:fs";
import path from "node:path";
import { bench, goal, integers, step } from "../lib/bench.mjs";
import { llamaBenchOnGpu } from "../lib/llama-bench-gpu.mjs";
import { machine } from "../lib/machine.mjs";
import { interleave, median, total } from "../lib/numbers.mjs";
import { syntheticModels } from "../lib/synthetic.mjs";

const { binaryInfo, Model } = await import("../../dist/esm.mjs");
const about =
  "Blocks of n tokens on the GPU, by runner; random weights of SmolLM2-135M's shape unless --shape or --model says otherwise";
const options = {
  backend: "cuda",
  shape: "smollm2",
  formats: "F16,BF16,Q8_0,Q4_0,Q4_K",
  blocks: "1,4,8,16,32",
  lanes: "1,8",
  tokens: 128,
  rounds: 5,
};
const RUNNERS = [
  { name: "host", runner: "host", burst: 1 },
  { name: "resident", runner: "auto", burst: 1 },
  { name: "resident, bursts of 8", runner: "auto", burst: 8 },
];

await bench(
  { name: "gpu-decode", about, options },
  async ({ model, shape, formats, threads, backend, ...settings }) => {
    if (machine().binary.backend !== backend) throw new Error(`CUDA does not run: ${binaryInfo().cuda}`);
    const files = model
      ? [{ format: path.basename(model, ".gguf"), file: model }]
      : await syntheticModels(formats, shape);
    const sizes = integers(settings.blocks);
    const results = { rows: [], goals: [], samples: {} };
    for (const { format, file } of files) {
      const weightBytes = fs.statSync(file).size;
      for (const row of await llamaBenchOnGpu(file, sizes, settings)) {
        results.rows.push({ format, ...row, "GB/s of weights": weightBytes / row["ms per iteration"] / 1e6 });
      }
      const loaded = await Model.load(file);
      for (const lanes of integers(settings.lanes)) {
        const decoders = [];
        for (const { name, ...running } of RUNNERS) {
          const wanted = { contextSize: 1024, lanes, blockSize: Math.max(...sizes), threads };
          decoders.push([name, await loaded.createDecoder({ ...wanted, ...running })]);
        }
        for (const n of sizes) await compareRunners({ ...settings, format, lanes, n, decoders, weightBytes }, results);
        for (const [, decoder] of decoders) await decoder.dispose();
      }
      await loaded.dispose();
    }
    return results;
  },
);

/** Measures all runners on blocks of `n` tokens, and adds to the rows, goals and samples. */
async function compareRunners({ format, lanes, n, decoders, weightBytes, tokens, rounds }, { rows, goals, samples }) {
  const key = `${format}, ${lanes} lanes, n = ${n}`;
  const run = (decoder) => {
    step(key);
    return Promise.all(promptsOf(lanes).map((prompt) => decoder.generate(prompt, { maxTokens: tokens, blockSize: n })));
  };
  const outputs = [];
  for (const [name, decoder] of decoders) {
    outputs.push([name, (await run(decoder)).map((result) => result.tokens.join(" ")).join("\n")]);
  }
  const different = outputs.filter(([, text]) => text !== outputs[0][1]).map(([name]) => name);
  goals.push(goal(`${key}: runners with other tokens than host`, different.length, "<=", 0));
  const measure = async (decoder) => {
    const started = performance.now();
    const results = await run(decoder);
    const took = performance.now() - started;
    const iterations = Math.max(...results.map(({ stats }) => stats.iterations));
    const prefill = Math.max(...results.map(({ stats }) => stats.prefillMilliseconds));
    return {
      iteration: (took - prefill) / iterations,
      forward: total(results, "forwardMilliseconds") / total(results, "iterations"),
      speed: (1000 * total(results, "emittedTokens")) / took,
    };
  };
  const sides = Object.fromEntries(decoders.map(([name, decoder]) => [name, () => measure(decoder)]));
  samples[key] = await interleave(rounds, sides);
  const medianOf = (name, figure) => median(samples[key][name].map((sample) => sample[figure]));
  for (const [name, decoder] of decoders) {
    rows.push({
      format,
      lanes,
      n,
      runner: decoder.info.runner === "host" && name !== "host" ? `host, for ${name}` : name,
      "ms per iteration": medianOf(name, "iteration"),
      "ms in the forward pass": medianOf(name, "forward"),
      "tok/s": medianOf(name, "speed"),
      "GB/s of weights": weightBytes / medianOf(name, "iteration") / 1e6,
      tokens: different.includes(name) ? "other than host" : "equal",
    });
  }
  const [host, , burst] = RUNNERS.map(({ name }) => medianOf(name, "iteration"));
  goals.push(goal(`${key}: an iteration in bursts over one of the host runner`, burst / host, "<=", 1));
}

/** A prompt of 32 token ids for each lane. */
function promptsOf(lanes) {
  return Array.from({ length: lanes }, (_, lane) => Array.from({ length: 32 }, (_, i) => 100 + 7 * lane + i));
}

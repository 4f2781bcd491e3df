// Jacobi decoding on the GPU: both runners, the resident one with each way of launching its work (CLLM_CUDA_GRAPHS), blocks and
// lanes, and llama.cpp's own bench on the same file and card. The runners' tokens are compared first. On a GPU a pass may round
// otherwise when it attends to more padding, so a difference is a missed goal and no reason to measure nothing.
//   CLLM_BACKEND=cuda npm run bench -- gpu [--shape qwen2] [--model FILE] [--bandwidth GB/s]
// With CLLM_CUDA_GRAPHS=on the resident runner is measured with ggml's own graphs instead, which a process uses always or never.
// --bandwidth is what a copy within the card reaches (cllm-device-test --bandwidth); the memory floor is the time to read all
// weights once at that speed. --backend cpu tries the bench itself on a machine without a GPU; its figures mean nothing.
import fs from "node:fs";
import path from "node:path";
import { bench, goal, integers, step } from "../lib/bench.mjs";
import { llamaBenchOnGpu } from "../lib/llama-bench-gpu.mjs";
import { machine } from "../lib/machine.mjs";
import { interleave, median, total } from "../lib/numbers.mjs";
import { lanePrompts } from "../lib/prompts.mjs";
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
  bandwidth: "",
};
const HOST = { name: "host", runner: "host", graphs: "off" };
const RUNNERS =
  process.env.CLLM_CUDA_GRAPHS === "on"
    ? [HOST, { name: "resident, ggml's graphs", runner: "auto", graphs: "on" }]
    : [
        HOST,
        { name: "resident, kernel by kernel", runner: "auto", graphs: "off" },
        { name: "resident, recorded iterations", runner: "auto", graphs: "replay" },
        { name: "resident, recorded loops", runner: "auto", graphs: "loop" },
      ];
const LOOP = "resident, recorded loops";
const BURST = 32;

await bench(
  { name: "gpu-decode", about, options },
  async ({ model, shape, formats, threads, backend, bandwidth, ...settings }) => {
    if (backend === "cuda" && machine().binary.backend !== backend)
      throw new Error(`CUDA does not run: ${binaryInfo().cuda}`);
    const files = model
      ? [{ format: path.basename(model, ".gguf"), file: model }]
      : await syntheticModels(formats, shape);
    const sizes = integers(settings.blocks);
    const results = { rows: [], goals: [], samples: {} };
    for (const { format, file } of files) {
      const weightBytes = fs.statSync(file).size;
      // Milliseconds of the floor; NaN where no bandwidth is given.
      const floor = weightBytes / (Number(bandwidth || Number.NaN) * 1e6);
      for (const row of await llamaBenchOnGpu(file, sizes, settings)) {
        results.rows.push({ format, ...row, "share of the floor": floor / row["ms per iteration"] });
      }
      const loaded = await Model.load(file);
      for (const lanes of integers(settings.lanes)) {
        const decoders = [];
        for (const { name, graphs, runner } of RUNNERS) {
          process.env.CLLM_CUDA_GRAPHS = graphs; // read when a decoder is made
          const wanted = { contextSize: 1024, lanes, blockSize: Math.max(...sizes), threads, runner, burst: BURST };
          decoders.push([name, await loaded.createDecoder(wanted)]);
        }
        for (const n of sizes) await compareRunners({ ...settings, format, lanes, n, decoders, floor }, results);
        for (const [, decoder] of decoders) await decoder.dispose();
      }
      await loaded.dispose();
    }
    return results;
  },
);

/** Measures all runners on blocks of `n` tokens, and adds to the rows, goals and samples. */
async function compareRunners({ format, lanes, n, decoders, floor, tokens, rounds }, { rows, goals, samples }) {
  const key = `${format}, ${lanes} lanes, n = ${n}`;
  const run = (decoder) => {
    step(key);
    return Promise.all(
      lanePrompts(lanes).map((prompt) => decoder.generate(prompt, { maxTokens: tokens, blockSize: n })),
    );
  };
  const outputs = [];
  const launches = {};
  for (const [name, decoder] of decoders) {
    await run(decoder); // an iteration is recorded when it comes a second time
    outputs.push([name, (await run(decoder)).map((result) => result.tokens.join(" ")).join("\n")]);
    launches[name] = decoder.info.launches;
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
      host: total(results, "forwardMilliseconds") / total(results, "iterations"),
      speed: (1000 * total(results, "emittedTokens")) / took,
    };
  };
  const sides = Object.fromEntries(decoders.map(([name, decoder]) => [name, () => measure(decoder)]));
  samples[key] = await interleave(rounds, sides);
  const medianOf = (name, figure) => median(samples[key][name].map((sample) => sample[figure]));
  const kernels = Object.values(launches).find((it) => it?.kernels)?.kernels;
  for (const [name, decoder] of decoders) {
    const each = launches[name]?.each;
    rows.push({
      format,
      lanes,
      n,
      runner: decoder.info.runner === "host" && name !== "host" ? `host, for ${name}` : name,
      "ms per iteration": medianOf(name, "iteration"),
      "share of the floor": floor / medianOf(name, "iteration"),
      // What llama_decode takes, or what it takes to enqueue an iteration of the resident runner.
      "host ms per iteration": medianOf(name, "host"),
      "launches per iteration": { kernel: kernels, iteration: 1, burst: 1 / BURST }[each],
      "tok/s": medianOf(name, "speed"),
      tokens: different.includes(name) ? "other than host" : "equal",
    });
    if (launches[name]?.reason) goals.push(goal(`${key}: ${name} refused: ${launches[name].reason}`, 1, "<=", 0));
  }
  const fastest = decoders.at(-1)[0];
  const ratio = medianOf(fastest, "iteration") / medianOf("host", "iteration");
  goals.push(goal(`${key}: an iteration, ${fastest}, over one of the host runner`, ratio, "<=", 1));
  if (fastest === LOOP) {
    goals.push(goal(`${key}: microseconds of the host per iteration of a loop`, 1000 * medianOf(LOOP, "host"), "<", 1));
  }
}

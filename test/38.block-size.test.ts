import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { type DraftSource, defaultModel, Model, quantize } from "../lib/index.js";
import { CHAIN_PROMPT, CHAIN_TEXT, writeFixtures } from "./fixtures/gguf.js";

// test/native/block_chooser_test.cpp tests how good the choices are, on made-up machines; bench/ measures it.
describe("automatic block size", function () {
  this.timeout(60_000);
  const fixtures = writeFixtures();

  it("is the default, and shows in info and statistics", async () => {
    await using model = await Model.load(fixtures.llama);
    await using decoder = await model.createDecoder({ contextSize: 256, threads: 1 });
    assert.equal(decoder.info.autoBlockSize, true);
    assert.equal(decoder.info.blockSize, 16);
    const before: unknown = decoder.info.chosen;
    assert.equal(before, null);
    const sizes = new Set<number>();
    for (const prompt of ["hello", "one two", "and so on and so on and so on"]) {
      const { stats, tokens } = await decoder.generate(prompt, { maxTokens: 150 });
      for (const size of Object.keys(stats.blockSizes)) sizes.add(Number(size));
      const counted = Object.values(stats.blockSizes).reduce((a, b) => a + b, 0);
      assert.equal(counted, stats.iterations);
      assert.equal(stats.emittedTokens, tokens.length);
    }
    const { chosen } = decoder.info;
    assert.equal(chosen?.candidates, 1);
    assert.ok(sizes.has(chosen.blockSize), `${chosen.blockSize} is the last of ${[...sizes]}`);
    for (const size of sizes) assert.ok([1, 2, 4, 8, 16].includes(size) || size < 16, `${size}`);
    const fixed = await decoder.generate("hello", { maxTokens: 20, blockSize: 8 });
    assert.deepEqual(Object.keys(fixed.stats.blockSizes), ["8"]);
  });

  it("deterministic: one size, whatever a pass costs", async () => {
    await using model = await Model.load(fixtures.llama);
    for (const blockSize of [undefined, "auto", 8] as const) {
      await using decoder = await model.createDecoder({ contextSize: 256, threads: 1, deterministic: true, blockSize });
      assert.deepEqual([decoder.info.deterministic, decoder.info.autoBlockSize], [true, false]);
      const { stats } = await decoder.generate("and so on and so on", { maxTokens: 60, blockSize: "auto" });
      assert.deepEqual(Object.keys(stats.blockSizes), [String(blockSize === 8 ? 8 : 2)]);
    }
  });

  it("gives the text of a fixed size, whatever it chooses", async () => {
    // Packed BF16 weights give equal tokens at n = 1 too. Elsewhere a near-tie could make them differ, but not on this model.
    await using model = await Model.load(fixtures.chain);
    await using decoder = await model.createDecoder({ contextSize: 128, threads: 1, lanes: 2 });
    for (const draftSource of ["auto", "random", "choices", "lookup"] satisfies DraftSource[]) {
      const both = await Promise.all(
        [1, 2].map(() => decoder.generate(CHAIN_PROMPT, { draftSource, blockSize: "auto" })),
      );
      for (const { text } of both) assert.equal(text, CHAIN_TEXT);
    }
  });

  it("formats that llama.cpp multiplies by other kernels from some number of columns on have the same results", async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "cllm-block-size-"));
    try {
      for (const type of ["IQ4_XS", "IQ4_NL", "Q3_K_S"]) {
        const file = path.join(folder, "model.gguf");
        await quantize(defaultModel, file, type);
        await using model = await Model.load(file);
        const prompt = model.tokenize(
          "table a(b, c)\nHow many b are there for each c of a, and which of them is the largest?",
        );
        const answers = await Promise.all(
          [
            { blockSize: 2, prefillChunk: 4 },
            { blockSize: 4, prefillChunk: 32 },
            { blockSize: 16, prefillChunk: 8 },
          ].map(async (options) => {
            await using decoder = await model.createDecoder({ contextSize: 256, ...options });
            return await decoder.generate(prompt, { maxTokens: 40, logprobs: 2 });
          }),
        );
        for (const answer of answers) assert.deepEqual(answer.logprobs, answers[0]?.logprobs, type);
      }
    } finally {
      fs.rmSync(folder, { recursive: true, force: true });
    }
  });

  it("a text that repeats itself is drafted by looking it up: several tokens per iteration", async () => {
    await using model = await Model.load(fixtures.llama);
    await using decoder = await model.createDecoder({ contextSize: 512, threads: 1, blockSize: 8 });
    // Greedy decoding of a small model ends in a loop.
    const tokens = (await decoder.generate("hello", { maxTokens: 300, blockSize: 2 })).tokens;
    const options = { maxTokens: 300, blockSize: 8 };
    const random = await decoder.generate("hello", { ...options, draftSource: "random" });
    const lookup = await decoder.generate("hello", { ...options, draftSource: "lookup" });
    const auto = await decoder.generate("hello", { ...options, draftSource: "auto" });
    for (const { tokens: found } of [random, lookup, auto]) assert.deepEqual(found, tokens);
    assert.ok(lookup.stats.iterations <= random.stats.iterations, "looking up never does worse here");
    assert.ok(auto.stats.iterations <= random.stats.iterations * 1.1);
  });

  it("is off for a model that cannot roll back, which refuses a block size above 1", async () => {
    await using model = await Model.load(fixtures.mamba);
    await using decoder = await model.createDecoder({ contextSize: 64, threads: 1 });
    assert.equal(decoder.info.autoBlockSize, false);
    assert.equal(decoder.info.blockSize, 1);
    assert.deepEqual(Object.keys((await decoder.generate("hello", { maxTokens: 4 })).stats.blockSizes), ["1"]);
    await assert.rejects(model.createDecoder({ blockSize: 4 }), { code: "CLLM_UNSUPPORTED_MODEL" });
  });
});

describe("candidates", function () {
  this.timeout(60_000);
  const fixtures = writeFixtures();
  const prompts = ["and so on and so on and so on", "one two three one two", "hello"];

  it("give the same tokens as a single block, greedy and sampled, in any number of lanes, in fewer iterations", async () => {
    await using model = await Model.load(fixtures.llama);
    const run = async (candidates: number, lanes: number, blockSize: number | "auto") => {
      await using decoder = await model.createDecoder({ contextSize: 256, threads: 1, lanes, candidates, blockSize });
      assert.equal(decoder.info.candidates, candidates);
      const requests = prompts.flatMap((prompt, i) =>
        [0, 0.9].map((temperature) =>
          decoder.generate(prompt, { maxTokens: 120, temperature, seed: 7 + i, draftSource: "random" }),
        ),
      );
      const results = await Promise.all(requests);
      const iterations = results.reduce((sum, { stats }) => sum + stats.iterations, 0);
      return { tokens: results.map(({ tokens }) => tokens), iterations };
    };
    const plain = await run(1, 1, 4);
    let iterations = plain.iterations;
    for (const candidates of [2, 4, 8]) {
      for (const lanes of [1, 4]) {
        const found = await run(candidates, lanes, 4);
        assert.deepEqual(found.tokens, plain.tokens, `${candidates} candidates, ${lanes} lanes`);
        if (lanes === 1) {
          assert.ok(found.iterations <= iterations, `${candidates}: ${found.iterations}, fewer: ${iterations}`);
          iterations = found.iterations;
        }
      }
    }
    assert.ok(iterations < plain.iterations, `${iterations} of ${plain.iterations}`);
  });

  it("go with a block size of auto, rules, sequences, bursts and every draft source", async () => {
    await using model = await Model.load(fixtures.llama);
    const options = { contextSize: 256, threads: 1, lanes: 2 };
    await using plain = await model.createDecoder({ ...options, blockSize: 4 });
    await using decoder = await model.createDecoder({ ...options, candidates: 3, burst: 5 });
    assert.equal(decoder.info.blockSize, 16);
    const check = async (choice: object) => {
      const expected = await plain.generate(prompts[0] as string, { maxTokens: 60, ...choice });
      for (const blockSize of [8, 16, "auto"] as const) {
        const found = await decoder.generate(prompts[0] as string, { maxTokens: 60, blockSize, ...choice });
        assert.deepEqual(found.tokens, expected.tokens, JSON.stringify({ blockSize, ...choice }));
        const { candidates, iterations } = found.stats;
        assert.equal(
          Object.values(candidates).reduce((a, b) => a + b, 0),
          iterations,
        );
        const onHost = ["grammar", "repeatPenalty"].some((name) => name in choice);
        const most = onHost ? 1 : 3;
        for (const count of Object.keys(candidates)) assert.ok(Number(count) <= most, count);
        if (blockSize === 8) assert.ok((candidates[most] ?? 0) > 0, JSON.stringify(candidates));
      }
    };
    for (const draftSource of ["auto", "random", "choices", "lookup"] as const) await check({ draftSource });
    await check({ repeatPenalty: 1.3 });
    await check({ grammar: 'root ::= ("a" | "b" | " ")+' });
    const requests = [{}, { repeatPenalty: 1.3 }].map((choice) => ({ maxTokens: 60, ...choice }));
    const beside = await Promise.all(requests.map((choice) => decoder.generate(prompts[0] as string, choice)));
    for (const [i, choice] of requests.entries()) {
      assert.deepEqual(beside[i]?.tokens, (await plain.generate(prompts[0] as string, choice)).tokens);
    }
    await using sequence = await decoder.sequence();
    await sequence.prefill(model.tokenize(prompts[0] as string, { addSpecial: true }));
    const tokens: number[] = [];
    while (tokens.length < 40) {
      const { block, choices, accepted, tokens: emitted } = await sequence.iterate({ blockSize: 8 });
      for (let j = 0; j < accepted; j++) assert.equal(block[j + 1], choices[j]);
      tokens.push(...emitted);
    }
    const expected = await plain.generate(prompts[0] as string, { maxTokens: 40 });
    assert.deepEqual(tokens.slice(0, 40), expected.tokens);
  });

  it("are refused where a pass would be too long, and not used where the runner has none", async () => {
    await using model = await Model.load(fixtures.llama);
    await assert.rejects(model.createDecoder({ candidates: 9 }), /candidates/);
    await assert.rejects(model.createDecoder({ candidates: 4, blockSize: 13 }), {
      name: "RangeError",
      message: /Expected at most 12, for 4 candidates for blockSize/,
    });
    for (const choice of [{ runner: "host" }, { flashAttention: false }] as const) {
      await using decoder = await model.createDecoder({ contextSize: 64, threads: 1, candidates: 4, ...choice });
      assert.equal(decoder.info.candidates, 1);
      assert.match(decoder.info.runnerReason, "runner" in choice ? /asked for/ : /candidates need flash attention/);
    }
  });
});

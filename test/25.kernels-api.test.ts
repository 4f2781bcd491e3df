import assert from "node:assert/strict";
import { kernels, Model } from "../lib/index.js";
import { writeFixtures } from "./fixtures/gguf.js";

describe("kernels", () => {
  it("choose: the largest logit, ties to the lowest id, NaN below all", () => {
    const { NaN: nan, NEGATIVE_INFINITY: low } = Number;
    const rows = [
      [1, 3, 3, 2],
      [-0, 0, -1, low],
      [nan, low, low, nan],
      [nan, nan, nan, nan],
      [5, nan, 6, 1],
    ];
    assert.deepEqual([...kernels.choose(Float32Array.from(rows.flat()), { vocab: 4 })], [1, 0, 1, 0, 2]);
    assert.deepEqual([...kernels.choose(Float32Array.of(1, 2, 9, 4, 3, 9), { vocab: 2, stride: 3 })], [1, 0]);
    assert.deepEqual([...kernels.choose(new Float32Array(0), { vocab: 2 })], []);
  });

  it("verify: accepted, emitted, winner, budget, end of generation, stationary", () => {
    const tokens = Int32Array.of(7, 1, 2, 3, /**/ 7, 1, 2, 9);
    const choices = Int32Array.of(1, 2, 9, 9, /**/ 1, 2, 9, 4);
    const plain = (verdicts: object) =>
      Object.fromEntries(Object.entries(verdicts).map(([name, values]) => [name, [...(values as Int32Array)]]));
    assert.deepEqual(plain(kernels.verify({ tokens, choices, block: 4 })), {
      winner: [0, 0],
      accepted: [2, 3],
      emitted: [3, 4],
      stationary: [0, 0],
      ended: [0, 0],
    });
    assert.deepEqual(plain(kernels.verify({ tokens, choices, block: 4, candidates: 2, endOfGeneration: [2] })), {
      winner: [1],
      accepted: [3],
      emitted: [2],
      stationary: [0],
      ended: [1],
    });
    const stood = Uint8Array.of(0, 1, 0, 1, 0, 1, 1, 1);
    assert.deepEqual(plain(kernels.verify({ tokens, choices, block: 4, budgets: Int32Array.of(0, 3), stood })), {
      winner: [0, 0],
      accepted: [0, 3],
      emitted: [0, 3],
      stationary: [0, 2],
      ended: [0, 0],
    });
  });

  it("a decoder of one's own: the same tokens as the library's", async () => {
    await using model = await Model.load(writeFixtures().llama);
    await using decoder = await model.createDecoder({ contextSize: 128, blockSize: 6, threads: 1 });
    const prompt = model.tokenize("the other side");
    const expected = await decoder.generate(prompt, { maxTokens: 30 });
    await using sequence = await decoder.sequence();
    await sequence.prefill(prompt);
    const tokens: number[] = [];
    while (tokens.length < 30) {
      const { block, logits } = await sequence.iterate({ logits: true });
      const choices = kernels.choose(logits as Float32Array, { vocab: model.info.vocabSize });
      const { emitted } = kernels.verify({ tokens: Int32Array.from(block), choices, block: block.length });
      tokens.push(...choices.subarray(0, emitted[0]));
    }
    assert.deepEqual(tokens.slice(0, 30), [...expected.tokens]);
  });

  it("refuses arrays whose sizes do not agree", () => {
    const f = (n: number) => new Float32Array(n);
    const i = (n: number) => new Int32Array(n);
    assert.throws(() => kernels.choose([] as never, { vocab: 2 }), {
      name: "TypeError",
      message: /a Float32Array for logits/,
    });
    assert.throws(() => kernels.choose(f(5), { vocab: 2 }), {
      name: "RangeError",
      message: /whole rows of 2 elements/,
    });
    assert.throws(() => kernels.choose(f(4), {} as never), { name: "TypeError", message: /for vocab/ });
    assert.throws(() => kernels.choose(f(4), { vocab: 4, stride: 2 }), { name: "RangeError", message: /for stride/ });
    assert.throws(() => kernels.verify({ tokens: i(7), choices: i(7), block: 4 }), {
      name: "RangeError",
      message: /tokens.length/,
    });
    assert.throws(() => kernels.verify({ tokens: i(8), choices: i(7), block: 4 }), {
      name: "RangeError",
      message: /choices.length/,
    });
    assert.throws(() => kernels.verify({ tokens: i(4), choices: i(4).fill(-1), block: 4 }), { name: "RangeError" });
    assert.throws(() => kernels.verify({ tokens: i(4), choices: i(4), block: 4, budgets: i(2) }), {
      name: "RangeError",
    });
  });
});

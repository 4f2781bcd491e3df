import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import {
  type AdapterOptions,
  type CllmError,
  defaultModel,
  distill,
  type GenerateResult,
  type MergeOptions,
  Model,
  type ModelLoadOptions,
  merge,
  quantize,
} from "../lib/index.js";
import { writeFixtures } from "./fixtures/gguf.js";
import { encodeGguf, f32, type Metadata, strings, type Tensor, text } from "./fixtures/gguf-writer.js";
import { referenceLogits } from "./reference.js";

const fixtures = writeFixtures();

describe("adapters", () => {
  let directory: string;
  before(() => {
    directory = fs.mkdtempSync(path.join(os.tmpdir(), "cllm-adapters-"));
  });
  after(() => fs.rmSync(directory, { recursive: true, force: true }));
  const file = (name: string): string => path.join(directory, name);

  const KEYS: Metadata = {
    "general.architecture": text("llama"),
    "general.type": text("adapter"),
    "adapter.type": text("lora"),
    "adapter.lora.alpha": f32(8),
  };

  /** Random values, the same on every machine. */
  function random(length: number, size: number, seed: number): Float32Array {
    let state = seed;
    return Float32Array.from({ length }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return size * (state / 2 ** 31 - 1);
    });
  }

  /** Adapters of rank 4 for matrices [in, out] of a model. */
  function tensors(matrices: Record<string, [number, number]>, seed = 1): Tensor[] {
    return Object.entries(matrices).flatMap(([name, [inputs, outputs]], i) => [
      { name: `${name}.lora_a`, shape: [inputs, 4], data: random(inputs * 4, 0.3, seed + i) },
      { name: `${name}.lora_b`, shape: [4, outputs], data: random(4 * outputs, 0.3, seed + 100 + i) },
    ]);
  }

  function writeAdapter(name: string, content: readonly Tensor[], keys: Metadata = KEYS): string {
    fs.writeFileSync(file(name), encodeGguf(keys, content));
    return file(name);
  }

  /** Matrices of the fixture `llama`, in all places that a layer has, and the output. */
  const MATRICES: Record<string, [number, number]> = {
    "blk.0.attn_q.weight": [64, 64],
    "blk.0.attn_k.weight": [64, 32],
    "blk.1.attn_v.weight": [64, 32],
    "blk.1.attn_output.weight": [64, 64],
    "blk.0.ffn_gate.weight": [64, 128],
    "blk.1.ffn_up.weight": [64, 128],
    "blk.1.ffn_down.weight": [128, 64],
  };
  /** Some of those of the model that comes with the package. */
  const DEFAULT_MATRICES: Record<string, [number, number]> = {
    "blk.0.attn_q.weight": [256, 256],
    "blk.2.attn_v.weight": [256, 128],
    "blk.5.attn_output.weight": [256, 256],
  };

  async function answer(base: string, options: ModelLoadOptions = {}): Promise<GenerateResult> {
    const model = await Model.load(base, options);
    const decoder = await model.createDecoder({ contextSize: 256 });
    const result = await decoder.generate([5, 9, 17, 33, 65], { maxTokens: 40, blockSize: 8, logprobs: 3 });
    await model.dispose();
    return result;
  }

  async function isSame(
    base: string,
    adapters: AdapterOptions[],
    options: ModelLoadOptions = {},
  ): Promise<GenerateResult> {
    await merge(base, file("merged.gguf"), { adapters });
    const merged = await answer(file("merged.gguf"), options);
    const loaded = await answer(base, { ...options, adapters });
    assert.deepEqual(loaded.tokens, merged.tokens);
    assert.deepEqual(loaded.logprobs, merged.logprobs);
    return loaded;
  }

  describe("merged at load are those merged into a file", () => {
    for (const type of [
      "F32",
      "F16",
      "BF16",
      "Q8_0",
      "Q4_0",
      "Q4_1",
      "Q5_0",
      "Q5_1",
      "Q6_K",
      "Q4_K_M",
      "Q3_K_S",
      "IQ4_NL",
    ]) {
      it(type, async () => {
        const base = file(`base-${type}.gguf`);
        await quantize(defaultModel, base, type);
        const adapter = writeAdapter("default.gguf", tensors(DEFAULT_MATRICES));
        const adapted = await isSame(base, [{ path: adapter }], { packWeights: type !== "IQ4_NL" });
        assert.notDeepEqual(adapted.logprobs, (await answer(base)).logprobs);
        fs.rmSync(base);
      });
    }

    it("with weights that are not packed, without a map", async () => {
      const adapter = writeAdapter("llama.gguf", tensors(MATRICES));
      await isSame(fixtures.llama, [{ path: adapter }], { packWeights: false });
      await isSame(fixtures.llama, [{ path: adapter }], { mmap: false });
      await isSame(fixtures.llamaQ8, [{ path: adapter, scale: 0.5 }], { packWeights: false });
    });

    it("several, each with its scale, in their order", async () => {
      const [a, b] = [writeAdapter("a.gguf", tensors(MATRICES, 1)), writeAdapter("b.gguf", tensors(MATRICES, 50))];
      const both = [
        { path: a, scale: 0.25 },
        { path: b, scale: -1 },
      ];
      await isSame(fixtures.llama, both);
      // One after the other is the same in F32, but for rounding.
      await merge(fixtures.llama, file("one.gguf"), { adapters: [both[0] as AdapterOptions] });
      const stepwise = await answer(file("one.gguf"), { adapters: [both[1] as AdapterOptions] });
      assert.deepEqual(stepwise.tokens, (await answer(fixtures.llama, { adapters: both })).tokens);
    });
  });

  it("compute what llama.cpp computes with the adapter beside the products", async () => {
    const adapter = writeAdapter("llama.gguf", tensors(MATRICES));
    const adapters = [{ path: adapter, scale: 0.5 }];
    await merge(fixtures.llama, file("merged.gguf"), { adapters });
    const requests = [{ width: 4, chunk: 4, prompt: [5, 9, 17, 33], answer: [3, 7, 11, 19, 23, 29, 31, 37] }];
    const [theirs] = referenceLogits(fixtures.llama, requests, {
      kind: "exact",
      adapter: { path: adapter, scale: 0.5 },
    });
    const [ours] = referenceLogits(file("merged.gguf"), requests, { kind: "exact" });
    const [plain] = referenceLogits(fixtures.llama, requests, { kind: "exact" });
    const apart = (a: Float32Array[] | undefined, b: Float32Array[] | undefined): number =>
      Math.max(...(a ?? []).flatMap((row, i) => [...row].map((x, j) => Math.abs(x - (b?.[i]?.[j] ?? Number.NaN)))));
    assert.ok(apart(ours, theirs) < 1e-3 * apart(plain, theirs), `${apart(ours, theirs)} of ${apart(plain, theirs)}`);
  });

  it("with a scale of 0 change nothing", async () => {
    const adapter = writeAdapter("llama.gguf", tensors(MATRICES));
    await merge(fixtures.llama, file("merged.gguf"), { adapters: [{ path: adapter, scale: 0 }] });
    assert.deepEqual(fs.readFileSync(file("merged.gguf")), fs.readFileSync(fixtures.llama));
  });

  it("say that they make a consistency LLM", async () => {
    const keys = { ...KEYS, "cllm.block_size": text("16"), "other.key": text("x") };
    const adapters = [{ path: writeAdapter("cllm.gguf", tensors(MATRICES), keys) }];
    await merge(fixtures.llama, file("merged.gguf"), { adapters });
    for (const model of [await Model.load(fixtures.llama, { adapters }), await Model.load(file("merged.gguf"))]) {
      assert.equal(model.info.trainBlockSize, 16);
      assert.equal(model.metadata["other.key"], undefined);
      await model.dispose();
    }
  });

  it("are written by distill, and merged give the file that distill writes", async function () {
    this.timeout(120_000);
    const prompts = file("prompts.jsonl");
    const lines = Array.from({ length: 24 }, (_, i) =>
      JSON.stringify({ prompt: `${i} and ${i + 1}`, answer: ` is ${2 * i + 1}.` }),
    );
    fs.writeFileSync(prompts, lines.join("\n"));
    const result = await distill(fixtures.llama, prompts, {
      out: file("trained.gguf"),
      adapter: file("trained-adapter.gguf"),
      answers: "given",
      lora: 4,
      type: "F32",
      epochs: 1,
      rowTokens: 128,
      blockSize: 8,
      heldBack: 4,
      pool: 4,
      rowSteps: 1,
      precision: "f32",
    });
    assert.ok(result.steps > 0);
    const adapters = [{ path: file("trained-adapter.gguf") }];
    assert.deepEqual(
      (await answer(fixtures.llama, { adapters })).logprobs,
      (await answer(file("trained.gguf"))).logprobs,
    );
    const model = await Model.load(fixtures.llama, { adapters });
    assert.equal(model.info.trainBlockSize, 8);
    await model.dispose();
    await assert.rejects(distill(fixtures.llama, prompts, { out: file("x.gguf"), adapter: file("y.gguf") }), {
      name: "RangeError",
      message: /a rank above 0 .* for lora/,
    });
  });

  describe("are refused", () => {
    async function refuses(adapter: string, code: string, message: RegExp, base = fixtures.llama): Promise<void> {
      const check = (error: CllmError): boolean => {
        assert.equal(error.code, code, error.stack);
        assert.match(error.message, message);
        return true;
      };
      await assert.rejects(Model.load(base, { adapters: [{ path: adapter }] }), check);
      const before = fs.readdirSync(directory);
      await assert.rejects(merge(base, file("no.gguf"), { adapters: [{ path: adapter }] }), check);
      assert.deepEqual(fs.readdirSync(directory), before);
    }
    const good = tensors({ "blk.0.attn_q.weight": [64, 64] });
    const [a, b] = good as [Tensor, Tensor];

    it("that are missing, damaged, or none", async () => {
      await refuses(file("none.gguf"), "CLLM_MODEL_NOT_FOUND", /none\.gguf/);
      await refuses(fixtures.llama, "CLLM_INVALID_MODEL", /Expected a LoRA adapter .* is none/);
      const bytes = fs.readFileSync(writeAdapter("good.gguf", good));
      for (const length of [0, 20, 200, bytes.length - 40]) {
        fs.writeFileSync(file("cut.gguf"), bytes.subarray(0, length));
        await refuses(file("cut.gguf"), "CLLM_INVALID_MODEL", /cut\.gguf/);
      }
    });

    it("for another model", async () => {
      await refuses(
        writeAdapter("qwen.gguf", good, { ...KEYS, "general.architecture": text("qwen2") }),
        "CLLM_INVALID_MODEL",
        /architecture qwen2/,
      );
      await refuses(
        writeAdapter("name.gguf", tensors({ "blk.9.attn_q.weight": [64, 64] })),
        "CLLM_INVALID_MODEL",
        /adapts blk\.9\.attn_q\.weight, which/,
      );
      await refuses(
        writeAdapter("shape.gguf", tensors({ "blk.0.attn_q.weight": [32, 64] })),
        "CLLM_INVALID_MODEL",
        /another shape/,
      );
      await refuses(writeAdapter("rank.gguf", [a, { ...b, shape: [8, 32] }]), "CLLM_INVALID_MODEL", /another shape/);
      await refuses(writeAdapter("half.gguf", [a]), "CLLM_INVALID_MODEL", /half of an adapter/);
      await refuses(
        writeAdapter("more.gguf", [a, b, { name: "extra", shape: [4], data: new Float32Array(4) }]),
        "CLLM_INVALID_MODEL",
        /has the tensor extra/,
      );
      await refuses(writeAdapter("empty.gguf", []), "CLLM_INVALID_MODEL", /has no tensors/);
    });

    it("of other kinds", async () => {
      const { "adapter.lora.alpha": _, ...noAlpha } = KEYS;
      await refuses(writeAdapter("alpha.gguf", good, noAlpha), "CLLM_INVALID_MODEL", /adapter\.lora\.alpha/);
      await refuses(
        writeAdapter("nan.gguf", good, { ...KEYS, "adapter.lora.alpha": f32(Number.NaN) }),
        "CLLM_INVALID_MODEL",
        /alpha that is no number/,
      );
      const data = Float32Array.from(a.data);
      data[3] = Number.POSITIVE_INFINITY;
      await refuses(
        writeAdapter("infinite.gguf", [{ ...a, data }, b]),
        "CLLM_INVALID_MODEL",
        /weights that are no numbers/,
      );
      await refuses(
        writeAdapter("vector.gguf", good, { ...KEYS, "adapter.type": text("control_vector") }),
        "CLLM_INVALID_MODEL",
        /is none/,
      );
      await refuses(
        writeAdapter("alora.gguf", good, { ...KEYS, "adapter.alora.invocation_tokens": strings(["x"]) }),
        "CLLM_UNSUPPORTED_MODEL",
        /switched on by certain tokens/,
      );
      await refuses(
        writeAdapter("embd.gguf", tensors({ "token_embd.weight": [64, 320] })),
        "CLLM_UNSUPPORTED_MODEL",
        /adapts the embeddings/,
      );
    });

    it("for a split model", async () => {
      await refuses(writeAdapter("good.gguf", good), "CLLM_NOT_SUPPORTED", /split model/, fixtures.split);
    });

    it("with wrong options", async () => {
      const adapter = writeAdapter("good.gguf", good);
      for (const [adapters, name, message] of [
        [adapter, "TypeError", /an array of .* for adapters/],
        [[adapter], "TypeError", /\{ path, scale \} for adapters/],
        [[{ path: adapter, scale: "1" }], "TypeError", /for scale/],
        [[{ path: adapter, scale: 1000 }], "RangeError", /from -100 to 100 for scale/],
        [[{ path: adapter, strength: 1 }], "TypeError", /strength/],
        [[{}], "TypeError", /for path/],
      ] as const) {
        await assert.rejects(Model.load(fixtures.llama, { adapters } as unknown as ModelLoadOptions), {
          name,
          message,
        });
      }
      await assert.rejects(merge(fixtures.llama, file("x.gguf"), { adapters: [] }), {
        name: "RangeError",
        message: /one adapter or more/,
      });
      await assert.rejects(merge(fixtures.llama, file("x.gguf"), {} as MergeOptions), { name: "RangeError" });
      await assert.rejects(merge(fixtures.llama, adapter, { adapters: [{ path: adapter }] }), {
        code: "CLLM_QUANTIZE_FAILED",
        message: /one of the inputs/,
      });
    });
  });
});

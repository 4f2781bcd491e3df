import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import type { NativeDevice } from "../lib/addon.js";
import { CllmError } from "../lib/errors.js";
import { checkGpuMemory, checkMemory, contextNeeds, modelFileBytes, placement } from "../lib/machine/memory.js";

const GIB = 2 ** 30;
const gpu = (free: number, total = 80 * GIB): NativeDevice => ({
  name: "CUDA0",
  description: "NVIDIA H100",
  kind: "gpu",
  freeMemory: free,
  totalMemory: total,
});
const native = (change: object) => ({
  contextSize: 4096,
  lanes: 4,
  blockSize: 16,
  candidates: 1,
  threads: 1,
  prefillChunk: 32,
  flashAttention: null,
  kvType: "f16",
  swaFull: false,
  runner: "auto" as const,
  burst: 1,
  consistencyModel: false,
  ...change,
});

const PLAIN = {
  kvBytesPerToken: 0,
  windowedKvBytesPerToken: 0,
  slidingWindow: 0,
  stateBytes: 0,
  maxRollback: null,
  vocabSize: 1,
};

describe("memory: what a context needs", () => {
  it("KV rows of every lane, and the logits of all blocks", () => {
    // Llama 3 8B: 32 layers, 8 heads of 128 for K and for V, two bytes each.
    const model = { ...PLAIN, kvBytesPerToken: 32 * 2 * 8 * 128 * 2, vocabSize: 128256 };
    const needs = contextNeeds(native({}), model);
    assert.equal(needs.kv, 4 * 4096 * 131072);
    assert.equal(needs.logits, 4 * 16 * 128256 * 4);
    assert.equal(needs.texts, 4 * 4096 * 40);
    const candidates = contextNeeds(native({ candidates: 3 }), model);
    assert.equal(candidates.kv, 4 * (4096 + 256) * 131072); // llama.cpp rounds up to 256 rows
    assert.equal(candidates.logits, 3 * needs.logits);
  });

  it("counts the bits of quantised rows with their scales", () => {
    const model = { ...PLAIN, kvBytesPerToken: 2 * 1024, vocabSize: 1 };
    const perElement = (kvType: string) =>
      contextNeeds(native({ kvType, contextSize: 256, lanes: 1 }), model).kv / 2 ** 18;
    const bits = { f32: 32, f16: 16, bf16: 16, q8_0: 8.5, q5_1: 6, q5_0: 5.5, q4_1: 5, q4_0: 5, iq4_nl: 5 };
    for (const [type, expected] of Object.entries(bits)) assert.equal(perElement(type) * 8, expected, type);
  });
});

describe("memory: windows and states", () => {
  // Gemma 3 4B: 29 of 34 layers see 1024 tokens; 4 heads of 256 for K and for V.
  const layer = 2 * 4 * 256 * 2;
  const gemma = { ...PLAIN, kvBytesPerToken: 5 * layer, windowedKvBytesPerToken: 29 * layer, slidingWindow: 1024 };

  it("layers with a window keep the window and a pass, unless the whole context is asked for", () => {
    const options = native({ contextSize: 32768, lanes: 1 });
    assert.equal(contextNeeds(options, gemma).kv, (5 * 32768 + 29 * 1280) * layer);
    assert.equal(contextNeeds({ ...options, swaFull: true }, gemma).kv, 34 * 32768 * layer);
    assert.equal(contextNeeds({ ...options, contextSize: 512 }, gemma).kv, 34 * 512 * layer);
    assert.equal(contextNeeds({ ...options, candidates: 2 }, gemma).kv, 34 * (32768 + 256) * layer);
  });

  it("a recurrent state for each token of a block and each lane", () => {
    const model = { ...PLAIN, stateBytes: 1000, maxRollback: 47 };
    assert.equal(contextNeeds(native({ lanes: 3, blockSize: 8 }), model).states, 24000);
    const hybrid = { ...model, kvBytesPerToken: 1024 };
    assert.equal(contextNeeds(native({ lanes: 3, blockSize: 8 }), hybrid).states, 27000);
    assert.equal(contextNeeds(native({ lanes: 3, blockSize: 8, runner: "host" }), hybrid).states, 24000);
    assert.equal(contextNeeds(native({ lanes: 3, blockSize: 8 }), hybrid).kv, 3 * (4096 + 256) * 1024);
    assert.equal(contextNeeds(native({ lanes: 3, blockSize: 1 }), { ...hybrid, maxRollback: 0 }).states, 3000);
  });
});

describe("memory: where layers are", () => {
  it("all on the GPU, none, or some", () => {
    const some = gpu(GIB);
    assert.equal(placement(-1, 30, some), "gpu");
    assert.equal(placement(31, 30, some), "gpu");
    assert.equal(placement(30, 30, some), "both"); // the output layer stays on the CPU
    assert.equal(placement(0, 30, some), "cpu");
    assert.equal(placement(-1, 30, null), "cpu");
  });
});

describe("memory: refusing what does not fit", () => {
  const refused = (body: () => void, message: RegExp) =>
    assert.throws(body, (error) => {
      assert.ok(error instanceof CllmError);
      assert.equal(error.code, "CLLM_OUT_OF_MEMORY");
      assert.match(error.message, message);
      return true;
    });

  it("into the memory of a GPU, with what a pass needs beside", () => {
    checkGpuMemory(7.7 * GIB, "the weights", gpu(8 * GIB), "take less");
    refused(
      () => checkGpuMemory(7.8 * GIB, "the weights of x.gguf", gpu(8 * GIB), "take less"),
      /^Expected the weights of x\.gguf to fit into the memory of NVIDIA H100 but it needs 8\.05 GiB .*8\.00 GiB of 80\.00 GiB are free: take less$/,
    );
  });

  it("but nothing where the driver does not tell its memory", () => {
    checkGpuMemory(7 * GIB, "the weights", gpu(0, 0), "take less");
  });

  it("into the memory of the machine", () => {
    checkMemory(1, "a byte");
    refused(() => checkMemory(2 ** 60, "the ocean"), /^Expected the ocean to fit into memory but it needs/);
  });
});

describe("memory: the size of a model file", () => {
  it("of all parts where it is split, and nothing where there is none", () => {
    const folder = mkdtempSync(path.join(os.tmpdir(), "cllm-memory-"));
    try {
      const file = (name: string, size: number) => {
        writeFileSync(path.join(folder, name), Buffer.alloc(size));
        return path.join(folder, name);
      };
      assert.equal(modelFileBytes(file("one.gguf", 10)), 10);
      const first = file("m-00001-of-00003.gguf", 1);
      file("m-00002-of-00003.gguf", 20);
      assert.equal(modelFileBytes(first), 21);
      file("m-00003-of-00003.gguf", 300);
      assert.equal(modelFileBytes(first), 321);
      assert.equal(modelFileBytes(path.join(folder, "none.gguf")), 0);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

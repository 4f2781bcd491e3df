import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { CllmError, Model } from "../lib/index.js";
import { writeFixtures } from "./fixtures/gguf.js";
import { behindKey, withF32, withKey, withLongerString, withTensorType, withU32 } from "./fixtures/gguf-patch.js";
import { program } from "./programs.js";

const fixtures = writeFixtures();

describe("model files", () => {
  let directory: string;
  let good: Buffer;
  before(() => {
    directory = fs.mkdtempSync(path.join(os.tmpdir(), "cllm-model-file-"));
    good = fs.readFileSync(fixtures.llama);
  });
  after(() => fs.rmSync(directory, { recursive: true, force: true }));

  async function refuses(bytes: Buffer | string, code: string, message: RegExp): Promise<void> {
    const file = path.join(directory, "bad.gguf");
    fs.writeFileSync(file, bytes);
    await assert.rejects(Model.load(file), (error: CllmError) => {
      assert.ok(error instanceof CllmError);
      assert.equal(error.code, code);
      assert.match(error.message, message);
      assert.ok(error.message.includes(file), error.message);
      return true;
    });
    // The process goes on, and loads the next good file.
    await (await Model.load(fixtures.llama)).dispose();
  }

  it("missing, a directory, a device", async () => {
    const missing = path.join(directory, "no.gguf");
    await assert.rejects(Model.load(missing), {
      name: "CllmError",
      code: "CLLM_MODEL_NOT_FOUND",
      message: `Expected a GGUF file but ${missing} does not exist`,
    });
    await assert.rejects(Model.load(directory), { code: "CLLM_INVALID_MODEL", message: /is a directory/ });
    if (process.platform !== "win32") {
      await assert.rejects(Model.load("/dev/null"), { code: "CLLM_INVALID_MODEL", message: /not a regular file/ });
    }
    for (const [value, name] of [
      [null, "TypeError"],
      [7, "TypeError"],
      ["", "RangeError"],
      ["a\0b", "RangeError"],
    ] as const) {
      await assert.rejects(Model.load(value as string), { name, message: /for path but received/ });
    }
  });

  const formats: [string, string | Buffer, RegExp][] = [
    ["empty", "", /is empty/],
    ["one byte", "G", /ends after 1 bytes/],
    ["the magic alone", "GGUF", /ends after 4 bytes/],
    ["text", "hello, I am not a model at all", /is of another format/],
    ["a zip", "PK\x03\x04aaaaaaaaaaaaaaaaaaaaaaaa", /zip archive/],
    ["HTML", "<!DOCTYPE html><html><body>Not found", /HTML page/],
    ["safetensors", Buffer.concat([Buffer.alloc(8, 1), Buffer.from('{"__metadata__":{}}       ')]), /safetensors/],
    ["old GGML", "tjgg\x03aaaaaaaaaaaaaaaaaaaaaaaaaa", /GGML file of before/],
    ["a pickle", Buffer.concat([Buffer.from([0x80, 2]), Buffer.alloc(40)]), /Python pickle/],
    ["JSON", '{"architectures": ["LlamaForCausalLM"]}', /JSON file/],
    ["a Git LFS pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", /Git LFS pointer/],
  ];
  for (const [name, bytes, message] of formats) {
    it(name, () => refuses(bytes, "CLLM_INVALID_MODEL", message));
  }

  it("versions and byte order", async () => {
    for (const version of [0, 1, 4, 1000]) {
      const bytes = Buffer.from(good);
      bytes.writeUInt32LE(version, 4);
      await refuses(bytes, "CLLM_INVALID_MODEL", version === 0 ? /byte order/ : new RegExp(`GGUF version ${version} `));
    }
    const swapped = Buffer.from(good);
    swapped.writeUInt32BE(3, 4);
    await refuses(swapped, "CLLM_INVALID_MODEL", /byte order/);
  });

  it("truncated anywhere", async () => {
    const cuts = new Set([24, 25, 40, 100, 1000, 5000, good.length - 1, good.length - 33]);
    for (let at = 30; at < good.length; at = Math.ceil(at * 1.3)) cuts.add(at);
    for (const at of cuts)
      await refuses(good.subarray(0, at), "CLLM_INVALID_MODEL", /incomplete|damaged|ends|declares/);
  });

  it("counts and lengths that lie, however large", async () => {
    for (const [offset, message] of [
      [8, /declares \d+ tensors/],
      [16, /declares \d+ keys/],
    ] as const) {
      for (const value of [1n << 62n, (1n << 64n) - 1n, 1n << 40n, 100_000n]) {
        const bytes = Buffer.from(good);
        bytes.writeBigUInt64LE(value, offset);
        await refuses(bytes, "CLLM_INVALID_MODEL", message);
      }
    }
    const more = Buffer.from(good);
    more.writeBigUInt64LE(more.readBigUInt64LE(8) + 1n, 8);
    await refuses(more, "CLLM_INVALID_MODEL", /damaged or incomplete/);
    // Lengths of the tokens array, of a string, and of the first key.
    const array = behindKey(good, "tokenizer.ggml.tokens") + 8;
    const string = behindKey(good, "general.architecture") + 4;
    for (const offset of [array, string, 24]) {
      for (const value of [1n << 63n, 1n << 50n, 1n << 31n]) {
        const bytes = Buffer.from(good);
        bytes.writeBigUInt64LE(value, offset);
        await refuses(bytes, "CLLM_INVALID_MODEL", /damaged or incomplete/);
      }
    }
  });

  it("tensor offsets, sizes and types that lie", async () => {
    const at = good.indexOf("output_norm.weight") + "output_norm.weight".length; // u32 dims, u64 ne, u32 type, u64 offset
    const patches: [number, (bytes: Buffer, offset: number) => void][] = [
      [at, (b, o) => b.writeUInt32LE(77, o)],
      [at + 4, (b, o) => b.writeBigUInt64LE(1n << 60n, o)],
      [at + 4, (b, o) => b.writeBigUInt64LE(0n, o)],
      [at + 4, (b, o) => b.writeBigInt64LE(-1n, o)],
      [at + 12, (b, o) => b.writeUInt32LE(4000, o)],
      [at + 16, (b, o) => b.writeBigUInt64LE(1n << 40n, o)],
      [at + 16, (b, o) => b.writeBigUInt64LE(7n, o)],
    ];
    for (const [offset, patch] of patches) {
      const bytes = Buffer.from(good);
      patch(bytes, offset);
      await refuses(bytes, "CLLM_INVALID_MODEL", /damaged or incomplete|ends before tensor/);
    }
  });

  it("architectures nobody knows", async () => {
    const bytes = Buffer.from(good);
    bytes.write("lxxxa", behindKey(good, "general.architecture") + 12);
    await refuses(bytes, "CLLM_UNSUPPORTED_MODEL", /unknown model architecture: 'lxxxa'/);
  });

  const sizes: [string, number, RegExp][] = [
    ["llama.block_count", 0, /llama.block_count = 0, expected 1 to 512/],
    ["llama.block_count", 0xffffffff, /llama.block_count = 4294967295/],
    ["llama.block_count", 3, /missing tensor|blk\.2/],
    ["llama.embedding_length", 0, /embedding_length = 0/],
    ["llama.embedding_length", 63, /does not divide|wrong shape/],
    ["llama.attention.head_count", 3, /does not divide/],
    ["llama.attention.head_count", 0xffffffff, /head_count = 4294967295/],
    ["llama.attention.head_count_kv", 3, /does not divide/],
    ["llama.context_length", 0, /context_length = 0/],
    ["llama.feed_forward_length", 7, /wrong shape/],
  ];
  for (const [key, value, message] of sizes) {
    it(`${key} = ${value}`, () => refuses(withU32(good, key, value), "CLLM_INVALID_MODEL", message));
  }

  it("sizes that llama.cpp would compute with unchecked", async () => {
    const qwen2 = fs.readFileSync(fixtures.qwen2);
    const cases: [Buffer, RegExp][] = [
      [withKey(qwen2, "qwen2.rope.dimension_count", 64), /rope.dimension_count = 64 for heads of 16/],
      [withKey(qwen2, "qwen2.rope.dimension_count", 7), /rope.dimension_count = 7 for heads of 16/],
      [withKey(good, "llama.attention.key_length", 0), /key_length = 0, expected 1 to/],
      [withKey(good, "llama.vocab_size", 0xffffffff), /vocab_size = 4294967295/],
      // This is an assertion of llama.cpp, which throws instead of ending the process.
      [withKey(good, "llama.expert_used_count", 2), /GGML_ASSERT.n_expert_used_max/],
      [withKey(good, "general.alignment", 4), /general.alignment = 4/],
      [withKey(good, "general.alignment", 33), /damaged or incomplete/],
      [withF32(good, "llama.attention.layer_norm_rms_epsilon", -1), /epsilon = -1.0+, expected 0 or more/],
      [withF32(good, "llama.attention.layer_norm_rms_epsilon", Number.NaN), /epsilon = -?nan/],
    ];
    for (const [bytes, message] of cases) await refuses(bytes, "CLLM_INVALID_MODEL", message);
  });

  it("weights of types that the CPU cannot compute with", async () => {
    const I32 = 26;
    for (const [tensor, message] of [
      ["output_norm.weight", /tensor output_norm.weight of type i32, expected f32/],
      ["blk.0.ffn_norm.weight", /type i32, expected f32/],
      ["token_embd.weight", /type i32, expected a float or a quantised type/],
      ["blk.1.attn_k.weight", /type i32, expected a float or a quantised type/],
    ] as const) {
      await refuses(withTensorType(good, tensor, I32), "CLLM_INVALID_MODEL", message);
    }
  });

  it("matrices whose names begin like a vector's may have any type: ssm_alpha and ssm_a", async () => {
    await using model = await Model.load(fixtures.qwen35);
    await using decoder = await model.createDecoder({ contextSize: 64, threads: 1 });
    assert.equal((await decoder.generate("x", { maxTokens: 4 })).tokens.length, 4);
    // ssm_a itself must be F32: I32 has its size.
    const bytes = withTensorType(fs.readFileSync(fixtures.qwen35), "blk.0.ssm_a", 26);
    await refuses(bytes, "CLLM_INVALID_MODEL", /tensor blk.0.ssm_a of type i32, expected f32/);
  });

  it("test/native/model_test.cpp: types of all tensors that llama.cpp knows", () => {
    const child = spawnSync(program("cllm-model-test"), { encoding: "utf8" });
    assert.equal(child.error, undefined);
    assert.equal(child.status, 0, child.stdout);
  });

  it("a token that llama.cpp would blow up to gigabytes", async () => {
    const token = behindKey(good, "tokenizer.ggml.tokens") + 16;
    await refuses(
      withLongerString(good, token, 3200 * 32),
      "CLLM_INVALID_MODEL",
      /absurd length: token 0 has 1024\d\d bytes/,
    );
    // A vocabulary may have a token of this length.
    const file = path.join(directory, "long-token.gguf");
    fs.writeFileSync(file, withLongerString(good, token, 1024));
    await (await Model.load(file)).dispose();
  });

  it("a vocabulary of another size than the embeddings", async () => {
    // The array is one element shorter, so the reader takes its last element for the beginning of the next key.
    const tied = fs.readFileSync(fixtures.llamaTied);
    const at = behindKey(tied, "tokenizer.ggml.scores") + 8;
    const bytes = Buffer.from(tied);
    bytes.writeBigUInt64LE(bytes.readBigUInt64LE(at) - 1n, at);
    await refuses(bytes, "CLLM_INVALID_MODEL", /damaged|scores/);
  });

  it("special tokens outside the vocabulary are ignored, not used", async () => {
    const file = path.join(directory, "special.gguf");
    fs.writeFileSync(file, withU32(good, "tokenizer.ggml.eos_token_id", 4_000_000));
    await using model = await Model.load(file);
    const { eos } = model.specialTokens;
    assert.ok(eos === null || eos < model.info.vocabSize);
    await using decoder = await model.createDecoder({ contextSize: 64, threads: 1 });
    assert.equal((await decoder.generate("x", { maxTokens: 8 })).tokens.length, 8);
  });

  it("weights that are not numbers still decode to tokens of the vocabulary", async () => {
    const bytes = Buffer.from(good);
    for (let at = bytes.length - 200_000; at < bytes.length; at += 4) bytes.writeUInt32LE(0x7fc00000, at);
    const file = path.join(directory, "nan.gguf");
    fs.writeFileSync(file, bytes);
    await using model = await Model.load(file);
    await using decoder = await model.createDecoder({ contextSize: 64, threads: 1, blockSize: 4 });
    const { tokens } = await decoder.generate("x", { maxTokens: 8 });
    for (const token of tokens) assert.ok(token >= 0 && token < model.info.vocabSize);
  });

  it("a split model: whole, without a part, by another part", async () => {
    await (await Model.load(fixtures.split)).dispose();
    const parts = [1, 2, 3].map((i) => fixtures.split.replace("00001-of", `0000${i}-of`));
    await assert.rejects(Model.load(parts[1] as string), {
      code: "CLLM_INVALID_MODEL",
      message: /not the first part.*00001/,
    });
    const copy = path.join(directory, path.basename(fixtures.split));
    fs.copyFileSync(parts[0] as string, copy);
    fs.copyFileSync(parts[1] as string, copy.replace("00001-of", "00002-of"));
    await assert.rejects(Model.load(copy), {
      code: "CLLM_MODEL_NOT_FOUND",
      message: /00003-of-00003.gguf does not exist/,
    });
    // The third part is overwritten with the second.
    const third = copy.replace("00001-of", "00003-of");
    fs.copyFileSync(parts[1] as string, third);
    await assert.rejects(Model.load(copy), { code: "CLLM_INVALID_MODEL", message: /does not say that it is part 3/ });
    const whole = fs.readFileSync(parts[2] as string);
    fs.writeFileSync(third, whole.subarray(0, whole.length - 100));
    await assert.rejects(Model.load(copy), { code: "CLLM_INVALID_MODEL", message: /00003-of-00003.gguf ends before/ });
    fs.renameSync(copy, path.join(directory, "renamed.gguf"));
    await assert.rejects(Model.load(path.join(directory, "renamed.gguf")), { message: /not named like one/ });
  });

  it("aborted loads, and what onProgress throws", async () => {
    await assert.rejects(Model.load(fixtures.llama, { signal: AbortSignal.abort(new Error("no")) }), { message: "no" });
    const controller = new AbortController();
    const loading = Model.load(fixtures.llama, { signal: controller.signal });
    controller.abort(new Error("stop"));
    await assert.rejects(loading, { message: "stop" });
    const failing = Model.load(fixtures.llama, {
      onProgress: () => {
        throw new Error("from onProgress");
      },
    });
    await assert.rejects(failing, { message: "from onProgress" });
    const seen: number[] = [];
    await (await Model.load(fixtures.llama, { onProgress: (fraction) => seen.push(fraction) })).dispose();
    assert.equal(seen.at(-1), 1);
    assert.deepEqual(
      seen,
      [...seen].sort((a, b) => a - b),
    );
  });
});

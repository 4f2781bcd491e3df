// Models with random weights in the shape of real ones, for machines that cannot fetch these. Their answers mean nothing, but
// their passes take as long. A file is written in one stream, in its format, so that 15 GB take a minute and little memory.
import fs from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { step } from "./bench.mjs";

const require = createRequire(import.meta.url);
const gguf = require("../../dist-test/test/fixtures/gguf-writer.js");
const { ALIGNMENT, encodeHeader, f32, halfBits, i32s, strings, text, u32 } = gguf;

const SHAPES = {
  smollm2: {
    title: "SmolLM2-135M",
    architecture: "llama",
    embedding: 576,
    heads: 9,
    headsKv: 3,
    feedForward: 1536,
    layers: 30,
    vocabulary: 49152,
    tiedOutput: true,
    biases: false,
    tokenizer: "smollm",
  },
  qwen2: {
    title: "Qwen2.5-7B",
    architecture: "qwen2",
    embedding: 3584,
    heads: 28,
    headsKv: 4,
    feedForward: 18944,
    layers: 28,
    vocabulary: 152064,
    tiedOutput: false,
    biases: true,
    tokenizer: "qwen2",
  },
};

/** ggml's type id, elements of a block, and bytes of a block. */
const FORMATS = {
  F32: { id: 0, block: 1, bytes: 4 },
  F16: { id: 1, block: 1, bytes: 2 },
  Q4_0: { id: 2, block: 32, bytes: 18 },
  Q8_0: { id: 8, block: 32, bytes: 34 },
  Q4_K: { id: 12, block: 256, bytes: 144 },
  BF16: { id: 30, block: 1, bytes: 2 },
};
/** Random weights repeat after so many: enough that no two rows of a matrix are alike. */
const POOL_WEIGHTS = 1 << 22;

/** [{ format, file }] for `formats` as in "F16,Q4_0", written once below the system's temporary directory. */
export async function syntheticModels(formats, shapeName = "smollm2") {
  const shape = SHAPES[shapeName];
  if (!shape) throw new Error(`Expected a shape of ${Object.keys(SHAPES).join(", ")} but received ${shapeName}`);
  const folder = path.join(os.tmpdir(), `cllm-bench-synthetic-${shapeName}`);
  fs.mkdirSync(folder, { recursive: true });
  return formats
    .toUpperCase()
    .split(",")
    .map((format) => {
      if (!FORMATS[format]) {
        throw new Error(`Expected formats of ${Object.keys(FORMATS).join(", ")} but received ${format}`);
      }
      const file = path.join(folder, `${format}.gguf`);
      if (!fs.existsSync(file)) {
        step(`Writing random weights of ${shape.title}'s shape in ${format}`);
        const temporary = `${file}.${process.pid}`;
        writeModel(temporary, shape, format);
        fs.renameSync(temporary, file);
      }
      return { format, file };
    });
}

function writeModel(file, shape, format) {
  const tensors = tensorsOf(shape, format);
  const output = fs.openSync(file, "w");
  const write = (bytes) => {
    for (let at = 0; at < bytes.length; ) at += fs.writeSync(output, bytes, at);
  };
  try {
    write(encodeHeader(metadataOf(shape), tensors));
    for (const [index, tensor] of tensors.entries()) {
      if (tensor.value === undefined) writeRandom(write, tensor, index, 1 / Math.sqrt(shape.embedding));
      else write(Buffer.from(new Float32Array(tensor.shape[0]).fill(tensor.value).buffer));
      write(Buffer.alloc(-tensor.size & (ALIGNMENT - 1)));
    }
  } finally {
    fs.closeSync(output);
  }
}

function tensorsOf(shape, format) {
  const { embedding, feedForward, vocabulary, layers, heads, headsKv } = shape;
  const keyValue = (embedding / heads) * headsKv;
  const tensors = [];
  const add = (name, sizes, type, value) => {
    const { id, block, bytes } = FORMATS[type];
    const elements = sizes.reduce((product, size) => product * size, 1);
    tensors.push({ name, shape: sizes, type, typeId: id, value, size: (elements / block) * bytes });
  };
  // As llama.cpp's quantiser does, a matrix whose rows are no whole blocks gets another format.
  const matrix = (name, inputs, outputs) =>
    add(`${name}.weight`, [inputs, outputs], inputs % FORMATS[format].block === 0 ? format : "Q8_0");
  const norm = (name) => add(`${name}.weight`, [embedding], "F32", 1);
  const bias = (name, size) => shape.biases && add(`${name}.bias`, [size], "F32", 0.01);
  matrix("token_embd", embedding, vocabulary);
  norm("output_norm");
  if (!shape.tiedOutput) matrix("output", embedding, vocabulary);
  for (let i = 0; i < layers; i++) {
    const layer = `blk.${i}`;
    norm(`${layer}.attn_norm`);
    for (const [name, size] of Object.entries({ attn_q: embedding, attn_k: keyValue, attn_v: keyValue })) {
      matrix(`${layer}.${name}`, embedding, size);
      bias(`${layer}.${name}`, size);
    }
    matrix(`${layer}.attn_output`, embedding, embedding);
    norm(`${layer}.ffn_norm`);
    matrix(`${layer}.ffn_gate`, embedding, feedForward);
    matrix(`${layer}.ffn_up`, embedding, feedForward);
    matrix(`${layer}.ffn_down`, feedForward, embedding);
  }
  return tensors;
}

function metadataOf(shape) {
  const { architecture } = shape;
  const tokens = Array.from({ length: shape.vocabulary }, (_, id) => (id === 0 ? "<|end|>" : `t${id}`));
  return {
    "general.architecture": text(architecture),
    "general.name": text(`random weights of ${shape.title}'s shape`),
    [`${architecture}.block_count`]: u32(shape.layers),
    [`${architecture}.context_length`]: u32(8192),
    [`${architecture}.embedding_length`]: u32(shape.embedding),
    [`${architecture}.feed_forward_length`]: u32(shape.feedForward),
    [`${architecture}.attention.head_count`]: u32(shape.heads),
    [`${architecture}.attention.head_count_kv`]: u32(shape.headsKv),
    [`${architecture}.attention.layer_norm_rms_epsilon`]: f32(1e-5),
    [`${architecture}.rope.freq_base`]: f32(100000),
    "tokenizer.ggml.model": text("gpt2"),
    "tokenizer.ggml.pre": text(shape.tokenizer),
    "tokenizer.ggml.tokens": strings(tokens),
    "tokenizer.ggml.token_type": i32s(tokens.map((_, id) => (id === 0 ? 3 : 1))),
    "tokenizer.ggml.merges": strings([]),
    "tokenizer.ggml.bos_token_id": u32(0),
    "tokenizer.ggml.eos_token_id": u32(0),
  };
}

/** Writes a tensor from the pool of its format, beginning at another place for each tensor. */
function writeRandom(write, { type, size }, index, deviation) {
  const pool = poolOf(type, deviation);
  const { bytes } = FORMATS[type];
  let at = ((index * 7919) % (pool.length / bytes)) * bytes;
  for (let missing = size; missing > 0; at = 0) {
    const part = pool.subarray(at, Math.min(pool.length, at + missing));
    write(part);
    missing -= part.length;
  }
}

const pools = new Map();

/** POOL_WEIGHTS random weights of mean 0 and about the given standard deviation, encoded. */
function poolOf(type, deviation) {
  const key = `${type} ${deviation}`;
  if (!pools.has(key)) pools.set(key, encodePool(type, deviation));
  return pools.get(key);
}

function encodePool(type, deviation) {
  const { block, bytes } = FORMATS[type];
  const pool = Buffer.alloc((POOL_WEIGHTS / block) * bytes);
  const random = generator();
  if (block === 1) {
    const weight = Float32Array.of(0);
    const bits = new Uint32Array(weight.buffer);
    for (let i = 0; i < POOL_WEIGHTS; i++) {
      // The sum of four uniform numbers is close to a normal one, and its variance is 4 / 12.
      weight[0] = ((random() + random() + random() + random()) / 2 ** 32 - 2) * Math.sqrt(3) * deviation;
      if (type === "F32") pool.writeUInt32LE(bits[0], 4 * i);
      else pool.writeUInt16LE(type === "BF16" ? bits[0] >>> 16 : halfBits(weight[0]), 2 * i);
    }
    return pool;
  }
  for (let at = 0; at < pool.length; at++) pool[at] = random() >>> 24;
  for (let at = 0; at < pool.length; at += bytes) {
    // The quants are uniform: 16 values of deviation 4.6, or 256 of deviation 74.
    if (type === "Q4_0") pool.writeUInt16LE(halfBits(deviation / 4.6), at);
    if (type === "Q8_0") pool.writeUInt16LE(halfBits(deviation / 74), at);
    if (type === "Q4_K") writeScales(pool, at, deviation);
  }
  return pool;
}

/** Scales of a Q4_K block: of its eight parts each has scale and minimum 32 to 35, which make the weights' mean 0. */
function writeScales(pool, at, deviation) {
  pool.writeUInt16LE(halfBits(deviation / 4.6 / 32), at);
  pool.writeUInt16LE(halfBits((deviation * 7.5) / 4.6 / 32), at + 2);
  for (let i = 4; i < 16; i++) pool[at + i] = 0x20 | (pool[at + i] & 3);
}

/** A generator of 32-bit numbers, the same in every run. */
function generator() {
  let state = 1;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state;
  };
}

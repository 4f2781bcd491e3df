// A model of SmolLM2-135M's shape with random weights, for machines that cannot fetch one. Its answers mean nothing, but its
// passes take as long as SmolLM2's.
import fs from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { step } from "./bench.mjs";
import { root } from "./machine.mjs";

const require = createRequire(import.meta.url);
const { quantize } = await import("../../dist/esm.mjs");

const EMBD = 576;
const HEADS = 9;
const HEADS_KV = 3;
const FF = 1536;
const LAYERS = 30;
const VOCAB = 49152;

/** Makes [{ format, file }]; the files are written once, below the system's temporary directory. */
export async function syntheticModels(formats) {
  const folder = path.join(os.tmpdir(), "cllm-bench-synthetic-135m");
  fs.mkdirSync(folder, { recursive: true });
  const original = path.join(folder, "F32.gguf");
  if (!fs.existsSync(original)) {
    step("Making a model of SmolLM2-135M's shape with random weights");
    const temporary = `${original}.${process.pid}`;
    fs.writeFileSync(temporary, encodeModel());
    fs.renameSync(temporary, original);
  }
  const files = [];
  for (const format of formats.toUpperCase().split(",")) {
    const file = path.join(folder, `${format}.gguf`);
    if (!fs.existsSync(file)) await quantize(original, file, format);
    files.push({ format, file });
  }
  return files;
}

function encodeModel() {
  const { encodeGguf, f32, i32s, strings, text, u32 } = require(
    path.join(root, "dist-test", "test", "fixtures", "gguf-writer.js"),
  );
  const random = weights();
  const tensors = [];
  const matrix = (name, inputs, outputs) =>
    tensors.push({ name, shape: [inputs, outputs], data: random(inputs * outputs, 1 / Math.sqrt(inputs)) });
  const ones = (name) => tensors.push({ name, shape: [EMBD], data: new Float32Array(EMBD).fill(1) });
  const kv = (EMBD / HEADS) * HEADS_KV;
  matrix("token_embd.weight", EMBD, VOCAB);
  ones("output_norm.weight");
  for (let i = 0; i < LAYERS; i++) {
    const layer = `blk.${i}`;
    ones(`${layer}.attn_norm.weight`);
    matrix(`${layer}.attn_q.weight`, EMBD, EMBD);
    matrix(`${layer}.attn_k.weight`, EMBD, kv);
    matrix(`${layer}.attn_v.weight`, EMBD, kv);
    matrix(`${layer}.attn_output.weight`, EMBD, EMBD);
    ones(`${layer}.ffn_norm.weight`);
    matrix(`${layer}.ffn_gate.weight`, EMBD, FF);
    matrix(`${layer}.ffn_up.weight`, EMBD, FF);
    matrix(`${layer}.ffn_down.weight`, FF, EMBD);
  }
  const tokens = Array.from({ length: VOCAB }, (_, id) => (id === 0 ? "<|end|>" : `t${id}`));
  const metadata = {
    "general.architecture": text("llama"),
    "general.name": text("random weights of SmolLM2-135M's shape"),
    "llama.block_count": u32(LAYERS),
    "llama.context_length": u32(8192),
    "llama.embedding_length": u32(EMBD),
    "llama.feed_forward_length": u32(FF),
    "llama.attention.head_count": u32(HEADS),
    "llama.attention.head_count_kv": u32(HEADS_KV),
    "llama.attention.layer_norm_rms_epsilon": f32(1e-5),
    "llama.rope.freq_base": f32(100000),
    "tokenizer.ggml.model": text("gpt2"),
    "tokenizer.ggml.pre": text("smollm"),
    "tokenizer.ggml.tokens": strings(tokens),
    "tokenizer.ggml.token_type": i32s(tokens.map((_, id) => (id === 0 ? 3 : 1))),
    "tokenizer.ggml.merges": strings([]),
    "tokenizer.ggml.bos_token_id": u32(0),
    "tokenizer.ggml.eos_token_id": u32(0),
  };
  return encodeGguf(metadata, tensors);
}

/** Normally distributed values come from a table, because 135 million draws would take a minute. */
function weights() {
  let state = 1;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 1) / 4294967297;
  };
  const table = Float32Array.from({ length: 1_000_003 }, () => {
    return Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  });
  let at = 0;
  return (count, deviation) => {
    const data = new Float32Array(count);
    for (let i = 0; i < count; i++) {
      data[i] = table[at] * deviation;
      at = at + 1 === table.length ? 0 : at + 1;
    }
    return data;
  };
}

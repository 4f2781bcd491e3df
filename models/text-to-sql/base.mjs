// The untrained model, a GGUF file with random weights:
//   node models/text-to-sql/base.mjs --out base.gguf [--layers 6] [--width 256] [--heads 4] [--kv-heads 2] [--hidden 608]
// It needs a built checkout (`npm run build`), because it writes the file with the tests' GGUF writer.
import fs from "node:fs";
import { createRequire } from "node:module";
import { parseArgs } from "node:util";
import { Random } from "./schemas.mjs";
import { END, SPECIAL, vocabulary } from "./tokenizer.mjs";

const require = createRequire(import.meta.url);
const gguf = require("../../dist-test/test/fixtures/gguf-writer.js");
const { bool, f32, i32s, strings, text, u32 } = gguf;

const CONTEXT = 1024;
// Tables as the system message, a question as the user's; SQL as the answer.
const TEMPLATE =
  "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] | trim + '\\n' }}" +
  "{% elif message['role'] == 'user' %}{{ 'question: ' + message['content'] | trim + '\\n' }}" +
  "{% else %}{{ 'sql:\\n' + message['content'] + '<|end|>\\n' }}{% endif %}{% endfor %}" +
  "{% if add_generation_prompt %}{{ 'sql:\\n' }}{% endif %}";

const { values } = parseArgs({
  options: {
    out: { type: "string" },
    layers: { type: "string", default: "6" },
    width: { type: "string", default: "256" },
    heads: { type: "string", default: "4" },
    "kv-heads": { type: "string", default: "2" },
    hidden: { type: "string", default: "608" },
    seed: { type: "string", default: "1" },
  },
});
if (!values.out) throw new Error("Expected --out FILE");
const [layers, width, heads, kvHeads, hidden] = ["layers", "width", "heads", "kv-heads", "hidden"].map(
  (n) => +values[n],
);
const size = width / heads;
const random = new Random(+values.seed);

/** Normally distributed numbers, by Box and Muller. */
function normal(count, deviation) {
  const data = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const u = (random.int(2 ** 30) + 1) / 2 ** 30;
    data[i] = deviation * Math.sqrt(-2 * Math.log(u)) * Math.cos((2 * Math.PI * random.int(2 ** 30)) / 2 ** 30);
  }
  return data;
}

const { tokens, merges } = vocabulary();
const tensors = [];
const matrix = (name, columns, rows, deviation = 0.02) =>
  tensors.push({ name, shape: [columns, rows], data: normal(columns * rows, deviation) });
const ones = (name) => tensors.push({ name, shape: [width], data: new Float32Array(width).fill(1) });

matrix("token_embd.weight", width, tokens.length);
for (let layer = 0; layer < layers; layer++) {
  const name = (part) => `blk.${layer}.${part}.weight`;
  const residual = 0.02 / Math.sqrt(2 * layers);
  ones(name("attn_norm"));
  matrix(name("attn_q"), width, width);
  matrix(name("attn_k"), width, kvHeads * size);
  matrix(name("attn_v"), width, kvHeads * size);
  matrix(name("attn_output"), width, width, residual);
  ones(name("ffn_norm"));
  matrix(name("ffn_gate"), width, hidden);
  matrix(name("ffn_up"), width, hidden);
  matrix(name("ffn_down"), hidden, width, residual);
}
ones("output_norm.weight");

const control = 3; // llama_token_type
const unused = 5;
const type = (token, id) => (id < SPECIAL.length ? control : token.startsWith("<|unused") ? unused : 1);
const metadata = {
  "general.architecture": text("llama"),
  "general.name": text("node-cllm text-to-SQL"),
  "general.description": text("Questions about tables that are given in the prompt, to SQL"),
  "general.license": text("mit"),
  "general.file_type": u32(0),
  "llama.block_count": u32(layers),
  "llama.context_length": u32(CONTEXT),
  "llama.embedding_length": u32(width),
  "llama.feed_forward_length": u32(hidden),
  "llama.attention.head_count": u32(heads),
  "llama.attention.head_count_kv": u32(kvHeads),
  "llama.attention.layer_norm_rms_epsilon": f32(1e-5),
  "llama.rope.dimension_count": u32(size),
  "llama.rope.freq_base": f32(10000),
  "llama.vocab_size": u32(tokens.length),
  "tokenizer.ggml.model": text("gpt2"),
  "tokenizer.ggml.pre": text("command-r"),
  "tokenizer.ggml.tokens": strings(tokens),
  "tokenizer.ggml.token_type": i32s(tokens.map(type)),
  "tokenizer.ggml.merges": strings(merges),
  "tokenizer.ggml.bos_token_id": u32(END),
  "tokenizer.ggml.eos_token_id": u32(END),
  "tokenizer.ggml.padding_token_id": u32(0),
  "tokenizer.ggml.add_bos_token": bool(false),
  "tokenizer.chat_template": text(TEMPLATE),
};
fs.writeFileSync(values.out, gguf.encodeGguf(metadata, tensors));

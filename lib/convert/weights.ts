import fs from "node:fs/promises";
import { CllmError } from "../errors.js";
import type { Config } from "./config.js";
import { append, type GgufTensor, padding } from "./gguf-writer.js";
import { unreadable } from "./json-files.js";
import { invalid } from "./refusals.js";
import { DTYPE_BYTES, type Dtype, isComputed, type StoredTensor } from "./safetensors.js";

/** A tensor to be written: what it is called in the GGUF file, and where its elements come from. */
export interface Weight extends GgufTensor {
  from: StoredTensor | Float32Array;
  /** Rows of a head whose halves are interleaved, or 0 where the rows stay as they are. */
  interleave: number;
}

/** Names in a layer: of the checkpoint, of the GGUF file, and the sizes of the weight. */
type LayerTensor = [from: string, to: string, rows: (c: Config) => number, columns?: (c: Config) => number];

const embedding = (c: Config): number => c.embedding;
const queries = (c: Config): number => c.heads * c.headSize;
const keys = (c: Config): number => c.headsKv * c.headSize;
const feedForward = (c: Config): number => c.feedForward;
const headSize = (c: Config): number => c.headSize;

const LAYER: LayerTensor[] = [
  ["input_layernorm", "attn_norm", embedding],
  ["self_attn.q_proj", "attn_q", queries, embedding],
  ["self_attn.k_proj", "attn_k", keys, embedding],
  ["self_attn.v_proj", "attn_v", keys, embedding],
  ["self_attn.o_proj", "attn_output", embedding, queries],
  ["post_attention_layernorm", "ffn_norm", embedding],
  ["mlp.gate_proj", "ffn_gate", feedForward, embedding],
  ["mlp.up_proj", "ffn_up", feedForward, embedding],
  ["mlp.down_proj", "ffn_down", embedding, feedForward],
];
const HEAD_NORMS: LayerTensor[] = [
  ["self_attn.q_norm", "attn_q_norm", headSize],
  ["self_attn.k_norm", "attn_k_norm", headSize],
];

/** Weights that may have a bias. */
const BIASES: Record<Config["architecture"], { allowed: RegExp; required: boolean }> = {
  llama: { allowed: /_proj$/, required: false },
  qwen2: { allowed: /\.[qkv]_proj$/, required: true },
  qwen3: { allowed: /^$/, required: false },
};

/**
 * Lists the tensors of the GGUF file, in its order. Each one that the architecture has must be there in its shape, and none
 * may be left over.
 *
 * @throws {@link CllmError} `CLLM_INVALID_MODEL`, `CLLM_UNSUPPORTED_MODEL`
 */
export function planWeights(
  where: string,
  config: Config,
  stored: ReadonlyMap<string, StoredTensor>,
  type: Dtype,
  ropeFactors: Float32Array | null,
): Weight[] {
  const left = new Map(stored);
  const weights: Weight[] = [];
  const take = (from: string, to: string, shape: number[], isRequired = true, interleave = 0): void => {
    const tensor = left.get(from);
    left.delete(from);
    if (tensor === undefined) {
      if (isRequired) throw invalid(where, `the tensor ${from} is missing`);
      return;
    }
    if (tensor.shape.join() !== shape.join()) {
      throw invalid(where, `the tensor ${from} has the shape [${tensor.shape}], but config.json asks for [${shape}]`);
    }
    // Norms and biases are small and decide much, so they are always F32.
    const as = shape.length > 1 ? type : "F32";
    const bytes = shape.reduce((product, extent) => product * extent, DTYPE_BYTES[as]);
    weights.push({ name: to, shape: shape.toReversed(), type: as, bytes, from: tensor, interleave });
  };
  const { architecture, vocab } = config;
  take("model.embed_tokens.weight", "token_embd.weight", [vocab, config.embedding]);
  take("model.norm.weight", "output_norm.weight", [config.embedding]);
  if (config.tied) left.delete("lm_head.weight");
  else take("lm_head.weight", "output.weight", [vocab, config.embedding]);
  if (ropeFactors !== null) {
    const shape = [ropeFactors.length];
    weights.push({
      name: "rope_freqs.weight",
      shape,
      type: "F32",
      bytes: ropeFactors.byteLength,
      from: ropeFactors,
      interleave: 0,
    });
  }
  const biases = BIASES[architecture];
  for (let layer = 0; layer < config.layers; layer++) {
    for (const [from, to, rows, columns] of [...LAYER, ...(architecture === "qwen3" ? HEAD_NORMS : [])]) {
      // llama.cpp turns neighbouring elements of a head in Llama, and in the others the first half with the second.
      const interleave = architecture === "llama" && /\.[qk]_proj$/.test(from) ? config.headSize : 0;
      const source = `model.layers.${layer}.${from}`;
      const shape = columns === undefined ? [rows(config)] : [rows(config), columns(config)];
      take(`${source}.weight`, `blk.${layer}.${to}.weight`, shape, true, interleave);
      if (!biases.allowed.test(from)) continue;
      take(`${source}.bias`, `blk.${layer}.${to}.bias`, [rows(config)], biases.required, interleave);
    }
  }
  const rest = [...left.keys()].filter((name) => !isComputed(name));
  if (rest.length > 0) {
    throw new CllmError(
      "CLLM_UNSUPPORTED_MODEL",
      `${where} cannot be converted: it has ${rest.length} tensors that ${architecture} has no place for, such as ${rest[0]}.`,
    );
  }
  return weights;
}

/** Bytes that are read, converted and written together. */
const CHUNK_BYTES = 8 << 20;

/** Writes the tensors behind the header, converted to their types. */
export async function writeWeights(
  handle: fs.FileHandle,
  weights: readonly Weight[],
  onBytes: (written: number) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  let written = 0;
  for (const weight of weights) {
    for await (const chunk of chunksOf(weight)) {
      signal?.throwIfAborted();
      await append(handle, chunk);
      written += chunk.length;
      onBytes(written);
    }
    await append(handle, Buffer.alloc(padding(weight.bytes)));
  }
}

async function* chunksOf({ name, from, type, interleave }: Weight): AsyncGenerator<Buffer> {
  if (from instanceof Float32Array) {
    yield Buffer.from(from.buffer);
    return;
  }
  const rows = from.shape[0] as number;
  const rowBytes = from.shape.length > 1 ? from.bytes / rows : DTYPE_BYTES[from.dtype];
  const unit = Math.max(interleave, 1);
  const together = unit * Math.max(1, Math.floor(CHUNK_BYTES / (unit * rowBytes)));
  const handle = await fs.open(from.file, "r").catch((cause: unknown) => {
    throw unreadable(from.file, cause);
  });
  try {
    for (let row = 0; row < rows; row += together) {
      const bytes = Buffer.from(new ArrayBuffer(Math.min(together, rows - row) * rowBytes)); // aligned for typed arrays
      const { bytesRead } = await handle.read(bytes, 0, bytes.length, from.offset + row * rowBytes);
      if (bytesRead !== bytes.length) throw invalid(from.file, "it became shorter while it was read");
      checkFinite(bytes, from);
      const ordered = interleave > 0 ? interleaved(bytes, rowBytes, interleave) : bytes;
      yield converted(ordered, from.dtype, type as Dtype, name);
    }
  } finally {
    await handle.close();
  }
}

/** Refuses NaN and infinity, whose exponents are all ones. */
function checkFinite(bytes: Buffer, { dtype, name, file }: StoredTensor): void {
  const words =
    dtype === "F32"
      ? new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)
      : new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
  const exponent = { F32: 0x7f800000, F16: 0x7c00, BF16: 0x7f80 }[dtype];
  for (let i = 0; i < words.length; i++) {
    if (((words[i] as number) & exponent) === exponent)
      throw invalid(file, `the tensor ${name} has values that are no numbers`);
  }
}

/** Puts row i of the first half of each head before row i of its second half. */
function interleaved(bytes: Buffer, rowBytes: number, headRows: number): Buffer {
  const out = Buffer.alloc(bytes.length);
  const half = headRows / 2;
  for (let row = 0; row * rowBytes < bytes.length; row++) {
    const inHead = row % headRows;
    const to = row - inHead + (inHead < half ? 2 * inHead : 2 * (inHead - half) + 1);
    bytes.copy(out, to * rowBytes, row * rowBytes, (row + 1) * rowBytes);
  }
  return out;
}

function converted(bytes: Buffer, from: Dtype, to: Dtype, name: string): Buffer {
  if (from === to) return bytes;
  const floats = toFloats(bytes, from);
  if (to === "F32") return Buffer.from(floats.buffer, floats.byteOffset, floats.byteLength);
  const words = new Uint32Array(floats.buffer, floats.byteOffset, floats.length);
  const out = new Uint16Array(words.length);
  if (to === "BF16") for (let i = 0; i < out.length; i++) out[i] = bf16Bits(words[i] as number);
  else for (let i = 0; i < out.length; i++) out[i] = f16Bits(words[i] as number, name);
  return Buffer.from(out.buffer);
}

function toFloats(bytes: Buffer, from: Dtype): Float32Array {
  // A buffer of Node's pool begins anywhere, a typed array only at a multiple of its elements.
  const memory = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) as ArrayBuffer;
  if (from === "F32") return new Float32Array(memory);
  const halves = new Uint16Array(memory);
  const words = new Uint32Array(halves.length);
  if (from === "BF16") for (let i = 0; i < words.length; i++) words[i] = (halves[i] as number) << 16;
  else for (let i = 0; i < words.length; i++) words[i] = f32BitsOfHalf(halves[i] as number);
  return new Float32Array(words.buffer);
}

/** The bits of the nearest BF16, ties to even. */
function bf16Bits(bits: number): number {
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** The bits of the nearest F16, ties to even. */
function f16Bits(bits: number, name: string): number {
  const sign = (bits >>> 16) & 0x8000;
  const size = bits & 0x7fffffff;
  if (size >= 0x477ff000) {
    // 65520 and more round to infinity.
    throw new CllmError(
      "CLLM_UNSUPPORTED_MODEL",
      `The tensor ${name} has values too large for F16. Choose the type BF16.`,
    );
  }
  if (size < 0x38800000) {
    // Below 2^-14 the steps of an F16 are 2^-24: the value over that, rounded to an integer, is its bits.
    const steps = toFloat(size) * 2 ** 24;
    const whole = Math.floor(steps);
    const rest = steps - whole;
    return sign | (whole + (rest > 0.5 || (rest === 0.5 && (whole & 1) === 1) ? 1 : 0));
  }
  return sign | ((size - 0x38000000 + 0xfff + ((size >>> 13) & 1)) >>> 13);
}

function f32BitsOfHalf(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >>> 10) & 31;
  const fraction = half & 0x3ff;
  if (exponent > 0) return (sign | ((exponent + 112) << 23) | (fraction << 13)) >>> 0;
  return (sign | toBits(fraction * 2 ** -24)) >>> 0;
}

const scratch = new DataView(new ArrayBuffer(4));

function toFloat(bits: number): number {
  scratch.setUint32(0, bits);
  return scratch.getFloat32(0);
}

function toBits(value: number): number {
  scratch.setFloat32(0, value);
  return scratch.getUint32(0);
}

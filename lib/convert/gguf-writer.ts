import type fs from "node:fs/promises";

/**
 * Writes GGUF version 3 (ggml/include/gguf.h in llama.cpp): the header with keys and tensors, and then the tensors one by
 * one, so that no more than a part of one is in memory.
 */

export type GgufValue =
  | { type: "u32" | "i32" | "f32"; value: number }
  | { type: "bool"; value: boolean }
  | { type: "string"; value: string | Buffer }
  | { type: "strings"; value: readonly (string | Buffer)[] }
  | { type: "i32s" | "f32s"; value: readonly number[] };

/** ggml's numbers of the types that are written. */
export const GGML_TYPES = { F32: 0, F16: 1, BF16: 30 } as const;

export interface GgufTensor {
  name: string;
  /** Sizes in ggml's order: the first dimension is the contiguous one. */
  shape: readonly number[];
  type: keyof typeof GGML_TYPES;
  bytes: number;
}

const ALIGNMENT = 32;
const VALUE_IDS = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 } as const;

/** The header, padded to where the data begin. Tensors follow in their order, each padded by {@link padding}. */
export function encodeHeader(keys: ReadonlyMap<string, GgufValue>, tensors: readonly GgufTensor[]): Buffer {
  const parts: Buffer[] = [Buffer.from("GGUF"), u32(3), u64(tensors.length), u64(keys.size)];
  // A vocabulary is more values than a call takes as arguments.
  for (const [key, value] of keys) parts.push(string(key), Buffer.concat(encodeValue(value)));
  let offset = 0;
  for (const { name, shape, type, bytes } of tensors) {
    parts.push(string(name), u32(shape.length), ...shape.map(u64), u32(GGML_TYPES[type]), u64(offset));
    offset += bytes + padding(bytes);
  }
  const header = Buffer.concat(parts);
  return Buffer.concat([header, Buffer.alloc(padding(header.length))]);
}

/** How many zero bytes follow a tensor. */
export function padding(bytes: number): number {
  return (ALIGNMENT - (bytes % ALIGNMENT)) % ALIGNMENT;
}

/** Writes all of a buffer at the file's end. */
export async function append(handle: fs.FileHandle, buffer: Buffer): Promise<void> {
  for (let done = 0; done < buffer.length; ) done += (await handle.write(buffer, done)).bytesWritten;
}

function encodeValue(item: GgufValue): Buffer[] {
  switch (item.type) {
    case "strings":
      return [u32(VALUE_IDS.array), u32(VALUE_IDS.string), u64(item.value.length), ...item.value.map(string)];
    case "i32s":
    case "f32s": {
      const isFloat = item.type === "f32s";
      const data = isFloat ? Float32Array.from(item.value) : Int32Array.from(item.value);
      const id = isFloat ? VALUE_IDS.f32 : VALUE_IDS.i32;
      return [u32(VALUE_IDS.array), u32(id), u64(data.length), Buffer.from(data.buffer)];
    }
    case "string":
      return [u32(VALUE_IDS.string), string(item.value)];
    case "bool":
      return [u32(VALUE_IDS.bool), Buffer.from([item.value ? 1 : 0])];
    case "f32":
      return [u32(VALUE_IDS.f32), Buffer.from(Float32Array.of(item.value).buffer)];
    default:
      return [u32(VALUE_IDS[item.type]), u32(item.value >>> 0)];
  }
}

function u32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(value);
  return buffer;
}

function u64(value: number): Buffer {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64LE(BigInt(value));
  return buffer;
}

function string(value: string | Buffer): Buffer {
  const bytes = typeof value === "string" ? Buffer.from(value) : value;
  return Buffer.concat([u64(bytes.length), bytes]);
}

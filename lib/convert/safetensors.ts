import fs from "node:fs/promises";
import path from "node:path";
import { CllmError } from "../errors.js";
import { safeName } from "../pull/source.js";
import { isRecord, readJson, show, unreadable } from "./json-files.js";
import { invalid } from "./refusals.js";

/** Weights' types that are read; the others of the format are refused by name. */
export type Dtype = "F32" | "F16" | "BF16";

export const DTYPE_BYTES: Record<Dtype, number> = { F32: 4, F16: 2, BF16: 2 };

/** A tensor of a checkpoint, as it lies in its file. */
export interface StoredTensor {
  name: string;
  dtype: Dtype;
  /** Sizes in PyTorch's order: the last dimension is the contiguous one. */
  shape: readonly number[];
  file: string;
  /** Where its bytes begin in the file, and how many they are. */
  offset: number;
  bytes: number;
}

const INDEX = "model.safetensors.index.json";
const SINGLE = "model.safetensors";
/** The format's own limit on a header. */
const MAX_HEADER = 100_000_000;

/** Names of the files with weights that a checkpoint has, by its index where it has one. `read` gives an absent file as null. */
export async function weightFiles(where: string, read: (file: string) => Promise<unknown>): Promise<string[]> {
  const index = await read(INDEX);
  if (index === null) return [SINGLE];
  return [...new Set(Object.values(weightMap(where, index)))].sort();
}

/**
 * Reads the headers of a checkpoint's safetensors: one file, or the shards that an index names. Every tensor lies within
 * its file, has as many bytes as its shape asks for, and is where the index says.
 *
 * @throws {@link CllmError} `CLLM_INVALID_MODEL`, `CLLM_UNSUPPORTED_MODEL` for pickled weights.
 */
export async function readCheckpoint(folder: string): Promise<Map<string, StoredTensor>> {
  const index = await readJson(folder, INDEX);
  const files = await weightFiles(folder, async () => index);
  const names = await fs.readdir(folder).catch((cause: unknown) => {
    throw unreadable(folder, cause);
  });
  const there = new Set(names);
  const missing = files.filter((file) => !there.has(file));
  if (missing.length > 0) {
    refusePickles(folder, there);
    throw invalid(
      folder,
      files.length === 1 && index === null
        ? `there is no ${SINGLE} in it, nor an ${INDEX}`
        : `its index names files that are missing: ${missing.join(", ")}`,
    );
  }
  const tensors = new Map<string, StoredTensor>();
  for (const file of files) {
    for (const tensor of await readHeader(path.join(folder, file))) {
      if (tensors.has(tensor.name)) throw invalid(folder, `the tensor ${tensor.name} is in it twice`);
      tensors.set(tensor.name, tensor);
    }
  }
  if (index === null) return tensors;
  const map = weightMap(folder, index);
  for (const [name, file] of Object.entries(map)) {
    if (path.basename(tensors.get(name)?.file ?? "") !== file) {
      throw invalid(folder, `its index says that the tensor ${name} is in ${file}, but it is not`);
    }
  }
  for (const name of tensors.keys()) {
    if (!Object.hasOwn(map, name)) throw invalid(folder, `the tensor ${name} is in a shard but not in its index`);
  }
  return tensors;
}

/** Weights of PyTorch's own format are programs: reading them runs what they say. */
export function refusePickles(where: string, names: Iterable<string>): void {
  const pickle = [...names].find(
    (name) => /\.(bin|pt|pth|ckpt|pkl)(\.index\.json)?$/.test(name) && !/^training/.test(name),
  );
  if (pickle === undefined) return;
  throw new CllmError(
    "CLLM_UNSUPPORTED_MODEL",
    `The weights of ${where} are pickled (${pickle}). Such a file is a program that runs when it is read, so it is not read ` +
      "here. Use a revision of the model with safetensors: Hugging Face often has one as a pull request " +
      "(hf:owner/repo@refs/pr/1), or save the model again with safe_serialization=True.",
  );
}

function weightMap(where: string, index: unknown): Record<string, string> {
  const map = isRecord(index) ? index.weight_map : undefined;
  if (!isRecord(map)) throw invalid(where, `${INDEX} has no weight_map`);
  for (const [name, file] of Object.entries(map)) {
    if (typeof file !== "string" || !file.endsWith(".safetensors") || safeName(file) !== file) {
      throw invalid(where, `${INDEX} names no safetensors file beside it for the tensor ${name}`);
    }
  }
  return map as Record<string, string>;
}

async function readHeader(file: string): Promise<StoredTensor[]> {
  const stat = await fs.stat(file).catch((cause: unknown) => {
    throw unreadable(file, cause);
  });
  if (!stat.isFile()) throw invalid(file, "it is no regular file");
  const handle = await fs.open(file, "r").catch((cause: unknown) => {
    throw unreadable(file, cause);
  });
  try {
    const { size } = await handle.stat();
    const start = Buffer.alloc(8);
    const { bytesRead } = await handle.read(start, 0, 8, 0);
    const length = bytesRead === 8 ? start.readBigUInt64LE() : 0n;
    if (length < 2n || length > MAX_HEADER || 8n + length > BigInt(size)) {
      throw invalid(file, bytesRead === 8 && length <= MAX_HEADER ? "it is cut off" : "it is no safetensors file");
    }
    const text = Buffer.alloc(Number(length));
    await handle.read(text, 0, text.length, 8);
    return parseHeader(file, text.toString("utf8"), 8 + text.length, size);
  } finally {
    await handle.close();
  }
}

function parseHeader(file: string, text: string, dataStart: number, size: number): StoredTensor[] {
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch {
    throw invalid(file, "its header is no JSON");
  }
  if (!isRecord(header)) throw invalid(file, "its header is no object");
  const tensors: StoredTensor[] = [];
  const places: [number, number][] = [];
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const { dtype, shape, data_offsets: offsets } = isRecord(entry) ? entry : {};
    if (!isSizes(shape) || !isSizes(offsets) || offsets.length !== 2 || typeof dtype !== "string") {
      throw invalid(file, `the entry of the tensor ${name} has no type, shape or place`);
    }
    places.push(offsets as [number, number]);
    if (!Object.hasOwn(DTYPE_BYTES, dtype)) {
      // Position ids and the like, which are computed and not stored weights, may have any type.
      if (isComputed(name)) continue;
      throw new CllmError(
        "CLLM_UNSUPPORTED_MODEL",
        `The tensor ${name} of ${file} has the type ${show(dtype)}; F32, F16 and BF16 are converted. A quantised checkpoint has to ` +
          "be converted from the model that it was made of.",
      );
    }
    const [begin, end] = offsets as [number, number];
    const elements = shape.reduce((product, extent) => product * extent, 1);
    const bytes = elements * DTYPE_BYTES[dtype as Dtype];
    if (begin > end || dataStart + end > size)
      throw invalid(file, `the tensor ${name} lies beyond the end; it is cut off`);
    if (end - begin !== bytes) {
      throw invalid(file, `the tensor ${name} has ${end - begin} bytes, but its shape [${shape}] asks for ${bytes}`);
    }
    tensors.push({ name, dtype: dtype as Dtype, shape, file, offset: dataStart + begin, bytes });
  }
  checkTiling(file, places, size - dataStart);
  return tensors;
}

/** As the format asks for, each byte belongs to one tensor. So a name that stands twice in the header is found too. */
function checkTiling(file: string, places: readonly [number, number][], size: number): void {
  let end = 0;
  for (const place of places.toSorted((a, b) => a[0] - b[0] || a[1] - b[1])) {
    if (place[0] !== end) throw invalid(file, "its tensors overlap, or leave a gap");
    end = place[1];
  }
  if (end !== size) throw invalid(file, "it has bytes that belong to no tensor");
}

/** Tensors that old checkpoints hold although they are computed. */
export function isComputed(name: string): boolean {
  return /\.(rotary_emb\.inv_freq|attention\.bias|attention\.masked_bias|position_ids)$/.test(name);
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((each) => Number.isSafeInteger(each) && each >= 0);
}

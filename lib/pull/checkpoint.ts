import fs from "node:fs/promises";
import path from "node:path";
import { CllmError } from "../errors.js";
import { cacheDirectory, sizeOf, storageError } from "./cache.js";
import { download } from "./download.js";
import { fetchText } from "./fetch-text.js";
import { cachedFile, cachedOr, huggingFaceTarget, type PullOptions, reporter } from "./pull.js";
import { displayUrl, parseRepository, type Repository, safeName } from "./source.js";

/** Where the names of a checkpoint's files are written down once all of them are there. */
const CHECKPOINT_FILES = "checkpoint-files.json";

/**
 * Brings the files of a checkpoint into the cache, those that `choose` takes from the list of all, and resolves to their
 * folder. `source` is `hf:owner/repo[@revision]`. Once all are there no network is needed.
 *
 * `choose` may ask for files that tell which others there are.
 */
export async function pullCheckpoint(
  source: string,
  choose: (names: string[], pull: (name: string) => Promise<string>) => Promise<string[]>,
  options: Pick<PullOptions, "cacheDir" | "onProgress" | "signal">,
): Promise<string> {
  const repository = parseRepository(source);
  const settings = { onProgress: options.onProgress ?? null, signal: options.signal, sha256: null };
  const directory = path.join(path.resolve(options.cacheDir ?? cacheDirectory()), repository.directory);
  const listFile = path.join(directory, CHECKPOINT_FILES);
  if ((await sizeOf(listFile)) !== null) return directory;

  const pullFile = async (name: string): Promise<string> => {
    const final = path.join(directory, name);
    const cached = (): Promise<string | null> => cachedFile(final, null, settings.signal, "");
    return cachedOr(source, final, settings, cached, async () => {
      const target = huggingFaceTarget(source, { ...repository, file: name }, name);
      await download({ ...target, sha256: null, magic: "", kind: "a file" }, final, reporter(name, settings));
      return final;
    });
  };
  const files = await choose(await listRepository(source, repository, settings.signal), pullFile);
  for (const name of files) await pullFile(name);
  await fs.writeFile(listFile, JSON.stringify(files)).catch(async (error: unknown) => {
    throw await storageError(source, listFile, error, 0);
  });
  return directory;
}

/** The names of the files at the top of a repository of Hugging Face. */
async function listRepository(what: string, repository: Repository, signal?: AbortSignal): Promise<string[]> {
  const target = huggingFaceTarget(what, { ...repository, file: "-" }, "-");
  const [owner, repo, revision] = [repository.owner, repository.repo, repository.revision].map(encodeURIComponent);
  const base = target.url.href.slice(0, target.url.href.indexOf(`/${owner}/${repo}/resolve/`));
  const url = new URL(`${base}/api/models/${owner}/${repo}/revision/${revision}`);
  const { text } = await fetchText(what, url, target, "application/json", signal);
  try {
    const { siblings } = JSON.parse(text) as { siblings: { rfilename: string }[] };
    // Files in folders, and names that no file system takes, are none of a checkpoint.
    return siblings.map(({ rfilename }) => rfilename).filter((name) => safeName(name) === name);
  } catch {
    throw new CllmError("CLLM_PULL_FAILED", `Could not pull ${what}: ${displayUrl(url)} sent no list of files.`);
  }
}

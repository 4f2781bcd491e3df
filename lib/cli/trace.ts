import type { Command } from "commander";
import { DEFAULT_BLOCK_SIZE, DEFAULT_EVALUATED_TOKENS, MAX_BLOCK_SIZE } from "../limits.js";
import { trace } from "../trace/trace.js";
import { interruptible, UsageError } from "./exit.js";
import { type Io, write } from "./io.js";
import { withModel } from "./model.js";
import { checkOutputFile, writeOutputFile } from "./output-file.js";
import {
  addPromptArguments,
  asInput,
  checkPromptFlags,
  modelAndPrompt,
  type PromptFlags,
  readPrompt,
} from "./prompt.js";
import { blockSizeOption, maxTokensOption, seedOption, threadsOption } from "./shared-options.js";

interface TraceFlags extends PromptFlags {
  blockSize?: number;
  html?: string;
  json?: boolean;
  maxTokens?: number;
  seed?: number;
  threads?: number;
}

/** Adds `cllm trace`, which writes every iteration of a generation as a page or as JSON. */
export function addTraceCommand(program: Command, io: Io): void {
  addPromptArguments(program.command("trace"))
    .description("every Jacobi iteration of an answer, as a page to step through")
    .option("--html <file>", "write the page: one file that needs nothing else")
    .option("--json", "print everything as one JSON object")
    .addOption(maxTokensOption(`longest answer (default ${DEFAULT_EVALUATED_TOKENS})`))
    .addOption(blockSizeOption(`tokens of a block, 2 to ${MAX_BLOCK_SIZE} (default ${DEFAULT_BLOCK_SIZE})`))
    .addOption(seedOption("seed of the random first draft (default 0)"))
    .addOption(threadsOption)
    .action((model: string | undefined, prompt: string | undefined, flags: TraceFlags) =>
      traceAnswer(model, prompt, flags, io),
    );
}

async function traceAnswer(
  first: string | undefined,
  second: string | undefined,
  flags: TraceFlags,
  io: Io,
): Promise<void> {
  const { html, json, blockSize, maxTokens, seed, threads } = flags;
  if (html === undefined && !json) throw new UsageError("There is no output: give --html FILE or --json.");
  checkPromptFlags(flags);
  if (html !== undefined) await checkOutputFile("--html", html);
  const { source, prompt } = modelAndPrompt(first, second);
  await interruptible(io, async (signal) => {
    const text = await readPrompt(prompt, io, signal);
    await withModel(source, io, { signal }, async (model) => {
      const result = await trace(model, asInput(model, text, flags), { blockSize, maxTokens, seed, threads, signal });
      if (html !== undefined) {
        const { tracePage } = await import("../trace/page.js");
        await writeOutputFile(html, tracePage(result));
        const { emittedTokens, iterations } = result;
        await write(io.stderr, `${html}: ${emittedTokens} tokens in ${iterations.length} iterations\n`);
      }
      if (json) await write(io.stdout, `${JSON.stringify(result)}\n`);
    });
  });
}

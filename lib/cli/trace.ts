import { type TraceOptions, trace } from "../trace/trace.js";
import { writeWhole } from "./files.js";
import { asInput, type PromptFlags, promptAndModel, readPrompt } from "./generate.js";
import { EXIT, type Io, interruptible, UsageError, write } from "./io.js";
import { withModel } from "./model.js";

export interface TraceFlags extends PromptFlags {
  html?: string;
}

/** `cllm trace`: every iteration of a generation, as a page or as JSON. */
export async function traceCommand(
  first: string | undefined,
  second: string | undefined,
  flags: TraceFlags,
  io: Io,
): Promise<number> {
  if (flags.html === undefined && !flags.json) throw new UsageError("There is no output: give --html FILE or --json.");
  return interruptible(io, async (signal) => {
    const { source, prompt } = promptAndModel(first, second);
    const text = await readPrompt(prompt, io, signal);
    await withModel(source, io, signal, async (model) => {
      const options: TraceOptions = {
        blockSize: flags.blockSize === "auto" ? undefined : flags.blockSize,
        maxTokens: flags.maxTokens,
        seed: flags.seed,
        threads: flags.threads,
        signal,
      };
      const result = await trace(model, asInput(model, text, flags), options);
      if (flags.html !== undefined) {
        const { tracePage } = await import("../trace/page.js");
        await writeWhole(flags.html, tracePage(result));
        const { emittedTokens, iterations } = result;
        await write(io.stderr, `${flags.html}: ${emittedTokens} tokens in ${iterations.length} iterations\n`);
      }
      if (flags.json) await write(io.stdout, `${JSON.stringify(result)}\n`);
    });
    return EXIT.ok;
  });
}

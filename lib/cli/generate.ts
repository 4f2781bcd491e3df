import type { Command } from "commander";
import { addDecodingOptions, createDecoder, type DecodingFlags, generateOptions } from "./decoding-options.js";
import { interruptible } from "./exit.js";
import { type Io, write } from "./io.js";
import { withModel } from "./model.js";
import {
  addPromptArguments,
  asInput,
  checkPromptFlags,
  modelAndPrompt,
  type PromptFlags,
  readPrompt,
} from "./prompt.js";
import { describeStats } from "./statistics.js";

type GenerateFlags = DecodingFlags & PromptFlags;

/** Adds `cllm generate`, which answers one prompt on stdout, token by token. */
export function addGenerateCommand(program: Command, io: Io): void {
  addDecodingOptions(addPromptArguments(program.command("generate")))
    .description("answer one prompt")
    .option("--json", "print one JSON object with text, tokens and statistics instead of the text")
    .option("--stats", "print statistics on stderr (default in a terminal)")
    .option("--no-stats", "print no statistics")
    .action((model: string | undefined, prompt: string | undefined, flags: GenerateFlags) =>
      generate(model, prompt, flags, io),
    );
}

function generate(first: string | undefined, second: string | undefined, flags: GenerateFlags, io: Io): Promise<void> {
  const { source, prompt } = modelAndPrompt(first, second);
  checkPromptFlags(flags);
  const answerOptions = generateOptions(flags);
  return interruptible(io, async (signal) => {
    const text = await readPrompt(prompt, io, signal);
    await withModel(source, io, { signal, adapters: flags.adapter }, async (model) => {
      const input = asInput(model, text, flags);
      const options = { ...answerOptions, signal };
      const decoder = await createDecoder(model, flags);
      try {
        if (flags.json) {
          const result = await decoder.generate(input, options);
          await write(io.stdout, `${JSON.stringify({ model: model.path, ...result, decoder: decoder.info })}\n`);
          return;
        }
        const stream = decoder.stream(input, options);
        try {
          for await (const chunk of stream) await write(io.stdout, chunk.text);
        } finally {
          // The shell's prompt belongs on a line of its own, also after Ctrl-C.
          await write(io.stdout, "\n");
        }
        const { stats, finishReason } = await stream.result;
        if (flags.stats ?? io.stderr.isTTY) await write(io.stderr, `\n${describeStats(stats, finishReason)}`);
      } finally {
        await decoder.dispose();
      }
    });
  });
}

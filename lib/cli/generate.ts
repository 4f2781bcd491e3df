import type { GenerateOptions, Input } from "../generate.js";
import type { Model } from "../model.js";
import { EXIT, type Io, interruptible, UsageError, write } from "./io.js";
import { createDecoder, type DecoderFlags, describeStats, withModel } from "./model.js";

export interface GenerateFlags extends DecoderFlags {
  chat?: boolean;
  json?: boolean;
  maxTokens?: number;
  raw?: boolean;
  stats?: boolean;
  stop?: string[];
  system?: string;
  temperature?: number;
}

/** `cllm generate`: one prompt, its answer on stdout as it is made. */
export async function generate(
  source: string,
  prompt: string | undefined,
  flags: GenerateFlags,
  io: Io,
): Promise<number> {
  if (flags.raw && flags.chat) throw new UsageError("--raw and --chat exclude each other.");
  if (flags.raw && flags.system !== undefined)
    throw new UsageError("--system needs the chat template: leave out --raw.");
  return interruptible(io, async (signal) => {
    const text = await readPrompt(prompt, io, signal);
    await withModel(source, io, signal, async (model) => {
      const input = asInput(model, text, flags);
      const decoder = await createDecoder(model, flags);
      try {
        const options = generateOptions(flags, signal);
        if (flags.json) {
          const result = await decoder.generate(input, options);
          await write(io.stdout, `${JSON.stringify({ model: model.path, ...result, decoder: decoder.info })}\n`);
          return;
        }
        const stream = decoder.stream(input, options);
        try {
          for await (const chunk of stream) await write(io.stdout, chunk.text);
        } finally {
          // Also after Ctrl-C: the shell's prompt belongs on a line of its own.
          await write(io.stdout, "\n");
        }
        const { stats, finishReason } = await stream.result;
        if (flags.stats ?? io.stderr.isTTY) await write(io.stderr, `\n${describeStats(stats, finishReason)}`);
      } finally {
        await decoder.dispose();
      }
    });
    return EXIT.ok;
  });
}

export function generateOptions(flags: GenerateFlags, signal: AbortSignal): GenerateOptions {
  return { signal, maxTokens: flags.maxTokens, stop: flags.stop, temperature: flags.temperature };
}

/** With the chat template where the model has one: an instruct model answers a bare text poorly. */
export function asInput(model: Model, text: string, flags: GenerateFlags): Input {
  const wanted = flags.chat || flags.system !== undefined;
  if (wanted && model.chatTemplate === null) {
    throw new UsageError("The model has no chat template: leave out --chat and --system, or use --raw.");
  }
  if (flags.raw || model.chatTemplate === null) return text;
  const system = flags.system === undefined ? [] : [{ role: "system", content: flags.system }];
  return [...system, { role: "user", content: text }];
}

export async function readPrompt(prompt: string | undefined, io: Io, signal: AbortSignal): Promise<string> {
  if (prompt !== undefined && prompt !== "-") return prompt;
  if (prompt === undefined && io.stdin.isTTY) {
    throw new UsageError("There is no prompt: give it as an argument, or - to read it from stdin.");
  }
  const onAbort = (): void => void io.stdin.destroy();
  signal.addEventListener("abort", onAbort, { once: true });
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of io.stdin) chunks.push(Buffer.from(chunk));
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
  signal.throwIfAborted();
  // The newline that ends a file or an echo is not part of the prompt.
  return Buffer.concat(chunks)
    .toString("utf8")
    .replace(/\r?\n$/, "");
}

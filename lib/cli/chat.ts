import readline from "node:readline";
import type { Command } from "commander";
import type { ChatMessage } from "../chat/template.js";
import type { GenerateOptions } from "../request/generate.js";
import type { GenerateResult } from "../request/result.js";
import type { Sequence } from "../sequence.js";
import { addDecodingOptions, createDecoder, type DecodingFlags, generateOptions } from "./decoding-options.js";
import { describeError, EXIT, Interrupted, interruptible, UsageError } from "./exit.js";
import { type Io, readerIsGone, write } from "./io.js";
import { DEFAULT_MODEL, withModel } from "./model.js";
import { MODEL_HELP } from "./shared-options.js";
import { describeStats } from "./statistics.js";

const HELP = `/reset   forget the conversation
/stats   statistics of the last answer
/exit    leave (also Ctrl-D, or Ctrl-C twice)
Ctrl-C stops an answer.
`;

/**
 * Adds `cllm chat`: a conversation on one sequence, whose KV rows stay, so that each turn prefills only what is new. Lines
 * that come through a pipe are turns too.
 */
export function addChatCommand(program: Command, io: Io): void {
  addDecodingOptions(program.command("chat"))
    .description("a conversation; lines of a pipe are turns too")
    .argument("[model]", MODEL_HELP, DEFAULT_MODEL)
    .option("--system <text>", "system message")
    .option("--json", "print one JSON object per answer")
    .option("--stats", "print statistics after every answer, on stderr")
    .action((model: string, flags: DecodingFlags) => chat(model, flags, io));
}

async function chat(source: string, flags: DecodingFlags, io: Io): Promise<void> {
  const options = generateOptions(flags);
  let conversation: Conversation | null = null;
  // Ctrl-C ends the program while the model loads; after that the conversation decides what Ctrl-C does.
  const loadingIo: Io = {
    ...io,
    onInterrupt: (listener) => io.onInterrupt(() => (conversation === null ? listener() : conversation.interrupt())),
  };
  await interruptible(loadingIo, (signal) =>
    withModel(source, loadingIo, { signal, adapters: flags.adapter }, async (model) => {
      if (model.chatTemplate === null) {
        throw new UsageError("The model has no chat template: use cllm generate --raw.");
      }
      const decoder = await createDecoder(model, flags);
      try {
        const sequence = await decoder.sequence();
        signal.throwIfAborted();
        conversation = new Conversation(sequence, options, flags, io);
        await conversation.run();
      } finally {
        conversation = null;
        await decoder.dispose();
      }
    }),
  );
}

class Conversation {
  readonly #sequence: Sequence;
  readonly #options: GenerateOptions;
  readonly #flags: DecodingFlags;
  readonly #io: Io;
  readonly #inTerminal: boolean;
  readonly #lines: Lines;
  #messages: ChatMessage[] = [];
  #lastResult: GenerateResult | null = null;
  #answering: AbortController | null = null;
  /** Whether Ctrl-C was pressed at the empty prompt, so that a second one leaves. */
  #wasAskedToLeave = false;
  #interrupted = false;

  constructor(sequence: Sequence, options: GenerateOptions, flags: DecodingFlags, io: Io) {
    this.#sequence = sequence;
    this.#options = options;
    this.#flags = flags;
    this.#io = io;
    this.#inTerminal = io.stdin.isTTY === true && io.stdout.isTTY === true;
    this.#lines = new Lines(io, this.#inTerminal);
    // In a terminal readline reads Ctrl-C as a key, and no signal comes.
    this.#lines.interface.on("SIGINT", () => this.interrupt());
    this.#reset();
  }

  /** Answers until the user leaves or the input ends. */
  async run(): Promise<void> {
    try {
      if (this.#inTerminal) await write(this.#io.stdout, "/help shows the commands.\n");
      while (!this.#interrupted) {
        const line = await this.#lines.next();
        if (line === null) break;
        this.#wasAskedToLeave = false;
        if (line.trim() === "") continue;
        if (!line.startsWith("/")) await this.#answer(line);
        else if (await this.#obey(line.trim())) break;
      }
    } finally {
      this.#lines.interface.close();
    }
    if (this.#interrupted) throw new Interrupted();
  }

  /** Handles Ctrl-C: it stops an answer, clears the line at the prompt, and leaves when pressed twice at the empty prompt. */
  interrupt(): void {
    if (this.#answering !== null && !this.#answering.signal.aborted) {
      this.#answering.abort(new Interrupted());
      return;
    }
    const { interface: input } = this.#lines;
    if (!this.#inTerminal) {
      if (this.#interrupted) process.exit(EXIT.interrupted);
      this.#interrupted = true;
      input.close();
    } else if (input.line !== "") {
      input.write(null, { ctrl: true, name: "e" });
      input.write(null, { ctrl: true, name: "u" });
    } else if (this.#wasAskedToLeave) {
      input.close();
    } else {
      this.#wasAskedToLeave = true;
      this.#io.stdout.write("\n(Ctrl-C again or Ctrl-D leaves)\n");
      input.prompt();
    }
  }

  /** Obeys a command such as /help. Resolves to true for a command that leaves. */
  async #obey(command: string): Promise<boolean> {
    const { stderr } = this.#io;
    if (command === "/exit" || command === "/quit") return true;
    if (command === "/help") await write(stderr, HELP);
    else if (command === "/reset") this.#reset();
    else if (command === "/stats") await write(stderr, this.#lastStats());
    else await write(stderr, `${command} is no command. ${HELP}`);
    return false;
  }

  async #answer(question: string): Promise<void> {
    this.#messages.push({ role: "user", content: question });
    const controller = new AbortController();
    this.#answering = controller;
    let answer = "";
    try {
      const stream = this.#sequence.stream(this.#messages, { ...this.#options, signal: controller.signal });
      for await (const chunk of stream) {
        answer += chunk.text;
        if (!this.#flags.json) await write(this.#io.stdout, chunk.text);
      }
      await this.#finish(answer, await stream.result);
    } catch (error) {
      if (controller.signal.aborted) {
        if (!this.#flags.json) await write(this.#io.stdout, "\n");
      } else {
        // A conversation that outgrew the context can go on after /reset, but with a pipe nobody is there to type that.
        if (!this.#inTerminal || readerIsGone(error)) throw error;
        this.#messages.pop();
        const hint = (error as NodeJS.ErrnoException).code === "CLLM_CONTEXT_OVERFLOW" ? " (/reset starts anew)" : "";
        await write(this.#io.stderr, `\n${describeError(error, false).text}${hint}\n`);
        return;
      }
    } finally {
      this.#answering = null;
    }
    // The text before Ctrl-C is part of the conversation, so that the next turn's messages and the KV cache's rows agree.
    this.#messages.push({ role: "assistant", content: answer });
  }

  async #finish(text: string, result: GenerateResult): Promise<void> {
    const { stdout, stderr } = this.#io;
    const { finishReason, stats } = result;
    this.#lastResult = result;
    await write(stdout, this.#flags.json ? `${JSON.stringify({ text, finishReason, stats })}\n` : "\n");
    if (this.#flags.stats) await write(stderr, this.#lastStats());
  }

  #lastStats(): string {
    if (this.#lastResult === null) return "No answer yet.\n";
    return describeStats(this.#lastResult.stats, this.#lastResult.finishReason);
  }

  #reset(): void {
    this.#messages = this.#flags.system === undefined ? [] : [{ role: "system", content: this.#flags.system }];
    this.#lastResult = null;
  }
}

/**
 * Gives lines when they are asked for. The lines of a pipe arrive all at once; readline's own iterator would lose those
 * that arrive before the first `next`, and its `question` those that arrive between two questions.
 */
class Lines {
  readonly interface: readline.Interface;
  readonly #inTerminal: boolean;
  readonly #queue: string[] = [];
  #waiting: ((line: string | null) => void) | null = null;
  #closed = false;

  constructor(io: Io, inTerminal: boolean) {
    this.#inTerminal = inTerminal;
    this.interface = readline.createInterface({
      input: io.stdin,
      ...(inTerminal && { output: io.stdout, prompt: "> " }),
      terminal: inTerminal,
    });
    this.interface.on("line", (line) => {
      const waiting = this.#waiting;
      this.#waiting = null;
      if (waiting === null) this.#queue.push(line);
      else waiting(line);
    });
    this.interface.on("close", () => {
      this.#closed = true;
      this.#waiting?.(null);
    });
  }

  /** The next line, or null at the end of the input. */
  next(): Promise<string | null> {
    const line = this.#queue.shift();
    if (line !== undefined) return Promise.resolve(line);
    if (this.#closed) return Promise.resolve(null);
    if (this.#inTerminal) this.interface.prompt();
    return new Promise((resolve) => {
      this.#waiting = resolve;
    });
  }
}

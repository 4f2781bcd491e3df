import readline from "node:readline";
import type { ChatMessage } from "../chat/template.js";
import type { GenerateResult } from "../request/result.js";
import type { Sequence } from "../sequence.js";
import { type GenerateFlags, generateOptions } from "./generate.js";
import { describeError, EXIT, Interrupted, type Io, interruptible, readerIsGone, UsageError, write } from "./io.js";
import { createDecoder, describeStats, withModel } from "./model.js";

const HELP = `/reset   forget the conversation
/stats   statistics of the last answer
/exit    leave (also Ctrl-D, or Ctrl-C twice)
Ctrl-C stops an answer.
`;

/**
 * `cllm chat`: a conversation on one sequence, whose KV rows stay: each turn prefills only what is new. Lines that come
 * through a pipe are turns too.
 */
export async function chat(source: string, flags: GenerateFlags, io: Io): Promise<number> {
  let conversation: Conversation | null = null;
  // Ctrl-C ends the program while the model loads; from then on the conversation decides what it means.
  const inner: Io = {
    ...io,
    onInterrupt: (listener) => io.onInterrupt(() => (conversation === null ? listener() : conversation.interrupt())),
  };
  return interruptible(inner, (signal) =>
    withModel(source, inner, signal, async (model) => {
      if (model.chatTemplate === null) {
        throw new UsageError("The model has no chat template: use cllm generate --raw.");
      }
      const decoder = await createDecoder(model, flags);
      try {
        const sequence = await decoder.sequence();
        signal.throwIfAborted();
        conversation = new Conversation(sequence, flags, io);
        return await conversation.run();
      } finally {
        conversation = null;
        await decoder.dispose();
      }
    }),
  );
}

class Conversation {
  private messages: ChatMessage[] = [];
  private last: GenerateResult | null = null;
  private answering: AbortController | null = null;
  /** One Ctrl-C at the empty prompt was seen: the next one leaves. */
  private leaving = false;
  private interrupted = false;
  private readonly terminal: boolean;
  private readonly lines: Lines;

  constructor(
    private readonly sequence: Sequence,
    private readonly flags: GenerateFlags,
    private readonly io: Io,
  ) {
    this.terminal = io.stdin.isTTY === true && io.stdout.isTTY === true;
    this.lines = new Lines(io, this.terminal);
    // In a terminal readline reads Ctrl-C as a key, and no signal comes.
    this.lines.interface.on("SIGINT", () => this.interrupt());
    this.reset();
  }

  async run(): Promise<number> {
    try {
      if (this.terminal) await write(this.io.stdout, "/help shows the commands.\n");
      for (;;) {
        const line = await this.lines.next();
        if (line === null) break;
        this.leaving = false;
        if (line.trim() === "") continue;
        if (line.startsWith("/")) {
          if (await this.command(line.trim())) break;
        } else {
          await this.turn(line);
        }
        if (this.interrupted) break;
      }
    } finally {
      this.lines.interface.close();
    }
    if (this.interrupted) throw new Interrupted();
    return EXIT.ok;
  }

  /** Ctrl-C: stops the answer; at the prompt clears the line; at the empty prompt, twice, leaves. */
  interrupt(): void {
    if (this.answering !== null && !this.answering.signal.aborted) {
      this.answering.abort(new Interrupted());
      return;
    }
    const { interface: input } = this.lines;
    if (!this.terminal) {
      if (this.interrupted) process.exit(EXIT.interrupted);
      this.interrupted = true;
      input.close();
    } else if (input.line !== "") {
      input.write(null, { ctrl: true, name: "e" });
      input.write(null, { ctrl: true, name: "u" });
    } else if (this.leaving) {
      input.close();
    } else {
      this.leaving = true;
      this.io.stdout.write("\n(Ctrl-C again or Ctrl-D leaves)\n");
      input.prompt();
    }
  }

  /** True to leave. */
  private async command(line: string): Promise<boolean> {
    switch (line) {
      case "/exit":
      case "/quit":
        return true;
      case "/help":
        await write(this.io.stderr, HELP);
        return false;
      case "/reset":
        this.reset();
        return false;
      case "/stats":
        await write(
          this.io.stderr,
          this.last === null ? "No answer yet.\n" : describeStats(this.last.stats, this.last.finishReason),
        );
        return false;
      default:
        await write(this.io.stderr, `${line} is no command. ${HELP}`);
        return false;
    }
  }

  private async turn(text: string): Promise<void> {
    this.messages.push({ role: "user", content: text });
    const controller = new AbortController();
    this.answering = controller;
    let answer = "";
    try {
      const stream = this.sequence.stream(this.messages, generateOptions(this.flags, controller.signal));
      for await (const chunk of stream) {
        answer += chunk.text;
        if (!this.flags.json) await write(this.io.stdout, chunk.text);
      }
      this.last = await stream.result;
      const { finishReason, stats } = this.last;
      if (this.flags.json) await write(this.io.stdout, `${JSON.stringify({ text: answer, finishReason, stats })}\n`);
      else await write(this.io.stdout, "\n");
      if (this.flags.stats) await write(this.io.stderr, describeStats(stats, finishReason));
    } catch (error) {
      if (controller.signal.aborted) {
        if (!this.flags.json) await write(this.io.stdout, "\n");
      } else {
        // A conversation that outgrew the context goes on after /reset; in a pipe nobody is there to type that.
        if (!this.terminal || readerIsGone(error)) throw error;
        this.messages.pop();
        const hint = (error as NodeJS.ErrnoException).code === "CLLM_CONTEXT_OVERFLOW" ? " (/reset starts anew)" : "";
        await write(this.io.stderr, `\n${describeError(error, false).text}${hint}\n`);
        return;
      }
    } finally {
      this.answering = null;
    }
    // What was said before Ctrl-C was said: the next turn's template and the rows in the KV cache agree on it.
    this.messages.push({ role: "assistant", content: answer });
  }

  private reset(): void {
    this.messages = this.flags.system === undefined ? [] : [{ role: "system", content: this.flags.system }];
    this.last = null;
  }
}

/**
 * Lines as they are asked for. readline's own iterator loses what arrives before the first `next`, and its `question`
 * what arrives between two: with a pipe all lines are there at once.
 */
class Lines {
  readonly interface: readline.Interface;
  private readonly queue: string[] = [];
  private waiting: ((line: string | null) => void) | null = null;
  private closed = false;

  constructor(
    io: Io,
    private readonly terminal: boolean,
  ) {
    this.interface = readline.createInterface({
      input: io.stdin,
      ...(terminal && { output: io.stdout, prompt: "> " }),
      terminal,
    });
    this.interface.on("line", (line) => {
      const { waiting } = this;
      this.waiting = null;
      if (waiting === null) this.queue.push(line);
      else waiting(line);
    });
    this.interface.on("close", () => {
      this.closed = true;
      this.waiting?.(null);
    });
  }

  /** Null at the end of the input. */
  next(): Promise<string | null> {
    const line = this.queue.shift();
    if (line !== undefined) return Promise.resolve(line);
    if (this.closed) return Promise.resolve(null);
    if (this.terminal) this.interface.prompt();
    return new Promise((resolve) => {
      this.waiting = resolve;
    });
  }
}

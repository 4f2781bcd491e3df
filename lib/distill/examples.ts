import { createHash } from "node:crypto";
import { appendFile, readFile, rm } from "node:fs/promises";
import { setImmediate } from "node:timers/promises";
import type { TrainData } from "../addon.js";
import { CllmError } from "../errors.js";
import type { Model } from "../model.js";
import { answerTokens, type PromptItem } from "../prompt-data.js";
import type { DistillSettings } from "./options.js";

/** A prompt and its answer as tokens. */
export interface Example {
  prompt: Int32Array;
  answer: Int32Array;
}

/** Requests in flight: enough that all lanes are busy. */
const LANES = 16;
/** Answers written to the checkpoint at a time. */
const CHUNK = 64;
/** Items tokenised at a time. */
const SLICE = 500;

/**
 * The prompts as tokens, and where `given` is true the data's answers, each ended as the model ends its answers. What does
 * not fit into a row of `room` tokens is an error. Lets the event loop run now and then: a large file takes a minute.
 */
export async function tokenise(
  model: Model,
  items: readonly PromptItem[],
  room: number,
  given: boolean,
  signal: AbortSignal | undefined,
  onDone: (done: number) => void,
): Promise<{ prompts: Int32Array[]; answers: Int32Array[] }> {
  const refuse = ({ line }: PromptItem, what: string) => {
    const message = `line ${line}: ${what}: use a larger rowTokens or leave the line out`;
    return new CllmError("CLLM_INVALID_DATA", message);
  };
  const prompts: Int32Array[] = [];
  const answers: Int32Array[] = [];
  for (const item of items) {
    const prompt = model.promptTokens(item.input);
    if (prompt.length >= room) {
      throw refuse(
        item,
        `the prompt is ${prompt.length} tokens long, and a training row holds ${room} of prompt and answer`,
      );
    }
    prompts.push(prompt);
    if (given) {
      const answer = Int32Array.from(answerTokens(model, item.answer ?? ""));
      const length = prompt.length + answer.length;
      if (length > room) {
        throw refuse(item, `prompt and answer are ${length} tokens long, and a training row holds ${room}`);
      }
      answers.push(answer);
    }
    if (prompts.length % SLICE !== 0) continue;
    onDone(prompts.length);
    await setImmediate();
    signal?.throwIfAborted();
  }
  onDone(prompts.length);
  return { prompts, answers };
}

/**
 * The model's own greedy answers, all lanes full. Those that are complete are in `file`, a chunk at a time, so that an
 * interrupted run goes on behind them. Blocks of 2: their arithmetic does not depend on what other lanes do, so a resumed
 * run gets the answers of an unbroken one.
 */
export async function ownAnswers(
  model: Model,
  prompts: readonly Int32Array[],
  room: number,
  settings: DistillSettings,
  file: string,
  onDone: (done: number) => void,
): Promise<Int32Array[]> {
  const answers = await readAnswers(file, prompts, model.info.vocabSize);
  const decoder = await model.createDecoder({
    lanes: Math.min(LANES, prompts.length),
    contextSize: room + 4,
    blockSize: model.info.canRollBack ? 2 : 1,
    threads: settings.threads,
  });
  try {
    while (answers.length < prompts.length) {
      const chunk = prompts.slice(answers.length, answers.length + CHUNK);
      const made = await Promise.all(
        chunk.map(async (prompt) => {
          const maxTokens = Math.min(settings.maxTokens, room - prompt.length);
          const { tokens } = await decoder.generate(prompt, { maxTokens, signal: settings.signal });
          onDone(0);
          return tokens;
        }),
      );
      await appendFile(file, made.map((tokens) => `${JSON.stringify(tokens)}\n`).join(""));
      for (const tokens of made) answers.push(Int32Array.from(tokens));
      onDone(answers.length);
    }
    return answers;
  } finally {
    await decoder.dispose();
  }
}

/** A line that a kill left half-written ends what is used. */
async function readAnswers(file: string, prompts: readonly Int32Array[], vocab: number): Promise<Int32Array[]> {
  const text = await readFile(file, "utf8").catch(() => "");
  const answers: Int32Array[] = [];
  for (const line of text.split("\n").slice(0, prompts.length)) {
    try {
      const tokens = JSON.parse(line) as unknown;
      if (!Array.isArray(tokens) || !tokens.every((t) => Number.isInteger(t) && t >= 0 && t < vocab)) break;
      answers.push(Int32Array.from(tokens as number[]));
    } catch {
      break;
    }
  }
  // Chunks only: what follows is appended.
  const whole = answers.slice(
    0,
    answers.length === prompts.length ? answers.length : answers.length - (answers.length % CHUNK),
  );
  await rm(file, { force: true });
  if (whole.length > 0) await appendFile(file, whole.map((tokens) => `${JSON.stringify([...tokens])}\n`).join(""));
  return whole;
}

/** Every k-th example is held back, none twice. */
export function splitHeldBack<T>(items: readonly T[], count: number): { trained: T[]; heldBack: T[] } {
  const held = Math.min(count, Math.floor(items.length / 2));
  const chosen = new Set(Array.from({ length: held }, (_, i) => Math.floor(((i + 0.5) * items.length) / held)));
  return {
    trained: items.filter((_, i) => !chosen.has(i)),
    heldBack: items.filter((_, i) => chosen.has(i)),
  };
}

/** As the addon takes them. */
export function trainData(examples: readonly Example[]): TrainData {
  const total = examples.reduce((sum, { prompt, answer }) => sum + prompt.length + answer.length, 0);
  const tokens = new Int32Array(total);
  const lengths = new Int32Array(examples.length * 2);
  let at = 0;
  for (const [i, { prompt, answer }] of examples.entries()) {
    tokens.set(prompt, at);
    tokens.set(answer, at + prompt.length);
    at += prompt.length + answer.length;
    lengths.set([prompt.length, answer.length], i * 2);
  }
  return { tokens, lengths };
}

export function hashOf(parts: Iterable<string | Int32Array>): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(typeof part === "string" ? `${part}\n` : part);
  return hash.digest("hex");
}

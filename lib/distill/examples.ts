import { createHash } from "node:crypto";
import { appendFile, readFile, rm } from "node:fs/promises";
import { setImmediate } from "node:timers/promises";
import type { TrainData } from "../addon.js";
import { CllmError } from "../errors.js";
import type { Model } from "../model.js";
import { maxBlockSize } from "../model-info.js";
import { answerTokens, type PromptItem } from "../prompt-data.js";
import type { DistillSettings } from "./options.js";

/** A prompt and its answer as tokens. */
export interface Example {
  prompt: Int32Array;
  answer: Int32Array;
}

/** Share of a row's tokens that may carry a label. */
const LABEL_SHARE = 0.75;
/** Lanes of the decoder that makes the model's own answers. */
const LANES = 16;
/** Answers that are added to the file at a time. */
const ANSWERS_PER_CHUNK = 64;
/** Items that are tokenised before the event loop runs again. */
const ITEMS_PER_SLICE = 500;

/** Tokens of a training row that may carry a label. */
export function rowLabels(rowTokens: number): number {
  return Math.floor(rowTokens * LABEL_SHARE);
}

/** What a training row can hold beside one block, counted as in native/train/trainer.cpp. */
export interface RowCapacity {
  /** Tokens of a prompt and its answer. */
  tokens: number;
  /** Tokens of an answer, each of which carries a label. */
  answerTokens: number;
}

export function rowCapacity(rowTokens: number, blockSize: number): RowCapacity {
  return { tokens: rowTokens - blockSize, answerTokens: rowLabels(rowTokens) - blockSize };
}

/**
 * Tokenises the prompts, and with `hasAnswers` the data's answers, to which it adds the token that ends the model's own
 * answers. It lets the event loop run now and then, because a large file takes a minute.
 *
 * @throws {@link CllmError} `CLLM_INVALID_DATA`, with the line, for an item that does not fit into a row.
 */
export async function tokenise(
  model: Model,
  items: readonly PromptItem[],
  capacity: RowCapacity,
  hasAnswers: boolean,
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
    const { tokens: room, answerTokens: answerRoom } = capacity;
    if (prompt.length >= room) {
      throw refuse(
        item,
        `the prompt is ${prompt.length} tokens long, and a training row holds ${room} of prompt and answer`,
      );
    }
    prompts.push(prompt);
    if (hasAnswers) {
      const answer = Int32Array.from(answerTokens(model, item.answer ?? ""));
      const length = prompt.length + answer.length;
      if (length > room) {
        throw refuse(item, `prompt and answer are ${length} tokens long, and a training row holds ${room}`);
      }
      if (answer.length > answerRoom) {
        throw refuse(item, `the answer is ${answer.length} tokens long, and a training row holds ${answerRoom} of it`);
      }
      answers.push(answer);
    }
    if (prompts.length % ITEMS_PER_SLICE !== 0) continue;
    onDone(prompts.length);
    await setImmediate();
    signal?.throwIfAborted();
  }
  onDone(prompts.length);
  return { prompts, answers };
}

/**
 * Answers the prompts greedily with the model itself, all lanes full. Complete answers are added to `file`, a chunk at a
 * time, so that an interrupted run goes on behind them. Blocks have 2 tokens, because their arithmetic does not depend on
 * what other lanes do; so a resumed run gets the answers of an unbroken one.
 */
export async function ownAnswers(
  model: Model,
  prompts: readonly Int32Array[],
  capacity: RowCapacity,
  settings: DistillSettings,
  file: string,
  onDone: (done: number) => void,
): Promise<Int32Array[]> {
  const answers = await readAnswers(file, prompts, model.info.vocabSize);
  const decoder = await model.createDecoder({
    lanes: Math.min(LANES, prompts.length),
    contextSize: capacity.tokens + 4,
    blockSize: Math.min(2, maxBlockSize(model.info)),
    threads: settings.threads,
  });
  try {
    let done = answers.length;
    onDone(done);
    while (answers.length < prompts.length) {
      const chunk = prompts.slice(answers.length, answers.length + ANSWERS_PER_CHUNK);
      const chunkAnswers = await Promise.all(
        chunk.map(async (prompt) => {
          const maxTokens = Math.min(settings.maxTokens, capacity.tokens - prompt.length, capacity.answerTokens);
          const { tokens } = await decoder.generate(prompt, { maxTokens, signal: settings.signal });
          onDone(++done);
          return tokens;
        }),
      );
      await appendFile(file, jsonLines(chunkAnswers));
      for (const tokens of chunkAnswers) answers.push(Int32Array.from(tokens));
    }
    return answers;
  } finally {
    await decoder.dispose();
  }
}

/** Reads the answers of an interrupted run, up to a line that a kill left half-written, and cuts the file behind them. */
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
  // Only whole chunks are kept, because further chunks are appended to them.
  if (answers.length < prompts.length) answers.length -= answers.length % ANSWERS_PER_CHUNK;
  await rm(file, { force: true });
  if (answers.length > 0) await appendFile(file, jsonLines(answers));
  return answers;
}

function jsonLines(answers: readonly Iterable<number>[]): string {
  return answers.map((tokens) => `${JSON.stringify([...tokens])}\n`).join("");
}

/**
 * Holds back the items of `count` topics, evenly spread, at most half of all. `topics` has the topic of each item; items of
 * one topic stay together.
 */
export function splitHeldBack<T>(
  items: readonly T[],
  topics: readonly string[],
  count: number,
): { trained: T[]; heldBack: T[] } {
  const all = [...new Set(topics)];
  const length = Math.min(count, Math.floor(all.length / 2));
  const held = new Set(Array.from({ length }, (_, i) => all[Math.floor(((i + 0.5) * all.length) / length)]));
  return {
    trained: items.filter((_, i) => !held.has(topics[i])),
    heldBack: items.filter((_, i) => held.has(topics[i])),
  };
}

/** The examples in the form that the addon takes. */
export function trainData(examples: readonly Example[]): TrainData {
  const total = examples.reduce((sum, { prompt, answer }) => sum + prompt.length + answer.length, 0);
  const tokens = new Int32Array(total);
  const lengths = new Int32Array(examples.length * 2);
  let offset = 0;
  for (const [i, { prompt, answer }] of examples.entries()) {
    tokens.set(prompt, offset);
    tokens.set(answer, offset + prompt.length);
    offset += prompt.length + answer.length;
    lengths.set([prompt.length, answer.length], i * 2);
  }
  return { tokens, lengths };
}

export function hashOf(parts: Iterable<string | Int32Array>): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(typeof part === "string" ? `${part}\n` : part);
  return hash.digest("hex");
}

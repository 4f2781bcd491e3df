import { createReadStream } from "node:fs";
import readline from "node:readline";
import type { ChatMessage } from "./chat/template.js";
import { CllmError } from "./errors.js";
import type { LoadedModel } from "./model-info.js";

/** A prompt of a data file. */
export interface PromptItem {
  /** Line in the file, from 1. */
  line: number;
  /** A text, or messages for the model's chat template. */
  input: string | ChatMessage[];
  /** The answer in the data, or null. */
  answer: string | null;
}

/** Tokens of an answer, followed by the token that ends the model's own answers. */
export function answerTokens(model: LoadedModel, answer: string): number[] {
  const end = model.specialTokens.eot ?? model.specialTokens.eos;
  return [...model.tokenize(answer), ...(end === null ? [] : [end])];
}

/** Largest length of a line, in characters. */
const MAX_LINE_LENGTH = 16 * 2 ** 20;

/**
 * Reads prompt data: JSON lines `{"prompt": "text"}` or `{"messages": [{"role", "content"}, ...]}`, each with an
 * optional `"answer"`. Empty lines are skipped, other keys ignored. With `needAnswers` (default false) a line without
 * an answer is an error.
 *
 * @throws {@link CllmError} `CLLM_INVALID_DATA`, naming the file and the line.
 */
export async function readPromptData(file: string, needAnswers = false): Promise<PromptItem[]> {
  const items: PromptItem[] = [];
  const stream = createReadStream(file, { encoding: "utf8" });
  let line = 0;
  try {
    for await (const text of readline.createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY })) {
      line++;
      const json = line === 1 ? text.replace(/^\uFEFF/, "") : text;
      if (json.trim() === "") continue;
      items.push({ line, ...parseLine(json, `${file}, line ${line}`, needAnswers) });
    }
  } catch (cause) {
    if (cause instanceof CllmError) throw cause;
    throw new CllmError("CLLM_INVALID_DATA", `${file} cannot be read: ${(cause as Error).message}`, { cause });
  }
  if (items.length === 0) throw new CllmError("CLLM_INVALID_DATA", `${file} has no prompts`);
  return items;
}

function parseLine(json: string, where: string, needAnswer: boolean): Omit<PromptItem, "line"> {
  const invalid = (what: string, cause?: unknown) =>
    new CllmError("CLLM_INVALID_DATA", `${where}: ${what}`, cause === undefined ? {} : { cause });
  if (json.length > MAX_LINE_LENGTH)
    throw invalid(`expected at most ${MAX_LINE_LENGTH} characters but found ${json.length}`);
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw invalid(`expected a JSON object but found ${(cause as Error).message}`, cause);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw invalid("expected a JSON object");
  const { prompt, messages, answer = null } = value as Record<string, unknown>;
  if ((prompt === undefined) === (messages === undefined)) throw invalid("expected either a prompt or messages");
  if (answer !== null && (typeof answer !== "string" || answer === ""))
    throw invalid("expected a non-empty text as answer");
  if (answer === null && needAnswer) throw invalid("expected an answer but there is none");
  if (prompt !== undefined) {
    if (typeof prompt !== "string" || prompt === "") throw invalid("expected a non-empty text as prompt");
    return { input: prompt, answer: answer as string | null };
  }
  if (!Array.isArray(messages) || messages.length === 0) throw invalid("expected a list of messages");
  for (const message of messages) {
    const { role, content } = (message ?? {}) as Partial<ChatMessage>;
    if (typeof role !== "string" || typeof content !== "string")
      throw invalid("expected a role and a content in each message");
  }
  return { input: messages as ChatMessage[], answer: answer as string | null };
}

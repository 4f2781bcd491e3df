import { createReadStream } from "node:fs";
import fs from "node:fs/promises";
import path from "node:path";
import readline from "node:readline";
import type { ChatMessage } from "./chat/template.js";
import { CllmError } from "./errors.js";
import type { LoadedModel } from "./model-info.js";

/** A prompt of a data file. */
export interface PromptItem {
  /** Line in the file, from 1; of a file that is one JSON list the number of the entry. */
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
/** Largest file that is read as a whole: one JSON list. */
const MAX_LIST_BYTES = 512 * 2 ** 20;

/**
 * Reads prompt data in one of these forms:
 * - JSON lines, or one JSON list, of `{"prompt": "text"}` or `{"messages": [{"role", "content"}, ...]}`, each with an optional
 *   `"answer"`;
 * - the same with whole chats: each answer of the assistant in `messages` (OpenAI's form for fine-tuning; answers of
 *   `"weight": 0` are left out) or in `conversations` (ShareGPT: `from` human, gpt or system, and `value`) becomes an item, with
 *   what was said before it as its prompt;
 * - a text file (`.txt`): prompts with empty lines between them.
 *
 * Empty lines are skipped, other keys ignored. With `needAnswers` (default false) a prompt without an answer is an error.
 *
 * @throws {@link CllmError} `CLLM_INVALID_DATA`, naming the file and the line.
 */
export async function readPromptData(file: string, needAnswers = false): Promise<PromptItem[]> {
  let items: PromptItem[];
  try {
    if (path.extname(file).toLowerCase() === ".txt") items = await readParagraphs(file, needAnswers);
    else items = (await beginsAsList(file)) ? await readList(file, needAnswers) : await readLines(file, needAnswers);
  } catch (cause) {
    if (cause instanceof CllmError) throw cause;
    throw new CllmError("CLLM_INVALID_DATA", `${file} cannot be read: ${(cause as Error).message}`, { cause });
  }
  if (items.length === 0) throw new CllmError("CLLM_INVALID_DATA", `${file} has no prompts`);
  return items;
}

/**
 * Names what an item is about: its text, or its chat up to the first message of the user. Items of one name are not to be
 * parted into training and test, because turns of one chat have much in common.
 */
export function topicOf({ input }: PromptItem): string {
  if (typeof input === "string") return JSON.stringify(input);
  const first = input.findIndex(({ role }) => role === "user");
  return JSON.stringify(first < 0 ? input : input.slice(0, first + 1));
}

/** The items without those whose prompt, and answer where `withAnswers`, stood before. */
export function withoutRepetitions(items: readonly PromptItem[], withAnswers: boolean): PromptItem[] {
  const seen = new Set<string>();
  return items.filter(({ input, answer }) => {
    const key = JSON.stringify(withAnswers ? [input, answer] : input);
    return !seen.has(key) && seen.add(key);
  });
}

async function readLines(file: string, needAnswers: boolean): Promise<PromptItem[]> {
  const items: PromptItem[] = [];
  const stream = createReadStream(file, { encoding: "utf8" });
  let line = 0;
  for await (const text of readline.createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY })) {
    line++;
    const json = line === 1 ? text.replace(/^\uFEFF/, "") : text;
    if (json.trim() === "") continue;
    const where = `${file}, line ${line}`;
    if (json.length > MAX_LINE_LENGTH)
      throw invalid(where, `expected at most ${MAX_LINE_LENGTH} characters but found ${json.length}`);
    for (const item of toItems(parse(json, where, "a JSON object"), where, needAnswers)) items.push({ line, ...item });
  }
  return items;
}

async function readList(file: string, needAnswers: boolean): Promise<PromptItem[]> {
  const { size } = await fs.stat(file);
  if (size > MAX_LIST_BYTES)
    throw invalid(file, `expected at most ${MAX_LIST_BYTES} bytes for a JSON list: use JSON lines`);
  const list = parse((await fs.readFile(file, "utf8")).replace(/^\uFEFF/, ""), file, "a JSON list");
  return (list as unknown[]).flatMap((entry, i) =>
    toItems(entry, `${file}, entry ${i + 1}`, needAnswers).map((item) => ({ line: i + 1, ...item })),
  );
}

async function readParagraphs(file: string, needAnswers: boolean): Promise<PromptItem[]> {
  if (needAnswers) throw invalid(file, "expected answers, but a text file holds prompts alone");
  const items: PromptItem[] = [];
  const stream = createReadStream(file, { encoding: "utf8" });
  let line = 0;
  let lines: string[] = [];
  const end = (): void => {
    if (lines.length > 0) items.push({ line: line - lines.length, input: lines.join("\n"), answer: null });
    lines = [];
  };
  for await (const text of readline.createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY })) {
    line++;
    const bare = line === 1 ? text.replace(/^\uFEFF/, "") : text;
    if (bare.trim() === "") end();
    else lines.push(bare);
  }
  line++;
  end();
  return items;
}

/** Whether the first character that is no space begins a JSON list. */
async function beginsAsList(file: string): Promise<boolean> {
  const stream = createReadStream(file, { encoding: "utf8", highWaterMark: 4096 });
  for await (const chunk of stream) {
    const text = (chunk as string).replace(/^\uFEFF/, "").trimStart();
    if (text !== "") return text.startsWith("[");
  }
  return false;
}

function parse(json: string, where: string, expected: string): unknown {
  try {
    return JSON.parse(json);
  } catch (cause) {
    throw invalid(where, `expected ${expected} but found ${(cause as Error).message}`, cause);
  }
}

type Item = Omit<PromptItem, "line">;

function toItems(value: unknown, where: string, needAnswer: boolean): Item[] {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw invalid(where, "expected a JSON object");
  const { prompt, messages, conversations, answer = null } = value as Record<string, unknown>;
  if ([prompt, messages, conversations].filter((each) => each !== undefined).length !== 1) {
    throw invalid(where, "expected either a prompt, messages or conversations");
  }
  if (answer !== null && (typeof answer !== "string" || answer === ""))
    throw invalid(where, "expected a non-empty text as answer");
  let items: Item[];
  if (prompt !== undefined) {
    if (typeof prompt !== "string" || prompt === "") throw invalid(where, "expected a non-empty text as prompt");
    items = [{ input: prompt, answer }];
  } else {
    const chat = messages === undefined ? shareGptChat(conversations, where) : chatOf(messages, where);
    items = answer === null ? turnsOf(chat) : [{ input: chat.map(plain), answer }];
  }
  if (needAnswer && items.some((item) => item.answer === null)) {
    throw invalid(where, "expected an answer but there is none");
  }
  return items;
}

/** A message, and whether an answer of the assistant is to be learned. */
type Turn = ChatMessage & { isLearned: boolean };

const plain = ({ role, content }: Turn): ChatMessage => ({ role, content });

/** Each answer of the assistant with the messages before it; a chat without one is a prompt. */
function turnsOf(chat: readonly Turn[]): Item[] {
  const items: Item[] = [];
  for (const [i, { role, content, isLearned }] of chat.entries()) {
    if (role !== "assistant" || i === 0 || !isLearned || content === "") continue;
    items.push({ input: chat.slice(0, i).map(plain), answer: content });
  }
  const isPrompt = chat.at(-1)?.role !== "assistant";
  return isPrompt && items.length === 0 ? [{ input: chat.map(plain), answer: null }] : items;
}

function chatOf(messages: unknown, where: string): Turn[] {
  if (!Array.isArray(messages) || messages.length === 0) throw invalid(where, "expected a list of messages");
  return messages.map((message) => {
    const { role, content, weight, tool_calls: calls } = (message ?? {}) as Record<string, unknown>;
    if (calls !== undefined && calls !== null)
      throw invalid(where, "expected text in each message but found tool calls");
    const text = textOf(content);
    if (typeof role !== "string" || text === null)
      throw invalid(where, "expected a role and a content in each message");
    return { role, content: text, isLearned: weight !== 0 };
  });
}

/** The content of a message: a text, or a list of parts that are texts. */
function textOf(content: unknown): string | null {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return null;
  const parts = content.map((part: { type?: unknown; text?: unknown } | null) =>
    part?.type === "text" && typeof part.text === "string" ? part.text : null,
  );
  return parts.includes(null) ? null : parts.join("");
}

const SHARE_GPT_ROLES: Readonly<Record<string, string>> = {
  human: "user",
  user: "user",
  gpt: "assistant",
  chatgpt: "assistant",
  assistant: "assistant",
  system: "system",
};

function shareGptChat(conversations: unknown, where: string): Turn[] {
  if (!Array.isArray(conversations) || conversations.length === 0) {
    throw invalid(where, "expected a list of conversations");
  }
  return conversations.map((message) => {
    const { from, value } = (message ?? {}) as Record<string, unknown>;
    const role = typeof from === "string" && Object.hasOwn(SHARE_GPT_ROLES, from) ? SHARE_GPT_ROLES[from] : undefined;
    if (role === undefined || typeof value !== "string") {
      throw invalid(
        where,
        `expected from (${Object.keys(SHARE_GPT_ROLES).join(", ")}) and a value in each conversation`,
      );
    }
    return { role, content: value, isLearned: true };
  });
}

function invalid(where: string, what: string, cause?: unknown): CllmError {
  return new CllmError("CLLM_INVALID_DATA", `${where}: ${what}`, cause === undefined ? {} : { cause });
}

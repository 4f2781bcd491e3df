import { CllmError } from "../errors.js";
import { readByteLevel } from "./byte-level.js";
import type { GgufValue } from "./gguf-writer.js";
import { isRecord, type Json, readBytes, readObject, readText, show } from "./json-files.js";
import { readFallbackBpe, readSentencePiece } from "./sentencepiece.js";
import type { Vocabulary } from "./vocabulary.js";

/** The files of a checkpoint that describe its tokenizer. */
export const TOKENIZER_FILES = [
  "tokenizer.json",
  "tokenizer.model",
  "tokenizer_config.json",
  "added_tokens.json",
  "chat_template.jinja",
  "chat_template.json",
];

/**
 * Reads a checkpoint's tokenizer: tokenizer.model (SentencePiece), or tokenizer.json (byte-level BPE, or BPE with byte
 * fallback). Resolves to the keys of a GGUF file.
 *
 * @throws {@link CllmError} `CLLM_UNSUPPORTED_MODEL` for one that llama.cpp would read otherwise, `CLLM_INVALID_MODEL`.
 */
export async function tokenizerKeys(folder: string, vocab: number, config: Json): Promise<[string, GgufValue][]> {
  const json = await readObject(folder, "tokenizer.json");
  const settings = (await readObject(folder, "tokenizer_config.json")) ?? {};
  const pieces = await readBytes(folder, "tokenizer.model");
  let vocabulary: Vocabulary;
  if (pieces !== null) {
    const added = (await readObject(folder, "added_tokens.json")) ?? {};
    vocabulary = readSentencePiece(folder, pieces, vocab, { added, settings, json });
  } else if (json !== null) {
    const isFallback = isRecord(json.model) && json.model.byte_fallback === true;
    vocabulary = isFallback ? readFallbackBpe(folder, json, vocab) : readByteLevel(folder, json, vocab);
  } else {
    throw new CllmError(
      "CLLM_UNSUPPORTED_MODEL",
      `${folder} has neither tokenizer.json nor tokenizer.model. Where a tokenizer is vocab.json and merges.txt, save it again ` +
        "with the transformers library, which writes tokenizer.json.",
    );
  }
  const prefix = typeof settings.add_prefix_space === "boolean" ? settings.add_prefix_space : vocabulary.addSpacePrefix;
  return [
    ...vocabularyKeys(vocabulary),
    ...(prefix === undefined || vocabulary.model === "gpt2" ? [] : [flag("add_space_prefix", prefix)]),
    ...specialKeys(folder, vocabulary, json, settings, config),
    ...templateKeys(await chatTemplate(folder, settings)),
  ];
}

function vocabularyKeys({ model, pre, texts, types, scores, merges }: Vocabulary): [string, GgufValue][] {
  const keys: [string, GgufValue][] = [
    ["tokenizer.ggml.model", { type: "string", value: model }],
    ["tokenizer.ggml.pre", { type: "string", value: pre }],
    ["tokenizer.ggml.tokens", { type: "strings", value: texts }],
    ["tokenizer.ggml.token_type", { type: "i32s", value: types }],
  ];
  if (scores !== undefined) keys.push(["tokenizer.ggml.scores", { type: "f32s", value: scores }]);
  if (merges !== undefined) keys.push(["tokenizer.ggml.merges", { type: "strings", value: merges }]);
  return keys;
}

/** The special tokens by their names in tokenizer_config.json and config.json, and their names in GGUF files. */
const SPECIAL: [string, string][] = [
  ["bos", "bos"],
  ["eos", "eos"],
  ["unk", "unknown"],
  ["sep", "seperator"],
  ["pad", "padding"],
  ["cls", "cls"],
  ["mask", "mask"],
];

function specialKeys(
  where: string,
  { model, texts, special }: Vocabulary,
  json: Json | null,
  settings: Json,
  config: Json,
): [string, GgufValue][] {
  const names = new Map(SPECIAL.map(([name]) => [name, contentOf(settings[`${name}_token`])]));
  const template = postProcessing(where, json, names);
  const added = Array.isArray(json?.added_tokens) ? json.added_tokens.filter(isRecord) : [];
  const keys: [string, GgufValue][] = [];
  const ids = new Map<string, number>();
  for (const [name, key] of SPECIAL) {
    const text = names.get(name);
    const named = text === undefined ? undefined : added.find(({ content }) => content === text)?.id;
    const fromConfig = config[`${name}_token_id`];
    const found = named ?? (Array.isArray(fromConfig) ? fromConfig[0] : fromConfig) ?? special?.[name];
    const id = found ?? (text === undefined ? -1 : texts.indexOf(text));
    if (typeof id !== "number" || id < 0) continue;
    if (!Number.isInteger(id) || id >= texts.length) {
      throw new CllmError(
        "CLLM_INVALID_MODEL",
        `${where} names the token ${show(id)} as ${name}, but has ${texts.length} tokens.`,
      );
    }
    ids.set(name, id);
    keys.push([`tokenizer.ggml.${key}_token_id`, { type: "u32", value: id }]);
  }
  for (const [name, id] of template.ids) {
    if (ids.get(name) !== id)
      throw unsupported(where, `token ${show(id)} around a text, which is not its ${name}_token`);
  }
  // llama.cpp has defaults of its own where a file does not say it.
  const isLlama =
    /^(Code)?Llama/.test(String(contentOf(settings.tokenizer_class) ?? "")) || (model === "llama" && json === null);
  for (const name of ["bos", "eos"]) {
    const setting = settings[`add_${name}_token`];
    // Tokenizers of the Llama classes follow the setting, others their template.
    const usual = json === null ? name === "bos" && special?.bos !== -1 : template.ids.has(name);
    keys.push(flag(`add_${name}_token`, isLlama && typeof setting === "boolean" ? setting : usual));
  }
  if (template.sep !== undefined) keys.push(flag("add_sep_token", template.sep));
  return keys;
}

/** The special tokens that the tokenizer's template puts around a text, by name, and whether one goes between two texts. */
function postProcessing(
  where: string,
  json: Json | null,
  names: Map<string, string | undefined>,
): { ids: Map<string, number>; sep?: boolean } {
  const result: { ids: Map<string, number>; sep?: boolean } = { ids: new Map() };
  const processor = json?.post_processor;
  if (!isRecord(processor)) return result;
  const all = processor.type === "Sequence" && Array.isArray(processor.processors) ? processor.processors : [processor];
  for (const each of all.filter(isRecord)) {
    if (each.type === "ByteLevel") continue;
    if (each.type !== "TemplateProcessing" || !Array.isArray(each.single)) {
      throw unsupported(where, `what ${show(each.type)} puts around a text`);
    }
    const special = (item: unknown): string | undefined =>
      isRecord(item) && isRecord(item.SpecialToken) && typeof item.SpecialToken.id === "string"
        ? item.SpecialToken.id
        : undefined;
    const idOf = (text: string): number => {
      const entry = isRecord(each.special_tokens) ? each.special_tokens[text] : undefined;
      const list = isRecord(entry) && Array.isArray(entry.ids) ? entry.ids : [];
      if (list.length !== 1 || typeof list[0] !== "number")
        throw unsupported(where, `several tokens for ${show(text)}`);
      return list[0];
    };
    const { single } = each;
    const sequence = single.findIndex((item) => special(item) === undefined);
    if (sequence < 0 || sequence > 1 || single.length - 1 - sequence > 1) {
      throw unsupported(where, "more than one special token before or behind a text");
    }
    for (const [name, item] of [
      ["bos", sequence === 1 ? single[0] : undefined],
      ["eos", single.length - 1 > sequence ? single.at(-1) : undefined],
    ] as const) {
      const text = special(item);
      if (text === undefined) continue;
      if (names.get(name) === undefined) names.set(name, text);
      const side = name === "bos" ? "before" : "behind";
      if (names.get(name) !== text)
        throw unsupported(where, `${show(text)} ${side} a text, which is not its ${name}_token`);
      result.ids.set(name, idOf(text));
    }
    // Between two texts only some encoders put a token; for language models the file says that there is none.
    const pair = Array.isArray(each.pair) ? each.pair : [];
    const [a, b] = ["A", "B"].map((id) => pair.findIndex((item) => sequenceOf(item) === id)) as [number, number];
    if (a >= 0 && b > a + 1) {
      const between = special(pair[a + 1]);
      const isSeparator = between === names.get("sep") || between === names.get("eos");
      result.sep = !result.ids.has("eos") && isSeparator;
    }
  }
  return result;
}

function sequenceOf(item: unknown): unknown {
  return isRecord(item) && isRecord(item.Sequence) ? item.Sequence.id : undefined;
}

async function chatTemplate(folder: string, settings: Json): Promise<unknown> {
  const own = settings.chat_template;
  if (own !== undefined && own !== null) return own;
  const file = await readText(folder, "chat_template.jinja");
  return file ?? (await readObject(folder, "chat_template.json"))?.chat_template;
}

/** One template, or several with names, of which `default` is used. */
function templateKeys(template: unknown): [string, GgufValue][] {
  if (typeof template === "string") return [["tokenizer.chat_template", { type: "string", value: template }]];
  if (!Array.isArray(template)) return [];
  const keys: [string, GgufValue][] = [];
  const names: string[] = [];
  for (const { name, template: text } of template.filter(isRecord)) {
    if (typeof name !== "string" || typeof text !== "string") continue;
    const safe = name.replace(/[^A-Za-z0-9]/g, "_");
    if (safe !== "default") names.push(safe);
    keys.push([
      safe === "default" ? "tokenizer.chat_template" : `tokenizer.chat_template.${safe}`,
      { type: "string", value: text },
    ]);
  }
  if (names.length > 0) keys.push(["tokenizer.chat_templates", { type: "strings", value: names }]);
  return keys;
}

/** A special token in tokenizer_config.json is a text, or an object with one. */
function contentOf(value: unknown): string | undefined {
  const content = isRecord(value) ? value.content : value;
  return typeof content === "string" ? content : undefined;
}

function flag(name: string, value: boolean): [string, GgufValue] {
  return [`tokenizer.ggml.${name}`, { type: "bool", value }];
}

function unsupported(where: string, what: string): CllmError {
  return new CllmError("CLLM_UNSUPPORTED_MODEL", `The tokenizer of ${where} cannot be converted: it puts ${what}.`);
}

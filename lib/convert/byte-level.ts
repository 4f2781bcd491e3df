import { isRecord, type Json, show } from "./json-files.js";
import { invalidTokenizer, unsupportedTokenizer } from "./refusals.js";
import { looksSpecial, TOKEN, type Vocabulary } from "./vocabulary.js";

/**
 * How text is cut before tokens are made of it, by llama.cpp's names, in the form of {@link outline}. llama.cpp knows these
 * ways by name only, so a tokenizer.json with another is refused.
 */
const CUTS: Record<string, string> = {
  "split \"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+\", bytes":
    "llama-bpe",
  "split \"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+\", bytes":
    "qwen2",
  'split "[\\r\\n]", split "\\s?\\p{L}+", split "\\s?\\p{P}+", split "[一-龥ࠀ-一가-퟿]+", digits, bytes':
    "deepseek-coder",
  "digits, bytes with words": "smollm",
  "bytes with words": "gpt-2",
};

/** Ways that go on to take a cut piece as one token where the vocabulary has it, before any merge. */
const IGNORES_MERGES = new Set(["llama-bpe"]);

/**
 * Reads a byte-level BPE of tokenizer.json.
 *
 * @throws {@link CllmError} `CLLM_UNSUPPORTED_MODEL`, `CLLM_INVALID_MODEL`
 */
export function readByteLevel(where: string, json: Json, size: number): Vocabulary {
  const model = checkBpe(where, json);
  const way = outline(json.pre_tokenizer);
  const pre = Object.hasOwn(CUTS, way) ? CUTS[way] : undefined;
  if (pre === undefined)
    throw unsupportedTokenizer(
      where,
      `an unknown way to cut text before tokens are made of it (${way.slice(0, 200) || "none"})`,
    );
  if ((model.ignore_merges === true) !== IGNORES_MERGES.has(pre)) {
    throw unsupportedTokenizer(
      where,
      `ignore_merges ${model.ignore_merges === true}, which llama.cpp's ${pre} has not`,
    );
  }
  // llama.cpp does not compose characters. Text that is composed already, as nearly all is, gets the same tokens.
  const normalizer = isRecord(json.normalizer) ? json.normalizer.type : null;
  const normalizers = isRecord(json.normalizer) ? json.normalizer.normalizers : undefined;
  const isEmpty = normalizer === "Sequence" && Array.isArray(normalizers) && normalizers.length === 0;
  if (normalizer !== null && normalizer !== "NFC" && !isEmpty) {
    throw unsupportedTokenizer(where, `the normalizer ${show(normalizer)}; NFC or none is converted`);
  }
  for (const letter of byteLetters()) {
    if (!Object.hasOwn(model.vocab, letter)) throw unsupportedTokenizer(where, `no token for the byte ${show(letter)}`);
  }
  const { texts, types } = listTokens(where, model.vocab, json.added_tokens, size, normalizer !== null && !isEmpty);
  const merges = model.merges.map((merge) => readMerge(where, merge, model.vocab));
  return { model: "gpt2", pre, texts, types, merges: merges.map((pair) => pair.join(" ")) };
}

/** A BPE of tokenizer.json without settings that llama.cpp does not know. */
export function checkBpe(where: string, { model }: Json): Json & { vocab: Json; merges: unknown[] } {
  if (!isRecord(model) || model.type !== "BPE" || !isRecord(model.vocab) || !Array.isArray(model.merges)) {
    const type = isRecord(model) ? model.type : model;
    throw unsupportedTokenizer(where, `the model ${show(type)}; BPE with a vocabulary and merges is converted`);
  }
  for (const key of ["dropout", "continuing_subword_prefix", "end_of_word_suffix"]) {
    if (model[key] != null && model[key] !== "") throw unsupportedTokenizer(where, `the setting ${key}`);
  }
  return model as Json & { vocab: Json; merges: unknown[] };
}

/** GPT-2's letters for the 256 bytes, by byte. */
function byteLetters(): string[] {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const isPrinted = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    return String.fromCodePoint(isPrinted ? byte : next++);
  });
}

/**
 * The tokens by their numbers, with added ones; numbers without a token get a text that no input has. `isNormalized`: the
 * tokenizer changes a text before it looks for tokens.
 */
export function listTokens(
  where: string,
  vocabulary: Json,
  addedTokens: unknown,
  size: number,
  isNormalized: boolean,
): { texts: string[]; types: number[] } {
  const texts: string[] = Array.from({ length: size }, (_, i) => `[PAD${i}]`);
  const types: number[] = new Array(size).fill(TOKEN.unused);
  const taken = new Map<number, string>();
  const set = (text: string, id: unknown, type: number): void => {
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) >= size) {
      throw invalidTokenizer(where, `the token ${show(text)} has the number ${show(id)}, but vocab_size is ${size}`);
    }
    const other = taken.get(id as number);
    if (other !== undefined && other !== text) {
      throw invalidTokenizer(where, `the tokens ${show(other)} and ${show(text)} have the same number ${id}`);
    }
    taken.set(id as number, text);
    texts[id as number] = text;
    types[id as number] = type;
  };
  for (const [text, id] of Object.entries(vocabulary)) set(text, id, TOKEN.normal);
  for (const token of Array.isArray(addedTokens) ? addedTokens.filter(isRecord) : []) {
    const { content, id, special } = token;
    if (typeof content !== "string" || content === "") throw invalidTokenizer(where, "an added token has no text");
    for (const flag of ["lstrip", "rstrip", "single_word"]) {
      if (token[flag] === true) throw unsupportedTokenizer(where, `the added token ${show(content)} with ${flag}`);
    }
    if (isNormalized && token.normalized === true && special !== true) {
      throw unsupportedTokenizer(where, `the added token ${show(content)}, which is normalized`);
    }
    set(content, id, special === true || looksSpecial(content) ? TOKEN.control : TOKEN.userDefined);
  }
  return { texts, types };
}

/**
 * A merge is "left right", or since transformers 4.45 [left, right], where a space inside becomes the letter for it. Both parts
 * and what they make are tokens.
 */
export function readMerge(where: string, merge: unknown, vocabulary: Json): [string, string] {
  const parts: unknown = typeof merge === "string" ? merge.split(" ") : merge;
  if (!Array.isArray(parts) || parts.length !== 2 || !parts.every((part) => typeof part === "string" && part !== "")) {
    throw invalidTokenizer(where, `the merge ${show(merge)} is no pair of texts`);
  }
  const [left, right] = parts.map((part: string) => part.replaceAll(" ", "\u0120")) as [string, string];
  for (const text of [left, right, left + right]) {
    if (!Object.hasOwn(vocabulary, text))
      throw invalidTokenizer(where, `the merge ${show(merge)} has ${show(text)}, which is no token`);
  }
  return [left, right];
}

/** The pre-tokenizers in words, one after the other; settings that change nothing here are left out. */
function outline(preTokenizer: unknown, depth = 0): string {
  if (!isRecord(preTokenizer)) return "";
  if (depth > 4) return "nested";
  const { type, pattern, behavior, invert } = preTokenizer;
  switch (type) {
    case "Sequence":
      return (Array.isArray(preTokenizer.pretokenizers) ? preTokenizer.pretokenizers : [])
        .map((each) => outline(each, depth + 1))
        .join(", ");
    case "Split": {
      const text = isRecord(pattern) && typeof pattern.Regex === "string" ? pattern.Regex : "";
      const regex = text.replaceAll("\r", "\\r").replaceAll("\n", "\\n");
      return behavior === "Isolated" && invert !== true ? `split "${regex}"` : `split "${regex}" ${show(behavior)}`;
    }
    case "Digits":
      return preTokenizer.individual_digits === true ? "digits" : "numbers";
    case "ByteLevel":
      return `bytes${preTokenizer.add_prefix_space === true ? " behind a space" : ""}${preTokenizer.use_regex === false ? "" : " with words"}`;
    default:
      return show(type);
  }
}

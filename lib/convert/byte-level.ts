import { CllmError } from "../errors.js";
import { isRecord, type Json } from "./json-files.js";
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
  const model = isRecord(json.model) ? json.model : {};
  if (model.type !== "BPE" || !isRecord(model.vocab) || !Array.isArray(model.merges)) {
    throw unsupported(where, `the model ${JSON.stringify(model.type)}; BPE with a vocabulary and merges is converted`);
  }
  const way = outline(json.pre_tokenizer);
  const pre = Object.hasOwn(CUTS, way) ? CUTS[way] : undefined;
  if (pre === undefined)
    throw unsupported(where, `an unknown way to cut text before tokens are made of it (${way || "none"})`);
  if ((model.ignore_merges === true) !== IGNORES_MERGES.has(pre)) {
    throw unsupported(where, `ignore_merges ${model.ignore_merges === true}, which llama.cpp's ${pre} has not`);
  }
  // llama.cpp does not compose characters. Text that is composed already, as nearly all is, gets the same tokens.
  const normalizer = isRecord(json.normalizer) ? json.normalizer.type : null;
  const normalizers = isRecord(json.normalizer) ? json.normalizer.normalizers : undefined;
  const isEmpty = normalizer === "Sequence" && Array.isArray(normalizers) && normalizers.length === 0;
  if (normalizer !== null && normalizer !== "NFC" && !isEmpty) {
    throw unsupported(where, `the normalizer ${JSON.stringify(normalizer)}; NFC or none is converted`);
  }
  const { texts, types } = listTokens(where, model.vocab, json.added_tokens, size);
  return { model: "gpt2", pre, texts, types, merges: model.merges.map((merge) => readMerge(where, merge)) };
}

/**
 * The tokens by their numbers, with added ones; numbers without a token get a text that no input has.
 */
export function listTokens(
  where: string,
  vocabulary: Json,
  addedTokens: unknown,
  size: number,
): { texts: string[]; types: number[] } {
  const texts: string[] = Array.from({ length: size }, (_, i) => `[PAD${i}]`);
  const types: number[] = new Array(size).fill(TOKEN.unused);
  const taken = new Map<number, string>();
  const set = (text: string, id: unknown, type: number, as = text): void => {
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) >= size) {
      throw invalid(where, `the token ${JSON.stringify(text)} has the number ${id}, but vocab_size is ${size}`);
    }
    const other = taken.get(id as number);
    if (other !== undefined && other !== text) {
      throw invalid(
        where,
        `the tokens ${JSON.stringify(other)} and ${JSON.stringify(text)} have the same number ${id}`,
      );
    }
    taken.set(id as number, text);
    texts[id as number] = as;
    types[id as number] = type;
  };
  for (const [text, id] of Object.entries(vocabulary)) set(text, id, TOKEN.normal);
  for (const { content, id, special } of Array.isArray(addedTokens) ? addedTokens.filter(isRecord) : []) {
    if (typeof content !== "string") throw invalid(where, "an added token has no text");
    if (special === true || looksSpecial(content)) set(content, id, TOKEN.control);
    else set(content, id, TOKEN.userDefined, content.replaceAll("\u2581", " "));
  }
  return { texts, types };
}

/** A merge is "left right", or since transformers 4.45 [left, right], where a space inside becomes the letter for it. */
export function readMerge(where: string, merge: unknown): string {
  if (typeof merge === "string" && merge.split(" ").length === 2) return merge;
  if (Array.isArray(merge) && merge.length === 2 && merge.every((part) => typeof part === "string")) {
    return merge.map((part: string) => part.replaceAll(" ", "\u0120")).join(" ");
  }
  throw invalid(where, `the merge ${JSON.stringify(merge)} is no pair of texts`);
}

/** The pre-tokenizers in words, one after the other; settings that change nothing here are left out. */
function outline(preTokenizer: unknown): string {
  if (!isRecord(preTokenizer)) return "";
  const { type, pattern, behavior, invert } = preTokenizer;
  switch (type) {
    case "Sequence":
      return (Array.isArray(preTokenizer.pretokenizers) ? preTokenizer.pretokenizers : []).map(outline).join(", ");
    case "Split": {
      const regex = String(isRecord(pattern) ? pattern.Regex : undefined)
        .replaceAll("\r", "\\r")
        .replaceAll("\n", "\\n");
      return behavior === "Isolated" && invert !== true ? `split "${regex}"` : `split "${regex}" ${behavior}`;
    }
    case "Digits":
      return preTokenizer.individual_digits === true ? "digits" : "numbers";
    case "ByteLevel":
      return `bytes${preTokenizer.add_prefix_space === true ? " behind a space" : ""}${preTokenizer.use_regex === false ? "" : " with words"}`;
    default:
      return String(type);
  }
}

function unsupported(where: string, what: string): CllmError {
  return new CllmError("CLLM_UNSUPPORTED_MODEL", `The tokenizer of ${where} cannot be converted: it has ${what}.`);
}

function invalid(where: string, reason: string): CllmError {
  return new CllmError("CLLM_INVALID_MODEL", `The tokenizer of ${where} cannot be converted: ${reason}.`);
}

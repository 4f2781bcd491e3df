import type { CllmError } from "../errors.js";
import { checkBpe, listTokens, readMerge } from "./byte-level.js";
import { isRecord, type Json, show } from "./json-files.js";
import { invalidTokenizer, unsupportedTokenizer } from "./refusals.js";
import { looksSpecial, TOKEN, type Vocabulary } from "./vocabulary.js";

/** The score of tokens that no text is merged into. */
const NO_SCORE = -1000;

/**
 * Reads tokenizer.model, a message of SentencePiece's sentencepiece_model.proto, and the tokens that were added to it.
 *
 * @throws {@link CllmError} `CLLM_UNSUPPORTED_MODEL`, `CLLM_INVALID_MODEL`
 */
export function readSentencePiece(
  where: string,
  file: Buffer,
  size: number,
  { added, settings, json }: { added: Json; settings: Json; json: Json | null },
): Vocabulary {
  const model = parseModel(where, file);
  if (model.kind !== 2) throw unsupportedTokenizer(where, "a SentencePiece model other than BPE");
  if (model.normalizer !== "" && model.normalizer !== "identity") {
    throw unsupportedTokenizer(where, `the normalizer ${show(model.normalizer)}; only "identity" is converted`);
  }
  if (model.isSuffix) throw unsupportedTokenizer(where, "spaces behind words (treat_whitespace_as_suffix)");
  if (!model.escapesSpaces) throw unsupportedTokenizer(where, "escape_whitespaces false");
  if (model.addsSpace && model.pieces.some(({ type }) => type === TOKEN.userDefined)) {
    throw unsupportedTokenizer(where, "user-defined symbols, behind which llama.cpp puts a space");
  }
  if (model.removesSpaces) throw unsupportedTokenizer(where, "remove_extra_whitespaces, which llama.cpp does not do");
  if (model.pieces.length > size) {
    throw invalidTokenizer(where, `it has ${model.pieces.length} tokens, but vocab_size is ${size}`);
  }
  const textOf = ({ text, type }: Piece): string =>
    type === TOKEN.userDefined ? text.replaceAll("\u2581", " ") : text;
  const texts = Array.from({ length: size }, (_, i) => {
    const piece = model.pieces[i];
    return piece === undefined ? `[PAD${i}]` : textOf(piece);
  });
  const types = Array.from({ length: size }, (_, i) => model.pieces[i]?.type ?? TOKEN.unused);
  const scores = Array.from({ length: size }, (_, i) => model.pieces[i]?.score ?? -10000);
  const set = (text: unknown, id: number, isControl: boolean): void => {
    if (typeof text !== "string" || !Number.isInteger(id) || id < 0 || id >= size) {
      throw invalidTokenizer(
        where,
        `the added token ${show(text)} has the number ${show(id)}, but vocab_size is ${size}`,
      );
    }
    texts[id] = isControl ? text : text.replaceAll("\u2581", " ");
    types[id] = isControl ? TOKEN.control : TOKEN.userDefined;
    scores[id] = NO_SCORE;
  };
  for (const [text, id] of Object.entries(added)) set(text, id as number, false);
  const decoder = isRecord(settings.added_tokens_decoder) ? settings.added_tokens_decoder : {};
  for (const [id, token] of Object.entries(decoder)) {
    if (!isRecord(token)) continue;
    set(
      token.content,
      Number(id),
      token.special === true || (typeof token.content === "string" && looksSpecial(token.content)),
    );
  }
  // A newer tokenizer.json beside it may have tokens that stand nowhere else.
  for (const { content, id, special } of Array.isArray(json?.added_tokens) ? json.added_tokens.filter(isRecord) : []) {
    const isNew = types[id as number] === TOKEN.unused || !Number.isInteger(id) || (id as number) >= size;
    if (isNew) set(content, id as number, special === true || (typeof content === "string" && looksSpecial(content)));
    else if (texts[id as number] !== content) {
      throw invalidTokenizer(
        where,
        `token ${id} is ${show(texts[id as number])} in tokenizer.model and ${show(content)} in tokenizer.json`,
      );
    }
  }
  checkBytes(where, texts, types);
  const vocabulary: Vocabulary = { model: "llama", pre: "default", texts, types, scores, special: model.special };
  return model.addsSpace ? vocabulary : { ...vocabulary, addSpacePrefix: false };
}

/**
 * Reads a BPE with byte fallback of tokenizer.json, as transformers makes it of a SentencePiece model. llama.cpp merges by
 * the scores of the results and not by a list of merges, so the scores say which merge of the list comes first. They can,
 * where all merges with one result stand before all with a later one, as in each list made of scores.
 *
 * @throws {@link CllmError} `CLLM_UNSUPPORTED_MODEL`, `CLLM_INVALID_MODEL`
 */
export function readFallbackBpe(where: string, json: Json, size: number): Vocabulary {
  const model = checkBpe(where, json);
  const { texts, types } = listTokens(where, model.vocab, json.added_tokens, size, true);
  for (const [text, id] of Object.entries(model.vocab)) {
    if (/^<0x[0-9A-F]{2}>$/.test(text)) types[id as number] = TOKEN.byte;
  }
  checkBytes(where, texts, types);
  const unknown = typeof model.unk_token === "string" ? model.vocab[model.unk_token] : undefined;
  if (typeof unknown === "number") types[unknown] = TOKEN.unknown;
  const scores = scoresOf(where, model.vocab, model.merges, size);
  // User-defined tokens are looked for in the text as it is, where a space is a space.
  const plain = texts.map((text, i) => (types[i] === TOKEN.userDefined ? text.replaceAll("\u2581", " ") : text));
  return { model: "llama", pre: "default", texts: plain, types, scores, ...prefixOf(where, json) };
}

/** llama.cpp writes what no token stands for in bytes, and fails where one of them is no token. */
function checkBytes(where: string, texts: readonly string[], types: readonly number[]): void {
  const bytes = new Set(texts.filter((_, i) => types[i] === TOKEN.byte));
  for (let byte = 0; byte < 256; byte++) {
    const text = `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
    if (!bytes.has(text)) throw unsupportedTokenizer(where, `no token ${text}: all bytes are needed`);
  }
}

function scoresOf(where: string, vocabulary: Json, merges: readonly unknown[], size: number): number[] {
  const scores: number[] = new Array(size).fill(NO_SCORE * 1000);
  let rank = 0;
  let last = "";
  const pairs = new Set<string>();
  const results = new Set<string>();
  for (const merge of merges) {
    const [left, right] = readMerge(where, merge, vocabulary);
    pairs.add(`${left} ${right}`);
    const result = left + right;
    if (result === last) continue;
    if (results.has(result)) {
      throw unsupportedTokenizer(
        where,
        `merges in an order that scores cannot give (of ${show(result)}); it needs tokenizer.model`,
      );
    }
    results.add(result);
    last = result;
    scores[vocabulary[result] as number] = -rank++;
  }
  // llama.cpp merges any two tokens that make a third.
  for (const result of results) {
    for (let at = 1; at < result.length; at++) {
      const [left, right] = [result.slice(0, at), result.slice(at)];
      if (!Object.hasOwn(vocabulary, left) || !Object.hasOwn(vocabulary, right) || pairs.has(`${left} ${right}`))
        continue;
      throw unsupportedTokenizer(
        where,
        `no merge of ${show(left)} and ${show(right)}, which llama.cpp merges all the same`,
      );
    }
  }
  return scores;
}

/** SentencePiece puts a space in front of a text; tokenizer.json says it by a normalizer or a pre-tokenizer. */
function prefixOf(where: string, { normalizer, pre_tokenizer: pre }: Json): { addSpacePrefix?: boolean } {
  const steps = (value: unknown): Json[] => {
    if (!isRecord(value)) return [];
    return Array.isArray(value.normalizers) ? value.normalizers.filter(isRecord) : [value];
  };
  let addSpacePrefix = false;
  let replaces = false;
  const all = [...steps(normalizer), ...steps(pre)];
  for (const step of all) {
    if (step.type === "Prepend" && step.prepend === "\u2581") {
      addSpacePrefix = true;
    } else if (step.type === "Metaspace" && step.replacement === "\u2581") {
      replaces = true;
      if (step.prepend_scheme !== "never" && step.add_prefix_space !== false) addSpacePrefix = true;
    } else if (
      step.type === "Replace" &&
      isRecord(step.pattern) &&
      step.pattern.String === " " &&
      step.content === "\u2581"
    ) {
      replaces = true;
    } else {
      throw unsupportedTokenizer(where, `the normalizer or pre-tokenizer ${show(step.type)}`);
    }
  }
  if (all.some(({ type }) => type === "Prepend") && all.some(({ type }) => type === "Metaspace")) {
    throw unsupportedTokenizer(where, "Prepend and Metaspace together");
  }
  if (!replaces) throw unsupportedTokenizer(where, "no normalizer or pre-tokenizer that replaces spaces");
  return addSpacePrefix ? {} : { addSpacePrefix };
}

interface Piece {
  text: string;
  score: number;
  type: number;
}

interface SentencePieceModel {
  pieces: Piece[];
  kind: number;
  isSuffix: boolean;
  escapesSpaces: boolean;
  /** Numbers of the special tokens that the trainer was given, by their names; -1 for none. */
  special: Record<string, number>;
  normalizer: string;
  addsSpace: boolean;
  removesSpaces: boolean;
}

/** Field numbers are those of sentencepiece_model.proto. */
function parseModel(where: string, file: Buffer): SentencePieceModel {
  const model: SentencePieceModel = {
    pieces: [],
    kind: 1,
    isSuffix: false,
    escapesSpaces: true,
    special: {}, // without an entry unk is 0, bos 1 and eos 2, in llama.cpp too
    normalizer: "",
    addsSpace: true,
    removesSpaces: true,
  };
  for (const { field, bytes } of fieldsOf(where, file)) {
    if (bytes === null) continue;
    if (field === 1) {
      const piece = { text: "", score: 0, type: TOKEN.normal as number };
      for (const part of fieldsOf(where, bytes)) {
        if (part.field === 1 && part.bytes) piece.text = part.bytes.toString("utf8");
        if (part.field === 2 && part.bytes?.length === 4) piece.score = part.bytes.readFloatLE();
        if (part.field === 3) piece.type = part.value;
      }
      model.pieces.push(piece);
    } else if (field === 2) {
      for (const { field: number, value } of fieldsOf(where, bytes)) {
        if (number === 3) model.kind = value;
        if (number === 24) model.isSuffix = value !== 0;
        const name = { 40: "unk", 41: "bos", 42: "eos", 43: "pad" }[number];
        // Negative numbers are written as 64 bits.
        if (name !== undefined) model.special[name] = value > 2 ** 31 ? -1 : value;
      }
    } else if (field === 3) {
      for (const part of fieldsOf(where, bytes)) {
        if (part.field === 1 && part.bytes) model.normalizer = part.bytes.toString("utf8");
        if (part.field === 3) model.addsSpace = part.value !== 0;
        if (part.field === 4) model.removesSpaces = part.value !== 0;
        if (part.field === 5) model.escapesSpaces = part.value !== 0;
      }
    }
  }
  if (model.pieces.length === 0) throw invalidTokenizer(where, "tokenizer.model holds no tokens");
  return model;
}

interface Field {
  field: number;
  value: number;
  bytes: Buffer | null;
}

/** Takes a Protocol Buffers message apart. A number of up to 53 bits is a `value`, everything else `bytes`. */
function fieldsOf(where: string, message: Buffer): Field[] {
  const fields: Field[] = [];
  let at = 0;
  const cutOff = (): CllmError => invalidTokenizer(where, "tokenizer.model is no SentencePiece model, or cut off");
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; shift < 64; shift += 7) {
      const byte = message[at++];
      if (byte === undefined) throw cutOff();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw cutOff();
  };
  while (at < message.length) {
    const tag = varint();
    const [field, kind] = [Math.floor(tag / 8), tag % 8];
    if (kind === 0) {
      fields.push({ field, value: varint(), bytes: null });
      continue;
    }
    const length = kind === 2 ? varint() : kind === 5 ? 4 : kind === 1 ? 8 : Number.NaN;
    if (!(at + length <= message.length)) throw cutOff();
    fields.push({ field, value: 0, bytes: message.subarray(at, at + length) });
    at += length;
  }
  return fields;
}

import { CllmError } from "../errors.js";
import { listTokens, readMerge } from "./byte-level.js";
import { isRecord, type Json } from "./json-files.js";
import { looksSpecial, TOKEN, type Vocabulary } from "./vocabulary.js";

/** The score of tokens that no text is merged into. */
const NO_SCORE = -1000;

/**
 * Reads tokenizer.model, a message of SentencePiece's sentencepiece_model.proto, and the tokens that were added to it.
 *
 * @throws {@link CllmError} `CLLM_UNSUPPORTED_MODEL`, `CLLM_INVALID_MODEL`
 */
export function readSentencePiece(where: string, file: Buffer, size: number, added: Json, settings: Json): Vocabulary {
  const model = parseModel(where, file);
  if (model.kind !== 2) throw unsupported(where, "a SentencePiece model other than BPE");
  if (model.normalizer !== "" && model.normalizer !== "identity") {
    throw unsupported(where, `the normalizer ${JSON.stringify(model.normalizer)}; only "identity" is converted`);
  }
  if (model.removesSpaces) throw unsupported(where, "remove_extra_whitespaces, which llama.cpp does not do");
  if (model.pieces.length > size) {
    throw invalid(where, `it has ${model.pieces.length} tokens, but vocab_size is ${size}`);
  }
  const texts: string[] = Array.from({ length: size }, (_, i) => model.pieces[i]?.text ?? `[PAD${i}]`);
  const types = Array.from({ length: size }, (_, i) => model.pieces[i]?.type ?? TOKEN.unused);
  const scores = Array.from({ length: size }, (_, i) => model.pieces[i]?.score ?? -10000);
  const set = (text: unknown, id: number, isControl: boolean): void => {
    if (typeof text !== "string" || !Number.isInteger(id) || id < 0 || id >= size) {
      throw invalid(where, `the added token ${JSON.stringify(text)} has the number ${id}, but vocab_size is ${size}`);
    }
    texts[id] = isControl ? text : text.replaceAll("\u2581", " ");
    types[id] = isControl ? TOKEN.control : TOKEN.userDefined;
    scores[id] = NO_SCORE;
  };
  for (const [text, id] of Object.entries(added)) set(text, id as number, false);
  const decoder = isRecord(settings.added_tokens_decoder) ? settings.added_tokens_decoder : {};
  for (const [id, token] of Object.entries(decoder)) {
    if (!isRecord(token)) continue;
    set(token.content, Number(id), token.special === true || looksSpecial(String(token.content)));
  }
  const vocabulary: Vocabulary = { model: "llama", pre: "default", texts, types, scores };
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
  const model = isRecord(json.model) ? json.model : {};
  if (model.type !== "BPE" || !isRecord(model.vocab) || !Array.isArray(model.merges)) {
    throw unsupported(where, `the model ${JSON.stringify(model.type)}; BPE with a vocabulary and merges is converted`);
  }
  const { texts, types } = listTokens(where, model.vocab, json.added_tokens, size);
  for (const [text, id] of Object.entries(model.vocab)) {
    if (/^<0x[0-9A-F]{2}>$/i.test(text)) types[id as number] = TOKEN.byte;
  }
  const unknown = typeof model.unk_token === "string" ? model.vocab[model.unk_token] : undefined;
  if (typeof unknown === "number") types[unknown] = TOKEN.unknown;
  return {
    model: "llama",
    pre: "default",
    texts,
    types,
    scores: scoresOf(where, model.vocab, model.merges, size),
    ...prefixOf(where, json),
  };
}

function scoresOf(where: string, vocabulary: Json, merges: unknown[], size: number): number[] {
  const scores: number[] = new Array(size).fill(NO_SCORE * 1000);
  let rank = 0;
  let last = "";
  const seen = new Set<string>();
  for (const merge of merges) {
    const result = (Array.isArray(merge) ? merge.join("") : readMerge(where, merge).replace(" ", "")) as string;
    if (result === last) continue;
    if (seen.has(result)) {
      throw unsupported(
        where,
        `merges in an order that scores cannot give (of ${JSON.stringify(result)}); it needs tokenizer.model`,
      );
    }
    const id = vocabulary[result];
    if (typeof id !== "number") throw invalid(where, `a merge gives ${JSON.stringify(result)}, which is no token`);
    seen.add(result);
    last = result;
    scores[id] = -rank++;
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
  for (const step of [...steps(normalizer), ...steps(pre)]) {
    if (step.type === "Prepend" && step.prepend === "\u2581") addSpacePrefix = true;
    else if (step.type === "Metaspace" && step.replacement === "\u2581")
      addSpacePrefix = step.prepend_scheme !== "never";
    else if (
      step.type !== "Replace" ||
      !isRecord(step.pattern) ||
      step.pattern.String !== " " ||
      step.content !== "\u2581"
    ) {
      throw unsupported(where, `the normalizer or pre-tokenizer ${JSON.stringify(step.type)}`);
    }
  }
  return addSpacePrefix ? {} : { addSpacePrefix };
}

interface SentencePieceModel {
  pieces: { text: string; score: number; type: number }[];
  kind: number;
  normalizer: string;
  addsSpace: boolean;
  removesSpaces: boolean;
}

/** Field numbers are those of sentencepiece_model.proto. */
function parseModel(where: string, file: Buffer): SentencePieceModel {
  const model: SentencePieceModel = { pieces: [], kind: 1, normalizer: "", addsSpace: true, removesSpaces: true };
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
      for (const part of fieldsOf(where, bytes)) if (part.field === 3) model.kind = part.value;
    } else if (field === 3) {
      for (const part of fieldsOf(where, bytes)) {
        if (part.field === 1 && part.bytes) model.normalizer = part.bytes.toString("utf8");
        if (part.field === 3) model.addsSpace = part.value !== 0;
        if (part.field === 4) model.removesSpaces = part.value !== 0;
      }
    }
  }
  if (model.pieces.length === 0) throw invalid(where, "tokenizer.model holds no tokens");
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
  const cutOff = (): CllmError => invalid(where, "tokenizer.model is no SentencePiece model, or cut off");
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

function unsupported(where: string, what: string): CllmError {
  return new CllmError("CLLM_UNSUPPORTED_MODEL", `The tokenizer of ${where} cannot be converted: it has ${what}.`);
}

function invalid(where: string, reason: string): CllmError {
  return new CllmError("CLLM_INVALID_MODEL", `The tokenizer of ${where} cannot be converted: ${reason}.`);
}

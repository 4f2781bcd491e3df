import { randomInt } from "node:crypto";
import type { Choosing, TokenRules } from "../addon.js";
import { addon } from "../binary/binding.js";
import { DEFAULT_PENALTY_TOKENS, MAX_INT32, MAX_SEED } from "../limits.js";
import type { OptionsReader } from "../options.js";
import * as check from "../options.js";

/**
 * How tokens are chosen. The steps come in llama.cpp's order: top-k, top-p, min-p, then temperature.
 * The noise is a function of (seed, position, token), so block size, lanes and drafts have no influence on the text.
 */
export interface SamplingOptions {
  /** 0 (default) takes the most probable token; 1 draws from the model's own distribution. 0, or 0.001 to 1000. */
  temperature?: number | undefined;
  /** Draw among the k most probable tokens; 0 (default) = no limit. */
  topK?: number | undefined;
  /** Draw among the most probable tokens that together have this probability, above 0 to 1. Default 1: all. */
  topP?: number | undefined;
  /** Draw among tokens that have at least this share of the largest probability, 0 to 1. Default 0: all. */
  minP?: number | undefined;
  /**
   * An unsigned 32-bit integer. With a temperature the same seed gives the same text; without one a seed is drawn, which
   * the result reports. It also seeds the random part of drafts, which changes the work, never the text.
   */
  seed?: number | undefined;
}

/** Biases of tokens, for generate() and stream(). */
export interface BiasOptions {
  /** Pairs of a token id and a number from -1000 to 1000, which is added to the token's logit before anything else. */
  logitBias?: Iterable<readonly [number, number]> | Readonly<Record<number, number>> | undefined;
  /** Tokens that are never chosen. */
  bannedTokens?: Iterable<number> | undefined;
}

/**
 * Rules by which a token's choice depends on the tokens before it. They are exact for every block size, since a token
 * is chosen again behind each accepted draft; the lane then decodes on the host runner.
 */
export interface RuleOptions {
  /**
   * The answer follows this grammar in GBNF (llama.cpp's `grammars/README.md`), whose root is the rule `root`, and ends
   * where the grammar does.
   */
  grammar?: string | undefined;
  /**
   * The answer is JSON of this schema, from which llama.cpp's converter makes a grammar; it excludes `grammar`. A
   * `pattern` that is not anchored with ^ and $ allows any string.
   */
  jsonSchema?: object | undefined;
  /** Divides positive logits of tokens among the last ones, and multiplies negative ones. 0.01 to 100; default 1: off. */
  repeatPenalty?: number | undefined;
  /** Subtracted from a token's logit for each time that it is among the last ones, -100 to 100. Default 0. */
  frequencyPenalty?: number | undefined;
  /** Subtracted once from the logit of each token among the last ones, -100 to 100. Default 0. */
  presencePenalty?: number | undefined;
  /** How many of the last tokens of prompt and answer the penalties see. Default 64. */
  penaltyTokens?: number | undefined;
}

const TEMPERATURE_MIN = 1e-3;
const TEMPERATURE_MAX = 1e3;
const BIAS_MAX = 1000;
const PENALTY_MAX = 100;

/** Reads SamplingOptions. `defaultSeed` is the decoder's, or null where it has none. */
export function readSampling(read: OptionsReader, defaultSeed: number | null): Choosing {
  const temperature = read.number("temperature", 0, TEMPERATURE_MAX, 0);
  if (temperature > 0 && temperature < TEMPERATURE_MIN) {
    const expected = `0 or a number from ${TEMPERATURE_MIN} to ${TEMPERATURE_MAX}`;
    throw check.rangeError(expected, "temperature", temperature);
  }
  const topP = read.number("topP", 0, 1, 1);
  if (topP === 0) throw check.rangeError("a number above 0 to 1", "topP", topP);
  const drawnSeed = temperature > 0 ? randomInt(MAX_SEED + 1) : 0;
  return {
    temperature,
    topK: read.integer("topK", 0, MAX_INT32, 0),
    // A value that is 0 as a 32-bit float would leave no token.
    topP: Math.max(topP, 1e-30),
    minP: read.number("minP", 0, 1, 0),
    seed: read.integer("seed", 0, MAX_SEED, defaultSeed ?? drawnSeed),
    biasTokens: null,
    biases: null,
  };
}

/** Reads SamplingOptions and BiasOptions. */
export function readChoosing(read: OptionsReader, defaultSeed: number | null, vocabSize: number): Choosing {
  return { ...readSampling(read, defaultSeed), ...readBiases(read, vocabSize) };
}

/** Reads RuleOptions; null where no rule is asked for. */
export function readRules(read: OptionsReader): TokenRules | null {
  const rules = {
    grammar: readGrammar(read.value("grammar"), read.value("jsonSchema")),
    repeatPenalty: read.number("repeatPenalty", 0.01, 100, 1),
    frequencyPenalty: read.number("frequencyPenalty", -PENALTY_MAX, PENALTY_MAX, 0),
    presencePenalty: read.number("presencePenalty", -PENALTY_MAX, PENALTY_MAX, 0),
    penaltyTokens: read.integer("penaltyTokens", 0, MAX_INT32, DEFAULT_PENALTY_TOKENS),
  };
  const penalised = rules.repeatPenalty !== 1 || rules.frequencyPenalty !== 0 || rules.presencePenalty !== 0;
  return penalised || rules.grammar !== "" ? rules : null;
}

function readGrammar(grammar: unknown, jsonSchema: unknown): string {
  if (jsonSchema === undefined) return grammar === undefined ? "" : check.nonEmptyString(grammar, "grammar");
  if (grammar !== undefined) throw check.typeError("one of grammar and jsonSchema", "grammar", grammar);
  if (Object.prototype.toString.call(jsonSchema) !== "[object Object]") {
    throw check.typeError("a JSON schema", "jsonSchema", jsonSchema);
  }
  return addon().jsonSchemaGrammar(JSON.stringify(jsonSchema));
}

function readBiases(read: OptionsReader, vocabSize: number): Pick<Choosing, "biasTokens" | "biases"> {
  const logitBias = read.value("logitBias");
  const bannedTokens = read.value("bannedTokens");
  if (logitBias === undefined && bannedTokens === undefined) return { biasTokens: null, biases: null };
  const tokens: number[] = [];
  const biases: number[] = [];
  const expected = `a token id from 0 to ${vocabSize - 1}`;
  const add = (token: unknown, bias: number, name: string) => {
    if (typeof token !== "number") throw check.typeError(expected, name, token);
    if (!Number.isInteger(token) || token < 0 || token >= vocabSize) throw check.rangeError(expected, name, token);
    tokens.push(token);
    biases.push(bias);
  };
  for (const pair of pairs(logitBias)) {
    if (!Array.isArray(pair) || pair.length !== 2) throw check.typeError("pairs of id and bias", "logitBias", pair);
    const bias = check.number(pair[1] ?? null, "logitBias", -BIAS_MAX, BIAS_MAX, 0);
    add(pair[0], bias, "logitBias");
  }
  if (bannedTokens !== undefined) {
    if (!isIterable(bannedTokens)) throw check.typeError("an iterable of token ids", "bannedTokens", bannedTokens);
    for (const token of bannedTokens) add(token, Number.NEGATIVE_INFINITY, "bannedTokens");
  }
  const banned = tokens.filter((_, i) => biases[i] === Number.NEGATIVE_INFINITY);
  if (new Set(banned).size >= vocabSize) {
    throw check.rangeError("at least one token that is not banned", "bannedTokens", bannedTokens);
  }
  return { biasTokens: Int32Array.from(tokens), biases: Float32Array.from(biases) };
}

function pairs(logitBias: unknown): Iterable<unknown> {
  if (logitBias === undefined) return [];
  if (isIterable(logitBias)) return logitBias;
  if (Object.prototype.toString.call(logitBias) !== "[object Object]") {
    throw check.typeError("pairs of id and bias", "logitBias", logitBias);
  }
  return Object.entries(logitBias as object).map(([id, bias]) => [id === "" ? id : Number(id), bias]);
}

function isIterable(value: unknown): value is Iterable<unknown> {
  return typeof value === "object" && value !== null && Symbol.iterator in value;
}

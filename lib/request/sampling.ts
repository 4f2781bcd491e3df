import { randomInt } from "node:crypto";
import type { Choosing, TokenRules } from "../addon.js";
import { addon } from "../binary/binding.js";
import * as check from "../options.js";

/**
 * How tokens are chosen. What is cut off, and in which order, is as in llama.cpp: top-k, top-p, min-p, then temperature.
 * The noise belongs to (seed, position, token): block size, lanes and drafts have no influence on the text.
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
   * An unsigned 32-bit integer. With a temperature the same seed gives the same text; without one a seed is drawn, and told
   * in the result. Also seeds the random part of drafts, which changes the work, never the text.
   */
  seed?: number | undefined;
}

/** Biases of tokens: those of generate() and stream(). */
export interface BiasOptions {
  /** Added to the logits of tokens before anything else: pairs of id and a number from -1000 to 1000. */
  logitBias?: Iterable<readonly [number, number]> | Readonly<Record<number, number>> | undefined;
  /** Tokens that are never chosen. */
  bannedTokens?: Iterable<number> | undefined;
}

/**
 * What a token's choice depends on beside its position: the tokens before it. Exact for every block size, since a token is
 * chosen again behind each accepted draft; the lane then decodes on the host runner.
 */
export interface RuleOptions {
  /**
   * The answer follows this grammar in GBNF (llama.cpp's `grammars/README.md`), whose root is the rule `root`, and ends where
   * the grammar does.
   */
  grammar?: string | undefined;
  /**
   * The answer is JSON of this schema. Instead of `grammar`, of which llama.cpp's converter makes one: a `pattern` that is
   * not anchored with ^ and $ allows any string there.
   */
  jsonSchema?: object | undefined;
  /** Tokens that stand among the last ones: their positive logits are divided by it, others multiplied. Default 1: off. */
  repeatPenalty?: number | undefined;
  /** Taken off a token's logit for each time it stands there, -100 to 100. Default 0. */
  frequencyPenalty?: number | undefined;
  /** Taken off a token's logit where it stands there, -100 to 100. Default 0. */
  presencePenalty?: number | undefined;
  /** How many of the last tokens of prompt and answer the penalties see. Default 64. */
  penaltyTokens?: number | undefined;
}

export const SAMPLING_NAMES = ["temperature", "topK", "topP", "minP", "seed"] as const;
export const BIAS_NAMES = ["logitBias", "bannedTokens"] as const;
export const RULE_NAMES = [
  "grammar",
  "jsonSchema",
  "repeatPenalty",
  "frequencyPenalty",
  "presencePenalty",
  "penaltyTokens",
] as const;
export const SEED_MAX = 0xffffffff;

const TEMPERATURE_MIN = 1e-3;
const TEMPERATURE_MAX = 1e3;
const BIAS_MAX = 1000;

/** `defaultSeed`: the decoder's, or null where it has none. `given` may have any option. */
export function readChoosing(given: Record<string, unknown>, defaultSeed: number | null, vocabSize: number): Choosing {
  const temperature = check.number(given.temperature, "temperature", 0, TEMPERATURE_MAX, 0);
  if (temperature > 0 && temperature < TEMPERATURE_MIN) {
    const expected = `0 or a number from ${TEMPERATURE_MIN} to ${TEMPERATURE_MAX}`;
    throw check.rangeError(expected, "temperature", temperature);
  }
  const topP = check.number(given.topP, "topP", 0, 1, 1);
  if (topP === 0) throw check.rangeError("a number above 0 to 1", "topP", topP);
  const drawn = temperature > 0 ? randomInt(SEED_MAX + 1) : 0;
  return {
    temperature,
    topK: check.integer(given.topK, "topK", 0, 2 ** 31 - 1, 0),
    // What is 0 as a 32-bit float would leave no token.
    topP: Math.max(topP, 1e-30),
    minP: check.number(given.minP, "minP", 0, 1, 0),
    seed: check.integer(given.seed, "seed", 0, SEED_MAX, defaultSeed ?? drawn),
    ...readBias(given.logitBias, given.bannedTokens, vocabSize),
  };
}

function readGrammar({ grammar, jsonSchema }: Record<string, unknown>): string {
  if (jsonSchema === undefined) return grammar === undefined ? "" : check.nonEmptyString(grammar, "grammar");
  if (grammar !== undefined) throw check.typeError("one of grammar and jsonSchema", "grammar", grammar);
  if (Object.prototype.toString.call(jsonSchema) !== "[object Object]") {
    throw check.typeError("a JSON schema", "jsonSchema", jsonSchema);
  }
  return addon().jsonSchemaGrammar(JSON.stringify(jsonSchema));
}

/** Null where no rule is asked for. `given` may have any option. */
export function readRules(given: Record<string, unknown>): TokenRules | null {
  const rules = {
    grammar: readGrammar(given),
    repeatPenalty: check.number(given.repeatPenalty, "repeatPenalty", 0.01, 100, 1),
    frequencyPenalty: check.number(given.frequencyPenalty, "frequencyPenalty", -100, 100, 0),
    presencePenalty: check.number(given.presencePenalty, "presencePenalty", -100, 100, 0),
    penaltyTokens: check.integer(given.penaltyTokens, "penaltyTokens", 0, 2 ** 31 - 1, 64),
  };
  const penalised = rules.repeatPenalty !== 1 || rules.frequencyPenalty !== 0 || rules.presencePenalty !== 0;
  return penalised || rules.grammar !== "" ? rules : null;
}

function readBias(logitBias: unknown, bannedTokens: unknown, vocabSize: number) {
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
  if (new Set(tokens.filter((_, i) => biases[i] === Number.NEGATIVE_INFINITY)).size >= vocabSize) {
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

import { types } from "node:util";

/**
 * Every option is validated here, once: TypeError for a value of the wrong type, RangeError for a wrong value of the
 * right type, always in the form `Expected <what> for <name> but received <value> of type <type>`.
 */

function describe(value: unknown): string {
  if (value === null) return "null";
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value);
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === "function") return value.name === "" ? "a function" : `function ${value.name}`;
  if (typeof value === "object") return value.constructor?.name || "an object";
  return String(value);
}

function typeName(value: unknown): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "array" : typeof value;
}

function message(expected: string, name: string, value: unknown): string {
  return `Expected ${expected} for ${name} but received ${describe(value)} of type ${typeName(value)}`;
}

/** A TypeError in the house's form. */
export function typeError(expected: string, name: string, value: unknown): TypeError {
  return new TypeError(message(expected, name, value));
}

/** A RangeError in the house's form. */
export function rangeError(expected: string, name: string, value: unknown): RangeError {
  return new RangeError(message(expected, name, value));
}

/**
 * The options object itself. A name that is not known is a TypeError: a misspelt option that is silently ignored costs
 * its user hours.
 */
export function optionsObject(value: unknown, known: readonly string[]): Record<string, unknown> {
  if (value === undefined) return {};
  // By tag, which a plain object of another realm shares: a signal, a Map or a promise somebody forgot to await has no
  // keys of its own and would pass as "no options".
  if (Object.prototype.toString.call(value) !== "[object Object]") throw typeError("an object", "options", value);
  for (const key of Object.keys(value as object)) {
    if (!known.includes(key)) {
      throw new TypeError(`Expected one of ${known.join(", ")} as the name of an option but received ${key}`);
    }
  }
  return value as Record<string, unknown>;
}

/** An integer from `lowest` to `highest`, or `fallback` for undefined. */
export function integer(value: unknown, name: string, lowest: number, highest: number, fallback: number): number {
  if (value === undefined) return fallback;
  let expected = `an integer from ${lowest} to ${highest}`;
  if (highest === Number.MAX_SAFE_INTEGER) expected = lowest === 1 ? "a positive integer" : `an integer from ${lowest}`;
  if (typeof value !== "number") throw typeError(expected, name, value);
  if (!Number.isInteger(value) || value < lowest || value > highest) throw rangeError(expected, name, value);
  return value;
}

/** A number from `lowest` to `highest`, or `fallback` for undefined. */
export function number(value: unknown, name: string, lowest: number, highest: number, fallback: number): number {
  if (value === undefined) return fallback;
  const expected = `a number from ${lowest} to ${highest}`;
  if (typeof value !== "number") throw typeError(expected, name, value);
  if (!(value >= lowest && value <= highest)) throw rangeError(expected, name, value);
  return value;
}

export function boolean<T>(value: unknown, name: string, fallback: T): boolean | T {
  if (value === undefined) return fallback;
  if (typeof value !== "boolean") throw typeError("a boolean", name, value);
  return value;
}

export function nonEmptyString(value: unknown, name: string): string {
  if (typeof value !== "string") throw typeError("a non-empty string", name, value);
  if (value === "") throw rangeError("a non-empty string", name, value);
  return value;
}

export function oneOf<T extends string>(value: unknown, name: string, choices: readonly T[], fallback: T): T {
  if (value === undefined) return fallback;
  const expected = `one of ${choices.join(", ")}`;
  if (typeof value !== "string") throw typeError(expected, name, value);
  if (!(choices as readonly string[]).includes(value)) throw rangeError(expected, name, value);
  return value as T;
}

export function callback<T extends (...args: never[]) => unknown>(value: unknown, name: string): T | null {
  if (value === undefined) return null;
  if (typeof value !== "function") throw typeError("a function", name, value);
  return value as T;
}

export function abortSignal(value: unknown): AbortSignal | null {
  if (value === undefined) return null;
  if (!(value instanceof AbortSignal)) throw typeError("an AbortSignal", "signal", value);
  return value;
}

/** Stop strings: one or several, none of them empty. */
export function stopStrings(value: unknown): string[] {
  if (value === undefined) return [];
  const list = typeof value === "string" ? [value] : value;
  if (!Array.isArray(list)) throw typeError("a string or an array of strings", "stop", value);
  return list.map((text, i) => nonEmptyString(text, Array.isArray(value) ? `stop[${i}]` : "stop"));
}

/** Token ids, each from 0 to vocabSize - 1, as an array of their own. */
export function tokenIds(value: unknown, name: string, vocabSize: number): Int32Array {
  if (!Array.isArray(value) && !types.isInt32Array(value)) {
    throw typeError("an array or Int32Array of token ids", name, value);
  }
  const tokens = new Int32Array(value.length);
  const expected = `a token id from 0 to ${vocabSize - 1}`;
  for (let i = 0; i < value.length; i++) {
    const token: unknown = value[i];
    if (typeof token !== "number") throw typeError(expected, `${name}[${i}]`, token);
    if (!Number.isInteger(token) || token < 0 || token >= vocabSize) throw rangeError(expected, `${name}[${i}]`, token);
    tokens[i] = token;
  }
  return tokens;
}

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

/** A TypeError in the form above. */
export function typeError(expected: string, name: string, value: unknown): TypeError {
  return new TypeError(message(expected, name, value));
}

/** A RangeError in the form above. */
export function rangeError(expected: string, name: string, value: unknown): RangeError {
  return new RangeError(message(expected, name, value));
}

/**
 * Reads the options of a call. `read` asks the reader for each option by its name. An option that the caller passed and
 * `read` did not ask for is a TypeError, because a misspelt option that is silently ignored costs its user hours. So
 * `read` must ask for every option, whatever the values of the others are.
 *
 * @throws TypeError, RangeError
 * @example
 * const { lanes, signal } = readOptions(options, (read) => ({
 *   lanes: read.integer("lanes", 1, MAX_LANES, 1),
 *   signal: read.abortSignal("signal"),
 * }));
 */
export function readOptions<T>(value: unknown, read: (reader: OptionsReader) => T): T {
  const reader = new OptionsReader(value);
  const result = read(reader);
  reader.refuseUnknownNames();
  return result;
}

/** An options object, and the names that have been asked for. The functions below this class check the values. */
export class OptionsReader {
  readonly #options: Readonly<Record<string, unknown>>;
  readonly #askedNames = new Set<string>();

  constructor(value: unknown) {
    // A signal, a Map or a promise somebody forgot to await has no keys of its own and would pass as "no options".
    // The tag tells it from a plain object, also where that comes from another realm.
    if (value !== undefined && Object.prototype.toString.call(value) !== "[object Object]") {
      throw typeError("an object", "options", value);
    }
    this.#options = (value ?? {}) as Record<string, unknown>;
  }

  /** Returns the unchecked value of an option, or undefined where the caller did not pass it. */
  value(name: string): unknown {
    this.#askedNames.add(name);
    return this.#options[name];
  }

  integer<F>(name: string, lowest: number, highest: number, fallback: F): number | F {
    return integer(this.value(name), name, lowest, highest, fallback);
  }

  requiredInteger(name: string, lowest: number, highest: number): number {
    return requiredInteger(this.value(name), name, lowest, highest);
  }

  number<F>(name: string, lowest: number, highest: number, fallback: F): number | F {
    return number(this.value(name), name, lowest, highest, fallback);
  }

  boolean<F>(name: string, fallback: F): boolean | F {
    return boolean(this.value(name), name, fallback);
  }

  oneOf<T extends string, F>(name: string, choices: readonly T[], fallback: F): T | F {
    return oneOf(this.value(name), name, choices, fallback);
  }

  nonEmptyString<F>(name: string, fallback: F): string | F {
    const value = this.value(name);
    return value === undefined ? fallback : nonEmptyString(value, name);
  }

  callback<T extends (...args: never[]) => unknown>(name: string): T | null {
    return callback<T>(this.value(name), name);
  }

  abortSignal(name = "signal"): AbortSignal | null {
    return abortSignal(this.value(name), name);
  }

  /** @throws TypeError for an option that the caller passed and that nobody asked for. */
  refuseUnknownNames(): void {
    for (const name of Object.keys(this.#options)) {
      if (this.#askedNames.has(name)) continue;
      const optionNames = [...this.#askedNames].join(", ");
      throw new TypeError(`Expected one of ${optionNames} as the name of an option but received ${name}`);
    }
  }
}

/** An integer from `lowest` to `highest`, or `fallback` for undefined. */
export function integer<F>(value: unknown, name: string, lowest: number, highest: number, fallback: F): number | F {
  return value === undefined ? fallback : requiredInteger(value, name, lowest, highest);
}

/** An integer from `lowest` to `highest`; undefined is a TypeError. */
export function requiredInteger(value: unknown, name: string, lowest: number, highest: number): number {
  let expected = `an integer from ${lowest} to ${highest}`;
  if (highest === Number.MAX_SAFE_INTEGER) expected = lowest === 1 ? "a positive integer" : `an integer from ${lowest}`;
  if (typeof value !== "number") throw typeError(expected, name, value);
  if (!Number.isInteger(value) || value < lowest || value > highest) throw rangeError(expected, name, value);
  return value;
}

/** A number from `lowest` to `highest`, or `fallback` for undefined. */
export function number<F>(value: unknown, name: string, lowest: number, highest: number, fallback: F): number | F {
  if (value === undefined) return fallback;
  const expected = `a number from ${lowest} to ${highest}`;
  if (typeof value !== "number") throw typeError(expected, name, value);
  if (!(value >= lowest && value <= highest)) throw rangeError(expected, name, value);
  return value;
}

export function boolean<F>(value: unknown, name: string, fallback: F): boolean | F {
  if (value === undefined) return fallback;
  if (typeof value !== "boolean") throw typeError("a boolean", name, value);
  return value;
}

export function nonEmptyString(value: unknown, name: string): string {
  if (typeof value !== "string") throw typeError("a non-empty string", name, value);
  if (value === "") throw rangeError("a non-empty string", name, value);
  return value;
}

export function oneOf<T extends string, F>(value: unknown, name: string, choices: readonly T[], fallback: F): T | F {
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

export function abortSignal(value: unknown, name = "signal"): AbortSignal | null {
  if (value === undefined) return null;
  if (!(value instanceof AbortSignal)) throw typeError("an AbortSignal", name, value);
  return value;
}

/** Returns one stop string, or an array of them, as an array; refuses empty strings. */
export function stopStrings(value: unknown): string[] {
  if (value === undefined) return [];
  const list = typeof value === "string" ? [value] : value;
  if (!Array.isArray(list)) throw typeError("a string or an array of strings", "stop", value);
  return list.map((text, i) => nonEmptyString(text, Array.isArray(value) ? `stop[${i}]` : "stop"));
}

/** Copies token ids, each of which must be from 0 to vocabSize - 1. */
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

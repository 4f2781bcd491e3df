// The vocabulary: byte-level BPE in GPT-2's form, made so that a name is the same tokens wherever it stands. A space is
// never merged with a name, so `singer` is one sequence of tokens after "(", after " " and after "_". Lower-case letters
// merge only with lower-case letters, and digits stay single. Only words that cannot be names (function words, SQL keywords)
// have tokens that begin with a space.
import { examples } from "./generate.mjs";

export const SPECIAL = ["<|pad|>", "<|end|>"];
export const END = 1;
const SIZE = 3072;
const SPACE = "Ġ"; // a space byte in GPT-2's alphabet

const KEYWORDS = "SELECT FROM WHERE AND OR ORDER BY GROUP HAVING LIMIT DISTINCT DESC BETWEEN LIKE IS NOT NULL".split(
  " ",
);
const FUNCTION_WORDS = (
  "the of whose is are with and or for each all in by that have has how many what which show list give me find from than " +
  "more less greater least most at there number do their between where not having get return display tell every to an"
).split(" ");
const PUNCTUATION = ["(*)", "!=", ">=", "<=", "'%", "%'", "),"];
const SPACED_PUNCTUATION = ["=", ">", "<", ">=", "<=", "!=", "'", "'%"];

/** GPT-2's mapping of bytes to printable characters. */
export function byteCharacters() {
  const characters = [];
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    characters.push(String.fromCharCode(printable ? byte : next++));
  }
  return characters;
}

/** How often each word stands in generated examples. */
function wordCounts() {
  const counts = new Map();
  for (const { prompt, answer } of examples({ schemas: 12000, questions: 3, seed: 0 })) {
    for (const word of `${prompt}${answer}`.match(/[A-Za-z]+/g)) {
      // Capitals stay single except in keywords.
      const parts = KEYWORDS.includes(word) ? [word] : word.match(/[a-z]+/g);
      for (const part of parts ?? []) counts.set(part, (counts.get(part) ?? 0) + 1);
    }
  }
  // A plural counts as its singular, so that "singers" becomes "singer" and "s".
  for (const [word, count] of counts) {
    if (!word.endsWith("s") || word.endsWith("ss")) continue;
    const singular = word.slice(0, -1);
    if (!counts.has(singular)) continue;
    counts.set(singular, counts.get(singular) + count);
    counts.delete(word);
  }
  return counts;
}

/** Merges `symbols` in place. */
function apply(symbols, merges) {
  for (const [left, right] of merges) {
    for (let i = 0; i + 1 < symbols.length; i++) {
      if (symbols[i] === left && symbols[i + 1] === right) symbols.splice(i, 2, left + right);
    }
  }
  return symbols;
}

/** { tokens, merges }: a token's id is its index; a merge is written "left right". */
export function vocabulary() {
  const words = [...wordCounts()].map(([word, count]) => ({ symbols: [...word], count }));
  const merges = [];
  const extra = [];
  const add = (list, left, right) => {
    if (![...merges, ...list].some(([l, r]) => l + r === left + right)) list.push([left, right]);
  };
  const budget = SIZE - SPECIAL.length - 256 - 2 * FUNCTION_WORDS.length - KEYWORDS.length - 40;
  while (merges.length < budget) {
    const pairs = new Map();
    for (const { symbols, count } of words) {
      for (let i = 0; i + 1 < symbols.length; i++) {
        const pair = `${symbols[i]} ${symbols[i + 1]}`;
        pairs.set(pair, (pairs.get(pair) ?? 0) + count);
      }
    }
    const [best] = [...pairs].reduce((a, b) => (b[1] > a[1] || (b[1] === a[1] && b[0] < a[0]) ? b : a));
    const merge = best.split(" ");
    merges.push(merge);
    for (const word of words) if (word.symbols.length > 1) apply(word.symbols, [merge]);
  }
  // Keywords, function words and marks must be one token, with and without a space before them.
  const mergeWhole = (text) => {
    const symbols = apply([...text], [...merges, ...extra]);
    while (symbols.length > 1) {
      add(extra, symbols[0], symbols[1]);
      symbols.splice(0, 2, symbols[0] + symbols[1]);
    }
  };
  for (const word of [...KEYWORDS, ...FUNCTION_WORDS]) {
    mergeWhole(word);
    add(extra, SPACE, word);
  }
  for (const mark of [...PUNCTUATION, ...SPACED_PUNCTUATION]) mergeWhole(mark);
  for (const mark of SPACED_PUNCTUATION) add(extra, SPACE, mark);
  const all = [...merges, ...extra];
  const tokens = [...SPECIAL, ...byteCharacters(), ...all.map((merge) => merge.join(""))];
  // SIZE is a multiple of 32, for which there are fast kernels.
  for (let i = 0; tokens.length < SIZE; i++) tokens.push(`<|unused${i}|>`);
  return { tokens, merges: all.map((merge) => merge.join(" ")) };
}

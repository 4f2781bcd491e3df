// Conditions on text and on missing values, and the WHERE of a question. A condition is { text, sql }: the words that
// follow the rows in the question, and the SQL.
import { textValue } from "../schemas.mjs";
import { isNoKey, isNumber, isOrdered, isText } from "./asker.mjs";
import { between, comparison, dateComparison, HOLDS } from "./comparisons.mjs";

/** " whose age is ..." and " WHERE ...", with one condition or two; both are empty where there is none. */
export function where(a, percent) {
  if (!a.random.chance(percent)) return { text: "", sql: "" };
  const first = condition(a);
  if (!first) return { text: "", sql: "" };
  if (!a.random.chance(25)) return { text: ` ${first.text}`, sql: ` WHERE ${first.sql}` };
  const used = a.table.columns.filter((c) => first.sql.startsWith(`${c.name} `));
  const second = condition(a, used);
  if (!second) return { text: ` ${first.text}`, sql: ` WHERE ${first.sql}` };
  const or = a.random.chance(25);
  return {
    text: ` ${first.text} ${or ? "or" : "and"} ${second.text}`,
    sql: ` WHERE ${first.sql} ${or ? "OR" : "AND"} ${second.sql}`,
  };
}

/**
 * Kinds of conditions. The first one whose limit lies above a number drawn from 0 to 99, and for which a column fits, is
 * taken.
 */
const CONDITIONS = [
  [42, (c) => isNumber(c) || c.type === "y", comparison],
  [50, (c) => c.type === "d", dateComparison],
  [56, isOrdered, between],
  [64, isText, like],
  [68, isNoKey, missing],
];

/** A condition on a column that is not in `exclude`; null where there is none. */
function condition(a, exclude = []) {
  const freeColumn = (test) => a.anyColumn((c) => test(c) && !exclude.includes(c));
  if (a.random.wideChance(5)) {
    const c = freeColumn(isNoKey);
    if (c) return missing(a, c);
  }
  const drawn = a.random.int(100);
  for (const [limit, test, make] of CONDITIONS) {
    const c = drawn < limit ? freeColumn(test) : null;
    if (c) return make(a, c);
  }
  const c = freeColumn(isText) ?? freeColumn(isNoKey);
  if (!c) return null;
  if (isText(c)) return equality(a, c);
  return c.type === "d" ? dateComparison(a, c) : comparison(a, c);
}

export function like(a, c) {
  const word = a.column(c);
  const value = a.random.chance(50)
    ? textValue(a.random, c).split(" ")[0]
    : a.pick("A", "B", "S", "M", "an", "son", "ing", "er", "a", "th", "The");
  const v = a.quoted(value);
  if (a.random.wideChance(30)) {
    const [verbs, pattern] = a.pick(
      [["that contains", "that includes", "containing"], `%${value}%`],
      [["that starts with", "that begins with", "beginning with"], `${value}%`],
      [["that ends with", "that ends in", "which ends with"], `%${value}`],
    );
    const having = a.pick("with a", "that have a", "who have a", "having a");
    return { text: `${having} ${word} ${a.random.pick(verbs)} ${v}`, sql: `${c.name} LIKE '${pattern}'` };
  }
  const [forms, pattern] = LIKES[a.random.int(LIKES.length)];
  return { text: a.random.pick(forms(word, v)), sql: `${c.name} LIKE '${pattern(value)}'` };
}
const contains = [
  (word, v) => [
    `whose ${word} contains ${v}`,
    `with ${v} in their ${word}`,
    `with a ${word} containing ${v}`,
    `where ${word} contains ${v}`,
    `whose ${word} includes ${v}`,
    `with ${v} in the ${word}`,
  ],
  (value) => `%${value}%`,
];
const startsWith = [
  (word, v) => [
    `whose ${word} starts with ${v}`,
    `with a ${word} starting with ${v}`,
    `where ${word} starts with ${v}`,
    `whose ${word} begins with ${v}`,
  ],
  (value) => `${value}%`,
];
const endsWith = [
  (word, v) => [
    `whose ${word} ends with ${v}`,
    `with a ${word} ending with ${v}`,
    `where ${word} ends in ${v}`,
    `with a ${word} ending in ${v}`,
  ],
  (value) => `%${value}`,
];
const LIKES = [contains, contains, startsWith, endsWith];

function missing(a, c) {
  const word = a.column(c);
  const wide = a.random.wideChance(40);
  const isMissing = a.random.chance(wide ? 60 : 50);
  const forms = (wide ? WIDE_PRESENCE : PRESENCE)[isMissing ? "missing" : "known"];
  return { text: a.random.pick(forms(word)), sql: `${c.name} IS ${isMissing ? "" : "NOT "}NULL` };
}
const PRESENCE = {
  missing: (word) => [
    `without a ${word}`,
    `with no ${word}`,
    `with no ${word} value`,
    `that have no ${word}`,
    `whose ${word} is missing`,
    `where ${word} is null`,
    `whose ${word} is null`,
  ],
  known: (word) => [
    `that have a ${word}`,
    `whose ${word} is not null`,
    `where ${word} is not null`,
    `whose ${word} is known`,
  ],
};
const WIDE_PRESENCE = {
  missing: (word) => [
    `that do not have a ${word}`,
    `without ${word}`,
    `without any ${word}`,
    `which have no ${word}`,
    `that lack a ${word}`,
    `with a missing ${word}`,
    `that have no recorded ${word}`,
    `with no recorded ${word}`,
    `whose ${word} is unknown`,
    `whose ${word} is empty`,
    `where the ${word} is missing`,
  ],
  known: (word) => [
    `with a known ${word}`,
    `that have some ${word}`,
    `whose ${word} is not missing`,
    `whose ${word} is recorded`,
    `with a recorded ${word}`,
    `which have a ${word}`,
    `where the ${word} is known`,
    `whose ${word} is set`,
  ],
};

function equality(a, c) {
  const value = textValue(a.random, c);
  const v = a.quoted(value);
  const word = a.column(c);
  if (a.random.chance(14)) {
    const text = a.pick(
      `whose ${word} is not ${v}`,
      `with ${word} other than ${v}`,
      `where ${word} is not ${v}`,
      `with a ${word} different from ${v}`,
      `where ${word} != '${value}'`,
    );
    return { text, sql: `${c.name} != '${value}'` };
  }
  const text = specialEquality(a, c, word, value, v) ?? plainEquality(a, word, value, v);
  return { text, sql: `${c.name} = '${value}'` };
}

const isPlace = (c) => /^(city|country|location|region|state|origin|continent|nationality|hometown)$/.test(c.name);
const isKind = (c) => /^(category|genre|department|team)$/.test(c.name);
const isName = (c) => /^(name|title)$/.test(c.name);
const isMaker = (c) => /^(author|director|artist|owner|manager|publisher|manufacturer|brand|developer)$/.test(c.name);

/** "from Paris", "named Anna", "by Anna": forms that only some columns allow; null where another form is drawn. */
function specialEquality(a, c, word, value, v) {
  if (isPlace(c) && a.isOnly(c, isPlace) && a.random.chance(50)) {
    return a.pick(
      `from ${v}`,
      `in ${v}`,
      `located in ${v}`,
      `based in ${v}`,
      `that are in ${v}`,
      `that are from ${v}`,
      `who live in ${v}`,
      `that come from ${v}`,
      `living in ${v}`,
    );
  }
  if (isKind(c) && a.random.chance(50)) {
    return a.pick(`in the ${v} ${word}`, `of the ${v} ${word}`, `in ${word} ${v}`, `from the ${v} ${word}`);
  }
  if (isName(c) && a.random.chance(50)) return a.pick(`named ${v}`, `called ${v}`, `with the ${word} ${v}`);
  if (isMaker(c) && a.random.chance(35)) {
    return a.pick(/^[A-Z]/.test(value) ? `by ${v}` : `with ${word} ${v}`, `whose ${word} is ${v}`);
  }
  return null;
}

const MADE =
  "made written owned hosted run led taught built created managed sold directed painted designed reviewed sent".split(
    " ",
  );
function plainEquality(a, word, value, v) {
  return a.pick(
    `whose ${word} is ${v}`,
    `with ${word} ${v}`,
    `with the ${word} ${v}`,
    `where ${word} is ${v}`,
    `where the ${word} is ${v}`,
    `where ${word} = '${value}'`,
    `with a ${word} of ${v}`,
    `that have ${word} ${v}`,
    `with ${word} equal to ${v}`,
    `having ${word} ${v}`,
    `whose ${word} equals ${v}`,
    `with ${v} as ${word}`,
    `with ${v} as their ${word}`,
    `of ${word} ${v}`,
    `on ${word} ${v}`,
    `in ${word} ${v}`,
    `for ${word} ${v}`,
    `${a.pick("that", "who", "which")} ${a.random.pick(HOLDS)} ${a.pick("the ", "")}${word} ${v}`,
    `${a.random.pick(MADE)} by ${a.pick("the ", "")}${word} ${v}`,
  );
}

/** Conditions that say what the rows are. */
const ARE =
  /^(from|in|located|based|older|younger|cheaper|more expensive|aged|at least|at most|over|under|called|named) /;

/** The one condition of a WHERE as a predicate of the rows: "have no return date", "are older than 30"; else null. */
export function predicate(a, { text }) {
  const found = asPredicate(a, text.trim());
  return found && !/ (and|or) /.test(found) ? found : null;
}
function asPredicate(a, text) {
  const that = /^(?:that|who|which) (.*)$/.exec(text)?.[1];
  if (that) return /^(were|was|are|have|has|do|cost|come|live|lack) /.test(that) ? that : null;
  const has = /^(?:with|having) (.*)$/.exec(text)?.[1];
  if (has) return `have ${has}`;
  const not = /^without (?:a |any )?(.*)$/.exec(text)?.[1];
  if (not) return a.pick(`have no ${not}`, `do not have a ${not}`);
  return ARE.test(text) ? `are ${text}` : null;
}

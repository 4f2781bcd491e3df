// Random schemas and values.
import fs from "node:fs";
import * as words from "./words.mjs";

const [, ENGLISH_NOUNS, ADJECTIVES] = fs
  .readFileSync(new URL("./english.txt", import.meta.url), "utf8")
  .split("\n\n")
  .map((part) => part.trim().split(/\s+/));

/** A stream of random choices; the same seed gives the same stream. `wide` allows more kinds of them (generate.mjs). */
export class Random {
  constructor(seed, wide = false) {
    this.state = seed >>> 0;
    this.wide = wide;
  }
  /** 0 to below - 1 (mulberry32). */
  int(below) {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  }
  between(low, high) {
    return low + this.int(high - low + 1);
  }
  chance(percent) {
    return this.int(100) < percent;
  }
  /** A chance that only a wide stream has; it does not move the state of other streams. */
  wideChance(percent) {
    return this.wide && this.chance(percent);
  }
  pick(list) {
    return list[this.int(list.length)];
  }
  /** `count` different elements in random order. */
  sample(list, count) {
    const rest = [...list];
    const taken = [];
    while (taken.length < count && rest.length > 0) taken.push(rest.splice(this.int(rest.length), 1)[0]);
    return taken;
  }
}

const ONSETS = "b c d f g h j k l m n p r s t v w z br cr dr fl gr pl pr sl st str th tr sh ch".split(" ");
const VOWELS = "a e i o u a e i o ai ea oo ou ee".split(" ");
const CODAS = "n r l m t s d k p x nd rt st ck ng lt".split(" ");

/** An invented word that no list has, because the model must copy names and not remember them. */
export function inventedWord(random) {
  let word = "";
  const syllables = random.pick([1, 2, 2, 3]);
  for (let i = 0; i < syllables; i++) {
    word += random.pick(ONSETS) + random.pick(VOWELS);
    if (i === syllables - 1 || random.chance(30)) word += random.chance(70) ? random.pick(CODAS) : "";
  }
  return word.length < 3 ? word + random.pick(CODAS) : word;
}

export function plural(name) {
  const cut = name.lastIndexOf("_") + 1;
  const [head, last] = [name.slice(0, cut), name.slice(cut)];
  if (words.IRREGULAR[last]) return head + words.IRREGULAR[last];
  if (/(s|x|z|ch|sh)$/.test(last)) return `${head}${last}es`;
  if (/[^aeiou]y$/.test(last)) return `${head}${last.slice(0, -1)}ies`;
  return `${head}${last}s`;
}

export const spaced = (name) => name.replaceAll("_", " ");

const TYPES = ["t", "t", "t", "i", "i", "r", "y", "d"];

/** A word for a name: from the lists, from English, or invented. */
function nameWord(random) {
  const kind = random.int(100);
  if (kind < 30) return random.pick(NOUNS);
  if (kind < 84) return random.pick(ENGLISH_NOUNS);
  if (kind < 90) return random.pick(ADJECTIVES);
  return inventedWord(random);
}

/** A column with a name of three parts, or one such as date_of_birth, num_of_seats, directed_by. */
function longColumn(random) {
  const [a, b, c] = [nameWord(random), nameWord(random), nameWord(random)];
  const type = random.pick(TYPES);
  const many = a.endsWith("s") ? a : plural(a);
  return random.pick([
    () => ({ name: `${a}_${b}_${c}`, type }),
    () => ({ name: `${a}_of_${b}`, type }),
    () => ({ name: `num_of_${many}`, type: "i" }),
    () => ({ name: `number_of_${many}`, type: "i" }),
    () => ({ name: `date_of_${a}`, type: "d" }),
    () => ({ name: `year_of_${a}`, type: "y" }),
    () => ({ name: `date_${a}_${b}`, type: "d" }),
    () => ({ name: `${a}_in_${b}`, type }),
    () => ({
      name: `${a}_${b}_${random.pick(["code", "name", "id", "date", "type", "number", "count", "rate"])}`,
      type,
    }),
    () => ({ name: `${a}_by`, type: "t" }),
    () => ({ name: `${random.pick(["other", "original", "final", "major", "total", "agreed"])}_${a}_${b}`, type }),
    () => ({ name: `${a}_${random.int(9) + 1}`, type: "t" }),
  ])();
}

function inventedColumn(random) {
  if (random.wideChance(35)) return longColumn(random);
  const parts = [nameWord(random)];
  if (random.chance(40)) parts.push(nameWord(random));
  if (random.chance(6))
    parts.push(random.pick(["id", "no", "on", "at", "date", "count", "name", "type", "cm", "kg", "pct"]));
  return { name: parts.join("_"), type: random.pick(TYPES) };
}

// The single words of the lists; recombined, they make names that are words but stand in no list.
const NOUNS = [
  ...new Set(
    [...words.ENTITIES.flatMap((e) => [e.name, ...e.columns.map((c) => c.name)]), ...words.COMMON.map((c) => c.name)]
      .flatMap((name) => name.split("_"))
      .filter((word) => word.length > 2),
  ),
];

// Words that cannot be bare names in SQL.
const RESERVED = new Set(
  "order group limit table index select from to where transaction case check values default set join add all and or not in is as on references primary foreign unique between like".split(
    " ",
  ),
);

/** A table whose name is not in `taken`; the name is added there. Null where the draw gives no such table. */
function table(random, taken) {
  const kind = random.int(10);
  const entity = random.pick(words.ENTITIES);
  let singular = entity.name;
  let columns = entity.columns;
  if (kind >= 4) {
    // The name is made of words or invented, and the columns are of any kind.
    singular = nameWord(random);
    if (random.chance(25)) singular += `_${nameWord(random)}`;
    columns = [...random.sample(words.COMMON, 4)];
    for (let i = 0; i < 6; i++) columns.push(inventedColumn(random));
  } else if (random.chance(50)) {
    columns = [...columns, ...random.sample(words.COMMON, 2), inventedColumn(random)];
  }
  const name = random.chance(50) && !RESERVED.has(singular) ? singular : plural(singular);
  if (RESERVED.has(name) || taken.has(singular) || taken.has(name)) return null;
  taken.add(singular).add(name);
  const unique = new Map();
  for (const column of random.sample(columns, random.between(2, random.wide ? 7 : 6))) {
    // Such as "singer_name" in the table singer.
    const name = random.wideChance(18) && !column.name.includes(singular) ? `${singular}_${column.name}` : column.name;
    unique.set(name, name === column.name ? column : { ...column, name });
  }
  for (const reserved of RESERVED) unique.delete(reserved);
  unique.delete(singular);
  unique.delete(name);
  if (unique.size === 0) return null;
  const list = [...unique.values()];
  if (random.chance(65)) list.unshift({ name: random.chance(60) ? "id" : `${singular}_id`, type: "k" });
  return { name, singular, plural: plural(singular), columns: list };
}

/** One to three tables. */
export function schema(random) {
  const taken = new Set();
  const tables = [];
  const count = random.pick([1, 1, 2, 2, 3]);
  while (tables.length < count) {
    const added = table(random, taken);
    if (!added) continue;
    // The key of another table.
    const other = tables.length > 0 && random.wideChance(45) ? random.pick(tables) : null;
    if (other && !added.columns.some((c) => c.name === `${other.singular}_id`)) {
      added.columns.splice(random.int(added.columns.length + 1), 0, { name: `${other.singular}_id`, type: "f" });
    }
    tables.push(added);
  }
  return tables;
}

export function render(tables) {
  return tables.map((t) => `table ${t.name}(${t.columns.map((c) => c.name).join(", ")})\n`).join("");
}

const capital = (word) => word[0].toUpperCase() + word.slice(1);

/** A value of a text column, without quotes. */
export function textValue(random, column) {
  const n = column.name;
  if (/(country|nationality|capital_of|continent)/.test(n)) return random.pick(words.COUNTRIES);
  if (/(city|location|origin|destination|capital|region|hometown|state|headquarters)/.test(n) && random.chance(85)) {
    return random.chance(15) ? random.pick(words.TWO_WORD_PLACES) : random.pick(words.PLACES);
  }
  if (/code|number|plate|version/.test(n)) {
    return random.pick(["A", "B", "C", "X", "AB", "XK", "T"]) + random.between(1, 999);
  }
  if (random.wideChance(4)) return [0, 1, 2].map(() => capital(random.pick(ENGLISH_NOUNS))).join(" ");
  const kind = random.int(10);
  if (kind < 2) return random.pick(words.FIRST_NAMES);
  if (kind < 4) return `${random.pick(words.FIRST_NAMES)} ${random.pick(words.LAST_NAMES)}`;
  if (kind < 7) return random.pick(words.LABELS);
  if (kind < 8) return random.pick(words.PHRASES);
  const word = random.chance(65) ? random.pick(ENGLISH_NOUNS) : inventedWord(random);
  if (random.chance(10)) return `${capital(word)} ${capital(random.pick(ENGLISH_NOUNS))}`;
  return random.chance(55) ? capital(word) : word;
}

/** A number for a column, as it stands in the question and in the SQL. */
export function numberValue(random, column) {
  if (column.type === "y") return String(random.between(1900, 2025));
  if (column.type === "r" && random.chance(40)) return `${random.between(0, 99)}.${random.between(1, 9)}`;
  const size = random.int(10);
  if (/age/.test(column.name)) return String(random.between(5, 90));
  if (size < 4) return String(random.between(1, 99));
  if (size < 7) return String(random.between(1, 20) * random.pick([10, 50, 100]));
  return String(random.between(1, 99) * random.pick([100, 1000, 10000]));
}

export function dateValue(random) {
  const two = (value) => String(value).padStart(2, "0");
  return `${random.between(1990, 2025)}-${two(random.between(1, 12))}-${two(random.between(1, 28))}`;
}

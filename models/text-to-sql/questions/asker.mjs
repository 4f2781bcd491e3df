// How a question names a table, its rows and its columns.
import { plural, spaced } from "../schemas.mjs";

// Types of columns (words.mjs): t text, i integer, r real, y year, d date, k key, f key of another table.
export const isText = (c) => c.type === "t";
export const isNumber = (c) => c.type === "i" || c.type === "r";
export const isGroup = (c) => c.type === "t" || c.type === "y" || c.type === "f";
export const isOrdered = (c) => isNumber(c) || c.type === "y" || c.type === "d";
export const isNoKey = (c) => c.type !== "k";

const UNITS = /_(cm|m|km|kg|g|mb|gb|pct|percent|minutes|hours|seconds|days|liters|usd|eur)$/;
export const COUNTS = /^num(ber)?_of_/;
/** Parts that do not name a column: "of membership", and words that ask for an aggregate. */
const NO_NAME = /^((of|in|by)_|(of|in|by|count|number|total|\d+)$)/;
const SUPERLATIVES = [
  [/length|duration|time|distance|hours|minutes|period/, "longest", "shortest"],
  [/price|cost|fare|fee|rent/, "most expensive", "cheapest"],
  [/age$/, "oldest", "youngest"],
  [/weight|mass|_kg$/, "heaviest", "lightest"],
  [/height|_cm$|depth/, "tallest", "shortest"],
  [/speed/, "fastest", "slowest"],
  [/score|rating|grade/, "best", "worst"],
];

/**
 * The random stream and the table of one question. The same seed must give the same examples, so the order of the random
 * choices matters: alternatives are strings where they are all drawn, and functions where only the chosen one is.
 */
export class Asker {
  constructor(random, table, tables) {
    this.random = random;
    this.table = table;
    this.tables = tables;
    this.named = true; // the question says which table it is about
  }

  pick(...list) {
    return this.random.pick(list);
  }
  maybe(percent, text) {
    return this.random.chance(percent) ? text : "";
  }

  /** The rows: "singers", sometimes "records in the singer table". */
  rows() {
    const { name, plural: many } = this.table;
    if (this.random.chance(12))
      return this.pick(`rows in ${name}`, `records in the ${name} table`, `entries in ${name}`, `rows of ${name}`);
    return this.random.chance(25) ? name : spaced(many);
  }
  /** One row: "singer". */
  row() {
    const { name, singular } = this.table;
    return this.random.chance(20) ? name : spaced(singular);
  }
  allRows() {
    return this.pick("", "", "all ", "all the ", "the ", "all ") + this.rows();
  }
  /** "of all singers" */
  ofRows() {
    return `${this.pick("of all", "of", "of the", "for all", "of all the", "for", "for the")} ${this.rows()}`;
  }

  /** A column as people write it. */
  column(c, many = false) {
    if (this.random.wide && (COUNTS.test(c.name) || c.name.endsWith("_by"))) many = false;
    if (this.named && this.random.wideChance(55)) {
      const rest = this.nameAfterTable(c);
      if (rest) return many ? plural(spaced(rest)) : spaced(rest);
    }
    if (COUNTS.test(c.name) && this.random.wideChance(70)) return spaced(c.name.replace(/^num_/, "number_"));
    const name = this.random.chance(22) ? c.name : spaced(this.random.chance(25) ? this.shortName(c) : c.name);
    return many ? plural(name) : name;
  }
  /** "name" for airport_name in the table airport and "id" for its key, where no other column of the table has that part. */
  nameAfterTable(c) {
    const { singular, columns } = this.table;
    if (!c.name.startsWith(`${singular}_`)) return null;
    const rest = c.name.slice(singular.length + 1);
    const inside = (name) => `_${name}_`.includes(`_${rest}_`);
    return NO_NAME.test(rest) || columns.some((other) => other !== c && inside(other.name)) ? null : rest;
  }
  /** A part of the name that no other column has: "height" for height_cm, "name" for beer_name; else the whole name. */
  shortName(c) {
    const parts = c.name.split("_");
    if (parts.length < 2 || c.type === "k") return c.name;
    const others = this.tables.flatMap((t) => t.columns.filter((x) => x !== c).flatMap((x) => x.name.split("_")));
    const names = this.tables.flatMap((t) => [...t.singular.split("_"), ...t.plural.split("_"), t.name]);
    const rest = UNITS.test(c.name) ? c.name.replace(UNITS, "") : parts.slice(1).join("_");
    if (this.random.wide && NO_NAME.test(rest)) return c.name;
    return rest.split("_").every((part) => !others.includes(part) && !names.includes(part)) ? rest : c.name;
  }
  /** "a, b and c" */
  columns(list, many = false) {
    const parts = list.map((c) => this.maybe(15, "the ") + this.column(c, many));
    if (parts.length === 1) return parts[0];
    const last = parts.pop();
    const comma = parts.length > 1 ? this.maybe(40, ",") : "";
    const and = this.pick("and", "and", "and", "along with", "as well as");
    return `${parts.join(", ")}${comma} ${parts.length > 1 && and === "as well as" ? "and" : and} ${last}`;
  }
  /** "longest" for a duration; null where there is no such word. */
  superlative(c, descending) {
    const found = SUPERLATIVES.find(([pattern]) => pattern.test(c.name));
    return found ? found[descending ? 1 : 2] : null;
  }

  /** Whether no other table has any of these columns, so that a question need not name the table. */
  isUnambiguous(columns) {
    return this.tables.every(
      (t) => t === this.table || !columns.some((c) => t.columns.some((other) => other.name === c.name)),
    );
  }
  /** Whether only column `c` passes the test, so that a bare "from Paris" or "in 2015" can only mean this column. */
  isOnly(c, test) {
    return this.table.columns.filter(test).every((other) => other === c);
  }
  /** A random column that passes the test, or null. */
  anyColumn(test) {
    const fitting = this.table.columns.filter(test);
    return fitting.length > 0 ? this.random.pick(fitting) : null;
  }
  someColumns(count) {
    return this.random.sample(this.table.columns, count);
  }

  /** A text value, sometimes in quotes. */
  quoted(value) {
    const kind = this.random.int(10);
    if (kind < 4) return `'${value}'`;
    return kind < 5 ? `"${value}"` : value;
  }

  /** A word that asks for something: "Show", "Please list". */
  request() {
    if (this.random.wideChance(8))
      return this.pick("Provide", "Can you give me", "I need", "Please give me", "Let me see", "Find out");
    return this.pick(
      ...["Show", "Show me", "List", "Give", "Give me", "Find", "Return", "Get", "Display", "Tell me", "Fetch"],
      ...["Retrieve", "I want", "Please list", "Please show", "Can you show", "Print", "Select"],
    );
  }
}

/** SELECT with what follows the table's name. */
export const select = (a, wanted, rest = "") => `SELECT ${wanted} FROM ${a.table.name}${rest}`;

/** The names of columns, as SELECT lists them. */
export const names = (columns) => columns.map((c) => c.name).join(", ");

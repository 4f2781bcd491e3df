// Questions and their one right SQL. The rules of the SQL are in README.md.
import { dateValue, numberValue, plural, spaced, textValue } from "./schemas.mjs";

const isText = (c) => c.type === "t";
const isNumber = (c) => c.type === "i" || c.type === "r";
const isGroup = (c) => c.type === "t" || c.type === "y" || c.type === "f";
const isOrdered = (c) => isNumber(c) || c.type === "y" || c.type === "d";

const UNITS = /_(cm|m|km|kg|g|mb|gb|pct|percent|minutes|hours|seconds|days|liters|usd|eur)$/;
const COUNTS = /^num(ber)?_of_/;
/** What does not name a column: "of membership", and words that ask for an aggregate. */
const NO_NAME = /^((of|in|by)_|(of|in|by|count|number|total|\d+)$)/;
const HOLDS = "have use play like speak study teach own need wear prefer get show reach earn hold carry report".split(
  " ",
);
const MADE =
  "made written owned hosted run led taught built created managed sold directed painted designed reviewed sent".split(
    " ",
  );
/** Columns of dates that say what was done then. */
const DONE =
  /^(created|updated|built|made|sold|born|hired|opened|closed|founded|published|released|signed|paid|shipped)$/;
/** Conditions that say what rows are. */
const ARE =
  /^(from|in|located|based|older|younger|cheaper|more expensive|aged|at least|at most|over|under|called|named) /;
const SUPERLATIVES = [
  [/length|duration|time|distance|hours|minutes|period/, "longest", "shortest"],
  [/price|cost|fare|fee|rent/, "most expensive", "cheapest"],
  [/age$/, "oldest", "youngest"],
  [/weight|mass|_kg$/, "heaviest", "lightest"],
  [/height|_cm$|depth/, "tallest", "shortest"],
  [/speed/, "fastest", "slowest"],
  [/score|rating|grade/, "best", "worst"],
];

/** What one question is made with: its random stream and its table. */
class Asker {
  constructor(random, table, tables) {
    this.random = random;
    this.table = table;
    this.tables = tables;
    this.named = true; // the question says which table
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
  one() {
    const { name, singular } = this.table;
    return this.random.chance(20) ? name : spaced(singular);
  }
  /** Whether only this table has all these columns, so that a question need not name it. */
  tells(columns) {
    return this.tables.every(
      (t) => t === this.table || !columns.some((c) => t.columns.some((other) => other.name === c.name)),
    );
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
    if (this.named && this.random.also(55)) {
      const rest = this.afterTable(c);
      if (rest) return many ? plural(spaced(rest)) : spaced(rest);
    }
    if (COUNTS.test(c.name) && this.random.also(70)) return spaced(c.name.replace(/^num_/, "number_"));
    const name = this.random.chance(22) ? c.name : spaced(this.random.chance(25) ? this.short(c) : c.name);
    return many ? plural(name) : name;
  }
  /** "name" for airport_name in the table airport, "id" for its key, where no other column of it ends so. */
  afterTable(c) {
    const { singular, columns } = this.table;
    if (!c.name.startsWith(`${singular}_`)) return null;
    const rest = c.name.slice(singular.length + 1);
    const inside = (name) => `_${name}_`.includes(`_${rest}_`);
    return NO_NAME.test(rest) || columns.some((other) => other !== c && inside(other.name)) ? null : rest;
  }
  /** A part of the name that no other column has: "height" for height_cm, "name" for beer_name. */
  short(c) {
    const parts = c.name.split("_");
    if (parts.length < 2 || c.type === "k") return c.name;
    const others = this.tables.flatMap((t) => t.columns.filter((x) => x !== c).flatMap((x) => x.name.split("_")));
    const names = this.tables.flatMap((t) => [...t.singular.split("_"), ...t.plural.split("_"), t.name]);
    const rest = UNITS.test(c.name) ? c.name.replace(UNITS, "") : parts.slice(1).join("_");
    if (this.random.wide && NO_NAME.test(rest)) return c.name;
    return rest.split("_").every((part) => !others.includes(part) && !names.includes(part)) ? rest : c.name;
  }
  /** "longest" for a duration, where there is such a word. */
  superlative(c, down) {
    const found = SUPERLATIVES.find(([pattern]) => pattern.test(c.name));
    return found ? found[down ? 1 : 2] : null;
  }
  columns(list, many = false) {
    const parts = list.map((c) => this.maybe(15, "the ") + this.column(c, many));
    if (parts.length === 1) return parts[0];
    const last = parts.pop();
    return `${parts.join(", ")}${parts.length > 1 ? this.maybe(40, ",") : ""} ${this.pick("and", "and", "and", "along with", "as well as").replace("as well as", parts.length > 1 ? "and" : "as well as")} ${last}`;
  }
  /** Whether a bare "from Paris" or "in 2015" can only mean this column. */
  only(c, test) {
    return this.table.columns.filter(test).every((other) => other === c);
  }
  of(test) {
    const fitting = this.table.columns.filter(test);
    return fitting.length > 0 ? this.random.pick(fitting) : null;
  }
  some(count) {
    return this.random.some(this.table.columns, count);
  }

  quoted(value) {
    const kind = this.random.int(10);
    if (kind < 4) return `'${value}'`;
    return kind < 5 ? `"${value}"` : value;
  }

  /** One condition: text that follows the rows, and its SQL. `verb`: for "that ..." forms. */
  condition(exclude = []) {
    const free = (test) => (c) => test(c) && !exclude.includes(c);
    if (this.random.also(5)) {
      const c = this.of(free((x) => x.type !== "k"));
      if (c) return this.missing(c);
    }
    const kind = this.random.int(100);
    if (kind < 42) {
      const c = this.of(free((x) => isNumber(x) || x.type === "y"));
      if (c) return this.comparison(c);
    }
    if (kind < 50) {
      const c = this.of(free((x) => x.type === "d"));
      if (c) return this.dateComparison(c);
    }
    if (kind < 56) {
      const c = this.of(free(isOrdered));
      if (c) return this.between(c);
    }
    if (kind < 64) {
      const c = this.of(free(isText));
      if (c) return this.like(c);
    }
    if (kind < 68) {
      const c = this.of(free((x) => x.type !== "k"));
      if (c) return this.missing(c);
    }
    const c = this.of(free(isText)) ?? this.of(free((x) => x.type !== "k"));
    if (!c) return null;
    if (isText(c)) return this.equality(c);
    return c.type === "d" ? this.dateComparison(c) : this.comparison(c);
  }

  comparison(c) {
    const value = numberValue(this.random, c);
    const word = this.column(c);
    const forms = {
      ">": [
        "greater than",
        "more than",
        "over",
        "above",
        "higher than",
        "larger than",
        "bigger than",
        "exceeding",
        ">",
      ],
      "<": ["less than", "under", "below", "lower than", "smaller than", "fewer than", "<"],
      ">=": ["at least", "no less than", "greater than or equal to", "not less than", ">=", "of at least", "minimum"],
      "<=": ["at most", "no more than", "less than or equal to", "up to", "not more than", "<="],
      "=": ["equal to", "exactly", "of", "="],
      "!=": ["not equal to", "other than", "different from", "!="],
    };
    const op = this.pick(">", ">", ">", "<", "<", "<", ">=", ">=", "<=", "<=", "=", "=", "!=");
    const sql = `${c.name} ${op} ${value}`;
    const done = c.type === "y" && /^(?:year_)?([a-z]+ed|built|made|sold|born|written)(?:_year)?$/.exec(c.name)?.[1];
    if (done && "<>=".includes(op) && this.random.chance(55)) {
      const when = { ">": "after", "<": "before", "=": "in" }[op];
      return { text: `${this.pick("", "that were ")}${done} ${when} ${value}`, sql };
    }
    if (c.type === "y" && this.random.chance(60)) {
      const bare = this.only(c, (x) => x.type === "y" || x.type === "d");
      if (op === ">")
        return {
          text: this.pick(
            ...(bare ? [`after ${value}`] : []),
            `with ${word} after ${value}`,
            `whose ${word} is after ${value}`,
            `with a ${word} later than ${value}`,
          ),
          sql,
        };
      if (op === "<")
        return {
          text: this.pick(
            ...(bare ? [`before ${value}`] : []),
            `with ${word} before ${value}`,
            `whose ${word} is before ${value}`,
            `with a ${word} earlier than ${value}`,
          ),
          sql,
        };
      if (op === "=")
        return {
          text: this.pick(
            ...(bare ? [`in ${value}`, `from ${value}`] : []),
            `with ${word} ${value}`,
            `whose ${word} is ${value}`,
          ),
          sql,
        };
    }
    if (c.name === "age" && this.random.chance(55)) {
      if (op === ">")
        return {
          text: this.pick(
            `older than ${value}`,
            `over ${value} years old`,
            `older than ${value} years`,
            `above the age of ${value}`,
            `who are older than ${value}`,
          ),
          sql,
        };
      if (op === "<")
        return {
          text: this.pick(
            `younger than ${value}`,
            `under ${value} years old`,
            `below the age of ${value}`,
            `who are younger than ${value}`,
          ),
          sql,
        };
      if (op === ">=")
        return {
          text: this.pick(`at least ${value} years old`, `aged ${value} or more`, `aged ${value} or older`),
          sql,
        };
      if (op === "<=") return { text: this.pick(`at most ${value} years old`, `aged ${value} or younger`), sql };
      if (op === "=")
        return { text: this.pick(`aged ${value}`, `who are ${value} years old`, `who are ${value}`), sql };
    }
    if (/^(price|cost)$/.test(c.name) && this.random.chance(45)) {
      if (op === ">")
        return {
          text: this.pick(`more expensive than ${value}`, `that cost more than ${value}`, `costing more than ${value}`),
          sql,
        };
      if (op === "<")
        return {
          text: this.pick(`cheaper than ${value}`, `that cost less than ${value}`, `costing less than ${value}`),
          sql,
        };
    }
    if (op === "=") {
      return {
        text: this.pick(
          `whose ${word} is ${value}`,
          `with ${word} ${value}`,
          `with a ${word} of ${value}`,
          `where ${word} is ${value}`,
          `where ${word} = ${value}`,
          `where the ${word} is ${value}`,
          `that have ${word} ${value}`,
          `with ${word} equal to ${value}`,
          `with ${word} = ${value}`,
          `having ${word} ${value}`,
          `with exactly ${value} ${word}`,
        ),
        sql,
      };
    }
    if (op === "!=") {
      return {
        text: this.pick(
          `whose ${word} is not ${value}`,
          `where ${word} is not ${value}`,
          `with ${word} not equal to ${value}`,
          `with a ${word} other than ${value}`,
          `where ${word} != ${value}`,
          `whose ${word} is different from ${value}`,
        ),
        sql,
      };
    }
    const than = this.random.pick(forms[op]);
    if (than === "minimum" || than === "of at least") return { text: `with a ${word} of at least ${value}`, sql };
    const late = { ">=": `${value} or more`, "<=": `${value} or less` }[op];
    if (late && this.random.chance(25)) {
      return {
        text: this.pick(
          `with ${word} ${late}`,
          `with a ${word} of ${late}`,
          `whose ${word} is ${late}`,
          `with ${late} ${word}`,
        ),
        sql,
      };
    }
    const sign = /^[<>]/.test(than);
    return {
      text: this.pick(
        `whose ${word} is ${than} ${value}`,
        `with ${word} ${than} ${value}`,
        `with a ${word} ${than} ${value}`,
        `where ${word} is ${than} ${value}`,
        `where the ${word} is ${than} ${value}`,
        `that have a ${word} ${than} ${value}`,
        `having ${word} ${than} ${value}`,
        `with a ${word} that is ${than} ${value}`,
        sign ? `where ${word} ${than} ${value}` : `with ${than} ${value} ${word}`,
        `that have ${than} ${value} ${word}`,
        `having a ${word} ${than} ${value}`,
        `with their ${word} ${than} ${value}`,
        `that have ${word} ${than} ${value}`,
        `with a ${word} ${sign ? "" : "of "}${than} ${value}`,
        `${this.pick("that", "who", "which")} ${this.random.pick(HOLDS)} ${this.pick("a ", "")}${word} ${sign ? "" : this.pick("", "of ")}${than} ${value}`,
      ),
      sql,
    };
  }

  dateComparison(c) {
    const value = dateValue(this.random);
    const word = this.column(c);
    const op = this.pick(">", "<", "=", ">=", "<=");
    const sql = `${c.name} ${op} '${value}'`;
    const v = this.random.chance(30) ? `'${value}'` : value;
    const participle =
      /^(\w+ed|built|made|sold|born|hired|shipped|paid)_(on|at|date|year)$/.exec(c.name)?.[1] ??
      (this.random.wide && DONE.test(c.name) ? c.name : null);
    if (participle && (op === ">" || op === "<") && this.random.chance(60)) {
      return { text: `${this.pick("", "that were ")}${participle} ${op === ">" ? "after" : "before"} ${v}`, sql };
    }
    const text = {
      ">": [
        `with ${word} after ${v}`,
        `whose ${word} is after ${v}`,
        `with a ${word} later than ${v}`,
        `where ${word} is after ${v}`,
      ],
      "<": [
        `with ${word} before ${v}`,
        `whose ${word} is before ${v}`,
        `with a ${word} earlier than ${v}`,
        `where ${word} is before ${v}`,
      ],
      "=": [`with ${word} ${v}`, `whose ${word} is ${v}`, `where ${word} is ${v}`, `with a ${word} of ${v}`],
      ">=": [`with ${word} on or after ${v}`, `whose ${word} is on or after ${v}`, `with a ${word} of ${v} or later`],
      "<=": [
        `with ${word} on or before ${v}`,
        `whose ${word} is on or before ${v}`,
        `with a ${word} of ${v} or earlier`,
      ],
    }[op];
    return { text: this.random.pick(text), sql };
  }

  between(c) {
    const word = this.column(c);
    let [low, high] =
      c.type === "d"
        ? [dateValue(this.random), dateValue(this.random)]
        : [numberValue(this.random, c), numberValue(this.random, c)];
    if (c.type === "d" ? low > high : Number(low) > Number(high)) [low, high] = [high, low];
    const [l, h] = c.type === "d" ? [`'${low}'`, `'${high}'`] : [low, high];
    return {
      text: this.pick(
        `whose ${word} is between ${low} and ${high}`,
        `with ${word} between ${low} and ${high}`,
        `with a ${word} between ${low} and ${high}`,
        `where ${word} is between ${low} and ${high}`,
        `with ${word} from ${low} to ${high}`,
        `whose ${word} is from ${low} to ${high}`,
        `with a ${word} in the range ${low} to ${high}`,
      ),
      sql: `${c.name} BETWEEN ${l} AND ${h}`,
    };
  }

  like(c) {
    const word = this.column(c);
    const value = this.random.chance(50)
      ? textValue(this.random, c).split(" ")[0]
      : this.random.pick(["A", "B", "S", "M", "an", "son", "ing", "er", "a", "th", "The"]);
    const v = this.quoted(value);
    if (this.random.also(30)) {
      const [verbs, sql] = this.pick(
        [["that contains", "that includes", "containing"], `'%${value}%'`],
        [["that starts with", "that begins with", "beginning with"], `'${value}%'`],
        [["that ends with", "that ends in", "which ends with"], `'%${value}'`],
      );
      const a = this.pick("with a", "that have a", "who have a", "having a");
      return { text: `${a} ${word} ${this.random.pick(verbs)} ${v}`, sql: `${c.name} LIKE ${sql}` };
    }
    const kind = this.random.int(4);
    if (kind < 2) {
      return {
        text: this.pick(
          `whose ${word} contains ${v}`,
          `with ${v} in their ${word}`,
          `with a ${word} containing ${v}`,
          `where ${word} contains ${v}`,
          `whose ${word} includes ${v}`,
          `with ${v} in the ${word}`,
        ),
        sql: `${c.name} LIKE '%${value}%'`,
      };
    }
    if (kind < 3) {
      return {
        text: this.pick(
          `whose ${word} starts with ${v}`,
          `with a ${word} starting with ${v}`,
          `where ${word} starts with ${v}`,
          `whose ${word} begins with ${v}`,
        ),
        sql: `${c.name} LIKE '${value}%'`,
      };
    }
    return {
      text: this.pick(
        `whose ${word} ends with ${v}`,
        `with a ${word} ending with ${v}`,
        `where ${word} ends in ${v}`,
        `with a ${word} ending in ${v}`,
      ),
      sql: `${c.name} LIKE '%${value}'`,
    };
  }

  missing(c) {
    const word = this.column(c);
    const more = this.random.also(40);
    const missing = this.random.chance(more ? 60 : 50);
    const forms = {
      missing: [
        `without a ${word}`,
        `with no ${word}`,
        `with no ${word} value`,
        `that have no ${word}`,
        `whose ${word} is missing`,
        `where ${word} is null`,
        `whose ${word} is null`,
      ],
      known: [
        `that have a ${word}`,
        `whose ${word} is not null`,
        `where ${word} is not null`,
        `whose ${word} is known`,
      ],
      moreMissing: [
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
      moreKnown: [
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
    const [plain, other] = missing ? [forms.missing, forms.moreMissing] : [forms.known, forms.moreKnown];
    return { text: this.random.pick(more ? other : plain), sql: `${c.name} IS ${missing ? "" : "NOT "}NULL` };
  }

  equality(c) {
    const value = textValue(this.random, c);
    const v = this.quoted(value);
    const word = this.column(c);
    const sql = `${c.name} = '${value}'`;
    if (this.random.chance(14)) {
      return {
        text: this.pick(
          `whose ${word} is not ${v}`,
          `with ${word} other than ${v}`,
          `where ${word} is not ${v}`,
          `with a ${word} different from ${v}`,
          `where ${word} != '${value}'`,
        ),
        sql: `${c.name} != '${value}'`,
      };
    }
    const place = (x) => /^(city|country|location|region|state|origin|continent|nationality|hometown)$/.test(x.name);
    if (place(c) && this.only(c, place) && this.random.chance(50)) {
      return {
        text: this.pick(
          `from ${v}`,
          `in ${v}`,
          `located in ${v}`,
          `based in ${v}`,
          `that are in ${v}`,
          `that are from ${v}`,
          `who live in ${v}`,
          `that come from ${v}`,
          `living in ${v}`,
        ),
        sql,
      };
    }
    if (/^(category|genre|department|team)$/.test(c.name) && this.random.chance(50)) {
      return {
        text: this.pick(`in the ${v} ${word}`, `of the ${v} ${word}`, `in ${word} ${v}`, `from the ${v} ${word}`),
        sql,
      };
    }
    if (/^(name|title)$/.test(c.name) && this.random.chance(50)) {
      return { text: this.pick(`named ${v}`, `called ${v}`, `with the ${word} ${v}`), sql };
    }
    if (
      /^(author|director|artist|owner|manager|publisher|manufacturer|brand|developer)$/.test(c.name) &&
      this.random.chance(35)
    ) {
      return { text: this.pick(/^[A-Z]/.test(value) ? `by ${v}` : `with ${word} ${v}`, `whose ${word} is ${v}`), sql };
    }
    return {
      text: this.pick(
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
        `${this.pick("that", "who", "which")} ${this.random.pick(HOLDS)} ${this.pick("the ", "")}${word} ${v}`,
        `${this.random.pick(MADE)} by ${this.pick("the ", "")}${word} ${v}`,
      ),
      sql,
    };
  }

  /** " whose age is ..." and " WHERE ...", or nothing. */
  where(percent) {
    if (!this.random.chance(percent)) return { text: "", sql: "" };
    const first = this.condition();
    if (!first) return { text: "", sql: "" };
    if (!this.random.chance(25)) return { text: ` ${first.text}`, sql: ` WHERE ${first.sql}` };
    const used = this.table.columns.filter((c) => first.sql.startsWith(`${c.name} `));
    const second = this.condition(used);
    if (!second) return { text: ` ${first.text}`, sql: ` WHERE ${first.sql}` };
    const or = this.random.chance(25);
    return {
      text: ` ${first.text} ${or ? "or" : "and"} ${second.text}`,
      sql: ` WHERE ${first.sql} ${or ? "OR" : "AND"} ${second.sql}`,
    };
  }

  order() {
    const c = this.of(isOrdered) ?? this.of((x) => x.type !== "k");
    if (!c) return null;
    const word = this.column(c);
    if (this.random.also(45)) return this.orderedOtherwise(c, word);
    if (this.random.chance(45)) {
      return {
        c,
        text: this.pick(
          `ordered by ${word}`,
          `sorted by ${word}`,
          `in ascending order of ${word}`,
          `ordered by ${word} ascending`,
          `sorted by ${word} in ascending order`,
          `sorted by ${word} from lowest to highest`,
          `in order of ${word}`,
          `by ${word} in ascending order`,
          isText(c) ? `in alphabetical order of ${word}` : `sorted by ${word} from low to high`,
        ),
        sql: ` ORDER BY ${c.name}`,
      };
    }
    return {
      c,
      text: this.pick(
        `ordered by ${word} descending`,
        `sorted by ${word} descending`,
        `in descending order of ${word}`,
        `sorted by ${word} in descending order`,
        `ordered by ${word} from highest to lowest`,
        `sorted by ${word} from high to low`,
        `by ${word} in descending order`,
        `ordered by descending ${word}`,
      ),
      sql: ` ORDER BY ${c.name} DESC`,
    };
  }

  /** "lowest first", "from newest to oldest", "from A to Z". */
  orderedOtherwise(c, word) {
    const down = this.random.chance(50);
    const by = this.pick("ordered by", "sorted by", "by", "in order of");
    let ends = [
      ["lowest", "highest"],
      ["smallest", "largest"],
      ["low", "high"],
    ];
    if (c.type === "y" || c.type === "d") {
      ends = [
        ["oldest", "newest"],
        ["earliest", "latest"],
        ["oldest", "most recent"],
        ["first", "last"],
      ];
    }
    if (isText(c)) ends = [["A", "Z"]];
    const [low, high] = this.random.pick(ends);
    const [first, last] = down ? [high, low] : [low, high];
    const most = (end) => end.replace(/^(low|high)$/, "$1est");
    const alphabetical = down ? "in reverse alphabetical order" : this.pick("alphabetically", "in alphabetical order");
    const text = isText(c)
      ? this.pick(
          `${by} ${word} from ${first} to ${last}`,
          `${alphabetical} by ${word}`,
          `sorted ${down ? "in reverse" : "alphabetically"} by ${word}`,
        )
      : this.pick(
          `${by} ${word}, ${most(first)} first`,
          `${by} ${word} from ${first} to ${last}`,
          `${by} ${word}, from the ${most(first)} to the ${most(last)}`,
          `from ${first} to ${last} ${word}`,
          `${by} ${down ? this.pick("decreasing", "decreasing") : this.pick("increasing", "ascending")} ${word}`,
        );
    return { c, text, sql: ` ORDER BY ${c.name}${down ? " DESC" : ""}` };
  }

  /** "have no return date", "are older than 30": one condition as what is said of the rows, or null. */
  predicate(where) {
    const said = this.said(where.text.trim());
    return said && !/ (and|or) /.test(said) ? said : null;
  }
  said(text) {
    const that = /^(?:that|who|which) (.*)$/.exec(text)?.[1];
    if (that) return /^(were|was|are|have|has|do|cost|come|live|lack) /.test(that) ? that : null;
    const has = /^(?:with|having) (.*)$/.exec(text)?.[1];
    if (has) return `have ${has}`;
    const not = /^without (?:a |any )?(.*)$/.exec(text)?.[1];
    if (not) return this.pick(`have no ${not}`, `do not have a ${not}`);
    return ARE.test(text) ? `are ${text}` : null;
  }

  show() {
    if (this.random.also(8))
      return this.pick("Provide", "Can you give me", "I need", "Please give me", "Let me see", "Find out");
    return this.pick(
      "Show",
      "Show me",
      "List",
      "Give",
      "Give me",
      "Find",
      "Return",
      "Get",
      "Display",
      "Tell me",
      "Fetch",
      "Retrieve",
      "I want",
      "Please list",
      "Please show",
      "Can you show",
      "Print",
      "Select",
    );
  }
}

/** Each takes an Asker and gives [question, sql], or null where the table has not what it needs. */
const KINDS = {
  list(a) {
    const list = a.some(a.pick(1, 1, 1, 2, 2, 3));
    const w = a.where(45);
    const many = a.random.chance(45);
    if (w.text !== "" && a.random.also(15)) {
      const said = a.predicate(w);
      if (said) {
        const text = a.pick(
          `What ${many ? "are" : "is"} the ${a.columns(list, many)} of the ${a.rows()} that ${said}?`,
          `${a.show()} the ${a.columns(list, many)} of ${a.rows()} ${a.pick("that", "which", "who")} ${said}`,
          `Which ${a.rows()} ${said}? ${a.pick("Show", "Give", "List")} ${a.pick("their ", "the ")}${a.columns(list, many)}.`,
        );
        return [text, `SELECT ${list.map((c) => c.name).join(", ")} FROM ${a.table.name}${w.sql}`];
      }
    }
    if (w.text === "" && a.tells(list) && a.random.chance(20)) {
      a.named = false;
      return [
        a.pick(
          `${a.show()} ${a.pick("all ", "the ", "all the ", "")}${a.columns(list, true)}`,
          `What are the ${a.columns(list, true)}?`,
        ),
        `SELECT ${list.map((c) => c.name).join(", ")} FROM ${a.table.name}`,
      ];
    }
    const text = a.pick(
      () => `${a.show()} ${a.pick("the ", "", "the ")}${a.columns(list, many)} ${a.ofRows()}${w.text}`,
      () => `What ${many ? "are" : "is"} the ${a.columns(list, many)} ${a.ofRows()}${w.text}?`,
      () => `${a.show()} the ${a.columns(list)} of ${a.pick("each", "every")} ${a.one()}${w.text}`,
      () =>
        `${a.show()} ${a.allRows()}${w.text} with their ${a.columns(list, many)}`.replace(
          /^(.*)$/,
          w.text ? `${a.show()} the ${a.columns(list, many)} of ${a.rows()}${w.text}` : "$1",
        ),
      () => `What is the ${a.columns(list)} of ${a.pick("each", "every")} ${a.one()}${w.text}?`,
      () =>
        `For ${a.pick("all ", "each of the ", "the ")}${a.rows()}${w.text}, ${a.pick("show", "list", "give", "what are")} the ${a.columns(list, many)}`,
      () => `${a.columns(list, many)} ${a.ofRows()}${w.text}`,
      () => `Which ${a.columns(list, many)} do ${a.pick("the ", "")}${a.rows()}${w.text} have?`,
    )();
    return [text, `SELECT ${list.map((c) => c.name).join(", ")} FROM ${a.table.name}${w.sql}`];
  },
  rowsOf(a) {
    const w = a.where(a.random.chance(75) ? 100 : 0);
    if (w.text && a.random.also(40)) {
      const said = a.predicate(w);
      if (said) {
        return [
          a.pick(`Which ${a.rows()} ${said}?`, `What ${a.rows()} ${said}?`),
          `SELECT * FROM ${a.table.name}${w.sql}`,
        ];
      }
    }
    const text = w.text
      ? a.pick(
          () => `${a.show()} ${a.allRows()}${w.text}`,
          () => `Which ${a.rows()} are there${w.text}?`,
          () =>
            `${a.show()} ${a.pick("everything about", "all information about", "all details of", "all columns of", "all data on")} ${a.rows()}${w.text}`,
          () => `What ${a.rows()} are there${w.text}?`,
          () => `${a.rows()}${w.text}`,
        )()
      : a.pick(
          () =>
            `${a.show()} ${a.pick("all ", "all the ", "every row of ", "the whole ")}${a.rows()}`.replace(
              /(every row of|the whole) .*$/,
              `$1 ${a.table.name}${a.maybe(50, " table")}`,
            ),
          () =>
            `${a.show()} ${a.pick("everything", "all information", "all details", "all columns", "all data")} ${a.pick("about", "of", "on", "from")} ${a.pick("", "the ", "all ")}${a.rows()}`,
        )();
    return [text, `SELECT * FROM ${a.table.name}${w.sql}`];
  },
  /** Conditions on the column that is shown. */
  matching(a) {
    const c = a.of((x) => x.type === "t" || isOrdered(x));
    if (!c) return null;
    if (a.random.wide) a.named = false;
    const like = isText(c) ? a.like(c) : a.comparison(c);
    const op = like.sql.slice(c.name.length + 1);
    const value = /'%?(.*?)%?'$/.exec(op)?.[1] ?? op.split(" ").at(-1);
    const v = isText(c) ? a.quoted(value) : value;
    const forms =
      op.startsWith("LIKE '%") && op.endsWith("%'")
        ? ["that contain", "containing", "that include", "with"]
        : op.startsWith("LIKE '%")
          ? ["that end with", "ending in", "ending with"]
          : op.startsWith("LIKE")
            ? ["that start with", "starting with", "that begin with"]
            : op.startsWith("> ")
              ? ["above", "over", "greater than", "that are more than"]
              : op.startsWith("< ")
                ? ["below", "under", "less than", "that are less than"]
                : null;
    if (!forms) return null;
    return [
      `${a.show()} the ${a.column(c, true)} ${a.maybe(50, `of ${a.rows()} `) || (a.tells([c]) ? "" : `of ${a.rows()} `)}${a.random.pick(forms)} ${v}`,
      `SELECT ${c.name} FROM ${a.table.name} WHERE ${like.sql}`,
    ];
  },
  distinct(a) {
    const c = a.of((x) => x.type !== "k");
    if (!c) return null;
    const w = a.where(25);
    const d = a.pick("distinct", "different", "unique", "distinct", "different");
    if (w.text === "" && a.tells([c]) && a.random.chance(25)) {
      a.named = false;
      return [
        a.pick(
          `${a.show()} the ${d} ${a.column(c, true)}`,
          `What are the ${d} ${a.column(c, true)}?`,
          `What ${d} ${a.column(c, true)} are there?`,
          `${a.show()} all ${d} ${a.column(c, true)}`,
        ),
        `SELECT DISTINCT ${c.name} FROM ${a.table.name}`,
      ];
    }
    const text = a.pick(
      () => `${a.show()} ${a.pick("the ", "all ", "")}${d} ${a.column(c, true)} ${a.ofRows()}${w.text}`,
      () => `What are the ${d} ${a.column(c, true)} ${a.ofRows()}${w.text}?`,
      () => `What ${d} ${a.column(c, true)} are there in ${a.rows()}${w.text}?`,
      () => `Which ${d} ${a.column(c, true)} do ${a.rows()}${w.text} have?`,
      () =>
        `${a.show()} ${a.column(c)} ${a.ofRows()}${w.text} without ${a.pick("duplicates", "repetition", "repeats")}`,
    )();
    return [text, `SELECT DISTINCT ${c.name} FROM ${a.table.name}${w.sql}`];
  },
  count(a) {
    const owner = a.random.chance(6) ? a.of(isText) : null;
    if (owner) {
      const value = textValue(a.random, owner);
      return [
        `How many ${a.rows()} ${a.pick("does", "are there for", "are there in", "belong to")} ${a.pick("the ", "")}${a.column(owner)} ${a.quoted(value)}${a.maybe(60, " have").trimEnd()}?`,
        `SELECT count(*) FROM ${a.table.name} WHERE ${owner.name} = '${value}'`,
      ];
    }
    const w = a.where(65);
    const rows = a.rows();
    if (w.text && a.random.also(20)) {
      const said = a.predicate(w);
      if (said) {
        return [`How many ${rows} ${said}?`, `SELECT count(*) FROM ${a.table.name}${w.sql}`];
      }
    }
    const text = a.pick(
      () => `How many ${rows} are there${w.text}?`,
      () => `How many ${rows}${w.text}?`,
      () => `How many ${rows}${w.text} are there?`,
      () => `How many ${rows} do we have${w.text}?`,
      () => `Count ${a.pick("the ", "all ", "", "the number of ")}${rows}${w.text}`,
      () => `What is the ${a.pick("number", "total number", "count")} of ${rows}${w.text}?`,
      () => `${a.show()} the ${a.pick("number", "total number", "count")} of ${rows}${w.text}`,
      () => `${a.pick("Number of", "Total number of")} ${rows}${w.text}`,
    )();
    return [text, `SELECT count(*) FROM ${a.table.name}${w.sql}`];
  },
  countDistinct(a) {
    const c = a.of((x) => x.type !== "k");
    if (!c) return null;
    const w = a.where(25);
    const d = a.pick("distinct", "different", "unique");
    const text = a.pick(
      () =>
        `How many ${d} ${a.column(c, true)} are there ${a.pick("in", "among", "for")} ${a.pick("", "the ", "all ")}${a.rows()}${w.text}?`,
      () => `How many ${d} ${a.column(c, true)} do ${a.pick("the ", "")}${a.rows()}${w.text} have?`,
      () => `Count the ${d} ${a.column(c, true)} ${a.ofRows()}${w.text}`,
      () => `What is the number of ${d} ${a.column(c, true)} ${a.ofRows()}${w.text}?`,
      () => `${a.show()} the number of ${d} ${a.column(c, true)} ${a.ofRows()}${w.text}`,
    )();
    return [text, `SELECT count(DISTINCT ${c.name}) FROM ${a.table.name}${w.sql}`];
  },
  aggregate(a) {
    const c = a.of(isNumber);
    if (!c) return null;
    const w = a.where(35);
    const f = a.pick("avg", "avg", "max", "max", "min", "min", "sum", "sum");
    const words = {
      avg: ["average", "average", "mean"],
      max: ["maximum", "highest", "largest", "greatest", "biggest"],
      min: ["minimum", "lowest", "smallest", "least"],
      sum: ["total", "total", "sum of the", "combined", "total sum of"],
    };
    if (a.superlative(c, true)) {
      words.max.push(a.superlative(c, true), a.superlative(c, true));
      words.min.push(a.superlative(c, false), a.superlative(c, false));
    }
    const counts = a.random.wide && COUNTS.test(c.name);
    const number = c.type === "i" && f !== "sum" && !a.superlative(c, true) && !counts && a.random.chance(15);
    const word = a.random.pick(words[f]) + (number ? " number of" : "");
    if (w.text === "" && a.tells([c]) && a.random.chance(20)) {
      a.named = false;
      return [
        a.pick(`What is the ${word} ${a.column(c)}?`, `${a.show()} the ${word} ${a.column(c)}`),
        `SELECT ${f}(${c.name}) FROM ${a.table.name}`,
      ];
    }
    if (!number && a.random.chance(22)) {
      const g = a.random.pick(
        [
          ["avg", "average"],
          ["max", "maximum"],
          ["min", "minimum"],
          ["sum", "total"],
        ].filter(([name]) => name !== f),
      );
      const text = a.pick(
        () => `What are the ${word} and ${g[1]} ${a.column(c)} ${a.ofRows()}${w.text}?`,
        () => `${a.show()} the ${word} and ${g[1]} ${a.column(c)} ${a.ofRows()}${w.text}`,
      )();
      return [
        text.replace("sum of the and", "sum and"),
        `SELECT ${f}(${c.name}), ${g[0]}(${c.name}) FROM ${a.table.name}${w.sql}`,
      ];
    }
    const text = a.pick(
      () => `What is the ${word} ${a.column(c)} ${a.ofRows()}${w.text}?`,
      () =>
        `What is the ${word} ${a.column(c)} ${a.pick("of", "for", "among", "across")} ${a.pick("all ", "the ", "")}${a.rows()}${w.text}?`,
      () => `${a.show()} the ${word} ${a.column(c)} ${a.ofRows()}${w.text}`,
      () => `${a.pick("Calculate", "Compute", "Find")} the ${word} ${a.column(c)} ${a.ofRows()}${w.text}`,
      () => `${word} ${a.column(c)} ${a.ofRows()}${w.text}`,
      () => `How ${f === "avg" ? "high is the average" : `much is the ${word}`} ${a.column(c)} ${a.ofRows()}${w.text}?`,
    )();
    return [text, `SELECT ${f}(${c.name}) FROM ${a.table.name}${w.sql}`];
  },
  ordered(a) {
    const o = a.order();
    if (!o) return null;
    const w = a.where(25);
    if (a.random.chance(30)) {
      return [`${a.show()} ${a.allRows()}${w.text} ${o.text}`, `SELECT * FROM ${a.table.name}${w.sql}${o.sql}`];
    }
    if (a.random.also(20)) {
      // By the one column that is shown, and that the order need not name again.
      const c = a.of((x) => isText(x) || isOrdered(x));
      if (c) {
        const down = a.random.chance(50);
        const order = isText(c)
          ? down
            ? a.pick("in reverse alphabetical order", "in descending order", "from Z to A")
            : a.pick(
                "in alphabetical order",
                "alphabetically",
                "from A to Z",
                "in ascending order",
                "sorted alphabetically",
              )
          : down
            ? a.pick("in descending order", "from highest to lowest", "in decreasing order", "highest first")
            : a.pick("in ascending order", "from lowest to highest", "in increasing order", "lowest first");
        return [
          a.pick(
            `${a.show()} the ${a.column(c, a.random.chance(50))} ${a.ofRows()}${w.text} ${order}`,
            `What are the ${a.column(c, true)} ${a.ofRows()}${w.text} ${order}?`,
            `${a.show()} ${order} the ${a.column(c, true)} ${a.ofRows()}${w.text}`,
          ),
          `SELECT ${c.name} FROM ${a.table.name}${w.sql} ORDER BY ${c.name}${down ? " DESC" : ""}`,
        ];
      }
    }
    const list = a.some(a.pick(1, 1, 2, 3));
    const many = a.random.chance(40);
    const text = a.pick(
      () => `${a.show()} the ${a.columns(list, many)} ${a.ofRows()}${w.text} ${o.text}`,
      () => `What ${many ? "are" : "is"} the ${a.columns(list, many)} ${a.ofRows()}${w.text}, ${o.text}?`,
      () => `${a.show()} the ${a.columns(list, many)} ${a.ofRows()}${w.text}, ${o.text}`,
    )();
    return [text, `SELECT ${list.map((c) => c.name).join(", ")} FROM ${a.table.name}${w.sql}${o.sql}`];
  },
  top(a) {
    const c = a.of(isOrdered);
    if (!c) return null;
    const down = a.random.chance(60);
    const w = a.where(18);
    const k = a.random.chance(45) ? 1 : a.random.between(2, 20);
    const others = a.table.columns.filter((x) => x !== c);
    const list = a.random.chance(30) || others.length === 0 ? null : a.random.some(others, a.pick(1, 1, 2));
    const word = a.column(c);
    let most = down
      ? a.pick("highest", "largest", "greatest", "most", "biggest", "maximum")
      : a.pick("lowest", "smallest", "least", "minimum", "fewest");
    if (c.type === "y" || c.type === "d")
      most = down ? a.pick("latest", "most recent", "highest") : a.pick("earliest", "oldest", "lowest");
    const best = a.superlative(c, down);
    if (best && a.random.chance(30)) most = best;
    const sql = `SELECT ${list ? list.map((x) => x.name).join(", ") : "*"} FROM ${a.table.name}${w.sql} ORDER BY ${c.name}${down ? " DESC" : ""} LIMIT ${k}`;
    const number =
      k <= 10 && a.random.chance(40)
        ? ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"][k - 1]
        : String(k);
    if (k === 1) {
      const what =
        a.random.chance(20) && /^(age|price|cost|weight|height|duration|speed)$/.test(c.name) && best
          ? `${best} ${a.one()}${w.text}`
          : `${a.one()}${w.text} with the ${most} ${word}`;
      if (list && a.random.also(35)) {
        const has = `${a.one()}${w.text} ${a.pick("that has", "which has", "that have", "having")} the ${most} ${word}`;
        return [
          a.pick(
            `What ${a.pick("is", "are")} the ${a.columns(list)} of the ${has}?`,
            `${a.show()} the ${a.columns(list)} of the ${has}`,
            `Which ${a.one()}${w.text} has the ${most} ${word}? ${a.pick("Show", "Give", "List", "Return")} ${a.pick("its ", "the ")}${a.columns(list)}.`,
          ),
          sql,
        ];
      }
      const text = list
        ? a.pick(
            () => `What is the ${a.columns(list)} of the ${what}?`,
            () => `${a.show()} the ${a.columns(list)} of the ${what}`,
            () => `${a.show()} the ${a.columns(list)} for the ${what}`,
          )()
        : a.pick(
            () => `Which ${a.one()}${w.text} has the ${most} ${word}?`,
            () => `${a.show()} the ${what}`,
            () => `What is the ${what}?`,
          )();
      return [text, sql];
    }
    const rows = a.rows();
    const text = a.pick(
      () =>
        `${a.show()} the ${list ? `${a.columns(list, true)} of the ` : ""}${number} ${rows}${w.text} with the ${most} ${word}`,
      () =>
        `What are the ${list ? `${a.columns(list, true)} of the ` : ""}${number} ${rows}${w.text} with the ${most} ${word}?`,
      () =>
        `${a.show()} the ${list ? `${a.columns(list)} of the ` : ""}${down ? "top" : "bottom"} ${number} ${rows}${w.text} by ${word}`,
      () =>
        `${down ? "Top" : "Bottom"} ${number} ${rows}${w.text} by ${word}${list ? `, ${a.pick("show", "only")} ${a.columns(list)}` : ""}`,
      () =>
        `Which ${number} ${rows}${w.text} have the ${most} ${word}?${list ? ` ${a.pick("Show", "Give", "List")} ${a.pick("their ", "the ", "")}${a.columns(list, true)}.` : ""}`,
    )();
    return [text, sql];
  },
  firstRows(a) {
    const k = a.random.between(1, 20);
    const list = a.random.chance(50) ? a.some(a.pick(1, 2)) : null;
    const text = list
      ? a.pick(
          () => `${a.show()} the ${a.columns(list)} of the first ${k} ${a.rows()}`,
          () => `${a.show()} the ${a.columns(list)} of any ${k} ${a.rows()}`,
        )()
      : a.pick(
          () => `${a.show()} the first ${k} ${a.rows()}`,
          () => `${a.show()} any ${k} ${a.rows()}`,
          () => `${a.show()} ${k} ${a.rows()}`,
        )();
    return [text, `SELECT ${list ? list.map((c) => c.name).join(", ") : "*"} FROM ${a.table.name} LIMIT ${k}`];
  },
  grouped(a) {
    const g = a.of(isGroup);
    if (!g) return null;
    const c = a.random.chance(50) ? null : a.of((x) => isNumber(x) && x !== g);
    const w = a.where(18);
    const bare = c && w.text === "" && a.tells([g, c]) && a.random.also(30);
    if (bare) a.named = false;
    const per = a.pick("for each", "per", "by", "for every", "in each", "grouped by", "of each");
    const group = a.column(g);
    const f = c ? a.pick("avg", "max", "min", "sum") : "count";
    const value = c ? `${f}(${c.name})` : "count(*)";
    const wanted = c
      ? `${a.random.pick({ avg: ["average", "mean"], max: ["maximum", "highest", "largest"], min: ["minimum", "lowest", "smallest"], sum: ["total"] }[f])} ${a.column(c)}`
      : null;
    let sql = `SELECT ${g.name}, ${value} FROM ${a.table.name}${w.sql} GROUP BY ${g.name}`;
    if (bare) {
      const sum = f === "sum" && a.random.chance(40) ? `sum of ${a.column(c)}` : wanted;
      return [
        a.pick(
          `What is the ${sum} for each ${group}?`,
          `For each ${group}, ${a.pick("find", "show", "give", "return", "list")} the ${sum}`,
          `${a.show()} the ${sum} ${per} ${group}`,
          `${a.show()} each ${group} and ${a.pick("its", "the")} ${sum}`,
          `For every ${group}, what is the ${sum}?`,
        ),
        sql,
      ];
    }
    let tail = "";
    const extra = a.random.int(100);
    if (extra < 10) {
      const down = a.random.chance(70);
      sql += ` ORDER BY ${value}${down ? " DESC" : ""}`;
      tail = `, ${a.pick("sorted by", "ordered by")} ${c ? `${f === "sum" ? "total" : wanted.split(" ")[0]} ${a.column(c)}` : "count"}${down ? " descending" : a.maybe(50, " ascending")}`;
    }
    const text = c
      ? a.pick(
          () => `What is the ${wanted} of ${a.rows()}${w.text} ${per} ${group}${tail}?`,
          () => `${a.show()} the ${wanted} of ${a.rows()}${w.text} ${per} ${group}${tail}`,
          () => `${a.show()} ${a.pick("each", "every")} ${group} and the ${wanted} of its ${a.rows()}${w.text}${tail}`,
          () => `${wanted} of ${a.rows()}${w.text} ${per} ${group}${tail}`,
          () =>
            `${a.show()} ${a.pick("", "the ", "all ")}${a.column(g, true)} ${a.pick("and", "with")} the ${wanted} ${a.random.wide ? `of ${a.rows()}${w.text} ` : ""}${a.pick("for each", "of each")}${tail}`,
          () =>
            `For each ${group}, ${a.pick("what is", "show", "find", "give")} the ${wanted} of ${a.rows()}${w.text}${tail}`,
        )()
      : a.pick(
          () => `How many ${a.rows()}${w.text} are there ${per} ${group}${tail}?`,
          () => `${a.show()} the number of ${a.rows()}${w.text} ${per} ${group}${tail}`,
          () => `Count ${a.pick("the ", "")}${a.rows()}${w.text} ${per} ${group}${tail}`,
          () => `What is the number of ${a.rows()}${w.text} ${per} ${group}${tail}?`,
          () =>
            `For each ${group}, ${a.pick("how many", "count the", "show the number of")} ${a.rows()}${w.text}${a.maybe(40, " are there")}${tail}`,
          () =>
            `${a.show()} ${a.pick("each", "every")} ${group} and ${a.pick("its number of", "how many", "the number of")} ${a.rows()}${w.text}${tail}`,
          () =>
            `${a.show()} ${a.pick("", "the ", "all ")}${a.column(g, true)} ${a.pick("and", "with")} the number of ${a.rows()}${w.text} ${a.pick("for each", "in each", "of each")}${a.maybe(60, ` ${group}`)}${tail}`,
          () => `How many ${a.rows()}${w.text} does ${a.pick("each", "every")} ${group} have${tail}?`,
        )();
    return [text, sql];
  },
  having(a) {
    const g = a.of(isGroup);
    if (!g) return null;
    const k = a.random.between(1, 20);
    const [op, than] = a.random.pick([
      [">", "more than"],
      [">", "over"],
      [">=", "at least"],
      ["<", "fewer than"],
      ["<", "less than"],
      ["=", "exactly"],
    ]);
    const text = a.pick(
      () => `Which ${a.column(g, true)} have ${than} ${k} ${a.rows()}?`,
      () => `${a.show()} the ${a.column(g, true)} with ${than} ${k} ${a.rows()}`,
      () => `What are the ${a.column(g, true)} that have ${than} ${k} ${a.rows()}?`,
      () => `${a.show()} each ${a.column(g)} that has ${than} ${k} ${a.rows()}`,
      () => `${a.show()} the ${a.column(g, true)} of ${a.rows()} that ${a.pick("appear", "occur")} ${than} ${k} times`,
    )();
    const sql = `SELECT ${g.name} FROM ${a.table.name} GROUP BY ${g.name} HAVING count(*) ${op} ${k}`;
    if (!a.random.also(35)) return [text, sql];
    const used = a.pick("are used by", "are shared by", "appear in", "belong to", "occur in", "are found in", "have");
    return [
      a.pick(
        `Which ${a.column(g, true)} ${used} ${than} ${k} ${a.rows()}?`,
        `${a.show()} the ${a.column(g, true)} that ${used} ${than} ${k} ${a.rows()}`,
        `Which ${a.column(g)} ${a.pick("has", "appears in", "is shared by")} ${than} ${k} ${a.rows()}?`,
        `What are the ${a.column(g, true)} that ${than} ${k} ${a.rows()} have?`,
      ),
      sql,
    ];
  },
  mostCommon(a) {
    const g = a.of(isGroup);
    if (!g) return null;
    const down = a.random.chance(75);
    const sql = `SELECT ${g.name} FROM ${a.table.name} GROUP BY ${g.name} ORDER BY count(*)${down ? " DESC" : ""} LIMIT 1`;
    if (a.random.also(35)) {
      const often = down
        ? a.pick("most common", "most frequent", "most popular")
        : a.pick("least common", "rarest", "least frequent");
      const bare = a.tells([g]) && a.random.chance(50);
      a.named = !bare;
      return [
        a.pick(
          `${a.show()} the ${often} ${a.column(g)}${bare ? "" : ` ${a.ofRows()}`}`,
          `What is the ${often} ${a.column(g)}${bare ? "" : ` among ${a.allRows()}`}?`,
          `Which ${a.column(g)} is the ${often}${bare ? "" : ` among the ${a.rows()}`}?`,
          bare
            ? `Which ${a.column(g)} appears ${down ? "most" : "least"} often?`
            : `Which ${a.column(g)} do ${down ? "most" : "the fewest"} ${a.rows()} have?`,
        ),
        sql,
      ];
    }
    const text = down
      ? a.pick(
          () => `Which ${a.column(g)} has the most ${a.rows()}?`,
          () => `What is the most common ${a.column(g)} ${a.ofRows()}?`,
          () => `${a.show()} the ${a.column(g)} with the most ${a.rows()}`,
          () => `${a.show()} the most frequent ${a.column(g)} ${a.ofRows()}`,
        )()
      : a.pick(
          () => `Which ${a.column(g)} has the fewest ${a.rows()}?`,
          () => `What is the least common ${a.column(g)} ${a.ofRows()}?`,
          () => `${a.show()} the ${a.column(g)} with the fewest ${a.rows()}`,
        )();
    return [text, sql];
  },
};

// How often each kind is asked.
const WEIGHTS = {
  list: 22,
  matching: 3,
  rowsOf: 12,
  distinct: 7,
  count: 16,
  countDistinct: 5,
  aggregate: 13,
  ordered: 9,
  top: 13,
  firstRows: 3,
  grouped: 12,
  having: 4,
  mostCommon: 4,
};
const BAG = Object.entries(WEIGHTS).flatMap(([kind, weight]) => Array(weight).fill(kind));

/** [question, sql] about one table of the schema. */
export function ask(random, tables) {
  for (;;) {
    const table = random.pick(tables);
    const found = KINDS[random.pick(BAG)](new Asker(random, table, tables));
    if (!found) continue;
    let [text, sql] = found;
    text = text.replace(/\s+/g, " ").replaceAll("the the ", "the ").trim();
    if (random.wide) text = text.replace(/\b(their|its) the /g, "$1 ");
    // Not where the "a" is a value: "that ends with a or ...".
    if (random.also(85)) text = text.replace(/\ba (?!(?:and|or|in|as|of|at|on|is|are)\b)(?=[aeio])/g, "an ");
    if (random.chance(30)) text = text[0].toLowerCase() + text.slice(1);
    else text = text[0].toUpperCase() + text.slice(1);
    if (/[?.]$/.test(text)) {
      if (random.chance(15)) text = text.slice(0, -1);
    } else if (random.chance(30)) text += random.chance(70) ? "." : "?";
    return [text, sql];
  }
}

// Questions that ask for columns or rows as they are. Each takes an Asker and gives [question, sql], or null where the
// table lacks the columns for it.
import { isNoKey, isOrdered, isText, names, select } from "./asker.mjs";
import { comparison } from "./comparisons.mjs";
import { like, predicate, where } from "./conditions.mjs";

export function list(a) {
  const columns = a.someColumns(a.pick(1, 1, 1, 2, 2, 3));
  const w = where(a, 45);
  const many = a.random.chance(45);
  const sql = select(a, names(columns), w.sql);
  const are = many ? "are" : "is";
  if (w.text !== "" && a.random.wideChance(15)) {
    const that = predicate(a, w);
    if (that) {
      const text = a.pick(
        `What ${are} the ${a.columns(columns, many)} of the ${a.rows()} that ${that}?`,
        `${a.request()} the ${a.columns(columns, many)} of ${a.rows()} ${a.pick("that", "which", "who")} ${that}`,
        `Which ${a.rows()} ${that}? ${a.pick("Show", "Give", "List")} ${a.pick("their ", "the ")}${a.columns(columns, many)}.`,
      );
      return [text, sql];
    }
  }
  if (w.text === "" && a.isUnambiguous(columns) && a.random.chance(20)) {
    a.named = false;
    const text = a.pick(
      `${a.request()} ${a.pick("all ", "the ", "all the ", "")}${a.columns(columns, true)}`,
      `What are the ${a.columns(columns, true)}?`,
    );
    return [text, sql];
  }
  const text = a.pick(
    () => `${a.request()} ${a.pick("the ", "", "the ")}${a.columns(columns, many)} ${a.ofRows()}${w.text}`,
    () => `What ${are} the ${a.columns(columns, many)} ${a.ofRows()}${w.text}?`,
    () => `${a.request()} the ${a.columns(columns)} of ${a.pick("each", "every")} ${a.row()}${w.text}`,
    () => {
      // It is drawn even where it is not used, so that a seed goes on giving the same examples.
      const withColumns = `${a.request()} ${a.allRows()}${w.text} with their ${a.columns(columns, many)}`;
      return w.text ? `${a.request()} the ${a.columns(columns, many)} of ${a.rows()}${w.text}` : withColumns;
    },
    () => `What is the ${a.columns(columns)} of ${a.pick("each", "every")} ${a.row()}${w.text}?`,
    () =>
      `For ${a.pick("all ", "each of the ", "the ")}${a.rows()}${w.text}, ${a.pick("show", "list", "give", "what are")} the ${a.columns(columns, many)}`,
    () => `${a.columns(columns, many)} ${a.ofRows()}${w.text}`,
    () => `Which ${a.columns(columns, many)} do ${a.pick("the ", "")}${a.rows()}${w.text} have?`,
  )();
  return [text, sql];
}

export function wholeRows(a) {
  const w = where(a, a.random.chance(75) ? 100 : 0);
  const sql = select(a, "*", w.sql);
  if (w.text && a.random.wideChance(40)) {
    const that = predicate(a, w);
    if (that) return [a.pick(`Which ${a.rows()} ${that}?`, `What ${a.rows()} ${that}?`), sql];
  }
  const text = w.text
    ? a.pick(
        () => `${a.request()} ${a.allRows()}${w.text}`,
        () => `Which ${a.rows()} are there${w.text}?`,
        () =>
          `${a.request()} ${a.pick("everything about", "all information about", "all details of", "all columns of", "all data on")} ${a.rows()}${w.text}`,
        () => `What ${a.rows()} are there${w.text}?`,
        () => `${a.rows()}${w.text}`,
      )()
    : a.pick(
        () =>
          `${a.request()} ${a.pick("all ", "all the ", "every row of ", "the whole ")}${a.rows()}`.replace(
            /(every row of|the whole) .*$/,
            `$1 ${a.table.name}${a.maybe(50, " table")}`,
          ),
        () =>
          `${a.request()} ${a.pick("everything", "all information", "all details", "all columns", "all data")} ${a.pick("about", "of", "on", "from")} ${a.pick("", "the ", "all ")}${a.rows()}`,
      )();
  return [text, sql];
}

/** A column with a condition on it, which the question need not repeat: "the names that contain 'an'". */
export function matching(a) {
  const c = a.anyColumn((x) => isText(x) || isOrdered(x));
  if (!c) return null;
  if (a.random.wide) a.named = false;
  const { sql } = isText(c) ? like(a, c) : comparison(a, c);
  const condition = sql.slice(c.name.length + 1);
  const value = /'%?(.*?)%?'$/.exec(condition)?.[1] ?? condition.split(" ").at(-1);
  const v = isText(c) ? a.quoted(value) : value;
  const verbs = MATCHES.find(([pattern]) => pattern.test(condition))?.[1];
  if (!verbs) return null;
  return [
    `${a.request()} the ${a.column(c, true)} ${a.maybe(50, `of ${a.rows()} `) || (a.isUnambiguous([c]) ? "" : `of ${a.rows()} `)}${a.random.pick(verbs)} ${v}`,
    select(a, c.name, ` WHERE ${sql}`),
  ];
}
/** Words for a condition by its SQL; the other operators have none. */
const MATCHES = [
  [/^LIKE '%.*%'$/, ["that contain", "containing", "that include", "with"]],
  [/^LIKE '%/, ["that end with", "ending in", "ending with"]],
  [/^LIKE/, ["that start with", "starting with", "that begin with"]],
  [/^> /, ["above", "over", "greater than", "that are more than"]],
  [/^< /, ["below", "under", "less than", "that are less than"]],
];

export function distinct(a) {
  const c = a.anyColumn(isNoKey);
  if (!c) return null;
  const w = where(a, 25);
  const d = a.pick("distinct", "different", "unique", "distinct", "different");
  const sql = select(a, `DISTINCT ${c.name}`, w.sql);
  if (w.text === "" && a.isUnambiguous([c]) && a.random.chance(25)) {
    a.named = false;
    const text = a.pick(
      `${a.request()} the ${d} ${a.column(c, true)}`,
      `What are the ${d} ${a.column(c, true)}?`,
      `What ${d} ${a.column(c, true)} are there?`,
      `${a.request()} all ${d} ${a.column(c, true)}`,
    );
    return [text, sql];
  }
  const text = a.pick(
    () => `${a.request()} ${a.pick("the ", "all ", "")}${d} ${a.column(c, true)} ${a.ofRows()}${w.text}`,
    () => `What are the ${d} ${a.column(c, true)} ${a.ofRows()}${w.text}?`,
    () => `What ${d} ${a.column(c, true)} are there in ${a.rows()}${w.text}?`,
    () => `Which ${d} ${a.column(c, true)} do ${a.rows()}${w.text} have?`,
    () =>
      `${a.request()} ${a.column(c)} ${a.ofRows()}${w.text} without ${a.pick("duplicates", "repetition", "repeats")}`,
  )();
  return [text, sql];
}

export function firstRows(a) {
  const k = a.random.between(1, 20);
  const columns = a.random.chance(50) ? a.someColumns(a.pick(1, 2)) : null;
  const text = columns
    ? a.pick(
        () => `${a.request()} the ${a.columns(columns)} of the first ${k} ${a.rows()}`,
        () => `${a.request()} the ${a.columns(columns)} of any ${k} ${a.rows()}`,
      )()
    : a.pick(
        () => `${a.request()} the first ${k} ${a.rows()}`,
        () => `${a.request()} any ${k} ${a.rows()}`,
        () => `${a.request()} ${k} ${a.rows()}`,
      )();
  return [text, select(a, columns ? names(columns) : "*", ` LIMIT ${k}`)];
}

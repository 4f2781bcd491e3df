// Questions that ask for a number: how many rows there are, and aggregates of a column. Each takes an Asker and gives
// [question, sql], or null where the table lacks the columns for it.
import { textValue } from "../schemas.mjs";
import { COUNTS, isNoKey, isNumber, isText, select } from "./asker.mjs";
import { predicate, where } from "./conditions.mjs";

export function count(a) {
  const owner = a.random.chance(6) ? a.anyColumn(isText) : null;
  if (owner) {
    const value = textValue(a.random, owner);
    return [
      `How many ${a.rows()} ${a.pick("does", "are there for", "are there in", "belong to")} ${a.pick("the ", "")}${a.column(owner)} ${a.quoted(value)}${a.maybe(60, " have").trimEnd()}?`,
      select(a, "count(*)", ` WHERE ${owner.name} = '${value}'`),
    ];
  }
  const w = where(a, 65);
  const rows = a.rows();
  const sql = select(a, "count(*)", w.sql);
  if (w.text && a.random.wideChance(20)) {
    const that = predicate(a, w);
    if (that) return [`How many ${rows} ${that}?`, sql];
  }
  const text = a.pick(
    () => `How many ${rows} are there${w.text}?`,
    () => `How many ${rows}${w.text}?`,
    () => `How many ${rows}${w.text} are there?`,
    () => `How many ${rows} do we have${w.text}?`,
    () => `Count ${a.pick("the ", "all ", "", "the number of ")}${rows}${w.text}`,
    () => `What is the ${a.pick("number", "total number", "count")} of ${rows}${w.text}?`,
    () => `${a.request()} the ${a.pick("number", "total number", "count")} of ${rows}${w.text}`,
    () => `${a.pick("Number of", "Total number of")} ${rows}${w.text}`,
  )();
  return [text, sql];
}

export function countDistinct(a) {
  const c = a.anyColumn(isNoKey);
  if (!c) return null;
  const w = where(a, 25);
  const d = a.pick("distinct", "different", "unique");
  const text = a.pick(
    () =>
      `How many ${d} ${a.column(c, true)} are there ${a.pick("in", "among", "for")} ${a.pick("", "the ", "all ")}${a.rows()}${w.text}?`,
    () => `How many ${d} ${a.column(c, true)} do ${a.pick("the ", "")}${a.rows()}${w.text} have?`,
    () => `Count the ${d} ${a.column(c, true)} ${a.ofRows()}${w.text}`,
    () => `What is the number of ${d} ${a.column(c, true)} ${a.ofRows()}${w.text}?`,
    () => `${a.request()} the number of ${d} ${a.column(c, true)} ${a.ofRows()}${w.text}`,
  )();
  return [text, select(a, `count(DISTINCT ${c.name})`, w.sql)];
}

const WORDS = {
  avg: ["average", "average", "mean"],
  max: ["maximum", "highest", "largest", "greatest", "biggest"],
  min: ["minimum", "lowest", "smallest", "least"],
  sum: ["total", "total", "sum of the", "combined", "total sum of"],
};
const SECOND = { avg: "average", max: "maximum", min: "minimum", sum: "total" };

export function aggregate(a) {
  const c = a.anyColumn(isNumber);
  if (!c) return null;
  const w = where(a, 35);
  const f = a.pick("avg", "avg", "max", "max", "min", "min", "sum", "sum");
  const superlative = f === "max" || f === "min" ? a.superlative(c, f === "max") : null;
  const isCount = a.random.wide && COUNTS.test(c.name);
  const number = c.type === "i" && f !== "sum" && !a.superlative(c, true) && !isCount && a.random.chance(15);
  const words = superlative ? [...WORDS[f], superlative, superlative] : WORDS[f];
  const word = a.random.pick(words) + (number ? " number of" : "");
  const sql = select(a, `${f}(${c.name})`, w.sql);
  if (w.text === "" && a.isUnambiguous([c]) && a.random.chance(20)) {
    a.named = false;
    return [a.pick(`What is the ${word} ${a.column(c)}?`, `${a.request()} the ${word} ${a.column(c)}`), sql];
  }
  if (!number && a.random.chance(22)) {
    const g = a.random.pick(Object.keys(SECOND).filter((name) => name !== f));
    const both = `${word} and ${SECOND[g]}`.replace("sum of the and", "sum and");
    const text = a.pick(
      () => `What are the ${both} ${a.column(c)} ${a.ofRows()}${w.text}?`,
      () => `${a.request()} the ${both} ${a.column(c)} ${a.ofRows()}${w.text}`,
    )();
    return [text, select(a, `${f}(${c.name}), ${g}(${c.name})`, w.sql)];
  }
  const text = a.pick(
    () => `What is the ${word} ${a.column(c)} ${a.ofRows()}${w.text}?`,
    () =>
      `What is the ${word} ${a.column(c)} ${a.pick("of", "for", "among", "across")} ${a.pick("all ", "the ", "")}${a.rows()}${w.text}?`,
    () => `${a.request()} the ${word} ${a.column(c)} ${a.ofRows()}${w.text}`,
    () => `${a.pick("Calculate", "Compute", "Find")} the ${word} ${a.column(c)} ${a.ofRows()}${w.text}`,
    () => `${word} ${a.column(c)} ${a.ofRows()}${w.text}`,
    () => `How ${f === "avg" ? "high is the average" : `much is the ${word}`} ${a.column(c)} ${a.ofRows()}${w.text}?`,
  )();
  return [text, sql];
}

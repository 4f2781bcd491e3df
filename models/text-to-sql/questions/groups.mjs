// Questions that group the rows by a column. Each takes an Asker and gives [question, sql], or null where the table lacks
// the columns for it.
import { isGroup, isNumber, select } from "./asker.mjs";
import { where } from "./conditions.mjs";

const WORDS = {
  avg: ["average", "mean"],
  max: ["maximum", "highest", "largest"],
  min: ["minimum", "lowest", "smallest"],
  sum: ["total"],
};

export function grouped(a) {
  const g = a.anyColumn(isGroup);
  if (!g) return null;
  const c = a.random.chance(50) ? null : a.anyColumn((x) => isNumber(x) && x !== g);
  const w = where(a, 18);
  const bare = c && w.text === "" && a.isUnambiguous([g, c]) && a.random.wideChance(30);
  if (bare) a.named = false;
  const per = a.pick("for each", "per", "by", "for every", "in each", "grouped by", "of each");
  const group = a.column(g);
  const f = c ? a.pick("avg", "max", "min", "sum") : "count";
  const value = c ? `${f}(${c.name})` : "count(*)";
  const wanted = c ? `${a.random.pick(WORDS[f])} ${a.column(c)}` : null;
  const sql = select(a, `${g.name}, ${value}`, `${w.sql} GROUP BY ${g.name}`);
  if (bare) {
    const sum = f === "sum" && a.random.chance(40) ? `sum of ${a.column(c)}` : wanted;
    return [bareAggregate(a, sum, per, group), sql];
  }
  let [order, orderSql] = ["", ""];
  if (a.random.chance(10)) {
    const descending = a.random.chance(70);
    const by = a.pick("sorted by", "ordered by");
    const what = c ? `${f === "sum" ? "total" : wanted.split(" ")[0]} ${a.column(c)}` : "count";
    order = `, ${by} ${what}${descending ? " descending" : a.maybe(50, " ascending")}`;
    orderSql = ` ORDER BY ${value}${descending ? " DESC" : ""}`;
  }
  const text = c
    ? aggregatePerGroup(a, { g, wanted, per, group, w, order })
    : countPerGroup(a, { g, per, group, w, order });
  return [text, sql + orderSql];
}

/** The question names no table. */
const bareAggregate = (a, wanted, per, group) =>
  a.pick(
    `What is the ${wanted} for each ${group}?`,
    `For each ${group}, ${a.pick("find", "show", "give", "return", "list")} the ${wanted}`,
    `${a.request()} the ${wanted} ${per} ${group}`,
    `${a.request()} each ${group} and ${a.pick("its", "the")} ${wanted}`,
    `For every ${group}, what is the ${wanted}?`,
  );

const aggregatePerGroup = (a, { g, wanted, per, group, w, order }) =>
  a.pick(
    () => `What is the ${wanted} of ${a.rows()}${w.text} ${per} ${group}${order}?`,
    () => `${a.request()} the ${wanted} of ${a.rows()}${w.text} ${per} ${group}${order}`,
    () => `${a.request()} ${a.pick("each", "every")} ${group} and the ${wanted} of its ${a.rows()}${w.text}${order}`,
    () => `${wanted} of ${a.rows()}${w.text} ${per} ${group}${order}`,
    () =>
      `${a.request()} ${a.pick("", "the ", "all ")}${a.column(g, true)} ${a.pick("and", "with")} the ${wanted} ${a.random.wide ? `of ${a.rows()}${w.text} ` : ""}${a.pick("for each", "of each")}${order}`,
    () =>
      `For each ${group}, ${a.pick("what is", "show", "find", "give")} the ${wanted} of ${a.rows()}${w.text}${order}`,
  )();

const countPerGroup = (a, { g, per, group, w, order }) =>
  a.pick(
    () => `How many ${a.rows()}${w.text} are there ${per} ${group}${order}?`,
    () => `${a.request()} the number of ${a.rows()}${w.text} ${per} ${group}${order}`,
    () => `Count ${a.pick("the ", "")}${a.rows()}${w.text} ${per} ${group}${order}`,
    () => `What is the number of ${a.rows()}${w.text} ${per} ${group}${order}?`,
    () =>
      `For each ${group}, ${a.pick("how many", "count the", "show the number of")} ${a.rows()}${w.text}${a.maybe(40, " are there")}${order}`,
    () =>
      `${a.request()} ${a.pick("each", "every")} ${group} and ${a.pick("its number of", "how many", "the number of")} ${a.rows()}${w.text}${order}`,
    () =>
      `${a.request()} ${a.pick("", "the ", "all ")}${a.column(g, true)} ${a.pick("and", "with")} the number of ${a.rows()}${w.text} ${a.pick("for each", "in each", "of each")}${a.maybe(60, ` ${group}`)}${order}`,
    () => `How many ${a.rows()}${w.text} does ${a.pick("each", "every")} ${group} have${order}?`,
  )();

/** Groups with more, fewer or exactly so many rows. */
export function having(a) {
  const g = a.anyColumn(isGroup);
  if (!g) return null;
  const k = a.random.between(1, 20);
  const [op, than] = a.pick(
    [">", "more than"],
    [">", "over"],
    [">=", "at least"],
    ["<", "fewer than"],
    ["<", "less than"],
    ["=", "exactly"],
  );
  const text = a.pick(
    () => `Which ${a.column(g, true)} have ${than} ${k} ${a.rows()}?`,
    () => `${a.request()} the ${a.column(g, true)} with ${than} ${k} ${a.rows()}`,
    () => `What are the ${a.column(g, true)} that have ${than} ${k} ${a.rows()}?`,
    () => `${a.request()} each ${a.column(g)} that has ${than} ${k} ${a.rows()}`,
    () => `${a.request()} the ${a.column(g, true)} of ${a.rows()} that ${a.pick("appear", "occur")} ${than} ${k} times`,
  )();
  const sql = select(a, g.name, ` GROUP BY ${g.name} HAVING count(*) ${op} ${k}`);
  if (!a.random.wideChance(35)) return [text, sql];
  const used = a.pick("are used by", "are shared by", "appear in", "belong to", "occur in", "are found in", "have");
  const otherText = a.pick(
    `Which ${a.column(g, true)} ${used} ${than} ${k} ${a.rows()}?`,
    `${a.request()} the ${a.column(g, true)} that ${used} ${than} ${k} ${a.rows()}`,
    `Which ${a.column(g)} ${a.pick("has", "appears in", "is shared by")} ${than} ${k} ${a.rows()}?`,
    `What are the ${a.column(g, true)} that ${than} ${k} ${a.rows()} have?`,
  );
  return [otherText, sql];
}

/** The group with the most or the fewest rows. */
export function mostCommon(a) {
  const g = a.anyColumn(isGroup);
  if (!g) return null;
  const descending = a.random.chance(75);
  const sql = select(a, g.name, ` GROUP BY ${g.name} ORDER BY count(*)${descending ? " DESC" : ""} LIMIT 1`);
  if (a.random.wideChance(35)) return [wideMostCommon(a, g, descending), sql];
  const text = descending
    ? a.pick(
        () => `Which ${a.column(g)} has the most ${a.rows()}?`,
        () => `What is the most common ${a.column(g)} ${a.ofRows()}?`,
        () => `${a.request()} the ${a.column(g)} with the most ${a.rows()}`,
        () => `${a.request()} the most frequent ${a.column(g)} ${a.ofRows()}`,
      )()
    : a.pick(
        () => `Which ${a.column(g)} has the fewest ${a.rows()}?`,
        () => `What is the least common ${a.column(g)} ${a.ofRows()}?`,
        () => `${a.request()} the ${a.column(g)} with the fewest ${a.rows()}`,
      )();
  return [text, sql];
}

function wideMostCommon(a, g, descending) {
  const often = descending
    ? a.pick("most common", "most frequent", "most popular")
    : a.pick("least common", "rarest", "least frequent");
  const bare = a.isUnambiguous([g]) && a.random.chance(50);
  a.named = !bare;
  return a.pick(
    `${a.request()} the ${often} ${a.column(g)}${bare ? "" : ` ${a.ofRows()}`}`,
    `What is the ${often} ${a.column(g)}${bare ? "" : ` among ${a.allRows()}`}?`,
    `Which ${a.column(g)} is the ${often}${bare ? "" : ` among the ${a.rows()}`}?`,
    bare
      ? `Which ${a.column(g)} appears ${descending ? "most" : "least"} often?`
      : `Which ${a.column(g)} do ${descending ? "most" : "the fewest"} ${a.rows()} have?`,
  );
}

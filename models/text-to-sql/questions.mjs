// Questions about random tables with their one right SQL. The rules of the SQL are in README.md; questions/ has a file for
// each kind of question, and the wordings of conditions.
import { aggregate, count, countDistinct } from "./questions/aggregates.mjs";
import { Asker } from "./questions/asker.mjs";
import { grouped, having, mostCommon } from "./questions/groups.mjs";
import { ordered, top } from "./questions/orders.mjs";
import { distinct, firstRows, list, matching, wholeRows } from "./questions/rows.mjs";

/** Every kind as often as it is asked. The order must stay, so that a seed goes on drawing the same kinds. */
const KINDS = [
  ...Array(22).fill(list),
  ...Array(3).fill(matching),
  ...Array(12).fill(wholeRows),
  ...Array(7).fill(distinct),
  ...Array(16).fill(count),
  ...Array(5).fill(countDistinct),
  ...Array(13).fill(aggregate),
  ...Array(9).fill(ordered),
  ...Array(13).fill(top),
  ...Array(3).fill(firstRows),
  ...Array(12).fill(grouped),
  ...Array(4).fill(having),
  ...Array(4).fill(mostCommon),
];

/** [question, sql] about one table of the schema. */
export function ask(random, tables) {
  for (;;) {
    const table = random.pick(tables);
    const asked = random.pick(KINDS)(new Asker(random, table, tables));
    if (asked) return [asTyped(random, asked[0]), asked[1]];
  }
}

/** The question with articles put right, and with the capitals and full stops that people type or leave out. */
function asTyped(random, question) {
  let text = question.replace(/\s+/g, " ").replaceAll("the the ", "the ").trim();
  if (random.wide) text = text.replace(/\b(their|its) the /g, "$1 ");
  // An "a" that is a value stays: "that ends with a or ...".
  if (random.wideChance(85)) text = text.replace(/\ba (?!(?:and|or|in|as|of|at|on|is|are)\b)(?=[aeio])/g, "an ");
  if (random.chance(30)) text = text[0].toLowerCase() + text.slice(1);
  else text = text[0].toUpperCase() + text.slice(1);
  if (/[?.]$/.test(text)) {
    if (random.chance(15)) text = text.slice(0, -1);
  } else if (random.chance(30)) text += random.chance(70) ? "." : "?";
  return text;
}

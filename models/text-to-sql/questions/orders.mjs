// Questions that ask for rows in an order, and for the first of them. Each takes an Asker and gives [question, sql], or
// null where the table lacks the columns for it.
import { isNoKey, isOrdered, isText, names, select } from "./asker.mjs";
import { where } from "./conditions.mjs";

export function ordered(a) {
  const order = anyOrder(a);
  if (!order) return null;
  const w = where(a, 25);
  if (a.random.chance(30)) {
    return [`${a.request()} ${a.allRows()}${w.text} ${order.text}`, select(a, "*", w.sql + order.sql)];
  }
  if (a.random.wideChance(20)) {
    const c = a.anyColumn((x) => isText(x) || isOrdered(x));
    if (c) return byTheColumnShown(a, c, w);
  }
  const columns = a.someColumns(a.pick(1, 1, 2, 3));
  const many = a.random.chance(40);
  const text = a.pick(
    () => `${a.request()} the ${a.columns(columns, many)} ${a.ofRows()}${w.text} ${order.text}`,
    () => `What ${many ? "are" : "is"} the ${a.columns(columns, many)} ${a.ofRows()}${w.text}, ${order.text}?`,
    () => `${a.request()} the ${a.columns(columns, many)} ${a.ofRows()}${w.text}, ${order.text}`,
  )();
  return [text, select(a, names(columns), w.sql + order.sql)];
}

/** { text, sql }: the words that follow the rows, and the ORDER BY. */
function anyOrder(a) {
  const c = a.anyColumn(isOrdered) ?? a.anyColumn(isNoKey);
  if (!c) return null;
  const word = a.column(c);
  if (a.random.wideChance(45)) return orderFromTo(a, c, word);
  if (a.random.chance(45)) {
    const text = a.pick(
      `ordered by ${word}`,
      `sorted by ${word}`,
      `in ascending order of ${word}`,
      `ordered by ${word} ascending`,
      `sorted by ${word} in ascending order`,
      `sorted by ${word} from lowest to highest`,
      `in order of ${word}`,
      `by ${word} in ascending order`,
      isText(c) ? `in alphabetical order of ${word}` : `sorted by ${word} from low to high`,
    );
    return { text, sql: orderBy(c, false) };
  }
  const text = a.pick(
    `ordered by ${word} descending`,
    `sorted by ${word} descending`,
    `in descending order of ${word}`,
    `sorted by ${word} in descending order`,
    `ordered by ${word} from highest to lowest`,
    `sorted by ${word} from high to low`,
    `by ${word} in descending order`,
    `ordered by descending ${word}`,
  );
  return { text, sql: orderBy(c, true) };
}
const orderBy = (c, descending) => ` ORDER BY ${c.name}${descending ? " DESC" : ""}`;

/** "lowest first", "from newest to oldest", "from A to Z". */
function orderFromTo(a, c, word) {
  const descending = a.random.chance(50);
  const by = a.pick("ordered by", "sorted by", "by", "in order of");
  const [low, high] = a.random.pick(endsOf(c));
  const [first, last] = descending ? [high, low] : [low, high];
  const superlative = (end) => end.replace(/^(low|high)$/, "$1est");
  const alphabetical = descending ? "in reverse alphabetical order" : a.pick("alphabetically", "in alphabetical order");
  const text = isText(c)
    ? a.pick(
        `${by} ${word} from ${first} to ${last}`,
        `${alphabetical} by ${word}`,
        `sorted ${descending ? "in reverse" : "alphabetically"} by ${word}`,
      )
    : a.pick(
        `${by} ${word}, ${superlative(first)} first`,
        `${by} ${word} from ${first} to ${last}`,
        `${by} ${word}, from the ${superlative(first)} to the ${superlative(last)}`,
        `from ${first} to ${last} ${word}`,
        `${by} ${descending ? a.pick("decreasing", "decreasing") : a.pick("increasing", "ascending")} ${word}`,
      );
  return { text, sql: orderBy(c, descending) };
}
/** Words for the lowest and the highest of a column. */
function endsOf(c) {
  if (isText(c)) return [["A", "Z"]];
  if (c.type === "y" || c.type === "d") {
    return [
      ["oldest", "newest"],
      ["earliest", "latest"],
      ["oldest", "most recent"],
      ["first", "last"],
    ];
  }
  return [
    ["lowest", "highest"],
    ["smallest", "largest"],
    ["low", "high"],
  ];
}

/** The order is by the one column that is shown, so it need not be named again. */
function byTheColumnShown(a, c, w) {
  const descending = a.random.chance(50);
  const kind = `${isText(c) ? "text" : "number"} ${descending ? "descending" : "ascending"}`;
  const order = a.random.pick(BARE_ORDERS[kind]);
  const text = a.pick(
    `${a.request()} the ${a.column(c, a.random.chance(50))} ${a.ofRows()}${w.text} ${order}`,
    `What are the ${a.column(c, true)} ${a.ofRows()}${w.text} ${order}?`,
    `${a.request()} ${order} the ${a.column(c, true)} ${a.ofRows()}${w.text}`,
  );
  return [text, select(a, c.name, w.sql + orderBy(c, descending))];
}
const BARE_ORDERS = {
  "text descending": ["in reverse alphabetical order", "in descending order", "from Z to A"],
  "text ascending": [
    ...["in alphabetical order", "alphabetically", "from A to Z", "in ascending order", "sorted alphabetically"],
  ],
  "number descending": ["in descending order", "from highest to lowest", "in decreasing order", "highest first"],
  "number ascending": ["in ascending order", "from lowest to highest", "in increasing order", "lowest first"],
};

export function top(a) {
  const c = a.anyColumn(isOrdered);
  if (!c) return null;
  const descending = a.random.chance(60);
  const w = where(a, 18);
  const limit = a.random.chance(45) ? 1 : a.random.between(2, 20);
  const others = a.table.columns.filter((x) => x !== c);
  const columns = a.random.chance(30) || others.length === 0 ? null : a.random.sample(others, a.pick(1, 1, 2));
  const word = a.column(c);
  const extreme = extremeOf(a, c, descending);
  const sql = select(a, columns ? names(columns) : "*", `${w.sql}${orderBy(c, descending)} LIMIT ${limit}`);
  const number = limit <= 10 && a.random.chance(40) ? NUMBERS[limit - 1] : String(limit);
  const text =
    limit === 1
      ? topRow(a, { c, columns, descending, word, extreme, w })
      : topRows(a, { columns, descending, number, word, extreme, w });
  return [text, sql];
}
const NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];

/** "highest", or for a price "most expensive". */
function extremeOf(a, c, descending) {
  let extreme = descending
    ? a.pick("highest", "largest", "greatest", "most", "biggest", "maximum")
    : a.pick("lowest", "smallest", "least", "minimum", "fewest");
  if (c.type === "y" || c.type === "d")
    extreme = descending ? a.pick("latest", "most recent", "highest") : a.pick("earliest", "oldest", "lowest");
  const superlative = a.superlative(c, descending);
  return superlative && a.random.chance(30) ? superlative : extreme;
}

function topRow(a, { c, columns, descending, word, extreme, w }) {
  const superlative = a.superlative(c, descending);
  const what =
    a.random.chance(20) && /^(age|price|cost|weight|height|duration|speed)$/.test(c.name) && superlative
      ? `${superlative} ${a.row()}${w.text}`
      : `${a.row()}${w.text} with the ${extreme} ${word}`;
  if (columns && a.random.wideChance(35)) {
    const having = `${a.row()}${w.text} ${a.pick("that has", "which has", "that have", "having")} the ${extreme} ${word}`;
    return a.pick(
      `What ${a.pick("is", "are")} the ${a.columns(columns)} of the ${having}?`,
      `${a.request()} the ${a.columns(columns)} of the ${having}`,
      `Which ${a.row()}${w.text} has the ${extreme} ${word}? ${a.pick("Show", "Give", "List", "Return")} ${a.pick("its ", "the ")}${a.columns(columns)}.`,
    );
  }
  return columns
    ? a.pick(
        () => `What is the ${a.columns(columns)} of the ${what}?`,
        () => `${a.request()} the ${a.columns(columns)} of the ${what}`,
        () => `${a.request()} the ${a.columns(columns)} for the ${what}`,
      )()
    : a.pick(
        () => `Which ${a.row()}${w.text} has the ${extreme} ${word}?`,
        () => `${a.request()} the ${what}`,
        () => `What is the ${what}?`,
      )();
}

function topRows(a, { columns, descending, number, word, extreme, w }) {
  const rows = a.rows();
  return a.pick(
    () =>
      `${a.request()} the ${columns ? `${a.columns(columns, true)} of the ` : ""}${number} ${rows}${w.text} with the ${extreme} ${word}`,
    () =>
      `What are the ${columns ? `${a.columns(columns, true)} of the ` : ""}${number} ${rows}${w.text} with the ${extreme} ${word}?`,
    () =>
      `${a.request()} the ${columns ? `${a.columns(columns)} of the ` : ""}${descending ? "top" : "bottom"} ${number} ${rows}${w.text} by ${word}`,
    () =>
      `${descending ? "Top" : "Bottom"} ${number} ${rows}${w.text} by ${word}${columns ? `, ${a.pick("show", "only")} ${a.columns(columns)}` : ""}`,
    () =>
      `Which ${number} ${rows}${w.text} have the ${extreme} ${word}?${columns ? ` ${a.pick("Show", "Give", "List")} ${a.pick("their ", "the ", "")}${a.columns(columns, true)}.` : ""}`,
  )();
}

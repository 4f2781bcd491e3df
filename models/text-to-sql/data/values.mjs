import { en } from "@faker-js/faker";
import { BEFORE_NOUN } from "./columns.mjs";

const plain = (words, shape = /^[A-Za-z]+( [A-Za-z]+){0,2}$/) => [...new Set(words)].filter((word) => shape.test(word));
const last = plain(en.person.last_name.generic);
const first = plain([...en.person.first_name.female, ...en.person.first_name.male]);
const countries = [...plain(en.location.country), "USA", "UK", "South Korea", "Russia", "Ivory Coast"];
const cities = plain(en.location.city_name);
const places = { country: countries, origin: [...cities, ...countries], city: cities, state: plain(en.location.state) };
const titles = plain([...en.book.title, ...en.music.album, ...en.music.song_name, ...en.book.series], /^[A-Z][a-z]+( [A-Z]?[a-z]+){0,3}$/);
const nouns = plain(en.word.noun, /^[a-z]+$/);
const adjectives = plain(en.word.adjective, /^[a-z]+$/);
const things = plain(
  [
    ...en.commerce.department,
    ...en.music.genre,
    ...en.book.genre,
    ...en.book.publisher,
    ...en.vehicle.manufacturer,
    ...en.vehicle.model,
    ...en.vehicle.type,
    ...en.food.fruit,
    ...en.food.vegetable,
    ...en.food.spice,
    ...en.animal.dog,
    ...en.animal.cat,
    ...en.animal.horse,
    ...en.location.language,
    ...en.science.chemical_element.map(({ name }) => name),
    ...en.person.job_area,
    ...en.color.human,
  ],
  /^[A-Za-z]+( [A-Za-z]+)?$/,
);
const FEW = {
  department: "Sales|Marketing|Engineering|Finance|HR|Legal|Research|Physics|History|Biology|Mathematics|Support|IT|Operations",
  grade: "A|B|C|D|F|A1|B2",
  level: "beginner|intermediate|advanced|senior|junior|expert|high|low",
  shift: "night|morning|day|evening",
  season: "summer|winter|spring|autumn|Fall",
  priority: "high|low|medium|urgent|critical",
  severity: "high|low|medium|minor|major|critical",
  type: "premium|standard|basic|public|private|indoor|outdoor|domestic|international|full-time|electric|savings|checking",
  position: "goalkeeper|defender|midfielder|forward|Manager|Analyst|Engineer|center|striker",
  role: "admin|editor|viewer|Manager|Developer|owner|tester",
  job: "Engineer|Manager|Clerk|Analyst|cook|accountant|Designer",
  size: "S|M|L|XL|small|medium|large",
  class: "economy|business|first|A|B",
  month: "January|March|May|June|July|August|October|December",
  day: "Monday|Tuesday|Friday|Saturday|Sunday",
  weekday: "Monday|Wednesday|Thursday|Sunday",
  fuel: "diesel|petrol|electric|hybrid|gas",
  engine: "V6|V8|diesel|hybrid",
  os: "Linux|Windows|macOS",
  result: "win|loss|draw|passed|failed",
  medal: "gold|silver|bronze",
  language: "Python|Java|Rust|Swift|Welsh|Hindi|Latin",
  major: "Computer Science|Biology|Economics|Law|Physics|History|Music",
  specialty: "Cardiology|Neurology|Pediatrics|oncology|surgery|Radiology",
  sport: "tennis|football|basketball|Swimming|hockey|rowing|judo",
  team: "Lakers|Eagles|Red Sox|Tigers|Chelsea|Bulls|Real Madrid|Sharks",
  cuisine: "Italian|French|Thai|Mexican|Indian|Ethiopian|Japanese",
  platform: "PC|Switch|web|iOS|Android|PlayStation",
  color: "red|blue|green|black|white|Blue|Red|silver|dark green",
  gender: "male|female|M|F|Male|Female",
  status: "in progress|on hold|Active|Closed|Pending|out of stock",
  party: "Green|Labour|Republican|Democratic|Liberal",
};
const POOLS = Object.fromEntries(
  [...new Set([...Object.keys(FEW), ...Object.keys(BEFORE_NOUN)])].map((key) => [
    key,
    [...(FEW[key]?.split("|") ?? []), ...(BEFORE_NOUN[key]?.split(" ") ?? [])],
  ]),
);

const capital = (word) => word[0].toUpperCase() + word.slice(1);

function code(random) {
  const letters = () => Array.from({ length: random.int(1, 3) }, () => String.fromCharCode(65 + random.int(0, 25))).join("");
  const digits = String(random.int(1, random.pick([9, 99, 999, 9999])));
  return random.pick([`${letters()}${digits}`, `${letters()}-${digits}`, letters() + letters(), `${digits}${letters()}`]);
}

function word(random) {
  const noun = random.pick(nouns);
  return random.fill(random.pick(["$n", "$N", "$N", "$a $n", "$A $N", "$A", "$a"]), {
    n: noun,
    N: capital(noun),
    a: random.pick(adjectives),
    A: capital(random.pick(adjectives)),
  });
}

/** A text that could stand in the column. Never an apostrophe, never digits only. */
export function textValue(random, column) {
  const tail = column.name.slice(column.name.lastIndexOf("_") + 1);
  const { kind } = column;
  if (kind === "code") return code(random);
  if (random.chance(0.06)) return random.chance(0.5) ? code(random) : word(random);
  if (kind === "person" || (kind === "name" && random.chance(column.table.person ? 0.9 : 0.15))) {
    if (/first/.test(column.name)) return random.pick(first);
    if (/last/.test(column.name)) return random.pick(last);
    return random.fill(random.pick(["$f $l", "$f $l", "$l", "$f"]), { f: random.pick(first), l: random.pick(last) });
  }
  if (kind === "name") return random.pick([titles, titles, places.city, last, things].map((pool) => random.pick(pool)).concat(word(random)));
  if (kind === "place") return random.pick(places[tail] ?? random.pick([cities, cities, countries]));
  const pool = POOLS[tail];
  if (pool && random.chance(0.75)) return random.pick(pool);
  return random.chance(0.5) ? random.pick(things) : word(random);
}

/** A value in front of the noun, or undefined where the column takes none. */
export function valueBeforeNoun(random, column) {
  const pool = BEFORE_NOUN[column.name.slice(column.name.lastIndexOf("_") + 1)];
  return pool && random.pick(pool.split(" "));
}

export function dateValue(random, low = 1960) {
  const two = (number) => String(number).padStart(2, "0");
  return `${random.int(low, 2026)}-${two(random.int(1, 12))}-${two(random.int(1, 28))}`;
}

/** Digits, as they stand in the question and in the SQL. */
export function numberValue(random, kind) {
  if (kind === "year") return String(random.chance(0.85) ? random.int(1950, 2026) : random.int(1500, 1949));
  if (kind === "age") return String(random.int(1, 90));
  if (kind === "id") return String(random.int(1, random.pick([9, 99, 999, 99999])));
  if (kind === "rate") return random.chance(0.5) ? String(random.int(1, 100)) : `${random.int(0, 9)}.${random.int(1, 9)}`;
  const size = random.pick([9, 20, 50, 100, 500, 1000, 9999, 100000, 5000000]);
  const exact = random.int(1, size);
  if (random.chance(0.12) && kind !== "int") return `${random.int(0, 999)}.${random.pick([5, 25, 50, 75, 99, random.int(1, 9)])}`;
  const unit = 10 ** Math.max(0, String(size).length - 2);
  return String(random.chance(0.6) ? Math.max(1, Math.round(exact / unit)) * unit : exact);
}

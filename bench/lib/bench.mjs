// The frame of every bench: it names the machine, measures, prints a table and the goals, and writes bench/results/*.json.
import fs from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { machine, root } from "./machine.mjs";
import { describeUse, waitForQuiet, watched } from "./quiet.mjs";
import { table } from "./table.mjs";

const signNames = { ">=": "at least", "<": "below", "<=": "at most" };

/**
 * Runs a bench. `options` are its settings with their defaults; where the default is a number, a positive integer is
 * expected, else text. `body(settings)` resolves to { rows, goals, samples }: the rows of the table, a list of goal(), and
 * the measurements that the rows were made from. A missed goal is printed and is no failure. Where outputs differ that must
 * be equal, the body throws, and the exit code is 1. Where other programs keep the machine busy, nothing is measured, and
 * the exit code is 1 too; `--busy` measures there, and table and result say so. The result's `disturbed` has the disturbed
 * rounds of each interleave(), in order.
 */
export async function bench({ name, about, options }, body) {
  const defaults = { threads: machine().threads, model: "", busy: false, ...options };
  const read = readSettings(defaults);
  if (!read) return console.log(usage(about, defaults));
  const { busy, ...settings } = read;
  console.log(`${about}\n\n${describe(machine())}`);
  const others = await waitForQuiet({ once: busy, onWait: step });
  if (!others.quiet && !busy) {
    const found = `other programs use ${describeUse(others)}`;
    console.error(`Expected a quiet machine but ${found}: stop them, or pass --busy to time anyway`);
    process.exitCode = 1;
    return;
  }
  if (busy) watched.repeats = 0; // it would only take longer
  console.log("");
  const { rows, goals = [], samples = {} } = await body(settings);
  const verdicts = goals.map(({ text, value, sign, limit, met }) => {
    const figure = Number.isFinite(value) ? Number(value.toPrecision(3)) : "nothing";
    return `${met ? "MET   " : "MISSED"} ${text}: ${figure}, goal ${signNames[sign]} ${limit}`;
  });
  const remarks = describeConditions(busy, others);
  console.log(`\n${[table(rows), remarks.join("\n"), verdicts.join("\n")].filter(Boolean).join("\n\n")}\n`);
  const now = new Date().toISOString();
  const file = path.join(root, "bench", "results", `${now.slice(0, 10)}-${machine().name}-${name}.json`);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  const result = { name, about, date: now, machine: machine(), busy, disturbed: watched.disturbed };
  Object.assign(result, { settings, rows, goals, samples });
  if (settings.model) result.settings.model = path.basename(settings.model);
  fs.writeFileSync(file, `${JSON.stringify(result, null, 1)}\n`);
  console.log(`Written to ${path.relative(root, file)}`);
}

/** Lines below the table: what disturbed the timing. */
function describeConditions(busy, others) {
  const lines = [];
  if (busy) lines.push(`Timed with --busy: other programs used ${describeUse(others)} just before.`);
  const { rounds, repeated, disturbed, calibrations } = watched;
  if (rounds > 0) {
    const [fastest, slowest] = [Math.min(...calibrations).toFixed(1), Math.max(...calibrations).toFixed(1)];
    const lasting = `${disturbed.flat().length} of ${rounds} rounds stayed disturbed`;
    lines.push(`${repeated} disturbed measurements of a round were repeated; ${lasting}.`);
    lines.push(`A fixed piece of work before and after each took ${fastest} to ${slowest} ms.`);
  }
  return lines;
}

/** A goal and whether it was met. */
export function goal(text, value, sign, limit) {
  const met = { ">=": value >= limit, "<": value < limit, "<=": value <= limit }[sign];
  return { text, value, sign, limit, met };
}

/** Says what is being done, on one line that the next step overwrites where stderr is a terminal. */
export function step(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
  else process.stderr.write(`${text}\n`);
}

/** Parses the integers of an option such as "1,2,4". */
export const integers = (text) => text.split(",").map(Number);

/** Reads the settings from the command line; null where it asks for help. */
function readSettings(defaults) {
  const kinds = Object.entries(defaults).map(([key, value]) => [key, { type: value === false ? "boolean" : "string" }]);
  const { values } = parseArgs({ options: { ...Object.fromEntries(kinds), help: { type: "boolean", short: "h" } } });
  if (values.help) return null;
  const settings = { ...defaults };
  for (const [key, value] of Object.entries(values)) {
    settings[key] = typeof defaults[key] === "number" ? Number(value) : value;
    if (typeof defaults[key] === "number" && !(Number.isInteger(settings[key]) && settings[key] > 0)) {
      throw new RangeError(`Expected a positive integer for --${key} but received ${value}`);
    }
  }
  return settings;
}

function usage(about, defaults) {
  const shown = (value) => (value === "" ? " FILE" : value === false ? "" : ` ${value}`);
  const lines = Object.entries(defaults).map(([key, value]) => `  --${key}${shown(value)}`);
  const notes = "--model: a GGUF file to measure in place of --formats; --busy: time beside other programs too";
  return `${about}\n\nOptions, with their defaults (${notes}):\n${lines.join("\n")}`;
}

function describe({ gpu, cpu, threads, cores, flags, memoryGiB, system, node, binary, llama }) {
  return [
    ...(gpu ? [`GPU       ${gpu}`] : []),
    `CPU       ${cpu}, ${cores} logical cores, ${threads} physical, ${memoryGiB} GiB`,
    `          ${flags.join(" ")}`,
    `System    ${system}, Node ${node}`,
    `Binary    ${binary.cpuLevel} (${binary.file}), ${binary.features.join(" ")}`,
    `llama.cpp ${llama.version} (${llama.commit.slice(0, 12)})`,
  ].join("\n");
}

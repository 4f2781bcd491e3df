// Writes rows as a markdown table. Started directly it prints the tables of result files, for the README:
//   node bench/lib/table.mjs bench/results/*-ar.json
import fs from "node:fs";
import { fileURLToPath } from "node:url";

export function table(rows) {
  const headers = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const cells = [headers, ...rows.map((row) => headers.map((header) => cell(row[header])))];
  const widths = headers.map((_, i) => Math.max(3, ...cells.map((line) => line[i].length)));
  const numeric = headers.map((header) => rows.every((row) => typeof row[header] !== "string"));
  const line = (texts) =>
    `| ${texts.map((t, i) => (numeric[i] ? t.padStart(widths[i]) : t.padEnd(widths[i]))).join(" | ")} |`;
  const rule = `|${widths.map((width, i) => (numeric[i] ? `${"-".repeat(width + 1)}:` : "-".repeat(width + 2))).join("|")}|`;
  return [line(cells[0]), rule, ...cells.slice(1).map(line)].join("\n");
}

function cell(value) {
  if (typeof value !== "number") return String(value ?? "");
  if (!Number.isFinite(value)) return "";
  return Math.abs(value) >= 100 ? String(Math.round(value)) : String(Number(value.toPrecision(3)));
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  for (const file of process.argv.slice(2)) {
    const { about, machine, date, rows } = JSON.parse(fs.readFileSync(file, "utf8"));
    const where = `${machine.cpu}, ${machine.threads} threads, ${machine.binary.cpuLevel}, Node ${machine.node}`;
    console.log(`${about}\n\n${table(rows)}\n\n${where}, ${date.slice(0, 10)}\n`);
  }
}

// Functions that the recipes share: steps that are skipped once their file is there, a log, and figures for bench/results.
import fs from "node:fs";
import path from "node:path";
import { machine } from "../bench/lib/machine.mjs";
import { root, run, say } from "../scripts/common.mjs";

const CLI = path.join(root, "dist", "cli", "main.js");

/** The steps of a recipe in one folder. A recipe that is started again goes on where it was interrupted. */
export class Recipe {
  constructor(folder) {
    this.folder = path.resolve(folder);
    fs.mkdirSync(this.folder, { recursive: true });
  }

  file(name) {
    return path.join(this.folder, name);
  }

  /** Runs a script that writes the file `name` (its option --out). */
  async script(name, script, ...args) {
    await this.#step(name, [path.join(root, "models", script), ...args, "--out", name]);
  }

  /** Runs `cllm distill` with options as distill() spells them. */
  async distill(name, base, prompts, options) {
    const flags = Object.entries(options).flatMap(([key, value]) => {
      const flag = `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
      return value === true ? [flag] : [flag, String(value)];
    });
    const resume = fs.existsSync(this.file(`${name}.training`)) ? ["--resume"] : [];
    await this.#step(name, [CLI, "distill", base, "--prompts", prompts, "--out", name, ...flags, ...resume]);
  }

  /** Runs `cllm eval` on one or two models, with n = 1 to 16. Resolves to a result for each. */
  async evaluate(name, data, models, { limit, rounds = 3 }) {
    const [model, compare] = models;
    const args = [CLI, "eval", model, data, "--rounds", String(rounds), "--limit", String(limit)];
    if (compare) args.push("--compare", compare);
    await this.#step(name, [...args, "--json", name, "--plot", name.replace(/json$/, "svg")]);
    const results = JSON.parse(fs.readFileSync(this.file(name), "utf8"));
    return results.map((result) => ({ ...result, path: path.basename(result.path) }));
  }

  /** Writes bench/results/DATE-MACHINE-NAME.json and the log beside it. */
  publish(name, about, figures) {
    const date = new Date().toISOString();
    const stem = path.join(root, "bench", "results", `${date.slice(0, 10)}-${machine().name}-${name}`);
    const result = { name, about, date, machine: machine(), figures };
    fs.writeFileSync(`${stem}.json`, `${JSON.stringify(result, null, 1)}\n`);
    fs.copyFileSync(this.file("log.txt"), `${stem}.log.txt`);
    say(`Written to ${path.relative(root, stem)}.json`);
  }

  async #step(name, args) {
    if (fs.existsSync(this.file(name))) return;
    const shown = args.map((arg) => (path.isAbsolute(arg) ? path.relative(root, arg) : arg)).join(" ");
    const log = (line) => {
      const text = line.replaceAll(this.folder, ".").replaceAll(root, ".");
      fs.appendFileSync(this.file("log.txt"), `${text}\n`);
      say(text);
    };
    log(`${new Date().toISOString()} node ${shown}`);
    await run(process.execPath, args, { cwd: this.folder, onLine: log });
  }
}

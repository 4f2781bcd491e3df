// Functions that the scripts share. They use nothing but Node, because they run before anything is installed.
import { spawn, spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

export const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
/** Folder of everything that is downloaded or compiled and is not a result. It may be deleted at any time. */
export const work = path.join(root, ".cmake");

/** An expected failure, which is printed without a stack. */
export class Failure extends Error {}

/** Writes to stderr, so that the output of `npm pack --json` and the like stays clean. */
export function say(message) {
  process.stderr.write(`${message}\n`);
}

/** Runs the script's body when the file was started directly, and turns failures into exit code 1. */
export async function main(url, body) {
  if (!process.argv[1] || fs.realpathSync(process.argv[1]) !== fileURLToPath(url)) return;
  try {
    await body(process.argv.slice(2));
  } catch (error) {
    say(error instanceof Failure ? `\n${error.message}` : error.stack);
    process.exitCode = 1;
  }
}

/** Runs a program with its output shown, or handed line by line to `onLine`. Rejects unless it exits with 0. */
export function run(command, args, { onLine, ...options } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: root,
      stdio: onLine ? ["ignore", "pipe", "pipe"] : "inherit",
      ...options,
    });
    for (const stream of onLine ? [child.stdout, child.stderr] : []) {
      let partialLine = "";
      stream.setEncoding("utf8").on("data", (text) => {
        const lines = (partialLine + text).split(/\r?\n/);
        partialLine = lines.pop();
        lines.forEach(onLine);
      });
      stream.on("end", () => partialLine && onLine(partialLine));
    }
    child.on("error", (error) => reject(new Failure(`Could not start ${command}: ${error.message}`)));
    child.on("close", (code, signal) => {
      if (code === 0) resolve();
      else reject(new Failure(`${path.basename(command)} ${args.slice(0, 3).join(" ")} ended with ${signal ?? code}`));
    });
  });
}

/** Output of a program, trimmed; null when it fails or does not exist. */
export function output(command, args, options = {}) {
  const { status, stdout } = spawnSync(command, args, { encoding: "utf8", ...options });
  return status === 0 ? stdout.trim() : null;
}

/** A call of npm as [command, args, options]: of the npm that runs this script, else of the one on PATH. */
export function npm(...args) {
  const cli = process.env.npm_execpath;
  if (cli && /npm-cli\.[cm]?js$/.test(cli)) return [process.execPath, [cli, ...args], {}];
  return ["npm", args, { shell: process.platform === "win32" }];
}

/** Installs the packages of package-lock.json, without their install scripts: ours would build and show no progress. */
export async function install() {
  const installed = path.join(root, "node_modules", ".package-lock.json"); // npm writes it last
  const lock = path.join(root, "package-lock.json");
  if (fs.existsSync(installed) && fs.statSync(installed).mtimeMs >= fs.statSync(lock).mtimeMs) return;
  say("Installing the dependencies (npm ci)");
  const [command, args, options] = npm("ci", "--ignore-scripts", "--no-audit", "--no-fund");
  await run(command, args, { ...options, stdio: ["ignore", 2, 2] });
}

/** Shows progress, on one line that is rewritten on a terminal, and as a line for each 10% elsewhere. */
export function progress(label) {
  const tty = process.stderr.isTTY;
  const start = Date.now();
  let shownPercent = -10;
  const seconds = () => `${Math.round((Date.now() - start) / 1000)} s`;
  return {
    update(done, total) {
      const percent = Math.floor((100 * done) / total);
      if (percent <= shownPercent || (!tty && percent < shownPercent + 10)) return;
      shownPercent = tty ? percent : percent - (percent % 10);
      if (tty) process.stderr.write(`\r\x1b[K${label}: ${percent}% (${done}/${total}, ${seconds()})`);
      else say(`${label}: ${percent}% (${done}/${total}, ${seconds()})`);
    },
    end(message) {
      if (tty && shownPercent > -10) process.stderr.write("\r\x1b[K");
      if (message) say(`${label}: ${message} (${seconds()})`);
    },
  };
}

/** Runs `body` while this process holds the lock file; others wait. The lock of a dead process is taken over. */
export async function locked(file, body) {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  for (let reported = false; ; ) {
    try {
      fs.writeFileSync(file, String(process.pid), { flag: "wx" });
      break;
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
    }
    const owner = Number(readText(file) || Number.NaN);
    if (owner > 0 && !alive(owner)) fs.rmSync(file, { force: true });
    else if (!reported) say(`Waiting for process ${owner}, which builds in ${path.relative(root, path.dirname(file))}`);
    reported = true;
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  try {
    return await body();
  } finally {
    fs.rmSync(file, { force: true });
  }
}

export function readText(file) {
  try {
    return fs.readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

function alive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}

/** Copies a file so that nobody sees half of it at its final path. A process that has the old file mapped keeps it. */
export function publish(from, to) {
  fs.mkdirSync(path.dirname(to), { recursive: true });
  const temporary = `${to}.${process.pid}.tmp`;
  fs.copyFileSync(from, temporary);
  fs.renameSync(temporary, to);
}

export const parallel = () => process.env.CMAKE_BUILD_PARALLEL_LEVEL || String(os.availableParallelism());

// Child processes whose output is JSON, and their memory.
import { spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const directory = path.dirname(fileURLToPath(import.meta.url));

/** Runs a program. Resolves to { stdout, memory }; with `watch` (Linux only) `memory` has the highest MB of each kind. */
export function execute(command, args, { env = {}, watch = false } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...env } });
    const output = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"]) {
      child[name].setEncoding("utf8").on("data", (text) => {
        output[name] += text;
      });
    }
    const memory = {};
    const sample = () => {
      for (const [name, value] of Object.entries(memoryOf(child.pid)))
        memory[name] = Math.max(memory[name] ?? 0, value);
    };
    const timer = watch ? setInterval(sample, 10) : null;
    child.on("error", reject).on("close", (code, signal) => {
      clearInterval(timer);
      if (code === 0) return resolve({ stdout: output.stdout, memory });
      reject(new Error(`${path.basename(command)} ended with ${signal ?? code}:\n${output.stderr.slice(-2000)}`));
    });
  });
}

/** Runs bench/lib/<name>.mjs with `input`, and resolves to what it printed as JSON. */
export async function child(name, input, options) {
  const args = [path.join(directory, `${name}.mjs`), JSON.stringify(input)];
  const { stdout, memory } = await execute(process.execPath, args, options);
  return { ...JSON.parse(stdout), memory };
}

/** MB that a process has resident now, by kind, and the highest total so far; empty on systems other than Linux. */
function memoryOf(pid) {
  try {
    const status = fs.readFileSync(`/proc/${pid}/status`, "utf8");
    const value = (key) => Number(new RegExp(`^${key}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? 0) / 1024;
    return { highest: value("VmHWM"), anonymous: value("RssAnon"), file: value("RssFile") };
  } catch {
    return {};
  }
}

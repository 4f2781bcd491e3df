// Describes the machine and the build as far as they decide a figure, without a host name or a path outside the repository.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

export const root = path.join(path.dirname(fileURLToPath(import.meta.url)), "..", "..");
if (!fs.existsSync(path.join(root, "dist", "index.js"))) {
  console.error("Nothing is built yet: run `npm run build` first");
  process.exit(1);
}
// Benches measure the compiled library. machine/threads is not public, but users get its default.
const { binaryInfo } = await import("../../dist/esm.mjs");
const { defaultThreads } = (await import("../../dist/machine/threads.js")).default;

let description;

export function machine() {
  description ??= describe();
  return description;
}

function describe() {
  const info = binaryInfo();
  const { path: file, cpuLevel, backend, compiler, features, llamaVersion, llamaCommit } = info;
  const cpu = os.cpus()[0]?.model.trim() || os.arch();
  const cores = os.availableParallelism();
  const gpu = info.devices.find(({ kind }) => kind === "gpu" || kind === "integrated") ?? null;
  return {
    name: gpu ? words(gpu.description) : `${words(cpu)}-${cores}c`,
    ...(gpu && { gpu: `${gpu.description}, ${Math.round(gpu.totalMemory / 2 ** 30)} GiB` }),
    cpu,
    cores,
    threads: defaultThreads(),
    flags: cpuFlags(),
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    system: `${os.type()} ${os.release()} ${os.arch()}`,
    node: process.versions.node,
    loadAverage: os.loadavg()[0],
    commit: git("rev-parse", "--short", "HEAD") + (git("status", "--porcelain", "-uno") ? " with changes" : ""),
    binary: {
      cpuLevel,
      backend,
      compiler,
      features,
      file: file.startsWith(root) ? path.relative(root, file) : "elsewhere",
    },
    llama: { version: llamaVersion, commit: llamaCommit },
  };
}

const words = (name) =>
  name
    .toLowerCase()
    .match(/[a-z0-9.]+/g)
    .slice(0, 4)
    .join("-");

function cpuFlags() {
  try {
    const flags = /^flags\s*:(.*)$/m.exec(fs.readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? "";
    return flags.split(/\s+/).filter((flag) => /^(avx|fma|f16c|amx)/.test(flag));
  } catch {
    return [];
  }
}

function git(...args) {
  try {
    return execFileSync("git", ["-C", root, ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return "";
  }
}

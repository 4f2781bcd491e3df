// llama.cpp's own bench, built from the same source and for the same CPU level, with the compiler flags of the addon.
import path from "node:path";
import { build } from "../../scripts/build.mjs";
import { root } from "./machine.mjs";
import { execute } from "./processes.mjs";

/** Builds llama-bench in the addon's tree (a few seconds when nothing changed) and resolves to its path. */
export async function buildLlamaBench(level) {
  await build({ level, targets: ["llama-bench"] });
  const name = process.platform === "win32" ? "llama-bench.exe" : "llama-bench";
  return path.join(root, ".cmake", level, "bin", name);
}

/**
 * Runs llama-bench, otherwise with the addon's settings: KV in F16, flash attention by llama.cpp's choice
 * (LLAMA_FLASH_ATTN_TYPE_AUTO), the file mapped, weights repacked, threads of ggml's own pool. Resolves to
 * { seconds, memory }: the seconds of every repetition but the first, which warms up as in decode-child.mjs.
 */
export async function llamaBench(binary, file, { threads, repetitions, args, watch }) {
  const commonArgs = [
    "-m",
    file,
    "-t",
    `${threads}`,
    "-r",
    `${repetitions + 1}`,
    "-fa",
    "auto",
    "-lm",
    "mmap",
    "-o",
    "json",
  ];
  const { stdout, memory } = await execute(binary, [...commonArgs, ...args], { watch });
  const [test] = JSON.parse(stdout);
  return { seconds: test.samples_ns.slice(1).map((ns) => ns / 1e9), memory };
}

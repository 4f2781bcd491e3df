// Formats and lints, with Biome for TypeScript, JavaScript and JSON, and clang-format (pinned, from npm) for C++ and CUDA.
//   npm run format         npm run lint (changes nothing and fails on a difference)
import fs from "node:fs";
import path from "node:path";
import { install, main, root, run } from "./common.mjs";

const bin = (name) => path.join(root, "node_modules", ".bin", process.platform === "win32" ? `${name}.cmd` : name);

function sources(directory) {
  if (!fs.existsSync(directory)) return [];
  return fs.readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const file = path.join(directory, entry.name);
    if (entry.isDirectory()) return sources(file);
    return /\.(cpp|h|cu|cuh)$/.test(entry.name) ? [file] : [];
  });
}

await main(import.meta.url, async (argv) => {
  const check = argv.includes("--check");
  await install();
  const colors = process.stdout.isTTY ? [] : ["--colors=off"];
  await run(bin("biome"), [...(check ? ["ci", "--error-on-warnings"] : ["check", "--write"]), ...colors]);
  const files = ["native", "cuda", "test/native", "test/cuda_harness", "bench/kernel"].flatMap((name) =>
    sources(path.join(root, name)),
  );
  if (files.length > 0) await run(bin("clang-format"), [...(check ? ["--dry-run", "-Werror"] : ["-i"]), ...files]);
});

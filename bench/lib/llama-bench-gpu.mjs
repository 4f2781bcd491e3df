// llama.cpp's own bench on the GPU. Unlike llama-bench.mjs this file builds nothing, so that a bundle can use it.
import fs from "node:fs";
import path from "node:path";
import { root } from "./machine.mjs";
import { execute } from "./processes.mjs";

/**
 * Rows of llama.cpp's bench on the GPU, where it was built beside the CUDA binary (in a checkout `npm run build:cuda --
 * --target llama-bench`, in a bundle always): a single token, and passes of n tokens. It computes logits for the last token
 * of a pass only, and CUDA graphs are on. No rows where it was not built.
 */
export async function llamaBenchOnGpu(file, sizes, { tokens, rounds }) {
  const binary = path.join(root, ".cmake", "cuda", "bin", "llama-bench");
  if (!fs.existsSync(binary)) return [];
  const passes = sizes.filter((n) => n > 1);
  const args = [
    "-m",
    file,
    "-ngl",
    "99",
    "-p",
    passes.join(",") || "0",
    "-n",
    `${tokens}`,
    "-r",
    `${rounds}`,
    "-o",
    "json",
  ];
  const { stdout } = await execute(binary, args, {});
  return JSON.parse(stdout).map(({ n_prompt: promptTokens, avg_ts: tokensPerSecond }) => ({
    lanes: 1,
    n: promptTokens || 1,
    runner: "llama-bench",
    "ms per iteration": (1000 * (promptTokens || 1)) / tokensPerSecond,
    "tok/s": tokensPerSecond,
  }));
}

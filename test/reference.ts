import { spawnSync } from "node:child_process";
import fs from "node:fs";
import { program } from "./programs.js";

/** A token the reference chose, and by how much its logit beat the second largest. */
export interface ReferenceToken {
  token: number;
  gap: number;
}

export interface ReferenceRequest {
  /** Tokens per decoding batch: 1 is ordinary decoding, 2 uses the kernels that blocks use. */
  width: number;
  /** Tokens per prefill batch. */
  chunk: number;
  maxTokens: number;
  prompt: readonly number[];
}

const binary = program("cllm-reference");

/** Greedy decoding by llama.cpp alone (test/native/reference.cpp), in a process of its own. */
export function reference(
  model: string,
  requests: readonly ReferenceRequest[],
  { threads = 1, contextSize = 1024 } = {},
): ReferenceToken[][] {
  if (!fs.existsSync(binary)) throw new Error(`Expected ${binary}: build it with npm test`);
  const input = requests.map((r) => `${r.width} ${r.chunk} ${r.maxTokens} ${r.prompt.join(" ")}\n`).join("");
  const child = spawnSync(binary, [model, String(threads), String(contextSize)], { input, maxBuffer: 1 << 28 });
  if (child.status !== 0) throw new Error(`cllm-reference ended with ${child.status ?? child.signal}`);
  return child.stdout
    .toString()
    .trim()
    .split("\n")
    .map((line) =>
      line.split(" ").map((pair) => {
        const [token, gap] = pair.split(":").map(Number) as [number, number];
        return { token, gap };
      }),
    );
}

/** Where two token lists first differ, or -1. A shorter list differs at its end. */
export function firstDifference(tokens: readonly number[], expected: readonly ReferenceToken[]): number {
  for (let i = 0; i < Math.max(tokens.length, expected.length); i++) {
    if (tokens[i] !== expected[i]?.token) return i;
  }
  return -1;
}

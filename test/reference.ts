import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import type { Decoder } from "../lib/index.js";
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

/**
 * Greedy decoding by llama.cpp (test/native/reference.cpp), in a process of its own: with our products for packed weights,
 * or all by itself (`plain`).
 */
export function reference(
  model: string,
  requests: readonly ReferenceRequest[],
  { threads = 1, contextSize = 1024, plain = false } = {},
): ReferenceToken[][] {
  if (!fs.existsSync(binary)) throw new Error(`Expected ${binary}: build it with npm test`);
  const input = requests.map((r) => `${r.width} ${r.chunk} ${r.maxTokens} ${r.prompt.join(" ")}\n`).join("");
  const args = [model, String(threads), String(contextSize), plain ? "plain" : "packed"];
  const child = spawnSync(binary, args, { input, maxBuffer: 1 << 28 });
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

/** Whether the suites run on the CUDA binary (scripts/cuda/check.mjs). */
export const onGpu = process.env.CLLM_BACKEND === "cuda";
/** Of the range of a row's logits, what ggml's CUDA kernels may round away: an F32 product is made of TF32 there. */
const GPU_ROUNDING = 0.02;

/**
 * Asserts that two texts behind a prompt are the same. ggml's CUDA kernels round by how many tokens a pass has, so on a GPU
 * they may part, but only where the logits of the two tokens are as close as rounding: that is computed, on a lane of
 * `decoder` that must be free.
 */
export async function assertSameTokens(
  decoder: Decoder,
  prompt: readonly number[],
  actual: readonly number[],
  expected: readonly number[],
  what = "tokens",
): Promise<void> {
  if (!onGpu) return assert.deepEqual(actual, expected, what);
  const at = expected.findIndex((token, i) => token !== actual[i]);
  if (at < 0) return assert.equal(actual.length, expected.length, what);
  const [one, other] = [actual[at], expected[at]];
  assert.ok(one !== undefined && other !== undefined, `${what}: one ends at ${at}`);
  await using sequence = await decoder.sequence();
  await sequence.prefill([...prompt, ...expected.slice(0, at)]);
  const { logits } = await sequence.iterate({ blockSize: 2, logits: true });
  const row = (logits as Float32Array).subarray(0, decoder.model.info.vocabSize);
  const largest = row.reduce((a, b) => Math.max(a, b));
  const allowed = GPU_ROUNDING * (largest - row.reduce((a, b) => Math.min(a, b)));
  for (const token of [one, other]) {
    const below = largest - (row[token] as number);
    assert.ok(below <= allowed, `${what}: at ${at}, token ${token} is ${below} below the largest, allowed ${allowed}`);
  }
}

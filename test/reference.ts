import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import { type Decoder, quantize } from "../lib/index.js";
import { program } from "./programs.js";

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
 * How the reference computes products (test/native/reference.cpp): by our own products where weights are packed, as
 * llama.cpp's own tools do, in F32 (`exact`), or in F32 with activations rounded as formats of 8 bits and less do
 * (`rounded`). The last two want a file in F32: f32Copy().
 */
export type ReferenceKind = "packed" | "plain" | "exact" | "rounded";

export interface ReferenceOptions {
  threads?: number;
  contextSize?: number;
  kind?: ReferenceKind;
  /** Plants a bug: what the weight of this name is multiplied with is multiplied by `factor` as well. */
  fault?: { weight: string; factor: number };
  /** A LoRA adapter, which llama.cpp computes beside the products. Not together with `fault`. */
  adapter?: { path: string; scale: number };
}

/** Greedy decoding by llama.cpp, in a process of its own. */
export function reference(
  model: string,
  requests: readonly ReferenceRequest[],
  options: ReferenceOptions = {},
): number[][] {
  const input = requests.map((r) => `${r.width} ${r.chunk} ${r.maxTokens} ${r.prompt.join(" ")}\n`);
  return run(model, input, options)
    .toString()
    .trim()
    .split("\n")
    .map((line) => line.split(" ").map(Number));
}

/** The logits that each token of `answer` is chosen from, when the tokens before it are fed whatever they are. */
export function referenceLogits(
  model: string,
  requests: readonly { width: number; chunk: number; prompt: readonly number[]; answer: readonly number[] }[],
  options: ReferenceOptions = {},
): Float32Array[][] {
  const input = requests.map((r) => `${r.width} ${r.chunk} 0 ${r.prompt.join(" ")} : ${r.answer.join(" ")}\n`);
  const output = run(model, input, options);
  const floats = new Float32Array(output.buffer, output.byteOffset, output.byteLength / 4);
  const vocab = floats.length / requests.reduce((sum, { answer }) => sum + answer.length, 0);
  let at = 0;
  return requests.map(({ answer }) =>
    answer.map(() => {
      at += vocab;
      return floats.subarray(at - vocab, at);
    }),
  );
}

function run(
  model: string,
  input: readonly string[],
  { threads = 1, contextSize = 1024, kind = "packed", fault, adapter }: ReferenceOptions,
): Buffer {
  const args = [model, String(threads), String(contextSize), kind];
  if (fault) args.push(fault.weight, String(fault.factor));
  if (adapter) args.push(adapter.path, String(adapter.scale));
  const child = spawnSync(binary, args, { input: input.join(""), maxBuffer: 1 << 30 });
  if (child.status !== 0) throw new Error(`cllm-reference ended with ${child.status ?? child.signal}`);
  return child.stdout;
}

/** The model with the same weights in F32, beside it; made once. */
export async function f32Copy(model: string): Promise<string> {
  const copy = model.replace(/(\.gguf)?$/, ".F32.gguf");
  if (!fs.existsSync(copy)) await quantize(model, copy, "F32");
  return copy;
}

/**
 * Asserts that `tokens`, decoded one at a time, part from `expected` (n >= 2) at a near-tie at most. llama.cpp computes
 * one token with other kernels than several. How far the logits of the two kinds are apart is measured on the rows of
 * `expected`: where the texts part, the logits of the two tokens may differ by twice that, since either kind may have
 * moved them towards each other. Packed weights give the same bits for both kinds, and then nothing may differ.
 */
export function assertNearTie(
  model: string,
  request: ReferenceRequest,
  tokens: readonly number[],
  expected: readonly number[],
  options: ReferenceOptions = {},
): void {
  const at = expected.findIndex((token, i) => token !== tokens[i]);
  if (at < 0) {
    assert.equal(tokens.length, expected.length);
    return;
  }
  const [one, other] = [expected[at] as number, tokens[at]];
  assert.ok(other !== undefined, `the text ends at token ${at}`);
  const rows = [1, 2].map((width) => {
    const forced = { ...request, width, answer: expected.slice(0, at + 1) };
    return referenceLogits(model, [forced], options)[0] as Float32Array[];
  }) as [Float32Array[], Float32Array[]];
  const apart = Math.max(...rows[0].map((row, i) => largestDifference(row, rows[1][i] as Float32Array)));
  const row = rows[1][at] as Float32Array;
  const gap = (row[one] as number) - (row[other] as number);
  assert.ok(gap <= 2 * apart, `differs at token ${at}, gap ${gap}, where one token and several are ${apart} apart`);
}

/** The largest |a[i] - b[i]|. */
export function largestDifference(a: Float32Array, b: Float32Array): number {
  return a.reduce((largest, x, i) => Math.max(largest, Math.abs(x - (b[i] as number))), 0);
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

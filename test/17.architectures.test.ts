import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { Model } from "../lib/index.js";
import { maxBlockSize } from "../lib/model-info.js";
import { program } from "./programs.js";

/** What "every" says of models that are not decoded, or not in blocks of two tokens. */
const REMARKS = {
  "no model": ["clip", "gptj", "gemma4-assistant", "wavtokenizer-dec"],
  "no graph": ["plm"],
  "its attention is not causal (an embedding model)": [
    ...["bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3", "eurobert"],
    ...["gemma-embedding", "llama-embed"],
  ],
  "it has an encoder": ["t5", "t5encoder", "eagle3", "dflash"],
  "blocks of one token": [
    "plamo2",
    "mamba",
    "jamba",
    "rwkv6",
    "rwkv6qwen2",
    "rwkv7",
    "arwkv7",
    "kimi-linear",
    "minimax-01",
  ],
  "llama.cpp hides its image tokens in the first row of a pass only": ["chameleon"],
  "it is a diffusion model": ["dream", "llada", "llada-moe", "rnd1"],
};

/** Runs a program of test/native and returns what it says. */
function run(name: string, ...args: string[]): string {
  const child = spawnSync(program(name), args, { encoding: "utf8" });
  assert.equal(child.error, undefined);
  assert.equal(child.status, 0, child.stdout + child.stderr || String(child.signal));
  return child.stdout;
}

const FLOATS = ["f32", "f16", "bf16"];
const QUANTS = ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs"];

// Random models (cllm-make-model) pass our checks, load and decode, at least one of each kind of memory and layer.
describe("architectures of llama.cpp", function () {
  this.timeout(60_000);
  const types: [string, string[]][] = [
    ["llama", FLOATS],
    ["qwen3", QUANTS],
    ["qwen3vl", ["q8_0", "q4_k"]],
    ["gemma3", QUANTS],
    ["gemma3n", ["q8_0", "q4_k"]],
    ["gemma4", ["f16", "q8_0", "q4_k"]],
    ["gpt-oss", ["f16", "q8_0", "mxfp4"]],
    ["llama4", ["q8_0", "q4_k"]],
    ["deepseek2", ["q8_0", "q4_k"]],
    ["lfm2", [...FLOATS, ...QUANTS]],
    ["qwen35", [...FLOATS, ...QUANTS]],
    ["qwen35moe", ["q8_0", "q4_k"]],
    ["qwen3next", ["q8_0", "q4_k"]],
    ["nemotron_h", [...FLOATS, ...QUANTS]],
    ["granitehybrid", [...FLOATS, ...QUANTS]],
    ["falcon-h1", [...FLOATS, ...QUANTS]],
    ["jamba", [...FLOATS, ...QUANTS]],
    ["mamba", [...FLOATS, ...QUANTS]],
    ["mamba2", [...FLOATS, ...QUANTS]],
    ["rwkv7", [...FLOATS, ...QUANTS]],
  ];
  for (const [architecture, list] of types) {
    it(`${architecture}: ${list.length} types`, () => {
      const said = run("cllm-architecture-test", architecture, ...list);
      assert.ok(said.endsWith(`${list.length} models decoded, 0 failures\n`), said);
    });
  }

  it("every architecture is decoded in q8_0, or refused for a reason", () => {
    const lines = run("cllm-architecture-test", "every", "q8_0").trim().split("\n");
    const remarks = new Map<string, string[]>();
    for (const line of lines.slice(0, -1)) {
      const [, name, reason] = /^(\S+): (.*)$/.exec(line) as unknown as [string, string, string];
      const kind = /^no (model|graph)/.exec(reason)?.[0] ?? reason;
      remarks.set(kind, [...(remarks.get(kind) ?? []), name]);
    }
    assert.deepEqual(Object.fromEntries(remarks), REMARKS);
    assert.match(lines.at(-1) as string, /^128 models decoded, 0 failures$/);
  });
});

/** Token ids below 256, with repetitions, so that lookup finds drafts. */
function prompt(length: number, seed: number): number[] {
  let state = seed;
  return Array.from({ length }, (_, i) => {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    return i % 3 === 0 ? 5 + (i % 9) : state % 256;
  });
}

// What docs/architectures.md says of exactness.
describe("every architecture has the same tokens", function () {
  this.timeout(300_000);
  const prompts = [prompt(30, 1), prompt(90, 2)]; // longer than the window of 64 tokens
  let directory: string;
  let accepted = 0;

  before(async () => {
    directory = await fs.mkdtemp(path.join(os.tmpdir(), "cllm-architectures-"));
  });
  after(() => fs.rm(directory, { recursive: true, force: true }));

  /** Answers to the prompts, and to the second one as a conversation that goes on. */
  async function answers(model: Model, runner: "auto" | "host", blockSize: number): Promise<number[][]> {
    const lanes = blockSize === 1 ? 1 : 2; // single tokens of several lanes may part at near-ties
    await using decoder = await model.createDecoder({ threads: 1, contextSize: 300, lanes, runner, blockSize });
    const first = await Promise.all(prompts.map((tokens) => decoder.generate(tokens, { maxTokens: 50 })));
    const [, said] = first as [unknown, { tokens: number[] }];
    const conversation = [...(prompts[1] as number[]), ...said.tokens, 7, 9];
    const last = await decoder.generate(conversation, { maxTokens: 20 });
    assert.equal(last.stats.cachedTokens, conversation.length - 3, "the lane's rows and state are not used again");
    accepted += first.reduce((sum, { stats }) => sum + stats.fastForwardedTokens, 0);
    return [...first, last].map(({ tokens }) => [...tokens]);
  }

  const list = run("cllm-make-model", "--list").trim().split("\n");
  const refused = new Set(
    Object.entries(REMARKS).flatMap(([remark, names]) => (remark === "blocks of one token" ? [] : names)),
  );
  const names = list.map((line) => line.split(" ")[0] as string).filter((name) => !refused.has(name));
  for (const name of names) {
    it(name, async () => {
      const file = path.join(directory, `${name}.gguf`);
      run("cllm-make-model", name, file, "--type", "q8_0");
      await using model = await Model.load(file);
      const limit = maxBlockSize(model.info);
      if (name === "plamo2") {
        const message = /^Expected 1 lane for plamo2 .* but received 2: llama.cpp v0.5.0 mixes the states/;
        await assert.rejects(model.createDecoder({ lanes: 2 }), { code: "CLLM_NOT_SUPPORTED", message });
      }
      const runs = [
        ["auto", Math.min(2, limit)],
        ["auto", Math.min(48, limit)],
        ["host", Math.min(16, limit)],
      ] as const;
      let expected: number[][] | null = null;
      for (const [runner, blockSize] of runs) {
        const got = await answers(model, runner, blockSize);
        expected ??= got;
        assert.deepEqual(got, expected, `runner ${runner}, n = ${blockSize}`);
      }
      await fs.rm(file);
    });
  }

  it("and not because no draft was ever accepted", () => assert.ok(accepted > 250, String(accepted)));
});

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
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

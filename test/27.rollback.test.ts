import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { program } from "./programs.js";

function run(name: string, ...args: string[]): string {
  const child = spawnSync(program(name), args, { encoding: "utf8" });
  assert.equal(child.error, undefined);
  assert.equal(child.status, 0, child.stdout + child.stderr || String(child.signal));
  return child.stdout;
}

/** Blocks x lanes: every size of block, every number of lanes. */
const SHAPES = ["2x3", "3x2", "4x1", "8x3", "16x2"];
const FEW = ["2x2", "4x1", "8x3"];

interface Case {
  architecture: string;
  /** Options of cllm-make-model. */
  options?: string[];
  /** Tokens of a text. A ring of rows has 256 here. */
  contextSize?: number;
  rounds?: number;
  shapes?: string[];
}

const RING = ["--window", "32"];
const CASES: Case[] = [
  // Recurrent states that llama.cpp keeps snapshots of: convolutions, gated delta nets, Mamba 2, KDA.
  { architecture: "lfm2", options: ["--type", "f32"] },
  { architecture: "lfm2", options: RING, contextSize: 700, shapes: FEW },
  { architecture: "lfm2moe" },
  { architecture: "qwen35" },
  { architecture: "qwen35moe", shapes: FEW },
  { architecture: "qwen3next", shapes: FEW },
  { architecture: "qwen4exp", shapes: FEW },
  { architecture: "nemotron_h" },
  { architecture: "granitehybrid" },
  { architecture: "falcon-h1" },
  { architecture: "mamba2" },
  { architecture: "bailingmoe3", shapes: FEW },
  { architecture: "kimi-k3", shapes: FEW },
  { architecture: "deepseek4", shapes: ["3x2"], rounds: 30 },
  // Sliding windows in rings of rows.
  { architecture: "gemma3", options: RING, contextSize: 700, shapes: FEW },
  { architecture: "gpt-oss", options: RING, contextSize: 700, shapes: FEW },
  { architecture: "gemma4", options: RING, contextSize: 700, shapes: FEW },
  { architecture: "gemma3n", options: RING, contextSize: 340, rounds: 20, shapes: ["4x1"] },
  // A window of 8192, which is larger than the context; positions with several parts; attention alone.
  { architecture: "llama4", shapes: FEW },
  { architecture: "qwen3vl" },
  { architecture: "llama", options: ["--type", "f32"] },
];

// Drafts are rejected at random while other lanes decode, are prefilled, forked, cleared or fail: all logits are those
// of undisturbed decoding, to the bit (test/native/rollback_test.cpp). The models are random ones.
describe("rolling back", function () {
  this.timeout(60_000);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "cllm-rollback-"));
  after(() => fs.rmSync(folder, { recursive: true }));

  for (const [i, { architecture, options = [], contextSize = 150, rounds = 60, shapes = SHAPES }] of CASES.entries()) {
    it([architecture, ...options].join(" "), () => {
      const file = path.join(folder, `${i}.gguf`);
      run("cllm-make-model", architecture, file, "--type", "q8_0", ...options);
      const said = run("cllm-rollback-test", file, String(contextSize), String(rounds), String(i), ...shapes);
      assert.match(said, /^\d+ rollbacks, \d+ lanes that lost their rows, 0 failures\n$/);
      fs.rmSync(file);
    });
  }
});

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { hasAmx, program } from "./programs.js";

const binary = program("cllm-unit-test");

function run(unit: string[], env: NodeJS.ProcessEnv = {}): string {
  const child = spawnSync(binary, unit, { encoding: "utf8", env: { ...process.env, ...env } });
  assert.equal(child.error, undefined);
  assert.equal(child.status, 0, child.stdout || String(child.signal));
  return child.stdout;
}

describe("units without a model (test/native/*_test.cpp)", function () {
  this.timeout(60_000);
  const units = run([]).trim().split("\n");
  for (const unit of units) it(unit, () => void run([unit]));
  if (hasAmx) it("bf16 product without AMX", () => void run(["bf16 product"], { CLLM_AMX: "off" }));
  else it("bf16 product without AMX (needs a CPU with AMX: here it would be the same)");
});

// Measures how near `choose` on the CPU comes to the speed at which one core reads the same rows. (test/20, 21, 22 and 24
// check the results of `choose`.)
import { execFileSync } from "node:child_process";
import path from "node:path";
import { bench, goal, step } from "../lib/bench.mjs";
import { root } from "../lib/machine.mjs";
import { median } from "../lib/numbers.mjs";

const { build } = await import("../../scripts/build.mjs");
const about = "choose on the CPU, one thread: its bytes per second, relative to a loop that only reads";
const options = { rows: "1,4,8,16,32", vocabs: "32000,49152,128256,151936", rounds: 9 };

await bench({ name: "choose", about, options }, async ({ rows: sizes, vocabs, rounds }) => {
  await build({ targets: ["cllm-choose-bench"] });
  const program = path.join(root, ".cmake", "native", "bin", "cllm-choose-bench");
  const rows = [];
  const goals = [];
  const samples = {};
  for (const vocab of vocabs.split(",")) {
    for (const n of sizes.split(",")) {
      step(`[${n}, ${vocab}]`);
      const { samples: measured } = JSON.parse(execFileSync(program, [n, vocab, String(rounds)], { encoding: "utf8" }));
      samples[`${n}x${vocab}`] = measured;
      const share = median(measured.map(({ read, choose }) => choose / read));
      const speed = (name) => median(measured.map((sample) => sample[name])) / 1e9;
      const microseconds = (Number(n) * Number(vocab) * 4) / speed("choose") / 1e3;
      rows.push({
        n,
        vocab,
        "read, GB/s": speed("read"),
        "choose, GB/s": speed("choose"),
        share,
        "choose, µs": microseconds,
      });
      goals.push(goal(`[${n}, ${vocab}]: choose over reading alone`, share, ">=", 0.8));
    }
  }
  return { rows, goals, samples };
});

// node-llama-cpp on the same file: one greedy request with the same threads, each library in processes of its own. The peer
// is installed from npm, with its prebuilt binaries, into a temporary folder that is deleted afterwards.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { bench, step } from "../lib/bench.mjs";
import { models } from "../lib/models.mjs";
import { interleave, median } from "../lib/numbers.mjs";
import { child } from "../lib/processes.mjs";

const peer = "node-llama-cpp@3.22.1";
const about = `node-cllm and ${peer}: one greedy request`;
const options = { formats: "Q4_1,Q4_0", tokens: 128, rounds: 5, repetitions: 2, blocks: "1,4,auto" };

await bench({ name: "node-llama-cpp", about, options }, async (settings) => {
  const { tokens, rounds, repetitions, threads } = settings;
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "cllm-bench-"));
  try {
    const module = install(folder);
    if (!module) return { rows: [{ "not measured": `${peer} could not be installed here` }] };
    const rows = [];
    const samples = {};
    for (const { format, file } of await models(settings)) {
      const side = (library, blockSize) => async (round) => {
        step(`${format}, ${library}: round ${round + 1} of ${rounds}`);
        const input = { library, module, file, threads, tokens, blockSize, repetitions };
        return child("peer-child", input);
      };
      const blocks = settings.blocks
        .split(",")
        .map((n) => [`node-cllm, n = ${n}`, side("node-cllm", n === "auto" ? n : Number(n))]);
      const runs = await interleave(rounds, { [peer]: side("node-llama-cpp"), ...Object.fromEntries(blocks) });
      const answers = Object.values(runs).map(([first]) => first.answer);
      for (const [name, results] of Object.entries(runs)) {
        const timings = results.flatMap((result) => result.samples);
        const medianOf = (key) => median(timings.map((sample) => sample[key]));
        const parting = results[0].answer.findIndex((token, i) => token !== answers[0][i]);
        rows.push({
          format,
          library: name,
          "tok/s": medianOf("speed"),
          "ms to the first token": medianOf("first"),
          "loop delay p50, ms": medianOf("p50"),
          "loop delay p99, ms": medianOf("p99"),
          "llama.cpp": results[0].version,
          "same tokens": parting < 0 ? "all" : `first ${parting}`,
        });
      }
      samples[format] = runs;
    }
    return { rows, samples };
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
});

/** Path of the installed module, or null. */
function install(folder) {
  step(`Installing ${peer} into a temporary folder`);
  try {
    fs.writeFileSync(path.join(folder, "package.json"), "{}");
    const args = ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", peer];
    execFileSync("npm", args, {
      cwd: folder,
      stdio: ["ignore", "ignore", "inherit"],
      shell: process.platform === "win32",
    });
    return path.join(folder, "node_modules", "node-llama-cpp", "dist", "index.js");
  } catch (error) {
    console.error(`npm install ${peer} failed: ${error.message}`);
    return null;
  }
}

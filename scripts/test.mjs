// `npm test`: installs and builds what is missing, runs every suite in a process of its own (a crash or a leak of one is
// not another's), and ends with one line: N passed, N failed, N skipped.
//   npm test [-- NUMBER... MOCHA-OPTION...]     e.g. npm test -- 05 06,  npm test -- --grep abort
//   --no-build: run what is built already
import { spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { build } from "./build.mjs";
import { Failure, install, main, root, say } from "./common.mjs";
import { compile } from "./compile.mjs";
import { preflight } from "./preflight.mjs";

/** How long a process may live after its last test: longer means that something keeps it alive. */
const EXIT_MILLISECONDS = 30_000;

await main(import.meta.url, async (argv) => {
  const args = argv.filter((arg) => arg !== "--no-build");
  const firstOption = args.findIndex((arg) => arg.startsWith("-"));
  const filters = firstOption < 0 ? args : args.slice(0, firstOption);
  const options = firstOption < 0 ? [] : args.slice(firstOption);
  if (!argv.includes("--no-build")) {
    preflight();
    await install();
    await build({
      targets: [
        "cllm",
        "cllm-reference",
        "cllm-engine-test",
        "cllm-grammar-test",
        "cllm-device-test",
        "cllm-kernel-test",
        "cllm-resident-test",
        "cllm-train-test",
        "cllm-model-test",
      ],
    });
    await compile();
  }
  const directory = path.join(root, "dist-test", "test");
  const files = fs
    .readdirSync(directory)
    .filter(
      (name) => name.endsWith(".test.js") && (filters.length === 0 || filters.some((text) => name.startsWith(text))),
    )
    .sort();
  if (files.length === 0) throw new Failure(`No test file starts with ${filters.join(" or ")}`);

  const total = { passed: 0, failed: 0, skipped: 0, failures: [], pending: [] };
  for (const name of files) {
    say(`\n${name}`);
    const result = await mocha(path.join(directory, name), options);
    for (const key of ["passed", "failed", "skipped"]) total[key] += result[key];
    total.failures.push(...result.failures.map((title) => `${name}: ${title}`));
    total.pending.push(...result.pending.map((title) => `${name}: ${title}`));
  }
  if (total.pending.length > 0) console.log(`\nSkipped:\n${total.pending.map((title) => `  ${title}`).join("\n")}`);
  if (total.failures.length > 0) console.log(`\nFailed:\n${total.failures.map((title) => `  ${title}`).join("\n")}`);
  console.log(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
  if (total.failed > 0 || total.passed === 0) process.exitCode = 1;
});

function mocha(file, options) {
  const report = path.join(os.tmpdir(), `cllm-mocha-${process.pid}.json`);
  fs.rmSync(report, { force: true });
  const bin = path.join(root, "node_modules", "mocha", "bin", "mocha.js");
  const reporter = path.join(root, "scripts", "mocha-reporter.cjs");
  const args = [bin, "--reporter", reporter, "--timeout", "60000", ...options, file];
  return new Promise((resolve) => {
    const child = spawn(process.execPath, args, {
      cwd: root,
      stdio: "inherit",
      env: { ...process.env, CLLM_TEST_REPORT: report },
    });
    let hung = false;
    const watch = setInterval(() => {
      if (!fs.existsSync(report) || Date.now() - fs.statSync(report).mtimeMs < EXIT_MILLISECONDS) return;
      hung = true;
      child.kill("SIGKILL");
    }, 1000);
    child.on("close", (code, signal) => {
      clearInterval(watch);
      const none = { passed: 0, failed: 0, skipped: 0, failures: [], pending: [] };
      const result = fs.existsSync(report) ? JSON.parse(fs.readFileSync(report, "utf8")) : none;
      fs.rmSync(report, { force: true });
      const expected = result.failed > 0 ? code > 0 : code === 0;
      if (!expected || result === none) {
        result.failed++;
        const how = hung ? "was still running 30 s after its last test" : `ended with ${signal ?? `exit code ${code}`}`;
        result.failures.push(`the process ${how}`);
      }
      resolve(result);
    });
  });
}

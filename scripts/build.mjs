// Builds the addon from source into build/Release/cllm.node.
//   node scripts/build.mjs [--level native|x86-64-v3|x86-64-avx512|generic] [--target NAME]...
// Targets besides cllm: cllm-reference (tests), llama-bench (bench); they land in .cmake/<level>/bin.
// The level is also taken from CLLM_CPU_LEVEL. Options for CMake: CLLM_CMAKE_ARGS="-DCLLM_OPENMP=ON".
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { parseArgs } from "node:util";
import {
  Failure,
  locked,
  main,
  output,
  parallel,
  progress,
  publish,
  readText,
  root,
  run,
  say,
  work,
} from "./common.mjs";
import { llamaCommit, llamaSource, llamaVersion } from "./llama-source.mjs";
import { preflight } from "./preflight.mjs";

const require = createRequire(path.join(root, "package.json"));

export async function build({ level = "native", targets = ["cllm"] } = {}) {
  preflight();
  const llama = await llamaSource();
  const tree = path.join(work, level);
  await locked(path.join(work, `${level}.lock`), async () => {
    await configure(tree, level, llama, targets.includes("llama-bench"));
    for (const target of targets) {
      const bar = progress(`Building ${target} (${level})`);
      await compile(tree, target, bar);
      bar.end("done");
    }
    if (targets.includes("cllm")) publishAddon(tree, level);
  });
}

/** Always, because `cmake-js build` alone would ignore changed options; three seconds when nothing changed. */
async function configure(tree, level, llama, tools) {
  const generator = output("ninja", ["--version"]) ? "Ninja" : process.platform === "win32" ? null : "Unix Makefiles";
  const cache = readText(path.join(tree, "CMakeCache.txt"));
  const entry = (name) => new RegExp(`^${name}:\\w+=(.*)$`, "m").exec(cache)?.[1];
  // CMake cannot change the generator of a tree, nor move one.
  if (cache && (entry("CMAKE_HOME_DIRECTORY") !== root || (generator && entry("CMAKE_GENERATOR") !== generator))) {
    fs.rmSync(tree, { recursive: true, force: true });
  }
  const definitions = {
    CLLM_CPU_LEVEL: level,
    CLLM_LLAMA_DIR: llama,
    CLLM_LLAMA_COMMIT: llamaCommit,
    CLLM_LLAMA_VERSION: llamaVersion,
    CLLM_NODE_ADDON_API: path.resolve(require("node-addon-api").include_dir), // it is relative to the cwd
    CLLM_BUILD_TOOLS: tools ? "ON" : "OFF",
  };
  const args = Object.entries(definitions).map(([name, value]) => `--CD${name}=${value}`);
  for (const option of process.env.CLLM_CMAKE_ARGS?.split(/\s+/) ?? []) args.push(option.replace(/^-D/, "--CD"));
  // An option that is no longer given would live on in the cache.
  const given = path.join(tree, "cllm-options.txt");
  if (readText(given) !== args.join("\n")) fs.rmSync(path.join(tree, "CMakeCache.txt"), { force: true });
  await cmakeJs(tree, ["configure", ...(generator ? ["--generator", generator] : []), ...args], () => {});
  fs.writeFileSync(given, args.join("\n"));
}

async function compile(tree, target, bar) {
  await cmakeJs(tree, ["build", "--target", target, "--parallel", parallel()], (line) => {
    const step = /^\[\s*(\d+)(?:\/(\d+)|%)\] (?!Re-)/.exec(line); // ninja's [12/345], make's [ 12%]
    if (step) bar.update(Number(step[1]), Number(step[2] ?? 100));
    if (/^\S*\bnative\/.*warning:/.test(line)) say(line); // of our code; llama.cpp's stay in the log
  });
}

async function cmakeJs(tree, args, onLine) {
  fs.mkdirSync(tree, { recursive: true });
  const log = path.join(tree, `cllm-${args[0]}.log`);
  const lines = [];
  const env = { ...process.env, CCACHE_BASEDIR: root, CCACHE_NOHASHDIR: "1", NINJA_STATUS: "[%f/%t] " };
  // Below make (node-gyp) these would hand our make the outer one's job server.
  for (const name of ["MAKEFLAGS", "MFLAGS", "MAKELEVEL"]) delete env[name];
  const cli = path.join(path.dirname(require.resolve("cmake-js/package.json")), "bin", "cmake-js");
  try {
    await run(process.execPath, [cli, ...args, "--directory", root, "--out", tree], {
      env,
      onLine: (line) => {
        lines.push(line);
        onLine(line);
      },
    });
  } catch {
    const first = lines.findIndex((line) => /^FAILED:|\berror:|CMake Error/.test(line));
    const shown = first < 0 ? lines.slice(-30) : lines.slice(first, first + 40);
    throw new Failure(`${shown.join("\n")}\n\nThe build failed; everything it said is in ${log}`);
  } finally {
    fs.writeFileSync(log, `${lines.join("\n")}\n`);
  }
}

/** Trees of several levels share build/Release, so each links in its own and the result is copied. */
function publishAddon(tree, level) {
  const built = path.join(tree, "out", "cllm.node");
  const addon = path.join(root, "build", "Release", "cllm.node");
  if (!fs.existsSync(addon) || !fs.readFileSync(built).equals(fs.readFileSync(addon))) publish(built, addon);
  // A native build moved to another CPU (a container image, a shared folder) would die of SIGILL: lib/binding.ts compares.
  const flags = /^flags\s*:(.*)$/m.exec(readText("/proc/cpuinfo"))?.[1].trim().split(/\s+/) ?? [];
  const used = flags.filter((flag) =>
    /^(sse|ssse|avx|fma|f16c|bmi|amx|abm|movbe|popcnt|gfni|vaes|vpclmul|adx)/.test(flag),
  );
  fs.writeFileSync(
    path.join(root, "build", "Release", "cllm.json"),
    `${JSON.stringify({ level, cpuFlags: level === "native" ? used : [] })}\n`,
  );
}

await main(import.meta.url, async (argv) => {
  const { values } = parseArgs({
    args: argv,
    options: { level: { type: "string" }, target: { type: "string", multiple: true } },
  });
  await build({ level: values.level ?? (process.env.CLLM_CPU_LEVEL || "native"), targets: values.target ?? ["cllm"] });
  // Installed as somebody's dependency: 250 MB that nobody needs any more.
  if (root.split(path.sep).includes("node_modules")) fs.rmSync(work, { recursive: true, force: true });
});

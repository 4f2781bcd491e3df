// Builds the addon from source into build/Release/cllm.node, or with --cuda the CUDA addon into
// build/Release-cuda/cllm.node.
//   node scripts/build.mjs [--level native|x86-64-v3|x86-64-avx512|generic] [--cuda [--arch 90]...] [--target NAME]...
// Targets other than cllm are programs of tests and benches (cllm-reference, llama-bench ...), which are written to
// .cmake/<level>/bin, or .cmake/cuda/bin. CLLM_CPU_LEVEL also sets the level. CLLM_CMAKE_ARGS="-DCLLM_OPENMP=ON" adds options
// for CMake. --arch (or CLLM_CUDA_ARCHITECTURES) names GPU architectures as CMake does; a plain 90 means 90-real, machine
// code alone.
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

/** `cuda` is null or { arch: ["90"] }. The host code of a CUDA binary is for x86-64-v3 unless a level is named. */
export async function build({ level, targets = ["cllm"], cuda = null } = {}) {
  preflight();
  const llama = await llamaSource();
  const name = cuda ? "cuda" : (level ?? "native");
  const tree = path.join(work, name);
  await locked(path.join(work, `${name}.lock`), async () => {
    const definitions = {
      CLLM_CPU_LEVEL: level ?? (cuda ? "x86-64-v3" : "native"),
      CLLM_LLAMA_DIR: llama,
      CLLM_BUILD_TOOLS: targets.includes("llama-bench") ? "ON" : "OFF",
      ...(cuda ? await cudaDefinitions(cuda) : {}),
    };
    await configure(tree, definitions);
    for (const target of targets) {
      const bar = progress(`Building ${target} (${name})`);
      await compile(tree, target, bar);
      bar.end("done");
    }
    if (targets.includes("cllm")) publishAddon(tree, definitions, cuda ? "Release-cuda" : "Release");
  });
}

/** Where the CUDA binary of a local build lies. */
export const cudaAddon = path.join(root, "build", "Release-cuda", "cllm.node");

async function cudaDefinitions({ arch = ["90"] }) {
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new Failure(`Expected Linux on x64 for the CUDA binary but this is ${process.platform} on ${process.arch}`);
  }
  const { cudaToolkit } = await import("./cuda/toolkit.mjs");
  const toolkit = await cudaToolkit({ cublas: true });
  // A link gives the toolkit a fixed path. Every command contains the path, so another path would cost half an hour.
  const link = path.join(work, "cuda-toolkit-in-use");
  fs.rmSync(link, { force: true });
  fs.symlinkSync(toolkit.root, link);
  return {
    CLLM_CUDA: "ON",
    CLLM_CUDA_ARCHITECTURES: arch.map((name) => (/^\d+[af]?$/.test(name) ? `${name}-real` : name)).join(";"),
    CMAKE_CUDA_COMPILER: path.join(link, "bin", "nvcc"),
    CUDAToolkit_ROOT: link,
  };
}

/** Runs at every build, because `cmake-js build` alone would ignore changed options. It takes 3 s when nothing changed. */
async function configure(tree, buildDefinitions) {
  const generator = output("ninja", ["--version"]) ? "Ninja" : process.platform === "win32" ? null : "Unix Makefiles";
  const cache = readText(path.join(tree, "CMakeCache.txt"));
  const entry = (name) => new RegExp(`^${name}:\\w+=(.*)$`, "m").exec(cache)?.[1];
  // CMake can neither change the generator of a tree nor move a tree.
  if (cache && (entry("CMAKE_HOME_DIRECTORY") !== root || (generator && entry("CMAKE_GENERATOR") !== generator))) {
    fs.rmSync(tree, { recursive: true, force: true });
  }
  const definitions = {
    ...buildDefinitions,
    CLLM_LLAMA_COMMIT: llamaCommit,
    CLLM_LLAMA_VERSION: llamaVersion,
    CLLM_NODE_ADDON_API: path.resolve(require("node-addon-api").include_dir), // include_dir is relative to the cwd
  };
  const args = Object.entries(definitions).map(([name, value]) => `--CD${name}=${value}`);
  for (const option of process.env.CLLM_CMAKE_ARGS?.split(/\s+/) ?? []) args.push(option.replace(/^-D/, "--CD"));
  // An option that is no longer given would live on in the cache.
  const optionsFile = path.join(tree, "cllm-options.txt");
  if (readText(optionsFile) !== args.join("\n")) fs.rmSync(path.join(tree, "CMakeCache.txt"), { force: true });
  await cmakeJs(tree, ["configure", ...(generator ? ["--generator", generator] : []), ...args], () => {});
  fs.writeFileSync(optionsFile, args.join("\n"));
}

async function compile(tree, target, bar) {
  await cmakeJs(tree, ["build", "--target", target, "--parallel", parallel()], (line) => {
    const step = /^\[\s*(\d+)(?:\/(\d+)|%)\] (?!Re-)/.exec(line); // ninja's [12/345], make's [ 12%]
    if (step) bar.update(Number(step[1]), Number(step[2] ?? 100));
    if (/^\S*\b(native|(?<!ggml-)cuda)\/.*warning:/.test(line)) say(line); // warnings of llama.cpp's code stay in the log
  });
}

async function cmakeJs(tree, args, onLine) {
  fs.mkdirSync(tree, { recursive: true });
  const log = path.join(tree, `cllm-${args[0]}.log`);
  const lines = [];
  const env = { ...process.env, CCACHE_BASEDIR: root, CCACHE_NOHASHDIR: "1", NINJA_STATUS: "[%f/%t] " };
  // Below node-gyp's make these variables would make ours use the outer make's job server.
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
    const excerpt = first < 0 ? lines.slice(-30) : lines.slice(first, first + 40);
    throw new Failure(`${excerpt.join("\n")}\n\nThe build failed; everything it said is in ${log}`);
  } finally {
    fs.writeFileSync(log, `${lines.join("\n")}\n`);
  }
}

/** Trees of several levels share build/Release, so each links in its own folder and the result is copied. */
function publishAddon(tree, definitions, folder) {
  const built = path.join(tree, "out", "cllm.node");
  const addon = path.join(root, "build", folder, "cllm.node");
  if (!fs.existsSync(addon) || !fs.readFileSync(built).equals(fs.readFileSync(addon))) publish(built, addon);
  // A native build that is moved to another CPU (a container image, a shared folder) would die of SIGILL, so
  // lib/binary/binding.ts compares these flags with the CPU's.
  const flags = /^flags\s*:(.*)$/m.exec(readText("/proc/cpuinfo"))?.[1].trim().split(/\s+/) ?? [];
  const checkedFlags = flags.filter((flag) =>
    /^(sse|ssse|avx|fma|f16c|bmi|amx|abm|movbe|popcnt|gfni|vaes|vpclmul|adx)/.test(flag),
  );
  const level = definitions.CLLM_CPU_LEVEL;
  const about = { level, cpuFlags: level === "native" ? checkedFlags : [] };
  if (definitions.CLLM_CUDA) about.cudaArchitectures = definitions.CLLM_CUDA_ARCHITECTURES;
  fs.writeFileSync(path.join(path.dirname(addon), "cllm.json"), `${JSON.stringify(about)}\n`);
}

await main(import.meta.url, async (argv) => {
  const { values } = parseArgs({
    args: argv,
    options: {
      level: { type: "string" },
      target: { type: "string", multiple: true },
      cuda: { type: "boolean" },
      arch: { type: "string", multiple: true },
    },
  });
  if (values.arch && !values.cuda) throw new Failure("Expected --cuda with --arch");
  await build({
    level: values.level ?? (process.env.CLLM_CPU_LEVEL || undefined),
    targets: values.target,
    cuda: values.cuda ? { arch: values.arch ?? process.env.CLLM_CUDA_ARCHITECTURES?.split(/[;,]/) } : null,
  });
  // In an installed package nobody needs these 250 MB any more.
  if (root.split(path.sep).includes("node_modules")) fs.rmSync(work, { recursive: true, force: true });
});

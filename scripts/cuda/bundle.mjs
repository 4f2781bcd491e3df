// Makes a folder, and a tarball of it, that runs the checks of `npm run check:gpu` on a machine with a GPU but without
// network, npm and Node. It holds the CUDA binary for one architecture, the compiled tests and benches, and node itself. A tarball of
// more than 60 MB is a failure.
//   npm run bundle:gpu [-- --arch 90] [-- --no-build]
// On that machine:  tar -xf node-cllm-gpu-sm90.tar.xz && node-cllm-gpu-sm90/run.sh
import fs from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { build, cudaAddon } from "../build.mjs";
import { Failure, install, main, output, root, run, say, work } from "../common.mjs";
import { compile } from "../compile.mjs";

const LIMIT = 60e6;
/** Programs beside the addon. They lie at the same paths as in a checkout, so that the tests find them in both. */
const programs = ["cllm-device-test", "cllm-reference", "cllm-resident-test", "cllm-train-test", "llama-bench"];
/** Packages that the library depends on for builds only. */
const buildPackages = ["cmake-js", "node-addon-api", "node-gyp-build"];

function fill(folder) {
  const copy = (from, to = from, filter = () => true) =>
    fs.cpSync(path.join(root, from), path.join(folder, to), { recursive: true, filter });
  for (const file of ["package.json", "LICENSE", "THIRD_PARTY_LICENSES"]) copy(file);
  for (const file of ["cuda/check.mjs", "cuda/parts.mjs", "cuda/decode-child.mjs", "common.mjs", "mocha-reporter.cjs"])
    copy(path.join("scripts", file));
  copy("dist", "dist", (file) => !/\.d\.m?ts$/.test(file));
  copy(path.join("dist-test", "test"));
  fs.symlinkSync(path.join("..", "dist"), path.join(folder, "dist-test", "lib"));
  copy("models");
  copy("bench", "bench", (file) => path.basename(file) !== "results");
  for (const file of ["cllm.node", "cllm.json"]) copy(path.join("build", "Release-cuda", file));
  const bin = path.relative(root, path.join(work, "cuda", "bin"));
  for (const program of programs) copy(path.join(bin, program));
  for (const directory of packages()) copy(path.relative(root, directory));
  fs.mkdirSync(path.join(folder, "bin"));
  fs.copyFileSync(fs.realpathSync(process.execPath), path.join(folder, "bin", "node"));
  const stripped = [...programs.map((program) => path.join(bin, program)), "build/Release-cuda/cllm.node", "bin/node"];
  for (const file of stripped) output("strip", ["--strip-unneeded", path.join(folder, file)]);
}

/** Folders of mocha, of the library's dependencies, and of all that these depend on. */
function packages() {
  const folders = new Set();
  const add = (name, from) => {
    const manifest = findManifest(name, from);
    if (folders.has(path.dirname(manifest))) return;
    folders.add(path.dirname(manifest));
    const { dependencies = {} } = JSON.parse(fs.readFileSync(manifest, "utf8"));
    for (const dependency of Object.keys(dependencies)) add(dependency, path.dirname(manifest));
  };
  const { dependencies } = JSON.parse(fs.readFileSync(path.join(root, "package.json"), "utf8"));
  for (const name of ["mocha", ...Object.keys(dependencies).filter((name) => !buildPackages.includes(name))])
    add(name, root);
  // A folder that lies inside another one is copied with it.
  return [...folders].filter((directory) => ![...folders].some((other) => directory.startsWith(`${other}${path.sep}`)));
}

/** The package.json of a package as seen from a folder. require.resolve would not do, because `exports` may hide it. */
function findManifest(name, from) {
  for (const folder of ancestors(from)) {
    const manifest = path.join(folder, "node_modules", name, "package.json");
    if (fs.existsSync(manifest)) return manifest;
  }
  throw new Failure(`The package ${name} is not installed: run \`npm ci\``);
}

function ancestors(folder) {
  const up = path.dirname(folder);
  return up === folder || folder === root ? [folder] : [folder, ...ancestors(up)];
}

async function pack(folder, name) {
  const parent = path.dirname(folder);
  const xz = output("xz", ["--version"]) !== null;
  const tarball = path.join(parent, `${name}.tar.${xz ? "xz" : "gz"}`);
  fs.rmSync(tarball, { force: true });
  say(`Packing ${path.relative(root, tarball)}`);
  // The window is wide because the addon and the programs hold the same kernels of ggml, far apart.
  const env = { ...process.env, XZ_OPT: "--lzma2=preset=6,dict=384MiB", GZIP: "-9" };
  await run("tar", [xz ? "-cJf" : "-czf", tarball, name], { cwd: parent, env });
  const size = fs.statSync(tarball).size;
  const text = `${path.relative(root, tarball)}: ${(size / 1e6).toFixed(1)} MB`;
  if (size > LIMIT) throw new Failure(`Expected a bundle below ${LIMIT / 1e6} MB but received ${text}`);
  say(text);
}

const RUN = `#!/bin/sh
# Runs the checks of \`npm run check:gpu\` with the node in here, and takes its arguments: --only kernels,tests,... --model FILE
# --smollm2 FILE --spider FOLDER
cd "$(dirname "$0")" || exit 1
exec ./bin/node scripts/cuda/check.mjs "$@"
`;

const readme = (arch) => `# node-cllm on a GPU

For Linux on x64 with an NVIDIA GPU of compute capability ${arch.replace(/(\d)([af]?)$/, ".$1$2")}, a driver for CUDA 13
(580 or newer), and cuBLAS 13. No network, npm or Node is needed.

    ./run.sh

runs the kernels against the CPU's, the suites of decoding and training, compute-sanitizer where it is on PATH, and the benches. It
prints a summary and writes bench/results/<date>-<GPU>-gpu-check.json, which is what to send back. cuBLAS is looked for in
the system's search path, /usr/local/cuda, CUDA_HOME, python3's packages; else name its folder in CLLM_CUDA_LIBRARIES.

Nothing in here was run on a GPU when it was packed.
`;

await main(import.meta.url, async (argv) => {
  const { values } = parseArgs({
    args: argv,
    options: { arch: { type: "string", default: "90" }, "no-build": { type: "boolean" } },
  });
  if (!/^\d+[af]?$/.test(values.arch))
    throw new Failure(`Expected one architecture for --arch but received ${values.arch}`);
  if (!values["no-build"]) {
    await install();
    await build({ cuda: { arch: [values.arch] }, targets: ["cllm", ...programs] });
    await compile();
  }
  const built = JSON.parse(fs.readFileSync(path.join(path.dirname(cudaAddon), "cllm.json"), "utf8"));
  if (built.cudaArchitectures !== `${values.arch}-real`) {
    throw new Failure(`Expected a CUDA binary for ${values.arch} but this one is for ${built.cudaArchitectures}`);
  }
  const name = `node-cllm-gpu-sm${values.arch}`;
  const folder = path.join(root, "build", "bundles", name);
  fs.rmSync(folder, { recursive: true, force: true });
  fill(folder);
  fs.writeFileSync(path.join(folder, "README.md"), readme(values.arch));
  fs.writeFileSync(path.join(folder, "run.sh"), RUN, { mode: 0o755 });
  await pack(folder, name);
});

// Runs everything that needs a GPU: kernels against the CPU's, CUDA graphs over changing shapes, the suites of decoding and
// training, compute-sanitizer, benches (parts.mjs). It writes bench/results/<date>-<GPU>-gpu-check.json and prints a summary.
// In a checkout it builds first; a bundle (scripts/cuda/bundle.mjs) has everything built.
//   npm run check:gpu [-- --only PART,PART...] [--model FILE] [--smollm2 FILE --spider FOLDER] [--no-build]
// --backend cpu tries this program itself on a machine without a GPU, from a build that is there, a bundle too (cuBLAS must be
// installed); the benches are cut short, and the results mean nothing.
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { parseArgs } from "node:util";
import { Failure, main, output, root, say } from "../common.mjs";
import { bin, failed, isBundle, parts } from "./parts.mjs";

const require = createRequire(import.meta.url);

async function attempt(part, values) {
  try {
    return await part(values);
  } catch (error) {
    return failed(`the check itself failed: ${error.message}`);
  }
}

/** Compute capability times ten ("90") of the first GPU; "" where the GPU does not tell it; null where there is no GPU. */
function gpuCapability() {
  const text = output("nvidia-smi", ["--query-gpu=compute_cap", "--format=csv,noheader"]);
  if (text) return text.split("\n")[0].trim().replace(".", "");
  return ["/dev/nvidiactl", "/dev/dxg"].some((file) => fs.existsSync(file)) ? "" : null;
}

async function prepare(capability) {
  const { build } = await import("../build.mjs");
  const { compile } = await import("../compile.mjs");
  const { install } = await import("../common.mjs");
  await install();
  const programs = ["cllm-device-test", "cllm-reference", "cllm-resident-test", "cllm-train-test", "llama-bench"];
  const targets = ["cllm", ...programs];
  await build({ cuda: capability ? { arch: [capability] } : {}, targets });
  await compile();
}

/** Finds cuBLAS, also in python3's wheels, and sets LD_LIBRARY_PATH: the programs beside the addon look nowhere else. */
function findCublas() {
  const { cublasFolders } = require(path.join(root, "dist", "binary", "cuda-load.js"));
  const python = output("python3", ["-c", "import sys; print('\\n'.join(sys.path))"])?.split("\n") ?? [];
  const wheels = python.filter(Boolean).flatMap((folder) => list(path.join(folder, "nvidia")));
  const knownFolders = [...cublasFolders(process.env), "/usr/local/cuda/lib64", "/opt/cuda/lib64"];
  const candidates = [...knownFolders, ...wheels.map((folder) => path.join(folder, "lib"))];
  const found =
    process.env.CLLM_CUDA_LIBRARIES ??
    candidates.find((folder) => list(folder).some((file) => file.endsWith("libcublas.so.13")));
  if (!found)
    return say("cuBLAS 13 was not found; if the system does not find it either, CLLM_CUDA_LIBRARIES names its folder");
  process.env.CLLM_CUDA_LIBRARIES = found;
  process.env.LD_LIBRARY_PATH = [found, process.env.LD_LIBRARY_PATH].filter(Boolean).join(":");
}

function list(folder) {
  return fs.existsSync(folder) ? fs.readdirSync(folder).map((name) => path.join(folder, name)) : [];
}

function write(gpu, info, results) {
  const now = new Date().toISOString();
  const name = gpu.description
    .toLowerCase()
    .match(/[a-z0-9.]+/g)
    .slice(0, 4)
    .join("-");
  const file = path.join(root, "bench", "results", `${now.slice(0, 10)}-${name}-gpu-check.json`);
  const driver = output("nvidia-smi", ["--query-gpu=driver_version", "--format=csv,noheader"])?.split("\n")[0] ?? null;
  const { llamaCommit, cpuLevel } = info;
  const result = {
    name: "gpu-check",
    date: now,
    gpu,
    driver,
    llamaCommit,
    cpuLevel,
    node: process.versions.node,
    results,
  };
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, `${JSON.stringify(result, null, 1)}\n`);
  return path.relative(root, file);
}

await main(import.meta.url, async (argv) => {
  const { values } = parseArgs({
    args: argv,
    options: {
      only: { type: "string" },
      model: { type: "string" },
      smollm2: { type: "string" },
      spider: { type: "string" },
      backend: { type: "string", default: "cuda" },
      "no-build": { type: "boolean" },
    },
  });
  const chosenParts = values.only?.split(",") ?? Object.keys(parts);
  for (const name of chosenParts) {
    if (!parts[name]) throw new Failure(`Expected parts of ${Object.keys(parts).join(", ")} but received ${name}`);
  }
  // A missing GPU must fail before a build of half an hour.
  const trying = values.backend === "cpu";
  const capability = trying ? "" : gpuCapability();
  if (capability === null) {
    throw new Failure(
      "There is no NVIDIA GPU here (nvidia-smi and /dev/nvidiactl are missing): nothing was run. " +
        "`npm run bundle:gpu` makes a folder to take to a machine that has one.",
    );
  }
  if (!isBundle && !values["no-build"] && !trying) await prepare(capability);
  findCublas();
  process.env.CLLM_BACKEND = values.backend;
  // A bundle has no other binary than CUDA's, which computes on the CPU where there is no GPU.
  if (trying && isBundle) process.env.CLLM_BINARY ??= path.join(root, "build", "Release-cuda", "cllm.node");
  process.env.CLLM_TEST_PROGRAMS = bin;
  process.env.CLLM_TEST_GPU = "1";
  const { binaryInfo } = await import(path.join(root, "dist", "esm.mjs"));
  let info;
  try {
    info = binaryInfo();
  } catch (error) {
    throw new Failure(`${error.message}\n\nNothing was run on the GPU.`);
  }
  const gpu = info.devices.find(({ kind }) => trying || kind === "gpu" || kind === "integrated");
  say(`GPU       ${gpu.description}, ${(gpu.totalMemory / 2 ** 30).toFixed(1)} GiB\nBinary    ${info.path}\n`);
  const results = {};
  let file = "";
  for (const name of chosenParts) {
    say(`--- ${name}`);
    results[name] = await attempt(parts[name], values);
    file = write(gpu, info, results); // after every part, because a later part may end the machine
  }
  console.log(`\nWritten to ${file}\n`);
  for (const [name, { status, summary }] of Object.entries(results)) {
    console.log(`${status.toUpperCase().padEnd(8)} ${name}: ${summary}`);
  }
  if (Object.values(results).some(({ status }) => status === "failed")) process.exitCode = 1;
});

// Finds nvcc in a CUDA toolkit of this machine, or fetches NVIDIA's wheels from the Python package index, pinned and checked
// by hash.
//   node scripts/cuda/toolkit.mjs [--cublas]     says which toolkit is used
import fs from "node:fs";
import path from "node:path";
import { Failure, locked, main, output, readText, root, run, say, work } from "../common.mjs";

/** The oldest release that compiles for sm_120. */
const OLDEST_CUDA = [12, 8];
const PARTS = ["requirements.txt", "requirements-cublas.txt"];
const requirements = (part) => path.join(root, "scripts", "cuda", part);

/**
 * Resolves to a CUDA toolkit for Linux on x64: { root, nvcc, version, origin }. With `cublas` it has cuBLAS, which is 400 MB
 * more to fetch. It is the toolkit of CUDA_HOME or CUDA_PATH, else that of the nvcc on PATH, else the wheels, which python3
 * fetches with pip's settings.
 */
export async function cudaToolkit({ cublas = false } = {}) {
  const toolkit = installed(cublas);
  if (toolkit) return toolkit;
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new Failure(`Expected nvcc in CUDA_HOME or on PATH: its wheels are for Linux on x64 only`);
  }
  const target = path.join(work, "cuda-toolkit");
  await locked(path.join(work, "cuda-toolkit.lock"), () => fetchWheels(target, cublas ? PARTS : PARTS.slice(0, 1)));
  return describe(path.join(target, "nvidia", "cu13"), "wheels of the Python package index");
}

function installed(cublas) {
  const homes = [process.env.CUDA_HOME, process.env.CUDA_PATH];
  const onPath = output("sh", ["-c", "command -v nvcc"]);
  if (onPath) homes.push(path.dirname(path.dirname(fs.realpathSync(onPath))));
  for (const home of homes.filter(Boolean)) {
    if (!fs.existsSync(path.join(home, "bin", "nvcc"))) continue;
    const found = describe(home, home);
    const [major, minor] = found.version.split(".").map(Number);
    if (major < OLDEST_CUDA[0] || (major === OLDEST_CUDA[0] && minor < OLDEST_CUDA[1])) {
      say(`CUDA ${found.version} in ${home} is older than ${OLDEST_CUDA.join(".")}: not used`);
    } else if (cublas && !fs.existsSync(path.join(home, "include", "cublas_v2.h"))) {
      say(`CUDA ${found.version} in ${home} has no cuBLAS: not used`);
    } else {
      return found;
    }
  }
  return null;
}

function describe(home, origin) {
  const nvcc = path.join(home, "bin", "nvcc");
  const version = /release ([\d.]+)/.exec(output(nvcc, ["--version"]) ?? "")?.[1];
  if (!version) throw new Failure(`Expected ${nvcc} to tell its version but it did not start`);
  return { root: home, nvcc, version, origin };
}

async function fetchWheels(target, parts) {
  for (const part of parts) {
    const pins = readText(requirements(part));
    const marker = path.join(target, part);
    if (readText(marker) === pins) continue;
    if (output("python3", ["-m", "pip", "--version"]) === null) {
      throw new Failure("Expected nvcc, or python3 with pip to fetch it, but found neither (apt install python3-pip)");
    }
    say(
      `Fetching ${part === PARTS[0] ? "the CUDA compiler (100 MB)" : "cuBLAS (400 MB)"} from the Python package index`,
    );
    // Each part is fetched into a new folder, because pip would replace the whole folder `nvidia`, which all wheels share.
    const fetched = `${target}.part`;
    fs.rmSync(fetched, { recursive: true, force: true });
    const options = ["--target", fetched, "--no-deps", "--require-hashes", "--only-binary=:all:"];
    const quiet = ["--quiet", "--disable-pip-version-check", "--no-warn-script-location", "--root-user-action=ignore"];
    const pip = ["-m", "pip", "install", ...options, ...quiet, "-r", requirements(part)];
    await run("python3", pip, { stdio: ["ignore", 2, 2] });
    fs.cpSync(path.join(fetched, "nvidia"), path.join(target, "nvidia"), { recursive: true, force: true });
    fs.rmSync(fetched, { recursive: true, force: true });
    addInstalledNames(path.join(target, "nvidia", "cu13"));
    fs.writeFileSync(marker, pins);
  }
}

/** Adds links with the names that linkers and CMake look for, which the wheels lack. */
function addInstalledNames(home) {
  const link = (to, from) => {
    fs.mkdirSync(path.dirname(from), { recursive: true });
    fs.rmSync(from, { force: true });
    fs.symlinkSync(to, from);
  };
  link("lib", path.join(home, "lib64"));
  for (const name of ["lib", "include"]) link(`../../${name}`, path.join(home, "targets", "x86_64-linux", name));
  for (const file of fs.readdirSync(path.join(home, "lib"))) {
    const name = /^(lib\w+\.so)\.[\d.]+$/.exec(file)?.[1];
    if (name) link(file, path.join(home, "lib", name));
  }
  for (const file of fs.readdirSync(path.join(home, "bin"))) {
    const at = path.join(home, "bin", file);
    if (fs.statSync(at).isFile()) fs.chmodSync(at, 0o755);
  }
  fs.chmodSync(path.join(home, "nvvm", "bin", "cicc"), 0o755);
  // pip gives files the time of their installation. Older times keep the build of ggml-cuda, which takes half an hour, from
  // looking out of date when the toolkit is fetched again.
  const released = new Date("2025-09-30T00:00:00Z");
  for (const file of fs.readdirSync(home, { recursive: true, withFileTypes: true })) {
    if (file.isFile()) fs.utimesSync(path.join(file.parentPath, file.name), released, released);
  }
}

await main(import.meta.url, async (argv) => {
  const { root: home, version, origin } = await cudaToolkit({ cublas: argv.includes("--cublas") });
  console.log(`CUDA ${version} in ${home} (${origin})`);
});

import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { getEnvironmentData, setEnvironmentData } from "node:worker_threads";
import { type CpuFeatures, cpuFeatures, missingFeatures } from "./cpu.js";
import { TRIAL_VARIABLE, type TrialResult, tryCuda } from "./cuda-trial.js";
import { packageFolder, unpackedPath } from "./package-folder.js";

/** The device that runs models; `auto` is CUDA where it is installed and works, else the CPU. */
export type Backend = "auto" | "cpu" | "cuda";

export const BACKENDS: readonly Backend[] = ["auto", "cpu", "cuda"];

/** The CUDA binary to use, or null, and the reason as a sentence without a full stop. */
export interface CudaChoice {
  path: string | null;
  reason: string;
}

/** Everything outside this module that the choice depends on, so that tests can replace it. */
export interface CudaWorld {
  env: NodeJS.ProcessEnv;
  platform: string;
  arch: string;
  cpu: CpuFeatures;
  /** Folder and version of this package. */
  packageRoot: string;
  version: string;
  /** Path of the package.json of a package that the application or this package can require, or null. */
  resolve(name: string): string | null;
  /** Whether the system has a device file of an NVIDIA driver. */
  hasDevice(): boolean;
  trial(file: string): TrialResult;
}

/** Name of the package with the CUDA binary for a platform, or null where none is made. */
export function cudaPackage(platform: string, arch: string): string | null {
  return platform === "linux" && arch === "x64" ? `@node-cllm/${platform}-${arch}-cuda` : null;
}

/**
 * Finds a CUDA binary (CLLM_CUDA_BINARY, a local build, the platform's package) and tries it in a process of its own.
 *
 * @param insist whether to try it even where the system seems to have no GPU, because a trial gives a better reason
 */
export function chooseCuda(insist: boolean, world: CudaWorld = realWorld()): CudaChoice {
  const noCuda = (reason: string): CudaChoice => ({ path: null, reason });
  if (world.env[TRIAL_VARIABLE]) return noCuda("Not used: this process is itself a trial of a CUDA binary");
  const found = findCuda(world);
  if (found.path === null) return found;
  const where = `${found.reason} (${found.path})`;
  if (!insist && !world.env.CLLM_CUDA_BINARY && !world.hasDevice()) {
    return noCuda(`Not used: this system has no NVIDIA GPU (no /dev/nvidiactl); there is a CUDA binary, ${where}`);
  }
  const lacking = missingHostFeatures(found.path, world.cpu);
  if (lacking.length > 0) return noCuda(`Not used: the CPU lacks ${lacking.join(" ")}, which it needs: ${where}`);
  const { devices, problem } = world.trial(found.path);
  if (problem !== null) return noCuda(`Not used: ${where} failed its trial: ${problem}`);
  return { path: found.path, reason: `${where}; it worked in a process of its own, on ${describe(devices)}` };
}

function findCuda({ env, platform, arch, packageRoot, version, resolve }: CudaWorld): CudaChoice {
  const noCuda = (reason: string): CudaChoice => ({ path: null, reason });
  if (env.CLLM_CUDA_BINARY) return { path: path.resolve(env.CLLM_CUDA_BINARY), reason: "CLLM_CUDA_BINARY names it" };
  const local = path.join(unpackedPath(packageRoot), "build", "Release-cuda", "cllm.node");
  if (existsSync(local)) return { path: local, reason: "built from source on this machine" };
  const name = cudaPackage(platform, arch);
  if (name === null) return noCuda(`Not available: no CUDA binary is made for ${platform} on ${arch}`);
  const manifest = resolve(name);
  if (manifest === null) {
    return noCuda(
      `Not installed: in a clone \`npm run build:cuda\` builds it, and \`npm run package:cuda\` makes the package ${name} of it`,
    );
  }
  const installed = JSON.parse(readFileSync(manifest, "utf8")).version;
  if (installed !== version) {
    // The halves must be of one version: another version's binary could misread the values that cross between them.
    return noCuda(`Not used: ${name} is version ${installed}, this is ${version}; both must have the same version`);
  }
  return { path: path.join(unpackedPath(path.dirname(manifest)), "cllm.node"), reason: `from the package ${name}` };
}

/**
 * Features that the binary's host code needs and the CPU lacks. scripts/build.mjs writes the code's level beside it.
 */
function missingHostFeatures(file: string, cpu: CpuFeatures): string[] {
  try {
    const { level, cpuFlags } = JSON.parse(readFileSync(path.join(path.dirname(file), "cllm.json"), "utf8"));
    if (level === "x86-64-v3" || level === "x86-64-avx512") return missingFeatures(level, cpu);
    const { flags } = cpu;
    return flags === null ? [] : cpuFlags.filter((flag: string) => !flags.has(flag));
  } catch {
    return []; // no build of ours wrote this file, so nothing is known
  }
}

function describe(devices: readonly { description: string; totalMemory: number }[]): string {
  return devices
    .map(({ description, totalMemory }) => `${description} with ${(totalMemory / 2 ** 30).toFixed(1)} GiB`)
    .join(", ");
}

function realWorld(): CudaWorld {
  return {
    env: process.env,
    platform: process.platform,
    arch: process.arch,
    cpu: cpuFeatures(),
    packageRoot: packageFolder,
    version: JSON.parse(readFileSync(path.join(packageFolder, "package.json"), "utf8")).version,
    resolve: resolvePackage,
    hasDevice: () => process.platform !== "linux" || ["/dev/nvidiactl", "/dev/dxg"].some((file) => existsSync(file)),
    trial: tryOnce,
  };
}

/**
 * Looks for a package from this package's folder, beside which npm installs it, and from the program's main file. It
 * does not look from the working directory: a program that is started in somebody else's folder must not load code from
 * there.
 */
function resolvePackage(name: string): string | null {
  const program = require.main?.filename ?? process.argv[1];
  for (const from of program === undefined ? [__filename] : [__filename, program]) {
    try {
      return createRequire(path.resolve(from)).resolve(`${name}/package.json`);
    } catch {
      // Look from the next file.
    }
  }
  return null;
}

/** Tries a binary once per process. Workers that start later inherit the result. */
function tryOnce(file: string): TrialResult {
  const key = `node-cllm: trial of ${file}`;
  const earlier = getEnvironmentData(key) as TrialResult | undefined;
  if (earlier) return earlier;
  const result = tryCuda(file);
  setEnvironmentData(key, result as never);
  return result;
}

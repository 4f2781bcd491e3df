import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import type { Addon, BuildInfo, NativeDevice } from "../addon.js";
import { CllmError } from "../errors.js";
import * as check from "../options.js";
import { type CpuFeatures, cpuFeatures, missingFeatures, type PrebuiltLevel, prebuiltLevels } from "./cpu.js";
import { BACKENDS, type Backend, chooseCuda } from "./cuda.js";
import { loadCudaAddon } from "./cuda-load.js";
import { explainLoadFailure } from "./load-failure.js";
import { packageFolder, unpackedPath } from "./package-folder.js";

/** A device that the binary can compute on. */
export interface Device extends NativeDevice {}

/** The binary that runs, and why it was chosen. */
export interface BinaryInfo extends BuildInfo {
  /** Path of the `.node` file. */
  path: string;
  /** Why this binary was chosen, as a sentence. */
  reason: string;
  /** Why CUDA runs, or why it does not, as a sentence. */
  cuda: string;
  /** The devices that the binary can compute on, with the memory that is free at this moment. */
  devices: Device[];
}

/** The binaries that exist, whether or not the CPU runs them. */
export interface AvailableBinaries {
  /** `build/Release/cllm.node`, built from source on this machine, and the features of the CPU it was built for. */
  local: { path: string; cpuFlags: readonly string[] } | null;
  /** Prebuilt binaries by level. */
  prebuilt: Partial<Record<PrebuiltLevel, string>>;
  /** The environment variable CLLM_BINARY: the path of a binary, `native` (the local build), or a level. */
  override: string | undefined;
  /** Files that were looked for, for the message when none exists. */
  searched: readonly string[];
}

export interface ChosenBinary {
  path: string;
  reason: string;
}

const BUILD_COMMAND = "npm rebuild node-cllm --build-from-source";
const HOW_TO_BUILD =
  `build it from source with \`${BUILD_COMMAND}\` (needs a C++ compiler, cmake, git and python3), ` +
  "or in a checkout with `npm run build`";

/**
 * Picks a binary: the one that `CLLM_BINARY` names, else a local build, else the best prebuilt one that the CPU runs.
 *
 * @throws {@link CllmError} `CLLM_UNSUPPORTED_CPU` when there are binaries but none that this CPU runs,
 * `CLLM_BINDING_NOT_FOUND` when there are none.
 */
export function chooseBinary(cpu: CpuFeatures, available: AvailableBinaries): ChosenBinary {
  const { local, prebuilt, override } = available;
  const levels = prebuiltLevels(cpu.arch);
  if (override) return chooseOverride(override, cpu, available);

  const missingLocally = local && cpu.flags ? local.cpuFlags.filter((flag) => !cpu.flags?.has(flag)) : [];
  if (local && missingLocally.length === 0) {
    return { path: local.path, reason: "built from source on this machine (build/Release comes before prebuilds)" };
  }
  const presentLevels = levels.filter((level) => prebuilt[level]);
  for (const level of presentLevels) {
    if (missingFeatures(level, cpu).length > 0) continue;
    const lacks = presentLevels
      .slice(0, presentLevels.indexOf(level))
      .map((better) => `${better}: ${missingFeatures(better, cpu).join(" ")}`);
    const why = lacks.length > 0 ? `; the CPU lacks, for ${lacks.join(", for ")}` : "";
    const unknown = cpu.arch === "x64" && cpu.flags === null ? "; this system does not tell the CPU's features" : "";
    return {
      path: prebuilt[level] as string,
      reason: `prebuilt for ${level}, the best level this CPU runs${why}${unknown}`,
    };
  }
  const lowest = presentLevels.at(-1);
  if (lowest) {
    const missing = missingFeatures(lowest, cpu).join(" ");
    throw new CllmError(
      "CLLM_UNSUPPORTED_CPU",
      `Prebuilt binaries need ${lowest}, but this CPU lacks ${missing}: ${HOW_TO_BUILD}`,
    );
  }
  if (local) {
    throw new CllmError(
      "CLLM_UNSUPPORTED_CPU",
      `${local.path} was built for another CPU, this one lacks ${missingLocally.join(" ")}: ${HOW_TO_BUILD}`,
    );
  }
  throw notFound("No binary of node-cllm was found", available.searched);
}

function chooseOverride(
  override: string,
  cpu: CpuFeatures,
  { local, prebuilt, searched }: AvailableBinaries,
): ChosenBinary {
  const reason = `CLLM_BINARY is ${override}`;
  if (override === "native") {
    if (local) return { path: local.path, reason };
    throw notFound(`${reason}, but there is no local build`, searched);
  }
  const level = (["x86-64-avx512", "x86-64-v3", "generic"] as const).find((name) => name === override);
  if (!level) return { path: path.resolve(override), reason };
  const missing = missingFeatures(level, cpu);
  if (missing.length > 0)
    throw new CllmError("CLLM_UNSUPPORTED_CPU", `${reason}, but this CPU lacks ${missing.join(" ")}`);
  const file = prebuilt[level];
  if (!file) throw notFound(`${reason}, but there is no prebuilt binary of this level`, searched);
  return { path: file, reason };
}

function notFound(message: string, searched: readonly string[], cause?: unknown): CllmError {
  const tried = searched.length > 0 ? `\nLooked for:\n${searched.map((file) => `  ${file}`).join("\n")}` : "";
  return new CllmError("CLLM_BINDING_NOT_FOUND", `${message}: ${HOW_TO_BUILD}.${tried}`, { cause });
}

/** Folder of the prebuilt binary of a level. The lowest level has the folder that node-gyp-build knows. */
function prebuiltFolder(level: PrebuiltLevel): string {
  const folder = `${process.platform}-${process.arch}`;
  return level === "x86-64-avx512" ? `${folder}-avx512` : folder;
}

/** The binaries that lie in a package's folder. */
export function findBinaries(folder: string, override: string | undefined): AvailableBinaries {
  const root = unpackedPath(folder);
  const localPath = path.join(root, "build", "Release", "cllm.node");
  const searched = [localPath];
  const prebuilt: Partial<Record<PrebuiltLevel, string>> = {};
  for (const level of prebuiltLevels(process.arch)) {
    const file = path.join(root, "prebuilds", prebuiltFolder(level), "node.napi.node");
    searched.push(file);
    if (existsSync(file)) prebuilt[level] = file;
  }
  const local = existsSync(localPath) ? { path: localPath, cpuFlags: buildCpuFlags(path.dirname(localPath)) } : null;
  return { local, prebuilt, override, searched };
}

/** Features of the CPU that a local build was made for. scripts/build.mjs writes them beside the binary. */
function buildCpuFlags(directory: string): readonly string[] {
  try {
    const { cpuFlags } = JSON.parse(readFileSync(path.join(directory, "cllm.json"), "utf8"));
    return Array.isArray(cpuFlags) ? cpuFlags : [];
  } catch {
    return [];
  }
}

interface Loaded {
  addon: Addon;
  info: BuildInfo & ChosenBinary & { cuda: string };
}

let loaded: Loaded | undefined;

function load(requested: Backend | undefined): Loaded {
  if (loaded) {
    const { backend, path: file } = loaded.info;
    if (requested === undefined || requested === "auto" || requested === backend) return loaded;
    throw new CllmError(
      "CLLM_BACKEND_UNAVAILABLE",
      `Expected the backend ${requested} but this process runs ${backend} already (${file}): ` +
        "choose with the first use of node-cllm, or with CLLM_BACKEND",
    );
  }
  checkSettings();
  const setting = requested === undefined ? "CLLM_BACKEND is" : "the option backend is";
  const wanted = requested ?? environmentBackend();
  let cuda = `Not used: ${setting} ${wanted}`;
  if (wanted === "auto" && process.env.CLLM_BINARY) cuda = "Not used: CLLM_BINARY names a binary";
  else if (wanted !== "cpu") {
    const choice = loadCuda(wanted === "cuda");
    if ("info" in choice) {
      loaded = choice;
      return loaded;
    }
    cuda = choice.reason;
    if (wanted === "cuda") {
      throw new CllmError(
        "CLLM_BACKEND_UNAVAILABLE",
        `Expected the backend cuda (${setting} cuda) but ${lowerFirst(cuda)}`,
        {
          cause: choice.cause,
        },
      );
    }
  }
  loaded = loadCpu(cuda);
  return loaded;
}

/** How CUDA graphs may be used (native/llama/cuda_stream.h). */
const CUDA_GRAPHS = ["off", "on", "replay", "loop"] as const;

/** The backend that the environment variable CLLM_BACKEND names, or `auto`. */
function environmentBackend(): Backend {
  return check.oneOf(process.env.CLLM_BACKEND || undefined, "CLLM_BACKEND", BACKENDS, "auto");
}

function loadCuda(insist: boolean): Loaded | { reason: string; cause?: unknown } {
  // The binary reads it, and takes what it does not know for `off`.
  check.oneOf(process.env.CLLM_CUDA_GRAPHS || undefined, "CLLM_CUDA_GRAPHS", CUDA_GRAPHS, "off");
  const choice = chooseCuda(insist);
  if (choice.path === null) return choice;
  try {
    const addon = loadCudaAddon(choice.path);
    return initialize(addon, { path: choice.path, reason: choice.reason }, choice.reason);
  } catch (cause) {
    // The trial worked, so this process has a limit (address space, a sandbox) or holds a library that is in the way.
    return { reason: `Not used: ${choice.path} worked in a process of its own but not in this one [${cause}]`, cause };
  }
}

/** What the native code reads from the environment, and takes for its default where it is misspelt. */
const SETTINGS: Readonly<Record<string, readonly string[]>> = {
  CLLM_PRODUCTS: ["avx512", "avx-vnni", "avx2", "neon-i8mm", "neon-dotprod", "off"],
  CLLM_AMX: ["on", "off"],
  CLLM_LOG: ["debug", "info", "warn", "error"],
};

function checkSettings(): void {
  for (const [name, values] of Object.entries(SETTINGS)) {
    const value = process.env[name];
    if (value && !values.includes(value)) throw check.rangeError(`one of ${values.join(", ")}`, name, value);
  }
}

function loadCpu(cuda: string): Loaded {
  const available = findBinaries(packageFolder, process.env.CLLM_BINARY);
  const chosen = chooseBinary(cpuFeatures(), available);
  let addon: Addon;
  try {
    addon = createRequire(__filename)(chosen.path);
  } catch (error) {
    const text = (error instanceof Error ? error.message : String(error)).split("\n", 1)[0] as string;
    const why = explainLoadFailure(text) ?? "the system could not load it";
    throw notFound(`Could not load ${chosen.path} (${chosen.reason}), ${why} [${text}]`, [], error);
  }
  return initialize(addon, chosen, cuda);
}

function initialize(addon: Addon, chosen: ChosenBinary, cuda: string): Loaded {
  if (typeof addon?.setErrorClass !== "function") {
    throw notFound(`${chosen.path} (${chosen.reason}) is no addon of node-cllm`, []);
  }
  addon.setErrorClass(CllmError as Parameters<Addon["setErrorClass"]>[0]);
  const build = addon.buildInfo();
  // CLLM_BINARY may name a CUDA binary, which then runs without a trial.
  return { addon, info: { ...build, ...chosen, cuda: build.backend === "cuda" ? chosen.reason : cuda } };
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}

/**
 * Returns the addon. The first call loads it, with the backend of that call or else of CLLM_BACKEND, which then runs
 * until the process ends.
 *
 * @throws {@link CllmError} `CLLM_BACKEND_UNAVAILABLE` when CUDA is asked for and does not work, or when the other
 * backend runs already; `CLLM_BINDING_NOT_FOUND`, `CLLM_UNSUPPORTED_CPU`
 */
export function addon(backend?: Backend): Addon {
  return load(backend).addon;
}

/**
 * Loads the binary if none is loaded yet, and returns which one runs and why.
 *
 * @throws {@link CllmError} `CLLM_BINDING_NOT_FOUND`, `CLLM_UNSUPPORTED_CPU`, `CLLM_BACKEND_UNAVAILABLE`
 * @example
 * const { backend, reason, cuda } = binaryInfo();
 */
export function binaryInfo(): BinaryInfo {
  const { addon, info } = load(undefined);
  return { ...info, devices: addon.devices(false) };
}

import { readdirSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import type { Addon } from "../addon.js";

/** dlopen's RTLD_NOW and glibc's RTLD_NODELETE, which os.constants lacks. */
const KEEP = 2 | 0x1000;

/**
 * Loads a CUDA binary. It needs cuBLAS, which is the user's own: half a gigabyte that machines with CUDA software have
 * already. The system finds it beside the binary, in its own search path, and in /usr/local/cuda; after that we look,
 * because a running process cannot change LD_LIBRARY_PATH. `CLLM_CUDA_LIBRARIES` names its folder and comes first.
 */
export function loadCudaAddon(file: string, env: NodeJS.ProcessEnv = process.env): Addon {
  const load = (): Addon => createRequire(__filename)(file);
  if (env.CLLM_CUDA_LIBRARIES) {
    keepCublas(env.CLLM_CUDA_LIBRARIES);
    return load();
  }
  try {
    return load();
  } catch (error) {
    const missing = /^(libcublas(?:Lt)?\.so\.\d+): cannot open/.exec((error as Error).message)?.[1];
    const folder = missing && cublasFolders(env).find((candidate) => list(candidate).includes(missing));
    if (!folder) throw error;
    keepCublas(folder);
    return load();
  }
}

/** Where cuBLAS lies besides the places the system looks in: CUDA's own variables, conda, the wheels in a venv. */
export function cublasFolders(env: NodeJS.ProcessEnv): string[] {
  const folders: string[] = [];
  for (const toolkit of [env.CUDA_HOME, env.CUDA_PATH]) {
    if (toolkit) folders.push(path.join(toolkit, "lib64"), path.join(toolkit, "lib"));
  }
  for (const prefix of [env.VIRTUAL_ENV, env.CONDA_PREFIX]) {
    if (!prefix) continue;
    const lib = path.join(prefix, "lib");
    folders.push(lib);
    for (const python of list(lib).filter((name) => name.startsWith("python"))) {
      const nvidia = path.join(lib, python, "site-packages", "nvidia");
      folders.push(...list(nvidia).map((name) => path.join(nvidia, name, "lib")));
    }
  }
  return folders;
}

/**
 * Maps the folder's cuBLAS into this process, where the binary's own need for it then finds it by its name. Node can
 * open libraries, but closes those that are no addons: they stay because of the flag.
 */
function keepCublas(folder: string): void {
  // libcublasLt first: libcublas needs it, and need not know where it is.
  const files = list(folder).filter((name) => /^libcublas(Lt)?\.so\.\d+$/.test(name));
  for (const name of files.sort((a, b) => b.length - a.length)) {
    try {
      process.dlopen({ exports: {} }, path.join(folder, name), KEEP);
    } catch {
      // "Module did not self-register", always. Where it could not be opened, loading the binary says so.
    }
  }
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

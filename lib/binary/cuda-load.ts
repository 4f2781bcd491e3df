import { readdirSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import type { Addon } from "../addon.js";

/** dlopen's flags RTLD_NOW and RTLD_NODELETE of glibc; os.constants lacks the second. */
const KEEP_LOADED = 2 | 0x1000;

/**
 * Loads a CUDA binary. It needs the user's cuBLAS, half a gigabyte that machines with CUDA software have already. The
 * folder that `CLLM_CUDA_LIBRARIES` names comes first. Without it the system looks beside the binary, in its search path
 * and in /usr/local/cuda. Then this function looks in further folders, because a running process cannot change
 * LD_LIBRARY_PATH.
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
    const folder = missing && cublasFolders(env).find((candidate) => namesIn(candidate).includes(missing));
    if (!folder) throw error;
    keepCublas(folder);
    return load();
  }
}

/**
 * Folders where cuBLAS may lie and the system does not look: those of CUDA's variables, of conda, of wheels in a venv.
 */
export function cublasFolders(env: NodeJS.ProcessEnv): string[] {
  const folders: string[] = [];
  for (const toolkit of [env.CUDA_HOME, env.CUDA_PATH]) {
    if (toolkit) folders.push(path.join(toolkit, "lib64"), path.join(toolkit, "lib"));
  }
  for (const prefix of [env.VIRTUAL_ENV, env.CONDA_PREFIX]) {
    if (!prefix) continue;
    const lib = path.join(prefix, "lib");
    folders.push(lib);
    for (const python of namesIn(lib).filter((name) => name.startsWith("python"))) {
      const nvidia = path.join(lib, python, "site-packages", "nvidia");
      folders.push(...namesIn(nvidia).map((name) => path.join(nvidia, name, "lib")));
    }
  }
  return folders;
}

/**
 * Maps the folder's cuBLAS into this process, where the system then finds it by its name when the binary needs it. Node
 * closes libraries that are no addons after opening them; the flag keeps them.
 */
function keepCublas(folder: string): void {
  // libcublasLt comes first, because libcublas needs it and may not find it by itself.
  const files = namesIn(folder).filter((name) => /^libcublas(Lt)?\.so\.\d+$/.test(name));
  for (const name of files.sort((a, b) => b.length - a.length)) {
    try {
      process.dlopen({ exports: {} }, path.join(folder, name), KEEP_LOADED);
    } catch {
      // Node always throws "Module did not self-register". If the library did not open, loading the binary says so.
    }
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

import { writeSync } from "node:fs";
import { loadCudaAddon } from "./cuda-load.js";
import type { TrialAnswer } from "./cuda-trial.js";

// cuda-trial.ts runs this file in a process of its own. It loads the binary argv[2], computes on each GPU, and prints the
// result.
function answer(file: string): TrialAnswer {
  try {
    const addon = loadCudaAddon(file);
    const { backend } = addon.buildInfo();
    if (backend !== "cuda") return { error: `it is a binary for the backend ${backend}` };
    return { devices: addon.devices(true) };
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) };
  }
}

writeSync(1, `${JSON.stringify(answer(process.argv[2] as string))}\n`);

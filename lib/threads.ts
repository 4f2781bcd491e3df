import { readFileSync } from "node:fs";
import os from "node:os";

/**
 * Compute threads to use by default: the physical cores this process may run on. Two threads on one core share its
 * arithmetic units and only get into each other's way.
 */
export function defaultThreads(): number {
  const logical = os.availableParallelism();
  return Math.max(1, Math.min(logical, physicalCores() ?? logical));
}

function physicalCores(): number | null {
  if (process.platform !== "linux") return null;
  try {
    return countCores(readFileSync("/proc/cpuinfo", "utf8"));
  } catch {
    return null;
  }
}

/** Distinct (package, core) pairs of a Linux /proc/cpuinfo; null where it does not tell (ARM, some containers). */
export function countCores(cpuinfo: string): number | null {
  const cores = new Set<string>();
  for (const block of cpuinfo.split("\n\n")) {
    const core = /^core id\s*:\s*(\d+)/m.exec(block)?.[1];
    const pkg = /^physical id\s*:\s*(\d+)/m.exec(block)?.[1] ?? "0";
    if (core !== undefined) cores.add(`${pkg}:${core}`);
  }
  return cores.size > 0 ? cores.size : null;
}

import { readFileSync } from "node:fs";
import os from "node:os";

/**
 * Compute threads to use by default: the physical cores that this process may run on, at most the CPUs that its
 * container may use. Two threads on one core share its arithmetic units and only get into each other's way. More
 * threads than the container's quota are worse: threads that wait for a suspended thread spin, and use the quota up.
 */
export function defaultThreads(): number {
  const logical = os.availableParallelism(); // respects the affinity mask, but the quota only in later versions of Node
  return Math.max(1, Math.min(logical, physicalCores() ?? logical, cpuQuota(readText) ?? logical));
}

function readText(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}

/** Physical cores that this process may run on; null on systems other than Linux. */
function physicalCores(): number | null {
  if (process.platform !== "linux") return null;
  const allowed = /^Cpus_allowed_list:\s*(\S+)/m.exec(readText("/proc/self/status") ?? "")?.[1];
  return countCores(readText("/proc/cpuinfo") ?? "", allowed);
}

/**
 * Number of distinct (package, core) pairs in a Linux /proc/cpuinfo, for the CPUs in `allowed` (a list such as `0-3,8`;
 * default all); null where the file does not tell (ARM, some containers).
 */
export function countCores(cpuinfo: string, allowed?: string): number | null {
  const cores = new Set<string>();
  for (const block of cpuinfo.split("\n\n")) {
    const cpu = /^processor\s*:\s*(\d+)/m.exec(block)?.[1];
    const core = /^core id\s*:\s*(\d+)/m.exec(block)?.[1];
    const pkg = /^physical id\s*:\s*(\d+)/m.exec(block)?.[1] ?? "0";
    if (core === undefined) continue;
    if (allowed === undefined || cpu === undefined || inList(Number(cpu), allowed)) cores.add(`${pkg}:${core}`);
  }
  return cores.size > 0 ? cores.size : null;
}

function inList(cpu: number, list: string): boolean {
  return list.split(",").some((range) => {
    const [first, last = first] = range.split("-").map(Number) as [number, number?];
    return cpu >= first && cpu <= (last as number);
  });
}

/**
 * Whole CPUs, at least 1, that the process's control groups let it use: the smallest limit of all levels, or null where
 * there is no limit. Version 2 keeps `QUOTA PERIOD` in cpu.max, version 1 has a file for each number. A container mounts its
 * group as the root, so the path in /proc/self/cgroup may not exist there; so the root is always read too.
 */
export function cpuQuota(read: (path: string) => string | null): number | null {
  let smallest = Number.POSITIVE_INFINITY;
  for (const line of (read("/proc/self/cgroup") ?? "").split("\n")) {
    const [, controllers, group] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (controllers === undefined || group === undefined) continue;
    const names = controllers.split(",");
    if (controllers !== "" && !names.includes("cpu")) continue;
    const mount = controllers === "" ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu";
    const parts = group.split("/").filter((part) => part !== "");
    for (let depth = 0; depth <= parts.length; depth++) {
      const directory = [mount, ...parts.slice(0, depth)].join("/");
      const [quota, period] =
        controllers === ""
          ? (read(`${directory}/cpu.max`) ?? "").trim().split(" ")
          : [read(`${directory}/cpu.cfs_quota_us`) ?? "", read(`${directory}/cpu.cfs_period_us`) ?? ""];
      // Without a limit the quota is "max" (version 2) or -1 (version 1).
      const cpus = Number(quota) / Number(period);
      if (cpus > 0) smallest = Math.min(smallest, cpus);
    }
  }
  return Number.isFinite(smallest) ? Math.max(1, Math.floor(smallest)) : null;
}

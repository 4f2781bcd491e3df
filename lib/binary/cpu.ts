import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";

/** Instruction-set levels that prebuilt binaries exist for, best first. `generic` is the baseline of other CPUs. */
export type PrebuiltLevel = "x86-64-avx512" | "x86-64-v3" | "generic";

/** Features that CMakeLists.txt compiles each level with, by their names in Linux's /proc/cpuinfo. */
const V3 = "ssse3 sse4_1 sse4_2 popcnt movbe abm bmi1 bmi2 avx avx2 fma f16c".split(" ");
const AVX512 = "avx512f avx512cd avx512bw avx512dq avx512vl avx512vbmi avx512_vnni avx512_bf16".split(" ");

export interface CpuFeatures {
  /** `process.arch`: "x64", "arm64", ... */
  arch: string;
  /** Features by their names in /proc/cpuinfo; null where the system does not tell them. */
  flags: ReadonlySet<string> | null;
}

/** Features that a level needs and the CPU lacks. Where features are unknown, those of x86-64-v3 are assumed. */
export function missingFeatures(level: PrebuiltLevel, cpu: CpuFeatures): string[] {
  if (level === "generic") return [];
  if (cpu.arch !== "x64") return ["x86-64"];
  if (cpu.flags === null) return level === "x86-64-v3" ? [] : AVX512;
  const { flags } = cpu;
  return (level === "x86-64-v3" ? V3 : [...V3, ...AVX512]).filter((feature) => !flags.has(feature));
}

/** Levels of prebuilt binaries that could exist for this kind of CPU, best first. */
export function prebuiltLevels(arch: string): PrebuiltLevel[] {
  return arch === "x64" ? ["x86-64-avx512", "x86-64-v3"] : ["generic"];
}

/** Asks the system for the CPU's features, without running an instruction that could be missing. */
export function cpuFeatures(platform: string = process.platform, arch: string = process.arch): CpuFeatures {
  if (arch !== "x64") return { arch, flags: null };
  if (platform === "linux") return { arch, flags: parseCpuinfo(readQuietly("/proc/cpuinfo")) };
  if (platform === "darwin") return { arch, flags: parseSysctl(sysctl()) };
  return { arch, flags: null };
}

/** Flags of the first processor. The kernel does not list features whose state it does not save on a context switch. */
export function parseCpuinfo(text: string): ReadonlySet<string> | null {
  const flags = /^flags\s*:(.*)$/m.exec(text)?.[1];
  return flags === undefined ? null : new Set(flags.trim().split(/\s+/));
}

/** Flags in the output of `sysctl machdep.cpu`, by Linux's names, as macOS has others (AVX1.0, AVX512VNNI, LZCNT). */
export function parseSysctl(text: string): ReadonlySet<string> | null {
  const lists = [...text.matchAll(/^machdep\.cpu\.(?:leaf7_|ext)?features:(.*)$/gm)].map((match) => match[1]);
  if (lists.length === 0) return null;
  const renamed: Record<string, string> = {
    "avx1.0": "avx",
    "sse4.1": "sse4_1",
    "sse4.2": "sse4_2",
    lzcnt: "abm",
    avx512vnni: "avx512_vnni",
    avx512bf16: "avx512_bf16",
  };
  const names = lists.join(" ").trim().toLowerCase().split(/\s+/);
  return new Set(names.map((name) => renamed[name] ?? name));
}

function readQuietly(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

function sysctl(): string {
  try {
    return execFileSync("/usr/sbin/sysctl", ["machdep.cpu"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  } catch {
    return "";
  }
}

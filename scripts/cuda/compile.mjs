// Compiles cuda/kernels/*.cu with nvcc for the architectures below, and reports what ptxas says of each kernel. An error, a
// warning or a register that spills to memory is a failure. No GPU is needed.
//   npm run check:cuda [-- --write]     --write also writes the report to bench/results/kernels-ptxas.json
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { Failure, main, root, say } from "../common.mjs";
import { cudaToolkit } from "./toolkit.mjs";

const ARCHITECTURES = ["sm_80", "sm_90", "sm_120"];
const sources = path.join(root, "cuda", "kernels");

await main(import.meta.url, async (argv) => {
  const toolkit = await cudaToolkit();
  say(`nvcc ${toolkit.version} (${toolkit.origin})`);
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "cllm-nvcc-"));
  const kernels = [];
  try {
    for (const architecture of ARCHITECTURES) {
      for (const name of fs.readdirSync(sources).filter((file) => file.endsWith(".cu"))) {
        kernels.push(...compile(toolkit, architecture, name, directory));
      }
    }
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
  }
  console.log(`${"architecture".padEnd(14)}${"kernel".padEnd(24)}registers  shared  stack  spilled`);
  for (const k of kernels) {
    const numbers = [
      String(k.registers).padStart(9),
      String(k.sharedBytes).padStart(8),
      String(k.stackBytes).padStart(7),
    ];
    console.log(
      `${k.architecture.padEnd(14)}${k.kernel.padEnd(24)}${numbers.join("")}${String(k.spillBytes).padStart(9)}`,
    );
  }
  const spilled = kernels.filter((kernel) => kernel.spillBytes > 0);
  if (spilled.length > 0) throw new Failure(`Registers spill in ${spilled.map((k) => k.kernel).join(", ")}`);
  if (!argv.includes("--write")) return;
  const report = { name: "kernels-ptxas", nvcc: toolkit.version, note: "compiled, not run on a GPU", kernels };
  fs.writeFileSync(path.join(root, "bench", "results", "kernels-ptxas.json"), `${JSON.stringify(report, null, 1)}\n`);
});

function compile(toolkit, architecture, name, directory) {
  const flags = ["-std=c++20", "-O3", "-Xptxas", "-v,-warn-spills", "-Werror", "all-warnings", "-Xcompiler", "-Wall"];
  const includes = ["-I", path.join(root, "native"), "-I", root];
  const args = [`-arch=${architecture}`, ...flags, ...includes, "-c", path.join(sources, name), "-o"];
  const child = spawnSync(toolkit.nvcc, [...args, path.join(directory, "object.o")], { encoding: "utf8" });
  const output = `${child.stdout}${child.stderr}`;
  if (child.status !== 0) throw new Failure(`cuda/kernels/${name} does not compile for ${architecture}:\n${output}`);
  // ptxas says "Compiling entry function '_ZN...'", then "N bytes stack frame, N bytes spill stores, ...", then "Used N
  // registers ..."
  return output
    .split(/Compiling entry function '/)
    .slice(1)
    .map((text) => {
      const number = (pattern, otherwise) => {
        const found = pattern.exec(text)?.[1] ?? otherwise;
        if (found === undefined)
          throw new Failure(`Expected ${pattern} in what ptxas says of cuda/kernels/${name}:\n${output}`);
        return Number(found);
      };
      const mangled = text.slice(0, text.indexOf("'"));
      return {
        architecture,
        kernel: /([a-z_]+_kernel)/.exec(mangled)?.[1] ?? mangled,
        registers: number(/Used (\d+) registers/),
        sharedBytes: number(/(\d+) bytes smem/, 0), // ptxas does not mention 0 bytes
        stackBytes: number(/(\d+) bytes stack frame/),
        spillBytes: number(/(\d+) bytes spill stores/),
      };
    });
}

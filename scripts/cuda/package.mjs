// Makes the platform package from the CUDA binary that `npm run build:cuda` built.
//   npm run package:cuda          writes build/packages/linux-x64-cuda and the tarball that `npm pack` makes of it
// node-cllm does not depend on this package, so that only those who ask for it install it.
import fs from "node:fs";
import path from "node:path";
import { cudaAddon } from "../build.mjs";
import { Failure, main, npm, output, publish, root, run, say } from "../common.mjs";

const folder = `${process.platform}-${process.arch}-cuda`;
const directory = path.join(root, "build", "packages", folder);

/** Writes the package's folder and returns its path. */
export async function cudaPackage() {
  if (!fs.existsSync(cudaAddon)) throw new Failure("There is no CUDA binary yet: `npm run build:cuda` builds it");
  const about = JSON.parse(fs.readFileSync(path.join(path.dirname(cudaAddon), "cllm.json"), "utf8"));
  if (about.level === "native") {
    throw new Failure("This CUDA binary is for this machine's CPU alone: build it without --level native");
  }
  const library = JSON.parse(fs.readFileSync(path.join(root, "package.json"), "utf8"));
  const name = `@node-cllm/${folder}`;
  fs.rmSync(directory, { recursive: true, force: true });
  publish(cudaAddon, path.join(directory, "cllm.node"));
  if (output("strip", ["--strip-unneeded", path.join(directory, "cllm.node")]) === null) {
    say("Note: no `strip` here, the binary keeps its symbols");
  }
  const write = (file, text) => fs.writeFileSync(path.join(directory, file), text);
  write("cllm.json", `${JSON.stringify(about)}\n`);
  write("README.md", readme(name, library.version, about));
  write("package.json", `${JSON.stringify(manifest(name, library), null, 2)}\n`);
  for (const file of ["LICENSE", "THIRD_PARTY_LICENSES"]) write(file, fs.readFileSync(path.join(root, file)));
  fs.appendFileSync(path.join(directory, "THIRD_PARTY_LICENSES"), NVIDIA);
  return directory;
}

function manifest(name, { version, license, engines }) {
  return {
    name,
    version,
    description: "CUDA binary of node-cllm for Linux on x64",
    license,
    os: [process.platform],
    cpu: [process.arch],
    libc: ["glibc"],
    engines,
    files: ["cllm.node", "cllm.json", "THIRD_PARTY_LICENSES"],
    // There is no "main", because node-cllm finds and tries the binary by itself.
    exports: { "./package.json": "./package.json" },
  };
}

function readme(name, version, { cudaArchitectures }) {
  return `# ${name}

The CUDA binary of node-cllm ${version}, for NVIDIA GPUs with the architectures
${cudaArchitectures.replaceAll(";", ", ")} (compute capability times ten), on Linux with glibc.

\`\`\`sh
npm install ./node-cllm-${version}.tgz ./${tarball(name, version)}     # \`npm pack\` and \`npm run package:cuda\` make them
\`\`\`

node-cllm finds the binary, tries it in a process of its own, and runs the CPU where it does not work; \`cllm inspect\` and
\`binaryInfo().cuda\` say why. Both packages must have the same version.

It also needs an NVIDIA driver for CUDA 13 (580 or newer) and **cuBLAS 13** (libcublas.so.13 and libcublasLt.so.13),
which this package does not contain: take it from a CUDA toolkit, your distribution, or NVIDIA's wheel
(\`pip install "nvidia-cublas==13.*"\`; then name its folder in CLLM_CUDA_LIBRARIES).

Nothing in this version was run on a GPU before it was packed.
`;
}

/** The name that `npm pack` gives. */
const tarball = (name, version) => `${name.slice(1).replace("/", "-")}-${version}.tgz`;

const NVIDIA = `
================================================================================================================
CUDA runtime (libcudart_static), in the CUDA binary only
================================================================================================================

This binary contains the static CUDA runtime library, redistributed under the terms of the "NVIDIA Software License
Agreement and CUDA Supplement to Software License Agreement" (https://docs.nvidia.com/cuda/eula/), Attachment A. cuBLAS
and the driver are not contained; they are loaded from the user's own installation.
`;

await main(import.meta.url, async () => {
  const folder = await cudaPackage();
  const [command, args, options] = npm("pack", "--pack-destination", path.dirname(folder), "--loglevel=error");
  await run(command, args, { ...options, cwd: folder });
  say(
    `Written: ${path.relative(root, folder)}, ${(fs.statSync(path.join(folder, "cllm.node")).size / 1e6).toFixed(1)} MB`,
  );
});

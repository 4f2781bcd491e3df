// Builds the portable binaries of this platform, one per instruction-set level, for `npm pack`.
//   npm run prebuilds [-- LEVEL...] [-- --if-needed]
// prebuilds/<platform>-<arch>/node.napi.node has the lowest level; node-gyp-build finds it. The AVX-512 binary lies in a
// folder whose three-part name node-gyp-build ignores and lib/binary/binding.ts knows.
import fs from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { Failure, install, locked, main, npm, publish, root, run, say, work } from "./common.mjs";
import { preflight } from "./preflight.mjs";

const folder = `${process.platform}-${process.arch}`;
const levelFolders =
  process.arch === "x64" ? { "x86-64-v3": folder, "x86-64-avx512": `${folder}-avx512` } : { generic: folder };
const fileOf = (level) => path.join(root, "prebuilds", levelFolders[level], "node.napi.node");

export async function prebuilds({ levels = Object.keys(levelFolders), ifNeeded = false } = {}) {
  for (const level of levels) {
    if (!levelFolders[level]) {
      throw new Failure(`Expected a level of ${Object.keys(levelFolders).join(", ")} but received ${level}`);
    }
  }
  const wanted = levels.filter((level) => !ifNeeded || stale(fileOf(level)));
  if (wanted.length === 0) return;
  preflight({ gyp: true });
  await install();
  await locked(path.join(work, "prebuilds.lock"), async () => {
    for (const level of wanted) await prebuild(level);
  });
}

async function prebuild(level) {
  say(`Prebuilding ${level}`);
  const out = path.join(work, "prebuilt", level);
  fs.rmSync(out, { recursive: true, force: true }); // prebuildify never empties it
  // node-gyp deletes build/, and a binary in it would be loaded before any prebuild, so the local build is moved aside.
  const build = path.join(root, "build");
  const keptBuild = path.join(work, "kept-build");
  fs.rmSync(keptBuild, { recursive: true, force: true });
  if (["Release", "Release-cuda"].some((name) => fs.existsSync(path.join(build, name, "cllm.node")))) {
    fs.renameSync(build, keptBuild);
  }
  // npm runs prebuildify, because that expects node-gyp on PATH. The empty nodedir saves the download of Node's headers.
  const env = { ...process.env, CLLM_CPU_LEVEL: level };
  Object.assign(env, { npm_config_nodedir: path.join(root, "gyp"), npm_config_loglevel: "error" });
  const args = ["--napi", "--strip", "--name", "node.napi", "--out", path.relative(root, out)];
  const [command, npmArgs, options] = npm("exec", "--", "prebuildify", ...args);
  try {
    await run(command, npmArgs, { ...options, env, stdio: ["ignore", 2, 2] });
    const built = path.join(out, "prebuilds", folder, "node.napi.node");
    publish(built, fileOf(level));
    say(`${path.relative(root, fileOf(level))}: ${(fs.statSync(built).size / 1e6).toFixed(1)} MB`);
  } finally {
    fs.rmSync(build, { recursive: true, force: true });
    if (fs.existsSync(keptBuild)) fs.renameSync(keptBuild, build);
    fs.rmSync(out, { recursive: true, force: true });
  }
}

/** Whether the file is missing, or older than a source of ours. */
function stale(file) {
  if (!fs.existsSync(file)) return true;
  const built = fs.statSync(file).mtimeMs;
  const newer = (source) => {
    const stat = fs.statSync(source);
    return stat.isDirectory()
      ? fs.readdirSync(source).some((name) => newer(path.join(source, name)))
      : stat.mtimeMs > built;
  };
  const sources = ["CMakeLists.txt", "native", "scripts/llama-source.mjs"].map((name) => path.join(root, name));
  return sources.some(newer);
}

await main(import.meta.url, async (argv) => {
  const { values, positionals } = parseArgs({
    args: argv,
    options: { "if-needed": { type: "boolean" } },
    allowPositionals: true,
  });
  await prebuilds({
    ...(positionals.length > 0 ? { levels: positionals } : {}),
    ifNeeded: values["if-needed"] ?? false,
  });
});

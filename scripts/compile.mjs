// Compiles TypeScript: lib -> dist, test -> dist-test. It is never incremental, because all of it takes a second or two.
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { main, root, run } from "./common.mjs";

const require = createRequire(path.join(root, "package.json"));

export async function compile() {
  const start = Date.now();
  const tsc = path.join(path.dirname(require.resolve("typescript/package.json")), "bin", "tsc");
  const tests = fs.existsSync(path.join(root, "test", "tsconfig.json")); // the npm package has no tests
  fs.mkdirSync(path.join(root, "dist"), { recursive: true });
  // tsc copies no .d.ts file, but dist/*.d.ts refer to this one.
  fs.copyFileSync(path.join(root, "lib", "addon.d.ts"), path.join(root, "dist", "addon.d.ts"));
  if (tests) {
    fs.mkdirSync(path.join(root, "dist-test"), { recursive: true });
    const link = path.join(root, "dist-test", "lib");
    if (!fs.existsSync(link)) fs.symlinkSync(path.join(root, "dist"), link, "junction"); // a junction needs no privilege on Windows
  }
  await run(process.execPath, [tsc, "--build", "--force", ...(tests ? ["test"] : [])], { stdio: ["ignore", 2, 2] });
  const cli = path.join(root, "dist", "cli", "main.js");
  if (fs.existsSync(cli)) fs.chmodSync(cli, 0o755);
  prune(path.join(root, "dist"), start);
  if (tests) prune(path.join(root, "dist-test"), start);
}

/** Deletes files that this compile did not write, which are the output of sources that are gone. */
function prune(directory, start) {
  for (const entry of fs.readdirSync(directory, { withFileTypes: true })) {
    const file = path.join(directory, entry.name);
    if (entry.isDirectory()) prune(file, start);
    else if (entry.isFile() && fs.statSync(file).mtimeMs < start - 2000) fs.rmSync(file);
  }
}

await main(import.meta.url, compile);

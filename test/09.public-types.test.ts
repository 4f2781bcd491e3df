import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";

const root = path.join(__dirname, "..", "..");
const lib = path.join(root, "lib");

/** Names that a module exports by lists or as functions, types marked as such. */
function exportedNames(source: string): string[] {
  const names: string[] = [];
  for (const [, type, list] of source.matchAll(/^export (type )?\{([^}]*)\}/gm)) {
    for (const entry of (list as string).split(",").map((text) => text.trim())) {
      if (entry !== "") names.push(`${type ?? ""}${entry}`);
    }
  }
  for (const [, name] of source.matchAll(/^export (?:async )?function (\w+)/gm)) names.push(name as string);
  return names.sort();
}

/** The code of every `@example`, with the file and line where it begins. */
function examples(): { where: string; code: string }[] {
  const files = (readdirSync(lib, { recursive: true }) as string[]).filter((file) => file.endsWith(".ts")).sort();
  return files.flatMap((file) => {
    const source = readFileSync(path.join(lib, file), "utf8");
    return [...source.matchAll(/^ *\* @example\n((?: *\*(?: .*)?\n)+)/gm)].map((match) => ({
      where: `lib/${file}:${source.slice(0, match.index).split("\n").length}`,
      code: (match[1] as string).replace(/^ *\* ?/gm, ""),
    }));
  });
}

describe("public types", () => {
  it("ES modules export the names and types that CommonJS does", () => {
    const [commonjs, esm] = ["index.ts", "esm.mts"].map((file) =>
      exportedNames(readFileSync(path.join(lib, file), "utf8")),
    );
    assert.ok(commonjs !== undefined && commonjs.length > 40);
    assert.deepEqual(esm, commonjs);
  });

  it("every example in a comment compiles", function () {
    this.timeout(60_000);
    const found = examples();
    assert.ok(found.length >= 10, `${found.length} examples`);
    const names = exportedNames(readFileSync(path.join(lib, "index.ts"), "utf8")).filter((name) => !name.includes(" "));
    const dist = JSON.stringify(path.join(root, "dist")).slice(1, -1);
    const text = [
      `import { ${names.join(", ")} } from "${dist}/index.js";`,
      `import { readOptions } from "${dist}/options.js";`,
      `import { MAX_LANES } from "${dist}/limits.js";`,
      "declare const model: Model, decoder: Decoder, sequence: Sequence, options: unknown;",
      "declare const logits: Float32Array, block: Int32Array, vocab: number, n: number;",
      ...found.map(({ where, code }, i) => `// ${where}\nexport const example${i} = async () => {\n${code}};`),
    ].join("\n");
    const folder = mkdtempSync(path.join(os.tmpdir(), "cllm-examples-"));
    try {
      const file = path.join(folder, "examples.ts");
      writeFileSync(file, text);
      const tsc = path.join(root, "node_modules", "typescript", "bin", "tsc");
      const options =
        "--ignoreConfig --noEmit --strict --skipLibCheck --target es2022 --module node16 --lib es2023,esnext.disposable";
      const types = ["--types", "node", "--typeRoots", path.join(root, "node_modules", "@types")];
      try {
        execFileSync(process.execPath, [tsc, ...options.split(" "), ...types, file], { encoding: "utf8" });
      } catch (error) {
        assert.fail(`${(error as { stdout: string }).stdout}\n${text}`);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { writeFixtures } from "./fixtures/gguf.js";

const root = path.join(__dirname, "..", "..");

// Tests the package that a consumer gets: the tarball of `npm pack`, installed where no compiler can be found.
describe("package", function () {
  this.timeout(30 * 60_000); // a missing prebuild is built, sometimes from nothing

  let folder: string;
  let consumer: string;
  let listed: string[];

  before(function () {
    if (process.platform === "win32") return this.skip(); // needs a POSIX shell
    const missing = !existsSync(path.join(root, "prebuilds"));
    if (missing && process.env.CLLM_TEST_QUICK) {
      this.test?.parent?.eachTest((test) => {
        test.title += " (needs `npm run prebuilds`; CLLM_TEST_QUICK is set)";
      });
      return this.skip();
    }
    // node-gyp-build takes the binary of the lowest level. It must be up to date, or the tests would run old code.
    const level = process.arch === "x64" ? "x86-64-v3" : "generic";
    run(process.execPath, [path.join(root, "scripts", "prebuilds.mjs"), level, "--if-needed"], root, process.env);

    folder = realpathSync(mkdtempSync(path.join(os.tmpdir(), "cllm-package-")));
    consumer = path.join(folder, "consumer");
    mkdirSync(consumer);
    const [pack] = JSON.parse(
      npm(["pack", "--ignore-scripts", "--json", "--pack-destination", folder], root, process.env),
    );
    listed = pack.files.map((file: { path: string }) => file.path);
    writeFileSync(path.join(consumer, "package.json"), '{"name":"consumer","version":"1.0.0"}');
    npm(["install", "--no-audit", "--no-fund", "--prefer-offline", path.join(folder, pack.filename)], consumer, bare());
  });

  after(() => {
    if (folder) rmSync(folder, { recursive: true, force: true });
  });

  it("contains the prebuilds, the compiled library and what a source build needs", () => {
    const needed = [
      `prebuilds/${process.platform}-${process.arch}/node.napi.node`,
      "dist/index.js",
      "dist/index.d.ts",
      "dist/esm.mjs",
      "dist/esm.d.mts",
      "dist/addon.d.ts",
      "dist/cli/main.js",
      "binding.gyp",
      "CMakeLists.txt",
      "gyp/include/node/config.gypi",
      "native/addon/addon.cpp",
      "scripts/build.mjs",
      "LICENSE",
      "THIRD_PARTY_LICENSES",
    ];
    for (const file of needed) assert.ok(listed.includes(file), file);
    const strange = listed.filter((file) => /^(test|dist-test|build|\.cmake|\.ci|node_modules|lib)\//.test(file));
    assert.deepEqual(strange, []);
  });

  it("was installed without a build", () => {
    const installed = path.join(consumer, "node_modules", "node-cllm");
    assert.ok(!existsSync(path.join(installed, "build")));
    assert.ok(!existsSync(path.join(installed, ".cmake")));
  });

  const body = `
    const info = binaryInfo();
    if (!/prebuilds/.test(info.path)) throw new Error("runs " + info.path);
    (async () => {
      const model = await Model.load(process.argv[2]);
      const decoder = await model.createDecoder({ contextSize: 128, blockSize: 4, threads: 1 });
      const { tokens } = await decoder.generate([1, 2, 3], { maxTokens: 8 });
      if (tokens.length === 0) throw new Error("no tokens");
      await decoder.dispose();
      await model.dispose();
      console.log("ran", info.cpuLevel);
    })();`;

  for (const [kind, file, head] of [
    ["CommonJS", "use.cjs", 'const { Model, binaryInfo, CllmError } = require("node-cllm");'],
    ["ESM", "use.mjs", 'import { Model, binaryInfo, CllmError } from "node-cllm";'],
  ] as const) {
    it(`loads a model and decodes from ${kind}`, () => {
      writeFileSync(path.join(consumer, file), head + body);
      const output = run(process.execPath, [file, writeFixtures().llama], consumer, bare());
      assert.match(output, /^ran (x86-64-v3|x86-64-avx512|generic)$/m);
    });
  }

  it("is one class from CommonJS and ESM", () => {
    const script = `import { createRequire } from "node:module"; import { CllmError } from "node-cllm";
      console.log(createRequire(import.meta.url)("node-cllm").CllmError === CllmError);`;
    writeFileSync(path.join(consumer, "same.mjs"), script);
    assert.equal(run(process.execPath, ["same.mjs"], consumer, bare()), "true\n");
  });

  it("has a command", () => {
    const cllm = path.join(consumer, "node_modules", ".bin", "cllm");
    assert.match(run(cllm, ["--version"], consumer, bare()), /^\d+\.\d+\.\d+/);
  });

  it("has types for both", () => {
    const text = `import { Model, binaryInfo, type BinaryInfo } from "node-cllm";
      export const info: BinaryInfo = binaryInfo();
      export const model: Promise<Model> = Model.load("x.gguf", { mmap: true });
      // @ts-expect-error: no such option
      Model.load("x.gguf", { nmap: true });`;
    writeFileSync(path.join(consumer, "types.cts"), text);
    writeFileSync(path.join(consumer, "types.mts"), text);
    cpSync(path.join(root, "node_modules", "@types", "node"), path.join(consumer, "node_modules", "@types", "node"), {
      recursive: true,
    });
    const tsc = path.join(root, "node_modules", "typescript", "bin", "tsc");
    const options = [
      "--noEmit",
      "--strict",
      "--module",
      "node16",
      "--target",
      "es2022",
      "--lib",
      "es2023,esnext.disposable",
    ];
    // The types of Node need those of undici, which the consumer lacks; using our own declarations checks them.
    run(
      process.execPath,
      [tsc, ...options, "--skipLibCheck", "--types", "node", "types.cts", "types.mts"],
      consumer,
      bare(),
    );
  });

  /** A PATH with Node and a shell, and neither a compiler nor cmake nor git. */
  function bare(): NodeJS.ProcessEnv {
    const bin = path.join(folder, "bin");
    if (!existsSync(bin)) {
      mkdirSync(bin);
      symlinkSync(process.execPath, path.join(bin, "node"));
      symlinkSync("/bin/sh", path.join(bin, "sh"));
    }
    const kept = Object.entries(process.env).filter(
      ([name]) => !/^(npm_(?!config_(cache|registry|userconfig|globalconfig))|CLLM_|CC$|CXX$)/i.test(name),
    );
    return { ...Object.fromEntries(kept), PATH: bin };
  }
});

function npm(args: string[], cwd: string, env: NodeJS.ProcessEnv): string {
  const beside = path.join(
    path.dirname(realpathSync(process.execPath)),
    "..",
    "lib",
    "node_modules",
    "npm",
    "bin",
    "npm-cli.js",
  );
  const cli = process.env.npm_execpath ?? (existsSync(beside) ? beside : undefined);
  return cli
    ? run(process.execPath, [cli, ...args], cwd, env)
    : run("npm", args, cwd, { ...env, PATH: process.env.PATH });
}

function run(command: string, args: string[], cwd: string, env: NodeJS.ProcessEnv): string {
  return execFileSync(command, args, {
    cwd,
    env,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
    maxBuffer: 2 ** 26,
  });
}

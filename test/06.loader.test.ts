import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { type AvailableBinaries, binaryInfo, chooseBinary, findBinaries } from "../lib/binary/binding.js";
import { type CpuFeatures, cpuFeatures, missingFeatures, parseCpuinfo, parseSysctl } from "../lib/binary/cpu.js";
import { explainLoadFailure } from "../lib/binary/load-failure.js";
import { unpackedPath } from "../lib/binary/package-folder.js";
import { CllmError } from "../lib/errors.js";
import { writeFixtures } from "./fixtures/gguf.js";

const V3 = "fpu ssse3 sse4_1 sse4_2 popcnt movbe abm bmi1 bmi2 avx avx2 fma f16c";
const AVX512 = `${V3} avx512f avx512cd avx512bw avx512dq avx512vl avx512vbmi avx512_vnni avx512_bf16`;
const cpu = (flags: string | null, arch = "x64"): CpuFeatures => ({
  arch,
  flags: flags === null ? null : new Set(flags.split(" ")),
});

const both = { "x86-64-v3": "/p/v3.node", "x86-64-avx512": "/p/avx512.node" };
const available = (change: Partial<AvailableBinaries> = {}): AvailableBinaries => ({
  local: null,
  prebuilt: both,
  override: undefined,
  searched: ["/p/build/Release/cllm.node"],
  ...change,
});
const local = (cpuFlags: string[] = []) => ({ path: "/p/build/Release/cllm.node", cpuFlags });

function fails(code: string, pattern: RegExp, body: () => unknown): void {
  assert.throws(body, (error) => {
    assert.ok(error instanceof CllmError);
    assert.equal(error.code, code);
    assert.match(error.message, pattern);
    return true;
  });
}

describe("loader: which binary", () => {
  it("takes the AVX-512 prebuild where the CPU has all of it", () => {
    const chosen = chooseBinary(cpu(AVX512), available());
    assert.equal(chosen.path, "/p/avx512.node");
    assert.match(chosen.reason, /prebuilt for x86-64-avx512/);
  });

  it("takes x86-64-v3 where one AVX-512 feature is missing, and names it", () => {
    const chosen = chooseBinary(cpu(AVX512.replace(" avx512_bf16", "")), available());
    assert.equal(chosen.path, "/p/v3.node");
    assert.match(chosen.reason, /lacks, for x86-64-avx512: avx512_bf16$/);
  });

  it("takes x86-64-v3 where there is no AVX-512 prebuild", () => {
    assert.equal(chooseBinary(cpu(AVX512), available({ prebuilt: { "x86-64-v3": "/p/v3.node" } })).path, "/p/v3.node");
  });

  it("refuses a CPU below x86-64-v3, naming what it lacks and the way out", () => {
    const old = cpu(V3.replace(" avx2", "").replace(" fma", ""));
    fails("CLLM_UNSUPPORTED_CPU", /lacks avx2 fma: build it from source with `npm rebuild node-cllm/, () =>
      chooseBinary(old, available()),
    );
  });

  it("does not guess AVX-512 where the system does not tell the features", () => {
    assert.equal(chooseBinary(cpu(null), available()).path, "/p/v3.node");
  });

  it("prefers a local build to any prebuild", () => {
    assert.equal(chooseBinary(cpu(AVX512), available({ local: local() })).path, local().path);
    assert.equal(chooseBinary(cpu("fpu"), available({ local: local() })).path, local().path);
  });

  it("passes over a local build made for a better CPU than this one", () => {
    const moved = local(["avx2", "avx512f"]);
    assert.equal(chooseBinary(cpu(V3), available({ local: moved })).path, "/p/v3.node");
    fails("CLLM_UNSUPPORTED_CPU", /built for another CPU, this one lacks avx512f/, () =>
      chooseBinary(cpu(V3), available({ local: moved, prebuilt: {} })),
    );
  });

  it("obeys a CLLM_BINARY that is a level, native or a path", () => {
    const at = (override: string) => chooseBinary(cpu(AVX512), available({ override, local: local() })).path;
    assert.equal(at("x86-64-v3"), "/p/v3.node");
    assert.equal(at("x86-64-avx512"), "/p/avx512.node");
    assert.equal(at("native"), local().path);
    assert.equal(at("/elsewhere/cllm.node"), path.resolve("/elsewhere/cllm.node"));
  });

  it("refuses a CLLM_BINARY that the CPU cannot run or that is not there", () => {
    const override = "x86-64-avx512";
    fails("CLLM_UNSUPPORTED_CPU", /CLLM_BINARY is x86-64-avx512, but this CPU lacks avx512f/, () =>
      chooseBinary(cpu(V3), available({ override })),
    );
    fails("CLLM_BINDING_NOT_FOUND", /no prebuilt binary of this level/, () =>
      chooseBinary(cpu(AVX512), available({ override, prebuilt: {} })),
    );
    fails("CLLM_BINDING_NOT_FOUND", /no local build/, () => chooseBinary(cpu(V3), available({ override: "native" })));
  });

  it("lists the files that it looked for when there is none", () => {
    fails(
      "CLLM_BINDING_NOT_FOUND",
      /needs a C\+\+ compiler[\s\S]*Looked for:\n {2}\/p\/build\/Release\/cllm.node/,
      () => chooseBinary(cpu(AVX512), available({ prebuilt: {} })),
    );
  });

  it("takes the generic prebuild on another architecture", () => {
    assert.equal(chooseBinary(cpu(null, "arm64"), available({ prebuilt: { generic: "/p/g.node" } })).path, "/p/g.node");
  });

  it("looks beside an Electron archive instead of in it", () => {
    const { searched } = findBinaries(
      path.join("/app", "resources", "app.asar", "node_modules", "node-cllm"),
      undefined,
    );
    assert.ok(searched.length >= 2);
    for (const file of searched) assert.ok(file.includes(`app.asar.unpacked${path.sep}`), file);
  });

  it("looks beside an archive only for files that would lie inside the archive", () => {
    assert.equal(unpackedPath("/app/app.asar/node_modules/a/b.gguf"), "/app/app.asar.unpacked/node_modules/a/b.gguf");
    assert.equal(unpackedPath("C:\\app\\app.asar\\b.gguf"), "C:\\app\\app.asar.unpacked\\b.gguf");
    for (const path of ["/app/app.asar.unpacked/b.gguf", "/app/x.asarb/b.gguf", "/app/node_modules/b.gguf"]) {
      assert.equal(unpackedPath(path), path);
    }
  });

  it("loads the binary and the default model from beside an Electron archive", () => {
    const folder = mkdtempSync(path.join(os.tmpdir(), "cllm-asar-"));
    try {
      const [archive, unpacked] = ["app.asar", "app.asar.unpacked"].map((name) =>
        path.join(folder, name, "node_modules", "node-cllm"),
      ) as [string, string];
      cpSync(path.join(__dirname, "..", "..", "dist"), path.join(archive, "dist"), { recursive: true });
      mkdirSync(path.join(unpacked, "build", "Release"), { recursive: true });
      symlinkSync(binaryInfo().path, path.join(unpacked, "build", "Release", "cllm.node"));
      mkdirSync(path.join(unpacked, "models", "text-to-sql"), { recursive: true });
      cpSync(writeFixtures().llama, path.join(unpacked, "models", "text-to-sql", "text-to-sql.gguf"));
      const script = `const { binaryInfo, defaultModel, Model } = require(${JSON.stringify(path.join(archive, "dist"))});
        Model.load().then(async (model) => {
          console.log(JSON.stringify([defaultModel, binaryInfo().path, model.info.vocabSize]));
          await model.dispose();
        });`;
      const env = { ...process.env, CLLM_BACKEND: "cpu", CLLM_BINARY: "" };
      const output = execFileSync(process.execPath, ["-e", script], { env, encoding: "utf8" });
      const [model, binary, vocabSize] = JSON.parse(output);
      assert.ok(model.startsWith(unpacked) && binary.startsWith(unpacked), output);
      assert.equal(vocabSize, 275);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("reads for which CPU a local build was made", () => {
    const root = mkdtempSync(path.join(os.tmpdir(), "cllm-loader-"));
    try {
      const release = path.join(root, "build", "Release");
      mkdirSync(release, { recursive: true });
      writeFileSync(path.join(release, "cllm.node"), "");
      assert.deepEqual(findBinaries(root, undefined).local?.cpuFlags, []);
      writeFileSync(path.join(release, "cllm.json"), '{"level":"native","cpuFlags":["avx2"]}');
      assert.deepEqual(findBinaries(root, undefined).local?.cpuFlags, ["avx2"]);
    } finally {
      rmSync(root, { recursive: true });
    }
  });
});

describe("loader: CPU features", () => {
  it("reads /proc/cpuinfo", () => {
    const flags = parseCpuinfo(
      "processor\t: 0\nflags\t\t: fpu avx2 fma\nbugs\t\t: x\n\nprocessor\t: 1\nflags\t\t: fpu\n",
    );
    assert.deepEqual([...(flags ?? [])], ["fpu", "avx2", "fma"]);
    assert.equal(parseCpuinfo("Features\t: fp asimd\n"), null);
    assert.equal(parseCpuinfo(""), null);
  });

  it("reads sysctl's names", () => {
    const text =
      "machdep.cpu.features: FPU SSSE3 SSE4.1 SSE4.2 MOVBE POPCNT AVX1.0 FMA F16C\n" +
      "machdep.cpu.leaf7_features: BMI1 AVX2 BMI2\nmachdep.cpu.extfeatures: LZCNT\n";
    assert.deepEqual(missingFeatures("x86-64-v3", { arch: "x64", flags: parseSysctl(text) }), []);
    assert.equal(parseSysctl(""), null);
  });

  it("knows this machine", () => {
    const features = cpuFeatures();
    assert.equal(features.arch, process.arch);
    if (process.platform === "linux" && process.arch === "x64") assert.ok(features.flags?.has("fpu"));
  });
});

describe("loader: loading", () => {
  it("tells which binary runs and why", () => {
    const info = binaryInfo();
    assert.ok(info.path.endsWith(".node"));
    assert.ok(info.reason.length > 0);
    assert.ok(info.compiler.length > 0);
  });

  it("explains the messages of dlopen", () => {
    const cases: [string, RegExp][] = [
      ["/lib/libc.so.6: version `GLIBC_2.38' not found (required by /p/x.node)", /older .*GLIBC_2\.38/],
      ["libgomp.so.1: cannot open shared object file: No such file or directory", /library libgomp\.so\.1 is missing/],
      ["/p/x.node: invalid ELF header", /damaged or was made for another platform/],
      ["/p/x.node: file too short", /damaged/],
      ["/p/x.node: cannot open shared object file: No such file or directory", /does not exist/],
      ["Error loading shared library ld-linux-x86-64.so.2: No such file", /another C library/],
    ];
    for (const [message, expected] of cases) assert.match(explainLoadFailure(message) ?? "", expected);
  });

  it("turns a file that does not load into CLLM_BINDING_NOT_FOUND with its cause", () => {
    const folder = mkdtempSync(path.join(os.tmpdir(), "cllm-loader-"));
    try {
      const broken = path.join(folder, "broken.node");
      writeFileSync(broken, "not a library");
      const script = `try { require(${JSON.stringify(require.resolve("../lib/binary/binding.js"))}).addon() }
        catch (error) { console.log(JSON.stringify([error.code, error.message, error.cause?.message])) }`;
      const env = { ...process.env, CLLM_BINARY: broken };
      const [code, message, cause] = JSON.parse(
        execFileSync(process.execPath, ["-e", script], { env, encoding: "utf8" }),
      );
      assert.equal(code, "CLLM_BINDING_NOT_FOUND");
      assert.match(message, /broken\.node \(CLLM_BINARY is .*\), the file is damaged/);
      assert.ok(cause.length > 0);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("refuses a module that is no addon, and settings that it does not know", () => {
    const script = `try { require(${JSON.stringify(require.resolve("../lib/binary/binding.js"))}).addon(); console.log("null") }
      catch (error) { console.log(JSON.stringify([error.code ?? error.name, error.message])) }`;
    const outcome = (change: NodeJS.ProcessEnv): [string, string] | null =>
      JSON.parse(
        execFileSync(process.execPath, ["-e", script], { env: { ...process.env, ...change }, encoding: "utf8" }),
      );
    const [code, message] = outcome({ CLLM_BINARY: require.resolve("../lib/errors.js") }) ?? [];
    assert.equal(code, "CLLM_BINDING_NOT_FOUND");
    assert.match(message ?? "", /errors\.js \(CLLM_BINARY is .*\) is no addon of node-cllm/);
    for (const [name, wrong] of Object.entries({ CLLM_PRODUCTS: "AVX2", CLLM_AMX: "no", CLLM_LOG: "verbose" })) {
      const [error, text] = outcome({ [name]: wrong }) ?? [];
      assert.equal(error, "RangeError");
      assert.match(text ?? "", new RegExp(`^Expected one of .* for ${name} but received "${wrong}"`));
    }
    assert.equal(outcome({ CLLM_PRODUCTS: "off", CLLM_AMX: "off", CLLM_LOG: "error" }), null);
  });
});

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { binaryInfo } from "../lib/binary/binding.js";
import { type CudaWorld, chooseCuda, cudaPackage } from "../lib/binary/cuda.js";
import { cublasFolders } from "../lib/binary/cuda-load.js";
import { explainNoDevice, type TrialResult, tryCuda } from "../lib/binary/cuda-trial.js";
import { Model } from "../lib/index.js";
import { writeFixtures } from "./fixtures/gguf.js";

const root = path.join(__dirname, "..", "..");
const V3 = "ssse3 sse4_1 sse4_2 popcnt movbe abm bmi1 bmi2 avx avx2 fma f16c".split(" ");
const H100 = {
  name: "CUDA0",
  description: "NVIDIA H100",
  kind: "gpu",
  freeMemory: 2 ** 36,
  totalMemory: 2 ** 36,
} as const;

let folder: string;
before(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), "cllm-backend-"));
});
after(() => rmSync(folder, { recursive: true, force: true }));

function write(name: string, text: string): string {
  const file = path.join(folder, name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, text);
  return file;
}

describe("backend: which CUDA binary", () => {
  const worked: TrialResult = { devices: [H100], problem: null };
  const world = (change: Partial<CudaWorld> = {}): CudaWorld => ({
    env: {},
    platform: "linux",
    arch: "x64",
    cpu: { arch: "x64", flags: new Set(V3) },
    packageRoot: path.join(folder, "nothing"),
    version: "1.2.3",
    resolve: () => null,
    hasDevice: () => true,
    trial: () => worked,
    ...change,
  });
  /** Writes a platform package as npm would install it. */
  const installed = (version = "1.2.3", level = "x86-64-v3"): string => {
    write(`${version}-${level}/cllm.json`, JSON.stringify({ level, cpuFlags: [] }));
    return write(`${version}-${level}/package.json`, JSON.stringify({ version }));
  };

  it("takes the platform's package, found through the module system", () => {
    let asked = "";
    const manifest = installed();
    const resolve = (name: string) => {
      asked = name;
      return manifest;
    };
    const choice = chooseCuda(false, world({ resolve }));
    assert.equal(asked, "@node-cllm/linux-x64-cuda");
    assert.equal(choice.path, path.join(path.dirname(manifest), "cllm.node"));
    assert.match(
      choice.reason,
      /^from the package @node-cllm\/linux-x64-cuda \(.*\); it worked .* on NVIDIA H100 with 64/,
    );
  });

  it("takes CLLM_CUDA_BINARY, then a local build, before the package", () => {
    const packageRoot = path.join(folder, "local");
    const local = write("local/build/Release-cuda/cllm.node", "");
    const resolve = () => installed();
    assert.equal(chooseCuda(false, world({ packageRoot, resolve })).path, local);
    const env = { CLLM_CUDA_BINARY: "elsewhere.node" };
    assert.equal(chooseCuda(false, world({ packageRoot, resolve, env })).path, path.resolve("elsewhere.node"));
  });

  it("says how to install the package, and for which platforms there is none", () => {
    assert.match(
      chooseCuda(false, world()).reason,
      /^Not installed: .*`npm run package:cuda` makes the package @node-cllm\/linux-x64-cuda/,
    );
    const elsewhere = chooseCuda(false, world({ platform: "darwin", arch: "arm64" }));
    assert.match(elsewhere.reason, /^Not available: no CUDA binary is made for darwin on arm64/);
    assert.equal(cudaPackage("win32", "x64"), null);
  });

  it("refuses a package of another version", () => {
    const choice = chooseCuda(false, world({ resolve: () => installed("1.2.2") }));
    assert.equal(choice.path, null);
    assert.match(choice.reason, /is version 1\.2\.2, this is 1\.2\.3; both must have the same version/);
  });

  it("refuses a CPU that its host code does not run on", () => {
    const cpu = { arch: "x64", flags: new Set(V3.filter((flag) => flag !== "avx2")) };
    const choice = chooseCuda(false, world({ resolve: () => installed(), cpu }));
    assert.match(choice.reason, /^Not used: the CPU lacks avx2/);
  });

  it("tries nothing where the system has no GPU, unless it is told to", () => {
    let trials = 0;
    const trial = () => {
      trials++;
      return worked;
    };
    const nothing = world({ resolve: () => installed(), hasDevice: () => false, trial });
    assert.match(chooseCuda(false, nothing).reason, /^Not used: this system has no NVIDIA GPU/);
    assert.equal(trials, 0);
    assert.ok(chooseCuda(true, nothing).path);
    assert.ok(chooseCuda(false, { ...nothing, env: { CLLM_CUDA_BINARY: "x.node" } }).path);
    assert.equal(trials, 2);
  });

  it("reports why a trial failed, and starts no trial from within a trial", () => {
    const failed = world({ resolve: () => installed(), trial: () => ({ devices: null, problem: "it caught fire" }) });
    assert.match(chooseCuda(false, failed).reason, /failed its trial: it caught fire$/);
    assert.match(chooseCuda(true, world({ env: { CLLM_CUDA_TRIAL: "1" } })).reason, /is itself a trial/);
  });
});

describe("backend: the trial in another process", () => {
  const problem = (text: string, milliseconds?: number): string => {
    const script = write(`trial-${text.length}.js`, text);
    const result = tryCuda("/p/cllm.node", script, milliseconds);
    assert.equal(result.devices, null);
    return result.problem as string;
  };
  const answering = (answer: unknown, stderr = "") =>
    `process.stderr.write(${JSON.stringify(stderr)}); console.log(${JSON.stringify(JSON.stringify(answer))})`;

  it("names the GPUs that worked", () => {
    const script = write("worked.js", answering({ devices: [{ ...H100, kind: "cpu" }, H100] }));
    assert.deepEqual(tryCuda("/p/cllm.node", script), { devices: [H100], problem: null });
  });

  it("survives a crash, an abort, an exit and a hang", () => {
    if (process.platform !== "win32") {
      assert.match(problem("process.kill(process.pid, 'SIGSEGV')"), /^the process that tried it died of SIGSEGV/);
      const abort = "console.error('ggml: CUDA error'); process.abort()";
      assert.match(problem(abort), /^the process that tried it died of SIGABRT/);
    }
    assert.match(problem("console.error('why'); process.exit(3)"), /^the process .* exit code 3 \(why\)$/);
    assert.match(problem("console.log('no answer')"), /ended with exit code 0/);
    assert.match(problem("setInterval(() => {}, 1000)", 500), /^loading it had not ended after 0\.5 s$/);
  });

  it("takes a crash after the answer for a failure, because every program would end with it", () => {
    if (process.platform === "win32") return;
    const text = `${answering({ devices: [H100] })}; process.kill(process.pid, 'SIGSEGV')`;
    assert.match(problem(text), /died of SIGSEGV/);
  });

  it("names what is missing", () => {
    const cublas = "libcublas.so.13: cannot open shared object file: No such file or directory";
    assert.match(
      problem(answering({ error: cublas })),
      /^the library libcublas\.so\.13 is missing: .*CLLM_CUDA_LIBRARIES/,
    );
    const glibc = "/lib/libc.so.6: version `GLIBC_2.99' not found (required by /p/cllm.node)";
    assert.match(problem(answering({ error: glibc })), /^this system's C library is older/);
    const image = "CUDA0 could not compute: no kernel image is available for execution on the device";
    assert.match(problem(answering({ error: image })), /^it was built for other GPUs/);
    const cpu = [{ ...H100, name: "CPU", kind: "cpu" }];
    const driver =
      "ggml_cuda_init: failed to initialize CUDA: CUDA driver version is insufficient for CUDA runtime version";
    assert.match(problem(answering({ devices: cpu }, driver)), /^there is no NVIDIA driver, or one too old/);
    assert.match(explainNoDevice("x: no CUDA-capable device is detected"), /^the driver sees no GPU/);
    assert.match(explainNoDevice(""), /^it found no GPU$/);
  });

  it("does not hand the program's own node options to the process", () => {
    const script = write("options.js", answering({ devices: [H100] }));
    const before = process.env.NODE_OPTIONS;
    process.env.NODE_OPTIONS = "--require /does/not/exist.js";
    try {
      assert.equal(tryCuda("/p/cllm.node", script).problem, null);
    } finally {
      if (before === undefined) delete process.env.NODE_OPTIONS;
      else process.env.NODE_OPTIONS = before;
    }
  });
});

describe("backend: where cuBLAS is looked for", () => {
  it("CUDA's own variables, conda, and the wheels of a virtual environment", () => {
    const wheel = path.join("venv", "lib", "python3.12", "site-packages", "nvidia", "cu13", "lib");
    write(path.join(wheel, "libcublas.so.13"), "");
    const found = cublasFolders({ CUDA_HOME: "/opt/cuda-13", VIRTUAL_ENV: path.join(folder, "venv") });
    assert.ok(found.includes("/opt/cuda-13/lib64"));
    assert.ok(found.includes(path.join(folder, wheel)));
    assert.deepEqual(cublasFolders({}), []);
  });
});

describe("backend: choosing", () => {
  /** Runs a program in a process of its own, because a process loads one backend. */
  function program(
    env: NodeJS.ProcessEnv,
    body: string,
  ): { code?: string; message?: string; cuda?: string; backend?: string } {
    const script = `const cllm = require(${JSON.stringify(path.join(__dirname, "..", "lib", "index.js"))});
      const tell = (error) => console.log(JSON.stringify({ code: error.code, message: error.message }));
      const info = () => { const { backend, cuda } = cllm.binaryInfo(); console.log(JSON.stringify({ backend, cuda })); };
      (async () => { ${body} })().catch(tell);`;
    const clean = Object.fromEntries(
      Object.entries(process.env).filter(([name]) => !/^CLLM_(BACKEND|CUDA)/.test(name)),
    );
    const output = execFileSync(process.execPath, ["-e", script], { env: { ...clean, ...env }, encoding: "utf8" });
    return JSON.parse(output.trim().split("\n").at(-1) as string);
  }
  const model = JSON.stringify(writeFixtures().llama);

  it("auto runs the CPU where a CUDA binary fails its trial, and says why", () => {
    const broken = write("broken.node", "not a library");
    const { backend, cuda } = program({ CLLM_CUDA_BINARY: broken }, "info()");
    assert.equal(backend, "cpu");
    assert.match(cuda as string, /^Not used: CLLM_CUDA_BINARY names it .* failed its trial: the file is damaged/);
  });

  it("refuses a CPU binary in place of a CUDA binary", () => {
    const { backend, cuda } = program({ CLLM_CUDA_BINARY: binaryInfo().path }, "info()");
    assert.equal(backend, "cpu");
    assert.match(cuda as string, /it is a binary for the backend cpu$/);
  });

  it("cuda by name fails where it is not available", () => {
    const broken = write("broken.node", "not a library");
    const env = { CLLM_CUDA_BINARY: broken };
    const byVariable = program({ ...env, CLLM_BACKEND: "cuda" }, "info()");
    assert.equal(byVariable.code, "CLLM_BACKEND_UNAVAILABLE");
    assert.match(
      byVariable.message as string,
      /^Expected the backend cuda \(CLLM_BACKEND is cuda\) but not used: .*damaged/,
    );
    const byOption = program(env, `await cllm.Model.load(${model}, { backend: "cuda" })`);
    assert.equal(byOption.code, "CLLM_BACKEND_UNAVAILABLE");
    assert.match(byOption.message as string, /\(the option backend is cuda\)/);
  });

  it("cpu by name tries nothing", () => {
    assert.match(program({ CLLM_BACKEND: "cpu" }, "info()").cuda as string, /^Not used: CLLM_BACKEND is cpu$/);
    const byOption = `await (await cllm.Model.load(${model}, { backend: "cpu" })).dispose(); info()`;
    assert.match(program({ CLLM_BACKEND: "cuda" }, byOption).cuda as string, /^Not used: the option backend is cpu$/);
    const { cuda } = program({ CLLM_BINARY: binaryInfo().path }, "info()");
    assert.equal(cuda, "Not used: CLLM_BINARY names a binary");
  });

  it("cannot be changed once a backend runs", async () => {
    const after = `cllm.binaryInfo(); await cllm.Model.load(${model}, { backend: "cuda" })`;
    const { code, message } = program({ CLLM_BACKEND: "cpu" }, after);
    assert.equal(code, "CLLM_BACKEND_UNAVAILABLE");
    assert.match(message as string, /^Expected the backend cuda but this process runs cpu already/);
    const same = `cllm.binaryInfo(); for (const backend of ["cpu", "auto"])
      await (await cllm.Model.load(${model}, { backend })).dispose(); info()`;
    assert.equal(program({ CLLM_BACKEND: "cpu" }, same).backend, "cpu");
  });

  it("refuses other names", async () => {
    await assert.rejects(Model.load("x.gguf", { backend: "metal" as never }), {
      name: "RangeError",
      message: 'Expected one of auto, cpu, cuda for backend but received "metal" of type string',
    });
    const { message } = program({ CLLM_BACKEND: "metal" }, "info()");
    assert.equal(message, 'Expected one of auto, cpu, cuda for CLLM_BACKEND but received "metal" of type string');
  });

  it("lists the devices", () => {
    const { devices, cuda } = binaryInfo();
    assert.ok(devices.some(({ kind, totalMemory }) => kind === "cpu" && totalMemory > 0));
    assert.ok(cuda.length > 0);
  });

  // This tests the real binary where it was built. The answer depends on the machine, but there must be one.
  const real = path.join(root, "build", "Release-cuda", "cllm.node");
  const title = "tries the CUDA binary that was built here";
  if (!existsSync(real)) it(`${title} (needs \`npm run build:cuda\`)`);
  else
    it(title, function () {
      this.timeout(60_000);
      const { backend, cuda } = program({ CLLM_CUDA_BINARY: real }, "info()");
      if (backend === "cuda") assert.match(cuda as string, /it worked in a process of its own, on /);
      else
        assert.match(
          cuda as string,
          /failed its trial: (there is no NVIDIA driver|the driver sees no GPU|the library libcublas)/,
        );
    });
});

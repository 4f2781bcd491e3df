import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

const root = path.join(__dirname, "..", "..");
const native = path.join(root, "native");
const tests = path.join(root, "test", "native");
const compiler = "aarch64-linux-gnu-g++";
const emulator = "qemu-aarch64";
const flags = ["-std=c++20", "-O2", "-fno-trapping-math", "-fno-math-errno", "-ffp-contract=off", `-I${native}`];

function run(command: string, args: string[], cwd: string): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: "utf8" });
  assert.ok(!error && status === 0, `${command}: ${error?.message ?? ""}${stdout}${stderr}`);
  return stdout;
}

const isThere = (command: string) => spawnSync(command, ["--version"]).status === 0;

// On an emulated CPU only the results count. No ARM machine has timed these kernels.
describe("products for NEON, on an emulated CPU", () => {
  it("have the results of their definition, with dot products and with i8mm", function () {
    this.timeout(240_000);
    for (const tool of [compiler, emulator]) {
      if (isThere(tool)) continue;
      console.log(`      needs ${tool}`);
      this.skip();
    }
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "cllm-neon-"));
    try {
      const product = (name: string) => path.join(native, "products", `${name}.cpp`);
      const object = (name: string, architecture: string) =>
        run(compiler, [...flags, `-march=${architecture}`, "-c", product(name), "-o", `${name}.o`], folder);
      object("product_set_neon_dotprod", "armv8.2-a+dotprod");
      object("product_set_neon_i8mm", "armv8.2-a+dotprod+i8mm");
      const others = ["avx2", "avx512", "avx_vnni"].map((set) => product(`product_set_${set}`)); // which are empty here
      const sources = ["product_set", "cpu", "half_pack", "quantized_pack"].map(product);
      const units = ["products_main", "product_sets_test", "quantized_product_test", "half_product_test"];
      const programs = [...units, "attention_test", "avx_vnni_as_avx512"].map((name) =>
        path.join(tests, `${name}.cpp`),
      );
      const objects = ["product_set_neon_dotprod.o", "product_set_neon_i8mm.o"];
      run(compiler, [...flags, "-static", "-o", "products", ...programs, ...sources, ...others, ...objects], folder);
      assert.equal(run(emulator, ["products"], folder), "neon-i8mm\nneon-dotprod\n0 failures\n");
    } finally {
      fs.rmSync(folder, { recursive: true });
    }
  });
});

describe("products for several instruction sets in one binary", () => {
  // The linker takes any one of several equal functions, so one that was compiled for AVX-512 could run everywhere.
  it("share no function with each other", function () {
    if (!isThere("nm")) {
      console.log("      needs nm");
      this.skip();
    }
    const programs = process.env.CLLM_TEST_PROGRAMS;
    const tree = programs ? path.dirname(programs) : path.join(root, ".cmake", "native");
    const folder = path.join(tree, "CMakeFiles", "cllm-products.dir", "native", "products");
    if (!fs.existsSync(folder)) {
      console.log("      needs the objects of a build");
      this.skip();
    }
    const objects = fs.readdirSync(folder).filter((name) => /^(product_set_|bf16_product_a).*\.o$/.test(name));
    assert.ok(objects.length >= 5, objects.join());
    for (const name of objects) {
      const symbols = run("nm", ["-C", "--defined-only", name], folder).split("\n");
      const shared = symbols.filter((line) => / [WVu] /.test(line) && !line.includes("DW.ref."));
      assert.deepEqual(shared, [], name);
    }
  });
});

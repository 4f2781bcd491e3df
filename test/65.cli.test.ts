import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { DISTILL_DEFAULTS } from "../lib/limits.js";
import { cllm, type Ended } from "./fixtures/cli-child.js";
import { MODEL, PullWorld, serve } from "./pull-world.js";

function failedWith(result: Ended, code: number, stderr: RegExp): void {
  assert.equal(result.signal, null);
  assert.equal(result.code, code, result.stderr);
  assert.match(result.stderr, stderr);
  assert.doesNotMatch(result.stderr, /^\s+at /m, "a stack without --verbose");
}

describe("cli", function () {
  this.timeout(20_000);
  let directory: string;

  before(async () => {
    directory = await fs.mkdtemp(path.join(os.tmpdir(), "cllm-cli-"));
  });
  after(() => fs.rm(directory, { recursive: true, force: true }));

  describe("usage", () => {
    it("prints help and version on stdout with exit code 0", async () => {
      const help = await cllm(["--help"]);
      assert.equal(help.code, 0);
      for (const word of ["generate", "chat", "inspect", "pull", "quantize", "Exit codes"]) {
        assert.ok(help.stdout.includes(word), word);
      }
      for (const command of ["generate", "chat", "inspect", "pull", "quantize"]) {
        const { code, stdout } = await cllm([command, "--help"]);
        assert.equal(code, 0);
        assert.match(stdout, new RegExp(`^Usage: cllm ${command} `));
      }
      const version = await cllm(["--version"]);
      assert.equal(version.code, 0);
      assert.match(version.stdout, /^\d+\.\d+\.\d+\S*\n$/);
    });

    it("names the defaults of the library", async () => {
      const { stdout } = await cllm(["distill", "--help"]);
      for (const [name, value] of Object.entries(DISTILL_DEFAULTS)) {
        const option = `--${name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`;
        const text = stdout.slice(stdout.indexOf(`${option} `)).replace(/\s+/g, " ");
        assert.equal(/\(default ([^)]*)\)/.exec(text)?.[1], String(value), option);
      }
    });

    const mistakes: [string[], RegExp][] = [
      [[], /^Usage: cllm/],
      [["bogus"], /unknown command 'bogus'/],
      [["generate"], /^cllm: There is no prompt: standard input is empty/],
      [["generate", "m.gguf", "hi", "--bogus"], /unknown option '--bogus'/],
      [["generate", "m.gguf", "hi", "-n", "many"], /'many' is invalid. It must be a number/],
      [["generate", "m.gguf", "hi", "--raw", "--chat"], /^cllm: --raw and --chat exclude each other/],
      [["inspect", "m.gguf", "--json", "--template"], /^cllm: --json holds the template already/],
      [["pull", "nonsense"], /^cllm: Expected hf:owner\/repo.* for source but received "nonsense" of type string$/m],
      [["pull", "https://host/m.gguf", "--sha256", "12"], /^cllm: Expected 64 hexadecimal digits for sha256/],
      [["quantize", "a.gguf", "b.gguf"], /missing required argument 'type'/],
      [["trace", "m.gguf", "hi"], /^cllm: There is no output/],
      [["trace", "m.gguf", "hi", "--json", "--raw", "--chat"], /^cllm: --raw and --chat exclude each other/],
      [["trace", "m.gguf", "hi", "--json", "-b", "auto"], /'auto' is invalid. It must be a number/],
      [
        ["trace", "m.gguf", "hi", "--html", "/no/such/a.html"],
        /^cllm: --html names a file in a directory that does not/,
      ],
      [["eval", "m.gguf", "a.jsonl", "--plot", os.tmpdir()], /^cllm: --plot names a directory/],
      [
        ["eval", "m.gguf", "a.jsonl", "--limit", "0"],
        /^cllm: Expected a positive integer for limit but received 0 of type/,
      ],
    ];
    for (const [args, message] of mistakes) {
      it(`exits with 2 for: cllm ${args.join(" ")}`, async () => {
        const result = await cllm(args);
        failedWith(result, 2, message);
        assert.equal(result.stdout, "");
      });
    }
  });

  describe("pull", () => {
    const world = new PullWorld();
    const start = (...more: string[]): ChildProcess =>
      spawn(process.execPath, [cllm.path, "pull", `${world.base}/m.gguf`, "--cache-dir", world.cacheDir, ...more]);

    it("prints the path alone, and nothing on a stderr that is no terminal", async () => {
      const result = await cllm.ended(start());
      assert.deepEqual({ ...result, stdout: "" }, { code: 0, signal: null, stdout: "", stderr: "" });
      assert.match(result.stdout, /^[^\n]+m\.gguf\n$/);
      assert.deepEqual(await fs.readFile(result.stdout.trimEnd()), MODEL);
      const json = JSON.parse((await cllm.ended(start("--json"))).stdout);
      assert.deepEqual(json, { source: `${world.base}/m.gguf`, path: result.stdout.trimEnd() });
    });

    it("exits with 1 and one line for a file that is not there; --verbose adds code and stack", async () => {
      world.handler = (_request, response) => void response.writeHead(404).end();
      failedWith(await cllm.ended(start()), 1, /^cllm: Could not pull http:\S+: there is no \S+ \(404\)\.\n$/);
      assert.match((await cllm.ended(start("--verbose"))).stderr, /^cllm: \[CLLM_PULL_FAILED\] .*\n {4}at /);
    });

    it("exits with 130 at Ctrl-C, and leaves what the next pull resumes", async () => {
      const seen = new Promise<void>((resolve) => {
        world.handler = (request, response) => {
          serve(MODEL, { stall: 100_000 })(request, response);
          setTimeout(resolve, 200);
        };
      });
      const child = start();
      await seen;
      child.kill("SIGINT");
      failedWith(await cllm.ended(child), 130, /^$/);
      assert.deepEqual(await world.files(), ["m.gguf.partial", "m.gguf.partial.json"]);
      world.handler = serve(MODEL);
      assert.equal((await cllm.ended(start())).code, 0);
      assert.match(world.requests[1]?.headers.range ?? "", /^bytes=[1-9]/);
    });
  });

  describe("quantize, before any work", () => {
    it("refuses the input as output, under any of its names", async () => {
      const input = path.join(directory, "in.gguf");
      await fs.writeFile(input, MODEL);
      const hard = path.join(directory, "hard.gguf");
      const soft = path.join(directory, "soft.gguf");
      await fs.link(input, hard);
      await fs.symlink(input, soft);
      for (const output of [input, `${directory}/./in.gguf`, hard, soft]) {
        failedWith(await cllm(["quantize", input, output, "Q4_0"]), 1, /^cllm: The output \S+ is the input \S+ itself/);
      }
      assert.deepEqual(await fs.readFile(input), MODEL);
    });

    it("names an input or a directory that is missing", async () => {
      const input = path.join(directory, "in2.gguf");
      await fs.writeFile(input, MODEL);
      failedWith(
        await cllm(["quantize", "/no/such.gguf", "out.gguf", "Q4_0"]),
        1,
        /^cllm: There is no file \/no\/such/,
      );
      failedWith(await cllm(["quantize", directory, "out.gguf", "Q4_0"]), 1, /is a directory, not a GGUF file/);
      failedWith(await cllm(["quantize", input, "/no/such/out.gguf", "Q4_0"]), 1, /There is no directory \/no\/such/);
      failedWith(await cllm(["quantize", input, directory, "Q4_0"]), 1, /is a directory/);
      failedWith(
        await cllm(["quantize", input, "out.gguf", "Q4_0", "-t", "0"]),
        2,
        /^cllm: Expected an integer from 1/,
      );
    });
  });
});

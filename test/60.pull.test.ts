import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import http from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { type PullProgress, pull } from "../lib/pull/pull.js";
import { tuning } from "../lib/pull/tuning.js";
import { failed, MODEL, PullWorld, SHA256, serve } from "./pull-world.js";

describe("pull", () => {
  const world = new PullWorld();

  describe("download", () => {
    it("brings the file, reports progress, and needs no network the second time", async () => {
      const seen: PullProgress[] = [];
      const file = await world.get({ onProgress: (progress) => seen.push(progress) });
      assert.deepEqual(await fs.readFile(file), MODEL);
      assert.deepEqual(seen.at(-1), {
        phase: "download",
        received: MODEL.length,
        total: MODEL.length,
        file: "model.gguf",
      });
      assert.deepEqual(await world.files(), ["model.gguf"]);
      assert.equal(await world.get({ sha256: SHA256 }), file);
      assert.equal(world.requests.length, 1);
    });

    it("resumes within one pull when the connection breaks", async () => {
      let cuts = 0;
      world.handler = (request, response) =>
        (cuts++ < 3 ? serve(MODEL, { cut: 50_000 }) : serve(MODEL))(request, response);
      assert.deepEqual(await fs.readFile(await world.get({ sha256: SHA256 })), MODEL);
      assert.equal(world.requests.length, 4);
      assert.match(world.requests[3]?.headers.range ?? "", /^bytes=[1-9]\d*-$/);
      assert.equal(world.requests[3]?.headers["if-range"], '"v1"');
    });

    it("keeps the bytes that it has when the network stays away, and the next pull resumes", async () => {
      let first = true;
      world.handler = (request, response) => {
        if (first) serve(MODEL, { cut: 100_000 })(request, response);
        else response.socket?.destroy();
        first = false;
      };
      await assert.rejects(
        world.get(),
        failed(/the connection failed .* are here: run the same command again and it resumes/),
      );
      assert.deepEqual(await world.files(), ["model.gguf.partial", "model.gguf.partial.json"]);
      world.handler = serve(MODEL);
      world.requests = [];
      assert.deepEqual(await fs.readFile(await world.get({ sha256: SHA256 })), MODEL);
      assert.equal(world.requests[0]?.headers.range, "bytes=100000-");
      assert.deepEqual(await world.files(), ["model.gguf"]);
    });

    it("starts again when the server ignores Range or the file has changed", async () => {
      world.handler = serve(MODEL, { cut: 100_000 });
      tuning.retries = 0;
      await assert.rejects(world.get(), failed(/resumes/));
      world.handler = serve(MODEL, { ignoreRange: true });
      assert.deepEqual(await fs.readFile(await world.get()), MODEL);

      world.handler = serve(MODEL, { cut: 100_000 });
      await assert.rejects(world.get({}, "other.gguf"), failed(/resumes/));
      const changed = Buffer.concat([Buffer.from("GGUF"), randomBytes(200_000)]);
      world.handler = serve(changed, { etag: '"v2"' });
      assert.deepEqual(await fs.readFile(await world.get({}, "other.gguf")), changed);
    });

    it("starts again when there is nothing to compare the beginning with", async () => {
      tuning.retries = 0;
      world.handler = serve(MODEL, { cut: 100_000, etag: null });
      await assert.rejects(world.get(), failed(/Run the same command again to retry/));
      world.handler = serve(MODEL, { etag: null });
      world.requests = [];
      assert.deepEqual(await fs.readFile(await world.get()), MODEL);
      assert.equal(world.requests[0]?.headers.range, undefined);
    });

    it("finishes a partial file that is complete already (416)", async () => {
      const file = await world.get();
      await fs.rename(file, `${file}.partial`);
      const sidecar = { validator: '"v1"', sha256: SHA256, size: MODEL.length };
      await fs.writeFile(`${file}.partial.json`, JSON.stringify(sidecar));
      assert.equal(await world.get(), file);
      assert.deepEqual(await world.files(), ["model.gguf"]);
    });

    it("deletes a file whose SHA-256 is wrong, and says so", async () => {
      await assert.rejects(
        world.get({ sha256: "0".repeat(64) }),
        failed(/its SHA-256 is [0-9a-f]{64} instead of 0{64}; it was/),
      );
      assert.deepEqual(await world.files(), []);
      await world.get();
      await assert.rejects(world.get({ sha256: "0".repeat(64) }), failed(/Delete it to pull it again/));
    });

    it("repairs a resumed file whose beginning was damaged", async () => {
      tuning.retries = 0;
      world.handler = serve(MODEL, { cut: 100_000 });
      await assert.rejects(world.get({ sha256: SHA256 }), failed(/resumes/));
      tuning.retries = 2;
      const names = await fs.readdir(world.cacheDir, { recursive: true });
      const partial = path.join(world.cacheDir, names.find((name) => name.endsWith(".partial")) as string);
      const bytes = await fs.readFile(partial);
      bytes[5000] = (bytes[5000] as number) ^ 1;
      await fs.writeFile(partial, bytes);
      world.handler = serve(MODEL);
      assert.deepEqual(await fs.readFile(await world.get({ sha256: SHA256 })), MODEL);
    });

    for (const [status, pattern] of [
      [404, /there is no http:.*\/model\.gguf \(404\)/],
      [401, /needs permission \(401\)/],
      [418, /answered 418/],
    ] as const) {
      it(`reports ${status} at once`, async () => {
        world.handler = (_request, response) => void response.writeHead(status).end("no");
        await assert.rejects(world.get(), failed(pattern));
        assert.equal(world.requests.length, 1);
        assert.deepEqual(await world.files(), []);
      });
    }

    it("tries again after 503, a few times", async () => {
      let count = 0;
      world.handler = (request, response) => {
        if (count++ === 0) response.writeHead(503, { "retry-after": "0" }).end();
        else serve(MODEL)(request, response);
      };
      await world.get();
      world.handler = (_request, response) => void response.writeHead(503).end();
      world.requests = [];
      await assert.rejects(world.get({}, "busy.gguf"), failed(/answered 503/));
      assert.equal(world.requests.length, 3);
    });

    it("refuses a web page, another format and an empty file", async () => {
      const html = Buffer.from("<!doctype html><title>Sign in</title>".repeat(100));
      world.handler = serve(html, { type: "text/html" });
      await assert.rejects(world.get(), failed(/sent a web page instead of a GGUF file/));
      world.handler = serve(randomBytes(1000));
      await assert.rejects(world.get(), failed(/is not a GGUF file/));
      world.handler = serve(Buffer.alloc(0));
      await assert.rejects(world.get(), failed(/is not a GGUF file/));
      assert.deepEqual(
        (await world.files()).filter((name) => name.endsWith(".gguf")),
        [],
      );
    });

    it("gives up on a server that stops sending", async () => {
      tuning.idleTimeout = 50;
      world.handler = (_request, response) => {
        response.writeHead(200, { "content-length": MODEL.length, etag: '"v1"' });
        response.write(MODEL.subarray(0, 1000));
      };
      await assert.rejects(world.get(), failed(/no data for 0.05 s/));
    });

    it("rejects with the signal's reason before and during, and resumes later", async () => {
      const reason = new Error("enough");
      await assert.rejects(world.get({ signal: AbortSignal.abort(reason) }), (error) => error === reason);
      assert.equal(world.requests.length, 0);
      const controller = new AbortController();
      world.handler = (request, response) => {
        serve(MODEL, { stall: 100_000 })(request, response);
      };
      const onProgress = ({ received }: PullProgress): void => {
        if (received > 0) controller.abort(reason);
      };
      await assert.rejects(world.get({ signal: controller.signal, onProgress }), (error) => error === reason);
      assert.deepEqual(await world.files(), ["model.gguf.partial", "model.gguf.partial.json"]);
      world.handler = serve(MODEL);
      assert.deepEqual(await fs.readFile(await world.get({ sha256: SHA256 })), MODEL);
    });

    it("follows redirects without taking the password along to another origin", async () => {
      const other = http.createServer((request, response) => {
        world.requests.push(request);
        serve(MODEL)(request, response);
      });
      await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
      try {
        const location = `http://127.0.0.1:${(other.address() as AddressInfo).port}/elsewhere`;
        world.handler = (_request, response) => void response.writeHead(302, { location }).end();
        await pull(`${world.base.replace("//", "//me:secret@")}/model.gguf`, { cacheDir: world.cacheDir });
        assert.equal(world.requests[0]?.headers.authorization, `Basic ${Buffer.from("me:secret").toString("base64")}`);
        assert.equal(world.requests[1]?.headers.authorization, undefined);
        world.handler = (_request, response) =>
          void response.writeHead(302, { location: "http://example.com/x" }).end();
        await assert.rejects(world.get({}, "b.gguf"), failed(/only https:\/\/ is used/));
        world.handler = (_request, response) => void response.writeHead(302, { location: "/again" }).end();
        await assert.rejects(world.get({}, "c.gguf"), failed(/more than 10 redirects/));
      } finally {
        other.closeAllConnections();
        other.close();
      }
    });

    it("brings all parts of a split model and returns the first", async () => {
      const file = await world.get({}, "m-00001-of-00003.gguf?token=x");
      assert.equal(path.basename(file), "m-00001-of-00003.gguf");
      assert.deepEqual(await world.files(), [
        "m-00001-of-00003.gguf",
        "m-00002-of-00003.gguf",
        "m-00003-of-00003.gguf",
      ]);
      assert.equal(world.requests[2]?.url, "/m-00003-of-00003.gguf?token=x");
    });
  });

  describe("full disk", () => {
    it("refuses early what cannot fit", async () => {
      world.handler = (_request, response) =>
        void response.writeHead(200, { "content-length": 2 ** 52 }).flushHeaders();
      await assert.rejects(world.get(), failed(/more are needed in .* but only .* free/));
    });

    it("keeps the beginning, and resumes once there is space (needs root on Linux, for a small tmpfs)", async function () {
      if (process.platform !== "linux" || process.getuid?.() !== 0) return this.skip();
      try {
        execFileSync("mount", ["-t", "tmpfs", "-o", "size=128k", "tmpfs", world.cacheDir], { stdio: "ignore" });
      } catch {
        return this.skip();
      }
      try {
        world.handler = serve(MODEL, { chunked: true }); // no length, so no early refusal
        await assert.rejects(
          world.get(),
          failed(/no space is left in .* free\)\. Free some .* it resumes after the 1\d\d kB/),
        );
        assert.deepEqual(await world.files(), ["model.gguf.partial", "model.gguf.partial.json"]);
        execFileSync("mount", ["-o", "remount,size=1m", world.cacheDir]);
        world.requests = [];
        assert.deepEqual(await fs.readFile(await world.get({ sha256: SHA256 })), MODEL);
        assert.match(world.requests[0]?.headers.range ?? "", /^bytes=[1-9]/);
      } finally {
        execFileSync("umount", [world.cacheDir]);
      }
    });

    it("names a cache directory that cannot be one", async () => {
      const file = path.join(world.cacheDir, "file");
      await fs.writeFile(file, "");
      await assert.rejects(world.get({ cacheDir: file }), failed(/ENOTDIR|EEXIST|ENOENT/));
      // Node's recursive mkdir never ends there.
      if (process.platform === "linux") await assert.rejects(world.get({ cacheDir: "/proc/x/y" }), failed(/ENOENT/));
    });
  });

  describe("two at once", () => {
    it("downloads once for several pulls in one process", async () => {
      const all = await Promise.all([world.get(), world.get(), world.get()]);
      assert.equal(new Set(all).size, 1);
      assert.equal(world.requests.length, 1);
      assert.deepEqual(await world.files(), ["model.gguf"]);
    });

    it("downloads once for several processes, also when the first is killed", async () => {
      let killed = false;
      world.handler = (request, response) => serve(MODEL, killed ? {} : { stall: 100_000 })(request, response);
      const script = `require(${JSON.stringify(require.resolve("../lib/pull/pull.js"))})
        .pull(process.argv[1], { cacheDir: process.argv[2], onProgress: () => process.send("running") })
        .then((file) => process.send(file))`;
      const start = (): ChildProcess =>
        spawn(process.execPath, ["-e", script, `${world.base}/model.gguf`, world.cacheDir], {
          stdio: ["ignore", "inherit", "inherit", "ipc"],
        });
      const first = start();
      await new Promise((resolve) => first.once("message", resolve));
      const second = start();
      await new Promise((resolve) => second.once("message", resolve));
      killed = true;
      first.kill("SIGKILL");
      const file = await new Promise<string>((resolve) =>
        second.on("message", (message) => message !== "running" && resolve(message as string)),
      );
      assert.deepEqual(await fs.readFile(file), MODEL);
      assert.deepEqual(await world.files(), ["model.gguf"]);
      assert.match(world.requests[1]?.headers.range ?? "", /^bytes=[1-9]/);
    });

    it("takes over a lock that nobody touches any more", async () => {
      const file = await world.get();
      await fs.rm(file);
      await fs.writeFile(`${file}.lock`, JSON.stringify({ pid: 1, host: "another", id: "x" }));
      assert.equal(await world.get(), file);
      assert.deepEqual(await world.files(), ["model.gguf"]);
    });
  });
});

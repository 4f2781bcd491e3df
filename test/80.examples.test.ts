import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, fork, spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { writeFixtures } from "./fixtures/gguf.js";

const root = path.join(__dirname, "..", "..");
const example = (...names: string[]) => path.join(root, "examples", ...names);
const fixtures = writeFixtures();

/** Waits until `condition` holds, for at most ten seconds. */
async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const end = Date.now() + 10_000;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`Waited for ${what} in vain`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Resolves with the exit code or the signal; kills a process that does not end. */
async function ended(child: ChildProcess): Promise<number | string | null> {
  if (child.exitCode !== null) return child.exitCode;
  const timer = setTimeout(() => child.kill("SIGKILL"), 10_000);
  const [code, signal] = await once(child, "exit");
  clearTimeout(timer);
  return signal ?? code;
}

describe("examples", function () {
  this.timeout(30_000);

  it("use the library as its types say", () => {
    const tsc = path.join(root, "node_modules", "typescript", "bin", "tsc");
    execFileSync(process.execPath, [tsc, "-p", example()], { stdio: ["ignore", 2, 2] });
  });

  it("low-level prints every iteration, and the text that generate gives", () => {
    const output = (...args: string[]) => execFileSync(process.execPath, args, { encoding: "utf8" });
    const text = output(example("low-level.mjs"), fixtures.chain, ">", "4");
    assert.match(text, /^iteration 1, position \d+: [0-3] of 3 drafts accepted$/m);
    assert.match(text, /^>aé🦊b€cdefgh\.$/m);
    assert.match(text, /^19 tokens in \d+ iterations: \d\.\d\d tokens per iteration$/m);
  });

  describe("service", () => {
    let server: ChildProcess;
    let url: URL;
    let log = "";

    // There is one lane, so a second request can only be answered when the first has given it back.
    before(async () => {
      const options = ["--port", "0", "--lanes", "1", "--threads", "1", "--block-size", "2"];
      const limits = ["--context", "32768", "--max-tokens", "30000", "--max-waiting", "2", "--grace", "1"];
      server = spawn(process.execPath, [example("service", "server.mjs"), fixtures.llama, ...options, ...limits]);
      server.stdout?.on("data", (text) => {
        log += text;
      });
      server.stderr?.on("data", (text) => {
        log += text;
      });
      await until(() => /http:\S+/.test(log) || server.exitCode !== null, "the service to listen");
      url = new URL((/http:\S+/.exec(log) ?? assert.fail(log))[0]);
    });
    after(() => void server.kill("SIGKILL"));

    const post = (body: unknown, headers: http.OutgoingHttpHeaders = { "content-type": "application/json" }) => {
      const request = http.request(new URL("/generate", url), { method: "POST", headers });
      request.end(typeof body === "string" ? body : JSON.stringify(body));
      return request;
    };
    const response = async (request: http.ClientRequest): Promise<http.IncomingMessage> => {
      const [message] = (await once(request, "response")) as [http.IncomingMessage];
      return message.setEncoding("utf8");
    };
    const read = async (request: http.ClientRequest) => {
      const message = await response(request);
      let body = "";
      for await (const text of message) body += text;
      return { status: message.statusCode, headers: message.headers, body };
    };
    const json = async (request: http.ClientRequest) => {
      const { status, body } = await read(request);
      return { status, body: JSON.parse(body) };
    };
    const health = () => json(http.get(new URL("/health", url))).then(({ body }) => body);

    it("answers with JSON, and streams the same text as events", async () => {
      const whole = await json(post({ prompt: "the other side", maxTokens: 24 }));
      assert.equal(whole.status, 200);
      assert.equal(whole.body.finishReason, "length");
      assert.equal(whole.body.stats.emittedTokens, 24);

      const { headers, body } = await read(post({ prompt: "the other side", maxTokens: 24, stream: true }));
      assert.match(headers["content-type"] ?? "", /^text\/event-stream/);
      const events = body.trimEnd().split("\n\n");
      assert.match(events.at(-1) ?? "", /^event: done\ndata: \{"finishReason":"length"/);
      const pieces = events.slice(0, -1).map((event) => JSON.parse(event.replace(/^data: /, "")).text);
      assert.equal(pieces.join(""), whole.body.text);
      assert.ok(pieces.length > 1);
    });

    it("takes a conversation", async () => {
      const messages = [{ role: "user", content: "hello" }];
      const { status, body } = await json(post({ messages, maxTokens: 4 }));
      assert.equal(status, 200);
      assert.equal(body.stats.emittedTokens, 4);
    });

    it("frees the lane of a client that disconnects while it streams, or waits", async () => {
      const streaming = post({ prompt: "x", stream: true });
      await once(await response(streaming), "data");
      const waiting = post({ prompt: "y" });
      waiting.on("error", () => {});
      await until(async () => (await health()).requests === 2, "the second request to wait");
      assert.equal((await health()).waiting, 1);

      waiting.destroy();
      await until(async () => (await health()).requests === 1, "the waiting request to be dropped");
      streaming.destroy();
      await until(async () => (await health()).requests === 0, "the lane");
      const { status, body } = await json(post({ prompt: "x", maxTokens: 3 }));
      assert.equal(status, 200);
      assert.equal(body.stats.emittedTokens, 3);
    });

    it("maps each failure to a status and a code", async () => {
      const cases: [unknown, number, string][] = [
        ["{", 400, "BAD_REQUEST"],
        [[], 400, "BAD_REQUEST"],
        [{}, 400, "BAD_REQUEST"],
        [{ prompt: "" }, 400, "BAD_REQUEST"],
        [{ prompt: [1, 2] }, 400, "BAD_REQUEST"],
        [{ prompt: "x", messages: [] }, 400, "BAD_REQUEST"],
        [{ messages: [{ role: "user" }] }, 400, "BAD_REQUEST"],
        [{ prompt: "x", maxTokens: 0 }, 400, "BAD_REQUEST"],
        [{ prompt: "x", maxTokens: 30_001 }, 400, "BAD_REQUEST"],
        [{ prompt: "x", blockSize: 64 }, 400, "BAD_REQUEST"],
        [{ prompt: "x", stop: [""] }, 400, "BAD_REQUEST"],
        [{ prompt: "x", temperature: -1 }, 400, "BAD_REQUEST"],
        [{ prompt: "one two ".repeat(8000) }, 413, "CLLM_CONTEXT_OVERFLOW"],
        [{ prompt: "x".repeat(70_000) }, 413, "BODY_TOO_LARGE"],
      ];
      for (const [query, status, code] of cases) {
        for (const stream of [false, true]) {
          const isObject = typeof query === "object" && !Array.isArray(query);
          const answer = await json(post(isObject ? { ...query, stream } : query));
          assert.equal(answer.status, status, JSON.stringify(answer.body));
          assert.equal(answer.body.error.code, code);
        }
      }
      assert.equal((await read(post("{}", {}))).status, 415);
      assert.equal((await read(http.get(new URL("/generate", url)))).status, 405);
      assert.equal((await read(http.get(new URL("/none", url)))).status, 404);
      // A body without a length, larger than the limit.
      const chunked = http.request(new URL("/generate", url), {
        method: "POST",
        headers: { "content-type": "application/json" },
      });
      chunked.on("error", () => {});
      for (let i = 0; i < 20; i++) chunked.write(" ".repeat(10_000));
      assert.equal((await response(chunked)).statusCode, 413);
      chunked.destroy();
      await until(async () => (await health()).requests === 0, "all of them to be over");
      assert.ok(!/Error/.test(log), log);
    });

    it("refuses more requests than may wait", async () => {
      const held = [1, 2, 3].map(() => post({ prompt: "x", stream: true }));
      for (const request of held) request.on("error", () => {});
      await until(async () => (await health()).requests === 3, "three requests");
      const { status, headers } = await read(post({ prompt: "x", maxTokens: 1 }));
      assert.equal(status, 503);
      assert.equal(headers["retry-after"], "1");
      for (const request of held) request.destroy();
      await until(async () => (await health()).requests === 0, "the lane");
    });

    it("stops in order: a running answer ends with an event, the process with code 0", async function () {
      if (process.platform === "win32") this.skip(); // needs POSIX signals
      const message = await response(post({ prompt: "x", stream: true }));
      let body = "";
      message.on("data", (text) => {
        body += text;
      });
      await once(message, "data");
      server.kill("SIGTERM");
      await once(message, "end");
      assert.match(body, /event: error\ndata: \{"code":"STOPPING",.*\}\n\n$/);
      assert.equal(await ended(server), 0, log);
      assert.match(log, /^Stopped$/m);
    });
  });

  // This runs the file that holds the model in a plain Node process, with a shim of Electron's ports.
  describe("electron's utility process", () => {
    let folder: string;
    let child: ChildProcess;
    const inbox: { window: number; data: { type: string; id?: number; text?: string; [key: string]: unknown } }[] = [];

    before(() => {
      // The example's own package.json keeps it from finding the library around it, so this stands in for `npm install`.
      folder = fs.mkdtempSync(path.join(os.tmpdir(), "cllm-electron-"));
      fs.symlinkSync(root, path.join(folder, "node-cllm"), "junction");
    });
    afterEach(() => {
      child?.kill("SIGKILL");
      inbox.length = 0;
    });
    after(() => fs.rmSync(folder, { recursive: true, force: true }));

    const start = (model: string) => {
      child = fork(example("electron", "model-process.js"), [model], {
        execArgv: ["-r", path.join(__dirname, "fixtures", "electron-shim.js")],
        env: { ...process.env, NODE_PATH: folder },
      });
      child.on("message", (message) => inbox.push(message as (typeof inbox)[0]));
    };
    const send = (window: number, data: object) => child.send({ window, data });
    const messages = (content: string) => [{ role: "user", content }];
    const of = (window: number, id: number) =>
      inbox.filter((entry) => entry.window === window && entry.data.id === id).map(({ data }) => data);
    const over = (window: number, id: number) => () =>
      ["done", "stopped", "error"].includes(of(window, id).at(-1)?.type ?? "");

    it("loads, streams answers to several windows, stops one, and quits", async () => {
      start(fixtures.llamaEog);
      send(1, { type: "connect" });
      send(2, { type: "connect" });
      await until(() => inbox.filter(({ data }) => data.type === "ready").length === 2, "the model");

      send(1, { type: "generate", id: 1, messages: messages("hello") });
      send(2, { type: "generate", id: 1, messages: messages("what is there") });
      await until(over(1, 1), "the first answer");
      await until(over(2, 1), "the second answer");
      for (const window of [1, 2]) {
        const answer = of(window, 1);
        assert.equal(answer.at(-1)?.type, "done", JSON.stringify(answer.at(-1)));
        assert.ok(answer.slice(0, -1).every(({ type, text }) => type === "text" && text !== ""));
      }
      assert.equal(child.exitCode, null);
      child.send({ data: { type: "quit" } });
      assert.equal(await ended(child), 0);
    });

    it("stops an answer, and frees the lane of a window that closes in the middle of one", async () => {
      start(fixtures.llama);
      // More windows than lanes, one after the other: each closes while its answer runs.
      for (let window = 1; window <= 6; window++) {
        send(window, { type: "connect" });
        send(window, { type: "generate", id: 7, messages: messages("hello") });
        await until(() => of(window, 7).some(({ type }) => type === "text"), "some text");
        child.send({ window, close: true });
      }
      send(9, { type: "connect" });
      send(9, { type: "generate", id: 1, messages: messages("hello") });
      await until(() => of(9, 1).some(({ type }) => type === "text"), "some text");
      send(9, { type: "stop", id: 1 });
      await until(over(9, 1), "the stop");
      assert.equal(of(9, 1).at(-1)?.type, "stopped");
      child.send({ data: { type: "quit" } });
      assert.equal(await ended(child), 0);
    });

    it("says why there is no model", async () => {
      start(path.join(folder, "none.gguf"));
      send(1, { type: "connect" });
      await until(() => inbox.some(({ data }) => data.type === "failed"), "the failure");
      assert.equal(inbox.find(({ data }) => data.type === "failed")?.data.code, "CLLM_MODEL_NOT_FOUND");
      send(1, { type: "generate", id: 1, messages: messages("hello") });
      await until(over(1, 1), "an answer");
      assert.equal(of(1, 1)[0]?.code, "CLLM_MODEL_NOT_FOUND");
    });
  });
});

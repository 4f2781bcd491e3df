import assert from "node:assert/strict";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { GenerateChunk, GenerateResult } from "../lib/request/result.js";
import { ChunkStream } from "../lib/request/stream.js";

describe("stream", () => {
  const RESULT = { text: "ab" } as GenerateResult;

  function open() {
    let push: (chunk: GenerateChunk) => void = () => {};
    let resolve: (result: GenerateResult) => void = () => {};
    let reject: (error: unknown) => void = () => {};
    let stops = 0;
    const stream = new ChunkStream(
      (pushChunk) => {
        push = pushChunk;
        return new Promise((yes, no) => {
          resolve = yes;
          reject = no;
        });
      },
      () => {
        stops++;
        reject(new Error("stopped"));
      },
    );
    return { stream, push: (text: string) => push({ text, tokens: [1] }), resolve, reject, stops: () => stops };
  }

  it("buffers for a reader that comes late, and ends", async () => {
    const { stream, push, resolve } = open();
    push("a");
    push("b");
    resolve(RESULT);
    assert.equal(await stream.result, RESULT);
    const texts: string[] = [];
    for await (const { text } of stream) texts.push(text);
    assert.deepEqual(texts, ["a", "b"]);
    assert.deepEqual(await stream.next(), { done: true, value: undefined });
  });

  it("serves several next() at once, in their order", async () => {
    const { stream, push, resolve } = open();
    const readers = [stream.next(), stream.next(), stream.next(), stream.next()];
    push("a");
    push("b");
    resolve(RESULT);
    assert.deepEqual(
      (await Promise.all(readers)).map((one) => one.value?.text),
      ["a", "b", undefined, undefined],
    );
  });

  it("an error comes after the chunks before it, once, and to the first of several readers", async () => {
    const { stream, push, reject } = open();
    push("a");
    reject(new Error("broken"));
    await nextTurn();
    assert.equal((await stream.next()).value?.text, "a");
    await assert.rejects(stream.next(), /broken/);
    assert.equal((await stream.next()).done, true);

    const second = open();
    const readers = [second.stream.next(), second.stream.next()];
    second.reject(new Error("broken"));
    assert.deepEqual(
      (await Promise.allSettled(readers)).map((one) => one.status),
      ["rejected", "fulfilled"],
    );
  });

  it("a failed result that nobody handles is no unhandled rejection", async () => {
    // Mocha fails the run on an unhandled rejection.
    const { stream, reject } = open();
    reject(new Error("broken"));
    await nextTurn();
    await nextTurn();
    await assert.rejects(stream.result, /broken/);
  });

  for (const [how, leave] of [
    [
      "break",
      async (stream: ChunkStream) => {
        for await (const _ of stream) break;
      },
    ],
    ["disposing", async (stream: ChunkStream) => stream[Symbol.asyncDispose]()],
  ] as const) {
    it(`${how} stops the generation once, and waits until it has stopped`, async () => {
      const { stream, push, stops } = open();
      push("a");
      push("b");
      await leave(stream);
      assert.equal(stops(), 1);
      push("late");
      assert.equal((await stream.next()).done, true);
      await leave(stream);
      assert.equal(stops(), 1);
      await assert.rejects(stream.result, /stopped/);
    });
  }

  it("leaving while a next() waits ends that one too", async () => {
    const { stream } = open();
    const reader = stream.next();
    await stream.return();
    assert.equal((await reader).done, true);
  });
});

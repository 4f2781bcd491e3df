import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { setImmediate as nextTurn } from "node:timers/promises";
import { type CllmError, type Decoder, Model } from "../lib/index.js";
import { writeFixtures } from "./fixtures/gguf.js";

describe("dispose", () => {
  const fixtures = writeFixtures();
  const options = { contextSize: 2000, threads: 1 };

  it("returns one promise to all calls; after it every call names what is disposed", async () => {
    const model = await Model.load(fixtures.llama);
    const decoder = await model.createDecoder(options);
    const running = [decoder.generate([70]), decoder.stream([71]).result, decoder.generate([72])];
    const disposing = model.dispose();
    assert.equal(model.dispose(), disposing);
    for (const one of await Promise.allSettled(running)) {
      assert.equal((one as PromiseRejectedResult).reason?.code, "CLLM_DISPOSED");
    }
    await disposing;
    assert.equal(decoder.disposed, true);
    assert.equal(decoder.dispose(), decoder.dispose());
    const disposed = (what: RegExp) => ({ name: "CllmError", code: "CLLM_DISPOSED", message: what });
    await assert.rejects(decoder.generate([70]), disposed(/^The decoder is disposed/));
    await assert.rejects(decoder.sequence(), disposed(/^The decoder is disposed/));
    await assert.rejects(model.createDecoder(), disposed(/^The model .*llama\.gguf is disposed/));
    assert.throws(() => model.tokenize("a"), disposed(/^The model/));
    assert.throws(() => model.applyChatTemplate([], { template: "x" }), disposed(/^The model/));
  });

  it("of a model waits for decoders that are being created, and disposes them", async () => {
    const model = await Model.load(fixtures.llama);
    let ended = false;
    const creating = model.createDecoder(options).finally(() => {
      ended = true;
    });
    creating.catch(() => {});
    await model.dispose();
    await nextTurn();
    assert.equal(ended, true);
    await assert.rejects(creating, { code: "CLLM_DISPOSED" });
  });

  it("of a sequence rejects what runs and what waits, and names it", async () => {
    await using model = await Model.load(fixtures.llama);
    const decoder = await model.createDecoder(options);
    const sequence = await decoder.sequence();
    const running = [sequence.generate([70]), sequence.generate([71]), sequence.prefill([70])];
    const disposing = sequence.dispose();
    assert.equal(sequence.dispose(), disposing);
    for (const one of await Promise.allSettled(running)) {
      const { code, message } = (one as PromiseRejectedResult).reason as CllmError;
      assert.deepEqual([code, message], ["CLLM_DISPOSED", "The sequence is disposed"]);
    }
    await disposing;
    await (await decoder.sequence()).dispose(); // its lane is free again
  });
});

describe("sequence: operations take turns", () => {
  const fixtures = writeFixtures();
  let model: Model;
  let decoder: Decoder;
  let prompt: number[];
  before(async () => {
    model = await Model.load(fixtures.llama);
    decoder = await model.createDecoder({ contextSize: 2000, lanes: 2, threads: 1 });
    prompt = model.tokenize("hello world");
  });
  after(() => model.dispose());

  it("a stream does not overtake the prefill before it", async () => {
    await using sequence = await decoder.sequence();
    const prefilled = sequence.prefill(prompt);
    const { result } = sequence.stream([...prompt, 70], { maxTokens: 4 });
    assert.deepEqual(await prefilled, { reused: 0, prefilled: prompt.length - 1 });
    const { tokens, stats } = await result;
    assert.equal(stats.cachedTokens, prompt.length - 1);
    assert.deepEqual(sequence.tokens, [...prompt, 70, ...tokens]);
  });

  it("generate, generate, stream, iterate end in that order", async () => {
    await using sequence = await decoder.sequence();
    const order: string[] = [];
    const note = (name: string) => () => order.push(name);
    await Promise.all([
      sequence.generate(prompt, { maxTokens: 40 }).then(note("first")),
      sequence.generate(prompt, { maxTokens: 20 }).then(note("second")),
      sequence.stream(prompt, { maxTokens: 3 }).result.then(note("stream")),
      sequence.iterate({ blockSize: 1 }).then(note("iterate")),
    ]);
    assert.deepEqual(order, ["first", "second", "stream", "iterate"]);
    assert.equal(sequence.position, prompt.length + 4);
  });

  it("the input is read at once: the caller may change its array afterwards", async () => {
    await using sequence = await decoder.sequence();
    const input = [...prompt];
    const result = sequence.generate(input, { maxTokens: 3 });
    input.push(99999);
    assert.equal((await result).stats.promptTokens, prompt.length);
  });

  it("an operation that waits for its turn is aborted at once, and the turn passes", async () => {
    await using sequence = await decoder.sequence();
    const controller = new AbortController();
    const order: string[] = [];
    const running = sequence.generate(prompt, { maxTokens: 400 }).then(() => order.push("running"));
    const waiting = sequence.generate([70], { signal: controller.signal }).catch((error) => order.push(error));
    const stream = sequence.stream([71]);
    controller.abort("enough");
    await stream.return?.();
    await Promise.all([running, waiting]);
    assert.deepEqual(order, ["enough", "running"]);
    await assert.rejects(stream.result, { name: "AbortError" });
    assert.equal(sequence.position, prompt.length + 400);
    assert.equal(getEventListeners(controller.signal, "abort").length, 0);
  });

  it("a stream on what is disposed rejects; a mistake in the call throws", async () => {
    const sequence = await decoder.sequence();
    await sequence.dispose();
    await assert.rejects(sequence.stream(prompt).result, { code: "CLLM_DISPOSED", message: /sequence/ });
    assert.throws(() => decoder.stream(prompt, { maxTokens: 0 }), RangeError);
    const other = await Model.load(fixtures.llama);
    const lost = await other.createDecoder({ contextSize: 64, threads: 1 });
    await other.dispose();
    await assert.rejects(lost.stream("text").result, { code: "CLLM_DISPOSED", message: /model/ });
  });
});

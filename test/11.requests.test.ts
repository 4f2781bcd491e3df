import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { DecoderEvent, FinishReason, GenerateRequest, NativeDecoder } from "../lib/addon.js";
import { decoderSettings } from "../lib/decoder.js";
import { CllmError, type LoadedModel, type ModelInfo } from "../lib/index.js";
import { countCores, cpuQuota, defaultThreads } from "../lib/machine/threads.js";
import * as check from "../lib/options.js";
import { Commands } from "../lib/request/commands.js";
import { generateOn, streamOn, type Target } from "../lib/request/generate.js";
import type { GenerateChunk } from "../lib/request/result.js";

const MODEL = {
  trainContextSize: 2048,
  maxRollback: null,
  slidingWindow: null,
  stateBytes: 0,
  trainBlockSize: null,
  description: "llama 1M F32",
  vocabSize: 100,
} as ModelInfo;

/** A decoder whose answers the test sends itself, to test what lib/ does between two events. */
function scripted() {
  const sent: { id: number; request: GenerateRequest }[] = [];
  const aborted: number[] = [];
  const commands = new Commands();
  commands.attach({
    generate: (id: number, request: GenerateRequest) => sent.push({ id, request }),
    abort: (id: number) => aborted.push(id),
  } as unknown as NativeDecoder);
  const model = { info: MODEL, promptTokens: (ids: number[]) => Int32Array.from(ids) } as unknown as LoadedModel;
  const target: Target = {
    model,
    commands,
    blockSize: 4,
    autoBlockSize: false,
    deterministic: false,
    draftSource: "auto",
    seed: 7,
    sequence: 0,
  };
  return { sent, aborted, commands, target };
}

function done(id: number, finishReason: FinishReason, tokens: number[] = [], iterations = tokens.length): DecoderEvent {
  const stats = {
    promptTokens: 3,
    cachedTokens: 0,
    emittedTokens: tokens.length,
    iterations,
    fastForwardedTokens: tokens.length - iterations,
    stationaryTokens: 0,
    blockSizes: {},
    candidates: {},
    prefillMilliseconds: 1,
    decodeMilliseconds: iterations * 10,
    forwardMilliseconds: iterations * 9,
  };
  const text = tokens.join(" ");
  return { id, type: "done", text, tokens: Int32Array.from(tokens), finishReason, logprobs: [], stats };
}

describe("options: values that are no options, and defaults", () => {
  // These values have no keys of their own, so without a check they would pass as "no options".
  for (const [options, received] of [
    [new AbortController().signal, "AbortSignal"],
    [Promise.resolve({}), "Promise"],
    [new Map([["maxTokens", 1]]), "Map"],
  ] as const) {
    it(`a ${received} in place of options`, () =>
      assert.rejects(generateOn(scripted().target, [1], options as never), {
        name: "TypeError",
        message: `Expected an object for options but received ${received} of type object`,
      }));
  }

  it("undefined is not given, null-prototype objects are fine, and the defaults are these", async () => {
    const { target, sent, commands } = scripted();
    const options = Object.assign(Object.create(null), { maxTokens: undefined, stop: undefined, signal: undefined });
    const result = generateOn(target, [1, 2, 3], options);
    commands.onEvents([done(1, "eog", [5])]);
    await result;
    const request = sent[0]?.request;
    assert.deepEqual(
      { ...request, tokens: Array.from(request?.tokens ?? []) },
      {
        sequence: 0,
        tokens: [1, 2, 3],
        maxTokens: Number.MAX_SAFE_INTEGER,
        blockSize: 4,
        seed: 7,
        choosing: { temperature: 0, topK: 0, topP: 1, minP: 0, seed: 7, biasTokens: null, biases: null },
        draftSource: "auto",
        stop: [],
        stream: false,
        renderSpecial: false,
        rules: null,
        logprobs: -1,
      },
    );
  });

  it("describes any value without failing on it", () => {
    const text = (value: unknown) => check.typeError("x", "y", value).message;
    assert.match(text(Symbol("s")), /received Symbol\(s\) of type symbol$/);
    assert.match(text(Object.create(null)), /received an object of type object$/);
    assert.match(text(new (class {})()), /received an object of type object$/);
    assert.match(
      text(function named() {}),
      /received function named of type function$/,
    );
    assert.ok(text("long".repeat(1000)).length < 120);
  });

  it("decoder defaults follow the model", () => {
    const { threads, ...rest } = decoderSettings({}, MODEL).native;
    assert.equal(threads, defaultThreads());
    assert.deepEqual(rest, {
      contextSize: 2048,
      lanes: 1,
      blockSize: 16,
      candidates: 1,
      prefillChunk: 0,
      runner: "auto",
      burst: 1,
      flashAttention: null,
      kvType: "f16",
      swaFull: false,
      consistencyModel: false,
    });
    assert.equal(decoderSettings({}, { ...MODEL, trainContextSize: 131072 }).native.contextSize, 4096);
    assert.equal(decoderSettings({}, { ...MODEL, trainBlockSize: 32 }).native.blockSize, 32);
    assert.equal(decoderSettings({}, MODEL).autoBlockSize, true);
    assert.equal(decoderSettings({ blockSize: 8 }, MODEL).autoBlockSize, false);
    assert.equal(decoderSettings({ blockSize: 8 }, MODEL).native.blockSize, 8);
    const recurrent = { ...MODEL, maxRollback: 0 };
    assert.equal(decoderSettings({}, recurrent).native.blockSize, 1);
    assert.throws(() => decoderSettings({ blockSize: 2 }, recurrent), {
      code: "CLLM_UNSUPPORTED_MODEL",
      message: /cannot be rolled back/,
    });
  });
});

describe("default threads", () => {
  const cpu = (processor: number, core: number) => `processor\t: ${processor}\nphysical id\t: 0\ncore id\t\t: ${core}`;
  const cpuinfo = [cpu(0, 0), cpu(1, 1), cpu(2, 0), cpu(3, 1)].join("\n\n");
  const files = (entries: Record<string, string>) => (path: string) => entries[path] ?? null;

  it("counts physical cores, of the CPUs the process may run on", () => {
    assert.equal(countCores(cpuinfo), 2);
    assert.equal(countCores(cpuinfo, "0-3"), 2);
    assert.equal(countCores(cpuinfo, "0,2"), 1);
    assert.equal(countCores("processor : 0\nBogoMIPS : 100"), null);
  });

  it("respects the CPU quota of control groups, version 2 and 1", () => {
    const v2 = { "/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/cpu.max": "250000 100000\n" };
    assert.equal(cpuQuota(files(v2)), 2);
    assert.equal(cpuQuota(files({ ...v2, "/sys/fs/cgroup/a/b/cpu.max": "max 100000\n" })), 2);
    assert.equal(cpuQuota(files({ ...v2, "/sys/fs/cgroup/cpu.max": "50000 100000\n" })), 1);
    const v1 = { "/proc/self/cgroup": "4:memory:/x\n2:cpu,cpuacct:/docker/1\n" };
    const unlimited = { "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000" };
    assert.equal(cpuQuota(files({ ...v1, ...unlimited })), null);
    assert.equal(cpuQuota(files({ ...v1, ...unlimited, "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000" })), 3);
    assert.equal(cpuQuota(files({})), null);
  });
});

describe("commands: events of a decoder", () => {
  it("come in batches, for several commands or for none", async () => {
    const { target, commands } = scripted();
    const chunks: GenerateChunk[] = [];
    const first = generateOn(target, [1], {});
    const second = streamOn(target, [2], {});
    commands.onEvents([
      { id: 99, type: "ok" },
      { id: 2, type: "chunk", text: "a", tokens: Int32Array.of(1) },
      done(1, "length", [8, 9], 1),
      { id: 2, type: "chunk", text: "b", tokens: Int32Array.of(2) },
      done(2, "eog", [1, 2]),
      { id: 2, type: "chunk", text: "late", tokens: Int32Array.of(3) },
    ]);
    for await (const chunk of second) chunks.push(chunk);
    assert.deepEqual(chunks, [
      { text: "a", tokens: [1] },
      { text: "b", tokens: [2] },
    ]);
    const { tokens, finishReason, stats } = await first;
    assert.deepEqual({ tokens, finishReason }, { tokens: [8, 9], finishReason: "length" });
    assert.equal(stats.tokensPerIteration, 2);
    assert.equal(stats.tokensPerSecond, 200);
  });

  it("statistics without iterations or time are 0, not NaN", async () => {
    const { target, commands } = scripted();
    const result = generateOn(target, [1], {});
    commands.onEvents([done(1, "length")]);
    const { stats } = await result;
    assert.deepEqual([stats.tokensPerIteration, stats.tokensPerSecond], [0, 0]);
  });

  it("what the addon throws becomes a rejection; after dispose() every command is refused", async () => {
    const { target, commands } = scripted();
    const failure = new Error("from C++");
    commands.attach({
      generate: () => {
        throw failure;
      },
      dispose: async () => {},
    } as unknown as NativeDecoder);
    await assert.rejects(generateOn(target, [1], {}), failure);
    await commands.dispose();
    await assert.rejects(generateOn(target, [1], {}), { code: "CLLM_DISPOSED", message: /decoder is disposed/ });
    await assert.rejects(streamOn(target, [1], {}).result, { code: "CLLM_DISPOSED" });
  });
});

describe("abort", () => {
  const reason = new Error("enough");

  it("before: nothing is submitted", async () => {
    const { target, sent } = scripted();
    await assert.rejects(generateOn(target, [1], { signal: AbortSignal.abort(reason) }), reason);
    await assert.rejects(streamOn(target, [1], { signal: AbortSignal.abort(reason) }).result, reason);
    assert.deepEqual(sent, []);
  });

  it("during: the decoder is asked to stop once, and the promise rejects when it has stopped", async () => {
    const { target, aborted, commands } = scripted();
    const controller = new AbortController();
    let settled = false;
    const result = generateOn(target, [1], { signal: controller.signal }).finally(() => {
      settled = true;
    });
    controller.abort(reason);
    assert.deepEqual(aborted, [1]);
    result.catch(() => {});
    await nextTurn();
    assert.equal(settled, false);
    commands.onEvents([done(1, "abort", [4])]);
    await assert.rejects(result, reason);
  });

  it("too late: an answer that had already ended is returned", async () => {
    const { target, commands } = scripted();
    const controller = new AbortController();
    const result = generateOn(target, [1], { signal: controller.signal });
    controller.abort(reason);
    commands.onEvents([done(1, "eog", [4])]);
    assert.equal((await result).finishReason, "eog");
  });

  it("after: no effect, and one signal serves 10000 generations without a listener left", async () => {
    const { target, aborted, commands } = scripted();
    const controller = new AbortController();
    const { signal } = controller;
    const warnings: Error[] = [];
    const onWarning = (warning: Error) => warnings.push(warning);
    process.on("warning", onWarning);
    try {
      for (let id = 1; id <= 10000; id++) {
        const result = generateOn(target, [1], { signal });
        commands.onEvents(
          id % 3 === 0
            ? [{ id, type: "error", error: new CllmError("CLLM_DECODE_FAILED", "no") }]
            : [done(id, "eog", [4])],
        );
        await result.catch(() => {});
      }
      await nextTurn();
    } finally {
      process.off("warning", onWarning);
    }
    assert.deepEqual(warnings, []);
    assert.equal(getEventListeners(signal, "abort").length, 0);
    controller.abort(reason);
    assert.deepEqual(aborted, []);
  });

  it("break aborts the decoder's generation", async () => {
    const { target, aborted, commands } = scripted();
    const stream = streamOn(target, [1], {});
    commands.onEvents([{ id: 1, type: "chunk", text: "a", tokens: Int32Array.of(1) }]);
    for await (const _ of stream) {
      queueMicrotask(() => commands.onEvents([done(1, "abort", [1])]));
      break;
    }
    assert.deepEqual(aborted, [1]);
    await assert.rejects(stream.result, { name: "AbortError" });
  });
});

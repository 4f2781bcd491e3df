import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import type { Task } from "../lib/addon.js";
import { runTask } from "../lib/binary/native-task.js";
import { CllmError } from "../lib/errors.js";

describe("native tasks", () => {
  /** A task that the test ends itself; it records how often it was cancelled. */
  function scriptedTask() {
    let cancels = 0;
    let report: ((fraction: number) => void) | null = null;
    let resolve: (result: string) => void = () => {};
    let reject: (error: unknown) => void = () => {};
    const promise = new Promise<string>((yes, no) => {
      resolve = yes;
      reject = no;
    });
    const start = (onProgress: ((fraction: number) => void) | null): Task<string> => {
      report = onProgress;
      return { promise, cancel: () => cancels++ };
    };
    return { start, resolve, reject, report: (fraction: number) => report?.(fraction), cancels: () => cancels };
  }
  const cancelled = new CllmError("CLLM_ABORTED", "Cancelled");

  it("report progress and resolve; the signal keeps no listener", async () => {
    const { signal } = new AbortController();
    const task = scriptedTask();
    const fractions: number[] = [];
    const result = runTask(task.start, { signal, onProgress: (fraction) => fractions.push(fraction) });
    task.report(0.5);
    task.resolve("done");
    assert.equal(await result, "done");
    assert.deepEqual(fractions, [0.5]);
    assert.equal(getEventListeners(signal, "abort").length, 0);
  });

  it("reject with what onProgress threw, or with the signal's reason, whichever came first", async () => {
    for (const first of ["progress", "abort"] as const) {
      const [failure, reason] = [new Error("progress"), new Error("abort")];
      const controller = new AbortController();
      const task = scriptedTask();
      const onProgress = () => {
        throw failure;
      };
      const result = runTask(task.start, { signal: controller.signal, onProgress });
      if (first === "progress") task.report(0.1);
      controller.abort(reason);
      task.report(0.2);
      task.reject(cancelled);
      await assert.rejects(result, (error) => error === (first === "progress" ? failure : reason));
      assert.ok(task.cancels() > 0);
    }
  });

  it("discard a result that comes after the abort, and do not start after an abort", async () => {
    const controller = new AbortController();
    const task = scriptedTask();
    const discarded: string[] = [];
    const control = { signal: controller.signal, onProgress: null, discard: (text: string) => discarded.push(text) };
    const result = runTask(task.start, control);
    controller.abort();
    task.resolve("late");
    await assert.rejects(result, { name: "AbortError" });
    assert.deepEqual(discarded, ["late"]);
    await assert.rejects(
      runTask(() => assert.fail("started"), control),
      { name: "AbortError" },
    );
  });

  it("reject with the task's own error", async () => {
    const task = scriptedTask();
    const result = runTask(task.start, { signal: null, onProgress: null });
    task.reject(new CllmError("CLLM_INVALID_MODEL", "no"));
    await assert.rejects(result, { code: "CLLM_INVALID_MODEL" });
  });
});

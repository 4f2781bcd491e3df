// How long JavaScript waits while lanes decode and stream. The compute threads take all cores, so this shows how the
// system's scheduler treats the main thread, and what the addon does there.

import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { bench, goal, integers, step } from "../lib/bench.mjs";
import { models } from "../lib/models.mjs";
import { chat, questions } from "../lib/prompts.mjs";

const { Model } = await import("../../dist/esm.mjs");
const about =
  "Event-loop delay in ms while lanes decode and stream, above the idle loop's median (the timer's own period)";
const options = { formats: "Q4_1,Q4_0,BF16", lanes: 3, blocks: "1,4,8", seconds: 15 };

await bench({ name: "event-loop", about, options }, async (settings) => {
  const { lanes, threads } = settings;
  const rows = [];
  const goals = [];
  step("idle");
  const idle = await delays(() => sleep(settings.seconds * 1000));
  const above = (value) => Math.max(0, value - idle.p50);
  const row = (format, n, chunks, delay) => ({
    format,
    n,
    "chunks per s": chunks,
    p50: above(delay.p50),
    p99: above(delay.p99),
    "p99.9": above(delay.p999),
    max: above(delay.max),
  });
  rows.push(row("(idle)", null, 0, idle));
  for (const { format, file } of await models(settings)) {
    const model = await Model.load(file);
    for (const blockSize of integers(settings.blocks)) {
      step(`${format}: ${lanes} lanes, blocks of ${blockSize}`);
      const decoder = await model.createDecoder({ contextSize: 1024, lanes, blockSize, threads });
      let chunks = 0;
      const delay = await delays(async () => {
        const signal = AbortSignal.timeout(settings.seconds * 1000);
        const lane = async (i) => {
          // One request follows another, as in a service that is never idle.
          for (let k = i; !signal.aborted; k++) {
            const question = chat(questions[k % questions.length]);
            for await (const _ of decoder.stream(question, { maxTokens: 256, signal })) chunks++;
          }
        };
        const ended = await Promise.allSettled(Array.from({ length: lanes }, (_, i) => lane(i)));
        for (const { reason } of ended) if (reason && reason !== signal.reason) throw reason;
      });
      await decoder.dispose();
      rows.push(row(format, blockSize, chunks / settings.seconds, delay));
      goals.push(goal(`${format}, blocks of ${blockSize}: p99 in ms above idle`, above(delay.p99), "<", 5));
    }
    await model.dispose();
  }
  return { rows, goals, samples: { idle } };
});

/** The delays of the event loop in ms while `work` runs. */
async function delays(work) {
  const monitor = monitorEventLoopDelay({ resolution: 1 });
  monitor.enable();
  await work();
  monitor.disable();
  const ms = (nanoseconds) => nanoseconds / 1e6;
  const percentile = (p) => ms(monitor.percentile(p));
  return {
    p50: percentile(50),
    p99: percentile(99),
    p999: percentile(99.9),
    max: ms(monitor.max),
    count: monitor.count,
  };
}

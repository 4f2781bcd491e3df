// A program that keeps the CPU busy until neighbours.mjs ends it. Its argument is JSON: { kind, niceness, file, threads,
// inputs }. The kind "spin" runs JavaScript on one core, "decode" answers the inputs by the model all the time. It says
// "ready" when it has been busy for a while. It ends by itself where its parent has died, however that died: then the
// channel between them closes.
import os from "node:os";
import { setImmediate as turn } from "node:timers/promises";

const SLICE = 20; // milliseconds between looks at the channel
const READY = 200; // milliseconds after which the system's scheduler has taken note of a new program
const { kind, niceness, ...input } = JSON.parse(process.argv[2]);
process.on("disconnect", () => process.exit());
os.setPriority(niceness);
const work = await { spin, decode }[kind](input);
const start = performance.now();
for (let ready = false; ; await turn()) {
  await work();
  if (ready || performance.now() - start < READY) continue;
  ready = true;
  process.send("ready");
}

function spin() {
  return () => {
    const end = performance.now() + SLICE;
    while (performance.now() < end);
  };
}

async function decode({ file, threads, inputs }) {
  const { Model } = await import("../../dist/esm.mjs");
  const model = await Model.load(file);
  const decoder = await model.createDecoder({ contextSize: 1024, lanes: 1, threads });
  let count = 0;
  return () => decoder.generate(inputs[count++ % inputs.length], { maxTokens: 64 });
}

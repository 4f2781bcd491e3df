// Programs that compete with a measurement for the CPU.
import { fork } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { fileURLToPath } from "node:url";

const program = path.join(path.dirname(fileURLToPath(import.meta.url)), "neighbour-child.mjs");

/**
 * Runs `measure` beside one program for each of `neighbours` ({ kind, niceness }; neighbour-child.mjs), when all of them are
 * busy. They are gone when it resolves or rejects.
 */
export async function beside(neighbours, input, measure) {
  const children = neighbours.map((neighbour) =>
    fork(program, [JSON.stringify({ niceness: 0, ...neighbour, ...input })]),
  );
  try {
    await Promise.all(children.map(ready));
    return await measure();
  } finally {
    await Promise.all(children.map(end));
  }
}

async function ready(child) {
  const exited = once(child, "exit").then(([code, signal]) => {
    throw new Error(`A neighbour ended with ${signal ?? code}`);
  });
  exited.catch(() => {}); // so it does, in the end
  await Promise.race([once(child, "message"), exited]);
}

async function end(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGKILL"); // a program that spins would be slow to answer a softer one
  await exited;
}

import { type ChildProcess, spawn } from "node:child_process";

export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** Runs the real command line in a child process. Without `input` its stdin is at its end. */
export function cllm(args: readonly string[], input = ""): Promise<Ended> {
  const child = spawn(process.execPath, [cllm.path, ...args]);
  child.stdin.on("error", () => {}); // a child that does not read its stdin
  child.stdin.end(input);
  return ended(child);
}

cllm.path = require.resolve("../lib/cli/main.js");
cllm.ended = ended;

function ended(child: ChildProcess): Promise<Ended> {
  let stdout = "";
  let stderr = "";
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}

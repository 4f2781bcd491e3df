import { spawnSync } from "node:child_process";
import path from "node:path";
import type { NativeDevice } from "../addon.js";
import { explainLoadFailure } from "./load-failure.js";

/** What the child process prints. */
export type TrialAnswer = { devices: NativeDevice[] } | { error: string };

/** GPUs that computed what they should; or why there are none, as a clause. */
export type TrialResult = { devices: NativeDevice[]; problem: null } | { devices: null; problem: string };

/** A cold driver takes seconds to start, with each GPU. */
const TRIAL_MILLISECONDS = 10_000;
/** Set in the child. Where process.execPath is not node but an application, it keeps a trial from starting the next. */
export const TRIAL_VARIABLE = "CLLM_CUDA_TRIAL";

/**
 * Loads a CUDA binary in a process of its own and has it compute a product on each GPU: a missing or broken driver, a
 * binary for other GPUs, a library in the wrong version can end the process that meets them.
 *
 * @param script the child's, for tests
 */
export function tryCuda(
  file: string,
  script = path.join(__dirname, "cuda-trial-child.js"),
  milliseconds = TRIAL_MILLISECONDS,
): TrialResult {
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    ELECTRON_RUN_AS_NODE: "1",
    CLLM_LOG: "error",
    [TRIAL_VARIABLE]: "1",
  };
  delete env.NODE_OPTIONS; // --inspect-brk, --require: meant for the program
  const child = spawnSync(process.execPath, [script, file], {
    env,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    timeout: milliseconds,
    killSignal: "SIGKILL",
    windowsHide: true,
  });
  const said = lastLine(child.stderr ?? "");
  const failed = (problem: string): TrialResult => ({ devices: null, problem });
  const code = (child.error as NodeJS.ErrnoException | undefined)?.code;
  if (code === "ETIMEDOUT") return failed(`loading it had not ended after ${milliseconds / 1000} s`);
  if (child.error) return failed(`no process could be started to try it: ${child.error.message}`);
  if (child.signal) return failed(`the process that tried it died of ${child.signal}${said && ` (${said})`}`);
  const answer = parse(child.stdout);
  if (child.status !== 0 || answer === null) {
    return failed(`the process that tried it ended with exit code ${child.status}${said && ` (${said})`}`);
  }
  if ("error" in answer) return failed(explainTrialError(answer.error));
  const devices = answer.devices.filter(({ kind }) => kind === "gpu" || kind === "integrated");
  return devices.length > 0 ? { devices, problem: null } : failed(explainNoDevice(said));
}

function parse(stdout: string): TrialAnswer | null {
  try {
    const answer = JSON.parse(stdout.trim().split("\n").at(-1) ?? "");
    return typeof answer.error === "string" || Array.isArray(answer.devices) ? answer : null;
  } catch {
    return null;
  }
}

function explainTrialError(message: string): string {
  const line = message.split("\n", 1)[0] as string;
  const library = /^(libcublas[^:\s]*|libcuda[^:\s]*)/.exec(line)?.[1];
  if (library) {
    const found = "install CUDA's cuBLAS of that version, or name its folder in CLLM_CUDA_LIBRARIES";
    return `the library ${library} is missing: ${found}`;
  }
  if (/no kernel image|compiled without|PTX/i.test(line)) return `it was built for other GPUs [${line}]`;
  const why = explainLoadFailure(line);
  return why === null ? line : `${why} [${line}]`;
}

/** What the CUDA runtime says where there is no GPU for it, in words. */
export function explainNoDevice(said: string): string {
  if (/driver version is insufficient/i.test(said)) {
    return `there is no NVIDIA driver, or one too old for this CUDA [${said}]`;
  }
  if (/no CUDA-capable device/i.test(said)) return `the driver sees no GPU [${said}]`;
  return `it found no GPU${said && ` [${said}]`}`;
}

function lastLine(text: string): string {
  const line = text.trim().split("\n").at(-1) ?? "";
  return line.length > 200 ? `${line.slice(0, 197)}...` : line;
}

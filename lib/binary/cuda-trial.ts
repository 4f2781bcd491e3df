import { spawnSync } from "node:child_process";
import path from "node:path";
import type { NativeDevice } from "../addon.js";
import { explainLoadFailure } from "./load-failure.js";

/** The answer that the child process prints. */
export type TrialAnswer = { devices: NativeDevice[] } | { error: string };

/** The GPUs that computed correctly, or a clause that says why there are none. */
export type TrialResult = { devices: NativeDevice[]; problem: null } | { devices: null; problem: string };

/** Time limit of a trial: a driver that was not in use takes seconds to start each GPU. */
const TRIAL_MILLISECONDS = 10_000;
/**
 * Variable that is set in the child, so that it starts no further trial where process.execPath is not node but an
 * application.
 */
export const TRIAL_VARIABLE = "CLLM_CUDA_TRIAL";

/**
 * Loads a CUDA binary in a process of its own and has it compute a product on each GPU, because a missing or broken
 * driver, a binary for other GPUs or a library in the wrong version can end the process that loads them.
 *
 * @param script the script of the child process; tests pass another
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
  delete env.NODE_OPTIONS; // such as --inspect-brk and --require, which are meant for the program
  const child = spawnSync(process.execPath, [script, file], {
    env,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    timeout: milliseconds,
    killSignal: "SIGKILL",
    windowsHide: true,
  });
  const lastError = lastLine(child.stderr ?? "");
  const failed = (problem: string): TrialResult => ({ devices: null, problem });
  const code = (child.error as NodeJS.ErrnoException | undefined)?.code;
  if (code === "ETIMEDOUT") return failed(`loading it had not ended after ${milliseconds / 1000} s`);
  if (child.error) return failed(`no process could be started to try it: ${child.error.message}`);
  if (child.signal) return failed(`the process that tried it died of ${child.signal}${lastError && ` (${lastError})`}`);
  const answer = parse(child.stdout);
  if (child.status !== 0 || answer === null) {
    return failed(`the process that tried it ended with exit code ${child.status}${lastError && ` (${lastError})`}`);
  }
  if ("error" in answer) return failed(explainTrialError(answer.error));
  const devices = answer.devices.filter(({ kind }) => kind === "gpu" || kind === "integrated");
  return devices.length > 0 ? { devices, problem: null } : failed(explainNoDevice(lastError));
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
    const advice = "install CUDA's cuBLAS of that version, or name its folder in CLLM_CUDA_LIBRARIES";
    return `the library ${library} is missing: ${advice}`;
  }
  if (/no kernel image|compiled without|PTX/i.test(line)) return `it was built for other GPUs [${line}]`;
  const why = explainLoadFailure(line);
  return why === null ? line : `${why} [${line}]`;
}

/** Explains why no GPU was found, by the last line that the CUDA runtime wrote. */
export function explainNoDevice(lastError: string): string {
  if (/driver version is insufficient/i.test(lastError)) {
    return `there is no NVIDIA driver, or one too old for this CUDA [${lastError}]`;
  }
  if (/no CUDA-capable device/i.test(lastError)) return `the driver sees no GPU [${lastError}]`;
  return `it found no GPU${lastError && ` [${lastError}]`}`;
}

function lastLine(text: string): string {
  const line = text.trim().split("\n").at(-1) ?? "";
  return line.length > 200 ? `${line.slice(0, 197)}...` : line;
}

import { type AdapterOptions, readAdapters } from "./adapters.js";
import { addon } from "./binary/binding.js";
import { runTask } from "./binary/native-task.js";
import { CllmError } from "./errors.js";
import { MAX_THREADS } from "./limits.js";
import { isSameFile, outputFile, writeModel } from "./machine/model-output.js";
import { defaultThreads } from "./machine/threads.js";
import * as check from "./options.js";

const FAILED = "CLLM_QUANTIZE_FAILED";

export interface MergeOptions {
  /** The adapters, in the order in which they are merged. */
  adapters: readonly AdapterOptions[];
  /** Called with a fraction from 0 to 1. An error that it throws rejects the call. */
  onProgress?: ((fraction: number) => void) | undefined;
  /** Stops the work; no file is left behind. */
  signal?: AbortSignal | undefined;
  /** Threads, from 1 to 512. Default: physical cores. */
  threads?: number | undefined;
}

/**
 * Writes the model `base` as `output` with LoRA adapters merged into its weights, which keep their format. A decoder gives the
 * same tokens with the file as with the base and the option `adapters` of {@link Model.load}.
 *
 * @throws {@link CllmError} `CLLM_MODEL_NOT_FOUND`; `CLLM_INVALID_MODEL`: an adapter for another model, or a damaged one;
 * `CLLM_UNSUPPORTED_MODEL`: weights into which nothing can be merged; `CLLM_QUANTIZE_FAILED`: disk full.
 * @throws TypeError, RangeError for a wrong option.
 * @throws `signal.reason` when aborted.
 * @example
 * await merge("base.gguf", "merged.gguf", { adapters: [{ path: "adapter.gguf" }] });
 */
export async function merge(base: string, output: string, options: MergeOptions): Promise<void> {
  check.nonEmptyString(base, "base");
  check.nonEmptyString(output, "output");
  const { adapters, onProgress, signal, threads } = check.readOptions(options, (read) => ({
    adapters: readAdapters(read.value("adapters")),
    onProgress: read.callback<(fraction: number) => void>("onProgress"),
    signal: read.abortSignal("signal"),
    threads: read.integer("threads", 1, MAX_THREADS, defaultThreads()),
  }));
  if (adapters.length === 0) throw check.rangeError("one adapter or more", "adapters", adapters);
  signal?.throwIfAborted();
  const target = await outputFile(output, FAILED);
  const sources = [base, ...adapters.map(({ path }) => path)];
  const areOutput = await Promise.all(sources.map((source) => isSameFile(target, source)));
  if (areOutput.includes(true)) {
    throw new CllmError(FAILED, `The output ${output} is one of the inputs. Choose another name.`);
  }
  await writeModel(target, FAILED, (temporary) =>
    runTask((report) => addon().mergeAdapters(base, temporary, { adapters, threads }, report), { signal, onProgress }),
  );
}

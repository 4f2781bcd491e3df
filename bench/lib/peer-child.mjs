// One library in a process of its own, started by bench/peers/. Both libraries get the same tokens and hand out each token
// as it comes. The speed is that of all tokens after the first chunk, so prefill does not count.
import { monitorEventLoopDelay } from "node:perf_hooks";
import { pathToFileURL } from "node:url";
import { tokenizedQuestions } from "./prompts.mjs";

const input = JSON.parse(process.argv[2]);
const { library, module, file, threads, tokens, blockSize, repetitions } = input;
const { version, answers, close } = await { "node-cllm": nodeCllm, "node-llama-cpp": nodeLlamaCpp }[library]();
const samples = [];
let answer = [];
for (let i = -1; i < repetitions; i++) {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const start = performance.now();
  answer = [];
  let firstAt = 0; // when the first chunk came
  let firstTokens = 0;
  for await (const chunk of answers()) {
    answer.push(...chunk);
    if (firstAt === 0) {
      firstAt = performance.now();
      firstTokens = chunk.length;
    }
  }
  const end = performance.now();
  delay.disable();
  if (i < 0) continue; // the first answer warms up
  const speed = (1000 * (answer.length - firstTokens)) / (end - firstAt);
  samples.push({ speed, first: firstAt - start, p50: delay.percentile(50) / 1e6, p99: delay.percentile(99) / 1e6 });
}
await close();
console.log(JSON.stringify({ version, samples, answer }));

async function nodeCllm() {
  const { Model, binaryInfo } = await import("../../dist/esm.mjs");
  const model = await Model.load(file);
  const [prompt] = tokenizedQuestions(model, 1);
  return {
    version: binaryInfo().llamaVersion,
    async *answers() {
      // Each answer gets a new decoder, so that nothing of the prompt is reused.
      const decoder = await model.createDecoder({ contextSize: 512, lanes: 1, blockSize, threads });
      for await (const chunk of decoder.stream(prompt, { maxTokens: tokens })) yield chunk.tokens;
      await decoder.dispose();
    },
    close: () => model.dispose(),
  };
}

async function nodeLlamaCpp() {
  const { Model } = await import("../../dist/esm.mjs");
  const tokenizer = await Model.load(file);
  const [prompt] = tokenizedQuestions(tokenizer, 1);
  await tokenizer.dispose();
  const { getLlama } = await import(pathToFileURL(module).href);
  const llama = await getLlama({ gpu: false, build: "never", logLevel: "error", maxThreads: threads });
  const model = await llama.loadModel({ modelPath: file });
  return {
    version: llama.llamaCppRelease.release,
    async *answers() {
      const context = await model.createContext({ contextSize: 512, threads });
      const sequence = context.getSequence();
      let count = 0;
      for await (const token of sequence.evaluate(prompt, { temperature: 0 })) {
        if (model.isEogToken(token)) break;
        yield [token];
        if (++count === tokens) break;
      }
      await context.dispose();
    },
    close: () => llama.dispose(),
  };
}

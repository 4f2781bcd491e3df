import { Model } from "../model.js";
import type { Example } from "./examples.js";
import type { DistillSettings } from "./options.js";

/** Figures of a model on held-back prompts. */
export interface HeldBackFigures {
  /** Tokens per iteration, with blocks of the size that was trained. */
  tokensPerIteration: number;
  /** Share of answers equal to those of blocks of 2 tokens, which equal ordinary decoding's except at near-ties. */
  equalToOrdinary: number;
  /** Share of answers equal to the training target, token by token. */
  exact: number;
}

/** Decodes the held-back prompts with the file as a user would. */
export async function measureHeldBack(
  file: string,
  examples: readonly Example[],
  { signal, threads, trained: { blockSize, rowTokens } }: DistillSettings,
): Promise<HeldBackFigures> {
  const model = await Model.load(file, { signal, mmap: false });
  try {
    const decoder = await model.createDecoder({ blockSize, contextSize: rowTokens + blockSize, threads });
    let [emitted, iterations, equal, exact] = [0, 0, 0, 0];
    for (const { prompt, answer } of examples) {
      const maxTokens = Math.max(1, rowTokens - prompt.length);
      const jacobi = await decoder.generate(prompt, { maxTokens, signal });
      const ordinary = await decoder.generate(prompt, { maxTokens, blockSize: 2, signal });
      emitted += jacobi.stats.emittedTokens;
      iterations += jacobi.stats.iterations;
      const text = jacobi.tokens.join();
      if (text === ordinary.tokens.join()) equal++;
      if (text === answer.join()) exact++;
    }
    return {
      tokensPerIteration: emitted / Math.max(1, iterations),
      equalToOrdinary: equal / examples.length,
      exact: exact / examples.length,
    };
  } finally {
    await model.dispose();
  }
}

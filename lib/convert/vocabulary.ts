/** A vocabulary as GGUF files hold it: token i has texts[i], types[i] and, with `scores`, scores[i]. */
export interface Vocabulary {
  model: "gpt2" | "llama";
  /** llama.cpp's name of how text is cut before tokens are made of it. */
  pre: string;
  texts: string[];
  types: number[];
  scores?: number[];
  merges?: string[];
  /** Numbers of the special tokens by the vocabulary itself, -1 for none: bos, eos, unk, pad. */
  special?: Record<string, number>;
  /** Whether a space is put in front of a text; undefined: as the model's kind has it. */
  addSpacePrefix?: boolean;
}

/** llama.cpp's numbers of the types of tokens. */
export const TOKEN = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** Added tokens that are no special ones by their entry, but by their form: `<|...|>` and such. */
export function looksSpecial(text: string): boolean {
  return (
    ["<pad>", "<mask>", "<2mass>", "[@BOS@]"].includes(text) ||
    /^<[|｜].*[|｜]>$/s.test(text) ||
    /^<unused.*>$/s.test(text)
  );
}

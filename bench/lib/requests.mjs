// Requests of several kinds. `repeats`: whether the answer repeats much of the request.
import { questions, text } from "./prompts.mjs";

const code = `function total(items) {
  let sum = 0;
  for (const item of items) {
    sum += item.price * item.count;
  }
  return sum;
}`;
const record = "Ada Lovelace, born 10 December 1815 in London, mathematician, wrote the first program in 1843.";

export const requests = [
  { kind: "chat", repeats: false, prompts: questions.slice(0, 3) },
  {
    kind: "code",
    repeats: false,
    prompts: [
      "Write a Python function that returns the n-th Fibonacci number, with a docstring.",
      `Add a check for empty lists to this JavaScript function and show all of it:\n${code}`,
    ],
  },
  {
    kind: "summary",
    repeats: false,
    prompts: [`Summarise this text in three sentences:\n${text}`],
  },
  {
    kind: "JSON",
    repeats: false,
    prompts: [
      `Extract name, date of birth, place and profession as JSON: ${record}`,
      `Give a JSON array with one object per person, with the keys name and city: Ann lives in Oslo, Bo in Rome, Cy in Lima.`,
    ],
  },
  {
    kind: "repeat",
    repeats: true,
    prompts: [
      `Repeat the following text word for word:\n${text.slice(0, 700)}`,
      `Copy this code exactly as it is:\n${code}`,
    ],
  },
];

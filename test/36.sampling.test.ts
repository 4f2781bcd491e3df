import assert from "node:assert/strict";
import { type DecoderOptions, type GenerateOptions, kernels, Model } from "../lib/index.js";
import { writeFixtures } from "./fixtures/gguf.js";
import { onGpu, referenceLogits } from "./reference.js";

/** Softmax of `logits` / temperature over the tokens in `kept`. */
function probabilities(logits: readonly number[], temperature: number, kept = logits.map((_, i) => i)): number[] {
  const largest = Math.max(...kept.map((i) => logits[i] as number));
  const weights = logits.map((logit, i) => (kept.includes(i) ? Math.exp((logit - largest) / temperature) : 0));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

/** Chi-square over its degrees of freedom as a number of standard deviations (Wilson and Hilferty 1931). */
function deviations(counts: readonly number[], expected: readonly number[]): number {
  const draws = counts.reduce((a, b) => a + b, 0);
  let [square, cells] = [0, 0];
  for (const [i, p] of expected.entries()) {
    const count = counts[i] as number;
    if (p === 0) {
      assert.equal(count, 0, `token ${i} was cut off but drawn`);
      continue;
    }
    square += (count - draws * p) ** 2 / (draws * p);
    cells++;
  }
  const freedom = cells - 1;
  if (freedom === 0) return 0;
  return ((square / freedom) ** (1 / 3) - 1 + 2 / (9 * freedom)) / Math.sqrt(2 / (9 * freedom));
}

/** The first probability larger by 1%, at the expense of all. */
function distorted(expected: readonly number[]): number[] {
  const at = expected.indexOf(Math.max(...expected));
  const more = expected.map((p, i) => (i === at ? p * 1.01 : p));
  const sum = more.reduce((a, b) => a + b, 0);
  return more.map((p) => p / sum);
}

describe("sampling", function () {
  this.timeout(60_000);
  let model: Model;
  before(async () => {
    model = await Model.load(writeFixtures().llama);
  });
  after(() => model.dispose());

  describe("the kernel's draws are distributed as the model says", () => {
    const ROWS = 1000;
    const CALLS = 6000;
    const logits = [2.5, -1, 0.3, 1.9, -4, 0, 2.2, -0.5, 1.1, -2, 0.8, 1.5, Number.NEGATIVE_INFINITY];
    const order = logits.map((_, i) => i).sort((a, b) => (logits[b] as number) - (logits[a] as number));
    const rows = Float32Array.from(Array.from({ length: ROWS }, () => logits).flat());

    const settings: [string, GenerateOptions, number[]][] = [
      ["temperature 1", { temperature: 1 }, probabilities(logits, 1)],
      ["temperature 0.4", { temperature: 0.4 }, probabilities(logits, 0.4)],
      ["top-k", { temperature: 0.9, topK: 5 }, probabilities(logits, 0.9, order.slice(0, 5))],
      ["top-p", { temperature: 1.2, topP: 0.8 }, probabilities(logits, 1.2, reaching(0.8, order))],
      ["min-p", { temperature: 1, minP: 0.2 }, probabilities(logits, 1, atLeast(0.2, order))],
      [
        "top-p of top-k, then min-p",
        { temperature: 1, topK: 8, topP: 0.9, minP: 0.15 },
        probabilities(logits, 1, atLeast(0.15, reaching(0.9, order.slice(0, 8)))),
      ],
    ];

    function reaching(share: number, tokens: number[]): number[] {
      const p = probabilities(logits, 1, tokens);
      let sum = 0;
      return tokens.filter((token) => {
        const before = sum;
        sum += p[token] as number;
        return before < share;
      });
    }
    function atLeast(share: number, tokens: number[]): number[] {
      return tokens.filter((token) => Math.exp((logits[token] as number) - Math.max(...logits)) >= share);
    }

    it("pairs of neighbouring positions are independent", () => {
      const p = probabilities(logits, 1);
      const counts = Array.from({ length: p.length ** 2 }, () => 0);
      for (let call = 0; call < CALLS; call++) {
        const choices = kernels.choose(rows, { vocab: p.length, temperature: 1, seed: 9, position: call * ROWS });
        for (let i = 0; i < ROWS; i += 2) {
          const cell = (choices[i] as number) * p.length + (choices[i + 1] as number);
          counts[cell] = (counts[cell] as number) + 1;
        }
      }
      const found = deviations(
        counts,
        p.flatMap((one) => p.map((two) => one * two)),
      );
      assert.ok(Math.abs(found) < 3.5, `${found} standard deviations`);
    });

    for (const [name, options, expected] of settings) {
      it(`${name}: a distortion of 1% would be seen`, () => {
        const counts = logits.map(() => 0);
        for (let call = 0; call < CALLS; call++) {
          // Positions and seeds both make noise.
          const choices = kernels.choose(rows, {
            vocab: logits.length,
            ...options,
            seed: call % 50,
            position: call * ROWS,
          });
          for (const token of choices) counts[token] = (counts[token] as number) + 1;
        }
        const found = deviations(counts, expected);
        assert.ok(Math.abs(found) < 3.5, `${found} standard deviations from the distribution: ${counts}`);
        const seen = deviations(counts, distorted(expected));
        assert.ok(seen > 4, `only ${seen} standard deviations from one that is wrong by 1%`);
      });
    }
  });

  it("pairs of tokens that a decoder draws are distributed as the model says", async () => {
    const DRAWS = 6000;
    const prompt = [5, 9, 60, 31];
    await using decoder = await model.createDecoder({ lanes: 8, blockSize: 2, contextSize: 64, threads: 1 });
    const sequence = await decoder.sequence();
    const distribution = async (tokens: number[]) => {
      await sequence.prefill(tokens);
      const { logits } = await sequence.iterate({ blockSize: 2, logits: true });
      const row = Array.from((logits as Float32Array).subarray(0, model.info.vocabSize));
      const kept = row.map((_, i) => i).sort((a, b) => (row[b] as number) - (row[a] as number));
      return { kept: kept.slice(0, 3), p: probabilities(row, 0.8, kept.slice(0, 3)) };
    };
    const first = await distribution(prompt);
    const cells: [string, number][] = [];
    for (const one of first.kept) {
      const second = await distribution([...prompt, one]);
      for (const two of second.kept)
        cells.push([`${one} ${two}`, (first.p[one] as number) * (second.p[two] as number)]);
    }
    await sequence.dispose();
    const counts = new Map(cells.map(([pair]) => [pair, 0]));
    const draw = async (seed: number) => {
      const { tokens } = await decoder.generate(prompt, { maxTokens: 2, temperature: 0.8, topK: 3, seed });
      const pair = tokens.join(" ");
      if (tokens.length === 2) counts.set(pair, (counts.get(pair) ?? -1) + 1);
    };
    for (let seed = 0; seed < DRAWS; seed += 60) {
      await Promise.all(Array.from({ length: 60 }, (_, i) => draw(seed + i)));
    }
    assert.equal(counts.size, cells.length);
    const found = deviations(
      [...counts.values()],
      cells.map(([, p]) => p),
    );
    assert.ok(Math.abs(found) < 3.5, `${found} standard deviations: ${[...counts].join(" | ")}`);
  });

  describe("the same seed gives the same tokens", () => {
    const PROMPTS = [
      [5, 9, 60, 31],
      [100, 3],
      [42, 42, 42, 7, 9, 200, 11],
    ];
    const SETTINGS: GenerateOptions[] = [
      { temperature: 1 },
      { temperature: 0.7, topK: 20, topP: 0.9 },
      { temperature: 1.5, minP: 0.05, logitBias: [[12, 2.5]], bannedTokens: [3, 4] },
    ];
    const answers = async (decoderOptions: DecoderOptions, blockSize: number) => {
      await using decoder = await model.createDecoder({ contextSize: 128, threads: 1, ...decoderOptions });
      const requests = PROMPTS.flatMap((prompt) =>
        SETTINGS.flatMap((settings) =>
          [1, 2, 3].map((seed) => decoder.generate(prompt, { ...settings, seed, maxTokens: 24, blockSize })),
        ),
      );
      return (await Promise.all(requests)).map(({ tokens }) => tokens.join(" "));
    };

    it("for any block size, number of lanes, draft source and runner", async () => {
      const expected = await answers({ blockSize: 2, runner: "host" }, 2);
      assert.ok(new Set(expected).size > expected.length / 2, "most texts differ");
      for (const runner of ["host", "resident"] as const) {
        for (const lanes of [1, 4]) {
          for (const [blockSize, draftSource] of [
            [2, "choices"],
            [4, "random"],
            [8, "lookup"],
            [16, "auto"],
          ] as const) {
            const found = await answers({ blockSize, lanes, runner, draftSource }, blockSize);
            assert.deepEqual(found, expected, `n = ${blockSize}, ${lanes} lanes, ${runner}, ${draftSource}`);
          }
        }
      }
    });

    it("at n = 1 what the kernel draws from ordinary decoding's logits", async function () {
      if (onGpu) return this.skip(); // a row is rounded by the size of the pass that computed it
      // llama.cpp computes a single token with other kernels than several, so near-ties may fall otherwise than above.
      const texts = (await answers({ blockSize: 1 }, 1)).map((text) => text.split(" ").map(Number));
      const requests = PROMPTS.flatMap((prompt) =>
        SETTINGS.flatMap((settings) => [1, 2, 3].map((seed) => ({ prompt, settings, seed }))),
      );
      const logits = referenceLogits(
        model.path,
        requests.map(({ prompt }, i) => ({ width: 1, chunk: 32, prompt, answer: texts[i] as number[] })),
      );
      for (const [i, { prompt, settings, seed }] of requests.entries()) {
        const { logitBias = [], bannedTokens = [], ...sampling } = settings;
        const drawn = (logits[i] as Float32Array[]).map((row, j) => {
          for (const [token, bias] of logitBias as [number, number][]) row[token] = (row[token] as number) + bias;
          for (const token of bannedTokens) row[token] = Number.NEGATIVE_INFINITY;
          return kernels.choose(row, { ...sampling, vocab: row.length, seed, position: prompt.length + j })[0];
        });
        assert.deepEqual(texts[i], drawn, `text ${i}`);
      }
    });

    it("iteration by iteration too, whatever the draft", async () => {
      await using decoder = await model.createDecoder({ contextSize: 128, threads: 1, blockSize: 8 });
      const options = { temperature: 0.9, topK: 30, seed: 77 };
      const { tokens } = await decoder.generate(PROMPTS[0] as number[], { ...options, maxTokens: 20 });
      const sequence = await decoder.sequence();
      await sequence.prefill(PROMPTS[0] as number[]);
      const found: number[] = [];
      for (let i = 0; found.length < 20; i++) {
        const draft = i % 2 === 0 ? Array.from({ length: 7 }, (_, j) => (i * 31 + j * 7) % 250) : undefined;
        found.push(...(await sequence.iterate({ ...options, draft })).tokens);
      }
      assert.deepEqual(found.slice(0, tokens.length), tokens);
    });

    it("a drawn seed is told, and gives the text again", async () => {
      await using decoder = await model.createDecoder({ contextSize: 128, threads: 1 });
      const options = { temperature: 1.5, maxTokens: 24 };
      const first = await decoder.generate("hello", options);
      const second = await decoder.generate("hello", options);
      assert.notEqual(first.seed, second.seed);
      assert.notDeepEqual(first.tokens, second.tokens);
      assert.deepEqual((await decoder.generate("hello", { ...options, seed: first.seed })).tokens, first.tokens);
      await using seeded = await model.createDecoder({ contextSize: 128, threads: 1, seed: first.seed });
      assert.deepEqual((await seeded.generate("hello", options)).tokens, first.tokens);
    });
  });

  it("biases and banned tokens hold for greedy decoding too", async () => {
    for (const runner of ["host", "resident"] as const) {
      await using decoder = await model.createDecoder({ contextSize: 128, threads: 1, blockSize: 4, runner });
      const free = (await decoder.generate("hello", { maxTokens: 16 })).tokens;
      const banned = (await decoder.generate("hello", { maxTokens: 16, bannedTokens: new Set(free) })).tokens;
      assert.ok(banned.every((token) => !free.includes(token)));
      const forced = await decoder.generate("hello", { maxTokens: 5, logitBias: { 65: 1000 } });
      assert.deepEqual(forced.tokens, [65, 65, 65, 65, 65]);
      // The lane forgets it with the request.
      assert.deepEqual((await decoder.generate("hello", { maxTokens: 16 })).tokens, free);
    }
  });
});

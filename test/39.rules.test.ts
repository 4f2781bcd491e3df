import assert from "node:assert/strict";
import { type CllmError, type Decoder, type GenerateOptions, Model } from "../lib/index.js";
import { writeFixtures } from "./fixtures/gguf.js";

const fixtures = writeFixtures();
const LIST = String.raw`root ::= "{" pair ("," pair)? "}"
pair ::= "\"" [a-z]{1,6} "\":" value
value ::= [0-9]{1,3} | "\"" [a-z ]{0,8} "\"" | "[" [0-9] ("," [0-9]){0,3} "]"
`;

/** Rules that each begin with the next one. */
function chain(length: number, body: (next: string) => string): string {
  const rules = Array.from({ length }, (_, i) => `${i === 0 ? "root" : `r${i}`} ::= ${body(`r${i + 1}`)}`);
  return [...rules, `r${length} ::= "a"`].join("\n");
}

describe("choices that depend on the tokens before", function () {
  this.timeout(60_000);
  let model: Model;
  let decoder: Decoder;
  before(async () => {
    model = await Model.load(fixtures.llama);
    decoder = await model.createDecoder({ contextSize: 400, lanes: 3, threads: 1, blockSize: 16 });
  });
  after(() => model.dispose());
  const PROMPTS = ["the other side", "x", "one two one two one two"];

  describe("grammar", () => {
    for (const [name, options] of Object.entries<GenerateOptions>({
      greedy: {},
      sampled: { temperature: 1.5, seed: 3 },
      "sampled, cut off": { temperature: 2, topK: 40, topP: 0.9, seed: 4 },
      "with penalties": { repeatPenalty: 1.3, frequencyPenalty: 0.5 },
    })) {
      it(`${name}: every answer parses, and is the same for every block size, draft source and load`, async () => {
        for (const prompt of PROMPTS) {
          const expected = await decoder.generate(prompt, { grammar: LIST, blockSize: 2, ...options });
          assert.equal(expected.finishReason, "eog");
          assert.equal(typeof JSON.parse(expected.text), "object");
          const others = [3, 8, 16, "auto" as const].flatMap((blockSize) =>
            (["random", "lookup"] as const).map((draftSource) =>
              decoder.generate(prompt, { grammar: LIST, blockSize, draftSource, ...options }),
            ),
          );
          for (const { tokens } of await Promise.all(others)) assert.deepEqual(tokens, expected.tokens);
          const single = await decoder.generate(prompt, { grammar: LIST, blockSize: 1, ...options });
          assert.equal(typeof JSON.parse(single.text), "object");
        }
      });
    }

    it("draws any of the tokens that the grammar allows: several seeds give several answers", async () => {
      const texts = new Set<string>();
      for (let seed = 0; seed < 12; seed++) {
        const { text } = await decoder.generate("x", { grammar: LIST, temperature: 1, seed });
        JSON.parse(text);
        texts.add(text);
      }
      assert.ok(texts.size > 6, `${texts.size} of 12`);
    });

    it("an answer that maxTokens cuts is the beginning of a text that the grammar allows", async () => {
      const whole = await decoder.generate("x", { grammar: LIST });
      const cut = await decoder.generate("x", { grammar: LIST, maxTokens: 5 });
      assert.deepEqual(cut.tokens, whole.tokens.slice(0, 5));
      assert.equal(cut.finishReason, "length");
    });

    it("a lane beside one with a grammar decodes as always", async () => {
      const expected = await decoder.generate("the other side", { maxTokens: 60, blockSize: 8 });
      const [, plain] = await Promise.all([
        decoder.generate("x", { grammar: LIST, blockSize: 8 }),
        decoder.generate("the other side", { maxTokens: 60, blockSize: 8 }),
      ]);
      assert.deepEqual(plain.tokens, expected.tokens);
    });

    it("in a sequence, turn after turn", async () => {
      await using sequence = await decoder.sequence();
      for (let turn = 0; turn < 3; turn++) {
        const { text } = await sequence.generate([...sequence.tokens, 70 + turn], { grammar: LIST });
        JSON.parse(text);
      }
    });

    it("of a JSON schema: answers fulfil the schema", async () => {
      const jsonSchema = {
        type: "object",
        properties: {
          city: { enum: ["Paris", "Rome"] },
          size: { type: "integer", minimum: 0, maximum: 99 },
          tags: { type: "array", items: { type: "boolean" }, maxItems: 2 },
        },
        required: ["city", "size", "tags"],
        additionalProperties: false,
      };
      for (const options of [{}, { temperature: 1, seed: 1 }, { temperature: 1, seed: 2 }]) {
        const { text } = await decoder.generate("x", { jsonSchema, ...options });
        const { city, size, tags, ...rest } = JSON.parse(text);
        assert.ok(["Paris", "Rome"].includes(city) && Number.isInteger(size) && size >= 0 && size <= 99, text);
        assert.ok(tags.length <= 2 && tags.every((tag: unknown) => typeof tag === "boolean"), text);
        assert.deepEqual(rest, {});
      }
      for (const wrong of [{ type: "nothing" }, { $ref: "#/missing" }, { anyOf: [] }]) {
        await assert.rejects(decoder.generate("x", { jsonSchema: wrong }), {
          code: "CLLM_INVALID_GRAMMAR",
          message: /^Expected a JSON schema that llama.cpp knows how to follow: ./,
        });
      }
      for (const [bounds, message] of [
        [
          { maxLength: 2001 },
          "an integer from 0 to 2000 for #/properties/a/maxLength of the JSON schema but received 2001",
        ],
        [
          { maxLength: 1.5 },
          "an integer from 0 to 2000 for #/properties/a/maxLength of the JSON schema but received 1.5",
        ],
        [
          { pattern: "^a{2001}$" },
          "counts from 0 to 2000, the larger one last, for #/properties/a/pattern of the JSON",
        ],
      ] as const) {
        const schema = { type: "object", properties: { a: { type: "string", ...bounds } } };
        await assert.rejects(decoder.generate("x", { jsonSchema: schema }), (error: CllmError) => {
          assert.equal(error.code, "CLLM_INVALID_GRAMMAR");
          assert.ok(error.message.startsWith(`Expected ${message}`), error.message);
          return true;
        });
      }
      for (const [minimum, maximum] of [
        [-(2 ** 63), 2 ** 63],
        [1_600_000_000_000_000, 1_700_000_000_000_000],
      ] as const) {
        const { text } = await decoder.generate("x", { jsonSchema: { type: "integer", minimum, maximum }, seed: 1 });
        assert.ok(Number(text) >= minimum && Number(text) <= maximum, text);
      }
      await assert.rejects(
        decoder.generate("x", { jsonSchema: "{}" as never }),
        /Expected a JSON schema for jsonSchema/,
      );
      await assert.rejects(decoder.generate("x", { jsonSchema, grammar: LIST }), /one of grammar and jsonSchema/);
    });

    it("with parts that may be empty", async () => {
      for (const [grammar, text] of [
        ['root ::= ("a"?)* "b"', /^(a*b|a{40})$/],
        ['root ::= e "a" e "b" e\ne ::= f\nf ::= ""', /^ab$/],
        ['root ::= "a" x\nx ::= ("" | "c") "d"', /^ac?d$/],
      ] as const) {
        for (const blockSize of [2, 16]) {
          assert.match((await decoder.generate("x", { grammar, blockSize, maxTokens: 40 })).text, text);
        }
      }
      // The rule has nothing but itself, so no token is possible. Only this request fails.
      const dead = decoder.generate("x", { grammar: 'root ::= "a" x\nx ::= e x\ne ::= f\nf ::= ""' });
      const beside = decoder.generate("the other side", { maxTokens: 20, blockSize: 2 });
      await assert.rejects(dead, { code: "CLLM_DECODE_FAILED" });
      assert.equal((await beside).tokens.length, 20);
    });

    it("no control token counts as text", async () => {
      assert.ok(model.token(1).attributes.includes("control"));
      const bias = { logitBias: { 1: 100 } };
      assert.deepEqual((await decoder.generate("x", { maxTokens: 3, ...bias })).tokens, [1, 1, 1]);
      const { text, tokens } = await decoder.generate("x", { grammar: "root ::= [^0]+", maxTokens: 8, ...bias });
      assert.ok(!tokens.includes(1) && text.length > 0);
    });

    it("logprobs are those of the tokens that it allows", async () => {
      const { logprobs } = await decoder.generate("x", { grammar: 'root ::= "a" | "b"', logprobs: 10 });
      const first = logprobs?.[0];
      assert.ok((first?.top.length ?? 99) <= 2);
      const sum = (first?.top ?? []).reduce((total, { logprob }) => total + Math.exp(logprob), 0);
      assert.ok(Math.abs(sum - 1) < 1e-5);
    });

    it("an invalid grammar is refused, and the decoder stays usable", async () => {
      for (const [grammar, reason] of [
        ["root ::= (", "expecting '\\)'"],
        ['other ::= "a"', "there is no rule root"],
        ["root ::= missing # and no more", "there is no rule missing"],
        ["root ::= root", "left recursion"],
        ['root ::= e root "x" | "y"\ne ::= f\nf ::= "" | "z"', "left recursion"],
        [`${chain(5000, (next) => next)}`, "more than 4096 rules"],
        [`${chain(60, (next) => `${next} | ${next}`)}`, "in too many ways"],
        [`root ::= ${'( ")" '.repeat(100_000)}`, "nested more than 500 deep"],
        ["  # nothing", "there is no rule root"],
        ['root ::= "a"{2001}', "a repetition {2001,2001} counts more than 2000"],
        ['root ::= ("a" | "b"){0,2000} "c"{0,2000} "d"{0,200}', "more than 4096 rules"],
        [`root ::= "${"a".repeat(1000)}"{0,2000}`, "more than 1048576 elements"],
        [`root ::= ${"(".repeat(100_000)}`, "nested more than 500 deep"],
      ] as const) {
        await assert.rejects(decoder.generate("x", { grammar }), {
          code: "CLLM_INVALID_GRAMMAR",
          message: new RegExp(`^Expected a grammar in GBNF with a rule root: .*${reason.replace(/[{}]/g, "\\$&")}`),
        });
      }
      await assert.rejects(decoder.generate("x", { grammar: "" }), /Expected a non-empty string for grammar/);
      assert.equal((await decoder.generate("x", { maxTokens: 3 })).tokens.length, 3);
    });
  });

  describe("penalties", () => {
    const cases: GenerateOptions[] = [
      { repeatPenalty: 1.5 },
      { frequencyPenalty: 2, presencePenalty: 1, penaltyTokens: 10 },
      { repeatPenalty: 0.7, presencePenalty: -1, penaltyTokens: 1000 },
    ];
    for (const options of cases) {
      it(`${JSON.stringify(options)}: the tokens of a loop that penalises one row at a time`, async () => {
        const { repeatPenalty = 1, frequencyPenalty = 0, presencePenalty = 0, penaltyTokens = 64 } = options;
        const prompt = model.tokenize("one two one two one two", { addSpecial: true });
        const tokens: number[] = [];
        await using sequence = await decoder.sequence();
        while (tokens.length < 40) {
          await sequence.prefill([...prompt, ...tokens]);
          const { logits } = await sequence.iterate({ blockSize: 2, logits: true });
          const row = (logits as Float32Array).slice(0, model.info.vocabSize);
          const counts = new Map<number, number>();
          for (const token of [...prompt, ...tokens].slice(-penaltyTokens)) {
            counts.set(token, (counts.get(token) ?? 0) + 1);
          }
          for (const [token, count] of counts) {
            const logit = row[token] as number;
            const scaled = Math.fround(logit <= 0 ? logit * repeatPenalty : logit / repeatPenalty);
            row[token] = scaled - (count * frequencyPenalty + presencePenalty);
          }
          tokens.push(row.indexOf(row.reduce((a, b) => Math.max(a, b))));
        }
        const plain = await decoder.generate(prompt, { maxTokens: 40, blockSize: 8 });
        assert.notDeepEqual(plain.tokens, tokens);
        for (const blockSize of [2, 8, 16]) {
          const answer = await decoder.generate(prompt, { maxTokens: 40, blockSize, ...options });
          assert.deepEqual(answer.tokens, tokens, `n = ${blockSize}`);
        }
      });
    }
  });

  it("logprobs are those of the logits, for every token, with both runners", async () => {
    for (const runner of ["host", "resident"] as const) {
      await using other = await model.createDecoder({ contextSize: 200, threads: 1, lanes: 2, runner, blockSize: 8 });
      const prompt = model.tokenize("the other side", { addSpecial: true });
      const options = { maxTokens: 20, blockSize: 8, temperature: 1, seed: 5, logitBias: { 70: 2 } };
      const { tokens, logprobs } = await other.generate(prompt, { ...options, logprobs: 3 });
      assert.deepEqual(
        logprobs?.map(({ token }) => token),
        tokens,
      );
      await using sequence = await other.sequence();
      for (const [i, { logprob, top }] of (logprobs ?? []).entries()) {
        await sequence.prefill([...prompt, ...tokens.slice(0, i)]);
        const { logits } = await sequence.iterate({ blockSize: 2, logits: true });
        const row = Array.from((logits as Float32Array).subarray(0, model.info.vocabSize));
        row[70] = (row[70] as number) + 2;
        const all = Math.log(row.reduce((sum, logit) => sum + Math.exp(logit), 0));
        const order = row.map((_, token) => token).sort((a, b) => (row[b] as number) - (row[a] as number));
        assert.ok(Math.abs(logprob - ((row[tokens[i] as number] as number) - all)) < 1e-4);
        assert.deepEqual(
          top.map(({ token }) => token),
          order.slice(0, 3),
        );
        for (const one of top) assert.ok(Math.abs(one.logprob - ((row[one.token] as number) - all)) < 1e-4);
      }
      assert.equal((await other.generate(prompt, options)).logprobs, null);
      assert.deepEqual((await other.generate(prompt, { ...options, logprobs: 0 })).logprobs?.[0]?.top, []);
    }
  });

  it("wrong values are refused", async () => {
    await assert.rejects(decoder.generate("x", { repeatPenalty: 0 }), /from 0.01 to 100 for repeatPenalty/);
    await assert.rejects(decoder.generate("x", { penaltyTokens: -1 }), /for penaltyTokens/);
    await assert.rejects(decoder.generate("x", { logprobs: 101 }), /an integer from 0 to 100 for logprobs/);
    await assert.rejects(decoder.generate("x", { grammar: 1 as unknown as string }), TypeError);
  });
});

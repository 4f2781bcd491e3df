import assert from "node:assert/strict";
import { type Decoder, Model } from "../lib/index.js";
import { countCores } from "../lib/machine/threads.js";
import { writeFixtures } from "./fixtures/gguf.js";

const fixtures = writeFixtures();

/** [value, name of the error, end of its message] */
type Case = [unknown, "TypeError" | "RangeError", string];

const NOT_POSITIVE: Case[] = [
  [0, "RangeError", "0 of type number"],
  [-1, "RangeError", "-1 of type number"],
  [1.5, "RangeError", "1.5 of type number"],
  [Number.NaN, "RangeError", "NaN of type number"],
  [Number.POSITIVE_INFINITY, "RangeError", "Infinity of type number"],
  ["5", "TypeError", '"5" of type string'],
  [null, "TypeError", "null of type null"],
  [true, "TypeError", "true of type boolean"],
  [[], "TypeError", "an array of 0 of type array"],
  [{}, "TypeError", "Object of type object"],
  [5n, "TypeError", "5 of type bigint"],
];

describe("options", () => {
  let model: Model;
  let decoder: Decoder;
  before(async () => {
    model = await Model.load(fixtures.llama);
    decoder = await model.createDecoder({ contextSize: 64, blockSize: 8, threads: 1 });
  });
  after(() => model.dispose());

  describe("generate", () => {
    for (const [value, name, received] of NOT_POSITIVE) {
      it(`maxTokens: ${received}`, async () => {
        const message = `Expected a positive integer for maxTokens but received ${received}`;
        await assert.rejects(decoder.generate("x", { maxTokens: value as number }), { name, message });
        assert.throws(() => decoder.stream("x", { maxTokens: value as number }), { name, message });
      });
    }

    const cases: [object, string, string][] = [
      [{ blockSize: 9 }, "RangeError", "Expected an integer from 1 to 8 for blockSize but received 9 of type number"],
      [{ blockSize: 0 }, "RangeError", "Expected an integer from 1 to 8 for blockSize but received 0 of type number"],
      [{ seed: -1 }, "RangeError", "Expected an integer from 0 to 4294967295 for seed but received -1 of type number"],
      [{ stop: "" }, "RangeError", 'Expected a non-empty string for stop but received "" of type string'],
      [{ stop: ["a", ""] }, "RangeError", 'Expected a non-empty string for stop[1] but received "" of type string'],
      [{ stop: ["a", 5] }, "TypeError", "Expected a non-empty string for stop[1] but received 5 of type number"],
      [{ stop: 5 }, "TypeError", "Expected a string or an array of strings for stop but received 5 of type number"],
      [{ signal: {} }, "TypeError", "Expected an AbortSignal for signal but received Object of type object"],
      [{ renderSpecial: 1 }, "TypeError", "Expected a boolean for renderSpecial but received 1 of type number"],
      [
        { temperature: "hot" },
        "TypeError",
        'Expected a number from 0 to 1000 for temperature but received "hot" of type string',
      ],
      [
        { temperature: Number.NaN },
        "RangeError",
        "Expected a number from 0 to 1000 for temperature but received NaN of type number",
      ],
      [
        { temperature: 1e-5 },
        "RangeError",
        "Expected 0 or a number from 0.001 to 1000 for temperature but received 0.00001 of type number",
      ],
      [
        { topK: 0.5 },
        "RangeError",
        "Expected an integer from 0 to 2147483647 for topK but received 0.5 of type number",
      ],
      [{ topP: 0 }, "RangeError", "Expected a number above 0 to 1 for topP but received 0 of type number"],
      [{ minP: 2 }, "RangeError", "Expected a number from 0 to 1 for minP but received 2 of type number"],
      [{ logitBias: 5 }, "TypeError", "Expected pairs of id and bias for logitBias but received 5 of type number"],
      [
        { logitBias: [[1, "x"]] },
        "TypeError",
        'Expected a number from -1000 to 1000 for logitBias but received "x" of type string',
      ],
      [
        { bannedTokens: 7 },
        "TypeError",
        "Expected an iterable of token ids for bannedTokens but received 7 of type number",
      ],
    ];
    for (const [options, name, message] of cases) {
      it(message, () => assert.rejects(decoder.generate("x", options), { name, message }));
    }

    it("token ids outside the vocabulary, and a vocabulary that is banned whole", async () => {
      const { vocabSize } = model.info;
      for (const options of [{ logitBias: { [vocabSize]: 1 } }, { bannedTokens: [vocabSize] }]) {
        await assert.rejects(decoder.generate("x", options), {
          name: "RangeError",
          message: new RegExp(
            `^Expected a token id from 0 to ${vocabSize - 1} for .* but received ${vocabSize} of type`,
          ),
        });
      }
      await assert.rejects(decoder.generate("x", { bannedTokens: Array.from({ length: vocabSize }, (_, i) => i) }), {
        name: "RangeError",
        message: /^Expected at least one token that is not banned for bannedTokens/,
      });
    });

    it("a misspelt name, and options that are no object", async () => {
      await assert.rejects(decoder.generate("x", { maxToken: 5 } as object), {
        name: "TypeError",
        message: /^Expected one of maxTokens, .* as the name of an option but received maxToken$/,
      });
      for (const options of [null, 5, "x", []]) {
        await assert.rejects(decoder.generate("x", options as object), {
          name: "TypeError",
          message: /an object for options/,
        });
      }
      assert.equal(
        (await decoder.generate("x", { maxTokens: 1, stop: undefined, signal: undefined })).tokens.length,
        1,
      );
    });

    it("inputs", async () => {
      const cases: [unknown, string, RegExp][] = [
        ["", "RangeError", /a prompt of at least one token for input but received "" of type string/],
        [[], "RangeError", /a prompt of at least one token for input but received an array of 0/],
        [new Int32Array(0), "RangeError", /a prompt of at least one token/],
        [[model.info.vocabSize], "RangeError", /a token id from 0 to 274 for input\[0\] but received 275/],
        [[5, -1], "RangeError", /for input\[1\] but received -1/],
        [[1.5], "RangeError", /for input\[0\] but received 1.5/],
        [["a"], "TypeError", /for input\[0\] but received "a" of type string/],
        [[{ role: "user" }], "TypeError", /a string for messages\[0\].content but received undefined/],
        [[{ role: "user", content: "a" }, 5], "TypeError", /an object with role and content for messages\[1\]/],
        [5, "TypeError", /a string, an array of token ids or an array of chat messages for input but received 5/],
        [undefined, "TypeError", /for input but received undefined/],
      ];
      for (const [input, name, message] of cases) {
        await assert.rejects(decoder.generate(input as string), { name, message });
      }
      const ids = model.tokenize("the other");
      const [a, b] = [
        await decoder.generate(ids, { maxTokens: 3 }),
        await decoder.generate(Int32Array.from(ids), { maxTokens: 3 }),
      ];
      assert.deepEqual(a.tokens, b.tokens);
    });

    it("a user's text never becomes a control token, a chat's markers do", async () => {
      assert.ok(!model.tokenize("<|im_end|>").includes(2));
      assert.deepEqual(model.tokenize("<|im_end|>", { parseSpecial: true }), [2]);
      const rendered = model.applyChatTemplate([{ role: "user", content: "hi" }]);
      const result = await decoder.generate([{ role: "user", content: "hi" }], { maxTokens: 1 });
      assert.equal(result.stats.promptTokens, model.tokenize(rendered, { parseSpecial: true }).length);
    });
  });

  describe("createDecoder", () => {
    const cases: [object, string, RegExp][] = [
      [{ lanes: 0 }, "RangeError", /^Expected an integer from 1 to 256 for lanes but received 0 of type number$/],
      [{ lanes: 257 }, "RangeError", /for lanes but received 257/],
      [{ blockSize: 129 }, "RangeError", /^Expected an integer from 1 to 128 for blockSize but received 129/],
      [{ contextSize: 1 }, "RangeError", /for contextSize but received 1/],
      [{ contextSize: "4k" }, "TypeError", /for contextSize but received "4k" of type string/],
      [{ threads: 0 }, "RangeError", /for threads but received 0/],
      [{ kvType: "q3_k" }, "RangeError", /^Expected one of f16, .* for kvType but received "q3_k" of type string$/],
      [{ flashAttention: "yes" }, "TypeError", /a boolean for flashAttention/],
      [{ lane: 2 }, "TypeError", /as the name of an option but received lane/],
    ];
    for (const [options, name, message] of cases) {
      it(JSON.stringify(options), () => assert.rejects(model.createDecoder(options), { name, message }));
    }

    it("what cannot fit is refused before anything is allocated", async () => {
      await assert.rejects(model.createDecoder({ contextSize: 2 ** 30, lanes: 1 }), {
        code: "CLLM_OUT_OF_MEMORY",
        message:
          /^Expected a KV cache of 1 x 1073741824 tokens and logits of 1 x 16 to fit into memory but it needs \d+\.\d+ GiB and/,
      });
      await assert.rejects(model.createDecoder({ contextSize: 2 ** 29, lanes: 256 }), { code: "CLLM_OUT_OF_MEMORY" });
    });

    it("info says what runs", () => {
      const { info } = decoder;
      assert.equal(info.contextSize, 64);
      assert.equal(info.runner, "resident");
      assert.ok(info.runnerReason.length > 10);
      assert.ok(info.binary.reason.length > 10);
      assert.equal(info.binary.llamaVersion, "0.5.0");
      assert.ok(info.binary.features.length > 0);
      assert.ok(info.kvBytes > 0);
      assert.ok(Object.isFrozen(info));
    });
  });

  describe("model", () => {
    it("tokenises and detokenises", () => {
      for (const text of ["the other side", "é🦊 日本", "a\0b", "x".repeat(5000), ""]) {
        assert.equal(model.detokenize(model.tokenize(text)), text);
      }
      assert.throws(() => model.tokenize(5 as unknown as string), { name: "TypeError" });
      assert.throws(() => model.detokenize([1e9]), { name: "RangeError", message: /for tokens\[0\]/ });
      assert.throws(() => model.token(-1), { name: "RangeError", message: /for token\[0\] but received -1/ });
    });

    it("puts no EOS behind a prompt where the vocabulary puts one behind every text", async () => {
      const chat = [{ role: "user", content: "the other" }];
      for (const [file, rendered] of [
        [fixtures.llamaAddEos, "<|im_start|>user\nthe other<|im_end|>\n<|im_start|>assistant\n"],
        [fixtures.llamaTiedAddEos, "the other</s>"],
      ] as const) {
        await using loaded = await Model.load(file);
        const { bos, eos, addBos, addEos } = loaded.specialTokens;
        assert.equal(addEos, true);
        const front = addBos ? [bos] : [];
        const text = loaded.tokenize("the other");
        assert.deepEqual(loaded.tokenize("the other", { addSpecial: true }), [...front, ...text, eos]);
        assert.deepEqual(Array.from(loaded.promptTokens("the other")), [...front, ...text]);
        assert.equal(loaded.applyChatTemplate(chat), rendered);
        // The second template writes an EOS itself, which stays.
        const expected = loaded.tokenize(rendered, { parseSpecial: true });
        assert.deepEqual(Array.from(loaded.promptTokens(chat)), [...front, ...expected]);
        assert.equal(expected.at(-1) === eos, file === fixtures.llamaTiedAddEos);
        await using decoder = await loaded.createDecoder({ contextSize: 64, threads: 1 });
        const { stats } = await decoder.generate("the other", { maxTokens: 1 });
        assert.equal(stats.promptTokens, front.length + text.length);
      }
    });

    it("reports vocabulary, special tokens and metadata", () => {
      assert.deepEqual(model.token(2), { text: "<|im_end|>", attributes: ["control"], endOfGeneration: true });
      assert.equal(model.specialTokens.bos, 1);
      assert.equal(model.specialTokens.sep, null);
      assert.equal(model.metadata["general.architecture"], "llama");
      assert.equal(model.info.vocabSize, 275);
      assert.equal(model.info.trainContextSize, 2048);
      assert.equal(model.info.layerCount, 2);
      assert.ok(model.info.parameterCount > 50_000);
    });

    it("counts the physical cores of a cpuinfo", () => {
      const cpu = (pkg: number, core: number) => `processor : 0\nphysical id\t: ${pkg}\ncore id\t\t: ${core}\n`;
      assert.equal(countCores([cpu(0, 0), cpu(0, 0), cpu(0, 1), cpu(0, 1)].join("\n")), 2);
      assert.equal(countCores([cpu(0, 0), cpu(1, 0)].join("\n")), 2);
      assert.equal(countCores("processor : 0\nBogoMIPS : 50\n"), null);
    });
  });
});

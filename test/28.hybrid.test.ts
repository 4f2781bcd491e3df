import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { type Decoder, type DecoderOptions, type Input, Model, type Sequence } from "../lib/index.js";
import { writeFixtures } from "./fixtures/gguf.js";
import { makeModel } from "./programs.js";
import { onGpu } from "./reference.js";

const fixtures = writeFixtures();
const PROMPTS = ["the other side", "and a long day in there", "x", "one two one two one two one two"];
const CONTEXT = 400;

/** Every way in which a lane is decoded. */
const WAYS: DecoderOptions[] = [
  { runner: "host" },
  { runner: "resident" },
  { runner: "resident", burst: 4 },
  { runner: "resident", burst: 64 },
];

const bytes = (logits: Float32Array | null) => Buffer.from((logits as Float32Array).buffer).toString("base64");

/** What follows each position of tokens does not depend on how a lane got there: qwen35 has recurrent layers. */
describe("a model with recurrent layers", () => {
  let model: Model;
  before(async () => {
    model = await Model.load(fixtures.qwen35);
  });
  after(() => model.dispose());

  const create = (options: DecoderOptions) => model.createDecoder({ contextSize: CONTEXT, threads: 1, ...options });

  /** The continuation of a prompt in a decoder that has done nothing before. */
  async function fresh(input: Input, maxTokens: number, blockSize = 2): Promise<number[]> {
    await using decoder = await create({ runner: "host", blockSize });
    return (await decoder.generate(input, { maxTokens })).tokens;
  }

  it("says what it is", async () => {
    const { info } = model;
    assert.equal(info.maxRollback, 47);
    assert.ok(info.stateBytes > 0);
    for (const [runner, planes] of [
      ["host", 8],
      ["auto", 9],
    ] as const) {
      await using decoder = await create({ runner, blockSize: 8, lanes: 3 });
      assert.equal(decoder.info.runner, runner === "host" ? "host" : "resident");
      assert.equal(decoder.info.maxRollback, 7);
      assert.equal(decoder.info.stateBytes, 3 * planes * info.stateBytes);
    }
    await using largest = await create({ blockSize: 48 });
    assert.equal(largest.info.maxRollback, 47);
    const { tokens } = await largest.generate("x", { maxTokens: 60, draftSource: "random" });
    assert.equal(tokens.length, 60);
  });

  it("refuses blocks that it could not roll back", async () => {
    await assert.rejects(create({ blockSize: 49 }), {
      code: "CLLM_UNSUPPORTED_MODEL",
      message: /^Expected a blockSize of at most 48 for .* but received 49: its recurrent state cannot be rolled back/,
    });
  });

  it("has one candidate, and says why", async () => {
    await using decoder = await create({ blockSize: 4, candidates: 3 });
    assert.equal(decoder.info.candidates, 1);
    assert.equal(decoder.info.runner, "host");
    assert.match(decoder.info.runnerReason, /candidates of a lane cannot share its recurrent state/);
    const { tokens } = await decoder.generate(PROMPTS[0] as string, { maxTokens: 20 });
    if (!onGpu) assert.deepEqual(tokens, await fresh(PROMPTS[0] as string, 20));
  });

  for (const way of WAYS) {
    const name = `${way.runner}, bursts of ${way.burst ?? 1}`;

    it(`turns continue a lane (${name})`, async () => {
      for (const blockSize of [2, 3, 8]) {
        for (const draftSource of ["random", "lookup"] as const) {
          await using decoder = await create({ ...way, blockSize, draftSource });
          let tokens = model.tokenize(PROMPTS[0] as string);
          for (let turn = 0; turn < 6; turn++) {
            const result = await decoder.generate(tokens, { maxTokens: 13 + turn });
            assert.equal(result.stats.cachedTokens, turn === 0 ? 0 : tokens.length - 4, `turn ${turn}`);
            if (!onGpu) assert.deepEqual(result.tokens, await fresh(tokens, 13 + turn), `turn ${turn}`);
            tokens = [...tokens, ...result.tokens, 70 + turn, 71, 72];
          }
          // The first pass over a lane that has held something else starts from an empty state.
          const single = await decoder.generate([77], { maxTokens: 12 });
          if (!onGpu) assert.deepEqual(single.tokens, await fresh([77], 12));
        }
      }
    });

    it(`a stop string cuts a block, and the sequence goes on (${name})`, async () => {
      // With four letters it says aaaaadcccbaaaaaaaaaa..., so looked up drafts are right in many places.
      const prompt = model.tokenize(PROMPTS[0] as string);
      const letters = [..."abcd"].map((letter) => model.tokenize(letter)[0]);
      const bannedTokens = Array.from({ length: model.info.vocabSize }, (_, id) => id).filter(
        (id) => !letters.includes(id),
      );
      for (const blockSize of [2, 4, 16]) {
        await using decoder = await create({ ...way, blockSize });
        for (const stop of ["aaa", "ad", "ccb", ...Array.from({ length: 12 }, (_, i) => `b${"a".repeat(i + 1)}`)]) {
          await using sequence = await decoder.sequence();
          const options = { stop, maxTokens: 60, draftSource: "lookup", bannedTokens } as const;
          const first = await sequence.generate(prompt, options);
          assert.equal(first.finishReason, "stop");
          if (stop.length > 8) assert.ok(first.stats.fastForwardedTokens > 0);
          const held = [...sequence.tokens];
          assert.deepEqual(held.slice(0, prompt.length), prompt);
          const draft = Array.from({ length: blockSize - 1 }, (_, i) => 60 + i);
          const iteration = await sequence.iterate({ draft, blockSize, logits: true });
          await using other = await create({ runner: "host", blockSize });
          await using expected = await other.sequence();
          await expected.prefill(held);
          const undisturbed = await expected.iterate({ draft, blockSize, logits: true });
          assert.deepEqual(iteration.choices, undisturbed.choices, stop);
          if (!onGpu) assert.equal(bytes(iteration.logits), bytes(undisturbed.logits));
        }
      }
    });
  }

  it("forks and rollbacks have the logits of a new sequence", async () => {
    for (const runner of ["host", "resident"] as const) {
      await using decoder = await create({ runner, blockSize: 8, lanes: 3 });
      await using other = await create({ runner: "host", blockSize: 8 });
      const check = async (sequence: Sequence, where: string) => {
        await using expected = await other.sequence();
        await expected.prefill(sequence.tokens);
        const draft = [1, 2, 3, 4, 5, 6, 7].map((i) => 60 + i * sequence.position);
        const options = { draft: draft.map((token) => token % 200), blockSize: 8, logits: true };
        const [ours, theirs] = [await sequence.iterate(options), await expected.iterate(options)];
        assert.deepEqual(ours.choices, theirs.choices, where);
        if (!onGpu) assert.equal(bytes(ours.logits), bytes(theirs.logits), where);
      };
      await using sequence = await decoder.sequence();
      await sequence.prefill(model.tokenize(PROMPTS[1] as string));
      for (let round = 0; round < 12; round++) {
        await sequence.iterate({ draftSource: "random", blockSize: 2 + (round % 7) });
        await using fork = await sequence.fork();
        const { reused } = await fork.prefill(fork.tokens);
        assert.equal(reused, fork.position - 1, "a fork keeps its rows");
        await check(fork, `fork, round ${round}`);
        if (round % 3 === 0) await sequence.rollback(sequence.position - (round % 4));
        await check(sequence, `sequence, round ${round}`);
        await using again = await fork.fork();
        await check(again, `fork of a fork, round ${round}`);
        await check(fork, `fork, again, round ${round}`);
      }
    }
  });

  it("generations at once, some by a grammar: the tokens of each one alone", async () => {
    const requests = PROMPTS.map((prompt, i) => ({
      prompt,
      options: { maxTokens: 15 + 9 * i, ...(i % 2 === 1 ? { grammar: "root ::= [a-z ]{100}" } : {}) },
    }));
    const alone: number[][] = [];
    for (const { prompt, options } of requests) {
      await using decoder = await create({ runner: "host", blockSize: 4 });
      alone.push((await decoder.generate(prompt, options)).tokens);
    }
    for (const way of WAYS) {
      await using decoder = await create({ ...way, blockSize: 4, lanes: 2 });
      for (let round = 0; round < 3; round++) {
        const run = (at: Decoder) => Promise.all(requests.map(({ prompt, options }) => at.generate(prompt, options)));
        const results = await run(decoder);
        if (onGpu) continue;
        for (const [i, { tokens }] of results.entries()) assert.deepEqual(tokens, alone[i], `request ${i}`);
      }
    }
  });
});

describe("a model with sliding windows", () => {
  it("goes back as far as the rows of the window are there, and reads the prompt again else", async () => {
    await using model = await Model.load(fixtures.gemma3);
    const options: DecoderOptions = { contextSize: 900, blockSize: 4, threads: 1 };
    const text = Array.from({ length: 700 }, (_, i) => 60 + ((i * i) % 97));
    for (const way of WAYS) {
      await using decoder = await model.createDecoder({ ...options, ...way });
      await using other = await model.createDecoder({ ...options, runner: "host" });
      const rollback = decoder.info.maxRollback as number;
      assert.equal(rollback, 256 - 16);
      await using sequence = await decoder.sequence();
      const check = async (prompt: number[], kept: number) => {
        const { reused } = await sequence.prefill(prompt);
        assert.equal(reused, kept, `${prompt.length} tokens`);
        await using expected = await other.sequence();
        await expected.prefill(prompt);
        const block = { draft: [60, 61, 62], logits: true };
        const [ours, theirs] = [await sequence.iterate(block), await expected.iterate(block)];
        assert.deepEqual(ours.choices, theirs.choices);
        if (!onGpu) assert.equal(bytes(ours.logits), bytes(theirs.logits), `${prompt.length} tokens`);
      };
      for (const [length, kept] of [
        [650, 0],
        [650 - rollback + 9, 650 - rollback + 8], // the last pass of the text before ended at 653
        [200, 0],
        [201, 200],
        [640, 201],
        [650, 640],
        [513, 512], // the next row has cell 0
        [17, 0],
      ] as const) {
        await check(text.slice(0, length), kept);
      }
      const prompt = text.slice(0, 20);
      const { tokens } = await sequence.generate(prompt, { maxTokens: 300 });
      assert.equal(tokens.length, 300);
      await check([...prompt, ...tokens.slice(0, 40)], 0);
    }
  });

  it("has the same logits behind its window whatever the lanes, the largest block and the context", async () => {
    await using model = await Model.load(fixtures.gemma3);
    const text = Array.from({ length: 700 }, (_, i) => 60 + ((i * i) % 97));
    const logits = new Set<string>();
    for (const options of [
      { lanes: 1, blockSize: 4, contextSize: 800 },
      { lanes: 9, blockSize: 32, contextSize: 800 },
      { lanes: 2, blockSize: 128, contextSize: 2000 },
    ]) {
      await using decoder = await model.createDecoder({ ...options, threads: 1 });
      await using sequence = await decoder.sequence();
      await sequence.prefill(text);
      logits.add(bytes((await sequence.iterate({ blockSize: 4, draft: [60, 61, 62], logits: true })).logits));
    }
    assert.equal(logits.size, 1);
  });
});

// Each snapshot is copied by operations of its own, for each layer: llama.cpp's graphs need room for them.
describe("deep models", () => {
  for (const architecture of ["lfm2", "qwen35", "granitehybrid", "falcon-h1", "nemotron_h", "mamba2", "kimi-k3"]) {
    it(`${architecture}: the largest block`, async () => {
      const file = path.join(path.dirname(fixtures.llama), `deep-${process.pid}.gguf`);
      makeModel(architecture, file, "--layers", "24", "--type", "q8_0");
      try {
        await using model = await Model.load(file);
        const prompt = Array.from({ length: 60 }, (_, i) => 60 + ((i * i) % 97));
        const texts = new Set<string>();
        for (const runner of ["host", "auto"] as const) {
          for (const blockSize of [2, 48]) {
            await using decoder = await model.createDecoder({
              contextSize: 256,
              lanes: 2,
              runner,
              blockSize,
              threads: 1,
            });
            texts.add((await decoder.generate(prompt, { maxTokens: 6 })).tokens.join());
          }
        }
        assert.equal(texts.size, 1);
      } finally {
        fs.rmSync(file, { force: true });
      }
    });
  }
});

// 512 bytes for the keys and values of a token in a layer: two heads of 64 elements in F16.
describe("decoder.info", () => {
  const ROW = 512;
  const cases: [
    string[],
    DecoderOptions,
    { kv: number; state: number; maxRollback: number | null; swaFull: boolean },
  ][] = [
    // One layer of each kind; a state of two tokens of 256 elements in F32.
    [["lfm2"], {}, { kv: 768 * ROW, state: 5 * 2048, maxRollback: 3, swaFull: false }],
    [["lfm2"], { runner: "host" }, { kv: 768 * ROW, state: 4 * 2048, maxRollback: 3, swaFull: false }],
    [["lfm2", "--window", "32"], {}, { kv: 256 * ROW, state: 5 * 2048, maxRollback: 3, swaFull: false }],
    // Every other layer has a window.
    [["gemma3", "--window", "32"], {}, { kv: 3 * (768 + 256) * ROW, state: 0, maxRollback: 224, swaFull: false }],
    [
      ["gemma3", "--window", "32"],
      { swaFull: true },
      { kv: 6 * 768 * ROW, state: 0, maxRollback: null, swaFull: true },
    ],
    [["gemma3", "--window", "800"], {}, { kv: 6 * 768 * ROW, state: 0, maxRollback: null, swaFull: true }],
    [["llama"], {}, { kv: 2 * 768 * ROW, state: 0, maxRollback: null, swaFull: false }],
  ];
  for (const [made, options, { kv, state, maxRollback, swaFull }] of cases) {
    it(`${made.join(" ")} ${JSON.stringify(options)}`, async () => {
      const file = path.join(path.dirname(fixtures.llama), `info-${process.pid}.gguf`);
      makeModel(made[0] as string, file, ...made.slice(1));
      try {
        await using model = await Model.load(file);
        await using decoder = await model.createDecoder({
          contextSize: 600,
          blockSize: 4,
          lanes: 2,
          threads: 1,
          ...options,
        });
        const { info } = decoder;
        assert.deepEqual(
          { kv: info.kvBytes, state: info.stateBytes, maxRollback: info.maxRollback, swaFull: info.swaFull },
          { kv: 2 * kv, state: 2 * state, maxRollback, swaFull },
        );
      } finally {
        fs.rmSync(file);
      }
    });
  }
});

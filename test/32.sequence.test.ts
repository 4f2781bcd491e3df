import assert from "node:assert/strict";
import { type Decoder, Model, type Sequence } from "../lib/index.js";
import { CHAIN_PROMPT, CHAIN_TEXT, writeFixtures } from "./fixtures/gguf.js";
import { assertSameTokens, onGpu } from "./reference.js";

const fixtures = writeFixtures();

/** The logits of one fixed block, which depend on all KV rows before it. */
async function probe(sequence: Sequence): Promise<Float32Array> {
  const { logits } = await sequence.iterate({ blockSize: 2, draft: [70], logits: true });
  assert.ok(logits);
  return logits;
}

describe("sequence", () => {
  for (const name of ["llama", "gemma3"] as const) {
    describe(name, () => {
      let model: Model;
      let decoder: Decoder;
      let prompt: number[];
      before(async () => {
        model = await Model.load(fixtures[name]);
        decoder = await model.createDecoder({ lanes: 4, blockSize: 16, contextSize: 300, threads: 1 });
        prompt = model.tokenize("a sequence keeps its rows between turns");
      });
      after(() => model.dispose());

      it("iterates: accepted drafts are leading choices, the rest shifts into the next draft", async () => {
        const expected = (await decoder.generate(prompt, { maxTokens: 60, blockSize: 2 })).tokens;
        await using sequence = await decoder.sequence();
        assert.deepEqual(await sequence.prefill(prompt), { reused: 0, prefilled: prompt.length - 1 });
        const emitted: number[] = [];
        let carried: number[] = [];
        while (emitted.length < 60) {
          const position = sequence.position;
          const it = await sequence.iterate({ blockSize: 8, draftSource: "random" });
          assert.equal(it.position, position - 1);
          assert.equal(it.block.length, 8);
          assert.equal(it.choices.length, 8);
          assert.equal(it.logits, null);
          assert.equal(it.block[0], [...prompt, ...emitted].at(-1));
          assert.deepEqual(it.draft, it.block.slice(1));
          assert.deepEqual(it.draft.slice(0, carried.length), carried);
          let accepted = 0;
          while (accepted < 7 && it.draft[accepted] === it.choices[accepted]) accepted++;
          assert.equal(it.accepted, accepted);
          assert.deepEqual(it.tokens, it.choices.slice(0, accepted + 1));
          assert.equal(it.fastForwarded, accepted);
          assert.ok(it.stationary <= accepted);
          // Slots for which no iteration has a choice are drawn from the prompt.
          for (const token of it.draft.slice(carried.length)) assert.ok(prompt.includes(token));
          carried = it.choices.slice(accepted + 1);
          emitted.push(...it.tokens);
          assert.deepEqual(sequence.tokens, [...prompt, ...emitted]);
        }
        await sequence.dispose();
        await assertSameTokens(decoder, prompt, emitted.slice(0, 60), expected);
      });

      it("looks drafts up: what followed the last tokens where they stood before", async () => {
        await using sequence = await decoder.sequence();
        const before = [7, 8, 9, 10, 11, 12, 13];
        const text = [...before, 50, ...before.slice(0, 3)];
        await sequence.prefill(text);
        const { draft } = await sequence.iterate({ blockSize: 8, draftSource: "lookup" });
        assert.deepEqual(draft, [10, 11, 12, 13, 50, 7, 8]);
        // Behind the choices, or behind the draft of a call, lookup goes on from those tokens.
        await sequence.prefill(text);
        const given = [9, 8, 9, 10, 11, 12, 13];
        assert.deepEqual((await sequence.iterate({ blockSize: 8, draftSource: "lookup", draft: given })).draft, given);
      });

      it("the right draft is accepted whole, in one iteration", async () => {
        const { tokens } = await decoder.generate(prompt, { maxTokens: 16, blockSize: 2 });
        await using sequence = await decoder.sequence();
        await sequence.prefill(prompt);
        const it = await sequence.iterate({ blockSize: 16, draft: tokens.slice(0, 15) });
        assert.equal(it.accepted, 15);
        assert.deepEqual(it.tokens, tokens);
      });

      it("after any run the KV state is a fresh context's, bit for bit", async function () {
        if (onGpu) return this.skip(); // a row is rounded by the size of the pass that computed it
        for (const blockSize of [2, 8, 16]) {
          await using used = await decoder.sequence();
          await used.generate(prompt, { maxTokens: 50, blockSize });
          await using fresh = await decoder.sequence();
          await fresh.prefill(used.tokens);
          assert.deepEqual(await probe(used), await probe(fresh));
        }
      });

      it("rolls back, and goes on as if nothing had happened", async () => {
        await using sequence = await decoder.sequence();
        const { tokens } = await sequence.generate(prompt, { maxTokens: 40, blockSize: 8 });
        await sequence.rollback(prompt.length + 10);
        assert.deepEqual(sequence.tokens, [...prompt, ...tokens.slice(0, 10)]);
        const again: number[] = [];
        while (again.length < 30) again.push(...(await sequence.iterate({ blockSize: 4 })).tokens);
        assert.deepEqual(again.slice(0, 30), tokens.slice(10));
        await sequence.rollback(0);
        assert.equal(sequence.position, 0);
        await assert.rejects(sequence.iterate(), { code: "CLLM_NOT_SUPPORTED" });
        await assert.rejects(sequence.rollback(1), {
          name: "RangeError",
          message: "Expected an integer from 0 to 0 for position but received 1 of type number",
        });
      });

      it("forks: both copies go on independently and alike", async () => {
        await using sequence = await decoder.sequence();
        await sequence.prefill(prompt);
        for (let i = 0; i < 3; i++) await sequence.iterate({ blockSize: 4 });
        await using fork = await sequence.fork();
        assert.deepEqual(fork.tokens, sequence.tokens);
        const [a, b] = await Promise.all(
          [sequence, fork].map(async (one) => {
            const all = [];
            for (let i = 0; i < 10; i++) all.push(await one.iterate({ blockSize: 4 }));
            return all.map(({ block, choices, accepted }) => ({ block, choices, accepted }));
          }),
        );
        assert.deepEqual(a, b);
        assert.deepEqual(await probe(sequence), await probe(fork));
        await sequence.rollback(5);
        assert.notEqual(fork.position, sequence.position);
      });

      it("a second turn prefills only what is new", async () => {
        await using sequence = await decoder.sequence();
        const first = await sequence.generate(prompt, { maxTokens: 20 });
        assert.equal(first.stats.cachedTokens, 0);
        const next = [...sequence.tokens, ...prompt];
        const second = await sequence.generate(next, { maxTokens: 20 });
        assert.equal(second.stats.promptTokens, next.length);
        // The rows of all tokens but the last emitted one, whose row the next iteration would have written.
        assert.equal(second.stats.cachedTokens, prompt.length + first.tokens.length - 1);
        const cold = await decoder.generate(next, { maxTokens: 20 });
        assert.deepEqual(second.tokens, cold.tokens);
        assert.deepEqual(await sequence.prefill(prompt), { reused: prompt.length - 1, prefilled: 0 });
      });
    });
  }

  it("lanes: refused when all are held, free again when given back", async () => {
    await using model = await Model.load(fixtures.llama);
    await using decoder = await model.createDecoder({ lanes: 2, contextSize: 100, threads: 1 });
    const [a, b] = [await decoder.sequence(), await decoder.sequence()];
    await assert.rejects(decoder.sequence(), {
      code: "CLLM_NO_FREE_LANE",
      message: "Expected a free lane for a sequence but all 2 are in use",
    });
    await assert.rejects(a.fork(), { code: "CLLM_NO_FREE_LANE" });
    await assert.rejects(decoder.generate("x"), { code: "CLLM_NO_FREE_LANE", message: /held by sequences/ });
    await b.dispose();
    await b.dispose();
    assert.equal((await decoder.generate("x", { maxTokens: 2 })).tokens.length, 2);
    await assert.rejects(b.iterate(), { code: "CLLM_DISPOSED", message: "The sequence is disposed" });
    await a.prefill([50]);
    await assert.rejects(a.prefill(new Array(101).fill(50)), { code: "CLLM_CONTEXT_OVERFLOW" });
    await a.prefill(new Array(100).fill(50));
    await assert.rejects(a.iterate(), { code: "CLLM_CONTEXT_OVERFLOW", message: /full/ });
    await a.rollback(99);
    assert.equal((await a.iterate()).tokens.length, 1);
  });

  it("operations run in the order they were called; an abort keeps what was emitted", async () => {
    await using model = await Model.load(fixtures.chain);
    await using decoder = await model.createDecoder({ lanes: 1, contextSize: 2048, threads: 1 });
    await using sequence = await decoder.sequence();
    const prompt = model.tokenize(CHAIN_PROMPT);
    const stream = sequence.stream(prompt);
    const after = sequence.rollback(2);
    let text = "";
    for await (const chunk of stream) text += chunk.text;
    await after;
    assert.equal(text, CHAIN_TEXT);
    assert.equal(model.detokenize(sequence.tokens), CHAIN_PROMPT + CHAIN_TEXT[0]);

    assert.equal((await sequence.generate(prompt)).text, CHAIN_TEXT);
  });

  it("an aborted generation leaves the prompt and what was emitted", async () => {
    await using model = await Model.load(fixtures.llama);
    await using decoder = await model.createDecoder({ lanes: 1, contextSize: 2048, threads: 1 });
    await using sequence = await decoder.sequence();
    const { tokens } = await decoder
      .generate("x", { maxTokens: 5 })
      .catch(() => sequence.generate("x", { maxTokens: 5 }));
    const controller = new AbortController();
    const running = sequence.stream("x", { signal: controller.signal });
    const read = async () => {
      for await (const _ of running) controller.abort();
    };
    await assert.rejects(read(), { name: "AbortError" });
    const prompt = model.tokenize("x", { addSpecial: true });
    const emitted = sequence.position - prompt.length;
    assert.ok(emitted > 0 && emitted < 2000);
    assert.deepEqual(sequence.tokens.slice(0, prompt.length + Math.min(5, emitted)), [
      ...prompt,
      ...tokens.slice(0, emitted),
    ]);
    assert.deepEqual((await sequence.generate("x", { maxTokens: 5 })).tokens, tokens);
  });

  it("iterations of several sequences asked for at once share a pass", async () => {
    await using model = await Model.load(fixtures.llama);
    await using decoder = await model.createDecoder({ lanes: 3, blockSize: 4, contextSize: 100, threads: 1 });
    const sequences = await Promise.all([0, 1, 2].map(() => decoder.sequence()));
    await Promise.all(sequences.map((sequence, i) => sequence.prefill([50 + i, 60, 70])));
    // The thread may begin with the first iteration before the others have been sent, but not every time.
    let shared = 0;
    for (let round = 0; round < 25; round++) {
      const iterations = await Promise.all(sequences.map((sequence) => sequence.iterate()));
      // Iterations of one pass report the same time.
      if (new Set(iterations.map((it) => it.forwardMilliseconds)).size < 3) shared++;
      await Promise.all(sequences.map((sequence) => sequence.rollback(3)));
    }
    assert.ok(shared > 0);
  });

  it("checks its options", async () => {
    await using model = await Model.load(fixtures.llama);
    await using decoder = await model.createDecoder({ blockSize: 4, contextSize: 100, threads: 1 });
    await using sequence = await decoder.sequence();
    await assert.rejects(sequence.prefill([]), { name: "RangeError", message: /at least one token for tokens/ });
    await assert.rejects(sequence.prefill([99999]), {
      name: "RangeError",
      message: /for tokens\[0\] but received 99999/,
    });
    await assert.rejects(sequence.iterate({ blockSize: 5 }), {
      message: "Expected an integer from 1 to 4 for blockSize but received 5 of type number",
    });
    await assert.rejects(sequence.iterate({ draft: [1] }), { name: "RangeError", message: /3 token ids for draft/ });
  });
});

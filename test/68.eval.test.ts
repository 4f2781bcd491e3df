import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { CllmError, type EvaluateResult, evaluate, Model, readPromptData } from "../lib/index.js";
import { cllm } from "./fixtures/cli-child.js";
import { writeFixtures } from "./fixtures/gguf.js";

describe("evaluate", () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "cllm-eval-"));
  const file = (name: string) => path.join(folder, name);
  const { chain, llama } = writeFixtures();
  let model: Model;

  before(async () => {
    model = await Model.load(chain);
  });
  after(async () => {
    await model.dispose();
    fs.rmSync(folder, { recursive: true, force: true });
  });

  const answerOf = async (prompt: string) => {
    await using decoder = await model.createDecoder({ blockSize: 2, contextSize: 128, threads: 1 });
    return (await decoder.generate(prompt, { maxTokens: 12 })).text;
  };

  it("counts as generate() does, and finds equal and exact answers", async () => {
    const items = [
      { line: 1, input: "one two", answer: await answerOf("one two") },
      { line: 2, input: "in there", answer: "something else" },
    ];
    const seen: number[] = [];
    const { rows, prompts } = await evaluate(model, items, {
      blockSizes: [8, 2],
      maxTokens: 12,
      threads: 1,
      rounds: 2,
      onProgress: ({ done }) => seen.push(done),
    });
    assert.deepEqual(
      rows.map((row) => row.blockSize),
      [1, 2, 8],
    );
    assert.deepEqual(seen, [1, 2]);
    assert.equal(prompts, 2);
    await using decoder = await model.createDecoder({ blockSize: 8, contextSize: 128, threads: 1 });
    for (const row of rows) {
      let [emitted, iterations, fast] = [0, 0, 0];
      for (const { input } of items) {
        const { stats } = await decoder.generate(input, { blockSize: row.blockSize, maxTokens: 12 });
        emitted += stats.emittedTokens;
        iterations += stats.iterations;
        fast += stats.fastForwardedTokens;
      }
      assert.equal(row.tokensPerIteration, emitted / iterations);
      assert.equal(row.fastForwardedPerBlock, (fast / emitted) * row.blockSize);
      assert.equal(row.equal, 1);
      assert.equal(row.exact, 0.5);
      assert.ok(row.tokensPerSecond > 0);
    }
    assert.equal(rows[0]?.speedUp, 1);
  });

  it("perplexity: the answer's tokens one by one give the same", async () => {
    const items = [{ line: 1, input: "one two", answer: "there and then" }];
    const { perplexity } = await evaluate(model, items, { blockSizes: [4], maxTokens: 2, threads: 1 });
    const prompt = model.tokenize("one two", { addSpecial: true });
    const { eot, eos } = model.specialTokens;
    const answer = [...model.tokenize("there and then"), eot ?? eos ?? 0];
    await using decoder = await model.createDecoder({ blockSize: 2, contextSize: 128, threads: 1 });
    const sequence = await decoder.sequence();
    let sum = 0;
    for (const [i, token] of answer.entries()) {
      await sequence.prefill([...prompt, ...answer.slice(0, i)]);
      const { logits } = await sequence.iterate({ blockSize: 2, logits: true });
      const row = Array.from((logits as Float32Array).subarray(0, model.info.vocabSize));
      const largest = Math.max(...row);
      sum += (row[token] as number) - largest - Math.log(row.reduce((s, x) => s + Math.exp(x - largest), 0));
    }
    assert.ok(Math.abs((perplexity as number) / Math.exp(-sum / answer.length) - 1) < 1e-3);
  });

  it("a prompt without an answer is no exact match, even where the model says nothing", async () => {
    const items = [
      { line: 1, input: "one two", answer: await answerOf("one two") },
      { line: 2, input: ".", answer: null },
    ];
    assert.equal(await answerOf("."), "");
    const { rows } = await evaluate(model, items, { blockSizes: [2], maxTokens: 12, threads: 1 });
    assert.ok(rows.every((row) => row.exact === 1));
  });

  it("needs no answers, and refuses wrong options", async () => {
    const items = [{ line: 1, input: "one two", answer: null }];
    const result = await evaluate(model, items, { blockSizes: [2], maxTokens: 4, threads: 1 });
    assert.equal(result.perplexity, null);
    assert.equal(result.rows[0]?.exact, null);
    await assert.rejects(
      evaluate(model, items, { blockSizes: [0] }),
      /Expected an integer from 1 to 128 for blockSizes\[0\]/,
    );
    await assert.rejects(evaluate(model, []), /Expected at least one prompt for items/);
    const controller = new AbortController();
    controller.abort(new Error("enough"));
    await assert.rejects(evaluate(model, items, { signal: controller.signal, threads: 1 }), /enough/);
  });

  it("cllm eval: a table, JSON and a plot of two models", async () => {
    fs.writeFileSync(
      file("data.jsonl"),
      '\uFEFF{"prompt": "one two", "answer": "three"}\r\n\r\n{"prompt": "in there"}\r\n',
    );
    const [json, svg] = [file("out.json"), file("out.svg")];
    const args = ["eval", chain, file("data.jsonl"), "--compare", llama, "-b", "2,4", "-n", "6", "-t", "1"];
    const { code, stdout, stderr } = await cllm([...args, "--json", json, "--plot", svg]);
    assert.equal(code, 0, stderr);
    assert.equal(stdout.match(/tokens\/iteration/g)?.length, 2);
    const results = JSON.parse(fs.readFileSync(json, "utf8")) as EvaluateResult[];
    assert.deepEqual(
      results.map((result) => result.path),
      [chain, llama],
    );
    const drawn = fs.readFileSync(svg, "utf8");
    assert.match(drawn, /^<svg .*<\/svg>\n$/s);
    assert.equal(drawn.match(/<path /g)?.length, 4);
    assert.doesNotMatch(drawn, /NaN|undefined/);
    assert.deepEqual(JSON.parse((await cllm([...args, "--json", "-"])).stdout).length, 2);
    assert.equal((await cllm(["eval", chain, file("none.jsonl")])).code, 1);
  }).timeout(60_000);

  it("prompt data: the error names the line and its fault", async () => {
    fs.writeFileSync(file("bad.jsonl"), '{"prompt": "a"}\n{"prompt": 3}\n');
    await assert.rejects(readPromptData(file("bad.jsonl"), false), (error: unknown) => {
      assert.ok(error instanceof CllmError);
      assert.equal(error.code, "CLLM_INVALID_DATA");
      assert.match(error.message, /bad\.jsonl, line 2: expected a non-empty text as prompt/);
      return true;
    });
  });
});

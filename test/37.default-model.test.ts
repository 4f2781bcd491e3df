import assert from "node:assert/strict";
import fs from "node:fs";
import { defaultModel, Model } from "../lib/index.js";
import { cllm } from "./fixtures/cli-child.js";
import { assertNearTie, assertSameTokens, onGpu } from "./reference.js";

// Easy for it: whether it can do its job is measured by models/text-to-sql/make.mjs, not here.
const TABLES =
  "table singer(singer_id, name, country, age)\ntable concert(concert_id, title, city, ticket_price, concert_year)";
const CASES = [
  ["How many singers are there?", "SELECT count(*) FROM singer"],
  ["How many singers are older than 30?", "SELECT count(*) FROM singer WHERE age > 30"],
  ["Show the name and country of all singers.", "SELECT name, country FROM singer"],
  ["What is the average ticket price of all concerts?", "SELECT avg(ticket_price) FROM concert"],
  ["List the title of concerts in the city 'Oslo'.", "SELECT title FROM concert WHERE city = 'Oslo'"],
  ["How many concerts are there for each city?", "SELECT city, count(*) FROM concert GROUP BY city"],
] as const;
const chat = (question: string) => [
  { role: "system", content: TABLES },
  { role: "user", content: question },
];

describe("the model that comes with the package", function () {
  this.timeout(30_000);

  it("is at most 10 MB, and what Model.load() loads without a path", async () => {
    assert.ok(fs.statSync(defaultModel).size <= 10e6);
    await using model = await Model.load();
    assert.equal(model.path, defaultModel);
    assert.ok(model.chatTemplate !== null);
    assert.equal(model.info.description, "llama 4.8M BF16");
  });

  it("answers easy questions, with any block size what ordinary decoding gives", async () => {
    await using model = await Model.load();
    await using decoder = await model.createDecoder({ contextSize: 256 });
    let right = 0;
    for (const [question, sql] of CASES) {
      const { text, tokens } = await decoder.generate(chat(question), { blockSize: 16 });
      if (text === sql) right++;
      // To the bit for n >= 2; at n = 1, and so with auto, up to near-ties.
      assert.deepEqual((await decoder.generate(chat(question), { blockSize: 2 })).tokens, tokens);
      const prompt = model.tokenize(model.applyChatTemplate(chat(question)), { parseSpecial: true });
      for (const blockSize of [1, "auto"] as const) {
        const other = await decoder.generate(prompt, { blockSize });
        if (onGpu) await assertSameTokens(decoder, prompt, other.tokens, tokens);
        else assertNearTie(defaultModel, { width: 2, chunk: 32, maxTokens: 0, prompt }, other.tokens, tokens);
      }
    }
    assert.ok(right >= CASES.length - 1, `${right} of ${CASES.length} right`);
  });

  it("is used by the command line when no model is named", async () => {
    const [question, sql] = CASES[2];
    for (const args of [["generate"], ["generate", "default"], ["trace", "--json"]]) {
      const { code, stdout, stderr } = await cllm([...args, "--system", TABLES, question]);
      assert.equal(code, 0, stderr);
      assert.equal(args[0] === "trace" ? JSON.parse(stdout).text : stdout.trim(), sql);
    }
    const piped = await cllm(["generate", "--system", TABLES, "-"], question);
    assert.equal(piped.stdout.trim(), sql);
    const talk = await cllm(["chat", "--system", TABLES], `${question}\n`);
    assert.match(talk.stdout, /SELECT name, country FROM singer/);
    assert.match((await cllm(["inspect"])).stdout, /text-to-sql\.gguf/);
  });
});

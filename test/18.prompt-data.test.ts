import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { splitHeldBack } from "../lib/distill/examples.js";
import { type CllmError, type PromptItem, readPromptData } from "../lib/index.js";
import { topicOf, withoutRepetitions } from "../lib/prompt-data.js";

describe("prompt data", () => {
  let directory: string;
  before(() => {
    directory = fs.mkdtempSync(path.join(os.tmpdir(), "cllm-prompts-"));
  });
  after(() => fs.rmSync(directory, { recursive: true, force: true }));

  function read(content: string, name = "data.jsonl", needAnswers = false): Promise<PromptItem[]> {
    const file = path.join(directory, name);
    fs.writeFileSync(file, content);
    return readPromptData(file, needAnswers);
  }
  const user = (content: string) => ({ role: "user", content });
  const assistant = (content: string) => ({ role: "assistant", content });

  it("JSON lines of prompts and messages, with a byte order mark, empty lines and CRLF", async () => {
    const lines = [{ prompt: "a", answer: "b", other: 1 }, { messages: [user("c")] }].map((line) =>
      JSON.stringify(line),
    );
    assert.deepEqual(await read(`\uFEFF${lines[0]}\r\n\r\n  \r\n${lines[1]}\r\n`), [
      { line: 1, input: "a", answer: "b" },
      { line: 4, input: [user("c")], answer: null },
    ]);
  });

  it("one JSON list of the same", async () => {
    const list = [{ prompt: "a" }, { messages: [user("c")], answer: "d" }];
    assert.deepEqual(await read(` \n${JSON.stringify(list, null, 2)}`, "data.json"), [
      { line: 1, input: "a", answer: null },
      { line: 2, input: [user("c")], answer: "d" },
    ]);
  });

  it("chats of OpenAI's form: each answer with what was said before", async () => {
    const system = { role: "system", content: "Be brief." };
    const chat = {
      messages: [
        system,
        user("1"),
        { ...assistant("one"), weight: 0 },
        {
          role: "user",
          content: [
            { type: "text", text: "2" },
            { type: "text", text: "3" },
          ],
        },
        assistant("two three"),
        user("4"),
      ],
    };
    assert.deepEqual(await read(JSON.stringify(chat)), [
      { line: 1, input: [system, user("1"), assistant("one"), user("23")], answer: "two three" },
    ]);
  });

  it("chats of ShareGPT's form", async () => {
    const list = [
      {
        id: "x",
        conversations: [
          { from: "human", value: "1" },
          { from: "gpt", value: "one" },
          { from: "human", value: "2" },
          { from: "gpt", value: "two" },
        ],
      },
      {
        id: "y",
        conversations: [
          { from: "gpt", value: "Welcome" },
          { from: "human", value: "1" },
        ],
      },
    ];
    assert.deepEqual(await read(JSON.stringify(list), "sharegpt.json"), [
      { line: 1, input: [user("1")], answer: "one" },
      { line: 1, input: [user("1"), assistant("one"), user("2")], answer: "two" },
      { line: 2, input: [assistant("Welcome"), user("1")], answer: null },
    ]);
  });

  it("text files: prompts with empty lines between them", async () => {
    assert.deepEqual(await read("\n\none\nline\n \n\ntwo", "prompts.TXT"), [
      { line: 3, input: "one\nline", answer: null },
      { line: 7, input: "two", answer: null },
    ]);
  });

  it("names the line and its fault", async () => {
    const cases: [string, string, RegExp][] = [
      ["data.jsonl", '{"prompt": "a"}\n{', /line 2: expected a JSON object but found/],
      ["data.jsonl", '{"prompt": "a"}\n7', /line 2: expected a JSON object$/],
      ["data.json", "[1]", /entry 1: expected a JSON object$/],
      ["data.json", "[{}", /expected a JSON list but found/],
      ["data.jsonl", "{}", /expected either a prompt, messages or conversations/],
      ["data.jsonl", '{"prompt": "a", "messages": []}', /expected either a prompt/],
      ["data.jsonl", '{"prompt": ""}', /a non-empty text as prompt/],
      ["data.jsonl", '{"prompt": "a", "answer": 1}', /a non-empty text as answer/],
      ["data.jsonl", '{"messages": []}', /a list of messages/],
      ["data.jsonl", '{"messages": [null]}', /a role and a content/],
      ["data.jsonl", '{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', /a role and a content/],
      ["data.jsonl", '{"messages": [{"role": "assistant", "content": null, "tool_calls": []}]}', /tool calls/],
      ["data.jsonl", '{"conversations": [{"from": "observation", "value": "x"}]}', /from \(human, .* and a value/],
      ["data.jsonl", '{"conversations": {}}', /a list of conversations/],
      ["data.jsonl", "\n \n", /has no prompts/],
      ["data.jsonl", '{"messages": [{"role": "assistant", "content": "Hi"}]}', /has no prompts/],
      ["prompts.txt", " \n", /has no prompts/],
    ];
    for (const [name, content, message] of cases) {
      await assert.rejects(read(content, name), (error: CllmError) => {
        assert.equal(error.code, "CLLM_INVALID_DATA", content);
        assert.match(error.message, message);
        assert.ok(error.message.includes(name));
        return true;
      });
    }
    await assert.rejects(readPromptData(path.join(directory, "none")), {
      code: "CLLM_INVALID_DATA",
      message: /cannot be read/,
    });
    await assert.rejects(read('{"prompt": "a"}', "data.jsonl", true), {
      message: /expected an answer but there is none/,
    });
    await assert.rejects(read("a", "prompts.txt", true), { message: /a text file holds prompts alone/ });
  });

  it("repetitions count once, and turns of one chat are not parted", () => {
    const item = (input: PromptItem["input"], answer: string | null = null): PromptItem => ({ line: 1, input, answer });
    const items = [item("a", "1"), item("a", "2"), item("a", "1"), item([user("a")], "1")];
    assert.equal(withoutRepetitions(items, true).length, 3);
    assert.deepEqual(withoutRepetitions(items, false), [items[0], items[3]]);

    const chats = Array.from({ length: 10 }, (_, i) => [
      item([user(`${i}`)]),
      item([user(`${i}`), assistant("x"), user("y")]),
    ]).flat();
    const { trained, heldBack } = splitHeldBack(chats, chats.map(topicOf), 3);
    assert.equal(heldBack.length, 6);
    assert.equal(trained.length, 14);
    const topics = new Set(heldBack.map(topicOf));
    assert.ok(trained.every((each) => !topics.has(topicOf(each))));
    assert.equal(splitHeldBack(["only"], ["one"], 5).heldBack.length, 0);
  });
});

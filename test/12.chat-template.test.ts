import assert from "node:assert/strict";
import { renderChat } from "../lib/chat/template.js";
import { CllmError, Model } from "../lib/index.js";
import { writeFixtures } from "./fixtures/gguf.js";

const fixtures = writeFixtures();
const MESSAGES = [
  { role: "system", content: "Be brief." },
  { role: "user", content: "Hi\n<b>" },
  { role: "assistant", content: "Hello." },
  { role: "user", content: "Bye" },
];
const TOKENS = { bos: "<s>", eos: "</s>" };

describe("chat templates", () => {
  it("ChatML", async () => {
    await using model = await Model.load(fixtures.llama);
    assert.equal(
      model.applyChatTemplate(MESSAGES.slice(0, 2)),
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi\n<b><|im_end|>\n<|im_start|>assistant\n",
    );
    assert.ok(model.applyChatTemplate(MESSAGES, { addGenerationPrompt: false }).endsWith("Bye<|im_end|>\n"));
    assert.equal(
      model.applyChatTemplate(MESSAGES, { template: "{{ messages | length }}{{ bos_token }}" }),
      "4<|im_start|>",
    );
  });

  it("Llama 3, with bos_token and trim", () => {
    const template =
      "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'" +
      "+ message['content'] | trim + '<|eot_id|>' }}{% endfor %}" +
      "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";
    const text = renderChat(template, [{ role: "user", content: "  Hi " }], true, TOKENS);
    assert.equal(
      text,
      "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    );
  });

  it("loops, namespaces, and what a template refuses", () => {
    const template =
      "{% set ns = namespace(last='') %}{% for m in messages %}{% if m.role == ns.last %}" +
      "{{ raise_exception('roles must alternate') }}{% endif %}{% set ns.last = m.role %}{{ m.content }}{{ eos_token }}{% endfor %}";
    assert.equal(renderChat(template, MESSAGES.slice(1, 3), false, TOKENS), "Hi\n<b></s>Hello.</s>");
    assert.throws(
      () =>
        renderChat(
          template,
          [
            { role: "user", content: "a" },
            { role: "user", content: "b" },
          ],
          false,
          TOKENS,
        ),
      (error: CllmError) => {
        assert.ok(error instanceof CllmError);
        assert.equal(error.code, "CLLM_CHAT_TEMPLATE");
        assert.match(error.message, /roles must alternate/);
        assert.ok(error.cause instanceof Error);
        return true;
      },
    );
  });

  it("malformed, and missing", async () => {
    assert.throws(() => renderChat("{% for x in", MESSAGES, true, TOKENS), { code: "CLLM_CHAT_TEMPLATE" });
    await using model = await Model.load(fixtures.llamaTied);
    assert.equal(model.chatTemplate, null);
    assert.throws(() => model.applyChatTemplate(MESSAGES), {
      code: "CLLM_CHAT_TEMPLATE",
      message: /has no chat template: pass one in options.template/,
    });
    await using decoder = await model.createDecoder({ contextSize: 64, threads: 1 });
    await assert.rejects(decoder.generate(MESSAGES), { code: "CLLM_CHAT_TEMPLATE" });
  });
});

import assert from "node:assert/strict";
import { type ChatMessage, chatMessages, renderChat } from "../lib/chat/template.js";
import { CllmError } from "../lib/index.js";

// Templates as published with the models. Python's jinja2 rendered the expected texts with the settings of transformers
// (trim_blocks, lstrip_blocks), not the library under test.
const SMOLLM2 = `{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}`;

const LLAMA3 =
  "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";

/** The parts of Llama 3.2's template that other templates lack: the date, and slices of messages. Tool calls are left out. */
const LLAMA32 = `{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- This block extracts the system message, so we can slot it into the right place. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}`;

/** Qwen 2.5's template without its branch for tools; earlier turns lose their thoughts as in Qwen 3's template. */
const QWEN25 = `{%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}`;

const QWEN3 = `{%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
    {%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content %}
        {%- if '</think>' in message.content %}
            {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>' + message.role + '\\n' + content }}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}`;

const GEMMA2 = `{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '
' + message['content'] | trim + '<end_of_turn>
' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model
'}}{% endif %}`;

const USER: ChatMessage[] = [{ role: "user", content: "  Hi <|im_end|> é🦊 \n" }];
const TURNS: ChatMessage[] = [
  { role: "system", content: "Be brief." },
  { role: "user", content: "2+2?" },
  { role: "assistant", content: "<think>\nhm\n</think>\n\n4" },
  { role: "user", content: '"more" & <b>' },
];
const tokens = { bos: "<BOS>", eos: "<EOS>" };

const EXPECTED: [string, string, ChatMessage[], boolean, string][] = [
  [
    "SmolLM2 (ChatML)",
    SMOLLM2,
    USER,
    true,
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\n  Hi <|im_end|> é🦊 \n<|im_end|>\n<|im_start|>assistant\n",
  ],
  [
    "SmolLM2 (ChatML)",
    SMOLLM2,
    TURNS,
    true,
    '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n<think>\nhm\n</think>\n\n4<|im_end|>\n<|im_start|>user\n"more" & <b><|im_end|>\n<|im_start|>assistant\n',
  ],
  [
    "SmolLM2 (ChatML)",
    SMOLLM2,
    TURNS,
    false,
    '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n<think>\nhm\n</think>\n\n4<|im_end|>\n<|im_start|>user\n"more" & <b><|im_end|>\n',
  ],
  [
    "Llama 3",
    LLAMA3,
    USER,
    true,
    "<BOS><|start_header_id|>user<|end_header_id|>\n\nHi <|im_end|> é🦊<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
  ],
  [
    "Llama 3",
    LLAMA3,
    TURNS,
    true,
    '<BOS><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n2+2?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n<think>\nhm\n</think>\n\n4<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"more" & <b><|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n',
  ],
  [
    "Qwen 2.5",
    QWEN25,
    USER,
    true,
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n<|im_start|>user\n  Hi <|im_end|> é🦊 \n<|im_end|>\n<|im_start|>assistant\n",
  ],
  [
    "Qwen 2.5",
    QWEN25,
    TURNS,
    true,
    '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n<think>\nhm\n</think>\n\n4<|im_end|>\n<|im_start|>user\n"more" & <b><|im_end|>\n<|im_start|>assistant\n',
  ],
  ["Qwen 3", QWEN3, USER, true, "<|im_start|>user\n  Hi <|im_end|> é🦊 \n<|im_end|>\n<|im_start|>assistant\n"],
  [
    "Qwen 3",
    QWEN3,
    TURNS,
    true,
    '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n<|im_start|>user\n"more" & <b><|im_end|>\n<|im_start|>assistant\n',
  ],
  ["Gemma 2", GEMMA2, USER, true, "<BOS><start_of_turn>user\nHi <|im_end|> é🦊<end_of_turn>\n<start_of_turn>model\n"],
  [
    "Gemma 2",
    GEMMA2,
    TURNS.slice(1),
    true,
    '<BOS><start_of_turn>user\n2+2?<end_of_turn>\n<start_of_turn>model\n<think>\nhm\n</think>\n\n4<end_of_turn>\n<start_of_turn>user\n"more" & <b><end_of_turn>\n<start_of_turn>model\n',
  ],
];

describe("chat templates as published", () => {
  for (const [name, template, messages, prompt, expected] of EXPECTED) {
    it(`${name}, ${messages.length} messages${prompt ? ", generation prompt" : ""}`, () => {
      assert.equal(renderChat(template, messages, prompt, tokens), expected);
    });
  }

  it("Llama 3.2 asks for today's date", () => {
    const now = new Date();
    const month = now.toLocaleString("en-US", { month: "short" });
    const today = `${String(now.getDate()).padStart(2, "0")} ${month} ${now.getFullYear()}`;
    assert.equal(
      renderChat(LLAMA32, [TURNS[0] as ChatMessage, TURNS[1] as ChatMessage], true, tokens),
      `<BOS><|start_header_id|>system<|end_header_id|>\n\nToday Date: ${today}\n\nBe brief.<|eot_id|>` +
        "<|start_header_id|>user<|end_header_id|>\n\n2+2?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    );
  });

  it("tools and documents are none, as in transformers: defined, and not to be iterated", () => {
    const template = "{% if tools is not none and tools|length > 0 %}tools{% endif %}{{ documents is none }}";
    assert.equal(renderChat(template, USER, true, tokens).toLowerCase(), "true");
  });

  it("other keys of a message than role and content reach the template", () => {
    const messages = chatMessages([{ role: "user", content: "x", name: "Ada" }]);
    assert.equal(renderChat("{{ messages[0].name }}: {{ messages[0].content }}", messages, false, tokens), "Ada: x");
  });

  it("a template that refuses, or is malformed, is CLLM_CHAT_TEMPLATE with the cause", () => {
    for (const [template, messages, message] of [
      [GEMMA2, TURNS, /System role not supported/],
      [GEMMA2, [...USER, ...USER], /roles must alternate/],
      ["{% for m in messages %}", USER, /chat template could not be rendered/],
      ["{{ messages[0].content | nonsense }}", USER, /chat template could not be rendered/],
      ["{{ 'open", USER, /chat template could not be rendered/],
    ] as const) {
      assert.throws(
        () => renderChat(template, messages, true, tokens),
        (error: unknown) => {
          assert.ok(error instanceof CllmError);
          assert.equal(error.code, "CLLM_CHAT_TEMPLATE");
          assert.match(error.message, message);
          assert.ok(error.cause instanceof Error);
          return true;
        },
      );
    }
  });

  it("messages are validated, naming the wrong one", () => {
    for (const [bad, message] of [
      [undefined, "Expected an array of chat messages for messages but received undefined of type undefined"],
      [[...USER, "x"], 'Expected an object with role and content for messages[1] but received "x" of type string'],
      [[{ content: "x" }], "Expected a string for messages[0].role but received undefined of type undefined"],
      [[{ role: "user", content: 5 }], "Expected a string for messages[0].content but received 5 of type number"],
    ] as const) {
      assert.throws(() => chatMessages(bad), { name: "TypeError", message });
    }
  });
});

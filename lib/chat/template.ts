import { CllmError } from "../errors.js";
import { typeError } from "../options.js";

/** Loads @huggingface/jinja when the first template is rendered, because it costs 1.3 MB. */
function jinja() {
  // The package has both kinds of module, but its types claim an ES module only, which CommonJS may not import.
  return require("@huggingface/jinja") as {
    Template: new (source: string) => { render(items: Record<string, unknown>): string };
  };
}

/** One message of a conversation. */
export interface ChatMessage {
  /** `system`, `user` or `assistant`; a template may know more. */
  role: string;
  /** Text of the message. */
  content: string;
}

/** Texts of the special tokens that templates name. */
export interface TemplateTokens {
  bos: string;
  eos: string;
}

/** Checks that the value is an array of messages, and returns it unchanged. */
export function chatMessages(value: unknown): readonly ChatMessage[] {
  if (!Array.isArray(value)) throw typeError("an array of chat messages", "messages", value);
  for (const [i, entry] of value.entries()) {
    if (typeof entry !== "object" || entry === null) {
      throw typeError("an object with role and content", `messages[${i}]`, entry);
    }
    const { role, content } = entry as Partial<ChatMessage>;
    if (typeof role !== "string") throw typeError("a string", `messages[${i}].role`, role);
    if (typeof content !== "string") throw typeError("a string", `messages[${i}].content`, content);
  }
  return value as readonly ChatMessage[];
}

/**
 * Renders a chat template (Jinja, as in the GGUF key `tokenizer.chat_template`) with the variables that transformers
 * passes to it. `raise_exception`, `strftime_now` and `range` come from the Jinja library.
 *
 * @throws {@link CllmError} `CLLM_CHAT_TEMPLATE` when the template is malformed, or refuses the messages.
 */
export function renderChat(
  template: string,
  messages: readonly ChatMessage[],
  addGenerationPrompt: boolean,
  tokens: TemplateTokens,
): string {
  try {
    return new (jinja().Template)(template).render({
      messages,
      add_generation_prompt: addGenerationPrompt,
      bos_token: tokens.bos,
      eos_token: tokens.eos,
      // Templates test `tools is not none` without testing that `tools` is defined, because transformers always defines it.
      tools: null,
      documents: null,
    });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new CllmError("CLLM_CHAT_TEMPLATE", `The chat template could not be rendered: ${reason}`, { cause });
  }
}

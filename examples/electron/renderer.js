// The page knows messages only; preload.js gives it window.cllm.
const element = (id) => document.getElementById(id);
const [conversation, status, form, text, send, stop] = "conversation status form text send stop"
  .split(" ")
  .map(element);

const messages = [];
let answering = null; // { id, paragraph, content }

function paragraph(role, content) {
  const p = document.createElement("p");
  p.className = role;
  p.textContent = content; // text, never HTML: a model's answer is not to be trusted
  conversation.append(p);
  conversation.scrollTop = conversation.scrollHeight;
  return p;
}

function endAnswer(statusText) {
  if (answering === null) return;
  // The text before a stop stays part of the conversation.
  messages.push({ role: "assistant", content: answering.content });
  answering = null;
  send.disabled = false;
  stop.disabled = true;
  status.textContent = statusText;
}

window.cllm.onMessage((message) => {
  if (message.type === "connected") {
    endAnswer("");
    status.textContent = "Starting the model";
  } else if (message.type === "progress") {
    status.textContent = `${message.phase}: ${Math.round(message.fraction * 100)}%`;
  } else if (message.type === "ready") {
    status.textContent = `${message.description}, ${message.binary}`;
  } else if (message.type === "failed") {
    status.textContent = message.message;
  } else if (answering === null || message.id !== answering.id) {
    return; // the answer it belongs to is over
  } else if (message.type === "text") {
    answering.content += message.text;
    answering.paragraph.textContent = answering.content;
    conversation.scrollTop = conversation.scrollHeight;
  } else if (message.type === "done") {
    const { tokensPerSecond, tokensPerIteration } = message.stats;
    endAnswer(`${tokensPerSecond.toFixed(1)} tokens/s, ${tokensPerIteration.toFixed(2)} tokens per iteration`);
  } else if (message.type === "stopped") {
    endAnswer("Stopped");
  } else if (message.type === "error") {
    endAnswer(`${message.code ?? "Error"}: ${message.message}`);
  }
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (text.value.trim() === "" || answering !== null) return;
  messages.push({ role: "user", content: text.value });
  paragraph("user", text.value);
  text.value = "";
  answering = { id: window.cllm.generate(messages), paragraph: paragraph("assistant", ""), content: "" };
  send.disabled = true;
  stop.disabled = false;
});

stop.addEventListener("click", () => answering && window.cllm.stop(answering.id));

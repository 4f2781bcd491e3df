/**
 * The page's program. It renders only the current iteration and a few before it, so that thousands of iterations cost
 * nothing. Texts are only ever set as textContent.
 */
export const SCRIPT = `"use strict";
const trace = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const WINDOW = 12;
const PLAY_MILLISECONDS = 400;
const total = trace.iterations.length;
const sums = [];
trace.iterations.reduce((sum, it) => {
  const count = (kind) => it.kinds.filter((k) => k === kind).length;
  const next = { tokens: sum.tokens + it.emitted.length, ms: sum.ms + it.forwardMilliseconds,
    stationary: sum.stationary + count("stationary"),
    fast: sum.fast + count("stationary") + count("fastForwarded") };
  sums.push(next);
  return next;
}, { tokens: 0, ms: 0, stationary: 0, fast: 0 });
let current = 0;
let timer = null;

function visible(text) {
  return text.replace(/ /g, "\\u2423").replace(/\\n/g, "\\u21b5").replace(/\\t/g, "\\u21e5").replace(/\\r/g, "\\u240d")
    .replace(/[\\u0000-\\u001f\\u007f]/g, (c) => "<0x" + c.charCodeAt(0).toString(16).padStart(2, "0") + ">") || "\\u2205";
}
function chip(id, kind) {
  const span = document.createElement("span");
  span.className = "t " + kind;
  span.dir = "auto";
  span.textContent = visible(trace.tokens[id]);
  span.title = (kind === "plain" ? "" : kind + ", ") + "token " + id;
  return span;
}
function fill(element, children) { element.replaceChildren(...children); }
function blockOf(it) { return it.block.map((id, j) => chip(id, it.kinds[j])); }
function choicesOf(it) {
  const last = it.emitted.length - 1;
  return it.choices.map((id, j) => chip(id, j === last ? "accepted" : j < last ? it.kinds[j + 1] : "plain"));
}
function figure(name, value) {
  const box = document.createElement("div");
  const dt = document.createElement("dt");
  const dd = document.createElement("dd");
  dt.textContent = name;
  dd.textContent = value;
  box.append(dt, dd);
  return box;
}
function goTo(index) {
  if (total === 0) return;
  current = Math.max(0, Math.min(total - 1, index));
  const it = trace.iterations[current];
  const sum = sums[current];
  byId("slider").value = current + 1;
  byId("where").textContent = "Iteration " + (current + 1) + " of " + total + ", position " + it.position + ": " +
    it.emitted.length + (it.emitted.length === 1 ? " token" : " tokens") + " emitted";
  fill(byId("block"), blockOf(it));
  fill(byId("choices"), choicesOf(it));
  const before = current === 0 ? 0 : trace.iterations[current - 1].textLength;
  const fresh = document.createElement("span");
  fresh.className = "new";
  fresh.textContent = trace.text.slice(before, it.textLength);
  fill(byId("text"), [document.createTextNode(trace.text.slice(0, before)), fresh]);
  const perSecond = sum.ms > 0 ? (sum.tokens / sum.ms * 1000).toFixed(0) : "-";
  fill(byId("figures"), [
    figure("tokens", sum.tokens + " of " + trace.emittedTokens),
    figure("tokens per iteration", (sum.tokens / (current + 1)).toFixed(2)),
    figure("fast-forwarded", sum.fast),
    figure("stationary", sum.stationary),
    figure("forward passes", sum.ms.toFixed(1) + " ms"),
    figure("tokens per second", perSecond),
  ]);
  const rows = [];
  for (let i = Math.max(0, current - WINDOW + 1); i <= current; i++) {
    const row = document.createElement("div");
    row.className = i === current ? "row current" : "row";
    const label = document.createElement("span");
    label.textContent = i + 1;
    const tokens = document.createElement("div");
    tokens.className = "tokens";
    fill(tokens, blockOf(trace.iterations[i]));
    row.append(label, tokens);
    rows.push(row);
  }
  fill(byId("history"), rows);
}
function pause() {
  clearInterval(timer);
  timer = null;
  byId("play").textContent = "\\u25b6 Play";
}
function play() {
  if (timer !== null) return pause();
  if (current === total - 1) goTo(0);
  byId("play").textContent = "Pause";
  timer = setInterval(() => { goTo(current + 1); if (current === total - 1) pause(); }, PLAY_MILLISECONDS);
}
const actions = {
  first: () => goTo(0), back: () => goTo(current - 1), next: () => goTo(current + 1), last: () => goTo(total - 1),
};
for (const [id, action] of Object.entries(actions)) byId(id).onclick = () => { pause(); action(); };
byId("play").onclick = play;
byId("slider").max = Math.max(1, total);
byId("slider").oninput = (event) => { pause(); goTo(Number(event.target.value) - 1); };
document.addEventListener("keydown", (event) => {
  const action = { ArrowLeft: "back", ArrowRight: "next", Home: "first", End: "last" }[event.key];
  if (action) { pause(); actions[action](); event.preventDefault(); }
  else if (event.key === " " && event.target.tagName !== "BUTTON" && event.target.tagName !== "SUMMARY") { play(); event.preventDefault(); }
});
byId("model").textContent = trace.model + ", blocks of " + trace.blockSize + " tokens: " + trace.emittedTokens +
  " tokens in " + total + " passes, " + (trace.emittedTokens / Math.max(1, total)).toFixed(2) + " per pass";
byId("prompt").textContent = trace.prompt;
goTo(0);
`;

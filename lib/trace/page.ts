import { SCRIPT } from "./script.js";
import { STYLE } from "./style.js";
import type { Trace } from "./trace.js";

const NAVIGATION = `<nav aria-label="Iterations">
  <div class="buttons">
    <button id="first" title="First iteration (Home)">|◀</button>
    <button id="back" title="One back (left arrow)">◀</button>
    <button id="play" title="Play or pause (space)">▶ Play</button>
    <button id="next" title="One on (right arrow)">▶</button>
    <button id="last" title="Last iteration (End)">▶|</button>
  </div>
  <input id="slider" type="range" min="1" value="1" aria-label="Iteration">
  <p id="where" aria-live="polite"></p>
</nav>`;

const LEGEND = `  <section aria-label="Legend">
    <h2>Legend</h2>
    <ul class="legend">
      <li><span class="t confirmed">confirmed</span> the last token that is certain; it begins the block</li>
      <li><span class="t accepted">emitted</span> the choice after the last accepted draft: the one token that ordinary decoding would have given</li>
      <li><span class="t fastForwarded">fast-forwarded</span> a draft that was right: accepted beyond that one token</li>
      <li><span class="t stationary">stationary</span> fast-forwarded, and it stood there in the pass before, when a token in front of it was still wrong</li>
      <li><span class="t rejected">rejected</span> a draft behind the first wrong one; the choices become the next draft</li>
    </ul>
  </section>`;

const MAIN = `<main>
  <section aria-label="Block">
    <h2>The block in this pass</h2>
    <div id="block" class="tokens"></div>
    <h2>The model's choices after each of its tokens</h2>
    <div id="choices" class="tokens"></div>
  </section>
  <section aria-label="Text">
    <h2>Text so far</h2>
    <pre id="text" dir="auto"></pre>
  </section>
  <section aria-label="Figures"><dl id="figures"></dl></section>
  <section aria-label="Trajectory">
    <h2>Last passes</h2>
    <div id="history"></div>
  </section>
${LEGEND}
</main>`;

/**
 * Makes a page that steps through a trace and needs neither network nor other files. All texts of the model and of the user
 * reach the page as data and are shown as text.
 */
export function tracePage(trace: Trace): string {
  // Only a "<" in the data could end the script element.
  const data = JSON.stringify(trace)
    .replaceAll("<", "\\u003c")
    .replaceAll("\u2028", "\\u2028")
    .replaceAll("\u2029", "\\u2029");
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>Jacobi decoding, step by step</title>
<style>${STYLE}</style>
</head>
<body>
<header>
  <h1>Jacobi decoding, step by step</h1>
  <p id="model"></p>
  <details><summary>Prompt</summary><pre id="prompt" dir="auto"></pre></details>
</header>
${NAVIGATION}
${MAIN}
<script id="data" type="application/json">${data}</script>
<script>${SCRIPT}</script>
</body>
</html>
`;
}

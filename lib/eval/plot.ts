import type { EvaluateResult } from "./eval.js";

const WIDTH = 720;
const HEIGHT = 300;
const MARGIN = { left: 48, right: 16, top: 34, bottom: 42 };
// Okabe and Ito's colours, which colour-blind people can tell apart; dashes tell curves apart in print.
const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7"];
const DASHES = ["none", "7 4", "2 3", "9 3 2 3"];

interface Panel {
  title: string;
  value: (row: EvaluateResult["rows"][number]) => number;
}

const PANELS: Panel[] = [
  { title: "tokens per iteration", value: (row) => row.tokensPerIteration },
  { title: "speed-up over n = 1", value: (row) => row.speedUp },
];

/** Draws tokens per iteration and speed-up over the block size n, with a curve per model. */
export async function plotSvg(results: readonly EvaluateResult[]): Promise<string> {
  // Both are ES modules, which CommonJS can only import dynamically.
  const [{ scaleLinear, scaleLog }, { line }] = await Promise.all([import("d3-scale"), import("d3-shape")]);
  const names = results.map((result) => result.path.split(/[\\/]/).at(-1) ?? result.model);
  const panels = PANELS.map(({ title, value }, column) => {
    const plotArea = { width: WIDTH / 2 - MARGIN.left - MARGIN.right, height: HEIGHT - MARGIN.top - MARGIN.bottom };
    const sizes = [...new Set(results.flatMap(({ rows }) => rows.map((row) => row.blockSize)))].sort((a, b) => a - b);
    const maxValue = Math.max(1, ...results.flatMap(({ rows }) => rows.map(value)));
    const x = scaleLog([sizes[0] as number, Math.max(2, sizes.at(-1) as number)], [0, plotArea.width]).base(2);
    const y = scaleLinear([0, maxValue], [plotArea.height, 0]).nice(5);
    const horizontal = y
      .ticks(5)
      .map(
        (tick) =>
          `<line x1="0" x2="${plotArea.width}" y1="${y(tick)}" y2="${y(tick)}" stroke="#ddd"/>` +
          `<text x="-8" y="${y(tick) + 4}" text-anchor="end">${tick}</text>`,
      );
    const vertical = sizes.map((n) => `<text x="${x(n)}" y="${plotArea.height + 18}" text-anchor="middle">${n}</text>`);
    const curves = results.map(({ rows }, i) => {
      const path =
        line<(typeof rows)[number]>(
          (row) => x(row.blockSize),
          (row) => y(value(row)),
        )(rows) ?? "";
      const colour = COLOURS[i % COLOURS.length];
      const dots = rows.map((row) => `<circle cx="${x(row.blockSize)}" cy="${y(value(row))}" r="3" fill="${colour}"/>`);
      return `<path d="${path}" fill="none" stroke="${colour}" stroke-width="2" stroke-dasharray="${DASHES[i % 4]}"/>${dots.join("")}`;
    });
    return (
      `<g transform="translate(${MARGIN.left + (column * WIDTH) / 2},${MARGIN.top})">` +
      `<text x="0" y="-12" font-weight="bold">${title}</text>${horizontal.join("")}${vertical.join("")}${curves.join("")}` +
      `<text x="${plotArea.width / 2}" y="${plotArea.height + 36}" text-anchor="middle">block size n</text></g>`
    );
  });
  const legend = names.map((name, i) => {
    const position = `translate(${MARGIN.left},${HEIGHT + 16 + i * 20})`;
    const colour = COLOURS[i % COLOURS.length];
    return (
      `<g transform="${position}"><line x1="0" x2="28" y1="-4" y2="-4" stroke="${colour}" stroke-width="2" ` +
      `stroke-dasharray="${DASHES[i % 4]}"/><text x="36">${escaped(name)}</text></g>`
    );
  });
  const height = HEIGHT + 16 + names.length * 20;
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" ` +
    `font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/>${panels.join("")}${legend.join("")}</svg>\n`
  );
}

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
}

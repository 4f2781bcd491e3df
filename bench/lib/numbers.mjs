// Repeated measurements and what is said of them.

export const sum = (values) => values.reduce((total, value) => total + value, 0);

export function median(values) {
  if (values.length === 0) return Number.NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** a over b, of samples by round: the median of the rounds' ratios, because a round's two sides were measured together. */
export const ratio = (a, b) => median(ratios(a, b));

/** a over b, round by round. */
export const ratios = (a, b) => a.map((values, round) => median(values) / median(b[round]));

/**
 * A/B/A/B...: `rounds` times one measurement of every side in turn, so that a machine that warms up, slows down or gets
 * a neighbour does it to all of them. Resolves to the measurements by side.
 */
export async function interleave(rounds, sides) {
  const samples = Object.fromEntries(Object.keys(sides).map((side) => [side, []]));
  for (let round = 0; round < rounds; round++) {
    for (const [side, measure] of Object.entries(sides)) samples[side].push(await measure(round));
  }
  return samples;
}

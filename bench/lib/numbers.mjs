// Repeated measurements, and the figures that sum them up.

/** The sum of one of the statistics over results of generate(). */
export const total = (results, name) => results.reduce((sum, { stats }) => sum + stats[name], 0);

export function median(values) {
  if (values.length === 0) return Number.NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** a over b: the median of the rounds' ratios, because the two sides of a round were measured together. */
export const ratio = (a, b) => median(ratios(a, b));

/** a over b by round; each round has a list of samples, whose median counts. */
export const ratios = (a, b) => a.map((values, round) => median(values) / median(b[round]));

/**
 * Measures every side in turn (A, B, A, B ...), `rounds` times, so that all sides suffer alike when the machine warms up,
 * slows down or gets other work. Resolves to the measurements by side.
 */
export async function interleave(rounds, sides) {
  const samples = Object.fromEntries(Object.keys(sides).map((side) => [side, []]));
  for (let round = 0; round < rounds; round++) {
    for (const [side, measure] of Object.entries(sides)) samples[side].push(await measure(round));
  }
  return samples;
}

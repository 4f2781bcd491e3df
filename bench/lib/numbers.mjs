// Repeated measurements, and the figures that sum them up.
import { RoundWatch } from "./quiet.mjs";

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
 * slows down or gets other work. Rounds that were disturbed (quiet.mjs) are measured again, a few of them at most, with the
 * same round number; `watch: false` takes them as they are, for benches that make load themselves. Resolves to the
 * measurements by side.
 */
export async function interleave(rounds, sides, { watch = true } = {}) {
  const samples = Object.fromEntries(Object.keys(sides).map((side) => [side, []]));
  const watcher = watch ? new RoundWatch() : null;
  for (let round = 0; round < rounds; round++) {
    const measured = {};
    do {
      watcher?.begin();
      for (const [side, measure] of Object.entries(sides)) measured[side] = await measure(round);
    } while (watcher?.end(round));
    for (const side of Object.keys(sides)) samples[side].push(measured[side]);
  }
  return samples;
}

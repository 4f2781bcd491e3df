// Where two outputs may part: at a near-tie, two tokens whose logits are closer than rounding differs (docs/exactness.md).

/**
 * False where `output` is `expected`; true where they part at a token whose logit is less than `near` from that of the
 * expected one. Throws where they part otherwise; `what` then says which outputs these are. The decoder needs a free lane.
 */
export async function partsAtNearTie({ decoder, prompt, output, expected, near, what }) {
  if (output.join() === expected.join()) return false;
  const at = output.findIndex((token, i) => token !== expected[i]);
  if (at < 0 || at >= expected.length) throw new Error(`${what}: one output ends where the other goes on`);
  const distance = await logitDistance(decoder, [...prompt, ...output.slice(0, at)], output[at], expected[at]);
  if (!(distance < near)) {
    throw new Error(`${what}: token ${at} is another one, and the logits are ${distance.toFixed(2)} apart`);
  }
  return true;
}

/** How far apart the logits of two tokens are after `tokens`. */
async function logitDistance(decoder, tokens, a, b) {
  const sequence = await decoder.sequence();
  try {
    await sequence.prefill(tokens);
    const { logits } = await sequence.iterate({ blockSize: 1, logits: true });
    return Math.abs(logits[a] - logits[b]);
  } finally {
    await sequence.dispose();
  }
}

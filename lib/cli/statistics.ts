import type { GenerateStats } from "../request/result.js";

/** The lines that `--stats` prints. */
export function describeStats(stats: GenerateStats, finishReason?: string): string {
  const cached = stats.cachedTokens > 0 ? `, ${stats.cachedTokens} of them kept` : "";
  const ended = { eog: "the model ended", stop: "stop string", length: "length limit" }[finishReason ?? ""];
  return (
    `prompt   ${stats.promptTokens} tokens${cached}, prefill ${milliseconds(stats.prefillMilliseconds)}\n` +
    `answer   ${stats.emittedTokens} tokens in ${stats.iterations} iterations: ` +
    `${stats.tokensPerIteration.toFixed(2)} tokens per iteration ` +
    `(${stats.fastForwardedTokens} fast-forwarded, ${stats.stationaryTokens} stationary)\n` +
    `decode   ${milliseconds(stats.decodeMilliseconds)}, of it forward passes ` +
    `${milliseconds(stats.forwardMilliseconds)}: ${stats.tokensPerSecond.toFixed(1)} tokens/s` +
    `${ended === undefined ? "" : `; ended by: ${ended}`}\n`
  );
}

function milliseconds(value: number): string {
  return value >= 10_000 ? `${(value / 1000).toFixed(1)} s` : `${value.toFixed(value < 100 ? 1 : 0)} ms`;
}

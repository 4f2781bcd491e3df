// The inputs of the benches: requests as users write them, and a plain text that fills a context.

export const questions = [
  "Write a short story about a fox and a crow.",
  "Explain in simple words why the sky is blue.",
  "List five tips for learning a new language.",
  "What is the difference between a list and a tuple in Python? Give an example.",
  "Summarise the rules of chess for a beginner.",
  "Write a polite e-mail that asks for a day off.",
];

export const chat = (question) => [{ role: "user", content: question }];

/** The first `count` questions in the model's chat template, as token ids. */
export function tokenizedQuestions(model, count) {
  const prompts = questions.slice(0, count).map((question) => model.applyChatTemplate(chat(question)));
  return prompts.map((prompt) => model.tokenize(prompt, { parseSpecial: true }));
}

/** A prompt of 32 token ids for each lane, for models whose answers mean nothing. */
export const lanePrompts = (lanes) =>
  Array.from({ length: lanes }, (_, lane) => Array.from({ length: 32 }, (_, i) => 100 + 7 * lane + i));

export const text = `The old lighthouse stood at the end of a long stone pier. Every evening, when the sun went down \
behind the islands, its keeper climbed the two hundred and twelve steps with a can of oil in one hand and a lantern in \
the other. In winter the wind pulled at the door so hard that he had to tie it with a rope. From above he could see the \
harbour, the boats that lay side by side like sleeping animals, and the lights of the village going out one by one. He \
wrote down what he saw: the weather, the ships that passed, the hour at which the fog came in. Some pages held only a \
single word, others told of storms that lasted a week and took the roofs of the houses with them. When the keeper grew \
old, the town sent a young woman to help him. She had studied engines and knew how to repair almost everything. In her \
first year she replaced the lamp, in the second the clockwork that turned it, and in the third she taught the keeper's \
grandson to read a chart. People on the mainland said that the light had never been so bright, and sailors who had \
passed the rocks in fear for half of their lives began to pass them with a song.`;

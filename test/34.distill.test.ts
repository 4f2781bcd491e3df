import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  CllmError,
  type DistillOptions,
  type DistillProgress,
  distill,
  type EvaluateRow,
  evaluate,
  Model,
  readPromptData,
} from "../lib/index.js";
import { writeFixtures } from "./fixtures/gguf.js";

const fixtures = writeFixtures();
const CLI = path.join(__dirname, "..", "lib", "cli", "main.js");

const PAIRS = [
  ["the first question is about rain", "water falls from the clouds above"],
  ["the second one is about the sun", "a star that gives us light and heat"],
  ["and now the moon", "it goes around the earth each month"],
  ["what of the wind", "air that moves from here to there"],
  ["tell me of snow", "frozen water, white and cold"],
  ["and of the sea", "salt water as far as one can see"],
] as const;

describe("distill", () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "cllm-distill-"));
  const file = (name: string) => path.join(folder, name);
  const write = (name: string, lines: readonly unknown[]) => {
    fs.writeFileSync(
      file(name),
      lines.map((line) => `${typeof line === "string" ? line : JSON.stringify(line)}\n`).join(""),
    );
    return file(name);
  };
  // Every answer has two questions, so that a small model sees each answer in training.
  const data = write(
    "data.jsonl",
    [...PAIRS, ...PAIRS.map(([prompt, answer]) => [`once more ${prompt}`, answer] as const)].map(
      ([prompt, answer]) => ({ prompt, answer }),
    ),
  );
  // Those of the twelve that three held-back ones leave to be trained on.
  const trainedOn = async () => (await readPromptData(data)).filter((_, i) => i % 4 !== 2);
  const figuresOn = async (model: string) => {
    await using loaded = await Model.load(model);
    const { rows } = await evaluate(loaded, await trainedOn(), { blockSizes: [8], maxTokens: 48, threads: 1 });
    return rows.at(-1) as EvaluateRow;
  };
  const common = { answers: "given", rowTokens: 256, blockSize: 8, heldBack: 3, threads: 1, batch: 2 } as const;
  const train = (out: string, options: Partial<DistillOptions> = {}, base = fixtures.llama) =>
    distill(base, data, { out: file(out), ...common, ...options });

  after(() => fs.rmSync(folder, { recursive: true, force: true }));

  it("makes blocks converge: more tokens per iteration, the answers as trained, equal to ordinary decoding", async () => {
    const { heldBack } = await train("ar.gguf", {
      arEpochs: 150,
      epochs: 0,
      arLearningRate: 3e-3,
      trainEmbeddings: true,
    });
    const events: DistillProgress[] = [];
    const result = await distill(file("ar.gguf"), data, {
      ...common,
      out: file("cllm.gguf"),
      epochs: 60,
      learningRate: 2e-3,
      trainEmbeddings: true, // the fixture's end token has no row in the head
      onProgress: (event) => events.push(event),
    });
    assert.equal(heldBack, 3);
    const [before, after] = [await figuresOn(file("ar.gguf")), await figuresOn(file("cllm.gguf"))];
    assert.equal(after.exact, 1);
    assert.equal(after.equal, 1);
    assert.ok(before.exact === 1, "the AR stage alone learns the answers");
    assert.ok(
      after.tokensPerIteration > 2 * before.tokensPerIteration,
      `${before.tokensPerIteration} -> ${after.tokensPerIteration}`,
    );
    assert.ok(events.some(({ stage, done, total }) => stage === "tokenise" && done === total && total === 12));
    assert.ok(events.some((event) => event.stage === "consistency" && event.total === result.steps));
    assert.deepEqual(
      fs.readdirSync(folder).filter((name) => name.includes("training")),
      [],
    );
  }).timeout(300_000);

  it("keeps all metadata and the tokenizer, and adds where the model comes from", async () => {
    await using base = await Model.load(fixtures.llama);
    await using made = await Model.load(file("cllm.gguf"));
    for (const [key, value] of Object.entries(base.metadata)) {
      if (key !== "general.file_type") assert.equal(made.metadata[key], value, key);
    }
    assert.equal(made.metadata["cllm.block_size"], "8");
    assert.match(made.metadata["cllm.base_sha256"] as string, /^[0-9a-f]{64}$/);
    assert.match(made.metadata["cllm.figures"] as string, /tokensPerIteration/);
    assert.deepEqual(made.tokenize("the sea"), base.tokenize("the sea"));
  });

  for (const [name, options] of Object.entries<Partial<DistillOptions>>({
    "own answers": { answers: "own", maxTokens: 12 },
    "own answers that fill a row": { answers: "own" },
    adapters: { lora: 4 },
    "F32 products": { precision: "f32", trainEmbeddings: true, type: "F32" },
    Q8_0: { type: "Q8_0" },
    Q4_0: { type: "Q4_0" },
  })) {
    it(`${name}: the file loads and decodes`, async () => {
      const out = `${name.replaceAll(" ", "-")}.gguf`;
      const { figures } = await train(out, { epochs: 1, ...options });
      assert.ok(figures.tokensPerIteration >= 1);
      await using model = await Model.load(file(out));
      await using decoder = await model.createDecoder({ contextSize: 64, threads: 1 });
      assert.ok((await decoder.generate("the sea", { maxTokens: 4 })).tokens.length > 0);
    }).timeout(120_000);
  }

  for (const architecture of ["qwen2", "qwen3"] as const) {
    it(`${architecture} is trained too`, async () => {
      const { last } = await train(
        `${architecture}.gguf`,
        { arEpochs: 40, epochs: 0, arLearningRate: 3e-3 },
        fixtures[architecture],
      );
      assert.ok((last?.answerLoss ?? 99) < 3, `loss ${last?.answerLoss}`);
    }).timeout(120_000);
  }

  describe("interrupted", () => {
    const args = (out: string, ...more: string[]) => [
      ...[CLI, "distill", fixtures.llama, "--prompts", data, "--out", file(out), "--answers", "given", "--batch", "2"],
      ...["--row-tokens", "256", "-b", "8", "--held-back", "3", "-t", "1", "--ar-epochs", "60", "--epochs", "60"],
      ...["--learning-rate", "0.002", "--checkpoint-minutes", "0.01", ...more],
    ];
    const start = (out: string, ...more: string[]) =>
      spawn(process.execPath, args(out, ...more), { stdio: ["ignore", "ignore", "pipe"] });
    const ended = async (child: ReturnType<typeof start>) => {
      let text = "";
      child.stderr.on("data", (chunk: Buffer) => {
        text += chunk.toString();
      });
      const code = await new Promise((resolve) => child.once("exit", (status, signal) => resolve(status ?? signal)));
      return { code, text };
    };

    /** Waits until the run has got so far, however fast the machine is. */
    const checkpoint = async (out: string) => {
      while (!fs.existsSync(file(`${out}.training/checkpoint.gguf`))) await sleep(5);
    };

    it("kill -9 again and again, then resume: the same file, byte by byte, as an unbroken run", async () => {
      assert.equal((await ended(start("whole.gguf"))).code, 0);
      let kills = 0;
      for (let delay = 900; ; delay += 400) {
        const child = start("killed.gguf", ...(kills > 0 ? ["--resume"] : []));
        const end = ended(child);
        const killed = await Promise.race([sleep(delay).then(() => child.kill("SIGKILL")), end.then(() => false)]);
        const { code, text } = await end;
        if (code === 0) break;
        assert.ok(killed, text);
        assert.equal(code, "SIGKILL", text);
        assert.equal(fs.existsSync(file("killed.gguf")), false);
        kills++;
      }
      assert.ok(kills > 1, `${kills} kills`);
      assert.ok(fs.readFileSync(file("whole.gguf")).equals(fs.readFileSync(file("killed.gguf"))));
      assert.equal(fs.existsSync(file("killed.gguf.training")), false);
    }).timeout(300_000);

    it("Ctrl-C leaves a checkpoint; a run without resume refuses to overwrite it, one with resume goes on from it", async () => {
      const child = start("stopped.gguf");
      const end = ended(child);
      await checkpoint("stopped.gguf");
      child.kill("SIGINT");
      assert.equal((await end).code, 130);
      assert.ok(fs.existsSync(file("stopped.gguf.training/checkpoint.gguf")));
      const again = await ended(start("stopped.gguf"));
      assert.equal(again.code, 1);
      assert.match(again.text, /There is an unfinished run in .*stopped\.gguf\.training/);
      assert.equal((await ended(start("stopped.gguf", "--resume"))).code, 0);
    }).timeout(300_000);

    it("an abort rejects with the signal's reason, its own AbortError too", async () => {
      for (const reason of [undefined, new Error("enough")]) {
        const controller = new AbortController();
        const onProgress = ({ stage }: DistillProgress) => stage === "ar" && controller.abort(reason);
        const run = train("aborted.gguf", { arEpochs: 1000, signal: controller.signal, onProgress });
        await assert.rejects(run, (error) => error === controller.signal.reason);
        assert.ok(fs.existsSync(file("aborted.gguf.training/checkpoint.gguf")));
        fs.rmSync(file("aborted.gguf.training"), { recursive: true });
      }
    }).timeout(60_000);

    it("a checkpoint of other options, and a damaged one, are refused", async () => {
      const child = start("other.gguf");
      const end = ended(child);
      await checkpoint("other.gguf");
      child.kill("SIGINT");
      await end;
      const other = await ended(start("other.gguf", "--resume", "--decay", "0.7"));
      assert.match(other.text, /is of another run/);
      fs.truncateSync(file("other.gguf.training/checkpoint.gguf"), 5000);
      assert.match((await ended(start("other.gguf", "--resume"))).text, /damaged/);
    }).timeout(300_000);
  });

  describe("refuses", () => {
    const refused = async (promise: Promise<unknown>, code: string, message: RegExp) => {
      await assert.rejects(promise, (error: unknown) => {
        assert.ok(error instanceof CllmError, String(error));
        assert.equal(error.code, code);
        assert.match(error.message, message);
        return true;
      });
    };
    const of = (lines: readonly unknown[], options: Partial<DistillOptions> = {}) =>
      distill(fixtures.llama, write("bad.jsonl", lines), { out: file("bad.gguf"), ...common, ...options });

    afterEach(() =>
      assert.deepEqual(
        fs.readdirSync(folder).filter((name) => name.startsWith("bad.gguf")),
        [],
      ),
    );

    it("malformed data, with the line", async () => {
      const good = { prompt: "a", answer: "b" };
      await refused(of([good, "{"]), "CLLM_INVALID_DATA", /bad\.jsonl, line 2: expected a JSON object/);
      await refused(of([good, "[]"]), "CLLM_INVALID_DATA", /line 2: expected a JSON object/);
      await refused(
        of([good, { answer: "b" }]),
        "CLLM_INVALID_DATA",
        /line 2: expected either a prompt, messages or conversations/,
      );
      await refused(of([good, "", { prompt: "b" }]), "CLLM_INVALID_DATA", /line 3: expected an answer/);
      await refused(of([{ prompt: "", answer: "b" }]), "CLLM_INVALID_DATA", /line 1: expected a non-empty text/);
      await refused(of([{ messages: [{ role: 1 }], answer: "x" }]), "CLLM_INVALID_DATA", /line 1: expected a role/);
      await refused(of([]), "CLLM_INVALID_DATA", /has no prompts/);
      await refused(
        distill(fixtures.llama, file("none.jsonl"), { out: file("bad.gguf") }),
        "CLLM_INVALID_DATA",
        /ENOENT/,
      );
    });

    it("prompts longer than a row, with the line", async () => {
      const long = { prompt: "word ".repeat(400), answer: "b" };
      await refused(
        of([{ prompt: "a", answer: "b" }, long]),
        "CLLM_INVALID_DATA",
        /line 2: the prompt is \d+ tokens long/,
      );
      const answer = { prompt: "a", answer: "word ".repeat(400) };
      await refused(of([answer]), "CLLM_INVALID_DATA", /line 1: prompt and answer are \d+ tokens long/);
      // Every answer token carries a label, and a row has labels for three quarters of its tokens.
      await using model = await Model.load(fixtures.llama);
      let text = "word";
      while (model.tokenize(text).length < 190) text += " word";
      const message = /line 1: the answer is \d+ tokens long, and a training row holds 184 of it/;
      await refused(of([{ prompt: "a", answer: text }]), "CLLM_INVALID_DATA", message);
    });

    it("an architecture that cannot be trained, naming those that can", async () => {
      const run = distill(fixtures.gpt2, data, { out: file("bad.gguf"), ...common });
      await refused(
        run,
        "CLLM_UNSUPPORTED_MODEL",
        /supports llama, qwen2 and qwen3 \(dense\), but this model is a gpt2/,
      );
    });

    it("to go on when the disk is full, and leaves nothing half-written", async function () {
      const disk = file("disk");
      fs.mkdirSync(disk);
      try {
        execFileSync("mount", ["-t", "tmpfs", "-o", "size=128k", "tmpfs", disk], { stdio: "ignore" });
      } catch {
        (this.test as Mocha.Runnable).title += " (needs the right to mount a small disk)";
        return this.skip();
      }
      try {
        const run = train("disk/out.gguf", { epochs: 50, checkpointMinutes: 0.01 });
        await refused(run, "CLLM_TRAINING_FAILED", /No space left on device/);
        assert.deepEqual(fs.readdirSync(disk), []);
      } finally {
        execFileSync("umount", [disk]);
      }
    }).timeout(60_000);

    it("to go on when the loss is not a number", async () => {
      const bytes = fs.readFileSync(fixtures.llama);
      bytes.writeFloatLE(Number.NaN, bytes.length - 4 * 32); // in the last tensor
      fs.writeFileSync(file("poisoned.gguf"), bytes);
      const run = distill(file("poisoned.gguf"), data, { out: file("nan.gguf"), ...common });
      await refused(run, "CLLM_TRAINING_FAILED", /no longer a finite number at step 1: use a smaller learning rate/);
      assert.deepEqual(
        fs.readdirSync(folder).filter((name) => name.startsWith("nan.gguf")),
        [],
      );
    }).timeout(120_000);

    it("a base that is not there, and one that is no model", async () => {
      const from = (base: string) => distill(base, data, { out: file("bad.gguf"), ...common });
      await refused(from(file("none.gguf")), "CLLM_MODEL_NOT_FOUND", /none\.gguf/);
      await refused(from(folder), "CLLM_INVALID_MODEL", /directory/);
    });

    it("wrong options", async () => {
      await assert.rejects(train("bad.gguf", { blockSize: 1 }), /Expected an integer from 2 to 128 for blockSize/);
      await assert.rejects(train("bad.gguf", { rowTokens: 100 }), /Expected a multiple of 32 for rowTokens/);
      await assert.rejects(train("bad.gguf", { epochs: 0 }), /Expected epochs or arEpochs above 0/);
      await assert.rejects(distill(fixtures.llama, data, {} as DistillOptions), /Expected a non-empty string for out/);
    });
  });
});

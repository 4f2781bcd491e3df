import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { Model } from "../lib/model.js";
import { quantize } from "../lib/quantize.js";
import { cllm } from "./fixtures/cli-child.js";
import { writeFixtures } from "./fixtures/gguf.js";
import { makeModel } from "./programs.js";

describe("cli with a model", function () {
  this.timeout(30_000);
  let directory: string;
  let model: string;
  const short = ["-n", "12", "-c", "256", "-t", "1"];

  before(async () => {
    directory = await fs.mkdtemp(path.join(os.tmpdir(), "cllm-cli-"));
    model = writeFixtures().llama;
  });
  after(() => fs.rm(directory, { recursive: true, force: true }));

  describe("generate", () => {
    it("writes the text to stdout and the statistics to stderr", async () => {
      const quiet = await cllm(["generate", model, "hello", "--raw", ...short]);
      assert.equal(quiet.code, 0, quiet.stderr);
      assert.equal(quiet.stderr, "");
      const talking = await cllm(["generate", model, "hello", "--raw", "--stats", ...short]);
      assert.equal(talking.stdout, quiet.stdout);
      assert.match(
        talking.stderr,
        /^\nprompt +\d+ tokens.*\nanswer +\d+ tokens in \d+ iterations.*\ndecode .*tokens\/s/,
      );
    });

    it("prints one object with --json, from an argument or from stdin, for any block size", async () => {
      const first = await cllm(["generate", model, "hello", "--raw", "--json", ...short, "-b", "1"]);
      assert.equal(first.code, 0, first.stderr);
      const result = JSON.parse(first.stdout);
      assert.deepEqual(Object.keys(result), [
        "model",
        "text",
        "tokens",
        "finishReason",
        "seed",
        "logprobs",
        "stats",
        "decoder",
      ]);
      assert.equal(result.stats.emittedTokens, result.tokens.length);
      assert.equal(result.decoder.runner, "resident");
      const second = await cllm(["generate", model, "-", "--raw", "--json", ...short, "-b", "8"], "hello\n");
      assert.deepEqual(JSON.parse(second.stdout).tokens, result.tokens);
    });

    it("exits with 1 for a file that is no model", async () => {
      for (const [file, message] of [
        [path.join(directory, "none.gguf"), /none\.gguf/],
        [directory, /director|not a regular file/],
        [__filename, /GGUF/i],
      ] as const) {
        const result = await cllm(["generate", file, "hello"]);
        assert.equal(result.code, 1);
        assert.match(result.stderr, /^cllm: [^\n]+\n$/);
        assert.match(result.stderr, message);
      }
    });

    it("follows a grammar or a JSON schema in a file", async () => {
      const file = path.join(directory, "rules.txt");
      const run = async (text: string, option: string) => {
        await fs.writeFile(file, text);
        return cllm(["generate", model, "hello", option, file]);
      };
      assert.match((await run('root ::= "yes" | "no"', "--grammar")).stdout, /^(yes|no)\n$/);
      assert.match((await run('{"enum": ["a", 5]}', "--json-schema")).stdout, /^("a"|5)\s*\n$/);
      const wrong = await run("{", "--json-schema");
      assert.deepEqual([wrong.code, /--json-schema names a file that is no JSON/.test(wrong.stderr)], [2, true]);
      const none = await cllm(["generate", model, "hello", "--grammar", path.join(directory, "none")]);
      assert.deepEqual([none.code, /--grammar names a file that cannot be read/.test(none.stderr)], [2, true]);
      assert.equal((await run("root = nothing", "--grammar")).code, 1);
    });

    it("exits with 2 for a value out of range", async () => {
      const range = await cllm(["generate", model, "hello", "-n", "-1"]);
      assert.equal(range.code, 2);
      assert.match(range.stderr, /^cllm: Expected .* for maxTokens but received -1 of type number\n$/);
      const cold = await cllm(["generate", model, "hello", "--temperature", "-1", ...short]);
      assert.equal(cold.code, 2);
      assert.match(cold.stderr, /^cllm: Expected a number from 0 to 1000 for temperature/);
    });

    it("draws with a temperature: the same text for the same seed", async () => {
      const warm = ["generate", model, "hello", "--raw", "--json", ...short, "--temperature", "1.3", "--top-k", "90"];
      const [first, again, drawn] = await Promise.all(
        [["--seed", "5"], ["--seed", "5"], []].map((seed) => cllm([...warm, ...seed])),
      );
      assert.equal(first?.code, 0, first?.stderr);
      const { text, seed } = JSON.parse(first?.stdout ?? "");
      assert.equal(seed, 5);
      assert.equal(JSON.parse(again?.stdout ?? "").text, text);
      assert.ok(Number.isInteger(JSON.parse(drawn?.stdout ?? "").seed));
    });

    it("exits with 130 at Ctrl-C, with the text so far", async () => {
      const child = spawn(process.execPath, [cllm.path, "generate", model, "hello", "--raw", "-c", "32768", "-b", "1"]);
      const end = cllm.ended(child);
      child.stdout.once("data", () => child.kill("SIGINT"));
      const { code, signal, stdout, stderr } = await end;
      assert.deepEqual({ code, signal, stderr }, { code: 130, signal: null, stderr: "" });
      assert.match(stdout, /\n$/);
      assert.ok(stdout.length > 1);
    });

    it("ends quietly when nobody reads stdout any more", async () => {
      const child = spawn(process.execPath, [cllm.path, "generate", model, "hello", "--raw", "-c", "32768", "-b", "1"]);
      const end = cllm.ended(child);
      child.stdout.once("data", () => child.stdout.destroy());
      const { code, signal, stderr } = await end;
      assert.deepEqual({ code, signal, stderr }, { code: 0, signal: null, stderr: "" });
    });
  });

  describe("chat", () => {
    it("takes each line of a pipe as a turn and keeps the rows of the turns before", async () => {
      const { code, stdout, stderr } = await cllm(
        ["chat", model, "--json", ...short],
        "hello\n\nand more\n/stats\n/exit\nno\n",
      );
      assert.equal(code, 0, stderr);
      const turns = stdout
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line));
      assert.equal(turns.length, 2);
      assert.equal(turns[0].stats.cachedTokens, 0);
      assert.ok(turns[1].stats.cachedTokens > 0, stdout);
      assert.match(stderr, /^prompt .*kept/);
    });

    it("forgets the conversation at /reset, and names an unknown command", async () => {
      const { stdout, stderr } = await cllm(["chat", model, "--json", ...short], "hello\n/reset\nhello\n/bogus\n");
      const [first, second] = stdout
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line));
      assert.equal(first.text, second.text);
      assert.equal(first.stats.promptTokens, second.stats.promptTokens);
      assert.match(stderr, /^\/bogus is no command/);
    });

    it("stops the answer, not the program, at Ctrl-C", async () => {
      const child = spawn(process.execPath, [cllm.path, "chat", model, "-c", "32768", "-b", "1"]);
      const end = cllm.ended(child);
      child.stdin.write("hello\n");
      child.stdout.once("data", () => {
        child.kill("SIGINT");
        child.stdin.end("/help\n");
      });
      const { code, signal, stderr } = await end;
      assert.deepEqual({ code, signal }, { code: 0, signal: null });
      assert.match(stderr, /^\/reset +forget/);
    });
  });

  describe("inspect", () => {
    it("tells what the file holds and what runs it", async () => {
      const text = await cllm(["inspect", model]);
      assert.equal(text.code, 0, text.stderr);
      for (const part of [
        "Model\n",
        "Tokenizer\n",
        "What runs it\n",
        "Metadata\n",
        "general.architecture",
        "resident: ",
      ]) {
        assert.ok(text.stdout.includes(part), part);
      }
      const report = JSON.parse((await cllm(["inspect", model, "--json"])).stdout);
      const keys = ["path", "info", "fileType", "specialTokens", "chatTemplate", "metadata", "binary", "decoder"];
      assert.deepEqual(Object.keys(report), keys);
      assert.equal(report.metadata["general.architecture"], report.info.architecture);
      const template = await cllm(["inspect", model, "--template"]);
      assert.equal(template.stdout, `${report.chatTemplate}\n`);
    });

    // Rows of the text, of random models with 1,024 tokens of context.
    const DEFAULT = "for the default: 1 lane of 1,024 tokens, blocks of";
    const classes: Record<string, RegExp[]> = {
      qwen3vl: [
        /^runner +resident: /,
        /^blocks +of up to 128 tokens$/,
        /^memory +1\.0 MB of KV rows, [\d.]+ kB of logits/,
      ],
      gemma3: [
        /^sliding window +64 tokens$/,
        /^runner +resident: /,
        /^memory +2\.4 MB of KV rows \(3\.1 MB with swaFull\), /,
        new RegExp(`^${DEFAULT} up to 16$`),
      ],
      qwen35: [
        /^recurrent state +274 kB for each lane$/,
        /^runner +resident: /,
        /^blocks +of up to 48 tokens, with a snapshot of the recurrent state for each$/,
        /^memory +655 kB of KV rows, 4\.7 MB of recurrent states, /,
      ],
      mamba2: [
        /^runner +host: .*; not resident: the model has no attention, only recurrent state$/,
        /^blocks +of up to 48/,
      ],
      jamba: [
        /^runner +host: .*: llama\.cpp keeps no snapshots of the model's recurrent state$/,
        /^blocks +of 1 token: llama\.cpp keeps no snapshots of the recurrent state$/,
        new RegExp(`^${DEFAULT} 1 token$`),
      ],
      deepseek2: [
        /^runner +host: .*: the model's attention keeps compressed rows \(MLA\)$/,
        /^blocks +of up to 128 tokens$/,
      ],
      llama4: [/^runner +host: .*: the model scales its queries by their position$/],
      bloom: [/^runner +host: .*: the model's attention depends on distance \(ALiBi\)$/],
      "nomic-bert": [/^runner +none: Expected a decoder-only language model but .* its attention is not causal/],
    };
    for (const [architecture, rows] of Object.entries(classes)) {
      it(`says what runs a model of the architecture ${architecture}, why, and with how much memory`, async () => {
        const file = path.join(directory, `${architecture}.gguf`);
        makeModel(architecture, file, "--type", "q8_0");
        const { code, stdout, stderr } = await cllm(["inspect", file]);
        assert.equal(code, 0, stderr);
        const lines = stdout.split("\n").map((line) => line.trim());
        for (const row of rows)
          assert.ok(
            lines.some((line) => row.test(line)),
            `${row} in\n${stdout}`,
          );
        const { decoder, info } = JSON.parse((await cllm(["inspect", file, "--json"])).stdout);
        if ("error" in decoder) {
          assert.doesNotMatch(stdout, /^ +(blocks|memory) /m);
          return;
        }
        assert.equal(decoder.maxBlockSize, info.maxRollback === null ? 128 : info.maxRollback + 1);
        // The memory is what a default decoder really takes.
        await using model = await Model.load(file);
        await using real = await model.createDecoder({ threads: 1 });
        const { contextSize, lanes, blockSize, kvBytes, stateBytes } = real.info;
        const { kv, states } = decoder.bytes;
        assert.deepEqual(
          { contextSize, lanes, blockSize, kvBytes, stateBytes },
          {
            contextSize: decoder.contextSize,
            lanes: decoder.lanes,
            blockSize: decoder.blockSize,
            kvBytes: kv,
            stateBytes: states,
          },
        );
      });
    }
  });

  describe("quantize", () => {
    it("writes a file that loads, and replaces one that is there", async () => {
      const output = path.join(directory, "out.gguf");
      await fs.writeFile(output, "old");
      const result = await cllm(["quantize", model, output, "q8_0", "--json", "-t", "1"]);
      assert.equal(result.code, 0, result.stderr);
      assert.equal(JSON.parse(result.stdout).type, "Q8_0");
      const report = JSON.parse((await cllm(["inspect", output, "--json"])).stdout);
      assert.equal(report.fileType.name, "Q8_0");
    });

    it("leaves nothing behind for an unknown type, a file that is no model, and an abort", async () => {
      const output = path.join(directory, "none.gguf");
      assert.equal((await cllm(["quantize", model, output, "Q9_9"])).code, 1);
      assert.equal((await cllm(["quantize", __filename, output, "Q8_0"])).code, 1);
      const controller = new AbortController();
      const reason = new Error("enough");
      const onProgress = (): void => controller.abort(reason);
      await assert.rejects(
        quantize(model, output, "Q8_0", { signal: controller.signal, onProgress }),
        (error) => error === reason,
      );
      const names = await fs.readdir(directory);
      assert.deepEqual(
        names.filter((name) => name.startsWith("none")),
        [],
      );
    });
  });
});

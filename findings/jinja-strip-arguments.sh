#!/bin/sh
# @huggingface/jinja 0.5.11 ignores the argument of strip(), lstrip() and rstrip(): it always strips white space, and only
# white space. Jinja2, which chat templates are written for, strips the characters that the argument names.
#
# Why it matters: templates of the Qwen3 family take the answer behind the reasoning with
# content.split('</think>')[-1].lstrip('\n'). Rendered in JavaScript, an answer that begins with indented code loses its
# indentation, without an error. Seen with @huggingface/jinja 0.5.11 and Jinja2 3.1.6.
#
# Fails when either of them renders something else than below. Needs npm, python3 with venv, and their package indexes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
printf '{"private":true}' >package.json
npm install --silent --no-audit --no-fund @huggingface/jinja@0.5.11
python3 -m venv python
python/bin/pip install --quiet --disable-pip-version-check jinja2==3.1.6

cat >cases.json <<'CASES'
[
  ["{{ x.lstrip('\\n') }}", "\n\n  indented"],
  ["{{ x.rstrip('!') }}", "wow!! "],
  ["{{ x.strip('ab') }}", "abxba"],
  ["{{ x.split('</think>')[-1].lstrip('\\n') }}", "reasons</think>\n    return 1"]
]
CASES
cat >render.mjs <<'SCRIPT'
import fs from "node:fs";
import { Template } from "@huggingface/jinja";
for (const [template, x] of JSON.parse(fs.readFileSync("cases.json", "utf8"))) {
  console.log(JSON.stringify(new Template(template).render({ x })));
}
SCRIPT
cat >render.py <<'SCRIPT'
import json
from jinja2 import Template
for template, x in json.load(open("cases.json")):
    print(json.dumps(Template(template).render(x=x)))
SCRIPT

node render.mjs >javascript.txt
python/bin/python render.py >python.txt
printf '%s\n' '"indented"' '"wow!!"' '"abxba"' '"return 1"' >javascript.expected
printf '%s\n' '"  indented"' '"wow!! "' '"x"' '"    return 1"' >python.expected
echo "@huggingface/jinja 0.5.11:"; cat javascript.txt
echo "Jinja2 3.1.6:"; cat python.txt
diff javascript.expected javascript.txt
diff python.expected python.txt
echo "as described: @huggingface/jinja ignores the argument of strip(), lstrip() and rstrip()"

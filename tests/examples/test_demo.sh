#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# test_demo.sh BUILD [SOURCE] - the demo tells the truth, in order, and leaves nothing behind.
#
# Given a build, when the demo runs, then its output holds the expected statuses and reasons one after the other, no
# process of it is left, and no file. Its processes are known by a word in their environment, not by their names, so
# that a demo that runs beside this test is not taken for ours. Nothing here depends on how long a step takes.
set -euo pipefail

readonly BUILD=${1:?usage: test_demo.sh BUILD [SOURCE]}
SOURCE=${2:-$(cd "$(dirname "$0")/../.." && pwd)}
readonly SOURCE
readonly WORD=presence_test_demo_$$_$RANDOM

WORK=$(mktemp -d)
readonly WORK
readonly OUTPUT=$WORK/output
mkdir "$WORK/tmp"

clean_up() {
    local id
    for id in $(left_behind); do # whatever went wrong, nothing of ours outlives this test
        kill -s KILL "$id" 2>/dev/null || true
    done
    rm -rf "$WORK"
}
trap clean_up EXIT

fail() {
    echo "test_demo: $*" >&2
    echo "--- the demo's output:" >&2
    cat "$OUTPUT" >&2
    exit 1
}

# The ids of all processes that have our word in their environment.
left_behind() {
    local place
    for place in /proc/[0-9]*; do
        if grep -q -z -x "PRESENCE_TEST_WORD=$WORD" "$place/environ" 2>/dev/null; then
            echo "${place#/proc/}"
        fi
    done
}

# expect PATTERN: some line after the last one that was expected matches, as a whole.
at=0
expect() {
    local found
    found=$(tail -n "+$((at + 1))" "$OUTPUT" | grep -n -m 1 -x -E -e "$1" | cut -d : -f 1) ||
        fail "after line $at: no line matches: $1"
    at=$((at + found))
}

# expect_both A B: the same for two lines that may come in either order.
expect_both() {
    local start=$at first
    expect "$1"
    first=$at
    at=$start
    expect "$2"
    ((at > first)) || at=$first
}

# expect_lines: the lines on stdin follow each other, exactly, somewhere after the last line that was expected.
expect_lines() {
    local -a wanted got
    local i j
    mapfile -t wanted
    mapfile -t got <"$OUTPUT"
    for ((i = at; i + ${#wanted[@]} <= ${#got[@]}; i++)); do
        for ((j = 0; j < ${#wanted[@]}; j++)); do
            [[ ${got[i + j]} == "${wanted[j]}" ]] || break
        done
        if ((j == ${#wanted[@]})); then
            at=$((i + j))
            return
        fi
    done
    fail "after line $at: these lines do not follow each other:$(printf '\n%s' "${wanted[@]}")"
}

readonly SHOP_MODEL=7b0d1f6c-93ab-4c55-8d1e-5f2a90c4e7d3
readonly CONTROLLER_MODEL=2e15302a-bbdf-4077-8e65-116a5a0e0348
readonly TIME='[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{3}Z'

# The look-up of left processes must work at all, or finding none would mean nothing: it finds one that is there.
PRESENCE_TEST_WORD=$WORD sleep 60 &
readonly witness=$!
for _ in {1..200}; do
    [[ $(left_behind) == "$witness" ]] && break
    sleep 0.05
done
seen=$(left_behind)
kill "$witness"
wait "$witness" 2>/dev/null || true
[[ $seen == "$witness" ]] || fail "processes cannot be looked up by their environment (saw: $seen)"

code=0
PRESENCE_TEST_WORD=$WORD TMPDIR=$WORK/tmp bash "$SOURCE/examples/demo.sh" "$BUILD" >"$OUTPUT" 2>&1 || code=$?
[[ $code == 0 ]] || fail "the demo exited with $code"

# All five have logged in: the report, in its exact form.
expect " *unit-mysql-0, process [0-9]+"
expect " *change 2: unit-mysql-0 connected \(machine-1 1\), reason connected, agent unknown -> alive"
expect " *change 5: unit-web-1 connected \(machine-1 2\), reason connected, agent alive -> alive"
expect_lines <<END
[$CONTROLLER_MODEL]

AGENT                   SERVER     CONN ID  STATUS
machine-0 (controller)  machine-0  1        alive
unit-mysql-0            machine-1  1        alive

[$SHOP_MODEL]

AGENT       SERVER     CONN ID  STATUS
unit-web-0  machine-0  2        alive
unit-web-1  machine-0  3        alive
unit-web-1  machine-1  2        alive

END

# One was killed.
expect "== .*kill -9.*"
expect " *change 6: unit-web-0 disconnected \(machine-0 2\), reason left, agent alive -> unknown"
expect " *unit-web-0: status=unknown reason=left since=$TIME last_seen=$TIME alive=0 missing=0"

# A link was cut: the one agent is missing, the other has another connection.
expect "== .*is cut.*"
expect " *OK machine-1 down, 2 became missing"
expect_both " *change 7: unit-mysql-0 missing \(machine-1 1\), reason server_down, agent alive -> missing" \
    " *change 7: unit-web-1 missing \(machine-1 2\), reason server_down, agent alive -> alive"
expect " *unit-mysql-0: status=missing reason=server_down since=$TIME last_seen=$TIME alive=0 missing=1"
expect " *unit-web-1: status=alive reason=connected since=$TIME last_seen=$TIME alive=1 missing=1"
expect_lines <<END
AGENT                   SERVER     CONN ID  STATUS
machine-0 (controller)  machine-0  1        alive
unit-mysql-0            machine-1  1        missing

END
expect_lines <<END
AGENT       SERVER     CONN ID  STATUS
unit-web-1  machine-0  3        alive
unit-web-1  machine-1  2        missing

END

# It came back.
expect "== .*is back.*"
expect " *OK machine-1 up, 2 listed"
expect_both " *change 8: unit-mysql-0 reconnected \(machine-1 1\), reason updated, agent missing -> alive" \
    " *change 8: unit-web-1 reconnected \(machine-1 2\), reason updated, agent alive -> alive"
expect " *unit-mysql-0: status=alive reason=updated since=$TIME last_seen=$TIME alive=1 missing=0"
expect_lines <<END
AGENT                   SERVER     CONN ID  STATUS
machine-0 (controller)  machine-0  1        alive
unit-mysql-0            machine-1  1        alive

END

# The server drained, and all stopped.
expect "== .*drained.*"
expect " *change 9: unit-web-1 missing \(machine-0 3\), reason drained, agent alive -> alive"
expect " *change 10: unit-mysql-0 missing \(machine-1 1\), reason drained, agent alive -> missing"
expect " *Done\."
[[ -z $(tail -n "+$((at + 1))" "$OUTPUT") ]] || fail "unexpected output after \"Done.\""
left=$(left_behind)
[[ -z $left ]] || fail "processes are left: $left"
files=$(ls -A "$WORK/tmp")
[[ -z $files ]] || fail "files are left: $files"
echo "test_demo: ok"

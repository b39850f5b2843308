# SPDX-License-Identifier: Apache-2.0
#
# Sourced by the scripts beside it: a scratch folder that goes away, and stories told as `ok N - name`.

scratch=$(mktemp -d "${TMPDIR:-/tmp}/presence-test.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
told=0
failed=0

# story NAME COMMAND...: runs it in a shell that stops at the first failure; its output is shown only then.
story() {
    local name=$1
    shift
    told=$((told + 1))
    # Not inside the `if`: there the shell would not stop a story at its first failure.
    (set -e; "$@") >"$scratch/output" 2>&1
    local status=$?
    if [ $status -eq 0 ]; then
        echo "ok $told - $name"
    else
        sed 's/^/    /' "$scratch/output"
        echo "not ok $told - $name"
        failed=$((failed + 1))
    fi
}

# skip NAME REASON: a story that cannot be told on this machine.
skip() {
    told=$((told + 1))
    echo "ok $told - $1 # SKIP $2"
}

# none PATTERN: reads lines, and fails, showing them, if any has the pattern (grep's options are allowed). A plain
# `! grep` would not do: the shell does not stop at it.
none() {
    if grep "$@"; then
        echo "(none of these lines was expected)"
        return 1
    fi
}

# refused COMMAND...: fails if the command succeeds.
refused() {
    if "$@"; then
        echo "(this was expected to be refused)"
        return 1
    fi
}

have() {
    command -v "$1" >/dev/null
}

# The last line of a script: says whether every story went well, and that there was one.
end_of_stories() {
    [ "$told" -gt 0 ] && [ "$failed" -eq 0 ]
}

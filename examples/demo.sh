#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# demo.sh - an API server with two server names and five real agents: one is killed, one server's link is cut and
# comes back, and after each step it is told what changed and why.
#
#   demo.sh BUILD        finds api_server and agent in BUILD/examples, or else in BUILD
#
# Takes a few seconds, listens on free loopback ports only, ends what it started by process id, and leaves nothing
# behind. Exits with 0 if everything went as told.
set -euo pipefail

readonly BUILD=${1:?usage: demo.sh BUILD-DIRECTORY}
readonly CONTROLLER_MODEL=2e15302a-bbdf-4077-8e65-116a5a0e0348
readonly SHOP_MODEL=7b0d1f6c-93ab-4c55-8d1e-5f2a90c4e7d3
readonly PATIENCE_S=10 # for anything that should happen at once; a busy machine may need a moment

WORK=$(mktemp -d)
readonly WORK
readonly LOG=$WORK/api_server.log
declare -A started=() # what runs: name -> process id
told=0                # lines of LOG that were shown

# ------------------------------------------------------------------------------------------------------ processes --

fail() {
    echo "demo: $*" >&2
    cat "$WORK"/*.log >&2 2>/dev/null || true
    exit 1
}

find_program() {
    local place
    for place in "$BUILD/examples/$1" "$BUILD/$1"; do
        if [[ -f $place && -x $place ]]; then
            echo "$place"
            return
        fi
    done
    fail "no program $1 in $BUILD/examples or $BUILD"
}

# True while the shell knows that this child of it runs.
runs() { [[ " $(jobs -r -p | tr '\n' ' ') " == *" $1 "* ]]; }

# end NAME SIGNAL: ends one process that we started, waits for it, returns its status. One that does not go in time is
# killed. Nothing is sent to a process that has ended already: its id may be another's by now.
end() {
    local name=$1 signal=$2 id=${started[$1]} patience=$((PATIENCE_S * 20)) code=0
    unset "started[$name]"
    if runs "$id"; then
        kill -s "$signal" "$id"
    fi
    while ((patience-- > 0)) && runs "$id"; do
        sleep 0.05
    done
    if runs "$id"; then
        kill -s KILL "$id"
    fi
    wait "$id" || code=$?
    return "$code"
} 2>/dev/null # where the shell tells that a child was killed

clean_up() {
    local code=$? name
    set +e
    for name in "${!started[@]}"; do
        end "$name" TERM
    done
    rm -rf "$WORK"
    exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# wait_until COMMAND...: tries until it succeeds.
wait_until() {
    local patience
    for ((patience = PATIENCE_S * 20; patience > 0; patience--)); do
        if "$@" >/dev/null 2>&1; then
            return
        fi
        sleep 0.05
    done
    fail "waited ${PATIENCE_S} s in vain for: $*"
}

# -------------------------------------------------------------------------------------------- talking to the server --

# ask LINE...: sends the lines to the API server, and prints the answers.
ask() {
    local connection
    exec {connection}<>"/dev/tcp/127.0.0.1/$port_0"
    printf '%s\n' "$@" QUIT >&"$connection"
    cat <&"$connection"
    exec {connection}>&-
}

status_is() { [[ $(ask "STATUS $1 $2") == "status=$3 "* ]]; }
logged() { grep -q -e "$1" "$LOG"; }

step() { printf '\n== %s\n' "$*"; }

# tell_changes PATTERN...: waits for lines that match, and prints all that the server told since the last time.
tell_changes() {
    local lines pattern
    for pattern in "$@"; do
        wait_until logged "$pattern"
    done
    lines=$(wc -l <"$LOG")
    sed -n "$((told + 1)),${lines}s/^/   /p" "$LOG"
    told=$lines
}

tell_status() { printf '   %s: %s\n' "$2" "$(ask "STATUS $1 $2")"; }

report() {
    echo
    ask REPORT
}

# start_agent NAME PORT MODEL AGENT [controller]: returns once it is logged in.
start_agent() {
    local name=$1
    shift
    "$agent" 127.0.0.1 "$@" >"$WORK/$name.log" 2>&1 &
    started[$name]=$!
    wait_until grep -q "is logged in" "$WORK/$name.log"
    echo "   $3, process ${started[$name]}"
}

# ------------------------------------------------------------------------------------------------------ the story --

api_server=$(find_program api_server)
agent=$(find_program agent)

step "An API server process that serves as machine-0 and as machine-1, each on a port of its own."
"$api_server" --servers machine-0,machine-1 >"$LOG" 2>&1 &
started[api_server]=$!
tell_changes "^machine-1 listening on"
port_0=$(sed -n 's/^machine-0 listening on 127\.0\.0\.1://p' "$LOG")
port_1=$(sed -n 's/^machine-1 listening on 127\.0\.0\.1://p' "$LOG")

step "Five agent processes log in. unit-web-1 is there twice: once on each server."
start_agent controller "$port_0" "$CONTROLLER_MODEL" machine-0 controller
start_agent mysql "$port_1" "$CONTROLLER_MODEL" unit-mysql-0
start_agent web-0 "$port_0" "$SHOP_MODEL" unit-web-0
start_agent web-1 "$port_0" "$SHOP_MODEL" unit-web-1
start_agent web-1-again "$port_1" "$SHOP_MODEL" unit-web-1
echo "   The server saw:"
tell_changes "^change .*unit-web-1 connected (machine-1 "

step "The report: all connections at one moment. A controller agent never counts for an agent's status."
sleep 1.2 # every agent pings once a second, so that last seen moves on
report

step "unit-web-0 is killed with kill -9. Its socket closes, and nothing else of it is recorded: it is unknown."
end web-0 KILL || true
wait_until status_is "$SHOP_MODEL" unit-web-0 unknown
tell_changes "^change .*unit-web-0 disconnected"
tell_status "$SHOP_MODEL" unit-web-0

step "The link of machine-1 is cut. Its agents are missing; unit-web-1 is still alive, through machine-0."
echo "   $(ask 'LINK machine-1 down')"
tell_changes "^change .*unit-web-1 missing (machine-1 " "^change .*unit-mysql-0 missing (machine-1 "
tell_status "$CONTROLLER_MODEL" unit-mysql-0
tell_status "$SHOP_MODEL" unit-web-1
report

step "The link is back: machine-1 sends its whole list, which replaces what was known of it."
echo "   $(ask 'LINK machine-1 up')"
tell_changes "^change .*unit-web-1 reconnected (machine-1 " "^change .*unit-mysql-0 reconnected (machine-1 "
tell_status "$CONTROLLER_MODEL" unit-mysql-0
tell_status "$SHOP_MODEL" unit-web-1
report

step "The server stops on purpose: it says drained, closes the sockets, and says nothing of their closing."
end api_server TERM || fail "the API server did not stop cleanly"
tell_changes "^change .*unit-mysql-0 missing (machine-1 "
for name in controller mysql web-1 web-1-again; do
    end "$name" TERM || true # it may have ended by itself: its server is gone
done
echo "   Done."

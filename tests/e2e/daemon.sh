# SPDX-License-Identifier: Apache-2.0
#
# Sourced after story.sh: a presenced of the test's own, on a free port that the system chooses, ended by its process id.

daemon_process=

# start_daemon PROGRAM [OPTION...]: sets $daemon_process, $resp_port and $http_port; its log is in $scratch/log.
start_daemon() {
    : >"$scratch/log" # the one before, else, might be read until the child has emptied it
    "$1" --resp 127.0.0.1:0 --http 127.0.0.1:0 "${@:2}" 2>"$scratch/log" &
    daemon_process=$!
    trap 'kill -s KILL "$daemon_process" 2>/dev/null; rm -rf "$scratch"' EXIT
    local _
    for _ in {1..600}; do
        resp_port=$(sed -n 's/.*protocol=resp address=127\.0\.0\.1:\([0-9]*\)$/\1/p' "$scratch/log")
        http_port=$(sed -n 's/.*protocol=https* address=127\.0\.0\.1:\([0-9]*\)$/\1/p' "$scratch/log")
        [ -n "$resp_port" ] && grep -q event=started "$scratch/log" && return 0
        kill -0 "$daemon_process" 2>/dev/null || break
        sleep 0.05
    done
    echo "presenced did not start:"
    cat "$scratch/log"
    return 1
}

# stop_daemon: asks it to end; fails unless it does so with status 0, which also tells that no sanitizer found anything.
stop_daemon() {
    kill "$daemon_process"
    local status=0
    wait "$daemon_process" || status=$?
    [ $status -eq 0 ] || { echo "presenced ended with $status:"; cat "$scratch/log"; return 1; }
    grep -q event=stopped "$scratch/log"
}

cli() {
    timeout 30 redis-cli -p "$resp_port" "$@" # a reply that never comes is a failure, not a wait
}

# says WANTED COMMAND...: what redis-cli prints for the command is exactly WANTED.
says() {
    local got
    got=$(cli "${@:2}")
    [ "$got" = "$1" ] || { printf 'asked: %s\nwanted: %s\ngot: %s\n' "${*:2}" "$1" "$got"; return 1; }
}

# sends BYTES (with printf's escapes): what comes back until the other side closes, without the CRs.
sends() {
    exec {conversation}<>"/dev/tcp/127.0.0.1/$resp_port"
    printf "$1" >&"$conversation"
    timeout 30 cat <&"$conversation" | tr -d '\r'
    exec {conversation}>&-
}

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# test_redis_cli.sh PRESENCED - what redis-cli, and anybody who types at the port, is answered.
set -u
. "$(dirname "$0")/../install/story.sh"
. "$(dirname "$0")/daemon.sh"

model=2e15302a-bbdf-4077-8e65-116a5a0e0348
program=$1

connections_come_and_go() {
    says 1 PRESENCE.CONNECT machine-0 $model unit-a-0 1
    says 0 presence.connect machine-0 $model unit-a-0 1 DATA zone=1
    says 1 PRESENCE.CONNECT machine-0 $model machine-0 2 CONTROLLER
    says 1 PRESENCE.ACTIVITY machine-0 1 99
    says "$(printf 'alive\nunknown\nunknown')" PRESENCE.STATUS $model unit-a-0 machine-0 unit-b-0
    says 2 PRESENCE.SERVERDOWN machine-0
    says missing PRESENCE.STATUS $model unit-a-0
    says 0 PRESENCE.CONNECT machine-0 $model unit-a-0 1
    says 1 PRESENCE.COUNT MODEL $model SERVER machine-0 STATUS missing
    says 2 PRESENCE.COUNT SERVER machine-0
    says 2 PRESENCE.DISCONNECT machine-0 1 2 3
    says 0 PRESENCE.COUNT
}

an_agent_is_a_map() {
    cli PRESENCE.CONNECT machine-1 $model unit-c-0 18446744073709551615 >/dev/null
    cli PRESENCE.DRAIN machine-1 >/dev/null
    local got
    got=$(cli -3 PRESENCE.AGENT $model unit-c-0 | sed -E 's/[0-9]{13}/TIME/')
    [ "$got" = "$(printf '%s\n' 'status missing' 'reason drained' 'since TIME' 'last_seen TIME' \
        'connections alive 0' 'missing 1' 'freshness fresh' 'stale_since ' 'stale_because ')" ] || { echo "$got"; return 1; }
    says "$(printf '%s\n' status unknown reason none since '' last_seen '' connections alive 0 missing 0 \
        freshness fresh stale_since '' stale_because '')" PRESENCE.AGENT $model nobody
}

errors_name_the_argument() {
    says 'INVALID server is empty' PRESENCE.CONNECT '' $model a 1
    says 'INVALID agent holds a control character' PRESENCE.CONNECT s $model $'a\nb' 1
    says 'INVALID id wants a number from 0 to 18446744073709551615, got "x"' PRESENCE.ACTIVITY s 1 x
    cli PRESENCE.CONNECT s $model a 1 DATA | grep -q '^ERR DATA wants a value'
    cli PRESENCE.CONNECT s $model | grep -q "^ERR wrong number of arguments for 'PRESENCE.CONNECT'"
    cli PRESENCE.NOTHING | grep -q "^ERR unknown command 'PRESENCE.NOTHING'"
    says 0 PRESENCE.COUNT SERVER s
}

a_disabled_recorder_says_so() {
    says OK PRESENCE.DISABLE
    says 0 PRESENCE.ENABLED
    cli PRESENCE.CONNECT s $model a 1 | grep -q '^DISABLED '
    cli PRESENCE.ACTIVITY s 1 | grep -q '^DISABLED '
    says OK PRESENCE.ENABLE
    says 1 PRESENCE.ENABLED
}

libraries_shake_hands() {
    says PONG PING
    says hello PING hello
    says OK SELECT 0
    cli SELECT 1 | grep -q '^ERR'
    says RESET RESET
    cli AUTH secret | grep -q '^ERR AUTH'
    cli HELLO 4 | grep -q '^NOPROTO '
    [ "$(sends 'HELLO 3 SETNAME me\r\nCLIENT GETNAME\r\nQUIT\r\n' | head -n 1)" = '%7' ]
    sends 'HELLO 3 SETNAME me\r\nCLIENT GETNAME\r\nQUIT\r\n' | grep -q -x me
    cli COMMAND DOCS presence.connect | grep -q '^Records a live connection'
    cli INFO | grep -q '^presence_version:0'
}

# Runs of one command, broken by others, by another server and by unknown ids, keep the order of their replies.
a_pipeline_is_answered_in_order() {
    local i ids='' commands='' wanted=''
    for i in {1..150}; do
        commands+="PRESENCE.CONNECT p $model a-$i $i\r\n"
        wanted+=$':1\n'
    done
    for i in {1..150} 151 1; do commands+="presence.activity p $i\r\n"; done
    for i in {1..150}; do wanted+=$':1\n'; done
    wanted+=$':0\n:1\n'
    commands+="ECHO x\r\nPRESENCE.ACTIVITY q 1\r\nPRESENCE.ACTIVITY p 1\r\nPRESENCE.ACTIVITY p x\r\nQUIT\r\n"
    wanted+=$'$1\nx\n:0\n:1\n-INVALID id wants a number from 0 to 18446744073709551615, got "x"\n+OK'
    local got
    got=$(sends "$commands")
    [ "$got" = "$wanted" ] || { diff <(echo "$wanted") <(echo "$got"); return 1; }
}

# Each command that is gathered into runs: long rows of it, a known and an unknown among them, and bad ones that are
# told by themselves and spoil nothing.
rows_of_one_command_are_answered_one_by_one() {
    local i commands='' wanted=''
    for i in {1..100}; do
        commands+="PRESENCE.CONNECT r $model r-$i $i DATA d$i\r\n"
        wanted+=$':1\n'
    done
    commands+="PRESENCE.CONNECT r $model r-1 1\r\nPRESENCE.CONNECT r $model \"a\\x01\" 200\r\nPRESENCE.CONNECT r $model r-101 101\r\n"
    commands+="PRESENCE.CONNECT r \"\" r-1 1\r\nPRESENCE.CONNECT r $model r-102 x\r\nPRESENCE.CONNECT q $model r-102 102 CONTROLLER\r\n"
    wanted+=$':0\n-INVALID agent holds a control character\n:1\n-INVALID model is empty\n'
    wanted+=$'-INVALID id wants a number from 0 to 18446744073709551615, got "x"\n:1\n'
    for i in {1..70}; do
        commands+="PRESENCE.STATUS $model r-$i\r\n"
        wanted+=$'*1\n+alive\n'
    done
    commands+="PRESENCE.STATUS $model nobody\r\nPRESENCE.STATUS $model \"\"\r\nPRESENCE.STATUS $model r-1 nobody\r\n"
    wanted+=$'*1\n+unknown\n-INVALID agent 1 is empty\n*2\n+alive\n+unknown\n'
    for i in {1..101} 1; do
        commands+="PRESENCE.DISCONNECT r $i\r\n"
    done
    for i in {1..101}; do wanted+=$':1\n'; done
    commands+="PRESENCE.DISCONNECT q 102\r\nQUIT\r\n"
    wanted+=$':0\n:1\n+OK'
    local got
    got=$(sends "$commands")
    [ "$got" = "$wanted" ] || { diff <(echo "$wanted") <(echo "$got"); return 1; }
}

whoever_breaks_the_protocol_is_cut_off() {
    [ "$(sends 'PING\r\n*1\r\n$x\r\n')" = "$(printf '+PONG\n-ERR Protocol error: invalid bulk length')" ]
    [ "$(sends '*1\r\n$999999999\r\n')" = '-ERR Protocol error: the request is larger than max-request-bytes' ]
    [ -z "$(sends 'POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nPRESENCE.DISABLE\r\n')" ]
    says 1 PRESENCE.ENABLED
}

bad_configurations_are_refused() {
    local status=0
    "$program" --check-config --threads 0 2>"$scratch/said" || status=$?
    [ $status -eq 2 ]
    grep -q -e '--threads: wants a number from 1 to 64, got "0"' "$scratch/said"
    status=0
    PRESENCE_MAX_CLIENT=1 "$program" --check-config 2>"$scratch/said" || status=$?
    [ $status -eq 2 ]
    grep -q 'PRESENCE_MAX_CLIENT: unknown variable' "$scratch/said"
    printf 'threads = 2\nthread = 3\n' >"$scratch/presence.conf"
    status=0
    "$program" --config "$scratch/presence.conf" --check-config 2>"$scratch/said" || status=$?
    [ $status -eq 2 ]
    grep -q ':2: unknown key "thread"' "$scratch/said"
    status=0
    "$program" --resp 0.0.0.0:0 2>"$scratch/said" || status=$?
    [ $status -eq 2 ]
    grep -q 'open to other machines' "$scratch/said"
    "$program" --check-config | grep -q 'is good'
    "$program" --help | grep -q -e '--max-clients'
}

for threads in 1 3; do
    start_daemon "$program" --threads $threads || exit 1
    story "connections come and go, $threads threads" connections_come_and_go
    story "an agent is a map, $threads threads" an_agent_is_a_map
    story "errors name the argument, $threads threads" errors_name_the_argument
    story "client libraries shake hands, $threads threads" libraries_shake_hands
    story "a pipeline is answered in order, $threads threads" a_pipeline_is_answered_in_order
    story "rows of one command are answered one by one, $threads threads" rows_of_one_command_are_answered_one_by_one
    story "whoever breaks the protocol is cut off, $threads threads" whoever_breaks_the_protocol_is_cut_off
    story "a disabled recorder says so, $threads threads" a_disabled_recorder_says_so
    told=$((told + 1)) # stopping waits for a child of this shell, so it is told here
    if stop_daemon; then
        echo "ok $told - SIGTERM stops it cleanly, $threads threads"
    else
        echo "not ok $told - SIGTERM stops it cleanly, $threads threads"
        failed=$((failed + 1))
    fi
done
story "bad configurations are refused" bad_configurations_are_refused
end_of_stories

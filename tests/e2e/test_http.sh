#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# test_http.sh PRESENCED - what curl is answered: every route, problems, tags, names that need care, guards and limits.
set -u
. "$(dirname "$0")/../install/story.sh"
. "$(dirname "$0")/daemon.sh"

model=2e15302a-bbdf-4077-8e65-116a5a0e0348
program=$1

# get PATH [CURL'S OPTION...]: the body.
get() {
    curl -sS --max-time 20 "${@:2}" "http://127.0.0.1:$http_port$1"
}

# status WANTED PATH [CURL'S OPTION...]: fails unless the status is that one.
status() {
    local got
    got=$(get "$2" -o "$scratch/body" -w '%{http_code}' "${@:3}")
    [ "$got" = "$1" ] || { echo "$2: wanted $1, got $got:"; cat "$scratch/body"; return 1; }
}

# field EXPRESSION: of the JSON on stdin, by Python.
field() {
    python3 -c "import json, sys; value = json.load(sys.stdin); print(json.dumps($1))"
}

# is WANTED EXPRESSION PATH [OPTION...]: a field of what a GET answers.
is() {
    local got
    got=$(get "${@:3}" | field "$2")
    [ "$got" = "$1" ] || { printf '%s: wanted %s of %s, got %s\n' "$3" "$1" "$2" "$got"; return 1; }
}

put_connection() {
    get "/v1/servers/$1/connections/$2" -X PUT -d "$3"
}

writes_are_commands() {
    [ "$(put_connection machine-0 1 '{"model": "'$model'", "agent": "machine-0", "controller_agent": true}')" = 1 ]
    [ "$(put_connection machine-2 17 '{"model": "'$model'", "agent": "unit-mysql-0", "user_data": "zone=1"}')" = 1 ]
    [ "$(put_connection machine-2 17 '{"model": "'$model'", "agent": "unit-mysql-0", "connection_id": "17"}')" = 0 ]
    [ "$(get /v1/servers/machine-2/connections/17/activity -X POST)" = 1 ]
    [ "$(get /v1/servers/machine-2/connections/18/activity -X POST)" = 0 ]
    says alive PRESENCE.STATUS $model unit-mysql-0
    [ "$(get /v1/servers/machine-2/down -X POST)" = 1 ]
    says missing PRESENCE.STATUS $model unit-mysql-0
    [ "$(get /v1/servers/machine-5/connections -X PUT -d '[
        {"model": "'$model'", "agent": "a", "connection_id": 1},
        {"model": "'$model'", "agent": "b", "connection_id": "18446744073709551615", "server": "machine-5"}]')" = 2 ]
    is 2 'value["alive"]' /v1/servers/machine-5
    [ "$(get /v1/servers/machine-5/drain -X POST)" = 2 ]
    [ "$(get /v1/servers/machine-5/connections/18446744073709551615 -X DELETE)" = 1 ]
    [ "$(get /v1/servers/machine-5/connections -X PUT -d '{"values": []}')" = 0 ]
    is '"unknown"' 'value["status"]' /v1/servers/machine-5
}

the_report_has_its_format() {
    cat >"$scratch/wanted" <<END
[2e15302a-bbdf-4077-8e65-116a5a0e0348]

AGENT                   SERVER     CONN ID  STATUS
machine-0 (controller)  machine-0  1        alive
unit-mysql-0            machine-2  17       missing

[b]

AGENT       SERVER  CONN ID  STATUS
$(printf 'Gr\303\266\303\237e')       s       9        alive
a-longer-1  s       10       alive
END
    says 1 PRESENCE.CONNECT s b $'Gr\303\266\303\237e' 9
    says 1 PRESENCE.CONNECT s b a-longer-1 10
    # Sorted by bytes, the longer name comes after the capital G.
    get /report >"$scratch/got"
    diff "$scratch/wanted" "$scratch/got"
    get "/report?model=b" | head -n 1 | grep -q -x '\[b\]'
    says 2 PRESENCE.DISCONNECT s 9 10
}

questions_are_answered() {
    is '["2e15302a-bbdf-4077-8e65-116a5a0e0348"]' '[row["model"] for row in value["models"]]' /v1/models
    is '["unit-mysql-0"]' 'value["agents"]' "/v1/models/$model/agents?server=machine-2&details=0"
    is '["missing", "server_down", 0, 1]' '[value["status"], value["reason"], value["connections"]["alive"], value["connections"]["missing"]]' \
        /v1/models/$model/agents/unit-mysql-0
    is '["machine-0", "machine-2"]' '[row["server"] for row in value["servers"]]' /v1/servers
    is '["17"]' '[row["connection_id"] for row in value["values"]]' "/v1/connections?status=missing"
    is 1 value "/v1/count?model=$model&server=machine-0"
    is '"3.1.0"' 'value["openapi"]' /v1/openapi.json
    [ "$(get /healthz)" = ok ]
    [ "$(get /readyz)" = ready ]
    get /metrics | grep -q '^# HELP presenced_'
    get / | grep -q '<title>Presence</title>'
    status 200 /app.js
    status 200 /v1/models --head
    get /v1/models/$model/agents/unit-mysql-0 | grep -q -E '"since":"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{3}Z"'
}

# The description names every route of the table, with its methods, and nothing else but what is the page's.
the_description_is_complete() {
    get /v1/openapi.json >"$scratch/openapi.json"
    python3 - "$scratch/openapi.json" "$(dirname "$0")/../../src/daemon/http/routes.c" <<'END'
import json, re, sys
described = {(method.upper(), path) for path, methods in json.load(open(sys.argv[1]))["paths"].items() for method in methods}
table = re.findall(r'\{EVHTTP_REQ_(\w+), [^"]*"([^"]+)"', open(sys.argv[2]).read())
routes = {(method, path.replace("{ids}", "{id}")) for method, path in table}
of_the_page = {("GET", path) for path in ("/", "/app.js", "/app.css", "/icon.svg", "/v1/openapi.json")}
assert len(routes) > 20, routes
assert described == routes - of_the_page, described ^ (routes - of_the_page)
END
}

names_may_hold_anything() {
    local name='a/b %22<script>&=+?#é"\'
    local encoded='a%2Fb%20%2522%3Cscript%3E%26%3D%2B%3F%23%C3%A9%22%5C'
    [ "$(put_connection "$encoded" 5 '{"model": "m/1", "agent": "'"a\\/b %22<script>&=+?#\\u00e9\\\"\\\\"'"}')" = 1 ]
    says alive PRESENCE.STATUS m/1 "$name"
    is '"alive"' 'value["status"]' "/v1/models/m%2F1/agents/$encoded"
    is '"alive"' 'value["status"]' "/v1/servers/$encoded"
    is 1 value "/v1/count?agent=a%2Fb+%2522%3Cscript%3E%26%3D%2B%3F%23%C3%A9%22%5C"
    [ "$(get "/v1/servers/$encoded/connections/5" -X DELETE)" = 1 ]
    status 400 /v1/servers/a%0Ab
    grep -q 'server holds a control character' "$scratch/body"
    status 400 /v1/servers/a%00b
    status 400 /v1/servers/a%zz
    status 400 /v1/servers/%ff
}

problems_say_what_is_wrong() {
    # problem STATUS CODE TEXT PATH [OPTION...]
    problem() {
        status "$1" "${@:4}"
        [ "$(field '[value["status"], value["code"], value["type"]]' <"$scratch/body")" = "[$1, \"$2\", \"about:blank\"]" ] ||
            { cat "$scratch/body"; return 1; }
        field 'value["detail"]' <"$scratch/body" | grep -q -F -e "$3" || { cat "$scratch/body"; return 1; }
    }
    problem 404 ERR 'no such path' /v1/nothing
    problem 404 ERR 'no such path' /v1/models/a/b/c/d/e/f/g/h/i
    problem 405 ERR 'GET, HEAD' /v1/models -X DELETE
    problem 400 INVALID 'unknown query \"modle\"' "/v1/connections?modle=x"
    problem 400 INVALID 'model is given twice' "/v1/connections?model=x&model=y"
    problem 400 INVALID 'status wants alive' "/v1/connections?status=dead"
    problem 400 INVALID 'limit wants' "/v1/connections?limit=0"
    problem 410 LAGGED 'begin it anew' "/v1/connections?cursor=0123456789abcdef.1"
    problem 400 INVALID 'id wants a number' /v1/servers/s/connections/x -X PUT -d '{"model": "m", "agent": "a"}'
    problem 400 INVALID 'not JSON' /v1/servers/s/connections/1 -X PUT -d '{'
    problem 400 INVALID 'not JSON' /v1/servers/s/connections/1 -X PUT -d '{"model": "a", "model": "b"}'
    problem 400 INVALID 'agent is missing' /v1/servers/s/connections/1 -X PUT -d '{"model": "m"}'
    problem 400 INVALID 'unknown member' /v1/servers/s/connections/1 -X PUT -d '{"model": "m", "agent": "a", "x": 1}'
    problem 400 INVALID 'model wants a string' /v1/servers/s/connections/1 -X PUT -d '{"model": 1, "agent": "a"}'
    problem 400 MISMATCH 'connection server mismatch, got \"t\" expected \"s\"' /v1/servers/s/connections -X PUT \
        -d '[{"server": "t", "model": "m", "agent": "a", "connection_id": 1}]'
    problem 400 INVALID 'value 1: agent is missing' /v1/servers/s/connections -X PUT \
        -d '[{"model": "m", "agent": "a", "connection_id": 1}, {"model": "m"}]'
    problem 400 INVALID 'value 0: connection_id is missing' /v1/servers/s/connections -X PUT \
        -d '[{"model": "m", "agent": "a"}]'
    problem 400 DUPLICATE '' /v1/servers/s/connections -X PUT \
        -d '[{"model": "m", "agent": "a", "connection_id": 1}, {"model": "m", "agent": "b", "connection_id": "1"}]'
    is 0 value "/v1/count?server=s"
    says OK PRESENCE.DISABLE
    problem 503 DISABLED '' /v1/connections
    status 503 /readyz
    says OK PRESENCE.ENABLE
}

tags_follow_the_revision() {
    says 1 PRESENCE.CONNECT machine-9 $model unit-tag-0 1
    local tag
    tag=$(get /v1/models -o "$scratch/body" -D - | tr -d '\r' | sed -n 's/^ETag: //p')
    [ -n "$tag" ]
    status 304 /v1/models -H "If-None-Match: $tag"
    status 304 /v1/count -H "If-None-Match: \"x\", $tag"
    status 304 "/v1/models/$model/agents?details=0" -H "If-None-Match: $tag"
    # What tells when agents were last seen changes without the revision.
    status 200 "/v1/models/$model/agents" -H "If-None-Match: $tag"
    status 200 "/v1/models/$model/agents/unit-tag-0" -H "If-None-Match: $tag"
    status 200 /v1/connections -H "If-None-Match: $tag"
    says 1 PRESENCE.ACTIVITY machine-9 1
    status 304 /v1/models -H "If-None-Match: $tag"
    says 1 PRESENCE.CONNECT machine-9 $model unit-tag-1 2
    status 200 /v1/models -H "If-None-Match: $tag"
    says 2 PRESENCE.DISCONNECT machine-9 1 2
}

pages_are_of_one_snapshot() {
    local i cursor page
    for i in {1..25}; do says 1 PRESENCE.CONNECT pages p a-$i $i; done
    page=$(get "/v1/connections?model=p&limit=10")
    cursor=$(field 'value["cursor"]' <<<"$page" | tr -d '"')
    # What happens meanwhile is not in it; and a page whose answer was lost can be asked for again.
    says 1 PRESENCE.CONNECT pages p a-26 26
    says 3 PRESENCE.DISCONNECT pages 1 2 3
    local again
    page+=$(get "/v1/connections?cursor=$cursor&limit=10" | tee "$scratch/second")
    get "/v1/connections?cursor=$cursor&limit=10" >"$scratch/again"
    [ "$(field 'value["values"]' <"$scratch/second")" = "$(field 'value["values"]' <"$scratch/again")" ]
    cursor=$(field 'value["cursor"]' <"$scratch/again" | tr -d '"')
    page+=$(get "/v1/connections?cursor=$cursor&limit=10")
    [ "$(grep -o '"connection_id":"[0-9]*"' <<<"$page" | sort -u | wc -l)" -eq 25 ]
    [ "$(grep -o '"connection_id":"[0-9]*"' <<<"$page" | wc -l)" -eq 25 ]
    [ "$(grep -o '"cursor":null' <<<"$page" | wc -l)" -eq 1 ]
    status 410 "/v1/connections?cursor=$cursor"
    # Names likewise, sorted.
    cursor=$(get "/v1/models/p/agents?limit=20&details=0" | tee "$scratch/first" | field 'value["cursor"]' | tr -d '"')
    get "/v1/models/p/agents?cursor=$cursor" >"$scratch/second"
    [ "$(cat "$scratch/first" "$scratch/second" | grep -o '"a-[0-9]*"' | LC_ALL=C sort -c && echo sorted)" = sorted ]
    says 23 PRESENCE.SERVERDOWN pages
    get /v1/servers/pages/connections -X PUT -d '[]' >/dev/null
}

other_web_pages_are_kept_out() {
    status 421 /v1/models -H 'Host: evil.example'
    status 421 /v1/models -H "Host: evil.example:$http_port"
    local host
    for host in '[::1]evil' '[::1].evil.example' '[::1]:80.evil' '[::1' '[localhost]' '[127.0.0.1]' '::1' 127.0.0.1:evil \
        localhost:80:evil; do
        status 421 /v1/models -H "Host: $host" || return 1
    done
    status 200 /v1/models -H "Host: [::1]:$http_port"
    status 200 /v1/models -H "Host: [::1]"
    status 421 /v1/models --request-target http://evil.example/v1/models
    status 200 /v1/models --request-target "http://127.0.0.1:$http_port/v1/models"
    status 403 /v1/servers/s/down -X POST -H 'Origin: http://evil.example'
    status 403 /v1/servers/s/down -X POST -H 'Origin: null'
    status 200 /v1/servers/s/down -X POST -H "Origin: http://127.0.0.1:$http_port"
    status 200 /v1/models -H "Host: localhost:$http_port"
    get / -D - -o "$scratch/body" | tr -d '\r' | grep -q "^Content-Security-Policy: default-src 'none'; script-src 'self'"
    get /v1/models -D - -o "$scratch/body" | grep -q -i '^X-Content-Type-Options: nosniff'
}

too_much_is_refused() {
    head -c 20000 /dev/zero | tr '\0' a >"$scratch/long"
    status 431 /v1/models -H "X-Long: $(cat "$scratch/long")"
    head -c 20000000 /dev/zero | tr '\0' ' ' >"$scratch/body.json"
    status 413 /v1/servers/s/connections -X PUT -H 'Expect:' --data-binary "@$scratch/body.json"
    [ "$(get /healthz)" = ok ]
}

begin() {
    start_daemon "$program" "$@" || exit 1
}

for threads in 1 3; do
    begin --threads $threads
    story "writes are commands, $threads threads" writes_are_commands
    story "the report has its format, $threads threads" the_report_has_its_format
    story "questions are answered, $threads threads" questions_are_answered
    story "the description is complete, $threads threads" the_description_is_complete
    story "names may hold anything, $threads threads" names_may_hold_anything
    story "tags follow the revision, $threads threads" tags_follow_the_revision
    story "pages are of one snapshot, $threads threads" pages_are_of_one_snapshot
    story "problems say what is wrong, $threads threads" problems_say_what_is_wrong
    story "other web pages are kept out, $threads threads" other_web_pages_are_kept_out
    story "too much is refused, $threads threads" too_much_is_refused
    told=$((told + 1)) # stopping waits for a child of this shell, so it is told here
    if stop_daemon; then
        echo "ok $told - SIGTERM stops it cleanly, $threads threads"
    else
        echo "not ok $told - SIGTERM stops it cleanly, $threads threads"
        failed=$((failed + 1))
    fi
done
end_of_stories

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_rows.py PRESENCED [HIREDIS_ROWS] - every command of RESP, asked by redis-cli, by Python's client and by hiredis
(a program that asks what it reads). Node's asks in test_node_client.py. See rows.py."""

import json
import os
import subprocess
import sys

import presenced
import rows
from presenced import equal, holds

program, hiredis = sys.argv[1], sys.argv[2:]
DEBIAN_PYTHON = "/usr/bin/python3"

try:
    import redis
except ImportError:
    if os.path.realpath(sys.executable) != os.path.realpath(DEBIAN_PYTHON) and os.path.exists(DEBIAN_PYTHON):
        os.execv(DEBIAN_PYTHON, [DEBIAN_PYTHON, *sys.argv])  # another Python comes first, and has not Debian's modules
    redis = None


def lines_of(command, text):
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=presenced.WAIT_S, check=True)
    return [line for line in done.stdout.split("\n") if line]


def redis_cli(port, commands):
    """By its standard input, which is one connection; an error is `error:"..."` there."""
    text = "".join(" ".join(json.dumps(word, ensure_ascii=False) for word in words) + "\n" for words in commands)
    replies = []
    for line in lines_of(["redis-cli", "-2", "--json", "-p", str(port)], text):
        is_error, _, told = line.partition("error:")
        replies.append({"error": json.loads(told)} if told and not is_error else json.loads(line))
    return replies


def redis_cli_watches_and_says_goodbye():
    with presenced.Daemon(program) as daemon:
        port = str(daemon.port)
        told = lines_of(["redis-cli", "-2", "--json", "-p", port], " ".join(rows.WATCH) + "\n")
        equal([json.loads(line) for line in told][0], rows.TOLD_OF_WATCH)
        equal(lines_of(["redis-cli", "-p", port, "QUIT"], ""), ["OK"])
        holds("\n".join(lines_of(["redis-cli", "-p", port, "INFO"], "")), "presence_version:")


def python_redis(port, commands):
    """The connection itself: what the client makes of replies to commands of Redis is not ours."""
    client = redis.Redis(port=port, decode_responses=True, socket_timeout=presenced.WAIT_S)
    connection = client.connection_pool.get_connection("_")
    replies = []
    for words in commands:
        connection.send_command(*words)
        try:
            replies.append(connection.read_response())
        except redis.ResponseError as error:
            replies.append({"error": str(error)})
    connection.disconnect()
    return replies


def hiredis_asks(port, commands):
    text = "".join(json.dumps(words) + "\n" for words in commands)
    return [json.loads(line) for line in lines_of([*hiredis, str(port)], text)]


presenced.story("no command is left out", rows.none_is_left_out, program)
rows.check(program, "redis-cli", redis_cli)
presenced.story("redis-cli watches, and says goodbye", redis_cli_watches_and_says_goodbye)
if redis:
    rows.check(program, "redis-py", python_redis)
else:
    print("ok 0 - every command is answered to redis-py # SKIP python3-redis is not here (scripts/setup test)")
if hiredis:
    rows.check(program, "hiredis", hiredis_asks)
else:
    print("ok 0 - every command is answered to hiredis # SKIP hiredis is not here (scripts/setup test)")
presenced.end()

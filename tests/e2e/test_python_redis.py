#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_python_redis.py PRESENCED - the Python client of Redis, as Debian has it, against presenced."""

import json
import os
import sys

import presenced
from presenced import equal, holds

program = sys.argv[1]
DEBIAN_PYTHON = "/usr/bin/python3"
MODEL = "2e15302a-bbdf-4077-8e65-116a5a0e0348"

try:
    import redis
except ImportError:
    if os.path.realpath(sys.executable) != os.path.realpath(DEBIAN_PYTHON) and os.path.exists(DEBIAN_PYTHON):
        os.execv(DEBIAN_PYTHON, [DEBIAN_PYTHON, *sys.argv])  # another Python comes first, and has not Debian's modules
    print("python3-redis is not here (scripts/setup test)")
    sys.exit(77)


def connect(daemon):
    return redis.Redis(port=daemon.port, decode_responses=True, socket_timeout=presenced.WAIT_S, client_name="story")


def it_connects_and_names_itself(daemon):
    client = connect(daemon)
    equal(client.ping(), True)
    equal(client.client_getname(), "story")
    equal(client.echo("\u00e9\u00e9"), "\u00e9\u00e9")
    equal(client.info()["presence_version"], "0.1.0")
    equal(client.command_count() > 20, True)
    client.close()


def a_pipeline_is_answered_in_order(daemon):
    """Far more than a socket holds, sent whole before the first reply is read, as this client does."""
    client = connect(daemon)
    pipeline = client.pipeline(transaction=False)
    for number in range(20000):
        pipeline.execute_command("PRESENCE.CONNECT", "machine-0", MODEL, f"unit-{number}", number)
        pipeline.execute_command("PRESENCE.AGENT", MODEL, f"unit-{number}")
    replies = pipeline.execute()
    equal(len(replies), 40000)
    equal(replies[0::2], [1] * 20000)
    for reply in replies[1::2]:
        equal(reply[:2], ["status", "alive"])
    equal(client.execute_command("PRESENCE.COUNT"), 20000)
    client.close()


def errors_are_exceptions(daemon):
    client = connect(daemon)
    try:
        client.execute_command("PRESENCE.ACTIVITY", "s", "x")
        raise AssertionError("no error came")
    except redis.ResponseError as error:
        holds(str(error), "INVALID id wants a number")
    equal(client.ping(), True)
    client.close()


def a_watch_has_the_form_of_a_subscription(daemon):
    """Given a client that only knows channels, when it watches, then changes come as messages of the channel `presence`."""
    writer, connection = connect(daemon), connect(daemon).connection_pool.get_connection("_")
    connection.send_command("PRESENCE.WATCH", "MODEL", MODEL)
    equal(connection.read_response(), ["subscribe", "presence", 1])
    equal(writer.execute_command("PRESENCE.CONNECT", "machine-0", MODEL, "unit-a", 7), 1)
    equal(writer.execute_command("PRESENCE.CONNECT", "machine-0", "another-model", "unit-a", 8), 1)
    equal(writer.execute_command("PRESENCE.DISCONNECT", "machine-0", 7), 1)
    events = []
    for _ in range(3):
        form, channel, text = connection.read_response()
        equal((form, channel), ("message", "presence"))
        events.append(json.loads(text))
    equal([event["kind"] for event in events], ["snapshot", "connected", "disconnected"])
    equal([(event["agent"], event["connection_id"]) for event in events[1:]], [("unit-a", "7")] * 2)
    connection.send_command("PRESENCE.UNWATCH")
    equal(connection.read_response(), ["unsubscribe", "presence", 0])
    connection.send_command("PING")
    equal(connection.read_response(), "PONG")
    connection.disconnect()
    writer.close()


presenced.tell(program, [it_connects_and_names_itself, a_pipeline_is_answered_in_order, errors_are_exceptions,
                         a_watch_has_the_form_of_a_subscription])
presenced.tell(program, [a_pipeline_is_answered_in_order], "--threads", "2")
presenced.end()

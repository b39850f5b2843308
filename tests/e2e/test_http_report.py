#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_http_report.py PRESENCED - reports of many connections: sorted, whole, and in nobody's way."""

import random
import re
import select
import signal
import sys
import time

import presenced
from presenced import Client, encode, equal, holds

program = sys.argv[1]


def connect(daemon, facts):
    """Records (server, model, agent, id) of all."""
    client = daemon.client()
    for at in range(0, len(facts), 5000):
        some = facts[at:at + 5000]
        client.send(b"".join(encode("PRESENCE.CONNECT", *fact) for fact in some))
        for _ in some:
            equal(client.reply(), 1)


def http_client(daemon, **options):
    port = int(re.search(r"protocol=http address=127\.0\.0\.1:(\d+)", daemon.logged()).group(1))
    client = Client(("127.0.0.1", port), **options)
    daemon.clients.append(client)
    return client


def ask(client, path):
    """Asks, and reads the head of the answer."""
    client.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    equal(client.line(), b"HTTP/1.1 200 OK")
    headers = {}
    while line := client.line():
        name, value = line.decode().split(": ", 1)
        headers[name] = value
    return headers


def chunks(client):
    """The body, to its end."""
    parts = []
    while size := int(client.line(), 16):
        parts.append(client.exactly(size))
        client.line()
    client.line()
    return b"".join(parts).decode()


def rows_are_sorted_however_many(daemon):
    """Given models of one connection, of a run of them and of many runs, when they come in any order, then the report
    tells each model by agent, server and id."""
    facts = [(f"s{i % 3}", f"model-{size:05}", f"agent-{i * 7919 % 97:02}" + "x" * (i % 5), i)
             for size in (1, 2, 1023, 1024, 1025, 2048, 2049, 5000) for i in range(size)]
    random.Random(7).shuffle(facts)
    facts = [(server, model, agent, number * 100000 + i) for i, (server, model, agent, number) in enumerate(facts)]
    connect(daemon, facts)
    client = http_client(daemon)
    ask(client, "/report")
    told = {}
    for part in chunks(client).split("\n["):
        name, table = part.lstrip("[").split("]\n\n")
        head, *rows = table.rstrip("\n").split("\n")
        equal(head.split(), ["AGENT", "SERVER", "CONN", "ID", "STATUS"])
        equal({row.index("alive") for row in rows}, {head.index("STATUS")})
        told[name] = [(agent, server, int(number)) for agent, server, number, _ in map(str.split, rows)]
    wanted = {}
    for server, model, agent, number in facts:
        wanted.setdefault(model, []).append((agent, server, number))
    equal(list(told), sorted(wanted))
    for model, rows in wanted.items():
        equal(told[model], sorted(rows))


def others_are_answered_meanwhile(daemon):
    """Given a large model, when one client has asked for the report and its rows are being sorted, then another client
    is answered, again and again, before the first row is sent. (On a machine that has no time for this client it may be
    late: so it looks some times.)"""
    connect(daemon, [("s", "m", f"agent-{i * 7919 % 200000:06}", i) for i in range(200000)])
    reader, other, most = http_client(daemon), http_client(daemon), 0
    for _ in range(10):
        ask(reader, "/report")
        answered = 0
        while not reader.buffer and not select.select([reader.socket], [], [], 0)[0]:
            other.exactly(int(ask(other, "/healthz")["Content-Length"]))
            answered += 1
        most = max(most, answered)
        equal(chunks(reader).count("alive"), 200000)
        if most >= 10:
            return
    assert False, f"at most {most} answers while a report was made"


def a_stop_lets_a_report_end(daemon):
    """Given a report that has begun, when presenced is stopped, then it is sent whole, for half of it would look like
    all."""
    connect(daemon, [("s", "m", "a" * 500 + str(i), i) for i in range(20000)])
    client = http_client(daemon)
    ask(client, "/report")
    daemon.process.send_signal(signal.SIGTERM)
    equal(chunks(client).count("alive"), 20000)


def head_of(daemon, method, path, version="1.1"):
    """The head of the answer, but for its date, and what comes behind it until a moment has passed."""
    client = http_client(daemon)
    client.send(f"{method} {path} HTTP/{version}\r\nHost: localhost\r\n\r\n".encode())
    head = []
    while line := client.line():
        head.append(line.decode())
    client.socket.settimeout(0.2)
    try:
        client.fill()
    except (TimeoutError, presenced.Closed):
        pass
    rest = client.buffer
    client.close()
    return sorted(line for line in head if not line.startswith("Date: ")), rest


def a_head_is_that_of_get(daemon):
    """Given any path, when HEAD asks for it, then the answer is the head of what GET is answered, and no more."""
    paths = ["/", "/app.js", "/v1/openapi.json", "/healthz", "/readyz", "/report", "/report?model=nobody", "/v1/events",
             "/v1/events?after=1&model=m", "/v1/count", "/v1/models", "/v1/models/m/agents", "/v1/models/m/agents/a",
             "/v1/servers", "/v1/servers/s", "/v1/connections", "/v1/connections?status=dead", "/v1/events?after=x", "/no"]
    for facts in [], [("s", "m", f"agent-{i}", i) for i in range(3)]:
        connect(daemon, facts)
        for path in paths:
            wanted, body = head_of(daemon, "GET", path)
            equal((path, head_of(daemon, "HEAD", path)), (path, (wanted, b"")))
            assert body or path.startswith(("/v1/events?after=1", "/report")), path
    holds(" ".join(head_of(daemon, "HEAD", "/v1/events")[0]), "Content-Type: text/event-stream")
    equal(daemon.info("watches"), 0)
    connect(daemon, [("s", "m", "a" * 500 + str(i), 1000 + i) for i in range(2000)])
    for _ in range(3):  # it reserves nothing
        head_of(daemon, "HEAD", "/report")
    ask(client := http_client(daemon), "/report")
    equal(chunks(client).count("alive"), 2003)


def metric(daemon, name):
    client = http_client(daemon)
    body = client.exactly(int(ask(client, "/metrics")["Content-Length"])).decode()
    client.close()
    return int(re.search(rf"^{name} (\d+)$", body, re.M).group(1))


def views(daemon):
    """How many are held, by the history too; what was let go goes with the next change."""
    client = daemon.client()
    client.ask("PRESENCE.CONNECT", "t", "other", "a", 1)
    client.ask("PRESENCE.DISCONNECT", "t", 1)
    return metric(daemon, "presenced_views")


def a_report_is_read_within_its_time(daemon):
    """Given a reader that is faster than request-timeout wants, and needs hours for a report, when report-timeout has
    passed, then it is cut off, misses the last chunk, and its view is let go; one that reads is sent the whole."""
    connect(daemon, [("s", "m", "a" * 1000 + f"{i:05}", i) for i in range(10000)])
    before = views(daemon)
    slow, quick = http_client(daemon, receive_buffer=4096), http_client(daemon)
    slow.send(b"GET /report HTTP/1.1\r\nHost: localhost\r\n\r\n")
    daemon.wait_until(lambda: views(daemon) == before + 1)
    ask(quick, "/report")
    equal(chunks(quick).count("alive"), 10000)
    got, began = b"", time.monotonic()
    while "report-timeout" not in daemon.logged() and time.monotonic() - began < presenced.WAIT_S:
        got += slow.socket.recv(2000)
        time.sleep(0.01)
    holds(daemon.logged(), 'event="client cut off"')
    holds(daemon.logged(), 'why="its report takes longer than report-timeout"')
    daemon.wait_until(lambda: views(daemon) == before)
    try:
        got += slow.rest()
    except ConnectionResetError:
        pass
    assert not got.endswith(b"\r\n0\r\n\r\n"), got[-20:]
    equal(metric(daemon, "presenced_cut_off_reports_total"), 1)
    equal(metric(daemon, "presenced_cut_off_output_total"), 0)


presenced.tell(program, [a_head_is_that_of_get], "--http", "127.0.0.1:0", "--threads", "1")
presenced.tell(program, [a_report_is_read_within_its_time], "--http", "127.0.0.1:0", "--report-timeout", "6s")
presenced.tell(program, [rows_are_sorted_however_many, others_are_answered_meanwhile, a_stop_lets_a_report_end],
               "--http", "127.0.0.1:0", "--threads", "1")
presenced.tell(program, [rows_are_sorted_however_many, a_stop_lets_a_report_end], "--http", "127.0.0.1:0",
               "--threads", "3")
presenced.end()

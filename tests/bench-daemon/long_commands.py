#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""long_commands.py PRESENCED [ROWS] - which commands keep a loop's other clients waiting, and for how long.

Loads ROWS connections (1000000) of one model and one server, each of an agent of its own, into a presenced with two
loops; runs each command that looks at many of them, while a client on each loop states activity again and again; and
prints how long the command took, and how long the longest of the others' commands did, on its loop and on the other.
Asserts nothing. Figures below 20 ms are the neighbours' on a small machine."""

import os
import re
import socket
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))
import presenced  # noqa: E402

MODEL, SERVER = "2e15302a-bbdf-4077-8e65-116a5a0e0348", "machine-0"
BLOCK = 20000
presenced.WAIT_S = 120


def values(first, count):
    """In no order, as connections come: names that came in order would be quick to sort."""
    return [word for number in range(first, first + count)
            for word in (MODEL, f"agent-{number * 611953 % 1000003:012d}", number, 0, "")]


class Other:
    """A client that writes a little, again and again, until it is stopped; the longest time that it waited."""

    def __init__(self, client):
        self.client, self.longest, self.going = client, 0.0, True
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while self.going:
            begin = time.perf_counter()
            self.client.ask("PRESENCE.ACTIVITY", "elsewhere", 1)
            self.longest = max(self.longest, time.perf_counter() - begin)
            time.sleep(0.001)

    def stop(self):
        self.going = False
        self.thread.join()
        return self.longest


def wait_for_end(connection, wanted):
    """Reads until `wanted` has come; without looking at what is read, which would keep the others from their work."""
    tail = b""
    while wanted not in tail:
        data = connection.recv(1 << 20)
        if not data:
            return
        tail = tail[-64:] + data[-(1 << 12):]


def measure(daemon, name, run):
    others = [Other(daemon.client()) for _ in range(2)]  # clients go to the loops in turn: one on each
    time.sleep(0.05)
    begin = time.perf_counter()
    run()
    took = time.perf_counter() - begin
    time.sleep(0.02)
    waited = sorted(other.stop() for other in others)
    for other in others:
        other.client.close()
    print(f"{name:40}  {took * 1000:8.1f} ms  {waited[1] * 1000:8.1f} ms  {waited[0] * 1000:8.1f} ms", flush=True)


def by_resp(client, *words):
    """Asks, and reads to the end of the reply: to that of the PING behind it."""
    def run():
        client.send(presenced.encode(*words) + presenced.encode("PING"))
        wait_for_end(client.socket, b"+PONG\r\n")
    return run


def by_http(port, path):
    def run():
        with socket.create_connection(("127.0.0.1", port), timeout=presenced.WAIT_S) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
            wait_for_end(connection, b"no such text")
    return run


def gather(client, verb, rows):
    client.ask(verb, SERVER, "BEGIN")
    for first in range(0, rows, BLOCK):
        count = min(BLOCK, rows - first)
        client.ask(verb, SERVER, "ADD", count, *values(first, count))
    return by_resp(client, verb, SERVER, "COMMIT")


def rebind(daemon):
    """A gateway drops and binds anew, and states one connection: at the end of its grace the rest goes missing."""
    dropped = daemon.client()
    dropped.ask("PRESENCE.SESSION", SERVER, "GRACE", 1000)

    def run():
        dropped.close()
        time.sleep(0.1)
        again = daemon.client()
        again.ask("PRESENCE.SESSION", SERVER, "GRACE", 1000)
        again.ask("PRESENCE.CONNECT", SERVER, *values(1, 1)[:3])
        time.sleep(1.5)
        presenced.equal(again.ask("PRESENCE.COUNT", "SERVER", SERVER, "STATUS", "alive"), 1)
        again.ask("QUIT")
        again.close()
    return run


def main(program, rows):
    with presenced.Daemon(program, "--threads", "2", "--http", "127.0.0.1:0", "--max-list-bytes", "4g") as daemon:
        port = int(re.search(r"protocol=http address=127\.0\.0\.1:(\d+)", daemon.logged()).group(1))
        client = daemon.client()
        client.ask("PRESENCE.CONNECT", "elsewhere", "another-model", "another", 1)
        print(f"{rows} connections of one model on one server, two loops\n")
        print(f"{'command':40}  {'it took':>11}  {'its loop':>11}  {'the other':>11}")
        measure(daemon, "UPDATESERVER COMMIT, all new", gather(client, "PRESENCE.UPDATESERVER", rows))
        for words in (["COUNT", "MODEL", MODEL], ["COUNT", "MODEL", MODEL, "STATUS", "alive"],
                      ["COUNT", "MODEL", MODEL, "SERVER", SERVER], ["COUNT", "AGENT", "agent-000000000001"],
                      ["COUNT", "SERVER", SERVER, "STATUS", "alive"],
                      ["VALUES", "LIMIT", 10000], ["VALUES", "STATUS", "missing"],
                      ["VALUES", "MODEL", MODEL, "STATUS", "missing"], ["VALUES", "AGENT", "agent-000000000001"],
                      ["MODELS"], ["SERVERS"], ["SERVERS", "MODEL", MODEL], ["SERVERS", "DETAILS"],
                      ["AGENTS", "MODEL", MODEL, "LIMIT", 10], ["AGENTS", "MODEL", MODEL, "LIMIT", 10000, "DETAILS"],
                      ["AGENTS", "LIMIT", 10], ["AGENTS", "SERVER", SERVER, "LIMIT", 10]):
            shown = " ".join(str(word) for word in words).replace(MODEL, "m").replace("agent-000000000001", "a")
            measure(daemon, shown, by_resp(client, "PRESENCE." + words[0], *words[1:]))
        cursor = client.ask("PRESENCE.AGENTS", "MODEL", MODEL, "LIMIT", 10000, "DETAILS")[0]
        measure(daemon, "AGENTS, the next 10000 with DETAILS",
                by_resp(client, "PRESENCE.AGENTS", "CURSOR", cursor or "", "LIMIT", 10000, "DETAILS"))
        measure(daemon, "GET /report", by_http(port, "/report"))
        measure(daemon, "GET /v1/connections?limit=10000", by_http(port, "/v1/connections?limit=10000"))
        measure(daemon, "CHECK", by_resp(client, "PRESENCE.CHECK"))
        measure(daemon, "UPDATESERVER COMMIT, the same", gather(client, "PRESENCE.UPDATESERVER", rows))
        measure(daemon, "SERVERDOWN", by_resp(client, "PRESENCE.SERVERDOWN", SERVER))
        measure(daemon, "MERGESERVER COMMIT, all missing", gather(client, "PRESENCE.MERGESERVER", rows))
        measure(daemon, "the end of a grace, all but one unstated", rebind(daemon))
        measure(daemon, "FORGET", by_resp(client, "PRESENCE.FORGET", SERVER))
        gather(client, "PRESENCE.UPDATESERVER", rows)()
        measure(daemon, "DISABLE", by_resp(client, "PRESENCE.DISABLE"))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1000000)

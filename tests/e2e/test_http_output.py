#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_http_output.py PRESENCED - HTTP clients that ask much and read little: they go, what waits for them is bounded,
and nobody else notices."""

import os
import re
import sys
import tempfile
import threading
import time

import presenced
from presenced import Client, encode, equal

program = sys.argv[1]
folder = tempfile.TemporaryDirectory()
SOCKET = os.path.join(folder.name, "http")
ROWS, NAME = 10000, "a" * 1000
PAGE = f"/v1/connections?limit={ROWS}"


def fill(daemon):
    """Ten megabytes of names."""
    client = daemon.client()
    client.send(b"".join(encode("PRESENCE.CONNECT", "s", "m", f"{NAME}{i:05}", i) for i in range(ROWS)))
    for _ in range(ROWS):
        equal(client.reply(), 1)
    client.close()


def asked(daemon, path, address=SOCKET, **options):
    """A client that has asked, and has not read."""
    client = Client(address, **options)
    daemon.clients.append(client)
    client.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return client


def tcp(daemon):
    return "127.0.0.1", int(re.search(r"protocol=http address=127\.0\.0\.1:(\d+)", daemon.logged()).group(1))


def is_served(daemon):
    client = asked(daemon, "/v1/count")
    equal(client.line(), b"HTTP/1.1 200 OK")
    client.close()


def cut_off(daemon, why):
    return len(re.findall(f'event="client cut off" .*why="{why}"', daemon.logged()))


def who_reads_nothing_goes_after_request_timeout(daemon):
    """Given many clients that ask for pages and reports and read nothing, when request-timeout has passed, then all of
    them are gone; somebody else was answered all the while."""
    fill(daemon)
    for i in range(40):
        asked(daemon, PAGE if i % 2 else "/report", SOCKET if i % 4 < 2 else tcp(daemon), receive_buffer=4096)
        is_served(daemon)
    daemon.wait_until(lambda: cut_off(daemon, "reads too slowly") == 40)
    daemon.wait_until(lambda: daemon.info("connected_clients") == 1)
    is_served(daemon)


def a_byte_now_and_then_keeps_nobody(daemon):
    """Given a reader of some bytes a second, when it has had its time, then it is gone, although it always reads; who
    reads slowly, and above the floor, gets all."""
    fill(daemon)
    trickle, steady = asked(daemon, "/report"), asked(daemon, "/report")
    got = []

    def read_steadily():
        while data := steady.socket.recv(50000):
            got.append(data)
            if data.endswith(b"0\r\n\r\n"):
                break
            time.sleep(0.02)

    reader = threading.Thread(target=read_steadily)
    reader.start()
    for _ in range(10 * presenced.WAIT_S):
        if cut_off(daemon, "reads too slowly"):
            break
        assert trickle.socket.recv(10)
        time.sleep(0.1)
    reader.join()
    text = b"".join(got)
    equal((text.count(NAME.encode()), text[-5:]), (ROWS, b"0\r\n\r\n"))
    equal(cut_off(daemon, "reads too slowly"), 1)


def what_waits_on_a_loop_is_bounded(daemon):
    """Given a request-timeout that is far away, when more clients ask for pages than four times max-output-bytes hold,
    then those who have waited longest go, and as many stay as fit."""
    fill(daemon)
    for _ in range(100):
        newest = asked(daemon, "/v1/connections?limit=500")
        is_served(daemon)
    daemon.wait_until(lambda: cut_off(daemon, "too much waits for clients that read slowly") > 50)
    is_served(daemon)
    equal(cut_off(daemon, "reads too slowly"), 0)
    status, length = newest.line(), 0
    while line := newest.line():
        length = int(line.split()[1]) if line.startswith(b"Content-Length") else length
    equal((status, len(newest.exactly(length)) > 100000), (b"HTTP/1.1 200 OK", True))


def more_clients_than_allowed_are_told_so(daemon):
    """Given max-clients, RESP's among them, when one more comes, then it is answered 503, and served once one has gone."""
    kept = [asked(daemon, "/v1/count") for _ in range(2)] + [daemon.client()]
    for client in kept[:2]:
        equal(client.line(), b"HTTP/1.1 200 OK")
    equal(kept[2].ask("PING"), "PONG")
    refused = asked(daemon, "/v1/count")
    equal(refused.line(), b"HTTP/1.1 503 Service Unavailable")
    assert b"max-clients is reached" in refused.rest()
    kept.pop().close()
    daemon.wait_until(lambda: asked(daemon, "/v1/count").line() == b"HTTP/1.1 200 OK")


listen = ("--http", f"unix:{SOCKET},127.0.0.1:0")
presenced.tell(program, [who_reads_nothing_goes_after_request_timeout, a_byte_now_and_then_keeps_nobody], *listen,
               "--request-timeout", "3s", "--max-output-bytes", "200m")
presenced.tell(program, [what_waits_on_a_loop_is_bounded], *listen, "--request-timeout", "10m", "--max-output-bytes",
               "2m")
presenced.tell(program, [more_clients_than_allowed_are_told_so], *listen, "--max-clients", "3")
presenced.end()

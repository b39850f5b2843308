#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_http_framing.py PRESENCED - where an HTTP request begins and ends, byte for byte: what a proxy could read in
another way is refused by a problem document, and nothing behind it is looked at."""

import json
import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile

import presenced
from presenced import Client, equal

program = sys.argv[1]
GOOD = b"GET /v1/count HTTP/1.1\r\nHost: localhost\r\n\r\n"
SMUGGLED = b"PUT /v1/servers/s/connections/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 27\r\n\r\n" \
           b'{"model":"m", "agent": "a"}'


folder = tempfile.TemporaryDirectory()


def http_client(daemon, **options):
    secure, port = re.search(r"protocol=http(s?) address=127\.0\.0\.1:(\d+)", daemon.logged()).groups()
    if secure:
        context = ssl.create_default_context(cafile=os.path.join(folder.name, "server.pem"))
        options["wrap"] = lambda plain: context.wrap_socket(plain, server_hostname="localhost")
    client = Client(("127.0.0.1", int(port)), **options)
    daemon.clients.append(client)
    return client


def answer(client):
    """One reply: status, headers in small letters, body."""
    status = int(client.line().split()[1])
    headers = {}
    while line := client.line():
        name, value = line.decode().split(": ", 1)
        headers[name.lower()] = value
    if status == 100:
        return answer(client)
    if headers.get("transfer-encoding") != "chunked":
        return status, headers, client.exactly(int(headers.get("content-length", 0)))
    body = b""
    while size := int(client.line(), 16):
        body += client.exactly(size)
        client.line()
    client.line()
    return status, headers, body


def is_problem(client, wanted, what):
    """The reply is a problem document of that status, and nothing comes behind it."""
    status, headers, body = answer(client)
    equal((what, status), (what, wanted))
    equal(headers["content-type"], "application/problem+json")
    equal(headers["connection"], "close")
    problem = json.loads(body)
    equal((problem["status"], problem["code"], problem["type"]), (wanted, "ERR", "about:blank"))
    assert problem["detail"], problem
    equal((what, client.rest()), (what, b""))


def refused(daemon, wanted, request, before=0):
    """The request is refused, whether it comes at once or byte by byte; what follows it is not done."""
    for pieces in (1, 2, len(request)):
        client = http_client(daemon)
        size = -(-len(request) // pieces)
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for at in range(0, len(request), size):
                client.send(request[at:at + size])
            client.send(SMUGGLED)
        except (ConnectionResetError, BrokenPipeError):
            pass  # it has heard enough: the reply is here all the same
        for _ in range(before):
            equal(answer(client)[0], 200)
        is_problem(client, wanted, request)
        client.close()
    equal(daemon.asker.ask("PRESENCE.COUNT"), 0)


def head(*lines, method=b"PUT"):
    return b"\r\n".join((method + b" /v1/servers/s/connections HTTP/1.1", b"Host: localhost") + lines) + b"\r\n\r\n"


def heads_that_can_be_read_in_two_ways_are_refused(daemon):
    """Given heads of which a proxy may see another end than evhttp would, when they come, alone or behind a good
    request, then they are answered 400 and what follows them is thrown away."""
    daemon.info("connections")
    chunked, two = b"Transfer-Encoding: chunked", b"Content-Length: 2"
    ambiguous = [
        head(two, two) + b"[]",
        head(two, b"content-length: 3") + b"[]\n",
        head(b"Content-Length: +2") + b"[]",
        head(b"Content-Length: -2") + b"[]",
        head(b"Content-Length: 2 ") + b"[]",
        head(b"Content-Length: 2\t") + b"[]",
        head(b"Content-Length: 0x2") + b"[]",
        head(b"Content-Length: 2,2") + b"[]",
        head(b"Content-Length: 2, 2") + b"[]",
        head(b"Content-Length:") + b"[]",
        head(b"Content-Length: \xb2") + b"[]",
        head(b"Content-Length : 2") + b"[]",
        head(b"Content-Length\t: 2") + b"[]",
        head(b" Content-Length: 2") + b"[]",
        head(b"X(y): 1", two) + b"[]",
        head(b"X\xc3\xa9: 1", two) + b"[]",
        head(b": 1", two) + b"[]",
        head(b"no colon", two) + b"[]",
        head(b"host: localhost", two) + b"[]",
        head(b"X: a\r\n b", two) + b"[]",
        head(b"X: a\r\n\tb", two) + b"[]",
        head(two, chunked) + b"2\r\n[]\r\n0\r\n\r\n",
        head(chunked, two) + b"2\r\n[]\r\n0\r\n\r\n",
        head(chunked, chunked) + b"2\r\n[]\r\n0\r\n\r\n",
        head(b"Transfer-Encoding: gzip, chunked") + b"2\r\n[]\r\n0\r\n\r\n",
        head(b"Transfer-Encoding: chunked, chunked") + b"2\r\n[]\r\n0\r\n\r\n",
        head(b"Transfer-Encoding: chunked ") + b"2\r\n[]\r\n0\r\n\r\n",
        head(b"Transfer-Encoding: \x0bchunked") + b"2\r\n[]\r\n0\r\n\r\n",
        head(b"Transfer-Encoding: xchunked") + b"2\r\n[]\r\n0\r\n\r\n",
        head(b"Transfer-Encoding: identity"),
        head(b"Transfer-Encoding:"),
        head(chunked).replace(b"HTTP/1.1", b"HTTP/1.0") + b"2\r\n[]\r\n0\r\n\r\n",
        head(two, b"X: a\rContent-Length: 3") + b"[]",
        head(two, b"X: a\nY: b") + b"[]",
        head(two, b"X: a\0b") + b"[]",
        head(two, b"X: a\x7fb") + b"[]",
        head(two, b"X: a\r") + b"[]",
        head(two).replace(b"\r\n\r\n", b"\n\n") + b"[]",
        head(two).replace(b"\r\n", b"\n") + b"[]",
    ]
    for request in ambiguous:
        refused(daemon, 400, request)
    for request in ambiguous[:8]:
        refused(daemon, 400, GOOD + request, before=1)


def chunks_that_can_be_read_in_two_ways_are_refused(daemon):
    daemon.info("connections")
    begun = head(b"Transfer-Encoding: chunked")
    for chunks in (b"+2\r\n[]\r\n0\r\n\r\n", b" 2\r\n[]\r\n0\r\n\r\n", b"0x2\r\n[]\r\n0\r\n\r\n", b"2 \r\n[]\r\n0\r\n\r\n",
                   b"2 ;x\r\n[]\r\n0\r\n\r\n", b"-2\r\n[]\r\n0\r\n\r\n", b"\r\n2\r\n[]\r\n0\r\n\r\n", b"2\n[]\r\n0\r\n\r\n",
                   b"2\r\n[]0\r\n\r\n", b"2\r\n[]\n0\r\n\r\n", b"2\r\n[] \r\n0\r\n\r\n", b"2;a\rb\r\n[]\r\n0\r\n\r\n",
                   b"2;\0\r\n[]\r\n0\r\n\r\n", b"2;" + b"x" * 300 + b"\r\n[]\r\n0\r\n\r\n",
                   b"2\r\n[]\r\n0\r\nContent-Length : 5\r\n\r\n", b"2\r\n[]\r\n0\r\n folded: 5\r\n\r\n",
                   b"2\r\n[]\r\n0\r\nX: 1\n\r\n", b"2\r\n[]\r\n0\r\nno colon\r\n\r\n"):
        refused(daemon, 400, begun + chunks)
    for chunks in (b"1000001\r\n", b"ffffffffffffffff\r\n", b"10000000000000002\r\n[]\r\n0\r\n\r\n",
                   b"2\r\n[]\r\nffffffffffffffff\r\n"):
        refused(daemon, 413, begun + chunks)
    refused(daemon, 431, begun + b"2\r\n[]\r\n0\r\n" + b"X: 123456\r\n" * 2000 + b"\r\n")


def whatever_is_refused_is_told_by_a_problem_document(daemon):
    daemon.info("connections")
    for wanted, request in (
            (400, b"\r\n\r\n"), (400, b"nonsense\r\n"), (400, b"GET /\r\n"), (400, b"GET  / HTTP/1.1\r\n"),
            (400, b"GET / HTTP/1.1 \r\n"), (400, b"GET /a b HTTP/1.1\r\n"), (400, b"GET / HTTP/1.+1\r\n"),
            (400, b"GET / http/1.1\r\n"), (400, b"G{T / HTTP/1.1\r\n"), (400, b"GET /\x01 HTTP/1.1\r\n"),
            (400, b"GET /\0 HTTP/1.1\r\n"), (400, b"GET /\x7f HTTP/1.1\r\n"), (400, b"GET /\t HTTP/1.1\r\n"),
            (400, b"GET //h:x/ HTTP/1.1\r\n"), (400, b"GET :b/c HTTP/1.1\r\n"),
            (505, b"GET / HTTP/2.0\r\n"), (505, b"PRI * HTTP/2.0\r\n"), (505, b"GET / HTTP/0.9\r\n"),
            (501, b"BREW / HTTP/1.1\r\n"), (501, b"TRACE / HTTP/1.1\r\n"), (501, b"get / HTTP/1.1\r\n"),
            (501, b"CONNECT localhost:80 HTTP/1.1\r\n"),
            (413, head(b"Content-Length: 16777217")), (413, head(b"Content-Length: " + b"9" * 40)),
            (417, head(b"Content-Length: 2", b"Expect: gold") + b"[]"),
            (431, b"GET /" + b"a" * 16384 + b" HTTP/1.1\r\n"), (431, b"a" * 16385),
            (431, b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: 123456\r\n" * 2000 + b"\r\n")):
        refused(daemon, wanted, request)
    # A reply to HEAD has no body, whatever it says; and a HEAD request has none.
    for request in (b"HEAD / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", head(b"Content-Length: 2", method=b"HEAD") + b"[]",
                    head(b"Transfer-Encoding: chunked", method=b"HEAD") + b"0\r\n\r\n"):
        client = http_client(daemon)
        client.send(request + SMUGGLED)
        said = client.rest()
        assert said.startswith(b"HTTP/1.1 400 ") and said.endswith(b"\r\n\r\n") and said.count(b"\r\n\r\n") == 1, said
    equal(daemon.asker.ask("PRESENCE.COUNT"), 0)
    # Who says half a request, and no more, is told so.
    client = http_client(daemon)
    client.send(b"GET / HTTP/1.1\r\nHost: ")
    status, headers, body = answer(client)
    equal((status, headers["content-type"]), (408, "application/problem+json"))
    equal(json.loads(body)["status"], 408)
    equal(client.rest(), b"")
    client = http_client(daemon)
    client.send(GOOD.replace(b"/v1/count", b"/metrics"))
    counted = re.search(rb"^presenced_protocol_errors_total (\d+)$", answer(client)[2], re.M)
    assert int(counted.group(1)) > 60, counted


def good_requests_are_answered_in_whatever_pieces_they_come(daemon):
    """Given a row of good requests, with bodies of both kinds, when it comes in pieces of any size on one connection,
    then each is answered in its turn."""
    value = b'{"model": "m", "agent": "a"}'
    put = b"PUT /v1/servers/s/connections/%d HTTP/1.1\r\nHost:localhost \r\n"
    row = (put % 1 + b"Content-Length: %d\r\n\r\n" % len(value) + value,
           put % 2 + b"transfer-encoding:\tChunked\r\n\r\n5;name=\"value\"\r\n" + value[:5] + b"\r\n%X\r\n" % len(value[5:]) +
           value[5:] + b"\r\n000\r\nHost: evil\r\nAuthorization: Bearer x\r\n\r\n",
           b"\r\n" + put % 3 + b"Content-Length: 00%d\r\nExpect: 100-continue\r\n\r\n" % len(value) + value,
           b"GET /v1/count HTTP/1.1\r\nHost: [::1]:1\r\nX:\r\nY: \xc3\xa9\t!\r\nContent-Length: 0\r\n\r\n",
           b"DELETE /v1/servers/s/connections/3 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nGET ",
           b"GET /v1/count HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
           b"DELETE /v1/servers/s HTTP/1.1\r\nHost: localhost\r\n\r\n", GOOD)
    wanted = [b"1\n", b"1\n", b"1\n", b"3\n", b"1\n", b"2\n", None, b"0\n"]
    for size in (1, 2, 3, 7, 64, 1000, 100000):
        client = http_client(daemon)
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        everything = b"".join(row)
        for at in range(0, len(everything), size):
            client.send(everything[at:at + size])
        for body in wanted:
            status, _, got = answer(client)
            equal((size, status, got if body else None), (size, 200, body))
        client.close()


def large_bodies_pass_in_both_kinds(daemon):
    """A list of some megabytes, at once and in chunks of odd sizes, is stated whole."""
    values = json.dumps([{"model": "m", "agent": f"agent-{i}", "connection_id": i, "user_data": "x" * 100}
                         for i in range(20000)]).encode()
    put = b"PUT /v1/servers/s/connections HTTP/1.1\r\nHost: localhost\r\n"
    client = http_client(daemon)
    client.send(put + b"Content-Length: %d\r\n\r\n" % len(values) + values + GOOD)
    equal(answer(client)[::2], (200, b"20000\n"))
    equal(answer(client)[::2], (200, b"20000\n"))
    for size in (1001, 65536, len(values)):
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(values[at:at + size]), values[at:at + size])
                          for at in range(0, len(values), size))
        client.send(put + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n" + GOOD)
        equal(answer(client)[0], 200)
        equal(answer(client)[::2], (200, b"20000\n"))


def a_problem_ends_a_session_of_tls_too(daemon):
    for pieces in (1, 20):
        client = http_client(daemon)
        request = GOOD + head(b"Content-Length: 2", b"Content-Length: 2") + b"[]" + SMUGGLED
        size = -(-len(request) // pieces)
        for at in range(0, len(request), size):
            client.send(request[at:at + size])
        equal(answer(client)[0], 200)
        status, headers, _ = answer(client)
        equal((status, headers["content-type"]), (400, "application/problem+json"))
        assert client.is_closed()
    client = http_client(daemon)
    client.send(GOOD)
    equal(answer(client)[::2], (200, b"0\n"))


key, certificate = (os.path.join(folder.name, name) for name in ("server.key", "server.pem"))
subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-keyout", key, "-out", certificate, "-subj", "/CN=localhost", "-addext",
                "subjectAltName=DNS:localhost"], check=True, capture_output=True, timeout=presenced.WAIT_S)
presenced.tell(program, [heads_that_can_be_read_in_two_ways_are_refused, chunks_that_can_be_read_in_two_ways_are_refused,
                         whatever_is_refused_is_told_by_a_problem_document,
                         good_requests_are_answered_in_whatever_pieces_they_come, large_bodies_pass_in_both_kinds],
               "--http", "127.0.0.1:0", "--request-timeout", "2s")
presenced.tell(program, [good_requests_are_answered_in_whatever_pieces_they_come, large_bodies_pass_in_both_kinds,
                         a_problem_ends_a_session_of_tls_too],
               "--http", "127.0.0.1:0", "--resp", "none", "--tls-certificate", certificate, "--tls-key", key)
presenced.end()

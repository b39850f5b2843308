#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_listings.py PRESENCED - lists in pages: each row once, no page larger than a client may have waiting."""

import http.client
import json
import re
import sys

import presenced
from presenced import Closed, encode, equal, holds

MODEL = "2e15302a-bbdf-4077-8e65-116a5a0e0348"
MOST_DATA = 65535
PAGE_BYTES = 256 * 1024  # a fourth of the 1m that the stories give presenced
ROW_BYTES = 6 * MOST_DATA + 4096  # the largest single row: control characters are six bytes of JSON


def as_map(reply):
    """A map, whatever RESP says it as."""
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2]))


def measured(client, *words):
    """A reply, and how many bytes it took."""
    read, line, exactly = 0, client.line, client.exactly

    def counted(function, beside):
        def run(*arguments):
            nonlocal read
            data = function(*arguments)
            read += len(data) + beside
            return data
        return run

    client.line, client.exactly = counted(line, 2), counted(exactly, 0)
    try:
        return client.ask(*words), read
    finally:
        client.line, client.exactly = line, exactly


def get(daemon, path):
    port = int(re.search(r"protocol=http address=127\.0\.0\.1:(\d+)", daemon.logged()).group(1))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=presenced.WAIT_S)
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    equal(answer.status, 200)
    return json.loads(text), len(text)


def pages_of_resp(client, *words):
    cursor, after = None, []
    while True:
        (cursor, rows, _), size = measured(client, *words, *after)
        yield rows, size
        if cursor is None:
            return
        after = ["CURSOR", cursor]


def pages_of_http(daemon, path, rows):
    cursor = ""
    while cursor is not None:
        page, size = get(daemon, path + (f"&cursor={cursor}" if cursor else ""))
        yield page[rows], size
        cursor = page["cursor"]


def fill(client, count, data):
    for number in range(count):
        equal(client.ask("PRESENCE.CONNECT", "gw", MODEL, f"a-{number:04}", number, "DATA", data), 1)


def each_row_once(pages, count, data):
    """Every page is in bounds or a single row; together they are every row, once, whole."""
    seen, sizes = [], []
    for rows, size in pages:
        assert size <= PAGE_BYTES or (len(rows) == 1 and size <= ROW_BYTES), (len(rows), size)
        sizes.append(len(rows))
        for row in map(as_map, rows):
            equal(row["user_data"], data)
            seen.append(int(row["connection_id"]))
    equal(sorted(seen), list(range(count)))
    return sizes


# ------------------------------------------------------------------------------------------------------- stories --


def pages_of_large_values_are_bounded_in_bytes(daemon):
    """Given rows of the largest user data, more of them than a client may have waiting, when pages are walked, then no
    page is larger than a fourth of that, each row comes once, and nobody is cut off."""
    client = daemon.client()
    fill(client, 40, "x" * MOST_DATA)
    for limit in ([], ["LIMIT", 10000], ["STATUS", "alive"]):
        sizes = each_row_once(pages_of_resp(client, "PRESENCE.VALUES", *limit), 40, "x" * MOST_DATA)
        assert set(sizes[:-1]) == {3}, sizes  # as many as fit
    each_row_once(pages_of_http(daemon, "/v1/connections?limit=10000", "values"), 40, "x" * MOST_DATA)
    assert "client cut off" not in daemon.logged(), daemon.logged()


def a_page_counts_what_json_makes_of_a_text(daemon):
    """Control characters are six bytes each in JSON: a page of such rows is a row."""
    client = daemon.client()
    fill(client, 5, "\x01" * MOST_DATA)
    each_row_once(pages_of_http(daemon, "/v1/connections?limit=1000", "values"), 5, "\x01" * MOST_DATA)
    each_row_once(pages_of_resp(client, "PRESENCE.VALUES"), 5, "\x01" * MOST_DATA)


def small_rows_fill_a_page(daemon):
    client = daemon.client()
    fill(client, 300, "x")
    equal(each_row_once(pages_of_resp(client, "PRESENCE.VALUES", "LIMIT", 100), 300, "x"), [100, 100, 100])


def a_page_that_bytes_ended_can_be_asked_for_again(daemon):
    """Its reply may have been lost; the one before it cannot."""
    client = daemon.client()
    fill(client, 12, "x" * MOST_DATA)
    first = client.ask("PRESENCE.VALUES")
    second = client.ask("PRESENCE.VALUES", "CURSOR", first[0])
    equal((len(first[1]), len(second[1])), (3, 3))
    equal(client.ask("PRESENCE.VALUES", "CURSOR", first[0]), second)
    client.ask("PRESENCE.VALUES", "CURSOR", second[0])
    holds(client.ask("PRESENCE.VALUES", "CURSOR", first[0]), "LAGGED ")


def pages_of_long_names_are_bounded_in_bytes(daemon):
    client = daemon.client()
    names = [f"{number:04}" + "n" * 1020 for number in range(1200)]
    for number, name in enumerate(names):
        client.ask("PRESENCE.CONNECT", "gw", MODEL, name, number)
    for words in (["LIMIT", 10000], ["LIMIT", 10000, "DETAILS"]):
        seen = []
        for rows, size in pages_of_resp(client, "PRESENCE.AGENTS", "MODEL", MODEL, *words):
            assert size <= PAGE_BYTES, size
            seen += [row if isinstance(row, str) else as_map(row)["agent"] for row in rows]
        equal(seen, names)
    seen = []
    for rows, size in pages_of_http(daemon, f"/v1/models/{MODEL}/agents?limit=10000", "agents"):
        assert size <= PAGE_BYTES, size
        seen += [row["agent"] for row in rows]
    equal(seen, names)


def a_connection_is_told_in_one_order_everywhere(daemon):
    """In lists, in explanations and in events its members come in the same order, in RESP and in JSON."""
    order = ["model", "server", "agent", "connection_id", "controller_agent", "status", "user_data", "last_seen"]
    client = daemon.client()
    client.ask("HELLO", 3)
    fill(client, 1, "x")
    equal(list(client.ask("PRESENCE.VALUES")[1][0]), order)
    equal(list(client.ask("PRESENCE.EXPLAIN", MODEL, "a-0000")["connections"][0])[:8], order)
    equal(list(get(daemon, "/v1/connections")[0]["values"][0]), order)
    equal(list(get(daemon, f"/v1/models/{MODEL}/agents/a-0000/explanation")[0]["connections"][0])[:8], order)
    for agents, tail in ([], order), (["AGENTS"], ["model", "server", "agent", "before", "after"]):
        watcher = daemon.client()
        watcher.ask("HELLO", 3)
        watcher.ask("PRESENCE.WATCH", "AFTER", 0, *agents)
        equal(list(watcher.reply()[2])[-len(tail):], tail)


def an_explanation_shows_what_fits_and_tells_how_many_there_are(daemon):
    client = daemon.client()
    for number in range(40):
        client.ask("PRESENCE.CONNECT", f"gw-{number}", MODEL, "a", number, "DATA", "x" * MOST_DATA)
    said, size = measured(client, "PRESENCE.EXPLAIN", MODEL, "a")
    equal((as_map(said)["connections_in_all"], len(as_map(said)["connections"])), (40, 3))
    assert size <= PAGE_BYTES, size
    page, size = get(daemon, f"/v1/models/{MODEL}/agents/a/explanation")
    equal((page["connections_in_all"], len(page["connections"])), (40, 3))
    assert size <= PAGE_BYTES, size


def names_are_those_of_a_server_or_a_model(daemon):
    """MODELS, SERVERS and AGENTS take the same filters, in both protocols."""
    client = daemon.client()
    for server, model, agent, number in (("s-1", "m-1", "a", 1), ("s-1", "m-2", "b", 2), ("s-2", "m-2", "c", 3)):
        equal(client.ask("PRESENCE.CONNECT", server, model, agent, number), 1)
    for kind, filters, wanted in (("models", [], ["m-1", "m-2"]), ("models", ["server", "s-1"], ["m-1", "m-2"]),
                                  ("models", ["server", "s-2"], ["m-2"]), ("models", ["server", "none"], []),
                                  ("models", ["model", "m-1", "server", "s-2"], []), ("servers", [], ["s-1", "s-2"]),
                                  ("servers", ["model", "m-1"], ["s-1"]), ("servers", ["server", "s-2"], ["s-2"]),
                                  ("servers", ["server", "none"], []), ("agents", ["server", "s-1"], ["a", "b"]),
                                  ("agents", ["model", "m-2", "server", "s-1"], ["b"])):
        words = [word.upper() if i % 2 == 0 else word for i, word in enumerate(filters)]
        equal(client.ask("PRESENCE." + kind.upper(), *words), wanted)
        if kind != "agents":
            query = "".join(f"&{name}={value}" for name, value in zip(filters[::2], filters[1::2]))
            equal(get(daemon, f"/v1/{kind}?details=0{query}")[0][kind], wanted)
    holds(client.ask("PRESENCE.MODELS", "SERVER", ""), "INVALID server is empty")


def one_who_reads_late_gets_its_page(daemon):
    """A page fits what may wait for a client that sends much and reads late; it is not cut off."""
    client = daemon.client()
    fill(client, 40, "x" * MOST_DATA)
    late = daemon.client(receive_buffer=4096)
    late.send(encode("PRESENCE.VALUES", "LIMIT", 10000) * 40)
    equal(client.ask("PING"), "PONG")
    try:
        for _ in range(40):
            equal(len(late.reply()[1]), 3)
    except Closed:
        raise AssertionError("cut off:\n" + daemon.logged()) from None


if __name__ == "__main__":
    presenced.tell(sys.argv[1],
                   [pages_of_large_values_are_bounded_in_bytes, a_page_counts_what_json_makes_of_a_text,
                    small_rows_fill_a_page, a_page_that_bytes_ended_can_be_asked_for_again,
                    pages_of_long_names_are_bounded_in_bytes,
                    a_connection_is_told_in_one_order_everywhere,
                    an_explanation_shows_what_fits_and_tells_how_many_there_are, one_who_reads_late_gets_its_page,
                    names_are_those_of_a_server_or_a_model],
                   "--max-output-bytes", "1m", "--http", "127.0.0.1:0")
    presenced.end()

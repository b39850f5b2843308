#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_lists.py PRESENCED - whole lists of a server: in one command, in parts, refused, and under limits."""

import hashlib
import os
import sys
import tempfile

import presenced
from presenced import Error, equal, holds

MODEL = "2e15302a-bbdf-4077-8e65-116a5a0e0348"
OTHER = "7ffa7cd6-9b1e-4b1e-a441-7b2b5c1f0000"


def value(agent, number, controller=0, data="", model=MODEL):
    return [model, agent, number, controller, data]


def values(*numbers):
    return [word for number in numbers for word in value(f"a-{number}", number)]


def update(client, server, *words):
    return client.ask("PRESENCE.UPDATESERVER", server, *words)


def merge(client, server, *words):
    return client.ask("PRESENCE.MERGESERVER", server, *words)


def connect(client, server, number, agent=None):
    return client.ask("PRESENCE.CONNECT", server, MODEL, agent or f"a-{number}", number)


def statuses(client, *numbers):
    return client.ask("PRESENCE.STATUS", MODEL, *[f"a-{number}" for number in numbers])


# ------------------------------------------------------------------------------------------------------- stories --


def a_list_replaces_what_the_server_had(daemon):
    client = daemon.client()
    for number in (1, 2):
        connect(client, "gw", number)
    connect(client, "elsewhere", 9)
    equal(update(client, "gw", 2, *value("a-2", 2), *value("machine-0", 3, 1, "zone=ü")), 2)
    equal(statuses(client, 1, 2, 9), ["unknown", "alive", "alive"])
    equal(client.ask("PRESENCE.STATUS", MODEL, "machine-0"), ["unknown"])  # a controller agent counts for nobody
    equal(client.ask("PRESENCE.COUNT", "SERVER", "gw"), 2)
    equal(update(client, "gw", 0), 0)
    equal(client.ask("PRESENCE.COUNT"), 1)


def a_merged_list_keeps_who_is_alive(daemon):
    client = daemon.client()
    connect(client, "gw", 1)
    connect(client, "gw", 2)
    client.ask("PRESENCE.SERVERDOWN", "gw")
    connect(client, "gw", 3)
    equal(merge(client, "gw", 1, *values(1)), 1)
    equal(statuses(client, 1, 2, 3), ["alive", "unknown", "alive"])


def a_bad_list_changes_nothing(daemon):
    client = daemon.client()
    connect(client, "gw", 1)
    for words, wanted in (([2, *values(2, 2)], "DUPLICATE "),
                          ([2, *values(2), *value("a\nb", 3)], "INVALID "),
                          ([1, *value("", 2)], "INVALID "),
                          ([1, MODEL, "a-2", "x", 0, ""], "INVALID value 0: id"),
                          ([1, MODEL, "a-2", 2, "maybe", ""], "INVALID value 0: controller"),
                          ([1, MODEL, b"a\0b", 2, 0, ""], "INVALID value 0: agent holds a NUL"),
                          ([2, *values(2), MODEL, "a-3", "x", 0, ""], "INVALID value 1: id"),
                          ([2, *values(2, 2)], "DUPLICATE value 1: "),
                          ([2, *values(2)], "ERR wants 5 words"),
                          ([1, *values(2), "more"], "ERR wants 5 words"),
                          ([2 ** 64 - 1, *values(2)], "ERR wants 5 words"),
                          ([2 ** 61 + 1, *values(2)], "ERR wants 5 words"),
                          (["many"], "ERR wants the number"),
                          (["many"], "server n [model agent id 0|1 data]... | server BEGIN | server ADD n ... | server COMMIT | server ABORT"),
                          (["BEGIN", "now"], "ERR wants the number"),
                          (["COMMIT"], "ERR no list"), (["ABORT"], "ERR no list"), (["ADD", 0], "ERR no list")):
        for ask in (update, merge):
            holds(ask(client, "gw", *words), wanted)
    holds(update(client, "", 0), "INVALID server is empty")
    holds(update(client, "", "BEGIN"), "INVALID server is empty")
    equal(client.ask("PRESENCE.COUNT"), 1)
    equal(statuses(client, 1), ["alive"])


def a_list_comes_in_parts(daemon):
    client = daemon.client()
    connect(client, "gw", 1)
    for ask in (update, merge):
        equal(ask(client, "gw", "begin"), "OK")
        equal(ask(client, "gw", "ADD", 2, *values(2, 3)), 2)
        equal(ask(client, "gw", "ADD", 0), 2)
        equal(ask(client, "gw", "ADD", 1, *values(4)), 3)
        holds(ask(client, "other", "COMMIT"), "ERR no list of this server")
        equal(ask(client, "gw", "COMMIT"), 3)
        equal(statuses(client, 1, 2, 3, 4), ["unknown", "alive", "alive", "alive"])
        holds(ask(client, "gw", "COMMIT"), "ERR no list")


def what_comes_and_goes_while_a_list_is_gathered_keeps_its_newer_fate(daemon):
    """The gateway reads its table of logins while agents log in and out: 1 goes, 2 stays, 3 comes, 4 goes and comes,
    5 was never told before, 6 is not in the list, 7 comes and goes, 8 is in the list but has gone; 9 was never told
    either and goes: the list, which is older, must not make it alive for ever; 10 likewise, but it comes again."""
    client, gateway = daemon.client(), daemon.client()
    for number in (1, 2, 4, 6, 8):
        connect(client, "gw", number)
    equal(update(gateway, "gw", "BEGIN"), "OK")
    equal(update(gateway, "gw", "ADD", 3, *values(1, 2, 4)), 3)
    client.ask("PRESENCE.DISCONNECT", "gw", 1, 4, 8)
    for number in (3, 4, 7):
        connect(client, "gw", number)
    client.ask("PRESENCE.DISCONNECT", "gw", 7)
    equal(client.ask("PRESENCE.DISCONNECT", "gw", 9, 10), 0)
    equal(client.ask("PRESENCE.DISCONNECT", "other", 5), 0)
    connect(client, "gw", 10)
    equal(update(gateway, "gw", "ADD", 5, *values(5, 7, 8, 9, 10)), 8)
    equal(update(gateway, "gw", "COMMIT"), 8)
    equal(statuses(client, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
          ["unknown", "alive", "alive", "alive", "alive", "unknown", "unknown", "unknown", "unknown", "alive"])
    equal(client.ask("PRESENCE.COUNT", "SERVER", "gw"), 5)


def a_part_that_is_refused_spoils_the_list(daemon):
    client = daemon.client()
    connect(client, "gw", 1)
    parts = [["BEGIN"], ["ADD", 1, *values(2)], ["ADD", 1, MODEL, "a-3", "x", 0, ""], ["ADD", 1, *values(4)], ["COMMIT"]]
    client.send(b"".join(presenced.encode("PRESENCE.UPDATESERVER", "gw", *part) for part in parts))
    got = [client.reply() for _ in parts]
    equal(got[:2], ["OK", 1])
    assert isinstance(got[2], Error) and isinstance(got[4], Error), got
    equal(statuses(client, 1, 2, 4), ["alive", "unknown", "unknown"])


def a_list_that_is_dropped_changes_nothing(daemon):
    client, gateway = daemon.client(), daemon.client()
    connect(client, "gw", 1)
    update(client, "gw", "BEGIN")
    update(client, "gw", "ADD", 1, *values(2))
    equal(update(client, "gw", "ABORT"), "OK")
    holds(update(client, "gw", "COMMIT"), "ERR no list")
    update(client, "gw", "BEGIN")
    equal(client.ask("RESET"), "RESET")
    holds(update(client, "gw", "COMMIT"), "ERR no list")
    update(gateway, "gw", "BEGIN")
    update(gateway, "gw", "ADD", 1, *values(2))
    gateway.close()  # half way
    equal(statuses(client, 1, 2), ["alive", "unknown"])


def disconnections_beyond_memory_lag(daemon):
    """More ids have gone since BEGIN than the recorder remembers: the list cannot be told from them."""
    client, gateway = daemon.client(), daemon.client()
    block, blocks = 10000, 8
    for first in range(0, block * blocks, block):
        equal(merge(client, "gw", block, *values(*range(first, first + block))), block)
    connect(client, "gw", 1000000)
    equal(update(gateway, "gw", "BEGIN"), "OK")
    for first in range(0, block * blocks, block):
        equal(client.ask("PRESENCE.DISCONNECT", "gw", *range(first, first + block)), block)
    update(gateway, "gw", "ADD", 1, *values(2))
    holds(update(gateway, "gw", "COMMIT"), "LAGGED ")
    equal(statuses(client, 1000000, 2), ["alive", "unknown"])
    equal(update(gateway, "gw", "BEGIN"), "OK")  # gathered again, it is taken
    equal(update(gateway, "gw", "COMMIT"), 0)
    equal(client.ask("PRESENCE.COUNT"), 0)


def lists_take_bounded_memory(daemon):
    clients = [daemon.client() for _ in range(2)]
    update(clients[0], "gw", "BEGIN")
    update(clients[1], "other", "BEGIN")
    reply, count = 0, 0
    while not isinstance(reply, Error):
        assert count < 100000, "max-list-bytes is 64k"
        reply = update(clients[0], "gw", "ADD", 10, *values(*range(count, count + 10)))
        count += 10
    holds(reply, "BUSY max-list-bytes")
    holds(update(clients[0], "gw", "COMMIT"), "INVALID a part of the list was refused")
    equal(clients[0].ask("PRESENCE.COUNT"), 0)
    equal(update(clients[1], "other", "ADD", 10, *values(*range(10))), 10)  # the bytes were given back
    equal(update(clients[1], "other", "COMMIT"), 10)
    for _ in range(50):  # and are, each time
        update(clients[0], "gw", "BEGIN")
        equal(update(clients[0], "gw", "ADD", 100, *values(*range(100, 200))), 100)
    equal(update(clients[0], "gw", "COMMIT"), 100)


def disconnections_that_repeat_take_no_room(daemon):
    """--max-list-bytes 64k: given lists that two gather, when ids of the one are disconnected again and again, one by one
    and in rows, then both are taken, and the ids stay gone; as many different ones make the one's lag, and harm nobody."""
    client, other, third = (daemon.client() for _ in range(3))
    update(client, "gw", "BEGIN")
    update(other, "other", "BEGIN")
    for _ in range(10):
        equal(client.ask("PRESENCE.DISCONNECT", "gw", *[1, 2, 3] * 1000), 0)
    client.send(presenced.encode("PRESENCE.DISCONNECT", "gw", 4) * 20000)
    equal({client.reply() for _ in range(20000)}, {0})
    equal(update(other, "other", "ADD", 100, *values(*range(100, 200))), 100)
    equal(update(client, "gw", "ADD", 5, *values(1, 2, 3, 4, 5)), 5)
    equal(update(client, "gw", "COMMIT"), 5)
    equal(statuses(third, 1, 2, 3, 4, 5), ["unknown"] * 4 + ["alive"])
    update(client, "gw", "BEGIN")
    equal(third.ask("PRESENCE.DISCONNECT", "gw", *range(10, 20010)), 0)
    holds(update(client, "gw", "COMMIT"), "LAGGED ")
    equal(update(client, "gw", "BEGIN"), "OK")
    equal(update(other, "other", "ADD", 100, *values(*range(200, 300))), 200)
    equal(update(other, "other", "COMMIT"), 200)


def one_token_leaves_room_for_others(program):
    """--max-list-bytes 64k, given lists of many clients of one token, when they take all that they can, then another
    token's list still has room, and a third's."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "tokens")
        with open(path, "w", encoding="utf-8") as file:
            for who in "abc":
                file.write(f"{who} sha256:{hashlib.sha256(who.encode()).hexdigest()} report:{who}\n")
        with presenced.Daemon(program, "--max-list-bytes", "64k", "--tokens", path, "--threads", "2") as daemon:
            def list_of(who):
                client = daemon.client()
                equal(client.ask("AUTH", who), "OK")
                equal(update(client, who, "BEGIN"), "OK")
                return client

            def take_all(who):
                taken = 0
                for size in (50, 10, 1):  # one that is refused gives back what it had: the next takes less
                    for _ in range(1000):
                        reply = update(list_of(who), who, "ADD", size, *values(*range(taken, taken + size)))
                        if isinstance(reply, Error):
                            holds(reply, "BUSY max-list-bytes")
                            break
                        taken += size
                    else:
                        raise AssertionError("it was never refused")
                return taken
            last = list_of("c")
            a, b = take_all("a"), take_all("b")
            assert a > b > 10, (a, b)
            equal(update(last, "c", "ADD", 5, *values(*range(5))), 5)
            equal(update(last, "c", "COMMIT"), 5)


def a_server_has_bounded_connections(daemon):
    """--max-server-connections 5"""
    client = daemon.client()
    for number in range(5):
        equal(connect(client, "gw", number), 1)
    holds(connect(client, "gw", 5), "BUSY max-server-connections (5)")
    equal(connect(client, "gw", 4), 0)  # known ids may come again
    equal(connect(client, "other", 5), 1)
    holds(merge(client, "gw", 2, *values(4, 5)), "BUSY ")
    equal(merge(client, "gw", 5, *values(0, 1, 2, 3, 4)), 5)
    equal(update(client, "gw", 5, *values(5, 6, 7, 8, 9)), 5)
    holds(update(client, "gw", 6, *values(1, 2, 3, 4, 5, 6)), "BUSY ")
    update(client, "gw", "BEGIN")
    update(client, "gw", "ADD", 6, *values(1, 2, 3, 4, 5, 6))
    holds(update(client, "gw", "COMMIT"), "BUSY ")
    equal(client.ask("PRESENCE.COUNT", "SERVER", "gw"), 5)


def a_model_has_bounded_names(daemon):
    """--max-model-names 3"""
    client = daemon.client()
    for number in range(3):
        equal(connect(client, "gw", number), 1)
    holds(connect(client, "gw", 3), "BUSY max-model-names (3)")
    equal(connect(client, "gw", 3, "a-0"), 1)  # a name that is there
    equal(client.ask("PRESENCE.CONNECT", "gw", OTHER, "b", 4), 1)
    holds(update(client, "other", 2, *value("x", 1, model=OTHER), *value("y", 2)), "BUSY ")
    equal(update(client, "other", 4, *value("x", 1, model=OTHER), *value("x", 2, model=OTHER), *value("a-1", 3),
                 *value("y", 4, model=OTHER)), 4)
    agent = daemon.client()
    holds(agent.ask("PRESENCE.JOIN", OTHER, "z"), "BUSY max-model-names")
    equal(client.ask("PRESENCE.COUNT", "MODEL", OTHER), 4)


if __name__ == "__main__":
    plain = [a_list_replaces_what_the_server_had, a_merged_list_keeps_who_is_alive, a_bad_list_changes_nothing,
             a_list_comes_in_parts, what_comes_and_goes_while_a_list_is_gathered_keeps_its_newer_fate,
             a_part_that_is_refused_spoils_the_list, a_list_that_is_dropped_changes_nothing,
             disconnections_beyond_memory_lag]
    presenced.tell(sys.argv[1], plain, "--threads", "2")
    presenced.tell(sys.argv[1], [lists_take_bounded_memory, disconnections_that_repeat_take_no_room],
                   "--max-list-bytes", "64k")
    presenced.story("one token leaves room for others", one_token_leaves_room_for_others, sys.argv[1])
    presenced.tell(sys.argv[1], [a_server_has_bounded_connections], "--max-server-connections", "5")
    presenced.tell(sys.argv[1], [a_model_has_bounded_names], "--max-model-names", "3")
    presenced.end()

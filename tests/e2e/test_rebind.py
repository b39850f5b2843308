#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_rebind.py PRESENCED [TIMES] - gateways that come back at once, on another connection, before presenced has seen
the end of the first: it must not matter that no loop has got round to that end yet. With TIMES, the stress of many
is told so often."""

import random
import socket
import struct
import subprocess
import sys
import threading

import presenced
from presenced import Error, encode, equal, holds

MODEL = "2e15302a-bbdf-4077-8e65-116a5a0e0348"
GRACE_MS = 400
LONG_MS = 60000
LIST, PART, TIMES = 30000, 1000, 60  # connections of the agent whose counting keeps a loop busy, and how often

# A gateway with a connection for each of its servers: binds and states all of them, says so, and hangs on until killed.
GATEWAY = """
import socket, sys, time
port, model, grace, *servers = sys.argv[1:]
def encode(*words):
    return b"*%d\\r\\n" % len(words) + b"".join(b"$%d\\r\\n%s\\r\\n" % (len(w), w.encode()) for w in words)
held = []
for server in servers:
    held.append(socket.create_connection(("127.0.0.1", int(port))))
    held[-1].sendall(encode("PRESENCE.SESSION", server, "EPOCH", "7", "GRACE", grace) + b"".join(
        encode("PRESENCE.CONNECT", server, model, server + "-" + str(i), str(i)) for i in range(4)))
for each in held:
    seen = b""
    while seen.count(b"\\r\\n") < 5:
        seen += each.recv(4096)
    assert seen == b"+OK\\r\\n" + b":1\\r\\n" * 4, seen
print("told", flush=True)
time.sleep(3600)
"""


def loop_of(client):
    return int(client.ask("CLIENT", "INFO").split("loop=")[1])


def one_on_each_loop(daemon):
    clients = {}
    while len(clients) < 3:
        client = daemon.client()
        clients.setdefault(loop_of(client), client)
    return clients


def connect(client, server, agent, number):
    return client.ask("PRESENCE.CONNECT", server, MODEL, agent, number)


def status(client, *agents):
    return client.ask("PRESENCE.STATUS", MODEL, *agents)


def reason(client, agent):
    items = client.ask("PRESENCE.AGENT", MODEL, agent)
    return dict(zip(items[::2], items[1::2]))["reason"]


def close(client):
    client.socket.close()


def reset(client):
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.close()


def half_close(client):
    client.socket.shutdown(socket.SHUT_WR)


class Busy:
    """A loop that is kept busy by counting, again and again, the connections of an agent that has very many: it sees
    nothing else meanwhile."""

    def __init__(self, daemon, loop):
        self.daemon, self.client = daemon, one_on_each_loop(daemon)[loop]
        equal(self.client.ask("PRESENCE.UPDATESERVER", "list", "BEGIN"), "OK")
        for first in range(0, LIST, PART):
            values = [word for number in range(first, first + PART) for word in (MODEL, "l", number, 0, "")]
            equal(self.client.ask("PRESENCE.UPDATESERVER", "list", "ADD", PART, *values), first + PART)
        equal(self.client.ask("PRESENCE.UPDATESERVER", "list", "COMMIT"), LIST)

    def begin(self):
        self.client.send(encode("PRESENCE.COUNT", "MODEL", MODEL, "AGENT", "l", "STATUS", "alive") * TIMES)

    def end(self):
        equal([self.client.reply() for _ in range(TIMES)], [LIST] * TIMES)


def back_before_the_end_was_seen(daemon, server, ending, more, said_last=()):
    """X binds and states a-1 to a-3 on one loop, which is busy when X ends; Y binds on another meanwhile, and states a-1.
    Both clients, once the loop is busy no more."""
    clients = one_on_each_loop(daemon)
    x, y = clients[1], clients[2]
    busy = Busy(daemon, 1)
    equal(x.ask("PRESENCE.SESSION", server, *more), "OK")
    for number in (1, 2, 3):
        connect(x, server, f"{server}-{number}", number)
    busy.begin()
    if said_last:
        x.send(encode(*said_last))
    ending(x)
    equal(y.ask("PRESENCE.SESSION", server, *more), "OK")
    connect(y, server, f"{server}-1", 1)
    busy.end()
    return x, y


def a_gateway_that_is_back_at_once_is_not_one_more(daemon):
    """Whatever way the first connection ended, and with an epoch or without: what is not stated again within the grace is
    missing then, and what is, stays."""
    asker = daemon.client()
    for ending in (close, reset, half_close):
        for more in (["EPOCH", 7, "GRACE", GRACE_MS], ["GRACE", GRACE_MS]):
            server = f"{ending.__name__}-{len(more)}"
            _, y = back_before_the_end_was_seen(daemon, server, ending, more)
            daemon.wait_until(lambda: status(asker, f"{server}-2", f"{server}-3") == ["missing", "missing"])
            equal(reason(asker, f"{server}-2"), "timed_out")
            equal(status(asker, f"{server}-1"), ["alive"])
            equal(connect(y, server, f"{server}-2", 2), 0)
            equal(status(asker, f"{server}-2"), ["alive"])


def without_a_grace_all_is_missing_until_it_is_stated_again(daemon):
    asker = daemon.client()
    back_before_the_end_was_seen(daemon, "gw", close, ["EPOCH", 7])
    equal(status(asker, "gw-1", "gw-2", "gw-3"), ["alive", "missing", "missing"])
    equal(reason(asker, "gw-2"), "server_down")


def what_the_first_left_unread_is_stale(daemon):
    """Given a login and a logout that the first connection sent before it closed its side, when the second has stated what
    is so now, then they do not come behind that, and are answered so."""
    asker = daemon.client()
    for last_said, agent, wanted in ((["PRESENCE.CONNECT", "{}", MODEL, "{}-late", 9], "{}-late", "unknown"),
                                     (["PRESENCE.DISCONNECT", "{}", 1], "{}-1", "alive")):
        for attempt in range(10):  # a loop that read it before it was busy has run it, and rightly so
            server = f"{agent[3:]}-{attempt}"
            words = [str(word).replace("{}", server) for word in last_said]
            x, _ = back_before_the_end_was_seen(daemon, server, half_close, ["EPOCH", 7, "GRACE", LONG_MS], words)
            answer = x.reply()
            if answer != 1:
                break
        holds(answer, "STALE ")
        equal(status(asker, agent.replace("{}", server)), [wanted])


def one_of_several_that_ends_is_not_the_last(daemon):
    """Given two connections of one gateway, when one ends unseen and a third binds, then nothing is waited for, and all
    stays alive."""
    asker, second = daemon.client(), daemon.client()
    more = ["EPOCH", 7, "GRACE", GRACE_MS]
    marker = daemon.client()
    equal(second.ask("PRESENCE.SESSION", "gw", *more), "OK")
    _, third = back_before_the_end_was_seen(daemon, "gw", close, more)
    equal(marker.ask("PRESENCE.SESSION", "marker", *more), "OK")
    connect(marker, "marker", "m", 1)
    marker.close()  # its grace ends later than any that could have begun
    daemon.wait_until(lambda: status(asker, "m") == ["missing"])
    equal(status(asker, "gw-1", "gw-2", "gw-3"), ["alive"] * 3)
    equal(third.ask("QUIT"), "OK")
    equal(second.ask("QUIT"), "OK")
    equal(status(asker, "gw-1", "gw-2", "gw-3"), ["missing"] * 3)


def a_stranger_s_write_comes_before_a_session_or_not_at_all(daemon):
    """Given somebody who writes to a server without a session, as fast as it can, when a gateway binds the server with an
    epoch on another loop, then from the moment in which it has, nothing more is written, and he is told so."""
    clients = one_on_each_loop(daemon)
    stranger, gateway, refused = clients[1], clients[2], 0
    for attempt in range(300):
        first, server = attempt * 100000, f"gw-{attempt}"
        stranger.send(b"".join(encode("PRESENCE.CONNECT", server, MODEL, "a", first + i) for i in range(400)))
        gateway.send(encode("PRESENCE.SESSION", server, "EPOCH", 7) + encode("PRESENCE.COUNT", "SERVER", server))
        replies = [stranger.reply() for _ in range(400)]
        equal(gateway.reply(), "OK")
        at_once = gateway.reply()
        equal(gateway.ask("PRESENCE.COUNT", "SERVER", server), at_once)
        equal(sum(reply == 1 for reply in replies), at_once)
        refused += isinstance(replies[-1], Error)
    assert refused > 0


class Noise:
    """Loops that are busy now and then, each for a while."""

    def __init__(self, daemon):
        self.ends = threading.Event()
        self.threads = [threading.Thread(target=self.make, args=(client, f"noise-{loop}"))
                        for loop, client in one_on_each_loop(daemon).items()]
        for thread in self.threads:
            thread.start()

    def make(self, client, server):
        words = [word for number in range(5000) for word in (MODEL, f"n-{number}", number, 0, "")]
        while not self.ends.is_set():
            equal(client.ask("PRESENCE.UPDATESERVER", server, 5000, *words), 5000)

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.ends.set()
        for thread in self.threads:
            thread.join()


def many_come_back_at_once_again_and_again(daemon):
    """Forty servers of a gateway that is killed; of its next life, which ends in every way, at once, and of the next
    after that. Each states less than the one before: what the last one states is alive, all else missing, once their
    graces are over; and when the last one has gone too, nothing is alive."""
    asker, servers = daemon.client(), [f"gw-{i}" for i in range(40)]
    agents = [f"{server}-{i}" for server in servers for i in range(4)]

    def come_back(count):
        """Binds a new connection for each server, and states agents 0 to count - 1; then reads the replies."""
        clients = [daemon.client() for _ in servers]
        return clients, [encode("PRESENCE.SESSION", server, "EPOCH", 7, "GRACE", GRACE_MS) +
                         b"".join(encode("PRESENCE.CONNECT", server, MODEL, f"{server}-{i}", i) for i in range(count))
                         for server in servers]

    def say(clients, words, count):
        for client, each in zip(clients, words):
            client.send(each)
        for client in clients:
            equal([client.reply() for _ in range(1 + count)], ["OK"] + [0] * count)
    second, second_says = come_back(3)
    third, third_says = come_back(2)
    with Noise(daemon):
        process = subprocess.Popen([sys.executable, "-c", GATEWAY, str(daemon.port), MODEL, str(GRACE_MS), *servers],
                                   stdout=subprocess.PIPE)
        try:
            equal(process.stdout.readline(), b"told\n")
        finally:
            process.kill()
            process.wait()  # the kernel has closed all of them
            process.stdout.close()
        say(second, second_says, 3)
        for client in second:
            random.choice((close, reset, half_close))(client)
        say(third, third_says, 2)
        wanted = ["alive" if agent.endswith(("-0", "-1")) else "missing" for agent in agents]
        daemon.wait_until(lambda: status(asker, *agents) == wanted)
        equal({reason(asker, agent) for agent in agents if not agent.endswith(("-0", "-1"))}, {"timed_out"})
        for client in third:
            random.choice((close, reset))(client)
        daemon.wait_until(lambda: status(asker, *agents) == ["missing"] * len(agents))
    for client in second:
        client.close()
    for server in servers:  # nobody holds it, or is waited for
        assert not isinstance(connect(asker, server, f"{server}-0", 0), Error)


if __name__ == "__main__":
    options = ("--threads", "3", "--node", "node-0")
    if len(sys.argv) > 2:
        presenced.tell(sys.argv[1], [many_come_back_at_once_again_and_again] * int(sys.argv[2]), *options)
    else:
        presenced.tell(sys.argv[1], [a_gateway_that_is_back_at_once_is_not_one_more,
                                     without_a_grace_all_is_missing_until_it_is_stated_again,
                                     what_the_first_left_unread_is_stale, one_of_several_that_ends_is_not_the_last,
                                     a_stranger_s_write_comes_before_a_session_or_not_at_all,
                                     many_come_back_at_once_again_and_again], *options)
    presenced.end()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_sessions.py PRESENCED - gateways that hold a server, die, come back, and fight; agents that join the node.

A gateway is a process of its own where it is killed, else a client. Graces are 400 ms where a story waits for their end,
and a minute where it must not see it; that something has happened is waited for, that it has not is asked after
something else has that comes later."""

import ctypes
import signal
import socket
import subprocess
import sys

import presenced
from presenced import Error, equal, holds

MODEL = "2e15302a-bbdf-4077-8e65-116a5a0e0348"
GRACE_MS = 400
LONG_MS = 60000

# A gateway: binds, reports its agents, says so, and then hangs on until it is killed.
GATEWAY = """
import socket, sys, time
port, server, *more = sys.argv[1:]
commands = [["PRESENCE.SESSION", server, *more]]
commands += [["PRESENCE.CONNECT", server, "%s", "a-%%d" %% i, str(i)] for i in (1, 2, 3)]
gateway = socket.create_connection(("127.0.0.1", int(port)))
for words in commands:
    gateway.sendall(b"*%%d\\r\\n" %% len(words) + b"".join(b"$%%d\\r\\n%%s\\r\\n" %% (len(w), w.encode()) for w in words))
seen = b""
while seen.count(b"\\r\\n") < len(commands):
    seen += gateway.recv(4096)
print("told", flush=True)
time.sleep(3600)
""" % MODEL


class Gateway:
    def __init__(self, daemon, server, *more):
        self.process = subprocess.Popen([sys.executable, "-c", GATEWAY, str(daemon.port), server, *map(str, more)],
                                        stdout=subprocess.PIPE)
        equal(self.process.stdout.readline(), b"told\n")

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def status(client, *agents):
    return client.ask("PRESENCE.STATUS", MODEL, *agents)


def reason(client, agent):
    return dict_of(client.ask("PRESENCE.AGENT", MODEL, agent))["reason"]


def dict_of(items):
    return items if isinstance(items, dict) else dict(zip(items[::2], items[1::2]))


def connect(client, server, agent, number):
    return client.ask("PRESENCE.CONNECT", server, MODEL, agent, number)


def gateway(daemon, server, *more):
    client = daemon.client()
    equal(client.ask("PRESENCE.SESSION", server, *more), "OK")
    return client


def becomes(daemon, client, agents, wanted):
    daemon.wait_until(lambda: status(client, *agents) == wanted)


# ------------------------------------------------------------------------------------------------------- stories --


def a_gateway_that_is_killed_takes_its_server_down(daemon):
    asker = daemon.client()
    with Gateway(daemon, "gw", "EPOCH", 1) as one:
        equal(status(asker, "a-1", "a-3"), ["alive", "alive"])
        one.process.send_signal(signal.SIGKILL)
        becomes(daemon, asker, ["a-1", "a-2", "a-3"], ["missing"] * 3)
    equal(reason(asker, "a-1"), "server_down")
    with Gateway(daemon, "gw", "EPOCH", 2):
        equal(status(asker, "a-1", "a-2", "a-3"), ["alive"] * 3)
    equal(asker.ask("PRESENCE.COUNT", "SERVER", "gw"), 3)


def a_killed_gateway_is_waited_for_during_its_grace(daemon):
    asker = daemon.client()
    with Gateway(daemon, "gw", "GRACE", LONG_MS):
        pass
    with Gateway(daemon, "soon", "GRACE", GRACE_MS):
        asker.ask("PRESENCE.DISCONNECT", "soon", 1)
        connect(asker, "soon", "b-1", 9)
    becomes(daemon, asker, ["b-1"], ["missing"])  # it went later than the other, whose grace is not over
    equal(reason(asker, "b-1"), "timed_out")
    equal(status(asker, "a-1"), ["alive"])


def a_gateway_back_within_its_grace_keeps_what_it_states_again(daemon):
    asker = daemon.client()
    one = gateway(daemon, "gw", "EPOCH", 7, "GRACE", GRACE_MS)
    for i in range(1, 6):
        equal(connect(one, "gw", f"a-{i}", i), 1)
    before = asker.ask("PRESENCE.COUNT", "STATUS", "alive")
    equal(before, 5)
    one.close()
    two = gateway(daemon, "gw", "EPOCH", 7, "GRACE", GRACE_MS)
    equal(connect(two, "gw", "a-1", 1), 0)   # only stamped
    equal(connect(two, "gw", "a-6", 6), 1)   # new
    equal(two.ask("PRESENCE.ACTIVITY", "gw", 2), 1)  # no statement
    equal(status(asker, *[f"a-{i}" for i in range(1, 7)]), ["alive"] * 6)
    becomes(daemon, asker, ["a-3"], ["missing"])
    equal(status(asker, *[f"a-{i}" for i in range(1, 7)]),
          ["alive", "missing", "missing", "missing", "missing", "alive"])
    equal(reason(asker, "a-2"), "timed_out")
    two.ask("PRESENCE.CONNECT", "gw", MODEL, "a-2", 2)
    equal(status(asker, "a-2"), ["alive"])


def a_gateway_back_within_its_grace_may_state_a_list(daemon):
    asker = daemon.client()
    one = gateway(daemon, "gw", "GRACE", GRACE_MS)
    for i in (1, 2):
        connect(one, "gw", f"a-{i}", i)
    marker = gateway(daemon, "marker", "GRACE", GRACE_MS)
    connect(marker, "marker", "m", 1)
    one.close()
    two = gateway(daemon, "gw", "GRACE", GRACE_MS)
    equal(two.ask("PRESENCE.UPDATESERVER", "gw", 1, MODEL, "a-1", 1, 0, ""), 1)
    marker.close()  # its grace ends behind the other's
    becomes(daemon, asker, ["m"], ["missing"])
    equal(status(asker, "a-1", "a-2"), ["alive", "unknown"])


def a_gateway_that_goes_twice_within_its_grace_is_down_after_the_last(daemon):
    asker = daemon.client()
    one = gateway(daemon, "gw", "EPOCH", 1, "GRACE", GRACE_MS)
    connect(one, "gw", "a-1", 1)
    connect(one, "gw", "a-2", 2)
    one.close()
    two = gateway(daemon, "gw", "EPOCH", 1)
    connect(two, "gw", "a-1", 1)
    two.close()
    becomes(daemon, asker, ["a-2"], ["missing"])
    becomes(daemon, asker, ["a-1", "a-2"], ["missing", "missing"])
    equal(gateway(daemon, "gw").ask("PING"), "PONG")  # nobody holds it any more


def who_says_goodbye_needs_no_grace(daemon):
    asker = daemon.client()
    for i, words in enumerate([["QUIT"], ["RESET"], ["PRESENCE.SESSION", "elsewhere"]]):
        one = gateway(daemon, f"gw-{i}", "GRACE", LONG_MS)
        connect(one, f"gw-{i}", f"a-{i}", 1)
        assert not isinstance(one.ask(*words), Error)
        equal(status(asker, f"a-{i}"), ["missing"])
        equal(reason(asker, f"a-{i}"), "drained")


def a_server_is_down_when_the_last_of_its_holders_is_gone(daemon):
    asker = daemon.client()
    holders = [gateway(daemon, "gw", "EPOCH", 3) for _ in range(3)]
    connect(holders[0], "gw", "a", 1)
    holders[0].close()
    equal(holders[1].ask("QUIT"), "OK")
    equal(status(asker, "a"), ["alive"])
    holders[2].close()
    becomes(daemon, asker, ["a"], ["missing"])


def of_two_gateways_the_newer_epoch_has_the_server(daemon):
    asker = daemon.client()
    one = gateway(daemon, "gw", "EPOCH", 10)
    connect(one, "gw", "a-1", 1)
    two = gateway(daemon, "gw", "EPOCH", 11)
    equal(status(asker, "a-1"), ["missing"])
    equal(reason(asker, "a-1"), "superseded")
    for words in (["CONNECT", "gw", MODEL, "late", 2], ["ACTIVITY", "gw", 1], ["DISCONNECT", "gw", 1],
                  ["SERVERDOWN", "gw"], ["DRAIN", "gw"], ["UPDATESERVER", "gw", 0], ["MERGESERVER", "gw", 0],
                  ["UPDATESERVER", "gw", "BEGIN"]):
        holds(one.ask("PRESENCE." + words[0], *words[1:]), "STALE ")
    equal(status(asker, "late"), ["unknown"])
    equal(connect(two, "gw", "a-1", 1), 0)
    one.close()  # it has lost the server: its end says nothing
    equal(status(asker, "a-1"), ["alive"])
    equal(two.ask("PRESENCE.ACTIVITY", "gw", 1), 1)


def nothing_of_an_older_life_is_written_once_a_newer_has_begun(daemon):
    """The older gateway is in the midst of its reports when the newer one binds, on another thread."""
    asker, numbers = daemon.client(), 3000
    old = gateway(daemon, "gw", "EPOCH", 1)
    cut_short = 0
    for epoch in range(2, 22):
        old.send(b"".join(presenced.encode("PRESENCE.CONNECT", "gw", MODEL, f"a-{i}", i, *(["CONTROLLER"] * (i % 50 == 0)))
                          for i in range(numbers)))
        new = gateway(daemon, "gw", "EPOCH", epoch)
        equal(asker.ask("PRESENCE.COUNT", "STATUS", "alive"), 0)
        replies = [old.reply() for _ in range(numbers)]
        equal(asker.ask("PRESENCE.COUNT", "STATUS", "alive"), 0)
        stale = [isinstance(reply, Error) for reply in replies]
        equal(sorted(stale), stale)  # once stale, always stale
        cut_short += any(stale) and not all(stale)
        old.close()
        old = new
    print(f"# {cut_short} of 20 were cut short in the midst of their reports")


def an_old_epoch_is_stale_even_when_nobody_holds_the_server(daemon):
    two = gateway(daemon, "gw", "EPOCH", 11)
    holds(daemon.client().ask("PRESENCE.SESSION", "gw", "EPOCH", 10), "STALE ")
    holds(daemon.client().ask("PRESENCE.SESSION", "gw"), "STALE ")
    equal(two.ask("QUIT"), "OK")
    holds(daemon.client().ask("PRESENCE.SESSION", "gw", "EPOCH", 10), "STALE ")
    gateway(daemon, "gw", "EPOCH", 11)


def while_a_session_holds_a_server_nobody_else_states_it(daemon):
    stranger = daemon.client()
    equal(connect(stranger, "gw", "a-1", 1), 1)
    one = gateway(daemon, "gw", "EPOCH", 1, "GRACE", LONG_MS)
    holds(connect(stranger, "gw", "a-2", 2), "STALE another session holds the server, or a newer epoch of it; this "
          "connection does not hold the session of that server: say PRESENCE.SESSION first")
    stranger.send(b"".join(presenced.encode("PRESENCE.ACTIVITY", "gw", 1) for _ in range(3)))
    for _ in range(3):
        holds(stranger.reply(), "STALE ")
    equal(connect(stranger, "other", "b", 1), 1)
    one.close()
    daemon.wait_until(lambda: daemon.info("connected_clients") == 2)
    holds(connect(stranger, "gw", "a-2", 2), "STALE ")  # it is waited for
    one = gateway(daemon, "gw", "EPOCH", 1)
    equal(one.ask("QUIT"), "OK")
    equal(connect(stranger, "gw", "a-2", 2), 1)


def a_session_without_an_epoch_lets_others_report_too(daemon):
    one, stranger = gateway(daemon, "gw"), daemon.client()
    equal(connect(stranger, "gw", "a-1", 1), 1)
    equal(connect(one, "gw", "a-2", 2), 1)
    one.close()
    becomes(daemon, stranger, ["a-1", "a-2"], ["missing", "missing"])


def drop_all_input(client):
    """From here on the client's kernel throws away whatever comes for it, so that nothing is acknowledged: to the other
    side it is a machine that lost its power."""
    SO_ATTACH_FILTER = 26
    drop = (ctypes.c_uint16 * 4)(0x06, 0, 0, 0)  # one instruction of classic BPF: return 0 bytes

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
    client.socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, bytes(Program(1, ctypes.addressof(drop))))


def a_half_open_gateway_is_found_out_by_keepalive(daemon):
    lost, quiet, asker = gateway(daemon, "lost"), gateway(daemon, "quiet"), daemon.client()
    connect(lost, "lost", "a", 1)
    connect(quiet, "quiet", "b", 1)
    drop_all_input(lost)  # no FIN, no RST, no answer; --keepalive is a second
    becomes(daemon, asker, ["a"], ["missing"])
    equal(reason(asker, "a"), "server_down")
    equal(status(asker, "b"), ["alive"])  # it has said nothing for as long, but its kernel answers


def a_gateway_that_takes_over_is_the_only_holder(daemon):
    """Given a gateway whose connections were lost without an end, when it is back and takes over, then what it does not
    state again is missing at the end of the grace, although they look as though they were there; and they may say no
    more. Without TAKEOVER it is one holder more, and all stays alive."""
    asker = daemon.client()
    marker = gateway(daemon, "marker", "GRACE", GRACE_MS)
    for server, more in (("gw", ["EPOCH", 7]), ("no-epoch", [])):
        lost = [gateway(daemon, server, *more, "GRACE", GRACE_MS) for _ in range(2)]
        for i in (1, 2, 3):
            equal(connect(lost[i % 2], server, f"{server}-{i}", i), 1)
        beside = gateway(daemon, server, *more)
        back = gateway(daemon, server, *more, "TAKEOVER")
        equal(connect(back, server, f"{server}-1", 1), 0)
        equal(status(asker, f"{server}-2"), ["alive"])
        becomes(daemon, asker, [f"{server}-2", f"{server}-3"], ["missing"] * 2)
        equal((reason(asker, f"{server}-2"), status(asker, f"{server}-1")), ("timed_out", ["alive"]))
        for each in (*lost, beside):
            holds(connect(each, server, "late", 9), "STALE")
            equal(each.ask("QUIT"), "OK")
        equal(status(asker, f"{server}-1"), ["alive"])
        # It took over from all but itself: with the same connection nothing is waited for.
        equal(back.ask("PRESENCE.SESSION", server, *more, "takeover"), "OK")
        equal(connect(back, server, f"{server}-4", 4), 1)
        equal(back.ask("QUIT"), "OK")
        becomes(daemon, asker, [f"{server}-1", f"{server}-4"], ["missing"] * 2)
    connect(marker, "marker", "m", 1)
    marker.close()
    becomes(daemon, asker, ["m"], ["missing"])


def what_takes_over_from_itself_waits_for_nothing(daemon):
    asker = daemon.client()
    own, other = gateway(daemon, "gw", "EPOCH", 7, "GRACE", GRACE_MS), gateway(daemon, "gw", "EPOCH", 7)
    connect(own, "gw", "a", 1)
    connect(other, "gw", "b", 2)
    equal(own.ask("PRESENCE.SESSION", "gw", "EPOCH", 7, "TAKEOVER"), "OK")
    marker = gateway(daemon, "marker", "GRACE", GRACE_MS)
    connect(marker, "marker", "m", 1)
    marker.close()  # its grace ends later than any that could have begun
    becomes(daemon, asker, ["m"], ["missing"])
    equal(status(asker, "a", "b"), ["alive", "alive"])
    holds(connect(other, "gw", "c", 3), "STALE")


def taking_over_without_a_grace_is_a_new_beginning(daemon):
    asker, lost = daemon.client(), gateway(daemon, "gw", "EPOCH", 7)
    connect(lost, "gw", "a", 1)
    equal(asker.ask("PRESENCE.SESSION", "gw", "EPOCH", 6, "TAKEOVER").split()[0], "STALE")
    equal(status(asker, "a"), ["alive"])  # it took nothing over
    back = gateway(daemon, "gw", "EPOCH", 7, "TAKEOVER")
    equal((status(asker, "a"), reason(asker, "a")), (["missing"], "server_down"))
    equal(connect(back, "gw", "a", 1), 0)
    equal(status(asker, "a"), ["alive"])


def a_half_open_gateway_with_replies_under_way_is_found_out(daemon):
    lost, asker = gateway(daemon, "lost"), daemon.client()
    connect(lost, "lost", "a", 1)
    drop_all_input(lost)
    lost.send(presenced.encode("PING"))  # this arrives; its reply is never acknowledged
    becomes(daemon, asker, ["a"], ["missing"])


def a_slow_gateway_loses_its_server_and_nobody_waits_for_it(daemon):
    slow, asker = daemon.client(receive_buffer=4096), daemon.client()
    equal(slow.ask("PRESENCE.SESSION", "slow"), "OK")
    connect(slow, "slow", "s", 1)
    one = gateway(daemon, "gw")
    connect(one, "gw", "a", 1)
    slow.socket.settimeout(0.2)
    try:  # it asks and asks, and never reads
        while True:
            slow.send(presenced.encode("PRESENCE.SERVERS", "DETAILS") + presenced.encode("ECHO", "x" * 30000))
    except (socket.timeout, ConnectionError):
        pass
    equal(one.ask("PRESENCE.ACTIVITY", "gw", 1), 1)  # others are served meanwhile
    becomes(daemon, asker, ["s"], ["missing"])       # cut off by request-timeout
    equal(status(asker, "a"), ["alive"])


def wishes_that_cannot_be_granted_are_refused(daemon):
    client = daemon.client()
    holds(client.ask("PRESENCE.SESSION", ""), "INVALID server is empty")
    holds(client.ask("PRESENCE.SESSION", "gw", "EPOCH", "x"), "INVALID ")
    holds(client.ask("PRESENCE.SESSION", "gw", "GRACE", 86400001), "INVALID GRACE")
    holds(client.ask("PRESENCE.SESSION", "gw", "GRACE"), "ERR GRACE wants a value")
    holds(client.ask("PRESENCE.SESSION", "node-0"), "NOPERM ")
    client.ask("PRESENCE.DISABLE")
    holds(client.ask("PRESENCE.SESSION", "gw", "EPOCH", 1), "DISABLED ")
    client.ask("PRESENCE.ENABLE")
    equal(client.ask("PRESENCE.SESSION", "gw", "EPOCH", 1), "OK")


# ------------------------------------------------------------------------------------------------------- joining --


def an_agent_that_joins_is_alive_until_it_is_gone(daemon):
    agent, asker = daemon.client(), daemon.client()
    number = agent.ask("PRESENCE.JOIN", MODEL, "unit-a-0", "DATA", "zone=1")
    assert int(number) > 0, number
    equal(status(asker, "unit-a-0"), ["alive"])
    equal(asker.ask("PRESENCE.COUNT", "SERVER", "node-0"), 1)
    holds(agent.ask("PRESENCE.JOIN", MODEL, "unit-b-0"), "DUPLICATE ")
    agent.close()
    becomes(daemon, asker, ["unit-a-0"], ["unknown"])
    equal(reason(asker, "unit-a-0"), "left")
    equal(asker.ask("PRESENCE.COUNT"), 0)


def an_agent_that_says_goodbye_has_left_at_once(daemon):
    agent, asker = daemon.client(), daemon.client()
    agent.ask("PRESENCE.JOIN", MODEL, "unit-a-0")
    equal(agent.ask("QUIT"), "OK")
    equal(status(asker, "unit-a-0"), ["unknown"])


def what_a_joined_agent_says_stamps_it(daemon):
    agent, asker = daemon.client(), daemon.client()
    agent.ask("PRESENCE.JOIN", MODEL, "unit-a-0")

    def seen():
        return dict_of(asker.ask("PRESENCE.AGENT", MODEL, "unit-a-0"))["last_seen"]
    first = seen()

    def later():
        agent.ask("PING")
        return seen() > first
    daemon.wait_until(later)


def nobody_else_states_the_nodes_own_server(daemon):
    agent, stranger = daemon.client(), daemon.client()
    number = agent.ask("PRESENCE.JOIN", MODEL, "unit-a-0")
    for words in (["CONNECT", "node-0", MODEL, "evil", 1], ["DISCONNECT", "node-0", number],
                  ["SERVERDOWN", "node-0"], ["DRAIN", "node-0"], ["UPDATESERVER", "node-0", 0],
                  ["ACTIVITY", "node-0", number], ["SESSION", "node-0", "EPOCH", 2 ** 63]):
        holds(stranger.ask("PRESENCE." + words[0], *words[1:]), "NOPERM ")
    equal(status(stranger, "unit-a-0", "evil"), ["alive", "unknown"])


def a_joined_agent_is_recorded_again_after_the_record_was_cleared(daemon):
    agent, asker = daemon.client(), daemon.client()
    agent.ask("PRESENCE.JOIN", MODEL, "unit-a-0")
    asker.ask("PRESENCE.DISABLE")
    asker.ask("PRESENCE.ENABLE")
    equal(status(asker, "unit-a-0"), ["unknown"])
    agent.ask("PING")
    equal(status(asker, "unit-a-0"), ["alive"])
    agent.close()
    becomes(daemon, asker, ["unit-a-0"], ["unknown"])


def everything_ends_when_the_daemon_does(daemon):
    """The end itself is the test: Daemon's exit insists on status 0, under sanitizers too."""
    for i in range(5):
        connect(gateway(daemon, f"gw-{i}", "EPOCH", 1, "GRACE", LONG_MS), f"gw-{i}", "a", 1)
        daemon.client().ask("PRESENCE.JOIN", MODEL, f"unit-{i}")
        daemon.client().ask("PRESENCE.UPDATESERVER", f"list-{i}", "BEGIN")
    gateway(daemon, "waited-for", "GRACE", LONG_MS).close()
    holds(daemon.client().ask("PING"), "PONG")


STORIES = [value for value in list(globals().values())
           if callable(value) and getattr(value, "__module__", "") == "__main__" and not isinstance(value, type)
           and value.__code__.co_varnames[:value.__code__.co_argcount] == ("daemon",)]

if __name__ == "__main__":
    for threads in ("1", "3"):
        print(f"# {threads} threads")
        presenced.tell(sys.argv[1], STORIES, "--threads", threads, "--node", "node-0", "--request-timeout", "2s",
                       "--settle-time", "200ms", "--keepalive", "1s")
    presenced.end()

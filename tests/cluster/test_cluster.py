# SPDX-License-Identifier: Apache-2.0
"""libpresence-cluster as programs meet it: real nodes, in one process and in several, at a real NATS server.

    test_cluster.py PROGRAM SOURCE_ROOT      PROGRAM: cluster_node"""

import os
import re
import sys
import time

import nkeys
from rig import (LEASE_MS, TIMES, Node, Process, RawNats, check, equal, eventually, free_port, make_certificates,
                 tell)

MS = 1_000_000


# ------------------------------------------------------------------------------------------------------- what is told


def what_one_states_all_see(world):
    a, b, c = world.cluster(world.nats())
    a.fine("connect", "s1", "m", "x", 1)
    b.sees("x", "alive")
    c.sees("x", "alive")
    a.fine("connect", "s1", "m", "y", 2)
    c.sees("y", "alive")
    a.fine("disconnect", "s1", 1)
    b.sees("x", "unknown")
    c.fine("connect", "s2", "m", "z", 1)
    a.sees("z", "alive")
    a.fine("down", "s1")
    b.sees("y", "missing")
    equal(b.ask("status", "m", "y")["reason"], "server_down")
    equal(b.ask("connect", "s1", "m", "w", 9)["code"], "STALE", "a connect to a server that another node states")
    for node in (a, b, c):
        node.fine("check")
        equal(node.doubt(), "fresh")
    equal(b.ask("freshness", "s1")["node"], "a")


def a_list_of_100000_arrives(world):
    a, b, c = world.cluster(world.nats())
    a.fine("update", "s1", 100000)
    for node in (b, c):
        eventually(lambda n=node: n.alive("s1"), lambda alive: alive == 100000, f"{node.name} has the list")
    b.sees("agent-99999", "alive")
    a.fine("disconnect", "s1", 100000)
    b.sees("agent-99999", "unknown")


def who_comes_late_gets_everything(world):
    nats = world.nats()
    a, b = world.cluster(nats, "ab")
    a.fine("update", "s1", 5000)
    b.fine("connect", "s2", "m", "x", 1)
    a.sees("x", "alive")
    late = world.join("late", nats)
    late.ready()
    equal((late.alive("s1"), late.alive("s2")), (5000, 1), "what the newcomer holds once it is ready")


# ------------------------------------------------------------------------------------------------------ who goes away


def a_killed_node_is_missing_after_its_lease(world):
    a, b, c = world.cluster(world.nats())
    a.fine("connect", "s1", "m", "x", 1)
    for node in (b, c):
        node.sees("x", "alive")
    a.process.kill()
    for node in (b, c):
        node.sees("x", "missing")
        evidence = node.ask("status", "m", "x")
        equal(evidence["reason"], "lapsed")
        heard = [peer["heard"] for peer in node.ask("peers") if peer["node"] == "a"]
        check(evidence["since"] - heard[0] >= (LEASE_MS - 1) * MS,
              f"missing {(evidence['since'] - heard[0]) / MS} ms after the last beat, the lease is {LEASE_MS}")
        equal(node.doubt("s1"), "silent")
        equal(node.doubt(), "fresh", "the view of those who live")


def a_frozen_node_is_restored(world):
    a, b, _ = world.cluster(world.nats())
    a.fine("connect", "s1", "m", "x", 1)
    b.sees("x", "alive")
    a.process.freeze()
    b.sees("x", "missing")
    a.process.thaw()
    b.sees("x", "alive")
    equal(b.ask("status", "m", "x")["reason"], "restored")
    a.becomes("fresh")


def who_leaves_is_missing_at_once(world):
    a, b, c = world.cluster(world.nats())
    a.fine("connect", "s1", "m", "x", 1)
    for node in (b, c):
        node.sees("x", "alive")
    began = time.monotonic()
    a.fine("leave")
    took = time.monotonic() - began
    for node in (b, c):
        node.sees("x", "missing")
        equal(node.ask("status", "m", "x")["reason"], "drained")
        equal(sorted(peer["node"] for peer in node.ask("peers")), sorted({"b", "c"} - {node.name}))
    check(took < 5, f"leaving took {took} s")


def what_was_stated_last_goes_before_the_goodbye(world):
    a, b, _ = world.cluster(world.nats())
    a.fine("connect", "s1", "m", "x", 1)
    b.sees("x", "alive")
    for i in range(2, 2000):
        a.fine("connect", "s1", "m", f"x{i}", i)
    a.fine("leave")
    eventually(lambda: b.ask("counts", "s1"), lambda got: got["missing"] == 1999, "b holds all that a stated")
    equal(b.ask("status", "m", "x1999")["reason"], "drained")


# ------------------------------------------------------------------------------------------------------ NATS goes away


def without_nats_all_are_deaf_and_nobody_missing(world):
    nats = world.nats()
    lease = 4 * LEASE_MS  # time enough for all to come back on a busy machine
    nodes = a, b, c = [world.join(name, nats, f"lease={lease}") for name in "abc"]
    for node in nodes:
        node.ready()
    a.fine("connect", "s1", "m", "x", 1)
    for node in (b, c):
        node.sees("x", "alive")
    nats.kill()
    for node in nodes:
        node.becomes("deaf")
    time.sleep(3 * lease / 1000)
    for node in (b, c):
        equal(node.status("x"), "alive", "what was last known")
        equal(node.doubt("s1"), "deaf")
    equal(a.doubt("s1"), "fresh", "who states a server cannot be wrong about it")
    a.fine("connect", "s1", "m", "y", 2)
    tries = [node.ask("stats")["failures"] for node in nodes]
    check(min(tries) >= 9, f"tried to connect {tries} times in three leases: they would come back too far apart")
    nats.start()
    for node in nodes:
        node.becomes("fresh")
        node.sees("y", "alive")
    for node in (b, c):
        equal(node.status("x"), "alive")
        equal(node.ask("stats")["losses"], 1)
        equal(node.ask("stats")["lapses"], 0, "servers that lapsed")


def nats_that_hangs_is_as_good_as_gone(world):
    nats = world.nats()
    a, b, _ = world.cluster(nats)
    a.fine("connect", "s1", "m", "x", 1)
    b.sees("x", "alive")
    nats.freeze(True)
    b.becomes("deaf")
    equal(b.status("x"), "alive")
    eventually(lambda: b.ask("stats")["losses"], lambda losses: losses > 0, "b drops a connection that tells nothing")
    nats.freeze(False)
    b.becomes("fresh")
    a.becomes("fresh")
    a.fine("connect", "s1", "m", "y", 2)
    b.sees("y", "alive")


def leaving_waits_for_nobody(world):
    nats = world.nats()
    a, b, _ = world.cluster(nats)
    a.fine("connect", "s1", "m", "x", 1)
    b.sees("x", "alive")
    nats.freeze(True)
    began = time.monotonic()
    a.fine("leave")
    check(time.monotonic() - began < 10, "leaving waits for a NATS server that hangs")
    nats.freeze(False)
    b.sees("x", "missing")


def a_node_may_begin_before_nats(world):
    nats = world.nats()
    nats.kill()
    a = world.join("a", nats)
    answer = a.ask("wait", 300)
    equal(answer["code"], "SYSTEM")
    check("no connection to NATS" in answer["message"], answer["message"])
    equal(a.doubt(), "joining")
    a.fine("connect", "s1", "m", "x", 1)
    nats.start()
    a.ready()
    b = world.join("b", nats)
    b.sees("x", "alive")


def nodes_move_to_another_nats_server(world):
    ports = [free_port(), free_port(), free_port(), free_port()]
    servers = []
    for i in range(2):
        servers.append(world.nats(f"server_name: n{i}\ncluster {{ name: c, listen: 127.0.0.1:{ports[2 + i]}, "
                                  f"routes: [nats://127.0.0.1:{ports[3 - i]}] }}", ports[i]))
    both = f"{servers[0].url()},{servers[1].url()}"
    nodes = a, b, c = [world.join(name, both) for name in "abc"]
    for node in nodes:
        node.ready()
    a.fine("connect", "s1", "m", "x", 1)
    b.sees("x", "alive")
    c.sees("x", "alive")
    servers[0].kill()
    eventually(lambda: [node.ask("stats")["connected"] for node in nodes], all, "all are connected to what is left")
    for node in nodes:
        node.becomes("fresh")
    a.fine("connect", "s1", "m", "y", 2)
    b.sees("y", "alive")
    c.sees("y", "alive")
    equal(b.status("x"), "alive")


# ------------------------------------------------------------------------------------------------------ who may speak


def with_tls_and_a_token(world):
    make_certificates(world.scratch)
    at = world.scratch + "/"
    nats = world.nats("authorization { token: right }\n"
                      f"tls {{ cert_file: {at}localhost.pem, key_file: {at}localhost.key, ca_file: {at}ca.pem, "
                      "verify: true, timeout: 5 }")
    urls = f"tls://localhost:{nats.port}"
    who = f"ca={at}ca.pem cert={at}client.pem key={at}client.key"
    a = world.join("a", urls, f"{who} token=right")
    b = world.join("b", urls, f"{who} token=right")
    a.ready()
    b.ready()
    a.fine("update", "s1", 20000)
    eventually(lambda: b.alive("s1"), lambda alive: alive == 20000, "b has the list")

    def refused(name, options, *expected, url=urls):
        node = world.join(name, url, options)
        answer = node.ask("wait", 2000)
        equal(answer["code"], "SYSTEM", name)
        check(re.search("|".join(expected), answer["message"], re.IGNORECASE), f"{name}: {answer['message']}")
        check(node.events("warning"), f"{name} says nothing in its log")
        node.fine("leave")

    refused("wrong-token", f"{who} token=wrong", "authorization")
    refused("no-token", who, "authorization")
    refused("wrong-authority", f"ca={at}other.pem cert={at}client.pem key={at}client.key token=right", "certificate",
            "verify")
    refused("wrong-host", f"{who} token=right", "mismatch", "verify", "certificate",
            url=f"tls://127.0.0.1:{nats.port}")
    refused("no-certificate", f"ca={at}ca.pem token=right", "certificate", "SSL", "PONG", "closed", "recv")
    nats.freeze(True)
    began = time.monotonic()
    a.fine("leave")
    check(time.monotonic() - began < 15, "leaving waits for a NATS server that hangs in TLS")
    nats.freeze(False)


def with_a_credentials_file(world):
    configuration, user, stranger = nkeys.operator_and_user(world.scratch)
    nats = world.nats(configuration)
    a, b = (world.join(name, nats, f"creds={user}") for name in "ab")
    a.ready()
    b.ready()
    a.fine("connect", "s1", "m", "x", 1)
    b.sees("x", "alive")
    other = world.join("stranger", nats, f"creds={stranger}")
    answer = other.ask("wait", 2000)
    equal(answer["code"], "SYSTEM")
    check("uthorization" in answer["message"], answer["message"])
    other.fine("leave")


def the_example_lets_a_node_speak_as_itself_only(world):
    with open(os.path.join(sys.argv[2], "examples/nats-server.conf"), encoding="utf-8") as file:
        configuration = re.sub(r"(?m)^listen:.*$", "", file.read())
    nats = world.nats(configuration)
    a, b, c = nodes = [world.join(name, nats, f"user={name} password=secret-of-{name}") for name in "abc"]
    for node in nodes:
        node.ready()
    a.fine("update", "s1", 3000)  # a state, and addressed questions
    b.fine("connect", "s2", "m", "x", 1)
    eventually(lambda: c.alive("s1"), lambda alive: alive == 3000, "c has a's list")
    c.sees("x", "alive")
    equal([node.ask("stats")["complaints"] for node in nodes], [0, 0, 0], "what NATS refused")

    intruder = RawNats(nats.port, user="a", **{"pass": "secret-of-a"})
    beat = intruder.message("presence.presence.beat.b")
    for subject in ("beat.b", "stream.b", "state.b", "to.c.b"):
        errors = intruder.publish("presence.presence." + subject, beat)
        check(errors and "Permissions Violation" in errors[0], f"a publishes on {subject}: {errors}")
    # On its own subject it may say anything, but not that it is another.
    equal(intruder.publish("presence.presence.beat.a", beat), [])
    for node in (b, c):
        eventually(lambda n=node: n.ask("stats")["forged"], lambda forged: forged == 1, "the forgery is dropped")
    intruder.say("SUB presence.presence.to.b.* 7")
    check("Permissions Violation" in intruder.ping()[0], "a listens to what is told to b")
    intruder.close()

    # A node that calls itself what its user is not: it hears, is not heard, and knows that.
    wrong = world.join("wrong", nats, "user=a password=secret-of-a")
    eventually(lambda: wrong.ask("stats")["complaints"], lambda complaints: complaints > 0, "NATS complains")
    equal(wrong.ask("wait", 3 * LEASE_MS)["code"] != "OK", True, "a node that nobody hears is ready")
    warnings = [event["text"] for event in wrong.events("warning")]
    check(any("ermissions" in text and "wrong" in text for text in warnings), warnings)
    check("wrong" not in [peer["node"] for peer in b.ask("peers")], "b hears a node that may not speak")


def two_of_one_name_are_one_too_many(world):
    nats = world.nats()
    a, b, _ = world.cluster(nats)
    a.fine("connect", "s1", "m", "x", 1)
    b.sees("x", "alive")
    other = Process(world.program)
    world.processes.append(other)
    double = Node(other, "a")
    equal(other.ask(f"join a urls={nats.url()} {TIMES}"), {"code": "OK"})
    answer = double.ask("wait", 10000)
    equal(answer["code"], "DUPLICATE")
    check('"a"' in answer["message"], answer["message"])
    check(eventually(lambda: double.events("refused"), bool, "the program is told"), "")
    equal(double.ask("claim", "s9")["code"], "DUPLICATE")
    double.fine("connect", "s9", "m", "nobody", 1)
    time.sleep(2 * LEASE_MS / 1000)
    equal(b.status("nobody"), "unknown", "what the second of a name states")
    equal((b.status("x"), b.doubt("s1")), ("alive", "fresh"))
    equal(a.doubt(), "fresh")
    double.fine("leave")
    equal(b.status("x"), "alive", "after the second one left")


def a_restarted_node_is_not_its_own_double(world):
    nats = world.nats()
    a, b, _ = world.cluster(nats)
    a.fine("connect", "s1", "m", "x", 1)
    b.sees("x", "alive")
    a.process.kill()
    again = world.join("a", nats)
    again.ready()
    again.fine("claim", "s1")  # the run before it may be remembered already: its claim is a fence
    again.fine("connect", "s1", "m", "y", 1)
    b.sees("y", "alive")
    eventually(lambda: b.status("x"), lambda status: status in ("missing", "unknown"), "the old life's agent")


# ----------------------------------------------------------------------------------------------------- claims, looking


def a_newer_life_elsewhere_supersedes(world):
    a, b, c = world.cluster(world.nats())
    a.fine("claim", "s1", 1)
    a.fine("connect", "s1", "m", "x", 1)
    b.sees("x", "alive")
    equal(b.ask("claim", "s1", 0)["code"], "STALE", "a claim of an older life")
    b.fine("claim", "s1", 2)
    c.sees("x", "missing")
    equal(c.ask("status", "m", "x")["reason"], "superseded")
    told = eventually(lambda: a.events("superseded"), bool, "a is told")
    equal((told[0]["superseded"], told[0]["node"]), ("s1", "b"))
    equal(a.ask("connect", "s1", "m", "y", 2)["code"], "STALE")
    b.fine("connect", "s1", "m", "y", 1)
    for node in (a, c):
        node.sees("y", "alive")
        eventually(lambda n=node: n.status("x"), lambda got: got == "unknown", "the old life goes once the new is whole")


def an_operator_forgets_a_dead_server(world):
    a, b, c = world.cluster(world.nats())
    a.fine("connect", "s1", "m", "x", 1)
    c.sees("x", "alive")
    b.sees("x", "alive")
    equal(b.ask("forget", "s1")["code"], "STALE", "a server whose node lives")
    equal(b.ask("forget", "s-unknown")["code"], "NOT_FOUND")
    a.process.kill()
    b.sees("x", "missing")
    b.fine("forget", "s1")
    for node in (b, c):
        node.sees("x", "unknown")


def verify_and_explain_ask_everybody(world):
    a, b, c = world.cluster(world.nats())
    a.fine("update", "s1", 300)
    b.fine("connect", "s2", "m", "agent-7", 1)
    for node in (a, b, c):
        eventually(lambda n=node: (n.alive("s1"), n.alive("s2")), lambda got: got == (300, 1), "all hold all")
    answer = eventually(lambda: c.ask("verify", 5000),
                        lambda got: all(row["agreement"] == "agrees" for row in got["rows"]), "all agree")
    equal((answer["code"], answer["answered"], answer["asked"]), (0, 3, 3))
    equal([(row["server"], row["node"], row["holder"], row["connections"]) for row in answer["rows"]],
          [("s1", "a", "a", 300), ("s1", "b", "a", 300), ("s1", "c", "a", 300),
           ("s2", "a", "b", 1), ("s2", "b", "b", 1), ("s2", "c", "b", 1)])
    answer = c.ask("explain", "m", "agent-7", 5000)
    equal((answer["code"], answer["answered"], answer["asked"]), (0, 3, 3))
    equal([(row["node"], row["status"], row["total"], row["stale"]) for row in answer["rows"]],
          [("a", "alive", 2, False), ("b", "alive", 2, False), ("c", "alive", 2, False)])
    equal(sorted((one["server"], one["holder"], one["id"]) for one in answer["rows"][2]["connections"]),
          [("s1", "a", 8), ("s2", "b", 1)])
    equal([row["status"] for row in c.ask("explain", "m", "stranger", 5000)["rows"]], ["unknown"] * 3)
    # A node that does not answer: the others' rows come all the same, after the time.
    a.process.freeze()
    answer = c.ask("verify", 100)
    check(answer["answered"] < answer["asked"] or answer["asked"] == 2, answer)
    check({row["node"] for row in answer["rows"]} == {"b", "c"}, answer)
    a.process.thaw()


def verify_tells_what_differs(world):
    a, b, c = world.cluster(world.nats())
    a.fine("connect", "s1", "m", "x", 1)
    for node in (b, c):
        node.sees("x", "alive")
    b.fine("corrupt", "s1", "made-up")

    def stands():
        rows = c.ask("verify", 5000)["rows"]
        return {row["node"]: (row["agreement"], row["connections"]) for row in rows if row["server"] == "s1"}
    equal(stands(), {"a": ("behind", 1), "b": ("agrees", 2), "c": ("behind", 1)})
    a.fine("connect", "s1", "m", "y", 2)  # under the number that b has of something else: its digest tells
    eventually(stands, lambda got: got == {node: ("agrees", 2) for node in "abc"}, "all agree again")
    b.sees("made-up", "unknown")
    equal(b.ask("stats")["differences"], 1)


def many_threads_may_call_at_once(world):
    a, b, c = world.cluster(world.nats())
    a.fine("storm", "s1", 1000)
    mine = a.ask("counts", "s1")
    check(mine["alive"] > 0, mine)
    for node in (b, c):
        eventually(lambda n=node: n.ask("counts", "s1"), lambda got: got == mine, f"{node.name} holds what a states")
        node.fine("check")
    eventually(lambda: c.ask("verify", 5000),
               lambda got: all(row["agreement"] == "agrees" for row in got["rows"]), "all agree")


def what_cannot_be_is_said(world):
    nats = world.nats()

    def refused(name, options, text, code="INVALID", url=nats):
        answer = world.join(name, url, options, expect=code)
        equal(answer["code"], code, f"{name} {options}")
        check(text in answer["message"], answer["message"])

    refused("a.b", "", "a node's name is")
    refused("a" * 128, "", "a node's name is")
    refused("a", "cluster=a.b", "a cluster's name is")
    refused("a", "lease=100", "three beats")
    refused("a", "ca=/nowhere/ca.pem", "/nowhere/ca.pem")
    refused("a", "creds=/nowhere/a.creds", "/nowhere/a.creds")
    refused("a", f"cert={nats.path}", "certificate and its key")
    refused("a", f"cert={nats.path} key={nats.path}", "certificate")
    refused("a", "", "URL", url=",")
    a = world.join("a", nats)
    a.ready()
    equal(a.ask("claim", "bad\x01name")["code"], "INVALID")


def processor_seconds(process):
    with open(f"/proc/{process.process.pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def nothing_spins(world):
    """Idle nodes, a node whose recorder is disabled, and nodes without NATS, sleep."""
    nats = world.nats()
    a, b, c = world.cluster(nats)
    a.fine("connect", "s1", "m", "x", 1)
    b.sees("x", "alive")

    def quiet(what):
        before = processor_seconds(a.process)
        time.sleep(1)
        used = processor_seconds(a.process) - before
        check(used < 0.5, f"{what}: {used} s of the processor in a second")

    quiet("idle")
    b.fine("disable")
    quiet("with a disabled recorder")
    nats.kill()
    a.fine("connect", "s1", "m", "y", 2)
    quiet("without NATS")


def nothing_spins_while_nats_takes_nothing(world):
    """More to say than NATS takes: the node waits until it takes some again, and says it all."""
    nats = world.nats()
    a, b = [world.join(name, nats, "lease=2000") for name in "ab"]
    for node in (a, b):
        node.ready()
    a.fine("connect", "s1", "m", "x", 100000)
    b.sees("x", "alive")
    nats.freeze(True)
    a.fine("fill", "s1", 20000, 1000)
    eventually(lambda: a.ask("stats")["waiting"], lambda waiting: waiting > 1 << 20, "what waits")
    before = processor_seconds(a.process)
    time.sleep(1)
    used = processor_seconds(a.process) - before
    check(used < 0.2, f"{used} s of the processor in a second")
    nats.freeze(False)
    eventually(lambda: b.alive("s1"), lambda alive: alive == 20001, "b holds all")
    b.fine("check")


BOTH = [what_one_states_all_see, a_list_of_100000_arrives, who_comes_late_gets_everything, who_leaves_is_missing_at_once,
        what_was_stated_last_goes_before_the_goodbye, without_nats_all_are_deaf_and_nobody_missing,
        a_newer_life_elsewhere_supersedes]
APART = [a_killed_node_is_missing_after_its_lease, a_frozen_node_is_restored, a_restarted_node_is_not_its_own_double,
         an_operator_forgets_a_dead_server, verify_and_explain_ask_everybody]
TOGETHER = [nats_that_hangs_is_as_good_as_gone, leaving_waits_for_nobody, a_node_may_begin_before_nats,
            nodes_move_to_another_nats_server, with_tls_and_a_token, with_a_credentials_file,
            the_example_lets_a_node_speak_as_itself_only, two_of_one_name_are_one_too_many, what_cannot_be_is_said,
            verify_tells_what_differs, many_threads_may_call_at_once, nothing_spins,
            nothing_spins_while_nats_takes_nothing]

if __name__ == "__main__":
    only = sys.argv[3:]
    tell(sys.argv[1], [(story, apart) for stories, apart in ((BOTH, False), (TOGETHER, False), (BOTH + APART, True))
                       for story in stories if not only or story.__name__ in only])

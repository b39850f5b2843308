# SPDX-License-Identifier: Apache-2.0
"""A node written from docs/cluster-protocol.md alone, among real ones at a real NATS server.

    test_participant.py CLUSTER_NODE PARTICIPANT SMALLEST_PARTICIPANT CLUSTER_PROTO"""

import subprocess
import sys
import time

from participant_parts import Nats
from rig import INTERVAL_MS, LEASE_MS, TIMES, Node, Process, RawNats, check, equal, eventually, tell

NODE, PARTICIPANT, SMALLEST, PROTO = sys.argv[1:5]
EPOCH = 1767225600000


class Foreign(Process):
    """A participant's process."""

    def __init__(self, script=PARTICIPANT):  # pylint: disable=super-init-not-called
        self.process = subprocess.Popen([sys.executable, script, PROTO], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)


def participant(world, nats, name="p", options="", wait=True):
    process = Foreign()
    world.processes.append(process)
    equal(process.ask(f"join {name} port={nats.port} {TIMES} {options}"), {"code": "OK"})
    node = Node(process, name)
    if wait:
        eventually(lambda: node.ask("ready"), lambda got: got["ready"], f"{name} is ready")
    return node


def smallest(world, nats, name="p", **options):
    process = Foreign(SMALLEST)
    world.processes.append(process)
    words = " ".join(f"{key}={value}" for key, value in options.items())
    equal(process.ask(f"join {name} port={nats.port} server=s1 interval={INTERVAL_MS} lease={LEASE_MS} {words}"),
          {"code": "OK"})
    return Node(process, name)


def together(world, names="ab"):
    nats = world.nats()
    return nats, world.cluster(nats, names), participant(world, nats)


def alone(world, nats, name):
    """A real node in a process of its own, to be killed."""
    node = Node(Process(NODE), name)
    world.processes.append(node.process)
    equal(node.process.ask(f"join {name} urls={nats.url()} {TIMES}"), {"code": "OK"})
    node.ready()
    return node


def agree(node, servers, nodes):
    """By the real node's own comparison of everybody's claims, numbers and sums."""
    def good(answer):
        rows = answer["rows"]
        return answer["answered"] == answer["asked"] == nodes and all(row["agreement"] == "agrees" for row in rows) \
            and len(rows) == servers * nodes
    eventually(lambda: node.ask("verify", 5000), good, "all agree")


# ------------------------------------------------------------------------------------------------------- what is told


def what_it_states_real_nodes_show(world):
    _, (a, b), p = together(world)
    p.fine("claim", "s1", EPOCH)
    p.fine("connect", "s1", "m", "x", 1, "zone=1")
    p.fine("connect", "s1", "m", "machine", 2**64 - 1, "", 1)
    for node in (a, b):
        node.sees("x", "alive")
    agree(a, 1, 3)
    p.fine("disconnect", "s1", 1)
    a.sees("x", "unknown")
    p.fine("down", "s1")
    eventually(lambda: b.alive("s1"), lambda alive: alive == 0, "b sees s1 down")
    agree(b, 1, 3)
    equal(a.ask("freshness", "s1")["node"], "p")
    equal(a.ask("connect", "s1", "m", "y", 9)["code"], "STALE", "a connect to a server that the participant states")
    for node in (a, b):
        stats = node.ask("stats")
        equal((stats["forged"], stats["differences"]), (0, 0))


def it_sees_what_real_nodes_state(world):
    _, (a, b), p = together(world)
    a.fine("connect", "s1", "m", "x", 1)
    p.sees("x", "alive")
    a.fine("disconnect", "s1", 1)
    p.sees("x", "unknown")
    b.fine("connect", "s2", "m", "y", 1)
    b.fine("connect", "s2", "m", "z", 2)
    p.sees("z", "alive")
    b.fine("down", "s2")
    p.sees("y", "missing")
    equal(p.ask("status", "m", "y")["reason"], "server_down")
    b.fine("connect", "s2", "m", "y", 1)
    p.sees("y", "alive")
    p.sees("z", "missing")
    agree(a, 2, 3)
    stats = p.ask("stats")
    equal((stats["malformed"], stats["differences"]), (0, 0))


def lists_go_both_ways_as_states(world):
    nats, (a, b), p = together(world)
    a.fine("update", "s1", 3000)
    p.fine("update", "s2", 3000)
    eventually(lambda: p.alive("s1"), lambda alive: alive == 3000, "the participant has the list")
    for node in (a, b):
        eventually(lambda n=node: n.alive("s2"), lambda alive: alive == 3000, f"{node.name} has the participant's list")
    agree(b, 2, 3)
    late = world.join("late", nats)
    late.ready()
    equal((late.alive("s1"), late.alive("s2")), (3000, 3000), "what a newcomer holds once it is ready")
    slow = participant(world, nats, "q")
    equal((slow.alive("s1"), slow.alive("s2")), (3000, 3000), "what a new participant holds once it is ready")
    agree(a, 2, 5)


def activity_goes_both_ways(world):
    _, (a, b), p = together(world)
    p.fine("connect", "s1", "m", "x", 1)
    a.fine("connect", "s2", "m", "y", 1)
    b.sees("x", "alive")
    p.sees("y", "alive")
    before = p.ask("seen", "m", "y")["last_seen"]
    a.fine("activity", "s2", 1)
    eventually(lambda: p.ask("seen", "m", "y")["last_seen"], lambda seen: seen > before, "it hears of activity")
    p.fine("activity", "s1", 1)
    agree(a, 2, 3)


# -------------------------------------------------------------------------------------------------- what gets lost


def what_either_missed_is_made_up_for(world):
    nats, (a, b), p = together(world)
    p.fine("claim", "s1", EPOCH)
    a.fine("connect", "s2", "m", "first", 1)
    p.sees("first", "alive")
    for round_ in range(3):
        p.process.freeze()
        for at in range(50):
            a.fine("connect", "s2", "m", f"agent-{round_}-{at}", 100 * round_ + at + 2)
        p.process.thaw()
        b.process.freeze()
        for at in range(50):
            p.fine("connect", "s1", "m", f"other-{round_}-{at}", 100 * round_ + at + 2)
        b.process.thaw()
    eventually(lambda: (p.alive("s2"), b.alive("s1")), lambda got: got == (151, 150), "both have made up for it")
    agree(b, 2, 3)
    nats.kill()
    for at in range(50):
        a.fine("connect", "s2", "m", f"unheard-{at}", 1000 + at)
        p.fine("connect", "s1", "m", f"untold-{at}", 1000 + at)
    nats.start()
    for node in (a, b, p):
        eventually(lambda n=node: (n.alive("s2"), n.alive("s1")), lambda got: got == (201, 200),
                   f"{node.name} has what was stated without a connection")
    agree(a, 2, 3)


# ------------------------------------------------------------------------------------------------------ who goes away


def killed_its_agents_are_missing_after_the_lease(world):
    nats, (a, b), p = together(world)
    p.fine("claim", "s1", EPOCH)
    p.fine("connect", "s1", "m", "x", 1)
    for node in (a, b):
        node.sees("x", "alive")
    p.process.kill()
    for node in (a, b):
        node.sees("x", "missing")
        evidence = node.ask("status", "m", "x")
        equal(evidence["reason"], "lapsed")
        heard = [peer["heard"] for peer in node.ask("peers") if peer["node"] == "p"]
        check(evidence["since"] - heard[0] >= (LEASE_MS - 1) * 1000000, "missing before the lease was over")
    again = participant(world, nats, wait=False)  # it does not know what the others inherit
    again.fine("claim", "s1", EPOCH + 1)
    again.fine("connect", "s1", "m", "y", 2)
    for node in (a, b):
        node.sees("y", "alive")
        node.sees("x", "unknown")
    agree(a, 1, 3)


def what_a_killed_node_stated_is_missing_to_it(world):
    nats = world.nats()
    a, = world.cluster(nats, "a")
    b = alone(world, nats, "b")
    p = participant(world, nats)
    b.fine("connect", "s1", "m", "x", 1)
    p.sees("x", "alive")
    b.process.kill()
    p.sees("x", "missing")
    equal(p.ask("status", "m", "x")["reason"], "lapsed")
    a.sees("x", "missing")
    eventually(lambda: p.ask("memory"), lambda got: got["memory"] != 0 and got["peers"].get("a") == got["memory"],
               "both remember the same")
    a.fine("forget", "s1")
    p.sees("x", "unknown")
    eventually(lambda: p.ask("memory"), lambda got: got["memory"] != 0 and got["peers"].get("a") == got["memory"],
               "both remember the same tombstone")
    agree(a, 1, 2)


def leaving_drains(world):
    _, (a, b), p = together(world)
    p.fine("connect", "s1", "m", "x", 1)
    b.sees("x", "alive")
    b.fine("connect", "s2", "m", "y", 1)
    p.sees("y", "alive")
    b.fine("leave")
    p.sees("y", "missing")
    equal(p.ask("status", "m", "y")["reason"], "drained")
    p.fine("leave")
    a.sees("x", "missing")
    equal(a.ask("status", "m", "x")["reason"], "drained")


# --------------------------------------------------------------------------------------------------- who states what


def the_larger_claim_wins_both_ways(world):
    _, (a, b), p = together(world)
    p.fine("claim", "s1", EPOCH)
    p.fine("connect", "s1", "m", "old", 1)
    a.sees("old", "alive")
    a.fine("claim", "s1", EPOCH + 1)
    eventually(lambda: p.ask("stand", "s1"), lambda got: not got["ours"] and got["holder"] == "a", "it yields")
    p.sees("old", "missing")
    equal(p.ask("connect", "s1", "m", "late", 2)["code"], "STALE")
    a.fine("connect", "s1", "m", "new", 1)
    p.sees("new", "alive")
    p.sees("old", "unknown")
    p.fine("claim", "s1", EPOCH + 2)
    p.fine("connect", "s1", "m", "newest", 7)
    for node in (a, b):
        node.sees("newest", "alive")
    b.sees("new", "unknown")
    agree(a, 1, 3)


def the_memory_of_a_larger_claim_is_answered_by_a_larger_turn(world):
    nats = world.nats()
    b, = world.cluster(nats, "b")
    a = alone(world, nats, "a")
    b.fine("claim", "s1", EPOCH)
    eventually(lambda: a.ask("freshness", "s1")["node"], lambda node: node == "b", "a knows who states s1")
    a.fine("claim", "s1", EPOCH)
    a.fine("connect", "s1", "m", "x", 1)
    b.sees("x", "alive")
    a.process.kill()
    b.sees("x", "missing")
    p = participant(world, nats, wait=False)
    p.fine("claim", "s1", EPOCH)  # as a session with an epoch does, before it can know
    p.fine("connect", "s1", "m", "y", 2)
    equal(p.ask("stand", "s1")["claim"][1], 1, "its turn while it does not know")
    b.sees("y", "alive")
    eventually(lambda: p.ask("stand", "s1"), lambda got: got["ours"] and got["claim"][1] == 3, "a larger turn")
    agree(b, 1, 2)


def two_of_one_name_are_one_too_many(world):
    nats, (a, _), p = together(world)
    second = participant(world, nats, "p", wait=False)
    eventually(lambda: second.ask("ready"), lambda got: got["stopped"], "the second stops")
    equal(p.ask("ready")["stopped"], None)
    third = participant(world, nats, "a", wait=False)
    eventually(lambda: third.ask("ready"), lambda got: got["stopped"], "who has a real node's name stops")
    a.fine("check")


# --------------------------------------------------------------------------------------------------------- hard cases


def garbage_and_lies_are_dropped(world):
    nats, (a,), p = together(world, "a")
    a.fine("connect", "s1", "m", "x", 1)
    p.sees("x", "alive")
    raw = RawNats(nats.port)
    payload = raw.message("presence.presence.beat.a")
    raw.close()
    raw = RawNats(nats.port)
    raw.publish("presence.presence.beat.liar", payload)
    raw.publish("presence.presence.stream.a", b"\x08\x01\x12\x01a\xff\xff")
    raw.publish("presence.presence.to.p.a", b"")
    raw.publish("presence.presence.stream.a", b"\x08\x02\x12\x01a\x5a\x00")
    raw.close()
    a.fine("connect", "s1", "m", "y", 2)
    p.sees("y", "alive")
    agree(a, 1, 2)
    stats = p.ask("stats")
    check(stats.get("forged", 0) >= 3 and stats.get("foreign", 0) == 1, stats)


# ------------------------------------------------------------------------------------------- the smallest participant


def the_smallest_states_a_server(world):
    nats = world.nats()
    a, b = world.cluster(nats, "ab")
    p = smallest(world, nats)
    p.fine("connect", "m", "x", 1)
    p.fine("connect", "m", "y", 2)
    for node in (a, b):
        node.sees("y", "alive")
    p.fine("disconnect", 1)
    a.sees("x", "unknown")
    p.fine("complete")
    agree(a, 1, 3)
    b.process.freeze()
    for at in range(1000):
        p.fine("connect", "m", f"agent-{at}", 100 + at)
    b.process.thaw()
    late = world.join("late", nats)
    late.ready()
    equal(late.alive("s1"), 1001, "what a newcomer holds once it is ready")
    agree(b, 1, 4)
    for node in (a, b, late):
        equal(node.ask("stats")["differences"], 0)
    p.fine("leave")
    b.sees("y", "missing")
    equal(b.ask("status", "m", "y")["reason"], "drained")
    again = smallest(world, nats)
    again.fine("connect", "m", "z", 7)
    b.sees("z", "alive")
    b.sees("y", "missing")
    again.fine("complete")
    b.sees("y", "unknown")
    again.process.kill()
    a.sees("z", "missing")


def the_smallest_stops_where_another_states_its_server(world):
    nats = world.nats()
    a, b = world.cluster(nats, "ab")
    p = smallest(world, nats, epoch=EPOCH)
    p.fine("connect", "m", "x", 1)
    a.sees("x", "alive")
    a.fine("claim", "s1", EPOCH + 1)
    eventually(lambda: p.ask("look")["stops"], lambda why: why == "another node states it", "it stops")
    b.sees("x", "missing")
    old = smallest(world, nats, "q", epoch=EPOCH)
    a.fine("leave")
    eventually(lambda: old.ask("look")["stops"], lambda why: why is not None, "an older life stops")
    b.fine("check")


def the_smallest_takes_a_larger_turn_over_the_dead(world):
    nats = world.nats()
    b, = world.cluster(nats, "b")
    a = alone(world, nats, "a")
    a.fine("claim", "s1", EPOCH)
    eventually(lambda: b.ask("freshness", "s1")["node"], lambda node: node == "a", "b knows who states s1")
    b.fine("claim", "s1", EPOCH)  # turn 2
    eventually(lambda: a.ask("freshness", "s1")["node"], lambda node: node == "b", "a knows who states s1")
    a.fine("claim", "s1", EPOCH)  # turn 3
    eventually(lambda: b.ask("freshness", "s1")["node"], lambda node: node == "a", "b knows again")
    a.process.kill()
    b.becomes("silent", "s1")
    p = smallest(world, nats, epoch=EPOCH)
    p.fine("connect", "m", "x", 1)
    b.sees("x", "alive")
    equal(p.ask("look")["claim"][:2], [EPOCH, 4])
    agree(b, 1, 2)


def the_smallest_leaves_the_memories_of_others_in_peace(world):
    nats = world.nats()
    b, = world.cluster(nats, "b")
    a = alone(world, nats, "a")
    a.fine("connect", "s2", "m", "x", 1)
    b.sees("x", "alive")
    p = smallest(world, nats)
    p.fine("connect", "m", "y", 1)
    b.sees("y", "alive")
    a.process.kill()
    b.sees("x", "missing")
    listener, end, known, heard = Nats(nats.port), time.monotonic() + 40 * INTERVAL_MS / 1000, 0, 0
    listener.subscribe("presence.presence.stream.*")
    listener.subscribe("presence.presence.beat.b")
    while time.monotonic() < end:
        listener.look(time.monotonic())
        listener.flush(time.monotonic())
        for subject, data in listener.read(time.monotonic()):
            heard += ".beat." in subject
            body = data[2 + 3 + 9]  # its tag, behind version, a node of one byte, and run
            known += ".stream." in subject and body == 15 << 3 | 2
        time.sleep(0.01)
    check(heard > 20 and known <= 1, f"{known} times what is remembered was told, in {heard} beats")


tried = subprocess.run([sys.executable, PARTICIPANT, PROTO], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                       text=True)
if tried.stderr.endswith("is not here (scripts/setup test)\n"):
    print(tried.stderr)
    sys.exit(77)
tell(NODE, [(story, False) for story in [
    what_it_states_real_nodes_show,
    it_sees_what_real_nodes_state,
    lists_go_both_ways_as_states,
    activity_goes_both_ways,
    what_either_missed_is_made_up_for,
    killed_its_agents_are_missing_after_the_lease,
    what_a_killed_node_stated_is_missing_to_it,
    leaving_drains,
    the_larger_claim_wins_both_ways,
    the_memory_of_a_larger_claim_is_answered_by_a_larger_turn,
    two_of_one_name_are_one_too_many,
    garbage_and_lies_are_dropped,
    the_smallest_states_a_server,
    the_smallest_stops_where_another_states_its_server,
    the_smallest_takes_a_larger_turn_over_the_dead,
    the_smallest_leaves_the_memories_of_others_in_peace,
]])

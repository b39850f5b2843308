# SPDX-License-Identifier: Apache-2.0
"""Nodes of two releases are one cluster: real ones, and one that knows fewer or more forms of messages than they.

    test_versions.py CLUSTER_NODE PARTICIPANT CLUSTER_PROTO OLDER_PROTO

The other node is participant.py with another schema: the one of an older release, which is kept for this (older/), or one
that this test makes of today's: with unknown fields in every message, and bodies, questions and versions that are of
tomorrow. It lives a whole life among the real ones: states and is seen, sees, misses changes and makes up for them, gives
and takes whole states, is overtaken, dies and is missing, comes back, and leaves."""

import os
import re
import subprocess
import sys
import tempfile

from rig import TIMES, Node, Process, check, equal, eventually, tell

NODE, PARTICIPANT, PROTO, OLDER = sys.argv[1:5]
EPOCH = 1767225600000
LIST = 3000


def of_tomorrow(folder):
    """Today's schema, and what a later release may have added to it."""
    with open(PROTO, encoding="utf-8") as file:
        text = file.read()
    more = "\\1\n  uint64 tomorrow = 1000; bytes tomorrows_text = 1001; repeated Claim tomorrows_claims = 1002;"
    text = re.sub(r"(?m)^(message \w+ \{)$", more, text)
    text = text.replace("ASK_AGENT = 5;", "ASK_AGENT = 5; ASK_TOMORROW = 6;")
    text = text.replace("Chunk difference = 18;", "Chunk difference = 18; Claim tomorrows_body = 19;")
    equal((text.count("tomorrows_text"), "ASK_TOMORROW" in text, "tomorrows_body" in text),
          (len(re.findall(r"(?m)^message ", text)), True, True), "what tomorrow has")
    path = os.path.join(folder, "cluster.proto")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


class Foreign(Process):
    def __init__(self, proto):  # pylint: disable=super-init-not-called
        self.process = subprocess.Popen([sys.executable, PARTICIPANT, proto], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)


def participant(world, nats, proto, name="p"):
    process = Foreign(proto)
    world.processes.append(process)
    equal(process.ask(f"join {name} port={nats.port} {TIMES}"), {"code": "OK"})
    node = Node(process, name)
    eventually(lambda: node.ask("ready"), lambda got: got["ready"], f"{name} is ready")
    return node


def agree(node, servers, nodes):
    def good(answer):
        rows = answer["rows"]
        return answer["answered"] == answer["asked"] == nodes and all(row["agreement"] == "agrees" for row in rows) \
            and len(rows) == servers * nodes
    eventually(lambda: node.ask("verify", 5000), good, "all agree")


def hold(nodes, server, count):
    for node in nodes:
        eventually(lambda n=node: n.alive(server), lambda alive: alive == count, f"{node.name} holds {server}")


def lives_a_whole_life(world, proto):
    nats = world.nats()
    a, b = real = [world.join(name, nats) for name in "ab"]
    for node in real:
        node.ready()
    p = participant(world, nats, proto)

    # It states and is seen; it sees.
    p.fine("claim", "s1", EPOCH)
    p.fine("connect", "s1", "m", "x", 1, "zone=1")
    a.fine("connect", "s2", "m", "y", 1)
    for node in real:
        node.sees("x", "alive")
    p.sees("y", "alive")
    agree(a, 2, 3)

    # What either misses it is told by the other.
    p.process.freeze()
    for at in range(200):
        a.fine("connect", "s2", "m", f"unheard-{at}", 100 + at)
    p.process.thaw()
    nats.kill()
    for at in range(200):
        p.fine("connect", "s1", "m", f"untold-{at}", 100 + at)
        b.ask("connect", "s3", "m", f"also-{at}", 100 + at)
    nats.start()
    hold([p, b], "s2", 201)
    hold(real, "s1", 201)
    hold([a, p], "s3", 200)
    agree(b, 3, 3)

    # Whole states go both ways; a newcomer of either kind has them.
    p.fine("update", "s4", LIST)
    a.fine("update", "s5", LIST)
    hold(real, "s4", LIST)
    hold([p, b], "s5", LIST)
    late, late_foreign = world.join("late", nats), participant(world, nats, proto, "q")
    late.ready()
    for node in (late, late_foreign):
        equal((node.alive("s4"), node.alive("s5"), node.alive("s1")), (LIST, LIST, 201), f"{node.name} when it is ready")
    agree(late, 5, 5)

    # Claims win and lose alike.
    a.fine("claim", "s1", EPOCH + 1)
    eventually(lambda: p.ask("stand", "s1"), lambda got: not got["ours"] and got["holder"] == "a", "it yields")
    a.fine("connect", "s1", "m", "new", 1)
    p.sees("new", "alive")
    p.fine("claim", "s2", EPOCH)
    p.fine("connect", "s2", "m", "newer", 9)
    for node in (a, b, late):
        node.sees("newer", "alive")
    agree(b, 5, 5)

    # It dies: missing everywhere, and remembered alike. It comes back, and leaves.
    p.process.kill()
    for node in (a, b, late, late_foreign):
        node.sees("newer", "missing")
    agree(a, 5, 4)
    p = participant(world, nats, proto)
    p.fine("claim", "s2", EPOCH + 1)
    p.fine("connect", "s2", "m", "again", 9)
    for node in (a, b, late, late_foreign):
        node.sees("again", "alive")
        node.sees("newer", "unknown")
    p.fine("leave")
    for node in (a, b, late, late_foreign):
        node.sees("again", "missing")
    equal(a.ask("status", "m", "again")["reason"], "drained")
    agree(b, 5, 4)

    for node in (a, b, late):
        stats = node.ask("stats")
        equal((stats["forged"], stats["differences"], stats["malformed"]), (0, 0, 0), f"what {node.name} complains of")
    return a.ask("stats")


def one_of_an_older_release_lives_among_us(world):
    equal(lives_a_whole_life(world, OLDER)["newer"], 0, "messages of a newer version")


def one_of_a_later_release_lives_among_us(world):
    with tempfile.TemporaryDirectory() as folder:
        check(lives_a_whole_life(world, of_tomorrow(folder))["newer"] > 10, "no message of a newer version came")


def fields_of(proto):
    """What each message and enum has: (its name, number): how the field is declared."""
    with open(proto, encoding="utf-8") as file:
        text = re.sub(r"//.*", "", file.read())
    return {(block, number): " ".join(declared.split())
            for block, body in re.findall(r"(?ms)^(?:message|enum) (\w+) \{$(.*?)^\}", text)
            for declared, number in re.findall(r"([\w ]+)= (\d+);", body)}


def no_field_of_an_older_release_is_gone_or_has_changed(_):
    older, today = fields_of(OLDER), fields_of(PROTO)
    check(len(older) > 100, f"only {len(older)} fields were found")
    equal({key: (today.get(key), was) for key, was in older.items() if today.get(key) != was}, {}, "what has changed")


tried = subprocess.run([sys.executable, PARTICIPANT, PROTO], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
if tried.stderr.endswith("is not here (scripts/setup test)\n"):
    print(tried.stderr)
    sys.exit(77)
tell(NODE, [(one_of_an_older_release_lives_among_us, False), (one_of_a_later_release_lives_among_us, False),
            (no_field_of_an_older_release_is_gone_or_has_changed, False)])

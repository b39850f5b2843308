# SPDX-License-Identifier: Apache-2.0
"""A node written from docs/cluster-protocol.md alone, and presenced: each knows the other's agents.

    test_participant_presenced.py PRESENCED PARTICIPANT CLUSTER_PROTO"""

import http.client
import json
import os
import re
import subprocess
import sys
import tempfile

import rig

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))
import presenced  # noqa: E402
from presenced import equal  # noqa: E402

PROGRAM, PARTICIPANT, PROTO = sys.argv[1:4]
MODEL, EPOCH = "2e15302a-bbdf-4077-8e65-116a5a0e0348", 1767225600000
BEAT_MS, LEASE_MS = 100, 600


class Daemon(presenced.Daemon):
    def __init__(self, nats):
        super().__init__(PROGRAM, "--http", "127.0.0.1:0", "--nats", nats.url(), "--node", "a",
                         "--beat", f"{BEAT_MS}ms", "--lease", f"{LEASE_MS}ms", "--settle-time", "1500ms")
        self.http_port = int(re.search(r"protocol=http address=127\.0\.0\.1:(\d+)", self.logged()).group(1))
        self.wait_until(lambda: self.get("/readyz")[0] == 200)

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=presenced.WAIT_S)
        connection.request("GET", path)
        reply = connection.getresponse()
        text = reply.read().decode()
        connection.close()
        return reply.status, json.loads(text) if "json" in reply.getheader("Content-Type", "") else text

    def sees(self, agent, status, *reasons):
        path = f"/v1/models/{MODEL}/agents/{agent}"
        self.wait_until(lambda: self.get(path)[1].get("status") == status)
        reason = self.get(path)[1]["reason"]
        rig.check(reason in reasons, f"{agent} is {status} for the reason {reason}, not {' or '.join(reasons)}")


class Participant(rig.Process):
    def __init__(self):  # pylint: disable=super-init-not-called
        self.process = subprocess.Popen([sys.executable, PARTICIPANT, PROTO], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)


def participant(nats):
    node = rig.Node(Participant(), "p")
    times = f"interval={BEAT_MS} lease={LEASE_MS} settle=1500"
    equal(node.process.ask(f"join p port={nats.port} {times}"), {"code": "OK"})
    rig.eventually(lambda: node.ask("ready"), lambda got: got["ready"], "p is ready")
    return node


def both_say_the_same(p, *servers):
    """What presenced answers where these servers stand is what the participant holds; who states each."""
    facts, holders = ("claim", "number", "all", "alive"), {}

    def said():
        p.fine("ask")
        answers = rig.eventually(lambda: p.ask("answers"), lambda got: got, "presenced answers")
        holders.update((one["server"], one["holder"]) for one in answers)
        return {one["server"]: [one[fact] for fact in facts] for one in answers if one["server"] in servers}

    def held():
        return {server: [p.ask("stand", server)[fact] for fact in facts] for server in servers}

    rig.eventually(lambda: (said(), held()), lambda both: both[0] == both[1], "both say the same")
    return [holders[server] for server in servers]


def each_knows_the_others_agents():
    with tempfile.TemporaryDirectory() as scratch:
        nats = rig.Nats(scratch)
        p = None
        try:
            with Daemon(nats) as a:
                p = participant(nats)
                p.fine("claim", "machine-p", EPOCH)
                p.fine("connect", "machine-p", MODEL, "unit-p-0", 1, "zone=1")
                a.sees("unit-p-0", "alive", "connected")
                gateway = a.client()
                equal(gateway.ask("PRESENCE.SESSION", "machine-a"), "OK")
                equal(gateway.ask("PRESENCE.CONNECT", "machine-a", MODEL, "unit-a-0", 7, "DATA", "zone=2"), 1)
                p.sees("unit-a-0", "alive", MODEL)
                equal(both_say_the_same(p, "machine-a", "machine-p"), ["a", "p"])
                equal(gateway.ask("PRESENCE.SERVERDOWN", "machine-a"), 1)
                p.sees("unit-a-0", "missing", MODEL)
                both_say_the_same(p, "machine-a", "machine-p")
                p.process.kill()
                a.sees("unit-p-0", "missing", "lapsed")
                p = participant(nats)
                p.fine("claim", "machine-p", EPOCH + 1)
                p.fine("connect", "machine-p", MODEL, "unit-p-1", 2)
                a.sees("unit-p-1", "alive", "connected", "restored")  # its server may have read missing until then
                p.fine("leave")
                a.sees("unit-p-1", "missing", "drained")
        finally:
            if p:
                p.process.kill()
            nats.kill()


if "--nats" not in subprocess.run([PROGRAM, "--help"], stdout=subprocess.PIPE, text=True, check=False).stdout:
    print("this presenced was built without the cluster")
    sys.exit(77)
presenced.story(each_knows_the_others_agents.__name__.replace("_", " "), each_knows_the_others_agents)
presenced.end()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_nodes.py PRESENCED [PRESENCE] - several presenced that are one cluster, on a real nats-server: what is seen where, what
becomes of it when a node dies, a gateway moves or NATS is gone.

Leases are short here. That something has happened is waited for; that it has not is watched for meanwhile."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "cluster"))
import presenced  # noqa: E402
import rig  # noqa: E402
from presenced import Error, equal, holds  # noqa: E402

MODEL = "2e15302a-bbdf-4077-8e65-116a5a0e0348"
BEAT_MS, LEASE_MS, SETTLE_MS = 150, 1200, 2500  # a busy machine may stop a process for a while
TIMES = ["--beat", f"{BEAT_MS}ms", "--lease", f"{LEASE_MS}ms", "--settle-time", f"{SETTLE_MS}ms", "--hold", "5s",
         "--tell-activity", "200ms"]


class Node(presenced.Daemon):
    """A presenced of the cluster, ready."""

    def __init__(self, nats, name, *more, ready=True):
        super().__init__(program, "--http", "127.0.0.1:0", "--nats", nats.url(), "--node", name, *TIMES, *more)
        self.name = name
        self.killed = False
        self.http_port = int(re.search(r"protocol=http address=127\.0\.0\.1:(\d+)", self.logged()).group(1))
        if ready:
            self.wait_until(lambda: self.get("/readyz") == (200, "ready\n"))

    def get(self, path, method="GET"):
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=presenced.WAIT_S)
        connection.request(method, path)
        reply = connection.getresponse()
        text = reply.read().decode()
        connection.close()
        return reply.status, json.loads(text) if "json" in reply.getheader("Content-Type", "") else text

    def agent(self, name):
        return self.get(f"/v1/models/{MODEL}/agents/{name}")[1]

    def server(self, name):
        return self.get(f"/v1/servers/{name}")[1]

    def sees(self, agent, status, reason=None):
        """Waits until the agent is told so; the answer."""
        self.wait_until(lambda: self.agent(agent)["status"] == status)
        answer = self.agent(agent)
        if reason:
            equal(answer["reason"], reason)
        return answer

    def kill(self):
        self.killed = True
        super().kill()

    def stop(self):
        if not self.killed:
            super().stop()

    def kill_once_written(self, folder):
        """Kills it once a state has been written that began after now: the one that is under way may be older."""
        for _ in range(2):
            written = os.stat(os.path.join(folder, "state")).st_mtime_ns
            self.client().ask("PRESENCE.CONNECT", "machine-noise", MODEL, f"noise-{written}-{time.monotonic()}", 1)
            self.wait_until(lambda written=written: os.stat(os.path.join(folder, "state")).st_mtime_ns != written)
        self.kill()

    def gateway(self, server, *more):
        client = self.client()
        equal(client.ask("PRESENCE.SESSION", server, *more), "OK")
        return client


def connect(client, server, agent, number):
    return client.ask("PRESENCE.CONNECT", server, MODEL, agent, number)


def ask_command(node, *words):
    """The presence command, of that node; the answer must be yes."""
    environment = {**os.environ, "PRESENCE_URL": f"http://127.0.0.1:{node.http_port}"}
    done = subprocess.run([command, *words], capture_output=True, text=True, check=False, env=environment,
                          timeout=presenced.WAIT_S)
    equal(done.returncode, 0)
    return done


class Cluster:
    """Nodes of these names on one NATS server; what is left of them is ended, and must end well."""

    def __init__(self, *names, more=()):
        self.scratch = tempfile.TemporaryDirectory()
        self.nats = rig.Nats(self.scratch.name)
        self.nodes = [Node(self.nats, name, *more, ready=False) for name in names]

    def __enter__(self):
        for node in self.nodes:
            node.wait_until(lambda node=node: node.get("/readyz")[0] == 200)
        return self.nodes if len(self.nodes) > 1 else self.nodes[0]

    def __exit__(self, kind, value, trace):
        for node in self.nodes:
            node.__exit__(kind, value, trace)
        self.nats.kill()
        self.scratch.cleanup()


# ------------------------------------------------------------------------------------------------------- stories --

def what_one_node_is_told_all_know():
    """Given three nodes, when a gateway reports on one and an agent joins another, then every node tells both, who
    states them, and that it is fresh."""
    with Cluster("a", "b", "c") as (a, b, c):
        gateway = a.gateway("machine-0", "EPOCH", 1)
        equal(connect(gateway, "machine-0", "unit-0", 1), 1)
        joined = b.client()
        joined.ask("PRESENCE.JOIN", MODEL, "unit-joined")
        plain = c.client()
        equal(connect(plain, "machine-2", "unit-2", 1), 1)
        for node in (a, b, c):
            for agent in ("unit-0", "unit-joined", "unit-2"):
                answer = node.sees(agent, "alive")
                equal([answer[key] for key in ("freshness", "stale_since", "stale_because")], ["fresh", None, None])
            node.wait_until(lambda node=node: node.server("machine-0")["node"] == "a")
            equal(node.server("b")["node"], "b")
            equal({peer["node"] for peer in node.get("/v1/cluster")[1]["peers"]}, {"a", "b", "c"} - {node.name})
        connection = http.client.HTTPConnection("127.0.0.1", c.http_port, timeout=presenced.WAIT_S)
        for path, tagged in ((f"/v1/models/{MODEL}/agents/unit-0", False), ("/v1/servers", False), ("/v1/models", True)):
            connection.request("GET", path)
            reply = connection.getresponse()
            reply.read()
            equal(reply.getheader("ETag") is not None, tagged)
        connection.close()
        explained = c.get(f"/v1/models/{MODEL}/agents/unit-0/explanation")[1]
        equal(explained["freshness"], "fresh")
        equal(explained["connections"][0]["server_node"], "a")
        gateway.ask("PRESENCE.DISCONNECT", "machine-0", 1)
        for node in (a, b, c):
            node.sees("unit-0", "unknown", "left")
        told = dict(re.findall(r"^(presenced_cluster_\w+) (\S+)$", c.get("/metrics")[1], re.M))
        equal([told["presenced_cluster_" + key] for key in ("ready", "fresh", "connected", "peers", "silent_peers")],
              ["1", "1", "1", "2", "0"])
        assert float(told["presenced_cluster_changes_applied_total"]) > 0, told


def who_dies_is_missing_after_its_lease_and_not_before():
    """Given agents on a node, when it is killed, then on the others they read alive for a lease of silence, missing
    (lapsed) from then on, and stale; started again, with its gateway back, they are alive and fresh."""
    cluster = Cluster("a", "b", "c")
    with cluster as (a, b, c):
        joined = a.client()
        joined.ask("PRESENCE.JOIN", MODEL, "unit-joined")
        connect(a.gateway("machine-0", "EPOCH", 1), "machine-0", "unit-0", 1)
        for node in (b, c):
            node.sees("unit-0", "alive")
            node.sees("unit-joined", "alive")
        a.kill()
        killed = time.monotonic()
        b.sees("unit-0", "missing")
        silent_ms = (time.monotonic() - killed) * 1000
        # Its last beat may have been a while before, where the machine is busy: who is told at once is told too early.
        assert silent_ms > LEASE_MS / 2, f"missing after {silent_ms} ms"
        for node in (b, c):
            for agent in ("unit-0", "unit-joined"):
                answer = node.sees(agent, "missing", "lapsed")
                equal([answer["freshness"], answer["stale_because"]], ["stale", "silent"])
            equal(node.server("machine-0")["freshness"], "stale")
            equal([peer["silent"] for peer in node.get("/v1/cluster")[1]["peers"] if peer["node"] == "a"], [True])
        with Node(cluster.nats, "a") as again:
            connect(again.gateway("machine-0", "EPOCH", 1), "machine-0", "unit-0", 1)
            for node in (again, b, c):
                equal(node.sees("unit-0", "alive")["freshness"], "fresh")
                node.wait_until(lambda node=node: node.agent("unit-joined")["status"] == "unknown")


def a_gateway_moves_without_a_flap():
    """Given a gateway on one node, when it comes back on another in the same life, then its agents stay alive
    everywhere; the session that it left is stale; what it does not state again is dropped when it has settled."""
    with Cluster("a", "b", "c") as (a, b, c):
        before = a.gateway("machine-0", "EPOCH", 7, "GRACE", 60000)
        for number in (1, 2):
            connect(before, "machine-0", f"unit-{number}", number)
        watcher = c.client()
        c.sees("unit-1", "alive")
        c.sees("unit-2", "alive")
        watcher.ask("HELLO", 3)
        watcher.ask("PRESENCE.WATCH", "MODEL", MODEL, "AGENTS")
        after = b.gateway("machine-0", "EPOCH", 7, "GRACE", 60000)
        connect(after, "machine-0", "unit-1", 1)
        c.wait_until(lambda: c.server("machine-0")["node"] == "b")
        a.wait_until(lambda: a.server("machine-0")["node"] == "b")
        answer = connect(before, "machine-0", "unit-1", 1)
        assert isinstance(answer, Error), answer
        holds(answer, "STALE ")
        before.close()  # its grace is not waited for, since its server is another node's
        a.wait_until(lambda: "\npresenced_sessions 0\n" in a.get("/metrics")[1])
        for node in (a, b, c):
            node.sees("unit-2", "unknown")
            equal(node.agent("unit-1")["status"], "alive")
        kinds = []
        while not kinds or kinds[-1][1] != "unit-2":
            push = watcher.reply()
            if push[2].get("agent"):
                kinds.append((push[2].get("status"), push[2]["agent"]))
        assert all(agent == "unit-2" for _, agent in kinds), kinds
        assert all(status != "missing" for status, _ in kinds), kinds
        # An older life has lost, wherever it comes.
        late = c.client()
        holds(late.ask("PRESENCE.SESSION", "machine-0", "EPOCH", 6), "STALE ")
        holds(late.ask("PRESENCE.SESSION", "machine-0"), "STALE ")


def a_node_keeps_its_own_server():
    """Given an agent that has joined a node, when a gateway elsewhere claims that node's own server with a larger epoch,
    then the node claims it back, and the agent is alive again by its next word; the gateway is stale."""
    with Cluster("a", "b") as (a, b):
        joined = a.client()
        joined.ask("PRESENCE.JOIN", MODEL, "unit-joined")
        b.sees("unit-joined", "alive")
        thief = b.gateway("a", "EPOCH", 9999999999999)
        a.wait_until(lambda: "own server claimed by another" in a.logged())
        b.wait_until(lambda: b.server("a")["node"] == "a")
        b.wait_until(lambda: joined.ask("PING") == "PONG" and b.agent("unit-joined")["status"] == "alive")
        holds(connect(thief, "a", "unit-stolen", 99), "STALE ")
        time.sleep((SETTLE_MS + 500) / 1000)
        equal(b.agent("unit-joined")["status"], "alive")
        equal(b.agent("unit-stolen")["status"], "unknown")


def who_has_no_session_may_state_what_nobody_states():
    """Given a server that a node states, then a write elsewhere without a session is stale and names the node; once that
    node is gone, it is taken."""
    with Cluster("a", "b", "c") as (a, b, c):
        equal(connect(a.client(), "machine-0", "unit-0", 1), 1)
        b.sees("unit-0", "alive")
        writer = b.client()
        b.wait_until(lambda: b.server("machine-0")["node"] == "a")
        for words in (["PRESENCE.CONNECT", "machine-0", MODEL, "unit-1", 2], ["PRESENCE.DISCONNECT", "machine-0", 1],
                      ["PRESENCE.UPDATESERVER", "machine-0", 0], ["PRESENCE.SERVERDOWN", "machine-0"],
                      ["PRESENCE.ACTIVITY", "machine-0", 1]):
            holds(writer.ask(*words), "STALE node a states the server")
        a.kill()
        b.sees("unit-0", "missing")
        equal(connect(writer, "machine-0", "unit-1", 2), 1)
        equal(writer.ask("PRESENCE.DISCONNECT", "machine-0", 1), 1)
        for node in (b, c):
            node.sees("unit-1", "alive")
            node.sees("unit-0", "unknown")
            equal(node.server("machine-0")["node"], "b")


def a_node_that_stops_drains():
    """Given agents on a node, when it is asked to stop, then they are missing, drained, everywhere, sooner than a lease
    could have told."""
    with Cluster("a", "b", more=["--lease", "8s", "--beat", "100ms"]) as (a, b):
        connect(a.gateway("machine-0", "EPOCH", 1), "machine-0", "unit-0", 1)
        a.client().ask("PRESENCE.JOIN", MODEL, "unit-joined")
        b.sees("unit-0", "alive")
        b.sees("unit-joined", "alive")
        a.stop()
        for agent in ("unit-0", "unit-joined"):
            b.sees(agent, "missing", "drained")
            equal(b.agent(agent)["freshness"], "fresh")  # it was its last word
        for server in ("machine-0", "a"):
            equal(b.server(server)["freshness"], "fresh")


def a_node_that_is_told_to_stop_again_and_again_ends_well():
    """Given a node with agents, whose threads are not all its own, when it is asked to stop again until the end, then its
    status is 0, and its agents are drained."""
    cluster = Cluster("b")
    with cluster as b:
        for life in range(1, 9):
            agent = f"unit-{life}"
            with Node(cluster.nats, "a") as a:
                equal(connect(a.gateway("machine-0", "EPOCH", life), "machine-0", agent, life), 1)
                b.sees(agent, "alive")
                while a.process.poll() is None:
                    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                        a.process.send_signal(number)
                equal(a.process.returncode, 0)
                b.sees(agent, "missing", "drained")


def a_node_that_stops_takes_no_more_writes():
    """Given a gateway that writes to a node all the while, on another loop than the first, when the node is stopped, then
    every write that it took is known to the others, and those after that are refused."""
    for _ in range(5):
        with Cluster("a", "b", more=["--threads", "3"]) as (a, b):
            writers = [a.gateway(f"machine-{i}", "EPOCH", 1) if i % 2 else a.client() for i in range(6)]
            taken = [0] * len(writers)
            for i, writer in enumerate(writers):
                equal(connect(writer, f"machine-{i}", "first", 0), 1)
            b.wait_until(lambda: all(b.server(f"machine-{i}")["alive"] == 1 for i in range(len(writers))))

            def write(i):
                try:
                    for number in range(1, 1000000):
                        reply = connect(writers[i], f"machine-{i}", "unit", number)
                        if reply != 1:
                            holds(reply, "BUSY this node is stopping")
                            break
                        taken[i] = number
                except (presenced.Closed, ConnectionError):
                    pass
            threads = [threading.Thread(target=write, args=(i,)) for i in range(len(writers))]
            for thread in threads:
                thread.start()
            time.sleep(0.1)
            a.stop()
            for thread in threads:
                thread.join()
            b.wait_until(lambda: b.server("machine-0")["status"] == "missing")
            b.wait_until(lambda: b.get("/v1/cluster/verification")[1]["agreed"])
            equal([b.server(f"machine-{i}")["connections"] for i in range(len(writers))], [1 + each for each in taken])


def freshness_of(watcher):
    """The next event of that kind."""
    while True:
        reply = watcher.reply()
        if isinstance(reply, presenced.Push) and reply[2]["kind"] == "freshness":
            return reply[2]


def without_nats_all_is_stale_and_nobody_missing():
    """Given two nodes, when nats-server dies, then each says that it is stale, deaf, since when, and marks nobody
    missing; what it states itself is fresh; when NATS is back, all is fresh."""
    cluster = Cluster("a", "b")
    with cluster as (a, b):
        own = a.client()
        connect(own, "machine-0", "unit-0", 1)
        connect(b.client(), "machine-1", "unit-1", 1)
        a.sees("unit-1", "alive")
        watcher, streamed = a.client(), presenced.Client(("127.0.0.1", a.http_port))
        watcher.ask("HELLO", 3)
        watcher.ask("PRESENCE.WATCH", "MODEL", MODEL)
        streamed.send(b"GET /v1/events?agents=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        cluster.nats.kill()
        event = freshness_of(watcher)
        equal([event[key] for key in ("freshness", "stale_because")], ["stale", "deaf"])
        late = a.client()
        late.ask("HELLO", 3)
        late.ask("PRESENCE.WATCH", "MODEL", MODEL)
        assert freshness_of(late)["stale_since"] > 0
        a.wait_until(lambda: a.agent("unit-1")["freshness"] == "stale")
        answer = a.agent("unit-1")
        equal([answer["status"], answer["stale_because"]], ["alive", "deaf"])
        assert answer["stale_since"], answer
        time.sleep(3 * LEASE_MS / 1000)
        equal(a.agent("unit-1")["status"], "alive")
        equal([a.agent("unit-0")[key] for key in ("status", "freshness")], ["alive", "fresh"])
        equal([a.agent("nobody")[key] for key in ("status", "freshness")], ["unknown", "stale"])
        equal(a.get("/v1/cluster")[1]["stale_because"], "deaf")
        holds(a.get("/metrics")[1], "\npresenced_cluster_fresh 0\n")
        equal(connect(own, "machine-0", "unit-late", 2), 1)
        cluster.nats.start()
        for node in (a, b):
            node.wait_until(lambda node=node: node.agent("unit-1")["freshness"] == "fresh")
            node.wait_until(lambda node=node: node.get("/v1/cluster")[1]["freshness"] == "fresh")
            node.sees("unit-late", "alive")
        for each in (watcher, late):
            event = freshness_of(each)
            equal([event[key] for key in ("freshness", "stale_since", "stale_because")], ["fresh", None, None])
        text = b""
        while text.count(b"event: freshness\n") < 2:
            streamed.fill()
            text = streamed.buffer
        events = re.findall(r"(id: .*\n)?event: freshness\ndata: (.*)\n", text.decode())
        equal([(number, json.loads(event)["freshness"]) for number, event in events], [("", "stale"), ("", "fresh")])
        streamed.close()


def two_of_one_name_are_refused():
    """Given a node, when another process takes its name, then that one ends and says why, and the first goes on."""
    cluster = Cluster("a", "b")
    with cluster as (a, b):
        connect(a.client(), "machine-0", "unit-0", 1)
        b.sees("unit-0", "alive")
        second = Node(cluster.nats, "a", ready=False)
        equal(second.process.wait(presenced.WAIT_S), 1)
        holds(second.logged(), "has the name of this node")
        second.log.close()
        equal(b.agent("unit-0")["status"], "alive")
        equal(connect(a.client(), "machine-0", "unit-1", 2), 1)
        b.sees("unit-1", "alive")


def it_is_ready_once_it_has_heard():
    """Given NATS that is not there, then a node starts, takes clients, says joining, and is ready once it is."""
    with tempfile.TemporaryDirectory() as scratch:
        nats = rig.Nats(scratch)
        nats.kill()
        try:
            with Node(nats, "a", ready=False) as node:
                equal(node.get("/readyz"), (503, "joining\n"))
                equal(node.get("/healthz")[0], 200)
                equal(node.agent("unit-0")["stale_because"], "joining")
                equal(connect(node.client(), "machine-0", "unit-0", 1), 1)
                equal(node.agent("unit-0")["status"], "alive")
                nats.start()
                node.wait_until(lambda: node.get("/readyz") == (200, "ready\n"))
                node.wait_until(lambda: node.agent("unit-0")["freshness"] == "fresh")
        finally:
            nats.kill()


def a_state_file_gives_way_to_the_living():
    """Given a node that keeps its state, when it was killed, its gateway moved, and it is back, then what it kept does not
    show over what the other node states; a server that nobody else knows of comes back missing."""
    with tempfile.TemporaryDirectory() as folder:
        keep = ["--state", folder, "--state-interval", "10ms"]
        cluster = Cluster("b")
        with cluster as b:
            with Node(cluster.nats, "a", *keep) as a:
                gateway = a.gateway("machine-0", "EPOCH", 1)
                connect(gateway, "machine-0", "unit-0", 1)
                connect(gateway, "machine-0", "unit-1", 2)
                connect(a.client(), "machine-9", "unit-9", 1)
                b.sees("unit-1", "alive")
                b.sees("unit-9", "alive")
                a.kill_once_written(folder)
            b.sees("unit-0", "missing")
            moved = b.gateway("machine-0", "EPOCH", 1)
            connect(moved, "machine-0", "unit-0", 1)
            b.sees("unit-1", "unknown")
            equal(b.get("/v1/servers/machine-9", "DELETE"), (200, 1))
            b.sees("unit-9", "unknown")
            with Node(cluster.nats, "a", *keep) as a:
                equal(a.sees("unit-0", "alive")["freshness"], "fresh")
                a.sees("unit-1", "unknown")
                a.sees("unit-9", "unknown")
                equal(a.server("machine-0")["node"], "b")
                equal(connect(moved, "machine-0", "unit-2", 3), 1)
                a.sees("unit-2", "alive")
                connect(a.gateway("machine-5", "EPOCH", 1), "machine-5", "unit-5", 1)
                a.kill_once_written(folder)
        # The whole cluster was away: what the file has is what there is.
        with tempfile.TemporaryDirectory() as scratch:
            nats = rig.Nats(scratch)
            try:
                with Node(nats, "a", *keep) as a, Node(nats, "b") as b:
                    for node in (a, b):
                        equal(node.sees("unit-5", "missing")["freshness"], "stale")
                    equal(a.agent("unit-5")["reason"], "lapsed")
                    connect(b.gateway("machine-5", "EPOCH", 1), "machine-5", "unit-5", 1)
                    for node in (a, b):
                        equal(node.sees("unit-5", "alive")["freshness"], "fresh")
            finally:
                nats.kill()


def forgetting_drops_a_dead_server_everywhere():
    """Given a server whose node is gone, when an operator forgets it, then it is gone on every node; one whose node lives
    is kept, and one that this node states and no session holds is dropped everywhere."""
    with Cluster("a", "b", "c") as (a, b, c):
        connect(a.client(), "machine-0", "unit-0", 1)
        connect(b.client(), "machine-1", "unit-1", 1)
        for node in (b, c):
            node.sees("unit-0", "alive")
            node.sees("unit-1", "alive")
        status, problem = c.get("/v1/servers/machine-0", "DELETE")
        equal(status, 409)
        holds(problem["detail"], "node a states the server")
        a.kill()
        c.sees("unit-0", "missing")
        equal(c.get("/v1/servers/machine-0", "DELETE"), (200, 1))
        for node in (b, c):
            node.sees("unit-0", "unknown")
        equal(b.get("/v1/servers/machine-1", "DELETE"), (200, 1))
        for node in (b, c):
            node.sees("unit-1", "unknown")


def what_is_dead_for_long_is_forgotten():
    """Given nodes that forget the dead after a while, when one is killed, then its agents are missing first, and unknown
    once it was silent for so long; agents of those that live stay."""
    with Cluster("a", "b", more=["--forget-after", "5s"]) as (a, b):
        connect(a.gateway("machine-0", "EPOCH", 1), "machine-0", "unit-0", 1)
        connect(b.client(), "machine-1", "unit-1", 1)
        b.sees("unit-0", "alive")
        a.kill()
        b.sees("unit-0", "missing", "lapsed")
        b.sees("unit-0", "unknown")
        equal(b.agent("unit-1")["status"], "alive")


def all_nodes_are_asked():
    """Given three nodes in use, then verify finds that they agree, beside a writer too, and explain tells what each knows;
    one that does not answer is waited for, and then left out; what a dead node left is told alike by those that are left."""
    cluster = Cluster("a", "b", "c")
    with cluster as (a, b, c):
        writer = a.gateway("machine-0", "EPOCH", 1)
        connect(writer, "machine-0", "unit-0", 1)
        connect(b.client(), "machine-1", "unit-0", 1)
        for node in (a, b, c):
            node.sees("unit-0", "alive")
            node.wait_until(lambda node=node: node.server("machine-1")["alive"] == 1)

        def agreed(node):
            found = node.get("/v1/cluster/verification")[1]
            equal([found["agreed"], found["stands"]], [True, []])
            return found
        equal([agreed(c)[key] for key in ("asked", "answered", "servers", "unequal")], [3, 3, 5, 0])
        for number in range(2, 3000):
            writer.send(presenced.encode("PRESENCE.CONNECT", "machine-0", MODEL, f"unit-{number}", number))
        agreed(b)
        for number in range(2, 3000):
            equal(writer.reply(), 1)
        status, told = c.get(f"/v1/models/{MODEL}/agents/unit-0/testimony")
        equal(status, 200)
        equal([told["asked"], told["answered"]], [3, 3])
        equal([(node["node"], node["status"], node["freshness"], node["connections_in_all"]) for node in told["nodes"]],
              [(name, "alive", "fresh", 2) for name in "abc"])
        equal([(one["server"], one["stated_by"]) for one in told["nodes"][0]["connections"]],
              [("machine-0", "a"), ("machine-1", "b")])
        equal(c.get("/v1/models/m%0A/agents/x/testimony")[0], 400)
        # In RESP too; what the client asks behind it waits.
        asker = b.client()
        asker.ask("HELLO", 3)
        asker.send(presenced.encode("PRESENCE.VERIFY") + presenced.encode("PRESENCE.TESTIMONY", MODEL, "unit-0") +
                   presenced.encode("PRESENCE.TESTIMONY", "m\n", "x") + presenced.encode("PING"))
        found, testimony = asker.reply(), asker.reply()
        equal([found["agreed"], found["answered"], found["stands"]], [True, 3, []])
        equal([(node["node"], node["status"], node["connections_in_all"]) for node in testimony["nodes"]],
              [(name, "alive", 2) for name in "abc"])
        equal(testimony["nodes"][0]["connections"][1]["connection_id"], "1")
        holds(asker.reply(), "INVALID model holds a control character")
        equal(asker.reply(), "PONG")
        if command:
            equal(ask_command(c, "verify").stdout.splitlines()[1], "agreed: 3 nodes, 5 servers")
            out = ask_command(b, "explain", MODEL, "unit-0").stdout
            for name in "abc":
                assert re.search(rf"^{name} +alive +connected ", out, re.M), out
        # One that stops running is waited for, and is silent by the time the others are asked again.
        b.process.send_signal(signal.SIGSTOP)
        found = c.get("/v1/cluster/verification")[1]
        b.process.send_signal(signal.SIGCONT)
        equal([found["agreed"], found["asked"], found["answered"]], [True, 2, 2])
        c.wait_until(lambda: c.agent("unit-0")["freshness"] == "fresh")
        a.kill()
        c.wait_until(lambda: c.server("machine-0")["freshness"] == "stale")
        b.wait_until(lambda: b.server("machine-0")["freshness"] == "stale")
        equal([agreed(b)[key] for key in ("asked", "answered")], [2, 2])
        if command:
            equal(ask_command(b, "forget", "--yes", "machine-0").stdout, "2999 connections forgotten\n")
            c.wait_until(lambda: c.server("machine-0")["connections"] == 0)
            agreed(c)


def one_that_is_alone_has_nobody_to_ask():
    """A node without --nats says so, and its command asks nobody else."""
    with presenced.Daemon(program, "--http", "127.0.0.1:0") as daemon:
        daemon.http_port = int(re.search(r"protocol=http address=127\.0\.0\.1:(\d+)", daemon.logged()).group(1))
        equal(Node.get(daemon, "/v1/cluster/verification")[0], 404)
        alone = Node.get(daemon, "/v1/cluster")[1]
        equal([alone["cluster"], alone["ready"], alone["freshness"], alone["peers"]], [None, True, "fresh", []])
        if command:
            out = ask_command(daemon, "verify").stdout
            equal(out, "good: 0 connections at revision 1\n")


class AtLocalhost:
    """A NATS server by the name that its certificate has."""

    def __init__(self, nats):
        self.nats = nats

    def url(self):
        return f"tls://localhost:{self.nats.port}"


def who_may_speak_joins():
    """Given a NATS that wants TLS, a name and a password, when a node has them by its options, then it joins; one with
    another password does not, and says why."""
    with tempfile.TemporaryDirectory() as folder:
        for name, word in (("right", "hush"), ("wrong", "loud")):
            with open(os.path.join(folder, name), "w", encoding="ascii") as file:
                file.write(word + "\n")
        rig.make_certificates(folder)
        at = folder + "/"
        nats = rig.Nats(folder, "authorization { user: presence, password: hush }\n"
                        f"tls {{ cert_file: {at}localhost.pem, key_file: {at}localhost.key, ca_file: {at}ca.pem, "
                        "verify: true, timeout: 5 }")
        options = ["--nats-user", "presence", "--nats-tls-ca", at + "ca.pem", "--nats-tls-certificate", at + "client.pem",
                   "--nats-tls-key", at + "client.key", "--nats-password-file"]
        with Node(AtLocalhost(nats), "a", *options, at + "right") as a:
            equal(a.get("/v1/cluster")[1]["ready"], True)
            with Node(AtLocalhost(nats), "b", *options, at + "wrong", ready=False) as b:
                b.wait_until(lambda: "uthorization" in b.logged())
                equal(b.get("/readyz")[0], 503)
                equal(a.get("/v1/cluster")[1]["peers"], [])
        nats.kill()


def wrong_options_are_named():
    """--check-config tells what of the cluster's options does not go together, and takes what does."""
    with tempfile.TemporaryDirectory() as folder:
        secret, empty = os.path.join(folder, "secret"), os.path.join(folder, "empty")
        with open(secret, "w", encoding="ascii") as file:
            file.write("hush\n")
        with open(empty, "w", encoding="ascii"):
            pass
        url = ["--nats", "nats://127.0.0.1:1", "--node", "a"]

        def checked(*options):
            done = subprocess.run([program, "--check-config", *options], capture_output=True, text=True, check=False,
                                  timeout=presenced.WAIT_S)
            return done.returncode, done.stderr or done.stdout
        equal(checked(*url)[0], 0)
        equal(checked(*url, "--nats-user", "a", "--nats-password-file", secret)[0], 0)
        equal(checked(*url, "--nats-token-file", secret)[0], 0)
        for options, part in ((["--nats", "nats://a:b@127.0.0.1:1", "--node", "a"], "--nats: wants no name or password"),
                              (["--nats", "nats://127.0.0.1:1", "--node", "a.b"], "--node: wants 1 to 127"),
                              ([*url, "--cluster", "x y"], "--cluster: wants"),
                              ([*url, "--lease", "1s", "--beat", "400ms"], "--lease: wants three beats"),
                              ([*url, "--history-bytes", "0"], "--history-bytes: wants 1m"),
                              ([*url, "--nats-user", "a"], "one wants the other"),
                              ([*url, "--nats-token-file", empty], "--nats-token-file: wants a first line"),
                              ([*url, "--nats-token-file", secret, "--nats-credentials", secret], "one of them"),
                              ([*url, "--nats-tls-ca", os.path.join(folder, "none")], "--nats-tls-ca: cannot read"),
                              ([*url, "--nats-tls-key", secret], "one wants the other")):
            status, text = checked(*options)
            equal(status, 2)
            holds(text, part)


program = sys.argv[1]
command = sys.argv[2] if len(sys.argv) > 2 else None
for function in (what_one_node_is_told_all_know, who_dies_is_missing_after_its_lease_and_not_before,
                 a_gateway_moves_without_a_flap, a_node_keeps_its_own_server, who_has_no_session_may_state_what_nobody_states,
                 a_node_that_stops_drains, a_node_that_is_told_to_stop_again_and_again_ends_well,
                 a_node_that_stops_takes_no_more_writes,
                 without_nats_all_is_stale_and_nobody_missing, two_of_one_name_are_refused,
                 it_is_ready_once_it_has_heard, a_state_file_gives_way_to_the_living,
                 forgetting_drops_a_dead_server_everywhere, what_is_dead_for_long_is_forgotten, all_nodes_are_asked,
                 one_that_is_alone_has_nobody_to_ask, who_may_speak_joins, wrong_options_are_named):
    presenced.story(function.__name__.replace("_", " "), function)
presenced.end()

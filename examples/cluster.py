#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""cluster.py - three presenced that keep one record, and what each tells while one of them dies and one is cut off.

    cluster.py BUILD [--quick]        finds presenced and presence in the folder BUILD; wants nats-server in the path

Starts a nats-server and three nodes on free ports of this machine, two gateways that report agents, and an agent that
joins a node itself. Then it kills a node (kill -9), lets its gateway move, starts the node again, cuts one off for a while
(SIGSTOP), and stops one as one should. What the nodes tell is printed as it changes, with the seconds since the beginning;
at the end `presence verify` asks all whether they agree. Exit status 0 if each step ended as it should. Ends what it
started by process id. --quick: leases of 0.6 s in place of 3 s."""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from feed import Connection, end, heed_every_end, program

MODEL = "7b0d1f6c-93ab-4c55-8d1e-5f2a90c4e7d3"
AGENTS = ["unit-web-0", "unit-web-1", "unit-mysql-0", "unit-mysql-1", "unit-joined"]
PATIENCE_SECONDS = 30.0
GRACE_MS = 10000

began = time.monotonic()


def say(text):
    print(f"{time.monotonic() - began:7.2f} s  {text}", flush=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Node:
    """One presenced, which keeps its ports when it is started again."""

    def __init__(self, name, build, nats, times, folder):
        self.name, self.build, self.times = name, build, times
        self.nats, self.log = nats, os.path.join(folder, name + ".log")
        self.resp, self.http = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.process, self.running = None, False

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [program(self.build, "daemon/presenced"), "--node", self.name, "--nats", self.nats, "--resp", self.resp,
                 "--http", self.http, *self.times], stderr=log, start_new_session=True)
        self.running = True
        return self.process

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://{self.http}{path}", timeout=PATIENCE_SECONDS) as reply:
                text = reply.read().decode()
                return json.loads(text) if reply.headers.get_content_type() == "application/json" else text
        except (urllib.error.HTTPError, ConnectionError, urllib.error.URLError):
            return None

    def is_ready(self):
        return self.get("/readyz") == "ready\n"

    def tells(self, agent):
        """What it tells of an agent, in a few words."""
        told = self.get(f"/v1/models/{MODEL}/agents/{agent}")
        if told is None:
            return ""  # it does not answer yet
        doubt = f", stale: {told['stale_because']}" if told["freshness"] == "stale" else ""
        return f"{told['status']} ({told['reason']}{doubt})"

    def gateway(self, server, epoch, agents):
        """A gateway's connection here, which states these agents: (id, name)."""
        connection = Connection(self.resp)
        connection.call("PRESENCE.SESSION", server, "EPOCH", epoch, "GRACE", GRACE_MS)
        for number, agent in agents:
            connection.call("PRESENCE.CONNECT", server, MODEL, agent, number)
        return connection


class Reporter:
    """Prints what nodes tell, whenever that has changed."""

    def __init__(self, nodes):
        self.nodes, self.told = nodes, {}
        self.ever = set()  # (agent, text) since somebody cleared it

    def look(self):
        changed = {}  # what is told: of which agents, on which nodes
        for agent in AGENTS:
            for node in self.nodes:
                text = node.tells(agent) if node.running else ""
                self.ever.add((agent, text))
                if text and self.told.get((node.name, agent)) != text:
                    changed.setdefault((text, node.name), []).append(agent)
                self.told[node.name, agent] = text
        lines = {}
        for (text, name), agents in changed.items():
            lines.setdefault((text, " ".join(agents)), []).append(name)
        for (text, agents), names in lines.items():
            say(f"    {', '.join(names)}: {agents}: {text}")

    def until(self, wanted, what):
        """Looks until `wanted` holds of each node that runs: a function of the node."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            self.look()
            if all(wanted(node) for node in self.nodes if node.running):
                return
            if time.monotonic() > deadline:
                sys.exit(f"cluster: it never came to be that {what}")
            time.sleep(0.05)

    def for_seconds(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.look()
            time.sleep(0.05)


def all_are(status, *agents):
    return lambda node: all(node.tells(agent).startswith(status) for agent in agents)


def everything_is_fresh(node):
    return node.is_ready() and all(node.tells(agent).startswith("alive") and "stale" not in node.tells(agent)
                                   for agent in AGENTS)


def the_day(nodes, reporter, lease):
    one, two, three = nodes
    web, mysql = [(1, "unit-web-0"), (2, "unit-web-1")], [(1, "unit-mysql-0"), (2, "unit-mysql-1")]
    say("three nodes are ready; gateway-web connects to node-1, gateway-mysql to node-2, an agent to node-3")
    held = [one.gateway("gateway-web", 1, web), two.gateway("gateway-mysql", 1, mysql), Connection(three.resp)]
    held[2].call("PRESENCE.JOIN", MODEL, "unit-joined")
    reporter.until(everything_is_fresh, "all are alive on all nodes")

    say("kill -9 of node-1: nothing changes for a lease, then its agents are missing")
    one.running = False
    one.process.kill()
    one.process.wait()
    reporter.until(all_are("missing", "unit-web-0", "unit-web-1"), "agents of a dead node are missing")
    say("gateway-web comes back on node-2, in the same life")
    held.append(two.gateway("gateway-web", 1, web))
    reporter.until(everything_is_fresh, "all are alive again")
    say("node-1 is started again")
    one.start()
    reporter.until(everything_is_fresh, "node-1 knows all again")

    say("gateway-web moves to node-1 while node-2 lives: nobody is missing for a moment")
    reporter.ever.clear()
    held.append(one.gateway("gateway-web", 1, web))
    reporter.until(lambda node: (node.get("/v1/servers/gateway-web") or {}).get("node") == "node-1",
                   "node-1 states gateway-web")
    reporter.for_seconds(lease)
    if any(text.startswith("missing") for _, text in reporter.ever):
        sys.exit("cluster: somebody was missing while a gateway moved")

    say("node-3 is cut off (SIGSTOP)")
    three.running = False
    three.process.send_signal(signal.SIGSTOP)
    reporter.until(all_are("missing", "unit-joined"), "agents of a node that is cut off are missing")
    say("and is back (SIGCONT): nobody is missing on it, and its agents are alive again everywhere")
    three.process.send_signal(signal.SIGCONT)
    three.running = True
    reporter.until(everything_is_fresh, "all are alive after the cut")
    reporter.for_seconds(lease)

    say("node-2 is stopped, as one should: what it states is missing at once, drained")
    two.running = False
    two.process.send_signal(signal.SIGTERM)
    reporter.until(lambda node: "drained" in node.tells("unit-mysql-0") and "drained" in node.tells("unit-mysql-1"),
                   "agents of a node that was stopped are drained")
    two.process.wait(PATIENCE_SECONDS)
    say("gateway-mysql goes to node-3")
    held.append(three.gateway("gateway-mysql", 2, mysql))
    two.start()
    reporter.until(everything_is_fresh, "all are alive at the end")
    return held


def verify(build, nodes):
    good = True
    for node in nodes:
        asked = subprocess.run([program(build, "cli/presence"), "--url", f"http://{node.http}", "verify"],
                               capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
        say(f"presence verify, asked of {node.name}: {(asked.stdout + asked.stderr).strip().splitlines()[-1]}")
        good = good and asked.returncode == 0
    return good


def run(build, quick):
    if not shutil.which("nats-server"):
        sys.exit("cluster: no nats-server in the path: apt install nats-server")
    lease, beat = (0.6, "100ms") if quick else (3.0, "500ms")
    times = ["--lease", f"{int(lease * 1000)}ms", "--beat", beat, "--settle-time", "5s", "--tell-activity", "1s"]
    processes, nodes = [], []
    with tempfile.TemporaryDirectory() as folder:
        try:
            port = free_port()
            with open(os.path.join(folder, "nats.log"), "wb") as log:
                processes.append(subprocess.Popen(["nats-server", "-a", "127.0.0.1", "-p", str(port)], stdout=log,
                                                  stderr=log, start_new_session=True))
            nodes = [Node(f"node-{i}", build, f"nats://127.0.0.1:{port}", times, folder) for i in (1, 2, 3)]
            processes += [node.start() for node in nodes]
            reporter = Reporter(nodes)
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not all(node.is_ready() for node in nodes):
                if time.monotonic() > deadline:
                    sys.exit("cluster: the nodes do not become ready")
                time.sleep(0.05)
            held = the_day(nodes, reporter, lease)
            good = verify(build, nodes)
            del held
            say("all as it should be" if good else "the nodes do not agree")
            return 0 if good else 1
        finally:
            for process in (node.process for node in nodes):
                if process.poll() is None:
                    process.send_signal(signal.SIGCONT)
            end(processes[:1] + [node.process for node in nodes])


def main():
    parser = argparse.ArgumentParser(description="three presenced that are one cluster, on a bad day")
    parser.add_argument("build", help="the folder of the build, or one that holds presenced and presence")
    parser.add_argument("--quick", action="store_true", help="short leases")
    arguments = parser.parse_args()
    heed_every_end()
    try:
        sys.exit(run(arguments.build, arguments.quick))
    except KeyboardInterrupt:
        sys.exit("\ncluster: ended before its time")


if __name__ == "__main__":
    main()

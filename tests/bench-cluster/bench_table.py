#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a cluster of three nodes costs and takes, against the targets that were set before it was written.

    bench_table.py BUILD [--json FILE] [--rounds N] [--only PART]

Nodes are processes: bench_node (a program that links the library) where rates, bytes and memory are measured, presenced
where processes die. NATS is a nats-server on the loopback. All of it shares this machine's processors. Each figure is
the median of N rounds (3), with the least and the greatest of them; of latencies each round's own is a percentile.
docs/performance-cluster.md tells what each line means. Ends what it started, by process id."""

import argparse
import http.client
import json
import os
import platform
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "cluster"), os.path.join(HERE, "..", "e2e")]
import presenced  # noqa: E402
import rig  # noqa: E402

BEAT_S, LEASE_S = 0.5, 3.0  # the defaults, of both the library and presenced
MODEL = "2e15302a-bbdf-4077-8e65-116a5a0e0348"
MILLION = 1_000_000
RATE, PACED = 1000, 4000
SUSTAINED = 400_000
AGENTS = 1000
GONE = 100_000
MS = 1e6  # nanoseconds


class Bench:
    def __init__(self, arguments):
        self.build, self.rounds, self.rows = arguments.build, arguments.rounds, []
        self.scratch = tempfile.TemporaryDirectory()
        self.nats = rig.Nats(self.scratch.name)
        self.nodes = []

    def url(self):
        return self.nats.url()

    def node(self, name=None, *options):
        node = rig.Process(os.path.join(self.build, "tests/bench-cluster/bench_node"))
        self.nodes.append(node)
        node.joined = node.ask(f"join {self.url()} {name} {' '.join(options)}" if name else "alone")
        return node

    def three(self, *options):
        return [self.node(name, *options) for name in "abc"]

    def end_nodes(self):
        for node in self.nodes:
            node.end()
        self.nodes = []

    def row(self, what, values, unit, target="", met=None):
        """`met` tells of one value whether it is good; all rounds must be."""
        values = [value for value in values if value is not None]
        self.rows.append({"what": what, "median": statistics.median(values), "least": min(values),
                          "greatest": max(values), "unit": unit, "target": target, "rounds": len(values),
                          "met": None if met is None else all(met(value) for value in values)})
        print(line(self.rows[-1]), flush=True)

    def end(self):
        for node in self.nodes:
            node.kill()
        self.nats.kill()
        self.scratch.cleanup()


def shown(value):
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def line(row):
    spread = f"{shown(row['median'])} ({shown(row['least'])} to {shown(row['greatest'])}) {row['unit']}"
    verdict = "" if row["met"] is None else "met" if row["met"] else "**NOT met**"
    return f"| {row['what']} | {row['target']} | {spread} | {verdict} |"


# ------------------------------------------------------------------------------------------------- rates and latency --


def yardstick(bench):
    program = os.path.join(bench.build, "tests/bench-cluster/bench_transport")
    told = [json.loads(subprocess.run([program, bench.url()], stdout=subprocess.PIPE, text=True, check=True).stdout)
            for _ in range(bench.rounds)]
    bench.row("yardstick: 200 bytes through NATS, p50", [one["p50"] / MS for one in told], "ms")
    bench.row("yardstick: the same, p99", [one["p99"] / MS for one in told], "ms")
    bench.row("yardstick: 200 bytes through NATS to two", [one["small_per_s"] for one in told], "messages/s")
    bench.row("yardstick: 16 KiB through NATS to two", [one["messages_per_s"] for one in told], "messages/s")


def paced(a, receivers, server, first, count):
    """Agents connect to a, RATE a second: how soon each receiver shows them."""
    for node in receivers:
        node.ask(f"watch {server} {count}")
    a.ask(f"pace {server} {first} {count} {RATE}")
    a.ask("paced")
    return [node.ask("watched") for node in receivers]


def latency(bench):
    a, b, c = bench.three()
    a.ask("pace s1 1 100 1000")  # the server is known
    a.ask("paced")
    for node in (b, c):
        node.ask("await s1 100")
    told = [paced(a, (b, c), "s1", 101 + i * PACED, PACED) for i in range(bench.rounds)]
    for number, name in enumerate("BC"):
        bench.row(f"a connect on A visible on {name}, {RATE:,} a second, p50",
                  [one[number]["p50"] / MS for one in told], "ms", "below 1 ms", lambda value: value < 1)
        bench.row(f"the same on {name}, p99", [one[number]["p99"] / MS for one in told], "ms", "below 5 ms",
                  lambda value: value < 5)
    bench.end_nodes()


def sustained(bench):
    a, b, c = bench.three()
    rates, stated, took, size = [], [], [], []
    for i in range(bench.rounds):
        a.ask(f"pace r{i} 1 1 0")  # the server is known
        a.ask("paced")
        for node in (b, c):
            node.ask(f"await r{i} 1")
        before, received = [processor_seconds(one) for one in (a, b, c, bench.nats)], b.ask("stats")["bytes_received"]
        a.ask(f"pace r{i} 2 {SUSTAINED} 0")
        held = [node.ask(f"await r{i} {SUSTAINED + 1}")["at"] for node in (b, c)]
        began = a.ask("paced")
        rates.append(SUSTAINED / ((max(held) - began["began"]) / 1e9))
        stated.append(SUSTAINED / ((began["ended"] - began["began"]) / 1e9))
        size.append((b.ask("stats")["bytes_received"] - received) / SUSTAINED)
        took.append([(processor_seconds(one) - was) * 1e6 / SUSTAINED
                     for one, was in zip((a, b, c, bench.nats), before)])
        time.sleep(1)
    bench.row("connects from one node, arriving on both others", rates, "a second", "at least 400,000",
              lambda value: value >= 400_000)
    bench.row("of those: the rate at which they were stated", stated, "a second")
    bench.row("bytes for each connect", size, "bytes")
    for number, what in enumerate(("the node that states", "one that receives", "the other", "NATS")):
        bench.row(f"processor for each connect: {what}", [one[number] for one in took], "us")
    stats = [node.ask("stats") for node in (b, c)]
    bench.row("gaps and whole states meanwhile", [one["gaps"] + one["states_taken"] for one in stats], "")
    bench.end_nodes()


def snapshot(bench):
    a, b, c = bench.three()
    a.ask(f"list big {MILLION}")
    for node in (b, c):
        node.ask(f"await big {MILLION}")
    a.ask("pace s1 1 100 1000")
    a.ask("paced")
    for node in (b, c):
        node.ask("await s1 100")
    took, asked, meanwhile, busy, size = [], [], [], [], []
    for i in range(bench.rounds):
        first, count = 101 + i * PACED, PACED
        for node in (b, c):
            node.ask(f"watch s1 {count}")
        a.ask(f"pace s1 {first} {count} {RATE}")
        time.sleep(0.5)
        before = a.ask("stats")["bytes_sent"]
        late = bench.node(f"late-{i}", "20000", "now")
        began = late.joined["began"]
        while a.ask("stats")["bytes_sent"] < before + 100_000:  # the first chunks
            time.sleep(0.002)
        asked_at = a.ask("stats")["at"]
        held = late.ask(f"await big {MILLION}")["at"]
        took.append((held - began) / 1e9)
        asked.append((held - asked_at) / 1e9)
        busy.append(processor_seconds(late) * 1e6 / MILLION)
        size.append(late.ask("stats")["bytes_received"] / MILLION)
        a.ask("paced")
        meanwhile += [node.ask("watched") for node in (b, c)]
        late.ask("leave")
        late.end()
        bench.nodes.remove(late)
    bench.row("1e6 connections to a joining node, from its start", took, "s", "below 2 s", lambda value: value < 2)
    bench.row("of that: from the first chunk", asked, "s")
    bench.row("processor of the joining node for each connection", busy, "us")
    bench.row("bytes for each connection", size, "bytes")
    bench.row("the others' p99 meanwhile (both)", [one["p99"] / MS for one in meanwhile], "ms", "below 20 ms",
              lambda value: value < 20)
    bench.row("the others' p50 meanwhile (both)", [one["p50"] / MS for one in meanwhile], "ms")
    bench.end_nodes()


def begin_relay(bench, port):
    relay = subprocess.Popen([sys.executable, os.path.join(HERE, "relay.py"), str(port), str(bench.nats.port)],
                             stdout=subprocess.PIPE)
    relay.stdout.readline()
    return relay


def behind(bench):
    """A follower of a million is cut off while 100,000 leave and as many come: what it takes when it is back, by what
    the origin still knows."""
    ways = (("the changes, of 64 MiB of history", 64, 1 << 20), ("what came since, with 16 MiB", 16, 1 << 20),
            ("the whole state, with no more disconnects known than by default", 16, 0))
    for what, history, departures in ways:
        took, size, sent, received = [], [], [], []
        for _ in range(bench.rounds):
            a, port = bench.node(), rig.free_port()
            a.ask(f"memories {history} {departures}")
            a.ask(f"join {bench.url()} a")
            relay = begin_relay(bench, port)
            b = bench.node()
            b.ask(f"join nats://127.0.0.1:{port} b")
            a.ask(f"list big {MILLION}")
            b.ask(f"await big {MILLION}")
            time.sleep(2)
            relay.kill()
            relay.wait()
            number = a.ask("number big 0")["number"]
            for part in range(10):
                first = part * GONE // 10 + 1
                a.ask(f"drop big {first} {GONE // 10}")
                a.ask(f"pace big {MILLION + first} {GONE // 10} 0")
                a.ask("paced")
            time.sleep(2 * LEASE_S)
            before = [processor_seconds(node) for node in (a, b)], a.ask("stats")["bytes_sent"]
            relay = begin_relay(bench, port)
            began = time.monotonic()
            b.ask(f"number big {number + 2 * GONE}")
            took.append(time.monotonic() - began)
            size.append((a.ask("stats")["bytes_sent"] - before[1]) / 1e6)
            for to, node, was in zip((sent, received), (a, b), before[0]):
                to.append((processor_seconds(node) - was) * 1e3)
            relay.kill()
            relay.wait()
            bench.end_nodes()
        bench.row(f"a follower of 1e6 that missed {2 * GONE:,} changes: {what}", size, "MB")
        bench.row("the same: from its link on", took, "s")
        bench.row("the same: processor of the node that states", sent, "ms")
        bench.row("the same: processor of the follower", received, "ms")


# ----------------------------------------------------------------------------------------------------- idle, memory --


def processor_seconds(node):
    with open(f"/proc/{node.process.pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def just_after_a_beat(node):
    """Its counts, so that what lies between two of them is whole beats."""
    before = node.ask("stats")
    while True:
        now = node.ask("stats")
        if now["messages_sent"] > before["messages_sent"]:
            return now
        time.sleep(0.005)


def sent_between(nodes, seconds):
    """Bytes and messages a second that all nodes send, over whole beats."""
    before = [just_after_a_beat(node) for node in nodes]
    time.sleep(seconds)
    after = [just_after_a_beat(node) for node in nodes]
    return [sum((two[what] - one[what]) / ((two["at"] - one["at"]) / 1e9) for one, two in zip(before, after))
            for what in ("bytes_sent", "messages_sent")]


def idle(bench):
    a, b, c = nodes = bench.three()
    by_agents = {}
    for count in (10_000, 100_000, MILLION):
        a.ask(f"list s1 {count}")
        for node in (b, c):
            node.ask(f"await s1 {count}")
        time.sleep(2)
        by_agents[count] = sent_between(nodes, 3)[0]
    least, most = min(by_agents.values()), max(by_agents.values())
    for count, rate in by_agents.items():
        bench.row(f"idle traffic of three nodes, {count:,} agents", [rate], "bytes/s")
    bench.row("the same: greatest above least", [(most / least - 1) * 100], "%", "at most 5 %",
              lambda value: value <= 5)
    bench.end_nodes()


def active(bench):
    """Each of a million agents is active every 30 s: over a telling of 20 s."""
    a, b, c = nodes = bench.three()
    a.ask(f"list s1 {MILLION}")
    for node in (b, c):
        node.ask(f"await s1 {MILLION}")
    a.ask(f"stamp s1 {MILLION} 30")
    time.sleep(21)
    before, took = a.ask("stats"), processor_seconds(b)
    rate = sent_between(nodes, 20)[0]
    took = processor_seconds(b) - took
    told = a.ask("stats")["activity_sent"] - before["activity_sent"]
    a.ask("paced")
    bench.row("traffic with 1,000,000 agents, each active every 30 s", [rate], "bytes/s")
    bench.row("the same, for each connection that is told", [rate * 20 / max(told, 1)], "bytes")
    bench.row("the same: processor of a receiving node", [took * 1e6 / max(told, 1)], "us for each that is told")
    bench.end_nodes()


def servers(bench):
    a, b, c = nodes = bench.three()
    rates, made = {}, 0
    for count in (1, 10, 100):
        for number in range(made, count):
            a.ask(f"list server-{number:03} 100")
        made = count
        for node in (b, c):
            node.ask(f"await server-{count - 1:03} 100")
        time.sleep(2)
        rates[count] = sent_between(nodes, 3)[0]
        bench.row(f"idle traffic of three nodes, {count} servers", [rates[count]], "bytes/s")
    slopes = [(rates[10] - rates[1]) / 9, (rates[100] - rates[10]) / 90]
    bench.row("the same, for one server more (1 to 10, 10 to 100)", slopes, "bytes/s", "linear: within 10 %",
              lambda value: abs(value / slopes[1] - 1) < 0.1)
    bench.end_nodes()


def memory(bench):
    """The same rows in a recorder of its own, and on a node that was told of them, in fresh processes that have as many
    already: buffers are as large as they become, the history is full, and no state is kept for who may ask again (a
    view that is held while a million connect costs their pages twice)."""
    def fill(server, first, count, stating, holding):
        stating.ask(f"pace {server} {first} {count} 0")
        stating.ask("paced")
        if holding:
            holding.ask(f"await {server} {first + count - 1}")

    def grown(stating, holding=None):
        for server in ("s0", "s1"):
            fill(server, 1, 1, stating, holding)
        time.sleep(4.1 * LEASE_S if holding else 0)
        fill("s0", 2, MILLION, stating, holding)
        before = (holding or stating).ask("memory")
        fill("s1", 2, MILLION, stating, holding)
        time.sleep(1)
        after = (holding or stating).ask("memory")
        return {key: (after[key] - before[key]) / MILLION for key in after}

    more, own, used, taken = [], [], [], []
    for _ in range((bench.rounds + 1) // 2):
        by_itself = grown(bench.node())
        bench.end_nodes()
        by_stream = grown(bench.node("a"), bench.node("b"))
        bench.end_nodes()
        own.append(by_itself["resident"])
        more.append(by_stream["resident"] - by_itself["resident"])
        used.append(by_stream["used"] - by_itself["used"])
        taken.append(by_stream["allocated"] - by_itself["allocated"])
    bench.row("memory a connection, a recorder by itself (resident)", own, "bytes")
    bench.row("memory a connection more, on a receiving node (resident)", more, "bytes", "at most 8 bytes",
              lambda value: value <= 8)
    bench.row("the same, by the recorder's own count: in use", used, "bytes")
    bench.row("the same, by the recorder's own count: taken", taken, "bytes")


# -------------------------------------------------------------------------------------------- processes that go away --


class Daemon(presenced.Daemon):
    """presenced with its usual times; the watches of others see what becomes of it."""

    def __init__(self, bench, name, url=None):
        super().__init__(os.path.join(bench.build, "src/daemon/presenced"), "--http", "127.0.0.1:0", "--node", name,
                         "--nats", url or bench.url())
        self.name = name
        self.http_port = int(re.search(r"protocol=http address=127\.0\.0\.1:(\d+)", self.logged()).group(1))
        self.wait_until(lambda: self.get("/readyz") == "ready\n")

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=presenced.WAIT_S)
        connection.request("GET", path)
        reply = connection.getresponse()
        text = reply.read().decode()
        connection.close()
        return json.loads(text) if "json" in reply.getheader("Content-Type", "") else text

    def counted(self, name):
        return int(re.search(rf"^presenced_cluster_{name} (\d+)", self.get("/metrics"), re.M).group(1))

    def gateway(self):
        client = self.client()
        assert client.ask("PRESENCE.SESSION", "machine-0", "EPOCH", time.time_ns(), "GRACE", 60000) == "OK"
        words = [word for number in range(AGENTS) for word in (MODEL, f"unit-{number}", number, 0, "")]
        assert client.ask("PRESENCE.UPDATESERVER", "machine-0", AGENTS, *words) == AGENTS
        return client


class Watch(threading.Thread):
    """When each agent of machine-0 came to read so on a node. What is pushed is counted, not understood: taking it
    apart would take longer than what is measured."""

    def __init__(self, node, status):
        super().__init__(daemon=True)
        self.client, self.status, self.at = node.client(), status, []
        self.sign = f"after\r\n+{status}\r\n".encode()
        self.client.ask("HELLO", 3)
        self.client.ask("PRESENCE.WATCH", "SERVER", "machine-0", "AGENTS")
        self.start()

    def run(self):
        rest = self.client.buffer
        while len(self.at) < AGENTS:
            *told, rest = rest.split(self.sign)
            self.at += [time.monotonic()] * len(told)
            if len(self.at) < AGENTS:
                rest += self.client.socket.recv(1 << 20)

    def all(self):
        self.join(presenced.WAIT_S)
        assert len(self.at) == AGENTS, f"{len(self.at)} of {AGENTS} became {self.status}"
        return self.at


class Beats(threading.Thread):
    """When a node's beats came."""

    def __init__(self, bench, name):
        super().__init__(daemon=True)
        self.raw, self.at = rig.RawNats(bench.nats.port), []
        self.raw.socket.settimeout(None)
        self.raw.say(f"SUB presence.presence.beat.{name} 1")
        self.raw.ping()
        self.start()

    def run(self):
        while words := self.raw.file.readline().split():
            if words[0] == b"MSG":
                self.at.append(time.monotonic())
                self.raw.file.read(int(words[-1]) + 2)
            elif words[0] == b"PING":
                self.raw.say("PONG")


def all_know(nodes):
    for node in nodes:
        node.wait_until(lambda node=node: node.get("/v1/servers/machine-0").get("alive") == AGENTS)


def deaths(bench):
    b, c = Daemon(bench, "b"), Daemon(bench, "c")
    latest, soonest, own, drained = [], [], [], []
    try:
        for _ in range(bench.rounds):
            a = Daemon(bench, "a")
            beats, held = Beats(bench, "a"), a.gateway()
            all_know((b, c))
            time.sleep(1 + random.random() * BEAT_S)  # at any time between two beats
            watches = [Watch(node, "missing") for node in (b, c)]
            killed = time.monotonic()
            a.kill()
            seen = [watch.all() for watch in watches]
            latest.append(max(max(at) for at in seen) - killed)
            soonest.append(min(min(at) for at in seen) - beats.at[-1])
            held.close()
            del held
            a = Daemon(bench, "a")
            a.gateway()
            all_know((b, c))
            watches = [Watch(node, "missing") for node in (b, c)]
            asked = time.monotonic()
            a.process.send_signal(signal.SIGTERM)
            drained.append((max(max(watch.all()) for watch in watches) - asked) * 1e3)
            a.stop()
        bench.row("kill -9 of presenced: its 1,000 agents missing on both others, after the kill", latest, "s",
                  "at most 3.5 s", lambda value: value <= LEASE_S + BEAT_S)
        bench.row("the same: the first of them, after its last beat", soonest, "s", "at least 3 s",
                  lambda value: value >= LEASE_S)
        bench.row("clean stop (SIGTERM): all missing on both others", drained, "ms", "below 100 ms",
                  lambda value: value < 100)
    finally:
        for daemon in (a, b, c):
            daemon.close_clients()
            daemon.kill()


def revivals(bench):
    """A node is cut off for longer than its lease, by stopping it, and by a link that carries nothing."""
    port = rig.free_port()
    relay = begin_relay(bench, port)
    daemons = [Daemon(bench, "a", f"nats://127.0.0.1:{port}"), Daemon(bench, "b"), Daemon(bench, "c")]
    a, b, c = daemons
    held = a.gateway()
    try:
        all_know((b, c))
        states = [node.counted("states_taken_total") for node in daemons]
        for what, process in (("SIGSTOP and SIGCONT of it", a.process), ("its link to NATS", relay)):
            took = []
            for _ in range(bench.rounds):
                gone = [Watch(node, "missing") for node in (b, c)]
                process.send_signal(signal.SIGSTOP)
                for watch in gone:
                    watch.all()
                time.sleep(1)
                back = [Watch(node, "alive") for node in (b, c)]
                process.send_signal(signal.SIGCONT)
                began = time.monotonic()
                took.append((max(max(watch.all()) for watch in back) - began) * 1e3)
                time.sleep(1)
            bench.row(f"revival after a cut without changes: {what}", took, "ms", "below one beat, 500 ms",
                      lambda value: value < BEAT_S * 1e3)
        after = [node.counted("states_taken_total") for node in daemons]
        bench.row("the same: whole states that were sent", [sum(after) - sum(states)], "", "none",
                  lambda value: value == 0)
        held.close()
    finally:
        relay.send_signal(signal.SIGCONT)
        relay.kill()
        relay.wait()
        for daemon in daemons:
            daemon.close_clients()
            daemon.kill()


PARTS = [yardstick, latency, deaths, sustained, snapshot, behind, idle, servers, active, revivals, memory]


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = re.search(r"model name\s*:\s*(.*)", file.read())
    version = subprocess.run(["nats-server", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return {"processors": os.cpu_count(), "model": model.group(1) if model else "unknown",
            "system": platform.platform(),
            "load": os.getloadavg()[0], "nats": version, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def main():
    parser = argparse.ArgumentParser(description="what a cluster of three nodes costs")
    parser.add_argument("build")
    parser.add_argument("--json", help="write the figures there, too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=[part.__name__ for part in PARTS], action="append")
    arguments = parser.parse_args()
    about = machine()
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    print("\n| what | target | median (least to greatest) | |\n| --- | --- | --- | --- |", flush=True)
    bench, began = Bench(arguments), time.monotonic()
    try:
        for part in PARTS:
            if not arguments.only or part.__name__ in arguments.only:
                part(bench)
                if arguments.json:
                    with open(arguments.json, "w", encoding="utf-8") as file:
                        json.dump({"machine": about, "rows": bench.rows}, file, indent=1)
    finally:
        bench.end()
    missed = sum(row["met"] is False for row in bench.rows)
    met = sum(row["met"] is True for row in bench.rows)
    print(f"\n{met} met, {missed} not met, in {time.monotonic() - began:.0f} s")
    if not arguments.json:
        print(json.dumps({"machine": about, "rows": bench.rows}))


if __name__ == "__main__":
    main()

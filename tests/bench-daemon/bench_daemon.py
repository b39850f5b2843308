#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench_daemon.py PRESENCED [CASE...] - presenced and redis-server side by side, by redis-benchmark, as the docs tell.

Prints a table: what, ours, theirs, the ratio of the medians, the target, and whether it was met. Asserts nothing: a
busy machine makes figures worse, not the program wrong. Samples alternate, so that both have the same neighbours.
SAMPLES (5) and SCALE (1.0, of the requests of a sample) may be set in the environment. Without CASE: all of them."""

import contextlib
import itertools
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from rig import LUA_CONNECT, MODEL, Rig, encode, median, pinned, spread

SAMPLES = int(os.environ.get("SAMPLES", "5"))
SCALE = float(os.environ.get("SCALE", "1"))
KEYS = 1000000
REQUESTS = {1: 100000, 16: 600000, 64: 1000000}
FRESH_KEYS = 2000000000  # so many that hardly a key comes twice

rows = []


def say(what, ours, theirs, ratio, target, met):
    row = (what, ours, theirs, ratio, target, {True: "met", False: "NOT met", None: ""}[met])
    rows.append(row)
    print("  ".join(str(cell) for cell in row), flush=True)


def requests(pipeline):
    return max(1000, int(REQUESTS[pipeline] * SCALE))


def rate_text(samples):
    return (f"{median(samples, 'rate') / 1000:,.0f}k/s ±{spread(samples, 'rate'):.0f} %, "
            f"{median(samples, 'cpu_us'):.2f} + {median(samples, 'client_us'):.2f} µs")


def compare_rates(rig, what, ours, theirs, pipeline, least, scale=1.0, **options):
    count = max(1000, int(requests(pipeline) * scale))
    mine, other = rig.compare(ours, theirs, SAMPLES, pipeline=pipeline, requests=count, **options)
    ratio = median(mine, "rate") / median(other, "rate")
    say(f"{what}, -P {pipeline}", rate_text(mine), rate_text(other), f"{ratio:.2f}",
        f">= {least}" if least else "", ratio >= least if least else None)
    return mine, other


def connects(count):
    return (("PRESENCE.CONNECT", "machine-0", MODEL, f"agent-{number:012d}", number) for number in range(count))


def sets(count):
    return (("SET", f"key:{number:012d}", "xxx") for number in range(count))


def case_ping(rig):
    with rig.presenced() as ours, rig.redis() as theirs:
        for pipeline, least in ((1, None), (16, None), (64, 1.2)):
            compare_rates(rig, "PING", (ours, ["PING"]), (theirs, ["PING"]), pipeline, least)


def case_known(rig):
    """Reads and writes of what is known: a million connections here, a million keys there."""
    with rig.presenced() as ours, rig.redis() as theirs:
        ours.load(connects(KEYS))
        theirs.load(sets(KEYS))
        activity = ["PRESENCE.ACTIVITY", "machine-0", "__rand_int__"]
        status = ["PRESENCE.STATUS", MODEL, "agent-__rand_int__"]
        write, read = ["SET", "key:__rand_int__", "xxx"], ["GET", "key:__rand_int__"]
        for pipeline, least in ((1, None), (16, 1.5), (64, 1.7)):
            mine, other = compare_rates(rig, "ACTIVITY : SET", (ours, activity), (theirs, write), pipeline, least)
            if pipeline == 1:
                latency("ACTIVITY : SET", mine, other)
        for pipeline, least in ((1, None), (16, 1.5), (64, 1.8)):
            mine, other = compare_rates(rig, "STATUS : GET", (ours, status), (theirs, read), pipeline, least)
            if pipeline == 1:
                latency("STATUS : GET", mine, other)


def latency(what, mine, other):
    for field in ("p50", "p99"):
        a, b = median(mine, field), median(other, field)
        say(f"{what}, -P 1, {field}", f"{a:.3f} ms ±{spread(mine, field):.0f} %",
            f"{b:.3f} ms ±{spread(other, field):.0f} %", f"{a / b:.2f}", "<= 1", a <= b)


def case_connect(rig):
    """New connections, each of an agent of its own, into an empty record; new keys into an empty Redis."""
    connect = ["PRESENCE.CONNECT", "machine-0", MODEL, "agent-__rand_int__", "__rand_int__"]
    with rig.presenced() as ours, rig.redis() as theirs:
        script = theirs.ask("SCRIPT", "LOAD", LUA_CONNECT)

        def empty(server):
            if server is ours:
                server.ask("PRESENCE.DISABLE")
                server.ask("PRESENCE.ENABLE")
            else:
                server.ask("FLUSHALL")

        for pipeline in (1, 16, 64):
            compare_rates(rig, "CONNECT : SET, new", (ours, connect), (theirs, ["SET", "key:__rand_int__", "xxx"]),
                          pipeline, 1.0 if pipeline > 1 else None, before_each=empty, keys=FRESH_KEYS)
        scheme = ["EVALSHA", script, "0", "machine-0", MODEL, "agent-__rand_int__", "__rand_int__"]
        for pipeline in (16, 64):
            compare_rates(rig, "CONNECT : Lua, new", (ours, connect), (theirs, scheme), pipeline, 10, scale=0.3,
                          before_each=empty, keys=FRESH_KEYS)


def case_model(rig):
    """A model's 100 agents with their statuses, beside the bare names of a set of 100: asked for by the model's name, and
    by their own; of a record at rest, whose answer is kept, and of one that is never the same. redis-benchmark reads
    each item of a reply, which takes it longer than the server; so the replies are counted by their bytes, too."""
    agents = [f"agent-{number:04d}" for number in range(100)]
    with rig.presenced() as ours, rig.redis() as theirs:
        ours.load(("PRESENCE.CONNECT", "machine-0", MODEL, agent, number) for number, agent in enumerate(agents))
        theirs.load(("SADD", "model", agent) for agent in agents)
        members = (theirs, ["SMEMBERS", "model"])

        def compare(what, words, pipeline, least, scale=0.2, **options):
            mine, other = compare_rates(rig, f"{what} : SMEMBERS of 100", (ours, words), members, pipeline,
                                        least if options else None, scale=scale, **options)
            ratio = median(other, "cpu_us") / median(mine, "cpu_us")
            say(f"  the server's CPU for {what}, -P {pipeline}", f"{median(mine, 'cpu_us'):.2f} µs",
                f"{median(other, 'cpu_us'):.2f} µs", f"{ratio:.2f}", f">= {least}" if least else "",
                ratio >= least if least else None)

        for pipeline in (1, 16):
            least = 5 if pipeline > 1 else None
            compare("STATUSES of 100, counted", ["PRESENCE.STATUSES", MODEL], pipeline, least, scale=0.5, counted=True)
            compare("STATUSES of 100", ["PRESENCE.STATUSES", MODEL], pipeline, None)
            compare("100 STATUSes", ["PRESENCE.STATUS", MODEL, *agents], pipeline, None)
            compare("100 STATUSes, never the same", ["PRESENCE.STATUS", MODEL, *agents[:-1], "agent-__rand_int__"],
                    pipeline, None)
        with changing(ours):
            compare("STATUSES of 100 while one changes, counted", ["PRESENCE.STATUSES", MODEL], 16, None, counted=True)
        compare_rates(rig, "AGENTS DETAILS of 100 : SMEMBERS of 100",
                      (ours, ["PRESENCE.AGENTS", "MODEL", MODEL, "DETAILS"]), members, 16, None, scale=0.1)


@contextlib.contextmanager
def changing(server):
    """Somewhere else in the record something changes, a thousand times a second."""
    going = True

    def change():
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            for number in itertools.count():
                if not going:
                    break
                verb = ("CONNECT", "elsewhere", "another", "agent", "1") if number % 2 else ("DISCONNECT", "elsewhere", "1")
                client.sendall(encode("PRESENCE." + verb[0], *verb[1:]))
                client.recv(64)
                time.sleep(0.001)
    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        going = False
        thread.join()


def case_memory(rig):
    with rig.presenced() as ours, rig.redis() as theirs:
        empty = ours.resident_bytes(), theirs.resident_bytes()
        ours.load(connects(KEYS))
        script = theirs.ask("SCRIPT", "LOAD", LUA_CONNECT)
        theirs.load(("EVALSHA", script, 0, "machine-0", MODEL, f"agent-{number:012d}", number)
                    for number in range(KEYS))
        mine = (ours.resident_bytes() - empty[0]) / KEYS
        other = (theirs.resident_bytes() - empty[1]) / KEYS
        say("memory of a connection, at 1e6", f"{mine:.0f} bytes", f"{other:.0f} bytes", f"{mine / other:.2f}",
            "<= 0.25", mine <= other / 4)


def case_threads(rig):
    """Two loops beside one, both on all cores, the client among them."""
    rig_cpu, rig.client_cpu = rig.client_cpu, ""
    try:
        with rig.presenced("--threads", "2", every_cpu=True) as two, rig.presenced(every_cpu=True) as one:
            for server in (two, one):
                server.load(connects(KEYS))
            activity = ["PRESENCE.ACTIVITY", "machine-0", "__rand_int__"]
            for pipeline in (1, 16, 64):
                compare_rates(rig, "ACTIVITY, 2 threads : 1", (two, activity), (one, activity), pipeline, 0.95)
    finally:
        rig.client_cpu = rig_cpu


def case_watchers(rig):
    """1,000 watchers, each of a model that changes 10 times a second, beside writers who match none of them. What is told
    of the watchers is told of the time in which the writers wrote."""
    load = os.path.join(os.path.dirname(os.path.abspath(__file__)), "watch_load.py")
    watchers, rate, seconds, longer = 1000, 10, 60, 2
    writes = ["PRESENCE.CONNECT", "machine-0", MODEL, "agent-__rand_int__", "__rand_int__"]
    with rig.presenced() as ours:
        ours.load(connects(KEYS))
        alone, beside = [], []
        for _ in range(max(1, SAMPLES // 2)):
            alone.append(rig.sample(ours, writes, 16, longer * requests(16)))
            process = subprocess.Popen(pinned(rig.client_cpu) + [sys.executable, load, str(ours.port), str(watchers),
                                                                 str(rate), str(seconds)],
                                       stdout=subprocess.PIPE, text=True)
            time.sleep(3)  # the watchers are there by then, and changes come
            process.send_signal(signal.SIGUSR1)
            sample = rig.sample(ours, writes, 16, longer * requests(16))
            process.terminate()
            output, _ = process.communicate(timeout=60)
            sent, seen, sample["p50"], sample["p99"] = map(float, output.split())
            sample["lost"] = sent - seen
            beside.append(sample)
        p99, lost = median(beside, "p99"), median(beside, "lost")
        say("1,000 watchers, change to watcher, p99", f"{p99:.1f} ms (p50 {median(beside, 'p50'):.1f}), {lost:.0f} lost", "", "",
            "< 20 ms, none lost", p99 < 20 and lost == 0)
        ratio = median(beside, "rate") / median(alone, "rate")
        say("  writers beside them : alone, -P 16", rate_text(beside), rate_text(alone), f"{ratio:.2f}", ">= 0.67",
            ratio >= 2 / 3)


def case_state(rig):
    """From the start of the process to the first connection, with a state file of a million connections."""
    with tempfile.TemporaryDirectory(prefix="presence-bench.") as folder:
        with rig.presenced("--state", folder) as ours:
            ours.load(connects(KEYS))
        starts = []
        for _ in range(SAMPLES):
            with rig.presenced("--state", folder) as ours:
                if ours.ask("PRESENCE.COUNT") != KEYS:
                    raise SystemExit("the state was not taken up")
                starts.append({"start": ours.start_s})
        start = median(starts, "start")
        say("start with a state file of 1e6", f"{start:.2f} s ±{spread(starts, 'start'):.0f} %", "", "", "< 1 s", start < 1)


def http_get(address, path):
    """Asks, and reads to the end: how many bytes."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(address)
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        length = 0
        while data := client.recv(1 << 20):
            length += len(data)
        return length


def case_report(rig):
    """The longest that another client of the same loop waits while a report of a million connections is made."""
    address = os.path.join(rig.scratch, "http")
    with rig.presenced("--http", f"unix:{address}") as ours:
        ours.load(connects(KEYS))
        samples = []
        for _ in range(SAMPLES):
            began, worst = time.monotonic(), 0
            report = threading.Thread(target=http_get, args=(address, "/report"))
            report.start()
            while report.is_alive():
                asked = time.monotonic()
                http_get(address, "/healthz")
                worst = max(worst, time.monotonic() - asked)
            samples.append({"worst_ms": 1000 * worst, "report_s": time.monotonic() - began})
        say("the longest wait of others during a report of 1e6", f"{median(samples, 'worst_ms'):.1f} ms "
            f"(the report: {median(samples, 'report_s'):.2f} s)", "", "", "", None)


CASES = {"ping": case_ping, "known": case_known, "connect": case_connect, "model": case_model, "memory": case_memory,
         "threads": case_threads,
         "watchers": case_watchers, "state": case_state, "report": case_report}


def cpu_name():
    with open("/proc/cpuinfo", encoding="utf-8") as text:
        return next((line.split(":", 1)[1].strip() for line in text if line.startswith("model name")), "unknown")


def main(program, *wanted):
    unknown = [name for name in wanted if name not in CASES]
    if unknown:
        sys.exit(f"no such case: {' '.join(unknown)}; there are: {' '.join(CASES)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends the servers too
    print(f"{platform.system()} {platform.release()}, {cpu_name()}, {os.cpu_count()} cores; "
          f"load before: {os.getloadavg()[0]:.1f}; {SAMPLES} samples by turns, medians; µs: CPU a request, the server's + redis-benchmark's")
    with tempfile.TemporaryDirectory(prefix="presence-bench.") as scratch:
        rig = Rig(program, scratch)
        for name in wanted or CASES:
            CASES[name](rig)
    head = ("what", "presenced", "redis-server", "ratio", "target", "")
    widths = [max(len(str(row[column])) for row in [head, *rows]) for column in range(len(head))]
    print()
    for row in [head, *rows]:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip())


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_feed.py BUILD SOURCE - what `make run` starts does what it says, and ends whole at Ctrl-C.

Given the example of `make run` on free ports, when it has said where to look, then the report shows its agents and its
gateway's; when the agent that it names is killed, it is unknown; when Ctrl-C comes, or its terminal closes, it ends with
no error and none of the processes that it started is left: also where it was put into the background by a script's shell,
which has Ctrl-C ignored."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

BUILD, SOURCE = sys.argv[1], sys.argv[2]
PATIENCE_SECONDS = 30.0
SHOP = "7b0d1f6c-93ab-4c55-8d1e-5f2a90c4e7d3"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, condition):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited in vain for: {what}")


def children_of(process):
    """The ids of its child processes, by asking the system for every process's parent."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == process and fields[0] != "Z":
            found.append(int(entry))
    return found


def report(http):
    with urllib.request.urlopen(f"http://{http}/report", timeout=5) as answer:
        return answer.read().decode()


def status(command):
    """What the command says of unit-web-0, and its exit status: 0 alive, 1 not alive."""
    done = subprocess.run([os.path.join(BUILD, "src/cli/presence"), "--url", f"http://{command}", "status", SHOP,
                           "unit-web-0"], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    return done.returncode, done.stdout


def ignore_interrupts():
    """As a shell without job control does for what it runs in the background. A terminal's end is not ignored, though who
    started this test may do so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def a_run_until(ending):
    http = f"127.0.0.1:{free_port()}"
    feed = subprocess.Popen([sys.executable, os.path.join(SOURCE, "examples/feed.py"), BUILD, "--resp",
                             f"127.0.0.1:{free_port()}", "--http", http],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=ignore_interrupts)
    said, children = "", []
    try:
        while "Ctrl-C" not in said:
            line = feed.stdout.readline()
            assert line, f"it ended too early:\n{said}"
            said += line
        assert f"http://{http}/" in said, said
        children = wait_for("six processes", lambda: len(children_of(feed.pid)) == 6 and children_of(feed.pid))

        lines = ("unit-web-0 ", "unit-web-1 ", "unit-mysql-0 ", "lorry-17 ", "gateway-1 ")
        wait_for("all of them in the report", lambda: all(line in report(http) for line in lines))
        assert status(http)[0] == 0, status(http)

        agent = int(re.search(r"kill -9 (\d+)", said).group(1))
        assert agent in children, "it names a process that is not its own"
        os.kill(agent, signal.SIGKILL)
        wait_for("the killed agent is not alive", lambda: status(http)[0] == 1)
        assert "unit-web-1" in report(http)

        feed.send_signal(ending)
        rest, _ = feed.communicate(timeout=PATIENCE_SECONDS)
        assert feed.returncode == 0, f"status {feed.returncode}:\n{rest}"
        assert "Traceback" not in rest, rest
        for child in children:
            assert not os.path.exists(f"/proc/{child}"), f"process {child} was left behind"
    finally:
        if feed.poll() is None:
            feed.kill()
            for child in children:
                try:
                    os.kill(child, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            feed.wait()


for number, each in enumerate((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), 1):
    a_run_until(each)
    print(f"ok {number} - the feed is as told, and ends whole at {each.name}", flush=True)

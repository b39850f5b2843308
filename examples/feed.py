#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""feed.py - presenced with something to see: a few agents that join it, and a gateway that reports agents of its own.

    feed.py BUILD [--resp HOST:PORT] [--http HOST:PORT] [--seconds N]        finds the programs in the folder BUILD

Starts presenced, then one process for each agent (each is a connection of its own, gone when it is killed) and one for
the gateway, whose agents come and go. Says where to look and what to try, and runs until Ctrl-C (or for N seconds).
Ends what it started by process id and leaves nothing behind. Only Python's own library is used: what is spoken is the
Redis protocol, so any Redis client does the same."""

import argparse
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request

SHOP = "7b0d1f6c-93ab-4c55-8d1e-5f2a90c4e7d3"
FLEET = "1c9e6a52-4d0b-4f0e-9c3e-0a5b6c7d8e9f"
AGENTS = [(SHOP, "unit-web-0"), (SHOP, "unit-web-1"), (SHOP, "unit-mysql-0"), (FLEET, "lorry-17")]
STAMP_SECONDS = 2.0
PATIENCE_SECONDS = 10.0


class Connection:
    """One client connection that speaks RESP2, as much of it as this example needs."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS)
        self.file = self.socket.makefile("rb")

    def call(self, *words):
        """One command, one reply. An error reply is an exception."""
        parts = [b"*%d\r\n" % len(words)]
        for word in words:
            word = str(word).encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
        self.socket.sendall(b"".join(parts))
        return self.reply()

    def reply(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("presenced closed the connection")
        kind, rest = line[:1], line[1:-2].decode()
        if kind == b"-":
            raise RuntimeError(rest)
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == "-1" else self.file.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return None if rest == "-1" else [self.reply() for _ in range(int(rest))]
        return rest


# ------------------------------------------------------------------------------------- what the other processes do --


def be_an_agent(address, model, name):
    """An agent: its connection is what makes it alive."""
    connection = Connection(address)
    connection.call("PRESENCE.JOIN", model, name)
    while True:
        time.sleep(STAMP_SECONDS)
        connection.call("PING")


def be_a_gateway(address):
    """A gateway: it says what is connected to it. When its own connection drops, its server is down, after the grace."""
    server, connection = "gateway-1", Connection(address)
    connection.call("PRESENCE.SESSION", server, "GRACE", 3000)
    here, next_id = {}, 1
    for number in range(6):
        here[next_id] = f"sensor-{number}"
        connection.call("PRESENCE.CONNECT", server, FLEET, here[next_id], next_id, "DATA", f"slot {number}")
        next_id += 1
    while True:
        time.sleep(random.uniform(0.5, 2.0))
        connection.call("PRESENCE.ACTIVITY", server, *here)
        if len(here) > 3 and random.random() < 0.5:
            gone = random.choice(list(here))
            connection.call("PRESENCE.DISCONNECT", server, gone)
            del here[gone]
        else:
            here[next_id] = f"sensor-{random.randrange(12)}"
            connection.call("PRESENCE.CONNECT", server, FLEET, here[next_id], next_id)
            next_id += 1


# -------------------------------------------------------------------------------------------------- what starts them --


def free_or_other(wanted):
    """The address if nobody listens there, else the same host with a free port."""
    host, port = wanted.rsplit(":", 1)
    for number in (int(port), 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, number))
                return f"{host}:{probe.getsockname()[1]}"
            except OSError:
                continue
    sys.exit(f"feed: no free port on {host}")


def wait_until_ready(daemon, http):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if daemon.poll() is not None:
            sys.exit(f"feed: presenced ended with status {daemon.returncode}")
        try:
            with urllib.request.urlopen(f"http://{http}/readyz", timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    sys.exit("feed: presenced does not become ready")


def end(processes):
    """The last started goes first; who does not go in time is killed."""
    for process in reversed(processes):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def program(build, name):
    for place in (os.path.join(build, "src", name), os.path.join(build, os.path.basename(name))):
        if os.access(place, os.X_OK):
            return place
    sys.exit(f"feed: no program {name} in {build}")


def tell(build, resp, http, agent):
    command = os.path.relpath(program(build, "cli/presence"))
    there = "" if http.endswith(":7791") else f" --url http://{http}"
    port = resp.rsplit(":", 1)[1]
    print(f"\nThe dashboard:  http://{http}/\n\nTo try, in another terminal:\n"
          f"  {command} report{there}\n"
          f"  redis-cli -p {port} PRESENCE.STATUS {SHOP} unit-web-0 unit-web-9\n"
          f"  kill -9 {agent}    # the process of unit-web-0: its connection is gone, and so is it\n\n"
          "Ctrl-C ends it all.\n", flush=True)


def stop(_signal, _frame):
    raise KeyboardInterrupt


def heed_every_end():
    """Ctrl-C, also where a shell that put this in the background has it ignored; a polite kill; a terminal that closes,
    but for nohup, which has that ignored. What was started is in sessions of its own and hears of none of them."""
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, stop)


def run(arguments):
    resp, http = free_or_other(arguments.resp), free_or_other(arguments.http)
    processes = []
    heed_every_end()
    try:
        daemon = subprocess.Popen([program(arguments.build, "daemon/presenced"), "--resp", resp, "--http", http], start_new_session=True)
        processes.append(daemon)
        wait_until_ready(daemon, http)
        me = [sys.executable, os.path.abspath(__file__), arguments.build, "--resp", resp]
        for model, name in AGENTS:
            processes.append(subprocess.Popen([*me, "--agent", model, name], start_new_session=True))
        processes.append(subprocess.Popen([*me, "--gateway"], start_new_session=True))
        tell(arguments.build, resp, http, processes[1].pid)
        began = time.monotonic()
        while not arguments.seconds or time.monotonic() - began < arguments.seconds:
            if daemon.poll() is not None:
                sys.exit(f"feed: presenced ended with status {daemon.returncode}")
            time.sleep(0.1)
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):  # the terminal may be gone
            print("\nfeed: ending", flush=True)
    finally:
        end(processes)


def main():
    parser = argparse.ArgumentParser(description="presenced with something to see")
    parser.add_argument("build", help="the folder of the build, or one that holds presenced and presence")
    parser.add_argument("--resp", default="127.0.0.1:7790", help="where Redis clients connect; another port if taken")
    parser.add_argument("--http", default="127.0.0.1:7791", help="where browsers connect; another port if taken")
    parser.add_argument("--seconds", type=float, default=0, help="end after so many seconds; 0: at Ctrl-C")
    parser.add_argument("--agent", nargs=2, metavar=("MODEL", "NAME"), help=argparse.SUPPRESS)
    parser.add_argument("--gateway", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    try:
        if arguments.agent:
            be_an_agent(arguments.resp, *arguments.agent)
        elif arguments.gateway:
            be_a_gateway(arguments.resp)
        else:
            run(arguments)
    except (ConnectionError, TimeoutError, KeyboardInterrupt):
        if not (arguments.agent or arguments.gateway):
            raise


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""watch_load.py PORT WATCHERS CHANGES_A_SECOND SECONDS - so many RESP3 watchers, each of a model of its own, which
changes so often a second; each change carries the time at which it was sent. Prints how many changes were sent and
seen, and the median and 99th percentile of the milliseconds between. SIGUSR1: what counts begins now; SIGTERM: it ends
now, before the SECONDS are over."""

import select
import signal
import socket
import statistics
import sys
import time

from rig import encode

DUE_EVERY_S = 0.002
MARK = b"user_data\r\n$19\r\n"  # and then the time at which its change was sent, in so many digits


def take(watcher, latencies):
    """One watcher's input; how many changes there were."""
    data, seen = watcher.recv(1 << 16), 0
    now = time.monotonic_ns()
    at = data.find(MARK)
    while at >= 0:
        begin = at + len(MARK)
        latencies.append(now - int(data[begin:begin + 19]))
        seen += 1
        at = data.find(MARK, begin)
    return seen


def main(port, watchers, rate, seconds):
    sockets, poll = {}, select.epoll()
    writer = socket.create_connection(("127.0.0.1", port))
    for number in range(watchers):
        watcher = socket.create_connection(("127.0.0.1", port))
        watcher.sendall(encode("HELLO", "3") + encode("PRESENCE.WATCH", "MODEL", f"watched-{number}"))
        time.sleep(0.0005)
        sockets[watcher.fileno()] = watcher
    time.sleep(0.5)
    for watcher in sockets.values():
        watcher.recv(1 << 16)  # what HELLO and WATCH say
        poll.register(watcher, select.EPOLLIN)
    poll.register(writer, select.EPOLLIN)
    # All of a change but for its time: this program has to be quicker than what it measures.
    changes = [encode("PRESENCE.CONNECT", "watched-server", f"watched-{number}", "agent", number, "DATA", "0" * 19)
               .removesuffix(b"0" * 19 + b"\r\n") for number in range(watchers)]
    latencies, seen, next_one = [], 0, 0
    began = time.monotonic()

    def end(*_):
        nonlocal seconds
        seconds = min(seconds, time.monotonic() - began)
    signal.signal(signal.SIGUSR1, lambda *_: latencies.clear())
    signal.signal(signal.SIGTERM, end)
    while (passed := time.monotonic() - began) < seconds + 0.5:
        due = int(min(passed, seconds) * watchers * rate)
        batch = []
        while next_one < due and len(batch) < 100:
            batch.append(b"%s%019d\r\n" % (changes[next_one % watchers], time.monotonic_ns()))
            next_one += 1
        if batch:
            writer.sendall(b"".join(batch))
        for descriptor, _ in poll.poll(DUE_EVERY_S):
            if descriptor == writer.fileno():
                writer.recv(1 << 16)
            else:
                seen += take(sockets[descriptor], latencies)
    latencies.sort()
    if not latencies:
        sys.exit("no change was seen")
    print(next_one, seen, statistics.median(latencies) / 1e6, latencies[int(len(latencies) * 0.99)] / 1e6)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))

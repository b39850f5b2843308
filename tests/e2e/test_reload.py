#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_reload.py PRESENCED SOURCE - SIGHUP: every limit that it takes over is in force at once, on every loop, and
every option that wants a restart is named. (Tokens and certificates: test_access.py, test_resp_tls.py.)"""

import http.client
import os
import re
import signal
import subprocess
import sys
import tempfile

import presenced
from presenced import Daemon, Error, encode, equal, holds, story

program, source = sys.argv[1:3]
MODEL = "2e15302a-bbdf-4077-8e65-116a5a0e0348"
THREADS = 3
folder = tempfile.TemporaryDirectory()
path = os.path.join(folder.name, "presenced.conf")


def write(**options):
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{name.replace('_', '-')} = {value}\n" for name, value in options.items())


class Reloaded(Daemon):
    """A presenced that is configured by the file."""

    def __init__(self, *more, **options):
        write(**options)
        super().__init__(program, "--config", path, "--threads", str(THREADS), "--http", "127.0.0.1:0", *more)

    def reload(self, outcome="event=reloaded", **options):
        write(**options)
        before = self.logged().count(outcome)
        self.process.send_signal(signal.SIGHUP)
        self.wait_until(lambda: self.logged().count(outcome) > before)
        for client in [self.client() for _ in range(THREADS)]:  # one on each loop: it was told before they came
            equal(client.ask("PING"), "PONG")
            client.close()

    def each_loop(self):
        return [self.client() for _ in range(THREADS)]

    def http(self, target="/v1/count", method="GET", body=None, **headers):
        port = int(re.search(r"protocol=http address=127\.0\.0\.1:(\d+)", self.logged()).group(1))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=presenced.WAIT_S)
        connection.request(method, target, body=body, headers=headers)
        status = connection.getresponse().status
        connection.close()
        return status


def lists_of_options():
    """What --help says that SIGHUP takes over, and what wants a restart."""
    text = subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout
    live, restart = re.search(r"and these:\n(.*)A restart is wanted by:\n(.*)", text, re.S).groups()
    return live.split(), restart.split()


# ------------------------------------------------------------------------------------------------------- stories --


def a_request_may_be_larger_or_smaller():
    with Reloaded(max_request_bytes="64k", max_request_words=100) as daemon:
        clients = daemon.each_loop()
        for client in clients:
            equal(client.ask("PING"), "PONG")
        daemon.reload(max_request_bytes="1m", max_request_words=1000)
        for client in clients:
            equal(client.ask("ECHO", "x" * 100000), "x" * 100000)
            equal(client.ask("PRESENCE.ACTIVITY", "gw", *range(500)), 0)
        daemon.reload(max_request_bytes="64k", max_request_words=100)
        for client, frame in zip(clients, (encode("ECHO", "x" * 100000), b"*500\r\n", b"*101\r\n")):
            client.send(frame)
            holds(client.rest().decode(), "-ERR Protocol error: ")


def http_requests_too():
    with Reloaded(max_request_bytes="4k", max_header_bytes="1k") as daemon:
        equal(daemon.http(X="x" * 2000), 431)
        large = {"method": "PUT", "target": "/v1/servers/gw/connections", "body": "[" + " " * 20000 + "]",
                 "Content-Type": "application/json"}
        equal(daemon.http(**large), 413)
        daemon.reload(max_request_bytes="1m", max_header_bytes="16k")
        for _ in range(2 * THREADS):
            equal(daemon.http(X="x" * 2000), 200)
            equal(daemon.http(**large), 200)


def replies_may_wait_longer_or_shorter():
    """The reply is far more than the kernel takes for one who does not read yet. (Who keeps pace is sent all of it.)"""
    with Reloaded(max_output_bytes="64k", max_request_bytes="64m") as daemon:
        daemon.reload(max_output_bytes="64m", max_request_bytes="64m")
        clients, asked, before = daemon.each_loop(), [], daemon.info("total_commands_processed")
        for client in clients:
            client.send(encode("ECHO", "v" * 30000000))
        # They were run once more were than the questions after it.
        daemon.wait_until(lambda: daemon.info("total_commands_processed") - before > len(asked) + THREADS
                          or asked.append(1))
        for client in clients:
            equal(len(client.reply()), 30000000)
        daemon.reload(max_output_bytes="64k", max_request_bytes="64m")
        for client in clients:
            client.send(encode("ECHO", "v" * 30000000))
        daemon.wait_until(lambda: daemon.logged().count('why="reads too slowly"') == THREADS)


def more_clients_and_watchers_may_come():
    with Reloaded(max_clients=4, max_watchers=1) as daemon:
        clients = daemon.each_loop()
        for client in clients:
            equal(client.ask("HELLO", 3)["proto"], 3)
        assert not isinstance(clients[0].ask("PRESENCE.WATCH"), Error)
        holds(clients[1].ask("PRESENCE.WATCH"), "BUSY max-watchers")
        daemon.client()
        equal(daemon.client().rest(), b"-BUSY max-clients is reached\r\n")
        write(max_clients=20, max_watchers=2)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until(lambda: "event=reloaded" in daemon.logged())
        assert not isinstance(clients[1].ask("PRESENCE.WATCH"), Error)
        for client in [daemon.client() for _ in range(10)]:
            equal(client.ask("PING"), "PONG")


def more_may_be_recorded():
    with Reloaded(max_server_connections=1, max_model_names=1, max_list_bytes="64k") as daemon:
        clients = daemon.each_loop()
        values = [word for number in range(1000) for word in (MODEL, "a", number, 0, "")]

        def connect(server, agent, number):
            return [client.ask("PRESENCE.CONNECT", server, MODEL, agent, number) for client in clients]
        equal(connect("gw", "a", 1), [1, 0, 0])
        for reply in connect("gw", "a", 2):
            holds(reply, "BUSY max-server-connections (1)")
        for reply in connect("other", "b", 1):
            holds(reply, "BUSY max-model-names (1)")
        equal(clients[0].ask("PRESENCE.UPDATESERVER", "list", "BEGIN"), "OK")
        holds(clients[0].ask("PRESENCE.UPDATESERVER", "list", "ADD", 1000, *values), "BUSY max-list-bytes")
        daemon.reload(max_server_connections=0, max_model_names=2, max_list_bytes="1m")
        equal(connect("gw", "a", 2), [1, 0, 0])
        equal(connect("other", "b", 1), [1, 0, 0])
        equal(clients[0].ask("PRESENCE.UPDATESERVER", "list", "BEGIN"), "OK")
        equal(clients[0].ask("PRESENCE.UPDATESERVER", "list", "ADD", 1000, *values), 1000)
        equal(clients[0].ask("PRESENCE.UPDATESERVER", "list", "COMMIT"), 1000)


def the_record_may_be_larger_or_smaller():
    """Given limits of the record that are lowered below what it has, then that stays, and nothing is added; once they are
    raised, it is."""
    with Reloaded(max_connections=0) as daemon:
        client = daemon.client()

        def connect(agent, number):
            return client.ask("PRESENCE.CONNECT", "gw", MODEL, agent, number)
        equal([connect("a", number) for number in range(5)], [1] * 5)
        daemon.reload(max_connections=3)
        holds(connect("a", 5), "BUSY a limit")
        equal((client.ask("PRESENCE.COUNT"), connect("a", 4)), (5, 0))
        equal(client.ask("PRESENCE.DISCONNECT", "gw", 0, 1, 2), 3)
        equal(connect("a", 5), 1)
        holds(connect("a", 6), "BUSY a limit")
        daemon.reload(max_connections=0, max_names=4)  # the node's own server is one of them
        equal(connect("a", 6), 1)
        holds(connect("b", 7), "BUSY a limit")
        daemon.reload(max_names=0, max_record_bytes=1)
        client.send(b"".join(encode("PRESENCE.CONNECT", "gw", MODEL, f"c-{number}", number)
                             for number in range(100, 30100)))
        replies = [client.reply() for _ in range(30000)]
        holds(replies[-1], "BUSY a limit")
        equal(client.ask("PRESENCE.DISCONNECT", "gw", 3), 1)
        daemon.reload(max_record_bytes="1g")
        equal(connect("c", 3), 1)


def more_listings_are_kept():
    with Reloaded(max_listings=4) as daemon:
        client = daemon.client()
        for number in range(5):
            client.ask("PRESENCE.CONNECT", "gw", MODEL, f"a-{number}", number)

        def first_still_there():
            first = client.ask("PRESENCE.VALUES", "LIMIT", 1)[0]
            for _ in range(8):
                client.ask("PRESENCE.VALUES", "LIMIT", 1)
            return not isinstance(client.ask("PRESENCE.VALUES", "LIMIT", 1, "CURSOR", first), Error)
        equal(first_still_there(), False)
        daemon.reload(max_listings=64)
        equal(first_still_there(), True)


def times_may_be_shorter():
    """Given clients that were there before, when request-timeout and idle-timeout become short, then each is closed."""
    with Reloaded(request_timeout="1h", idle_timeout=0) as daemon:
        halves, idle = daemon.each_loop(), daemon.each_loop()
        for client in halves:
            client.send(b"*2\r\n$4\r\nECHO\r\n$100\r\n")
        for client in idle:
            equal(client.ask("PING"), "PONG")
        daemon.reload(request_timeout="300ms", idle_timeout=0)
        for client in halves:
            assert client.is_closed()
        for client in idle:
            equal(client.ask("PING"), "PONG")
        daemon.reload(request_timeout="300ms", idle_timeout="400ms")
        for client in idle:
            assert client.is_closed()


def a_peer_may_be_silent_for_longer():
    """The kernel's table tells in how many hundredths of a second it asks next."""
    def next_question_s(daemon):
        client = daemon.client()
        equal(client.ask("PING"), "PONG")
        port = client.socket.getsockname()[1]
        with open("/proc/net/tcp", encoding="ascii") as table:
            (end,) = [line.split() for line in table
                      if f":{daemon.port:04X} " in line and line.split()[2].endswith(f":{port:04X}")]
        return int(end[5].split(":")[1], 16) / 100
    with Reloaded(keepalive="60s") as daemon:
        assert next_question_s(daemon) <= 60
        daemon.reload(keepalive="5000s")
        assert 4000 < next_question_s(daemon) <= 5000


def the_log_may_tell_more():
    """`reloaded` is of level info."""
    with Reloaded(log_level="info") as daemon:
        daemon.reload('event="option taken over" option=log-level', log_level="debug")


def what_wants_a_restart_is_named():
    """Given every option of the file changed at once, then each is said to be taken over, or to want a restart; one that
    did not change is not spoken of; and a mistake anywhere keeps all of it out."""
    live, restart = lists_of_options()
    values = {"max-clients": "9000", "max-request-bytes": "1m", "max-request-words": "1000", "max-output-bytes": "1m",
              "max-watchers": "10", "max-listings": "10", "max-long-commands": "10", "max-header-bytes": "2k", "idle-timeout": "1h",
              "keepalive": "61s", "request-timeout": "31s", "report-timeout": "1m", "max-list-bytes": "1m", "max-server-connections": "5",
              "max-model-names": "5", "resp": "127.0.0.1:1", "host-name": "x", "max-connections": "9",
              "max-names": "9", "max-record-bytes": "9m", "history-bytes": "1m", "left-agents": "5", "node": "x",
              "settle-time": "1s", "state": "/nonexistent", "state-interval": "1s", "insecure": "yes",
              "log-level": "debug", "nats": "nats://127.0.0.1:1", "cluster": "x", "nats-user": "x",
              "nats-password-file": "/nonexistent", "nats-token-file": "/nonexistent", "nats-credentials": "/nonexistent",
              "nats-tls-ca": "/nonexistent", "nats-tls-certificate": "/nonexistent", "nats-tls-key": "/nonexistent",
              "beat": "1s", "lease": "9s", "hold": "1s", "tell-activity": "1s", "forget-after": "1h", "tombstone": "2h"}
    beside = {"config", "http", "threads", "tokens", "tls-certificate", "tls-key", "tls-client-ca"}
    equal(set(values) | beside, set(live + restart))
    write()
    with Daemon(program, "--config", path, "--http", "127.0.0.1:0", "--resp=127.0.0.1:0") as daemon:
        write(**{**values, "max-watchers": "many"})
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until(lambda: 'event="not reloaded"' in daemon.logged())
        holds(daemon.logged(), "max-watchers: wants a number")
        equal(daemon.logged().count("option="), 0)
        values.pop("resp")  # the command line is stronger
        write(**values)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until(lambda: "event=reloaded" in daemon.logged())
        taken = re.findall(r'level=info event="option taken over" option=(\S+)', daemon.logged())
        named = re.findall(r'level=warning event="not reloaded" option=(\S+) why="wants a restart"', daemon.logged())
        equal(sorted(taken), sorted(set(values) & set(live)))
        equal(sorted(named), sorted(set(values) & set(restart)))


def the_papers_tell_which():
    """docs/operations.md and the man page name the same options as --help."""
    live, restart = lists_of_options()
    with open(os.path.join(source, "docs/operations.md"), encoding="utf-8") as file:
        rows = re.findall(r"^\| (at once|at the next start) \| (.*) \|$", file.read(), re.M)
    told = {when: sorted(re.findall(r"`([a-z-]+)`", names)) for when, names in rows}
    equal(told, {"at once": sorted(live), "at the next start": sorted(restart)})
    with open(os.path.join(source, "man/man8/presenced.8"), encoding="utf-8") as file:
        page = re.search(r"^\.It Dv SIGHUP\n(.*?)^\.It Dv SIGTERM", file.read(), re.M | re.S).group(1)
    equal(sorted(re.findall(r"^\.Cm ([a-z-]+)", page, re.M)), sorted(live))


for function in (a_request_may_be_larger_or_smaller, http_requests_too, replies_may_wait_longer_or_shorter,
                 more_clients_and_watchers_may_come, more_may_be_recorded, the_record_may_be_larger_or_smaller, more_listings_are_kept,
                 times_may_be_shorter, a_peer_may_be_silent_for_longer, the_log_may_tell_more,
                 what_wants_a_restart_is_named, the_papers_tell_which):
    story(function.__name__.replace("_", " "), function)
presenced.end()

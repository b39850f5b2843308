#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_watch.py PRESENCED - watches over RESP3 pushes, in RESP2's subscribe form and as Server-Sent Events: nothing lost
or doubled, resumed by revision, reset when too old; many watchers; one that does not read is cut off and harms nobody."""

import contextlib
import json
import re
import resource
import signal
import socket
import sys
import threading
import time

import presenced
from presenced import equal, holds

MODEL = "2e15302a-bbdf-4077-8e65-116a5a0e0348"


def http_port(daemon):
    return int(re.search(r"protocol=http address=127\.0\.0\.1:(\d+)", daemon.logged()).group(1))


class Events:
    """A stream of Server-Sent Events, read by hand."""

    def __init__(self, daemon, query="", last_id=None, receive_buffer=0):
        self.client = presenced.Client(("127.0.0.1", http_port(daemon)), receive_buffer=receive_buffer)
        head = f"GET /v1/events{query} HTTP/1.1\r\nHost: localhost\r\n"
        self.client.send((head + (f"Last-Event-ID: {last_id}\r\n" if last_id else "") + "\r\n").encode())
        self.status = int(self.client.line().split()[1])
        self.headers = {}
        while line := self.client.line():
            name, value = line.decode().split(": ", 1)
            self.headers[name.lower()] = value
        self.text = ""

    def next(self):
        while "\n\n" not in self.text:
            length = int(self.client.line(), 16)
            self.text += self.client.exactly(length + 2)[:-2].decode()
        event, self.text = self.text.split("\n\n", 1)
        fields = dict(line.split(": ", 1) for line in event.split("\n") if ": " in line)
        if not fields:
            return self.next()  # a comment
        data = json.loads(fields["data"])
        equal(fields["event"], data["kind"])
        return fields["id"], data

    def close(self):
        self.client.close()


def watcher(daemon, *arguments, version=3):
    client = daemon.client()
    if version == 3:
        client.ask("HELLO", 3)
    return client, client.ask("PRESENCE.WATCH", *arguments)


def pushed(client):
    push = client.reply()
    assert isinstance(push, presenced.Push), push
    equal(push[:2], ["presence", "event"])
    return push[2]


def brief(event):
    return event["kind"], event["agent"], event.get("status", event.get("after"))


def pushes_tell_each_change(daemon):
    # Given a watcher of one server and a gateway
    gateway = daemon.client()
    client, answer = watcher(daemon, "SERVER", "gateway-1")
    equal(pushed(client), {"kind": "snapshot", "revision": answer["revision"]})
    # When connections of it, and of others, come and go
    gateway.ask("PRESENCE.CONNECT", "gateway-1", MODEL, "unit-a-0", 1, "DATA", "zone=1")
    gateway.ask("PRESENCE.CONNECT", "gateway-2", MODEL, "unit-b-0", 1)
    gateway.ask("PRESENCE.ACTIVITY", "gateway-1", 1)
    gateway.ask("PRESENCE.SERVERDOWN", "gateway-1")
    gateway.ask("PRESENCE.CONNECT", "gateway-1", MODEL, "unit-a-0", 1, "DATA", "zone=1")
    gateway.ask("PRESENCE.DISCONNECT", "gateway-1", 1)
    # Then each change of that server is told, with its facts, and none of the others
    first = pushed(client)
    equal({key: first[key] for key in ("kind", "model", "server", "agent", "connection_id", "status", "controller_agent",
                                       "user_data", "reason", "index")},
          {"kind": "connected", "model": MODEL, "server": "gateway-1", "agent": "unit-a-0", "connection_id": "1",
           "status": "alive", "controller_agent": False, "user_data": "zone=1", "reason": "connected", "index": 0})
    kinds = [pushed(client)["kind"] for _ in range(3)]
    equal(kinds, ["missing", "reconnected", "disconnected"])
    # And the connection still answers; and after UNWATCH it is told nothing
    equal(client.ask("PING"), "PONG")
    equal(client.ask("PRESENCE.UNWATCH"), "OK")
    gateway.ask("PRESENCE.SERVERDOWN", "gateway-2")
    equal(client.ask("PING"), "PONG")
    gateway.ask("PRESENCE.DISCONNECT", "gateway-2", 1)


def agents_are_first_in_last_out(daemon):
    gateway = daemon.client()
    client, _ = watcher(daemon, "MODEL", MODEL, "AGENTS")
    pushed(client)
    gateway.ask("PRESENCE.CONNECT", "gateway-1", MODEL, "unit-c-0", 10)
    gateway.ask("PRESENCE.CONNECT", "gateway-2", MODEL, "unit-c-0", 11)
    gateway.ask("PRESENCE.DISCONNECT", "gateway-1", 10)
    gateway.ask("PRESENCE.DISCONNECT", "gateway-2", 11)
    first, last = pushed(client), pushed(client)
    equal((first["before"], first["after"], first["reason"]), ("unknown", "alive", "connected"))
    equal((last["before"], last["after"], last["reason"]), ("alive", "unknown", "left"))
    equal(client.ask("PING"), "PONG")


def resp2_is_a_subscription(daemon):
    gateway = daemon.client()
    client, answer = watcher(daemon, "AGENT", "unit-d-0", version=2)
    equal(answer, ["subscribe", "presence", 1])
    equal(client.reply()[:2], ["message", "presence"])
    gateway.ask("PRESENCE.CONNECT", "gateway-1", MODEL, "unit-d-0", 20)
    kind, channel, text = client.reply()
    equal((kind, channel, brief(json.loads(text))), ("message", "presence", ("connected", "unit-d-0", "alive")))
    equal(client.ask("PING"), ["pong", ""])
    holds(client.ask("PRESENCE.COUNT"), "only PING")
    holds(client.ask("PRESENCE.ACTIVITY", "gateway-1", 20), "only PING")
    holds(client.ask("PRESENCE.SESSION", "gateway-2"), "only PING")
    equal(client.ask("PRESENCE.UNWATCH"), ["unsubscribe", "presence", 0])
    equal(client.ask("PRESENCE.COUNT", "AGENT", "unit-d-0"), 1)
    gateway.ask("PRESENCE.DISCONNECT", "gateway-1", 20)


def a_list_is_resumed_inside(daemon):
    # Given a whole list, which is one change of many connections, as one watcher saw it
    gateway = daemon.client()
    client, answer = watcher(daemon, "MODEL", "resumed")
    words = [word for number in range(30) for word in ("resumed", f"unit-{number:02}", number, 0, "")]
    equal(gateway.ask("PRESENCE.UPDATESERVER", "gateway-3", 30, *words), 30)
    pushed(client)
    seen = [pushed(client) for _ in range(30)]
    # When others resume after any of its events
    for upto in (0, 11, 29):
        after = f"{seen[upto]['revision']}.{seen[upto]['index']}"
        again, _ = watcher(daemon, "AFTER", after, "MODEL", "resumed")
        # Then they are told the rest, nothing lost and nothing doubled, by pushes and by Server-Sent Events
        equal([pushed(again)["agent"] for _ in range(29 - upto)], [event["agent"] for event in seen[upto + 1:]])
        equal(again.ask("PING"), "PONG")
        events = Events(daemon, "?model=resumed", last_id=after)
        equal([events.next()[1]["agent"] for _ in range(29 - upto)], [event["agent"] for event in seen[upto + 1:]])
        events.close()
    again, _ = watcher(daemon, "AFTER", answer["revision"], "MODEL", "resumed")
    equal([pushed(again)["agent"] for _ in range(30)], [event["agent"] for event in seen])


def events_are_server_sent(daemon):
    gateway = daemon.client()
    events = Events(daemon, "?agents=1&model=sent")
    equal((events.status, events.headers["content-type"]), (200, "text/event-stream"))
    position, snapshot = events.next()
    equal((position, snapshot["kind"]), (str(snapshot["revision"]), "snapshot"))
    gateway.ask("PRESENCE.CONNECT", "gateway-1", "sent", "<script>\u00e9", 30)
    position, event = events.next()
    equal((position, brief(event)), (f"{event['revision']}.{event['index']}", ("agent", "<script>\u00e9", "alive")))
    events.close()
    gateway.ask("PRESENCE.DISCONNECT", "gateway-1", 30)
    equal(Events(daemon, "?after=x").status, 400)
    equal(Events(daemon, "?agent=%01").status, 400)


def too_old_is_reset(daemon):
    gateway = daemon.client()
    client, _ = watcher(daemon, "AFTER", 1 << 60)
    reset = pushed(client)
    equal((reset["kind"], reset["revision"]), ("reset", client.ask("PRESENCE.VALUES", "LIMIT", 1)[2]))
    events = Events(daemon, last_id="18446744073709551615")
    equal(events.next()[1]["kind"], "reset")
    gateway.ask("PRESENCE.CONNECT", "gateway-1", MODEL, "unit-e-0", 40)
    equal(brief(pushed(client)), ("connected", "unit-e-0", "alive"))
    equal(brief(events.next()[1]), ("connected", "unit-e-0", "alive"))
    # Disabling forgets everything: whoever watches begins anew.
    gateway.ask("PRESENCE.DISABLE")
    equal((pushed(client)["kind"], events.next()[1]["kind"]), ("reset", "reset"))
    gateway.ask("PRESENCE.ENABLE")
    gateway.ask("PRESENCE.CONNECT", "gateway-1", MODEL, "unit-e-0", 41)
    equal(brief(pushed(client)), ("connected", "unit-e-0", "alive"))
    equal(brief(events.next()[1]), ("connected", "unit-e-0", "alive"))
    events.close()


def who_does_not_read_is_cut_off(program):
    with presenced.Daemon(program, "--max-output-bytes", "64k", "--http", "127.0.0.1:0") as daemon:
        # Given watchers, over RESP and HTTP, that read nothing, and one that does
        silent = daemon.client(receive_buffer=4096)
        silent.ask("HELLO", 3)
        silent.ask("PRESENCE.WATCH")
        unread = Events(daemon, receive_buffer=4096)
        reading, _ = watcher(daemon, "AGENT", "unit-0")
        pushed(reading)
        before = daemon.descriptors()
        # When more changes come than may wait for them
        gateway = daemon.client()
        data = "x" * 1000
        for number in range(12000):
            gateway.send(presenced.encode("PRESENCE.CONNECT", "gateway-1", MODEL, f"unit-{number}", number, "DATA", data))
            equal(gateway.reply(), 1)
        # Then they are cut off, which is logged, and gives back their descriptors; the others have lost nothing
        daemon.wait_until(lambda: daemon.logged().count("reads too slowly") == 2)
        assert silent.is_closed() and unread.client.is_closed()
        equal(brief(pushed(reading)), ("connected", "unit-0", "alive"))
        daemon.wait_until(lambda: daemon.descriptors() <= before - 4 + 1)
        equal(gateway.ask("PRESENCE.COUNT"), 12000)


def who_reads_is_told_a_list_of_any_size(program):
    """Given watchers, over RESP and HTTP, when a list that is larger than what may wait for them becomes visible at once,
    and they begin to read it a while later, then each is told all of it."""
    many, data = 500, "x" * 65535
    with presenced.Daemon(program, "--http", "127.0.0.1:0") as daemon:
        gateway = daemon.client()
        client, _ = watcher(daemon)
        pushed(client)
        events = Events(daemon)
        equal(events.next()[1]["kind"], "snapshot")
        gateway.ask("PRESENCE.UPDATESERVER", "gateway-1", "BEGIN")
        for number in range(many):
            gateway.ask("PRESENCE.UPDATESERVER", "gateway-1", "ADD", 1, MODEL, f"unit-{number}", number, 0, data)
        equal(gateway.ask("PRESENCE.UPDATESERVER", "gateway-1", "COMMIT"), many)
        time.sleep(0.3)
        seen, seen_too = [], []
        reader = threading.Thread(target=lambda: seen_too.extend(events.next()[1]["connection_id"] for _ in range(many)))
        reader.start()
        for _ in range(many):
            seen.append(pushed(client)["connection_id"])
        reader.join()
        equal((len(set(seen)), sorted(seen)), (many, sorted(seen_too)))
        assert "cut off" not in daemon.logged(), daemon.logged()
        # And what comes then is told as ever
        gateway.ask("PRESENCE.CONNECT", "gateway-1", MODEL, "unit-late", many)
        equal((pushed(client)["agent"], events.next()[1]["agent"]), ("unit-late", "unit-late"))
        events.close()


def a_change_is_told_before_the_next_input_is_served(program):
    """Given a history that holds a few large changes, and a presenced that finds many clients' inputs at once, each with
    such a change, when it has served them, then who watches was told all of it: it had its turn in between, and not only
    when most of it was forgotten."""
    many, data = 30, "x" * 60000
    with presenced.Daemon(program, "--history-bytes", "256k") as daemon:
        client, _ = watcher(daemon, "MODEL", "burst")
        pushed(client)
        gateways = [daemon.client() for _ in range(many)]
        for gateway in gateways:
            equal(gateway.ask("PING"), "PONG")
        daemon.process.send_signal(signal.SIGSTOP)
        for number, gateway in enumerate(gateways):
            gateway.send(presenced.encode("PRESENCE.CONNECT", "gateway-1", "burst", f"unit-{number}", number, "DATA", data))
        daemon.process.send_signal(signal.SIGCONT)
        for gateway in gateways:
            equal(gateway.reply(), 1)
        seen = [pushed(client) for _ in range(many)]
        equal({event["kind"] for event in seen}, {"connected"})
        equal({event["connection_id"] for event in seen}, {str(number) for number in range(many)})


def many_watchers_are_told(program):
    # Ten thousand, where the system gives a process so many descriptors, or root takes them: presenced takes two for each.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        if hard != resource.RLIM_INFINITY and hard < 21000:
            resource.setrlimit(resource.RLIMIT_NOFILE, (21000, 21000))
            hard = 21000
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    many = 10000 if hard == resource.RLIM_INFINITY else min(10000, (hard - 1000) // 2)
    print(f"# {many} watchers")
    with presenced.Daemon(program, "--threads", "2") as daemon:
        gateway = daemon.client()
        watchers = []
        for number in range(many):
            client = daemon.client()
            client.send(presenced.encode("HELLO", 3) + presenced.encode("PRESENCE.WATCH", "AGENT", f"unit-{number % 500}"))
            watchers.append(client)
        for client in watchers:
            client.reply(), client.reply(), pushed(client)
        for number in range(500):
            gateway.ask("PRESENCE.CONNECT", "gateway-1", MODEL, f"unit-{number}", number)
        gateway.ask("PRESENCE.SERVERDOWN", "gateway-1")
        for number, client in enumerate(watchers):
            equal([brief(pushed(client)) for _ in range(2)],
                  [("connected", f"unit-{number % 500}", "alive"), ("missing", f"unit-{number % 500}", "missing")])
        equal(daemon.info("watches"), many)
        daemon.close_clients()
        daemon.wait_until(lambda: daemon.info("watches") == 0)


def watchers_are_limited(program):
    with presenced.Daemon(program, "--max-watchers", "2", "--http", "127.0.0.1:0") as daemon:
        first, _ = watcher(daemon)
        second, _ = watcher(daemon)
        holds(daemon.client().ask("PRESENCE.WATCH"), "BUSY max-watchers")
        equal(Events(daemon).status, 503)
        pushed(first)
        first.ask("PRESENCE.WATCH")  # in place of its own
        pushed(first)
        first.ask("PRESENCE.UNWATCH")
        events = Events(daemon)
        equal(events.status, 200)
        events.close()


def half_a_request_is_closed(program):
    with presenced.Daemon(program, "--request-timeout", "1s", "--http", "127.0.0.1:0") as daemon:
        slow = socket.create_connection(("127.0.0.1", http_port(daemon)), presenced.WAIT_S)
        slow.sendall(b"GET / HTTP/1.1\r\n")
        closed = False
        for _ in range(200):  # a byte now and then does not keep it open
            try:
                slow.sendall(b"X")
                time.sleep(0.05)
            except OSError:
                closed = True
                break
        assert closed
        slow.close()
        events = Events(daemon)  # a stream is no half request
        events.next()
        time.sleep(2.5)
        daemon.client().ask("PRESENCE.CONNECT", "gateway-1", MODEL, "unit-f-0", 1)
        equal(brief(events.next()[1]), ("connected", "unit-f-0", "alive"))
        events.close()


def a_stop_ends_streams(program):
    with presenced.Daemon(program, "--threads", "3", "--http", "127.0.0.1:0") as daemon:
        # Given streams and watchers on every loop, and a report that is being sent
        gateway = daemon.client()
        for number in range(3000):
            gateway.send(presenced.encode("PRESENCE.CONNECT", "gateway-1", f"model-{number}", "unit-0", number))
        for _ in range(3000):
            equal(gateway.reply(), 1)
        streams = [Events(daemon) for _ in range(12)]
        for stream in streams:
            equal(stream.next()[1]["kind"], "snapshot")
        watchers = [watcher(daemon)[0] for _ in range(6)]
        report = presenced.Client(("127.0.0.1", http_port(daemon)), receive_buffer=4096)
        report.send(b"GET /report HTTP/1.1\r\nHost: localhost\r\n\r\n")
        report.line()
        # When presenced is asked to stop, then it does, in time and with all of it freed; streams end as HTTP wants it
        daemon.stop()
        for stream in streams:
            assert stream.client.rest().endswith(b"0\r\n\r\n")
        for client in watchers:
            assert client.is_closed()
        report.close()


def main(program):
    for threads in ("1", "3"):
        with presenced.Daemon(program, "--threads", threads, "--http", "127.0.0.1:0") as daemon:
            for each in (pushes_tell_each_change, agents_are_first_in_last_out, resp2_is_a_subscription,
                         a_list_is_resumed_inside, events_are_server_sent, too_old_is_reset):
                presenced.story(f"{each.__name__.replace('_', ' ')}, {threads} threads", each, daemon)
    for each in (who_does_not_read_is_cut_off, who_reads_is_told_a_list_of_any_size,
                 a_change_is_told_before_the_next_input_is_served, many_watchers_are_told,
                 watchers_are_limited, half_a_request_is_closed, a_stop_ends_streams):
        presenced.story(each.__name__.replace("_", " "), each, program)
    sys.exit(presenced.failed > 0 or presenced.told == 0)


if __name__ == "__main__":
    main(sys.argv[1])

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lives with presenced as a bad day would have it, and then asks whether everything is right.

    tests/soak/soak.py PRESENCED [--seconds N] [--seed N]

For N seconds (60) random clients do at random what clients do: gateways bind, report, send lists, die, come back with an
older or a newer epoch; agents join and vanish; strangers write to what is not theirs; watchers open and read nothing;
and garbage arrives on all listeners. Half of the time they come by loopback as it is, half by TLS and by unix sockets, with
tokens of many roles. Every reply is compared with what a model kept here says. Again and again, and at
the end, all is let go, and then the daemon must hold exactly what the model holds, connection by connection, with no
client, watch, list or descriptor left; it must end with status 0, so that a sanitizer's finding or a leak fails; and a
second one must come back from its state with all of it missing.

The seed is printed; the same one makes the same choices (what the kernel makes of them in time is its own)."""

import argparse
import hashlib
import http.client
import json
import os
import random
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import presenced  # noqa: E402  (beside it, not installed)
from presenced import Error, equal  # noqa: E402

MODELS = ["2e15302a-bbdf-4077-8e65-116a5a0e0348", "7ffa7cd6-9b1e-4b1e-a441-7b2b5c1f0000", "8419cd78-4993-4c3a-928e-c646226beeee"]
GRACE_MS = 300
IDS = 400
ROUND_S = 10


HELD, FREE = [f"gw-{i}" for i in range(8)], [f"free-{i}" for i in range(4)]

# Who comes, and what those may where tokens are in use. A token is its name.
ROLES = {"asker": ["admin"], "gateway": [f"report:{name}" for name in HELD],
         "writer": [f"report:{name}" for name in HELD + FREE + ["node-0"]] + ["read"],
         "stranger": ["report:free-0", f"model:{MODELS[1]}"], "agent": [f"join:{model}" for model in MODELS],
         "watcher": [f"model:{MODELS[0]}"]}


class Doors:
    """Where clients come in: plain on loopback, or by TLS and unix sockets with a token each."""

    def __init__(self, folder, guarded):
        self.folder, self.guarded = folder, guarded
        self.unix = {protocol: os.path.join(folder, protocol) for protocol in ("resp", "http")}
        self.context = None

    def options(self):
        if not self.guarded:
            return ["--http", "127.0.0.1:0"]
        chain, key, tokens = (os.path.join(self.folder, name) for name in ("chain.pem", "key.pem", "tokens"))
        if not os.path.exists(tokens):
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                            "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout",
                            key, "-out", chain], check=True, capture_output=True, timeout=presenced.WAIT_S)
            with open(tokens, "w", encoding="ascii") as file:
                for name, roles in ROLES.items():
                    file.write(f"{name} sha256:{hashlib.sha256(name.encode()).hexdigest()} {' '.join(roles)}\n")
        self.context = ssl.create_default_context(cafile=chain)
        return [f"--resp=127.0.0.1:0,unix:{self.unix['resp']}", f"--http=127.0.0.1:0,unix:{self.unix['http']}",
                "--tls-certificate", chain, "--tls-key", key, "--tokens", tokens]

    def opened(self, daemon):
        self.ports = {"resp": daemon.port, "http": int(re.search(
            r"protocol=https? address=127\.0\.0\.1:(\d+)", daemon.logged()).group(1))}

    def wrap(self, plain):
        return self.context.wrap_socket(plain, server_hostname="localhost")

    def raw(self, protocol, choice, spoken=True):
        """A client of a listener, which says nothing yet: of TLS, unless it does not even speak that."""
        if self.guarded and choice < 0.5:
            return presenced.Client(self.unix[protocol])
        return presenced.Client(("127.0.0.1", self.ports[protocol]), wrap=self.wrap if self.guarded and spoken else None)

    def client(self, role, choice):
        client = self.raw("resp", choice)
        if self.guarded:
            equal(client.ask("AUTH", role), "OK")
        return client

    def http(self, role, choice):
        connection = http.client.HTTPConnection("localhost", self.ports["http"], timeout=presenced.WAIT_S)
        connection.sock = self.raw("http", choice).socket
        return connection, {"Authorization": f"Bearer {role}"} if self.guarded else {}


class Value:
    def __init__(self, model, agent, data=""):
        self.model, self.agent, self.data = model, agent, data
        self.alive = True


class Server:
    """What the daemon should hold of a server, once every grace is over. During one it still shows alive who will be
    missing at its end unless stated again: so a drop makes all missing here at once."""

    def __init__(self, name):
        self.name, self.values = name, {}
        self.epoch = 0
        self.client = None  # the holder, of servers that are held
        self.gathered = None
        self.touched = set()
        self.waits = False  # a grace runs, or may

    def down(self):
        for value in self.values.values():
            value.alive = False

    def connect(self, number, value):
        new = number not in self.values
        self.values[number] = value
        self.touched.add(number)
        return int(new)

    def disconnect(self, number):
        self.touched.add(number)  # also if it is not recorded: it is not to come alive by a list
        return int(self.values.pop(number, None) is not None)


class Soak:
    def __init__(self, daemon, doors, seed):
        self.daemon, self.doors = daemon, doors
        self.random = random.Random(seed)
        self.held = [Server(name) for name in HELD]
        self.free = [Server(name) for name in FREE]
        self.joined = {}  # client -> (id, model, agent)
        self.watchers = []
        self.asker = self.client("asker")
        self.writers = [self.client("writer") for _ in range(4)]
        self.done = {}

    # -- small things

    def count(self, what):
        self.done[what] = self.done.get(what, 0) + 1

    def value(self):
        return Value(self.random.choice(MODELS), f"unit-{self.random.randrange(200)}",
                     self.random.choice(["", "zone=ü", "x" * self.random.randrange(3000)]))

    def number(self):
        return self.random.randrange(IDS)

    def client(self, role):
        return self.doors.client(role, self.random.random())

    def drop(self, client):
        """As a cable would, as a crash would, or in order."""
        if self.random.random() < 0.5:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()

    def open_clients(self):
        return 1 + len(self.writers) + len(self.joined) + len(self.watchers) + sum(s.client is not None for s in self.held)

    def until_drops_are_seen(self):
        """By the number of clients; so those go first whom the daemon may have cut off by itself."""
        for client in self.watchers:
            self.drop(client)
        self.watchers = []
        self.daemon.wait_until(lambda: self.info("connected_clients") == self.open_clients())

    def info(self, key):
        return int(re.search(rf"^{key}:(\d+)\r?$", self.asker.ask("INFO"), re.M).group(1))

    # -- writes, each with the reply that it must get

    def some_write(self, server, only_single):
        """A command, and a function that makes the model do it and gives the reply; None: any number."""
        number, value = self.number(), self.value()
        kind = self.random.choice(["connect"] * 6 + ["disconnect"] * 3 + ["activity"] * 4 +
                                  ([] if only_single else ["down", "drain"] + ["update"] * 2))
        self.count(kind)
        if kind == "connect":
            return (["PRESENCE.CONNECT", server.name, value.model, value.agent, number, "DATA", value.data],
                    lambda: server.connect(number, value))
        if kind == "disconnect":
            numbers = {self.number() for _ in range(self.random.randrange(1, 4))}
            return (["PRESENCE.DISCONNECT", server.name, *numbers],
                    lambda: sum(server.disconnect(each) for each in numbers))
        if kind == "activity":
            numbers = [self.number() for _ in range(self.random.randrange(1, 4))]
            return (["PRESENCE.ACTIVITY", server.name, *numbers], lambda: sum(each in server.values for each in numbers))
        if kind in ("down", "drain"):
            def down():
                alive = sum(each.alive for each in server.values.values())
                server.down()
                return None if server.waits else alive
            return ["PRESENCE.SERVERDOWN" if kind == "down" else "PRESENCE.DRAIN", server.name], down
        listed = {self.number(): self.value() for _ in range(self.random.randrange(60))}

        def update():
            server.values = dict(listed)
            return len(listed)
        return ["PRESENCE.UPDATESERVER", server.name, len(listed), *self.words(listed)], update

    @staticmethod
    def words(listed):
        return [word for number, each in listed.items() for word in (each.model, each.agent, number, 0, each.data)]

    def pipeline(self, client, server, only_single=False):
        writes = [self.some_write(server, only_single) for _ in range(self.random.randrange(1, 40))]
        client.send(b"".join(presenced.encode(*words) for words, _ in writes))
        for words, apply in writes:
            got, wanted = client.reply(), apply()
            assert got == wanted or (wanted is None and isinstance(got, int)), f"{words}: wanted {wanted}, got {got}"

    def http_write(self, server):
        number, value = self.number(), self.value()
        connection, headers = self.doors.http("writer", self.random.random())
        path = f"/v1/servers/{server.name}/connections/{number}"
        if self.random.random() < 0.6:
            body = json.dumps({"model": value.model, "agent": value.agent, "user_data": value.data})
            connection.request("PUT", path, body, {"Content-Type": "application/json", **headers})
            server.connect(number, value)
        else:
            connection.request("DELETE", path, headers=headers)
            server.disconnect(number)
        status = connection.getresponse().status
        assert status in (200, 201, 204, 404), status
        connection.close()
        self.count("http write")

    # -- what happens

    def report(self):
        server = self.random.choice(self.held)
        if server.client is None:
            self.bind(server)
        else:
            self.pipeline(server.client, server, only_single=server.gathered is not None)

    def report_freely(self):
        server = self.random.choice(self.free)
        if self.random.random() < 0.3:
            self.http_write(server)
        else:
            self.pipeline(self.random.choice(self.writers), server)

    def bind(self, server):
        """Comes to hold a server that nobody holds: as the same life, within its grace or not, or as a newer one."""
        newer = self.random.random() < 0.6 or server.epoch == 0
        if not newer:  # else it could join those who are about to be gone, and the server would not be down
            self.until_drops_are_seen()
        client = self.client("gateway")
        server.epoch += newer
        words = ["PRESENCE.SESSION", server.name, "EPOCH", server.epoch]
        if self.random.random() < 0.6:
            words += ["GRACE", GRACE_MS]
        equal(client.ask(*words), "OK")
        if newer:
            server.down()
        server.client = client
        self.count("bind")

    def lose(self):
        server = self.random.choice(self.held)
        if server.client is None:
            return
        if self.random.random() < 0.3:
            equal(server.client.ask("QUIT"), "OK")
            server.client.close()
        else:
            self.drop(server.client)
            server.waits = True
        server.client = server.gathered = None
        server.down()
        self.count("lose")

    def fight(self):
        """A second gateway: of an older epoch it is refused; of a newer it has the server, and the first has lost it."""
        server = self.random.choice(self.held)
        if server.client is None:
            return
        rival = self.client("gateway")
        if self.random.random() < 0.5:
            assert rival.ask("PRESENCE.SESSION", server.name, "EPOCH", server.epoch - 1).startswith("STALE ")
            assert rival.ask("PRESENCE.CONNECT", server.name, MODELS[0], "evil", 1).startswith("STALE ")
            self.drop(rival)
        else:
            server.epoch += 1
            equal(rival.ask("PRESENCE.SESSION", server.name, "EPOCH", server.epoch), "OK")
            assert server.client.ask("PRESENCE.CONNECT", server.name, MODELS[0], "evil", 1).startswith("STALE ")
            self.drop(server.client)
            server.client, server.gathered = rival, None
            server.down()
        self.count("fight")

    def gather(self):
        """A list in parts, with other writes between them."""
        server = self.random.choice(self.held)
        client = server.client
        if client is None:
            return
        if server.gathered is None:
            equal(client.ask("PRESENCE.UPDATESERVER", server.name, "BEGIN"), "OK")
            server.gathered, server.touched = {}, set()
        elif len(server.gathered) < 100 and self.random.random() < 0.7:
            part = {number: self.value() for number in (self.number() for _ in range(40)) if number not in server.gathered}
            server.gathered.update(part)
            equal(client.ask("PRESENCE.UPDATESERVER", server.name, "ADD", len(part), *self.words(part)),
                  len(server.gathered))
        elif self.random.random() < 0.2:
            equal(client.ask("PRESENCE.UPDATESERVER", server.name, "ABORT"), "OK")
            server.gathered = None
        else:
            equal(client.ask("PRESENCE.UPDATESERVER", server.name, "COMMIT"), len(server.gathered))
            kept = {number: each for number, each in server.values.items() if number in server.touched}
            kept.update({number: each for number, each in server.gathered.items() if number not in server.touched})
            server.values, server.gathered = kept, None
            self.count("list")

    def join(self):
        if len(self.joined) > 40:
            client = self.random.choice(list(self.joined))
            del self.joined[client]
            self.drop(client)
        else:
            client, value = self.client("agent"), self.value()
            number = client.ask("PRESENCE.JOIN", value.model, value.agent, "DATA", value.data)
            assert not isinstance(number, Error), number
            self.joined[client] = (int(number), value)
            equal(self.random.choice(list(self.joined)).ask("PING"), "PONG")
        self.count("join")

    def trespass(self):
        writer = self.random.choice(self.writers)
        server = self.random.choice(self.held)
        if server.client is not None:
            writer.send(b"".join(presenced.encode("PRESENCE.ACTIVITY", server.name, self.number()) for _ in range(5)))
            for _ in range(5):
                assert writer.reply().startswith("STALE ")
        assert writer.ask("PRESENCE.DISCONNECT", "node-0", 1).startswith("NOPERM ")
        if self.doors.guarded:
            self.trespass_by_role(server)
        self.count("trespass")

    def trespass_by_role(self, server):
        """What the tokens of others do not allow, and bad ones."""
        stranger = self.client("stranger")
        value = self.value()
        for words in (["PRESENCE.CONNECT", server.name, value.model, value.agent, 1], ["PRESENCE.SESSION", server.name],
                      ["PRESENCE.UPDATESERVER", server.name, 0], ["PRESENCE.JOIN", value.model, "evil"],
                      ["PRESENCE.VALUES", "MODEL", MODELS[0]], ["PRESENCE.WATCH", "MODEL", MODELS[2]], ["PRESENCE.DISABLE"],
                      ["INFO"]):
            answer = stranger.ask(*words)
            assert isinstance(answer, Error) and answer.startswith("NOPERM "), (words, answer)
        for row in stranger.ask("PRESENCE.VALUES", "LIMIT", 20)[1]:
            equal(dict(zip(row[::2], row[1::2]))["model"], MODELS[1])
        answer = stranger.ask("AUTH", "no such token")
        assert answer.startswith(("WRONGPASS ", "BUSY ")), answer
        connection, headers = self.doors.http("stranger", self.random.random())
        connection.request("DELETE", f"/v1/servers/{server.name}/connections/1", headers=headers)
        equal(connection.getresponse().status, 403)
        connection.close()
        self.drop(stranger)
        self.count("trespass by role")

    def watch(self):
        """A watcher that reads little or nothing."""
        if len(self.watchers) > 10:
            self.drop(self.watchers.pop(self.random.randrange(len(self.watchers))))
            return
        client = self.client("watcher")
        client.send(presenced.encode("HELLO", 3) + presenced.encode("PRESENCE.WATCH", *self.random.choice(
            [[], ["AGENTS"], ["MODEL", MODELS[0]], ["SERVER", "gw-1"], ["AFTER", 1]])))
        self.watchers.append(client)
        self.count("watch")

    def sse(self):
        connection, headers = self.doors.http("watcher", self.random.random())
        connection.request("GET", "/v1/events", headers=headers)
        answer = connection.getresponse()
        equal(answer.status, 200)
        assert answer.read(10) != b""
        connection.close()
        self.count("sse")

    def page(self):
        """Asks for a list and does not come back for its end; and a status, a count, an agent."""
        self.random.choice(self.writers).ask("PRESENCE.VALUES", "LIMIT", 3)
        self.asker.ask("PRESENCE.AGENT", MODELS[0], "unit-1")
        self.asker.ask("PRESENCE.STATUS", MODELS[0], *[f"unit-{i}" for i in range(50)])
        self.count("page")

    GOOD = [presenced.encode("PING"), presenced.encode("PRESENCE.STATUS", MODELS[0], "unit-1"),
            presenced.encode("PRESENCE.VALUES", "LIMIT", 5), presenced.encode("HELLO", 3),
            presenced.encode("PRESENCE.UPDATESERVER", "junk", "BEGIN"), presenced.encode("PRESENCE.WATCH"),
            presenced.encode("PRESENCE.UPDATESERVER", "junk", "ADD", 1, MODELS[0], "unit-1", 1, 0, "x"),
            b"PRESENCE.COUNT MODEL x\r\n", b"*1\r\n$4\r\n", b"*-1\r\n", b"*100000\r\n", b"$5\r\n",
            b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET /report HTTP/1.1\r\n",
            b"PUT /v1/servers/junk/connections HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n[{\"a\"",
            b"POST /v1/servers/junk/activity HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n"]

    def garbage(self):
        """Bytes of no meaning, or of nearly one, to a listener, from somebody who goes at once. None of them can state
        anything: what is whole among them states nothing, and chance does not spell a command's name."""
        data = b"".join(self.random.choice(self.GOOD) for _ in range(self.random.randrange(1, 5)))
        data = bytearray(data if self.random.random() < 0.7 else self.random.randbytes(self.random.randrange(1, 5000)))
        for _ in range(self.random.randrange(4)):
            data[self.random.randrange(len(data))] = self.random.randrange(256)
        client = self.doors.raw(self.random.choice(["resp", "http"]), self.random.random(), self.random.random() < 0.5)
        try:
            client.send(bytes(data[:self.random.randrange(len(data)) + 1]))
            if self.random.random() < 0.3:
                client.socket.settimeout(0.02)
                client.socket.recv(1 << 16)
        except OSError:
            pass  # hung up on, or no answer: both are good
        self.drop(client)
        self.count("garbage")

    # -- the truth

    def check(self):
        """Lets go of all that is open, waits until that was seen and every grace is over, and compares."""
        for server in self.held:
            if server.client is not None:
                self.drop(server.client)
                server.client = server.gathered = None
                server.down()
                server.waits = True
        for client in self.joined:
            self.drop(client)
        self.joined = {}
        self.until_drops_are_seen()
        wanted = {(server.name, number): (each.model, each.agent, each.data, "alive" if each.alive else "missing")
                  for server in self.held + self.free for number, each in server.values.items()}
        alive = sum(each[3] == "alive" for each in wanted.values())
        self.daemon.wait_until(lambda: self.asker.ask("PRESENCE.COUNT", "STATUS", "alive") <= alive)
        self.compare(wanted)
        for server in self.held:
            server.waits = False
        self.daemon.wait_until(lambda: self.info("watches") == 0)
        equal(self.asker.ask("PRESENCE.CHECK")[:2], ["good", 1])
        self.count("check")

    def listed(self):
        cursor, got = "0", {}
        while True:
            words = [] if cursor == "0" else ["CURSOR", cursor]
            reply = self.asker.ask("PRESENCE.VALUES", "LIMIT", 500, *words)
            reply = dict(zip(reply[::2], reply[1::2])) if isinstance(reply[0], str) and reply[0] == "cursor" else reply
            cursor, values = (reply["cursor"], reply["values"]) if isinstance(reply, dict) else reply[:2]
            for each in values:
                each = each if isinstance(each, dict) else dict(zip(each[::2], each[1::2]))
                key = each["server"], int(each["connection_id"])
                assert key not in got, f"{key} is listed twice"
                got[key] = each["model"], each["agent"], each["user_data"], each["status"]
            if cursor in (None, "0", ""):
                return got

    def compare(self, wanted):
        got = self.listed()
        wrong = {key: (wanted.get(key), got.get(key)) for key in set(wanted) | set(got) if wanted.get(key) != got.get(key)}
        assert not wrong, f"{len(wrong)} of {len(wanted)} differ (wanted, got): {list(wrong.items())[:5]}"
        equal(self.asker.ask("PRESENCE.COUNT"), len(wanted))
        equal(self.asker.ask("PRESENCE.COUNT", "STATUS", "alive"), sum(each[3] == "alive" for each in wanted.values()))
        for model in MODELS:
            equal(self.asker.ask("PRESENCE.COUNT", "MODEL", model), sum(each[0] == model for each in wanted.values()))
            agents = sorted({each[1] for each in wanted.values()})
            best = {}
            for each in wanted.values():
                if each[0] == model and best.get(each[1]) != "alive":
                    best[each[1]] = each[3]
            if agents:
                equal(self.asker.ask("PRESENCE.STATUS", model, *agents), [best.get(agent, "unknown") for agent in agents])

    def live(self, seconds):
        acts = [self.report] * 30 + [self.report_freely] * 15 + [self.gather] * 12 + [self.join] * 8 + [self.lose] * 4 + \
            [self.fight] * 3 + [self.trespass] * 3 + [self.watch] * 3 + [self.sse] + [self.page] * 3 + [self.garbage] * 15
        end, checked = time.monotonic() + seconds, time.monotonic()
        while time.monotonic() < end:
            self.random.choice(acts)()
            if time.monotonic() - checked > ROUND_S:
                self.check()
                checked = time.monotonic()
        self.check()


def start(program, doors):
    daemon = presenced.Daemon(program, "--threads", "2", "--node", "node-0", "--state", os.path.join(doors.folder, "state"),
                              "--state-interval", "500ms", "--request-timeout", "3s", "--settle-time", "1s",
                              "--max-output-bytes", "1m", "--max-list-bytes", "64m", *doors.options())
    doors.opened(daemon)
    return daemon


def soak(program, seconds, seed, folder, guarded):
    os.mkdir(folder)
    doors = Doors(folder, guarded)
    with start(program, doors) as daemon:
        life = Soak(daemon, doors, seed)
        life.report(), life.check()
        descriptors = daemon.descriptors()
        life.live(seconds)
        daemon.wait_until(lambda: daemon.descriptors() <= descriptors)
        print("soak:", ", ".join(f"{count} × {what}" for what, count in sorted(life.done.items())), flush=True)
        values = life.listed()
        life.asker.ask("QUIT")
    with start(program, doors) as daemon:
        life.daemon, life.asker = daemon, doors.client("asker", 1)
        equal({key: each[:3] for key, each in life.listed().items()}, {key: each[:3] for key, each in values.items()})
        equal(life.asker.ask("PRESENCE.COUNT", "STATUS", "alive"), 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    asked = parser.parse_args()
    scratch = tempfile.mkdtemp(prefix="presence-soak.")
    print(f"# {asked.seconds:.0f} s, seed {asked.seed}", flush=True)
    try:
        for guarded in (False, True):
            how = "with TLS, unix sockets and tokens" if guarded else "on loopback"
            presenced.story(f"everything is right after {asked.seconds / 2:.0f} bad seconds {how}", soak, asked.program,
                            asked.seconds / 2, asked.seed, os.path.join(scratch, "guarded" if guarded else "plain"), guarded)
    finally:
        shutil.rmtree(scratch)
    presenced.end()

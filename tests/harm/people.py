# SPDX-License-Identifier: Apache-2.0
"""A gateway or an agent as a process of its own, which somebody will kill.

    people.py gateway SERVER EPOCH GRACE_MS list|single PATIENCE_S ADDRESS...
    people.py agent MODEL NAME PATIENCE_S ADDRESS...

ADDRESS is a unix socket of a node (RESP); the first that answers is taken, and the next one when it is lost, or has not
answered for PATIENCE_S. What a gateway is told on its standard input it tells its node, one after the other:

    connect ID MODEL AGENT DATA     disconnect ID     move

and `done N` on its standard output says that the first N of them have been answered. Until an answer came it tells the
same again, to the next node if need be. Once bound to another it states all that it holds: as a list, or singly.
`bound N` says to which address. An agent says so too, for its own connection is what it is."""

import os
import select
import socket
import sys
import time

BEAT_S = 0.3
AGAIN_S = 0.05


class Lost(Exception):
    pass


class Connection:
    """RESP2 to one node; whatever goes wrong is Lost."""

    def __init__(self, address, patience):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(patience)
        try:
            self.socket.connect(address)
        except OSError as error:
            self.socket.close()
            raise Lost(str(error)) from None
        self.file = self.socket.makefile("rb")

    def call(self, *words):
        words = [str(word).encode() for word in words]
        data = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        try:
            self.socket.sendall(data)
            return self.reply()
        except OSError as error:
            raise Lost(str(error)) from None

    def reply(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise Lost("closed")
        if line[:1] in b":+":
            return line[1:-2].decode()
        if line[:1] == b"$":
            return self.file.read(int(line[1:]) + 2)[:-2].decode()
        if line[:1] == b"*":
            return [self.reply() for _ in range(int(line[1:]))]
        raise Lost(line[1:-2].decode())

    def close(self):
        self.file.close()
        self.socket.close()


class Client:
    """Somebody with a node to talk to, and others for when that is lost."""

    def __init__(self, patience, addresses):
        self.patience, self.addresses = patience, addresses
        self.at, self.connection = 0, None

    def begin(self):
        raise NotImplementedError

    def bind(self):
        """Is connected when it returns, and has begun."""
        while not self.connection:
            try:
                self.connection = Connection(self.addresses[self.at], self.patience)
                self.begin()
                say(f"bound {self.at}")
            except Lost as error:
                self.leave(f"not bound to {self.at}: {error}")
                time.sleep(AGAIN_S)

    def leave(self, why):
        print(f"{sys.argv[2:4]}: {why}", file=sys.stderr, flush=True)
        if self.connection:
            self.connection.close()
        self.connection = None
        self.at = (self.at + 1) % len(self.addresses)

    def call(self, *words):
        """Until it is answered, by whichever node."""
        while True:
            self.bind()
            try:
                return self.connection.call(*words)
            except Lost as error:
                self.leave(f"lost at {words[0]}: {error}")


class Agent(Client):
    def __init__(self, model, name, patience, *addresses):
        super().__init__(float(patience), addresses)
        self.who = (model, name)

    def begin(self):
        self.connection.call("PRESENCE.JOIN", *self.who)

    def live(self):
        while True:
            self.call("PING")
            time.sleep(BEAT_S)


class Gateway(Client):
    def __init__(self, server, epoch, grace, manner, patience, *addresses):
        super().__init__(float(patience), addresses)
        self.server, self.epoch, self.grace, self.manner = server, epoch, grace, manner
        self.held, self.done = {}, 0

    def begin(self):
        self.connection.call("PRESENCE.SESSION", self.server, "EPOCH", self.epoch, "GRACE", self.grace)
        if self.manner == "list":
            words = [word for id, (model, agent, data) in self.held.items() for word in (model, agent, id, 0, data)]
            self.connection.call("PRESENCE.UPDATESERVER", self.server, len(self.held), *words)
            return
        for id, (model, agent, data) in self.held.items():
            self.connection.call("PRESENCE.CONNECT", self.server, model, agent, id, "DATA", data)

    def obey(self, words):
        if words[0] == "connect":
            self.call("PRESENCE.CONNECT", self.server, words[2], words[3], words[1], "DATA", words[4])
            self.held[words[1]] = words[2:5]
        elif words[0] == "disconnect":
            self.call("PRESENCE.DISCONNECT", self.server, words[1])
            del self.held[words[1]]
        else:
            old, self.connection = self.connection, None  # left open: it is half open for whom it leaves
            self.at = (self.at + 1) % len(self.addresses)
            self.bind()
            self.left = old
        self.done += 1
        say(f"done {self.done}")

    def beat(self):
        ids = list(self.held)
        self.call(*(["PRESENCE.ACTIVITY", self.server, *ids] if ids else ["PING"]))

    def live(self):
        self.bind()
        rest = b""
        while True:
            if not select.select([0], [], [], BEAT_S)[0]:
                self.beat()
                continue
            more = os.read(0, 1 << 16)
            if not more:
                return
            *lines, rest = (rest + more).split(b"\n")
            for line in lines:
                self.obey(line.decode().split())


def say(text):
    os.write(1, text.encode() + b"\n")


if __name__ == "__main__":
    {"gateway": Gateway, "agent": Agent}[sys.argv[1]](*sys.argv[2:]).live()

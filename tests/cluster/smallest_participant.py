#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The smallest participant of docs/cluster-protocol.md: states one server, follows nobody. Its steps are numbered as
there; what it computes is in participant_parts.py.

    smallest_participant.py CLUSTER_PROTO

Driven by lines: `join NODE port= server= interval= lease= [epoch=]`, then `NODE connect MODEL AGENT ID`,
`NODE disconnect ID`, `NODE complete`, `NODE look`, `NODE leave`; each is answered by one line of JSON."""

import importlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time

from participant_parts import (  # noqa: E402
    ASK_CHANGES, ASK_KNOWN, ASK_STANDS, ASK_STATE, COMPLETE, CONNECT, DISCONNECT, DOWN, DRAINED, MASK, VALUES_A_CHUNK,
    Nats, nodes_named, random64, term)

DEBIAN_PYTHON = "/usr/bin/python3"
try:
    import google.protobuf.message
except ImportError:
    if os.path.realpath(sys.executable) != os.path.realpath(DEBIAN_PYTHON) and os.path.exists(DEBIAN_PYTHON):
        os.execv(DEBIAN_PYTHON, [DEBIAN_PYTHON, *sys.argv])  # another Python comes first, and has not Debian's modules
    sys.exit("python3-protobuf is not here (scripts/setup test)")


class Smallest:
    def __init__(self, wire, node, port, server, interval, lease, epoch=None):
        self.wire, self.node, self.server = wire, node, server.encode()
        self.interval, self.lease = int(interval) / 1000, int(lease) / 1000
        self.nats = Nats(int(port))  # 1
        for subject in ("beat.*", "stream.*", f"to.{node}.*"):
            self.nats.subscribe(f"presence.presence.{subject}")
        self.run, self.epoch = random64(), int(epoch or time.time() * 1000)  # 2
        self.connections, self.missing, self.stops, self.rumour = {}, False, None, None
        self.sequence = self.next_beat = self.memory = 0
        self.claim_anew(1)

    def claim_anew(self, turn):
        self.claim = self.epoch, turn, random64()
        self.number, self.complete, self.transfers, self.next_beat = 0, bool(self.connections), {}, 0

    def publish(self, lane, **body):
        message = self.wire.Message(version=1, node=self.node.encode(), run=self.run, **body)
        self.nats.publish(f"presence.presence.{lane}.{self.node}", message.SerializeToString())

    def its_claim(self):
        return self.wire.Claim(epoch=self.claim[0], turn=self.claim[1], random=self.claim[2])

    def stand(self):
        everything = sum(term(self.claim, id_, False, model, agent, b"")
                         for id_, (model, agent, _) in self.connections.items()) & MASK
        return self.wire.Stand(server=self.server, claim=self.its_claim(), number=self.number,
                               floor=self.number if self.missing else 0, connections=len(self.connections),
                               alive=0 if self.missing else len(self.connections), digest_all=everything,
                               digest_alive=0 if self.missing else everything, complete=self.complete)

    def beat(self, now, leaving=False):  # 3
        self.sequence += 1
        self.next_beat = now + self.interval
        self.publish("beat", beat=self.wire.Beat(
            sequence=self.sequence, nonce=random64(), interval_ms=round(self.interval * 1000),
            lease_ms=round(self.lease * 1000), parts=1, stands=[self.stand()], memory=self.memory, leaving=leaving))

    def state(self, models=(), **change):  # 4
        self.number += 1
        change = self.wire.Change(time=time.time_ns(), **change)
        self.publish("stream", changes=self.wire.Changes(server=self.server, claim=self.its_claim(), first=self.number,
                                                         models=models, changes=[change]))

    def connect(self, model, agent, number):
        self.connections[int(number)] = model.encode(), agent.encode(), time.time_ns()
        self.state([model.encode()], kind=CONNECT, id=int(number), agent=agent.encode())

    def disconnect(self, number):
        del self.connections[int(number)]
        self.state(kind=DISCONNECT, id=int(number))

    def all_told(self):
        self.complete = True
        self.state(kind=COMPLETE)

    def answer(self, asker, ask):
        mine = ask.server == self.server
        if ask.question == ASK_CHANGES and mine:  # 5
            if (ask.claim.epoch, ask.claim.turn, ask.claim.random) != self.claim or ask.after < self.number:
                self.publish(f"to.{asker}", changes=self.wire.Changes(server=self.server, claim=self.its_claim(),
                                                                      first=self.number))
        elif ask.question == ASK_STATE and mine:  # 6
            _, chunks = self.transfers.get(ask.transfer, (0, None)) if ask.missing else (0, None)
            for chunk in chunks or self.copy():
                if not chunks or any(one.first <= chunk.index <= one.last for one in ask.missing):
                    self.publish("state", chunk=chunk)
        elif ask.question in (ASK_KNOWN, ASK_STANDS):  # 7
            told = [self.stand()] if mine or ask.question == ASK_STANDS else []
            for one in told:
                one.holder = self.node.encode()
            self.publish(f"to.{asker}", known=self.wire.Known(tag=ask.tag, stands=told))

    def copy(self):
        now, transfer, chunks = time.monotonic(), random64(), []
        rows = sorted(self.connections.items())
        for at in range(0, max(1, len(rows)), VALUES_A_CHUNK // 4):
            chunk = self.wire.Chunk(server=self.server, claim=self.its_claim(), number=self.number, transfer=transfer,
                                    index=len(chunks), connections=len(rows))
            for id_, (model, agent, when) in rows[at : at + VALUES_A_CHUNK // 4]:
                chunk.models.append(model)
                chunk.values.add(id=id_, model=len(chunk.models) - 1, agent=agent, seen_ms=when // 10**6,
                                 seen_ns=when % 10**6)
            chunks.append(chunk)
        chunks[-1].last = True
        self.transfers = {id_: one for id_, one in self.transfers.items() if now - one[0] < 4 * self.lease}
        self.transfers[transfer] = now, chunks
        return chunks

    def meets(self, claim, told_only, now):  # 8
        claim = claim.epoch, claim.turn, claim.random
        if claim <= self.claim:
            return
        if not told_only:
            self.stops = "another node states it"
        elif self.rumour is None or claim > self.rumour[0]:
            self.rumour = claim, now

    def receive(self, subject, data, now):
        sender = subject.rsplit(".", 1)[-1]
        if sender == self.node or any(node != sender.encode() for node in nodes_named(data) or [b""]):
            return
        try:
            message = self.wire.Message.FromString(data)
        except google.protobuf.message.DecodeError:
            return
        kind = message.WhichOneof("body") if message.version == 1 else None
        if kind == "beat":
            self.memory = message.beat.memory
        if kind == "ask":
            self.answer(sender, message.ask)
        if kind in ("beat", "known"):
            for stand in getattr(message, kind).stands:
                if stand.server == self.server:
                    self.meets(stand.claim, kind == "known", now)
        if kind == "changes" and message.changes.server == self.server:
            self.meets(message.changes.claim, False, now)

    def turn(self, readable):
        now = time.monotonic()
        self.nats.look(now)
        for subject, data in self.nats.read(now) if readable and self.nats.up else []:
            self.receive(subject, data, now)
        if not self.stops:
            if self.rumour and now - self.rumour[1] > self.lease:
                (epoch, turn, _), self.rumour = self.rumour[0], None
                if epoch > self.epoch:
                    self.stops = "this is an older life"
                elif (epoch, turn) >= self.claim[:2]:
                    self.claim_anew(turn + 1)
            if self.nats.up and now >= self.next_beat and not self.stops:
                self.beat(now)
        self.nats.flush(now)

    def leave(self):  # 9
        self.missing = True
        self.state(kind=DOWN, reason=DRAINED)
        self.beat(time.monotonic(), leaving=True)
        self.stops = "left"

    def say(self, command, *arguments):
        if command == "look":
            return {"stops": self.stops, "claim": self.claim, "number": self.number}
        if self.stops:
            return {"code": "STALE"}
        {"connect": self.connect, "disconnect": self.disconnect, "complete": self.all_told,
         "leave": self.leave}[command](*arguments)
        return {"code": "OK"}


def main(proto):
    with tempfile.TemporaryDirectory() as folder:
        try:
            subprocess.run(["protoc", f"--proto_path={os.path.dirname(proto)}", f"--python_out={folder}", proto],
                           check=True)
        except FileNotFoundError:
            sys.exit("protoc is not here (scripts/setup test)")
        sys.path.insert(0, folder)
        wire = importlib.import_module("cluster_pb2")
    node, waiting, ended = None, b"", False
    while not ended:
        nats = node.nats.socket if node else None
        readable, _, _ = select.select([0, nats] if nats else [0], [], [], 0.01)
        if node:
            node.turn(nats in readable)
        if 0 in readable:
            data = os.read(0, 65536)
            ended = not data
            *full, waiting = (waiting + data).split(b"\n")
            for line in full:
                words = line.decode().split()
                if words[0] == "join":
                    node = Smallest(wire, words[1], **dict(word.split("=") for word in words[2:]))
                    answer = {"code": "OK"}
                else:
                    answer = node.say(*words[1:])
                print(json.dumps(answer), flush=True)
            if node:
                node.nats.flush(time.monotonic())


if __name__ == "__main__":
    main(sys.argv[1])

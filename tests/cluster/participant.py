#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A node of a Presence cluster with none of its code: written from docs/cluster-protocol.md alone, in Python's own
library and google.protobuf. test_participant.py lets it live among real nodes, which shows that the paper is enough;
take it as a pattern for a node in another language. The headings below are the paper's.

    participant.py CLUSTER_PROTO        driven by lines on the standard input, as cluster_node is

        join NODE key=value...          port= cluster= interval= lease= settle= hold= activity= tombstone=
        NODE COMMAND [argument...]      see Lines at the end; each is answered by one line of JSON"""

import collections
import importlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time

from participant_parts import (  # noqa: E402
    ASK_AGENT, ASK_CHANGES, ASK_KNOWN, ASK_STANDS, ASK_STATE, BATCH_BYTES, COMPLETE, CONNECT, DISCONNECT, DOWN,
    DRAINED, ECHOES, HELD_BYTES, IDS_A_MESSAGE, JOINING_TAG, MASK, MOST_BYTES, MOST_CHUNKS, NODE_NAME, NO_CLAIM,
    REASONS, SERVER_DOWN, STANDS_A_MESSAGE, VALUES_A_CHUNK, VERSION, Connection, Intake, Nats, Peer, Record,
    Refused, Repair, check, check_body, check_texts, fill_tomorrow, good_name, memory_of, nodes_named, random64,
    say_tomorrows)

DEBIAN_PYTHON = "/usr/bin/python3"
try:
    import google.protobuf.message
except ImportError:
    if os.path.realpath(sys.executable) != os.path.realpath(DEBIAN_PYTHON) and os.path.exists(DEBIAN_PYTHON):
        os.execv(DEBIAN_PYTHON, [DEBIAN_PYTHON, *sys.argv])  # another Python comes first, and has not Debian's modules
    sys.exit("python3-protobuf is not here (scripts/setup test)")


# ---------------------------------------------------------------------------------------------------------- the node


class Participant:
    def __init__(self, wire, node, options):
        self.wire, self.node, self.run = wire, node, random64()
        self.cluster = options.get("cluster", "presence")
        self.interval, self.lease, self.settle, self.hold, self.activity, self.tombstone = (
            int(options.get(name, usual)) / 1000 for name, usual in
            [("interval", 500), ("lease", 3000), ("settle", 30000), ("hold", 30000), ("activity", 20000),
             ("tombstone", 3600000)])
        self.nats = Nats(int(options["port"]))
        self.peers, self.servers, self.counters, self.listening = {}, {}, collections.Counter(), collections.Counter()
        self.sequence, self.echoes, self.echoed = 0, collections.OrderedDict(), None
        self.now = self.last_run = self.calm = time.monotonic()
        self.linked_at, self.next_beat, self.ready, self.deaf, self.stopped = None, 0, False, True, None
        self.most_since, self.told_memory_at, self.next_activity = None, -1e9, self.now + self.activity
        self.left, self.question, self.answers = False, 0, []
        for subject in ("beat.*", "stream.*", f"to.{node}.*"):
            self.nats.subscribe(f"presence.{self.cluster}.{subject}")

    # sending

    def publish(self, lane, **body):
        message = self.wire.Message(version=VERSION, node=self.node.encode(), run=self.run, **body)
        fill_tomorrow(message)
        data = message.SerializeToString()
        check(len(data) <= MOST_BYTES)
        self.nats.publish(f"presence.{self.cluster}.{lane}.{self.node}", data)

    def send(self, node, **body):
        if NODE_NAME.fullmatch(node):
            self.publish(f"to.{node}", **body)

    def claim_of(self, claim):
        return self.wire.Claim(epoch=claim[0], turn=claim[1], random=claim[2])

    def stand(self, record, known=False):
        stand = self.wire.Stand(server=record.name, claim=self.claim_of(record.claim), number=record.number,
                                floor=record.floor, connections=record.count, alive=record.count_alive,
                                digest_all=record.sum_all, digest_alive=record.sum_alive, complete=record.complete,
                                forgotten=record.forgotten)
        if known:
            stand.lapsed = record.lapsed
            stand.holder = (self.node if record.ours else record.holder.node if record.holder else "").encode()
        return stand

    def memory(self):
        return sum(memory_of(one.name, one.claim, one.number, one.sum_all, one.sum_alive, one.forgotten)
                   for one in self.servers.values() if one.is_orphan()) & MASK

    def beat(self, leaving=False):
        self.sequence += 1
        nonce = random64()
        self.echoes[self.sequence] = (nonce, self.now)
        while len(self.echoes) > ECHOES:
            self.echoes.popitem(last=False)
        stands = [self.stand(one) for one in self.servers.values() if one.ours]
        parts = max(1, -(-len(stands) // STANDS_A_MESSAGE))
        for part in range(parts):
            self.publish("beat", beat=self.wire.Beat(
                sequence=self.sequence, nonce=nonce, interval_ms=round(self.interval * 1000),
                lease_ms=round(self.lease * 1000), joining=not self.ready, leaving=leaving, part=part, parts=parts,
                stands=stands[part * STANDS_A_MESSAGE : (part + 1) * STANDS_A_MESSAGE], memory=self.memory()))
        self.next_beat = self.now + self.interval
        say_tomorrows(self)

    def tell_known(self, records, tag=0, node=None):
        stands = [self.stand(one, known=True) for one in records if one.claim != NO_CLAIM]
        pieces = [stands[at : at + STANDS_A_MESSAGE] for at in range(0, len(stands), STANDS_A_MESSAGE)] or [[]]
        for at, piece in enumerate(pieces):
            known = self.wire.Known(tag=tag, more=at + 1 < len(pieces), stands=piece)
            if node is None:
                self.publish("stream", known=known)
            else:
                self.send(node, known=known)

    # stating a server

    def claim(self, name, epoch=None):
        record = self.servers.setdefault(name, Record(name))
        known = max(record.claim, record.rumour)
        if epoch is not None and epoch < known[0]:
            raise Refused("STALE")
        if epoch is None and not self.ready:
            raise Refused("not ready")
        if record.ours and (epoch is None or epoch == record.claim[0]):
            return record
        record.own_epoch = epoch
        wanted = known[0] if epoch is None else epoch
        turn = known[1] + 1 if wanted == known[0] and known != NO_CLAIM else 1
        self.end_repair(record)
        record.begin((wanted, turn, random64()), time.time_ns())
        record.ours, record.holder, record.orphaned_at, record.lapsed, record.held = True, None, None, False, []
        record.rumour, record.rumour_at = NO_CLAIM, None
        record.recent.clear()
        record.transfer = None
        record.settle_at = self.now + self.settle  # others may have inherited what is not known here
        self.next_beat = self.now
        return record

    def claim_anew(self, record, larger):
        """The larger claim of this life was a dead node's: everything again, as number 0 of a larger turn."""
        record.begin((larger[0], larger[1] + 1, random64()), time.time_ns())
        record.rumour, record.rumour_at = NO_CLAIM, None
        record.complete = bool(record.connections)
        for id_, connection in record.connections.items():
            connection.stated = True
            record.count_in(connection, id_, 1)
        record.recent.clear()
        record.transfer = None
        self.next_beat = self.now

    def state(self, record, change, model=None):
        """One change of a server of ours."""
        if not record.ours:
            raise Refused("STALE")
        models = [] if model is None else [model]
        record.apply(record.number + 1, change, models)
        record.recent.append((record.number, change, model))
        self.publish("stream", changes=self.wire.Changes(server=record.name, claim=self.claim_of(record.claim),
                                                         first=record.number, models=models, changes=[change]))

    def whole_list(self, record, connections):
        if not record.ours:
            raise Refused("STALE")
        record.take_state(record.claim, record.number + 1, record.floor, SERVER_DOWN, 0, connections)
        record.recent.clear()
        self.publish("stream", changes=self.wire.Changes(server=record.name, claim=self.claim_of(record.claim),
                                                         first=record.number))
        self.next_beat = self.now

    def met_larger(self, record, claim, holder):
        """Of a server of ours, a larger claim: of a living node, or (None) only told of."""
        if claim <= record.claim:
            return
        if holder is None:
            record.rumour = max(record.rumour, claim)
            record.rumour_at = record.rumour_at or self.now
            return
        record.ours = False
        self.counters["yielded"] += 1
        self.take_claim(record, claim, holder)

    def judge_rumour(self, record):
        if self.deaf or self.now - record.rumour_at <= self.lease:
            return
        larger, record.rumour_at = record.rumour, None
        if larger <= record.claim:
            return
        if larger[0] > record.claim[0] and record.own_epoch is not None:
            record.ours = False
            self.counters["yielded"] += 1
            self.take_claim(record, larger, None)
        else:
            self.claim_anew(record, larger)

    # answering

    def answer(self, node, ask):
        record = self.servers.get(ask.server)
        if ask.question == ASK_CHANGES and record and record.ours:
            self.answer_changes(node, record, ask)
        elif ask.question == ASK_STATE and record and not record.holder_lives() and record.claim != NO_CLAIM \
                and not record.forgotten:
            self.answer_state(record, ask)
        elif ask.question == ASK_KNOWN:
            records = [record] if record else []
            if not ask.server:
                records = [one for one in self.servers.values() if one.is_orphan()]
            self.tell_known(records, ask.tag, node)
        elif ask.question == ASK_STANDS:
            self.tell_known(self.servers.values(), ask.tag, node)
        elif ask.question == ASK_AGENT:
            self.answer_agent(node, ask)

    def answer_changes(self, node, record, ask):
        same = claim_from(ask.claim) == record.claim
        if same and ask.after >= record.number:
            return
        kept = [one for one in record.recent if one[0] > ask.after] if same else []
        if len(kept) != record.number - ask.after or not kept:
            self.send(node, changes=self.wire.Changes(server=record.name, claim=self.claim_of(record.claim),
                                                      first=record.number))
            return
        for number, change, model in kept:
            self.send(node, changes=self.wire.Changes(server=record.name, claim=self.claim_of(record.claim),
                                                      first=number, models=[] if model is None else [model],
                                                      changes=[change]))

    def answer_state(self, record, ask):
        transfer = record.transfer
        if transfer and ask.transfer == transfer[0].transfer and ask.missing \
                and claim_from(transfer[0].claim) == record.claim:
            for chunk in transfer:
                if any(one.first <= chunk.index <= one.last for one in ask.missing):
                    self.publish("state", chunk=chunk)
            return
        record.transfer = self.chunks_of(record)
        for chunk in record.transfer:
            self.publish("state", chunk=chunk)

    def chunks_of(self, record):
        stated = [(id_, one) for id_, one in record.connections.items() if one.stated]
        chunks, transfer, length = [], random64(), BATCH_BYTES
        some_missing = any(one.missing for _, one in stated)
        for id_, one in stated or [(None, None)]:
            if length >= BATCH_BYTES or len(chunks[-1].values) == VALUES_A_CHUNK:
                chunks.append(self.wire.Chunk(
                    server=record.name, claim=self.claim_of(record.claim), number=record.number, floor=record.floor,
                    floor_reason=record.floor_reason if some_missing else 0,
                    floor_time=record.floor_time if some_missing else 0, transfer=transfer, index=len(chunks),
                    connections=len(stated), base_time=one.last_seen if one else 0))
                models, length = {}, 0
            if one is None:
                continue
            if one.model not in models:
                models[one.model] = len(models)
                chunks[-1].models.append(one.model)
            seen_ms, seen_ns = divmod(one.last_seen - chunks[-1].base_time, 10**6)
            chunks[-1].values.add(id=id_, model=models[one.model], agent=one.agent, data=one.data,
                                  controller=one.controller, missing=one.missing, seen_ms=seen_ms, seen_ns=seen_ns)
            length += len(one.agent) + len(one.data) + 32
        chunks[-1].last = True
        return chunks

    def answer_agent(self, node, ask):
        found = self.of_agent(ask.model, ask.agent)
        status, reason, since = self.status(ask.model, ask.agent)
        evidence = self.wire.Evidence(tag=ask.tag, model=ask.model, agent=ask.agent, total=len(found),
                                      status=["unknown", "missing", "alive"].index(status),
                                      reason=REASONS.index(reason), since=since, stale=self.doubt() != "fresh",
                                      last_seen=max((one.last_seen for _, _, one in found), default=0))
        for record, id_, one in found[:256]:
            holder = self.node if record.ours else record.holder.node if record.holder else ""
            evidence.connections.add(server=record.name, id=id_, controller=one.controller,
                                     missing=not record.shows_alive(one), last_seen=one.last_seen,
                                     holder=holder.encode(), stale=not record.ours and not record.holder_lives())
        self.send(node, evidence=evidence)

    # following

    def take_claim(self, record, claim, holder):
        self.end_repair(record)
        record.begin(claim, time.time_ns())
        record.holder, record.orphaned_at = holder, None if holder else self.now
        record.grounded, record.told, record.behind, record.needed = False, None, 0, 0
        record.held, record.held_bytes, record.transfer = [], 0, None

    def receive_beat(self, peer, beat):
        if beat.sequence < peer.sequence or peer.left:
            return
        if peer.node == self.node and not self.ready and peer.sequence and beat.sequence > peer.sequence \
                and not beat.joining and not beat.leaving:
            self.stopped = "another process has the name " + self.node
        fresh = beat.sequence != peer.sequence
        if fresh:
            peer.sequence, peer.parts = beat.sequence, set()
            self.counters["beats_heard"] += 1
        peer.parts.add(beat.part)
        peer.heard, peer.joining, peer.silent, peer.memory = self.now, beat.joining, False, beat.memory
        peer.lease = beat.lease_ms / 1000 or self.lease
        for stand in beat.stands:
            self.receive_stand(peer, stand)
        if len(peer.parts) == beat.parts:
            for record in self.servers.values():
                if record.holder is peer and record.told_sequence != beat.sequence and record.orphaned_at is None:
                    record.orphaned_at = self.now
        if beat.leaving:
            self.peer_leaves(peer)
        if fresh:
            self.compare_memory(peer)

    def peer_leaves(self, peer):
        peer.left = peer.silent = True
        for record in self.servers.values():
            if record.holder is peer:
                record.orphaned_at = record.orphaned_at or self.now

    def receive_stand(self, peer, stand):
        try:
            record = self.servers.get(stand.server) or Record(stand.server)
        except Refused:
            self.counters["refused"] += 1
            return
        self.servers[stand.server] = record
        claim = claim_from(stand.claim)
        if record.ours:
            self.met_larger(record, claim, peer)
            if record.ours:
                return
        if claim < record.claim:
            if record.holder is not peer and (record.corrected_at is None
                                              or self.now - record.corrected_at >= self.interval):
                record.corrected_at = self.now
                self.tell_known([record], 0, peer.node)
            return
        if claim > record.claim:
            self.take_claim(record, claim, peer)
        record.holder, record.orphaned_at = peer, None
        record.told, record.told_at, record.told_sequence = stand, self.now, peer.sequence
        if not stand.complete and not record.grounded:
            record.grounded = True
            self.release(record)
        self.compare(record, from_beat=True)

    def compare(self, record, from_beat):
        told = record.told
        if told is None or not record.holder_lives() or claim_from(told.claim) != record.claim:
            return
        if record.forgotten:
            self.ask(record, ASK_STATE, record.holder)
        elif record.number < told.number:
            nothing_here = not record.grounded and record.number == 0 and not record.complete
            if from_beat and (record.number < record.behind or record.lapsed or nothing_here):
                self.counters["gaps"] += 1
                self.ask(record, ASK_CHANGES if record.grounded else ASK_STATE, record.holder)
            if from_beat:
                record.behind = told.number
        elif record.number == told.number:
            record.behind = 0
            if (told.connections, told.alive, told.digest_all, told.digest_alive) == \
                    (record.count, record.count_alive, record.sum_all, record.sum_alive):
                record.grounded, record.lapsed = True, False
                if not record.held:
                    self.end_repair(record)
            else:
                self.counters["differences"] += record.grounded
                self.ask(record, ASK_STATE, record.holder)

    def receive_changes(self, peer, changes, length):
        try:
            record = self.servers.get(changes.server) or Record(changes.server)
        except Refused:
            self.counters["refused"] += 1
            return
        self.servers[changes.server] = record
        claim = claim_from(changes.claim)
        if record.ours:
            self.met_larger(record, claim, peer)
        if record.ours or claim < record.claim:
            return
        if claim > record.claim:
            self.take_claim(record, claim, peer)
        if record.holder is not peer:
            if record.holder_lives():
                return
            record.holder = peer
        if not changes.changes:
            if changes.first > record.number:
                record.needed = max(record.needed, changes.first)
                self.ask(record, ASK_STATE, peer)
        elif not record.grounded:
            self.keep(record, changes, length)
        elif not self.apply(record, changes):
            self.keep(record, changes, length)
            record.needed = max(record.needed, changes.first - 1)
            if record.holder_lives() and not (record.repair and record.repair.kind == ASK_STATE):
                self.ask(record, ASK_CHANGES, peer)
        else:
            self.release(record)
        self.end_changes_repair(record)

    def apply(self, record, changes):
        """False: there is a gap before them."""
        for at, change in enumerate(changes.changes):
            number = changes.first + at
            if number <= record.number:
                continue
            if number > record.number + 1 or record.forgotten:
                return False
            try:
                record.apply(number, change, changes.models)
            except Refused:
                self.counters["refused"] += 1
                return True
            self.counters["changes_applied"] += 1
        return True

    def keep(self, record, changes, length):
        if record.held_bytes + length > HELD_BYTES:
            record.held, record.held_bytes = [], 0
            return
        record.held.append((changes, length))
        record.held_bytes += length

    def release(self, record):
        record.held.sort(key=lambda one: one[0].first)
        while record.held and self.apply(record, record.held[0][0]):
            record.held_bytes -= record.held.pop(0)[1]

    def end_changes_repair(self, record):
        if record.repair and record.repair.kind == ASK_CHANGES and not record.held and record.number >= record.needed \
                and (record.told is None or record.number >= record.told.number):
            self.end_repair(record)

    # asking

    def ask(self, record, kind, source):
        if source is None or (record.repair and (record.repair.kind, record.repair.source) == (kind, source)):
            return
        self.end_repair(record)
        record.repair = Repair(kind, source, self.now)
        if kind == ASK_STATE:
            self.listening[source.node] += 1
            if self.listening[source.node] == 1:
                self.nats.subscribe(f"presence.{self.cluster}.state.{source.node}")
        self.ask_now(record)

    def ask_now(self, record):
        repair = record.repair
        ask = self.wire.Ask(question=repair.kind, server=record.name, claim=self.claim_of(record.claim))
        if repair.kind == ASK_CHANGES:
            ask.after = record.number
        elif repair.intake:
            ask.transfer = repair.intake.transfer
            for first, last in repair.intake.missing():
                ask.missing.add(first=first, last=last)
        repair.asked_at, repair.at_number = self.now, record.number
        self.send(repair.source.node, ask=ask)

    def end_repair(self, record):
        repair, record.repair = record.repair, None
        if repair and repair.kind == ASK_STATE:
            self.listening[repair.source.node] -= 1
            if self.listening[repair.source.node] == 0:
                self.nats.unsubscribe(f"presence.{self.cluster}.state.{repair.source.node}")

    def ask_again(self, record):
        repair = record.repair
        if repair.source.silent or repair.source.left:
            self.end_repair(record)
            return
        if repair.came:
            repair.came, repair.tries, repair.asked_at = False, 0, self.now
        if self.now - repair.asked_at < min(self.interval * 2**repair.tries, self.lease):
            return
        repair.tries = 0 if repair.kind == ASK_CHANGES and record.number > repair.at_number else repair.tries + 1
        if repair.kind == ASK_CHANGES and repair.tries >= 3:
            self.ask(record, ASK_STATE, repair.source)
            return
        if repair.tries % 6 == 0:
            repair.intake = None
        self.ask_now(record)

    def receive_chunk(self, peer, chunk):
        record = self.servers.get(chunk.server)
        if not record or record.ours or not record.repair or record.repair.kind != ASK_STATE:
            return
        claim, repair = claim_from(chunk.claim), record.repair
        if claim < record.claim or chunk.index >= MOST_CHUNKS or \
                (claim == record.claim and chunk.number < record.number and not record.forgotten):
            return
        intake = repair.intake
        if not intake or intake.transfer != chunk.transfer:
            if intake and peer is not record.holder and \
                    (claim, chunk.number) <= (claim_from(intake.first.claim), intake.first.number):
                return
            intake = repair.intake = Intake(chunk)
        repair.came = True
        intake.chunks[chunk.index] = chunk
        if chunk.last:
            intake.last = chunk.index
        if intake.last is not None and len(intake.chunks) == intake.last + 1:
            self.take(record, intake)

    def take(self, record, intake):
        first, connections = intake.first, {}
        record.repair.intake = None
        try:
            for chunk in intake.chunks.values():
                for value in chunk.values:
                    if value.id in connections:
                        raise Refused("an id twice")
                    last_seen = chunk.base_time + value.seen_ms * 10**6 + value.seen_ns
                    connections[value.id] = Connection(chunk.models[value.model], value.agent, value.data,
                                                       value.controller, last_seen, value.missing, first.number)
            record.take_state(claim_from(first.claim), first.number, first.floor, first.floor_reason, first.floor_time,
                              connections)
        except Refused:
            self.counters["refused"] += 1
            return
        record.grounded = True
        self.counters["states_taken"] += 1
        self.end_repair(record)
        self.release(record)
        self.compare(record, from_beat=False)

    def receive_activity(self, activity):
        record = self.servers.get(activity.server)
        if not record or record.ours or claim_from(activity.claim) != record.claim:
            return
        id_ = 0
        for step, seen in zip(activity.ids, activity.seen_ms):
            id_ += step
            connection = record.connections.get(id_)
            if connection and connection.stated and connection.at <= activity.number:
                connection.last_seen = max(connection.last_seen, activity.base_time + seen * 10**6)

    def ask_stands(self):
        """An operator's question to all who are heard: where does each server stand? The answers come in."""
        self.question, self.answers = random64() | 2, []
        for peer in self.peers.values():
            if not peer.silent and peer.sequence:
                self.send(peer.node, ask=self.wire.Ask(question=ASK_STANDS, tag=self.question))

    # who lives

    def hears_itself(self, until):
        return self.echoed is not None and self.echoed + self.interval >= until \
            and self.echoed + 2 * self.interval >= self.now

    def receive_own_beat(self, beat):
        nonce, sent = self.echoes.get(beat.sequence, (None, 0))
        if nonce == beat.nonce and self.now - sent <= self.lease:
            self.echoed = max(self.echoed or 0, sent)

    def judge(self):
        deaf = not self.nats.up or self.echoed is None or self.now - self.echoed > self.lease
        if self.deaf and not deaf:
            self.calm = self.now
        self.deaf = deaf
        if deaf:
            return
        living = [one for one in self.peers.values() if not one.silent and not one.left and one.sequence]
        quiet = sum(self.now - max(one.heard, self.calm) > one.lease / 2 for one in living)
        most = quiet >= 2 and 2 * quiet > len(living) + 1
        self.most_since = (self.most_since or self.now) if most else None
        if most and self.now - self.most_since < self.hold:
            return
        for peer in living:
            until = max(peer.heard, self.calm) + peer.lease
            if self.now > until and self.hears_itself(until):
                peer.silent = True
                for record in self.servers.values():
                    if record.holder is peer and not record.ours:
                        self.lapse(record)

    def lapse(self, record):
        self.end_repair(record)
        record.held, record.held_bytes = [], 0
        if not record.lapsed:
            record.lapsed, record.lapsed_at = True, time.time_ns()

    # the silent and the dead

    def compare_memory(self, peer):
        if not self.ready and not peer.answered \
                and (peer.asked_at is None or self.now - peer.asked_at > self.lease / 2):
            peer.asked_at = self.now
            self.send(peer.node, ask=self.wire.Ask(question=ASK_KNOWN, tag=JOINING_TAG))
        if self.deaf:
            return
        peer.differs = 0 if peer.memory == self.memory() else peer.differs + 1
        if peer.differs >= 2 and self.now - self.told_memory_at >= 4 * self.interval:
            self.told_memory_at, peer.differs = self.now, 0
            self.tell_known([one for one in self.servers.values() if one.is_orphan()])

    def receive_known(self, peer, known):
        if known.tag == self.question:
            self.answers.append((peer.node, known))
        if known.tag > JOINING_TAG or self.deaf or not self.hears_itself(0):
            return
        peer.answered = peer.answered or (known.tag == JOINING_TAG and not known.more)
        for stand in known.stands:
            if claim_from(stand.claim) != NO_CLAIM and good_name(stand.server):
                self.learn(peer, stand)

    def learn(self, peer, stand):
        record = self.servers.setdefault(stand.server, Record(stand.server))
        claim = claim_from(stand.claim)
        if record.ours:
            self.met_larger(record, claim, None)
            return
        if record.holder_lives() or not self.is_more(record, claim, stand):
            return
        if stand.forgotten:
            self.bury(record, claim, stand.number)
            return
        if claim > record.claim:
            self.take_claim(record, claim, None)
        record.orphaned_at = record.orphaned_at or self.now
        if record.told_at is None or self.now - record.told_at > self.lease:
            self.lapse(record)
        if stand.connections or stand.number:
            self.ask(record, ASK_STATE, peer)

    @staticmethod
    def is_more(record, claim, stand):
        if claim != record.claim:
            return claim > record.claim
        if stand.forgotten != record.forgotten:
            return stand.number >= record.number if stand.forgotten else stand.number > record.number
        if stand.number != record.number or stand.forgotten:
            return stand.number > record.number
        return (stand.digest_all + stand.digest_alive) & MASK > (record.sum_all + record.sum_alive) & MASK

    def bury(self, record, claim, number):
        self.end_repair(record)
        record.bury(claim, number)
        record.held, record.held_bytes, record.lapsed, record.holder = [], 0, False, None
        record.orphaned_at = record.forgotten_at = self.now

    def receive_forget(self, forget):
        record, claim = self.servers.get(forget.server), claim_from(forget.claim)
        if record and record.is_orphan() and (claim > record.claim or (
                claim == record.claim and forget.number >= record.number and not record.forgotten)):
            self.bury(record, claim, forget.number)

    # what comes, and what is due

    def receive(self, subject, data):
        sender = subject.rsplit(".", 1)[-1].encode()
        nodes = nodes_named(data)
        if not nodes or any(node != sender for node in nodes):
            self.counters["forged"] += 1
            return
        try:
            check(len(data) <= MOST_BYTES)
            message = self.wire.Message.FromString(data)
            kind = message.WhichOneof("body")
            if message.version > VERSION:
                self.counters["foreign"] += 1
                return
            check(message.version == VERSION)
            if kind is None:
                return
            check_texts(message)
            check_body(kind, getattr(message, kind))
        except (Refused, google.protobuf.message.DecodeError):
            self.counters["malformed"] += 1
            return
        self.dispatch(message.node.decode(), message.run, kind, getattr(message, kind), len(data))

    def dispatch(self, node, run, kind, body, length):
        if (node, run) == (self.node, self.run):
            if kind == "beat":
                self.receive_own_beat(body)
            return
        peer = self.peers.get((node, run))
        if not peer:
            peer = self.peers[node, run] = Peer(node, run, self.now, self.lease)
        if kind == "changes":
            self.receive_changes(peer, body, length)
        elif kind == "ask":
            self.answer(node, body)
        elif kind in ("beat", "chunk", "known"):
            getattr(self, "receive_" + kind)(peer, body)
        elif kind in ("activity", "forget"):
            getattr(self, "receive_" + kind)(body)

    def run_once(self, readable):
        self.now = time.monotonic()
        if self.now - self.last_run > self.lease / 2:
            self.calm, self.echoed = self.now, None
            self.echoes.clear()
        self.last_run = self.now
        if self.left or self.stopped:
            self.nats.flush(self.now)
            return
        if self.nats.look(self.now):
            self.linked_at = self.linked_at or self.now
            self.calm, self.echoed, self.next_beat = self.now, None, self.now
        if readable and self.nats.up:
            for subject, data in sorted(self.nats.read(self.now), key=lambda one: ".beat." in one[0]):
                self.receive(subject, data)
        if self.nats.up and self.now >= self.next_beat:
            self.beat()
        self.judge()
        self.sweep()
        self.nats.flush(self.now)

    def sweep(self):
        for record in list(self.servers.values()):
            if record.repair:
                self.ask_again(record)
            if record.ours and record.settle_at is not None and self.now >= record.settle_at:
                record.settle_at = None
                if not record.complete:
                    self.state(record, self.wire.Change(kind=COMPLETE, time=time.time_ns()))
            if record.ours and record.rumour_at is not None:
                self.judge_rumour(record)
            if record.orphaned_at is not None and not record.lapsed and not record.ours and not record.forgotten \
                    and not self.deaf and not self.most_since and self.now > record.orphaned_at + self.lease \
                    and self.hears_itself(record.orphaned_at + self.lease):
                self.lapse(record)
            if record.forgotten and record.is_orphan() and self.now - record.forgotten_at > self.tombstone:
                del self.servers[record.name]
        if not self.ready and not self.deaf and self.linked_at and self.now - self.linked_at >= self.lease \
                and not any(one.repair for one in self.servers.values()):
            self.ready = True
        if self.ready and self.activity and self.now >= self.next_activity:
            self.next_activity = self.now + self.activity
            for record in self.servers.values():
                if record.ours:
                    self.tell_activity(record)

    def tell_activity(self, record):
        active = sorted((id_, one.last_seen) for id_, one in record.connections.items()
                        if one.stated and one.last_seen > record.active_mark)
        record.active_mark = max([record.active_mark, *(seen for _, seen in active)])
        for at in range(0, len(active), IDS_A_MESSAGE):
            piece = active[at : at + IDS_A_MESSAGE]
            base = min(seen for _, seen in piece)
            ids = [id_ - before for (id_, _), before in zip(piece, [0, *(id_ for id_, _ in piece)])]
            self.publish("stream", activity=self.wire.Activity(
                server=record.name, claim=self.claim_of(record.claim), number=record.number, base_time=base, ids=ids,
                seen_ms=[(seen - base) // 10**6 for _, seen in piece]))

    def leave(self):
        for record in self.servers.values():
            if record.ours and record.count_alive:
                self.state(record, self.wire.Change(kind=DOWN, reason=DRAINED, time=time.time_ns()))
        self.beat(leaving=True)
        self.left = True

    # what it shows

    def of_agent(self, model, agent):
        return [(record, id_, one) for record in self.servers.values() for id_, one in record.connections.items()
                if (one.model, one.agent) == (model, agent)]

    def status(self, model, agent):
        found = [(record, one) for record, _, one in self.of_agent(model, agent) if not one.controller]
        if not found:
            return "unknown", "none", 0
        record, one = max(found, key=lambda pair: pair[0].shows_alive(pair[1]))
        if record.shows_alive(one):
            return "alive", one.reason, one.since
        if one.missing:
            return "missing", one.reason, one.since
        return "missing", "lapsed", record.lapsed_at

    def doubt(self):
        return "joining" if not self.ready else "deaf" if self.deaf else "silent" if self.most_since else "fresh"


def claim_from(message):
    return message.epoch, message.turn, message.random


# ------------------------------------------------------------------------------------------------------------ lines


class Lines:
    """The words of cluster_node that the stories need."""

    def __init__(self, wire):
        self.wire, self.nodes = wire, {}

    def run(self, words):
        if words[0] == "join":
            options = dict(word.split("=", 1) for word in words[2:])
            self.nodes[words[1]] = Participant(self.wire, words[1], options)
            return {"code": "OK"}
        node, command, arguments = self.nodes[words[0]], words[1], words[2:]
        try:
            answer = getattr(self, "do_" + command)(node, *arguments)
            return {"code": "OK"} if answer is None else answer
        except Refused as refused:
            return {"code": str(refused)}

    def change(self, node, server, **facts):
        model = facts.pop("model_name", None)
        record = node.servers.get(server.encode())
        if record is None or not (record.ours or record.holder):
            record = node.claim(server.encode())
        node.state(record, self.wire.Change(time=time.time_ns(), **facts), model)

    def do_connect(self, node, server, model, agent, number, data="", controller="0"):
        self.change(node, server, kind=CONNECT, id=int(number), model_name=model.encode(), agent=agent.encode(),
                    data=data.encode(), controller=controller == "1")

    def do_disconnect(self, node, server, number):
        self.change(node, server, kind=DISCONNECT, id=int(number))

    def do_down(self, node, server):
        self.change(node, server, kind=DOWN, reason=SERVER_DOWN)

    def do_activity(self, node, server, number):
        node.servers[server.encode()].connections[int(number)].last_seen = time.time_ns()

    def do_update(self, node, server, count):
        record = node.claim(server.encode())
        node.whole_list(record, {at + 1: Connection(b"m", b"agent-%d" % at, b"", False, time.time_ns(), False,
                                                    record.number + 1) for at in range(int(count))})

    def do_claim(self, node, server, epoch=None):
        node.claim(server.encode(), None if epoch is None else int(epoch))

    def do_status(self, node, model, agent):
        status, reason, since = node.status(model.encode(), agent.encode())
        return {"status": status, "reason": reason, "since": since}

    def do_seen(self, node, model, agent):
        found = node.of_agent(model.encode(), agent.encode())
        return {"last_seen": max((one.last_seen for _, _, one in found), default=0)}

    def do_counts(self, node, server):
        record = node.servers.get(server.encode())
        everything = list(record.connections.values()) if record else []
        alive = sum(record.shows_alive(one) for one in everything)
        return {"connections": len(everything), "alive": alive, "missing": len(everything) - alive}

    def do_stand(self, node, server):
        record = node.servers.get(server.encode())
        return {"ours": record.ours, "claim": record.claim, "number": record.number, "all": record.sum_all,
                "alive": record.sum_alive, "lapsed": record.lapsed, "forgotten": record.forgotten,
                "holder": record.holder.node if record.holder else ""} if record else {}

    def do_ask(self, node):
        node.ask_stands()

    def do_answers(self, node):
        return [{"node": who, "server": stand.server.decode(), "holder": stand.holder.decode(), "number": stand.number,
                 "all": stand.digest_all, "alive": stand.digest_alive, "lapsed": stand.lapsed,
                 "claim": claim_from(stand.claim)}
                for who, known in node.answers for stand in known.stands]

    def do_freshness(self, node):
        return {"doubt": node.doubt()}

    def do_ready(self, node):
        return {"ready": node.ready, "stopped": node.stopped}

    def do_memory(self, node):
        return {"memory": node.memory(),
                "peers": {one.node: one.memory for one in node.peers.values() if not one.silent}}

    def do_stats(self, node):
        return dict(node.counters, malformed=node.counters["malformed"], differences=node.counters["differences"])

    def do_leave(self, node):
        node.leave()


def main(proto):
    with tempfile.TemporaryDirectory() as folder:
        try:
            subprocess.run(["protoc", f"--proto_path={os.path.dirname(proto)}", f"--python_out={folder}", proto],
                           check=True)
        except FileNotFoundError:
            sys.exit("protoc is not here (scripts/setup test)")
        sys.path.insert(0, folder)
        lines = Lines(importlib.import_module("cluster_pb2"))
    os.set_blocking(0, False)
    waiting, ended = b"", False
    while not ended:
        nodes = list(lines.nodes.values())
        sockets = {one.nats.socket: one for one in nodes if one.nats.socket}
        readable, _, _ = select.select([0, *sockets], [one for one in sockets if sockets[one].nats.out], [], 0.01)
        for node in nodes:
            node.run_once(node.nats.socket in readable)
        if 0 in readable:
            data = os.read(0, 65536)
            ended = not data
            *full, waiting = (waiting + data).split(b"\n")
            for line in full:
                print(json.dumps(lines.run(line.decode().split())), flush=True)
    for node in lines.nodes.values():
        if not node.left and not node.stopped:
            node.leave()
    end = time.monotonic() + 2
    while any(node.nats.up and node.nats.out for node in lines.nodes.values()) and time.monotonic() < end:
        for node in lines.nodes.values():
            node.nats.flush(time.monotonic())
    for node in lines.nodes.values():
        node.nats.lose(0)


if __name__ == "__main__":
    main(sys.argv[1])

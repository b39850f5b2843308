# SPDX-License-Identifier: Apache-2.0
"""What a node keeps, computes and checks, for participant.py and whoever wants to try a digest: written from
docs/cluster-protocol.md alone, whose headings these are. Knows no generated code: a message is what has its fields."""

import collections
import json
import re
import secrets
import socket
import sys

MASK = 2**64 - 1
VERSION = 1
MOST_BYTES, BATCH_BYTES, STANDS_A_MESSAGE, VALUES_A_CHUNK = 512 * 1024, 16 * 1024, 128, 1024
HELD_BYTES, MOST_CHUNKS, RANGES_MOST, ECHOES, IDS_A_MESSAGE = 16 << 20, 1 << 24, 256, 64, 1024
CONNECT, DISCONNECT, DOWN, COMPLETE = 1, 2, 3, 4
SERVER_DOWN, DRAINED, SUPERSEDED, LAPSED = 5, 6, 8, 10
REASONS = ["none", "connected", "reconnected", "updated", "left", "server_down", "drained", "timed_out", "superseded",
           "restored", "lapsed"]
ASK_CHANGES, ASK_STATE, ASK_KNOWN, ASK_STANDS, ASK_AGENT = 1, 2, 3, 4, 5
JOINING_TAG = 1
NODE_NAME = re.compile(r"[A-Za-z0-9_-]{1,127}")
NO_CLAIM = (0, 0, 0)


def fill_tomorrow(message):
    """In the schema of a later release (test_versions.py) each message has fields that nobody here knows: some in all."""
    names = message.DESCRIPTOR.fields_by_name
    if "tomorrow" not in names:
        return
    message.tomorrow, message.tomorrows_text = MASK, b"tomorrow"
    for field, value in message.ListFields():
        if field.message_type and not field.name.startswith("tomorrow"):
            for one in value if field.label == field.LABEL_REPEATED else [value]:
                fill_tomorrow(one)
    message.tomorrows_claims.add(epoch=7)


def say_tomorrows(node):
    """And it says what nobody here knows: another body, another question, another version."""
    if "tomorrow" not in node.wire.Message.DESCRIPTOR.fields_by_name:
        return
    node.publish("stream", tomorrows_body=node.wire.Claim(epoch=1))
    for peer in node.peers.values():
        node.send(peer.node, ask=node.wire.Ask(question=node.wire.ASK_TOMORROW, server=b"s1"))
    message = node.wire.Message(version=VERSION + 1, node=node.node.encode(), run=node.run)
    node.nats.publish(f"presence.{node.cluster}.stream.{node.node}", message.SerializeToString())


def random64():
    return secrets.randbits(64) or 1


# ------------------------------------------------------------------------------------------------------- the digest


def rotl(word, by):
    return (word << by | word >> (64 - by)) & MASK


def sip_hash_1_3(k0, k1, data):
    v0, v1 = k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D
    v2, v3 = k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573

    def turn(v0, v1, v2, v3):
        v0 = (v0 + v1) & MASK
        v1 = rotl(v1, 13) ^ v0
        v0 = rotl(v0, 32)
        v2 = (v2 + v3) & MASK
        v3 = rotl(v3, 16) ^ v2
        v0 = (v0 + v3) & MASK
        v3 = rotl(v3, 21) ^ v0
        v2 = (v2 + v1) & MASK
        v1 = rotl(v1, 17) ^ v2
        return v0, v1, rotl(v2, 32), v3

    whole = len(data) // 8 * 8
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, whole, 8)]
    words.append(int.from_bytes(data[whole:], "little") | (len(data) & 0xFF) << 56)
    for word in words:
        v3 ^= word
        v0, v1, v2, v3 = turn(v0, v1, v2, v3)
        v0 ^= word
    v2 ^= 0xFF
    for _ in range(3):
        v0, v1, v2, v3 = turn(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


def term(claim, number, controller, model, agent, data):
    """What one connection adds to the sums."""
    epoch, turn, random = claim
    k0, k1 = epoch ^ random ^ number, (turn + random) & MASK ^ int(controller)
    return sip_hash_1_3(sip_hash_1_3(sip_hash_1_3(k0, k1, model), k1, agent), k1, data)


def mix(word, with_word):
    word = (word ^ with_word) * 0xFF51AFD7ED558CCD & MASK
    return word ^ word >> 32


def memory_of(name, claim, number, everything, alive, forgotten):
    """What one orphan adds to the memory sum."""
    sum_of_it = mix(0x9E3779B97F4A7C15, int(forgotten))
    for byte in name:
        sum_of_it = mix(sum_of_it, byte)
    for word in (*claim, number, everything, alive):
        sum_of_it = mix(sum_of_it, word)
    return sum_of_it


# ---------------------------------------------------------------------------------------------- the record of a server


class Refused(Exception):
    """What is not to be recorded."""


def good_name(name):
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return False
    return 0 < len(name) <= 1024 and not any(ord(one) < 0x20 or 0x7F <= ord(one) < 0xA0 for one in text)


def good_data(data):
    try:
        return len(data) <= 65535 and "\0" not in data.decode()
    except UnicodeDecodeError:
        return False


class Connection:
    def __init__(self, model, agent, data, controller, last_seen, missing, at):
        if not (good_name(model) and good_name(agent) and good_data(data)):
            raise Refused("a bad name")
        self.model, self.agent, self.data, self.controller = model, agent, data, controller
        self.last_seen, self.missing, self.at = last_seen, missing, at  # at: the number at which it connected
        self.reason, self.since = "connected", last_seen
        self.stated, self.term = True, 0

    def become_missing(self, reason, when):
        if not self.missing:
            self.missing, self.reason, self.since = True, REASONS[reason], when


class Record:
    """What is known of one server, and what a follower does about it."""

    def __init__(self, name):
        if not good_name(name):
            raise Refused("a bad name")
        self.name = name
        self.claim, self.number, self.complete, self.forgotten = NO_CLAIM, 0, False, False
        self.floor, self.floor_reason, self.floor_time = 0, 0, 0
        self.connections = {}
        self.count = self.count_alive = self.sum_all = self.sum_alive = 0
        self.lapsed, self.lapsed_at = False, 0
        # following
        self.holder, self.orphaned_at, self.grounded = None, None, False
        self.told, self.told_at, self.told_sequence, self.behind, self.needed = None, None, 0, 0, 0
        self.held, self.held_bytes, self.repair, self.corrected_at = [], 0, None, None
        self.forgotten_at = None
        # stating
        self.ours, self.own_epoch, self.settle_at, self.rumour, self.rumour_at = False, None, None, NO_CLAIM, None
        self.recent, self.transfer, self.active_mark = collections.deque(maxlen=4096), None, 0

    def count_in(self, connection, number, sign):
        if not connection.stated:
            return
        if sign > 0:
            connection.term = term(self.claim, number, connection.controller, connection.model, connection.agent,
                                   connection.data)
        self.count += sign
        self.sum_all = (self.sum_all + sign * connection.term) & MASK
        if not connection.missing:
            self.count_alive += sign
            self.sum_alive = (self.sum_alive + sign * connection.term) & MASK

    def no_sums(self):
        self.count = self.count_alive = self.sum_all = self.sum_alive = 0

    def begin(self, claim, when):
        """A larger claim."""
        newer_life = claim[0] > self.claim[0]
        for connection in self.connections.values():
            connection.stated = False
            if newer_life:
                connection.become_missing(SUPERSEDED, when)
        self.claim, self.number, self.floor, self.complete, self.forgotten = claim, 0, 0, False, False
        self.no_sums()

    def apply(self, number, change, models):
        """The next change. Refused leaves all as it was."""
        if change.kind == CONNECT:
            connection = Connection(models[change.model], change.agent, change.data, change.controller, change.time,
                                    False, number)
            before = self.connections.get(change.id)
            if before:
                self.count_in(before, change.id, -1)
                connection.reason = "reconnected" if before.missing else "updated"
            self.connections[change.id] = connection
            self.count_in(connection, change.id, 1)
        elif change.kind == DISCONNECT:
            before = self.connections.pop(change.id, None)
            if before:
                self.count_in(before, change.id, -1)
        elif change.kind == DOWN:
            if not SERVER_DOWN <= change.reason <= SUPERSEDED:
                raise Refused("a reason of no server going down")
            for connection in self.connections.values():
                connection.become_missing(change.reason, change.time)
            self.count_alive = self.sum_alive = 0
            self.floor, self.floor_reason, self.floor_time = number, change.reason, change.time
        else:
            self.connections = {id_: one for id_, one in self.connections.items() if one.stated}
            self.complete = True
        self.number = number

    def take_state(self, claim, number, floor, reason, when, connections):
        """A whole state, in one step."""
        if claim < self.claim or (claim == self.claim and number < self.number and not self.forgotten):
            raise Refused("an older state")
        if floor > number:
            raise Refused("a floor above its number")
        self.claim, self.number, self.floor, self.complete, self.forgotten = claim, number, floor, True, False
        self.floor_reason, self.floor_time = reason if SERVER_DOWN <= reason <= SUPERSEDED else SERVER_DOWN, when
        self.connections = connections
        self.no_sums()
        for id_, connection in connections.items():
            if connection.missing:
                connection.reason, connection.since = REASONS[self.floor_reason], when
            self.count_in(connection, id_, 1)

    def bury(self, claim, number):
        self.number = max(number, self.number) if claim == self.claim else number
        self.claim, self.forgotten, self.connections, self.floor = claim, True, {}, 0
        self.no_sums()

    def shows_alive(self, connection):
        return not connection.missing and not self.lapsed

    def is_orphan(self):
        return not self.ours and self.claim != NO_CLAIM and not self.holder_lives()

    def holder_lives(self):
        return bool(not self.ours and self.holder and not self.holder.silent and not self.holder.left
                    and self.orphaned_at is None)


class Peer:
    """One run of another node."""

    def __init__(self, node, run, now, lease):
        self.node, self.run, self.heard, self.lease = node, run, now, lease
        self.sequence, self.parts, self.memory, self.differs = 0, set(), 0, 0
        self.joining = self.left = self.silent = self.answered = False
        self.asked_at = None


class Repair:
    """What was asked for, of whom."""

    def __init__(self, kind, source, now):
        self.kind, self.source, self.asked_at, self.tries, self.at_number = kind, source, now, 0, 0
        self.intake, self.came = None, False


class Intake:
    """A state that is coming in."""

    def __init__(self, chunk):
        self.transfer, self.first, self.chunks, self.last = chunk.transfer, chunk, {}, None

    def missing(self):
        end = self.last if self.last is not None else max(self.chunks, default=-1)
        ranges = []
        for index in range(end + 1):
            if index in self.chunks:
                continue
            if ranges and ranges[-1][1] == index - 1:
                ranges[-1][1] = index
            else:
                ranges.append([index, index])
        if self.last is None:
            ranges.append([end + 1, MASK])
        return ranges[:RANGES_MOST]


# ------------------------------------------------------------------------------------------------------------- NATS


class Nats:
    """Publish and subscribe over one socket that never blocks; connects anew when it is lost."""

    def __init__(self, port):
        self.port, self.socket, self.up = port, None, False
        self.buffer, self.out, self.subjects, self.last_sid = b"", b"", {}, 0
        self.retry_at, self.wait = 0, 0.1

    def look(self, now):
        """Connects where there is no connection and the time has come; True: it is new."""
        if self.socket or now < self.retry_at:
            return False
        try:
            self.socket = socket.create_connection(("127.0.0.1", self.port), 2)
        except OSError:
            self.lose(now)
            return False
        self.socket.setblocking(False)
        self.up = True
        self.buffer, self.out, self.wait = b"", b"", 0.1
        self.say("CONNECT " + json.dumps({"verbose": False, "pedantic": False, "echo": True, "lang": "python"}))
        for subject, sid in self.subjects.items():
            self.say(f"SUB {subject} {sid}")
        return True

    def lose(self, now):
        if self.socket:
            self.socket.close()
        self.socket, self.up = None, False
        self.retry_at = now + self.wait * (0.5 + secrets.randbelow(500) / 1000)
        self.wait = min(self.wait * 2, 4)

    def say(self, line, payload=None):
        if self.up:
            self.out += line.encode() + b"\r\n" + (payload + b"\r\n" if payload is not None else b"")

    def subscribe(self, subject):
        self.last_sid += 1
        self.subjects[subject] = self.last_sid
        self.say(f"SUB {subject} {self.last_sid}")

    def unsubscribe(self, subject):
        self.say(f"UNSUB {self.subjects.pop(subject)}")

    def publish(self, subject, payload):
        self.say(f"PUB {subject} {len(payload)}", payload)

    def flush(self, now):
        try:
            while self.out and self.up:
                self.out = self.out[self.socket.send(self.out) :]
        except BlockingIOError:
            pass
        except OSError:
            self.lose(now)

    def read(self, now):
        """The messages that have come: (subject, bytes)."""
        try:
            while True:
                data = self.socket.recv(1 << 18)
                if not data:
                    self.lose(now)
                    return []
                self.buffer += data
                if len(data) < 1 << 18:
                    break
        except BlockingIOError:
            pass
        except OSError:
            self.lose(now)
            return []
        return self.parse()

    def parse(self):
        messages, at = [], 0
        while True:
            end = self.buffer.find(b"\r\n", at)
            if end < 0:
                break
            words = self.buffer[at:end].split()
            if words and words[0] == b"MSG":
                length = int(words[-1])
                if len(self.buffer) < end + 2 + length + 2:
                    break
                messages.append((words[1].decode(), self.buffer[end + 2 : end + 2 + length]))
                end += length + 2
            elif words and words[0] == b"PING":
                self.say("PONG")
            elif words and words[0] == b"-ERR":
                print("nats:", self.buffer[at:end].decode(), file=sys.stderr)
            at = end + 2
        self.buffer = self.buffer[at:]
        return messages


# ------------------------------------------------------------------------------------------------------ the envelope


def nodes_named(data):
    """Every `node` (field 2) of the envelope; None: not the format."""

    def number(at):
        value = shift = 0
        while True:
            byte = data[at]
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if not byte & 0x80:
                return value, at

    at, found = 0, []
    try:
        while at < len(data):
            tag, at = number(at)
            kind, size = tag & 7, 0
            if kind == 0:
                _, at = number(at)
            elif kind in (1, 5):
                size = 8 if kind == 1 else 4
            elif kind == 2:
                size, at = number(at)
            else:
                return None
            if at + size > len(data):
                return None
            if tag >> 3 == 2:
                found.append(bytes(data[at : at + size]))
            at += size
    except IndexError:
        return None
    return found


def check(holds):
    if not holds:
        raise Refused("malformed")


def check_texts(message):
    """No NUL in any text."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_BYTES:
            for text in value if field.label == field.LABEL_REPEATED else [value]:
                check(b"\0" not in text)
        elif field.type == field.TYPE_MESSAGE:
            for one in value if field.label == field.LABEL_REPEATED else [value]:
                check_texts(one)


def check_body(kind, body):
    if kind == "beat":
        check(body.part < body.parts <= 65535)
    elif kind == "changes":
        check(not body.changes or 0 < body.first <= MASK - (len(body.changes) - 1))
        for change in body.changes:
            check(CONNECT <= change.kind <= COMPLETE and 0 <= change.reason <= LAPSED)
            check(change.kind != CONNECT or change.model < len(body.models))
    elif kind == "activity":
        check(len(body.ids) == len(body.seen_ms) and all(step > 0 for step in body.ids[1:]) and sum(body.ids) <= MASK)
        check(all(-(2**63) <= body.base_time + one * 10**6 < 2**63 for one in body.seen_ms))
    elif kind == "ask":
        check(body.question != 0 and all(one.first <= one.last for one in body.missing))
    elif kind == "chunk":
        check(0 <= body.floor_reason <= LAPSED)
        for value in body.values:
            check(value.model < len(body.models) and value.seen_ns < 10**6)
            check(-(2**63) <= body.base_time + value.seen_ms * 10**6 + value.seen_ns < 2**63)
    elif kind == "evidence":
        check(len(body.connections) <= 256 and body.status <= 2 and 0 <= body.reason <= LAPSED)

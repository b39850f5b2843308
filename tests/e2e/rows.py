# SPDX-License-Identifier: Apache-2.0
"""Every command of RESP with what it is answered, for clients as they are: redis-cli, hiredis, Python's and Node's.

    rows.check(program, "hiredis", ask)     ask(port, [[word, ...], ...]) gives the replies, in RESP2, of one connection

A reply is text, a number, None or a list; an error is {"error": text}. Times are written as 0 and cursors as CURSOR, and
an error is wanted by how it begins, where some libraries leave the word ERR out."""

import json
import re

import presenced
from presenced import equal

M, N = "2e15302a-bbdf-4077-8e65-116a5a0e0348", "7ffa7cd6-9b1e-4b1e-a441-7b2b5c1f0000"
LARGEST = "18446744073709551615"
ANY = object()  # told elsewhere, or another for each client: an error is wrong


def error(text):
    return {"error": text}



FRESH = ["freshness", "fresh", "stale_since", None, "stale_because", None]
ONE = ["model", M, "server", "s1", "agent", "a", "connection_id", "1", "controller_agent", 0, "status", "alive",
       "user_data", "", "last_seen", 0]

ROWS = [
    # What client libraries say by themselves
    ("HELLO 2", ANY),
    ("AUTH secret", error("ERR AUTH")),
    ("PING", "PONG"),
    ("PING hello", "hello"),
    (["ECHO", "two words, \u00e9 and \"quotes\""], "two words, \u00e9 and \"quotes\""),
    ("SELECT 0", "OK"),
    ("SELECT 1", error("ERR")),
    ("CLIENT SETNAME me", "OK"),
    ("CLIENT GETNAME", "me"),
    ("CLIENT SETINFO LIB-NAME rows", "OK"),
    ("CLIENT ID", ANY),
    ("COMMAND COUNT", ANY),
    ("COMMAND DOCS presence.enabled",
     ["PRESENCE.ENABLED", ["summary", "Whether it records: 1 or 0.", "group", "presence", "syntax", ""]]),
    ("COMMAND", ANY),
    ("NOTHING", error("ERR unknown command 'NOTHING'")),
    # Connections
    (f"PRESENCE.CONNECT s1 {M} a 1", 1),
    (f"PRESENCE.CONNECT s1 {M} a 1", 0),
    (["PRESENCE.CONNECT", "s1", M, "m0", "2", "CONTROLLER", "DATA", "zone \u00fc"], 1),
    (f"presence.connect s2 {N} b {LARGEST}", 1),
    (["PRESENCE.CONNECT", "", M, "a", "1"], error("INVALID server is empty")),
    (f"PRESENCE.ACTIVITY s1 1 2 9 {LARGEST}", 2),
    # Questions
    (f"PRESENCE.STATUS {M} a m0 b", ["alive", "unknown", "unknown"]),
    (f"PRESENCE.STATUSES {N}", ["b", "alive"]),
    (f"PRESENCE.AGENT {M} a", ["status", "alive", "reason", "connected", "since", 0, "last_seen", 0, "connections",
                               ["alive", 1, "missing", 0], *FRESH]),
    ("PRESENCE.COUNT", 3),
    (f"PRESENCE.COUNT MODEL {M} SERVER s1 AGENT a STATUS alive", 1),
    ("PRESENCE.COUNT STATUS asleep", error("INVALID status wants alive")),
    ("PRESENCE.MODELS", [M, N]),
    ("PRESENCE.MODELS SERVER s2", [N]),
    (f"PRESENCE.SERVERS MODEL {M}", ["s1"]),
    (f"PRESENCE.AGENTS MODEL {M}", ["a", "m0"]),
    (f"PRESENCE.AGENTS MODEL {M} LIMIT 1", ["CURSOR", ["a"], 4]),
    ("PRESENCE.VALUES AGENT a", [None, [ONE], 4]),
    ("PRESENCE.VALUES LIMIT 1", ["CURSOR", [ONE], 4]),
    ("PRESENCE.VALUES CURSOR 0123456789abcdef.1", error("LAGGED")),
    ("PRESENCE.SERVER s1", ["server", "s1", "status", "alive", "connections", 2, "alive", 2, "missing", 0, "epoch", "0",
                            "node", "node-1", *FRESH]),
    (f"PRESENCE.EXPLAIN {M} a", ANY),
    ("PRESENCE.CHECK", ["good", 1, "problem", None, "connections", 3, "revision", 4]),
    # Servers
    ("PRESENCE.SERVERDOWN s2", 1),
    (f"PRESENCE.STATUS {N} b", ["missing"]),
    ("PRESENCE.DRAIN s1", 2),
    ("PRESENCE.FORGET s2", 1),
    (["PRESENCE.UPDATESERVER", "s1", "2", M, "a", "1", "0", "", M, "c", "3", "1", "zone"], 2),
    (["PRESENCE.UPDATESERVER", "s1", "2", M, "a", "1", "0", "", M, "c", "1", "1", ""], error("DUPLICATE")),
    ("PRESENCE.UPDATESERVER s1 BEGIN", "OK"),
    (["PRESENCE.UPDATESERVER", "s1", "ADD", "1", M, "d", "4", "0", ""], 1),
    ("PRESENCE.UPDATESERVER s1 COMMIT", 1),
    ("PRESENCE.UPDATESERVER s1 BEGIN", "OK"),
    ("PRESENCE.UPDATESERVER s1 ABORT", "OK"),
    (["PRESENCE.MERGESERVER", "s1", "1", M, "e", "5", "0", ""], 1),
    (f"PRESENCE.STATUS {M} a c d e", ["unknown", "unknown", "alive", "alive"]),
    ("PRESENCE.DISCONNECT s1 5 9", 1),
    # Sessions, and who joins
    ("PRESENCE.SESSION gw EPOCH 5 GRACE 100", "OK"),
    ("PRESENCE.SESSION gw EPOCH 4", error("STALE")),
    ("PRESENCE.SESSION gw EPOCH 5 TAKEOVER", "OK"),
    (f"PRESENCE.CONNECT gw {M} f 1", 1),
    (f"PRESENCE.JOIN {M} joined", "1"),
    (f"PRESENCE.JOIN {M} again", error("DUPLICATE")),
    (f"PRESENCE.STATUS {M} f joined", ["alive", "alive"]),
    ("PRESENCE.UNWATCH", ["unsubscribe", "presence", 0]),
    ("RESET", "RESET"),
    (f"PRESENCE.STATUS {M} f joined", ["missing", "unknown"]),
    # The switch
    ("PRESENCE.ENABLED", 1),
    ("PRESENCE.DISABLE", "OK"),
    (f"PRESENCE.CONNECT s1 {M} a 1", error("DISABLED")),
    ("PRESENCE.ENABLED", 0),
    ("PRESENCE.ENABLE", "OK"),
    ("PRESENCE.COUNT", 0),
]
WATCH, TOLD_OF_WATCH = ["PRESENCE.WATCH", "AFTER", "1", "AGENTS"], ["subscribe", "presence", 1]

# Of a cluster, which has tests of its own; WATCH, QUIT and INFO have the callers.
ELSEWHERE = {"PRESENCE.CLUSTER", "PRESENCE.VERIFY", "PRESENCE.TESTIMONY", "PRESENCE.WATCH", "QUIT", "INFO"}


def commands():
    return [row if isinstance(row, list) else row.split() for row, _ in ROWS]


def plain(reply):
    """Without what differs from run to run."""
    if isinstance(reply, list):
        return [plain(each) for each in reply]
    if isinstance(reply, int) and reply > 1000000000000:
        return 0
    if isinstance(reply, str) and re.fullmatch(r"[0-9a-f]{16}\.\d+", reply):
        return "CURSOR"
    return reply


def is_as_wanted(reply, wanted):
    failed = isinstance(reply, dict) and set(reply) == {"error"}
    if wanted is ANY:
        return not failed and reply is not None
    if isinstance(wanted, dict):
        told = reply["error"] if failed else ""
        return failed and (told.startswith(wanted["error"]) or f"ERR {told}".startswith(wanted["error"]))
    return plain(reply) == wanted


def check(program, name, ask):
    """Tells a story of the client: each row is answered as it should be."""
    def told():
        with presenced.Daemon(program, "--node", "node-1") as daemon:
            replies = ask(daemon.port, commands())
        wrong = [f"{' '.join(words)}: wanted {wanted if wanted is not ANY else 'an answer'}, got {json.dumps(reply)}"
                 for words, (_, wanted), reply in zip(commands(), ROWS, replies) if not is_as_wanted(reply, wanted)]
        assert not wrong, "\n".join(wrong)
        equal(len(replies), len(ROWS))
    presenced.story(f"every command is answered to {name}", told)


def none_is_left_out(program):
    """Whatever presenced says that it knows has a row."""
    with presenced.Daemon(program) as daemon:
        known = {entry[0].upper() for entry in daemon.client().ask("COMMAND")}
    asked = {words[0].upper() for words in commands()}
    equal(known - asked, ELSEWHERE & known)

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_access.py PRESENCED - tokens and roles over RESP: what each may, and that an attacker's way fails."""

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time

import presenced
from presenced import Daemon, Error, encode, equal, holds, story

program = sys.argv[1]
MINE = "2e15302a-bbdf-4077-8e65-116a5a0e0348"
OTHER = "94b1f0a4-0b6f-4b7c-9a3e-5d0f6f1c8a11"
folder = tempfile.TemporaryDirectory()
ROLES = {
    "operator": "admin",
    "reader": "read",
    "gateway": "report:machine-0 report:my%20server",
    "tenant": "model:" + MINE,
    "landlord": f"model:{MINE} model:{OTHER}",
    "unit": f"join:{MINE}/unit-a-0",
    "leaver": "read",
}


def token_of(name):
    return "secret of " + name


def write_tokens(roles, name="tokens"):
    path = os.path.join(folder.name, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write("# who may do what\n\n")
        for who, what in roles.items():
            file.write(f"{who} sha256:{hashlib.sha256(token_of(who).encode()).hexdigest()} {what}\n")
    return path


def as_(daemon, name):
    client = daemon.client()
    equal(client.ask("AUTH", token_of(name)), "OK")
    return client


def refused(reply, word, part=""):
    assert isinstance(reply, Error) and reply.startswith(word + " "), f"wanted {word}, got {reply!r}"
    holds(reply, part)


def fill(daemon):
    admin = as_(daemon, "operator")
    equal(admin.ask("PRESENCE.CONNECT", "machine-0", MINE, "unit-a-0", 1), 1)
    equal(admin.ask("PRESENCE.CONNECT", "machine-0", OTHER, "unit-b-0", 2), 1)
    equal(admin.ask("PRESENCE.CONNECT", "machine-1", OTHER, "unit-b-1", 3), 1)
    return admin


def nobody_may_anything(daemon):
    """Given tokens, when a client has not said who it is, then every command but the handshake is refused, in a pipeline
    and as a row too."""
    fill(daemon)
    client = daemon.client()
    for words in (["PING"], ["PRESENCE.COUNT"], ["PRESENCE.STATUS", MINE, "unit-a-0"], ["COMMAND"], ["INFO"],
                  ["PRESENCE.CONNECT", "machine-0", MINE, "x", 9], ["PRESENCE.DISABLE"], ["HELLO", 3],
                  ["PRESENCE.CONNECT"]):
        refused(client.ask(*words), "NOAUTH")
    client.send(encode("PRESENCE.ACTIVITY", "machine-0", 1) * 3)
    for _ in range(3):
        refused(client.reply(), "NOAUTH")
    client.send(encode("PRESENCE.STATUS", MINE, "unit-a-0") * 3)
    for _ in range(3):
        refused(client.reply(), "NOAUTH")


def nobody_may_send_much(daemon):
    """Given tokens, when a client that has not said who it is announces a large command, then it is cut off at once;
    one that says so first, in the same breath, is served."""
    for beginning in (b"*3\r\n$10\r\nPRESENCE.X\r\n$1000000\r\n", b"*1000\r\n"):
        client = daemon.client()
        client.send(beginning)
        refused(client.reply(), "ERR", "Protocol error")
        assert client.is_closed()
    client = daemon.client()
    client.send(encode("AUTH", token_of("reader")) + encode("ECHO", "x" * 100000))
    equal(client.reply(), "OK")
    equal(client.reply(), "x" * 100000)


def a_token_opens(daemon):
    client = daemon.client()
    refused(client.ask("AUTH", "secret of nobody"), "WRONGPASS")
    refused(client.ask("AUTH", "reader", token_of("operator")), "WRONGPASS")
    refused(client.ask("AUTH", token_of("reader") + "\0"), "WRONGPASS")
    refused(client.ask("AUTH", ""), "WRONGPASS")
    refused(client.ask("PING"), "NOAUTH")
    equal(client.ask("AUTH", "default", token_of("reader")), "OK")
    equal(client.ask("PING"), "PONG")
    other = daemon.client()
    equal(other.ask("HELLO", 3, "AUTH", "operator", token_of("operator"), "SETNAME", "me")["proto"], 3)
    equal(other.ask("CLIENT", "GETNAME"), "me")
    # A bad token leaves what was proved before; RESET does not.
    refused(other.ask("AUTH", "no"), "WRONGPASS")
    equal(other.ask("PING"), "PONG")
    equal(other.ask("RESET"), "RESET")
    refused(other.ask("PING"), "NOAUTH")


def a_gateway_states_its_own_servers_only(daemon):
    fill(daemon)
    client = as_(daemon, "gateway")
    equal(client.ask("PRESENCE.CONNECT", "machine-0", MINE, "unit-c-0", 7), 1)
    equal(client.ask("PRESENCE.CONNECT", "my server", MINE, "unit-c-0", 7), 1)
    for words in (["PRESENCE.CONNECT", "machine-1", MINE, "x", 9], ["PRESENCE.DISCONNECT", "machine-1", 3],
                  ["PRESENCE.ACTIVITY", "machine-1", 3], ["PRESENCE.SERVERDOWN", "machine-1"],
                  ["PRESENCE.DRAIN", "machine-1"], ["PRESENCE.CONNECT", "my", MINE, "x", 9]):
        refused(client.ask(*words), "NOPERM", "report:")
    # Not by hiding among rows of a pipeline either.
    client.send(encode("PRESENCE.ACTIVITY", "machine-0", 1) * 2 + encode("PRESENCE.ACTIVITY", "machine-1", 3) * 2 +
                encode("PRESENCE.ACTIVITY", "machine-0", 1))
    equal([client.reply(), client.reply()], [1, 1])
    refused(client.reply(), "NOPERM")
    refused(client.reply(), "NOPERM")
    equal(client.reply(), 1)
    for words in (["PRESENCE.STATUS", MINE, "unit-a-0"], ["PRESENCE.COUNT"], ["PRESENCE.COUNT", "MODEL", MINE],
                  ["INFO"], ["PRESENCE.DISABLE"]):
        refused(client.ask(*words), "NOPERM")
    equal(as_(daemon, "reader").ask("PRESENCE.STATUS", OTHER, "unit-b-1"), ["alive"])


def a_reader_changes_nothing(daemon):
    fill(daemon)
    client = as_(daemon, "reader")
    equal(client.ask("PRESENCE.COUNT"), 3)
    for words in (["PRESENCE.CONNECT", "machine-0", MINE, "x", 9], ["PRESENCE.SERVERDOWN", "machine-0"],
                  ["PRESENCE.DISABLE"], ["PRESENCE.ENABLE"]):
        refused(client.ask(*words), "NOPERM")
    equal(client.ask("PRESENCE.COUNT"), 3)


def a_tenant_sees_its_model_only(daemon):
    """Given two models on one server, when a token of one of them asks, then nothing of the other is told, and errors do
    not tell whether it is there."""
    fill(daemon)
    client = as_(daemon, "tenant")
    equal(client.ask("PRESENCE.STATUS", MINE, "unit-a-0", "unit-b-0"), ["alive", "unknown"])
    equal(client.ask("PRESENCE.COUNT"), 1)
    equal(client.ask("PRESENCE.COUNT", "SERVER", "machine-0"), 1)
    equal(client.ask("PRESENCE.COUNT", "SERVER", "machine-1"), 0)
    equal(client.ask("PRESENCE.COUNT", "AGENT", "unit-b-0"), 0)
    there = client.ask("PRESENCE.STATUS", OTHER, "unit-b-0")
    gone = client.ask("PRESENCE.STATUS", OTHER[:-1] + "2", "unit-b-0")
    refused(there, "NOPERM")
    equal(there.replace(OTHER, "X"), gone.replace(OTHER[:-1] + "2", "X"))
    refused(client.ask("PRESENCE.COUNT", "MODEL", OTHER), "NOPERM")
    refused(client.ask("PRESENCE.AGENT", OTHER, "unit-b-0"), "NOPERM")
    for _ in range(2):  # the second answer is kept: not for everybody
        equal(as_(daemon, "reader").ask("PRESENCE.STATUSES", OTHER), ["unit-b-0", "alive", "unit-b-1", "alive"])
        refused(client.ask("PRESENCE.STATUSES", OTHER), "NOPERM")
        equal(client.ask("PRESENCE.STATUSES", MINE)[:2], ["unit-a-0", "alive"])
    refused(client.ask("INFO"), "NOPERM")
    client.send(encode("PRESENCE.STATUS", OTHER, "unit-b-0") * 2 + encode("PRESENCE.STATUS", MINE, "unit-a-0"))
    refused(client.reply(), "NOPERM")
    refused(client.reply(), "NOPERM")
    equal(client.reply(), ["alive"])


def one_with_two_models_must_say_which(daemon):
    fill(daemon)
    client = as_(daemon, "landlord")
    refused(client.ask("PRESENCE.COUNT"), "NOPERM", "which of your models")
    equal(client.ask("PRESENCE.COUNT", "MODEL", MINE), 1)
    equal(client.ask("PRESENCE.COUNT", "MODEL", OTHER), 2)


def administrative_acts_are_logged(daemon):
    equal(as_(daemon, "operator").ask("PRESENCE.DISABLE"), "OK")
    holds(daemon.logged(), "event=administered command=PRESENCE.DISABLE")
    holds(daemon.logged(), "principal=operator")
    refused(as_(daemon, "reader").ask("PRESENCE.ENABLE"), "NOPERM")
    holds(daemon.logged(), "event=refused command=PRESENCE.ENABLE")
    holds(daemon.logged(), "principal=reader")
    assert token_of("operator") not in daemon.logged()


def whoever_guesses_is_slowed(daemon):
    """Given ten bad tokens, when an eleventh comes at once, then it is told to wait, and logged no more; a good one from
    the same address opens all the same: who guesses must not lock others out."""
    client = daemon.client()
    for _ in range(10):
        refused(client.ask("AUTH", "guess"), "WRONGPASS")
    refused(client.ask("AUTH", "guess"), "BUSY", "wait")
    equal(daemon.client().ask("AUTH", token_of("reader")), "OK")
    end = time.monotonic() + presenced.WAIT_S
    while not client.ask("AUTH", "guess").startswith("WRONGPASS"):
        assert time.monotonic() < end
        time.sleep(0.2)


def names_in_tokens_cannot_break_a_log_line(daemon):
    client = daemon.client()
    refused(client.ask("AUTH", "x\r\nlevel=info event=administered"), "WRONGPASS")
    assert "event=administered" not in daemon.logged()


def a_reload_takes_and_gives(path):
    """Given a token in use, when it leaves the file and presenced gets SIGHUP, then its clients are told so and closed;
    the others go on; and a file with a mistake is kept out."""
    with Daemon(program, "--tokens", path) as daemon:
        leaver, reader, watcher = as_(daemon, "leaver"), as_(daemon, "reader"), as_(daemon, "leaver")
        assert not isinstance(watcher.ask("PRESENCE.WATCH"), Error)
        with open(path, "a", encoding="utf-8") as file:
            file.write("broken line\n")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until(lambda: 'event="not reloaded"' in daemon.logged())
        holds(daemon.logged(), "reloaded:10: ")
        equal(leaver.ask("PING"), "PONG")
        write_tokens({**{who: what for who, what in ROLES.items() if who != "leaver"}, "comer": "read"}, "reloaded")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until(lambda: "event=reloaded" in daemon.logged())
        refused(leaver.reply(), "NOAUTH", "your token is no more")
        equal(leaver.rest(), b"")
        refused(daemon.client().ask("AUTH", token_of("leaver")), "WRONGPASS")
        equal(reader.ask("PING"), "PONG")
        equal(as_(daemon, "comer").ask("PING"), "PONG")
        equal(as_(daemon, "operator").ask("PRESENCE.CONNECT", "machine-0", MINE, "unit-late", 1), 1)
        told = watcher.rest()  # all, until it is closed
        assert b"unit-late" not in told and b"-NOAUTH your token is no more" in told, told


def reload(daemon, path, roles):
    before = daemon.logged().count("event=reloaded")
    write_tokens(roles, os.path.basename(path))
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_until(lambda: daemon.logged().count("event=reloaded") > before)


def a_revoked_token_keeps_nothing(path):
    """Given clients of one token with a session and with a join, and another token's, when the line leaves the file, then
    both are told and closed on whatever loop they are, the join leaves at once, the session's server goes down, and
    nothing of what they send meanwhile stamps anything; the other token's go on."""
    roles = {"operator": "admin", "gateway": "report:machine-0", "unit": f"join:{MINE}/unit-a-0",
             "other": f"report:machine-1 join:{MINE}/unit-a-1"}
    write_tokens(roles, os.path.basename(path))
    with Daemon(program, "--tokens", path, "--threads", "3") as daemon:
        admin = as_(daemon, "operator")
        gateways, units = [as_(daemon, "gateway") for _ in range(3)], [as_(daemon, "unit") for _ in range(3)]
        kept = [as_(daemon, "other") for _ in range(2)]
        for gateway in gateways:
            equal(gateway.ask("PRESENCE.SESSION", "machine-0", "EPOCH", 1), "OK")
        equal(gateways[0].ask("PRESENCE.CONNECT", "machine-0", MINE, "x", 1), 1)
        for unit in units:
            assert not isinstance(unit.ask("PRESENCE.JOIN", MINE, "unit-a-0"), Error)
        equal(kept[0].ask("PRESENCE.SESSION", "machine-1", "EPOCH", 1), "OK")
        equal(kept[0].ask("PRESENCE.CONNECT", "machine-1", MINE, "y", 1), 1)
        kept[1].ask("PRESENCE.JOIN", MINE, "unit-a-1")
        reload(daemon, path, {who: what for who, what in roles.items() if who not in ("gateway", "unit")})
        for client in gateways + units:
            refused(client.reply(), "NOAUTH", "your token is no more")
        equal(admin.ask("PRESENCE.STATUS", MINE, "unit-a-0", "x"), ["unknown", "missing"])
        for client in gateways + units:
            equal(client.rest(), b"")
        equal(admin.ask("PRESENCE.STATUS", MINE, "unit-a-1", "y"), ["alive", "alive"])
        for client in kept:
            equal(client.ask("PING"), "PONG")


def a_line_that_gives_less_takes_what_it_gives_no_more(path):
    """Given clients that hold a session, a join and a watch, when their line says other roles under the same token, then
    each goes on if the new roles allow what it holds, without another AUTH; else it is told and closed."""
    roles = {"operator": "admin", "much": f"read report:machine-0 report:machine-1 join:{MINE}"}
    write_tokens(roles, os.path.basename(path))
    with Daemon(program, "--tokens", path, "--threads", "3") as daemon:
        admin = as_(daemon, "operator")
        one, two, unit, watcher, plain = [as_(daemon, "much") for _ in range(5)]
        equal(one.ask("PRESENCE.SESSION", "machine-0"), "OK")
        equal(two.ask("PRESENCE.SESSION", "machine-1"), "OK")
        unit.ask("PRESENCE.JOIN", MINE, "unit-a-0")
        watcher.ask("HELLO", 3)
        watcher.ask("PRESENCE.WATCH")
        reload(daemon, path, {**roles, "much": f"read report:machine-1 report:machine-0 join:{MINE}"})
        for client in (one, two, unit, plain):
            equal(client.ask("PING"), "PONG")
        reload(daemon, path, {**roles, "much": f"model:{MINE} report:machine-1 join:{MINE}/unit-a-1"})
        for client in (one, unit):
            refused(client.reply(), "NOPERM", "your token may no more hold")
            equal(client.rest(), b"")
        holds(watcher.rest().decode(), "-NOPERM your token may no more hold")
        equal(two.ask("PRESENCE.CONNECT", "machine-1", MINE, "x", 1), 1)
        refused(two.ask("PRESENCE.CONNECT", "machine-0", MINE, "x", 1), "NOPERM")
        refused(plain.ask("INFO"), "NOPERM", "read")
        equal(admin.ask("PRESENCE.STATUS", MINE, "unit-a-0", "x"), ["unknown", "alive"])


def who_holds_something_cannot_become_another(daemon):
    """Given a session, a join, a watch, when the client says that it is somebody who may not hold that, then it is refused
    and stays who it was; after RESET it may."""
    fill(daemon)
    for name, words in (("gateway", ["PRESENCE.SESSION", "machine-0"]), ("unit", ["PRESENCE.JOIN", MINE, "unit-a-0"]),
                        ("reader", ["PRESENCE.WATCH"])):
        client = daemon.client()
        client.ask("HELLO", 3, "AUTH", name, token_of(name))
        assert not isinstance(client.ask(*words), Error)
        for proof in (["AUTH", token_of("tenant")], ["HELLO", 3, "AUTH", "tenant", token_of("tenant")]):
            reply = client.ask(*proof)
            while isinstance(reply, presenced.Push):
                reply = client.reply()
            refused(reply, "NOPERM", 'that "tenant" may not: RESET first')
        equal(client.ask("AUTH", token_of("operator")), "OK")  # who may all of it
        equal(client.ask("AUTH", token_of(name)), "OK")
        equal(client.ask("RESET"), "RESET")
        equal(client.ask("AUTH", token_of("tenant")), "OK")


def start_fails(wanted, *options):
    done = subprocess.run([program, *options], stderr=subprocess.PIPE, timeout=presenced.WAIT_S, check=False)
    assert done.returncode == 2, f"ended with {done.returncode}"
    holds(done.stderr.decode(), wanted)


def what_is_not_safe_does_not_start(tokens):
    everywhere = ["--http", "none", "--resp", "0.0.0.0:0"]
    start_fails("without tokens and TLS", *everywhere)
    start_fails("without tokens and TLS", *everywhere, "--tokens", tokens)
    start_fails("without tokens and TLS", "--http", "none", "--resp", "[::]:0")
    start_fails("--http: 0.0.0.0:0", "--resp", "none", "--http", "127.0.0.1:0,0.0.0.0:0")
    start_fails("--resp: 0.0.0.0:0", "--resp", "0.0.0.0:0,127.0.0.1:0")
    start_fails("cannot read", "--tokens", "/nonexistent")
    for safe in (["--insecure"], ["--resp", "127.0.0.1:0,[::1]:0,unix:/tmp/none"]):  # and what is, or is wished, does
        subprocess.run([program, *everywhere, *safe, "--check-config"], check=True, capture_output=True,
                       timeout=presenced.WAIT_S)
    for line, wanted in (("a", "sha256:"), ("a sha256:00 read", "sha256:"), (f"a sha256:{'0' * 64}", "one role"),
                         (f"a sha256:{'0' * 64} write", "wants read"), (f"a sha256:{'0' * 64} model:", "wants read"),
                         (f"a sha256:{'0' * 64} report:%zz", "wants read"),
                         (f"a sha256:{'0' * 64} read\na sha256:{'1' * 64} read", "name of an earlier"),
                         (f"a sha256:{'0' * 64} read\nb sha256:{'0' * 64} read", "token of an earlier"),
                         ("# nobody", "no token")):
        bad = os.path.join(folder.name, "bad")
        with open(bad, "w", encoding="utf-8") as file:
            file.write(line + "\n")
        start_fails(wanted, "--tokens", bad, "--check-config")


tokens = write_tokens(ROLES)
presenced.tell(program, [
    nobody_may_anything, nobody_may_send_much, a_token_opens, a_gateway_states_its_own_servers_only, a_reader_changes_nothing,
    a_tenant_sees_its_model_only, one_with_two_models_must_say_which, administrative_acts_are_logged,
    who_holds_something_cannot_become_another, whoever_guesses_is_slowed, names_in_tokens_cannot_break_a_log_line], "--tokens", tokens, "--threads", "2")


story("a reload takes and gives", lambda: a_reload_takes_and_gives(write_tokens(ROLES, "reloaded")))
story("a revoked token keeps nothing", lambda: a_revoked_token_keeps_nothing(write_tokens(ROLES, "revoked")))
story("a line that gives less takes what it gives no more",
      lambda: a_line_that_gives_less_takes_what_it_gives_no_more(write_tokens(ROLES, "changed")))
story("what is not safe does not start", what_is_not_safe_does_not_start, tokens)
presenced.end()

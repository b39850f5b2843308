#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_resp_limits.py PRESENCED - each limit of RESP: the attacker's way fails, and nobody else notices."""

import hashlib
import socket
import sys
import tempfile
import threading
import time

import presenced
from presenced import Error, encode, equal, holds

program = sys.argv[1]
TOKEN = "a-token-of-this-test-only-0123456789"
MODEL = "2e15302a-bbdf-4077-8e65-116a5a0e0348"


def bystander(daemon):
    """Somebody else's client, which must not notice anything."""
    client = daemon.client()
    equal(client.ask("PING"), "PONG")
    return client


def the_last_reply_arrives_though_input_is_unread(daemon):
    """Given replies that fill the socket, when a protocol error follows them and more input behind it, then all replies
    arrive, the error last: closing with input unread would have reset the connection."""
    client = daemon.client(receive_buffer=4096)
    text = "x" * 60000
    count = 60
    sender = threading.Thread(target=client.send, args=(
        encode("ECHO", text) * count + b"*1\r\n$oops\r\n" + b"PING\r\n" * 50000,))
    sender.start()
    for _ in range(count):
        equal(client.reply(), text)
    equal(client.reply(), Error("ERR Protocol error: invalid bulk length"))
    equal(client.rest(), b"")
    sender.join()


def quit_is_answered_last(daemon):
    client = daemon.client()
    client.send(b"PING\r\nQUIT\r\nPING\r\n" + b"PING\r\n" * 20000)
    equal(client.rest(), b"+PONG\r\n+OK\r\n")


def who_closes_its_own_side_is_answered_still(daemon):
    client = daemon.client(receive_buffer=4096)
    client.send(encode("ECHO", "y" * 50000) * 40)
    client.socket.shutdown(socket.SHUT_WR)
    for _ in range(40):
        equal(len(client.reply()), 50000)
    equal(client.rest(), b"")


def a_stop_sends_what_waits(daemon):
    """Given a client whose replies wait, when presenced is stopped, then they arrive before it ends."""
    client = daemon.client(receive_buffer=4096)
    client.send(encode("ECHO", "z" * 60000) * 100)
    daemon.wait_until(lambda: daemon.info("total_commands_processed") >= 100)
    daemon.process.terminate()
    for _ in range(100):
        equal(len(client.reply()), 60000)
    equal(client.rest(), b"")
    equal(daemon.process.wait(presenced.WAIT_S), 0)


def a_stop_does_not_wait_for_who_never_reads(daemon):
    client = daemon.client(receive_buffer=4096)
    client.send(encode("ECHO", "z" * 60000) * 100)
    daemon.wait_until(lambda: daemon.info("total_commands_processed") >= 100)
    daemon.stop()  # fails unless it ends, with status 0
    client.close()


def a_pipeline_may_be_sent_whole_before_a_reply_is_read(daemon):
    """As client libraries do. What waits is 3 MiB, far more than the socket holds, and less than max-output-bytes."""
    client = daemon.client(receive_buffer=4096)
    count = 30000
    client.send(encode("ECHO", "w" * 100) * count)
    for _ in range(count):
        equal(client.reply(), "w" * 100)


def who_reads_nothing_is_paused_then_cut_off(daemon):
    """Given small limits, when a client asks and asks and reads nothing, then it is read from no more, and is cut off
    after request-timeout; what it asked for before costs no more memory than the limit."""
    other = bystander(daemon)
    client = daemon.client(receive_buffer=4096)
    request = encode("ECHO", "v" * 1000) * 1000
    client.socket.settimeout(0.2)
    sent = 0
    try:
        while sent < 1 << 28:
            sent += client.socket.send(request)
    except (socket.timeout, ConnectionError):
        pass
    assert sent < 1 << 27, "it was read from without end"
    daemon.wait_until(lambda: 'why="does not read its replies"' in daemon.logged())
    equal(other.ask("PING"), "PONG")


def one_reply_beyond_the_limit_is_cut_off(daemon):
    other = bystander(daemon)
    client = daemon.client(receive_buffer=4096)
    client.send(encode("ECHO", "v" * 12000000))  # and reads nothing: who keeps pace is sent all of it
    daemon.wait_until(lambda: 'why="reads too slowly"' in daemon.logged())
    assert client.is_closed()
    equal(other.ask("PING"), "PONG")


def half_a_command_times_out(daemon):
    """A slow-loris sends a byte now and then, and never a whole command."""
    other = bystander(daemon)
    waiting = daemon.client()  # says nothing at all: that is no half command
    equal(waiting.ask("PING"), "PONG")
    drip, head = daemon.client(), daemon.client()
    head.send(b"*3\r\n$8\r\nPRESENCE")
    drip.socket.settimeout(0.1)
    drip.send(b"*2\r\n$4\r\nECHO\r\n$100000\r\n")
    try:
        for _ in range(presenced.WAIT_S * 10):
            drip.send(b"x")
            try:
                equal(drip.socket.recv(1), b"")
                break
            except socket.timeout:
                continue
        else:
            raise AssertionError("it was never cut off")
    except ConnectionError:
        pass
    assert head.is_closed()
    equal(daemon.logged().count('why="leaves a request unfinished"'), 2)
    equal(waiting.ask("PING"), "PONG")
    equal(other.ask("PING"), "PONG")


def the_idle_are_closed(daemon):
    """Given an idle timeout, then who says nothing is closed, and who pings stays."""
    busy, idle = daemon.client(), daemon.client()
    idle.socket.settimeout(0.05)
    closed = False
    while not closed:
        equal(busy.ask("PING"), "PONG")
        try:
            closed = idle.socket.recv(1) == b""
        except socket.timeout:
            pass
        except ConnectionError:
            closed = True
        assert daemon.process.poll() is None
    equal(busy.ask("PING"), "PONG")
    holds(daemon.logged(), "why=idle")


def more_clients_than_allowed_are_refused(daemon):
    kept = [daemon.client() for _ in range(10)]
    for client in kept:
        equal(client.ask("PING"), "PONG")
    refused = daemon.client()
    equal(refused.rest(), b"-BUSY max-clients is reached\r\n")
    kept.pop().close()
    daemon.wait_until(lambda: admitted(daemon))
    for client in kept:
        equal(client.ask("PING"), "PONG")


def admitted(daemon):
    client = daemon.client()
    try:
        client.send(b"PING\r\n")
        return client.reply() == "PONG"
    except (presenced.Closed, ConnectionError):
        return False


def frames_are_refused_by_what_they_announce(daemon):
    """No memory is taken for what a head announces, and each frame ends its own client alone."""
    other = bystander(daemon)
    cases = {
        b"*2000000\r\n": "more arguments than max-request-words",
        b"*99999999999999999999\r\n": "invalid multibulk length",
        b"*1\r\n$536870912\r\n": "the request is larger than max-request-bytes",
        b"*1\r\n$-2\r\n": "invalid bulk length",
        b"*1\r\n+PING\r\n": "expected '$' before each argument",
        b"*1\r\n$4\r\nPINGPING": "an argument is not followed by CR LF",
        b"PING \"\r\n": "unbalanced quotes in a request",
        b"x" * 100000: "an inline command is too long",
        b"*" + b"1" * 100000: "invalid multibulk length",
    }
    for frame, why in cases.items():
        client = daemon.client()
        client.send(frame)
        equal(client.reply(), Error("ERR Protocol error: " + why))
        equal(client.rest(), b"")
        equal(other.ask("PING"), "PONG")
    equal(daemon.info("total_commands_processed") > 0, True)


def many_words_are_within_the_limits(daemon):
    """A whole list in one command, large and long, goes through."""
    client = daemon.client()
    ids = [str(number) for number in range(200000)]
    equal(client.ask("PRESENCE.ACTIVITY", "machine-0", *ids), 0)
    equal(client.ask("ECHO", "a" * 15000000), "a" * 15000000)


def a_web_page_is_hung_up_on(daemon):
    """Given what a browser sends for a form or a fetch aimed at our port, then nothing of its body is run."""
    other = bystander(daemon)
    body = b"\r\nPRESENCE.DISABLE\r\n"
    for head in (b"POST / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: 127.0.0.1:7790\r\n",
                 b"OPTIONS / HTTP/1.1\r\nhost:127.0.0.1\r\n", b"PUT /v1 HTTP/1.1\r\nX: y\r\nHOST: a\r\n"):
        client = daemon.client()
        client.send(head + body)
        assert client.is_closed()
        equal(other.ask("PRESENCE.ENABLED"), 1)


def a_tls_greeting_to_a_plain_port_harms_nobody(daemon):
    other = bystander(daemon)
    client = daemon.client()
    client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500)
    client.send(b"\n")
    holds(client.reply(), "unknown command")
    equal(other.ask("PING"), "PONG")


def replies_and_logs_show_no_raw_bytes(daemon):
    """Names that would break a terminal or a log line, in every place where they are quoted."""
    client = daemon.client()
    nasty = "\x1b[2J\x07\u202e<script>"
    for reply in (client.ask(nasty), client.ask("PRESENCE.ACTIVITY", "s", nasty),
                  client.ask("PRESENCE.CONNECT", "s", MODEL, nasty, 1), client.ask("PRESENCE.COUNT", nasty),
                  client.ask("CLIENT", "SETNAME", nasty), client.ask("PRESENCE.COUNT", "STATUS", nasty)):
        assert isinstance(reply, Error), reply
        assert all(" " <= letter < "\x7f" for letter in reply), reply
    assert all(" " <= letter < "\x7f" or letter == "\n" for letter in daemon.logged())


def strangers_get_little(daemon):
    """Given tokens in use, then who has not said who it is cannot make the daemon hold a large request; and who has,
    can."""
    for frame, why in ((b"*2\r\n$4\r\nAUTH\r\n$100000\r\n", "the request is larger than max-request-bytes"),
                       (b"*17\r\n", "more arguments than max-request-words"),
                       (b"x" * 5000, "an inline command is too long")):
        client = daemon.client()
        client.send(frame)
        equal(client.reply(), Error("ERR Protocol error: " + why))
        equal(client.rest(), b"")
    holds(daemon.client().ask(*["PRESENCE.STATUS"] * 16), "NOAUTH ")
    known = daemon.client()
    equal(known.ask("AUTH", TOKEN), "OK")
    equal(known.ask("ECHO", "x" * 100000), "x" * 100000)


def strangers_do_not_stay(daemon):
    """Given tokens in use, when somebody opens a connection and says nothing, or only what proves nothing, or is nobody
    again by RESET, then it is closed after request-timeout; who has said who it is may be silent."""
    known, silent, talks = daemon.client(), daemon.client(), daemon.client()
    equal(known.ask("AUTH", TOKEN), "OK")
    end = time.monotonic() + presenced.WAIT_S
    try:
        while time.monotonic() < end:
            holds(talks.ask("PING"), "NOAUTH ")
            time.sleep(0.01)
        raise AssertionError("it was never closed")
    except (presenced.Closed, ConnectionError):
        pass
    assert silent.is_closed()
    equal(daemon.logged().count('why="has not said who it is"'), 2)
    equal(known.ask("PING"), "PONG")
    equal(known.ask("RESET"), "RESET")
    assert known.is_closed()


def a_silent_peer_is_probed(daemon):
    """Half-open TCP: given a client at rest, then the kernel's keepalive timer runs for it (2 in its table)."""
    client = bystander(daemon)
    port = client.socket.getsockname()[1]
    with open("/proc/net/tcp", encoding="ascii") as table:
        ends = [line.split() for line in table][1:]
    wanted = (f":{daemon.port:04X}", f":{port:04X}")
    timers = [end[5].split(":")[0] for end in ends if (end[1][-5:], end[2][-5:]) == wanted]
    equal(timers, ["02"])


def nothing_is_left_of_who_went(daemon):
    """Given clients of every kind of end, when they are gone, then no descriptor and no place is."""
    equal(daemon.info("connected_clients"), 1)
    before = daemon.descriptors()
    for ending in (b"", b"QUIT\r\n", b"*1\r\n$x\r\n", b"*2\r\n$4\r\nECHO\r\n$5000\r\nabc",
                   encode("ECHO", "q" * 100000)):
        for _ in range(20):
            client = daemon.client()
            client.send(ending)
    daemon.close_clients()
    daemon.wait_until(lambda: daemon.info("connected_clients") == 1)
    daemon.wait_until(lambda: daemon.descriptors() == before)


presenced.tell(program, [
    the_last_reply_arrives_though_input_is_unread, quit_is_answered_last, who_closes_its_own_side_is_answered_still,
    a_stop_sends_what_waits, a_stop_does_not_wait_for_who_never_reads,
    a_pipeline_may_be_sent_whole_before_a_reply_is_read, frames_are_refused_by_what_they_announce,
    many_words_are_within_the_limits, a_web_page_is_hung_up_on, a_tls_greeting_to_a_plain_port_harms_nobody,
    replies_and_logs_show_no_raw_bytes, a_silent_peer_is_probed, nothing_is_left_of_who_went])
presenced.tell(program, [who_reads_nothing_is_paused_then_cut_off],
               "--request-timeout", "300ms", "--max-output-bytes", "8m")
presenced.tell(program, [one_reply_beyond_the_limit_is_cut_off], "--max-output-bytes", "1m")
presenced.tell(program, [half_a_command_times_out], "--request-timeout", "500ms", "--threads", "2")
presenced.tell(program, [the_idle_are_closed], "--idle-timeout", "400ms")
with tempfile.NamedTemporaryFile("w", prefix="presence-test.") as tokens:
    tokens.write(f"reader sha256:{hashlib.sha256(TOKEN.encode()).hexdigest()} read\n")
    tokens.flush()
    presenced.tell(program, [strangers_get_little], "--tokens", tokens.name)
    presenced.tell(program, [strangers_do_not_stay], "--tokens", tokens.name, "--request-timeout", "500ms",
                   "--threads", "2")
presenced.tell(program, [more_clients_than_allowed_are_refused], "--max-clients", "10")
presenced.end()

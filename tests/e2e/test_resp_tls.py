#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_resp_tls.py PRESENCED - RESP through TLS: large and small, half handshakes, client certificates, a reload."""

import os
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import warnings

import presenced
from presenced import encode, equal, holds

program = sys.argv[1]
MODEL = "2e15302a-bbdf-4077-8e65-116a5a0e0348"
SUBJECT = "/CN=localhost"


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=presenced.WAIT_S)


def make_certificates(folder):
    """An authority, a server's certificate and two clients', one of them by a stranger's authority."""
    for authority in ("ca", "stranger"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                "-subj", f"/CN={authority}", "-keyout", f"{folder}/{authority}.key", "-out", f"{folder}/{authority}.pem")
    for name, authority, subject in (("server", "ca", SUBJECT), ("gateway", "ca", "/CN=gateway-0"),
                                     ("nobody", "stranger", "/CN=gateway-0")):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", subject,
                "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.csr")
        with open(f"{folder}/names", "w", encoding="ascii") as names:
            names.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        openssl("x509", "-req", "-in", f"{folder}/{name}.csr", "-CA", f"{folder}/{authority}.pem", "-CAkey",
                f"{folder}/{authority}.key", "-CAcreateserial", "-days", "2", "-extfile", f"{folder}/names", "-out",
                f"{folder}/{name}.pem")


def trusting(folder, certificate=None):
    context = ssl.create_default_context(cafile=f"{folder}/ca.pem")
    if certificate:
        context.load_cert_chain(f"{folder}/{certificate}.pem", f"{folder}/{certificate}.key")
    return lambda plain: context.wrap_socket(plain, server_hostname="localhost")


def large_and_small_pass(daemon, folder):
    client = daemon.client(wrap=trusting(folder))
    equal(client.socket.version() in ("TLSv1.2", "TLSv1.3"), True)
    equal(client.ask("PING"), "PONG")
    equal(client.ask("ECHO", "x" * 5000000), "x" * 5000000)
    client.send(encode("PRESENCE.CONNECT", "m", MODEL, "a", 1) + encode("PING") * 20000 + b"QUIT\r\n")
    equal(client.reply(), 1)
    equal(client.rest(), b"+PONG\r\n" * 20000 + b"+OK\r\n")


def who_reads_late_gets_all(daemon, folder):
    client = daemon.client(wrap=trusting(folder), receive_buffer=4096)
    client.send(encode("ECHO", "y" * 40000) * 60)
    for _ in range(60):
        equal(len(client.reply()), 40000)


def is_stopped(process):
    with open(f"/proc/{process}/stat", encoding="ascii") as file:
        return file.read().rsplit(")", 1)[1].split()[0] == "T"


def what_came_before_a_pause_is_read_after_it(daemon, folder):
    """Given a pipeline of which TLS holds the end, unread, when its first command pauses the client, then the end is read
    once that is over, though nothing more comes."""
    client = daemon.client(wrap=trusting(folder))
    rows = [word for number in range(11000) for word in (MODEL, f"a-{number}", number, 0, "")]
    equal(client.ask("PRESENCE.UPDATESERVER", "m", 11000, *rows), 11000)
    command, ping = encode("PRESENCE.AGENTS", "LIMIT", 1), b"PING\r\n"
    for count in range(2000, 8000, 250):  # in one of them TLS holds the last of it
        client.send(command[:9])  # a beginning is kept where what follows is read to, which is little room
        time.sleep(0.01)
        daemon.process.send_signal(signal.SIGSTOP)  # so that all of it is there when the first of it is read
        daemon.wait_until(lambda: is_stopped(daemon.process.pid))
        pipeline = command[9:] + ping * count
        for at in range(0, len(pipeline), 8000):
            client.send(pipeline[at:at + 8000])
        daemon.process.send_signal(signal.SIGCONT)
        equal(client.reply()[1], ["a-0"])
        equal({client.reply() for _ in range(count)}, {"PONG"})


def plain_talk_and_half_handshakes_end(daemon, folder):
    """Given who speaks plainly, and who greets and then waits, then both are cut off and others are served."""
    other = daemon.client(wrap=trusting(folder))
    plain, half, silent = daemon.client(), daemon.client(), daemon.client()
    plain.send(b"PING\r\n" * 100)
    half.send(b"\x16\x03\x01\x02\x00\x01\x00")
    for client in (plain, half, silent):
        assert b"PONG" not in rest_of(client)
    holds(daemon.logged(), 'why="TLS handshake"')
    equal(other.ask("PING"), "PONG")


def rest_of(client):
    try:
        return client.rest()
    except ConnectionError:
        return b""


def old_versions_are_refused(daemon, folder):
    context = ssl.create_default_context(cafile=f"{folder}/ca.pem")
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python says that these are old
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    try:
        daemon.client(wrap=lambda plain: context.wrap_socket(plain, server_hostname="localhost"))
    except (ssl.SSLError, ConnectionError):
        return
    raise AssertionError("TLS 1.1 was agreed on")


def a_client_certificate_says_who(daemon, folder):
    """Given a tokens file, then the certificate of gateway-0 may state its server and no other; a stranger's ends the
    handshake; without one, AUTH comes first."""
    gateway = daemon.client(wrap=trusting(folder, "gateway"))
    equal(gateway.ask("PRESENCE.CONNECT", "machine-0", MODEL, "a", 1), 1)
    holds(gateway.ask("PRESENCE.CONNECT", "machine-1", MODEL, "a", 1), "NOPERM ")
    nobody = daemon.client(wrap=trusting(folder))
    holds(nobody.ask("PRESENCE.COUNT"), "NOAUTH ")
    try:
        stranger = daemon.client(wrap=trusting(folder, "nobody"))
        answer = stranger.ask("PRESENCE.COUNT")
    except (ssl.SSLError, ConnectionError, presenced.Closed):
        return
    raise AssertionError(f"a stranger's certificate was taken: {answer}")


def a_reload_takes_the_new_certificate(daemon, folder):
    """Given a client that is connected, when the certificate is replaced, then new clients see the new one, and the old
    client goes on; a certificate that is broken is kept out."""
    before = daemon.client(wrap=trusting(folder))
    openssl("x509", "-req", "-in", f"{folder}/server.csr", "-CA", f"{folder}/ca.pem", "-CAkey", f"{folder}/ca.key",
            "-set_serial", "0x123456789", "-days", "2", "-extfile", f"{folder}/names", "-out", f"{folder}/server.pem")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_until(lambda: "event=reloaded" in daemon.logged())
    equal(int(daemon.client(wrap=trusting(folder)).socket.getpeercert()["serialNumber"], 16), 0x123456789)
    equal(before.ask("PING"), "PONG")
    with open(f"{folder}/server.pem", "w", encoding="ascii") as broken:
        broken.write("nothing\n")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_until(lambda: 'event="not reloaded"' in daemon.logged())
    equal(int(daemon.client(wrap=trusting(folder)).socket.getpeercert()["serialNumber"], 16), 0x123456789)


def main():
    with tempfile.TemporaryDirectory(prefix="presence-test.") as folder:
        make_certificates(folder)
        tokens = f"{folder}/tokens"
        with open(tokens, "w", encoding="ascii") as file:
            file.write("gateway-0 sha256:" + "0" * 64 + " report:machine-0\n")
        os.chmod(tokens, 0o600)
        plain = ["--tls-certificate", f"{folder}/server.pem", "--tls-key", f"{folder}/server.key"]
        quick = plain + ["--request-timeout", "500ms"]
        guarded = plain + ["--tls-client-ca", f"{folder}/ca.pem", "--tokens", tokens]
        for story, options in ((large_and_small_pass, plain), (large_and_small_pass, plain + ["--threads", "2"]),
                               (who_reads_late_gets_all, plain),
                               (what_came_before_a_pause_is_read_after_it, plain),
                               (plain_talk_and_half_handshakes_end, quick),
                               (old_versions_are_refused, plain), (a_client_certificate_says_who, guarded),
                               (a_reload_takes_the_new_certificate, plain)):
            presenced.tell(program, [with_folder(story, folder)], *options)
    presenced.end()


def with_folder(story, folder):
    def told(daemon):
        story(daemon, folder)
    told.__name__ = story.__name__
    return told


main()

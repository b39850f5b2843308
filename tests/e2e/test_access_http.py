#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_access_http.py PRESENCED - tokens and roles over HTTP and in watches: another model's agents are not told, another
server's connections not stated, whatever the way."""

import hashlib
import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import tempfile

import presenced
from presenced import Daemon, Error, equal, holds, story

program = sys.argv[1]
MINE = "2e15302a-bbdf-4077-8e65-116a5a0e0348"
OTHER = "94b1f0a4-0b6f-4b7c-9a3e-5d0f6f1c8a11"
ROLES = {"operator": "admin", "reader": "read", "gateway": "report:machine-0", "tenant": "model:" + MINE,
         "neighbour": "model:" + OTHER, "unit": f"join:{MINE}/unit-a-0"}
SECRETS = ("unit-b", OTHER, "machine-1", "secret data")  # what the tenant must never see
EPOCH = 987654321012345678  # of a server: no tenant's business
folder = tempfile.TemporaryDirectory()


def token_of(name):
    return "secret-of-" + name


def write_tokens(name="tokens"):
    path = os.path.join(folder.name, name)
    with open(path, "w", encoding="utf-8") as file:
        for who, what in ROLES.items():
            file.write(f"{who} sha256:{hashlib.sha256(token_of(who).encode()).hexdigest()} {what}\n")
    return path


def port_of(daemon):
    return int(re.search(r"protocol=https? address=127\.0\.0\.1:(\d+)", daemon.logged()).group(1))


def ask(daemon, who, path, method="GET", body=None, **headers):
    """The status and the text."""
    connection = http.client.HTTPConnection("127.0.0.1", port_of(daemon), timeout=presenced.WAIT_S)
    if who:
        headers["Authorization"] = "Bearer " + token_of(who)
    if body is not None:
        headers["Content-Type"] = "application/json"
    connection.request(method, path, body=None if body is None else json.dumps(body), headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def as_(daemon, name, version=3):
    client = daemon.client()
    client.ask("HELLO", version, "AUTH", name, token_of(name))
    return client


def fill(daemon):
    admin = as_(daemon, "operator")
    admin.ask("PRESENCE.CONNECT", "machine-0", MINE, "unit-a-0", 1)
    admin.ask("PRESENCE.CONNECT", "machine-0", OTHER, "unit-b-0", 2, "DATA", "secret data")
    admin.ask("PRESENCE.CONNECT", "machine-1", OTHER, "unit-b-1", 3, "DATA", "secret data")
    return admin


def nobody_is_told_anything(daemon):
    fill(daemon)
    paths = ["/v1/models", f"/v1/models/{MINE}/agents", f"/v1/models/{MINE}/agents/unit-a-0", "/v1/servers",
             "/v1/servers/machine-0", "/v1/connections", "/v1/events", "/v1/count", "/report", "/metrics",
             f"/v1/models/{MINE}/agents/unit-a-0/explanation"]
    for path in paths:
        status, text = ask(daemon, None, path)
        equal((path, status), (path, 401))
        assert not any(secret in text for secret in SECRETS), text
        equal(ask(daemon, None, path + "?token=" + token_of("operator"))[0] in (400, 401), True)
        equal(ask(daemon, None, path, Authorization="Basic b3BlcmF0b3I6c2VjcmV0")[0], 401)
    for method, path in (("PUT", "/v1/servers/machine-0/connections/9"), ("DELETE", "/v1/servers/machine-0"),
                         ("DELETE", "/v1/servers/machine-0/connections/1"), ("POST", "/v1/servers/machine-0/down"),
                         ("POST", "/v1/check"), ("PUT", "/v1/servers/machine-0/connections")):
        equal((path, ask(daemon, None, path, method, {"model": MINE, "agent": "x"})[0]), (path, 401))
    equal(json.loads(ask(daemon, "reader", "/v1/count")[1]), 3)
    equal(ask(daemon, None, "/healthz")[0], 200)


def a_tenant_is_told_its_model_only(daemon):
    fill(daemon)
    for path in ("/v1/models", f"/v1/models/{MINE}/agents", "/v1/servers", "/v1/connections", "/v1/count", "/report",
                 "/v1/servers?details=1", "/v1/models?details=1", f"/v1/models/{MINE}/agents/unit-b-0",
                 "/v1/connections?server=machine-0", "/v1/connections?server=machine-1",
                 "/v1/connections?agent=unit-b-0", f"/v1/models/{MINE}/agents?server=machine-1"):
        status, text = ask(daemon, "tenant", path)
        equal((path, status), (path, 200))
        shown = text.replace("unit-b-0", "") if path.endswith("/unit-b-0") else text
        assert not any(secret in shown for secret in SECRETS), f"{path}: {text}"
    equal(json.loads(ask(daemon, "tenant", "/v1/count")[1]), 1)
    equal(json.loads(ask(daemon, "tenant", "/v1/servers")[1])["servers"], [{"server": "machine-0"}])
    holds(ask(daemon, "tenant", "/report")[1], "unit-a-0")
    for path in (f"/v1/models/{OTHER}/agents", f"/v1/models/{OTHER}/agents/unit-b-0", f"/v1/connections?model={OTHER}",
                 f"/v1/count?model={OTHER}", f"/v1/events?model={OTHER}", f"/report?model={OTHER}", "/metrics",
                 "/v1/servers/machine-1", "/v1/servers/machine-0",
                 f"/v1/models/{OTHER}/agents/unit-b-0/explanation"):
        status, text = ask(daemon, "tenant", path)
        equal((path, status), (path, 403))
        assert "unit-b" not in text.replace(path, "") and "secret" not in text, text


def an_explanation_tells_a_tenant_nothing_of_servers(daemon):
    """Given a server's epoch, which is no tenant's business, when its agent is explained, then readers are told it, and
    the tenant is told null."""
    fill(daemon)
    gateway = as_(daemon, "gateway")
    gateway.ask("PRESENCE.SESSION", "machine-0", "EPOCH", EPOCH)
    gateway.ask("PRESENCE.CONNECT", "machine-0", MINE, "unit-a-0", 1)
    path = f"/v1/models/{MINE}/agents/unit-a-0/explanation"
    for who, epoch in (("operator", str(EPOCH)), ("reader", str(EPOCH)), ("tenant", None)):
        status, text = ask(daemon, who, path)
        equal(status, 200)
        (connection,) = json.loads(text)["connections"]
        equal((who, connection["server"], connection["server_epoch"]), (who, "machine-0", epoch))
        equal(connection["server_complete"] is None, who == "tenant")
    for version in (2, 3):
        said = str(as_(daemon, "tenant", version).ask("PRESENCE.EXPLAIN", MINE, "unit-a-0"))
        holds(said, "server_epoch")
        assert str(EPOCH) not in said, said
    holds(str(as_(daemon, "reader").ask("PRESENCE.EXPLAIN", MINE, "unit-a-0")), str(EPOCH))


def a_tenants_watch_is_of_its_model(daemon):
    """Given watches of a tenant by RESP and by HTTP, when another model's connections change, and one moves from the
    tenant's model to the other, then nothing of the other is told."""
    admin = fill(daemon)
    watcher, before = as_(daemon, "tenant"), daemon_revision(admin)
    watcher.ask("PRESENCE.WATCH")
    refused = as_(daemon, "tenant").ask("PRESENCE.WATCH", "MODEL", OTHER)
    assert isinstance(refused, Error) and refused.startswith("NOPERM"), refused
    admin.ask("PRESENCE.CONNECT", "machine-1", OTHER, "unit-b-2", 4, "DATA", "secret data")
    admin.ask("PRESENCE.CONNECT", "machine-0", OTHER, "unit-b-9", 1, "DATA", "secret data")  # was unit-a-0's
    admin.ask("PRESENCE.CONNECT", "machine-0", MINE, "unit-a-7", 7)
    seen = []
    while "unit-a-7" not in str(seen[-1:]):
        seen.append(watcher.reply())
    assert not any(secret in str(seen) for secret in SECRETS), seen
    connection = http.client.HTTPConnection("127.0.0.1", port_of(daemon), timeout=presenced.WAIT_S)
    connection.request("GET", f"/v1/events?after={before}", headers={"Authorization": "Bearer " + token_of("tenant")})
    answer, text = connection.getresponse(), ""
    while "unit-a-7" not in text:
        text += answer.readline().decode()
    connection.close()
    assert not any(secret in text for secret in SECRETS), text


def a_revoked_token_ends_its_stream(path):
    """Given event streams of two tokens, on every loop, when one of the lines leaves the file, then that one's end, though
    nothing happens that they could tell; the others go on."""
    with Daemon(program, "--http", "127.0.0.1:0", "--tokens", path, "--threads", "3") as daemon:
        def stream(who):
            connection = http.client.HTTPConnection("127.0.0.1", port_of(daemon), timeout=presenced.WAIT_S)
            connection.request("GET", "/v1/events", headers={"Authorization": "Bearer " + token_of(who)})
            answer = connection.getresponse()
            equal(answer.status, 200)
            while not answer.readline().startswith(b"data: "):
                pass
            return answer
        gone, kept = [stream("tenant") for _ in range(6)], stream("reader")
        with open(path, encoding="utf-8") as file:
            lines = file.readlines()
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(line for line in lines if not line.startswith("tenant "))
        daemon.process.send_signal(signal.SIGHUP)
        for answer in gone:
            answer.fp.raw._sock.settimeout(10)  # less than the 15 s in which a stream shows that it is there
            try:
                assert b"data: " not in answer.read()
            except http.client.IncompleteRead as end:
                assert b"data: " not in end.partial
        as_(daemon, "operator").ask("PRESENCE.CONNECT", "machine-0", MINE, "unit-a-0", 1)
        while not kept.readline().startswith(b"data: "):
            pass
        equal(ask(daemon, "tenant", "/v1/events")[0], 401)


def tag_of(daemon, who, path="/v1/models"):
    connection = http.client.HTTPConnection("127.0.0.1", port_of(daemon), timeout=presenced.WAIT_S)
    connection.request("GET", path, headers={"Authorization": "Bearer " + token_of(who)})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.getheader("ETag")


def a_tag_is_of_who_was_told(path):
    """Given a reader's tag, when a tenant asks with it, or the reader once its roles were read anew, then it is told what
    it may see, and not that nothing has changed."""
    with Daemon(program, "--http", "127.0.0.1:0", "--tokens", path) as daemon:
        fill(daemon)
        tag = tag_of(daemon, "reader")
        equal(ask(daemon, "reader", "/v1/models", **{"If-None-Match": tag})[0], 304)
        equal(ask(daemon, "tenant", "/v1/models", **{"If-None-Match": tag})[0], 200)
        with open(path, "a", encoding="utf-8") as file:
            file.write("# read again\n")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until(lambda: tag_of(daemon, "reader") != tag)
        equal(ask(daemon, "reader", "/v1/models", **{"If-None-Match": tag})[0], 200)


def daemon_revision(client):
    return int(re.search(r"^revision:(\d+)", client.ask("INFO"), re.M).group(1))


def a_cursor_is_of_who_began_it(daemon):
    admin = fill(daemon)
    for i in range(10, 20):
        admin.ask("PRESENCE.CONNECT", "machine-1", OTHER, f"unit-b-{i}", i)
    page = json.loads(ask(daemon, "neighbour", "/v1/connections?limit=2")[1])
    assert page["cursor"]
    status, text = ask(daemon, "tenant", "/v1/connections?limit=2&cursor=" + page["cursor"])
    equal(status, 410)
    assert "unit-b" not in text
    equal(ask(daemon, "neighbour", "/v1/connections?limit=2&cursor=" + page["cursor"])[0], 200)


def a_gateway_states_its_server_only(daemon):
    fill(daemon)
    value = {"model": MINE, "agent": "x"}
    equal(ask(daemon, "gateway", "/v1/servers/machine-0/connections/9", "PUT", value)[0] // 100, 2)
    listed = [{**value, "connection_id": "9"}]
    for method, path, body in (("PUT", "/v1/servers/machine-1/connections/9", value),
                               ("DELETE", "/v1/servers/machine-1/connections/3", None),
                               ("POST", "/v1/servers/machine-1/connections/3/activity", None),
                               ("POST", "/v1/servers/machine-1/down", None),
                               ("POST", "/v1/servers/machine-1/drain", None),
                               ("PUT", "/v1/servers/machine-1/connections", listed),
                               ("DELETE", "/v1/servers/machine-1", None), ("DELETE", "/v1/servers/machine-0", None),
                               ("POST", "/v1/check", None), ("GET", "/v1/connections", None), ("GET", "/report", None),
                               ("PUT", "/v1/servers/machine-0%2F..%2Fmachine-1/connections/9", value)):
        equal((path, ask(daemon, "gateway", path, method, body)[0]), (path, 403))
    for who in ("reader", "tenant", "unit"):
        equal(ask(daemon, who, "/v1/servers/machine-0/connections/9", "PUT", value)[0], 403)
    equal(json.loads(ask(daemon, "reader", "/v1/count?server=machine-1")[1]), 1)


def whoever_may_join_is_that_agent_only(daemon):
    client = as_(daemon, "unit")
    for words in ((OTHER, "unit-a-0"), (MINE, "unit-a-1"), (MINE, "unit-a-")):
        refused = client.ask("PRESENCE.JOIN", *words)
        assert isinstance(refused, Error) and refused.startswith("NOPERM"), refused
    assert not isinstance(client.ask("PRESENCE.JOIN", MINE, "unit-a-0"), Error)
    for words in (("PRESENCE.STATUS", MINE, "unit-a-0"), ("PRESENCE.SESSION", "machine-0"),
                  ("PRESENCE.UPDATESERVER", "machine-0", 0), ("PRESENCE.UPDATESERVER", "machine-0", "BEGIN")):
        refused = client.ask(*words)
        assert isinstance(refused, Error) and refused.startswith("NOPERM"), refused


def bad_bearers_are_slowed(daemon):
    for _ in range(10):
        equal(ask(daemon, None, "/v1/count", Authorization="Bearer guess")[0], 401)
    status = ask(daemon, None, "/v1/count", Authorization="Bearer guess")[0]
    assert status in (429, 503), status
    equal(ask(daemon, "reader", "/v1/count")[0], 200)


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=presenced.WAIT_S, cwd=folder.name)


def certificates():
    """Two authorities; the server's certificate, the reader's, one that names nobody, and an impostor's."""
    for ca in ("ca", "evil"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-keyout", ca + ".key", "-out", ca + ".pem", "-subj", "/CN=" + ca)
    for name, common_name, ca in (("server", "localhost", "ca"), ("reader", "reader", "ca"),
                                  ("stranger", "stranger", "ca"), ("impostor", "operator", "evil")):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", name + ".key",
                "-out", name + ".csr", "-subj", "/CN=" + common_name, "-addext", "subjectAltName=IP:127.0.0.1")
        openssl("x509", "-req", "-in", name + ".csr", "-CA", ca + ".pem", "-CAkey", ca + ".key", "-days", "2",
                "-out", name + ".pem", "-copy_extensions", "copy")


def ask_tls(daemon, certificate, path, token=None):
    context = ssl.create_default_context(cafile=os.path.join(folder.name, "ca.pem"))
    if certificate:
        context.load_cert_chain(*(os.path.join(folder.name, certificate + end) for end in (".pem", ".key")))
    connection = http.client.HTTPSConnection("127.0.0.1", port_of(daemon), timeout=presenced.WAIT_S, context=context)
    connection.request("GET", path, headers={"Authorization": "Bearer " + token} if token else {})
    status = connection.getresponse().status
    connection.close()
    return status


def a_certificate_says_who_one_is(tokens):
    certificates()
    files = {name: os.path.join(folder.name, name) for name in ("server.pem", "server.key", "ca.pem")}
    with Daemon(program, "--http", "127.0.0.1:0", "--resp", "none", "--tokens", tokens, "--tls-certificate",
                files["server.pem"], "--tls-key", files["server.key"], "--tls-client-ca", files["ca.pem"]) as daemon:
        equal(ask_tls(daemon, None, "/v1/count"), 401)
        equal(ask_tls(daemon, None, "/v1/count", token_of("reader")), 200)
        equal(ask_tls(daemon, "reader", "/v1/count"), 200)
        equal(ask_tls(daemon, "stranger", "/v1/count"), 401)
        try:
            status = ask_tls(daemon, "impostor", "/v1/count")
            assert False, f"the impostor was answered {status}"
        except (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected):
            pass
        # Plain text at a port that speaks TLS gets nothing.
        connection = http.client.HTTPConnection("127.0.0.1", port_of(daemon), timeout=presenced.WAIT_S)
        try:
            connection.request("GET", "/healthz")
            assert False, connection.getresponse().status
        except (ConnectionError, http.client.HTTPException):
            connection.close()


def a_reload_takes_the_new_certificate():
    """Given HTTPS and a stream that is open, when the certificate is replaced, then who comes then sees the new one."""
    certificates()
    chain, key = os.path.join(folder.name, "server.pem"), os.path.join(folder.name, "server.key")
    context = ssl.create_default_context(cafile=os.path.join(folder.name, "ca.pem"))
    with Daemon(program, "--http", "127.0.0.1:0", "--resp", "none", "--tls-certificate", chain, "--tls-key", key) as daemon:
        def connection():
            made = http.client.HTTPSConnection("127.0.0.1", port_of(daemon), timeout=presenced.WAIT_S, context=context)
            made.request("GET", "/healthz")
            made.getresponse().read()
            return made
        before = connection()
        openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", "0x123456789",
                "-days", "2", "-out", "server.pem", "-copy_extensions", "copy")
        assert int(connection().sock.getpeercert()["serialNumber"], 16) != 0x123456789
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until(lambda: "event=reloaded" in daemon.logged())
        equal(int(connection().sock.getpeercert()["serialNumber"], 16), 0x123456789)
        before.request("GET", "/healthz")
        equal(before.getresponse().status, 200)


tokens = write_tokens()
presenced.tell(program, [nobody_is_told_anything, a_tenant_is_told_its_model_only,
                         an_explanation_tells_a_tenant_nothing_of_servers, a_tenants_watch_is_of_its_model,
                         a_cursor_is_of_who_began_it, a_gateway_states_its_server_only,
                         whoever_may_join_is_that_agent_only, bad_bearers_are_slowed],
               "--http", "127.0.0.1:0", "--tokens", tokens)
story("a revoked token ends its stream", a_revoked_token_ends_its_stream, write_tokens("changing"))
story("a tag is of who was told", a_tag_is_of_who_was_told, write_tokens("tagged"))
story("a certificate says who one is", a_certificate_says_who_one_is, tokens)
story("a reload takes the new certificate", a_reload_takes_the_new_certificate)
presenced.end()

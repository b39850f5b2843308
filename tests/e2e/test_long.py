#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_long.py PRESENCED - commands that look at very many connections are run beside the loops: others are served, the
client's own commands wait and keep their order, and nothing is lost or left when it goes, or the daemon does."""

import ctypes
import json
import mmap
import os
import re
import signal
import subprocess
import sys
import tempfile

import presenced
from presenced import Client, Closed, Error, Push, encode, equal, holds

program = sys.argv[1]
ROWS, PART = 120000, 10000
MODEL = "m"


def words(first, count):
    """In no order: names that came sorted would be quick to sort."""
    return [word for number in range(first, first + count)
            for word in (MODEL, f"agent-{number * 7919 % 1000003:07}", number, 0, "")]


def gather(client, server="gw", rows=ROWS):
    equal(client.ask("PRESENCE.UPDATESERVER", server, "BEGIN"), "OK")
    for first in range(0, rows, PART):
        equal(client.ask("PRESENCE.UPDATESERVER", server, "ADD", PART, *words(first, PART)), first + PART)


def commit(client, server="gw"):
    client.send(encode("PRESENCE.UPDATESERVER", server, "COMMIT"))


def fill(daemon, server="gw"):
    client = daemon.client()
    gather(client, server)
    commit(client, server)
    equal(client.reply(), ROWS)
    return client


def is_answered(client):
    client.socket.settimeout(0.0001)
    try:
        client.fill()
    except (BlockingIOError, TimeoutError):
        pass
    finally:
        client.socket.settimeout(presenced.WAIT_S)
    return len(client.buffer) > 0


def answers_meanwhile(client, other, question=("PRESENCE.STATUS", MODEL, "nobody"), reply=["unknown"]):
    """How often another client is answered before this one is."""
    count = 0
    while not is_answered(client):
        equal(other.ask(*question), reply)
        count += 1
    return count


def http_port(daemon):
    return int(re.search(r"protocol=http address=127\.0\.0\.1:(\d+)", daemon.logged()).group(1))


def http_client(daemon):
    client = Client(("127.0.0.1", http_port(daemon)))
    daemon.clients.append(client)
    return client


def request(path, method="GET", body=b""):
    return (f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body


def answer(client):
    """Status and body."""
    status, length = int(client.line().split()[1]), 0
    while line := client.line():
        name, value = line.decode().split(": ", 1)
        length = int(value) if name.lower() == "content-length" else length
    return status, client.exactly(length).decode()


def metric(daemon, name):
    client = http_client(daemon)
    client.send(request("/metrics"))
    text = answer(client)[1]
    client.close()
    return int(re.search(rf"^{name} (\d+)$", text, re.M).group(1))


# ------------------------------------------------------------------------------------------------------- stories --


def others_are_answered_meanwhile(daemon):
    """Given one loop, when a client commits a large list, or asks for the first page of many names, for a count that is
    walked, or a check, then another client is answered again and again before it is. (On a machine that has no time
    for this client that may be too late: so it looks some times.)"""
    client, other, most = daemon.client(), daemon.client(), {}
    asked = {"count": ("PRESENCE.COUNT", "MODEL", MODEL, "SERVER", "gw"), "agents": ("PRESENCE.AGENTS", "LIMIT", 1),
             "servers": ("PRESENCE.SERVERS", "MODEL", MODEL, "LIMIT", 1), "check": ("PRESENCE.CHECK",),
             "values": ("PRESENCE.VALUES", "STATUS", "missing")}
    for _ in range(25):
        gather(client)
        commit(client)
        most["commit"] = max(answers_meanwhile(client, other), most.get("commit", 0))
        equal(client.reply(), ROWS)
        for name, question in asked.items():
            client.send(encode(*question))
            more = (("PING",), "PONG") if name == "check" else ()  # all that asks of the record waits for that
            most[name] = max(answers_meanwhile(client, other, *more), most.get(name, 0))
            assert not isinstance(client.reply(), Error)
        if most["commit"] >= 20 and most["agents"] >= 20 and min(most.values()) >= 2:
            return
    raise AssertionError(f"answers while it was run: {most}")


def its_own_commands_wait(daemon):
    """Given a pipeline with long commands in it, when it is run, then replies come in the order of the commands, and each
    sees what those before it did."""
    client = daemon.client()
    for _ in range(3):
        gather(client)
        client.send(b"".join((
            encode("ECHO", "before"), encode("PRESENCE.UPDATESERVER", "gw", "COMMIT"),
            encode("PRESENCE.COUNT", "SERVER", "gw"), encode("PRESENCE.DISCONNECT", "gw", *range(10)),
            encode("PRESENCE.COUNT", "MODEL", MODEL, "STATUS", "alive"), encode("PRESENCE.CONNECT", "gw", MODEL, "a", 1),
            encode("PRESENCE.COUNT", "MODEL", MODEL, "STATUS", "alive"), encode("PRESENCE.AGENTS", "LIMIT", 1),
            encode("PRESENCE.UPDATESERVER", "gw", 0), encode("PRESENCE.COUNT", "SERVER", "gw"), b"PING\r\n" * 20000)))
        equal([client.reply() for _ in range(7)], ["before", ROWS, ROWS, 10, ROWS - 10, 1, ROWS - 9])
        equal(client.reply()[1:2] != [], True)
        equal([client.reply() for _ in range(2)], [0, 0])
        equal({client.reply() for _ in range(20000)}, {"PONG"})


def who_writes_to_the_server_waits_alone(daemon):
    """Given a list that is being applied, when others write to its server, by single commands, in pipelines and by HTTP,
    then they wait for it on no loop, and what they say comes behind it."""
    client, writers, other, waited = daemon.client(), [daemon.client() for _ in range(4)], daemon.client(), 0
    for _ in range(10):
        gather(client)
        web = http_client(daemon)
        commit(client)
        writers[0].send(encode("PRESENCE.ACTIVITY", "gw", 1))
        writers[1].send(encode("PRESENCE.CONNECT", "gw", MODEL, "late", ROWS + 1) * 50)
        writers[2].send(encode("PRESENCE.DISCONNECT", "gw", 5))
        writers[3].send(encode("PRESENCE.SESSION", "gw") + encode("QUIT"))
        web.send(request("/v1/servers/gw/connections/7/activity", "POST"))
        waited = max(waited, answers_meanwhile(client, other))
        equal(client.reply(), ROWS)
        assert writers[0].reply() in (0, 1)  # 0: it came first
        assert [writers[1].reply() for _ in range(50)][1:] == [0] * 49
        assert writers[2].reply() in (0, 1)
        equal([writers[3].reply(), writers[3].reply()], ["OK", "OK"])
        writers[3] = daemon.client()
        equal(answer(web)[0], 200)
        equal(other.ask("PRESENCE.STATUS", MODEL, "nobody"), ["unknown"])
        if waited >= 20:
            return
    raise AssertionError(f"at most {waited} answers while others waited for the list")


def a_gateway_that_goes_meanwhile(daemon):
    """Given a gateway that holds its server and commits a list, when it is gone before that is done, then the list is
    stated, and the server is down."""
    asker = daemon.client()
    for ending in ("close", "reset"):
        gateway = daemon.client()
        equal(gateway.ask("PRESENCE.SESSION", ending, "EPOCH", 1), "OK")
        gather(gateway, ending)
        commit(gateway, ending)
        if ending == "reset":
            gateway.socket.setsockopt(presenced.socket.SOL_SOCKET, presenced.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        gateway.close()
        daemon.wait_until(lambda: asker.ask("PRESENCE.COUNT", "SERVER", ending, "STATUS", "missing") == ROWS)
    equal(asker.ask("PRESENCE.COUNT", "STATUS", "alive"), 0)
    daemon.wait_until(lambda: daemon.info("connected_clients") == 2)


def so_many_may_wait_and_no_more(daemon):
    """Given max-long-commands, when more are asked for, then they are refused, counted, and the client goes on."""
    filler = fill(daemon)
    askers = [daemon.client() for _ in range(40)]
    for asker in askers:
        asker.send(encode("PRESENCE.AGENTS", "LIMIT", 1) + encode("PING"))
    web = http_client(daemon)
    web.send(request("/v1/models/m/agents?limit=1"))
    replies = [(asker.reply(), asker.reply()) for asker in askers]
    refused = [reply for reply, _ in replies if isinstance(reply, Error)]
    assert 0 < len(refused) < 40, len(refused)
    holds(refused[0], "BUSY max-long-commands")
    equal({pong for _, pong in replies}, {"PONG"})
    status, text = answer(web)
    assert status in (200, 503), text
    equal(metric(daemon, "presenced_limited_commands_total"), len(refused) + (status == 503))
    equal(metric(daemon, "presenced_long_commands"), 0)
    equal(filler.ask("PING"), "PONG")


def over_http_too(daemon):
    """Given a large list as a body, and pages of very many, when they are asked for, then they are answered as small ones
    are, whoever goes meanwhile; and what is wrong with a large body is said as of a small one."""
    client, other = http_client(daemon), daemon.client()
    values = [{"model": MODEL, "agent": f"agent-{i:06}", "connection_id": str(i), "user_data": "x" * 20}
              for i in range(20000)]
    body = json.dumps(values).encode()
    for _ in range(2):
        client.send(request("/v1/servers/web/connections", "PUT", body))
        answers_meanwhile(client, other)
        equal(answer(client), (200, "20000\n"))
    equal(other.ask("PRESENCE.COUNT", "SERVER", "web"), 20000)
    client.send(request("/v1/models/m/agents?limit=2&details=0") + request("/v1/connections?limit=10000") +
                request("/v1/count?model=m&status=alive") + request("/healthz"))
    page = json.loads(answer(client)[1])
    equal(page["agents"], ["agent-000000", "agent-000001"])
    assert len(json.loads(answer(client)[1])["values"]) > 9000  # as many as a page takes
    equal([answer(client), answer(client)], [(200, "20000\n"), (200, "ok\n")])
    client.send(request("/v1/models/m/agents?details=0&limit=2&cursor=" + page["cursor"]))
    equal(json.loads(answer(client)[1])["agents"], ["agent-000002", "agent-000003"])
    values[19999]["connection_id"] = "0"
    for wrong, code in ((json.dumps(values).encode(), "DUPLICATE"), (body[:-1], "INVALID"),
                        (body.replace(b'"user_data"', b'"nonsense"', 1), "INVALID")):
        client.send(request("/v1/servers/web/connections", "PUT", wrong))
        status, text = answer(client)
        equal((status, json.loads(text)["code"]), (400, code))
    for i in range(20):  # they go before they are answered
        gone = http_client(daemon)
        gone.send(request("/v1/models/m/agents", "GET") if i % 2 else request("/v1/servers/gone/connections", "PUT", body))
        gone.close()
    daemon.wait_until(lambda: metric(daemon, "presenced_long_commands") == 0)
    daemon.wait_until(lambda: other.ask("PRESENCE.COUNT", "SERVER", "gone") == 20000)
    client.send(request("/healthz"))
    equal(answer(client), (200, "ok\n"))


def who_watches_is_told_meanwhile(daemon):
    """Given a client that watches, when it asks for something long, then it is told of changes before, between and behind
    its replies, and nothing is mixed up."""
    client = fill(daemon)
    other = daemon.client()
    client.ask("HELLO", 3)
    assert isinstance(client.ask("PRESENCE.WATCH", "SERVER", "other"), dict)
    for number in range(5):
        client.send(encode("PRESENCE.AGENTS", "LIMIT", 1) + encode("PRESENCE.COUNT", "SERVER", "gw"))
        for change in range(20):
            equal(other.ask("PRESENCE.CONNECT", "other", "o", "a", number * 20 + change), 1)
    told, replies = [], []
    while len(told) < 100 or len(replies) < 10:
        reply = client.reply()
        if not isinstance(reply, Push):
            replies.append(reply)
        elif reply[2]["kind"] == "connected":
            told.append(int(reply[2]["connection_id"]))
    equal(told, list(range(100)))
    equal(replies[1::2], [ROWS] * 5)


def a_stop_meanwhile(program_name):
    """Given long commands that run and wait, when the daemon is stopped, then it ends cleanly: who is not answered is
    closed."""
    for _ in range(5):
        with presenced.Daemon(program_name, "--http", "127.0.0.1:0", "--threads", "2") as daemon:
            fill(daemon)
            clients = [daemon.client() for _ in range(30)]
            for number, client in enumerate(clients):
                if number % 3 == 0:
                    gather(client, f"gw-{number}", PART * 3)
            for number, client in enumerate(clients):
                client.send(encode("PRESENCE.UPDATESERVER", f"gw-{number}", "COMMIT") if number % 3 == 0
                            else encode("PRESENCE.AGENTS", "LIMIT", 1))
            web = http_client(daemon)
            web.send(request("/v1/models/m/agents?limit=1"))
            equal(clients[1].reply()[1] != [], True)
            daemon.process.send_signal(signal.SIGTERM)
            for client in clients:
                try:
                    reply = client.reply()
                    assert not isinstance(reply, Error) or reply.startswith("BUSY"), reply
                except (Closed, ConnectionResetError):
                    pass
            equal(daemon.process.wait(presenced.WAIT_S), 0)


def a_token_that_is_taken_back_meanwhile(program_name):
    """Given a client whose token is taken back while its long command is run, when that is over, then it has its reply,
    is told, and closed; and its session is over."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "tokens")

        def write(*lines):
            with open(path, "w", encoding="utf-8") as file:
                file.writelines(line + "\n" for line in lines)

        def line(name, *roles):
            digest = subprocess.run(["sha256sum"], input=name.encode(), capture_output=True, check=True).stdout.split()[0]
            return f"{name} sha256:{digest.decode()} {' '.join(roles)}"
        write(line("gateway", "report:gw"), line("all", "admin"))
        with presenced.Daemon(program_name, "--tokens", path) as daemon:
            asker = daemon.client()
            equal(asker.ask("AUTH", "all"), "OK")
            gateway = daemon.client()
            equal(gateway.ask("AUTH", "gateway"), "OK")
            equal(gateway.ask("PRESENCE.SESSION", "gw"), "OK")
            gather(gateway)
            write(line("all", "admin"))
            commit(gateway)
            daemon.process.send_signal(signal.SIGHUP)
            daemon.wait_until(lambda: "event=reloaded" in daemon.logged())
            equal(gateway.reply(), ROWS)
            holds(gateway.reply(), "NOAUTH your token is no more")
            assert gateway.is_closed()
            daemon.wait_until(lambda: asker.ask("PRESENCE.COUNT", "STATUS", "missing") == ROWS)


def huge_bytes(process):
    with open(f"/proc/{process}/smaps_rollup") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("AnonHugePages"))


def system_makes_huge_pages():
    """When it is asked to, from Linux 6.1 on."""
    memory = mmap.mmap(-1, 4 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    aligned = -(-address // (2 << 20)) * (2 << 20)
    ctypes.memset(aligned, 1, 1)
    return ctypes.CDLL(None).madvise(ctypes.c_void_p(aligned), ctypes.c_size_t(2 << 20), 25) == 0


def a_record_that_grew_is_put_on_huge_pages(daemon):
    """Beside the loops, without being asked."""
    before = huge_bytes(daemon.process.pid)
    fill(daemon)
    if system_makes_huge_pages():
        daemon.wait_until(lambda: huge_bytes(daemon.process.pid) >= before + (4 << 20))
    else:
        print("# this system makes no huge pages when asked for: that they are made is not looked at")


if __name__ == "__main__":
    STORIES = [others_are_answered_meanwhile, its_own_commands_wait, who_writes_to_the_server_waits_alone,
               a_gateway_that_goes_meanwhile, over_http_too, who_watches_is_told_meanwhile]
    presenced.tell(program, STORIES, "--http", "127.0.0.1:0", "--threads", "1")
    presenced.tell(program, STORIES[1:], "--http", "127.0.0.1:0", "--threads", "3")
    presenced.tell(program, [so_many_may_wait_and_no_more], "--http", "127.0.0.1:0", "--max-long-commands", "3")
    presenced.tell(program, [a_record_that_grew_is_put_on_huge_pages])
    presenced.story("a stop meanwhile", a_stop_meanwhile, program)
    presenced.story("a token that is taken back meanwhile", a_token_that_is_taken_back_meanwhile, program)
    presenced.end()

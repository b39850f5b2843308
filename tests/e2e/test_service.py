#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_service.py PRESENCED SOURCE - presenced as a service: systemd's protocols, signals, metrics, and the papers that
tell of its options."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request

import presenced
from presenced import Daemon, equal, holds, story

program, source = sys.argv[1:3]
folder = tempfile.TemporaryDirectory()


class Notified:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self):
        self.path = os.path.join(folder.name, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(presenced.WAIT_S)
        self.socket.bind(self.path)

    def wait_for(self, line):
        while line not in self.socket.recv(4096).decode().split("\n"):
            pass

    def close(self):
        self.socket.close()
        os.unlink(self.path)


class Environment:
    """Variables for the presenced that is started within."""

    def __init__(self, **variables):
        self.variables = variables

    def __enter__(self):
        os.environ.update(self.variables)

    def __exit__(self, *_):
        for name in self.variables:
            del os.environ[name]


def get(daemon, path):
    port = re.search(r"protocol=http address=127\.0\.0\.1:(\d+)", daemon.logged()).group(1)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=presenced.WAIT_S) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def systemd_is_told_how_it_is():
    notified = Notified()
    with Environment(NOTIFY_SOCKET=notified.path, WATCHDOG_USEC="200000"), Daemon(program, "--threads", "2") as daemon:
        notified.wait_for("READY=1")
        notified.wait_for("WATCHDOG=1")
        notified.wait_for("WATCHDOG=1")
        daemon.process.send_signal(signal.SIGHUP)
        notified.wait_for("RELOADING=1")
        notified.wait_for("READY=1")
        daemon.process.send_signal(signal.SIGTERM)
        notified.wait_for("STOPPING=1")
    notified.close()


def a_loop_that_hangs_is_not_called_alive():
    """Given a presenced that is stopped, then nothing tells systemd that it lives; continued, it does so again."""
    notified = Notified()
    with Environment(NOTIFY_SOCKET=notified.path, WATCHDOG_USEC="100000"), Daemon(program) as daemon:
        notified.wait_for("WATCHDOG=1")
        daemon.process.send_signal(signal.SIGSTOP)
        notified.socket.settimeout(0.5)
        try:
            while True:
                notified.socket.recv(4096)
        except socket.timeout:
            pass
        notified.socket.settimeout(presenced.WAIT_S)
        daemon.process.send_signal(signal.SIGCONT)
        notified.wait_for("WATCHDOG=1")
    notified.close()


def listening():
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(16)
    return sock


def start_activated(sockets, names, stderr, elsewhere="127.0.0.1:1"):
    """As systemd does it: the sockets are descriptors 3, 4..., and LISTEN_PID is the process itself."""
    moved = [os.dup2(os.dup(sock.fileno()), 200 + i) for i, sock in enumerate(sockets)]
    redirect = " ".join(f"{3 + i}<&{fd}" for i, fd in enumerate(moved))
    script = f"LISTEN_PID=$$ LISTEN_FDS={len(sockets)} LISTEN_FDNAMES={names} exec {program} --resp {elsewhere} " \
             f"--http {elsewhere} {redirect}"
    process = subprocess.Popen(["bash", "-c", script], stderr=stderr, pass_fds=moved)
    for fd in moved:
        os.close(fd)
    return process


def sockets_of_systemd_are_used():
    """Given sockets from systemd, then presenced listens on those and on nothing else, and who connected before it
    started is served."""
    resp, http = listening(), listening()
    early = presenced.Client(resp.getsockname())
    early.send(presenced.encode("PING"))
    process = start_activated([resp, http], "resp:http", subprocess.PIPE)
    try:
        equal(early.reply(), "PONG")
        with urllib.request.urlopen("http://127.0.0.1:%d/healthz" % http.getsockname()[1],
                                    timeout=presenced.WAIT_S) as answer:
            equal(answer.status, 200)
    finally:
        process.terminate()
        log = process.communicate(timeout=presenced.WAIT_S)[1].decode()
        early.close()
        resp.close()
        http.close()
    equal(process.returncode, 0)
    assert "address=127.0.0.1:1\n" not in log, log


def an_open_socket_of_systemd_is_refused():
    """Given a socket of systemd's that other machines reach, without tokens and TLS, then presenced does not start."""
    sock = socket.socket()
    sock.bind(("0.0.0.0", 0))
    sock.listen(16)
    for name in ("resp", "http"):
        process = start_activated([sock], name, subprocess.PIPE, "none")
        log = process.communicate(timeout=presenced.WAIT_S)[1].decode()
        assert process.returncode != 0
        holds(log, "without tokens and TLS")
    sock.close()


def a_socket_that_is_not_ours_is_refused():
    sock = listening()
    process = start_activated([sock], "ssh", subprocess.PIPE)
    log = process.communicate(timeout=presenced.WAIT_S)[1].decode()
    sock.close()
    assert process.returncode != 0
    holds(log, "LISTEN_FDNAMES")


def journald_gets_priorities():
    """Given that JOURNAL_STREAM names stderr, then lines begin with their priority; else with the time."""
    with tempfile.TemporaryFile() as log:
        facts = os.fstat(log.fileno())
        for stream, wanted in ((f"{facts.st_dev}:{facts.st_ino}", b"<3>level=error"), ("1:2", b"time=")):
            log.seek(0)
            log.truncate()
            subprocess.run([program, "--resp", "127.0.0.1:0", "--http", "none", "--state", "/proc/nowhere"], stderr=log,
                           env={**os.environ, "JOURNAL_STREAM": stream}, timeout=presenced.WAIT_S, check=False)
            log.seek(0)
            text = log.read()
            assert any(line.startswith(wanted) for line in text.splitlines()), text


def metrics_are_told_with_help(daemon):
    daemon.client().ask("PRESENCE.CONNECT", "s", "m", "a", 1)
    kind, text = get(daemon, "/metrics")
    holds(kind, "version=0.0.4")
    helped = set(re.findall(r"^# HELP (\S+) \S.*$", text, re.M))
    typed = re.findall(r"^# TYPE (\S+) (?:counter|gauge)$", text, re.M)
    told = re.findall(r"^([a-z_]+)(?:\{[^}]*\})? [0-9.e+-]+$", text, re.M)
    equal(sorted(typed), sorted(told))
    equal(set(typed), helped)
    equal(len(set(told)), len(told))
    values = dict(re.findall(r"^([a-z_]+) (\S+)$", text, re.M))
    equal(values["presenced_connections_alive"], "1")
    equal(values["presenced_servers"] != "0", True)
    assert float(values["presenced_commands_total"]) >= 1
    # What the dashboard draws is there.
    with open(os.path.join(source, "packaging/grafana/presence.json"), encoding="utf-8") as file:
        drawn = {name for panel in json.load(file)["panels"] for target in panel["targets"]
                 for name in re.findall(r"(?:presenced|process)_[a-z_]+", target["expr"])}
    assert drawn <= set(told), drawn - set(told)


def the_papers_tell_every_option():
    options = re.findall(r"^  --([a-z-]+)", subprocess.run([program, "--help"], capture_output=True, text=True,
                                                           check=True).stdout, re.M)
    assert len(options) > 20
    with open(os.path.join(source, "man/man8/presenced.8"), encoding="utf-8") as file:
        told = re.findall(r"^\.It Fl -([a-z-]+)", file.read(), re.M)
    equal(sorted(told), sorted(options))
    with open(os.path.join(source, "packaging/presenced.conf"), encoding="utf-8") as file:
        keys = re.findall(r"^#?([a-z-]+) = ", file.read(), re.M)
    assert keys and set(keys) <= set(options), set(keys) - set(options)


def variables_of_the_command_are_not_ours():
    """Given what the presence command reads, then presenced starts all the same; any other PRESENCE_ is an error."""
    for variables, status in (({"PRESENCE_URL": "x", "PRESENCE_TOKEN_FILE": "y"}, 0), ({"PRESENCE_URLS": "x"}, 2)):
        done = subprocess.run([program, "--check-config"], env={**os.environ, **variables}, capture_output=True,
                              timeout=presenced.WAIT_S, check=False)
        equal(done.returncode, status)


def a_flag_is_stronger_than_a_variable_and_that_than_the_file():
    path = os.path.join(folder.name, "presenced.conf")
    with open(path, "w", encoding="utf-8") as file:
        file.write("max-clients = 101\nmax-watchers = 7\n")
    for variables, flags, wanted in (({}, [], 101), ({"PRESENCE_MAX_CLIENTS": "102"}, [], 102),
                                     ({"PRESENCE_MAX_CLIENTS": "102"}, ["--max-clients", "103"], 103)):
        environment = {**os.environ, "PRESENCE_CONFIG": path, **variables}
        # The test's own way of starting keeps variables out, so a script between puts them in.
        script = os.path.join(folder.name, "configured")
        with open(script, "w", encoding="utf-8") as file:
            said = " ".join(f"{name}={value}" for name, value in environment.items() if name.startswith("PRESENCE_"))
            file.write(f'#!/bin/sh\nexec env {said} "{program}" "$@"\n')
        os.chmod(script, 0o755)
        with Daemon(script, *flags) as daemon:
            equal(daemon.info("maxclients"), wanted)


def too_few_descriptors_are_said_with_what_is_needed():
    """Given fewer descriptors than clients may take, the log tells both numbers; a warning only if they were asked for."""
    few = os.path.join(folder.name, "few")
    with open(few, "w", encoding="utf-8") as file:
        file.write(f'#!/bin/sh\nulimit -n 500\nexec "{program}" "$@"\n')
    os.chmod(few, 0o755)
    for options, level, needed in (((), "info", 40064), (("--max-clients", "300"), "warning", 664)):
        with Daemon(few, *options) as daemon:
            (line,) = [line for line in daemon.logged().splitlines() if "few descriptors" in line]
            holds(line, f"needed={needed} limit=500")
            holds(line, f"level={level}")
    with Daemon(few, "--max-clients", "200") as daemon:
        assert "few descriptors" not in daemon.logged(), daemon.logged()


def the_units_are_good():
    """Given systemd-analyze, it finds nothing to say of the units."""
    for name in ("presenced.service", "presenced-resp.socket", "presenced-http.socket"):
        with open(os.path.join(source, "packaging/systemd", name), encoding="utf-8") as file:
            text = file.read().replace("@bindir@/presenced", program).replace("@sysconfdir@", "/etc")
        with open(os.path.join(folder.name, name), "w", encoding="utf-8") as file:
            file.write(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", os.path.join(folder.name, "presenced.service"),
                           os.path.join(folder.name, "presenced-resp.socket")], capture_output=True, text=True,
                          timeout=presenced.WAIT_S, check=False)
    assert "presenced" not in done.stderr, done.stderr


for function in (systemd_is_told_how_it_is, a_loop_that_hangs_is_not_called_alive, sockets_of_systemd_are_used,
                 an_open_socket_of_systemd_is_refused, a_socket_that_is_not_ours_is_refused, journald_gets_priorities, the_papers_tell_every_option,
                 variables_of_the_command_are_not_ours, a_flag_is_stronger_than_a_variable_and_that_than_the_file, too_few_descriptors_are_said_with_what_is_needed):
    story(function.__name__.replace("_", " "), function)
presenced.tell(program, [metrics_are_told_with_help], "--http", "127.0.0.1:0")
if shutil.which("systemd-analyze"):
    story("the units are good", the_units_are_good)
presenced.end()

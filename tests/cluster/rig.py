# SPDX-License-Identifier: Apache-2.0
"""For the stories of the cluster: NATS servers of the test's own, and nodes that are driven by lines (cluster_node.c).
Needs nothing but Python's own library, nats-server and openssl.

Every wait has an end, which fails the story. Only processes that the rig started are ended, by their id."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

WAIT_S = 30
LEASE_MS = 300
INTERVAL_MS = 50
TIMES = f"interval={INTERVAL_MS} lease={LEASE_MS} settle=400 hold=2000 activity=100"


class Failed(Exception):
    pass


def check(true, what):
    if not true:
        raise Failed(what)


def equal(got, expected, what=""):
    if got != expected:
        raise Failed(f"{what or 'got'}: {got!r}, expected {expected!r}")


def eventually(ask, good, what, wait_s=WAIT_S):
    """Asks until the answer is good, and returns it."""
    end = time.monotonic() + wait_s
    while True:
        answer = ask()
        if good(answer):
            return answer
        if time.monotonic() > end:
            raise Failed(f"{what}: still {answer!r} after {wait_s} s")
        time.sleep(0.01)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def make_certificates(folder):
    """An authority, and a certificate of it for localhost."""
    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2")
    openssl("req", "-x509", *key, "-keyout", "other.key", "-out", "other.pem", "-subj", "/CN=other", "-days", "2")
    for name in ("localhost", "elsewhere", "client"):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        with open(os.path.join(folder, "san"), "w", encoding="ascii") as file:
            file.write(f"subjectAltName=DNS:{name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days",
                "2", "-extfile", "san", "-out", f"{name}.pem")


class Nats:
    """A NATS server on a free port of the loopback, with a configuration (text) besides it."""

    def __init__(self, scratch, configuration="", port=None):
        self.port = port or free_port()
        self.path = os.path.join(scratch, f"nats-{self.port}.conf")
        self.log = os.path.join(scratch, f"nats-{self.port}.log")
        with open(self.path, "w", encoding="ascii") as file:
            file.write(f"listen: 127.0.0.1:{self.port}\n{configuration}\n")
        self.process = None
        self.start()

    def url(self, user=""):
        return f"nats://{user}127.0.0.1:{self.port}"

    def start(self):
        with open(self.log, "a", encoding="ascii") as log:
            self.process = subprocess.Popen(["nats-server", "-c", self.path], stdout=log, stderr=log)
        end = time.monotonic() + WAIT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    with open(self.log, encoding="utf-8") as log:
                        raise Failed("nats-server does not start: " + log.read()[-500:]) from None
                time.sleep(0.02)

    def kill(self):
        if self.process:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
        self.process = None

    def freeze(self, frozen):
        self.process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)


class RawNats:
    """A client that says what it is told to, for what a decent one would not say."""

    def __init__(self, port, **who):
        self.socket = socket.create_connection(("127.0.0.1", port), WAIT_S)
        self.socket.settimeout(WAIT_S)
        self.file = self.socket.makefile("rb")
        self.file.readline()  # INFO
        self.say("CONNECT " + json.dumps(dict(verbose=False, pedantic=False, **who)))
        self.ping()

    def say(self, line, payload=None):
        data = line.encode() + b"\r\n"
        if payload is not None:
            data += payload + b"\r\n"
        self.socket.sendall(data)

    def ping(self):
        """Everything that was said is done; the errors that came meanwhile."""
        self.say("PING")
        errors = []
        while True:
            line = self.file.readline().decode().strip()
            if line == "PONG":
                return errors
            if line.startswith("-ERR"):
                errors.append(line)
            check(line != "", "the NATS server has closed")

    def publish(self, subject, payload):
        self.say(f"PUB {subject} {len(payload)}", payload)
        return self.ping()

    def message(self, subject):
        """The next message on a subject."""
        self.say(f"SUB {subject} 1")
        while True:
            words = self.file.readline().decode().split()
            if words and words[0] == "MSG":
                payload = self.file.read(int(words[-1]))
                self.file.readline()
                self.say("UNSUB 1")
                return payload

    def close(self):
        self.socket.close()


class Process:
    """One process that may be several nodes."""

    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        check(answer, f"the process of the nodes has ended at: {line}")
        return json.loads(answer)

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        self.thaw()
        self.process.kill()
        self.process.wait()

    def end(self):
        """As one who closes its input: its nodes leave; sanitizers may have found something."""
        if self.process.poll() is not None:
            return
        self.thaw()
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            equal(self.process.wait(WAIT_S), 0, "exit status of the nodes")
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failed("the nodes do not end") from None


class Node:
    def __init__(self, process, name):
        self.process, self.name = process, name

    def ask(self, *words):
        return self.process.ask(" ".join([self.name] + [str(word) for word in words]))

    def fine(self, *words):
        equal(self.ask(*words).get("code"), "OK", " ".join(str(word) for word in words))

    def ready(self):
        equal(self.ask("wait", WAIT_S * 1000), {"code": "OK"}, f"{self.name} waits to be ready")

    def status(self, agent, model="m"):
        return self.ask("status", model, agent)["status"]

    def sees(self, agent, status, model="m"):
        eventually(lambda: self.status(agent, model), lambda got: got == status, f"{self.name} sees {agent} {status}")

    def alive(self, server):
        return self.ask("counts", server)["alive"]

    def doubt(self, *server):
        return self.ask("freshness", *server)["doubt"]

    def becomes(self, doubt, *server):
        eventually(lambda: self.doubt(*server), lambda got: got == doubt, f"{self.name} is {doubt}")

    def events(self, kind):
        return [event for event in self.ask("events") if kind in event]


class World:
    """What one story plays in; everything in it ends with it."""

    def __init__(self, program, apart):
        self.program, self.apart = program, apart
        self.scratch = tempfile.mkdtemp(prefix="cluster-")
        self.servers, self.processes = [], []
        self.shared = None

    def nats(self, configuration="", port=None):
        self.servers.append(Nats(self.scratch, configuration, port))
        return self.servers[-1]

    def process(self):
        if not self.apart and self.shared:
            return self.shared
        self.shared = Process(self.program)
        self.processes.append(self.shared)
        return self.shared

    def join(self, name, nats, options="", expect="OK"):
        """A node; in a process of its own if the story plays apart."""
        node = Node(self.process(), name)
        urls = nats if isinstance(nats, str) else nats.url()
        answer = node.process.ask(f"join {name} urls={urls} {TIMES} {options}")
        if expect != "OK":
            return answer
        equal(answer, {"code": "OK"}, f"{name} joins")
        return node

    def cluster(self, nats, names="abc"):
        nodes = [self.join(name, nats) for name in names]
        for node in nodes:
            node.ready()
        return nodes

    def end(self):
        trouble = None
        for process in self.processes:
            try:
                process.end()
            except Failed as failed:
                trouble = failed
        for server in self.servers:
            server.kill()
        shutil.rmtree(self.scratch)
        if trouble:
            raise trouble


def tell(program, stories):
    """Each story is (function, apart): True: nodes in processes of their own; False: all in one."""
    failed = 0
    print(f"1..{len(stories)}", flush=True)
    for number, (story, apart) in enumerate(stories, 1):
        name = story.__name__.replace("_", " ") + (", apart" if apart else ", in one process")
        world = World(program, apart)
        try:
            try:
                story(world)
            finally:
                world.end()
            print(f"ok {number} - {name}", flush=True)
        except Exception as error:  # pylint: disable=broad-except
            failed += 1
            print(f"not ok {number} - {name}", flush=True)
            for line in (str(error) if isinstance(error, Failed) else traceback.format_exc()).splitlines():
                print("#   " + line, flush=True)
            if isinstance(error, Failed):
                print("#   " + traceback.format_exc().splitlines()[-4].strip(), flush=True)
    sys.exit(1 if failed else 0)

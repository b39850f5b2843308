# SPDX-License-Identifier: Apache-2.0
"""Three presenced on real NATS servers, gateways and agents as processes, and the truth about who is connected where,
kept here and by nobody else. Fleet.agree is what all of it is for: the nodes' digests are equal, and what each node
holds is the truth.

Every process is started here, ends with this one whatever becomes of it (PR_SET_PDEATHSIG), and is ended by its id."""

import ctypes
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PEOPLE = os.path.join(HERE, "people.py")
MODEL = "2e15302a-bbdf-4077-8e65-116a5a0e0348"
# Of the nodes, in milliseconds. A busy machine may stop a process for a while: that must be no death.
BEAT, LEASE, SETTLE, HOLD = 150, 1200, 1500, 2500
GRACE = 600
WAIT_S = 30
PATIENT, IMPATIENT = 600, 0.8
NATS_PINGS = 'ping_interval: "500ms"\nping_max: 2\nwrite_deadline: "2s"\n'

libc = ctypes.CDLL(None)


class Failed(Exception):
    pass


def check(true, what):
    if not true:
        raise Failed(what)


def until(good, what, wait_s=WAIT_S):
    """Waits for what must come to be: `good` gives None once it is, and otherwise what is lacking."""
    end = time.monotonic() + wait_s
    while True:
        lacking = good()
        if lacking is None:
            return
        if time.monotonic() > end:
            raise Failed(f"{what}: {lacking} after {wait_s} s")
        time.sleep(0.03)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def die_with_parent():
    libc.prctl(1, signal.SIGKILL)


class Process:
    """One that is started, killed, frozen and started again."""

    def __init__(self, name, words, log, machine=None):
        self.name, self.log, self.process, self.wanted = name, log, None, False
        self.words = (machine.within() if machine else []) + words

    def start(self, **more):
        self.wanted = True
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.words, stderr=log, preexec_fn=die_with_parent, start_new_session=True,
                                            **{"stdin": subprocess.DEVNULL, "stdout": log, **more})

    def running(self):
        """Who has ended by itself is not passed over."""
        check(not self.wanted or self.process.poll() is None, f"{self.name} has ended with {self.process.poll()}")
        return self.wanted

    def kill(self):
        """-9."""
        self.wanted = False
        if self.process:
            self.process.kill()
            self.process.wait()

    def stop(self):
        """As one should."""
        self.wanted = False
        self.process.terminate()
        try:
            return self.process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} does not end") from None

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def last_words(self, lines=5):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return "".join(f"    {self.name}| {line}" for line in log.readlines()[-lines:])


class Nats(Process):
    def __init__(self, scratch, name, host="127.0.0.1", machine=None, routes=""):
        self.host, self.port = host, 4222 if machine else free_port()
        path = os.path.join(scratch, name + ".conf")
        with open(path, "w", encoding="ascii") as file:
            file.write(f"listen: {host}:{self.port}\nserver_name: {name}\n{NATS_PINGS}{routes}\n")
        super().__init__(name, ["nats-server", "-c", path], os.path.join(scratch, name + ".log"), machine)

    @property
    def url(self):
        return f"nats://{self.host}:{self.port}"


class UnixHttp(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=WAIT_S)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Node(Process):
    """A presenced, asked over a unix socket: so it answers whatever is cut."""

    def __init__(self, program, scratch, name, urls, machine=None):
        self.resp, self.http = os.path.join(scratch, name + ".resp"), os.path.join(scratch, name + ".http")
        self.frozen = False  # it is not asked meanwhile, for it does not answer
        self.machine = machine
        super().__init__(name, [program, "--resp", "unix:" + self.resp, "--http", "unix:" + self.http, "--node", name,
                                "--nats", urls, "--beat", f"{BEAT}ms", "--lease", f"{LEASE}ms", "--settle-time",
                                f"{SETTLE}ms", "--hold", f"{HOLD}ms", "--tell-activity", "200ms"],
                         os.path.join(scratch, name + ".log"), machine)

    def freeze(self):
        self.frozen = True
        super().freeze()

    def thaw(self):
        super().thaw()
        self.frozen = False

    def get(self, path):
        connection = UnixHttp(self.http)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            text = reply.read().decode()
            return json.loads(text) if "json" in reply.getheader("Content-Type", "") else text
        except OSError:
            return None  # not there yet, or not any more
        finally:
            connection.close()

    def doubt(self):
        """Why its view is stale, and since when; None if it is fresh."""
        told = self.get("/v1/cluster")
        return (told["stale_because"], told["stale_since"]) if told and told["freshness"] == "stale" else None

    def missing(self):
        """The agents' connections that read missing here."""
        return {key for key, value in self.holds().items() if value[3] == "missing"}

    def holds(self):
        """All that it holds: (server, id): (model, agent, data, status)."""
        held, cursor = {}, ""
        while cursor is not None:
            page = self.get("/v1/connections?limit=1000" + (f"&cursor={cursor}" if cursor else ""))
            check(page is not None and "values" in page, f"{self.name} does not answer: {page}")
            for one in page["values"]:
                held[one["server"], one["connection_id"]] = (one["model"], one["agent"], one["user_data"],
                                                             one["status"])
            cursor = page["cursor"] if page["cursor"] not in ("", "0", None) else None
        return held

    def counted(self, name):
        text = self.get("/metrics") or ""
        match = re.search(rf"^presenced_cluster_{name} (\S+)$", text, re.M)
        return float(match.group(1)) if match else 0.0


class Person(Process):
    """A gateway or an agent; what it says is heard by a thread."""

    def __init__(self, scratch, name):
        super().__init__(name, [], os.path.join(scratch, name + ".log"))
        self.done, self.at, self.order, self.home = 0, None, [], None

    def begin(self, *words):
        self.words = [sys.executable, PEOPLE, *[str(word) for word in words]]
        self.done, self.at = 0, None
        self.start(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self.hear, args=(self.process,), daemon=True).start()

    def hear(self, process):
        for line in process.stdout:
            word, number = line.split()
            if process is self.process:
                setattr(self, "done" if word == "done" else "at", int(number))

    def node(self):
        return self.order[self.at] if self.at is not None else None

    def is_at(self, node):
        return self.node() is node

    def say(self, line):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Failed(f"{self.name} has ended") from None


class Gateway(Person):
    """It and what is connected to it. `held` is what it was told; `doubtful` what it was told and may not have said when
    it was killed: {id: what it was before}."""

    def __init__(self, fleet, number, manner, patience):
        self.fleet, self.server, self.number = fleet, f"gateway-{number}", number
        self.manner, self.patience = manner, patience
        self.epoch, self.told, self.alive = 0, 0, False
        self.held, self.doubtful, self.untold = {}, {}, []
        super().__init__(fleet.scratch, self.server)

    def life(self):
        """A new life, at first with nothing connected. It uses its ids anew."""
        self.epoch += 1
        self.told, self.alive = 0, True
        self.held, self.doubtful, self.untold = {}, {}, []
        nodes = self.fleet.nodes
        self.order = [nodes[(self.number + i) % len(nodes)] for i in range(len(nodes))]
        self.begin("gateway", self.server, self.epoch, GRACE, self.manner, self.patience,
                   *[node.resp for node in self.order])

    def tell(self, id, line, becomes):
        self.told += 1
        self.untold.append((self.told, id, self.held.get(id)))
        self.say(line)
        self.held.pop(id, None)
        if becomes:
            self.held[id] = becomes

    def connect(self, id, agent, data):
        self.tell(id, f"connect {id} {MODEL} {agent} {data}", (MODEL, agent, data))

    def disconnect(self, id):
        self.tell(id, f"disconnect {id}", None)

    def move(self):
        self.told += 1
        self.say("move")

    def end(self, with_its_node=False):
        """-9. What was not answered may have been said or not: anything between before and after is true. The same of
        all since the last agreement where its node dies as well: that answered what it may have told nobody."""
        self.kill()
        done = self.done
        for number, id, before in self.untold:
            if with_its_node or number > done:
                self.doubtful.setdefault(id, []).append(before)
        self.alive = False

    def has_said_all(self):
        return None if self.done == self.told else f"{self.server} had {self.done} of {self.told} answered"


class Fleet:
    """Three nodes, three gateways, three agents; `place` says where NATS is."""

    def __init__(self, program, place, random):
        self.random, self.scratch = random, tempfile.mkdtemp(prefix="harm-")
        self.machines, self.nats, self.nodes, self.gateways, self.agents = [], [], [], [], []
        self.left = {}  # node's name: agents whose connection to it was cut by its death
        self.program = program
        place(self)
        self.churned = 0

    def begin(self):
        for one in [*self.nats, *self.nodes]:
            one.start()
        self.all_ready()
        for number, (manner, patience) in enumerate([("list", PATIENT), ("single", PATIENT), ("list", IMPATIENT)]):
            self.gateways.append(Gateway(self, number, manner, patience))
            self.gateways[-1].life()
        for number in range(3):
            self.agents.append(Person(self.scratch, f"unit-joined-{number}"))
            self.meet(self.agents[-1], self.nodes[number])
        self.churn(60)
        self.agree("at the beginning")

    def meet(self, agent, node):
        agent.home, at = node, self.nodes.index(node)
        agent.order = self.nodes[at:] + self.nodes[:at]
        agent.begin("agent", MODEL, agent.name, PATIENT, *[one.resp for one in agent.order])

    # ------------------------------------------------------------------------------------------------- what happens --

    def churn(self, count):
        """Agents come, change and go at the gateways."""
        for _ in range(count):
            gateway = self.random.choice([one for one in self.gateways if one.alive])
            id = str(self.random.randrange(40))
            self.churned += 1
            if id in gateway.held and self.random.random() < 0.5:
                gateway.disconnect(id)
            else:
                gateway.connect(id, f"unit-{self.random.randrange(60)}", f"{self.churned}")

    def churn_for(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.churn(2)
            time.sleep(0.02)

    def note_death(self, node):
        """Who had joined it: missing there, and joining elsewhere by themselves."""
        self.left[node.name] = {agent.name for agent in self.agents if agent.running() and agent.is_at(node)}

    def start_again(self, node):
        """Its agents come home."""
        node.start()
        self.left.pop(node.name, None)
        until(lambda: None if node.get("/readyz") == "ready\n" else "is not ready", node.name)
        for agent in self.agents:
            if agent.running() and agent.home is node and not agent.is_at(node):
                agent.kill()
                self.meet(agent, node)

    # -------------------------------------------------------------------------------------------------- how it ends --

    def up(self):
        return [node for node in self.nodes if node.running() and not node.frozen]

    def all_ready(self):
        until(lambda: self.lacking(lambda node: node.get("/readyz") == "ready\n", "is not ready"), "the nodes")

    def lacking(self, good, what):
        for node in self.up():
            if not good(node):
                return f"{node.name} {what}"
        return None

    def expected(self):
        """{(server, id): value} of gateways, and {(server, agent): status} of nodes' own servers."""
        stated, joined = {}, {}
        for gateway in self.gateways:
            for id, value in gateway.held.items():
                stated[gateway.server, id] = (*value, "alive" if gateway.alive else "missing")
        for name, agents in self.left.items():
            for agent in agents:
                joined[name, agent] = "missing"
        for agent in self.agents:
            if agent.running() and agent.node():
                joined[agent.node().name, agent.name] = "alive"
        return stated, joined

    def allowed(self, key, value):
        """Whether a gateway that was killed may have left it so."""
        for gateway in self.gateways:
            if gateway.server == key[0]:
                befores = gateway.doubtful.get(key[1], ())
                return (value[:3] if value else None) in befores and (not value or value[3] == "missing")
        return False

    def untrue(self, node):
        """What a node holds that is not the truth; None if all is."""
        stated, joined = self.expected()
        names = {one.name for one in self.nodes}
        held = node.holds()
        here = {key: value for key, value in held.items() if key[0] not in names}
        there = {(key[0], value[1]): value[3] for key, value in held.items() if key[0] in names}
        wrong = [(key, here.get(key), stated.get(key)) for key in sorted(here.keys() | stated.keys())
                 if here.get(key) != stated.get(key) and not self.allowed(key, here.get(key))]
        wrong += [(key, there.get(key), joined.get(key)) for key in sorted(there.keys() | joined.keys())
                  if there.get(key) != joined.get(key)]
        return f"{node.name} holds, where the truth is: {wrong[:4]} ({len(wrong)} in all)" if wrong else None

    def disagreement(self):
        for gateway in self.gateways:
            lacking = gateway.has_said_all() if gateway.alive else None
            if lacking:
                return lacking
        for person in [*self.gateways, *self.agents]:
            if person.running() and not person.node():
                return f"{person.name} is at no node"
        for node in self.up():
            lacking = "is not ready" if node.get("/readyz") != "ready\n" else node.doubt() or self.untrue(node)
            if lacking:
                return f"{node.name}: {lacking}"
        for node in self.up():
            found = node.get("/v1/cluster/verification")
            if not found["agreed"] or found["asked"] != len(self.up()):
                return f"{node.name}: {found}"
            if any(one.holds() != node.holds() for one in self.up()):
                return f"{node.name} holds other things than others"
        return None

    def agree(self, when, wait_s=WAIT_S):
        """All nodes' digests are equal, and what they hold is the truth."""
        until(self.disagreement, when, wait_s)
        for node in self.up():
            check(node.counted("digest_differences_total") == 0, f"{node.name} saw a digest that differed")
            check(node.counted("bad_messages_total") == 0, f"{node.name} was told what is malformed")
        for gateway in self.gateways:
            if not gateway.alive:  # what it may have left is settled now
                here = {key[1]: value[:3] for key, value in self.up()[0].holds().items() if key[0] == gateway.server}
                gateway.held, gateway.doubtful = here, {}
            gateway.untold = []

    def processes(self):
        return [*self.gateways, *self.agents, *self.nodes, *self.nats, *self.machines]

    def last_words(self):
        return "".join(one.last_words(20 if one in self.nodes else 5)
                       for one in [*self.nodes, *self.gateways, *self.agents])

    def end(self):
        for one in self.processes():
            if one.process:
                one.kill()
        shutil.rmtree(self.scratch)

# SPDX-License-Identifier: Apache-2.0
"""Where a fleet lives: on this machine with one NATS server or with three that are routed to each other; or on machines
of its own, which are network namespaces joined by a bridge, and which can be cut from each other.

A machine is a process that holds a namespace (unshare --net), and ends with this one: nothing has a name outside, and
nothing is left behind. All of it, the bridge too, is in a namespace of the test's own, see `apart`."""

import os
import subprocess
import sys
import time

from fleet import Nats, Node, Process, check, free_port

NAMES = "abc"
OWN_NAMESPACE = "HARM_IN_ITS_OWN_NAMESPACE"


def run(*words):
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    check(done.returncode == 0, f"{' '.join(words)}: {done.stderr}")


def apart():
    """This program once more, in a network namespace (and as its root, if it is not root here). Returns in there; or
    why it may not be."""
    if os.environ.get(OWN_NAMESPACE):
        run("ip", "link", "set", "lo", "up")
        return None
    words = ["unshare", "--net"] + ([] if os.geteuid() == 0 else ["--map-root-user"])
    probe = ("ip link add p0 type veth peer name p1 && ip link add p2 type bridge && "
             "unshare --net true && ip link set lo up")
    try:
        done = subprocess.run([*words, "sh", "-c", probe], capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    if done.returncode != 0:
        return done.stderr.strip().replace("\n", "; ")
    os.environ[OWN_NAMESPACE] = "1"
    os.execvp("unshare", [*words, sys.executable, *sys.argv])


class Machine(Process):
    """A network namespace with one address, by a cable to the bridge."""

    def __init__(self, scratch, number):
        self.number, self.address, self.cable = number, f"10.77.0.{number + 1}", f"cable{number}"
        super().__init__(f"machine-{number}", ["unshare", "--net", "sleep", "infinity"],
                         os.path.join(scratch, f"machine-{number}.log"))
        self.start()
        own = os.readlink("/proc/self/ns/net")
        end = time.monotonic() + 10
        while os.readlink(f"/proc/{self.process.pid}/ns/net") == own:
            check(time.monotonic() < end and self.running(), "no namespace")
            time.sleep(0.01)
        run("ip", "link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", str(self.process.pid))
        run("ip", "link", "set", self.cable, "master", "bridge0", "up")
        self.ip("addr", "add", f"{self.address}/24", "dev", "eth0")
        self.ip("link", "set", "lo", "up")
        self.ip("link", "set", "eth0", "up")

    def within(self):
        return ["nsenter", f"--net=/proc/{self.process.pid}/ns/net", "--"]

    def ip(self, *words):
        run(*self.within(), "ip", *words)

    def unplug(self, out):
        run("ip", "link", "set", self.cable, "down" if out else "up")

    def mute(self, to, cut):
        """What it sends to the other is lost; what the other sends arrives (and no answer to it goes back)."""
        self.ip("route", "add" if cut else "del", "blackhole", f"{to.address}/32")


def make_machines(fleet, count):
    run("ip", "link", "add", "bridge0", "type", "bridge")
    run("ip", "link", "set", "bridge0", "up")
    fleet.machines = [Machine(fleet.scratch, number) for number in range(count)]


def one_nats(fleet):
    fleet.nats = [Nats(fleet.scratch, "nats")]
    fleet.nodes = [Node(fleet.program, fleet.scratch, name, fleet.nats[0].url) for name in NAMES]


def three_nats(fleet):
    """Each node at a server of its own; the servers are a cluster of NATS."""
    ports = [free_port() for _ in NAMES]
    for number, name in enumerate(NAMES):
        others = ", ".join(f"nats://127.0.0.1:{port}" for port in ports if port != ports[number])
        routes = f"cluster {{ name: c, listen: 127.0.0.1:{ports[number]}, routes: [{others}] }}"
        fleet.nats.append(Nats(fleet.scratch, "nats-" + name, routes=routes))
        fleet.nodes.append(Node(fleet.program, fleet.scratch, name, fleet.nats[number].url))


def machines_at_one_nats(fleet):
    """Machine 0 has NATS alone."""
    make_machines(fleet, 4)
    fleet.nats = [Nats(fleet.scratch, "nats", fleet.machines[0].address, fleet.machines[0])]
    fleet.nodes = [Node(fleet.program, fleet.scratch, name, fleet.nats[0].url, machine)
                   for name, machine in zip(NAMES, fleet.machines[1:])]


def machines_with_nats(fleet):
    """Each machine has a node and a NATS server, routed to the other machines'."""
    make_machines(fleet, 3)
    for name, machine in zip(NAMES, fleet.machines):
        others = ", ".join(f"nats://{other.address}:6222" for other in fleet.machines if other is not machine)
        routes = f"cluster {{ name: c, listen: {machine.address}:6222, routes: [{others}] }}"
        fleet.nats.append(Nats(fleet.scratch, "nats-" + name, machine.address, machine, routes))
        fleet.nodes.append(Node(fleet.program, fleet.scratch, name, fleet.nats[-1].url, machine))

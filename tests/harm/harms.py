# SPDX-License-Identifier: Apache-2.0
"""What is done to a fleet. Each is a function of it, leaves everything running, and checks what has to be seen while it
lasts; that all agree on the truth afterwards is checked by who calls it."""

import time

from fleet import LEASE, PATIENT, check, until

LEASE_S = LEASE / 1000


def others_of(fleet, node):
    return [one for one in fleet.up() if one is not node]


class NobodyMissing:
    """While it lasts nobody turns missing on these nodes: looked at, again and again."""

    def __init__(self, nodes):
        self.nodes, self.before = nodes, {}

    def __enter__(self):
        self.before = {node: node.missing() for node in self.nodes}
        return self

    def look(self):
        for node in self.nodes:
            more = node.missing() - self.before[node]
            check(not more, f"{node.name} marks missing: {sorted(more)[:4]}")

    def for_seconds(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look()
            time.sleep(0.05)

    def until_all(self, good, what):
        def lacking():
            self.look()
            return next((node.name for node in self.nodes if not good(node)), None)
        until(lacking, what)

    def __exit__(self, *error):
        if error[0] is None:
            self.look()


def all_missing_on(fleet, nodes, servers):
    """All of these servers' connections read missing on these nodes."""
    def lacking():
        for node in nodes:
            check(any(key[0] in servers for key in node.holds()), f"{node.name} holds nothing of {servers}")
            alive = [key for key, value in node.holds().items() if key[0] in servers and value[3] == "alive"]
            if alive:
                return f"{node.name} holds alive {alive[:4]}"
        return None
    until(lacking, "missing after the lease")


# --------------------------------------------------------------------------------------------------- kill -9, or not --


def kill_node(fleet):
    node = fleet.random.choice(fleet.nodes)
    fleet.note_death(node)
    fleet.churn(20)
    node.kill()
    fleet.churn_for(LEASE_S / 2)
    fleet.agree(f"{node.name} is killed, its gateways and agents are elsewhere")
    fleet.start_again(node)
    fleet.churn_for(0.3)


def kill_node_and_start_it_at_once(fleet):
    """Within the lease: it comes back before anybody misses it."""
    node = fleet.random.choice(fleet.nodes)
    fleet.churn(20)
    node.kill()
    fleet.start_again(node)
    fleet.churn(20)


def kill_two_nodes(fleet):
    """Most of the cluster: the one that is left doubts itself first."""
    last, *dying = fleet.random.sample(fleet.nodes, 3)
    for node in dying:
        fleet.note_death(node)
    for node in dying:
        node.kill()
    fleet.churn_for(0.5)
    fleet.agree(f"{last.name} is left alone")
    for node in dying:
        fleet.start_again(node)


def kill_gateway(fleet):
    gateway = fleet.random.choice(fleet.gateways)
    fleet.churn(30)
    gateway.end()
    fleet.agree(f"{gateway.server} is killed")
    gateway.life()
    fleet.churn(20)


def kill_gateway_with_its_node(fleet):
    gateway = fleet.random.choice(fleet.gateways)
    until(gateway.has_said_all, "before")
    node = gateway.node()
    fleet.note_death(node)
    fleet.churn(20)
    node.kill()
    gateway.end(with_its_node=True)
    fleet.agree(f"{gateway.server} is killed, and {node.name}")
    fleet.start_again(node)
    gateway.life()
    fleet.churn(20)


def kill_agent(fleet):
    agent = fleet.random.choice(fleet.agents)
    agent.kill()
    fleet.agree(f"{agent.name} is killed")
    fleet.meet(agent, agent.home)


def stop_node(fleet):
    node = fleet.random.choice(fleet.nodes)
    fleet.note_death(node)
    fleet.churn(10)
    check(node.stop() == 0, f"{node.name} did not end well")
    fleet.agree(f"{node.name} has stopped")
    fleet.start_again(node)


def move_gateway(fleet):
    gateway = fleet.random.choice(fleet.gateways)
    fleet.churn(20)
    until(gateway.has_said_all, "before")
    keep = {(gateway.server, id) for id in gateway.held}
    with NobodyMissing(fleet.up()) as watch:
        gateway.move()
        for id in list(gateway.held)[:5]:
            gateway.disconnect(id)
        watch.for_seconds(LEASE_S)
        gone = {key for node in fleet.up() for key in keep & node.missing()}
    check(not gone, f"{gateway.server} moved, and {sorted(gone)[:4]} read missing")


# ------------------------------------------------------------------------------------------------ SIGSTOP and SIGCONT --


def freeze_node(fleet):
    """For longer than its lease; its gateways are patient, but for one that goes elsewhere."""
    node = fleet.random.choice(fleet.nodes)
    servers = [gateway.server for gateway in fleet.gateways if gateway.is_at(node) and gateway.patience == PATIENT]
    fleet.churn(20)
    node.freeze()
    fleet.churn_for(LEASE_S)
    all_missing_on(fleet, others_of(fleet, node), [node.name, *servers])
    node.thaw()
    fleet.churn(20)


def freeze_node_shortly(fleet):
    node = fleet.random.choice(fleet.nodes)
    fleet.churn(20)
    with NobodyMissing(others_of(fleet, node)) as watch:
        node.freeze()
        watch.for_seconds(LEASE_S * 0.5)
        node.thaw()
        watch.for_seconds(LEASE_S * 0.5)


def freeze_two_nodes(fleet):
    """Most of the cluster, for less than the hold: stale, and nobody missing."""
    last, *frozen = fleet.random.sample(fleet.nodes, 3)
    fleet.churn(20)
    with NobodyMissing([last]) as watch:
        for node in frozen:
            node.freeze()
        watch.until_all(lambda node: node.doubt(), "stale while most are silent")
        check(last.doubt()[0] == "silent" and last.doubt()[1], f"{last.doubt()}")
        for node in frozen:
            node.thaw()


def freeze_nats(fleet):
    nats = fleet.random.choice(fleet.nats)
    deaf = deaf_without(fleet, nats)
    fleet.churn(20)
    with NobodyMissing(deaf) as watch:
        nats.freeze()
        watch.until_all(lambda node: node.doubt(), "stale while NATS is frozen")
        fleet.churn(20)
        watch.for_seconds(LEASE_S)
        nats.thaw()


# --------------------------------------------------------------------------------------------------------------- NATS --


def deaf_without(fleet, nats):
    """Who hears nothing without this server: all, where it is the only one."""
    return [node for number, node in enumerate(fleet.nodes) if fleet.nats[number % len(fleet.nats)] is nats]


def without_nats(fleet, end):
    nats = fleet.random.choice(fleet.nats)
    deaf = deaf_without(fleet, nats)
    fleet.churn(20)
    with NobodyMissing(deaf) as watch:
        end(nats)
        watch.until_all(lambda node: node.doubt() and node.doubt()[0] == "deaf", "deaf without NATS")
        told = [node.doubt() for node in deaf]
        check(all(since for _, since in told), f"stale without NATS: {told}")
        fleet.churn(20)
        watch.for_seconds(LEASE_S * 1.5)
        check([node.doubt() for node in deaf] == told, "stale since another time than before")
        nats.start()
        if len(deaf) == len(fleet.nodes):
            watch.until_all(lambda node: not node.doubt(), "fresh again")


def kill_nats(fleet):
    without_nats(fleet, lambda nats: nats.kill())


def stop_nats(fleet):
    without_nats(fleet, lambda nats: nats.stop())


def restart_nats(fleet):
    """Gone for a moment only."""
    nats = fleet.random.choice(fleet.nats)
    with NobodyMissing(fleet.up()) as watch:
        fleet.churn(20)
        nats.kill()
        nats.start()
        fleet.churn_for(0.3)
        watch.for_seconds(LEASE_S)


def kill_nats_with_a_node(fleet):
    """Where each node has a server of its own: a machine dies."""
    number = fleet.random.randrange(len(fleet.nats))
    node, nats = fleet.nodes[number], fleet.nats[number]
    fleet.note_death(node)
    fleet.churn(20)
    node.kill()
    nats.kill()
    fleet.agree(f"{node.name} and its NATS server are killed")
    nats.start()
    fleet.start_again(node)
    fleet.churn(20)


# --------------------------------------------------------------------------------------------------------------- cuts --


def cut_node_off(fleet):
    """From NATS: it says since when it is stale, and nobody is missing on it; it is missing on the others."""
    node = fleet.random.choice(fleet.nodes)
    cut_while(fleet, node, node.machine.unplug)


def cut_node_off_one_way(fleet):
    """It hears, and is not heard; or it is heard, and does not hear."""
    node, nats = fleet.random.choice(fleet.nodes), fleet.machines[0]
    from_to = fleet.random.choice([(node.machine, nats), (nats, node.machine)])
    cut_while(fleet, node, lambda cut: from_to[0].mute(from_to[1], cut))


def cut_while(fleet, node, cut):
    fleet.churn(20)
    stated = [node.name] + [gateway.server for gateway in fleet.gateways if gateway.is_at(node)]
    with NobodyMissing([node]) as watch:
        cut(True)
        watch.until_all(lambda one: one.doubt() and one.doubt()[0] == "deaf", "deaf while cut off")
        why, since = node.doubt()
        check(since is not None, f"{node.name} does not say since when it is deaf")
        all_missing_on(fleet, others_of(fleet, node), stated)
        check(not any(other.doubt() for other in others_of(fleet, node)), "the others are in doubt")
        fleet.churn(20)
        watch.for_seconds(LEASE_S)
        check(node.doubt() == (why, since), f"stale since another time: {node.doubt()}, {since}")
        cut(False)
        watch.until_all(lambda one: not one.doubt(), "fresh when it is heard again")


def cut_machine_off(fleet):
    """With its NATS server, so that it hears itself: most are silent, which is doubt, and nobody missing for a hold."""
    node = fleet.random.choice(fleet.nodes)
    fleet.churn(20)
    with NobodyMissing([node]) as watch:
        node.machine.unplug(True)
        watch.until_all(lambda one: one.doubt(), "stale while cut off")
        check(node.doubt()[0] == "silent", f"{node.doubt()}")
        fleet.churn(20)
        all_missing_on(fleet, others_of(fleet, node), [node.name])
        node.machine.unplug(False)


def cut_route(fleet, one_way=False):
    """Between two NATS servers; the third hears both."""
    one, other, third = fleet.random.sample(fleet.nodes, 3)
    fleet.churn(20)
    with NobodyMissing([third]) as watch:
        one.machine.mute(other.machine, True)
        if not one_way:
            other.machine.mute(one.machine, True)
        all_missing_on(fleet, [other], [one.name])
        all_missing_on(fleet, [one], [other.name])
        fleet.churn(20)
        watch.for_seconds(LEASE_S)
        one.machine.mute(other.machine, False)
        if not one_way:
            other.machine.mute(one.machine, False)


def cut_route_one_way(fleet):
    """NATS' own pings find it out: the route ends for both."""
    cut_route(fleet, one_way=True)


ALWAYS = [kill_node, kill_node_and_start_it_at_once, kill_gateway, kill_gateway_with_its_node, kill_agent, stop_node,
          move_gateway, freeze_node, freeze_node_shortly, kill_nats, freeze_nats]
HARMS = {
    "one_nats": ALWAYS + [kill_two_nodes, freeze_two_nodes, stop_nats, restart_nats],
    "three_nats": ALWAYS + [kill_nats_with_a_node, restart_nats],
    "machines_at_one_nats": [cut_node_off, cut_node_off_one_way, kill_node],
    "machines_with_nats": [cut_machine_off, cut_route, cut_route_one_way, kill_nats_with_a_node],
}

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_answers.py PRESENCED - answers that are kept while nothing changes are those that the record gives.

A question of many agents is kept once it was asked twice, and one for all of a model's; one of a single agent never is,
so they are asked for one by one to be told what is right."""

import random
import sys

import presenced
from presenced import equal, holds

MODELS = ["2e15302a-bbdf-4077-8e65-116a5a0e0348", "2e15302a-bbdf-4077-8e65-116a5a0e0349"]
AGENTS = [f"agent-{number}" for number in range(40)]
SERVERS = ["gw-0", "gw-1"]


def truth(client, model, agents):
    client.send(b"".join(presenced.encode("PRESENCE.STATUS", model, agent) for agent in agents))
    return [client.reply()[0] for _ in agents]


def asked(client, model, agents):
    """The same answer four times in a row: of the record, of the record and kept, and twice as it was kept."""
    wanted = truth(client, model, agents)
    for _ in range(4):
        equal(client.ask("PRESENCE.STATUS", model, *agents), wanted)
    return wanted


def statuses(client, model):
    """All of a model's agents; twice, so that the second is kept. As pairs, in RESP2 and in RESP3."""
    answers = [client.ask("PRESENCE.STATUSES", model) for _ in range(2)]
    equal(answers[0], answers[1])
    return list(answers[0].items()) if isinstance(answers[0], dict) else list(zip(answers[0][::2], answers[0][1::2]))


def change(client, chance):
    server, model, number = chance.choice(SERVERS), chance.choice(MODELS), chance.randrange(len(AGENTS))
    what = chance.randrange(10)
    if what < 5:
        client.ask("PRESENCE.CONNECT", server, model, AGENTS[number], number)
    elif what < 7:
        client.ask("PRESENCE.DISCONNECT", server, number)
    elif what == 7:
        client.ask("PRESENCE.SERVERDOWN", server)
    elif what == 8:
        client.ask("PRESENCE.UPDATESERVER", server, 2, model, AGENTS[number], number, 0, "", model, AGENTS[0], 99, 1, "")
    else:
        client.ask("PRESENCE.ACTIVITY", server, number)


def an_answer_is_that_of_the_record(daemon):
    """Given clients of two loops that ask the same again and again, when what they ask for changes, they are told so."""
    chance = random.Random(7)
    clients = [daemon.client() for _ in range(4)]
    seen = set()
    for _ in range(400):
        change(chance.choice(clients), chance)
        client = chance.choice(clients)
        model = chance.choice(MODELS)
        wanted = asked(client, model, AGENTS)
        seen.update(wanted)
        equal([pair for pair in statuses(client, model) if pair[1] != "unknown"],
              sorted(pair for pair in zip(AGENTS, wanted) if pair[1] != "unknown"))
    equal(seen, {"alive", "missing", "unknown"})


def questions_that_look_alike_are_two(daemon):
    """Given a question that is kept, then one of the same length, model, first and last agent is another, and so is one
    that differs where a word ends."""
    client = daemon.client()
    for number, agent in enumerate(AGENTS[:20]):
        client.ask("PRESENCE.CONNECT", "gw-0", MODELS[0], agent, number)
    middle = [AGENTS[0], *AGENTS[10:30], AGENTS[39]]
    other = [AGENTS[0], *AGENTS[15:35], AGENTS[39]]
    for agents in (middle, other, middle):
        equal(asked(client, MODELS[0], agents),
              ["alive" if agent in AGENTS[:20] else "unknown" for agent in agents])
    one, two = ["a", *AGENTS[1:9], "xy", "z", "b"], ["a", *AGENTS[1:9], "x", "yz", "b"]
    client.ask("PRESENCE.CONNECT", "gw-0", MODELS[0], "xy", 100)
    equal(asked(client, MODELS[0], one)[-3:], ["alive", "unknown", "unknown"])
    equal(asked(client, MODELS[0], two)[-3:], ["unknown", "unknown", "unknown"])


def it_is_the_same_in_both_spellings(daemon):
    """Given a kept question in one line, then the answer is that of the array, and a name with a blank is one name."""
    client = daemon.client()
    client.ask("PRESENCE.CONNECT", "gw-0", MODELS[0], AGENTS[3], 3)
    wanted = asked(client, MODELS[0], AGENTS)
    for _ in range(4):
        client.send(f"PRESENCE.STATUS {MODELS[0]} {' '.join(AGENTS)}\r\n".encode())
        equal(client.reply(), wanted)


def all_of_a_model_are_told_in_each_version_to_whom_it_concerns(daemon):
    """Given one question of two models, by RESP2 and RESP3 by turns, then each is told its own; an unknown model has no
    agents, a controller's status is unknown as everywhere, and a bad name is refused."""
    client, other = daemon.client(), daemon.client()
    other.ask("HELLO", 3)
    client.ask("PRESENCE.CONNECT", "gw-1", MODELS[1], "controller", 200, "CONTROLLER")
    client.ask("PRESENCE.CONNECT", "gw-1", MODELS[1], "b", 201)
    client.ask("PRESENCE.CONNECT", "gw-1", MODELS[1] + "1", "a", 202)
    for _ in range(3):
        for asker in (client, other):
            equal(statuses(asker, MODELS[1])[-1], ("controller", "unknown"))
            equal(("b", "alive") in statuses(asker, MODELS[1]), True)
            equal(statuses(asker, MODELS[1] + "1"), [("a", "alive")])
            equal(statuses(asker, "nobody"), [])
            holds(asker.ask("PRESENCE.STATUSES", "bad\x01"), "INVALID")
    equal(isinstance(client.ask("PRESENCE.STATUSES", "nobody"), list), True)
    equal(isinstance(other.ask("PRESENCE.STATUSES", "nobody"), dict), True)


def a_disabled_record_tells_nothing(daemon):
    client = daemon.client()
    client.ask("PRESENCE.CONNECT", "gw-0", MODELS[0], AGENTS[0], 0)
    equal(asked(client, MODELS[0], AGENTS)[0], "alive")
    client.ask("PRESENCE.DISABLE")
    holds(client.ask("PRESENCE.STATUS", MODELS[0], *AGENTS), "DISABLED")
    holds(client.ask("PRESENCE.STATUSES", MODELS[0]), "DISABLED")
    client.ask("PRESENCE.ENABLE")
    equal(asked(client, MODELS[0], AGENTS)[0], "unknown")


def what_is_refused_is_refused_again(daemon):
    """Given a question with a bad name among good ones, then each time it is asked the answer names it."""
    client = daemon.client()
    for _ in range(4):
        holds(client.ask("PRESENCE.STATUS", MODELS[0], *AGENTS, "bad\x01"), "INVALID")
    equal(asked(client, MODELS[0], AGENTS)[0], "unknown")


presenced.tell(sys.argv[1], [an_answer_is_that_of_the_record, questions_that_look_alike_are_two,
                             it_is_the_same_in_both_spellings,
                             all_of_a_model_are_told_in_each_version_to_whom_it_concerns, a_disabled_record_tells_nothing,
                             what_is_refused_is_refused_again], "--threads", "2")
presenced.end()

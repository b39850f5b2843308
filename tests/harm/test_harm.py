#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Three presenced on real NATS servers are harmed in all ways, and after each agree on the truth.

    test_harm.py PRESENCED PLACE [--rounds N] [--seed S] [--only HARM]

PLACE: one_nats, three_nats, machines_at_one_nats or machines_with_nats (places.py). Without --rounds each harm of the
place is done once (harms.py), in an order that the seed gives; with it, N drawn ones. Machines are network namespaces:
where these are not permitted, the test says so and is skipped."""

import argparse
import os
import random
import sys
import time
import traceback

from fleet import LEASE, SETTLE, Failed, Fleet
from harms import HARMS
import places

SKIPPED = 77


def run(arguments):
    dice = random.Random(arguments.seed)
    harms = [harm for harm in HARMS[arguments.place] if arguments.only in (None, harm.__name__)]
    if arguments.rounds:
        harms = [dice.choice(harms) for _ in range(arguments.rounds)]
    else:
        dice.shuffle(harms)
    print(f"1..{len(harms)}\n# {arguments.place}, seed {arguments.seed}", flush=True)
    fleet = Fleet(os.path.abspath(arguments.program), getattr(places, arguments.place), dice)
    number, name = 0, "begin"
    try:
        fleet.begin()
        for number, harm in enumerate(harms, 1):
            name, began = harm.__name__.replace("_", " "), time.monotonic()
            harm(fleet)
            fleet.agree("at the end")
            print(f"ok {number} - {arguments.place}: {name} # {time.monotonic() - began:.1f} s", flush=True)
        name = "rest"
        time.sleep((SETTLE + LEASE) / 1000)  # nothing of all that comes back
        fleet.agree("at rest", 0)
        return 0
    except Exception as error:  # pylint: disable=broad-except
        print(f"not ok {max(number, 1)} - {arguments.place}: {name}")
        text = (f"{error}\n" if isinstance(error, Failed) else "") + traceback.format_exc()
        print("#   " + (text + fleet.last_words()).replace("\n", "\n#   "), flush=True)
        print(f"#   again: --seed {arguments.seed}" + (f" --rounds {arguments.rounds}" if arguments.rounds else ""))
        return 1
    finally:
        fleet.end()


def main():
    parser = argparse.ArgumentParser(description="three presenced are harmed, and agree")
    parser.add_argument("program")
    parser.add_argument("place", choices=sorted(HARMS))
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only")
    arguments = parser.parse_args()
    if arguments.place.startswith("machines"):
        why = places.apart()
        if why:
            print(f"network namespaces are not permitted here: {why}")
            return SKIPPED
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_node_client.py PRESENCED FOLDER - clients/client.mjs against presenced, and every command asked by the same client
(clients/rows.mjs, rows.py). What npm brings goes into FOLDER, in the build; where npm is not here, or reaches no registry,
the test says so and is left out."""

import json
import os
import shutil
import subprocess
import sys

import presenced
import rows

program, folder = sys.argv[1:]
here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "clients")
LEFT_OUT = 77


def install():
    if not shutil.which("node") or not shutil.which("npm"):
        sys.exit(leave_out("node and npm are not here (Debian: nodejs, npm)"))
    os.makedirs(folder, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(os.path.join(here, name), folder)
    if os.path.isdir(os.path.join(folder, "node_modules", "@redis", "client")):
        return
    done = subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder, timeout=240,
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(leave_out("npm could not install the client: " + (done.stderr.strip().splitlines() or ["?"])[-1]))


def leave_out(why):
    print(why)
    return LEFT_OUT


def ask(port, commands):
    text = "".join(json.dumps(words) + "\n" for words in commands)
    done = subprocess.run(["node", os.path.join(here, "rows.mjs"), str(port)], cwd=folder, input=text, timeout=120,
                          capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


install()
status = 0
with presenced.Daemon(program) as daemon:
    for version in ("2", "3"):
        status |= subprocess.run(["node", os.path.join(here, "client.mjs"), str(daemon.port), version], cwd=folder,
                                 timeout=120, check=False).returncode
rows.check(program, "node-redis", ask)
sys.exit(status or presenced.failed)

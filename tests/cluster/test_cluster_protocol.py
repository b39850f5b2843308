#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_cluster_protocol.py PROTOCOL_EXAMPLES CLUSTER_PROTO DOCUMENT [--write]

What docs/cluster-protocol.md shows is what the nodes of protocol_examples.c say, as protoc reads it, and its test
vectors are what the library computes. --write writes them into the document instead."""

import difflib
import os
import re
import subprocess
import sys
import textwrap

program, proto, document = sys.argv[1:4]


def lines_of(kind):
    said = subprocess.run([program], stdout=subprocess.PIPE, check=True, text=True).stdout
    return [line.split(" ")[1:] for line in said.splitlines() if line.split(" ")[0] == kind]


def decoded(data):
    return subprocess.run(["protoc", "--decode", "presence.cluster.Message", f"--proto_path={os.path.dirname(proto)}",
                           os.path.basename(proto)], input=data, stdout=subprocess.PIPE, check=True).stdout.decode()


def example(subject, data):
    text = "\n".join(textwrap.wrap(data, 112))
    return f"```\n{subject}\n{text}\n\n{decoded(bytes.fromhex(data))}```\n"


def text(hexadecimal):
    return "" if hexadecimal == "-" else bytes.fromhex(hexadecimal).decode()


def vectors():
    out = ["SipHash-1-3 of some bytes:", "```"]
    for k0, k1, data, result in lines_of("hash"):
        out.append(f'k0 {k0} k1 {k1} "{text(data)}": {result}')
    out += ["```", "", "Terms of connections. All numbers are in hexadecimal.", "```"]
    for epoch, turn, random, number, controller, model, agent, data, h1, h2, h3 in lines_of("digest"):
        if not out[-1].startswith("  "):
            out.append(f"epoch {epoch} turn {turn} random {random}")
        out += [f'  id {number} controller {controller} model "{text(model)}" agent "{text(agent)}" data "{text(data)}"',
                f"    h1 {h1} h2 {h2} term {h3}"]
    (everything, alive), = lines_of("sums")
    sums = dict(lines_of("memory"))
    out += ["```", "", "The first of them is missing, the others are alive:", "```",
            f"digest_all {everything} digest_alive {alive}", "```", "",
            "What node-b remembers above, of that one server: as its Known says it, and as a tombstone at the same number.", "```",
            f"memory {sums['orphan']}", f"memory {sums['tombstone']}", "```"]
    return "\n".join(out) + "\n"


def written(before):
    after = before
    shown = {name: example(subject, data) for name, subject, data in lines_of("message")}
    for name in re.findall(r"<!-- example (\S+) -->", before):
        block = re.compile(rf"(<!-- example {re.escape(name)} -->\n)(```\n.*?```\n)?", re.S)
        after = block.sub(lambda match: match.group(1) + shown.pop(name), after)
    if shown:
        sys.exit("the document lacks the examples " + ", ".join(shown))
    return re.sub(r"(<!-- vectors -->\n).*", lambda match: match.group(1) + vectors(), after, flags=re.S)


def main():
    try:
        subprocess.run(["protoc", "--version"], stdout=subprocess.DEVNULL, check=True)
    except FileNotFoundError:
        print("protoc is not here (scripts/setup test)")
        return 77
    with open(document, encoding="utf-8") as file:
        before = file.read()
    after = written(before)
    if "--write" in sys.argv:
        with open(document, "w", encoding="utf-8") as file:
            file.write(after)
        return 0
    difference = list(difflib.unified_diff(before.splitlines(), after.splitlines(), "document", "nodes", lineterm=""))
    print("\n".join(difference) if difference else "ok 1 - the document shows what nodes say")
    return 1 if difference else 0


sys.exit(main())

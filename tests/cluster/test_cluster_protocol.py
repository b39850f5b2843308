#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_cluster_protocol.py PROTOCOL_EXAMPLES CLUSTER_PROTO DOCUMENT [--write]

What docs/cluster-protocol.md shows is what the nodes of protocol_examples.c say, as protoc reads it, and its test
vectors are what the library computes; participant_parts.py, which was written from the document, computes the same.
--write writes them into the document instead."""

import difflib
import os
import re
import subprocess
import sys
import textwrap

from participant_parts import MASK, memory_of, sip_hash_1_3, term

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
        names = f'model "{text(model)}" agent "{text(agent)}" data "{text(data)}"'
        out += [f"  id {number} controller {controller} {names}",
                f"    h1 {h1} h2 {h2} term {h3}"]
    (everything, alive), = lines_of("sums")
    sums = dict(lines_of("memory"))
    out += ["```", "", "The first of them is missing, the others are alive:", "```",
            f"digest_all {everything} digest_alive {alive}", "```", "",
            "What node-b remembers above, of that one server: as its Known says it, and as a tombstone.",
            "```",
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


def parted(hexadecimal):
    return b"" if hexadecimal == "-" else bytes.fromhex(hexadecimal)


def computed_otherwise():
    """What who has read the document computes otherwise than the library."""
    wrong = []
    for k0, k1, data, result in lines_of("hash"):
        if sip_hash_1_3(int(k0, 16), int(k1, 16), parted(data)) != int(result, 16):
            wrong.append("hash of " + text(data))
    terms = []
    for words in lines_of("digest"):
        epoch, turn, random, number = (int(word, 16) for word in words[:4])
        terms.append(term((epoch, turn, random), number, words[4] == "1", *map(parted, words[5:8])))
        if terms[-1] != int(words[10], 16):
            wrong.append("term of " + text(words[6]))
    if [[f"{sum(terms) & MASK:016x}", f"{sum(terms[1:]) & MASK:016x}"]] != lines_of("sums"):
        wrong.append("sums")
    known = decoded(bytes.fromhex({name: data for name, _, data in lines_of("message")}["known"]))
    said = {name: int(re.search(rf"{name}: (\d+)", known).group(1)) for name in
            ("epoch", "turn", "random", "number", "digest_all")}
    claim = said["epoch"], said["turn"], said["random"]
    memories = [["orphan", f"{memory_of(b'machine-2', claim, said['number'], said['digest_all'], 0, False):016x}"],
                ["tombstone", f"{memory_of(b'machine-2', claim, said['number'], 0, 0, True):016x}"]]
    if memories != lines_of("memory"):
        wrong.append("memory sums")
    return wrong


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
    wrong = computed_otherwise()
    print("\n".join(difference) if difference else "ok 1 - the document shows what nodes say")
    print("not ok 2 - other " + ", ".join(wrong) if wrong else "ok 2 - the document's sums are the library's")
    return 1 if difference or wrong else 0


sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_wire_python.py WIRE_SAY CLUSTER_PROTO - the cluster's messages as Google's own codec reads and writes them.

One story a kind: what our codec says, it reads as the message below; and the message below, as it writes it, our codec
hears as the same sample (tests/wire/samples.c)."""

import os
import subprocess
import sys
import tempfile

DEBIAN_PYTHON = "/usr/bin/python3"
program, proto = sys.argv[1:]

try:
    import google.protobuf  # noqa: F401
except ImportError:
    if os.path.realpath(sys.executable) != os.path.realpath(DEBIAN_PYTHON) and os.path.exists(DEBIAN_PYTHON):
        os.execv(DEBIAN_PYTHON, [DEBIAN_PYTHON, *sys.argv])  # another Python comes first, and has not Debian's modules
    print("python3-protobuf is not here (scripts/setup test)")
    sys.exit(77)

CLAIM = {"epoch": 5, "turn": 2, "random": 0xA1A2A3A4A5A6A7A8}
MODEL_A, MODEL_B = b"0a2f9c1e-6c7b-4d59-8d0e-1f5b7a3c9d01", b"7b41d2aa-93ce-4f0b-bb6d-52c8e0f6a902"
TIME = 1767225600123456789
MOST = 2**64 - 1
STANDS = [
    {"server": b"machine-0", "claim": CLAIM, "number": 1000, "floor": 900, "connections": 12, "alive": 11,
     "digest_all": MOST, "digest_alive": 1, "complete": True},
    {"server": "machine-\u00e9".encode(), "claim": {"epoch": MOST, "turn": MOST, "random": MOST}, "number": MOST,
     "forgotten": True, "lapsed": True, "holder": b"node-b"},
]

MESSAGES = {
    "beat": {"sequence": 7, "nonce": 0xFEDCBA9876543210, "interval_ms": 500, "lease_ms": 3000, "joining": True,
             "leaving": True, "part": 1, "parts": 65535, "stands": STANDS, "memory": 0x0102030405060708},
    "changes": {
        "server": b"machine-0", "claim": CLAIM, "first": 41, "models": [MODEL_A, MODEL_B],
        "changes": [
            {"kind": "CONNECT", "id": MOST, "model": 0, "agent": b"unit-a-0", "data": b'{"k":1}', "controller": True,
             "time": TIME},
            {"kind": "CONNECT", "id": 0, "model": 1, "agent": b"unit-b-0", "time": -1},
            {"kind": "CONNECT", "id": 300, "model": 0, "agent": b"unit-c-0", "time": TIME + 1},
            {"kind": "DISCONNECT", "id": 300, "time": TIME + 2},
            {"kind": "DOWN", "reason": "DRAINED", "time": TIME + 3},
            {"kind": "COMPLETE", "time": TIME + 4},
        ],
    },
    "activity": {"server": b"machine-0", "claim": CLAIM, "number": 99, "base_time": TIME,
                 "ids": [0, 7, 293, MOST - 300], "seen_ms": [0, -5, 20000, 1]},
    "ask": {"question": "ASK_STATE", "server": b"machine-0", "claim": CLAIM, "after": 40,
            "transfer": 0xABCDEF0123456789, "tag": 77, "model": MODEL_A, "agent": b"unit-a-0",
            "missing": [{}, {"first": 3, "last": 7}, {"first": MOST - 1, "last": MOST}]},
    "chunk": {
        "server": b"machine-0", "claim": CLAIM, "number": 46, "floor": 45, "floor_reason": "TIMED_OUT",
        "floor_time": TIME - 60 * 10**9, "transfer": 0xABCDEF0123456789, "index": 300, "last": True,
        "connections": 30003, "base_time": TIME, "models": [MODEL_B, MODEL_A],
        "values": [
            {"id": 9, "model": 0, "agent": b"unit-b-0", "data": b"x", "missing": True},
            {"id": MOST, "model": 1, "agent": b"unit-a-0", "controller": True, "seen_ms": -1, "seen_ns": 999999},
            {"id": 0, "model": 0, "agent": b"unit-b-1", "seen_ms": 86400000, "seen_ns": 1},
        ],
    },
    "difference": {
        "server": b"machine-0", "claim": CLAIM, "number": 46, "floor": 45, "floor_reason": "TIMED_OUT",
        "floor_time": TIME - 60 * 10**9, "transfer": 0xABCDEF0123456789, "index": 3, "connections": 30003,
        "base_time": TIME, "models": [MODEL_B, MODEL_A],
        "values": [
            {"id": 9, "model": 0, "agent": b"unit-b-0", "data": b"x", "missing": True},
            {"id": MOST, "model": 1, "agent": b"unit-a-0", "controller": True, "seen_ms": -1, "seen_ns": 999999},
            {"id": 0, "model": 0, "agent": b"unit-b-1", "seen_ms": 86400000, "seen_ns": 1},
        ],
        "since": 41, "gone": [0, 7, 293, MOST - 300], "digest_all": 0x8877665544332211, "digest_alive": 1,
    },
    "known": {"tag": 77, "more": True, "stands": STANDS},
    "forget": {"server": b"machine-0", "claim": CLAIM, "number": 2**40},
    "evidence": {
        "tag": 77, "model": MODEL_A, "agent": b"unit-a-0", "status": 2, "reason": "RECONNECTED", "since": TIME,
        "last_seen": TIME + 1, "stale": True, "total": 300,
        "connections": [
            {"server": b"machine-0", "id": MOST, "controller": True, "last_seen": TIME, "holder": b"node-b"},
            {"server": b"machine-1", "id": 0, "missing": True, "last_seen": -TIME, "holder": b"node-c", "stale": True},
        ],
    },
}


def generated(folder):
    """The module that protoc makes of the format; None: protoc is not here."""
    try:
        subprocess.run(["protoc", f"--proto_path={os.path.dirname(proto)}", f"--python_out={folder}", proto],
                       check=True)
    except FileNotFoundError:
        return None
    sys.path.insert(0, folder)
    import cluster_pb2
    return cluster_pb2


def story(cluster, kind):
    """What is wrong, or None."""
    ours = cluster.Message(version=1, node=b"node-a", run=0x1122334455667788, **{kind: MESSAGES[kind]})
    said = subprocess.run([program, "say", kind], stdout=subprocess.PIPE, check=True).stdout
    read = cluster.Message.FromString(said)
    if read != ours:
        return f"it reads:\n{read}\ninstead of:\n{ours}"
    heard = subprocess.run([program, "hear", kind], input=ours.SerializeToString(), stderr=subprocess.PIPE)
    if heard.returncode != 0:
        return "it is not heard: " + heard.stderr.decode()
    return None


def main():
    with tempfile.TemporaryDirectory() as folder:
        cluster = generated(folder)
        if cluster is None:
            print("protoc is not here (scripts/setup test)")
            return 77
        kinds = [field.name for field in cluster.Message.DESCRIPTOR.oneofs_by_name["body"].fields]
        failed = 0
        for number, kind in enumerate(kinds, 1):
            wrong = story(cluster, kind) if kind in MESSAGES else "there is no sample of it"
            failed += wrong is not None
            print(f"{'not ok' if wrong else 'ok'} {number} - {kind} is understood both ways")
            if wrong:
                print("# " + wrong.replace("\n", "\n# "))
        return 1 if failed else 0


sys.exit(main())

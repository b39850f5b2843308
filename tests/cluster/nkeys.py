# SPDX-License-Identifier: Apache-2.0
"""Keys and tokens of NATS, as its tools make them: an operator vouches for an account, which vouches for a user, whose
credentials file (a JWT and the seed of its key) a node shows. Made anew for each story, by openssl."""

import base64
import json
import os
import subprocess
import time

OPERATOR, ACCOUNT, USER, SEED = 14 << 3, 0, 20 << 3, 18 << 3  # the first letter of what is encoded: O, A, U, S


def crc16(data):
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xffff
    return crc


def encoded(data):
    return base64.b32encode(data + crc16(data).to_bytes(2, "little")).decode().rstrip("=")


def for_web(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Key:
    """An Ed25519 key of that kind."""

    def __init__(self, folder, name, kind):
        self.name, self.path = name, os.path.join(folder, name + ".key")
        self.openssl("genpkey", "-algorithm", "ed25519", "-outform", "DER", "-out", self.path)
        with open(self.path, "rb") as file:
            raw = file.read()[-32:]
        self.public = encoded(bytes([kind]) + self.openssl("pkey", "-in", self.path, "-inform", "DER", "-pubout",
                                                           "-outform", "DER")[-32:])
        self.seed = encoded(bytes([SEED | kind >> 5, (kind & 31) << 3]) + raw)

    @staticmethod
    def openssl(*words):
        return subprocess.run(["openssl", *words], check=True, capture_output=True).stdout

    def vouches_for(self, key, kind, **facts):
        """A JWT that says so."""
        claims = {"jti": key.public, "iat": int(time.time()), "iss": self.public, "name": key.name, "sub": key.public,
                  "nats": {"type": kind, "version": 2, **facts}}
        parts = [{"typ": "JWT", "alg": "ed25519-nkey"}, claims]
        text = ".".join(for_web(json.dumps(part).encode()) for part in parts)
        said = self.path + ".said"
        with open(said, "w", encoding="ascii") as file:
            file.write(text)
        return text + "." + for_web(self.openssl("pkeyutl", "-sign", "-inkey", self.path, "-keyform", "DER", "-rawin",
                                                 "-in", said))


def operator_and_user(folder):
    """The configuration of a server, and two credentials files: of a user of its account, and of a stranger's."""
    operator, account = Key(folder, "operator", OPERATOR), Key(folder, "account", ACCOUNT)
    limits = {"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": True, "conn": -1,
              "leaf": -1}
    account_jwt = operator.vouches_for(account, "account", limits=limits)
    with open(os.path.join(folder, "operator.jwt"), "w", encoding="ascii") as file:
        file.write(operator.vouches_for(operator, "operator"))
    files = []
    for name, voucher in (("user", account), ("stranger", Key(folder, "other-account", ACCOUNT))):
        user = Key(folder, name, USER)
        jwt = voucher.vouches_for(user, "user", pub={}, sub={}, subs=-1, data=-1, payload=-1)
        files.append(os.path.join(folder, name + ".creds"))
        with open(files[-1], "w", encoding="ascii") as file:
            file.write(f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
                       f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n")
    return (f'operator: "{os.path.join(folder, "operator.jwt")}"\nresolver: MEMORY\n'
            f'resolver_preload: {{ {account.public}: "{account_jwt}" }}', *files)

# SPDX-License-Identifier: Apache-2.0
"""For stories in Python: a presenced of the test's own on free ports, raw sockets to it, and stories told as
`ok N - name`. Needs nothing but Python's own library.

    import presenced

    def a_story(daemon):
        client = daemon.client()
        presenced.equal(client.ask("PING"), "PONG")

    presenced.tell(program, [a_story], "--max-clients", "10")

Every wait has an end: sockets and processes give up after WAIT_S seconds, which fails the story."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

WAIT_S = 30


class Push(list):
    """A RESP3 push."""


class Error(str):
    """An error reply, without its mark."""


class Closed(Exception):
    """The other side has closed."""


def encode(*words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class Client:
    """A RESP client that sends what it is told to, byte for byte."""

    def __init__(self, address, receive_buffer=0, wrap=None):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(WAIT_S)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(address)
        if wrap:
            self.socket = wrap(self.socket)
        self.buffer = b""

    def send(self, data):
        self.socket.sendall(data)

    def ask(self, *words):
        self.send(encode(*words))
        return self.reply()

    def fill(self):
        data = self.socket.recv(1 << 16)
        if not data:
            raise Closed()
        self.buffer += data

    def line(self):
        while b"\r\n" not in self.buffer:
            self.fill()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def exactly(self, count):
        while len(self.buffer) < count:
            self.fill()
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def reply(self):
        line = self.line()
        mark, rest = line[:1], line[1:].decode()
        if mark == b"+":
            return rest
        if mark == b"-":
            return Error(rest)
        if mark == b":":
            return int(rest)
        if mark == b"_" or (mark in b"$*" and rest == "-1"):
            return None
        if mark == b"#":
            return rest == "t"
        if mark == b"$":
            return self.exactly(int(rest) + 2)[:-2].decode()
        if mark in b"*>":
            items = [self.reply() for _ in range(int(rest))]
            return Push(items) if mark == b">" else items
        if mark == b"%":
            return {self.reply(): self.reply() for _ in range(int(rest))}
        raise AssertionError(f"not RESP: {line!r}")

    def rest(self):
        """All that comes until the other side closes."""
        data, self.buffer = [self.buffer], b""
        while True:
            more = self.socket.recv(1 << 16)
            if not more:
                return b"".join(data)
            data.append(more)

    def is_closed(self):
        """Waits for the other side to close; whatever comes before is thrown away."""
        try:
            self.rest()
            return True
        except ConnectionResetError:
            return True
        except socket.timeout:
            return False

    def close(self):
        self.socket.close()


class Daemon:
    """presenced, ready to be asked; `with` stops it and insists on a clean end."""

    def __init__(self, program, *options):
        self.log = tempfile.TemporaryFile()
        listen = [] if any(option.startswith("--resp") for option in options) else ["--resp", "127.0.0.1:0"]
        if not any(option.startswith("--http") for option in options):
            listen += ["--http", "none"]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PRESENCE_")}
        self.process = subprocess.Popen([program, *listen, *options], stderr=self.log, env=environment)
        self.clients = []
        self.asker = None
        self.wait_until(lambda: "event=started" in self.logged())
        match = re.search(r"protocol=resp address=127\.0\.0\.1:(\d+)", self.logged())
        self.port = int(match.group(1)) if match else None

    def logged(self):
        size = os.fstat(self.log.fileno()).st_size
        return os.pread(self.log.fileno(), size, 0).decode()

    def wait_until(self, condition):
        """Waits for what must come to be."""
        end = time.monotonic() + WAIT_S
        while not condition():
            if self.process.poll() is not None:
                raise AssertionError("presenced has ended:\n" + self.logged())
            if time.monotonic() > end:
                raise AssertionError("it never came to be; the log:\n" + self.logged())
            time.sleep(0.02)

    def client(self, **options):
        client = Client(("127.0.0.1", self.port), **options)
        self.clients.append(client)
        return client

    def info(self, key):
        """A number of INFO, by a client that is kept for it."""
        if not self.asker:
            self.asker = Client(("127.0.0.1", self.port))
        text = self.asker.ask("INFO")
        return int(re.search(rf"^{key}:(\d+)\r?$", text, re.M).group(1))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def close_clients(self):
        for client in self.clients:
            client.close()
        self.clients = []

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("presenced did not end:\n" + self.logged()) from None
        if status != 0:
            raise AssertionError(f"presenced ended with {status}:\n" + self.logged())

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close_clients()
        if self.asker:
            self.asker.close()
        if kind is None:
            self.stop()
        elif self.process.poll() is None:
            self.kill()
        self.log.close()


def equal(got, wanted):
    assert got == wanted, f"wanted {wanted!r}, got {got!r}"


def holds(text, part):
    assert part in text, f"wanted {part!r} in {text!r}"


told = failed = 0


def story(name, function, *arguments):
    """Runs one story and tells how it went."""
    global told, failed
    told += 1
    try:
        function(*arguments)
        print(f"ok {told} - {name}", flush=True)
    except Exception:  # a story that fails must not hide those behind it
        failed += 1
        print("    " + traceback.format_exc().replace("\n", "\n    "))
        print(f"not ok {told} - {name}", flush=True)


def tell(program, stories, *options):
    """Each story with a presenced of its own, started with these options."""
    for function in stories:
        def run(function=function):
            with Daemon(program, *options) as daemon:
                function(daemon)
        story(function.__name__.replace("_", " "), run)


def end():
    sys.exit(0 if told > 0 and failed == 0 else 1)

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_api_server.py BUILD - what the example API server promises to agents, and what it does not let them do.

Each story has an API server process of its own, on free loopback ports, and ends it with SIGTERM: it must then exit
with 0, which also tells that a sanitizer found nothing. No story depends on how fast anything is: it waits for what
should happen, and gives up after PATIENCE_S."""

import os
import signal
import socket
import subprocess
import sys
import time

PATIENCE_S = 30
CLIENTS_MAX = 256
LINE_BYTES_MAX = 4096
MODEL = "2e15302a-bbdf-4077-8e65-116a5a0e0348"


def find_program(build, name):
    for place in (os.path.join(build, "examples", name), os.path.join(build, name)):
        if os.path.isfile(place):
            return place
    sys.exit(f"no program {name} in {build}")


class Server:
    """An API server process, of which the story says when it ends."""

    def __init__(self, *options, names=("machine-0", "machine-1")):
        program = find_program(sys.argv[1], "api_server")
        self.process = subprocess.Popen([program, "--servers", ",".join(names), *options], stdout=subprocess.PIPE,
                                        text=True)
        self.ports = {}
        for name in names:
            line = self.process.stdout.readline()
            assert line.startswith(f"{name} listening on 127.0.0.1:"), line
            self.ports[name] = int(line.rsplit(":", 1)[1])

    def client(self, name="machine-0"):
        return Client(self.ports[name])

    def ask(self, *lines):
        client = self.client()
        answers = [client.ask(line) for line in lines]
        client.close()
        return answers[-1]

    def change(self):
        return self.process.stdout.readline().rstrip("\n")

    def end(self):
        """Returns what it still printed."""
        self.process.send_signal(signal.SIGTERM)
        rest, _ = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0, f"exit status {self.process.returncode}"
        return rest.splitlines()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            if kind is None:
                self.end()
            else:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.lines = self.socket.makefile("r", encoding="utf-8", newline="\n")

    def send(self, data):
        self.socket.sendall(data)

    def line(self):
        """The next line, or "" once the server has closed."""
        try:
            return self.lines.readline().rstrip("\n")
        except ConnectionResetError:
            return ""

    def ask(self, line):
        self.send(line.encode() + b"\n")
        return self.line()

    def close(self):
        self.lines.close()
        self.socket.close()


def until(happened):
    """Tries until it is true, and returns it."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        value = happened()
        if value:
            return value
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def status(server, agent):
    return server.ask(f"STATUS {MODEL} {agent}").split(" ")[0].removeprefix("status=")


# ------------------------------------------------------------------------------------------------------- stories --

def an_agent_is_alive_for_as_long_as_its_socket_is_open():
    with Server() as server:
        agent = server.client()
        assert status(server, "unit-a-0") == "unknown"
        assert agent.ask(f"LOGIN {MODEL} unit-a-0") == "OK 1"
        assert agent.ask("PING") == "PONG"
        assert status(server, "unit-a-0") == "alive"
        agent.close()
        until(lambda: status(server, "unit-a-0") == "unknown")
        assert "connected (machine-0 1)" in server.change()
        assert "disconnected (machine-0 1), reason left, agent alive -> unknown" in server.change()


def a_login_is_refused_with_what_is_wrong():
    with Server() as server:
        agent = server.client()
        assert agent.ask("PING") == "ERR log in first"
        assert agent.ask("LOGIN").startswith("ERR ")
        assert agent.ask("LOGIN a b c d").startswith("ERR ")
        assert agent.ask(f"LOGIN {MODEL} unit-a-0 king").startswith("ERR ")
        assert agent.ask(f"LOGIN {MODEL} ").startswith("ERR ")
        assert agent.ask(f"LOGIN {MODEL} {'x' * 1025}").startswith("ERR ")
        assert agent.ask(f"LOGIN {MODEL} bell\a").startswith("ERR ")
        assert agent.ask("HELLO").startswith("ERR ")
        assert agent.ask("").startswith("ERR ")
        assert agent.ask(f"LOGIN {MODEL} unit-a-0").startswith("OK ")
        assert agent.ask(f"LOGIN {MODEL} unit-a-0").startswith("ERR already logged in")
        agent.close()


def a_controller_agent_is_reported_and_never_counts():
    with Server() as server:
        agent = server.client()
        agent.ask(f"LOGIN {MODEL} machine-0 controller")
        assert status(server, "machine-0") == "unknown"
        reader = server.client()
        reader.send(b"REPORT\nQUIT\n")
        report = reader.lines.read()
        assert report == (f"[{MODEL}]\n\nAGENT                   SERVER     CONN ID  STATUS\n"
                          "machine-0 (controller)  machine-0  1        alive\n\n"), report
        reader.close()
        agent.close()


def a_line_is_bounded_and_text():
    with Server() as server:
        agent = server.client()
        agent.ask(f"LOGIN {MODEL} unit-a-0")
        agent.send(b"PING\0\n")
        assert agent.line() == "ERR a line must not hold a NUL"
        agent.send(b"PING\r\n")
        assert agent.line() == "PONG"
        agent.send(b"PI")
        agent.send(b"NG\nPING\nPI")
        assert agent.line() == "PONG" and agent.line() == "PONG"
        agent.send(b"x" * (LINE_BYTES_MAX - 2))
        assert agent.line().startswith("ERR a line must not be longer")
        assert agent.line() == ""
        until(lambda: status(server, "unit-a-0") == "unknown")
        agent.close()


def a_silent_agent_is_taken_for_dead():
    with Server("--idle-ms", "200") as server:
        agent = server.client()
        assert agent.ask(f"LOGIN {MODEL} unit-a-0").startswith("OK ")
        assert agent.line() == "ERR silent for 200 ms"
        assert agent.line() == ""
        until(lambda: status(server, "unit-a-0") == "unknown")
        agent.close()


def clients_are_bounded_and_their_places_are_used_again():
    with Server() as server:
        agents = [server.client() for _ in range(CLIENTS_MAX)]
        for number, agent in enumerate(agents):
            assert agent.ask(f"LOGIN {MODEL} unit-a-{number}").startswith("OK ")
        refused = server.client()
        assert refused.line() == "ERR too many clients" and refused.line() == ""
        refused.close()
        agents.pop().close()

        def taken():
            one = server.client()
            if one.ask(f"LOGIN {MODEL} unit-b-0").startswith("OK "):
                return one
            one.close()
            return None
        agents.append(until(taken))
        for agent in agents:
            agent.close()


def what_happens_while_a_link_is_cut_is_told_when_it_is_back():
    with Server() as server:
        stays, goes = server.client("machine-1"), server.client("machine-1")
        stays.ask(f"LOGIN {MODEL} unit-stays-0")
        goes.ask(f"LOGIN {MODEL} unit-goes-0")
        assert server.ask("LINK machine-1 down") == "OK machine-1 down, 2 became missing"
        comes = server.client("machine-1")
        assert comes.ask(f"LOGIN {MODEL} bell\a").startswith("ERR ")
        assert comes.ask(f"LOGIN {MODEL} unit-comes-0") == "OK 4"
        assert comes.ask("PING") == "PONG"
        goes.close()
        assert [status(server, f"unit-{name}-0") for name in ("stays", "goes", "comes")] == \
            ["missing", "missing", "unknown"]
        until(lambda: server.ask("LINK machine-1 up") == "OK machine-1 up, 2 listed")
        assert [status(server, f"unit-{name}-0") for name in ("stays", "goes", "comes")] == \
            ["alive", "unknown", "alive"]
        assert comes.ask("PING") == "PONG" and stays.ask("PING") == "PONG"
        comes.close()
        until(lambda: status(server, "unit-comes-0") == "unknown")
        assert status(server, "unit-stays-0") == "alive"
        stays.close()
        assert server.ask("LINK machine-7 up") == 'ERR no server "machine-7" here'
        assert server.ask("LINK machine-1 sideways").startswith("ERR ")


def a_stop_drains_and_says_nothing_of_the_sockets_that_close():
    with Server() as server:
        agent = server.client("machine-1")
        agent.ask(f"LOGIN {MODEL} unit-a-0")
        rest = server.end()
        assert rest[-1].endswith("missing (machine-1 1), reason drained, agent alive -> missing"), rest
        assert agent.line() == ""
        agent.close()


def a_wrong_command_line_is_refused():
    program = find_program(sys.argv[1], "api_server")
    for options in (["--servers"], ["--servers", ""], ["--servers", "a:70000"], ["--servers", "a:x"],
                    ["--servers", ",".join("abcdefghi")], ["--idle-ms", "0"], ["--what", "1"]):
        result = subprocess.run([program, *options], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert result.returncode == 1 and result.stderr.startswith("usage: "), (options, result)


def main():
    stories = [an_agent_is_alive_for_as_long_as_its_socket_is_open, a_login_is_refused_with_what_is_wrong,
               a_controller_agent_is_reported_and_never_counts, a_line_is_bounded_and_text,
               a_silent_agent_is_taken_for_dead, clients_are_bounded_and_their_places_are_used_again,
               what_happens_while_a_link_is_cut_is_told_when_it_is_back,
               a_stop_drains_and_says_nothing_of_the_sockets_that_close, a_wrong_command_line_is_refused]
    for story in stories:
        story()
        print(f"ok: {story.__name__.replace('_', ' ')}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main()

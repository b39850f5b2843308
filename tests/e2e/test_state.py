#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_state.py PRESENCED - what is known after a restart, a crash, on a broken file, and on a disk that does not take it.

The daemons of these stories write every 50 ms; that something was written is seen by the file, or by its being new."""

import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile

import presenced
from presenced import equal, holds

MODEL = "2e15302a-bbdf-4077-8e65-116a5a0e0348"
OPTIONS = ["--node", "node-0", "--state-interval", "50ms"]
program = None


class Folder:
    """A folder for the state, of this story alone."""

    def __enter__(self):
        self.scratch = tempfile.mkdtemp(prefix="presence-state.")
        self.path = os.path.join(self.scratch, "state")
        return self

    def __exit__(self, *what):
        shutil.rmtree(self.scratch)

    def daemon(self, *more):
        return presenced.Daemon(program, "--state", self.path, *OPTIONS, *more)

    def file(self, name="state"):
        return os.path.join(self.path, name)

    def read(self):
        with open(self.file(), "rb") as file:
            return file.read()

    def names(self):
        return sorted(os.listdir(self.path))

    def wait_for_a_newer_file(self, daemon):
        """Two writes: the first may have begun before what the story did."""
        for _ in range(2):
            before = os.stat(self.file()).st_ino if os.path.exists(self.file()) else 0
            daemon.client().ask("PRESENCE.CONNECT", "pulse", MODEL, "pulse", next(numbers))
            daemon.wait_until(lambda: os.path.exists(self.file()) and os.stat(self.file()).st_ino != before)


numbers = iter(range(1, 1 << 30))


def connect(client, server, agent, number, *more):
    return client.ask("PRESENCE.CONNECT", server, MODEL, agent, number, *more)


def status(client, *agents):
    return client.ask("PRESENCE.STATUS", MODEL, *agents)


def agent(client, name):
    items = client.ask("PRESENCE.AGENT", MODEL, name)
    return items if isinstance(items, dict) else dict(zip(items[::2], items[1::2]))


# ------------------------------------------------------------------------------------------------------- stories --


def everything_comes_back_missing_until_its_server_does():
    with Folder() as folder:
        with folder.daemon() as daemon:
            client = daemon.client()
            connect(client, "gw-1", "down", 7)
            client.ask("PRESENCE.SERVERDOWN", "gw-1")
            connect(client, "gw-1", "alive", 8, "DATA", "zone=ü")
            connect(client, "gw-2", "machine-0", 9, "CONTROLLER")
            connect(client, "gw-2", "gone", 10)
            client.ask("PRESENCE.DISCONNECT", "gw-2", 10)
            joined = presenced.Client(("127.0.0.1", daemon.port))  # open beyond the daemon's end
            joined.ask("PRESENCE.JOIN", MODEL, "joined")
            was = {name: agent(client, name) for name in ("down", "alive", "joined")}
        with folder.daemon("--settle-time", "300ms") as daemon:
            client = daemon.client()
            equal(status(client, "down", "alive", "gone"), ["missing", "missing", "unknown"])
            equal(client.ask("PRESENCE.COUNT", "STATUS", "alive"), 0)
            equal(client.ask("PRESENCE.COUNT", "SERVER", "gw-2"), 1)
            now = agent(client, "alive")
            equal((now["reason"], now["last_seen"]), ("timed_out", was["alive"]["last_seen"]))
            assert now["since"] >= was["alive"]["since"], (now, was)
            equal(agent(client, "down"), was["down"])  # why and since when it was missing before, too
            equal(connect(client, "gw-1", "alive", 8, "DATA", "zone=ü"), 0)  # the same connection
            equal(status(client, "down", "alive"), ["missing", "alive"])
            equal(client.ask("PRESENCE.UPDATESERVER", "gw-1", 0), 0)
            equal(status(client, "down", "alive"), ["unknown", "unknown"])
            # Who had joined this node may join again until it has settled, and is then forgotten.
            daemon.wait_until(lambda: status(client, "joined") == ["unknown"])
        joined.close()


def who_was_joined_is_drained_by_a_clean_stop():
    with Folder() as folder:
        with folder.daemon() as daemon:
            joined = presenced.Client(("127.0.0.1", daemon.port))
            joined.ask("PRESENCE.JOIN", MODEL, "joined")
        assert joined.is_closed()
        joined.close()
        with folder.daemon("--settle-time", "1h") as daemon:
            client = daemon.client()
            equal(agent(client, "joined")["reason"], "drained")
            equal(status(client, "joined"), ["missing"])
            again = daemon.client()
            again.ask("PRESENCE.JOIN", MODEL, "joined")
            equal(status(client, "joined"), ["alive"])


def who_asks_again_and_again_gets_the_same_clean_end():
    """Given a record that takes a moment to write, when a stop is asked for again until the end, by all its signals,
    then the state is written, and the status is 0."""
    count = 20000
    values = [word for number in range(count) for word in (MODEL, f"a-{number}", number, 0, "")]
    with Folder() as folder:
        with folder.daemon("--state-interval", "1h") as daemon:
            client = daemon.client()
            equal(client.ask("PRESENCE.UPDATESERVER", "gw", count, *values), count)
            while daemon.process.poll() is None:
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    daemon.process.send_signal(number)
        with folder.daemon() as daemon:
            equal(daemon.client().ask("PRESENCE.COUNT"), count)


def a_crash_costs_what_came_after_the_last_write():
    with Folder() as folder:
        with folder.daemon() as daemon:
            client = daemon.client()
            equal(connect(client, "gw", "a", 1), 1)
            folder.wait_for_a_newer_file(daemon)
            daemon.process.send_signal(signal.SIGKILL)
            daemon.process.wait()
            daemon.stop = lambda: None
        with folder.daemon() as daemon:
            equal(status(daemon.client(), "a"), ["missing"])


def an_old_epoch_is_stale_after_a_restart_too():
    with Folder() as folder:
        with folder.daemon() as daemon:
            client = daemon.client()
            equal(client.ask("PRESENCE.SESSION", "gw", "EPOCH", 5), "OK")
            equal(connect(client, "gw", "a", 1), 1)
            empty = daemon.client()
            equal(empty.ask("PRESENCE.SESSION", "empty", "EPOCH", 5), "OK")
        for _ in range(2):  # and after the next one
            with folder.daemon() as daemon:
                for server in ("gw", "empty"):
                    holds(daemon.client().ask("PRESENCE.SESSION", server, "EPOCH", 4), "STALE ")
                client = daemon.client()
                equal(client.ask("PRESENCE.SESSION", "gw", "EPOCH", 5), "OK")
                equal(status(client, "a"), ["missing"])
                equal(connect(client, "gw", "a", 1), 0)
                equal(status(client, "a"), ["alive"])
                equal(client.ask("PRESENCE.CHECK")[:2], ["good", 1])


def many_servers_and_long_texts_come_back():
    with Folder() as folder:
        with folder.daemon() as daemon:
            client = daemon.client()
            for number in range(300):
                words = []
                for i in range(20):
                    words += [MODEL, "n" * 1000 + f"-{number}-{i}", i, 0, "d" * (65535 if i == 0 else number)]
                equal(client.ask("PRESENCE.UPDATESERVER", f"gw-{number}", 20, *words), 20)
            equal(client.ask("PRESENCE.COUNT"), 6000)
        assert os.path.getsize(folder.file()) > 20 * 1024 * 1024
        with folder.daemon() as daemon:
            client = daemon.client()
            equal(client.ask("PRESENCE.COUNT", "STATUS", "missing"), 6000)
            equal(client.ask("PRESENCE.COUNT", "SERVER", "gw-299"), 20)
            equal(status(client, "n" * 1000 + "-299-19"), ["missing"])
            equal(client.ask("PRESENCE.CHECK")[:2], ["good", 1])


def a_broken_file_is_refused_kept_and_said():
    """Cut at every place of interest, and with every byte of the first part changed: never a crash, never half a state."""
    with Folder() as folder:
        with folder.daemon() as daemon:
            client = daemon.client()
            for number in range(5):
                connect(client, f"gw-{number % 2}", f"a-{number}", number)
        good = folder.read()
        cuts = [good[:length] for length in (0, 1, 7, 8, 9, 19, 20, 40, len(good) // 2, len(good) - 1)]
        flips = [good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1:] for at in range(0, len(good), 23)]
        more = [good + b"\0", good + good[8:], good[:8] + good[8:] * 2, os.urandom(4096), b"\0" * 4096]
        for broken in cuts + flips + more:
            with open(folder.file(), "wb") as file:
                file.write(broken)
            with folder.daemon() as daemon:
                equal(daemon.client().ask("PRESENCE.COUNT"), 0)
                holds(daemon.logged(), 'event="state refused"')
                assert "state read" not in daemon.logged(), daemon.logged()
                (kept,) = [name for name in folder.names() if name.startswith("state.bad-")]
                with open(folder.file(kept), "rb") as file:
                    equal(file.read(), broken)
            os.unlink(folder.file(kept))
        with open(folder.file(), "wb") as file:  # the test's own test: the unbroken one is taken
            file.write(good)
        with folder.daemon() as daemon:
            equal(daemon.client().ask("PRESENCE.COUNT"), 5)


def checksum(data):
    """CRC-32C, as the file's blocks have it."""
    total = 0xffffffff
    for byte in data:
        total ^= byte
        for _ in range(8):
            total = total >> 1 ^ 0x82f63b78 * (total & 1)
    return total ^ 0xffffffff


def block(index, records):
    body = struct.pack("<I", index) + records
    return struct.pack("<II", 8 + len(body), checksum(body)) + body


def what_is_whole_but_no_state_is_refused():
    """Given blocks whose sums are right, when their records are not what a writer writes, then nothing is taken."""
    with Folder() as folder:
        with folder.daemon() as daemon:
            equal(connect(daemon.client(), "gw", "agent", 1), 1)
        good = folder.read()
        magic, records = good[:8], good[8 + 12:]
        equal(good, magic + block(0, records))  # one block: what follows builds others like it
        server, value = 17, records.index(b"V", records.index(b"gw", 17))  # before the name any byte may stand
        equal(records[server:server + 1], b"S")
        end = len(records) - 17
        counts = server + 1 + 6 * 8
        one_more = struct.pack("<QQ", 2, 1)
        parts = records[:value], records[value:end], records[end:]
        broken = [records[:counts] + one_more + records[counts + 16:],           # a value fewer than the server has
                  parts[0] + parts[1] * 2 + parts[2], parts[0] + parts[2],        # one more, and none
                  records[:end] + b"E" + struct.pack("<QQ", 1, 2), records[:end],  # a wrong end, and none
                  records.replace(b"agent\0", b"agentX"), records.replace(b"agent\0", b"age\0t\0"),
                  b"X" + records[1:], records[:server] + b"X" + records[server + 1:], records[:value + 10], b""]
        files = [magic + block(0, records) for records in broken]
        files += [good + block(1, parts[1]), good + block(1, b"\0"), magic + block(1, records),
                  magic + block(0, parts[0]) + block(2, parts[1] + parts[2])]
        for number, file in enumerate(files):
            with open(folder.file(), "wb") as state:
                state.write(file)
            with folder.daemon() as daemon:
                equal((number, daemon.client().ask("PRESENCE.COUNT")), (number, 0))
                holds(daemon.logged(), 'event="state refused"')
        with open(folder.file(), "wb") as state:  # records in blocks of their own, and an empty one, are a state
            state.write(magic + b"".join(block(i, part) for i, part in enumerate((*parts[:2], b"", parts[2]))))
        with folder.daemon() as daemon:
            equal(status(daemon.client(), "agent"), ["missing"])


def a_full_disk_keeps_the_last_state_and_is_said():
    """The daemon's files may not grow beyond a few bytes, which looks to it like a full disk."""
    with Folder() as folder:
        with folder.daemon() as daemon:
            client = daemon.client()
            connect(client, "gw", "a", 1)
            folder.wait_for_a_newer_file(daemon)
            good = folder.read()
            most, least = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE), (16, resource.RLIM_INFINITY)
            resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, least)
            connect(client, "gw", "b", 2)
            # Its log goes to a file too, and cannot grow: that it fails is seen by the new file that never stays.
            for number in range(3, 6):
                connect(client, "gw", f"c-{number}", number)
                daemon.wait_until(lambda: folder.names() == ["lock", "state"])
            equal(status(client, "a", "b"), ["alive", "alive"])
            resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, most)
            folder.wait_for_a_newer_file(daemon)
            assert len(folder.read()) > len(good)
        with folder.daemon() as daemon:
            equal(status(daemon.client(), "a", "b", "c-5"), ["missing"] * 3)


def a_folder_that_goes_away_is_said_and_others_work_on():
    with Folder() as folder:
        daemon = folder.daemon()
        with daemon:
            client = daemon.client()
            connect(client, "gw", "a", 1)
            folder.wait_for_a_newer_file(daemon)
            shutil.rmtree(folder.path)
            connect(client, "gw", "b", 2)
            daemon.wait_until(lambda: "state not written" in daemon.logged())
            equal(status(client, "a", "b"), ["alive", "alive"])
            equal(daemon.logged().count("state not written"), 1)
            daemon.process.terminate()  # what cannot be kept is told by the exit status, too
            equal(daemon.process.wait(presenced.WAIT_S), 1)
            holds(daemon.logged(), "the state could not be written")
            daemon.stop = lambda: None


def the_largest_epochs_do_not_stop_a_start():
    """Given a gateway with the largest epoch there may be, when a node takes its name, again and again, then each starts,
    and agents join it; a larger epoch, which nothing could follow, is refused."""
    with Folder() as folder:
        with folder.daemon() as daemon:
            client = daemon.client()
            refused = client.ask("PRESENCE.SESSION", "node-1", "EPOCH", 2 ** 64 - 1)
            holds(refused, "INVALID EPOCH wants a number from 0 to 18446744073709551614")
            equal(client.ask("PRESENCE.SESSION", "node-1", "EPOCH", 2 ** 64 - 2), "OK")
            equal(connect(client, "node-1", "a", 1), 1)
        for i in range(3):
            with folder.daemon("--node", "node-1") as daemon:
                asker, joined = daemon.client(), daemon.client()
                equal(status(asker, f"unit-{i - 1}"), ["unknown"])  # that life goes on, without what it had
                assert not isinstance(joined.ask("PRESENCE.JOIN", MODEL, f"unit-{i}"), presenced.Error)
                equal(status(asker, f"unit-{i}"), ["alive"])


def refused_to_start(*options):
    done = subprocess.run([program, "--resp", "127.0.0.1:0", "--http", "none", *options], stderr=subprocess.PIPE,
                          timeout=presenced.WAIT_S)
    equal(done.returncode, 1)
    return done.stderr.decode()


def a_folder_that_cannot_be_used_stops_the_start():
    with Folder() as folder:
        holds(refused_to_start("--state", os.path.join(folder.scratch, "not", "there")), "--state: cannot make")
        with open(folder.path, "w", encoding="ascii"):
            pass
        holds(refused_to_start("--state", folder.path), "--state: cannot open")
        os.unlink(folder.path)
        os.mkdir(folder.path)
        os.mkdir(folder.file("state.new"))  # even root cannot write there
        holds(refused_to_start("--state", folder.path), "--state: cannot write in")
        os.rmdir(folder.file("state.new"))
        os.mkdir(folder.file("state"))
        holds(refused_to_start("--state", folder.path), "--state: cannot read the state")


def one_daemon_a_folder():
    with Folder() as folder:
        with folder.daemon() as daemon:
            holds(refused_to_start("--state", folder.path), "another presenced runs on")
            equal(daemon.client().ask("PING"), "PONG")
        with folder.daemon():
            pass


def a_limit_that_was_lowered_keeps_the_file_aside():
    with Folder() as folder:
        with folder.daemon() as daemon:
            for number in range(10):
                connect(daemon.client(), f"gw-{number % 2}", f"a-{number}", number)
        good = folder.read()
        with folder.daemon("--max-connections", "7") as daemon:
            equal(daemon.client().ask("PRESENCE.COUNT"), 5)  # one of the two servers
            holds(daemon.logged(), 'event="server not restored"')
            (kept,) = [name for name in folder.names() if name.startswith("state.bad-")]
            with open(folder.file(kept), "rb") as file:
                equal(file.read(), good)


def what_was_cleared_by_disabling_does_not_come_back():
    with Folder() as folder:
        with folder.daemon() as daemon:
            client = daemon.client()
            equal(connect(client, "gw", "a", 1), 1)
            folder.wait_for_a_newer_file(daemon)
            client.ask("PRESENCE.DISABLE")
        with folder.daemon() as daemon:
            equal(status(daemon.client(), "a"), ["unknown"])


def a_link_in_the_place_of_the_new_file_is_not_followed():
    with Folder() as folder:
        with folder.daemon() as daemon:
            other = folder.file("other")
            with open(other, "wb") as file:
                file.write(b"somebody's")
            if os.path.lexists(folder.file("state.new")):
                os.unlink(folder.file("state.new"))
            os.symlink(other, folder.file("state.new"))
            equal(connect(daemon.client(), "gw", "a", 1), 1)
        with open(other, "rb") as file:
            equal(file.read(), b"somebody's")
        with folder.daemon() as daemon:
            equal(status(daemon.client(), "a"), ["missing"])


STORIES = [what_was_cleared_by_disabling_does_not_come_back, a_link_in_the_place_of_the_new_file_is_not_followed,
           everything_comes_back_missing_until_its_server_does, who_was_joined_is_drained_by_a_clean_stop,
           a_crash_costs_what_came_after_the_last_write, an_old_epoch_is_stale_after_a_restart_too,
           many_servers_and_long_texts_come_back, a_broken_file_is_refused_kept_and_said,
           what_is_whole_but_no_state_is_refused,
           a_full_disk_keeps_the_last_state_and_is_said, a_folder_that_goes_away_is_said_and_others_work_on,
           a_folder_that_cannot_be_used_stops_the_start, the_largest_epochs_do_not_stop_a_start, one_daemon_a_folder,
           a_limit_that_was_lowered_keeps_the_file_aside, who_asks_again_and_again_gets_the_same_clean_end]

if __name__ == "__main__":
    program = sys.argv[1]
    for function in STORIES:
        presenced.story(function.__name__.replace("_", " "), function)
    presenced.end()

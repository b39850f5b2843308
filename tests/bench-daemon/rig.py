# SPDX-License-Identifier: Apache-2.0
"""The rig of the daemon's benchmark: both servers on free ports, loads for them, samples of redis-benchmark, and their
medians. Needs Python's own library, redis-benchmark, and a redis-server (or redis-tools, which has its binary under
another name)."""

import csv
import io
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

WAIT_S = 60
MODEL = "2e15302a-bbdf-4077-8e65-116a5a0e0348"

# What users write for this in Redis: a hash a connection, sets for the agent and the model, a sorted set by last_seen.
LUA_CONNECT = """
local id = ARGV[1] .. ':' .. ARGV[4]
local new = redis.call('HSET', 'conn:' .. id, 'server', ARGV[1], 'model', ARGV[2], 'agent', ARGV[3], 'status', 'alive')
redis.call('SADD', 'agent:' .. ARGV[2] .. ':' .. ARGV[3], id)
redis.call('SADD', 'model:' .. ARGV[2], ARGV[3])
redis.call('SADD', 'server:' .. ARGV[1], id)
redis.call('ZADD', 'seen', redis.call('TIME')[1], id)
return new
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A server under test, on a port of its own. It is killed by its process id when the run ends, however it ends."""

    def __init__(self, name, command, cpus):
        self.name, self.cpus, self.log = name, cpus, tempfile.TemporaryFile()
        self.port = free_port()
        command = [word.replace("PORT", str(self.port)) for word in command]
        began = time.monotonic()
        self.process = subprocess.Popen(pinned(cpus) + command, stdout=self.log, stderr=self.log)
        while True:
            try:
                self.connection = socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S)
                break
            except ConnectionRefusedError:
                if self.process.poll() is not None or time.monotonic() > began + WAIT_S:
                    raise SystemExit(f"{name} did not start: {self.log_text()}") from None
                time.sleep(0.001)
        self.start_s = time.monotonic() - began
        self.file = self.connection.makefile("rb")

    def log_text(self):
        return os.pread(self.log.fileno(), 1 << 16, 0).decode(errors="replace")

    def reply(self):
        line = self.file.readline()
        mark, rest = line[:1], line[1:-2]
        if mark == b"-":
            raise SystemExit(f"{self.name}: {rest.decode()}")
        if mark == b"$":
            return self.file.read(int(rest) + 2)[:-2].decode() if int(rest) >= 0 else None
        if mark == b"*":
            return [self.reply() for _ in range(int(rest))]
        return int(rest) if mark == b":" else rest.decode()

    def ask(self, *words):
        self.connection.sendall(encode(*words))
        return self.reply()

    def load(self, commands):
        """Runs the commands, pipelined."""
        batch = []
        for command in commands:
            batch.append(encode(*command))
            if len(batch) == 1000:
                self.flush(batch)
        self.flush(batch)

    def flush(self, batch):
        self.connection.sendall(b"".join(batch))
        for _ in batch:
            self.reply()
        batch.clear()

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))

    def cpu_s(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.connection.close()
        self.process.terminate()
        try:
            self.process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def encode(*words):
    words = [str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def pinned(cpus):
    return ["taskset", "-c", cpus] if cpus and shutil.which("taskset") else []


def children_cpu_s():
    """Of the children that have ended: the clients."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Rig:
    def __init__(self, program, scratch):
        cpus = sorted(os.sched_getaffinity(0))
        # One core for the server and one for the client, where there are two; with two loops the server has both.
        self.server_cpu, self.client_cpu = (str(cpus[0]), str(cpus[-1])) if len(cpus) > 1 else ("", "")
        self.program, self.scratch = program, scratch
        self.redis_program = shutil.which("redis-server")
        tools = shutil.which("redis-check-rdb")
        if not self.redis_program and tools:
            # Started under this name, the checker of redis-tools is the server.
            self.redis_program = os.path.join(scratch, "redis-server")
            os.symlink(tools, self.redis_program)
        if not self.redis_program or not shutil.which("redis-benchmark"):
            raise SystemExit("bench-daemon: redis-server and redis-benchmark are needed (scripts/setup test)")

    def presenced(self, *options, every_cpu=False):
        return Server("presenced", [self.program, "--resp", "127.0.0.1:PORT", "--http", "none", "--log-level", "error",
                                    *options], "" if every_cpu else self.server_cpu)

    def redis(self):
        return Server("redis-server", [self.redis_program, "--port", "PORT", "--bind", "127.0.0.1", "--save", "",
                                       "--appendonly", "no", "--daemonize", "no"], self.server_cpu)

    def sample(self, server, words, pipeline, requests, keys=1000000, clients=50):
        """One run of redis-benchmark: requests a second, p50 and p99 in ms, and the server's microseconds of CPU each."""
        command = pinned(self.client_cpu) + ["redis-benchmark", "-h", "127.0.0.1", "-p", str(server.port), "-c",
                                             str(clients), "-P", str(pipeline), "-n", str(requests), "-r", str(keys),
                                             "--csv", *words]
        before, client_before = server.cpu_s(), children_cpu_s()
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
        spent, client_spent = server.cpu_s() - before, children_cpu_s() - client_before
        rows = [row for row in csv.reader(io.StringIO(done.stdout)) if len(row) == 8 and row[1] != "rps"]
        if len(rows) != 1:
            raise SystemExit(f"redis-benchmark said: {done.stdout}{done.stderr}")
        row = [float(field) for field in rows[0][1:]]
        return {"rate": row[0], "p50": row[3], "p99": row[5], "cpu_us": spent * 1e6 / requests,
                "client_us": client_spent * 1e6 / requests}

    def sample_counted(self, server, words, pipeline, requests, clients=50):
        """The same by a client that only counts the bytes of the replies (count_load.py), without the latencies."""
        load = os.path.join(os.path.dirname(os.path.abspath(__file__)), "count_load.py")
        command = pinned(self.client_cpu) + [sys.executable, load, str(server.port), str(clients), str(pipeline),
                                             str(requests), *words]
        before, client_before = server.cpu_s(), children_cpu_s()
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
        spent, client_spent = server.cpu_s() - before, children_cpu_s() - client_before
        return {"rate": float(done.stdout), "cpu_us": spent * 1e6 / requests, "client_us": client_spent * 1e6 / requests}

    def compare(self, ours, theirs, samples, before_each=None, counted=False, **options):
        """Samples of both by turns: [(server, words), (server, words)] gives a list of samples each."""
        taken = [], []
        sample = self.sample_counted if counted else self.sample
        for _ in range(samples):
            for kept, (server, words) in zip(taken, (ours, theirs)):
                if before_each:
                    before_each(server)
                kept.append(sample(server, words, **options))
        return taken


def median(samples, field):
    return statistics.median(sample[field] for sample in samples)


def spread(samples, field):
    """Half of what lies between the greatest and the least, in percent of the median."""
    values = [sample[field] for sample in samples]
    middle = statistics.median(values)
    return 50 * (max(values) - min(values)) / middle if middle else 0.0

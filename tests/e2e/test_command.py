#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_command.py PRESENCED PRESENCE - the presence command: what it prints, and how it ends."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import presenced
from presenced import equal, holds

program, command = sys.argv[1:3]
MODEL = "2e15302a-bbdf-4077-8e65-116a5a0e0348"
OTHER = "94b1f0a4-0b6f-4b7c-9a3e-5d0f6f1c8a11"
REPORT = f"""[{MODEL}]

AGENT                   SERVER     CONN ID  STATUS
machine-0 (controller)  machine-0  2        alive
unit-mysql-0            machine-2  17       missing
"""
folder = tempfile.TemporaryDirectory()


def environment(daemon):
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PRESENCE_", "NO_COLOR"))}
    port = re.search(r"protocol=http address=127\.0\.0\.1:(\d+)", daemon.logged()).group(1)
    return {**kept, "PRESENCE_URL": "http://127.0.0.1:" + port, "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def run(daemon, *words, status=0, given=None):
    done = subprocess.run([command, *words], capture_output=True, text=True, timeout=presenced.WAIT_S, input=given,
                          env=environment(daemon), check=False)
    assert done.returncode == status, f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout if status < 2 else done.stderr


def fill(daemon):
    client = daemon.client()
    client.ask("PRESENCE.CONNECT", "machine-0", MODEL, "machine-0", 2, "CONTROLLER")
    client.ask("PRESENCE.CONNECT", "machine-2", MODEL, "unit-mysql-0", 17, "DATA", "zone 1")
    client.ask("PRESENCE.SERVERDOWN", "machine-2")
    return client


def columns(line):
    return re.split(r"\s{2,}", line.strip())


def the_report_is_exactly_as_promised(daemon):
    fill(daemon)
    equal(run(daemon, "report"), REPORT)


def a_status_is_told_by_words_and_by_the_exit_status(daemon):
    client = fill(daemon)
    client.ask("PRESENCE.CONNECT", "machine-0", MODEL, "a/b %25", 5)
    lines = run(daemon, "status", MODEL, "a/b %25", "unit-mysql-0", "nobody", status=1).splitlines()
    equal(columns(lines[0])[:4], ["AGENT", "STATUS", "REASON", "SINCE"])
    equal([columns(line)[:3] for line in lines[1:]],
          [["a/b %25", "alive", "connected"], ["unit-mysql-0", "missing", "server_down"], ["nobody", "unknown", "none"]])
    run(daemon, "status", MODEL, "a/b %25", status=0)
    said = json.loads(run(daemon, "--json", "status", MODEL, "nobody", status=1))
    equal((said[0]["agent"], said[0]["status"]), ("nobody", "unknown"))


def lists_are_tables_for_people_and_json_for_programs(daemon):
    fill(daemon)
    equal(columns(run(daemon, "models").splitlines()[1]), [MODEL, "2", "2"])
    equal([columns(line)[:4] for line in run(daemon, "servers").splitlines()],
          [["SERVER", "STATUS", "ALIVE", "MISSING"], ["machine-0", "alive", "1", "0"],
           ["machine-2", "missing", "0", "1"]])
    holds(run(daemon, "agents"), "unit-mysql-0  missing")
    equal(len(run(daemon, "agents", MODEL).splitlines()), 3)
    values = json.loads(run(daemon, "values", "--json", "--status", "missing"))
    equal([(value["agent"], value["connection_id"], value["user_data"]) for value in values],
          [("unit-mysql-0", "17", "zone 1")])
    equal([json.loads(line)["server"] for line in run(daemon, "values", "--ndjson").splitlines()],
          ["machine-0", "machine-2"])
    equal(json.loads(run(daemon, "values", "--json", "--server", "nowhere")), [])
    equal(run(daemon, "count"), "2\n")
    equal(run(daemon, "count", "--model", MODEL, "--status", "missing"), "1\n")
    equal(json.loads(run(daemon, "count", "--json")), {"count": 2})


def a_list_of_many_pages_is_whole(daemon):
    client = daemon.client()
    for first in range(0, 12000, 1000):
        client.send(b"".join(presenced.encode("PRESENCE.CONNECT", "s", MODEL, f"a-{i}", i)
                             for i in range(first, first + 1000)))
        for _ in range(1000):
            client.reply()
    equal(len(set(run(daemon, "values", "--ndjson").splitlines())), 12000)


def what_a_stranger_named_moves_no_cursor(daemon):
    client = daemon.client()
    client.ask("PRESENCE.CONNECT", "s", MODEL, "agent", 1, "DATA", "\033[2J\r\n\u202eevil")
    out = run(daemon, "values")
    assert "\033" not in out and "\r" not in out, out
    holds(out, "\\x1b[2J\\x0d\\x0a\\xe2\\x80\\xaeevil")
    equal(len(out.splitlines()), 2)


def on_a_terminal(daemon, *words, **more):
    """What the command writes to a terminal."""
    ours, its = pty.openpty()
    process = subprocess.Popen([command, *words], stdout=its, env={**environment(daemon), **more})
    os.close(its)
    text = b""
    try:
        while True:
            text += os.read(ours, 65536)
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    process.wait(presenced.WAIT_S)
    return text.decode()


def colours_are_for_terminals(daemon):
    fill(daemon)
    holds(on_a_terminal(daemon, "servers"), "\033[31mmissing\033[0m")
    for text in (on_a_terminal(daemon, "servers", NO_COLOR="1"), on_a_terminal(daemon, "servers", "--no-color"),
                 run(daemon, "servers")):
        holds(text, "missing")
        assert "\033" not in text, text


def wide_characters_are_aligned(daemon):
    client = daemon.client()
    client.ask("PRESENCE.CONNECT", "s", MODEL, "\u6a5f\u68b0", 1)
    client.ask("PRESENCE.CONNECT", "s", MODEL, "abcd", 2)
    lines = run(daemon, "agents", MODEL).splitlines()
    holds(lines[1], "abcd   alive")
    holds(lines[2], "\u6a5f\u68b0   alive")


def what_cannot_be_asked_ends_with_2(daemon):
    holds(run(daemon, "status", MODEL, status=2), "wrong number of arguments")
    holds(run(daemon, "frobnicate", status=2), 'no verb "frobnicate"')
    holds(run(daemon, "models", "--status", "alive", status=2), "does not take --status")
    holds(run(daemon, "values", "--status", "dead", status=2), "alive, missing or unknown")
    holds(run(daemon, "--url", "http://127.0.0.1:1", "count", status=2), "cannot ask http://127.0.0.1:1")
    run(daemon, "values", "--no-such-option", status=2)
    run(daemon, status=2)


def an_import_feeds_in_order(daemon):
    log = f"""# a comment
2026-11-22T10:00:00Z connect machine-0 {MODEL} machine-0 2 controller

connect machine-2 {MODEL} unit-mysql-0 17 data=zone%201
connect machine-2 {MODEL} gone 18
activity machine-2 17
disconnect machine-2 18
disconnect machine-2 99
down machine-2
"""
    path = os.path.join(folder.name, "log")
    with open(path, "w", encoding="utf-8") as file:
        file.write(log)
    equal(run(daemon, "import", path), "7 lines fed\n")
    equal(run(daemon, "report"), REPORT)
    equal(json.loads(run(daemon, "values", "--json", "--agent", "unit-mysql-0"))[0]["user_data"], "zone 1")
    holds(run(daemon, "import", "-", given=f"connect s {MODEL} a 1\nconnect s {MODEL} a\n", status=2), "-:2: wants")
    equal(run(daemon, "count", "--server", "s"), "1\n")
    for line in ("explode s", f"connect s {MODEL} a 1 maybe", f"connect s {MODEL} a x", "connect s %zz a 1",
                 f"connect s {MODEL} %00 1"):
        holds(run(daemon, "import", "-", given=line, status=2), "-:1: ")
    run(daemon, "import", "/nonexistent", status=2)


def long_work_shows_its_progress_on_a_terminal(daemon):
    """Given a log that comes slowly, then after two seconds its lines are counted where stderr is a terminal, and the count
    is taken away at the end; with --quiet nothing is told."""
    for more, wanted in (([], True), (["--quiet"], False)):
        ours, its = pty.openpty()
        process = subprocess.Popen([command, "import", "-", *more], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                   stderr=its, text=True, env=environment(daemon))
        os.close(its)
        for number in range(24):
            print(f"connect s {MODEL} a {number}", file=process.stdin, flush=True)
            time.sleep(0.15)
        process.stdin.close()
        equal(process.wait(presenced.WAIT_S), 0)
        os.set_blocking(ours, False)
        try:
            told = os.read(ours, 65536).decode()
        except (BlockingIOError, OSError):
            told = ""
        os.close(ours)
        equal(bool(re.search(r"\r\033\[K\d+ lines fed", told)), wanted)
        assert told.endswith("\r\033[K") or not wanted, told


def the_manual_tells_every_verb_and_option(daemon):
    text = run(daemon, "--help")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
    with open(os.path.join(source, "man/man1/presence.1"), encoding="utf-8") as file:
        page = file.read()
    verbs = re.findall(r"^  ([a-z]+)\b", text, re.M)
    equal(sorted(re.findall(r"^\.It Cm (\w+)(?: \w+| |$).*$", page.split(".Ss Options")[0], re.M)), sorted(verbs))
    told = set(re.findall(r"Fl -([a-z-]+)", page.split(".Ss Options")[1]))
    wanted = set(re.findall(r"--([a-z-]+)", text)) - {"help"}
    assert wanted and wanted <= told, wanted - told


def an_operator_verifies_explains_and_forgets(daemon):
    fill(daemon)
    holds(run(daemon, "verify"), "good: 2 connections at ")
    out = run(daemon, "explain", MODEL, "unit-mysql-0", status=1)
    holds(out, "its server has gone away")
    holds(out, "machine-2       17  missing")
    holds(run(daemon, "explain", MODEL, "machine-0", status=1), "a controller agent")
    holds(run(daemon, "forget", "machine-2", status=2), "--yes")
    equal(run(daemon, "forget", "--yes", "machine-2"), "1 connection forgotten\n")
    equal(run(daemon, "forget", "--yes", "machine-2", status=1), "0 connections forgotten\n")
    equal(run(daemon, "count"), "1\n")
    holds(run(daemon, "verify"), "good: 1 connection at ")
    holds(daemon.logged(), "command=PRESENCE.FORGET server=machine-2")


def what_is_held_is_not_forgotten_and_what_is_forgotten_may_return(daemon):
    client = fill(daemon)
    gateway = daemon.client()
    gateway.ask("PRESENCE.SESSION", "machine-0", "EPOCH", 5)
    holds(run(daemon, "forget", "--yes", "machine-0", status=2), "session")
    equal(run(daemon, "count", "--server", "machine-0"), "1\n")
    plain = daemon.client()  # without an epoch others may report for the server, but it is held all the same
    plain.ask("PRESENCE.SESSION", "machine-2", "GRACE", 3600000)
    holds(run(daemon, "forget", "--yes", "machine-2", status=2), "a session holds the server, or is waited for")
    holds(client.ask("PRESENCE.FORGET", "machine-2"), "STALE a session holds the server")
    plain.close()
    holds(run(daemon, "forget", "--yes", "machine-2", status=2), "is waited for")
    own = daemon.client()
    own.ask("PRESENCE.SESSION", "machine-2")
    equal(own.ask("PRESENCE.FORGET", "machine-2"), 1)
    own.ask("RESET")
    client.ask("PRESENCE.CONNECT", "machine-2", MODEL, "unit-mysql-0", 17)
    run(daemon, "forget", "--yes", "machine-2")
    equal(client.ask("PRESENCE.CONNECT", "machine-2", MODEL, "unit-mysql-0", 17), 1)
    run(daemon, "status", MODEL, "unit-mysql-0")


class Following:
    """The command, following, with its lines as they come."""

    def __init__(self, daemon, *words):
        self.process = subprocess.Popen([command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env=environment(daemon))
        self.lines = []
        self.reader = threading.Thread(target=lambda: self.lines.extend(self.process.stdout))
        self.reader.start()

    def end(self):
        try:
            status = self.process.wait(presenced.WAIT_S)
        finally:
            self.process.kill()
            self.reader.join()
            self.process.stdout.close()
            self.process.stderr.close()
        return status


def a_follower_is_told_what_happens(daemon):
    client = daemon.client()
    revision = daemon.info("revision")
    events = Following(daemon, "events", "--ndjson", "--count", "3", "--after", str(revision))
    watch = Following(daemon, "watch", MODEL, "--count", "2", "--after", str(revision))
    client.ask("PRESENCE.CONNECT", "s", MODEL, "a", 1)
    client.ask("PRESENCE.CONNECT", "s", MODEL, "a", 2)
    client.ask("PRESENCE.SERVERDOWN", "s")
    equal(events.end(), 0)
    equal([json.loads(line)["kind"] for line in events.lines], ["connected", "connected", "missing"])
    equal(watch.end(), 0)
    equal(len(watch.lines), 2)
    holds(watch.lines[0], "a  unknown -> alive  connected  on s")
    holds(watch.lines[1], "a  alive -> missing  server_down  on s")


def a_follower_tells_when_things_happened_and_why_it_tells_nothing(daemon):
    client, revision = daemon.client(), str(daemon.info("revision"))
    client.ask("PRESENCE.CONNECT", "s", MODEL, "a", 1)
    client.ask("PRESENCE.SERVERDOWN", "s")
    events = Following(daemon, "events", "--ndjson", "--count", "1", "--after", revision)
    equal(events.end(), 0)
    seen = json.loads(events.lines[0])["last_seen"][:19].replace("T", " ")
    since = json.loads(run(daemon, "status", "--json", MODEL, "a", status=1))
    since = (since[0] if isinstance(since, list) else since)["since"][:19].replace("T", " ")
    time.sleep(1.1)  # so that the time of printing is another one
    events = Following(daemon, "events", "--count", "2", "--after", revision)
    equal(events.end(), 0)
    assert events.lines[0].startswith(f"{seen}  connected  a  "), events.lines
    assert events.lines[1].startswith(f"{since}  missing  a  "), events.lines
    watch = Following(daemon, "watch", "--count", "2", "--after", revision)
    equal(watch.end(), 0)
    assert watch.lines[0].startswith(f"{seen}  a  unknown -> alive"), watch.lines
    assert watch.lines[1].startswith(f"{since}  a  alive -> missing"), watch.lines
    events = Following(daemon, "events", "--after", "1000000")
    equal(events.process.stderr.readline(),
          "presence: that revision is of the future or of another run: what came between is not told\n")
    events.process.terminate()
    events.end()


# What each shell is asked, once it has read its script, to complete `presence exp`; its answer begins with the verb.
COMPLETE = {
    "bash": "source {}; COMP_WORDS=(presence exp); COMP_CWORD=1; _presence; echo ${{COMPREPLY[@]}}",
    # A terminal of zsh's own, in which somebody presses Tab.
    "zsh": "zmodload zsh/zpty; zpty z 'zsh -f -i'; zpty -w z 'PS1=; autoload -Uz compinit; compinit -u -D; source {}; "
           "compdef _presence presence'; zpty -w z 'echo rea''dy'; zpty -r z line '*ready*'; zpty -w -n z $'presence exp\\t'; "
           "zpty -r z line '*presence exp*lain*'; print -r -- ${{${{line##*presence }}//[^a-z]/}}",
    "fish": "source {}; complete -C 'presence exp'",
}


def completions_complete(shell):
    def told(daemon):
        script = run(daemon, "completion", shell)
        holds(script, "forget")
        path = os.path.join(folder.name, "presence." + shell)
        with open(path, "w", encoding="utf-8") as file:
            file.write(script)
        subprocess.run([shell, "-n", path], check=True, timeout=presenced.WAIT_S)
        answer = subprocess.run([shell, "-c", COMPLETE[shell].format(path)], capture_output=True, text=True, check=True,
                                timeout=presenced.WAIT_S, env={**os.environ, "TERM": "xterm"})
        assert answer.stdout.startswith("explain"), answer
    told.__name__ = f"{shell}_completes"
    return told


def top_without_a_terminal_draws_once(daemon):
    fill(daemon)
    lines = run(daemon, "top").splitlines()
    holds(lines[1], "1 alive  1 missing  2 agents")
    equal(columns(lines[4])[:4], ["machine-2", "missing", "0", "1"])  # trouble first
    assert not any("\033" in line for line in lines)


def top_redraws_in_place(daemon):
    """Given top in a terminal, when the record changes, then the same lines tell it and nothing scrolls; q puts the
    screen back as it was."""
    client = fill(daemon)
    name = f"presence-test-{os.getpid()}"

    def tmux(*words):
        return subprocess.run(["tmux", "-L", name, "-f", "/dev/null", *words], capture_output=True, text=True,
                              timeout=presenced.WAIT_S, check=False).stdout

    def screen():
        return tmux("capture-pane", "-p", "-t", "0")

    def wait_for(text):
        end = time.monotonic() + presenced.WAIT_S
        while text not in screen():
            assert time.monotonic() < end, f"wanted {text!r} in:\n{screen()}"
            time.sleep(0.1)

    shell = "sh -c 'echo before; PRESENCE_URL={} {} top --interval 0.2; echo after $?; cat'".format(
        environment(daemon)["PRESENCE_URL"], command)
    try:
        tmux("new-session", "-d", "-x", "70", "-y", "12", shell)
        wait_for("1 alive  1 missing  2 agents")
        holds(screen(), "machine-2")
        equal(tmux("display-message", "-p", "-t", "0", "#{alternate_on}").strip(), "1")
        for i in range(40):
            client.ask("PRESENCE.CONNECT", f"server-{i}", MODEL, f"unit-{i}", i)
        wait_for("41 alive  1 missing")
        lines = screen().splitlines()
        equal(sum("presence at" in line for line in lines), 1)
        assert len(lines) <= 12
        equal(tmux("display-message", "-p", "-t", "0", "#{history_size}").strip(), "0")
        tmux("resize-window", "-t", "0", "-x", "50", "-y", "10")
        client.ask("PRESENCE.SERVERDOWN", "server-1")
        wait_for("40 alive  2 missing")
        tmux("send-keys", "-t", "0", "q")
        wait_for("after 0")
        holds(screen(), "before")
        equal(tmux("display-message", "-p", "-t", "0", "#{alternate_on}").strip(), "0")
    finally:
        tmux("kill-server")  # of this name alone


stories = [the_report_is_exactly_as_promised, a_status_is_told_by_words_and_by_the_exit_status,
           lists_are_tables_for_people_and_json_for_programs, a_list_of_many_pages_is_whole,
           what_a_stranger_named_moves_no_cursor, colours_are_for_terminals, wide_characters_are_aligned,
           what_cannot_be_asked_ends_with_2, an_import_feeds_in_order, long_work_shows_its_progress_on_a_terminal,
           the_manual_tells_every_verb_and_option, an_operator_verifies_explains_and_forgets,
           what_is_held_is_not_forgotten_and_what_is_forgotten_may_return,
           a_follower_is_told_what_happens, a_follower_tells_when_things_happened_and_why_it_tells_nothing,
           top_without_a_terminal_draws_once]
presenced.tell(program, stories, "--http", "127.0.0.1:0")
for each in COMPLETE:
    if shutil.which(each):
        presenced.tell(program, [completions_complete(each)], "--http", "127.0.0.1:0")
    else:
        print(f"ok 0 - {each} completes # SKIP {each} is not here (scripts/setup test)")
if shutil.which("tmux"):
    presenced.tell(program, [top_redraws_in_place], "--http", "127.0.0.1:0")
else:
    print("ok 0 - top redraws in place # SKIP tmux is not here (scripts/setup test)")
presenced.end()

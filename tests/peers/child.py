"""A child or a parent in Python, for tests of processes that are connected to their parents.

    child.py serve                 serves the parent, and says when it has ended
    child.py call                  calls the parent
    child.py refusal               says why it cannot take over the connection
    child.py parent PROGRAM ...    starts a program that serves
    child.py host PROGRAM ...      starts a program that calls

Lines for the test begin with "> ".
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples/python"))

import jsoncomm

PATIENCE = 20.0  # seconds


def say(what: object) -> None:
    print(f"> {what}", flush=True)


def serve(adopt: bool) -> jsoncomm.Server:
    server = jsoncomm.Server()
    server.method("test.work.pid", os.getpid)
    server.method("test.work.caller", caller)
    if adopt:
        server.adopt_parent(lambda peer: peer.uid == os.geteuid() and peer.pid == os.getppid())
    return server


def caller(peer: jsoncomm.Peer) -> list[object]:
    return [peer.uid, peer.pid]


def main(role: str, *program: str) -> None:
    if role == "serve":
        with serve(adopt=True) as server:
            server.run()
        say("ended")
    elif role == "call":
        with jsoncomm.from_parent(PATIENCE) as connection:
            say(connection.call("test.work.pid").value)
    elif role == "refusal":
        try:
            jsoncomm.from_parent()
        except jsoncomm.NoParent as why:
            say(why)
    elif role == "parent":
        with jsoncomm.spawn(program, PATIENCE) as child:
            assert child.connection.call("test.work.pid").value == child.process.pid
            assert child.connection.call("test.work.caller").value == [os.geteuid(), os.getpid()]
            assert child.process.poll() is None
        say(child.process.returncode)
    elif role == "host":
        with serve(adopt=False) as server, server.spawn(program) as child:
            while child.process.poll() is None:
                server.run_once(0.01)
            say(child.process.returncode)


main(*sys.argv[1:])

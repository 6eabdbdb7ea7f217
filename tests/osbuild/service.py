#!/usr/bin/env -S python3 -B -W error
"""A host service in Python, like osbuild's own. Serves its one client until that closes the connection."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import traceback
from typing import Any

from protocol import LIMIT, Fd, Transport, receive, send


class Service:
    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def dispatch(self, method: str, args: Any, fds: list[Fd]) -> tuple[Any, list[Fd]]:
        if method == "echo":
            return args, fds
        if method == "signals":
            for value in args:
                send(self.transport, "signal", {"reply": value})
            return None, []
        if method == "large":
            return "x" * args, []
        if method == "map":
            with fds[0].open("r") as asked, fds[1].open("w") as answer:
                answer.write(asked.read().upper())
            return "{}", []
        if method == "leave":
            sys.exit("as asked")
        raise ValueError(f"no method {method}")

    def serve(self) -> None:
        while True:
            try:
                message = receive(self.transport)
            except EOFError:
                return
            fds: list[Fd] = []
            try:
                assert message.value["type"] == "method"
                data = message.value["data"]
                reply, fds = self.dispatch(data["name"], data["args"], message.fds)
                kind, answer = "reply", {"reply": reply}
            except Exception as error:
                backtrace = "".join(traceback.format_tb(error.__traceback__))
                kind, answer = "exception", {"name": type(error).__name__, "value": str(error), "backtrace": backtrace}
            send(self.transport, kind, answer, fds)
            message.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="a host service")
    parser.add_argument("--service-fd", type=int, required=True)
    parser.add_argument("--service-id", required=True)
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    os.set_inheritable(arguments.service_fd, False)
    with Transport(socket.socket(fileno=arguments.service_fd), LIMIT) as transport:
        Service(transport).serve()


if __name__ == "__main__":
    main()

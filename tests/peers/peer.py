"""A peer of jsoncomm in another language, made of `examples/python/jsoncomm.py`.

    peer.py client|server --kind dgram|seqpacket --path PATH --mode bare|calls [--sndbuf BYTES]

The client reads one step per line from standard input and prints its result; the server prints a ready
line, then one line per request. All lines are JSON. Either ends at the end of its standard input.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any, Callable, Optional

sys.path.insert(0, str(Path(__file__).parents[2] / "examples/python"))

from jsoncomm import KINDS, Connection, Fd, Message, Server, ServiceError, connect, encode

LIMIT = 64 << 20  # bytes of a text, more than any test sends


def report(step: dict[str, Any]) -> None:
    print(json.dumps(step), flush=True)


def describe(message: Message) -> dict[str, Any]:
    """Describes how a message arrived, with the content of its files."""

    def one(fd: int) -> dict[str, Any]:
        stat = os.fstat(fd)
        return {"dev": stat.st_dev, "ino": stat.st_ino, "text": os.pread(fd, 4096, 0).decode()}

    how = "memfd" if message.spilled else "inline"
    return {"received": how, "files": [one(fd.fileno()) for fd in message.fds]}


# The client.


def step(connection: Connection, mode: str, wish: dict[str, Any]) -> dict[str, Any]:
    """Runs one step: sends a `message` (bare), a call of `method` or a `text` as it is, with the files to
    `open`. Waits for a reply unless `reply` is false. FILL is replaced so that the text is `fill` bytes longer
    than the longest datagram; in the reply it is shortened to FILL again."""
    transport, filling, identity = connection.transport, b"FILL", None
    if "text" in wish:
        text = wish["text"].encode()
    elif mode == "bare":
        text, _ = encode(wish["message"])
    else:
        call = {"jsonrpc": "2.0", "method": wish["method"], "params": wish["params"]}
        if not wish.get("notify"):
            identity = call["id"] = connection.next_id()
            call["timeout"] = int(connection.timeout * 1000)
        text, _ = encode(call)
    if "fill" in wish:
        filling = b"x" * (transport.inline_max() + wish["fill"] - len(text) + len("FILL"))
        text = text.replace(b"FILL", filling)
    fds = [Fd(os.open(path, os.O_RDONLY)) for path in wish.get("open", ())]
    done: dict[str, Any] = {"bytes": len(text), "sent": transport.send_text(text, fds)}
    if wish.get("notify") or not wish.get("reply", True):
        return done
    reply = transport.receive() if identity is None else connection.reply_to(identity)
    if reply is None:
        return {**done, "closed": True}
    with reply:
        whole = json.loads(reply.text.replace(filling, b"FILL"))
        return {**done, **describe(reply), "reply": whole}


def run_client(path: str, kind: str, mode: str, sndbuf: Optional[int]) -> None:
    with connect(path, kind) as connection:
        connection.transport.limit = LIMIT
        connection.transport.sock.settimeout(connection.timeout)
        if sndbuf is not None:
            connection.transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
        for wish in sys.stdin.buffer:
            report(step(connection, mode, json.loads(wish)))


# The server.


def do_open(path: str) -> Any:
    try:
        file = Fd(os.open(path, os.O_RDONLY))
    except PermissionError:
        raise ServiceError(2, "not allowed", "Denied") from None
    except OSError:
        raise ServiceError(1, f"no file {path}", {"NotFound": {"path": path}}) from None
    return {"len": os.fstat(file.fileno()).st_size, "file": file}


def do_swap(text: str, left: Fd, right: Fd) -> Any:
    return {"text": text, "left": right, "right": left}


def do_echo(text: str) -> Any:
    return {"text": text}


def do_more() -> Any:
    """Replies as a later version would: with a member and a descriptor that old clients do not know."""
    return {"text": "more", "since": 2, "extra": Fd(os.memfd_create("extra"))}


def tell(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a method for an enum of requests: the reply is an enum, too, with a variant for a failure."""

    def told(**arguments: Any) -> Any:
        try:
            return {name: method(**arguments)}
        except ServiceError as error:
            return error.data

    return functools.wraps(method)(told)


TELLS: list[tuple[str, str, Callable[..., Any]]] = [
    ("open", "Opened", do_open),
    ("swap", "Swapped", do_swap),
    ("echo", "Echoed", do_echo),
]


class Desk(Server):
    """Prints each message that it receives."""

    def received(self, message: Message) -> None:
        report({"bytes": len(message.text), **describe(message)})


def route(request: Any) -> tuple[str, Any]:
    """Returns the method that a bare request calls."""
    [(variant, params)] = request.items()
    return f"example.window.{variant.lower()}", params


def run_server(path: str, kind: str, mode: str) -> None:
    with Desk(limit=LIMIT) as server:
        for name, reply, function in TELLS:
            server.method(f"example.desk.{name}", function)
            server.method(f"example.window.{name}", tell(reply, function))
        server.method("example.desk.more", do_more)
        if mode == "bare":
            server.bare(route)
        server.bind(path, kind)
        server.watch(sys.stdin, server.stop)
        report({"ready": True})
        server.run()


def main() -> None:
    parser = argparse.ArgumentParser(description="a peer of jsoncomm")
    parser.add_argument("role", choices=["client", "server"])
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--mode", choices=["bare", "calls"], required=True)
    parser.add_argument("--sndbuf", type=int, help="SO_SNDBUF to ask for (client)")
    arguments = parser.parse_args()
    if arguments.role == "client":
        run_client(arguments.path, arguments.kind, arguments.mode, arguments.sndbuf)
    else:
        run_server(arguments.path, arguments.kind, arguments.mode)


if __name__ == "__main__":
    main()

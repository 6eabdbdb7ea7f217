"""A peer of jsoncomm in another language; `wire.py` has the datagrams, this the calls.

    peer.py client|server --kind dgram|seqpacket --path PATH --mode bare|calls [--sndbuf BYTES]

The client reads one step per line from standard input and prints what came of it; the server prints a ready
line, then one line per request. All lines are JSON. Either ends at the end of its standard input.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import sys
from typing import Any, Callable, Iterable, Optional

from wire import KINDS, PATIENCE, Datagram, Line, close_all, connect, dumps, loads


def report(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def describe(fds: Iterable[int]) -> list[dict[str, Any]]:
    """Says which files these are, and reads them through the descriptors."""

    def one(fd: int) -> dict[str, Any]:
        stat = os.fstat(fd)
        return {"dev": stat.st_dev, "ino": stat.st_ino, "text": os.pread(fd, 4096, 0).decode()}

    return [one(fd) for fd in fds]


# The client.


class Client:
    """Calls on one connection, one at a time."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.id = int.from_bytes(os.urandom(8), "big") >> 12  # below 2^52, and nobody's guess

    def envelope(self, method: str, params: Any, notify: bool = False) -> dict[str, Any]:
        call = {"jsonrpc": "2.0", "method": method, "params": params}
        if not notify:
            self.id += 1
            call.update(id=self.id, timeout=int(PATIENCE * 1000))
        return call

    def answer(self) -> Datagram:
        """Waits for the answer to the last call; what else comes is dropped."""
        while True:
            datagram = self.line.receive()
            if datagram is None:
                raise ConnectionError("closed by the server")
            answer = loads(datagram.text)
            if answer["jsonrpc"] == "2.0" and answer["id"] in (self.id, None):
                return datagram
            close_all(datagram.fds)


def step(client: Client, mode: str, wish: dict[str, Any]) -> dict[str, Any]:
    """Carries out one step: sends a `message` (bare), a call of `method` or a `text` as it is, with the
    files to `open`; then waits for an `answer` unless told not to. `fill` makes the text longer than the
    longest datagram by that much, in place of FILL; what has come back whole is reported as FILL."""
    line, matched, filling = client.line, False, b"FILL"
    if "text" in wish:
        text = wish["text"].encode()
    elif mode == "bare":
        text = dumps(wish["message"])
    else:
        text = dumps(client.envelope(wish["method"], wish["params"], wish.get("notify", False)))
        matched = True
    if "fill" in wish:
        filling = b"x" * (line.inline_max() + wish["fill"] - len(text) + len("FILL"))
        text = text.replace(b"FILL", filling)
    fds: list[int] = []
    try:
        fds.extend(os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in wish.get("open", ()))
        done: dict[str, Any] = {"bytes": len(text), "sent": line.send(text, fds)}
    finally:
        close_all(fds)
    if wish.get("notify") or not wish.get("answer", True):
        return done
    datagram = client.answer() if matched else line.receive()
    if datagram is None:
        return {**done, "closed": True}
    try:
        answer = loads(datagram.text.replace(filling, b"FILL"))
        done.update(answer=answer, received=datagram.how)
        return {**done, "files": describe(datagram.fds)}
    finally:
        close_all(datagram.fds)


def run_client(path: str, kind: str, mode: str, sndbuf: Optional[int]) -> None:
    with connect(path, kind) as sock:
        if sndbuf is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
        client = Client(Line(sock))
        for wish in sys.stdin.buffer:
            report(step(client, mode, loads(wish)))


# The server.

Result = tuple[Any, list[int]]  # what is answered, and descriptors that are ours to close


class Refusal(Exception):
    """An error object: a fault of the framework, or the service's own error."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.error: dict[str, Any] = {"code": code, "message": message}
        if data is not None:
            self.error["data"] = data


def do_open(path: str) -> Result:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        raise Refusal(2, "not allowed", "Denied") from None
    except OSError:
        raise Refusal(1, f"no file {path}", {"NotFound": {"path": path}}) from None
    return {"len": os.fstat(fd).st_size, "file": 0}, [fd]


def do_swap(text: str, left: int, right: int) -> Result:
    return {"text": text, "left": 0, "right": 1}, [os.dup(right), os.dup(left)]


def do_echo(text: str) -> Result:
    return {"text": text}, []


def do_more() -> Result:
    """Answers as a later version would: with a member and a descriptor that old clients do not know."""
    return {"text": "more", "since": 2, "extra": 0}, [os.memfd_create("extra", os.MFD_CLOEXEC)]


METHODS: dict[str, tuple[Callable[..., Result], dict[str, str]]] = {
    "open": (do_open, {"path": "text"}),
    "swap": (do_swap, {"text": "text", "left": "descriptor", "right": "descriptor"}),
    "echo": (do_echo, {"text": "text"}),
    "more": (do_more, {}),
}
TYPES: dict[str, Any] = {"text": str, "descriptor": int}
TELLS = {"open": "Opened", "swap": "Swapped", "echo": "Echoed"}


def carry_out(method: str, params: Any, fds: list[int]) -> Result:
    """Checks the arguments as strictly as a server has to, and calls the method."""
    call, wanted = METHODS[method]
    if isinstance(params, list):
        if len(params) > len(wanted):
            raise Refusal(-32602, "too many arguments")
        params = dict(zip(wanted, params))
    for name in params:
        if name not in wanted:
            raise Refusal(-32602, f"{name}: unknown argument", {"field": name})
    named: set[int] = set()
    values: dict[str, Any] = {}
    for name, kind in wanted.items():
        value = params.get(name)
        if isinstance(value, bool) or not isinstance(value, TYPES[kind]):
            raise Refusal(-32602, f"{name}: not a {kind}", {"field": name})
        if kind == "descriptor":
            if value in named or not 0 <= value < len(fds):
                raise Refusal(-32007, f"{name}: no descriptor {value}", {"field": name})
            named.add(value)
            value = fds[value]
        values[name] = value
    if len(named) < len(fds):
        raise Refusal(-32007, "a descriptor is not named by any field")
    return call(**values)


def enum_reply(method: str, params: Any, fds: list[int]) -> Result:
    """Carries out a request of the enum: its reply is an enum too, which has the failure as a variant."""
    try:
        tell = TELLS[method]
        result, sent = carry_out(method, params, fds)
        return {tell: result}, sent
    except Refusal as refusal:
        if refusal.error["code"] < 0:
            raise
        return refusal.error["data"], []


SERVICES: dict[str, tuple[Callable[..., Result], Iterable[str]]] = {
    "example.desk": (carry_out, METHODS),
    "example.window": (enum_reply, TELLS),
}


def answer_bare(text: bytes, fds: list[int]) -> Optional[Result]:
    """Carries out a bare request; None for what is none."""
    try:
        [(variant, params)] = loads(text).items()
        return enum_reply(variant.lower(), params, fds)
    except (ValueError, AttributeError, KeyError, Refusal):
        return None


def answer_call(text: bytes, fds: list[int]) -> Optional[Result]:
    """Carries out a JSON-RPC call; None when it wants no answer."""
    identity, wanted = None, True
    try:
        try:
            call = loads(text)
        except ValueError as error:
            raise Refusal(-32700, f"not JSON: {error}") from None
        if not isinstance(call, dict):
            raise Refusal(-32600, "a batch is not accepted" if isinstance(call, list) else "not a call")
        identity, wanted = call.get("id"), "id" in call
        if "method" not in call and ("result" in call or "error" in call):
            return None  # an answer; those are never answered
        name, params = call.get("method"), call.get("params", {})
        if call.get("jsonrpc") != "2.0" or not isinstance(name, str) or not isinstance(params, (dict, list)):
            raise Refusal(-32600, "not a call")
        service, _, method = name.rpartition(".")
        how, methods = SERVICES.get(service, (carry_out, ()))
        if method not in methods:
            raise Refusal(-32601, f"unknown method {name}")
        result, sent = how(method, params, fds)
        answer = {"jsonrpc": "2.0", "id": identity, "result": result}
    except Refusal as refusal:
        answer, sent = {"jsonrpc": "2.0", "id": identity, "error": refusal.error}, []
    return (answer, sent) if wanted else None


def turn(line: Line, mode: str) -> bool:
    """Answers one request; False when the client has gone."""
    datagram = line.receive()
    if datagram is None:
        return False
    sent: list[int] = []
    try:
        came = {"bytes": len(datagram.text), "received": datagram.how}
        report({**came, "files": describe(datagram.fds)})
        result = (answer_bare if mode == "bare" else answer_call)(datagram.text, datagram.fds)
        answerable = datagram.sender or line.sock.type == socket.SOCK_SEQPACKET
        if result is not None and answerable:
            answer, sent = result
            line.send(dumps(answer), sent, datagram.sender)
    finally:
        close_all([*datagram.fds, *sent])
    return True


def wait(sock: socket.socket) -> bool:
    """Waits until something comes; False at the end of standard input."""
    return sys.stdin not in select.select([sock, sys.stdin], [], [])[0]


def run_server(path: str, kind: str, mode: str) -> None:
    with socket.socket(socket.AF_UNIX, KINDS[kind]) as sock:
        sock.bind(path)
        if kind == "seqpacket":
            sock.listen()
        report({"ready": True})
        while wait(sock):
            if kind == "dgram":
                turn(Line(sock), mode)
                continue
            with sock.accept()[0] as connection:
                while wait(connection) and turn(Line(connection), mode):
                    pass


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

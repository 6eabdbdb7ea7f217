"""Tests the server and client in `examples/python/jsoncomm.py` with the vectors. README.md explains their format."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import stat
import sys
import tempfile
import threading
import unittest
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Annotated, Any, Optional

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "examples/python"))

import jsoncomm
from jsoncomm import KINDS, BadMessage, Closed, Deadline, Fault, Fd, Transport, Message, Server, ServiceError

PATIENCE = 20.0  # seconds
SEALS = {name: getattr(fcntl, f"F_SEAL_{name.upper()}") for name in ("shrink", "grow", "write", "seal")}


def load(group: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the vectors of a file, with each kind of socket that they apply to."""
    for vector in json.loads((HERE / f"{group}.json").read_text())["vectors"]:
        vector = json.loads(json.dumps(vector).replace("FILL", "x" * vector.get("fill", 0)))
        for kind in vector.get("kinds", KINDS):
            yield kind, vector


def make(wish: dict[str, Any], identity: str = "") -> Fd:
    """Makes a descriptor."""
    kind, text = wish["kind"], wish.get("text", "").replace("ID", identity).encode()
    if kind == "pipe":
        reader, writer = map(Fd, os.pipe())
        writer.close()
        return reader
    if kind == "socket":
        near, far = socket.socketpair()
        far.close()
        return Fd(near.detach())
    if kind == "connection":
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        far.close()
        return Fd(near.detach())
    if kind == "null":
        return Fd(os.open("/dev/null", os.O_RDONLY))
    if kind == "file":
        fd = sheet(text.decode())
    else:
        fd = Fd(os.memfd_create("vector", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
        os.pwrite(fd.fileno(), text, 0)
        os.ftruncate(fd.fileno(), wish.get("size", len(text)))
        os.lseek(fd.fileno(), wish.get("offset", 0), os.SEEK_SET)
        fcntl.fcntl(fd.fileno(), fcntl.F_ADD_SEALS, sum(SEALS[name] for name in wish.get("seals", ())))
    return fd


def sheet(text: str) -> Fd:
    """Returns a file with this content."""
    with tempfile.TemporaryFile() as file:
        file.write(text.encode())
        file.flush()
        return Fd(os.dup(file.fileno()))


def content(fd: Fd) -> str:
    """Returns how the vectors describe a descriptor: the content of a file, otherwise its kind."""
    found = os.fstat(fd.fileno())
    if stat.S_ISREG(found.st_mode):
        return os.pread(fd.fileno(), found.st_size, 0).decode()
    kinds = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFCHR: "null"}
    return kinds[stat.S_IFMT(found.st_mode)]


def send_raw(transport: Transport, wish: dict[str, Any], identity: str = "") -> None:
    """Sends one datagram."""
    data = wish["text"].replace("ID", identity).encode() if "text" in wish else bytes.fromhex(wish["hex"])
    fds = [make(one, identity) for one in wish.get("descriptors", ())]
    transport._sendmsg(data, [fd.fileno() for fd in fds], None)


def receive(transport: Transport) -> Message:
    message = transport.receive()
    assert message is not None, "the connection has ended"
    return message


class Service:
    """The methods of the vectors, which record their calls."""

    def __init__(self) -> None:
        self.ran: list[dict[str, Any]] = []

    def _record(self, method: str, **arguments: Any) -> None:
        self.ran.append({"method": method, "arguments": arguments})

    def nothing(self) -> None:
        self._record("nothing")

    def echo(self, text: str) -> Any:
        self._record("echo", text=text)
        return {"text": text}

    def maybe(self, text: Optional[str]) -> Any:
        self._record("maybe", text=text)
        return {"text": text}

    def add(self, left: int, right: int) -> int:
        self._record("add", left=left, right=right)
        return left + right

    def half(self, number: float) -> float:
        self._record("half", number=number)
        return number / 2

    def any(self, value: Any) -> Any:
        self._record("any", value=value)
        return value

    def note(self, text: str) -> None:
        self._record("note", text=text)

    def fail(self, path: str) -> None:
        self._record("fail", path=path)
        raise not_found(path)

    def crash(self) -> None:
        self._record("crash")
        raise RuntimeError("on purpose")

    def large(self, bytes: int) -> str:
        self._record("large", bytes=bytes)
        return "x" * bytes

    def read(self, file: Fd) -> Any:
        self._record("read", file=content(file))
        return {"text": content(file)}

    def kind(self, file: Fd) -> Any:
        self._record("kind", file=content(file))
        return {"text": content(file)}

    def fixed(self, file: Annotated[Fd, "memfd(sealed)", "read"]) -> Any:
        self._record("fixed", file=content(file))
        return {"text": content(file)}

    def sheets(self, files: list[Annotated[Fd, "regular", "read"]]) -> Any:
        texts = [content(file) for file in files]
        self._record("sheets", files=texts)
        return texts

    def swap(self, left: Fd, right: Fd) -> Any:
        self._record("swap", left=content(left), right=content(right))
        return {"left": right, "right": left}

    def some(self, file: Optional[Fd] = None) -> Any:
        text = None if file is None else content(file)
        self._record("some", file=text)
        return {"text": text}

    def list(self, files: list[Fd]) -> Any:
        texts = [content(file) for file in files]
        self._record("list", files=texts)
        return texts

    def open(self, text: str) -> Any:
        self._record("open", text=text)
        return {"len": len(text), "file": sheet(text)}

    def locked(self, text: str, file: Optional[Fd] = None) -> Any:
        self._record("locked", text=text)

    def keep(self, file: Fd) -> None:
        self._record("keep", file=content(file))
        raise ServiceError(2, "kept", {"Kept": {"file": file}})

    def meet(self, peer: jsoncomm.Connection) -> Any:
        self._record("meet")
        with peer:
            try:
                peer.notify("vectors.note", {"text": "met"})
            except Closed:
                return {"text": "gone"}
            return {"text": "met"}

    def count(self, to: int) -> Generator[int, None, None]:
        self._record("count", to=to)
        yield from range(to)

    def pages(self, texts: Any) -> Generator[Any, None, None]:
        self._record("pages", texts=texts)
        for text in texts:
            yield {"file": sheet(text)}

    def break_off(self, after: int) -> Generator[int, None, None]:
        self._record("break_off", after=after)
        yield from range(after)
        raise not_found(str(after))

    def bare_echo(self, text: str) -> Any:
        self._record("Echo", text=text)
        return {"Echoed": {"text": text}}

    def bare_swap(self, left: Fd, right: Fd) -> Any:
        self._record("Swap", left=content(left), right=content(right))
        return {"Swapped": {"left": right, "right": left}}


def methods(server: Server, service: Service) -> None:
    """Makes a server serve all methods."""
    for name in (name for name, thing in vars(Service).items() if callable(thing) and name[0] != "_"):
        rule = (lambda _: False) if name == "locked" else None
        server.method(name if name.startswith("bare_") else f"vectors.{name}", getattr(service, name), rule)


def not_found(path: str) -> ServiceError:
    return ServiceError(1, f"no file {path}", {"NotFound": {"path": path}})


def route(request: Any) -> tuple[str, Any]:
    [(variant, arguments)] = request.items()
    return f"bare_{variant.lower()}", arguments


class Case(unittest.TestCase):
    def setUp(self) -> None:
        logging.disable()
        self.before = len(os.listdir("/proc/self/fd"))

    def assert_nothing_left(self) -> None:
        self.assertEqual(len(os.listdir("/proc/self/fd")), self.before)


class Servers(Case):
    """Vectors for servers: a message, the methods that run, and the replies."""

    def check_all(self, group: str) -> None:
        for kind, vector in load(group):
            with self.subTest(f"{vector['name']} on {kind}"), tempfile.TemporaryDirectory() as folder:
                self.check(f"{folder}/socket", kind, vector, group == "bare", group != "batches")

    def check(self, path: str, kind: str, vector: dict[str, Any], bare: bool, in_order: bool) -> None:
        service, server = Service(), Server()
        methods(server, service)
        if bare:
            server.bare(route)
        server.bind(path, kind)
        loop = threading.Thread(target=server.run)
        loop.start()
        try:
            with jsoncomm.connect(path, kind, PATIENCE) as connection:
                transport = connection.transport
                transport.sock.settimeout(PATIENCE)
                send_raw(transport, vector["send"])
                self.check_replies(transport, vector["replies"], in_order)
                # The server has sent nothing else: the next reply belongs to the next call.
                end: Any = {"jsonrpc": "2.0", "id": "end", "method": "vectors.echo", "params": {"text": "end"}}
                transport.send({"Echo": {"text": "end"}} if bare else end)
                last = {"jsonrpc": "2.0", "id": "end", "result": {"text": "end"}}
                self.assertEqual(receive(transport).value, {"Echoed": {"text": "end"}} if bare else last)
        finally:
            server.stop()
            loop.join(PATIENCE)
            server.close()
        end = {"method": "Echo" if bare else "echo", "arguments": {"text": "end"}}
        self.assertEqual(service.ran, [*vector["ran"], end])
        self.assert_nothing_left()

    def check_replies(self, transport: Transport, due: list[dict[str, Any]], in_order: bool) -> None:
        """Receives replies, those to a batch in any order, alone or in arrays."""
        left = list(due)
        while left:
            with receive(transport) as message:
                alone = not isinstance(message.value, list)
                for message.value in [message.value] if alone else message.value:
                    self.compare(message, left.pop(0 if in_order else self.find(message.value, left, alone)))

    def find(self, reply: Any, due: list[dict[str, Any]], alone: bool) -> int:
        """Returns the place of the first expected reply that may be this one."""
        for place, one in enumerate(due):
            if "text" in one and reply == json.loads(one["text"]) or "fault" in one and (
                (reply.get("id"), reply.get("error", {}).get("code")) == (one["id"], one["fault"])
            ):
                self.assertTrue(alone or not one.get("alone"), f"{reply} is in an array")
                return place
        raise AssertionError(f"{reply} is unexpected")

    def compare(self, reply: Message, due: dict[str, Any]) -> None:
        if "text" in due:
            self.assertEqual(reply.value, json.loads(due["text"]))
        else:
            error = {"code": due["fault"], "message": reply.value["error"]["message"]}
            if "field" in due:
                error["data"] = {"field": due["field"]}
            self.assertIsInstance(error["message"], str)
            self.assertEqual(reply.value, {"jsonrpc": "2.0", "id": due["id"], "error": error})
        self.assertEqual([content(fd) for fd in reply.fds], due.get("descriptors", []))

    def test_calls(self) -> None:
        self.check_all("calls")

    def test_faults(self) -> None:
        self.check_all("faults")

    def test_descriptors(self) -> None:
        self.check_all("descriptors")

    def test_payloads(self) -> None:
        self.check_all("payloads")

    def test_streams(self) -> None:
        self.check_all("streams")

    def test_batches(self) -> None:
        self.check_all("batches")

    def test_bare(self) -> None:
        self.check_all("bare")


def with_contents(message: Message, value: Any, path: tuple[Any, ...] = ()) -> Any:
    """Returns the value with the content of each `file` in place of its index."""
    if isinstance(value, dict):
        return {name: with_contents(message, item, (*path, name)) for name, item in value.items()}
    return content(message.fd(*path)) if path and path[-1] == "file" else value


class Clients(Case):
    """Vectors for clients: the replies, and how the call ends."""

    def make(self, connection: jsoncomm.Connection, call: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Makes the call, and returns its outcome as in the vectors."""
        method, items = f"vectors.{call['method']}", list[Any]()
        done: dict[str, Any] = {}
        try:
            if call["method"] != "count":
                with connection.call(method, call["arguments"], timeout) as reply:
                    known = {"echo": ["text"], "open": ["len", "file"]}.get(call["method"])
                    reply.value = {name: reply.value[name] for name in known} if known else reply.value
                    return {"value": with_contents(reply, reply.value)}
            done["items"] = items
            with connection.stream(method, call["arguments"], timeout) as stream:
                for item in stream:
                    items.append(item.value)
        except ServiceError as error:
            with error.reply as reply:
                done["error"] = with_contents(reply, error.data)
        except Fault as fault:
            done["fault"] = fault.code
            if fault.field is not None:
                done["field"] = fault.field
        except BadMessage:
            done["bad"] = True
        except Deadline:
            done["deadline"] = True
        except Closed:
            done["closed"] = True
        return done

    def next_call(self, transport: Transport, method: str) -> dict[str, Any]:
        """Receives the next call, which is of this method. Skips cancellations of earlier calls."""
        while True:
            call: dict[str, Any] = receive(transport).value
            if call["method"] != "rpc.cancel":
                self.assertEqual(call["method"], f"vectors.{method}")
                return call

    def check(self, kind: str, vector: dict[str, Any]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, KINDS[kind])
        theirs.settimeout(PATIENCE)
        connection, transport = jsoncomm.Connection(ours, PATIENCE), Transport(theirs)
        made: list[dict[str, Any]] = []
        waits = 0.05 if "deadline" in vector["outcome"] else PATIENCE
        caller = threading.Thread(target=lambda: made.append(self.make(connection, vector["call"], waits)))
        caller.start()
        with connection:
            try:
                call = self.next_call(transport, vector["call"]["method"])
                self.assertEqual(call["params"], vector["call"]["arguments"])
                for reply in vector["replies"]:
                    send_raw(transport, reply, str(call["id"]))
                if "closed" in vector["outcome"]:
                    transport.close()
            finally:
                caller.join(PATIENCE)
            self.assertEqual(made, [vector["outcome"]])
            if "closed" not in vector["outcome"]:  # the connection is still usable
                caller = threading.Thread(target=lambda: made.append(connection.call("vectors.echo").value))
                caller.start()
                call = self.next_call(transport, "echo")
                transport.send({"jsonrpc": "2.0", "id": call["id"], "result": "end"})
                caller.join(PATIENCE)
                self.assertEqual(made[-1], "end")
        transport.close()
        self.assert_nothing_left()

    def test_replies(self) -> None:
        for kind, vector in load("replies"):
            with self.subTest(f"{vector['name']} on {kind}"):
                self.check(kind, vector)


if __name__ == "__main__":
    unittest.main()

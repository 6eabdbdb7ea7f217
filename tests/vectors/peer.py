"""The service of the vectors and a client that calls all of it, for a peer in another language.

    peer.py serve|call dgram|seqpacket PATH

The server prints a line when it is ready and stops at the end of its standard input.
"""

from __future__ import annotations

import sys

from test_vectors import Service, content, make, methods

import jsoncomm
from jsoncomm import Fault, Server, ServiceError


def serve(kind: str, path: str) -> None:
    with Server() as server:
        methods(server, Service())
        server.bind(path, kind)
        server.watch(sys.stdin, server.stop)
        print("ready", flush=True)
        server.run()


def call(kind: str, path: str) -> None:
    """Calls each method. The connection finds out the kind."""
    l, r = (make({"kind": "file", "text": text}) for text in "lr")
    null = make({"kind": "null"})
    with jsoncomm.connect(path) as connection:
        assert connection.transport.connected == (kind == "seqpacket")

        def value(method: str, **arguments: object) -> object:
            with connection.call(f"vectors.{method}", arguments) as reply:
                named = reply.value if isinstance(reply.value, dict) else {}
                fds = {name: content(reply.fd(name)) for name in ("file", "left", "right") if name in named}
                return {**named, **fds} if named else reply.value

        assert value("nothing") is None
        assert value("echo", text="größe") == {"text": "größe"}
        assert value("maybe") == {"text": None}
        assert value("add", left=-1, right=3) == 2
        assert value("half", number=3) == 1.5
        assert value("any", value=[1, None, {"a": "b"}]) == [1, None, {"a": "b"}]
        assert value("large", bytes=900_000) == "x" * 900_000
        assert value("echo", text="x" * 900_000) == {"text": "x" * 900_000}
        assert value("read", file=l) == {"text": "l"}
        assert value("kind", file=null) == {"text": "null"}
        assert value("sheets", files=[r, l]) == ["r", "l"]
        fixed = make({"kind": "memfd", "text": "f", "seals": ["shrink", "grow", "write"]})
        assert value("fixed", file=fixed) == {"text": "f"}
        assert value("swap", left=l, right=r) == {"left": "r", "right": "l"}
        assert value("some", file=l) == {"text": "l"}
        assert value("list", files=[l, r, l]) == ["l", "r", "l"]
        assert value("open", text="abc") == {"len": 3, "file": "abc"}
        connection.notify("vectors.note", {"text": "noted"})
        try:
            value("fail", path="p")
            raise AssertionError("it fails")
        except ServiceError as error:
            assert (error.code, error.message, error.data) == (1, "no file p", {"NotFound": {"path": "p"}})
        try:
            value("keep", file=r)
            raise AssertionError("it fails")
        except ServiceError as error:
            with error.reply as reply:
                assert content(reply.fd("Kept", "file")) == "r"
        for method, code in (("crash", Fault.INTERNAL_ERROR), ("none", Fault.METHOD_NOT_FOUND)):
            try:
                value(method)
                raise AssertionError("it fails")
            except Fault as fault:
                assert fault.code == code
        with connection.stream("vectors.count", {"to": 1000}) as items:
            assert [item.value for item in items] == [*range(1000)]
        with connection.stream("vectors.pages", {"texts": ["a", "b"]}) as items:
            assert [content(item.fd("file")) for item in items] == ["a", "b"]
        with connection.batch() as batch:
            sums = [batch.call("vectors.add", {"left": n, "right": 1}) for n in range(100)]
            batch.notify("vectors.note", {"text": "in a batch"})
            opened, missing = batch.call("vectors.open", {"text": "abc"}), batch.call("vectors.none")
        with opened.wait() as reply:
            assert content(reply.fd("file")) == "abc"
        try:
            missing.wait()
            raise AssertionError("it fails")
        except Fault as fault:
            assert fault.code == Fault.METHOD_NOT_FOUND
        assert [one.wait().value for one in sums] == [*range(1, 101)]
        with connection.stream("vectors.count", {"to": 1 << 40}) as items:  # dropped early
            assert next(items).value == 0
            assert value("add", left=1, right=1) == 2
        try:
            with connection.stream("vectors.break_off", {"after": 1}) as items:
                assert next(items).value == 0
                next(items)
            raise AssertionError("it fails")
        except ServiceError as error:
            assert error.data == {"NotFound": {"path": "1"}}
        assert value("add", left=1, right=1) == 2


if __name__ == "__main__":
    command, kind, path = sys.argv[1:]
    {"serve": serve, "call": call}[command](kind, path)

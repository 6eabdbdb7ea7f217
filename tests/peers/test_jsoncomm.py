"""Tests of `examples/python/jsoncomm.py` beyond the wire format: ownership, deadlines, limits, slow and dead peers."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import itertools
import json
import logging
import math
import operator
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import unittest
import unittest.mock
import warnings
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Optional, Union

sys.path.insert(0, str(Path(__file__).parents[2] / "examples/python"))

import jsoncomm
from jsoncomm import KINDS, BadMessage, Closed, Deadline, Fault, Fd, Peer, Rule, Server, Transport, connect

PATIENCE = 20.0  # seconds


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def at_most(descriptors: int) -> Iterator[None]:
    """Limits the number of descriptors that can still be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first = Fd(os.open("/dev/null", os.O_RDONLY)).fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (first + descriptors, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Shop(Server):
    """A server on its own thread, which records when a stream ends."""

    def __init__(self, path: Any, kind: str) -> None:
        super().__init__()
        self.ended = threading.Event()
        self.held = threading.Lock()  # nothing is served meanwhile
        self.method("shop.echo", self.echo)
        self.method("shop.flood", self.flood)
        self.bind(path, kind)
        self.loop = threading.Thread(target=self.run)
        self.loop.start()

    def received(self, message: jsoncomm.Message) -> None:
        with self.held:
            pass

    def echo(self, value: Any) -> Any:
        return value

    def flood(self, weight: int) -> Generator[Any, None, None]:
        try:
            for number in itertools.count():
                yield [number, "x" * weight]
        finally:
            self.ended.set()

    def __exit__(self, *ended: object) -> None:
        self.stop()
        self.loop.join(PATIENCE)
        super().__exit__(*ended)


class Case(unittest.TestCase):
    def setUp(self) -> None:
        logging.disable()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = f"{folder.name}/socket"
        self.before = open_fds()

    def tearDown(self) -> None:
        until = time.monotonic() + PATIENCE
        while open_fds() != self.before and time.monotonic() < until:
            os.sched_yield()  # what came from peers is closed on another thread
        self.assertEqual(open_fds(), self.before)


class Transports(Case):
    def pair(self, kind: str) -> tuple[Transport, Transport]:
        left, right = map(Transport, socket.socketpair(socket.AF_UNIX, KINDS[kind]))
        for transport in (left, right):
            transport.sock.settimeout(PATIENCE)
        return left, right

    def test_descriptors_are_close_on_exec_and_closed_with_their_message_unless_detached(self) -> None:
        left, right = self.pair("seqpacket")
        with left, right, tempfile.TemporaryFile() as file:
            left.send({"kept": file, "closed": file})
            message = right.receive()
            assert message is not None
            with message:
                for fd in message.fds:
                    self.assertFalse(os.get_inheritable(fd.fileno()))
                kept = message.fd("kept").detach()
            os.close(kept)
            for fd in message.fds:
                self.assertRaises(ValueError, fd.fileno)

    def test_a_descriptor_is_named_once(self) -> None:
        left, right = self.pair("seqpacket")
        with left, right, tempfile.TemporaryFile() as file:
            left.send_text(b'{"a":0,"b":[0,1,"0",true]}', [file])
            message = right.receive()
            assert message is not None
            with message:
                self.assertIs(message.fd("a"), message.fd("a"))
                for step in range(4):
                    self.assertRaises(BadMessage, message.fd, "b", step)

    def test_a_truncated_message_is_none_and_leaves_no_descriptor(self) -> None:
        for kind in KINDS:
            left, right = self.pair(kind)
            with left, right, tempfile.TemporaryFile() as file:
                before = open_fds()
                left.send_text(b"[0,1,2,3,4]", [file] * 5)
                with at_most(3), self.assertRaises(BadMessage) as raised:
                    right.receive()
                self.assertEqual(raised.exception.code, Fault.INVALID_DESCRIPTORS)
                right.limit = 100
                left.send_text(b"[0]" + b" " * 98, [file])
                with self.assertRaises(BadMessage) as raised:
                    right.receive()
                self.assertEqual(raised.exception.code, Fault.INVALID_REQUEST)
                self.assertEqual(open_fds(), before)
                left.send(1)
                self.assertEqual(getattr(right.receive(), "value"), 1)

    def test_an_empty_packet_ends_a_connection_and_leaves_no_descriptor(self) -> None:
        left, right = self.pair("seqpacket")
        with left, right, tempfile.TemporaryFile() as file:
            left.send_text(b"", [file])
            self.assertIsNone(right.receive())


    def test_an_unreadable_payload_is_an_invalid_message(self) -> None:
        for kind in KINDS:
            left, right = self.pair(kind)
            with left, right, Fd(os.memfd_create("payload", os.MFD_ALLOW_SEALING)) as payload:
                os.write(payload.fileno(), b"1")
                with Fd(os.open(f"/proc/self/fd/{payload.fileno()}", os.O_WRONLY)) as unreadable:
                    left._sendmsg(jsoncomm.SPILLED, [unreadable.fileno()], None)
                with self.assertRaises(BadMessage) as raised:
                    right.receive()
                self.assertEqual(raised.exception.code, Fault.INVALID_DESCRIPTORS)

    def test_a_pidfd_that_was_not_requested_is_closed(self) -> None:
        left, right = self.pair("dgram")
        with left, right:
            try:
                right.sock.setsockopt(socket.SOL_SOCKET, 76, 1)  # SO_PASSPIDFD
            except OSError:
                self.skipTest("there are none before Linux 6.5")
            left.send(1)
            before = open_fds()
            message = right.receive()
            assert message is not None
            self.assertEqual((message.value, message.fds, open_fds()), (1, [], before))


class Batches(Case):
    def call(self, identity: Any, method: str, params: Any) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": identity, "method": f"shop.{method}", "params": params}

    def receive(self, connection: jsoncomm.Connection) -> Any:
        """Returns the next message, with the code of each fault in place of the error."""
        connection.transport.sock.settimeout(PATIENCE)
        value = getattr(connection.transport.receive(), "value")
        for one in value if isinstance(value, list) else [value]:
            if "error" in one:
                one["error"] = one["error"]["code"]
        return value

    def test_each_element_is_handled_as_if_it_had_come_alone(self) -> None:
        notes: list[str] = []
        elements = [
            (self.call(1, "echo", [5]), {"id": 1, "result": 5}),
            ({"jsonrpc": "2.0", "method": "shop.note", "params": ["a"]}, None),
            (self.call("b", "none", []), {"id": "b", "error": Fault.METHOD_NOT_FOUND}),
            (self.call(3, "echo", {"other": 1}), {"id": 3, "error": Fault.INVALID_PARAMS}),
            ({**self.call(4, "echo", [5]), "timeout": 0}, {"id": 4, "error": Fault.DEADLINE_EXCEEDED}),
            (7, {"id": None, "error": Fault.INVALID_REQUEST}),
            ([self.call(5, "echo", [5])], {"id": None, "error": Fault.INVALID_REQUEST}),
            ({"id": 6, "jsonrpc": "2.0"}, {"id": 6, "error": Fault.INVALID_REQUEST}),
            ({"jsonrpc": "2.0", "id": 1, "result": 1}, None),
            ({"jsonrpc": "2.0", "id": None, "error": {}}, None),
            (self.call(1, "echo", [6]), {"id": 1, "result": 6}),
        ]
        for kind in KINDS:
            with Shop(self.path, kind) as shop, connect(self.path, timeout=PATIENCE) as connection:
                shop.method("shop.note", lambda text: notes.append(text))
                connection.transport.send([element for element, _ in elements])
                due = [{"jsonrpc": "2.0", **reply} for _, reply in elements if reply]
                self.assertEqual(self.receive(connection), due)
                connection.transport.send([elements[1][0], elements[8][0]])
                connection.transport.send(self.call(9, "echo", ["end"]))
                self.assertEqual(self.receive(connection), {"jsonrpc": "2.0", "id": 9, "result": "end"})
        self.assertEqual(notes, ["a"] * 4)

    def test_a_method_gets_the_trace_of_its_call_and_a_malformed_one_is_none(self) -> None:
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

        def told(trace: jsoncomm.TraceParent) -> Any:
            return trace

        for kind in KINDS:
            with Shop(self.path, kind) as shop, connect(self.path, timeout=PATIENCE) as connection:
                shop.method("shop.told", told)
                self.assertIsNone(connection.call("shop.told").value)
                connection.trace = jsoncomm.TraceParent(trace)
                self.assertEqual(connection.call("shop.told").value, trace)
                with connection.batch() as batch:
                    calls = [batch.call("shop.told"), batch.call("shop.told")]
                self.assertEqual([call.wait().value for call in calls], [trace] * 2)
                connection.trace = None
                self.assertIsNone(connection.call("shop.told").value)
                later = trace.replace("00", "cc", 1) + "-more"
                cases = [(trace, trace), (later, trace), (trace + "-", None), (trace[:-1], None), ("ff" + trace[2:], None)]
                for text, expected in [*cases, ("", None), (7, None), (None, None), ({}, None), (trace + "\n", None)]:
                    connection.transport.send({**self.call(1, "told", {}), "traceparent": text})
                    self.assertEqual(self.receive(connection)["result"], expected, text)
                with self.assertRaises(Fault):
                    connection.call("shop.told", {"trace": trace})

    def test_a_batch_that_is_not_json_empty_or_too_long_is_refused_whole(self) -> None:
        call = self.call(1, "fail", [])
        texts = [
            ("[]", Fault.INVALID_REQUEST),
            (json.dumps([call] * 65), Fault.INVALID_REQUEST),
            (json.dumps([call])[:-1], Fault.PARSE_ERROR),
            (json.dumps([call]) + "]", Fault.PARSE_ERROR),
            (json.dumps([call])[:-1] + ",]", Fault.PARSE_ERROR),
            (json.dumps([call])[:-1] + ",NaN]", Fault.PARSE_ERROR),
            ("[" * 100_000 + "]" * 100_000, Fault.PARSE_ERROR),
        ]
        for kind in KINDS:
            with Shop(self.path, kind) as shop, connect(self.path, timeout=PATIENCE) as connection:
                shop.method("shop.fail", self.fail)
                for text, code in texts:
                    connection.transport.send_text(text.encode())
                    self.assertEqual(self.receive(connection), {"jsonrpc": "2.0", "id": None, "error": code})

    def test_a_long_batch_leaves_other_clients_their_turn(self) -> None:
        ran: list[int] = []
        for kind in KINDS:
            ran.clear()
            with Shop(self.path, kind) as shop, connect(self.path) as greedy, connect(self.path) as other:
                shop.method("shop.add", lambda number: ran.append(number))
                shop.method("shop.count", lambda: len(ran))
                with shop.held:
                    greedy.transport.send([self.call(n, "add", [n]) for n in range(64)])
                    greedy.transport.send(self.call(64, "add", [64]))
                    identity = other._begin("shop.count", [], math.inf, with_timeout=False)
                count = other.reply_to(identity, PATIENCE).value["result"]
                if kind == "seqpacket":  # of a datagram socket nothing is read until the batch is done
                    self.assertLessEqual(count, 32)
                replies = [self.receive(greedy) for _ in range(3)]
                self.assertEqual([len(replies[0]), len(replies[1]), replies[2]["id"]], [32, 32, 64])
                self.assertEqual(ran, [*range(65)])

    def test_a_batch_with_descriptors_is_refused_call_by_call(self) -> None:
        for kind in KINDS:
            with Shop(self.path, kind) as shop, connect(self.path, timeout=PATIENCE) as connection:
                shop.method("shop.fail", self.fail)
                batch = [self.call(1, "fail", []), {"jsonrpc": "2.0", "method": "shop.fail"}, 5, {"result": 1}]
                with Fd(os.open("/dev/null", os.O_RDONLY)) as null:
                    connection.transport.send_text(json.dumps(batch).encode(), [null])
                fault = {"jsonrpc": "2.0", "error": Fault.INVALID_DESCRIPTORS}
                self.assertEqual(self.receive(connection), [{**fault, "id": 1}, {**fault, "id": None}])

    def test_replies_with_descriptors_and_streams_travel_alone(self) -> None:
        for kind in KINDS:
            with Shop(self.path, kind) as shop, connect(self.path, timeout=PATIENCE) as connection:
                shop.method("shop.open", lambda: {"file": Fd(os.open("/dev/null", os.O_RDONLY))})
                shop.method("shop.items", lambda: (n for n in range(2)))
                shop.method("shop.large", lambda: "x" * Server.ARRAY_BYTES)
                batch = [self.call(n, name, []) for n, name in enumerate(("open", "items", "large", "open"))]
                connection.transport.send([*batch, self.call(9, "echo", [1]), self.call(8, "echo", [2])])
                replies, arrays = list[tuple[Any, int]](), list[list[Any]]()
                while len(replies) + 2 < 8:
                    with connection._receive(time.monotonic() + PATIENCE) as message:
                        if jsoncomm._is_array(message.text):
                            arrays.append([one["id"] for one in json.loads(message.text)])
                        else:
                            replies.append((json.loads(message.text)["id"], len(message.fds)))
                self.assertEqual(arrays, [[9, 8]])
                self.assertEqual(sorted(replies), [(0, 1), (1, 0), (1, 0), (1, 0), (2, 0), (3, 1)])

    def test_a_batch_whose_replies_find_no_room_is_bounded_and_ends(self) -> None:
        with Shop(self.path, "seqpacket") as shop, connect(self.path, timeout=PATIENCE) as deaf:
            shop.method("shop.large", lambda: "x" * 30_000)
            for _ in range(4):
                deaf.transport.send([self.call(n, "large", []) for n in range(64)])
            with connect(self.path, timeout=PATIENCE) as polite:
                self.assertEqual(polite.call("shop.echo", [1]).value, 1)
                self.assertTrue(all(len(client.queue) <= 64 for client in shop._clients))
                count = 0
                while count < 256:
                    reply = self.receive(deaf)
                    count += len(reply) if isinstance(reply, list) else 1
                self.assertEqual(polite.call("shop.echo", [2]).value, 2)
            self.assertEqual({account.bytes for account in shop._accounts.values()}, {0})

    def test_a_shutdown_refuses_what_is_left_of_a_batch(self) -> None:
        for kind in KINDS:
            with Shop(self.path, kind) as shop, connect(self.path, timeout=PATIENCE) as connection:
                shop.method("shop.leave", lambda: shop.shut_down(PATIENCE))
                others = [self.call(n, "echo", [n]) for n in range(1, 64)]
                connection.transport.send([self.call(0, "leave", []), *others])
                replies = [reply for _ in range(2) for reply in self.receive(connection)]
                self.assertEqual([reply["id"] for reply in replies], [*range(64)])
                self.assertEqual({reply.get("error") for reply in replies[32:]}, {Fault.SHUTTING_DOWN})

    def test_gathered_calls_are_sent_in_one_datagram(self) -> None:
        for kind in KINDS:
            left, right = socket.socketpair(socket.AF_UNIX, KINDS[kind])
            right.settimeout(PATIENCE)
            with jsoncomm.Connection(left, PATIENCE) as connection, Transport(right) as server:
                with connection.batch() as batch:
                    calls = [batch.call("shop.echo", [n]) for n in range(3)]
                    batch.notify("shop.note", ["a"])
                    self.assertFalse(select.select([right], [], [], 0)[0])
                array = getattr(server.receive(), "value")
                self.assertEqual([one.get("params") for one in array], [[0], [1], [2], ["a"]])
                self.assertEqual([one.get("id") for one in array], [*(call.identity for call in calls), None])
                self.assertTrue(all(0 < one["timeout"] <= PATIENCE * 1000 for one in array[:3]))
                result = [{"jsonrpc": "2.0", "id": one["id"], "result": one["params"]} for one in array[:3]]
                server.send(result[::-1])
                self.assertEqual([call.wait().value for call in calls], [[0], [1], [2]])
                self.assertRaises(ValueError, calls[0].wait)

    def test_gathered_calls_are_sent_before_a_plain_call_and_when_there_are_64(self) -> None:
        for kind in KINDS:
            with Shop(self.path, kind), connect(self.path, timeout=PATIENCE) as connection:
                batch = connection.batch()
                one = batch.call("shop.echo", [1])
                self.assertEqual(connection.call("shop.echo", [2]).value, 2)
                self.assertEqual(connection._gathered, [])
                many = [batch.call("shop.echo", [n]) for n in range(100)]
                self.assertEqual(len(connection._gathered), 100 - 64)
                large = [batch.call("shop.echo", ["x" * 100_000]) for n in range(5)]
                self.assertEqual([call.wait().value for call in many], [*range(100)])
                self.assertEqual({len(call.wait().value) for call in large}, {100_000})
                self.assertEqual(one.wait().value, 1)
                self.assertEqual((connection._gathered, connection._batched), ([], {}))

    def test_a_call_of_a_batch_fails_by_itself(self) -> None:
        for kind in KINDS:
            with Shop(self.path, kind) as shop, connect(self.path, timeout=PATIENCE) as connection:
                shop.method("shop.open", lambda: {"file": Fd(os.open("/dev/null", os.O_RDONLY))})
                with connection.batch() as batch:
                    good, bad, late = (batch.call("shop.echo", params) for params in ([1], {"other": 1}, [2]))
                    opened, expired = batch.call("shop.open"), batch.call("shop.echo", [1], timeout=0.0)
                with self.assertRaises(Fault) as raised:
                    bad.wait()
                self.assertEqual((raised.exception.code, raised.exception.field), (Fault.INVALID_PARAMS, "other"))
                self.assertRaises(jsoncomm.NotSent, expired.wait)
                with opened.wait() as reply:
                    os.fstat(reply.fd("file").fileno())
                self.assertEqual((late.wait().value, good.wait().value), (2, 1))
                with self.assertRaises(ValueError), Fd(os.open("/dev/null", os.O_RDONLY)) as null:
                    batch.call("shop.echo", [null])

    def test_a_dropped_call_is_not_sent_or_is_cancelled(self) -> None:
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        right.settimeout(PATIENCE)
        with jsoncomm.Connection(left, PATIENCE) as connection, Transport(right) as server:
            with contextlib.suppress(KeyError), connection.batch() as batch:
                dropped = batch.call("shop.echo", [1])
                raise KeyError
            self.assertRaises(jsoncomm.NotSent, dropped.wait)
            with connection.batch() as batch:
                batch.call("shop.echo", [2]).close()
                kept = batch.call("shop.echo", [3])
            self.assertEqual(getattr(server.receive(), "value")["params"], [3])
            kept.close()
            cancel = getattr(server.receive(), "value")
            self.assertEqual((cancel["method"], cancel["params"]), ("rpc.cancel", {"id": kept.identity}))
            self.assertEqual(connection._batched, {})

    def test_a_fault_without_an_id_refuses_the_whole_batch(self) -> None:
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        right.settimeout(PATIENCE)
        with jsoncomm.Connection(left, PATIENCE) as connection, Transport(right) as server:
            with connection.batch() as batch:
                calls = [batch.call("shop.echo", [n]) for n in range(3)]
            error = {"code": Fault.INVALID_REQUEST, "message": "no batches"}
            server.send({"jsonrpc": "2.0", "id": None, "error": error})
            for call in calls:
                with self.assertRaises(Fault) as raised:
                    call.wait()
                self.assertEqual(raised.exception.code, Fault.INVALID_REQUEST)
            self.assertEqual(connection._batched, {})

    def test_an_array_of_replies_is_accepted_at_any_time(self) -> None:
        for kind in KINDS:
            left, right = socket.socketpair(socket.AF_UNIX, KINDS[kind])
            right.settimeout(PATIENCE)
            with jsoncomm.Connection(left, PATIENCE) as connection, Transport(right) as server:
                items = connection.stream("shop.count")
                stream = getattr(server.receive(), "value")["id"]

                def serve(server: Transport, stream: int) -> None:
                    call: Any = getattr(server.receive(), "value")
                    good = {"jsonrpc": "2.0"}
                    replies = [{**good, "id": stream, "result": n, "more": True} for n in range(2)]
                    with Fd(os.open("/dev/null", os.O_RDONLY)) as null:
                        ours, other = ({**good, "id": one, "result": 7} for one in (call["id"], 1))
                        server.send_text(json.dumps([5, {"id": 1}, *replies, ours, other]).encode(), [null])
                    server.send([{**good, "id": stream, "result": None}])

                thread = threading.Thread(target=serve, args=(server, stream))
                thread.start()
                self.assertEqual(connection.call("shop.echo").value, 7)
                self.assertEqual([item.value for item in items], [0, 1])
                thread.join(PATIENCE)

    def test_calls_of_a_batch_end_when_the_server_does(self) -> None:
        for kind in KINDS:
            left, right = socket.socketpair(socket.AF_UNIX, KINDS[kind])
            with jsoncomm.Connection(left, PATIENCE) as connection:
                with connection.batch() as batch:
                    calls = [batch.call("shop.echo", [n]) for n in range(2)]
                right.close()
                for call in calls:
                    self.assertRaises(Closed, call.wait)
                with self.assertRaises(Closed), connection.batch() as batch:
                    batch.call("shop.echo", [3])


class Clients(Case):
    def test_the_kind_is_detected_or_set(self) -> None:
        for kind in KINDS:
            with Shop(self.path, kind):
                with connect(self.path) as connection:
                    self.assertEqual(connection.call("shop.echo", {"value": kind}).value, kind)
                for insisted in KINDS:
                    if insisted != kind:
                        with self.assertRaises(OSError) as raised:
                            connect(self.path, insisted)
                        self.assertEqual(raised.exception.errno, errno.EPROTOTYPE)
            self.assertRaises(FileNotFoundError, connect, self.path)

    def test_connecting_to_a_full_backlog_ends_at_the_deadline(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
            server.bind(self.path)
            server.listen(0)
            with connect(self.path):
                self.assertRaises(jsoncomm.NotSent, connect, self.path, timeout=0.02)
                server.accept()[0].close()
                connect(self.path, timeout=PATIENCE).close()

    def test_a_client_has_its_own_message_limit(self) -> None:
        with Shop(self.path, "seqpacket"), connect(self.path, limit=1000) as connection:
            call = {"value": "x" * 1000}
            self.assertRaises(ValueError, connection.call, "shop.echo", call)
            with connect(self.path, limit=2000) as other:
                self.assertEqual(other.call("shop.echo", call).value, call["value"])

    def test_a_call_is_cancelled_at_its_deadline_and_the_connection_stays_usable(self) -> None:
        for kind in KINDS:
            left, right = socket.socketpair(socket.AF_UNIX, KINDS[kind])
            right.settimeout(PATIENCE)
            with jsoncomm.Connection(left) as connection, Transport(right) as server:
                self.assertRaises(Deadline, connection.call, "any", timeout=0.02)
                call, cancel = (getattr(server.receive(), "value") for _ in range(2))
                self.assertTrue(0 < call["timeout"] <= 20)
                self.assertEqual((cancel["method"], cancel["params"]), ("rpc.cancel", {"id": call["id"]}))
                server.send({"jsonrpc": "2.0", "id": call["id"], "result": "late"})
                server.send({"jsonrpc": "2.0", "id": call["id"] + 1, "result": "in time"})
                self.assertEqual(connection.call("any").value, "in time")

    def test_a_call_ends_when_its_server_does(self) -> None:
        for kind in KINDS:
            with socket.socket(socket.AF_UNIX, KINDS[kind]) as server:
                server.bind(self.path)
                if kind == "seqpacket":
                    server.listen()
                with connect(self.path) as connection:

                    def die() -> None:
                        if kind == "seqpacket":
                            accepted = server.accept()[0]
                            accepted.recv(4096)
                            accepted.close()
                        else:
                            server.recv(4096)
                        server.close()

                    death = threading.Thread(target=die)
                    death.start()
                    self.assertRaises(Closed, connection.call, "any")
                    death.join(PATIENCE)
                    self.assertRaises(Closed, connection.call, "any")
            os.unlink(self.path)

    def test_an_unread_stream_uses_bounded_memory(self) -> None:
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        right.settimeout(PATIENCE)

        def serve(transport: Transport) -> None:
            call: Any = getattr(transport.receive(), "value")
            for number in range(jsoncomm.KEPT_ITEMS + 10):
                transport.send({"jsonrpc": "2.0", "id": call["id"], "result": number, "more": True})
            while getattr(transport.receive(), "value").get("id") != call["id"] + 1:
                pass
            transport.send({"jsonrpc": "2.0", "id": call["id"] + 1, "result": None})

        with jsoncomm.Connection(left, PATIENCE) as connection, Transport(right) as transport:
            server = threading.Thread(target=serve, args=(transport,))
            server.start()
            items = connection.stream("any")
            connection.call("any")
            got = [next(items).value for _ in range(jsoncomm.KEPT_ITEMS)]
            self.assertEqual(got, [*range(jsoncomm.KEPT_ITEMS)])
            with self.assertRaises(Fault) as raised:
                next(items)
            self.assertEqual(raised.exception.code, Fault.BUSY)
            self.assertEqual(list(items), [])
            server.join(PATIENCE)


    def test_a_living_datagram_server_is_not_taken_for_dead(self) -> None:
        here = os.getcwd()
        os.chdir(os.path.dirname(self.path))
        try:
            for asked in (True, False):  # with the kernel's word on it, and without
                looks = itertools.count()
                enough = threading.Event()
                ask = jsoncomm._has_peer

                def look(sock: socket.socket) -> Optional[bool]:
                    if next(looks) == 3:
                        enough.set()
                    return ask(sock) if asked else None

                with unittest.mock.patch.multiple(jsoncomm, LIVENESS_INTERVAL=0.005, _has_peer=look):
                    with Shop("socket", "dgram") as shop, connect("socket", timeout=PATIENCE) as connection:
                        shop.method("shop.wait", lambda: enough.wait(PATIENCE))
                        os.chdir("/")
                        os.rename(self.path, f"{self.path}-moved")
                        self.assertTrue(connection.call("shop.wait").value)
                os.chdir(os.path.dirname(self.path))
                os.unlink(f"{self.path}-moved")
        finally:
            os.chdir(here)

    def test_messages_of_other_senders_do_not_hide_a_dead_datagram_server(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
            server.bind(self.path)
            with connect(self.path, timeout=PATIENCE) as connection:
                items = connection.stream("any")
                server.close()
                connection._cancel(0)  # the kernel lets strangers send after that
                over = threading.Event()

                def flood() -> None:
                    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
                        stranger.settimeout(0.01)
                        while not over.is_set():
                            with contextlib.suppress(OSError):
                                name = connection.transport.sock.getsockname()
                                stranger.sendto(b'{"jsonrpc":"2.0","id":0,"result":0}', name)

                stranger = threading.Thread(target=flood)
                stranger.start()
                self.assertRaises(Closed, next, items)
                over.set()
                stranger.join(PATIENCE)

    def test_replies_sent_before_the_server_died_are_received(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
            server.bind(self.path)
            server.settimeout(PATIENCE)
            with connect(self.path, timeout=PATIENCE) as connection:
                items = connection.stream("any")
                text, name = server.recvfrom(4096)
                reply = {"jsonrpc": "2.0", "id": json.loads(text)["id"], "result": 1, "more": True}
                server.sendto(json.dumps(reply).encode(), name)
                server.close()
                self.assertRaises(Closed, connection.call, "any")
                self.assertEqual(next(items).value, 1)
                self.assertRaises(Closed, next, items)

    def test_a_call_that_could_not_be_sent_fails_with_not_sent(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
            server.bind(self.path)
            with connect(self.path) as connection:
                with self.assertRaises(Deadline) as raised:
                    for _ in range(10_000):
                        connection.call("any", timeout=0)
                self.assertNotIsInstance(raised.exception, jsoncomm.NotSent, "it was sent")
                connection.timeout = 0.01
                with self.assertRaises(jsoncomm.NotSent):
                    for _ in range(10_000):
                        connection.notify("any")

    def test_a_call_waits_until_descriptors_in_flight_or_memory_are_there_again(self) -> None:
        for kind, error in itertools.product(KINDS, (errno.ETOOMANYREFS, errno.ENOMEM, errno.EMFILE)):
            for times, ends in ((3, True), (1 << 30, False)):
                with Shop(self.path, kind), connect(self.path, timeout=PATIENCE if ends else 0.05) as connection:
                    calls = itertools.count(1)
                    really = Transport._sendmsg

                    def fail(transport: Transport, *arguments: Any) -> Any:
                        if transport is connection.transport and next(calls) <= times:
                            raise OSError(error, os.strerror(error))
                        return really(transport, *arguments)

                    with unittest.mock.patch.object(Transport, "_sendmsg", fail):
                        if ends:
                            self.assertEqual(connection.call("shop.echo", [1]).value, 1)
                        else:
                            self.assertRaises(jsoncomm.NotSent, connection.call, "shop.echo", [1])
                            self.assertGreater(next(calls), 3, "it was tried again")

    def test_a_client_under_backpressure_receives_meanwhile(self) -> None:
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        right.settimeout(PATIENCE)
        count, weight = 100, "x" * 10_000  # more than fits into either socket

        def serve(transport: Transport) -> None:
            identity = getattr(transport.receive(), "value")["id"]
            for _ in range(count):
                transport.send({"jsonrpc": "2.0", "id": identity, "result": weight, "more": True})
            for _ in range(count):
                transport.receive()
            transport.send({"jsonrpc": "2.0", "id": identity, "result": None})

        with jsoncomm.Connection(left, PATIENCE, limit=4 << 20) as connection, Transport(right) as transport:
            server = threading.Thread(target=serve, args=(transport,))
            server.start()
            items = connection.stream("any")
            for _ in range(count):
                connection.notify("any", [weight])
            self.assertEqual(len(list(items)), count)
            server.join(PATIENCE)

    def test_queued_items_are_limited_in_bytes_and_descriptors(self) -> None:
        for fds, weight, kept in ((100, 1, 1), (64, 1, 2), (1, 4000, 2), (0, 12_000, 1), (0, 1, 5)):
            left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with jsoncomm.Connection(left, PATIENCE, limit=13_000) as connection, Transport(right) as transport:
                if weight == 4000:
                    connection.transport.limit = 8500
                items = connection.stream("any")
                identity = getattr(transport.receive(), "value")["id"]
                with open("/dev/null", "rb") as null:
                    for _ in range(5):
                        result: Any = [[null] * fds, "x" * weight]
                        transport.send({"jsonrpc": "2.0", "id": identity, "result": result, "more": True})
                transport.send({"jsonrpc": "2.0", "id": identity + 1, "result": 0})
                connection.call("any")
                for _ in range(kept):
                    next(items).close()
                if kept < 5:
                    with self.assertRaises(Fault) as raised:
                        next(items)
                    self.assertEqual(raised.exception.code, Fault.BUSY)

    def test_an_unreadable_item_ends_the_stream_and_cancels_it(self) -> None:
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        right.settimeout(PATIENCE)
        with jsoncomm.Connection(left, PATIENCE) as connection, Transport(right) as transport:
            items = connection.stream("any")
            identity = getattr(transport.receive(), "value")["id"]
            transport.send_text(f'{{"jsonrpc":"2.0","id":{identity},"result":NaN,"more":true}}'.encode())
            self.assertRaises(BadMessage, next, items)
            cancel = getattr(transport.receive(), "value")
            self.assertEqual((cancel["method"], cancel["params"]), ("rpc.cancel", {"id": identity}))
            self.assertEqual(list(items), [])

    def test_a_fault_for_a_notification_does_not_end_a_call(self) -> None:
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        right.settimeout(PATIENCE)
        with jsoncomm.Connection(left, PATIENCE) as connection, Transport(right) as transport:
            connection.notify("any")
            transport.send({"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "too long"}})
            transport.send({"jsonrpc": "2.0", "id": connection._last + 1, "result": 5})
            self.assertEqual(connection.call("any").value, 5)

    def test_a_timeout_may_have_any_length(self) -> None:
        with Shop(self.path, "seqpacket"), connect(self.path) as connection:
            for timeout in (1e9, 1e300, float("inf")):
                self.assertEqual(connection.call("shop.echo", {"value": 1}, timeout).value, 1)


class Addresses(Case):
    def test_a_mode_does_not_depend_on_the_umask(self) -> None:
        for kind in KINDS:
            for umask in (0o777, 0o077, 0):
                for mode in (0o666, 0o600, 0o060, 0):
                    before = os.umask(umask)
                    try:
                        with Server() as server:
                            server.bind(self.path, kind, mode)
                            self.assertEqual(os.stat(self.path).st_mode & 0o777, mode)
                    finally:
                        os.umask(before)
        with Server() as server:
            for mode in (0o1000, -1):
                self.assertRaises(ValueError, server.bind, self.path, kind, mode)
            self.assertRaises(ValueError, server.bind, "\0name", kind, 0o600)

    def test_a_bound_socket_that_does_not_listen_yet_is_never_replaced(self) -> None:
        for kind in (*KINDS.values(), socket.SOCK_STREAM):
            with socket.socket(socket.AF_UNIX, kind) as first:
                first.bind(self.path)
                inode = os.stat(self.path).st_ino
                for other in KINDS:
                    with Server() as second, self.assertRaises(OSError) as raised:
                        second.bind(self.path, other)
                    self.assertEqual(raised.exception.errno, errno.EADDRINUSE)
                self.assertEqual(os.stat(self.path).st_ino, inode)
            os.unlink(self.path)

    def test_of_four_servers_that_replace_a_dead_socket_exactly_one_succeeds(self) -> None:
        for round in range(25):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
                dead.bind(self.path)
            barrier = threading.Barrier(4)
            servers = [Server() for _ in range(4)]
            bound: list[Server] = []

            def start(server: Server) -> None:
                barrier.wait(PATIENCE)
                with contextlib.suppress(OSError):
                    server.bind(self.path, [*KINDS][round % 2])
                    bound.append(server)

            threads = [threading.Thread(target=start, args=(server,)) for server in servers]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
            self.assertEqual(len(bound), 1)
            for server in servers:
                server.close()
            self.assertFalse(os.path.exists(self.path))

    def test_binding_fails_while_the_directory_is_locked(self) -> None:
        with Fd(os.open(os.path.dirname(self.path), os.O_RDONLY)) as folder, Server() as server:
            fcntl.flock(folder.fileno(), fcntl.LOCK_EX)
            with unittest.mock.patch.object(jsoncomm, "LOCK_TIMEOUT", 0.01):
                self.assertRaises(OSError, server.bind, self.path, "dgram")
            fcntl.flock(folder.fileno(), fcntl.LOCK_UN)
            server.bind(self.path, "dgram")

    def test_a_dead_socket_of_another_user_stays(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
            dead.bind(self.path)
        with unittest.mock.patch("os.geteuid", return_value=os.geteuid() + 1):
            with Server() as server:
                self.assertRaises(OSError, server.bind, self.path, "dgram")
        self.assertTrue(os.path.exists(self.path))

    def test_paths_may_be_longer_than_sun_path(self) -> None:
        deep = os.path.join(os.path.dirname(self.path), *("x" * 60 for _ in range(4)))
        os.makedirs(deep)
        for kind in KINDS:
            for path in (f"{deep}/socket", os.fsencode(f"{deep}/socket"), Path(deep, "socket")):
                with Shop(path, kind), connect(path) as connection:
                    self.assertEqual(connection.call("shop.echo", {"value": 1}).value, 1)
                self.assertEqual(os.listdir(deep), [])

    def test_the_file_is_removed_after_chdir(self) -> None:
        here = os.getcwd()
        for kind in KINDS:
            try:
                os.chdir(os.path.dirname(self.path))
                with Server() as server:
                    server.bind("socket", kind)
                    os.chdir("/")
                self.assertFalse(os.path.exists(self.path))
            finally:
                os.chdir(here)

    def test_an_invalid_address_is_refused(self) -> None:
        with Server() as server:
            for address in ("", b"", "a\0b", "/", ".", "a/", ".."):
                self.assertRaises((ValueError, OSError), server.bind, address, "dgram")
                self.assertRaises((ValueError, OSError), connect, address)

    def test_an_abstract_address_works_for_both_kinds_and_blocks_every_socket_type(self) -> None:
        for encode in (str, os.fsencode):
            for kind in KINDS:
                name = f"\0jsoncomm-test-{os.getpid()}"
                with Shop(encode(name), kind):
                    for type in (*KINDS.values(), socket.SOCK_STREAM):
                        with socket.socket(socket.AF_UNIX, type) as stranger:
                            self.assertRaises(OSError, stranger.bind, name)
                    with connect(encode(name), timeout=PATIENCE) as connection:
                        self.assertEqual(connection.transport.connected, kind == "seqpacket")
                        self.assertEqual(connection.call("shop.echo", {"value": 1}).value, 1)
                self.assertRaises(ConnectionRefusedError, connect, name)


class Servers(Case):
    def test_a_signal_that_arrives_right_before_the_server_waits_stops_it(self) -> None:
        with Server() as server:
            before = signal.signal(signal.SIGTERM, lambda *_: server.stop())
            self.addCleanup(signal.signal, signal.SIGTERM, before)
            epoll: Any = vars(server._selector)["_selector"]
            poll = functools.partial(epoll.poll, 5)
            send = functools.partial(ctypes.CDLL(None)["raise"], signal.SIGTERM)
            ready: list[Any] = []

            def select(_: Optional[float]) -> list[Any]:
                # Nothing of Python runs in between.
                ready.extend(map(operator.methodcaller("__call__"), [send, poll]))
                return []

            with unittest.mock.patch.object(server._selector, "select", select):
                server.run()
            self.assertEqual(len(ready[1]), 1, "the wait has been ended")
            self.assertEqual(signal.set_wakeup_fd(-1), -1)

    def test_a_stream_ends_when_its_reader_disconnects(self) -> None:
        for kind in KINDS:
            with Shop(self.path, kind) as shop, connect(self.path, timeout=PATIENCE) as connection:
                with connection.stream("shop.flood", {"weight": 1000}) as items:
                    self.assertEqual([next(items).value[0] for _ in range(100)], [*range(100)])
                self.assertEqual(connection.call("shop.echo", {"value": 1}).value, 1)
                self.assertTrue(shop.ended.wait(PATIENCE))

    def test_a_stream_is_cancelled_by_name_or_by_position(self) -> None:
        for kind in KINDS:
            with Shop(self.path, kind), connect(self.path) as connection:
                transport = connection.transport
                transport.sock.settimeout(PATIENCE)
                params: Any
                for params in ({"id": 1}, [1]):
                    transport.send({"jsonrpc": "2.0", "id": 1, "method": "shop.flood", "params": [1]})
                    transport.send({"jsonrpc": "2.0", "method": "rpc.cancel", "params": params})
                    reply: Any = {}
                    while "error" not in reply:  # the items come before it
                        reply = getattr(transport.receive(), "value")
                    self.assertEqual(reply["error"]["code"], Fault.CANCELLED)

    def test_a_slow_or_dead_reader_does_not_delay_others(self) -> None:
        with Shop(self.path, "seqpacket") as shop, connect(self.path, timeout=PATIENCE) as polite:
            with connect(self.path) as slow:
                slow.stream("shop.flood", {"weight": 50_000})
                for number in range(200):
                    self.assertEqual(polite.call("shop.echo", {"value": number}).value, number)
            self.assertTrue(shop.ended.wait(PATIENCE))

    def test_replies_to_a_datagram_client_that_never_reads_are_dropped(self) -> None:
        with Shop(self.path, "dgram") as shop, connect(self.path) as slow:
            slow.stream("shop.flood", {"weight": 1000})
            self.assertTrue(shop.ended.wait(PATIENCE))

    def test_arguments_stay_open_as_long_as_their_stream(self) -> None:
        def parts(file: Fd) -> Generator[str, None, None]:
            for offset in range(3):
                yield os.pread(file.fileno(), 1, offset).decode()

        with Shop(self.path, "seqpacket") as shop, connect(self.path) as connection:
            shop.method("shop.parts", parts)
            with tempfile.TemporaryFile() as file:
                file.write(b"abc")
                file.flush()
                with connection.stream("shop.parts", {"file": file}) as items:
                    self.assertEqual([item.value for item in items], ["a", "b", "c"])

    def test_an_exception_in_a_handler_fails_only_its_own_call(self) -> None:
        def broken(how: str) -> Any:
            if how == "json":
                return {1j}
            if how == "error":
                raise jsoncomm.ServiceError(1, "m", object())
            if how == "circle":
                circle: list[Any] = []
                circle.append(circle)
                return circle
            if how == "closed":
                with tempfile.TemporaryFile() as file:
                    return file
            raise {"stop": StopIteration, "value": ValueError}[how]

        def broken_items() -> Generator[Any, None, None]:
            try:
                yield 1
                yield object()
            finally:
                raise ValueError

        with Shop(self.path, "seqpacket") as shop, connect(self.path, timeout=PATIENCE) as connection:
            shop.method("shop.broken", broken)
            shop.method("shop.items", broken_items)
            for how in ("json", "error", "circle", "closed", "stop", "value"):
                with self.assertRaises(Fault) as raised:
                    connection.call("shop.broken", {"how": how})
                self.assertEqual(raised.exception.code, Fault.INTERNAL_ERROR)
            with connection.stream("shop.items") as items, self.assertRaises(Fault):
                self.assertEqual(next(items).value, 1)
                next(items)
            with connection.stream("shop.items") as items:
                self.assertEqual(next(items).value, 1)
            self.assertEqual(connection.call("shop.echo", {"value": 1}).value, 1)

    def test_a_number_of_any_size_fails_at_most_its_own_call(self) -> None:
        def half(number: float) -> float:
            return number / 2

        huge = "9" * 400  # beyond float
        for kind in KINDS:
            with Shop(self.path, kind) as shop, connect(self.path, timeout=PATIENCE) as connection:
                shop.method("shop.half", half)
                connection.transport.sock.settimeout(PATIENCE)
                for method, params, timeout, expected in (
                    ("shop.echo", "[5]", huge, 5),
                    ("shop.half", f'{{"number":{huge}}}', "0", Fault.INVALID_PARAMS),
                    ("shop.half", f'{{"number":-{huge}}}', huge, Fault.INVALID_PARAMS),
                    ("shop.echo", f"[{huge}]", "9" * 1000, int(huge)),
                ):
                    call = f'{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params},"timeout":{timeout}}}'
                    connection.transport.send_text(call.encode())
                    reply = getattr(connection.transport.receive(), "value")
                    self.assertEqual(reply.get("result", reply.get("error", {}).get("code")), expected)

    def test_invalid_text_is_refused_and_not_in_the_error(self) -> None:
        half = r'"\ud800"'
        for kind in KINDS:
            with Shop(self.path, kind), connect(self.path, timeout=PATIENCE) as connection:
                connection.transport.sock.settimeout(PATIENCE)
                for members, code, field in (
                    (f'"params":{{{half}:1}}', Fault.INVALID_PARAMS, None),
                    (f'"params":{{"value":1,{half}:1,{half}:2}}', Fault.INVALID_PARAMS, None),
                    (f'"params":{{"value":1,"value":2,{half}:2}}', Fault.INVALID_PARAMS, None),
                    (f'"params":{{"value":[{{{half}:1,{half}:2}}]}}', Fault.INVALID_PARAMS, "value"),
                    (f'"params":[1],{half}:1,{half}:2', Fault.INVALID_REQUEST, None),
                ):
                    call = f'{{"jsonrpc":"2.0","id":1,"method":"shop.echo",{members}}}'
                    connection.transport.send_text(call.encode())
                    error = getattr(connection.transport.receive(), "value")["error"]
                    self.assertEqual((error["code"], error.get("data")), (code, field and {"field": field}))

    def test_an_error_in_the_server_closes_one_connection_only(self) -> None:
        with Shop(self.path, "seqpacket") as shop, connect(self.path, timeout=PATIENCE) as other:
            for broken in ("_open", "_send_items"):
                with connect(self.path, timeout=PATIENCE) as connection:
                    with unittest.mock.patch.object(shop, broken, side_effect=RuntimeError):
                        with self.assertRaises(Closed), connection.stream("shop.flood", {"weight": 1}) as items:
                            next(items)
                    self.assertRaises(Closed, connection.call, "shop.echo", {"value": 1})
                self.assertEqual(other.call("shop.echo", {"value": 1}).value, 1)

    def test_bare_arguments_of_the_wrong_type_are_dropped(self) -> None:
        with Shop(self.path, "seqpacket") as shop, connect(self.path, timeout=PATIENCE) as connection:
            shop.bare(lambda value: ("shop.echo", value))
            connection.transport.sock.settimeout(PATIENCE)
            for value in (5, None, "text"):
                connection.transport.send(value)
            connection.transport.send({"value": 5})
            self.assertEqual(getattr(connection.transport.receive(), "value"), 5)

    def test_the_number_of_streams_of_a_peer_is_limited(self) -> None:
        for kind in KINDS:
            with Shop(self.path, kind) as shop, connect(self.path) as connection:
                transport = connection.transport
                transport.sock.settimeout(PATIENCE)
                reply: Any = {}
                shop.STREAMS = 3
                for identity in range(shop.STREAMS + 1):
                    transport.send({"jsonrpc": "2.0", "id": identity, "method": "shop.flood", "params": [1]})
                    while reply.get("id") != identity:  # the items of the others come meanwhile
                        reply = getattr(transport.receive(), "value")
                self.assertEqual(reply["error"]["code"], Fault.BUSY)

    def test_every_malformed_text_is_refused_quickly(self) -> None:
        keys = ",".join(f'"{number}":0' for number in range(60_000))
        texts = ["{" + keys + ',"59999":1}', '["' + '\\"' * 400_000 + "[" * 65, '{"x":' + "[" * 500_000, "9" * 999_000]
        with Shop(self.path, "seqpacket"), connect(self.path, timeout=PATIENCE) as connection:
            connection.transport.sock.settimeout(PATIENCE)
            for text in texts:
                for params in (text, f'{{"jsonrpc":"2.0","id":1,"method":"shop.echo","params":{text}}}'):
                    connection.transport.send_text(params.encode())
                    self.assertIn("error", getattr(connection.transport.receive(), "value"))

    def test_a_dead_server_is_replaced_and_a_live_one_or_a_file_is_not(self) -> None:
        for kind in KINDS:
            with socket.socket(socket.AF_UNIX, KINDS[kind]) as dead:
                dead.bind(self.path)
            with Server() as server:
                server.bind(self.path, kind, mode=0o600)
                self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)
                for other in KINDS:
                    with Server() as second:
                        self.assertRaises(OSError, second.bind, self.path, other)
                os.rename(self.path, f"{self.path}-moved")
                Path(self.path).touch()
            self.assertTrue(os.path.exists(self.path), "the file is not the one that was bound")
            with Server() as server:
                self.assertRaises(OSError, server.bind, self.path, kind)
            os.unlink(self.path)

    def test_a_server_accepts_again_when_descriptors_are_free(self) -> None:
        with Server() as server:
            server.method("echo", lambda value: value)
            server.bind(self.path, "seqpacket")
            with connect(self.path, timeout=PATIENCE) as connection:
                with at_most(0):
                    server.run_once(PATIENCE)
                connection._send({"jsonrpc": "2.0", "id": 1, "method": "echo", "params": [5]}, float("inf"))
                for _ in range(5):
                    server.run_once(server.PAUSE)
                self.assertEqual(getattr(connection.transport.receive(), "value")["result"], 5)

    def test_a_socket_from_socketpair_can_be_adopted(self) -> None:
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with Server() as server, jsoncomm.Connection(left, PATIENCE) as connection:
            server.method("twice", lambda value: 2 * value)
            server.adopt(right)
            loop = threading.Thread(target=server.run)
            loop.start()
            self.assertEqual(connection.call("twice", {"value": 2}).value, 4)
            server.stop()
            loop.join(PATIENCE)

    def test_two_servers_cannot_be_made_to_talk_to_each_other(self) -> None:
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with Server() as one, Server() as other:
            one.adopt(left)
            other.adopt(right)
            left.send(b"nope")  # refused by the other, with an error that gets no reply
            for _ in range(3):
                one.run_once(0.01)
                other.run_once(0.01)
            self.assertRaises(BlockingIOError, left.recv, 4096)
            self.assertRaises(BlockingIOError, right.recv, 4096)


class Endpoints(Case):
    """Connections in messages."""

    @contextlib.contextmanager
    def hub(self, kind: str = "seqpacket", **options: Any) -> Iterator[tuple[Shop, jsoncomm.Connection, list[Any]]]:
        """A server that keeps the connections that it gets, a client, and what it keeps."""
        kept: list[jsoncomm.Connection] = []

        def keep(to: jsoncomm.Connection, refused: bool = False) -> int:
            kept.append(to)
            return len(kept)

        def last() -> Any:
            return {"to": kept.pop()}

        def note(text: str) -> int:
            for one in kept:
                one.notify("note", {"text": text})
            return len(kept)

        with Shop(f"{self.path}-shop", "seqpacket") as shop:
            for function in (keep, last, note):
                shop.method(f"hub.{function.__name__}", function)
            shop.bind(self.path, kind, **options)
            shop._wake()
            with connect(self.path, timeout=PATIENCE) as connection:
                yield shop, connection, kept
            for one in kept:
                one.close()

    def pair(self) -> tuple[Transport, jsoncomm.Connection]:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        near.settimeout(PATIENCE)
        return Transport(near), jsoncomm.Connection(far, PATIENCE)

    def refusal(self, connection: jsoncomm.Connection, thing: Any, **more: Any) -> str:
        with self.assertRaises(Fault) as raised:
            connection.call("hub.keep", {"to": thing, **more})
        self.assertEqual(raised.exception.field, "to")
        self.assertEqual(raised.exception.code, Fault.INVALID_DESCRIPTORS)
        return str(raised.exception)

    def test_a_connection_is_an_argument_and_a_result(self) -> None:
        for kind in KINDS:
            with self.hub(kind) as (_, connection, kept):
                near, events = self.pair()
                with near, events:
                    self.assertEqual(connection.call("hub.keep", {"to": events}).value, 1)
                    events.close()
                    connection.call("hub.note", {"text": "hello"})
                    message = near.receive()
                    assert message is not None
                    self.assertEqual(message.value["params"], {"text": "hello"})
                    if kind == "dgram":  # who serves is not known
                        with connection.call("hub.last") as reply:
                            self.assertRaisesRegex(BadMessage, "sender's user", reply.connection, "to")
                        self.assertIsNone(near.receive(), "it was closed")
                        continue
                    with connection.call("hub.last") as reply, reply.connection("to") as back:
                        back.notify("note", {"text": "again"})
                    message = near.receive()
                    assert message is not None
                    self.assertEqual(message.value["params"], {"text": "again"})
                    self.assertIsNone(near.receive(), "nobody else has it")

    def test_only_a_connected_seqpacket_socket_is_taken(self) -> None:
        with self.hub(allow_foreign_endpoints=True) as (_, connection, _kept), contextlib.ExitStack() as stack:
            pairs = [socket.socketpair(socket.AF_UNIX, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)]
            wrong: list[Any] = [one for pair in pairs for one in pair]
            for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
                wrong.append(socket.socket(socket.AF_UNIX, kind))
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            listening.bind("")
            listening.listen()
            wrong += [listening, socket.create_server(("127.0.0.1", 0)), open("/dev/null"), *map(Fd, os.pipe())]
            for one in wrong:
                stack.enter_context(one)
                self.assertIn("not a connected unix seqpacket socket", self.refusal(connection, one))

    def test_a_connection_of_nobody_or_of_another_user_is_refused(self) -> None:
        own = Peer(os.geteuid(), os.getegid())
        for peer, allowed in ((None, False), (own, True), (Peer((own.uid or 0) + 1), False), (None, True)):
            left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            near, events = self.pair()
            kept = list[jsoncomm.Connection]()

            def keep(to: jsoncomm.Connection) -> None:
                kept.append(to)

            with Server() as server, jsoncomm.Connection(left, PATIENCE) as connection, near, events:
                server.method("keep", keep)
                server.adopt(right, peer=peer, allow_foreign_endpoints=allowed and peer is None)
                call = connection._begin("keep", {"to": events}, float("inf"), with_timeout=False)
                server.run_once(PATIENCE)
                reply = connection.reply_to(call)
                self.assertEqual("error" in reply.value, not allowed)
                for one in kept:
                    one.close()

    def test_a_connection_in_use_or_over_datagrams_is_not_sent(self) -> None:
        with self.hub() as (_, connection, kept):
            near, events = self.pair()
            with near, events:
                batch = events.batch()
                batch.notify("note")
                self.assertRaisesRegex(ValueError, "in flight", connection.call, "hub.keep", {"to": events})
                batch.flush()
                self.assertEqual(connection.call("hub.keep", {"to": events}).value, 1)
                with events.stream("never"):
                    self.assertRaisesRegex(ValueError, "in flight", connection.call, "hub.keep", {"to": events})
            left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            with left, jsoncomm.Connection(right) as datagrams:
                self.assertRaisesRegex(ValueError, "datagrams", connection.call, "hub.keep", {"to": datagrams})

    def test_connections_count_as_their_senders_until_they_are_closed(self) -> None:
        with self.hub() as (shop, connection, kept), contextlib.ExitStack() as stack:
            shop.USER_CONNECTIONS = 3
            pairs = [self.pair() for _ in range(3)]
            for near, events in pairs:
                stack.enter_context(near)
                stack.enter_context(events)
            for count, (_, events) in enumerate(pairs[:2]):
                self.assertEqual(connection.call("hub.keep", {"to": events}).value, count + 1)
            self.assertIn("exceeds the connections", self.refusal(connection, pairs[2][1]))
            kept.pop().close()
            # A call that is refused for another reason keeps nothing.
            with self.assertRaises(Fault):
                connection.call("hub.keep", {"to": pairs[2][1], "refused": 7})
            self.assertEqual(connection.call("hub.keep", {"to": pairs[2][1]}).value, 2)

    def test_a_sender_that_reads_along_delays_a_call_to_its_deadline(self) -> None:
        with self.hub() as (_, connection, _kept):
            near, events = self.pair()
            with near, events:
                connection.call("hub.keep", {"to": events})
                with connection.call("hub.last") as reply, reply.connection("to") as back:
                    for blocking in (True, False):
                        events.transport.sock.setblocking(blocking)
                        self.assertRaises(Deadline, back.call, "never", None, 0.05)


class Sessions(Case):
    @contextlib.contextmanager
    def hall(self) -> Iterator[tuple[Server, Callable[[str], jsoncomm.Connection]]]:
        """Yields a server with sessions on its own thread, and what opens one with that tag."""
        self.ended: list[int] = []
        self.sessions: dict[int, jsoncomm.Session] = {}
        with Server() as server:

            @server.method("lobby.open")
            def _(peer: Peer, tag: int) -> socket.socket:
                end, self.sessions[tag] = server.open_session("room", tag, peer, self.ended.append)
                return end

            @server.method("lobby.close")
            def _(tag: int) -> None:
                self.sessions[tag].close()

            @server.method("room.who")
            def _(session: jsoncomm.Session, peer: Peer) -> list[Optional[int]]:
                return [session.tag, peer.uid]

            @server.method("room.leave")
            def _(session: jsoncomm.Session) -> int:
                session.close()
                return session.tag

            server.bind(self.path, "seqpacket")
            loop = threading.Thread(target=server.run)
            loop.start()
            lobby = connect(self.path)

            def opened(tag: int) -> jsoncomm.Connection:
                with lobby.call("lobby.open", {"tag": tag}) as reply:
                    return reply.connection()

            try:
                with lobby:
                    self.lobby = lobby
                    yield server, opened
            finally:
                server.stop()
                loop.join(PATIENCE)

    def who(self, connection: jsoncomm.Connection) -> Any:
        with connection.call("room.who") as reply:
            return reply.value

    def until_ended(self, *tags: int) -> None:
        until = time.monotonic() + PATIENCE
        while sorted(self.ended) != sorted(tags):
            self.assertLess(time.monotonic(), until, self.ended)
            time.sleep(0.001)

    def test_calls_on_a_session_have_its_tag_and_the_caller_that_it_was_opened_for(self) -> None:
        with self.hall() as (_, opened), opened(7) as one, opened(8) as other:
            me = os.getuid()
            self.assertEqual([self.who(one), self.who(other), self.who(one)], [[7, me], [8, me], [7, me]])

    def test_a_session_serves_its_service_only_and_its_methods_only_on_sessions(self) -> None:
        with self.hall() as (_, opened), opened(1) as session:
            for connection, method in ((session, "lobby.close"), (self.lobby, "room.leave")):
                with self.assertRaises(Fault) as refused:
                    connection.call(method, {"tag": 1} if connection is session else None)
                self.assertEqual(refused.exception.code, Fault.METHOD_NOT_FOUND)
            self.assertEqual(self.ended, [])

    def test_the_program_is_told_once_when_a_session_has_ended(self) -> None:
        with self.hall() as (_, opened), opened(2) as other:
            opened(1).close()
            self.until_ended(1)
            self.assertTrue(self.sessions[1].closed)
            self.sessions[1].close()
            self.assertEqual(self.who(other)[0], 2)
        self.until_ended(1, 2)

    def test_closing_one_session_leaves_the_others(self) -> None:
        with self.hall() as (_, opened), opened(1) as one, opened(2) as two, opened(3) as three:
            self.lobby.call("lobby.close", {"tag": 2}).close()
            with self.assertRaises(Closed):
                self.who(two)
            self.until_ended(2)
            self.assertEqual([self.who(one)[0], self.who(three)[0]], [1, 3])
            # What comes after it on the same session is not handled.
            with one.batch() as batch:
                calls = [batch.call(method) for method in ("room.who", "room.leave", "room.who")]
            self.assertEqual([calls[0].wait().value[0], calls[1].wait().value], [1, 1])
            with self.assertRaises(Closed):
                calls[2].wait()
            self.until_ended(1, 2)

    def test_sessions_count_as_connections_of_their_user(self) -> None:
        with self.hall() as (server, opened), opened(1) as one:
            server.USER_CONNECTIONS = 3
            opened(2).close()
            self.until_ended(2)
            with opened(3):
                with self.assertRaises(Fault) as refused:
                    opened(4)
                self.assertEqual(refused.exception.code, Fault.BUSY)
            self.assertEqual(self.who(one)[0], 1)
            self.until_ended(2, 3)
            opened(5).close()
            self.until_ended(2, 3, 5)


class Peers(Case):
    def test_a_handler_gets_the_peer_of_the_call(self) -> None:
        def user(times: int, peer: Peer) -> Any:
            return [times, peer.uid, peer.gid, peer.pid, peer.groups is not None and peer.is_in_group(os.getegid())]

        for kind in KINDS:
            with Shop(self.path, kind) as shop, connect(self.path) as connection:
                shop.method("shop.user", user)
                expected = [3, os.geteuid(), os.getegid(), os.getpid(), kind == "seqpacket"]
                self.assertEqual(connection.call("shop.user", {"times": 3}).value, expected)
                self.assertEqual(connection.call("shop.user", [3]).value, expected)
                with self.assertRaises(Fault) as raised:
                    connection.call("shop.user", {"times": 3, "peer": 0})
                self.assertEqual((raised.exception.code, raised.exception.field), (Fault.INVALID_PARAMS, "peer"))

    def test_a_peer_that_is_not_authorized_gets_a_fault(self) -> None:
        def broken(peer: Peer) -> bool:
            raise RuntimeError

        rules: list[tuple[Rule, bool]] = [(lambda peer: peer.uid == os.geteuid(), True), (lambda _: False, False)]
        for rule, authorized in (*rules, (broken, False)):
            for kind in KINDS:
                with Shop(f"{self.path}-open", kind) as shop:
                    shop.bind(self.path, kind, authorize=rule)
                    shop._wake()
                    with connect(self.path, timeout=PATIENCE) as connection:
                        if authorized:
                            self.assertEqual(connection.call("shop.echo", {"value": 1}).value, 1)
                            continue
                        if kind == "dgram":
                            connection._begin("shop.echo", [1], time.monotonic() + PATIENCE, with_timeout=False)
                        connection.transport.sock.settimeout(PATIENCE)
                        reply = getattr(connection.transport.receive(), "value")
                        self.assertEqual(reply["error"]["code"], Fault.NOT_AUTHORIZED)
                        if kind == "seqpacket":
                            self.assertRaises(Closed, connection.call, "shop.echo", [1])
                    with connect(f"{self.path}-open") as connection:
                        self.assertEqual(connection.call("shop.echo", {"value": 1}).value, 1)

    def test_a_rule_for_a_method_refuses_before_arguments_and_descriptors_are_looked_at(self) -> None:
        def broken(peer: Peer) -> bool:
            raise RuntimeError

        rules: list[tuple[Rule, bool]] = [(lambda peer: peer.uid == os.geteuid(), True), (lambda _: False, False)]
        for kind in KINDS:
            with Shop(f"{self.path}-{kind}", kind) as shop:
                for number, (rule, _) in enumerate((*rules, (broken, False))):
                    shop.method(f"shop.ruled{number}", lambda value: value, authorize=rule)
                with connect(f"{self.path}-{kind}", timeout=PATIENCE) as connection, open("/dev/null") as null:
                    for number, (_, authorized) in enumerate((*rules, (broken, False))):
                        name = f"shop.ruled{number}"
                        wrong = Fault.INVALID_PARAMS if authorized else Fault.NOT_AUTHORIZED
                        for params in ({"other": 1}, {"value": 1, "file": null}):
                            with self.assertRaises(Fault) as raised:
                                connection.call(name, params)
                            self.assertEqual(raised.exception.code, wrong, name)
                        with connection.batch() as batch:
                            call = batch.call(name, [5])
                        if authorized:
                            self.assertEqual(connection.call(name, [5]).value, 5)
                            self.assertEqual(call.wait().value, 5)
                        else:
                            self.assertRaises(Fault, call.wait)
                        connection.notify(name, [5])
                    self.assertEqual(connection.call("shop.echo", {"value": 1}).value, 1)
                    ruled = [one["name"] for one in shop.describe()["methods"] if one.get("x-restricted")]
                    self.assertEqual(ruled, ["shop.ruled0", "shop.ruled1", "shop.ruled2"])

    def test_an_unmapped_user_id_is_unknown(self) -> None:
        for text, known in (("0 0 4294967295\n", 65534), ("0 1000 1\n", None), ("", None)):
            with unittest.mock.patch("builtins.open", unittest.mock.mock_open(read_data=text)):
                self.assertEqual(Peer.of((7, 42, 65534)), (42, known, 7, None))
                self.assertEqual(Peer.of((7, 65534, 42)), (known, 42, 7, None))
                self.assertEqual(Peer.of((0, 65534, 65534)), (None,) * 4, "what the kernel says when it was not asked")
        self.assertEqual(Peer.of((0, 0xFFFFFFFF, 0)), (None, 0, None, None))
        self.assertEqual(Peer.of(None), (None,) * 4)

    def test_the_process_that_made_a_pair_is_not_its_peer(self) -> None:
        own = Peer(os.geteuid(), os.getegid())
        for peer, authorized in ((None, False), (own, True), (Peer(), False)):
            left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with Server() as server, jsoncomm.Connection(left, PATIENCE) as connection:
                server.method("uid", lambda: 5)
                server.adopt(right, lambda peer: peer.uid == own.uid, peer)
                if not authorized:
                    error = getattr(connection.transport.receive(), "value")["error"]
                    self.assertEqual(error["code"], Fault.NOT_AUTHORIZED)
                    continue
                connection._begin("uid", None, float("inf"), with_timeout=False)
                server.run_once(PATIENCE)
                self.assertEqual(getattr(connection.transport.receive(), "value")["result"], 5)

    def test_a_sender_with_an_abstract_name_gets_replies_and_one_with_a_path_none(self) -> None:
        with Shop(self.path, "dgram") as shop, connect(self.path, timeout=PATIENCE) as connection:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as named:
                named.bind(f"{self.path}-client")
                for _ in range(5):
                    named.sendto(b'{"jsonrpc":"2.0","id":1,"method":"shop.echo","params":[1]}', self.path)
                    connection.call("shop.echo", [1])
                self.assertRaises(BlockingIOError, named.recv, 4096, socket.MSG_DONTWAIT)
            self.assertEqual(len(shop._known), 0)


class Hostile(Case):
    def linger(self) -> tuple[socket.socket, socket.socket]:
        """Returns a socket whose last close(2) blocks until its other end is closed."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            near = socket.create_connection(server.getsockname())
            far = server.accept()[0]
        near.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                near.send(bytes(1 << 16))
        near.setblocking(True)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 10 * int(PATIENCE)))
        return near, far

    def test_descriptors_are_closed_without_blocking(self) -> None:
        def swallow(file: Fd) -> None:
            pass

        def give_back(file: Fd) -> Any:
            return file

        def each(file: Fd) -> Generator[int, None, None]:
            yield 1

        calls = ("shop.none", "shop.echo", "shop.swallow", "shop.give_back", "shop.each", "nonsense", "payload")
        for kind in KINDS:
            for method in calls:
                near, far = self.linger()
                with Shop(self.path, kind) as shop, connect(self.path, timeout=PATIENCE) as polite, far:
                    shop.descriptors = 253
                    for function in (swallow, give_back, each):
                        shop.method(f"shop.{function.__name__}", function)
                    polite.call("shop.echo", [1])
                    with connect(self.path, timeout=PATIENCE) as connection:
                        with shop.held:
                            polite.notify("shop.echo", [1])  # it is held up by that
                            if method == "nonsense":
                                connection.transport.send_text(b"nonsense", [near])
                            elif method == "payload":
                                connection.transport.send_text(jsoncomm.SPILLED, [near])
                            else:
                                connection.notify(method, {"file": near})
                            near.close()  # so that it is the last to have it
                        until = time.monotonic() + PATIENCE
                        connection.reply_to(connection._begin("shop.echo", [1], until, with_timeout=False))
                    self.assertEqual(polite.call("shop.echo", [1]).value, 1)
                    far.close()

    def test_a_peer_that_sends_descriptors_faster_than_they_close_is_disconnected(self) -> None:
        near, far = self.linger()
        with Shop(self.path, "seqpacket") as shop, connect(self.path, timeout=PATIENCE) as connection, far:
            shop.USER_DESCRIPTORS = 20
            connection.call("shop.echo", [1])
            with open("/dev/null", "rb") as null, shop.held:
                connection.notify("shop.none", {"file": near})
                near.close()
                for _ in range(20):
                    connection.notify("shop.none", {"file": null})
            with self.assertRaises(Closed):
                connection.call("shop.echo", [1])
                connection.call("shop.echo", [1])
            with connect(self.path, timeout=PATIENCE) as another:
                self.assertEqual(getattr(another.transport.receive(), "value")["error"]["code"], Fault.BUSY)
            far.close()

    def test_a_reply_that_cannot_be_sent_is_a_fault_and_the_connection_stays(self) -> None:
        def closed() -> Any:
            left, right = socket.socketpair()
            left.close()
            right.close()
            return left

        for kind in KINDS:
            with Shop(self.path, kind) as shop, connect(self.path, timeout=PATIENCE) as connection:
                shop.method("shop.closed", closed)
                with self.assertRaises(Fault) as raised:
                    connection.call("shop.closed")
                self.assertEqual(raised.exception.code, Fault.INTERNAL_ERROR)
                self.assertIn(os.strerror(errno.EBADF), str(raised.exception))
                self.assertEqual(connection.call("shop.echo", [1]).value, 1)

    def test_unread_descriptors_are_limited_by_user(self) -> None:
        for kind in KINDS:
            with Shop(self.path, kind) as shop, connect(self.path, timeout=PATIENCE) as polite:
                shop.method("shop.open", lambda: open("/dev/null", "rb"))
                shop.USER_DESCRIPTORS = 5
                with connect(self.path, timeout=PATIENCE) as deaf:
                    calls = [deaf._begin("shop.open", None, float("inf"), with_timeout=False) for _ in range(8)]
                    for _ in range(3):
                        self.assertEqual(polite.call("shop.echo", [1]).value, 1)
                    for account in (*shop._accounts.values(), *shop._shared):
                        self.assertLessEqual(sum(transport.unread for transport in account.transports), 5)
                    for identity in calls:
                        deaf.reply_to(identity).close()
                    deaf.call("shop.open").close()

    def test_large_unread_replies_use_the_memory_of_one(self) -> None:
        weight = 900_000
        with Shop(self.path, "seqpacket") as shop, connect(self.path, timeout=PATIENCE) as polite:
            shop.method("shop.large", lambda: "x" * weight)
            with connect(self.path, timeout=PATIENCE) as deaf:
                calls = [deaf._begin("shop.large", None, float("inf"), with_timeout=False) for _ in range(8)]
                for _ in range(3):
                    self.assertEqual(polite.call("shop.echo", [1]).value, 1)
                [account] = shop._accounts.values()
                self.assertEqual(sum(transport.unread for transport in account.transports), 1)
                self.assertLessEqual(account.bytes, shop.WAITING_BYTES)
                for identity in calls:
                    self.assertGreater(len(deaf.reply_to(identity).text), weight)

    def test_the_backlog_of_replies_is_limited(self) -> None:
        with Shop(self.path, "dgram") as shop, connect(self.path, timeout=PATIENCE) as polite:
            shop.GIVE_UP = PATIENCE
            for waiting, size, most in ((5, 1 << 20, 5), (1000, 3000, 3)):
                shop.WAITING, shop.WAITING_BYTES, shop.limit = waiting, size, 2000
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
                    deaf.bind(f"\0jsoncomm-deaf-{os.getpid()}")
                    call = {"jsonrpc": "2.0", "id": 1, "method": "shop.echo", "params": ["x" * 900]}
                    for _ in range(40):
                        deaf.sendto(json.dumps(call).encode(), self.path)
                        self.assertEqual(polite.call("shop.echo", [1]).value, 1)
                    self.assertEqual([len(client.queue) for client in shop._clients], [most])
                with shop.held:
                    for client in list(shop._clients):
                        client.retry_at = 0.0
                while shop._clients:
                    polite.call("shop.echo", [1])

    def test_a_connection_is_closed_for_more_malformed_messages_than_the_limit(self) -> None:
        with Shop(self.path, "seqpacket") as shop:
            for window, count in ((PATIENCE, 8), (0.0, 20)):
                shop.WINDOW = window
                with connect(self.path, timeout=PATIENCE) as connection:
                    for _ in range(count):
                        connection.transport.send_text(b"nonsense")
                        self.assertIn("error", getattr(connection.transport.receive(), "value"))
                    self.assertEqual(connection.call("shop.echo", [1]).value, 1)
                    if window:
                        connection.transport.send_text(b"nonsense")
                        self.assertIn("error", getattr(connection.transport.receive(), "value"))
                        self.assertIsNone(connection.transport.receive())

    def test_a_connection_above_the_limit_is_refused_as_busy_and_closed(self) -> None:
        for limit in ("CONNECTIONS", "USER_CONNECTIONS"):
            with Shop(self.path, "seqpacket") as shop:
                setattr(shop, limit, 2)
                with connect(self.path) as first, connect(self.path) as second:
                    for connection in (first, second):
                        self.assertEqual(connection.call("shop.echo", [1]).value, 1)
                    with connect(self.path) as third:
                        third.transport.sock.settimeout(PATIENCE)
                        self.assertEqual(getattr(third.transport.receive(), "value")["error"]["code"], Fault.BUSY)
                        self.assertIsNone(third.transport.receive())
                    second.close()
                    first.call("shop.echo", [1])
                    with connect(self.path) as third:
                        self.assertEqual(third.call("shop.echo", [1]).value, 1)

    def test_each_system_call_can_fail_in_each_way_and_other_clients_are_served(self) -> None:
        gone = (errno.EPIPE, errno.ECONNREFUSED)
        short = (errno.ENOMEM, errno.EMFILE)
        other = (errno.EPERM, errno.EINVAL)
        for kind, method, error, at in itertools.product(
            KINDS, ("_sendmsg", "receive_text"), (*gone, *short, *other), (1, 3)
        ):
            with Shop(self.path, kind) as shop, connect(self.path, timeout=PATIENCE) as polite:
                shop.method("shop.open", lambda: open("/dev/null", "rb"))
                calls = itertools.count(1)
                really = getattr(Transport, method)

                def fail(transport: Transport, *arguments: Any) -> Any:
                    if threading.current_thread() is shop.loop and next(calls) == at:
                        raise OSError(error, os.strerror(error))
                    return really(transport, *arguments)

                ended: Any = None
                lost = method == "_sendmsg" and error in gone
                with connect(self.path, timeout=0.1 if lost else PATIENCE) as connection:
                    with unittest.mock.patch.object(Transport, method, fail):
                        try:
                            for _ in range(5):
                                connection.call("shop.open").close()
                        except jsoncomm.Error as problem:
                            ended = problem
                    self.assertGreater(next(calls), at)
                told = f"{kind} {method} {error} {at}: {ended!r}"
                if error in short or (kind == "dgram" and method == "receive_text"):
                    self.assertIsNone(ended, told)
                elif method == "_sendmsg" and error in other:
                    self.assertEqual(getattr(ended, "code", None), Fault.INTERNAL_ERROR, told)
                else:
                    self.assertIsInstance(ended, Closed if kind == "seqpacket" else Deadline, told)
                self.assertEqual(polite.call("shop.echo", [1]).value, 1)


class Forks(Case):
    """A forked child that does not call execve(2)."""

    def fork(self, work: Callable[[], object]) -> None:
        """Runs a function in a child, which has to succeed."""
        self.join(self.forked() or self.end(work))

    @staticmethod
    def forked() -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which the child has not
            return os.fork()

    @staticmethod
    def end(work: Callable[[], object]) -> int:
        """Ends the child."""
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    def join(self, child: int) -> None:
        self.assertEqual(os.waitpid(child, 0)[1], 0)

    def test_calls_in_a_forked_child_fail_and_those_of_its_parent_continue(self) -> None:
        for kind in KINDS:
            with self.subTest(kind), Shop(self.path, kind), connect(self.path) as connection:
                items = connection.stream("shop.flood", {"weight": 1})
                next(items)

                def child() -> None:
                    for call in (connection.call, connection.stream, connection.notify):
                        self.assertRaises(jsoncomm.Forked, call, "shop.echo", {"value": 1})
                    self.assertRaises(jsoncomm.Forked, connection.reply_to, 1)
                    self.assertRaises(jsoncomm.Forked, next, items)
                    items.close()
                    connection.close()
                    with connect(self.path) as own:
                        self.assertEqual([own.call("shop.echo", {"value": n}).value for n in range(60)], [*range(60)])

                child_id = self.forked() or self.end(child)
                replies = [connection.call("shop.echo", {"value": 100 + n}).value for n in range(60)]
                self.assertEqual(replies, [*range(100, 160)])
                self.join(child_id)
                next(items)
                items.close()

    def test_a_forked_child_that_closes_its_copy_of_a_server_leaves_the_server_unchanged(self) -> None:
        for kind in KINDS:
            client = socket.socket(socket.AF_UNIX, KINDS[kind])
            with self.subTest(kind), Server() as server, Transport(client) as transport:
                server.method("echo", lambda value: value)
                server.bind(self.path, kind)
                transport.sock.connect(self.path)
                if kind == "dgram":
                    transport.sock.bind("")
                transport.sock.settimeout(PATIENCE)
                call = {"jsonrpc": "2.0", "id": 1, "method": "echo", "params": [1]}
                transport.send(call)
                while not select.select([transport.sock], [], [], 0)[0]:
                    server.run_once(0.01)

                def child() -> None:
                    for use in (server.run_once, server.run, lambda: server.bind(self.path, kind)):
                        self.assertRaises(jsoncomm.Forked, use)
                    server.stop()
                    server.close()

                self.fork(child)
                self.assertTrue(os.path.exists(self.path))
                transport.receive_text()
                transport.send({**call, "id": 2})
                while not select.select([transport.sock], [], [], 0)[0]:
                    server.run_once(0.01)
                reply = transport.receive()
                self.assertEqual(reply and reply.value["id"], 2)

    def test_a_child_forked_by_a_method_sends_no_replies(self) -> None:
        for kind in KINDS:
            with self.subTest(kind), Server() as server:
                children: list[int] = []

                def fork() -> int:
                    children.append(self.forked())
                    if not children[0]:
                        raise ValueError("for the log only")
                    return os.getpid()

                server.method("fork", fork)
                server.bind(self.path, kind)
                with connect(self.path) as connection:
                    identity = connection._begin("fork", None, math.inf, with_timeout=False)
                    logging.disable()
                    try:
                        with contextlib.suppress(jsoncomm.Forked):
                            while not children:
                                server.run_once(PATIENCE)
                            if not children[0]:
                                os._exit(1)  # it went on
                        if not children[0]:
                            os._exit(0)
                    finally:
                        logging.disable(logging.NOTSET)
                    self.join(children[0])
                    self.assertEqual(connection.reply_to(identity).value["result"], os.getpid())
                    self.assertRaises(Deadline, connection.reply_to, identity, 0.05)

    def test_a_forked_process_does_not_end_the_child_of_its_parent(self) -> None:
        with jsoncomm.spawn(["cat"], stdin=subprocess.PIPE) as child:

            def copy() -> None:
                self.assertRaises(jsoncomm.Forked, child.kill)
                self.assertRaises(jsoncomm.Forked, child.wait)
                with unittest.mock.patch.object(child.process, "wait", side_effect=AssertionError):
                    child.close()

            self.fork(copy)
            self.assertIsNone(child.process.poll())
            self.assertEqual(child.wait(PATIENCE), 0)


class Children(Case):
    CHILD = str(Path(__file__).with_name("child.py"))

    def program(self, role: str, redirections: str = "") -> list[str]:
        """The command of a child, whose shell redirects its descriptors and becomes the child."""
        python = [sys.executable, "-B", "-W", "error", self.CHILD, role]
        return ["sh", "-c", f'exec {redirections}; exec "$0" "$@"', *python]

    def test_a_child_serves_its_parent_and_stops_when_the_connection_is_closed(self) -> None:
        with jsoncomm.spawn(self.program("serve"), PATIENCE, stdout=subprocess.PIPE, text=True) as child:
            self.assertEqual(child.connection.call("test.work.pid").value, child.process.pid)
            caller = child.connection.call("test.work.caller").value
            self.assertEqual(caller, [os.geteuid(), os.getpid()])
            child.connection.close()
            self.assertEqual(child.process.wait(PATIENCE), 0)
            self.assertEqual(child.process.stdout.read(), "> ended\n")
            self.assertEqual(child.wait(), 0)
            child.kill()

    def test_a_child_that_calls_is_served_by_its_parent(self) -> None:
        with Server() as server:
            server.method("test.work.pid", os.getpid)
            with server.spawn(self.program("call"), stdout=subprocess.PIPE, text=True) as child:
                self.assertRaises(ValueError, lambda: child.connection)
                while child.process.poll() is None:
                    server.run_once(0.01)
                self.assertEqual(child.process.stdout.read(), f"> {os.getpid()}\n")

    def test_a_child_inherits_its_end_of_the_connection_and_nothing_else(self) -> None:
        script = "readlink /proc/self/fd/[3-9] | grep -c ^socket:; test -S /proc/self/fd/$JSONCOMM_PARENT_FD && echo told"
        left, right = socket.socketpair()
        with left, right, jsoncomm.spawn(["sh", "-c", script], stdout=subprocess.PIPE) as child:
            self.assertEqual(child.process.stdout.read(), b"1\ntold\n")
        with jsoncomm.spawn(self.program("serve", "3</dev/null <&- >&- 2>&-"), PATIENCE) as child:
            self.assertEqual(child.connection.call("test.work.pid").value, child.process.pid)

    def test_a_program_that_cannot_be_started_leaves_nothing(self) -> None:
        self.assertRaises(FileNotFoundError, jsoncomm.spawn, ["/not/there"])
        with Server() as server:
            self.assertRaises(FileNotFoundError, server.spawn, ["/not/there"])

    def test_a_child_that_does_not_end_is_killed_after_its_grace_period(self) -> None:
        with jsoncomm.spawn(["sleep", "1000"]) as child:
            child.grace = 0.02
            self.assertRaises(Deadline, child.wait, 0.02)
            self.assertRaises(Closed, child.connection.call, "test.work.pid")
        self.assertEqual(child.process.returncode, -signal.SIGKILL)

    def test_only_the_child_takes_over_the_connection_and_once(self) -> None:
        script = '"$0" "$@"; true'  # a shell that forks
        program = ["sh", "-c", script, *self.program("refusal")[3:]]
        with jsoncomm.spawn(program, stdout=subprocess.PIPE, text=True) as child:
            said = child.process.stdout.read()
        self.assertTrue(said.endswith("another process to its own child\n"), said)
        for value, why in (
            ("x", "JSONCOMM_PARENT_FD is not a number above 2"),
            ("2", "JSONCOMM_PARENT_FD is not a number above 2"),
            ("999999", "the descriptor is not open"),
            ("9", "the descriptor is not a seqpacket connection"),
        ):
            env = {**os.environ, jsoncomm.PARENT_FD: value}
            said = subprocess.check_output(self.program("refusal", "9</dev/null"), env=env, text=True)
            self.assertEqual(said, f"> {why}\n")
        self.assertRaises(jsoncomm.NoParent, jsoncomm.from_parent)
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with left, right, unittest.mock.patch.dict(os.environ, {jsoncomm.PARENT_FD: str(left.fileno())}):
            with self.assertRaisesRegex(jsoncomm.NoParent, "taken over already"):
                jsoncomm.from_parent()


class Ends(Case):
    def test_a_server_stops_when_its_stop_on_close_connection_closes(self) -> None:
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with Server() as server:
            server.method("twice", lambda value: 2 * value)
            server.adopt(right, stop_on_close=True)
            loop = threading.Thread(target=server.run)
            loop.start()
            with jsoncomm.Connection(left, PATIENCE) as connection:
                self.assertEqual(connection.call("twice", {"value": 2}).value, 4)
                self.assertTrue(loop.is_alive())
            loop.join(PATIENCE)
            self.assertFalse(loop.is_alive())

    def test_the_peer_of_a_datagram_pair_needs_no_address_for_replies(self) -> None:
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with Server() as server, jsoncomm.Connection(left, PATIENCE) as connection:
            server.method("twice", lambda value: 2 * value)
            server.adopt(right, lambda peer: peer.uid == os.geteuid())
            loop = threading.Thread(target=server.run)
            loop.start()
            self.assertEqual(connection.call("twice", {"value": 2}).value, 4)
            server.stop()
            loop.join(PATIENCE)

    def test_a_descriptor_that_cannot_be_served_is_not_adopted(self) -> None:
        with Server() as server, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as alone:
            left, right = socket.socketpair()
            with left, right, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                for sock in (alone, left, other):
                    self.assertRaises(ValueError, server.adopt, sock)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
                with self.assertRaises(ValueError):
                    server.adopt(datagrams, stop_on_close=True)
            self.assertEqual(len(server._selector.get_map()), 1)

    def test_a_shutdown_finishes_calls_in_progress_and_refuses_new_ones(self) -> None:
        for kind in KINDS:
            with Shop(self.path, kind) as shop, connect(self.path, timeout=PATIENCE) as connection:
                ends = threading.Event()

                def slow() -> Generator[int, None, None]:
                    yield 1
                    while not ends.is_set():
                        yield 2

                def last() -> None:
                    shop.shut_down(PATIENCE)

                shop.method("shop.slow", slow)
                with shop.held:
                    items = connection.stream("shop.slow")
                    late = connection._begin("shop.echo", [1], float("inf"), with_timeout=False)
                    shop.method("shop.last", last)
                    connection.notify("shop.last")
                    after = connection._begin("shop.echo", [1], float("inf"), with_timeout=False)
                self.assertEqual(connection.reply_to(late).value["result"], 1)
                self.assertEqual(connection.reply_to(after).value["error"]["code"], Fault.SHUTTING_DOWN)
                self.assertEqual(next(items).value, 1)
                ends.set()
                list(items)
                shop.loop.join(PATIENCE)
                self.assertFalse(shop.loop.is_alive() or os.path.exists(self.path))

    def test_no_peer_can_prevent_a_shutdown(self) -> None:
        for kind in KINDS:
            with Shop(self.path, kind) as shop, connect(self.path) as deaf:
                shop.GIVE_UP = PATIENCE
                items = deaf.stream("shop.flood", {"weight": 1000})
                next(items)
                shop.shut_down(0.05)
                shop.loop.join(PATIENCE)
                self.assertFalse(shop.loop.is_alive())
                self.assertTrue(shop.ended.is_set())

    def test_stopping_a_server_again_is_no_error(self) -> None:
        with Server() as server:
            for _ in range(10_000):
                server.stop()
            server.run()

    def test_a_server_describes_its_services_unless_discovery_is_off(self) -> None:
        def read(path: str, file: Fd, marks: Optional[list[int]], more: dict[str, float] = {}) -> bool:
            """Reads
            a file.

            All of it."""
            return True

        def each(peer: Peer) -> Generator[str, None, None]:
            yield ""

        for discover in (True, False):
            with Server(discover=discover) as server:
                server.method("test.shop.read", read)
                server.method("test.shop.each", each)
                server.method("bare", lambda value: value)
                server.bind(self.path, "seqpacket")
                loop = threading.Thread(target=server.run)
                loop.start()
                with connect(self.path, timeout=PATIENCE) as connection:
                    if discover:
                        told = connection.call("rpc.discover").value
                        for params in ({"a": 1}, [1]):
                            self.assertRaises(Fault, connection.call, "rpc.discover", params)
                    else:
                        with self.assertRaises(Fault) as raised:
                            connection.call("rpc.discover")
                        self.assertEqual(raised.exception.code, Fault.METHOD_NOT_FOUND)
                server.stop()
                loop.join(PATIENCE)
        self.assertEqual((told["openrpc"], told["info"]["title"]), ("1.3.2", "test.shop"))
        first, second, third = told["methods"]
        descriptor = {"type": "integer", "minimum": 0, "x-file-descriptor": True}
        marks = {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]}
        more = {"type": "object", "additionalProperties": {"type": "number"}}
        self.assertEqual(
            [(one["name"], one["required"], one["schema"]) for one in first["params"]],
            [
                ("path", True, {"type": "string"}),
                ("file", True, descriptor),
                ("marks", False, marks),
                ("more", False, more),
            ],
        )
        self.assertEqual((first["summary"], first["result"]["schema"]), ("Reads a file.", {"type": "boolean"}))
        self.assertEqual((second["x-stream"], second["params"]), (True, []))
        self.assertEqual(second["result"], {"name": "item", "schema": {"type": "string"}})
        self.assertEqual(third["params"], [{"name": "value", "required": True, "schema": {}}])

    def test_a_method_with_uncheckable_argument_types_is_refused(self) -> None:
        def one(value: Union[int, str]) -> None:
            pass

        def two(value: tuple[int, ...]) -> None:
            pass

        def three(value: dict[int, str]) -> None:
            pass

        def four(value: list[bytes]) -> None:
            pass

        def five(*values: int) -> None:
            pass

        def good(a: Optional[list[dict[str, Fd]]], b: "float" = 1, *, c: Any, d: Peer) -> None:
            pass

        with Server() as server:
            for function in (one, two, three, four, five):
                self.assertRaises(TypeError, server.method, "name", function)
            server.method("name", good)


class Json(unittest.TestCase):
    def test_json_is_read_back_as_written(self) -> None:
        values: list[Any] = [None, True, 0, -1, 1.5, 1 << 70, "größe \0\U0001f600", [], {"a": [{}]}]
        for value in values:
            self.assertEqual(jsoncomm.decode(jsoncomm.encode(value)[0]), value)

    def test_values_without_a_json_form_are_not_written(self) -> None:
        for value in (float("nan"), float("inf"), "\ud800", json.loads("[" * 65 + "]" * 65)):
            self.assertRaises(ValueError, jsoncomm.encode, value)
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        self.assertRaises(ValueError, jsoncomm.encode, deep)
        while deep:  # one by one, or taking it apart overflows the stack
            [deep] = deep or [[]]

    def test_ambiguous_json_is_refused(self) -> None:
        texts = ["", "\ufeff1", "1 2", "NaN", "-Infinity", "01", "1e999", "[1,]", "'a'", '"\n"']
        texts += [r'"\ud800"', r'{"\udc00":1}', '{"a":1,"a":1}', r'{"a":1,"\u0061":1}', '[{"b":{"a":1,"c":2,"a":1}}]']
        for text in (*texts, "[" * 65 + "]" * 65, "[" * 100_000):
            self.assertRaises(BadMessage, jsoncomm.decode, text.encode())
        self.assertRaises(BadMessage, jsoncomm.decode, b'"\xff"')


if __name__ == "__main__":
    unittest.main()

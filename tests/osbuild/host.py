"""osbuild's side of a host service: starts the program in HOST_SERVICE as osbuild does, and calls it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import unittest
from typing import Any, Iterable, Optional

from protocol import LIMIT, Fd, Transport, RemoteError, receive, send

PATIENCE = 20.0  # seconds


class Service:
    """A running service."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(PATIENCE)
        self.transport = Transport(ours, LIMIT)
        self.signals: list[Any] = []
        with theirs:
            number = theirs.fileno()
            self.process = subprocess.Popen(
                [os.environ["HOST_SERVICE"], "--service-id", "test", "--service-fd", str(number)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(number,),
            )

    def call(self, method: str, args: Any = None, fds: Iterable[Any] = ()) -> tuple[Any, list[Fd]]:
        send(self.transport, "method", {"name": method, "args": args}, fds)
        return self.answer()

    def answer(self) -> tuple[Any, list[Fd]]:
        while True:
            message = receive(self.transport)
            kind, data = message.value["type"], message.value["data"]
            if kind == "signal":
                self.signals.append(data["reply"])
            elif kind == "reply":
                return data["reply"], message.fds
            else:
                assert kind == "exception", kind
                raise RemoteError(data["name"], data["value"], data["backtrace"])

    def stop(self) -> tuple[Optional[int], bytes]:
        """Closes the socket, waits for the service to end, and returns its status and output."""
        self.transport.close()
        printed, _ = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, printed

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.stop()


class Host(unittest.TestCase):
    def test_any_json_comes_and_goes(self) -> None:
        with Service() as service:
            text = "größe \0 \U0001f600"
            for args in (None, [], {}, text, 5, -1.5, True, [{"a": [1, None]}], {"type": "x", "data": {}}):
                self.assertEqual(service.call("echo", args), (args, []))
            self.assertEqual(service.stop(), (0, b""))

    def test_an_exception_has_name_value_and_backtrace_and_is_not_the_end(self) -> None:
        with Service() as service:
            for method, args, name, value in (
                ("nothing", None, "ValueError", "no method nothing"),
                ("open", {"path": "/nowhere"}, "OSError", "No such file"),
                ("open", [], "KeyError", "path"),
                ("map", None, "IndexError", "two descriptors"),
            ):
                with self.assertRaises(RemoteError) as raised:
                    service.call(method, args)
                self.assertEqual(raised.exception.name, name)
                self.assertIn(value, raised.exception.value)
            self.assertEqual(service.call("echo", 1), (1, []))

    def test_what_is_no_call_is_a_protocol_error_and_not_the_end(self) -> None:
        good = '{"name": "echo", "args": 1}'
        with Service() as service:
            for text in (
                "nope",
                "{}",
                '{"type": "reply", "data": {"reply": 1}}',
                '{"type": "method", "data": {"args": 1}}',
                f'{{"type": "method", "data": {good}, "type": "method"}}',
                '{"type": "method", "data": {"name": "echo", "args": {"a": 1, "a": 2}}}',
                '{"type": "method", "data": {"name": "echo", "args": [NaN]}}',
                "<args-via-fd>",
            ):
                service.transport.send_text(text.encode())
                with self.assertRaises(RemoteError) as raised:
                    service.answer()
                self.assertEqual(raised.exception.name, "ProtocolError", text)
            service.transport.send_text(f'{{"type": "method", "data": {good}}}'.encode())
            self.assertEqual(service.answer(), (1, []))

    def test_members_come_in_any_order_and_no_arguments_are_an_empty_list(self) -> None:
        with Service() as service:
            for text, reply in (
                ('{"data": {"args": {"a": 5}, "name": "echo"}, "type": "method"}', {"a": 5}),
                ('{"data": {"name": "echo"}, "type": "method"}', []),
                ('{"type": "method", "data": {"name": "echo"}}', []),
            ):
                service.transport.send_text(text.encode())
                self.assertEqual(service.answer(), (reply, []))

    def test_numbers_keep_all_their_digits(self) -> None:
        with Service() as service:
            for number in (2**63, 2**64, -(2**63) - 1, 2**128, 10**60):
                self.assertEqual(service.call("echo", [number, {"a": number}]), ([number, {"a": number}], []))

    def test_signals_come_before_the_reply(self) -> None:
        with Service() as service:
            self.assertEqual(service.call("count", {"to": 3}), (3, []))
            self.assertEqual(service.signals, [{"done": 1}, {"done": 2}, {"done": 3}])

    def test_large_arguments_travel_in_a_memfd_with_descriptors_beside_them(self) -> None:
        args = ["x" * 1000] * 6000  # more than any datagram holds
        with Service() as service, tempfile.TemporaryFile() as file:
            how = send(service.transport, "method", {"name": "echo", "args": args}, [file])
            self.assertEqual(how, "memfd")
            reply, [back] = service.answer()
            self.assertEqual(reply, args)
            self.assertTrue(os.path.sameopenfile(back.fileno(), file.fileno()))

    def test_descriptors_go_by_their_index_or_their_place(self) -> None:
        with Service() as service, tempfile.NamedTemporaryFile() as asked, tempfile.TemporaryFile() as answer:
            asked.write(b"question")
            asked.flush()
            reply, [fd] = service.call("open", {"path": asked.name})
            self.assertEqual(reply, {"file": 0})
            self.assertEqual(os.pread(fd.fileno(), 100, 0), b"question")
            asked.seek(0)
            self.assertEqual(service.call("map", None, [asked, answer]), ("{}", []))
            self.assertEqual(os.pread(answer.fileno(), 100, 0), b"QUESTION")
            reply, fds = service.call("echo", [1, 0], [asked, answer])
            same = [os.path.sameopenfile(a.fileno(), b.fileno()) for a, b in zip(fds, (asked, answer))]
            self.assertEqual((reply, same), ([1, 0], [True, True]))

    def test_it_ends_when_the_host_closes_and_not_by_signals(self) -> None:
        with Service() as service:
            service.call("echo")
            for number in (signal.SIGTERM, signal.SIGINT):
                service.process.send_signal(number)
                self.assertEqual(service.call("echo", 1), (1, []))
            self.assertEqual(service.stop(), (0, b""))


if __name__ == "__main__":
    unittest.main()

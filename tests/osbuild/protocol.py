"""The messages between osbuild's host and its services: bare messages with an envelope of their own.

Written after what they do, not taken from there. JSON is written as Python writes it, with spaces and escapes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Iterable

sys.path.insert(0, str(Path(__file__).parents[2] / "examples/python"))

from jsoncomm import Fd, Transport, Message

LIMIT = 64 << 20  # bytes of a message


class RemoteError(Exception):
    """The service has raised an exception."""

    def __init__(self, name: str, value: str, backtrace: str) -> None:
        super().__init__(f"{name}: {value}\n{backtrace}")
        self.name, self.value, self.backtrace = name, value, backtrace


def send(transport: Transport, kind: str, data: Any, fds: Iterable[Any] = ()) -> str:
    return transport.send_text(json.dumps({"type": kind, "data": data}).encode(), fds)


def receive(transport: Transport) -> Message:
    """Returns the next message. Raises EOFError if the other side has closed."""
    message = transport.receive()
    if message is None:
        raise EOFError
    return message


__all__ = ["LIMIT", "Fd", "Transport", "RemoteError", "receive", "send"]

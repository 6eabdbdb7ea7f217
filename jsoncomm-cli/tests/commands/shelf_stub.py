"Clients of test.shelf."

from __future__ import annotations

from typing import Any, Dict, List, Literal, Optional, Protocol, Tuple, TypedDict, Union

import jsoncomm


class HasFileno(Protocol):
    """Whatever can be sent as a descriptor: an open file, a socket, a jsoncomm.Fd."""

    def fileno(self) -> int: ...


# An open file.
Opened = TypedDict("Opened", {
    "len": "int",
    "file": "int",  # memfd(sealed), read
    "log": "Optional[int]",
})

LineWritten = TypedDict("LineWritten", {
    "text": "str",
    "number": "Optional[int]",
})

Line = TypedDict("Line", {
    "text": "str",
    "number": "Optional[int]",
}, total=False)


class TestShelf:
    "The service test.shelf."

    def __init__(self, connection: jsoncomm.Connection) -> None:
        self.connection = connection

    def open(self, path: str, flags: Optional[int] = None, timeout: Optional[float] = None) -> jsoncomm.Message:
        "Opens a file.\nIn whatever way\nit can be opened.\n\nIt stays open. The value of the reply: Opened."
        params: Dict[str, Any] = {"path": path}
        if flags is not None:
            params["flags"] = flags
        return self.connection.call("test.shelf.open", params, timeout)

    def list(self, least: Optional[int] = None, timeout: Optional[float] = None) -> jsoncomm.Message:
        "Names all. The value of the reply: List[str]."
        params: Dict[str, Any] = {}
        if least is not None:
            params["least"] = least
        return self.connection.call("test.shelf.list", params, timeout)

    def follow(self, path: str, timeout: Optional[float] = None) -> jsoncomm.Items:
        "Each line. The value of each item: LineWritten."
        params: Dict[str, Any] = {"path": path}
        return self.connection.stream("test.shelf.follow", params, timeout)

    def log_to(self, sink: HasFileno, others: List[HasFileno], spare: Optional[HasFileno] = None) -> None:
        "`others` is regular, write. `spare` is pipe. There is no reply."
        params: Dict[str, Any] = {"sink": sink, "others": others}
        if spare is not None:
            params["spare"] = spare
        self.connection.notify("test.shelf.log_to", params)

    def put_back(self, id: int, names: List[str], of: Line, timeout: Optional[float] = None) -> jsoncomm.Message:
        "Puts a file back. The value of the reply: bool."
        params: Dict[str, Any] = {"id": id, "names": names, "of": of}
        return self.connection.call("test.shelf.put_back", params, timeout)

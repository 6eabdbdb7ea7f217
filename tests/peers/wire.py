"""The wire of jsoncomm, written from its page alone.

One datagram is one JSON value in UTF-8, with its descriptors in SCM_RIGHTS; in the JSON a descriptor is its
index. A text too large for a datagram travels in a memfd, ahead of the message's own descriptors.
Needs Linux, Python 3.9 and nothing but its standard library.
"""

from __future__ import annotations

import array
import errno
import fcntl
import json
import os
import socket
from typing import Any, Iterable, NamedTuple, Optional, Sequence

KINDS = {"dgram": socket.SOCK_DGRAM, "seqpacket": socket.SOCK_SEQPACKET}
SPILLED = b"<args-via-fd>"
FDS_MAX = 253
DATAGRAM_MAX = 4_263_616
SNDBUF_OVERHEAD = 32  # what the kernel keeps of SO_SNDBUF for itself
MESSAGE_MAX = 64 << 20
PATIENCE = 20.0  # seconds
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Datagram(NamedTuple):
    """What came: the text, the message's own descriptors, the sender's address, and how it travelled."""

    text: bytes
    fds: list[int]
    sender: Any
    how: str


class Line:
    """A socket that sends and receives one datagram with its descriptors."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE)
        self.sock = sock

    def inline_max(self) -> int:
        """The longest text that travels in the datagram itself."""
        sndbuf = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        return min(sndbuf - SNDBUF_OVERHEAD, DATAGRAM_MAX)

    def send(self, text: bytes, fds: Sequence[int] = (), to: Any = None) -> str:
        """Sends one text and says how it travelled; the sender keeps its descriptors."""
        how = "memfd"
        if len(text) <= self.inline_max():
            try:
                self._sendmsg(text, fds, to)
                return "inline"
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                how = "memfd for want of memory"  # a datagram has to be in one piece there
        payload = os.memfd_create("peer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(payload, "wb", closefd=False) as file:
                file.write(text)
            fcntl.fcntl(payload, fcntl.F_ADD_SEALS, SEALS)
            self._sendmsg(SPILLED, [payload, *fds], to)
        finally:
            os.close(payload)
        return how

    def _sendmsg(self, data: bytes, fds: Sequence[int], to: Any) -> None:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
        control = [rights] if fds else []
        if to is None:
            self.sock.sendmsg([data], control)
        else:
            self.sock.sendmsg([data], control, 0, to)

    def receive(self) -> Optional[Datagram]:
        """Receives one datagram; None when the peer has closed the connection."""
        room = socket.CMSG_SPACE(FDS_MAX * array.array("i").itemsize)
        text, control, flags, sender = self.sock.recvmsg(
            DATAGRAM_MAX + 1, room, socket.MSG_CMSG_CLOEXEC
        )
        fds = array.array("i")
        for level, kind, data in control:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        own = list(fds)
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise OSError(errno.EMSGSIZE, "the message was truncated")
            how = "inline"
            if text == SPILLED:
                text, how = fetch(own), "memfd"
        except BaseException:
            close_all(own)
            raise
        if not text and self.sock.type == socket.SOCK_SEQPACKET:
            return None
        return Datagram(text, own, sender or None, how)


def fetch(fds: list[int]) -> bytes:
    """Takes the memfd off the front of the descriptors and reads the text in it."""
    if not fds:
        raise OSError(errno.EBADMSG, "the payload's descriptor is missing")
    payload = fds.pop(0)
    try:
        fcntl.fcntl(payload, fcntl.F_GET_SEALS)  # fails for all that could make its reader wait
        size = os.fstat(payload).st_size
        if size > MESSAGE_MAX:
            raise OSError(errno.EMSGSIZE, "the payload is too large")
        text = bytearray()
        while len(text) < size:
            part = os.pread(payload, size - len(text), len(text))
            if not part:
                break
            text += part
        return bytes(text)
    finally:
        os.close(payload)


def close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


def connect(path: str, kind: str) -> socket.socket:
    """Connects, and gives a datagram socket a name so that it can be answered: first the connection, then
    the name, so that no stranger's datagram is ever queued."""
    # An empty name lets the kernel choose, but some releases of 3.9 and 3.10 make it "\0" (gh-94821).
    for name in (b"", b"\0peer-" + os.urandom(8).hex().encode()):
        sock = socket.socket(socket.AF_UNIX, KINDS[kind])
        sock.connect(path)
        if kind == "seqpacket":
            return sock
        try:
            sock.bind(name)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        if len(sock.getsockname()) > 1:
            return sock
        sock.close()
    raise OSError(errno.EADDRINUSE, "no name for the socket")


def dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def loads(text: bytes) -> Any:
    return json.loads(text.decode())

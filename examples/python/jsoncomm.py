"""jsoncomm in Python: typed calls on unix sockets, with open files beside the arguments. One file, no packages.

A client:

    import jsoncomm

    with jsoncomm.connect("/run/example.sock") as connection:
        with connection.call("example.files.open", {"path": "a.txt"}) as opened:
            text = os.pread(opened.fd("file").fileno(), opened.value["len"], 0)
        with open("b.txt", "rb") as content:  # objects with fileno() are sent as descriptors, and stay open
            connection.call("example.files.put", {"path": "b.txt", "content": content}, timeout=0.5)
        with connection.stream("example.files.follow", {"path": "a.txt"}) as lines:
            for line in lines:
                print(line.value)

A call returns a `Message`: its JSON `value`, and the descriptors, which `message.fd(...)` finds by the members that
name them. They are closed with the message at the end of `with`; `Fd.detach` gives the number to the caller, `Fd.open`
makes a file of it. A call returns a reply or raises ServiceError, Fault, Deadline (NotSent if there was no room in
time), Closed or BadMessage. After Deadline the connection stays usable. Arguments that cannot be sent raise ValueError,
TypeError or OSError, and nothing is sent.

Many calls travel in one datagram as a batch; `Batch` has the details:

    with connection.batch() as batch:
        opened = [batch.call("example.files.open", {"path": path}) for path in ("a.txt", "b.txt")]
    for call in opened:
        with call.wait() as reply:
            print(reply.value["len"])

A server, on one thread:

    server = jsoncomm.Server()

    @server.method("example.files.open")
    def open_file(path: str) -> dict[str, object]:
        try:
            file = open(path, "rb")
        except OSError:
            raise jsoncomm.ServiceError(1, f"no file {path}", {"NotFound": {"path": path}})
        return {"len": os.fstat(file.fileno()).st_size, "file": file}

    @server.method("example.files.remove", authorize=lambda peer: peer.uid == 0)
    def remove(path: str) -> None:
        os.remove(path)

    server.bind("/run/example.sock", "seqpacket", mode=0o666, authorize=lambda peer: peer.uid in (0, 1000))
    server.run()

A client finds a service by its name, and believes an entry only if nobody but root and its own user could have made it:

    with jsoncomm.connect("service:example.files") as connection: ...

A program that serves the one that started it, and ends with it; in the same way `Server.spawn` starts a program that
calls, which connects by `from_parent`:

    with jsoncomm.spawn([sys.executable, "worker.py"]) as worker:
        total = worker.connection.call("example.sums.add", [30, 4]).value

    server.adopt_parent()  # in worker.py, instead of `bind`
    server.run()

The annotations of a method declare its arguments (str, int, float, bool, Fd, list[...], dict[str, ...], Optional[...],
Any). `Annotated[Fd, "regular", "read"]` asks for a kind of descriptor, with the words of FD_KINDS. A call with other
arguments is refused before the method runs. An argument annotated with Peer is not part of the
call: it is the caller's identity, as the kernel reports it. Descriptors that a method returns are closed once they are
sent, and so are those among its arguments that it has not detached. A generator returns a stream of what it yields, as
fast as its client reads. While it blocks, the whole server does. A method that raises anything but ServiceError and
Fault fails only its own call.

A connection is a descriptor as well. It is sent like a file, and received by the annotation Connection, or from a reply
by `message.connection("events")`, ready to call: one connected "seqpacket" socket whose other end belongs to the user
who sent it, unless `allow_foreign_endpoints` says otherwise (a confused deputy). What a method gets it owns, and may keep.

A session is an object of a server behind a socket of its own, which a method passes to its caller:

    @server.method("example.counters.open")
    def open_counter(peer: jsoncomm.Peer) -> socket.socket:
        tag = next(tags)
        return server.open_session("example.counter", tag, peer, on_end=counters.pop)[0]

    @server.method("example.counter.add")
    def add(session: jsoncomm.Session, number: int) -> int:
        counters[session.tag] += number
        return counters[session.tag]

The module keeps the promises of the library's README, with these differences:

- A connection has one call in flight besides its streams and batches, and is for one thread at a time. It does not
  reconnect after the server's death, and repeats no call.
- A method replies before the next message is read, or with a stream. It cannot defer its reply, and its rule decides
  at once. `rpc.discover` has no rule of its own.
- What descriptors are is checked in arguments that a server receives, and not in what it returns or a client sends.
  `Fd.kinds` tells it of any.
- The server describes itself from annotations, without errors and types of the program.
- Integers of up to 1000 digits are exact. A dict with the keys 1 and "1" is written as it is, and its reader refuses
  it.
- Peers have no pidfd, the owner and group of a file cannot be set, and a socket that is passed in is made non-blocking
  for all processes that share it.
- While as many descriptors as a user may have wait to be closed, its other connections are not read and new ones are
  refused. Messages that it sends to a datagram socket are still received, and wait to be closed.
- A reply that waits because its user has not read the descriptors of others delays those after it. The peers of a
  datagram socket share one such limit.
- Every failure is logged to "jsoncomm", with the traceback of a method, and without a rate limit.

The library's documentation describes the wire format, and its test vectors show it. Needs Linux and Python 3.9.
"""

from __future__ import annotations

import array
import collections
import contextlib
import errno
import fcntl
import inspect
import json
import logging
import math
import os
import queue
import re
import resource
import select
import selectors
import signal
import socket
import stat
import struct
import subprocess
import termios
import threading
import time
import types
import typing
import weakref
from collections.abc import Generator
from typing import Any, Callable, Iterable, Iterator, Optional, Union

KINDS = {"dgram": socket.SOCK_DGRAM, "seqpacket": socket.SOCK_SEQPACKET}
SPILLED = b"<args-via-fd>"
SO_PEERGROUPS, SO_PASSPIDFD = 59, 76
OVERFLOW_ID = 65534  # stands for users and groups that are not mapped here
SCM_PIDFD = 4  # received from sockets that have SO_PASSPIDFD
FDS_MAX = 253  # in one datagram, SCM_MAX_FD
DATAGRAM_MAX = 4_263_616  # bytes, for any SO_SNDBUF
SNDBUF_OVERHEAD = 32  # bytes of SO_SNDBUF that the kernel uses itself
MESSAGE_MAX = 1 << 20  # bytes of a JSON text, inline or in a memfd; `limit` changes it
DEPTH_MAX = 64  # nested arrays and objects
DIGITS_MAX = 1000  # in an integer: the time to parse one grows faster than its length
ID_MAX = 256  # bytes of an id that is echoed
ANYONE = -1  # in place of the user whose connections are taken: those of all
TIMEOUT_MAX = 1 << 53  # milliseconds: the largest integer that every float holds exactly
DEFAULT_TIMEOUT = 25.0  # seconds for a call, by default
LIVENESS_INTERVAL = 0.1  # seconds after which a datagram client checks that its server lives
NO_PEER = (errno.EPIPE, errno.ECONNRESET, errno.ECONNREFUSED, errno.ENOTCONN)  # sending: no peer
NO_ROOM = (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS, errno.EMFILE, errno.ENFILE)  # no room now
TIMEOUT_LONGEST = 1e6  # seconds, the longest timeout of a socket
PATH_MAX = 107  # bytes of a path that fit into an address
SERVICE = "service:"  # before the name of a service, in an address
REGISTRY = "/run/jsoncomm"  # the registry of the system
NAME_MAX = 255  # bytes of a service's name
LINKS_MAX = 40  # symbolic links on the way to a socket
AT_SECURE = 23  # in /proc/self/auxv: the process has more rights than its caller
BACKLOG = 4096  # clients waiting to be accepted
LOCK_TIMEOUT = 1.0  # seconds to wait while another process binds in the directory
PAUSE = 0.001  # seconds before a retry that no event announces
BATCH_MAX = 64  # calls that are sent in one datagram
TIMEOUT_ROOM = len(',,"timeout":') + len(str(TIMEOUT_MAX))  # bytes beside a call in a batch
KEPT_ITEMS = 256  # items of a stream that were received and not requested yet
KEPT_FDS = 128  # descriptors in them
PARENT_FD = "JSONCOMM_PARENT_FD"  # in the environment of a child: the number of its end of the connection to its parent
GRACE = 1.0  # seconds that a child has to end before it is killed
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
SEALS_OF_ALL = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
F_GETPIPE_SZ = 1032
STATX_TYPE, AT_EMPTY_PATH, AT_STATX_DONT_SYNC = 1, 0x1000, 0x4000
STATX_MODE = 28  # where stx_mode is in struct statx
FD_KINDS = (  # each before those that say more
    "regular directory device pipe memfd memfd(sealed) pidfd socket socket(stream) socket(datagram) socket(seqpacket)"
    " read write path"
).split()
LOG = logging.getLogger("jsoncomm")

Address = Union[str, bytes, "os.PathLike[str]"]


class Error(Exception):
    """Base of the exceptions of this module."""


class Closed(Error):
    """The peer has closed the connection."""


class Deadline(Error):
    """No reply came in time. The call may have been carried out."""


class NotSent(Deadline):
    """There was no room for the call in time; it was not sent."""


class ServiceError(Error):
    """An error of the service. `reply` has its data and the descriptors in it."""

    def __init__(self, code: int, message: str, data: Any = None, reply: Optional[Message] = None) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data
        self.reply = reply or Message(b"")


class Fault(Error):
    """An error of the framework: the call could not be carried out."""

    PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
    INTERNAL_ERROR, BUSY, NO_REPLY, SHUTTING_DOWN, NOT_AUTHORIZED = -32603, -32000, -32001, -32002, -32003
    REPLY_TOO_LARGE, DEADLINE_EXCEEDED, CANCELLED, INVALID_DESCRIPTORS = -32004, -32005, -32006, -32007

    def __init__(self, code: int, message: str, field: Optional[str] = None) -> None:
        super().__init__(message)
        self.code, self.message, self.field = code, message, field


class BadMessage(Error):
    """A message that violates the wire format. Its descriptors are closed; `code` is the code of the fault."""

    def __init__(self, code: int, reason: str, text: bytes = b"", sender: Any = None) -> None:
        super().__init__(reason)
        self.code, self.text, self.sender = code, text, sender


# Processes.

_forks = 0  # number of forks between the process that imported this module and this one


def _count_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


class Forked(Error):
    """The object was made before os.fork(), by the parent process, which uses it. Nothing was done."""


class _InChild(BaseException):
    """The program's code has forked, and this is the child. It does nothing more for the parent's clients."""


def _check_process(forks: int) -> None:
    """Raises Forked for an object of the parent process, which has its ids, its loop and its files."""
    if forks != _forks:
        raise Forked("made before fork(2), in another process: make a new one in this one")


# Descriptors.


class _Closer:
    """Closes what peers have sent on a thread of its own. Closing can take as long as the sender likes: a lingering
    socket, a file on FUSE, a memfd with gigabytes beyond its end."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread: Optional[threading.Thread] = None
        self._taken = self._closed = 0

    def close(self, thing: Any) -> None:
        self._queue.put(thing)
        self._taken += 1
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no more threads can be started
                self._thread = None
                self._close(self._queue.get())

    def waiting(self) -> int:
        """The number of objects that are still to be closed."""
        return self._taken - self._closed

    def end(self, timeout: float) -> None:
        """Stops after everything is closed. Waits for that for `timeout` seconds."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout)

    def _run(self) -> None:
        for thing in iter(self._queue.get, None):
            self._close(thing)

    def _close(self, thing: Any) -> None:
        with contextlib.suppress(OSError):
            thing.close()
        self._closed += 1


class Fd:
    """Owns a descriptor, and closes it when the object is deleted."""

    def __init__(self, fd: int, closer: Optional[_Closer] = None) -> None:
        self._fd, self._closer = fd, closer

    def fileno(self) -> int:
        """Returns the number. The object still owns it."""
        if self._fd < 0:
            raise ValueError("the descriptor is closed or detached")
        return self._fd

    def detach(self) -> int:
        """Gives the number to the caller, who has to close it."""
        fd, self._fd = self.fileno(), -1
        return fd

    def open(self, mode: str = "rb", **more: Any) -> Any:
        """Makes a file object of it, which then owns it."""
        return os.fdopen(self.detach(), mode, **more)

    def kinds(self) -> set[str]:
        """Returns all words of FD_KINDS that are true of the descriptor. Does not wait for a file system. What cannot be
        found out is missing."""
        number = self.fileno()
        found = set()
        for find in (_access, _file_type, _memory, _process, _socket_type):
            try:
                found.update(find(number))
            except (OSError, ImportError, AttributeError):
                pass
        return found

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self.detach())

    def discard(self) -> None:
        """Closes a descriptor that a peer has sent to a server, without waiting."""
        if self._closer is None or self._fd < 0:
            self.close()
        else:
            self._closer.close(Fd(self.detach()))

    def __enter__(self) -> Fd:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Fd({self._fd})"


def _access(number: int) -> tuple[str, ...]:
    flags = fcntl.fcntl(number, fcntl.F_GETFL)
    if flags & os.O_PATH:  # it reads as read-only
        return ("path",)
    return {os.O_RDONLY: ("read",), os.O_WRONLY: ("write",), os.O_RDWR: ("read", "write")}.get(flags & os.O_ACCMODE, ())


def _file_type(number: int) -> tuple[str, ...]:
    """fstat(2) would wait for a file system whose daemon does not answer, and Python has no statx(2)."""
    try:
        fcntl.fcntl(number, F_GETPIPE_SZ)
        return ("pipe",)
    except OSError:
        pass
    import ctypes

    found = ctypes.create_string_buffer(256)
    flags = AT_EMPTY_PATH | AT_STATX_DONT_SYNC
    if ctypes.CDLL(None).statx(number, b"", flags, STATX_TYPE, found):
        return ()
    [mode] = struct.unpack_from("H", found, STATX_MODE)
    types = {stat.S_IFREG: "regular", stat.S_IFDIR: "directory", stat.S_IFIFO: "pipe"}
    types.update({stat.S_IFCHR: "device", stat.S_IFBLK: "device"})
    word = types.get(stat.S_IFMT(mode))
    return (word,) if word else ()


def _memory(number: int) -> tuple[str, ...]:
    seals = fcntl.fcntl(number, fcntl.F_GET_SEALS)
    return ("memfd", "memfd(sealed)") if seals & SEALS_OF_ALL == SEALS_OF_ALL else ("memfd",)


def _process(number: int) -> tuple[str, ...]:
    try:
        os.waitid(os.P_PIDFD, number, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # not a child of this process
        pass
    return ("pidfd",)


def _socket_type(number: int) -> tuple[str, ...]:
    sock = socket.socket(fileno=number)
    try:
        names = {socket.SOCK_STREAM: "stream", socket.SOCK_DGRAM: "datagram", socket.SOCK_SEQPACKET: "seqpacket"}
        name = names.get(sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE))
        return ("socket", f"socket({name})") if name else ("socket",)
    finally:
        sock.detach()


def _words(kinds: Iterable[str]) -> str:
    """Returns the words that say most, in the order of FD_KINDS."""
    kinds = set(kinds)
    less = {kind.split("(")[0] for kind in kinds if "(" in kind}
    return ", ".join(kind for kind in FD_KINDS if kind in kinds - less)


class Message:
    """A received message: JSON, descriptors, the sender if it has an address, and whether it came in a memfd."""

    def __init__(self, text: bytes, fds: Iterable[Fd] = (), sender: Any = None, spilled: bool = False) -> None:
        self.text, self.sender, self.spilled = text, sender, spilled
        self.fds = list(fds)
        self.value: Any = None
        self.more = False
        self.trace: Optional[TraceParent] = None  # of a call
        self.credentials: Optional[tuple[int, int, int]] = None  # pid, uid and gid, if the socket receives them
        self.giver: Optional[int] = None  # the user whose connections are taken; ANYONE takes all
        self._admit: Callable[[Connection], bool] = lambda _: True  # charges a connection to that user
        self._endpoints: list[Connection] = []  # that were made of descriptors, until somebody owns them
        self._named: dict[int, str] = {}

    def fd(self, *path: Union[str, int]) -> Fd:
        """Returns the descriptor that a member names: `fd("files", 0)` is the one of `value["files"][0]`."""
        index = self.value
        for step in path:
            index = index[step]
        try:
            return self.named(index, ".".join(map(str, path)))
        except Fault as fault:
            raise BadMessage(fault.code, f"{fault.field}: {fault}") from None

    def named(self, index: Any, name: str) -> Fd:
        """Returns the descriptor with this index, which no other member may name."""
        if isinstance(index, bool) or not isinstance(index, int) or index < 0:
            raise Fault(Fault.INVALID_PARAMS, "not the index of a descriptor", name)
        if index >= len(self.fds):
            raise Fault(Fault.INVALID_DESCRIPTORS, f"descriptor {index} is not among the {len(self.fds)}", name)
        if self._named.setdefault(index, name) != name:
            raise Fault(Fault.INVALID_DESCRIPTORS, f"descriptor {index} is named twice", name)
        return self.fds[index]

    def connection(self, *path: Union[str, int]) -> Connection:
        """Makes a connection of the descriptor that a member names, which the caller then owns."""
        name = ".".join(map(str, path))
        try:
            made = self.endpoint(self.fd(*path), name)
        except Fault as fault:
            raise BadMessage(fault.code, f"{fault.field}: {fault}") from None
        self._endpoints.remove(made)
        return made

    def endpoint(self, fd: Fd, name: str) -> Connection:
        """Makes a connection of a descriptor. Refuses what is none, and whose other end is not the sender's."""

        def refused(reason: str) -> Fault:
            return Fault(Fault.INVALID_DESCRIPTORS, reason, name)

        if not _is_endpoint(fd.fileno()):
            raise refused("not a connected unix seqpacket socket")
        sock = socket.socket(fileno=fd.detach())
        made = Connection(sock, closer=fd._closer)
        if self.giver != ANYONE and (self.giver is None or self.giver != Peer.of_connection(sock).uid):
            made.close()
            raise refused("not a connection to a process of the sender's user")
        if not self._admit(made):
            made.close()
            raise refused("exceeds the connections of the sender's user")
        self._endpoints.append(made)
        return made

    def close(self) -> None:
        for made in self._endpoints:
            made.close()
        self._endpoints.clear()
        for fd in self.fds:
            fd.discard()

    def __enter__(self) -> Message:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# JSON: a text has one meaning or is refused.


class _RepeatedKey(dict[str, Any]):
    """An object that repeats a key."""

    key = ""

    def flaw(self) -> str:
        return _flaw(self.key) or f"{self.key[:128]} is repeated"


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        members = _RepeatedKey(members)
        counts = collections.Counter(name for name, _ in pairs)
        members.key = next(name for name, count in counts.items() if count > 1)
    return members


def _integer(digits: str) -> Union[int, float]:
    if len(digits) > DIGITS_MAX:
        raise ValueError("an integer is too long")
    return -0.0 if digits == "-0" else int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


def _constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


# An unterminated string extends to the end, so that the time is proportional to the length.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]', re.DOTALL)


def _is_deep(text: bytes) -> bool:
    if text.count(b"[") + text.count(b"{") <= DEPTH_MAX:
        return False
    depth = 0
    for token in _TOKEN.finditer(text):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(token[0], 0)
        if depth > DEPTH_MAX:
            return True
    return False


def _parse(text: bytes) -> Any:
    """Parses JSON. Valid JSON with two meanings or none is left to `_flaw`."""
    if _is_deep(text):
        raise ValueError(f"nested deeper than {DEPTH_MAX}")
    hooks: Any = {"parse_int": _integer, "parse_float": _float, "parse_constant": _constant}
    return json.loads(text.decode(), object_pairs_hook=_members, **hooks)


_SEPARATOR = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},]', re.DOTALL)


def _is_array(text: bytes) -> bool:
    """Returns true if a text can only be an array, if it is JSON."""
    return text.lstrip(b" \t\n\r").startswith(b"[")


def _split(text: bytes, most: float = math.inf) -> list[bytes]:
    """Returns the texts of an array's elements, at most one more than `most`. Raises BadMessage unless the text is
    JSON. Each element may still break another rule."""
    try:
        return _elements(text, most)
    except (ValueError, RecursionError) as error:
        raise BadMessage(Fault.PARSE_ERROR, f"not JSON: {error}", text) from None


def _elements(text: bytes, most: float) -> list[bytes]:
    whole = text.decode()
    json.loads(whole, parse_int=str, parse_float=str, parse_constant=_constant)
    parts, depth, start = list[bytes](), 0, whole.index("[") + 1
    for token in _SEPARATOR.finditer(whole):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if (depth == 1 and token[0] == ",") or depth == 0:
            parts.append(whole[start : token.start()].strip().encode())
            start = token.end()
            if len(parts) > most:
                break
    return [] if parts == [b""] else parts


def _flaw(value: Any) -> Optional[str]:
    """Finds a repeated key or a lone surrogate."""
    if isinstance(value, str):
        return None if value.isascii() or not re.search("[\ud800-\udfff]", value) else "a string is no text"
    if isinstance(value, _RepeatedKey):
        return value.flaw()
    if isinstance(value, dict):
        value = [*value, *value.values()]
    return next(filter(None, map(_flaw, value)), None) if isinstance(value, list) else None


def decode(text: bytes) -> Any:
    """Parses JSON strictly. Raises BadMessage with the reason."""
    try:
        value = _parse(text)
    except ValueError as error:
        raise BadMessage(Fault.PARSE_ERROR, f"not JSON: {error}", text) from None
    flaw = _flaw(value)
    if flaw is not None:
        raise BadMessage(Fault.INVALID_REQUEST, flaw, text)
    return value


def encode(value: Any) -> tuple[bytes, list[Any]]:
    """Writes JSON. An object with fileno() becomes an index into the list that is returned."""
    fds: list[Any] = []

    def index(thing: Any) -> int:
        if not hasattr(thing, "fileno"):
            raise TypeError(f"{type(thing).__name__} cannot be sent")
        if isinstance(thing, Connection):
            thing._check_idle()
        thing.fileno()  # finds a closed one before anything is sent
        fds.append(thing)
        return len(fds) - 1

    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=index).encode()
    except RecursionError:
        raise ValueError(f"nested deeper than {DEPTH_MAX}") from None
    if _is_deep(text):
        raise ValueError(f"nested deeper than {DEPTH_MAX}")
    return text, fds


_MEMBER = re.compile(r'[ \t\n\r]*[{,][ \t\n\r]*("[^"\\]*(?:\\.[^"\\]*)*")[ \t\n\r]*:[ \t\n\r]*', re.DOTALL)


def _peek(text: bytes) -> dict[str, Any]:
    """Returns the members of an object that may be invalid, up to the error. The last may lack its value."""
    found: dict[str, Any] = {}
    place, scan = 0, json.JSONDecoder().raw_decode
    with contextlib.suppress(ValueError, RecursionError):
        whole = text.decode()
        while match := _MEMBER.match(whole, place):
            name = json.loads(match[1])
            found.setdefault(name, None)
            value, place = scan(whole, match.end())
            found[name] = value
    return found


def _id(value: Any) -> Any:
    """Returns an id that can be echoed, or None."""
    good = isinstance(value, (int, str)) and not isinstance(value, bool) and _flaw(value) is None
    return value if good and len(json.dumps(value, ensure_ascii=False).encode()) <= ID_MAX else None


# Datagrams.


class Transport:
    """A socket that sends and receives JSON texts with their descriptors, without an envelope. Owns the socket."""

    def __init__(self, sock: socket.socket, limit: int = MESSAGE_MAX, closer: Optional[_Closer] = None) -> None:
        self.sock, self.limit = sock, limit
        self.connected = sock.type == socket.SOCK_SEQPACKET
        self.unread = 0  # descriptors sent since everything was read
        self.giver: Optional[int] = None  # the user whose connections are taken from this socket
        self.flags = socket.MSG_CMSG_CLOEXEC
        self._closer = closer

    def inline_max(self) -> int:
        """The longest text that travels in the datagram itself, in bytes."""
        sndbuf = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        return min(sndbuf - SNDBUF_OVERHEAD, DATAGRAM_MAX)

    def send(self, value: Any, to: Any = None) -> str:
        """Sends a message; see `encode` and `send_text`."""
        return self.send_text(*encode(value), to)

    def send_text(self, text: bytes, fds: Iterable[Any] = (), to: Any = None) -> str:
        """Sends a text, and returns how it travelled. Blocks as the socket's timeout says. Never sends a part."""
        numbers = [fd.fileno() for fd in fds]
        if len(text) > self.limit:
            raise ValueError(f"a message of {len(text)} bytes exceeds {self.limit}")
        how = "memfd"
        if len(text) <= self.inline_max():
            try:
                self._sendmsg(text, numbers, to)
                self.unread += len(numbers)
                return "inline"
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                how = "memfd because memory is short"  # a datagram is contiguous in it
        with Fd(os.memfd_create("jsoncomm", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)) as payload:
            with open(payload.fileno(), "wb", closefd=False) as file:
                file.write(text)
            fcntl.fcntl(payload.fileno(), fcntl.F_ADD_SEALS, SEALS)
            self._sendmsg(SPILLED, [payload.fileno(), *numbers], to)
        self.unread += 1 + len(numbers)
        return how

    def count_unread(self) -> int:
        """Returns how many descriptors may be in flight. On a datagram socket, unread messages of any peer count."""
        if self.unread and struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4))) == (0,):
            self.unread = 0
        return self.unread

    def _sendmsg(self, data: bytes, fds: list[int], to: Any) -> None:
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        address = () if to is None else (to,)
        self.sock.sendmsg([data], control, socket.MSG_NOSIGNAL, *address)

    def receive(self) -> Optional[Message]:
        """Receives a message. Returns None at the end of a connection."""
        message = self.receive_text()
        if message is not None:
            try:
                message.value = decode(message.text)
            except BadMessage:
                message.close()
                raise
        return message

    def receive_text(self) -> Optional[Message]:
        """Receives a message without parsing its text. Refuses damaged ones and closes all their descriptors."""
        room = socket.CMSG_SPACE(FDS_MAX * array.array("i").itemsize) + socket.CMSG_SPACE(12) + socket.CMSG_SPACE(4)
        size = min(self.limit, DATAGRAM_MAX) + 1
        try:
            came = self.sock.recvmsg(size, room, self.flags)
        except ConnectionResetError:  # reported once, before the last messages of a dead peer and the end
            came = self.sock.recvmsg(size, room, self.flags)
        text, control, flags, sender = came
        numbers = array.array("i")
        credentials = None
        for level, kind, data in control:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
            elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                credentials = struct.unpack_from("iII", data)
            elif (level, kind) == (socket.SOL_SOCKET, SCM_PIDFD):
                for number in array.array("i", data):
                    if number >= 0:  # otherwise an error
                        os.close(number)
        message = Message(text, [Fd(number, self._closer) for number in numbers], sender or None)
        message.credentials = credentials
        message.giver = self.giver
        try:
            if not text and self.connected:
                message.close()
                return None
            if flags & socket.MSG_TRUNC or len(text) > self.limit:
                raise BadMessage(Fault.INVALID_REQUEST, f"the message exceeds {self.limit} bytes")
            if flags & socket.MSG_CTRUNC:
                reason = "descriptors were lost: too many are open, or a security module forbids them"
                raise BadMessage(Fault.INVALID_DESCRIPTORS, reason, text)
            if text == SPILLED:
                message.text, message.spilled = self._unspill(message.fds), True
            return message
        except BadMessage as bad:
            message.close()
            bad.sender = message.sender
            raise

    def _unspill(self, fds: list[Fd]) -> bytes:
        """Removes the memfd from the front of the descriptors and reads the text in it."""
        if not fds:
            raise BadMessage(Fault.INVALID_DESCRIPTORS, "the payload's descriptor is missing", SPILLED)
        payload = fds.pop(0)
        try:
            fcntl.fcntl(payload.fileno(), fcntl.F_GET_SEALS)  # fails for every file that could block its reader
        except OSError:
            payload.discard()
            raise BadMessage(Fault.INVALID_DESCRIPTORS, "the payload is not in a memfd", SPILLED) from None
        try:
            return self._read(payload.fileno())
        except OSError as error:  # for example opened for writing only
            reason = f"the payload cannot be read: {error.strerror}"
            raise BadMessage(Fault.INVALID_DESCRIPTORS, reason, SPILLED) from None
        finally:
            payload.discard()

    def _read(self, payload: int) -> bytes:
        size = os.fstat(payload).st_size
        if size > self.limit:
            raise BadMessage(Fault.INVALID_REQUEST, f"the message exceeds {self.limit} bytes")
        text = bytearray()
        while len(text) < size:
            part = os.pread(payload, size - len(text), len(text))
            if not part:
                break
            text += part
        return bytes(text)

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# Addresses: a path, or a name in the abstract namespace, which begins with a NUL.


def _address(address: Address) -> Any:
    """Checks an address. Text stays text, and bytes stay bytes."""
    found = os.fspath(address)
    raw = os.fsencode(found)
    if raw[:1] != b"\0" and (not raw or b"\0" in raw):
        raise ValueError("an address is a path, or a NUL and a name")
    return found


def _is_abstract(address: Any) -> bool:
    return address[:1] in ("\0", b"\0")


def _service(address: Any) -> Optional[str]:
    """Returns the name of the service, if the address is one."""
    return address[len(SERVICE) :] if isinstance(address, str) and address.startswith(SERVICE) else None


@contextlib.contextmanager
def _reachable(address: Any) -> Iterator[Any]:
    """Yields a name for connect(2). A path that is too long is reached through a descriptor of the file, and so is a
    service."""
    service = _service(address)
    if service is not None:
        with contextlib.ExitStack() as stack:
            yield f"/proc/self/fd/{_find(service, stack).file}"
        return
    if _is_abstract(address) or len(os.fsencode(address)) <= PATH_MAX:
        yield address
        return
    with Fd(os.open(address, os.O_PATH | os.O_CLOEXEC)) as file:
        yield f"/proc/self/fd/{file.fileno()}"


def _connect(sock: socket.socket, address: Any, deadline: float) -> None:
    """Connects. Waits until the deadline while the server has too many clients to accept."""
    service = _service(address)
    if service is None:
        with _reachable(address) as name:
            _connect_to(sock, name, deadline)
        return
    with contextlib.ExitStack() as stack:
        found = _find(service, stack)
        _connect_to(sock, f"/proc/self/fd/{found.file}", deadline)
        if sock.type == socket.SOCK_SEQPACKET:  # the kernel does not tell of datagram sockets
            server = Peer.of_connection(sock).uid
            if server not in (0, found.owner):
                raise _untrusted(address, f"its server runs as user {server}, not as root or user {found.owner}")


def _connect_to(sock: socket.socket, name: Any, deadline: float) -> None:
    sock.setblocking(False)
    while True:
        try:
            sock.connect(name)
            sock.setblocking(True)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise NotSent("the server did not accept the connection in time") from None
            time.sleep(PAUSE)  # poll(2) does not report room


def _connected(address: Any, kind: int, deadline: float) -> socket.socket:
    """Connects, and then gives a datagram socket a name so that it can be replied to. In this order no other process
    can queue a datagram before."""
    # An empty name lets the kernel choose, but some releases of 3.9 and 3.10 make it "\0" (gh-94821).
    for name in (b"", b"\0jsoncomm-" + os.urandom(8).hex().encode()):
        sock = socket.socket(socket.AF_UNIX, kind)
        try:
            _connect(sock, address, deadline)
            if kind == socket.SOCK_SEQPACKET:
                return sock
            with contextlib.suppress(OSError):
                sock.bind(name)
            if len(sock.getsockname()) > 1:
                return sock
        except BaseException:
            sock.close()
            raise
        sock.close()
    raise OSError(errno.EADDRINUSE, "no name for the socket")


class _Place:
    """The place of a socket's file. Holds a descriptor of the directory, so that it finds the file after chdir(2) and
    after the path has changed."""

    def __init__(self, path: Any) -> None:
        folder, self.file = os.path.split(path)
        if not self.file or self.file in (os.curdir, os.pardir, b".", b".."):
            raise ValueError("the path does not end in the name of a file")
        self.folder = Fd(os.open(folder or os.curdir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        self.name = path  # for bind(2)
        if len(os.fsencode(path)) > PATH_MAX:
            self.name = f"/proc/self/fd/{self.folder.fileno()}/{os.fsdecode(self.file)}"
        self.inode: Optional[tuple[int, int]] = None  # once it is bound
        self.forks = _forks

    def bind(self, sock: socket.socket, mode: Optional[int]) -> None:
        """Binds, replacing a dead socket, and opens the socket to clients. The directory is locked meanwhile, so that
        one of several servers gets the path."""
        with self._locked() as locked:
            if mode is not None:
                os.fchmod(sock.fileno(), mode)  # the file never has more permissions than that
            self._bind(sock, locked)
            self.inode = self._inode()
            try:
                if mode is not None:
                    self._set_mode(mode)
                if sock.type == socket.SOCK_SEQPACKET:
                    sock.listen(BACKLOG)
            except BaseException:
                self.remove()
                raise

    def remove(self) -> None:
        """Removes the file if it is still the one that was bound, and not in a forked child. Call it before closing
        the socket: afterwards the file of another server could be in its place."""
        with contextlib.suppress(OSError):
            if self.inode is not None and self.forks == _forks and self._inode() == self.inode:
                os.unlink(self.file, dir_fd=self.folder.fileno())
        self.folder.close()

    def _inode(self) -> tuple[int, int]:
        found = os.stat(self.file, dir_fd=self.folder.fileno(), follow_symlinks=False)
        return found.st_dev, found.st_ino

    def _open(self) -> Fd:
        """Opens the file itself, which keeps its inode number from being reused."""
        return Fd(os.open(self.file, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.folder.fileno()))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        """Locks the directory against others that bind in it. Yields False if it cannot be locked."""
        try:
            fd = Fd(os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.folder.fileno()))
        except PermissionError:
            yield False
            return
        until = time.monotonic() + LOCK_TIMEOUT
        with fd:
            locked = True
            while True:
                try:
                    fcntl.flock(fd.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= until:
                        raise OSError(errno.EADDRINUSE, "another program keeps the directory locked") from None
                    time.sleep(PAUSE)
                except OSError:  # the file system has no locks
                    locked = False
                    break
            try:
                yield locked
            finally:
                if locked:  # a child that another thread is starting would keep the lock after a mere close
                    fcntl.flock(fd.fileno(), fcntl.LOCK_UN)

    def _bind(self, sock: socket.socket, locked: bool) -> None:
        for _ in range(4):  # programs that do not lock can create and remove files there
            try:
                sock.bind(self.name)
                return
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            self._clear(locked)
        raise OSError(errno.EADDRINUSE, "the path is in use")

    def _clear(self, locked: bool) -> None:
        """Removes a dead socket of ours from the path, or raises an error that says what is there."""
        try:
            file = self._open()
        except FileNotFoundError:
            return
        with file:
            found = os.fstat(file.fileno())
            if not stat.S_ISSOCK(found.st_mode):
                problem = "something that is no socket is there"
            elif not _is_dead(f"/proc/self/fd/{file.fileno()}" if os.path.exists("/proc/self/fd") else self.name):
                problem = "the path is in use"
            elif found.st_uid != os.geteuid():
                problem = f"a dead socket of user {found.st_uid} is there"
            elif not locked:
                problem = "a dead socket is there, and the directory cannot be locked to replace it"
            else:
                if self._inode() == (found.st_dev, found.st_ino):
                    os.unlink(self.file, dir_fd=self.folder.fileno())
                return
        raise OSError(errno.EADDRINUSE, problem)

    def _set_mode(self, mode: int) -> None:
        """Restores the permission bits of a file just bound that the umask has cleared."""
        with self._open() as file:
            found = os.fstat(file.fileno())
            if (found.st_dev, found.st_ino) != self.inode:
                raise OSError(errno.ESTALE, "the socket's file has been replaced")
            if stat.S_IMODE(found.st_mode) != mode:
                os.chmod(f"/proc/self/fd/{file.fileno()}", mode)


def _is_dead(name: Any) -> bool:
    """Returns true if no process has the socket at this path open. Asks with a datagram socket, which finds sockets
    of all types, also one that is bound and does not listen yet."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def _bind_abstract(sock: socket.socket, name: Any) -> list[socket.socket]:
    """Binds a name in every type of socket. The kernel has a separate name for each type, and another program could
    take one and mislead clients that do not know the kind. Returns the sockets that hold the other types; they serve
    no client."""
    held: list[socket.socket] = []
    try:
        sock.bind(name)
        for kind in (*KINDS.values(), socket.SOCK_STREAM):
            if kind != sock.type:
                other = socket.socket(socket.AF_UNIX, kind)
                held.append(other)
                other.bind(name)
                other.shutdown(socket.SHUT_RDWR)
        if sock.type == socket.SOCK_SEQPACKET:
            sock.listen(BACKLOG)
    except BaseException:
        for other in held:
            other.close()
        raise
    return held


# Services by name.


def registry() -> list[str]:
    """Returns the directories in which services are found by their names, in the order in which they are searched:
    those in JSONCOMM_REGISTRY, $XDG_RUNTIME_DIR/jsoncomm and /run/jsoncomm. An entry is a symbolic link that has the name
    of the service and leads to its socket. The variables are ignored if the process has more rights than its caller
    (AT_SECURE), also if that cannot be found out."""
    if _is_secure():
        return [REGISTRY]
    own = os.environ.get("XDG_RUNTIME_DIR", "")
    paths = [*os.environ.get("JSONCOMM_REGISTRY", "").split(":"), os.path.join(own, "jsoncomm") if own else ""]
    return [path for path in paths if path.startswith("/")] + [REGISTRY]


def _is_secure() -> bool:
    try:
        with open("/proc/self/auxv", "rb") as file:
            return dict(struct.iter_unpack("@LL", file.read())).get(AT_SECURE) != 0
    except OSError:
        return True


def _untrusted(path: str, reason: str) -> PermissionError:
    return PermissionError(errno.EACCES, reason, path)


class _Found:
    """A file that was reached by descriptors, without its links, and who may change it."""

    def __init__(self, file: int, path: str, links: int) -> None:
        self.file, self.path, self.links = file, path, links
        status = os.fstat(file)
        self.owner, self.mode = status.st_uid, status.st_mode
        if self.owner not in (0, _number(os.geteuid(), "uid")):
            raise _untrusted(path, f"it belongs to user {self.owner}, neither to root nor to this user")
        # Only a directory may be behind one with the sticky bit: others cannot replace that.
        self.writable = stat.S_ISDIR(self.mode) and bool(self.mode & 0o022)
        if self.writable and not self.mode & stat.S_ISVTX:
            self.refuse()

    def refuse(self) -> typing.NoReturn:
        raise _untrusted(self.path, f"it can be changed by other users: its mode is {stat.S_IMODE(self.mode):o}")

    def open(self, name: str, stack: contextlib.ExitStack) -> _Found:
        path = os.path.dirname(self.path) if name == ".." else os.path.join(self.path, name)
        try:
            file = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.file)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None
        stack.callback(os.close, file)
        return _Found(file, path, self.links)


def _root(links: int, stack: contextlib.ExitStack) -> _Found:
    file = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, file)
    return _Found(file, "/", links)


def _walk(here: Optional[_Found], path: str, stack: contextlib.ExitStack) -> _Found:
    """Walks along a path, by one descriptor after the other. Raises PermissionError for what others than root and this
    user could have made or could change."""
    here = here or _root(0, stack)
    rest: list[str] = []
    while True:
        rest += [part for part in reversed(path.split("/")) if part not in ("", ".")]
        if path.startswith("/"):
            here = _root(here.links, stack)
        while rest:
            found = here.open(rest.pop(), stack)
            if not stat.S_ISDIR(found.mode):
                if here.writable:
                    here.refuse()
                break
            here = found
        else:
            return here
        if not stat.S_ISLNK(found.mode):
            if rest:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), found.path)
            return found
        path = _follow(here, found)


def _follow(here: _Found, link: _Found) -> str:
    here.links += 1
    if here.links > LINKS_MAX:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), link.path)
    return os.readlink("", dir_fd=link.file)


def _find(service: str, stack: contextlib.ExitStack) -> _Found:
    """Finds the socket of a service. The owner of what is returned is that of its entry."""
    words = service.split(".")
    if not all(re.fullmatch("[A-Za-z0-9_-]+", word) for word in words) or words[0] == "rpc" or len(service) > NAME_MAX:
        raise ValueError(f"{service!r} is no name of a service")
    for path in registry():
        try:
            here = _walk(None, path, stack)
            if not stat.S_ISDIR(here.mode):
                continue
            if here.writable:
                here.refuse()
            link = here.open(service, stack)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISLNK(link.mode):
            raise _untrusted(link.path, "an entry is a symbolic link to a socket")
        found = _walk(here, _follow(here, link), stack)
        if not stat.S_ISSOCK(found.mode):
            raise _untrusted(found.path, "it is no socket")
        found.owner = link.owner
        return found
    raise FileNotFoundError(errno.ENOENT, f"no such service in {', '.join(registry())}", SERVICE + service)


# The client.


def connect(
    address: Address, kind: Optional[str] = None, timeout: float = DEFAULT_TIMEOUT, limit: int = MESSAGE_MAX
) -> Connection:
    """Connects to a server; without a kind, to the kind that it has. Raises OSError if there is no server.

    The address "service:example.files" is a service that is found by its name in the `registry`. PermissionError means
    that others than root or this user could have made its entry or what that leads to, or run its server.

    `timeout` limits connecting, and each call without a timeout of its own. `limit` is the longest message, in bytes.
    """
    address = _address(address)
    deadline = time.monotonic() + timeout
    kinds = [KINDS[kind]] if kind else [socket.SOCK_SEQPACKET, socket.SOCK_DGRAM]
    # The kernel looks up name and type together, so the name is not found.
    other = errno.ECONNREFUSED if _is_abstract(address) else errno.EPROTOTYPE
    for candidate in kinds:
        try:
            return Connection(_connected(address, candidate, deadline), timeout, address, limit)
        except OSError as error:
            if error.errno != other or candidate == kinds[-1]:
                raise
    raise AssertionError("there is a last kind")


def _has_peer(sock: socket.socket) -> Optional[bool]:
    """Asks the kernel whether the socket at the other end is still open (sock_diag(7)). Returns None if it does not
    say. Unlike a check of the address, this needs no permissions there, and does not mistake another server for this
    one."""
    inode = os.fstat(sock.fileno()).st_ino
    # A nlmsghdr of 40 bytes: SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST. A unix_diag_req: all states, UDIAG_SHOW_PEER.
    question = struct.pack(
        "=IHHIIBBHIIIII", 40, 20, 1, 0, 0, socket.AF_UNIX, 0, 0, 0xFFFFFFFF, inode, 4, 0xFFFFFFFF, 0xFFFFFFFF
    )
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as netlink:
            netlink.sendto(question, (0, 0))
            reply = netlink.recv(256, socket.MSG_DONTWAIT)
    except OSError:
        return None
    if len(reply) < 32 or struct.unpack_from("=H", reply, 4) != (20,):
        return None
    place = 32
    while place + 8 <= len(reply):
        length, kind, number = struct.unpack_from("=HHI", reply, place)
        if kind == 2:  # UNIX_DIAG_PEER
            return bool(number != 0)
        place += (max(length, 4) + 3) & ~3
    return False


class _ItemQueue:
    """Items of a stream that were received and not requested yet."""

    def __init__(self) -> None:
        self.messages: collections.deque[Message] = collections.deque()
        self.bytes = self.fds = 0
        self.ended = False

    def push(self, message: Message, limit: int) -> bool:
        """Adds a message if there is room; returns true if so. There is always room for the first."""
        size, fds = self.bytes + len(message.text), self.fds + len(message.fds)
        if self.messages and (len(self.messages) >= KEPT_ITEMS or size > limit or fds > KEPT_FDS):
            return False
        self.messages.append(message)
        self.bytes, self.fds = size, fds
        return True

    def pop(self) -> Message:
        message = self.messages.popleft()
        self.bytes, self.fds = self.bytes - len(message.text), self.fds - len(message.fds)
        return message

    def close(self) -> None:
        for message in self.messages:
            message.close()
        self.messages.clear()


class Connection:
    """Makes calls over a connected socket, which it owns. For one thread at a time, and for the process that made it:
    in a forked child each call raises Forked, and closing it does not affect the parent's calls.

    The kernel does not report the death of a datagram server. While it waits, the connection polls for that."""

    def __init__(
        self,
        sock: socket.socket,
        timeout: float = DEFAULT_TIMEOUT,
        address: Any = None,
        limit: int = MESSAGE_MAX,
        closer: Optional[_Closer] = None,
    ) -> None:
        self.transport = Transport(sock, limit)
        if self.transport.connected:
            peer = Peer.of_connection(sock)
            # Of a pair that this process has made, the kernel reports this process.
            is_own = peer.pid == os.getpid() and not sock.getsockname() and not _peer_name(sock)
            self.transport.giver = None if is_own else peer.uid
        if closer is not None:
            # Another process may have a copy, and make the socket blocking.
            self.transport.flags |= socket.MSG_DONTWAIT
        self._closer = closer
        self._forks = _forks
        self.timeout = timeout
        self.trace: Optional[TraceParent] = None  # that the calls from now on belong to
        if address is not None and not _is_abstract(address):
            address = os.path.abspath(address)  # stays valid after chdir(2)
        self._address = address
        self._check_at = math.inf if self.transport.connected else 0.0
        self._last = int.from_bytes(os.urandom(8), "big") >> 12  # random, below 2^52
        self._streams: dict[int, _ItemQueue] = {}
        self._gathered: list[_Gathered] = []  # calls of a batch that have not been sent
        self._batched: dict[int, BatchedCall] = {}  # calls that were sent in batches and have no reply yet
        self._notified = False  # since the last reply, so that a fault without an id may belong to it

    def call(self, method: str, params: Any = None, timeout: Optional[float] = None) -> Message:
        """Calls a method and waits for its reply, for `timeout` seconds if given, otherwise for the connection's
        (`math.inf` waits without limit). Descriptors in the arguments are duplicated; the caller keeps its own."""
        deadline = self._deadline(timeout)
        identity = self._begin(method, params, deadline, with_timeout=True)
        try:
            reply = self._next(identity, deadline)
        except Closed:
            raise
        except BaseException:
            self._cancel(identity)
            raise
        return _outcome(reply)

    def stream(self, method: str, params: Any = None, timeout: Optional[float] = None) -> Items:
        """Calls a method that returns a stream. `timeout` is for each item."""
        identity = self._begin(method, params, self._deadline(timeout), with_timeout=False)
        self._streams[identity] = _ItemQueue()
        return Items(self, identity, timeout)

    def notify(self, method: str, params: Any = None) -> None:
        """Calls a one-way method."""
        self._send(self._call_of(None, method, params), self._deadline(None))
        self._notified = True

    def batch(self) -> Batch:
        """Returns an object that gathers calls and sends many in one datagram; see `Batch`."""
        return Batch(self)

    def next_id(self) -> int:
        """Returns an id for a call that the program sends with `transport` itself. `reply_to` waits for its reply."""
        self._last += 1
        return self._last

    def reply_to(self, identity: int, timeout: Optional[float] = None) -> Message:
        return self._next(identity, self._deadline(timeout))

    def fileno(self) -> int:
        return self.transport.sock.fileno()

    def allow_foreign_endpoints(self) -> None:
        """Takes connections in replies from now on whichever user's process is at their other end."""
        self.transport.giver = ANYONE

    def _check_idle(self) -> None:
        """Raises ValueError if the connection cannot be sent: its receiver could take our replies."""
        if not self.transport.connected:
            raise ValueError("a connection over datagrams cannot be sent")
        if self._forks != _forks or self._streams or self._batched or self._gathered:
            raise ValueError("the connection has calls in flight, or is another process's")

    def close(self) -> None:
        """Closes the connection. Calls that a batch has gathered are sent first, if there is room for them."""
        with contextlib.suppress(Error, OSError):
            self._flush(0.0)
        for kept in self._streams.values():
            kept.close()
        self._streams.clear()
        for call in self._batched.values():
            call._failure = Closed("the connection was closed")
        self._batched.clear()
        if self._closer is None or self.transport.sock.fileno() < 0:
            self.transport.close()
        else:
            self._closer.close(Fd(self.transport.sock.detach()))

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _deadline(self, timeout: Optional[float]) -> float:
        return time.monotonic() + (self.timeout if timeout is None else timeout)

    def _call_of(self, identity: Optional[int], method: str, params: Any) -> dict[str, Any]:
        """Returns the members of a call; of a one-way call without an id."""
        call: dict[str, Any] = {"jsonrpc": "2.0"}
        if identity is not None:
            call["id"] = identity
        call.update(method=method, params={} if params is None else params)
        if self.trace is not None:
            call["traceparent"] = self.trace
        return call

    def _begin(self, method: str, params: Any, deadline: float, with_timeout: bool) -> int:
        identity = self.next_id()
        call = self._call_of(identity, method, params)
        left = min((deadline - time.monotonic()) * 1000, TIMEOUT_MAX)
        if with_timeout and deadline < math.inf:
            call["timeout"] = max(1, int(left))
        self._send(call, deadline)
        if not self.transport.connected:
            self._check_at = time.monotonic() + LIVENESS_INTERVAL
        return identity

    def _send(self, value: Any, deadline: float) -> None:
        text, fds = encode(value)
        self._flush(deadline)
        self._send_text(text, fds, deadline)

    def _gather(self, batch: Batch, call: Optional[BatchedCall], value: Any, deadline: float) -> None:
        """Keeps a call for the next flush. Sends those before it if there is no room for one more beside them."""
        _check_process(self._forks)
        text, fds = encode(value)
        if fds:
            raise ValueError("a batch brings no descriptors: call the method by itself")
        if len(text) > self.transport.limit:
            raise ValueError(f"a message of {len(text)} bytes exceeds {self.transport.limit}")
        room = min(self.transport.inline_max(), self.transport.limit) - len("[]")
        used = sum(len(one.text) + TIMEOUT_ROOM for one in self._gathered)
        if len(self._gathered) >= BATCH_MAX or used + len(text) + TIMEOUT_ROOM > room:
            self._flush(deadline)
        self._gathered.append(_Gathered(batch, call, text))

    def _flush(self, deadline: float) -> None:
        """Sends the calls that batches have gathered. If they cannot be sent, they fail; so does this."""
        if not self._gathered:
            return
        gathered, self._gathered = self._gathered, []
        texts, now = list[bytes](), time.monotonic()
        for _, call, text in gathered:
            if call is not None and call._deadline <= now:
                call._failure = NotSent("the time was up before the call was sent")
            elif call is not None and call._deadline < math.inf:
                left = max(1, int(min((call._deadline - now) * 1000, TIMEOUT_MAX)))
                texts.append(text[:-1] + b',"timeout":%d}' % left)
            else:
                texts.append(text)
        sent = [one.call for one in gathered if one.call is not None and one.call._failure is None]
        for call in sent:
            call._together = sent
        self._batched.update((call.identity, call) for call in sent)
        try:
            if texts:
                array = b"[" + b",".join(texts) + b"]"
                self._send_text(array if len(texts) > 1 else texts[0], [], deadline)
        except BaseException as error:
            for call in sent:
                self._batched.pop(call.identity, None)
                call._failure = error if isinstance(error, Error) else NotSent(f"the batch was not sent: {error}")
            raise
        self._notified = self._notified or len(sent) < len(texts)
        if not self.transport.connected:
            self._check_at = time.monotonic() + LIVENESS_INTERVAL

    def _send_text(self, text: bytes, fds: list[Any], deadline: float) -> None:
        _check_process(self._forks)
        if (self._streams or self._batched) and not self.transport.connected:
            self._receive_queued()  # sending to a dead server discards the replies that are queued
        self.transport.sock.settimeout(0)
        while True:
            try:
                self.transport.send_text(text, fds)
                return
            except BlockingIOError:
                self._wait_for_room(deadline)
            except OSError as error:
                if error.errno in NO_PEER:
                    raise Closed("the server has closed") from None
                if error.errno not in NO_ROOM:
                    raise
                self._wait_for_room(deadline, announced=False)

    def _wait_for_room(self, deadline: float, announced: bool = True) -> None:
        """Waits for room, and receives meanwhile: a blocked server reads again once it has sent its replies. Short if no
        event announces room, when memory or descriptors are short."""
        left = min(deadline - time.monotonic(), TIMEOUT_LONGEST)
        if left <= 0:
            raise NotSent("no room for the call in time")
        poll = select.poll()
        poll.register(self.transport.sock, select.POLLIN | (select.POLLOUT if announced else 0))
        left = left if announced else min(left, PAUSE)
        if any(event & select.POLLIN for _, event in poll.poll(left * 1000)):
            self._receive_queued()

    def _receive_queued(self) -> None:
        """Receives what has come, within limits."""
        self.transport.sock.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            for _ in range(32):
                message = self.transport.receive_text()
                if message is None:
                    raise Closed("the server has closed")
                self._match_reply(message, None)

    def _receive(self, deadline: float) -> Message:
        while True:
            now = time.monotonic()
            server_dead = now >= self._check_at and self._is_server_dead()
            if now >= self._check_at:
                self._check_at = now + LIVENESS_INTERVAL
            left = min(deadline, self._check_at) - now
            if left <= 0:
                raise Deadline("no reply in time")
            # It may have replied just before it died.
            self.transport.sock.settimeout(0 if server_dead else min(left, TIMEOUT_LONGEST))
            try:
                message = self.transport.receive_text()
            except BlockingIOError:
                raise Closed("the server has closed") from None
            except socket.timeout:
                continue
            if message is None:
                raise Closed("the server has closed")
            if server_dead:
                self._check_at = now
            return message

    def _is_server_dead(self) -> bool:
        """Returns true if the server is known to be dead."""
        has_peer = _has_peer(self.transport.sock)
        if has_peer is None and self._address is not None:
            with contextlib.suppress(OSError), _reachable(self._address) as name:
                return _is_dead(name)
        return has_peer is False

    def _next(self, identity: int, deadline: float) -> Message:
        """Waits for the next reply to this call."""
        _check_process(self._forks)
        kept = self._streams.get(identity)
        if kept and kept.messages:
            return kept.pop()
        while True:
            message = self._match_reply(self._receive(deadline), identity)
            if message is not None:
                self._notified = False
                return message

    def _match_reply(self, message: Message, identity: Optional[int]) -> Optional[Message]:
        """Returns a message that is the reply to this call. Keeps those to other calls in flight, and drops the rest.
        The elements of an array are replies like any others."""
        if not _is_array(message.text):
            return self._match_one(message, identity)
        message.close()  # an array brings no descriptors
        try:
            elements = _split(message.text)
            if not elements:
                raise BadMessage(Fault.INVALID_REQUEST, "an empty array instead of replies", message.text)
        except BadMessage:
            if identity is None:
                return None
            raise
        found, bad = list[Message](), list[BadMessage]()
        for text in elements:
            try:
                one = self._match_one(Message(text), None if found else identity, in_array=True)
            except BadMessage as error:
                bad.append(error)
            else:
                found += [one] if one else []
        if bad and not found:
            raise bad[0]
        return found[0] if found else None

    def _match_one(self, message: Message, identity: Optional[int], in_array: bool = False) -> Optional[Message]:
        try:
            value = decode(message.text)
            if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
                raise BadMessage(Fault.INVALID_REQUEST, "not a reply", message.text)
        except BadMessage as error:
            message.close()
            bad = _id(_peek(message.text).get("id"))
            if identity is not None and bad in (identity, None):
                raise
            call = self._batched.pop(bad, None) if isinstance(bad, int) else None
            if call is not None:
                call._failure = error
            return None
        message.value, found = value, value.get("id")
        ours = found == identity and identity is not None
        if "id" in value and found is None and "error" in value and not self._notified:
            ours = identity is not None and {*self._streams, *self._batched} <= {identity}
            ours = ours or (not in_array and self._refuse_batch(identity, message))
        if ("method" in value and not {"result", "error"} & set(value)) or isinstance(found, (bool, float)):
            message.close()
        elif ours:
            return message
        else:
            self._keep(found, message)
        return None

    def _refuse_batch(self, identity: Optional[int], message: Message) -> bool:
        """Returns true if a fault without an id refuses the whole batch of this call: no other call is in flight, and
        none of the batch has a reply. The other calls of the batch fail in the same way."""
        call = None if identity is None else self._batched.get(identity)
        if call is None or self._streams or [*self._batched.values()] != call._together:
            return False
        for other in call._together:
            if other is not call:
                self._keep(other.identity, message)
        return True

    def _keep(self, identity: Any, message: Message) -> None:
        call = self._batched.pop(identity, None) if isinstance(identity, int) else None
        if call is not None:
            call._reply = message
            return
        kept = self._streams.get(identity) if isinstance(identity, int) else None
        if kept is None or kept.ended or kept.push(message, self.transport.limit):
            if kept is None or kept.ended:
                message.close()
            return
        message.close()
        count = len(kept.messages)
        full = Message(b"")
        full.value = {"error": {"code": Fault.BUSY, "message": f"{count} items were not read, and there is no room"}}
        kept.messages.append(full)
        kept.ended = True
        self._cancel(identity)

    def _cancel(self, identity: int) -> None:
        """Sends rpc.cancel if there is room. Does nothing in a forked child, which has no calls."""
        if self._forks != _forks:
            return
        cancel = {"jsonrpc": "2.0", "method": "rpc.cancel", "params": {"id": identity}}
        self.transport.sock.settimeout(0)
        with contextlib.suppress(OSError):
            self.transport.send(cancel)


def _outcome(message: Message) -> Message:
    """Opens a reply: returns its result, or raises the error that it is."""
    reply = message.value
    try:
        if "method" in reply or ("result" in reply) == ("error" in reply):
            raise BadMessage(Fault.INVALID_REQUEST, "not a reply", message.text)
        more = reply.get("more", False)
        if not isinstance(more, bool):
            raise BadMessage(Fault.INVALID_REQUEST, "more is not a boolean", message.text)
        if "result" in reply:
            message.value, message.more = reply["result"], more
            return message
        error = reply["error"] if isinstance(reply["error"], dict) else {}
        code, text, data = error.get("code"), error.get("message"), error.get("data")
        if isinstance(code, bool) or not isinstance(code, int) or not isinstance(text, str):
            raise BadMessage(Fault.INVALID_REQUEST, "an error without code or message", message.text)
        if -32768 <= code <= -32000:
            field = data.get("field") if isinstance(data, dict) else None
            raise Fault(code, text, field if isinstance(field, str) else None)
    except Error:
        message.close()
        raise
    message.value = data
    raise ServiceError(code, text, data, message)


class _Gathered(typing.NamedTuple):
    """A call that a batch has gathered; without `call` it is a one-way call."""

    batch: Batch
    call: Optional[BatchedCall]
    text: bytes


class Batch:
    """Gathers calls and sends many of them in one datagram:

        with connection.batch() as batch:
            sums = [batch.call("example.sums.add", {"a": 1, "b": b}) for b in range(10)]
            batch.notify("example.sums.note", {"text": "ten"})
        print([sum.wait().value for sum in sums])

    They are sent at the end of `with`, by `flush`, when one is waited for, when 64 are gathered or the datagram is
    full, and before any other call of the connection. If the block raises, calls that were not sent are dropped.
    Arguments cannot have descriptors; replies can."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def call(self, method: str, params: Any = None, timeout: Optional[float] = None) -> BatchedCall:
        """Gathers a call. Its `timeout` starts now."""
        connection = self._connection
        call = BatchedCall(connection, connection.next_id(), connection._deadline(timeout))
        members = connection._call_of(call.identity, method, params)
        connection._gather(self, call, members, call._deadline)
        return call

    def notify(self, method: str, params: Any = None) -> None:
        """Gathers a call of a one-way method."""
        members = self._connection._call_of(None, method, params)
        self._connection._gather(self, None, members, self._connection._deadline(None))

    def flush(self) -> None:
        """Sends the calls that have been gathered. Raises what `Connection.notify` raises."""
        self._connection._flush(self._connection._deadline(None))

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind is None:
            self.flush()
            return
        for one in [one for one in self._connection._gathered if one.batch is self]:
            self._connection._gathered.remove(one)
            if one.call is not None:
                one.call._failure = NotSent("the call was dropped before it was sent")


class BatchedCall:
    """A call of a `Batch`. `wait` returns its reply; `close` cancels it."""

    def __init__(self, connection: Connection, identity: int, deadline: float) -> None:
        self.identity = identity
        self._connection, self._deadline = connection, deadline
        self._reply: Optional[Message] = None
        self._failure: Optional[BaseException] = None
        self._together: list[BatchedCall] = []  # the calls that were sent with it
        self._ended = False

    def wait(self) -> Message:
        """Waits for the reply until the deadline that began when the call was gathered. Returns it, or raises like
        `Connection.call`. A reply is returned once."""
        if self._ended:
            raise ValueError("the reply has been returned")
        try:
            if self._is_gathered():
                self._connection._flush(self._deadline)
            if self._reply is None and self._failure is None:
                self._reply = self._connection._next(self.identity, self._deadline)
                self._connection._batched.pop(self.identity, None)
        except Closed:
            self._connection._batched.pop(self.identity, None)
            raise
        except BaseException:
            self.close()
            raise
        finally:
            self._ended = True
        if self._failure is not None:
            raise self._failure
        assert self._reply is not None
        return _outcome(self._reply)

    def close(self) -> None:
        """Drops the call if it has not been sent, cancels it if it has no reply, and otherwise closes the reply."""
        self._ended = True
        connection = self._connection
        connection._gathered = [one for one in connection._gathered if one.call is not self]
        if connection._batched.pop(self.identity, None) is not None:
            connection._cancel(self.identity)
        if self._reply is not None:
            self._reply.close()

    def _is_gathered(self) -> bool:
        return any(one.call is self for one in self._connection._gathered)

    def __enter__(self) -> BatchedCall:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Items:
    """The items of a stream. Leaving `with` before the end cancels the stream."""

    def __init__(self, connection: Connection, identity: int, timeout: Optional[float]) -> None:
        self._connection, self._identity, self._timeout = connection, identity, timeout
        self._ended = False

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        if self._ended:
            raise StopIteration
        try:
            item = _outcome(self._connection._next(self._identity, self._connection._deadline(self._timeout)))
        except Deadline:
            raise  # the item may still come
        except (Closed, ServiceError, Fault):
            self._end()
            raise
        except BaseException:  # for example an invalid item
            self.close()
            raise
        if not item.more:
            self._end()
            if item.value is None:
                item.close()
                raise StopIteration
        return item

    def _end(self) -> None:
        self._ended = True
        self._connection._streams.pop(self._identity, _ItemQueue()).close()

    def close(self) -> None:
        if not self._ended:
            self._end()
            self._connection._cancel(self._identity)

    def __enter__(self) -> Items:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# Child processes.


class NoParent(Error):
    """This process was not started with a connection to its parent, or has taken it over already."""


class Child:
    """A program that was started with a connection to this one, by `spawn` or `Server.spawn`: its `process`, and the
    `connection` to call it by, if it serves.

    `close`, and the end of `with`, ends it: its connection is shut down for sending, upon which a server that serves
    its parent stops, and it is killed if it has not ended within `grace` seconds. No zombie is left."""

    def __init__(self, process: subprocess.Popen[Any], sock: socket.socket) -> None:
        self.process, self.grace = process, GRACE
        self.pidfd: Optional[Fd] = None  # readable when it has ended; since Linux 5.3
        self._sock, self._forks = sock, _forks
        self._connection: Optional[Connection] = None
        with contextlib.suppress(OSError):
            self.pidfd = Fd(os.pidfd_open(process.pid))

    @property
    def connection(self) -> Connection:
        """The connection of a child that serves. A child that calls has none: ValueError."""
        if self._connection is None:
            raise ValueError("the child of a server has no connection: it calls")
        return self._connection

    def wait(self, timeout: Optional[float] = None) -> int:
        """Waits until the child has ended, and returns its exit code, which is negative for a signal. Shuts its
        connection down for sending before, and closes its `stdin`. Raises Deadline if it has not ended in time."""
        _check_process(self._forks)
        with contextlib.suppress(OSError):  # it may be closed
            self._sock.shutdown(socket.SHUT_WR)
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Deadline("the child has not ended") from None

    def kill(self) -> None:
        """Sends SIGKILL, by pidfd where there is one. Does nothing if the child has ended."""
        _check_process(self._forks)
        if self.pidfd is None:
            self.process.kill()
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd.fileno(), signal.SIGKILL)

    def close(self) -> None:
        """Ends the child, and closes what belongs to it. In a forked process, only closes the copies."""
        if self._forks == _forks:
            try:
                self.wait(self.grace)
            except Deadline:
                self.kill()
                self.process.wait()
        if self._connection is not None:
            self._connection.close()
        for file in (self.process.stdin, self.process.stdout, self.process.stderr, self.pidfd):
            if file is not None:
                file.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def spawn(args: Any, timeout: float = DEFAULT_TIMEOUT, limit: int = MESSAGE_MAX, **options: Any) -> Child:
    """Starts a program that serves this one (`Server.adopt_parent`), and connects to it. `timeout` and `limit` are
    those of the connection, `options` those of subprocess.Popen. Raises OSError if it cannot be started.

    The program inherits its end of a pair of sockets, whose number is in the environment (PARENT_FD). No other program
    does. It takes it over only from its parent itself: a wrapper has to `exec` it."""
    child = _start(args, options)
    child._connection = Connection(child._sock, timeout, limit=limit)
    return child


def from_parent(timeout: float = DEFAULT_TIMEOUT, limit: int = MESSAGE_MAX) -> Connection:
    """Connects to the parent process, which serves this one (`Server.spawn`). Raises NoParent."""
    return Connection(_take_parent(), timeout, limit=limit)


def _start(args: Any, options: dict[str, Any]) -> Child:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with far, Fd(fcntl.fcntl(far, fcntl.F_DUPFD_CLOEXEC, 3)) as end:  # above the standard streams
            env = dict(os.environ if options.get("env") is None else options["env"])
            options["env"] = {**env, PARENT_FD: str(end.fileno())}
            # Made inheritable in the child only.
            options["pass_fds"] = (*options.get("pass_fds", ()), end.fileno())
            return Child(subprocess.Popen(args, **options), near)
    except BaseException:
        near.close()
        raise


_taking = threading.Lock()


def _take_parent() -> socket.socket:
    """Takes over the connection to the parent process. Raises NoParent, and changes nothing then."""
    value = os.environ.get(PARENT_FD)
    if value is None:
        raise NoParent(f"{PARENT_FD} is not set")
    if not re.fullmatch("[0-9]{1,9}", value) or int(value) <= 2:
        raise NoParent(f"{PARENT_FD} is not a number above 2")
    with _taking:
        try:
            if not os.get_inheritable(int(value)):
                raise NoParent("the descriptor has been taken over already")
        except OSError:
            raise NoParent("the descriptor is not open") from None
        try:
            sock = socket.socket(fileno=int(value))
        except OSError:
            raise NoParent("the descriptor is not a seqpacket connection") from None
        if (sock.family, sock.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET) or not _is_paired(sock):
            sock.detach()
            raise NoParent("the descriptor is not a seqpacket connection")
        maker, _, _ = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if maker != os.getppid():
            sock.detach()
            raise NoParent("the parent has ended, or the connection is that of another process to its own child")
        sock.set_inheritable(False)
        return sock


# The server.


class TraceParent(str):
    """The trace that a call belongs to, as the caller says: a `traceparent` of the W3C Trace Context. A client sends that of
    its `Connection.trace`. An argument of a method that is annotated with it is that of the call, or None, and not part of
    the call. Whoever calls can write any, so it never grants anything."""

    _FORM = re.compile(
        "(?!ff)([0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", re.ASCII | re.DOTALL
    )

    @classmethod
    def parse(cls, text: Any) -> Optional[TraceParent]:
        """Returns the trace, in version 00; None if it is malformed."""
        match = cls._FORM.fullmatch(text) if isinstance(text, str) else None
        if match is None or (match[1] == "00" and match[2] is not None):
            return None
        return cls("00" + text[2:55])


class Peer(typing.NamedTuple):
    """The identity of a peer, as reported by the kernel: on "seqpacket" of the process that called connect(2), on
    "dgram" of the process that sent this message. What was not reported, or has no number here, is None: never grant
    a right because of that. The pid is for logs; it may be another process's by now."""

    uid: Optional[int] = None
    gid: Optional[int] = None
    pid: Optional[int] = None
    groups: Optional[tuple[int, ...]] = None  # supplementary groups, on "seqpacket", up to 256

    def is_in_group(self, gid: int) -> bool:
        """Returns true if this is its group or one of its known groups. Use it to grant access, not to deny it."""
        return gid == self.gid or gid in (self.groups or ())

    @staticmethod
    def of(credentials: Optional[tuple[int, int, int]]) -> Peer:
        """Reads SCM_CREDENTIALS or SO_PEERCRED: pid, uid and gid."""
        if credentials in (None, (0, OVERFLOW_ID, OVERFLOW_ID)):  # also before SO_PASSCRED was set
            return Peer()
        assert credentials is not None
        pid, uid, gid = credentials
        return Peer(_number(uid, "uid"), _number(gid, "gid"), pid or None)

    @staticmethod
    def of_connection(sock: socket.socket) -> Peer:
        try:
            pid, uid, gid = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        except OSError:
            return Peer()
        try:
            groups = array.array("I", sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 1024))
        except OSError:
            return Peer.of((pid, uid, gid))
        known = [number for number in groups if _number(number, "gid") is not None]
        return Peer.of((pid, uid, gid))._replace(groups=tuple(known))


def _number(number: int, of: str) -> Optional[int]:
    """Returns an id that is valid here, or None. Where a user namespace maps all ids, the overflow id is an ordinary
    one."""
    if number == OVERFLOW_ID:
        try:
            with open(f"/proc/self/{of}_map") as file:
                return number if file.read().split() == ["0", "0", "4294967295"] else None
        except OSError:
            return None
    return number if number != 0xFFFFFFFF else None


def _check_hint(hint: Any) -> None:
    """Refuses an annotation that `_unpack` cannot apply."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        if inner[0] is Fd and any(word not in FD_KINDS for word in inner[1:]):
            raise TypeError(f"a descriptor is of {', '.join(FD_KINDS)}")
        return _check_hint(inner[0])
    if origin is Union or origin is getattr(types, "UnionType", Union):
        inner = tuple(option for option in inner if option is not type(None))
        if len(inner) != 1:
            raise TypeError(f"an argument cannot be {hint}")
    elif origin is dict and inner[0] is not str:
        raise TypeError("the keys of an argument are str")
    elif origin not in (None, list, dict) or (origin is None and hint not in PLAIN):
        raise TypeError(f"an argument cannot be {hint}")
    for one in inner:
        _check_hint(one)


def _unpack(hint: Any, value: Any, message: Message, name: str) -> Any:
    """Converts an argument as its annotation says, or refuses it by name."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Fd:
        return message.named(value, name)
    if hint is Connection:
        return message.endpoint(message.named(value, name), name)
    if origin is typing.Annotated and inner[0] is Fd:
        fd = message.named(value, name)
        came, wanted = fd.kinds(), inner[1:]
        if not came.issuperset(wanted):
            reason = f"descriptor {value} is `{_words(came)}`, and not `{_words(wanted)}`"
            raise Fault(Fault.INVALID_DESCRIPTORS, reason, name)
        return fd
    if origin is typing.Annotated:
        return _unpack(inner[0], value, message, name)
    if origin is Union or origin is getattr(types, "UnionType", Union):
        [some] = [option for option in inner if option is not type(None)]
        return None if value is None else _unpack(some, value, message, name)
    wanted: Any = object if hint is Any else origin or hint
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if wanted is float and number:
        try:
            return float(value)
        except OverflowError:
            raise Fault(Fault.INVALID_PARAMS, f"{name}: too large for float", name) from None
    if not isinstance(value, wanted) or (wanted is int and not number):
        raise Fault(Fault.INVALID_PARAMS, f"{name}: not {getattr(wanted, '__name__', wanted)}", name)
    if wanted is list and inner:
        return [_unpack(inner[0], item, message, f"{name}[{index}]") for index, item in enumerate(value)]
    if wanted is dict and inner:
        return {key: _unpack(inner[1], item, message, f"{name}.{key}") for key, item in value.items()}
    return value


TYPES = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    list: "array",
    dict: "object",
    type(None): "null",
}
PLAIN = (Any, Fd, Connection, object, *TYPES)


def _schema(hint: Any) -> dict[str, Any]:
    """Returns the schema of an annotation. An unknown annotation allows anything."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Fd:
        return {"type": "integer", "minimum": 0, "x-file-descriptor": True}
    if hint is Connection:
        return {"type": "integer", "minimum": 0, "x-file-descriptor": True, "x-service": ""}
    if origin is typing.Annotated:
        kinds = [*inner[1:]] if inner[0] is Fd else []
        return {**_schema(inner[0]), **({"x-kind": kinds} if kinds else {})}
    if origin is Union or origin is getattr(types, "UnionType", Union):
        return {"anyOf": [_schema(one) for one in inner]}
    if origin is list:
        return {"type": "array", "items": _schema(inner[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(inner[1])}
    return {"type": TYPES[hint]} if origin is None and hint in PLAIN and hint in TYPES else {}


class _Method:
    """A function that is served, and its arguments."""

    def __init__(self, function: Callable[..., Any], authorize: Optional[Rule] = None) -> None:
        self.function, self.rule = function, authorize
        hints = typing.get_type_hints(function, include_extras=True)
        self.returns = hints.get("return", Any)
        taken = inspect.signature(function).parameters
        self.hints = {name: hints.get(name, Any) for name in taken}
        context = (name for name, hint in self.hints.items() if hint in (Peer, Session, TraceParent))
        self.context = {name: self.hints.pop(name) for name in list(context)}  # not arguments of the call
        for name, hint in self.hints.items():
            if taken[name].kind not in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
                raise TypeError(f"{name} cannot be given by name")
            _check_hint(hint)
        self.defaults = {one.name: one.default for one in taken.values() if one.default is not one.empty}

    def describe(self, name: str) -> dict[str, Any]:
        """Returns the description of the method for OpenRPC."""
        method: dict[str, Any] = {"name": name, "paramStructure": "by-name"}
        docs = inspect.getdoc(self.function)
        if docs:
            method.update(summary=" ".join(docs.split("\n\n")[0].split()), description=docs)
        method["params"] = [
            {
                "name": one,
                "required": one not in self.defaults and type(None) not in typing.get_args(hint),
                "schema": _schema(hint),
            }
            for one, hint in self.hints.items()
        ]
        inner = typing.get_args(self.returns)
        if inspect.isgeneratorfunction(self.function):
            method.update({"result": {"name": "item", "schema": _schema(inner[0] if inner else Any)}, "x-stream": True})
        else:
            method["result"] = {"name": "result", "schema": _schema(self.returns)}
        if self.rule is not None:
            method["x-restricted"] = True
        return method

    def arguments(self, message: Message, peer: Peer, session: Optional[Session] = None) -> dict[str, Any]:
        """Checks the arguments as strictly as a server must."""
        params = message.value
        if isinstance(params, list):
            if len(params) > len(self.hints):
                raise Fault(Fault.INVALID_PARAMS, "too many arguments")
            params = dict(zip(self.hints, params))
        if not isinstance(params, dict):  # of a bare message; of a call it is known
            raise Fault(Fault.INVALID_PARAMS, "the arguments are neither an object nor an array")
        flaw = _flaw([*params])
        if flaw is not None:  # a name that cannot be repeated
            raise Fault(Fault.INVALID_PARAMS, flaw)
        if isinstance(params, _RepeatedKey):
            raise Fault(Fault.INVALID_PARAMS, params.flaw(), params.key[:128])
        for name, value in params.items():
            flaw = "unknown argument" if name not in self.hints else _flaw(value)
            if flaw is not None:
                raise Fault(Fault.INVALID_PARAMS, f"{name[:128]}: {flaw}", name[:128])
        context = {Peer: peer, Session: session, TraceParent: message.trace}
        values: dict[str, Any] = {name: context[hint] for name, hint in self.context.items()}
        for name, hint in self.hints.items():
            if name in params:
                values[name] = _unpack(hint, params[name], message, name)
            elif name not in self.defaults:
                if type(None) not in typing.get_args(hint):
                    raise Fault(Fault.INVALID_PARAMS, f"{name}: missing", name)
                values[name] = None
        if len(message._named) < len(message.fds):
            raise Fault(Fault.INVALID_DESCRIPTORS, "a descriptor is not named by any argument")
        return values


_END = object()  # of a stream


class _OpenStream(typing.NamedTuple):
    """A stream that is being sent."""

    identity: Any
    items: Generator[Any, None, None]
    call: Message
    deadline: float

    def end(self) -> None:
        try:
            self.items.close()
        except Exception:  # of the program, after its last item
            LOG.exception("a stream failed at its end")
        self.call.close()


_Server = typing.TypeVar("_Server", bound="Server")
Rule = Callable[[Peer], object]  # whether it is served


class _Account:
    """Resources used by the connections of one user, or by all peers of one datagram socket."""

    def __init__(self) -> None:
        self.transports: set[Transport] = set()
        self.bytes = self.fds = 0  # of replies that wait for room
        self.closer = _Closer()
        self.endpoints: weakref.WeakSet[Connection] = weakref.WeakSet()  # that its peers have sent

    def connections(self) -> int:
        """Returns how many connections it has, with those that its peers have sent and that are open."""
        return len(self.transports) + sum(made.fileno() >= 0 for made in self.endpoints)

    def may_send(self, count: int, most: int) -> bool:
        """Returns true if this many descriptors may be sent. The kernel counts descriptors in flight against our
        user, not against the user that does not read them."""
        unread = sum(transport.unread for transport in self.transports)
        if unread + count > most:
            unread = sum(transport.count_unread() for transport in self.transports)
        return not unread or unread + count <= most


class _Reply(typing.NamedTuple):
    """A reply that waits for room."""

    text: bytes
    fds: list[Fd]
    identity: Any


class _Client:
    """A client to reply to: a connection, or an address on a datagram socket."""

    def __init__(self, transport: Transport, account: _Account, peer: Peer, address: Any = None) -> None:
        self.transport, self.account, self.peer, self.address = transport, account, peer, address
        self.queue: collections.deque[_Reply] = collections.deque()
        self.bytes = 0  # in the queue
        self.since = 0.0  # when the first in the queue found no room
        self.retry_at, self.pause = math.inf, 0.0  # where no event reports room
        self.streams: dict[str, _OpenStream] = {}
        self.malformed: collections.deque[float] = collections.deque()  # times of malformed messages
        self.is_last = False  # the server ends when it closes
        self.session: Optional[Session] = None
        self.gathered: Optional[list[_Reply]] = None  # while calls of a batch are handled: their replies

    def can_get_replies(self) -> bool:
        """Returns true if a reply can be sent. Only abstract names and connections get one: a path would be resolved
        with our permissions when the reply is sent."""
        return self.transport.connected or self.address is None or _is_abstract(self.address)

    def push(self, reply: _Reply) -> None:
        self.queue.append(reply)
        self._count(reply, 1)

    def pop(self) -> _Reply:
        reply = self.queue.popleft()
        self._count(reply, -1)
        for fd in reply.fds:
            fd.close()
        return reply

    def _count(self, reply: _Reply, sign: int) -> None:
        self.bytes += sign * len(reply.text)
        self.account.bytes += sign * len(reply.text)
        self.account.fds += sign * len(reply.fds)

    def end(self) -> None:
        for stream in self.streams.values():
            stream.end()
        self.streams.clear()
        while self.queue:
            self.pop()


class Session:
    """A connection that a server has made for one object; see `Server.open_session`. An argument of a method that is
    annotated with it is the session that the call came on, and not part of the call."""

    def __init__(self, service: str, tag: int, on_end: Optional[Callable[[int], object]]) -> None:
        self.service, self.tag = service, tag
        self.closed = False
        self._on_end = on_end

    def close(self) -> None:
        """Revokes the session: no further call on it is handled, and its peer sees that the server has closed, soon. A
        method that closes its own session still replies."""
        self.closed = True

    def end(self) -> None:
        self.closed = True
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            try:
                on_end(self.tag)
            except Exception:
                LOG.exception("the end of a session failed")


class _Batch:
    """The calls of a batch that have not been handled, and the replies to those that have."""

    def __init__(self, client: _Client, peer: Peer, elements: list[bytes], refusal: Optional[BadMessage]) -> None:
        self.client, self.peer, self.refusal = client, peer, refusal
        self.elements = collections.deque(elements)
        self.kept = 0  # bytes of them that the account is charged for


def _authorizes(rule: Optional[Rule], peer: Peer) -> bool:
    """Returns true if the rule, if there is one, authorizes the peer. Unknown peers are refused without asking, and a
    rule that raises refuses."""
    if rule is None:
        return True
    try:
        return peer.uid is not None and bool(rule(peer))
    except Exception:
        LOG.exception("a rule failed")
        return False


class _Endpoint:
    """A socket of the server, and its rule."""

    def __init__(self, sock: socket.socket, authorize: Optional[Rule], own: bool, foreign: bool) -> None:
        self.sock, self.own, self.rule, self.foreign = sock, own, authorize, foreign


class Server:
    """Calls functions for its clients. One thread, any number of sockets. Closing it closes and unlinks them. A
    forked child cannot use it (Forked); closing it there closes descriptors and does nothing else.

    On a datagram socket all clients share one send buffer. A client that does not read its replies can fill it. Serve
    untrusted clients on "seqpacket"."""

    SNDBUF = 4 << 20  # bytes of a datagram socket
    RETRY, GIVE_UP, PAUSE = 0.01, 1.0, 0.1  # seconds
    ITEMS_PER_TURN = 32  # items of a stream in one turn
    CONNECTIONS = 1024  # and at most three quarters of RLIMIT_NOFILE; above it a connection gets a fault and is closed
    USER_CONNECTIONS = 256  # of one user
    STREAMS = 16  # of one peer at once
    BATCH = 64  # calls in one batch
    CALLS_PER_TURN = 32  # of a batch
    ARRAY_BYTES = 1 << 16  # of replies that are sent in one array
    PEERS = 64  # datagram peers with streams, or with replies that wait for room
    WAITING, WAITING_BYTES = 256, 1 << 20  # replies that wait for one peer; above it the peer is disconnected
    USER_WAITING_BYTES = 4 << 20  # for all of one user, or of one datagram socket
    USER_DESCRIPTORS = 128  # in those, as many again sent and not read, and as many again to be closed
    MALFORMED, WINDOW = 8, 10.0  # malformed messages of a connection, and seconds; above it the peer is disconnected

    def __init__(self, limit: int = MESSAGE_MAX, descriptors: int = 16, discover: bool = True) -> None:
        """`limit` is the longest message in bytes, `descriptors` the most in one message. With `discover` the server
        replies to `rpc.discover` with a description of all methods."""
        self.limit, self.descriptors = limit, descriptors
        self._forks = _forks
        self._methods: dict[str, _Method] = {}
        self._discover = _Method(self.describe) if discover else None
        self._bare: Optional[Callable[[Any], tuple[str, Any]]] = None
        self._selector = selectors.DefaultSelector()
        self._places: list[_Place] = []
        self._held: list[socket.socket] = []  # hold abstract names in their other types
        self._endpoints: list[_Endpoint] = []
        self._clients: set[_Client] = set()
        self._sessions: set[_Client] = set()  # those of them that are sessions
        self._known: dict[tuple[Transport, Any], _Client] = {}  # datagram peers with replies to come
        self._batches: dict[Transport, _Batch] = {}  # with calls left; nothing is read from these sockets meanwhile
        self._accounts: dict[Optional[int], _Account] = {}  # by user
        self._shared: list[_Account] = []  # one for each datagram socket
        self._paused: dict[_Endpoint, float] = {}
        self._stopped = self._stopping = False
        self._grace_end = math.inf
        self._wake_reader, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self.watch(self._wake_reader, lambda: self._wake_reader.recv(64))

    # What is served, and where.

    def method(
        self, name: str, function: Optional[Callable[..., Any]] = None, authorize: Optional[Rule] = None
    ) -> Any:
        """Serves a function under this name, which includes the service. Without a function it is a decorator.

        Only calls of peers for which `authorize` returns true are handled; those of an unknown user are refused without
        asking. It is asked about each call, before the arguments and descriptors of the call are looked at."""
        if function is None:
            return lambda decorated: self.method(name, decorated, authorize)
        self._methods[name] = _Method(function, authorize)
        return function

    def describe(self) -> dict[str, Any]:
        """Returns an OpenRPC document of what is served, from annotations and docstrings."""
        services = dict.fromkeys(name.rpartition(".")[0] for name in self._methods)
        methods = [method.describe(name) for name, method in self._methods.items()]
        title = ", ".join(filter(None, services))
        return {"openrpc": "1.3.2", "info": {"title": title, "version": "0.0.0"}, "methods": methods}

    def bare(self, route: Callable[[Any], tuple[str, Any]]) -> None:
        """Accepts messages without an envelope. `route` maps a message to the name and arguments of a method, whose
        result is the reply. A message that it does not accept is dropped."""
        self._bare = route

    def bind(
        self,
        address: Address,
        kind: str,
        mode: Optional[int] = None,
        authorize: Optional[Rule] = None,
        allow_foreign_endpoints: bool = False,
    ) -> None:
        """Binds a socket; `mode` is the mode of its file, whatever the umask. Replaces the file of a dead server of
        the same user, never of a live one: OSError says what is in the way. An abstract name, which every process in
        the same network namespace can reach, is bound in all types.

        Only peers for which `authorize` returns true are served. Peers of an unknown user are refused without asking.
        `allow_foreign_endpoints` takes connections in calls whichever user's process is at their other end.
        """
        _check_process(self._forks)
        address = _address(address)
        if mode is not None and (_is_abstract(address) or not 0 <= mode <= 0o777):
            raise ValueError("a mode is 0 to 0o777, for a path only")
        with contextlib.ExitStack() as undo:
            sock = undo.enter_context(socket.socket(socket.AF_UNIX, KINDS[kind]))
            if kind == "dgram":  # before it is bound: earlier messages would have no credentials
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            if _is_abstract(address):
                held = _bind_abstract(sock, address)
                for other in held:
                    undo.enter_context(other)
                self._add(_Endpoint(sock, authorize, True, allow_foreign_endpoints))
                self._held += held
            else:
                place = _Place(address)
                undo.callback(place.remove)
                place.bind(sock, mode)
                self._add(_Endpoint(sock, authorize, True, allow_foreign_endpoints))
                self._places.append(place)
            undo.pop_all()

    def adopt(
        self,
        sock: socket.socket,
        authorize: Optional[Rule] = None,
        peer: Optional[Peer] = None,
        stop_on_close: bool = False,
        allow_foreign_endpoints: bool = False,
    ) -> None:
        """Serves a socket made elsewhere: a datagram socket, a listening one, or a connection to its one client. Its
        file, if any, is not removed. Raises ValueError for any other socket, which stays as it is.

        The kernel reports the process that made a pair of sockets as the peer at both ends. Where that is this
        process, the peer is unknown unless `peer` says who it is. `stop_on_close` ends `run` when the connection
        ends."""
        _check_process(self._forks)
        domain, kind = (sock.getsockopt(socket.SOL_SOCKET, what) for what in (socket.SO_DOMAIN, socket.SO_TYPE))
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if domain != socket.AF_UNIX or kind not in KINDS.values():
            raise ValueError("not a unix datagram or seqpacket socket")
        if kind == socket.SOCK_SEQPACKET and not listens and not _is_paired(sock):
            raise ValueError("the socket neither listens nor is connected")
        if stop_on_close and (kind == socket.SOCK_DGRAM or listens):
            raise ValueError("stop_on_close is for a connection")
        sock.set_inheritable(False)
        with contextlib.suppress(OSError):  # since Linux 6.5
            sock.setsockopt(socket.SOL_SOCKET, SO_PASSPIDFD, 0)
        endpoint = _Endpoint(sock, authorize, False, allow_foreign_endpoints)
        if kind == socket.SOCK_DGRAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        if kind == socket.SOCK_DGRAM or listens:
            self._add(endpoint)
            return
        if peer is None:
            peer = Peer.of_connection(sock)
            peer = Peer() if peer.pid == os.getpid() else peer
        client = self._add_client(endpoint, sock, peer)
        if client is not None:
            client.is_last = stop_on_close
        elif stop_on_close:
            self.stop()

    def adopt_parent(self, authorize: Optional[Rule] = None) -> None:
        """Serves the parent process, which has started this one by `spawn`. `run` ends when the parent closes the
        connection or ends. Raises NoParent if this process was not started so."""
        _check_process(self._forks)
        self.adopt(_take_parent(), authorize, stop_on_close=True)

    def spawn(
        self, args: Any, authorize: Optional[Rule] = None, peer: Optional[Peer] = None, **options: Any
    ) -> Child:
        """Starts a program that calls this server (`from_parent`). It is an unknown peer unless `peer` says who it is.
        `options` are those of subprocess.Popen. Raises OSError if it cannot be started."""
        _check_process(self._forks)
        child = _start(args, options)
        self.adopt(child._sock, authorize, peer)
        return child

    def open_session(
        self, service: str, tag: int, peer: Peer, on_end: Optional[Callable[[int], object]] = None
    ) -> tuple[socket.socket, Session]:
        """Makes a pair of sockets, serves the methods of one service at one end, and returns the other, for a client.

        Whoever has that end may call. The caller's identity is `peer`, for good, and the session is one of the
        connections of that user. `on_end` is called with the tag when it has ended: its peer has hung up, it was
        closed, or the server was. Raises Fault if there are too many connections, OSError if descriptors have run out.
        """
        _check_process(self._forks)
        account = self._account_of(peer)
        fault = self._too_many(account)
        if fault is not None:
            raise fault
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client = self._begin_connection(near, peer, account, peer.uid)
        client.session = Session(service, tag, on_end)
        self._sessions.add(client)
        return far, client.session

    def watch(self, file: Any, callback: Callable[[], object]) -> None:
        """Calls a function while a file is readable."""
        _check_process(self._forks)
        self._selector.register(file, selectors.EVENT_READ, lambda _: callback())

    def received(self, message: Message) -> None:
        """Is called with each message before it is parsed. Does nothing; subclasses can log."""

    def _add(self, endpoint: _Endpoint) -> None:
        sock = endpoint.sock
        sock.setblocking(False)
        if sock.type == socket.SOCK_SEQPACKET:
            self._selector.register(sock, selectors.EVENT_READ, lambda _: self._accept(endpoint))
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.SNDBUF)
            account = _Account()
            transport = Transport(sock, self.limit, account.closer)
            account.transports.add(transport)
            self._shared.append(account)
            client = _Client(transport, account, Peer(), None if _is_paired(sock) else "")
            self._selector.register(sock, selectors.EVENT_READ, lambda _: self._serve(client, endpoint))
        self._endpoints.append(endpoint)

    # The loop.

    def run(self) -> None:
        """Serves until `stop` or `shut_down`."""
        with self._woken_by_signals():
            while not self._stopped:
                came = self._turn(0 if self._stopping and not self._is_busy() else None)
                if self._grace_end < math.inf and self._has_shut_down(came):
                    return

    @contextlib.contextmanager
    def _woken_by_signals(self) -> Iterator[None]:
        """Python runs a signal handler between two steps of the program only. A signal that arrives when the last step
        before a wait is over would not end the wait, nor call the handler."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals are handled in another thread
            return
        before = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        if before != -1:  # the program has one of its own, which wakes what it runs
            signal.set_wakeup_fd(before)
        try:
            yield
        finally:
            if before == -1:
                signal.set_wakeup_fd(-1)

    def stop(self) -> None:
        """Ends `run`. Can be called from a method, another thread or a signal handler."""
        self._stopped = True
        self._wake()

    def shut_down(self, grace: float = 1.0) -> None:
        """Ends `run` in order. Can be called wherever `stop` can. New clients no longer find the server; calls that
        come or wait are refused with Fault.SHUTTING_DOWN; replies that wait for room and streams go on for `grace`
        seconds at most. Messages queued in an adopted datagram socket with a name are left to its next owner."""
        self._grace_end = min(self._grace_end, time.monotonic() + grace)
        self._wake()

    def run_once(self, timeout: Optional[float] = None) -> None:
        """Waits for something to do, for `timeout` seconds at most, and does it."""
        self._turn(timeout)

    def _wake(self) -> None:
        if self._forks != _forks:
            return  # the bytes would wake the parent
        with contextlib.suppress(BlockingIOError):  # it is signaled already
            self._waker.send(b"x")

    def _turn(self, timeout: Optional[float]) -> bool:
        """Runs one turn. Returns true if anything could be read or sent."""
        _check_process(self._forks)
        try:
            return self._act(timeout)
        except _InChild:
            raise Forked("forked by a method: this is the child") from None

    def _act(self, timeout: Optional[float]) -> bool:
        now = time.monotonic()
        busy = [client for client in self._clients if client.streams or client.queue or client.retry_at < math.inf]
        waits = [timeout] if timeout is not None else []
        waits += [0 if client.streams and not client.queue else client.retry_at - now for client in busy]
        waits += [0 for batch in self._batches.values() if self._may_continue(batch)]
        self._end_closed_sessions()
        waits += [until - now for until in (self._grace_end, *self._paused.values())]
        batches = list(self._batches.values())
        least = max(0, min(waits))
        events = self._selector.select(None if least == math.inf else least)
        for key, event in events:
            key.data(event)
        now = time.monotonic()
        for batch in batches:
            if self._batches.get(batch.client.transport) is batch and self._may_continue(batch):
                with self._isolated(batch.client):
                    self._continue(batch)
        self._end_closed_sessions()
        for client in busy:
            if client in self._clients:
                with self._isolated(client):
                    if client.retry_at <= now:
                        client.retry_at = math.inf
                        self._flush(client)
                    self._send_items(client)
        for endpoint, until in list(self._paused.items()):
            if until <= now:
                del self._paused[endpoint]
                self._selector.register(
                    endpoint.sock, selectors.EVENT_READ, lambda _, endpoint=endpoint: self._accept(endpoint)
                )
        return bool(events)

    def _end_closed_sessions(self) -> None:
        for client in [client for client in self._sessions if self._is_closed(client)]:
            self._end(client)

    def _is_busy(self) -> bool:
        return bool(self._batches) or any(client.queue or client.streams for client in self._clients)

    def _has_shut_down(self, came: bool) -> bool:
        """Starts or continues the shutdown. Returns true when it is complete."""
        if not self._stopping:
            self._stopping = True
            self._close_places()
            for endpoint in self._endpoints:
                if endpoint.sock.type == socket.SOCK_SEQPACKET or not (endpoint.own or _is_paired(endpoint.sock)):
                    with contextlib.suppress(KeyError):  # it is paused
                        self._selector.unregister(endpoint.sock)
                    self._paused.pop(endpoint, None)
                    if endpoint.own:
                        endpoint.sock.close()
            return False
        if time.monotonic() < self._grace_end and (came or self._is_busy()):
            return False
        for client in list(self._clients):
            for key, stream in list(client.streams.items()):
                del client.streams[key]
                stream.end()
                with self._isolated(client):
                    self._reply_error(client, stream.identity, Fault(Fault.SHUTTING_DOWN, "the server has stopped"))
        return True

    def _close_places(self) -> None:
        """Removes the files of the sockets, before the sockets are closed: another server's file could be there
        afterwards."""
        for place in self._places:
            place.remove()
        for sock in self._held:
            sock.close()
        self._places.clear()
        self._held.clear()

    def close(self) -> None:
        if self._forks != _forks:
            self._close_copies()
            return
        self._close_places()
        for client in list(self._clients):
            client.is_last = False
            self._end(client)
        for endpoint in self._endpoints:
            endpoint.sock.close()
        for sock in (self._wake_reader, self._waker):
            sock.close()
        self._selector.close()
        until = time.monotonic() + LIVENESS_INTERVAL  # no peer can keep it from ending
        for account in (*self._accounts.values(), *self._shared):
            account.closer.end(max(0, until - time.monotonic()))

    def _close_copies(self) -> None:
        """Closes the copies of a forked child, and nothing of the parent's: no peer notices, and no file is removed."""
        self._close_places()
        for client in self._clients:
            client.transport.close()
        for sock in (*(endpoint.sock for endpoint in self._endpoints), self._wake_reader, self._waker):
            sock.close()
        self._selector.close()

    def __enter__(self: _Server) -> _Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Connections.

    def _accept(self, endpoint: _Endpoint) -> None:
        try:
            sock = endpoint.sock.accept()[0]
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:  # no descriptors or memory left
            LOG.warning("cannot accept: %s", error)
            self._selector.unregister(endpoint.sock)
            self._paused[endpoint] = time.monotonic() + self.PAUSE
            return
        self._add_client(endpoint, sock, Peer.of_connection(sock))

    def _add_client(self, endpoint: _Endpoint, sock: socket.socket, peer: Peer) -> Optional[_Client]:
        """Accepts a connection, or sends it a fault and closes it."""
        account = self._account_of(peer)
        fault = self._too_many(account)
        if fault is None and not _authorizes(endpoint.rule, peer):
            fault = Fault(Fault.NOT_AUTHORIZED, "not authorized")
        if fault is not None:
            LOG.info("a connection of user %s is closed: %s", peer.uid, fault)
            sock.setblocking(False)
            transport = Transport(sock, self.limit, account.closer)
            if self._bare is None:
                text, _ = encode(_error(None, fault))
                with contextlib.suppress(OSError):
                    transport.send_text(text)
            self._close(transport, account)
            return None
        return self._begin_connection(sock, peer, account, ANYONE if endpoint.foreign else peer.uid)

    def _account_of(self, peer: Peer) -> _Account:
        """Returns the account of the peer's user. Removes those that are not used."""
        for uid, one in list(self._accounts.items()):
            if not one.connections() and not one.closer.waiting():
                one.closer.end(0)
                del self._accounts[uid]
        return self._accounts.setdefault(peer.uid, _Account())

    def _too_many(self, account: _Account) -> Optional[Fault]:
        """Returns why there may be no further connection of this user, if so."""
        most = min(self.CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 3 // 4)
        if sum(len(one.transports) for one in self._accounts.values()) >= most:
            return Fault(Fault.BUSY, "too many connections")
        if account.connections() >= self.USER_CONNECTIONS or self._is_overdrawn(account):
            return Fault(Fault.BUSY, "too many connections of this user")
        return None

    def _begin_connection(
        self, sock: socket.socket, peer: Peer, account: _Account, giver: Optional[int]
    ) -> _Client:
        sock.setblocking(False)
        client = _Client(Transport(sock, self.limit, account.closer), account, peer)
        client.transport.giver = giver
        account.transports.add(client.transport)
        self._clients.add(client)
        self._watch(client)
        return client

    def _admit(self, account: _Account, made: Connection) -> bool:
        """Charges a connection that came in a message to its sender, if that may have one more."""
        if account.connections() >= self.USER_CONNECTIONS:
            return False
        account.endpoints.add(made)
        return True

    def _is_overdrawn(self, account: _Account) -> bool:
        """Returns true if more of this user's descriptors are still to be closed than a user may have."""
        return account.closer.waiting() > self.USER_DESCRIPTORS

    def _watch(self, client: _Client) -> None:
        """Watches a connection for what it waits for. Backpressure: one with unsent replies is not read."""
        sock = client.transport.sock
        if not client.transport.connected or client not in self._clients:
            return
        events = selectors.EVENT_WRITE if client.queue else selectors.EVENT_READ
        key = self._selector.get_map().get(sock)
        if client.retry_at < math.inf:
            if key is not None:
                self._selector.unregister(sock)
        elif key is None:

            def act(events: int) -> None:
                if events & selectors.EVENT_WRITE:
                    self._flush(client)
                elif events & selectors.EVENT_READ:
                    self._serve(client, None)

            self._selector.register(sock, events, act)
        elif key.events != events:
            self._selector.modify(sock, events, key.data)

    def _pause(self, client: _Client) -> None:
        """Stops watching a connection for a while."""
        client.retry_at = time.monotonic() + self.PAUSE
        self._watch(client)

    def _end(self, client: _Client) -> None:
        """Removes a client and closes its connection."""
        self._known.pop((client.transport, client.address), None)
        if client.transport.connected:
            self._drop(client.transport)
        client.end()
        if client not in self._clients:
            return
        self._clients.discard(client)
        if client.transport.connected:
            if self._selector.get_map().get(client.transport.sock) is not None:
                self._selector.unregister(client.transport.sock)
            client.account.transports.discard(client.transport)
            self._close(client.transport, client.account)
            if client.is_last:
                self.stop()
            if client.session is not None:
                self._sessions.discard(client)
                client.session.end()

    def _close(self, transport: Transport, account: _Account) -> None:
        """Closes a connection and its unread messages, without waiting. Its peer sees it at once."""
        with contextlib.suppress(OSError):
            transport.sock.shutdown(socket.SHUT_RDWR)
        account.closer.close(transport)

    # One message.

    def _serve(self, client: _Client, endpoint: Optional[_Endpoint]) -> None:
        """Receives one message and replies to it."""
        if client.transport in self._batches or self._is_closed(client):
            return
        if client.transport.connected and self._is_overdrawn(client.account):
            self._pause(client)  # first close what its user has sent
            return
        try:
            message = client.transport.receive_text()
        except BadMessage as bad:
            self._refuse(self._sender_of(client, bad.sender), bad)
            return
        except BlockingIOError:
            return
        except OSError as error:
            LOG.info("cannot receive: %s", error)
            if error.errno in NO_ROOM and client.transport.connected:
                self._pause(client)
                return
            message = None
        if message is None:
            if client.transport.connected:
                self._end(client)
            return
        self.received(message)
        peer = client.peer if endpoint is None else Peer.of(message.credentials)
        if endpoint is not None:
            message.giver = ANYONE if endpoint.foreign else peer.uid
        message._admit = lambda made: self._admit(client.account, made)
        client = self._sender_of(client, message.sender)
        with self._isolated(client), contextlib.ExitStack() as stack:
            stack.enter_context(message)
            try:
                if endpoint is not None and not _authorizes(endpoint.rule, peer):
                    raise BadMessage(Fault.NOT_AUTHORIZED, "not authorized", message.text)
                if len(message.fds) > self.descriptors:
                    reason = f"{len(message.fds)} descriptors exceed {self.descriptors}"
                    raise BadMessage(Fault.INVALID_DESCRIPTORS, reason, message.text)
                if self._bare is not None:
                    self._dispatch_bare(client, message, peer, self._bare)
                elif _is_array(message.text):
                    self._dispatch_batch(client, message, peer, None)
                else:
                    self._dispatch(client, message, peer, stack)
            except BadMessage as bad:
                if self._bare is None and _is_array(message.text):
                    self._dispatch_batch(client, message, peer, bad)
                else:
                    self._refuse(client, bad)
        if client.transport.connected and self._is_overdrawn(client.account):
            LOG.warning("a connection of user %s is closed: too many descriptors are to be closed", client.peer.uid)
            self._end(client)

    @contextlib.contextmanager
    def _isolated(self, client: _Client) -> Iterator[None]:
        """Limits any failure inside to this client: it costs its connection, and no other."""
        try:
            yield
        except Exception:
            LOG.exception("a peer is disconnected after a failure")
            self._end(client)

    def _sender_of(self, client: _Client, sender: Any) -> _Client:
        """Returns the client that sent the message: on a datagram socket each sender is one."""
        if client.transport.connected:
            return client
        address = client.address if sender is None or client.address is None else sender
        known = self._known.get((client.transport, address))
        return known or _Client(client.transport, client.account, client.peer, address)

    def _refuse(self, client: _Client, bad: BadMessage) -> None:
        """Replies to a message that is refused. Replies are never replied to: the other side may be a server. A one-way
        call gets no reply unless it is malformed."""
        members = _peek(bad.text)
        malformed = bad.code in (Fault.PARSE_ERROR, Fault.INVALID_REQUEST)
        is_reply = "method" not in members and {"result", "error"} & set(members)
        if self._bare is None and not is_reply and (malformed or not _is_one_way(bad.text)):
            self._reply_error(client, _id(members.get("id")), Fault(bad.code, str(bad)))
        now = time.monotonic()
        client.malformed.append(now)
        while client.malformed[0] < now - self.WINDOW:
            client.malformed.popleft()
        if client.transport.connected and len(client.malformed) > self.MALFORMED:
            LOG.warning("a connection of user %s is closed: too many malformed messages", client.peer.uid)
            self._send_gathered(client)
            self._end(client)

    # Batches.

    def _dispatch_batch(self, client: _Client, message: Message, peer: Peer, refusal: Optional[BadMessage]) -> None:
        """Handles the calls of a batch, as many as one turn may; the next turns handle the others."""
        try:
            elements = _split(message.text, self.BATCH)
            if not 0 < len(elements) <= self.BATCH:
                reason = f"a batch of no calls, or of more than {self.BATCH}"
                raise BadMessage(Fault.INVALID_REQUEST, reason, message.text)
        except BadMessage as bad:
            self._refuse(client, refusal or bad)
            return
        if message.fds and refusal is None:
            refusal = BadMessage(Fault.INVALID_DESCRIPTORS, "a batch brings no descriptors")
        self._continue(_Batch(client, peer, elements, refusal))

    def _may_continue(self, batch: _Batch) -> bool:
        """Returns true if calls of the batch may be handled now: not while replies wait on its connection."""
        return not (batch.client.transport.connected and batch.client.queue)

    def _continue(self, batch: _Batch) -> None:
        """Handles the share of a turn. What is left is kept for the next, or refused if the user may keep no more."""
        client = batch.client
        self._drop(client.transport)
        client.gathered = []
        try:
            self._handle_share(batch)
            if batch.elements and not self._is_closed(client) and not self._keep_batch(batch):
                batch.refusal = BadMessage(Fault.BUSY, "too much of this user waits")
                self._handle_share(batch)
        except Exception:
            client.gathered = None
            raise
        self._send_gathered(client)

    def _handle_share(self, batch: _Batch) -> None:
        """Handles calls until the share of the turn is used or replies wait. Refused calls cost little: all of them."""
        share = self.CALLS_PER_TURN
        while batch.elements and not self._is_closed(batch.client):
            if not batch.refusal and (not share or not self._may_continue(batch)):
                break
            share -= 1
            self._dispatch_element(batch, batch.elements.popleft())

    def _is_closed(self, client: _Client) -> bool:
        if client.session is not None and client.session.closed:
            return True
        return client.transport.connected and client not in self._clients

    def _dispatch_element(self, batch: _Batch, text: bytes) -> None:
        """Handles one element of a batch as if it had come alone."""
        with Message(text) as message, contextlib.ExitStack() as stack:
            try:
                if batch.refusal is not None:
                    raise BadMessage(batch.refusal.code, str(batch.refusal), text)
                self._dispatch(batch.client, message, batch.peer, stack)
            except BadMessage as bad:
                self._refuse(batch.client, bad)

    def _keep_batch(self, batch: _Batch) -> bool:
        """Keeps a batch for the next turn, at the expense of its user. Returns false if the user may keep no more."""
        account, size = batch.client.account, sum(map(len, batch.elements))
        if account.bytes + size > max(self.USER_WAITING_BYTES, self.limit):
            return False
        batch.kept = size
        account.bytes += size
        self._batches[batch.client.transport] = batch
        return True

    def _drop(self, transport: Transport) -> None:
        """Ends keeping the batch of a socket, if there is one."""
        batch = self._batches.pop(transport, None)
        if batch is not None:
            batch.client.account.bytes -= batch.kept

    def _gather(self, client: _Client, reply: _Reply) -> bool:
        """Adds a reply to those of the batch that is being handled. Returns false if it has to travel alone."""
        most = min(self.limit, self.ARRAY_BYTES)
        if client.gathered is None or len(reply.text) + 2 > most:
            return False
        if sum(len(other.text) + 1 for other in client.gathered) + len(reply.text) + 2 > most:
            self._send_gathered(client)
            client.gathered = []
        client.gathered.append(reply)
        return True

    def _send_gathered(self, client: _Client) -> None:
        """Sends the replies of a batch in one array. If there is no room for it, each is sent or kept by itself."""
        replies, client.gathered = client.gathered or [], None
        if not replies:
            return
        array = b"[" + b",".join(reply.text for reply in replies) + b"]"
        try:
            if not client.queue and self._try_to_send(client, array, []):
                replies = []
        except (Closed, Fault):
            pass
        for reply in replies:
            self._deliver(client, reply.identity, reply.text, [])

    def _dispatch(self, client: _Client, message: Message, peer: Peer, stack: contextlib.ExitStack) -> None:
        call = self._open(message)
        identity, wanted = call.get("id"), "id" in call
        until = time.monotonic() + min(call.get("timeout", TIMEOUT_MAX), TIMEOUT_MAX) / 1000
        if call["method"] == "rpc.cancel":
            self._cancel(client, message.value)
            self._reply(client, identity, None, wanted)
            return
        try:
            if self._stopping:
                raise Fault(Fault.SHUTTING_DOWN, "the server is stopping")
            method = self._method_for(client, call["method"])
            if method is None:
                raise Fault(Fault.METHOD_NOT_FOUND, f"unknown method {call['method'][:128]}")
            self._check_rule(method, peer)
            arguments = method.arguments(message, peer, client.session)
            if call.get("timeout") == 0:
                raise Fault(Fault.DEADLINE_EXCEEDED, "the deadline has passed already")
            message._endpoints.clear()  # they are the method's now
            result = self._run(call["method"], lambda: method.function(**arguments))
            if not isinstance(result, Generator):
                self._reply(client, identity, result, wanted and time.monotonic() < until)
            elif wanted:
                self._begin(client, _OpenStream(identity, result, message, until))
                stack.pop_all()  # the stream owns the arguments now
        except (Fault, ServiceError) as error:
            if wanted:
                self._reply_error(client, identity, error)

    def _method_for(self, client: _Client, name: str) -> Optional[_Method]:
        """Returns the method that a client calls: on a session one of its service, elsewhere one that needs no session."""
        if name == "rpc.discover":
            return self._discover
        method, session = self._methods.get(name), client.session
        if session is not None:
            return method if name.rpartition(".")[0] == session.service else None
        return None if method is not None and Session in method.context.values() else method

    def _dispatch_bare(
        self, client: _Client, message: Message, peer: Peer, route: Callable[[Any], tuple[str, Any]]
    ) -> None:
        try:
            name, message.value = self._run("routing", lambda: route(decode(message.text)))
            method = self._methods[name]
            self._check_rule(method, peer)
            arguments = method.arguments(message, peer, client.session)
            message._endpoints.clear()
            self._send(client, None, self._run(name, lambda: method.function(**arguments)))
        except (Error, KeyError) as error:  # a bare reply cannot be an error
            LOG.info("a message is dropped: %s", error)

    def _check_rule(self, method: _Method, peer: Peer) -> None:
        authorized = _authorizes(method.rule, peer)
        if self._forks != _forks:
            raise _InChild
        if not authorized:
            raise Fault(Fault.NOT_AUTHORIZED, "not authorized")

    def _open(self, message: Message) -> dict[str, Any]:
        """Parses the envelope of a call. Its arguments stay in `message.value`, as they are."""

        def bad(reason: str, code: int = Fault.INVALID_REQUEST) -> BadMessage:
            return BadMessage(code, reason, message.text)

        try:
            call = _parse(message.text)
        except (ValueError, RecursionError) as error:
            raise bad(f"not JSON: {error}", Fault.PARSE_ERROR) from None
        if not isinstance(call, dict):
            raise bad("not a JSON object")
        message.value = call.get("params", {})
        flaw = call.flaw() if isinstance(call, _RepeatedKey) else None
        flaw = flaw or _flaw([*call, *(value for name, value in call.items() if name != "params")])
        if flaw:
            raise bad(flaw)
        message.trace = TraceParent.parse(call.get("traceparent"))
        timeout = call.get("timeout", 0)
        if {"result", "error"} & set(call) or not isinstance(call.get("method"), str):
            raise bad("not a call")
        if call.get("jsonrpc") != "2.0":
            raise bad('jsonrpc is not "2.0"')
        if "id" in call and _id(call["id"]) is None:
            raise bad("id is neither an integer nor a string")
        if isinstance(timeout, bool) or not isinstance(timeout, int) or timeout < 0:
            raise bad("timeout is not a whole number of milliseconds")
        if not isinstance(call.get("more", False), bool):
            raise bad("more is not a boolean")
        if not isinstance(message.value, (dict, list)):
            raise bad("params is neither an object nor an array")
        return call

    def _run(self, name: str, function: Callable[[], Any]) -> Any:
        """Runs the program's code. Logs an exception; the caller learns only that the handler failed."""
        try:
            return function()
        except (Fault, ServiceError):
            raise
        except Exception:
            LOG.exception("%s failed", name)
            raise Fault(Fault.INTERNAL_ERROR, "the handler failed") from None
        finally:
            if self._forks != _forks:
                raise _InChild

    # Streams.

    def _begin(self, client: _Client, stream: _OpenStream) -> None:
        key = json.dumps(stream.identity)
        if key in client.streams:
            stream.items.close()
            raise Fault(Fault.INVALID_REQUEST, "the id is that of a stream")
        if len(client.streams) >= self.STREAMS or not self._has_room(client):
            stream.items.close()
            raise Fault(Fault.BUSY, "too many streams")
        client.streams[key] = stream
        self._keep(client)

    def _cancel(self, client: _Client, params: Any) -> None:
        by_position = isinstance(params, list) and len(params) == 1
        identity = params[0] if by_position else params.get("id") if isinstance(params, dict) else None
        stream = client.streams.pop(json.dumps(_id(identity)), None)
        if stream is not None:
            stream.end()
            self._reply_error(client, stream.identity, Fault(Fault.CANCELLED, "cancelled"))

    def _send_items(self, client: _Client) -> None:
        """Sends the items of streams, while the client has room."""
        for key, stream in list(client.streams.items()):
            for _ in range(self.ITEMS_PER_TURN):
                if client.queue or client.streams.get(key) is not stream:
                    break
                try:
                    if time.monotonic() >= stream.deadline:
                        raise Fault(Fault.DEADLINE_EXCEEDED, "the deadline has passed")
                    item = self._run("a stream", lambda: next(stream.items, _END))
                    if item is not _END:
                        self._reply(client, stream.identity, item, more=True)
                        continue
                    self._reply(client, stream.identity, None)
                except (Fault, ServiceError) as error:
                    self._reply_error(client, stream.identity, error)
                client.streams.pop(key, None)
                stream.end()
        self._forget(client)

    # Replies.

    def _reply(self, client: _Client, identity: Any, result: Any, wanted: bool = True, more: bool = False) -> None:
        reply = {"jsonrpc": "2.0", "id": identity, "result": result}
        if more:
            reply["more"] = True
        self._send(client, identity, reply, wanted)

    def _reply_error(self, client: _Client, identity: Any, error: Union[Fault, ServiceError]) -> None:
        try:
            self._send(client, identity, _error(identity, error))
        except Fault as fault:  # its data cannot be encoded or sent
            try:
                self._send(client, identity, _error(identity, fault))
            except Fault as last:
                LOG.warning("a reply is lost: %s", last)

    def _send(self, client: _Client, identity: Any, reply: Any, wanted: bool = True) -> None:
        """Sends a reply if it is wanted, and closes its descriptors. Raises Fault if it can never be sent."""
        try:
            text, fds = self._run("encoding the reply", lambda: encode(reply))
            if len(text) > self.limit:
                raise Fault(Fault.REPLY_TOO_LARGE, f"the reply exceeds {self.limit} bytes")
            if wanted:
                self._deliver(client, identity, text, fds)
        finally:
            for thing in _descriptors_in(reply):
                if isinstance(thing, Fd):
                    thing.discard()
                else:
                    thing.close()

    def _deliver(self, client: _Client, identity: Any, text: bytes, fds: list[Any]) -> None:
        """Sends a reply, or keeps it until there is room. While a batch is handled, gathers replies for an array."""
        if not client.can_get_replies():
            LOG.info("a reply is lost: its peer has no name")
            return
        if not fds and self._gather(client, _Reply(text, [], identity)):
            return
        try:
            if not client.queue and self._try_to_send(client, text, fds):
                return
        except Closed:
            LOG.info("a reply is lost: its peer has closed")
            self._end(client)
            return
        account = client.account
        fits = (
            len(client.queue) < self.WAITING
            and client.bytes + len(text) <= max(self.WAITING_BYTES, self.limit)
            and account.bytes + len(text) <= max(self.USER_WAITING_BYTES, self.limit)
            and (not account.fds or account.fds + len(fds) <= self.USER_DESCRIPTORS)
        )
        if not fits or not self._has_room(client):
            LOG.info("a reply is lost: too much waits for user %s", client.peer.uid)
            if client.transport.connected:
                self._end(client)
            return
        client.since = client.since if client.queue else time.monotonic()
        client.push(_Reply(text, [Fd(os.dup(fd.fileno())) for fd in fds], identity))
        self._keep(client)
        self._watch(client)

    def _try_to_send(self, client: _Client, text: bytes, fds: list[Any]) -> bool:
        """Returns false if there is no room now. Raises Closed if the peer is gone, Fault if the reply can never be
        sent."""
        count = len(fds) + (len(text) > client.transport.inline_max())
        # A second large text would take memory that no socket buffer limits.
        spilled = count > len(fds) and client.transport.connected and client.transport.count_unread()
        why = errno.ETOOMANYREFS
        if not count or (not spilled and client.account.may_send(count, self.USER_DESCRIPTORS)):
            try:
                client.transport.send_text(text, fds, client.address)
                client.pause = 0.0
                return True
            except OSError as error:
                why = error.errno or 0
        if why in NO_PEER:
            raise Closed("the peer has closed")
        if why not in NO_ROOM:
            raise Fault(Fault.INTERNAL_ERROR, f"the reply cannot be sent: {os.strerror(why)}")
        if why != errno.EAGAIN or not client.transport.connected:  # no event reports room
            client.pause = min(max(2 * client.pause, self.RETRY), self.GIVE_UP)
            client.retry_at = time.monotonic() + client.pause
        return False

    def _flush(self, client: _Client) -> None:
        """Sends the replies that wait, while there is room."""
        while client.queue:
            reply = client.queue[0]
            try:
                sent = self._try_to_send(client, reply.text, reply.fds)
            except Closed:
                self._end(client)
                return
            except Fault as fault:
                client.pop()
                if self._bare is None:
                    self._reply_error(client, reply.identity, fault)
                continue
            if not sent:
                if not client.transport.connected and time.monotonic() > client.since + self.GIVE_UP:
                    LOG.info("replies are lost: their peer does not read")
                    self._end(client)
                break
            client.pop()
            client.since = time.monotonic()
        self._watch(client)
        self._forget(client)

    def _has_room(self, client: _Client) -> bool:
        """Returns true if another datagram peer may be remembered. Connections always are."""
        return client in self._clients or len(self._known) < self.PEERS

    def _keep(self, client: _Client) -> None:
        self._clients.add(client)
        if not client.transport.connected:
            self._known[client.transport, client.address] = client

    def _forget(self, client: _Client) -> None:
        if not client.transport.connected and not client.streams and not client.queue:
            self._end(client)


def _is_one_way(text: bytes) -> bool:
    """Returns true if a text is a call without an id, whether its members are valid or not."""
    try:
        call = _parse(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(call, dict) and "method" in call and "id" not in call


def _is_paired(sock: socket.socket) -> bool:
    """Returns true if the socket is connected to another."""
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _peer_name(sock: socket.socket) -> Any:
    """Returns the name of the other end; empty if it has none."""
    try:
        return sock.getpeername()
    except OSError:
        return ""


def _is_endpoint(fd: int) -> bool:
    """Returns true if a descriptor is a connected unix seqpacket socket. Waits for no file system."""
    copy = Fd(os.dup(fd))
    try:
        with socket.socket(fileno=copy.fileno()) as sock:
            copy.detach()
            sort = sock.family, sock.type, sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            return sort == (socket.AF_UNIX, socket.SOCK_SEQPACKET, 0) and _is_paired(sock)
    except OSError:  # not a socket
        copy.close()
        return False


def _error(identity: Any, error: Union[Fault, ServiceError]) -> dict[str, Any]:
    members: dict[str, Any] = {"code": error.code, "message": error.message}
    if isinstance(error, ServiceError):
        members["data"] = error.data
    elif error.field is not None:
        members["data"] = {"field": error.field}
    return {"jsonrpc": "2.0", "id": identity, "error": members}


def _descriptors_in(value: Any) -> list[Any]:
    """Returns the objects with fileno() in a result, each once, also if the result contains itself."""
    found, seen, left = list[Any](), set[int](), [value]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, dict):
            left += one.values()
        elif isinstance(one, (list, tuple)):
            left += one
        elif hasattr(one, "fileno"):
            found.append(one)
    return found


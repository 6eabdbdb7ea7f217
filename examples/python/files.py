"""The daemon of `examples/files.rs` and its client, in Python.

    python3 examples/python/files.py serve --socket PATH --root DIR [--seqpacket]
    python3 examples/python/files.py open --socket PATH NAME
    python3 examples/python/files.py list --socket PATH
    python3 examples/python/files.py put --socket PATH NAME < input

Either side may be the one in Rust. The daemon prints `listening on PATH` once it is ready; SIGTERM and SIGINT stop it.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import shutil
import signal
import stat
import sys
import tempfile
from typing import Any

import jsoncomm
from jsoncomm import Fd, ServiceError

PUT_MAX = 64 << 20  # bytes
# The variants of `FilesError` in their order, with what they say.
ERRORS = {
    "NotFound": "no file {path}",
    "Denied": "not allowed: {path}",
    "NotAFile": "not a plain file: {path}",
    "TooLarge": "content exceeds {limit} bytes",
    "Failed": "{reason}",
}


def failure(variant: str, **members: Any) -> ServiceError:
    code = list(ERRORS).index(variant) + 1
    return ServiceError(code, ERRORS[variant].format(**members), {variant: members})


def sorted_out(error: OSError, path: str) -> ServiceError:
    """Sorts what the kernel reports about `path`."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return failure("NotFound", path=path)
    if error.errno in (errno.EACCES, errno.EPERM, errno.ELOOP):
        return failure("Denied", path=path)
    if error.errno in (errno.EISDIR, errno.ENXIO):
        return failure("NotAFile", path=path)
    return failure("Failed", reason=str(error))


class Folder:
    """Opens, lists and stores files below one folder. It follows no links, so that none leads out."""

    FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW

    def __init__(self, root: str) -> None:
        self.root = Fd(os.open(root, os.O_RDONLY | os.O_DIRECTORY))

    def beneath(self, path: str, flags: int) -> Fd:
        """Opens what is there, never outside the folder and never waiting."""
        *folders, name = path.split("/")
        if not name or path.startswith("/") or ".." in (*folders, name):
            raise failure("Denied", path=path)
        try:
            at = self.root
            for step in folders:
                at = Fd(os.open(step or ".", self.FOLDER, dir_fd=at.fileno()))
            return Fd(os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at.fileno()))
        except OSError as error:
            raise sorted_out(error, path) from None

    def open(self, path: str) -> Any:
        file = self.beneath(path, os.O_RDONLY)
        return {"len": plain(file, path).st_size, "file": file}

    def list(self) -> Any:
        with os.scandir(self.root.fileno()) as entries:
            files = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
        return sorted(name for name in files if not name.startswith("."))

    def put(self, path: str, content: Fd) -> Any:
        """Writes a fresh file and moves it to its name, so that no reader sees half of it."""
        plain(content, "content")
        folder, _, name = path.rpartition("/")
        if name in ("", ".", ".."):
            raise failure("Denied", path=path)
        parent = self.beneath(folder or ".", self.FOLDER)
        fresh = f".{os.getpid()}.put"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        try:
            with content.open("rb") as source:
                with os.fdopen(os.open(fresh, flags, 0o644, dir_fd=parent.fileno()), "wb") as target:
                    length = 0
                    while part := source.read(1 << 16):
                        length += target.write(part)
                        if length > PUT_MAX:
                            raise failure("TooLarge", limit=PUT_MAX)
            os.rename(fresh, name, src_dir_fd=parent.fileno(), dst_dir_fd=parent.fileno())
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.unlink(fresh, dir_fd=parent.fileno())
            raise sorted_out(error, path) if isinstance(error, OSError) else error
        return {"len": length}


def plain(file: Fd, path: str) -> os.stat_result:
    """Reading anything else could make the daemon wait."""
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode):
        raise failure("NotAFile", path=path)
    return found


def serve(socket: str, root: str, kind: str) -> None:
    folder = Folder(root)
    with jsoncomm.Server() as server:
        for method in (folder.open, folder.list, folder.put):
            server.method(f"example.files.{method.__name__}", method)
        server.bind(socket, kind)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.stop())
        print(f"listening on {socket}", flush=True)
        server.run()


def main() -> None:
    parser = argparse.ArgumentParser(description="serves files, or asks for them")
    parser.add_argument("command", choices=["serve", "open", "list", "put"])
    parser.add_argument("--socket", required=True)
    parser.add_argument("--root")
    parser.add_argument("--seqpacket", action="store_const", const="seqpacket", default="dgram")
    parser.add_argument("name", nargs="?", default="")
    options = parser.parse_intermixed_args()
    if options.command == "serve":
        serve(options.socket, options.root, options.seqpacket)
        return
    with jsoncomm.connect(options.socket) as files:
        if options.command == "list":
            print(*files.call("example.files.list").value, sep="\n")
        elif options.command == "open":
            opened = files.call("example.files.open", {"path": options.name})
            with opened.fd("file").open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
        else:
            with tempfile.TemporaryFile() as content:  # the daemon does not wait for what comes through a pipe
                shutil.copyfileobj(sys.stdin.buffer, content)
                content.seek(0)
                stored = files.call("example.files.put", {"path": options.name, "content": content})
            print(f"stored {stored.value['len']} bytes")


if __name__ == "__main__":
    try:
        main()
    except ServiceError as error:
        sys.exit(f"{error} ({next(iter(error.data))})")

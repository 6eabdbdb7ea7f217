"""Mounts a file system of which one file is opened, passes the file to standard input, a socket, and never answers again.

Runs in a namespace of mounts of its own. Ends when it is killed, when the other end of the socket is closed, or after some
minutes: a process that is killed while it has the file waits for the answer, and nobody can end it before that."""

import ctypes
import os
import socket
import struct
import sys
import tempfile
import threading

LOOKUP, GETATTR, OPEN, FLUSH, INIT = 1, 3, 14, 25, 26
FOLDER, FILE = 1, 2
ENOSYS = 38
LONGEST = 180  # seconds, more than a test may take


def attributes(node):
    """struct fuse_attr"""
    mode = 0o040755 if node == FOLDER else 0o100644
    return struct.pack("<6Q10I", node, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 512, 0)


def answer(opcode, node):
    """What follows the header. Nothing may be cached, so that the daemon is asked again whatever can be asked."""
    if opcode == INIT:
        return struct.pack("<4I2H2I2H8I", 7, 31, 0, 0, 0, 0, 4096, 1, 0, 0, *[0] * 8)
    if opcode == LOOKUP:
        return struct.pack("<4Q2I", FILE, 0, 0, 0, 0, 0) + attributes(FILE)
    if opcode == GETATTR:
        return struct.pack("<Q2I", 0, 0, 0) + attributes(node)
    if opcode == OPEN:
        return struct.pack("<QII", 1, 0, 0)
    if opcode == FLUSH:  # at each close(2)
        return b""
    return None


def serve(device, silent):
    """Answers until it is silent. Each request is read even then."""
    while True:
        _, opcode, unique, node = struct.unpack("<IIQQ", os.read(device, 1 << 20)[:24])
        if not silent.is_set():
            body = answer(opcode, node)
            error, body = (-ENOSYS, b"") if body is None else (0, body)
            os.write(device, struct.pack("<IiQ", 16 + len(body), error, unique) + body)


def main():
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    folder = tempfile.mkdtemp()
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"silent", os.fsencode(folder), b"fuse", ctypes.c_ulong(0), options.encode()):
        os.rmdir(folder)
        sys.exit(os.strerror(ctypes.get_errno()))
    silent = threading.Event()
    threading.Thread(target=serve, args=(device, silent), daemon=True).start()
    with socket.socket(fileno=0) as end:
        file = os.open(os.path.join(folder, "file"), os.O_RDWR)
        socket.send_fds(end, [b'{"file":0}'], [file])
        # With a file of its own it could not be ended: its exit would wait for the answer.
        os.close(file)
        silent.set()
        # The mount goes with the namespace, and the folder can only be removed from outside of it.
        end.send(b'"%s"' % os.fsencode(folder))
        end.settimeout(LONGEST)
        try:
            end.recv(1)
        finally:
            os._exit(0)


main()

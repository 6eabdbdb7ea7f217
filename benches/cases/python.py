"""The service by hand in Python: sendmsg, recvmsg and json of the standard library.

Speaks on stdin and stdout as benches/role.rs says: `serve|call NAME SOCKET LOAD PATH`.
"""

import array
import collections
import json
import os
import select
import socket
import sys
import time

NAME = "a name of twenty-six bytes"
SIZES = [10, 200, 3000, 40000]
ROOM = 4263616
FDS = socket.CMSG_LEN(array.array("i").itemsize)


def receive(sock, room):
    data, control, flags, sender = sock.recvmsg(room, FDS, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, content in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content)
    return json.loads(data), list(fds), sender


def send(sock, value, fds=(), to=None):
    data = json.dumps(value, separators=(",", ":")).encode()
    control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], control, 0, *([to] if to else []))


def answer(call, fds):
    params = call["params"]
    if call["method"] == "bench.orders.submit":
        return {
            "number": params["number"] + 1,
            "user": params["user"],
            "length": len(params["name"].encode()),
            "urgent": not params["urgent"],
            "total": sum(params["sizes"]),
            "sizes": params["sizes"],
        }
    if call["method"] == "bench.orders.swap":
        return {"file": 0}
    return params["text"]


def enlarge(sock, load):
    name, _, size = load.partition("=")
    if name == "text":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, min(2 * int(size), 4 << 20))
        return ROOM
    return 1 << 16


def serve(kind, load, path):
    door = socket.socket(socket.AF_UNIX, kind)
    room = enlarge(door, load)
    door.bind(path)
    if kind == socket.SOCK_SEQPACKET:
        door.listen(4096)
    poll = select.epoll()
    poll.register(door, select.EPOLLIN)
    print("ready", flush=True)
    clients = {}
    while True:
        for fd, _ in poll.poll():
            if fd == door.fileno() and kind == socket.SOCK_SEQPACKET:
                client, _ = door.accept()
                enlarge(client, load)
                clients[client.fileno()] = client
                poll.register(client, select.EPOLLIN)
                continue
            sock = clients.get(fd, door)
            call, fds, sender = receive(sock, room)
            result = answer(call, fds)
            send(sock, {"jsonrpc": "2.0", "id": call["id"], "result": result}, fds, sender)
            for fd in fds:
                os.close(fd)


def call(kind, load, path):
    sock = socket.socket(socket.AF_UNIX, kind)
    room = enlarge(sock, load)
    sock.connect(path)
    if kind == socket.SOCK_DGRAM:
        sock.bind("")
    null = os.open("/dev/null", os.O_RDONLY)
    name, _, size = load.partition("=")
    words = "The quick brown fox jumps over the lazy dog; "
    text = (words * (int(size) // len(words) + 1))[: int(size)] if name == "text" else ""
    ident = 1 << 50
    window = int(size) if name == "window" else 1
    print("ready", flush=True)
    for line in sys.stdin:
        count = int(line.split()[1])
        times = []
        flying = collections.deque()
        first = last = time.perf_counter_ns()
        number = 0
        while len(times) < count:
            while number < count and len(flying) < window:
                number += 1
                ident += 1
                fds = ()
                if name == "text":
                    method, params, wanted = "echo", {"text": text}, text
                elif name == "descriptor":
                    method, params, wanted, fds = "swap", {"file": 0}, {"file": 0}, [null]
                else:
                    method = "submit"
                    urgent = number % 2 == 0
                    params = {"number": number, "user": 1000, "name": NAME, "urgent": urgent, "sizes": SIZES}
                    wanted = {"number": number + 1, "user": 1000, "length": len(NAME), "urgent": not urgent}
                    wanted |= {"total": sum(SIZES), "sizes": SIZES}
                request = {"jsonrpc": "2.0", "id": ident, "method": "bench.orders." + method, "params": params}
                send(sock, request, fds)
                flying.append((ident, wanted, len(fds)))
            came, fds_back, _ = receive(sock, room)
            if (came["id"], came["result"], len(fds_back)) != flying.popleft():
                sys.exit(f"wrong answer to {number}")
            for fd in fds_back:
                os.close(fd)
            now = time.perf_counter_ns()
            times.append(now - last)
            last = now
        times.sort()
        print(last - first, times[count // 2], times[count * 99 // 100], 0, flush=True)


role, _, wire, load, path = sys.argv[1:]
kind = {"seqpacket": socket.SOCK_SEQPACKET, "datagram": socket.SOCK_DGRAM}[wire]
{"serve": serve, "call": call}[role](kind, load, path)

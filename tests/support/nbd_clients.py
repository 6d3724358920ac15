#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Many NBD clients at once: nbd_clients.py SOCKET FILE COUNT.

COUNT clients read FILE's bytes through the server on SOCKET, all at the same time, while one client asks
for much and reads nothing, one sends half a write, and some never end their handshake. Prints what is
wrong and exits with 1."""
import os
import socket
import struct
import sys
import threading

OPTION, REQUEST, SIMPLE = 0x49484156454F5054, 0x25609513, 0x67446698
READ, WRITE, DISC = 0, 1, 2
PIECE, ROUNDS = 65536, 10


def receive(s, size):
    data = bytearray()
    while len(data) < size:
        part = s.recv(size - len(data))
        if not part:
            raise EOFError("the server has closed the connection")
        data += part
    return bytes(data)


def connect(path, timeout=60):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(timeout)
    s.connect(path)
    return s


def serve(path):
    s = connect(path)
    receive(s, 18)
    s.sendall(struct.pack(">IQII", 3, OPTION, 1, 0))
    size, _ = struct.unpack(">QH", receive(s, 10))
    return s, size


def request(kind, cookie, offset, length):
    return struct.pack(">IHHQQI", REQUEST, 0, kind, cookie, offset, length)


def client(path, data, number, barrier, problems):
    try:
        s, size = serve(path)
        assert size == len(data), size
        barrier.wait()
        for i in range(ROUNDS):
            offset = (number * 7919 + i * 104729) * 512 % (size - PIECE)
            s.sendall(request(READ, i, offset, PIECE))
            magic, error, cookie = struct.unpack(">IIQ", receive(s, 16))
            assert (magic, error, cookie) == (SIMPLE, 0, i), (magic, error, cookie)
            assert receive(s, PIECE) == data[offset:offset + PIECE], f"wrong data at {offset}"
        s.sendall(request(DISC, 0, 0, 0))
        assert s.recv(1) == b""
    except Exception as e:
        problems.append(f"client {number}: {e!r}")
        barrier.abort()


def main():
    path, count = sys.argv[1], int(sys.argv[3])
    with open(sys.argv[2], "rb") as f:
        data = f.read()
    slow, _ = serve(path)
    for i in range(64):
        slow.sendall(request(READ, i, 0, 1 << 20))
    half, _ = serve(path)
    half.sendall(request(WRITE, 1, 0, 1 << 20) + data[:1000])
    idle = [connect(path) for _ in range(20)]
    problems, barrier = [], threading.Barrier(count)
    threads = [threading.Thread(target=client, args=(path, data, i, barrier, problems))
               for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    receive(slow, 16 + (1 << 20))  # it loses nothing
    for s in [slow, half, *idle]:
        s.close()
    print("\n".join(problems[:5]) or f"{count} clients")
    sys.exit(1 if problems else 0)


main()

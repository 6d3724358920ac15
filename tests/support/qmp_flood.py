# SPDX-License-Identifier: Apache-2.0
"""qmp_flood.py SOCKET…: one client per socket sends commands as fast as they are accepted, until
standard input has ended and 1,000 replies have come. Every third client reads no replies, every
third sends garbage in between. Prints "flooding" once each reader has replies, and at the end the
number of replies."""
import os
import selectors
import socket
import sys

COMMANDS = b'{"execute": "query-status"}\n{"execute": "query-commands"}{"execute": "x", "id": [1]}\n'
GARBAGE = b'garbage {"execute": \xff [}\n"half a line\n' + COMMANDS


class Flooder:
    def __init__(self, path, number):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.setblocking(False)
        self.reads = number % 3 != 0
        self.text = GARBAGE if number % 3 == 1 else COMMANDS
        self.pending = b'{"execute": "qmp_capabilities"}\n'
        self.lines = 0

    def write(self):
        if not self.pending:
            self.pending = self.text * 8
        try:
            self.pending = self.pending[self.socket.send(self.pending):]
        except BlockingIOError:
            pass

    def read(self):
        """False when the VM has gone."""
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return True
        self.lines += data.count(b"\n")
        return bool(data)


def main():
    flooders = [Flooder(path, i) for i, path in enumerate(sys.argv[1:])]
    selector = selectors.DefaultSelector()
    for f in flooders:
        selector.register(f.socket, selectors.EVENT_WRITE | (selectors.EVENT_READ if f.reads else 0), f)
    selector.register(sys.stdin, selectors.EVENT_READ, None)
    said = ended = False
    while True:
        for key, mask in selector.select():
            f = key.data
            if f is None:
                ended = not os.read(0, 1)
                if ended:
                    selector.unregister(sys.stdin)
                continue
            try:
                if mask & selectors.EVENT_WRITE:
                    f.write()
                if mask & selectors.EVENT_READ and not f.read():
                    selector.unregister(f.socket)
            except OSError:
                selector.unregister(f.socket)
        replies = sum(f.lines for f in flooders)
        if ended and replies > 1000:
            print("replies", replies)
            return
        if not said and all(f.lines > 2 for f in flooders if f.reads):
            said = True
            print("flooding", flush=True)


main()

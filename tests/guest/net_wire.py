# SPDX-License-Identifier: Apache-2.0
"""The host's end of a tap device, for tests/guest/linux-net.sh: servers, and a capture that checks checksums."""
import hashlib
import http.server
import socket
import struct
import threading

SOL_PACKET, PACKET_VNET_HDR = 263, 15
NEEDS_CSUM = 1


def checksum(data):
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total


class Capture(threading.Thread):
    """Looks at frames of TCP over IPv4 on @device until stop(). Each that is not left to its receiver has a right
    checksum, and each that is has the sum of its pseudo header there."""

    def __init__(self, device, most=60):
        super().__init__(daemon=True)
        every = 3  # ETH_P_ALL: with another protocol the kernel does not show what goes to the guest
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(every))
        self.socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self.socket.bind((device, every))
        self.socket.settimeout(0.2)
        self.most, self.stopping, self.wrong = most, False, []
        # by direction: True from the guest; the largest frame, frames with a partial checksum, frames
        self.largest, self.partial, self.count = {True: 0, False: 0}, {True: 0, False: 0}, {True: 0, False: 0}

    def run(self):
        while not self.stopping:
            try:
                packet, address = self.socket.recvfrom(70000)
            except TimeoutError:
                continue
            self.look(packet, address[2] != 4)  # PACKET_OUTGOING is what goes to the guest

    def look(self, packet, from_guest):
        flags, _, _, _, start, offset = struct.unpack("<BBHHHH", packet[:10])
        frame = packet[10:]
        if frame[12:14] != b"\x08\0" or frame[23] != 6:
            return
        header = (frame[14] & 15) * 4
        self.count[from_guest] += 1
        self.largest[from_guest] = max(self.largest[from_guest], len(frame))
        self.partial[from_guest] += flags & NEEDS_CSUM
        if self.count[from_guest] > self.most:
            return
        total = struct.unpack("!H", frame[16:18])[0]
        segment = frame[14 + header:14 + total]
        pseudo = checksum(frame[26:34] + struct.pack("!HH", 6, len(segment)))
        if checksum(frame[14:14 + header]) != 0xffff:
            self.wrong.append("IP " + frame[:60].hex())
        if flags & NEEDS_CSUM:
            found = struct.unpack("!H", frame[start + offset:start + offset + 2])[0]
            if (start, offset) != (14 + header, 16) or found != pseudo:
                self.wrong.append("partial %d+%d %s" % (start, offset, frame[:60].hex()))
        elif checksum(segment + (b"\0" if len(segment) % 2 else b"") + struct.pack("!H", pseudo)) != 0xffff:
            self.wrong.append("TCP " + frame[:60].hex())

    def stop(self):
        self.stopping = True
        self.join()
        self.socket.close()
        assert not self.wrong, self.wrong[:3]


class Server:
    """HTTP: GET /NUMBER is that many bytes, and another path is what `words` has for it. The next port takes
    what is sent to it, a connection each."""

    def __init__(self, address, port=8000):
        words = self.words = {}

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path[1:]
                data = pattern(int(name)) if name.isdigit() else words.get(name, "").encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.taken = []  # MD5 of each connection's bytes
        self.sink = socket.create_server((address, port + 1))
        threading.Thread(target=self.take, daemon=True).start()
        self.http = http.server.ThreadingHTTPServer((address, port), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def take(self):
        while True:
            connection, _ = self.sink.accept()
            threading.Thread(target=self.take_one, args=(connection,), daemon=True).start()

    def take_one(self, connection):
        digest = hashlib.md5()
        with connection:
            while data := connection.recv(1 << 18):
                digest.update(data)
        self.taken.append(digest.hexdigest())


def pattern(size):
    block = bytes(range(256)) * 16
    return b"".join(struct.pack("!Q", n) + block[8:] for n in range(size // 4096 + 1))[:size]


def md5_of(size):
    return hashlib.md5(pattern(size)).hexdigest()

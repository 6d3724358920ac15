# SPDX-License-Identifier: Apache-2.0
"""A host on the guest's network, for tests of socket back ends: ARP and UDP echoes with guest-images' net-echo."""
import socket
import struct
import time

HOST_MAC, HOST_IP, GUEST_IP = b"\x02\0\0\0\0\1", b"\x0a\0\2\2", b"\x0a\0\2\x0f"


def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total & 0xffff) + (total >> 16)
    return ~(total + (total >> 16)) & 0xffff


def arp_request():
    return (b"\xff" * 6 + HOST_MAC + struct.pack("!HHHBBH", 0x806, 1, 0x800, 6, 4, 1)
            + HOST_MAC + HOST_IP + b"\0" * 6 + GUEST_IP)


def udp(mac, payload, port=4000):
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(payload), 0, 0, 64, 17, 0, HOST_IP, GUEST_IP)
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return mac + HOST_MAC + b"\x08\0" + header + struct.pack("!HHHH", port, 7, 8 + len(payload), 0) + payload


class Stream:
    """Frames on a stream socket, each after its length."""

    def __init__(self, sock, timeout):
        self.sock, self.buffer = sock, b""
        sock.settimeout(timeout)

    def send(self, frame):
        self.sock.sendall(struct.pack("!I", len(frame)) + frame)

    def receive(self):
        while len(self.buffer) < 4 or len(self.buffer) < 4 + struct.unpack("!I", self.buffer[:4])[0]:
            data = self.sock.recv(1 << 16)
            assert data, "the connection has ended"
            self.buffer += data
        length = struct.unpack("!I", self.buffer[:4])[0]
        frame, self.buffer = self.buffer[4:4 + length], self.buffer[4 + length:]
        return frame


class Datagrams:
    """Frames on a datagram socket."""

    def __init__(self, sock, to, timeout):
        self.sock, self.to = sock, to
        sock.settimeout(timeout)

    def send(self, frame):
        self.sock.sendto(frame, self.to)

    def receive(self):
        return self.sock.recv(1 << 17)


def wait_guest(link, seconds):
    """Asks for the guest's address until it answers; returns its MAC."""
    deadline = time.monotonic() + seconds
    link.sock.settimeout(0.3)
    while True:
        try:
            link.send(arp_request())
            while True:
                frame = link.receive()
                if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\2" and frame[28:32] == GUEST_IP:
                    link.sock.settimeout(seconds)
                    return frame[22:28]
        except (socket.timeout, ConnectionRefusedError, FileNotFoundError):
            assert time.monotonic() < deadline, "the guest does not answer"


def echo(link, mac, payload):
    link.send(udp(mac, payload))
    while True:
        frame = link.receive()
        if frame[12:14] == b"\x08\0" and frame[23] == 17:
            got = frame[42:42 + len(payload)]
            assert got == payload, (len(payload), got)
            return

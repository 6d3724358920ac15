#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 300
"""A guest floods a console that nobody reads. stop, a call to its vCPU, system_reset and quit work all
the same, and the reader that comes at last gets each byte once."""
import os
import socket
import subprocess
import sys
import tempfile

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
sys.path.insert(0, os.path.join(TOP, "tests/support"))
import qmp  # noqa: E402
from rounds import rounds  # noqa: E402

SKIFF = os.environ.get("SKIFF", "build/skiff")
SLOW = float(os.environ.get("TEST_SLOW", "1"))
FULL = 100 << 10  # more than the socket's buffer below and skiff's ring hold


def flood(port):
    """A ROM whose guest writes 0, 1, 2, ... to @port, in real mode."""
    rom = bytearray(b"\xf4" * 0x10000)
    code = b"\xba" + port.to_bytes(2, "little") + b"\x31\xc0" + b"\xee\xfe\xc0\xeb\xfb"
    rom[: len(code)] = code  # mov dx, port; xor ax, ax; l: out dx, al; inc al; jmp l
    rom[0xFFF0:0xFFF3] = b"\xe9\x0d\x00"  # jmp to the begin of the segment
    return bytes(rom)


class Guest:
    processes = []

    def __init__(self, directory, *options, port):
        rom = os.path.join(directory, "flood.bin")
        with open(rom, "wb") as file:
            file.write(flood(port))
        self.peer, end = socket.socketpair()
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        path = os.path.join(directory, "qmp")
        self.process = subprocess.Popen(
            [SKIFF, "-display", "none", "-nodefaults", "-m", "16", "-bios", rom]
            + ["-trace", "serial_full", "-trace", "debugcon_full"]
            + ["-chardev", f"socket,id=c,fd={end.fileno()}", *options]
            + ["-qmp", f"unix:{path},server=on,wait=off"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[end.fileno()],
        )
        Guest.processes.append(self.process)
        end.close()
        self.qmp = qmp.Qmp(path)

    def wait_full(self):
        """Returns when the vCPU waits for the reader."""
        line = self.process.stderr.readline()
        assert b"_full" in line, line

    def read(self, count):
        self.peer.settimeout(200 * SLOW)
        data = b""
        while len(data) < count:
            data += self.peer.recv(65536)
        return data

    def end(self):
        self.qmp.cmd("quit")
        assert self.process.wait(60 * SLOW) == 0, self.process.returncode
        self.qmp.close()
        self.peer.close()
        self.process.stderr.close()


def check_stops(directory, options, port):
    guest = Guest(directory, *options, port=port)
    for _ in range(rounds(3, 20, 200)):
        guest.wait_full()
        guest.qmp.cmd("stop")
        assert guest.qmp.cmd("query-status")["running"] is False
        guest.qmp.cmd("cont")
    data = guest.read(FULL)
    wrong = [i for i in range(1, len(data)) if data[i] != (data[i - 1] + 1) % 256]
    assert not wrong, f"byte {wrong[0]} of {len(data)} is {data[wrong[0]]}, after {data[wrong[0] - 1]}"
    guest.end()


def check_debugcon(directory):
    check_stops(directory, ["-device", "isa-debugcon,chardev=c"], 0xE9)


def check_serial(directory):
    check_stops(directory, ["-serial", "chardev:c"], 0x3F8)


def check_ends(directory):
    guest = Guest(directory, "-device", "isa-debugcon,chardev=c", port=0xE9)
    guest.wait_full()
    guest.qmp.cmd("human-monitor-command", **{"command-line": "info registers"})
    guest.wait_full()
    guest.qmp.cmd("system_reset")
    guest.qmp.wait_event("RESET")
    guest.wait_full()
    guest.end()


CHECKS = [
    ("stops do not wait for the reader of isa-debugcon, and no byte is lost", check_debugcon),
    ("stops do not wait for the reader of a serial port, and no byte is lost", check_serial),
    ("a reset, a look at the registers and quit do not wait for the reader", check_ends),
]


def main():
    os.chdir(TOP)
    failed = 0
    print(f"1..{len(CHECKS)}")
    for number, (name, check) in enumerate(CHECKS, 1):
        with tempfile.TemporaryDirectory() as directory:
            try:
                check(directory)
                print(f"ok {number} - {name}")
            except (AssertionError, TimeoutError) as error:
                failed += 1
                print(f"not ok {number} - {name}\n# {error}")
            finally:
                for process in Guest.processes:
                    process.kill()  # has no effect on one that has ended
                    process.wait()
                Guest.processes.clear()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

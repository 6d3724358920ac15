# SPDX-License-Identifier: Apache-2.0
"""Saved machines: how long a save takes and stops the guest, and how soon a machine goes on from it."""

import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from qmp import Qmp  # noqa: E402

SAVE_LIMIT_S = 120
QMP_OPTION = "-qmp"


def machine(vmm, guests, mib, dirty):
    """A guest whose two processors write @dirty MiB without end, and print 1,000 times a second."""
    guest = ["-m", str(mib), "-smp", "2", "-display", "none", "-kernel", f"{guests}/count.elf"]
    return vmm + guest + ["-append", f"ms=1 dirty={dirty}M"]


def peers(skiff, qemu):
    quiet = "-accel kvm -nodefaults -no-user-config -machine q35 -cpu host".split()
    return {"skiff": [skiff], "QEMU": [qemu] + quiet}


def start(command, socket_path):
    process = subprocess.Popen(
        command + ["-serial", "stdio", "-qmp", f"unix:{socket_path},server=on,wait=off"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    seen = b""
    while b"tick 50" not in seen:  # all memory has been written a few times
        data = os.read(process.stdout.fileno(), 65536)
        if not data:
            sys.exit(f"bench: {' '.join(command)}: the guest has not begun\n{seen[-1000:]!r}")
        seen += data
    process.stdout.close()
    return process


def save_skiff(vm, path):
    """(milliseconds of the save, milliseconds that the guest was stopped)"""
    begin = time.perf_counter()
    vm.cmd("savevm-start", statefile=path)
    while True:
        info = vm.cmd("query-savevm")
        if info["status"] == "completed":
            return (time.perf_counter() - begin) * 1000, float(info["pause-time"])
        if info["status"] != "active" or time.perf_counter() - begin > SAVE_LIMIT_S:
            sys.exit(f"bench: savevm-start: {info}")
        time.sleep(0.002)


def save_qemu(vm, path):
    """The guest is stopped for all of it, as for QEMU's savevm."""
    begin = time.perf_counter()
    vm.cmd("stop")
    vm.cmd("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
    vm.cmd("migrate", uri=f"exec:cat > {path}")
    while True:
        info = vm.cmd("query-migrate")
        if info.get("status") == "completed":
            took = (time.perf_counter() - begin) * 1000
            return took, took
        if info.get("status") == "failed" or time.perf_counter() - begin > SAVE_LIMIT_S:
            sys.exit(f"bench: migrate: {info}")
        time.sleep(0.002)


def save(name, command, directory):
    socket_path = os.path.join(directory, "bench-qmp")
    path = os.path.join(directory, f"bench-state-{name}")
    process = start(command, socket_path)
    with Qmp(socket_path) as vm:
        result = (save_skiff if name == "skiff" else save_qemu)(vm, path)
    process.kill()
    process.wait()
    return result


def first_byte(command):
    """Milliseconds from the start of the process to the guest's first byte."""
    begin = time.perf_counter()
    with subprocess.Popen(
        command + ["-serial", "stdio"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        if QMP_OPTION in command:  # QEMU goes on stopped, as it was saved
            with Qmp(command[command.index(QMP_OPTION) + 1].split(":")[1].split(",")[0]) as vm:
                while vm.cmd("query-status")["status"] == "inmigrate":
                    time.sleep(0.0005)
                vm.cmd("cont")
        if not os.read(process.stdout.fileno(), 1):
            sys.exit(f"bench: {' '.join(command)}: the guest wrote nothing")
        took = (time.perf_counter() - begin) * 1000
        process.kill()
        process.wait()
    return took


def restores(commands, path_of):
    """{name: command} with the arguments that go on from the state."""
    skiff, qemu = path_of("skiff"), path_of("QEMU")
    socket_path = os.path.join(os.path.dirname(qemu), "bench-qmp")
    return {
        "cold": commands["skiff"],
        "restore": commands["skiff"][:1] + ["-restore", skiff],
        "loadstate": commands["skiff"] + ["-loadstate", skiff],
        "QEMU": commands["QEMU"]
        + ["-incoming", f"exec:cat {qemu}", QMP_OPTION, f"unix:{socket_path},server=on,wait=off"],
    }

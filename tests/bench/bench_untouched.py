# SPDX-License-Identifier: Apache-2.0
"""Saves of a machine that has used a small part of its memory: how long one takes, and what memory it takes itself."""

import os
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from qmp import Qmp  # noqa: E402

import bench_savevm  # noqa: E402
import bench_snapshot  # noqa: E402

WAYS = [("private", way) for way in ("fork", "write-protection", "passes", "savevm-start")]
WAYS += [("shared", way) for way in ("write-protection", "passes", "savevm-start")]


def command(skiff, guests, mib, memory, disk):
    words = bench_savevm.machine([skiff], guests, mib, 16)
    if memory == "shared":
        words += ["-object", f"memory-backend-memfd,id=m,size={mib}M,share=on", "-machine", "memory-backend=m"]
    return bench_snapshot.with_disk(words, disk)


def kib(pid, name):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(name + r":\s+(\d+) kB", file.read()).group(1))


def measure(skiff, guests, directory, mib, memory, way):
    """(milliseconds of a save, of them stopped, MiB of memory and of page tables that the process has more after it)"""
    disk, state = (os.path.join(directory, "bench-untouched" + end) for end in (".qcow2", ".state"))
    socket_path = os.path.join(directory, "bench-qmp")
    subprocess.run([skiff + "-img", "create", "-q", "-f", "qcow2", disk, "1G"], check=True)
    process = bench_savevm.start(command(skiff, guests, mib, memory, disk), socket_path)
    names = ("VmRSS", "VmPTE")
    with Qmp(socket_path) as vm:
        before = [kib(process.pid, name) for name in names]
        if way == "savevm-start":
            begin = time.perf_counter()
            vm.cmd("savevm-start", statefile=state)
            while vm.cmd("query-savevm")["status"] == "active":
                time.sleep(0.001)
            took, info = (time.perf_counter() - begin) * 1000, vm.cmd("query-savevm")
            if info["status"] != "completed":
                sys.exit(f"bench: savevm-start: {info}")
            stopped = float(info["pause-time"])
        else:
            took, stopped, captured = bench_snapshot.job(vm, "snapshot-save", "s", way)
            if captured != way:
                sys.exit(f"bench: memory was captured by {captured}, not by {way}")
        more = [(kib(process.pid, name) - b) / 1024 for name, b in zip(names, before)]
    process.kill()
    process.wait()
    for path in (disk, state):
        if os.path.exists(path):
            os.unlink(path)
    return [took, stopped, *more]

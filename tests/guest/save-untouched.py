#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 600
"""A machine that has used a small part of its memory is saved, in each way, and goes on from that. Neither the save nor the
load takes memory for what was never touched: not of the process, not of the file behind shared memory. The guest writes
8 MiB without end and fails by itself if a page that it wrote is missing."""
import json
import os
import re
import subprocess
import sys
import tempfile
import time

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
sys.path.insert(0, os.path.join(TOP, "tests/support"))
import qmp  # noqa: E402

SKIFF = os.environ.get("SKIFF", "build/skiff")
SKIFF_IMG = os.path.join(os.path.dirname(os.environ.get("SKIFF_UNCONFINED", SKIFF)), "skiff-img")
SIZE = "4G"
with open(os.environ.get("SKIFF_UNCONFINED", SKIFF), "rb") as program:
    SANITIZED = re.search(rb"__(asan|tsan)_init", program.read()) is not None
# Sanitizers keep what was freed, and notes of accesses.
TABLES_MIB = 6 if SANITIZED else 2  # page tables of 4 GiB would have 8 more
USED_MIB = 512 if SANITIZED else 64  # the guest's, skiff's own, and room for what differs
SHARED = ["-object", f"memory-backend-memfd,id=m,size={SIZE},share=on", "-machine", "memory-backend=m"]
NODE = "savevm-start to a node"
TICK = re.compile(rb"tick (\d+)\r?\n")


class Machine:
    all = []  # since the begin of the test

    def __init__(self, directory, options):
        path = os.path.join(directory, "qmp")
        self.console = os.path.join(directory, "console")
        if os.path.exists(self.console):
            os.unlink(self.console)
        self.process = subprocess.Popen(
            [SKIFF, "-display", "none", "-m", SIZE, "-kernel", os.path.join(TOP, "build/guests/count.elf")]
            + ["-append", "ms=10 dirty=8M", "-device", "virtio-blk-pci,drive=disk"]
            + ["-blockdev", f"qcow2,node-name=disk,file.driver=file,file.filename={directory}/disk.qcow2"]
            + ["-serial", f"file:{self.console}", "-qmp", f"unix:{path},server=on,wait=off", *options],
            stdin=subprocess.DEVNULL)
        Machine.all.append(self)
        self.qmp = qmp.Qmp(path)

    def ticks(self):
        with open(self.console, "rb") as file:
            return [int(n) for n in TICK.findall(file.read())]

    def goes_on(self, more):
        """Until the guest has printed so many lines more. Its last number."""
        deadline = time.monotonic() + self.qmp.timeout
        wanted = len(self.ticks()) + more
        while len(self.ticks()) < wanted:
            assert self.process.poll() is None, "the guest has ended"
            assert time.monotonic() < deadline, "the guest does not go on"
            time.sleep(0.01)
        return self.ticks()[-1]

    def status_mib(self, name):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return int(re.search(name + r":\s+(\d+) kB", file.read()).group(1)) / 1024

    def used_mib(self):
        """Of the process, and of the file of its shared memory."""
        used = int(self.status_mib("VmRSS"))
        directory = f"/proc/{self.process.pid}/fd"
        for name in os.listdir(directory):
            link = os.path.join(directory, name)
            try:
                if os.readlink(link).startswith("/memfd:m "):
                    used = max(used, os.stat(link).st_blocks >> 11)
            except FileNotFoundError:
                pass  # closed meanwhile
        return used

    def quit(self):
        self.qmp.cmd("quit")
        status = self.process.wait()
        assert status == 0, f"skiff has ended with {status}"


def save(machine, way, state):
    """How memory was captured."""
    if way.startswith("savevm-start"):
        machine.qmp.cmd("savevm-start", statefile=state)
        while machine.qmp.cmd("query-savevm")["status"] == "active":
            time.sleep(0.01)
        info = machine.qmp.cmd("query-savevm")
        assert info["status"] == "completed", info
        return way
    machine.qmp.cmd("snapshot-save", job_id="j", tag="t", vmstate="disk", devices=["disk"], x_capture=way)
    while True:
        info = [j for j in machine.qmp.cmd("query-jobs") if j["id"] == "j"][0]
        if info["status"] == "concluded":
            assert "error" not in info, info
            captured = info["x-snapshot"]["capture"]
            more = info["current-progress"] - info["total-progress"]  # passes copy some pages again
            assert more >= 0 and (more == 0 or captured == "passes"), info
            return captured
        time.sleep(0.01)


def check(directory, options, way):
    disk, state = os.path.join(directory, "disk.qcow2"), os.path.join(directory, "state")
    subprocess.run([SKIFF_IMG, "create", "-q", "-f", "qcow2", disk, "64M"], check=True)
    if way == NODE:
        with open(state, "wb") as file:
            file.truncate(5 << 30)
        state = json.dumps({"driver": "raw", "file": {"driver": "file", "filename": state}})
        state = "json:" + state
    machine = Machine(directory, options)
    machine.goes_on(5)
    used = machine.used_mib()
    assert used < USED_MIB, f"the machine has {used} MiB from the start"
    captured = save(machine, way, state)
    used = machine.used_mib()
    assert used < USED_MIB, f"{way}: the save has taken {used} MiB"
    if not options:  # protection of shared memory needs an entry for each page
        tables = machine.status_mib("VmPTE")
        assert tables < TABLES_MIB, f"{way}: page tables have {tables} MiB"
    last = machine.ticks()[-1]
    machine.quit()
    load = ["-loadstate", state] if way.startswith("savevm-start") else ["-loadvm", "t"]
    machine = Machine(directory, options + load)
    assert machine.goes_on(20) > 20, "the guest has begun anew"
    first = machine.ticks()[0]  # the line that was being printed may be in two parts
    assert first <= last + 2, f"the guest went on with {first}, behind {last}"
    used = machine.used_mib()
    assert used < USED_MIB, f"{way}: the load has taken {used} MiB"
    machine.quit()
    return captured


def main():
    ways = [("private", [], w) for w in ("fork", "write-protection", "passes", "savevm-start")]
    ways += [("shared", SHARED, w) for w in ("write-protection", "passes", "savevm-start", NODE)]
    failed = False
    print(f"1..{len(ways)}")
    for number, (memory, options, way) in enumerate(ways, 1):
        name = f"{memory} memory that was never touched costs nothing, by {way}"
        try:
            with tempfile.TemporaryDirectory() as directory:
                captured = check(directory, options, way)
            note = "" if captured == way else f" # the host has {captured} only"
            print(f"ok {number} - {name}{note}", flush=True)
        except (AssertionError, qmp.QmpError, TimeoutError, EOFError, subprocess.SubprocessError) as e:
            failed = True
            print(f"not ok {number} - {name}\n# {type(e).__name__}: {e}", flush=True)
        finally:
            for machine in Machine.all:
                machine.process.kill()
                machine.process.wait()
            Machine.all.clear()
    sys.exit(failed)


main()

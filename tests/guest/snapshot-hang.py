#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 600
"""Storage that hangs while the machine is saved: the server of an image is stopped, in any phase. QMP answers, what is
hung can be cancelled, the guest runs whenever its own disk does, each save stops the VM once, and the next one works.

The guest programs its flash, writes a disk and memory, and compares all with its own record (guest-images/src/mix.c).

With --vhost it has a NIC, too, whose rings the host's kernel serves, on the tap device tap0: for vhost-net.sh. A stop of
the VM takes them back, and they are served again afterwards."""
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
sys.path.insert(0, os.path.join(TOP, "tests/support"))
import qmp  # noqa: E402
from rounds import rounds  # noqa: E402

SKIFF = os.environ.get("SKIFF", "build/skiff")
SKIFF_IMG = os.path.join(os.path.dirname(os.environ.get("SKIFF_UNCONFINED", SKIFF)), "skiff-img")
COUNTS = re.compile(rb"mix (\d+) disk=(\d+) flash=(\d+) net=(\d+) ram=(\d+) lost=\d+\r?\n")
TICK, DISK, FLASH, NET, RAM = range(5)
VHOST = sys.argv[1:] == ["--vhost"]


class Server:
    """An image behind NBD; `hang` stops its process."""

    def __init__(self, directory, name, size):
        self.image = os.path.join(directory, name + ".qcow2")
        self.socket = os.path.join(directory, name + ".nbd")
        subprocess.run([SKIFF_IMG, "create", "-q", "-f", "qcow2", self.image, size], check=True)
        # Clusters of a growing image need a file that grows, which NBD cannot: the file gets its size before.
        os.truncate(self.image, 256 << 20)
        self.process = subprocess.Popen(
            [SKIFF_IMG, "serve", "-k", self.socket, "-f", "raw", "-t", "-e", "8", self.image])
        while not os.path.exists(self.socket):
            assert self.process.poll() is None
            time.sleep(0.01)

    def hang(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def end(self):
        self.go_on()
        self.process.terminate()
        self.process.wait()


class Recorder(qmp.Qmp):
    """A connection that keeps the names of all events, also of those that were waited for."""

    def __init__(self, path):
        self.seen = []
        super().__init__(path)

    def _take(self, deadline):
        count = len(self.events)
        super()._take(deadline)
        self.seen += [e["event"] for e in self.events[count:]]


def nic():
    if not VHOST:
        return []
    return ["-netdev", "tap,id=net0,ifname=tap0,script=no,vhostforce=on", "-device", "virtio-net-pci,netdev=net0"]


class Guest:
    def __init__(self, directory, disk, flash, *options):
        self.console = os.path.join(directory, "console")
        self.capture = self.captured = None
        rom = os.path.join(directory, "mix.rom")
        with open(os.path.join(TOP, "build/guests/mix.rom"), "rb") as file:
            data = bytearray(file.read())
        words = b"ms=20 dirty=8M span=4M" + (b"" if VHOST else b" nonet") + b"\0"
        data[: len(words)] = words
        with open(rom, "wb") as file:
            file.write(data)
        path = os.path.join(directory, "qmp")
        self.process = subprocess.Popen(
            [SKIFF, "-display", "none", "-m", "64", "-smp", "3", "-device", "isa-debug-exit,iobase=0xf4,iosize=4"]
            + ["-drive", f"if=pflash,format=raw,readonly=on,file={rom}"]
            + ["-blockdev", f"qcow2,node-name=vars,file.driver=nbd,file.server.type=unix,file.server.path={flash.socket}"]
            + ["-machine", "q35,pflash1=vars"]
            + ["-blockdev", f"qcow2,node-name=disk,file.driver=nbd,file.server.type=unix,file.server.path={disk.socket}"]
            + ["-device", "virtio-blk-pci,drive=disk", *nic(), *options, "-serial", f"file:{self.console}"]
            + ["-qmp", f"unix:{path},server=on,wait=off"], stdin=subprocess.DEVNULL)
        self.qmp = Recorder(path)

    def counts(self):
        """Of the guest's last line, by TICK and the others."""
        with open(self.console, "rb") as file:
            lines = COUNTS.findall(file.read())
        return [int(n) for n in lines[-1]] if lines else [0] * 5

    def goes_on(self, *what):
        """Until these have grown, and what the NIC has done."""
        what += (NET,) if VHOST else ()
        deadline = time.monotonic() + self.qmp.timeout
        before = self.counts()
        while True:
            assert self.process.poll() is None, "the guest has ended"
            assert time.monotonic() < deadline, f"the guest does not go on: {before}, {self.counts()}"
            now = self.counts()
            if now[TICK] < before[TICK]:
                before = now
            if all(now[i] > before[i] for i in what):
                return
            time.sleep(0.01)

    def all_goes_on(self):
        self.goes_on(TICK, DISK, FLASH, RAM)

    def answers(self):
        """QMP, many times; the commands wait for nothing."""
        for _ in range(20):
            for name in ("query-status", "query-jobs", "query-block", "query-savevm"):
                self.qmp.cmd(name)

    def job(self, job, command, tag):
        arguments = {"vmstate": "disk"} if command != "snapshot-delete" else {}
        if command == "snapshot-save" and self.capture:
            arguments["x_capture"] = self.capture
        self.qmp.cmd(command, job_id=job, tag=tag, devices=["vars", "disk"], **arguments)

    def job_ends(self, job):
        """The error of the job, or None."""
        while True:
            info = [j for j in self.qmp.cmd("query-jobs") if j["id"] == job][0]
            if info["status"] == "concluded":
                self.qmp.cmd("job-dismiss", id=job)
                self.captured = info.get("x-snapshot", {}).get("capture")
                return info.get("error")
            self.qmp.wait_event("JOB_STATUS_CHANGE", id=job)

    def stops(self):
        """The events of the run state since the last call."""
        names = [name for name in self.qmp.seen if name in ("STOP", "RESUME")]
        self.qmp.seen.clear()
        return names


def save_and_hang(guest, server, cancel):
    """One save whose @server hangs after a random time."""
    guest.all_goes_on()
    guest.answers()
    guest.stops()
    guest.job("j", "snapshot-save", "new")
    time.sleep(random.random() / 20)
    server.hang()
    guest.answers()
    if cancel:
        try:
            guest.qmp.cmd("job-cancel", id="j")
        except qmp.QmpError as e:  # it has ended
            assert "concluded" in e.desc, e
        guest.answers()
    server.go_on()
    error = guest.job_ends("j")
    assert error is None or cancel, error
    assert guest.stops() in (["STOP", "RESUME"], [] if error else None)
    guest.all_goes_on()
    if error is None:
        guest.job("d", "snapshot-delete", "new")
        assert guest.job_ends("d") is None


def test_a_save_waits_for_a_write_to_flash_that_hangs(guest, disk, flash):
    """One processor of the guest is in that write; the others, and QMP, go on until it ends."""
    guest.all_goes_on()
    flash.hang()
    guest.goes_on(TICK, DISK, RAM)
    guest.stops()
    guest.job("j", "snapshot-save", "one")
    guest.answers()
    guest.goes_on(TICK, DISK, RAM)
    flash.go_on()
    assert guest.job_ends("j") is None
    assert guest.stops() == ["STOP", "RESUME"]
    guest.all_goes_on()
    guest.job("l", "snapshot-load", "one")
    assert guest.job_ends("l") is None
    assert guest.stops() == ["STOP", "RESUME"]
    guest.all_goes_on()


def test_a_disk_hangs_in_any_phase(guest, disk, flash):
    for n in range(rounds(lab=2, check=8, long=200)):
        save_and_hang(guest, random.choice((disk, flash)), n % 2 == 1)
    guest.job("j", "snapshot-save", "last")
    assert guest.job_ends("j") is None
    guest.job("l", "snapshot-load", "last")
    assert guest.job_ends("l") is None
    guest.all_goes_on()


def protected_saves(guest, disk, flash):
    guest.capture = "write-protection"
    test_a_disk_hangs_in_any_phase(guest, disk, flash)
    guest.job("j", "snapshot-save", "protected")
    assert guest.job_ends("j") is None
    assert guest.captured == "write-protection" or os.geteuid() != 0, guest.captured
    guest.job("l", "snapshot-load", "protected")
    assert guest.job_ends("l") is None
    guest.all_goes_on()


def test_a_disk_hangs_while_private_memory_is_protected(guest, disk, flash):
    protected_saves(guest, disk, flash)


def test_a_disk_hangs_while_shared_memory_is_protected(guest, disk, flash):
    protected_saves(guest, disk, flash)


def shared_memory(_):
    return ["-object", "memory-backend-memfd,id=mem0,size=64M", "-machine", "memory-backend=mem0"]


def saved(guest):
    """Until savevm-start is completed."""
    while True:
        info = guest.qmp.cmd("query-savevm")
        if info["status"] == "completed":
            return
        assert info["status"] == "active", info
        time.sleep(0.01)


def test_resets_do_not_wait_for_a_state_file_that_hangs(guest, disk, flash):
    directory = os.path.dirname(disk.image)
    state = Server(directory, "state", "256M")
    name = f"nbd+unix:///?socket={state.socket}"
    try:
        for cancel in (False, True, False):
            guest.all_goes_on()
            guest.qmp.cmd("savevm-start", statefile=name)
            state.hang()
            for _ in range(rounds(lab=1, check=3, long=30)):
                guest.qmp.events.clear()
                guest.qmp.cmd("system_reset")
                guest.qmp.wait_event("RESET")
                guest.answers()
                if guest.qmp.cmd("query-status")["running"]:  # else it is stopped for the end of the save
                    guest.all_goes_on()
            if cancel:
                guest.qmp.cmd("savevm-end")
                guest.all_goes_on()
                guest.qmp.cmd("savevm-start", statefile=os.path.join(directory, "other"))
                saved(guest)
                state.go_on()
            else:
                state.go_on()
                saved(guest)
            guest.answers()
            guest.qmp.cmd("savevm-end")
        guest.all_goes_on()
    finally:
        state.end()


def overlays(directory):
    """Two disks whose images share their backing file."""
    base = os.path.join(directory, "base")
    subprocess.run([SKIFF_IMG, "create", "-q", "-f", "qcow2", base, "1M"], check=True)
    options = ["-blockdev", f"qcow2,node-name=base,read-only=on,file.driver=file,file.filename={base}"]
    for name in ("a", "b"):
        path = os.path.join(directory, name)
        subprocess.run([SKIFF_IMG, "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", path], check=True)
        options += ["-blockdev", f"qcow2,node-name={name},backing=base,file.driver=file,file.filename={path}"]
        options += ["-device", f"virtio-blk-pci,drive={name}"]
    return options


def test_graph_changes_beside_a_save(guest, disk, flash):
    """The graph of one overlay changes while the other is saved."""
    directory = os.path.dirname(disk.image)
    top, count = "b", 0
    for n in range(rounds(lab=1, check=3, long=50)):
        guest.qmp.cmd("snapshot-save", job_id="j", tag="t", vmstate="a", devices=["a"])
        while [j for j in guest.qmp.cmd("query-jobs") if j["id"] == "j"][0]["status"] != "concluded":
            count += 1
            guest.qmp.cmd("blockdev-snapshot-sync", node_name=top, snapshot_node_name=f"n{count}",
                          snapshot_file=os.path.join(directory, f"n{count}"))
            top = f"n{count}"
        error = guest.job_ends("j")
        assert error is None or "no disk showed at the start" in error, error
        if error is None:
            guest.qmp.cmd("snapshot-delete", job_id="d", tag="t", devices=["a"])
            assert guest.job_ends("d") is None
        guest.goes_on(TICK)


def main():
    options = {test_graph_changes_beside_a_save: overlays,
               test_a_disk_hangs_while_shared_memory_is_protected: shared_memory}
    tests = [f for name, f in globals().items() if name.startswith("test_")]
    if VHOST:  # the others would say no more about it
        tests = [test_a_save_waits_for_a_write_to_flash_that_hangs, test_a_disk_hangs_in_any_phase]
    print(f"1..{len(tests)}")
    failed = False
    for number, test in enumerate(tests, 1):
        with tempfile.TemporaryDirectory() as directory:
            disk, flash = Server(directory, "disk", "32M"), Server(directory, "flash", "64K")
            guest = Guest(directory, disk, flash, *options.get(test, lambda _: [])(directory))
            try:
                test(guest, disk, flash)
                guest.qmp.cmd("quit")
                assert guest.process.wait(200) == 0
                for server in (disk, flash):
                    server.end()
                    subprocess.run([SKIFF_IMG, "check", "-q", "-f", "qcow2", server.image], check=True)
                print(f"ok {number} - {test.__name__[5:].replace('_', ' ')}", flush=True)
            except (AssertionError, qmp.QmpError, TimeoutError, EOFError, subprocess.SubprocessError) as e:
                failed = True
                print(f"not ok {number} - {test.__name__[5:].replace('_', ' ')}\n# {type(e).__name__}: {e}", flush=True)
                import traceback
                print("# " + traceback.format_exc().replace("\n", "\n# "), flush=True)
            finally:
                guest.process.kill()
                guest.process.wait()
                disk.end()
                flash.end()
    sys.exit(failed)


main()

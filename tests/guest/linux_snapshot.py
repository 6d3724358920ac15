# SPDX-License-Identifier: Apache-2.0
"""Saves and restores a Debian guest under load; for linux-snapshot.sh, which starts it in a network namespace of the lab
that has a tap device tap0 with the address 10.0.2.2.

    linux_snapshot.py --rounds N [--ovmf CODE,VARS] [--rest MS] WORK DISK

In the guest a loop copies a file and compares its sum, fio or, without it, dd writes to an ext4 file system and what it has
is verified, clock-peer tells its clocks over a TCP connection through vhost-net, and with --ovmf a variable of the firmware
is set, again and again. DISK is the qcow2 image with that file system; WORK is a folder for the other files.

What has to be true of each save and restore:
 - all of them go on afterwards, and find what they have written; the kernel has nothing to complain about;
 - the connection lives on in a process that goes on after its save, and in one that goes on from a state file, since nothing
   was sent since that instant. After the load of a snapshot the two ends have different pasts: the guest connects again;
 - the guest's monotonic clock advances by the time in which the machine ran: not by more, not by less, and other clocks
   are at the same distance from it as ever;
 - the variable that is in the flash's image is the one that the guest has set last."""
import argparse
import base64
import os
import re
import select
import socket
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, "tests/support")
from qmp import Qmp  # noqa: E402

SKIFF = os.environ.get("SKIFF", "build/skiff")
SKIFF_IMG = os.path.join(os.path.dirname(os.environ.get("SKIFF_UNCONFINED", SKIFF)), "skiff-img")
PAYLOAD = 16384
PATTERN = bytes(i % 251 for i in range(251 + PAYLOAD))
PATIENCE = 400
VARIABLE = "skiff-cfc8fc79-be2e-4ddc-97f0-9f98bfe298a0"  # Linux lets a variable with this GUID be set again
COMPLAINTS = re.compile(rb"lockup|stall|hung|blocked for more|unstable|BUG:|WARNING|Call Trace|watchdog:|I/O error"
                        rb"|EXT4-fs error|timed out|clocksource:.*skew|== never")

GUEST = """
say() { echo "== $*"; }
modprobe -aq virtio_pci virtio_net virtio_blk crc32c_generic ext4
until [ -e /sys/class/net/eth0 ] && [ -b /dev/vda ]; do usleep 50000; done
ip link set eth0 up && ip address add 10.0.2.15/24 dev eth0
mkdir -p /mnt && mount -t ext4 /dev/vda /mnt && mount -t devtmpfs dev /mnt/dev && mount -t proc proc /mnt/proc || say never mounted
copies() {
    n=0; head -c 1000000 /dev/urandom >/dev/shm/a; sum=$(md5sum </dev/shm/a)
    while cp /dev/shm/a /dev/shm/b && [ "$(md5sum </dev/shm/b)" = "$sum" ]; do n=$((n + 1)); say cpu $n; usleep REST; done
    say never equal
}
disk() {
    n=0
    while disk_round; do n=$((n + 1)); say disk $n; usleep REST; done
    say never verified: $(cat /run/fio)
}
if [ -x /mnt/usr/bin/fio ]; then
    disk_round() {
        chroot /mnt /usr/bin/fio --name=v --filename=/tmp/data --size=2m --bsrange=512-64k --rw=randwrite --direct=1 --ioengine=psync \\
            --fsync=64 --verify=crc32c --do_verify=1 --verify_fatal=1 --thread --randseed=$n --minimal >/run/fio 2>&1 &&
            [ "$(grep "^[0-9]*;" /run/fio | cut -d";" -f6)" -gt 1000 ]
    }
else
    disk_round() {
        head -c 300000 /dev/urandom >/dev/shm/d && dd if=/dev/shm/d of=/mnt/tmp/data bs=50k conv=notrunc,fsync 2>/run/fio &&
            echo 3 >/proc/sys/vm/drop_caches && cmp /dev/shm/d /mnt/tmp/data 2>/run/fio
    }
fi
variables() {
    n=0; file=/sys/firmware/efi/efivars/VARIABLE
    modprobe efivarfs; mount -t efivarfs efivarfs /sys/firmware/efi/efivars || { say never mounted efivarfs; return; }
    while word=$(printf %08d $n) && printf "\\007\\000\\000\\000$word" >$file && [ "$(tail -c 8 $file)" = "$word" ]; do
        say efi $n; n=$((n + 1))
    done
    say never set $n
}
copies & disk & /mnt/usr/bin/clock-peer 10.0.2.2 8002 &
[ "$1" != ovmf ] || variables &
say booted $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)
wait
"""


def now():
    return time.monotonic_ns()


class Lost(Exception):
    pass


class Sample:
    """The guest's clocks, in ns, read between the host's times @asked and @told."""

    def __init__(self, asked, told, count, mono, real, boot):
        self.asked, self.told, self.count, self.mono, self.real, self.boot = asked, told, count, mono, real, boot

    def __repr__(self):
        return "%d: %.6f s asked %.6f told %.6f" % (self.count, self.mono / 1e9, self.asked / 1e9, self.told / 1e9)


class Host(threading.Thread):
    """The other end of clock-peer: asks all the time. Its fields are for the main thread to read; `error` ends the test."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("10.0.2.2", 8002))
        self.connections, self.error = 0, None
        self.may_be_lost_at = None  # set: a connection that does not answer 3 s after that time is given up
        self.samples = []
        self.start()

    def run(self):
        while self.error is None:
            try:
                self.serve(self.listener.accept()[0])
            except Lost:
                self.may_be_lost_at = None  # the next one may not
            except (AssertionError, OSError, ValueError) as error:
                self.error = error

    def serve(self, s):
        self.connections += 1
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a close resets it
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while True:
                self.samples.append(self.ask(s))
                time.sleep(0.05)
        finally:
            s.close()

    def ask(self, s):
        asked, got = now(), b""
        s.sendall(b"\n")
        while b"\n" not in got or len(got) < got.index(b"\n") + 1 + PAYLOAD:
            ready = select.select([s, self.listener], [], [], 0.1)[0]
            lost = self.may_be_lost_at is not None and now() - self.may_be_lost_at > 3e9
            if lost or self.listener in ready:
                assert self.may_be_lost_at is not None, "the guest has connected again"
                raise Lost
            if s in ready:
                part = s.recv(1 << 16)
                assert part, "the guest has closed the connection"
                got += part
        line, payload = got.split(b"\n", 1)
        sample = Sample(asked, now(), *map(int, line.split()))
        first = sample.count % 251
        assert payload == PATTERN[first:first + PAYLOAD], "the connection's data is wrong"
        return sample

    def more(self, check):
        """Until there are three samples more."""
        wanted = len(self.samples) + 3
        wait_until(lambda: len(self.samples) >= wanted, "clock-peer has not answered", check)


def wait_until(condition, what, check=lambda: None, more=lambda: None):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        check()
        assert time.monotonic() < deadline, (what, more())
        time.sleep(0.2)


class Clock:
    """What the guest's clock may be: the machine's times of running, and its instants."""

    def __init__(self, samples):
        self.samples, self.checked = samples, 0
        self.pauses = []  # (begin, stopped, left, end) of the host's time, see paused()
        self.offsets = None

    def paused(self, begin, end, stopped=0, left=0):
        """The machine stood at some time, or all the time, from @begin to @end; for sure from @stopped to @left."""
        self.pauses.append((begin, stopped, left, end))

    def check(self):
        """All new samples, one after another, and the first with the last."""
        new = self.samples[self.checked:]
        for a, b in list(zip(new, new[1:])) + [(new[0], new[-1])]:
            may = sum(end - begin for begin, _, _, end in self.pauses if end > a.asked and begin < b.told)
            must = sum(left - stopped for _, stopped, left, _ in self.pauses if a.told < left and b.asked > stopped > a.asked)
            self.between(a, b, b.told - a.asked - must, b.asked - a.told - may)
        for s in new:
            offsets = (s.real - s.mono, s.boot - s.mono)
            self.offsets = self.offsets or offsets
            assert all(abs(x - y) < 1e6 for x, y in zip(offsets, self.offsets)), ("a clock has jumped", offsets, self.offsets)
        self.checked = len(self.samples) - 1

    @staticmethod
    def between(a, b, most, least):
        went = b.mono - a.mono
        slack = 5e6 + most // 100  # the two clocks do not count alike
        assert least - slack <= went <= most + slack, \
            "the guest's clock went by %.1f ms, not by %.1f to %.1f: %s, %s" % (went / 1e6, least / 1e6, most / 1e6, a, b)

    def gone_back(self, save, load):
        """The machine of the time @save, an interval, went on at the time @load, an interval."""
        before = [s for s in self.samples if s.told <= save[0]][-1]
        after = [s for s in self.samples if s.asked >= load[1]][0]
        self.between(before, after, save[1] - before.asked + after.told - load[0], save[0] - before.told + after.asked - load[1])
        self.checked = self.samples.index(after)


class Machine:
    """A process. Its console is a file of its own."""
    number = 0

    def __init__(self, work, options):
        Machine.number += 1
        self.console = "%s/console.%d" % (work, Machine.number)
        self.log = "%s/log.%d" % (work, Machine.number)
        path = "%s/qmp.%d" % (work, Machine.number)
        sandbox = ["-sandbox", "on"] if Machine.number % 2 == 0 else []
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [SKIFF, *options, *sandbox, "-serial", "file:" + self.console, "-qmp", "unix:%s,server=on,wait=off" % path],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.said_before = 0
        wait_until(lambda: os.path.exists(path), "no QMP", self.check)
        self.qmp = Qmp(path, timeout=PATIENCE)

    def said(self):
        if not os.path.exists(self.console):
            return b""
        with open(self.console, "rb") as file:
            return file.read()

    def check(self):
        with open(self.log, "rb") as file:
            log = file.read()
        assert self.process.poll() is None and not re.search(b"[Ww]arning|[Aa]ssert|guest error|needs a reset", log), \
            (self.process.returncode, log)
        complaint = COMPLAINTS.search(self.said())
        assert not complaint, (complaint.group(), self.said()[-3000:].decode(errors="replace"))

    def wait_said(self, word, times=1):
        wait_until(lambda: len(re.findall(b"^== " + word.encode(), self.said()[self.said_before:], re.M)) >= times,
                   "the guest has not said '%s'" % word, self.check, lambda: self.said()[-2000:].decode(errors="replace"))

    def last(self, word):
        return int(re.findall(b"^== " + word.encode() + rb" (\d+)\r?\n", self.said(), re.M)[-1])

    def goes_on(self, words):
        """Each of the loops has done all of one turn since now."""
        self.said_before = len(self.said())
        for word in words:
            self.wait_said(word, 2)

    def job(self, command, tag, devices):
        """Returns when it began, when the machine ran again, and what query-jobs says in the end."""
        began, resumed = now(), None
        self.qmp.events.clear()
        self.qmp.cmd(command, job_id="job", tag=tag, devices=devices, vmstate=devices[0])
        seen = []
        while not {"STOP", "RESUME", "concluded"} <= set(seen):  # a load concludes before, a save after the machine goes on
            event = self.qmp.wait_event("STOP", "RESUME", "JOB_STATUS_CHANGE")
            seen.append(event["data"]["status"] if event["event"] == "JOB_STATUS_CHANGE" else event["event"])
            resumed = now() if seen[-1] == "RESUME" else resumed
        assert seen.count("STOP") == seen.count("RESUME") == 1 and seen.index("STOP") < seen.index("RESUME"), seen
        info = [j for j in self.qmp.cmd("query-jobs") if j["id"] == "job"][0]
        self.qmp.cmd("job-dismiss", id="job")
        assert "error" not in info, info
        return began, resumed, info

    def delete(self, tag, devices):
        self.qmp.cmd("snapshot-delete", job_id="job", tag=tag, devices=devices)
        self.qmp.wait_event("JOB_STATUS_CHANGE", id="job", status="concluded")
        self.qmp.cmd("job-dismiss", id="job")

    def save(self, path):
        """To a state file; the machine stands then. Returns when that began, and the last time at which it may have run."""
        began = now()
        self.qmp.cmd("savevm-start", statefile=path)
        self.qmp.wait_event("STOP")
        stopped = now()
        wait_until(lambda: self.qmp.cmd("query-savevm")["status"] != "active", "the save does not end", self.check)
        info = self.qmp.cmd("query-savevm")
        assert info["status"] == "completed", info
        return began, stopped

    def end(self):
        self.qmp.cmd("quit")
        self.process.wait(PATIENCE)
        assert self.process.returncode == 0, self.process.returncode


def variable_in(image, work):
    """What the variable is in an image of flash; the layout is that of EDK II's MdeModulePkg/Include/Guid/VariableFormat.h."""
    raw = work + "/vars.raw"
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, raw], check=True)
    with open(raw, "rb") as file:
        data = file.read(256 << 10)  # the area of variables; behind it is room for copies
    name = "skiff\0".encode("utf-16le")
    found = {}
    for match in re.finditer(re.escape(name), data):
        head = data[match.start() - 60:match.start()]
        start, state, _, attributes = struct.unpack_from("<HBBI", head)
        names, bytes_ = struct.unpack_from("<II", head, 36)
        if start == 0x55aa and names == len(name) and bytes_ == 8 and attributes == 7:
            found.setdefault(state, []).append(int(data[match.end():match.end() + 8]))
    # Added; while a newer one is written, the old one is also "in deleted transition".
    assert len(found.get(0x3f, [])) <= 1, found
    return (found.get(0x3f) or found[0x3e])[-1]


class Test:
    def __init__(self, options):
        self.work, self.ovmf = options.work, options.ovmf
        self.words = ["cpu", "disk"] + (["efi"] if self.ovmf else [])
        self.disk, self.vars, self.state, self.reports = options.disk, self.work + "/vars.qcow2", self.work + "/state", []
        self.devices = ["disk0"] + (["vars0"] if self.ovmf else [])
        self.host = Host()
        self.clock = Clock(self.host.samples)
        script = self.work + "/script"
        with open(script, "w") as file:
            file.write(GUEST.replace("VARIABLE", VARIABLE).replace("REST", str(options.rest * 1000)))
        self.machine_options = [
            # The emulator of a --steady lab loses a second processor of a guest while it boots, in one of three runs.
            "-m", "256", "-smp", "1" if self.ovmf else "2", "-display", "none", "-no-reboot", "-fw_cfg", "name=opt/skiff/script,file=" + script,
            "-kernel", "build/linux/vmlinuz", "-initrd", "build/linux/initramfs.cpio.gz",
            "-append", "console=ttyS0 loglevel=5 skiff.run=sh:" + base64.b64encode(
                b"set -- %s; . /sys/firmware/qemu_fw_cfg/by_name/opt/skiff/script/raw"
                % (b"ovmf" if self.ovmf else b"no")).decode(),
            "-object", "iothread,id=io", "-drive", "if=none,id=disk,format=qcow2,node-name=disk0,file=" + self.disk,
            "-device", "virtio-blk-pci,drive=disk,iothread=io",
            "-netdev", "tap,id=net0,ifname=tap0,script=no,vhostforce=on", "-device", "virtio-net-pci,netdev=net0"]
        if self.ovmf:
            code, variables = self.ovmf.split(",")
            subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", variables, self.vars], check=True)
            self.machine_options += [
                "-global", "kvm-pit.lost_tick_policy=discard", "-drive", "if=pflash,format=raw,readonly=on,file=" + code,
                "-drive", "if=none,id=vars,format=qcow2,node-name=vars0,file=" + self.vars, "-machine", "q35,pflash1=vars0"]

    def check(self):
        self.machine.check()
        if self.host.error is not None:
            raise self.host.error

    def goes_on(self):
        self.machine.goes_on(self.words)
        self.host.more(self.check)
        self.check()

    def boot(self):
        self.machine = Machine(self.work, self.machine_options)
        self.machine.wait_said("booted")
        wait_until(lambda: self.host.connections == 1, "no connection", self.check)
        self.goes_on()

    def end(self):
        """Ends the process; its images are right."""
        self.check()
        self.machine.end()
        for image in [self.disk] + ([self.vars] if self.ovmf else []):
            subprocess.run([SKIFF_IMG, "check", "-q", "-f", "qcow2", image], check=True)
        if self.ovmf:
            said, stored = self.machine.last("efi"), variable_in(self.vars, self.work)
            assert said <= stored <= said + 1, (said, stored)

    def gone_back(self, save, load, connection_lives):
        connections = self.host.connections
        if not connection_lives:
            self.host.may_be_lost_at = now()
        self.host.more(self.check)
        self.clock.gone_back(save, load)
        self.goes_on()
        self.host.may_be_lost_at = None
        assert self.host.connections in ([connections] if connection_lives else [connections, connections + 1]), "connections"

    def save_snapshot(self, tag):
        began, resumed, info = self.machine.job("snapshot-save", tag, self.devices)
        self.clock.paused(began, resumed)
        self.reports.append("%(capture)s %(pause-us)d us" % info["x-snapshot"])
        self.goes_on()
        self.clock.check()
        return began, resumed

    def load_in_place(self, tag):
        save = self.save_snapshot(tag)
        began, resumed, _ = self.machine.job("snapshot-load", tag, self.devices)
        self.gone_back(save, (began, resumed), False)
        self.machine.delete(tag, self.devices)

    def load_in_a_process(self, tag):
        save = self.save_snapshot(tag)
        self.end()
        began = now()
        self.machine = Machine(self.work, self.machine_options + ["-loadvm", tag])
        self.gone_back(save, (began, self.running()), False)
        self.machine.delete(tag, self.devices)

    def state_file_and_on(self, _):
        began, stopped = self.machine.save(self.state)
        time.sleep(2)
        left = now()
        self.machine.qmp.cmd("savevm-end")
        self.machine.qmp.wait_event("RESUME")
        self.clock.paused(began, now(), stopped, left)
        self.goes_on()
        self.clock.check()

    def restore_state_file(self, number):
        self.state = "%s/state.%s" % (self.work, number)  # the last one is mapped
        save = self.machine.save(self.state)
        self.clock.check()
        self.end()
        began = now()
        self.machine = Machine(self.work, ["-restore", self.state])
        self.gone_back(save, (began, self.running()), True)
        os.unlink(self.state)

    def running(self):
        wait_until(lambda: self.machine.qmp.cmd("query-status")["running"], "it does not run", self.check)
        return now()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--ovmf")
    parser.add_argument("--rest", type=int, default=0, help="milliseconds after each turn of a loop")
    for name in ("work", "disk"):
        parser.add_argument(name)
    test = Test(parser.parse_args())
    kinds = [test.load_in_place, test.load_in_a_process, test.restore_state_file, test.state_file_and_on]
    test.boot()
    print("== booted", flush=True)
    for number in range(parser.parse_args().rounds):
        kind = kinds[number % len(kinds)]
        began = time.monotonic()
        kind("tag%d" % number)
        print("== %s: %.1f s" % (kind.__name__, time.monotonic() - began), flush=True)
    test.end()
    print("saves of snapshots:", ", ".join(test.reports))
    print("== connections", test.host.connections, "answers", len(test.host.samples))


if __name__ == "__main__":
    main()

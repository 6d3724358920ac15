# SPDX-License-Identifier: Apache-2.0
"""How fast the state of a machine is written and read, beside fio and QEMU, and what a save costs the guest that runs on."""

import json
import mmap
import os
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from qmp import Qmp  # noqa: E402

COUNTERS = 0x10040  # of guest-images/src/count.c
LIMIT_S = 600
SPARE_MIB = 256  # of the guest's memory, which stay zero
FAST_MEMORY = 1500  # MiB/s: memory that this machine has
FREE_S = 0.5  # the undisturbed rate is measured for so long


# ---- memory of this machine ----


def own_memory(mib):
    """Takes so much memory and gives it back, as often as that is slow: a machine that is itself a virtual one may have given free
    memory to its host, and would wait for that in the middle of a measurement. What is free stays with it for about two seconds."""
    for _ in range(3):
        begin = time.perf_counter()
        with mmap.mmap(-1, mib << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
            memory.madvise(mmap.MADV_HUGEPAGE)
            for at in range(0, mib << 20, 2 << 20):
                memory[at] = 1
            took = time.perf_counter() - begin
        if mib / took > FAST_MEMORY:
            break


# ---- fio ----


def fio(path, mib, words, invalidate=True):
    """MiB/s of one sequential job over a file of @mib, the flush at the end included."""
    job = f"--name=bench --filename={path} --size={mib}m --bs=1m --fallocate=none --output-format=json {words}"
    out = subprocess.run(
        ["fio"] + job.split() + [f"--invalidate={int(invalidate)}"], capture_output=True, text=True, check=True
    ).stdout
    done = json.loads(out[out.index("{") :])["jobs"][0]
    return mib * 1000 / done["job_runtime"]


FIO_DIRECT = "--direct=1 --ioengine=io_uring --iodepth=4"
FIO_BUFFERED = "--ioengine=psync"


def fio_peers(directory, mib):
    """{name: measure()}, to be called in this order: those that read read what was written."""
    path = os.path.join(directory, "bench-throughput-fio")

    def anew(words):
        if os.path.exists(path):
            os.unlink(path)
        return fio(path, mib, "--rw=write --end_fsync=1 " + words)

    return {
        "write, direct": lambda: anew(FIO_DIRECT),
        "read, direct": lambda: fio(path, mib, "--rw=read " + FIO_DIRECT),
        "write, buffered": lambda: anew(FIO_BUFFERED),
        "read, buffered": lambda: fio(path, mib, "--rw=read " + FIO_BUFFERED),
        "read, in the page cache": lambda: fio(path, mib, "--rw=read " + FIO_BUFFERED, invalidate=False),
    }


# ---- machines ----


def guest(vmm, guests, mib, words, cpus=1):
    """A guest with @mib of memory that is not zero, some of it as @words says."""
    command = vmm + ["-m", str(mib + SPARE_MIB), "-smp", str(cpus), "-display", "none"]
    return command + ["-kernel", f"{guests}/count.elf", "-append", f"ms=10 {words}"]


def disk(path, direct):
    cache = "on" if direct else "off"
    drive = f"qcow2,node-name=disk,file.driver=file,file.filename={path},cache.direct={cache},file.cache.direct={cache},file.aio=io_uring"
    return ["-blockdev", drive, "-device", "virtio-blk-pci,drive=disk"]


def make_disk(skiff_img, path):
    subprocess.run([skiff_img, "create", "-q", "-f", "qcow2", path, "1G"], check=True)


def drop_cache(path):
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def fill_cache(path):
    subprocess.run(["cat", path], stdout=subprocess.DEVNULL, check=True)


class Machine:
    """A guest that runs, until the end of the block."""

    def __init__(self, command, directory):
        self.socket = os.path.join(directory, "bench-qmp")
        self.counts = os.path.join(directory, "bench-counters")
        self.command = command + ["-serial", "stdio", "-qmp", f"unix:{self.socket},server=on,wait=off"]

    def __enter__(self):
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        seen = b""
        while b"tick 9" not in seen:
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                sys.exit(f"bench: {' '.join(self.command)}: the guest has not begun\n{seen[-1000:]!r}")
            seen += data
        self.process.stdout.close()
        self.vm = Qmp(self.socket, timeout=LIMIT_S)
        return self

    def __exit__(self, *unused):
        self.vm.close()
        self.process.kill()
        self.process.wait()

    def count(self):
        """(seconds, what the boot CPU has counted)"""
        self.vm.cmd("pmemsave", val=COUNTERS, size=8, filename=self.counts)
        with open(self.counts, "rb") as file:
            number = int.from_bytes(file.read(8), "little")
        os.unlink(self.counts)
        return time.perf_counter(), number

    def rate(self, run):
        """What the guest counts in a second while @run() lasts, and how many seconds that takes."""
        begin, first = self.count()
        run()
        end, last = self.count()
        return (last - first) / (end - begin), end - begin

    def wait_until(self, done, what):
        begin = time.perf_counter()
        while not done():
            if time.perf_counter() - begin > LIMIT_S:
                sys.exit(f"bench: {what} does not end")
            time.sleep(0.002)

    # ---- saves: each returns a dictionary of what it has learned ----

    def savevm_start(self, path):
        self.vm.cmd("savevm-start", statefile=path)
        info = {}

        def done():
            info.update(self.vm.cmd("query-savevm"))
            return info["status"] != "active"

        self.wait_until(done, "savevm-start")
        if info["status"] != "completed":
            sys.exit(f"bench: savevm-start: {info}")
        return {"capture": "passes", "stopped": info["pause-time"] / 1000}

    def job(self, command, tag):
        arguments = {"job-id": tag, "tag": tag, "devices": ["disk"]}
        if command != "snapshot-delete":
            arguments["vmstate"] = "disk"
        self.vm.cmd(command, arguments)
        info = {}

        def done():
            info.update([j for j in self.vm.cmd("query-jobs") if j["id"] == tag][0])
            return info["status"] == "concluded"

        self.wait_until(done, command)
        if "error" in info:
            sys.exit(f"bench: {command}: {info['error']}")
        self.vm.cmd("job-dismiss", id=tag)
        said = info.get("x-snapshot", {})
        return {"capture": said.get("capture"), "stopped": said.get("pause-us", 0) / 1e6}

    def migrate(self, path):
        """QEMU's: the guest is stopped for all of it, as for its savevm."""
        self.vm.cmd("stop")
        self.vm.cmd("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
        self.vm.cmd("migrate", uri=f"exec:cat > {path}")
        self.wait_until(lambda: self.vm.cmd("query-migrate").get("status") in ("completed", "failed"), "migrate")
        subprocess.run(["sync", path], check=True)  # skiff and fio flush, too
        return {"capture": "stopped"}


def timed(run):
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def seconds_to_first_byte(command, qmp=None):
    """From the start of the process to the guest's first byte."""
    begin = time.perf_counter()
    with subprocess.Popen(
        command + ["-serial", "stdio"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        if qmp:  # QEMU's -incoming goes on stopped, as it was saved
            with Qmp(qmp, timeout=LIMIT_S) as vm:
                while vm.cmd("query-status")["status"] == "inmigrate":
                    time.sleep(0.0005)
                vm.cmd("cont")
        if not os.read(process.stdout.fileno(), 1):
            sys.exit(f"bench: {' '.join(command)}: the guest wrote nothing")
        took = time.perf_counter() - begin
        process.kill()
        process.wait()
    return took


# ---- throughput ----


class Throughput:
    """Saves and loads of a guest with @mib of memory that is not zero, in one directory."""

    def __init__(self, vmms, guests, skiff_img, directory, mib):
        self.vmms, self.guests, self.skiff_img, self.directory, self.mib = vmms, guests, skiff_img, directory, mib
        self.results = {}  # (who, what): [MiB/s]

    def path(self, name):
        return os.path.join(self.directory, f"bench-throughput-{name}")

    def add(self, who, what, seconds):
        self.results.setdefault((who, what), []).append(self.mib / seconds)
        print(f"  {who}: {what}: {self.mib / seconds:.0f} MiB/s", file=sys.stderr)

    def command(self, who):
        return guest(self.vmms[who], self.guests, self.mib, f"fill={self.mib}M")

    def fio(self):
        for what, measure in fio_peers(self.directory, self.mib).items():
            own_memory(self.mib + SPARE_MIB * 2)
            self.add("fio", what, self.mib / measure())
        os.unlink(self.path("fio"))

    def file(self, who):
        """A state file, written and read."""
        path, command = self.path("state"), self.command(who)
        save = Machine.savevm_start if who == "skiff" else Machine.migrate
        own_memory(self.mib + SPARE_MIB * 2)
        with Machine(command, self.directory) as m:
            own_memory(self.mib + SPARE_MIB * 2)
            self.add(who, "save to a file", timed(lambda: save(m, path)))
        qmp = self.path("qmp")
        for what in ("load of a file", "load of a file in the page cache"):
            (fill_cache if "cache" in what else drop_cache)(path)
            own_memory(self.mib + SPARE_MIB * 2)
            if who == "skiff":
                took = seconds_to_first_byte(command + ["-loadstate", path])
            else:
                server = ["-qmp", f"unix:{qmp},server=on,wait=off"]
                took = seconds_to_first_byte(command + ["-incoming", f"exec:cat {path}"] + server, qmp)
            self.add(who, what, took)
        os.unlink(path)

    def image(self, who, direct):
        """A snapshot in a qcow2 image, written and read."""
        path, kind = self.path("disk.qcow2"), "direct" if direct else "buffered"
        make_disk(self.skiff_img, path)
        command = self.command(who) + disk(path, direct)
        with Machine(command, self.directory) as m:
            self.add(who, f"save to an image, {kind}", timed(lambda: m.job("snapshot-save", "s")))
        drop_cache(path)
        own_memory(self.mib + SPARE_MIB * 2)
        self.add(who, f"load of an image, {kind}", seconds_to_first_byte(command + ["-loadvm", "s"]))
        os.unlink(path)

    def run(self, rounds):
        for number in range(rounds):
            print(f"  {self.mib} MiB, round {number + 1} of {rounds}", file=sys.stderr)
            self.fio()
            for who in self.vmms:
                self.file(who)
                self.image(who, True)
                self.image(who, False)


# What each is compared with: what fio does in the same way.
PEERS = (
    ("save to a file", "write, direct"),
    ("save to an image, direct", "write, direct"),
    ("save to an image, buffered", "write, buffered"),
    ("load of a file", "read, direct"),
    ("load of a file in the page cache", "read, in the page cache"),
    ("load of an image, direct", "read, direct"),
    ("load of an image, buffered", "read, buffered"),
)


def throughput_rows(t):
    """[(row of the table, what, ratio to fio)]"""
    middle = {key: statistics.median(values) for key, values in t.results.items()}
    rows = []
    for what, peer in PEERS:
        ours, theirs = middle["skiff", what], middle["fio", peer]
        row = [str(t.mib), what, f"{ours:,.0f}", f"{min(t.results['skiff', what]):,.0f}", f"fio {peer}"]
        row += [f"{theirs:,.0f}", f"{min(t.results['fio', peer]):,.0f}", f"{ours / theirs:.2f}"]
        row += [f"{middle['QEMU', what]:,.0f}" if ("QEMU", what) in middle else "-"]
        rows.append((row, what, ours / theirs))
    return rows


# ---- cost ----

COST_KINDS = (  # what the guest does with its memory, and its words
    ("computes", lambda mib: f"fill={mib}M"),
    ("writes 64 MiB", lambda mib: f"fill={mib - 64}M dirty=64M"),
    ("writes all", lambda mib: f"dirty={mib}M"),
)


def shared(mib):
    return ["-object", f"memory-backend-memfd,id=m,size={mib + SPARE_MIB}M,share=on", "-machine", "memory-backend=m"]


class Cost:
    """What a save leaves of the guest's rate: one processor of the guest, which has @mib of memory that is not zero."""

    METHODS = ("snapshot-save", "snapshot-save, memory shared", "savevm-start")

    def __init__(self, skiff, guests, directory, mib):
        self.skiff, self.guests, self.directory, self.mib = skiff, guests, directory, mib

    def once(self, m, method, state):
        """(part of the undisturbed rate, seconds of the save, of them stopped, how memory was captured)"""
        own_memory(self.mib + SPARE_MIB)
        free = statistics.median(m.rate(lambda: time.sleep(FREE_S))[0] for _ in range(3))
        said = {}
        if method == "savevm-start":
            rate, took = m.rate(lambda: said.update(m.savevm_start(state)))
            m.vm.cmd("savevm-end")
        else:
            rate, took = m.rate(lambda: said.update(m.job("snapshot-save", "s")))
            m.job("snapshot-delete", "s")
        return rate / free, took, said["stopped"], said["capture"]

    def measure(self, words, method, rounds):
        path, state = (os.path.join(self.directory, f"bench-cost-{name}") for name in ("disk.qcow2", "state"))
        make_disk(self.skiff + "-img", path)
        command = guest([self.skiff], self.guests, self.mib, words)
        command += disk(path, True) + (shared(self.mib) if "shared" in method else [])
        with Machine(command, self.directory) as m:
            results = [self.once(m, method, state) for _ in range(rounds)]
        for name in (path, state):
            if os.path.exists(name):
                os.unlink(name)
        return results

    def row(self, name, words, method, rounds):
        """(row of the table, what is left of the guest's rate)"""
        results = self.measure(words(self.mib), method, rounds)
        left, took, stopped = ([r[i] for r in results] for i in range(3))
        row = [str(self.mib), name, method, results[0][3], f"{statistics.median(left):.2f}", f"{min(left):.2f}"]
        row += [f"{statistics.median(took) * 1000:,.0f}", f"{statistics.median(stopped) * 1000:,.1f}"]
        return row, statistics.median(left)

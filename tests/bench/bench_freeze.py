# SPDX-License-Identifier: Apache-2.0
"""How long an internal snapshot stops the I/O of a running guest."""
import os
import re
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from qmp import Qmp  # pylint: disable=wrong-import-position,import-error

SHAPES = [(gib, percent) for gib in (4, 40) for percent in (10, 90)]
WORK = ("read", "write")
RUN_MS = 2500
BEFORE_S = 0.5  # of the guest's run, then the snapshot is created


def qemu_img(*words):
    subprocess.run(["qemu-img", *words], check=True, stdout=subprocess.DEVNULL)


def make_image(path, gib, percent):
    """A sparse image whose first part is allocated. Returns its bytes."""
    size = gib << 30
    allocated = size * percent // 100 >> 20 << 20
    qemu_img("create", "-f", "qcow2", "-o", "preallocation=metadata", path, str(allocated))
    qemu_img("resize", path, str(size))
    return allocated


def guest_arguments(guests, path, op, span):
    """The guest's requests go to the allocated part, one at a time."""
    words = f"op={op} order=random bs=4096 qd=1 span={span} queues=1 mode=poll ms={RUN_MS}"
    drive = f"if=none,id=disk,format=qcow2,file={path},cache=none,aio=io_uring"
    return ["-m", "128", "-serial", "stdio", "-object", "iothread,id=io", "-drive", drive,
            "-kernel", f"{guests}/blk-bench.elf", "-append", words]


def create_snapshot(qmp):
    """Returns the milliseconds of the command."""
    with Qmp(qmp) as vm:
        time.sleep(BEFORE_S)
        start = time.perf_counter()
        vm.cmd("blockdev-snapshot-internal-sync", device="disk", name="frozen")
        return (time.perf_counter() - start) * 1000


def run(command, snapshot):
    """Milliseconds: for how long new requests were held, as skiff's trace has it (QEMU: the whole command); the
    guest's longest request; the command that creates the snapshot."""
    with tempfile.TemporaryDirectory(prefix="bench.") as work:
        command = command + ["-qmp", f"unix:{work}/qmp,server=on,wait=off"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True) as vmm:
            took = create_snapshot(f"{work}/qmp") if snapshot else 0
            out = vmm.communicate()[0]
    found = re.search(r"^blk-bench: op=.* lat_max_ns=(\d+)", out, re.MULTILINE)
    if not found:
        sys.exit(f"bench: {' '.join(command)}: {out}")
    held = re.search(r"block_snapshot_freeze .*held_ns=(\d+)", out)
    return int(held.group(1)) / 1e6 if held else took, int(found.group(1)) / 1e6, took


def measure(command, image, op, guests, snapshot):
    """As run(), for an image that is made anew. @image: path, GiB, percent; @command: a function from
    the guest's arguments to the command line."""
    path, gib, percent = image
    try:
        span = make_image(path, gib, percent)
        return run(command(guest_arguments(guests, path, op, span)), snapshot)
    finally:
        os.unlink(path)

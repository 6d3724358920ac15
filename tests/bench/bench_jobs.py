# SPDX-License-Identifier: Apache-2.0
"""Block jobs and NBD for `tests/bench/run --only jobs,nbd`: skiff and QEMU do the same, by the same commands."""
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from qmp import Qmp  # pylint: disable=wrong-import-position,import-error

ALONE_S = 1  # of the guest's requests before the job
QEMU_ATTEMPTS = 5  # QEMU 7.2 with an iothread can abort when a job begins beside requests
QUIT_S = 10
BESIDE_S = 2  # for which a job beside requests of the guest is measured; until then it has not asked for more time
# (job, op of the guest, more arguments, remark)
WORK = (
    ("blockdev-mirror", None, {}, "idle guest"),
    ("blockdev-mirror", "read", {}, "guest: reads"),
    ("blockdev-mirror", "write", {}, "guest: writes"),
    ("blockdev-mirror", "write", {"copy-mode": "write-blocking"}, "guest: writes, write-blocking"),
    ("blockdev-backup", None, {}, "idle guest"),
    ("blockdev-backup", "read", {}, "guest: reads"),
    ("blockdev-backup", "write", {}, "guest: writes"),
)


def file_node(name, path):
    return {"driver": "file", "node-name": name, "filename": path, "aio": "io_uring", "cache": {"direct": True}}


def guest_arguments(guests, path, op):
    """A guest whose disk is the node "disk"; with an @op it makes requests at once, else it is paused."""
    words = f"op={op or 'read'} order=random bs=4096 qd=32 qsize=256 queues=1 mode=irq ms=60000"
    node = f"driver=raw,node-name=disk,cache.direct=on,file.driver=file,file.filename={path},file.aio=io_uring,file.cache.direct=on"
    return ["-m", "128", "-serial", "null", "-object", "iothread,id=io", "-blockdev", node,
            "-kernel", f"{guests}/blk-bench.elf", "-append", words] + ([] if op else ["-S"])


def operations(vm):
    return sum(s["stats"]["rd_operations"] + s["stats"]["wr_operations"] for s in vm.cmd("query-blockstats"))


def copied(vm, job, size, limit_s):
    """Bytes that the job has copied when it ends, or after some seconds. A mirror ends when it is ready."""
    try:
        event = vm.wait_event("BLOCK_JOB_READY", "BLOCK_JOB_COMPLETED", timeout=limit_s)
    except TimeoutError:
        return vm.cmd("query-block-jobs")[0]["offset"]
    if "error" in event["data"]:
        sys.exit(f"bench: {job}: {event['data']['error']}")
    return size


def run_job_in(vm, work, target, size):
    job, op, more, _ = work
    time.sleep(ALONE_S if op else 0.2)
    begin, alone = time.perf_counter(), operations(vm)
    time.sleep(ALONE_S if op else 0)
    alone = (operations(vm) - alone) / (time.perf_counter() - begin)
    vm.cmd("blockdev-add", driver="raw", file=target, **{"node-name": "target", "cache": {"direct": True}})
    begin, beside = time.perf_counter(), operations(vm)
    vm.cmd(job, sync="full", device="disk", target="target", **{"job-id": "job", **more})
    done = copied(vm, job, size, BESIDE_S if op else None)
    took = time.perf_counter() - begin
    beside = (operations(vm) - beside) / took
    return done / took / 1e6, beside / alone if op else 1


def quit_vm(vm, vmm):
    """A killed process can hold the locks of its files for a while."""
    vm.timeout = QUIT_S
    try:
        vm.cmd("quit")
        vmm.wait(timeout=QUIT_S)
    except (TimeoutError, subprocess.TimeoutExpired):
        print(f"bench: {vmm.args[0]} does not quit", file=sys.stderr)


def run_job(command, work, target, size):
    """MB/s of the job, and the share of its requests that the guest keeps meanwhile."""
    with tempfile.TemporaryDirectory(prefix="bench.") as directory:
        command = command + ["-qmp", f"unix:{directory}/qmp,server=on,wait=off"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as vmm:
            try:
                with Qmp(f"{directory}/qmp") as vm:
                    result = run_job_in(vm, work, target, size)
                    quit_vm(vm, vmm)
                return result
            finally:
                vmm.kill()


def run_job_once(command, path, work, size):
    with open(path, "wb") as f:
        f.truncate(size)
    try:
        return run_job(command, work, file_node("file", path), size)
    finally:
        os.unlink(path)


def measure_job(peer, guests, image, work):
    """@peer: a function from the guest's arguments to a command line; @work: of WORK. MB/s, share of requests."""
    command = peer(guest_arguments(guests, image, work[1]))
    attempts = QEMU_ATTEMPTS if "qemu" in os.path.basename(command[0]) else 1
    while True:
        try:
            return run_job_once(command, image + ".target", work, os.path.getsize(image))
        except (EOFError, ConnectionError):
            attempts -= 1
            if attempts == 0:
                raise


class Server:
    """An NBD server of an image on a UNIX socket: `skiff-img serve` or qemu-nbd."""

    def __init__(self, command, image, work):
        self.socket = f"{work}/nbd"
        self.server = subprocess.Popen([*command, "-t", "-f", "raw", "--cache=none", "-k", self.socket, image])
        while not os.path.exists(self.socket):
            time.sleep(0.01)

    def __enter__(self):
        return f"nbd+unix:///?socket={self.socket}"

    def __exit__(self, *unused):
        self.server.terminate()
        self.server.wait()


def seconds(command):
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def measure_nbd(server, copy, image):
    """MB/s of @copy, a function from an NBD URI to a command line."""
    with tempfile.TemporaryDirectory(prefix="bench.") as work, Server(server, image, work) as uri:
        return os.path.getsize(image) / seconds(copy(uri)) / 1e6

# SPDX-License-Identifier: Apache-2.0
"""Block jobs and NBD for `tests/bench/run --only jobs,nbd`: skiff and QEMU do the same, by the same commands."""
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from qmp import Qmp  # pylint: disable=wrong-import-position,import-error

JOBS = ("blockdev-mirror", "blockdev-backup")
ALONE_S = 0.5  # of the guest's requests before the job


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


def wait_for_end(vm, job):
    """A mirror ends when it is ready for the first time."""
    event = vm.wait_event("BLOCK_JOB_READY", "BLOCK_JOB_COMPLETED")
    if "error" in event["data"]:
        sys.exit(f"bench: {job}: {event['data']['error']}")


def run_job_in(vm, job, target, op):
    time.sleep(ALONE_S)
    begin, alone = time.perf_counter(), operations(vm)
    time.sleep(ALONE_S)
    alone = (operations(vm) - alone) / (time.perf_counter() - begin)
    vm.cmd("blockdev-add", driver="raw", file=target, **{"node-name": "target", "cache": {"direct": True}})
    begin, beside = time.perf_counter(), operations(vm)
    # A mirror in the background is not ready as long as the guest writes that fast.
    mode = {"copy-mode": "write-blocking"} if op == "write" and job == "blockdev-mirror" else {}
    vm.cmd(job, sync="full", device="disk", target="target", **{"job-id": "job", **mode})
    wait_for_end(vm, job)
    took = time.perf_counter() - begin
    beside = (operations(vm) - beside) / took
    return took, beside / alone if op else 1


def run_job(command, job, target, op):
    """Seconds of the job, and the share of its requests that the guest keeps meanwhile."""
    with tempfile.TemporaryDirectory(prefix="bench.") as work:
        command = command + ["-qmp", f"unix:{work}/qmp,server=on,wait=off"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as vmm:
            try:
                with Qmp(f"{work}/qmp") as vm:
                    return run_job_in(vm, job, target, op)
            finally:
                vmm.kill()


def measure_job(peer, guests, image, job, op):
    """@peer: a function from the guest's arguments to a command line. MB/s, share of requests."""
    path = image + ".target"
    size = os.path.getsize(image)
    with open(path, "wb") as f:
        f.truncate(size)
    try:
        took, share = run_job(peer(guest_arguments(guests, image, op)), job, file_node("file", path), op)
    finally:
        os.unlink(path)
    return size / took / 1e6, share


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

# SPDX-License-Identifier: Apache-2.0
"""snapshot-save into a qcow2 disk, of a guest that writes memory: how long the guest is stopped, and the job takes."""

import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from qmp import Qmp  # noqa: E402

import bench_savevm  # noqa: E402

DISK_GIB = 8


def with_disk(command, disk):
    return command + ["-blockdev", f"qcow2,node-name=disk,file.driver=file,file.filename={disk}",
                      "-device", "virtio-blk-pci,drive=disk"]


def stamp(event):
    return event["timestamp"]["seconds"] * 1000 + event["timestamp"]["microseconds"] / 1000


def job(vm, command, tag, capture=None):
    """Runs a job to its end. (milliseconds, of them stopped, how memory was captured)"""
    begin = time.perf_counter()
    vm.events.clear()
    arguments = {"job-id": tag, "tag": tag, "devices": ["disk"]}
    if command != "snapshot-delete":
        arguments["vmstate"] = "disk"
    if capture is not None:
        arguments["x-capture"] = capture
    vm.cmd(command, arguments)
    stop = vm.wait_event("STOP") if command != "snapshot-delete" else None
    resume = vm.wait_event("RESUME") if stop is not None else None
    while True:
        info = [j for j in vm.cmd("query-jobs") if j["id"] == tag][0]
        if info["status"] == "concluded":
            break
        time.sleep(0.002)
    if "error" in info:
        sys.exit(f"bench: {command}: {info['error']}")
    vm.cmd("job-dismiss", id=tag)
    took = (time.perf_counter() - begin) * 1000
    stopped = stamp(resume) - stamp(stop) if stop is not None else 0
    return took, stopped, info.get("x-snapshot", {}).get("capture", "-")


def measure(command, skiff_img, directory, rounds, capture=None):
    """[(milliseconds of a save, of them stopped, how)]; @capture: skiff's x-capture, or None."""
    disk, socket_path = os.path.join(directory, "bench-snapshot.qcow2"), os.path.join(directory, "bench-qmp")
    subprocess.run([skiff_img, "create", "-q", "-f", "qcow2", disk, f"{DISK_GIB}G"], check=True)
    process = bench_savevm.start(with_disk(command, disk), socket_path)
    results = []
    with Qmp(socket_path) as vm:
        for n in range(rounds):
            results.append(job(vm, "snapshot-save", f"s{n}", capture))
            job(vm, "snapshot-delete", f"s{n}")
    process.kill()
    process.wait()
    os.unlink(disk)
    return results

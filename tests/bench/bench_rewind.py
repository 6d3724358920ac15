# SPDX-License-Identifier: Apache-2.0
"""Going back: x-rewind, and QEMU's loadvm, of a guest that has written some of its memory since."""

import os
import subprocess
import time

import bench_savevm
from qmp import Qmp  # bench_savevm has set the path

TAG = "point"


def machine(vmm, guests, mib, dirty):
    """A guest whose two processors write @dirty MiB without end; 0: they only count."""
    guest = ["-m", str(mib), "-smp", "2", "-display", "none", "-kernel", f"{guests}/count.elf"]
    return vmm + guest + ["-append", f"ms=1 dirty={dirty}M"]


def timed(action):
    """Milliseconds."""
    begin = time.perf_counter()
    result = action()
    return (time.perf_counter() - begin) * 1000, result


def back_skiff(vm, rounds, run_s):
    """([milliseconds of a rewind], [pages]); the guest runs for @run_s before each."""
    vm.cmd("x-rewind-point")
    took, pages = [], []
    for _ in range(rounds):
        time.sleep(run_s)
        ms, result = timed(lambda: vm.cmd("x-rewind"))
        took.append(ms)
        pages.append(result["pages"])
    return took, pages


def back_qemu(vm, rounds, run_s):
    hmp = lambda line: vm.cmd("human-monitor-command", command_line=line)  # noqa: E731
    said = hmp(f"savevm {TAG}")
    took = []
    for _ in range(rounds):
        time.sleep(run_s)
        ms, result = timed(lambda: hmp(f"loadvm {TAG}"))
        said += result
        took.append(ms)
    if said:
        raise SystemExit(f"bench: QEMU: {said}")
    return took, []


def go_back(name, command, directory, rounds, run_s):
    socket_path = os.path.join(directory, "bench-qmp")
    image = os.path.join(directory, "bench-rewind.qcow2")
    if name == "QEMU":
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "1M"], check=True)
        command = command + ["-drive", f"if=none,id=state,file={image},format=qcow2,cache=unsafe"]
    process = bench_savevm.start(command, socket_path)
    try:
        with Qmp(socket_path) as vm:
            return (back_skiff if name == "skiff" else back_qemu)(vm, rounds, run_s)
    finally:
        process.kill()
        process.wait()
        if os.path.exists(image):
            os.unlink(image)

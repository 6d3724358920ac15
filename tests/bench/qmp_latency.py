# SPDX-License-Identifier: Apache-2.0
"""How long query-status takes while a disk hangs and other clients flood."""
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from qmp import Qmp  # pylint: disable=wrong-import-position,import-error

FLOODERS = 100
# The disk's requests hang from the third on.
DISK = (
    "-blockdev driver=fault,node-name=disk,hold=on,fail-op=any,fail-after=2,"
    "file.driver=null-co,file.size=64M -object iothread,id=io "
    "-device virtio-blk-pci,drive=disk,iothread=io"
).split()


def latencies(vm, rounds):
    """Milliseconds of each."""
    took = []
    for _ in range(rounds):
        start = time.perf_counter()
        vm.cmd("query-status")
        took.append((time.perf_counter() - start) * 1000)
    return took


def flood(sockets):
    """Starts a client on each; a process, so that they take turns with this one as others do."""
    program = os.path.join(os.path.dirname(__file__), "..", "support", "qmp_flood.py")
    process = subprocess.Popen(
        [sys.executable, program] + sockets, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    return process


def measure(skiff, guest, rounds):
    """{situation: [milliseconds]}. @skiff and @guest are the command's beginning and end."""
    with tempfile.TemporaryDirectory(prefix="bench.") as work:
        sockets = [f"{work}/flood{i}" for i in range(FLOODERS)]
        command = [skiff, "-display", "none", "-serial", "null"] + DISK + guest
        for path in [f"{work}/qmp"] + sockets:
            command += ["-qmp", f"unix:{path},server=on,wait=off"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as vmm:
            results = {}
            with Qmp(f"{work}/qmp") as vm:
                results["guest runs, disk hangs"] = latencies(vm, rounds)
                vm.cmd("stop")
                if not vm.cmd("query-status").get("stopping"):
                    sys.exit("bench: the disk does not hang")
                results["a stop waits for the disk"] = latencies(vm, rounds)
                others = flood(sockets)
                results[f"and {FLOODERS} clients flood"] = latencies(vm, rounds)
                others.stdin.close()
                others.wait()
            vmm.kill()
            vmm.wait()
    return results

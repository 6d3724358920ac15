# SPDX-License-Identifier: Apache-2.0
"""Flash: rates of programs, erases and reads; QMP while a program hangs. One guest for all VMMs."""
import os
import re
import shutil
import subprocess
import tempfile
import time

import qmp_latency
from qmp import Qmp

FLASH_BYTES = 64 << 10


def rom(guests, work, name, words):
    """A copy of the guest's image with that command line."""
    path = f"{work}/{name}.rom"
    shutil.copyfile(f"{guests}/{name}.rom", path)
    with open(path, "r+b") as file:
        file.write(words.encode())
    return path


def make_flash(work):
    path = f"{work}/flash"
    with open(path, "wb") as file:
        file.truncate(FLASH_BYTES)
    return path


def rates(peer, guests, directory, milliseconds):
    """{what: per second} of one run. A peer is (command, options of the drive)."""
    command, options = peer
    with tempfile.TemporaryDirectory(prefix="flash.", dir=directory) as work:
        image = rom(guests, work, "pflash-bench", f"ms={milliseconds}")
        done = subprocess.run(
            command
            + ["-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-serial", "stdio"]
            + ["-drive", f"if=pflash,format=raw,readonly=on,file={image}"]
            + ["-drive", f"if=pflash,format=raw,file={make_flash(work)}{options}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    found = re.search(r"^pflash-bench: (.*)$", done.stdout, re.MULTILINE)
    if not found:
        raise SystemExit(f"bench: {command[0]}: {done.stdout}{done.stderr}")
    return {key: int(value) for key, value in re.findall(r"(\w+)_per_s=(\d+)", found.group(1))}


def latencies(skiff, guests, directory, rounds, hangs):
    """Milliseconds of query-status while a vCPU programs without a pause, or its program hangs, and
    another vCPU runs."""
    with tempfile.TemporaryDirectory(prefix="flash.", dir=directory) as work:
        image = rom(guests, work, "pflash-stress", "ms=0 cpus=2 ticks")
        command = [skiff, "-display", "none", "-serial", "null", "-smp", "2"]
        command += ["-drive", f"if=pflash,format=raw,readonly=on,file={image}"]
        command += [
            "-blockdev",
            "driver=fault,node-name=v,fail-op=write,hold=on,"
            f"fail-after={40 if hangs else 1 << 40},"
            f"file.driver=file,file.filename={make_flash(work)}",
        ]
        command += ["-machine", "pflash1=v", "-qmp", f"unix:{work}/qmp,server=on,wait=off"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, env=os.environ) as vmm:
            with Qmp(f"{work}/qmp") as vm:
                while writes(vm) < 40:
                    time.sleep(0.01)
                took = qmp_latency.latencies(vm, rounds)
            vmm.kill()
            vmm.wait()
    return took


def writes(vm):
    stats = vm.cmd("query-blockstats")
    return [b["stats"]["wr_operations"] for b in stats if b.get("node-name") == "v"][0]

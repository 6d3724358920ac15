# SPDX-License-Identifier: Apache-2.0
"""Firmware: SeaBIOS to a boot sector, on /dev/kvm, and OVMF to its shell, in the lab."""

import os
import subprocess
import sys
import time

SEABIOS = "/usr/share/seabios/bios-256k.bin"
OVMF_CODE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
OVMF_VARS = "/usr/share/OVMF/OVMF_VARS_4M.fd"
PROMPT = b"Shell> "
# mov al, 0; out 0xf4, al; hlt: isa-debug-exit makes it status 1.
SECTOR = b"\xb0\x00\xe6\xf4\xf4".ljust(510, b"\0") + b"\x55\xaa"


def vmms(skiff, qemu):
    """The peers: both a q35 with the devices that are asked for."""
    quiet = "-accel kvm -nodefaults -no-user-config -machine q35".split()
    return {"skiff": [skiff], "QEMU q35": [qemu] + quiet}


def sector_peers(skiff, qemu, directory):
    """Command lines that end with status 1 in a boot sector."""
    disk = os.path.join(directory, "bench-sector")
    with open(disk, "wb") as file:
        file.write(SECTOR.ljust(1 << 20, b"\0"))
    guest = ["-m", "128", "-display", "none", "-serial", "none", "-bios", SEABIOS]
    guest += ["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]
    guest += ["-drive", f"if=none,id=d,file={disk},format=raw"]
    guest += ["-device", "virtio-blk-pci,drive=d,bootindex=0"]
    return {name: vmm + guest for name, vmm in vmms(skiff, qemu).items()}


def shell_peers(skiff, qemu, directory):
    """Command lines that end in OVMF's shell. Each has its own variables."""
    peers = {}
    for index, (name, vmm) in enumerate(vmms(skiff, qemu).items()):
        variables = os.path.join(directory, f"bench-vars{index}")
        with open(OVMF_VARS, "rb") as source, open(variables, "wb") as file:
            file.write(source.read())
        guest = ["-m", "512", "-display", "none", "-serial", "stdio"]
        guest += ["-global", "kvm-pit.lost_tick_policy=discard"]
        guest += ["-drive", f"if=pflash,format=raw,readonly=on,file={OVMF_CODE}"]
        guest += ["-drive", f"if=pflash,format=raw,file={variables}"]
        peers[name] = vmm + guest
    return peers


def measure_shell(command):
    """Milliseconds from the start of the process to the shell's prompt."""
    start = time.perf_counter()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        seen = b""
        while PROMPT not in seen:
            data = os.read(process.stdout.fileno(), 4096)
            if not data:
                sys.exit(f"bench: {' '.join(command)}: no shell\n{seen[-2000:]!r}")
            seen += data
        took = (time.perf_counter() - start) * 1000
        process.kill()
        process.wait()
    return took

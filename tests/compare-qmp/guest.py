# SPDX-License-Identifier: Apache-2.0
"""Drives the life of a Debian guest over QMP (tests/support/drive_linux.py), with QEMU, and with
skiff in the lab. Replies and events are compared as in replies.py.

    guest.py skiff PATH | guest.py qemu DIR      prints the transcript of one as JSON
"""
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
DRIVER = os.path.join(TOP, "tests/support/drive_linux.py")
START = "@transcript "

GUEST = (
    "-S -m 256 -smp 2 -display none -serial file:DIR/console -qmp unix:DIR/qmp,server=on,wait=off "
    "-kernel build/linux/vmlinuz -initrd build/linux/initramfs.cpio.gz "
    "-drive if=none,id=hot,format=raw,file=DIR/disk -append"
)


def qemu_words(directory):
    """Returns the command of QEMU unpacked in @directory, with its firmware."""
    data = [word for name in ("seabios", "qemu") for word in ("-L", directory + "/usr/share/" + name)]
    return [directory + "/usr/bin/qemu-system-x86_64", "-machine", "q35", "-nodefaults", "-no-user-config",
            "-device", "pcie-root-port,id=rp0,slot=1"] + data


def run(which, path):
    """Returns the transcript of a whole life."""
    if which == "qemu":
        command, bus = qemu_words(path) + ["-accel", "tcg", "-cpu", "max"], ["--bus", "rp0"]
    else:
        command, bus = [path], ["--bus", "pcie.0"]
    script = subprocess.run([sys.executable, DRIVER, "--script"], capture_output=True, check=True).stdout
    encoded = subprocess.run(["base64", "-w0"], input=script, capture_output=True, check=True).stdout.decode()
    with tempfile.TemporaryDirectory(prefix="compare-qmp.") as directory:
        with open(directory + "/disk", "wb") as f:
            f.truncate(65536)
        words = [word.replace("DIR", directory) for word in GUEST.split()]
        child = subprocess.Popen(command + words + ["console=ttyS0 quiet skiff.run=sh:" + encoded],
                                 cwd=TOP, stdin=subprocess.DEVNULL)
        try:
            transcript = directory + "/transcript"
            subprocess.run([sys.executable, DRIVER, *bus, "--record", transcript, directory + "/qmp",
                            directory + "/console"], check=True, timeout=300, stdout=sys.stderr)
            child.wait(60)
            with open(transcript) as f:
                return json.load(f)
        finally:
            child.kill()
            child.wait()


def run_in_lab(skiff):
    """Returns the same of skiff in the lab, where a stock kernel runs."""
    command = [TOP + "/tests/lab/lab", "--timeout", "400", "--", sys.executable, os.path.abspath(__file__),
               "skiff", os.path.abspath(skiff)]
    process = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True)
    line = next(line for line in process.stdout.split("\n") if line.startswith(START))
    return json.loads(line[len(START):])


def records(transcript):
    """Returns records for replies.compare(): each command with its reply and the events until the next."""
    found = [{"step": "guest: greeting", "return": transcript[0], "events": []}]
    for message in transcript[1:]:
        if "execute" in message:
            found.append({"step": "guest: %s (%d)" % (message["execute"], len(found)), "events": []})
        elif "event" in message:
            found[-1]["events"].append(message)
        else:
            found[-1].update({k: v for k, v in message.items() if k != "id"})
    return found


if __name__ == "__main__":
    print(START + json.dumps(run(sys.argv[1], sys.argv[2])))

# SPDX-License-Identifier: Apache-2.0
"""Drives a Debian guest through its life over QMP, as a script of a user would.

    drive_linux.py [--bus BUS] [--record FILE] SOCKET CONSOLE     boot, stop, cont, hotplug, reset,
                                                                  powerdown
    drive_linux.py --quit SOCKET CONSOLE                          boot, quit

The VM was started with -S, its console goes to the file CONSOLE, it has a -drive with id=hot, and
the guest runs GUEST_SCRIPT. Works with skiff and with QEMU: the session is one and the same, and
FILE gets all that was said, for tests/compare-qmp.
"""
import argparse
import json
import re
import sys
import time

from qmp import Qmp

# One line on the console for each thing that happens.
GUEST_SCRIPT = """
modprobe -aq virtio_pci virtio_blk button evdev
for input in /sys/class/input/event*; do
    [ "$(cat $input/device/name)" = "Power Button" ] || continue
    exec 3</dev/input/${input##*/} # from here on a key press is not lost
    (head -c 24 <&3 >/dev/null; echo "guest: power button"; poweroff -f) &
done
echo "guest: up"
while true; do
    while [ ! -e /sys/block/vda ]; do usleep 50000; done
    echo "guest: disk $(cat /sys/block/vda/size) $(head -c 4096 /dev/vda | md5sum | cut -c1-32)"
    while [ -e /sys/block/vda ]; do usleep 50000; done
    echo "guest: disk gone"
done
"""


class Recorder(Qmp):
    """Records all messages."""

    def __init__(self, address, **options):
        self.said = []
        super().__init__(address, **options)

    def start(self, name, arguments=None, **options):
        self.said.append({"execute": name, "arguments": arguments or {}})
        return super().start(name, arguments, **options)

    def _receive(self, deadline):
        message = super()._receive(deadline)
        self.said.append(message)
        return message


class Console:
    def __init__(self, path, timeout):
        self.path = path
        self.timeout = timeout

    def lines(self, beginning):
        with open(self.path, errors="replace") as f:
            return [line.strip() for line in f if line.startswith(beginning) and "\n" in line]

    def wait(self, beginning, times=1):
        """The last of @times lines with this beginning."""
        deadline = time.monotonic() + self.timeout
        while True:
            found = self.lines(beginning)
            if len(found) >= times:
                return found[-1]
            if time.monotonic() > deadline:
                raise TimeoutError("the console has no %d lines '%s'" % (times, beginning))
            time.sleep(0.05)


def wait_until(console, timeout, what, condition):
    """Until @condition(said) is true, where @said is all of the file @console; returns its value. Fails at once
    when the guest's script gives up ("== never", "== no") or ends, and after @timeout seconds: "@what in: ..."."""
    deadline = time.monotonic() + timeout
    while True:
        with open(console, errors="replace") as f:
            said = f.read()
        value = condition(said)
        if value:
            return value
        gave_up = re.search("^(== never|== no |skiff-guest: exit)", said, re.M)
        assert not gave_up and time.monotonic() < deadline, "%s in:\n%s" % (what, said)
        time.sleep(0.1)


def wait_step(console, timeout, text):
    """Until a guest's script has printed the line "== TEXT", a regular expression, to the file
    @console. Returns its groups."""
    found = wait_until(console, timeout, "no step " + text,
                       lambda said: re.search("^== " + text + "\n", said, re.M))
    return found.groups()


def expect(what, actual, wanted):
    if actual != wanted:
        raise AssertionError("%s is %r, not %r" % (what, actual, wanted))


def status(vm):
    reply = vm.cmd("query-status")
    return reply["running"], reply["status"]


def boot(vm, console):
    expect("status under -S", status(vm), (False, "prelaunch"))
    vm.cmd("cont")
    vm.wait_event("RESUME")
    expect("status", status(vm), (True, "running"))
    console.wait("guest: up")


def stop_and_go_on(vm):
    vm.cmd("stop")
    vm.wait_event("STOP")
    expect("status after stop", status(vm), (False, "paused"))
    vm.cmd("cont")
    vm.wait_event("RESUME")
    expect("status after cont", status(vm), (True, "running"))


def plug_and_unplug(vm, console, bus, times):
    where = {"bus": bus} if bus else {}
    vm.cmd("device_add", driver="virtio-blk-pci", id="disk0", drive="hot", **where)
    said = console.wait("guest: disk ", times * 2 - 1)
    vm.cmd("device_del", id="disk0")
    vm.wait_event("DEVICE_DELETED", device="disk0")
    console.wait("guest: disk gone", times)
    return said


def reset(vm, console):
    vm.cmd("system_reset")
    event = vm.wait_event("RESET")
    expect("who reset", event["data"], {"guest": False, "reason": "host-qmp-system-reset"})
    console.wait("guest: up", 2)
    expect("status after reset", status(vm), (True, "running"))


def power_down(vm, console):
    vm.cmd("system_powerdown")
    vm.wait_event("POWERDOWN")
    event = vm.wait_event("SHUTDOWN")
    expect("who shut down", event["data"], {"guest": True, "reason": "guest-shutdown"})
    vm.wait_closed()
    console.wait("guest: power button")


def leave(vm):
    vm.cmd("quit")
    event = vm.wait_event("SHUTDOWN")
    expect("who quit", event["data"], {"guest": False, "reason": "host-qmp-quit"})
    vm.wait_closed()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bus", help="where hot-plugged devices go")
    parser.add_argument("--record", help="file for the transcript")
    parser.add_argument("--quit", action="store_true", help="quit when the guest is up")
    parser.add_argument("--plug", type=int, default=1, help="how often the disk comes and goes")
    parser.add_argument("socket")
    parser.add_argument("console")
    options = parser.parse_args()
    # A boot takes 10 s in the lab, and minutes on a busy machine.
    with Recorder(options.socket, timeout=400) as vm:
        console = Console(options.console, vm.timeout)
        boot(vm, console)
        if options.quit:
            leave(vm)
        else:
            stop_and_go_on(vm)
            for i in range(options.plug):
                print("drive_linux: plugged:", plug_and_unplug(vm, console, options.bus, i + 1))
            reset(vm, console)
            power_down(vm, console)
        if options.record:
            with open(options.record, "w") as f:
                json.dump(vm.said, f, indent=1)
    print("drive_linux: PASS")


if __name__ == "__main__":
    if sys.argv[1:] == ["--script"]:
        print(GUEST_SCRIPT)
    else:
        main()

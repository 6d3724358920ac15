#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: lab
# timeout: 600
# The balloon with Debian's unmodified kernel: it gives memory back on request and takes it again,
# reports statistics and free pages; the host really gets the memory.
. "$(dirname "$0")/common.bash"
only_in_check_long

guest_script=$guest_steps'
total() { sed -n "s/^MemTotal: *\([0-9]*\) .*/\1/p" /proc/meminfo; }
modprobe -a virtio_pci virtio_balloon
mkdir -p /mnt
mount -t tmpfs -o size=300m tmpfs /mnt
head -c 250m /dev/zero | tr "\0" x >/mnt/data
rm /mnt/data
before=$(total)
step ready $before
until_true "[ $(($before - 190000)) -gt \$(total) ]"
step inflated
until_true "[ $(($before - 10000)) -lt \$(total) ]"
step deflated
head -c 100m /dev/zero | tr "\0" x | md5sum
step complaints $(dmesg | grep -E "WARNING:|BUG:|Call Trace:|Out of memory")
step end
'

host_program='
import re, sys
from functools import partial
sys.path.insert(0, "tests/support")
import drive_linux
from qmp import Qmp
work, pid = sys.argv[1:]
vm = Qmp(work + "/qmp", timeout=400)
MIB = 1 << 20

def wait_until(what, condition):
    drive_linux.wait_until(work + "/console", vm.timeout, what, lambda said: condition())

step = partial(drive_linux.wait_step, work + "/console", vm.timeout)

def resident():
    return int(re.search(r"VmRSS:\s*(\d+)", open("/proc/%s/status" % pid).read()).group(1)) * 1024

step("ready [0-9]+")
# The pages of the deleted file come back by themselves, when the guest reports them.
wait_until("no free pages were reported", lambda: resident() < 250 * MIB)
vm.cmd("qom-set", path="balloon", property="guest-stats-polling-interval", value=1)
wait_until("no statistics", lambda: vm.cmd("qom-get", path="balloon", property="guest-stats")["last-update"] > 0)
stats = vm.cmd("qom-get", path="balloon", property="guest-stats")["stats"]
assert 300 * MIB < stats["stat-total-memory"] < 512 * MIB, stats
assert vm.cmd("query-balloon")["actual"] == 512 * MIB
vm.cmd("balloon", value=300 * MIB)
vm.wait_event("BALLOON_CHANGE")
step("inflated")
wait_until("not inflated", lambda: vm.cmd("query-balloon")["actual"] == 300 * MIB)
vm.cmd("stop")
vm.cmd("cont")
vm.cmd("balloon", value=512 * MIB)
step("deflated")
wait_until("not deflated", lambda: vm.cmd("query-balloon")["actual"] == 512 * MIB)
step("end")
'

test_debian_gives_memory_back_and_takes_it_again() {
    command -v python3 >/dev/null || skip "python3 is not installed"
    start_skiff -m 512 -smp 2 -display none -serial "file:$console" -no-reboot \
        -kernel build/linux/vmlinuz -initrd build/linux/initramfs.cpio.gz \
        -append "console=ttyS0 quiet skiff.run=sh:$(printf '%s' "$guest_script" | base64 -w0)" \
        -qmp "unix:$work/qmp,server=on,wait=off" -sandbox on \
        -device virtio-balloon-pci,id=balloon,free-page-reporting=on
    python3 -c "$host_program" "$work" "$skiff_pid"
    wait_skiff
    expect_status 0
    expect_guest_status 0
    expect_output '^== complaints\s*$'
    refute_output 'guest error'
}

run_tests

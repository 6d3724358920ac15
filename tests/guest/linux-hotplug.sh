#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: lab
# timeout: 600
# Debian's unmodified kernel uses a disk, a source of random bytes and a serial port that are
# plugged and unplugged while it runs, without kernel options and without a program in the guest.
. "$(dirname "$0")/common.bash"

# The guest continues when its devices change; each step prints a line "== STEP".
guest_script=$guest_steps'
modprobe -a virtio_pci virtio_blk virtio_rng virtio_console
until_true "[ -e /sys/bus/pci/slots/7 ]"
step slots $(ls /sys/bus/pci/slots | wc -l)
[ ! -e /sys/bus/pci/devices/0000:00:07.0 ] || exit 1
step ready
for round in 1 2; do
    until_true "[ -b /dev/vda ]"
    sum=$(head -c 4096 /dev/vda | md5sum | cut -c1-32)
    echo "round $round" | dd of=/dev/vda bs=512 seek=16 conv=notrunc,sync,fsync 2>/dev/null
    step disk $round $sum
    until_true "! [ -b /dev/vda ]"
    step disk-gone $round
done
until_true "[ \"\$(cat /sys/class/misc/hw_random/rng_current)\" = virtio_rng.0 ]"
step rng $(head -c 64 /dev/hwrng | wc -c)
until_true "[ \"\$(cat /sys/class/misc/hw_random/rng_current)\" != virtio_rng.0 ]"
step rng-gone
until_true "grep -q test.port /sys/class/virtio-ports/*/name 2>/dev/null"
step port $(cat /sys/class/virtio-ports/vport*p1/name)
until_true "[ -e /dev/vport*p1 ]"
cat /dev/vport*p1 >/tmp/got & reader=$!
until_true "grep -q ping /tmp/got"
step heard $(cat /tmp/got)
kill $reader; wait $reader
echo pong >$(ls /dev/vport*p1)
until_true "[ ! -e /sys/class/virtio-ports/vport*p1 ]"
step port-gone
until_true "[ ! -e /sys/bus/pci/devices/0000:00:07.0 ]"
step serial-gone
step complaints $(dmesg | grep -iE "acpi.*(error|warning|exception|bug)|pci.*(failed|can.t assign|no space)|BUG:" | grep -v "report a bug")
step end
'

host_program='
import socket, sys
from functools import partial
sys.path.insert(0, "tests/support")
import drive_linux
from qmp import Qmp
work, md5 = sys.argv[1:]
vm = Qmp(work + "/qmp", timeout=400)

wait_step = partial(drive_linux.wait_step, work + "/console", vm.timeout)

def unplug(name):
    vm.cmd("device_del", id=name)
    vm.wait_event("DEVICE_DELETED", device=name)

wait_step("ready")
for round in ("1", "2"):
    vm.cmd("device_add", driver="virtio-blk-pci", id="disk", drive="d0", iothread="io", addr="7")
    wait_step("disk %s %s" % (round, md5))
    unplug("disk")
    wait_step("disk-gone " + round)
vm.cmd("device_add", driver="virtio-rng-pci", id="rng")
wait_step("rng 64")
unplug("rng")
wait_step("rng-gone")
port = socket.socket(socket.AF_UNIX)
port.connect(work + "/port")
port.settimeout(400)
vm.cmd("device_add", driver="virtio-serial-pci", id="serial", addr="7")
vm.cmd("device_add", driver="virtserialport", id="port", chardev="c0", name="test.port")
wait_step("port test.port")
port.sendall(b"ping\n")
wait_step("heard ping")
got = port.makefile("rb").readline()
assert got.strip() == b"pong", got
unplug("port")
wait_step("port-gone")
unplug("serial")
wait_step("serial-gone")
wait_step("end")
'

test_debian_uses_hotplugged_devices_and_ejects_them() {
    command -v python3 >/dev/null || skip "python3 is not installed"
    head -c 64k /dev/urandom >"$work/disk"
    start_skiff -m 512 -smp 2 -display none -serial "file:$console" -no-reboot \
        -kernel build/linux/vmlinuz -initrd build/linux/initramfs.cpio.gz \
        -append "console=ttyS0 quiet skiff.run=sh:$(printf '%s' "$guest_script" | base64 -w0)" \
        -qmp "unix:$work/qmp,server=on,wait=off" -object iothread,id=io \
        -blockdev "driver=raw,node-name=d0,file.driver=file,file.filename=$work/disk" \
        -chardev "socket,id=c0,path=$work/port,server=on,wait=off"
    python3 -c "$host_program" "$work" "$(head -c 4096 "$work/disk" | md5sum | cut -c1-32)"
    wait_skiff
    expect_status 0
    expect_guest_status 0
    expect_equal "what the guest has written" "$(tail -c +8193 "$work/disk" | head -c 7)" "round 2"
    expect_output '^== slots 30'
    refute_output 'guest error'
    expect_equal "what the kernel complains of" "$(tr -d "\r" <"$console" | sed -n "s/^== complaints *//p")" ""
}

run_tests

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: lab
# timeout: 1200
# A Debian guest controlled over QMP by a client in Python (tests/support/drive_linux.py), from
# start to end.
. "$(dirname "$0")/common.bash"

# start_guest ARGUMENT…: not running yet, with a disk to plug.
start_guest() {
    head -c 64K /dev/urandom >"$work/disk"
    start_skiff -S -m 256 -smp 2 -display none -serial "file:$console" -qmp "unix:$work/qmp,server=on,wait=off" \
        -kernel build/linux/vmlinuz -initrd build/linux/initramfs.cpio.gz \
        -append "console=ttyS0 quiet skiff.run=sh:$(python3 tests/support/drive_linux.py --script | base64 -w0)" \
        -drive "if=none,id=hot,format=raw,file=$work/disk" "$@"
}

drive() {
    timeout "$(seconds 500)" python3 tests/support/drive_linux.py "$@" "$work/qmp" "$console" >"$work/drive" 2>&1 ||
        { cat "$work/drive"; fail "the session failed, see above"; }
}

test_boot_stop_cont_hotplug_reset_powerdown() {
    start_guest
    drive --plug 2 --record "$work/transcript"
    wait_skiff
    expect_status 0
    # The guest has read the disk's contents.
    grep -q "guest: disk 128 $(head -c 4096 "$work/disk" | md5sum | cut -c1-32)" "$work/drive" ||
        fail "the guest's disk: $(cat "$work/drive")"
}

test_boot_quit() {
    start_guest
    drive --quit
    wait_skiff
    expect_status 0
}

run_tests

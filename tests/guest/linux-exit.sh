#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: lab
# timeout: 600
# The exit status gives the outcome of a Linux guest (vmm/exit_status.h).
. "$(dirname "$0")/common.bash"

# boot ACTION ARGUMENT…: skiff.run=ACTION, see guest-images/linux/init.
boot() {
    local action=$1
    shift
    skiff --limit 300 -m 256 -nographic -kernel build/linux/vmlinuz -initrd build/linux/initramfs.cpio.gz \
        -append "console=ttyS0 quiet skiff.run=$action" "$@"
}

test_poweroff_is_status_0() {
    boot uname -no-reboot
    expect_status 0
}

test_reboot_is_status_6_under_no_reboot() {
    boot reboot -no-reboot
    expect_status 6
}

test_panic_is_status_4_with_pvpanic() {
    boot panic -no-reboot -device pvpanic
    expect_status 4
    expect_output 'Kernel panic - not syncing: sysrq triggered crash'
}

test_a_stuck_guest_is_status_12_after_its_timeout() {
    boot halt -timeout 15
    expect_status 12
}

test_the_power_button_makes_the_guest_power_off() {
    start_skiff -m 256 -nographic -kernel build/linux/vmlinuz -initrd build/linux/initramfs.cpio.gz \
        -append "console=ttyS0 quiet skiff.run=powerbutton"
    wait_output '^skiff-guest: waiting for the power button'
    type_in '\001csystem_powerdown\r'
    wait_skiff
    expect_status 0
    expect_output 'skiff-guest: power button pressed'
}

test_ctrl_a_x_ends_a_guest_that_waits() {
    start_skiff -m 256 -nographic -kernel build/linux/vmlinuz -initrd build/linux/initramfs.cpio.gz \
        -append "console=ttyS0 quiet skiff.run=shell"
    wait_output "Type 'poweroff'"
    type_in '\001x'
    wait_skiff
    expect_status 0
}

# The second boot reads the first one's data from the disk and powers off.
test_reboot_boots_again() {
    truncate -s 1M "$work/disk"
    skiff --limit 400 -m 256 -nographic -kernel build/linux/vmlinuz -initrd build/linux/initramfs.cpio.gz \
        -append "console=ttyS0 quiet skiff.run=sh:$(base64 -w0 <<'SCRIPT'
if [ "$(head -c 6 /dev/vda)" = second ]; then
    echo "booted again"
    exit 0
fi
printf second >/dev/vda
sync
reboot -f
SCRIPT
        )" -drive "file=$work/disk,format=raw,if=none,id=disk" -device virtio-blk-pci,drive=disk
    expect_status 0
    expect_output '^booted again'
    expect_guest_status 0
}

run_tests

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: lab
# timeout: 900
# The watchdogs with Debian's drivers: i6300esb, and lpc_ich with iTCO_wdt. The cloud kernel lacks them; the generic one is the lab's own.
. "$(dirname "$0")/common.bash"

make_initramfs() {
    local kernel
    [ ! -e "$work/initramfs" ] || return 0
    kernel=$(guest-images/linux/fetch-kernel linux-image-amd64 build/linux/cache)
    guest-images/linux/pack-initramfs "$kernel" guest-images/linux/init "$work/initramfs" \
        i6300esb lpc_ich iTCO_wdt pvpanic_mmio
}

# boot SCRIPT ARGUMENT…: runs the shell script SCRIPT in a guest that has both watchdogs. $append is for the kernel's command line.
boot() {
    local script=$1
    shift
    make_initramfs
    skiff --limit 400 -m 256 -nographic -kernel build/lab/vmlinux -initrd "$work/initramfs" -device i6300esb \
        -append "console=ttyS0 quiet $append skiff.run=sh:$(printf '%s' "$guest_functions$script" | base64 -w0)" "$@"
}
append=''

# start DRIVER: starts its watchdog with a time-out of 4 s; it is descriptor 3.
guest_functions='
start() {
    for name in i6300esb iTCO_wdt; do modprobe -r $name; done
    modprobe $1 heartbeat=4
    exec 3>/dev/watchdog
    echo "$(cat /sys/class/watchdog/watchdog0/identity) started, $(cat /sys/class/watchdog/watchdog0/timeout) s"
}
'

test_linux_finds_both_and_a_system_that_hangs_is_10_under_no_reboot() {
    boot 'cat /sys/class/watchdog/watchdog*/identity; dmesg | grep "Found a"
        start iTCO_wdt; for i in 1 2 3 4 5 6 7 8 9; do sleep 1; echo >&3; done; echo -n V >&3; exec 3>&-; sleep 8; echo it lives
        start i6300esb; sleep 100' -no-reboot
    expect_output '^i6300ESB timer'
    expect_output '^iTCO_wdt'
    expect_output 'Found a ICH9 TCO device \(Version=2, TCOBASE=0x0660\)'
    expect_output '^iTCO_wdt started, 4 s'
    expect_output '^it lives'
    expect_output '^i6300ESB timer started, 4 s'
    expect_status 10
}

long_only() { [ "$TEST_ROUNDS" = long ] || skip "it boots once more: make check-long"; }

test_the_tco_watchdog_acts() {
    long_only
    boot 'start iTCO_wdt; sleep 100' -no-reboot
    expect_output '^iTCO_wdt started, 4 s'
    expect_status 10
}

test_the_system_sees_why_it_was_reset() {
    long_only
    boot 'case $(cat /sys/class/watchdog/watchdog*/bootstatus) in *32*) echo reset by the watchdog; exit 0 ;; esac
        start i6300esb; sleep 100'
    expect_output '^reset by the watchdog'
    expect_guest_status 0
    expect_status 0
}

test_an_nmi_makes_the_system_panic() {
    long_only
    append='unknown_nmi_panic'
    boot 'start i6300esb; sleep 100' -action watchdog=inject-nmi -no-reboot
    expect_output 'started, 4 s'
    expect_status 4 # it reports the panic before it prints its reason
}

run_tests

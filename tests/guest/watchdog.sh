#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Watchdogs of a guest that stops reloading them: i6300esb and the ICH9's TCO, each action.
# tier: kvm
# timeout: 600
. "$(dirname "$0")/common.bash"

devices=(i6300esb tco)

# watchdog DEVICE WORDS ARGUMENT…: runs the guest to its end.
watchdog() {
    set_watchdog "$@"
    own_guest "${watchdog_guest[@]}"
}

start_watchdog() {
    set_watchdog "$@"
    start_own_guest "${watchdog_guest[@]}"
}

set_watchdog() {
    local device=$1 words=$2
    shift 2
    watchdog_guest=(watchdog "device=$device ms=1200 $words" "$@")
    [ "$device" = tco ] || watchdog_guest+=(-device i6300esb)
}

test_an_expiry_resets_the_guest() {
    local device
    for device in "${devices[@]}"; do
        watchdog "$device" ''
        expect_output '^watchdog: pinged 0'
        expect_output "watchdog expired: resetting"
        expect_output '^watchdog: it had expired'
        expect_status 1
    done
}

test_under_no_reboot_an_expiry_is_10() {
    local device
    for device in "${devices[@]}"; do
        watchdog "$device" '' -no-reboot
        expect_status 10
        watchdog "$device" '' -action reboot=shutdown,watchdog=reset
        expect_status 10
    done
}

test_poweroff_is_10() {
    local device
    for device in "${devices[@]}"; do
        watchdog "$device" '' -watchdog-action poweroff
        expect_status 10
        expect_output "watchdog expired: exiting"
    done
}

test_an_expiry_may_pause() {
    local device
    for device in "${devices[@]}"; do
        start_watchdog "$device" '' -action watchdog=pause
        wait_paused watchdog
        monitor 'watchdog_action none' cont 'info status'
        wait_output 'VM status: running'
        monitor quit
        wait_skiff
        expect_status 0
    done
}

test_an_expiry_may_be_logged_only() {
    start_watchdog i6300esb '' -action watchdog=debug
    wait_output 'watchdog: timer fired'
    monitor 'info status' quit
    wait_skiff
    expect_output 'VM status: running'
    expect_status 0
}

test_the_power_button_of_a_guest_that_hangs_has_no_effect() {
    start_watchdog i6300esb '' -action watchdog=shutdown -trace pm_power_button
    wait_output 'pm_power_button'
    monitor 'info status' quit
    wait_skiff
    expect_output 'VM status: running'
    expect_status 0
}

test_a_guest_that_reloads_it_lives() {
    local device
    for device in "${devices[@]}"; do
        watchdog "$device" 'pings=3 then=stop'
        expect_output '^watchdog: PASS'
        refute_output 'expired'
        expect_status 1
    done
}

test_noreboot_disables_the_tco_watchdog() {
    watchdog tco 'pings=0 then=stop' -global ICH9-LPC.noreboot=on
    expect_output '^watchdog: PASS'
    start_watchdog tco '' -global ICH9-LPC.noreboot=on -action watchdog=poweroff -trace tco_expired
    wait_output 'tco_expired.* expiries=2 reboots=0'
    monitor 'info status' quit
    wait_skiff
    expect_output 'VM status: running'
    expect_status 0
}

# The monitor answers and another CPU proceeds.
test_a_guest_that_hammers_the_registers_slows_nobody_else() {
    local device
    for device in "${devices[@]}"; do
        start_watchdog "$device" 'then=hammer' -smp 2 -action watchdog=none
        wait_output '^hammer [0-9]+ others [1-9]' 2
        monitor 'info status' 'info status' 'info status'
        wait_output 'VM status: running' 3
        wait_output '^hammer [0-9]+ others [1-9]' 4
        monitor quit
        wait_skiff
        expect_status 0
    done
}

run_tests

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Every end of a guest gives the exit status of vmm/exit_status.h and skiff(1), and is reported.
# tier: kvm
# timeout: 900
. "$(dirname "$0")/common.bash"

test_power_off_is_0() {
    own_guest crash poweroff
    expect_status 0
    expect_output '^crash: poweroff'
}

test_signals_end_it_with_0() {
    local signal
    for signal in TERM INT HUP; do
        start_own_guest crash spin
        wait_output '^crash: spin'
        kill -s "$signal" "$skiff_pid"
        wait_skiff
        expect_status 0
    done
}

test_a_signal_ends_an_unstarted_vm() {
    start_own_guest crash spin -S
    wait_paused prelaunch
    kill "$skiff_pid"
    wait_skiff
    expect_status 0
    refute_output '^crash:'
}

test_a_signal_ends_a_start_that_waits_for_a_client() {
    set_own_guest crash spin
    local option
    for option in serial qmp monitor gdb; do
        start_skiff "${own_guest[@]}" "-$option" "unix:$work/socket,server=on,wait=on"
        wait_output 'waiting for connection'
        kill "$skiff_pid"
        wait_skiff
        expect_status 0
        refute_output 'exiting anyway'
        [ ! -e "$work/socket" ] || fail "-$option: its socket remains"
    done
}

test_a_daemon_removes_its_pidfile_and_sockets() {
    local daemon name relative
    relative=$(realpath --relative-to=. "$work")
    set_own_guest crash spin
    skiff "${own_guest[@]}" -serial null -daemonize -pidfile "$relative/pid" \
        -chardev "socket,id=s,path=$relative/sock,server=on,wait=off" -chardev "pty,id=t,path=$relative/tty"
    expect_status 0
    [ -S "$work/sock" ] || fail "there is no socket"
    daemon=$(cat "$work/pid")
    test_daemons+=("$daemon")
    own_guest crash spin -pidfile "$work/pid"
    expect_status 2
    expect_output 'a running VM uses this file'
    kill "$daemon"
    timeout "$(seconds 200)" tail -s 0.05 --pid="$daemon" -f /dev/null || fail "the daemon does not end"
    for name in pid sock tty; do
        [ ! -e "$work/$name" ] && [ ! -h "$work/$name" ] || fail "$name remains"
    done
}

test_quit_is_0() {
    start_own_guest crash spin
    wait_output '^crash: spin'
    monitor quit
    wait_skiff
    expect_status 0
}

test_debug_exit_is_twice_the_value_and_one() {
    local value
    for value in 0 1 7 16 126; do
        own_guest crash "exit=$value"
        expect_status $((value * 2 + 1))
        expect_output '^crash: exit'
    done
}

test_debug_exit_keeps_the_low_eight_bits() {
    own_guest crash exit=0x1234
    expect_status $(((0x1234 * 2 + 1) & 255))
}

test_panic_is_4() {
    own_guest crash pvpanic
    expect_status 4
    expect_output '^crash: pvpanic'
    expect_output '^skiff: .*panic'
}

test_panic_is_4_by_action() {
    own_guest crash pvpanic -action panic=exit-failure
    expect_status 4
    own_guest crash pvpanic -action panic=shutdown
    expect_status 4
}

test_panic_may_pause() {
    start_own_guest crash pvpanic -action panic=pause
    wait_paused guest-panicked
    monitor quit
    wait_skiff
    expect_status 0
}

test_panic_may_be_ignored() {
    start_own_guest crash pvpanic -action panic=none
    wait_output 'the guest has panicked'
    monitor 'info status'
    wait_output 'VM status: running'
    kill "$skiff_pid"
    wait_skiff
    expect_status 0
}

test_reset_without_reboot_is_6() {
    own_guest crash reset -no-reboot
    expect_status 6
    expect_output '^crash: reset'
    own_guest crash reset=kbd -no-reboot
    expect_status 6
    own_guest crash reset -action reboot=shutdown
    expect_status 6
}

test_triple_fault_without_reboot_is_8() {
    own_guest crash triple -no-reboot
    expect_status 8
    expect_output '^crash: triple'
}

test_resets_boot_again() {
    local word
    for word in reset reset=kbd triple; do
        start_own_guest crash "$word"
        wait_output '^crash: ' 4
        kill "$skiff_pid"
        wait_skiff
        expect_status 0
    done
}

test_the_reset_button_boots_again() {
    start_own_guest crash spin
    wait_words 'crash: spin' 1
    monitor system_reset
    wait_words 'crash: spin' 2
    monitor system_reset
    wait_words 'crash: spin' 3
    kill "$skiff_pid"
    wait_skiff
    expect_status 0
}

test_no_shutdown_pauses_until_reset() {
    start_own_guest crash poweroff -no-shutdown
    wait_paused shutdown
    monitor system_reset cont
    wait_output '^crash: ' 2
    monitor quit
    wait_skiff
    expect_status 0
}

test_shutdown_pauses_by_action() {
    start_own_guest crash poweroff -action shutdown=pause
    wait_paused shutdown
    kill "$skiff_pid"
    wait_skiff
    expect_status 0
}

test_timeout_is_12_and_shows_the_console() {
    local word
    for word in spin hlt; do
        own_guest crash "$word" -serial "file:$work/console" -timeout "$(seconds 8)"
        expect_status 12
        expect_output '^skiff: .*-timeout'
        # skiff's own output is the console's tail.
        expect_output "^crash: $word"
        grep -q "^crash: $word" "$work/console" || fail "the console's file lacks the console"
    done
}

test_timeout_shows_an_unread_console() {
    own_guest crash spin -serial null -timeout "$(seconds 8)"
    expect_status 12
    expect_output '^crash: spin'
}

test_timeout_ends_a_vm_that_is_paused() {
    own_guest crash spin -S -timeout 1
    expect_status 12
}

test_timeout_that_does_not_expire_changes_nothing() {
    own_guest crash exit=3 -timeout 3600
    expect_status 7
    refute_output 'timeout'
}

test_an_unexpected_exception_is_the_guests_own_status() {
    own_guest crash exception
    expect_status 5
    expect_output '^guest: exception: cpu=0 vector=14 .*cr2=0x8'
}

test_first_instructions_of_a_firmware_image_count() {
    skiff -m 64 -display none -bios build/guests/first.bin "${debug_exit[@]}"
    expect_status 33
    expect_equal "output" "$(cat "$output")" ""
}

# multiboot_kernel CODE: runs a Multiboot image of a header with load address 1 MiB, and CODE (with
# printf's escapes), the entry point.
multiboot_kernel() {
    local magic='\x02\xb0\xad\x1b' flags='\0\0\1\0' checksum='\xfe\x4f\x51\xe4' load='\0\0\x10\0' zero='\0\0\0\0'
    printf '%b' "$magic$flags$checksum$load$load$zero$zero" '\x20\0\x10\0' "$1" >"$work/kernel"
    skiff -display none -serial null -kernel "$work/kernel" "${debug_exit[@]}"
}

# As after a BIOS, for kernels that return to real mode and wait there for the timer.
test_a_multiboot_kernel_finds_timer_and_interrupts_set_up() {
    multiboot_kernel '\xe4\x21\xe6\xf4\xf4' # in $0x21, %al; out %al, $0xf4; hlt
    expect_status $(((0xfa * 2 + 1) & 0xff))   # all masked but IRQ 0 and 2
    # mov $0xe2, %al; out %al, $0x43; in $0x40, %al; and $0x3e, %al; out %al, $0xf4; hlt
    multiboot_kernel '\xb0\xe2\xe6\x43\xe4\x40\x24\x3e\xe6\xf4\xf4'
    expect_status $((0x34 * 2 + 1)) # the PIT's channel 0: 16 bits, mode 2
}

test_usage_is_2() {
    skiff -no-such-option
    expect_status 2
    own_guest hello "" -m x
    expect_status 2
    skiff -kernel "$work/missing"
    expect_status 2
}

test_help_and_version_are_0() {
    local option
    for option in -help --help -h -version --version '-device help' '-machine help' '-M help' '-cpu help' '-object help' \
        '-device virtio-blk-pci,help' '-blockdev help' '-trace help' '-chardev help'; do
        # shellcheck disable=SC2086 # split on purpose
        skiff $option
        expect_status 0
        [ -s "$output" ] || fail "$option prints nothing"
        refute_output '^skiff: '
    done
}

run_tests

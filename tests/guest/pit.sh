#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The PIT is created at the guest's first access, which has its effect whatever it is.
# tier: kvm
# timeout: 300
. "$(dirname "$0")/common.bash"

# bios CODE ARGUMENT…: runs a firmware of 64 KiB that begins with CODE (with printf's escapes), in real mode.
bios() {
    local code=$1
    shift
    truncate -s 0 "$work/bios"
    truncate -s 64K "$work/bios"
    printf '%b' "$code" | dd of="$work/bios" conv=notrunc status=none
    printf '\xea\0\0\0\xf0' | dd of="$work/bios" bs=1 seek=$((0xfff0)) conv=notrunc status=none # jmp $0xf000, $0
    skiff -display none -serial null -bios "$work/bios" "${debug_exit[@]}" "$@"
}

# output_byte VALUE PORT, input PORT: one byte. report MASK: ends with (the last byte read & MASK) * 2 + 1 as the status.
output_byte() { printf '\\xb0\\x%02x\\xe6\\x%02x' "$1" "$2"; }
input() { printf '\\xe4\\x%02x' "$1"; }
report() { printf '\\x24\\x%02x\\xe6\\xf4\\xf4' "$1"; }

# reported VALUE
reported() {
    expect_status $(($1 * 2 + 1 & 0xff))
}

test_a_guest_that_does_not_access_it_has_none() {
    skiff -display none -serial null -bios build/guests/first.bin "${debug_exit[@]}" -trace 'pit_*'
    expect_status 33
    refute_output pit_
}

test_the_first_access_may_be_a_control_word() {
    bios "$(output_byte 0x34 0x43)$(output_byte 0 0x40)$(output_byte 0x80 0x40)$(output_byte 0xe2 0x43)$(input 0x40)$(report 0x3f)" -trace 'pit_*'
    reported 0x34 # the status: mode 2, both bytes
    expect_output 'pit_created'
}

# Status, as read back, of the power-on state.
test_the_first_access_may_be_a_read_back() {
    local value
    bios "$(input 0x61)$(output_byte 0xe4 0x43)$(input 0x41)$(report 0xff)"
    value=$status
    bios "$(output_byte 0xe4 0x43)$(input 0x41)$(report 0xff)"
    expect_status "$value"
}

test_the_first_access_may_be_the_speaker_port() {
    bios "$(output_byte 3 0x61)$(input 0x61)$(report 3)"
    reported 3
    bios "$(input 0x61)$(report 3)"
    reported 0
}

# Channel 2, mode 0, count 2: its output gets high after 1.7 us.
test_the_first_access_may_begin_a_count() {
    local until_high
    until_high=$(input 0x61)'\xa8\x20\x74\xfa' # test $0x20, %al; jz back to the input
    bios "$(output_byte 0xb0 0x43)$(output_byte 2 0x42)$(output_byte 0 0x42)$until_high$(report 0x20)"
    reported 0x20
}

test_the_first_access_may_be_a_counter() {
    bios "$(output_byte 0x11 0x40)$(output_byte 0x34 0x43)$(output_byte 0xe2 0x43)$(input 0x40)$(report 0x3f)"
    reported 0x34
    bios "$(input 0x40)$(output_byte 0x36 0x43)$(output_byte 0xe2 0x43)$(input 0x40)$(report 0x3f)"
    reported 0x36
}

# Two bytes at once: 0x42 and 0x43.
test_the_first_access_may_be_wide() {
    # mov $0xb400, %ax; out %ax, $0x42
    bios "\\xb8\\x00\\xb4\\xe7\\x42$(output_byte 0xe8 0x43)$(input 0x42)$(report 0x3f)"
    reported 0x34
}

test_pit_off_means_no_pit() {
    bios "$(input 0x61)$(report 0xff)" -machine pit=off
    reported 0xff
    bios "$(output_byte 0x34 0x43)$(output_byte 0xe2 0x43)$(input 0x40)$(report 0xff)" -machine pit=off
    reported 0xff
    own_guest timer rtc=0 -machine pit=off
    expect_output '^timer: pit: not there'
    expect_status 1
}

# The first run marks a byte of CMOS RAM, programs the PIT and resets the machine; the second one jumps over that.
test_it_is_at_power_on_after_a_reset() {
    local select first rest value
    select=$(output_byte 0x40 0x70)
    first=$select$(output_byte 1 0x71)$(output_byte 0x34 0x43)$(output_byte 0 0x40)$(output_byte 0 0x40)$(output_byte 0xfe 0x64)'\xf4' # 25 bytes
    rest=$(output_byte 0xe2 0x43)$(input 0x40)$(report 0xff)
    bios "$select$(input 0x71)\\x3c\\x01\\x74\\x19$first$rest" # cmp $1, %al; je
    value=$status
    bios "$rest"
    expect_status "$value"
}

test_it_works_in_a_sandbox() {
    bios "$(output_byte 0x34 0x43)$(output_byte 0 0x40)$(output_byte 0x80 0x40)$(output_byte 0xe2 0x43)$(input 0x40)$(report 0x3f)" -sandbox on
    reported 0x34
    own_guest timer rtc=0 -sandbox on -global kvm-pit.lost_tick_policy=discard
    expect_output '^timer: pit by ioapic'
    expect_status 1
}

run_tests

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What firmware and guests read from fw_cfg, by a guest of our own.
# tier: kvm
# timeout: 600
. "$(dirname "$0")/common.bash"

test_every_file_is_listed_and_read() {
    local name
    head -c 700000 /dev/urandom >"$work/large"
    own_guest fwcfg-dump '' -fw_cfg opt/org.example/text,string=hello,,world \
        -fw_cfg "name=opt/org.example/large,file=$work/large" -device vmgenid -device vmcoreinfo
    expect_status 1
    expect_output '^fwcfg-dump: PASS files=1[0-9]'
    expect_output "^fwcfg-dump: opt/org.example/text is 'hello,world'"
    expect_output "^fwcfg-dump: key=0x[0-9a-f]* size=700000 sum=$(od -An -v -tu1 "$work/large" |
        awk '{ for (i = 1; i <= NF; i++) sum += $i } END { printf "%d", sum }') opt/org.example/large"
    for name in bootorder etc/acpi/rsdp etc/acpi/tables etc/boot-fail-wait etc/e820 etc/smbios/smbios-anchor \
        etc/smbios/smbios-tables etc/system-states etc/table-loader etc/vmcoreinfo etc/vmgenid_addr etc/vmgenid_guid; do
        expect_output "^fwcfg-dump: key=0x[0-9a-f]* size=[0-9]* sum=[0-9]* $name\$"
    done
}

# Large transfers and wrong descriptors on two processors: the third one and the monitor go on.
test_a_guest_that_hammers_the_device_delays_nobody() {
    local ms=2000
    [ "$TEST_ROUNDS" != long ] || ms=60000
    start_own_guest fwcfg-dump hammer=$ms -smp 3
    wait_output '^tick 2'
    monitor 'info status' stop
    wait_paused paused
    monitor cont
    wait_output '^fwcfg-dump: hammered by 2 CPUs'
    wait_skiff
    expect_status 1
    expect_output '^fwcfg-dump: PASS'
}

run_tests

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: lab
# timeout: 600
# The human monitor reads memory through the Debian kernel's own page tables, and presses the NMI
# button.
. "$(dirname "$0")/common.bash"

# Prints the address of the kernel's version, and waits for the NMI's message on the console.
guest_script='
grep " linux_banner$" /proc/kallsyms
echo ready
sleep 1000'

test_memory_registers_and_NMI_of_a_Debian_kernel() {
    local address
    start_skiff -m 256 -smp 2 -display none -serial "file:$console" -monitor stdio \
        -kernel build/linux/vmlinuz -initrd build/linux/initramfs.cpio.gz \
        -append "console=ttyS0 quiet skiff.run=sh:$(printf '%s' "$guest_script" | base64 -w0)"
    wait_output '^ready$'
    address=$(tr -d '\r' <"$console" | sed -n 's/^\([0-9a-f]*\) . linux_banner$/\1/p')
    [[ $address == ffffffff* ]] || fail "the kernel's version is at '$address'"

    monitor "x /13cb 0x$address"
    wait_output "^$address: 'L' 'i' 'n' 'u' 'x' ' ' 'v' 'e'\$"
    wait_output ": 'r' 's' 'i' 'o' 'n'\$"
    monitor "memsave 0x$address 13 $work/banner" "gva2gpa 0x$address"
    wait_output '^gpa: 0x[0-9a-f]+$'
    expect_equal "what was saved" "$(cat "$work/banner")" "Linux version"
    # The same by the physical address.
    monitor "xp /5cb $(tr -d '\r' <"$output" | sed -n 's/^gpa: //p')"
    wait_output "^00000000[0-9a-f]{8}: 'L' 'i' 'n' 'u' 'x'\$"

    monitor 'info registers -a'
    wait_output '^CPU#1$'
    wait_output '^EFER=0000000000000d01$' 2
    wait_output '^RIP=[0-9a-f]{16} RFL=[0-9a-f]{8} \[[-DOSZAPC]{7}\] CPL=[03] II=[01] A20=1 SMM=0 HLT=[01]$' 2
    wait_output '^CS =00(10|33) 0000000000000000 ffffffff 00a.[9f]b00 DPL=[03] CS64 \[-RA\]$' 2

    wait_output ' MXCSR=00001f[0-9a-f]{2}$' 2

    refute_output 'NMI received'
    monitor nmi
    wait_output 'NMI received for unknown reason'
    monitor 'info status'
    wait_output '^VM status: running$'
    monitor quit
    wait_skiff
    expect_status 0
}

run_tests

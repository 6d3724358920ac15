#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The small guests pass: entry by PVH and Multiboot, memory sizes, processors, interrupts, timers.
# tier: kvm
# timeout: 1800
. "$(dirname "$0")/common.bash"

test_hello_by_PVH() {
    own_guest hello 'a=1 b'
    expect_status 1
    expect_output '^hello: .*entered by PVH'
    expect_output '^hello: command line: a=1 b'
    expect_output '^hello: PASS'
}

test_hello_by_Multiboot() {
    own_guest hello.mb 'a=1 b'
    expect_status 1
    expect_output '^hello: .*entered by Multiboot'
    expect_output '^hello: command line: .*a=1 b'
    expect_output '^hello: PASS'
}

test_an_empty_command_line() {
    skiff -display none "${debug_exit[@]}" -serial stdio -kernel build/guests/hello.elf
    expect_status 1
    expect_output '^hello: PASS'
}

test_a_command_line_of_2000_bytes() {
    local words
    words=$(printf 'word%d=%0100d ' {1..18}) # 18 * 108 bytes
    own_guest hello "$words last=1"
    expect_status 1
    expect_output 'last=1'
}

# byte_sum FILE: the sum of its bytes, in hello's format.
byte_sum() {
    od -An -v -tu1 "$1" | awk '{ for (i = 1; i <= NF; i++) sum += $i } END { printf "%d", sum }'
}

test_an_initrd_arrives_whole() {
    head -c 1234567 /dev/urandom >"$work/initrd"
    own_guest hello '' -initrd "$work/initrd"
    expect_status 1
    expect_output "^hello: module.*1234567.*$(byte_sum "$work/initrd")"
}

test_Multiboot_modules_arrive_whole_with_their_command_lines() {
    head -c 4097 /dev/urandom >"$work/one"
    head -c 70000 /dev/urandom >"$work/two"
    own_guest hello.mb '' -initrd "$work/one first x=1,$work/two second"
    expect_status 1
    expect_output "^hello: module.*4097.*$(byte_sum "$work/one")"
    expect_output "^hello: module.*70000.*$(byte_sum "$work/two")"
}

test_memory_of_every_size() {
    local size sizes=(16M 64M 128M 129M 1G 3500M)
    ! in_lab || unset 'sizes[-1]'
    for size in "${sizes[@]}"; do
        own_guest hello ram=touch -m "$size"
        expect_status 1
        expect_output '^hello: PASS'
    done
}

test_memory_above_the_4_GiB_hole() {
    local size kib
    # Huge pages make the host allocate all memory that is touched.
    kib=$(awk '/^MemAvailable/ { print $2 }' /proc/meminfo)
    [ "$kib" -gt 7000000 ] || skip "less than 7 GB of memory available"
    for size in 4096 5000; do
        own_guest hello ram=touch -m "$size"
        expect_status 1
        expect_output '^hello: PASS'
        kib=$(sed -n 's/^hello: memory: \([0-9]*\) KiB.*/\1/p' "$output")
        [ "$kib" -gt $(((size - 2) * 1024)) ] || fail "of $size MiB the guest sees $kib KiB"
    done
}

test_memory_in_a_shared_memfd() {
    own_guest hello ram=touch -object memory-backend-memfd,id=ram,size=256M,share=on -machine q35,memory-backend=ram
    expect_status 1
    expect_output '^hello: PASS'
}

test_interrupts_between_processors() {
    local cpus
    for cpus in 1 2 4; do
        own_guest smp-irq "expect=$cpus rounds=5" -smp "$cpus"
        expect_status 1
        expect_output "^smp-irq: PASS cpus=$cpus "
    done
}

test_processors_by_topology() {
    own_guest smp-irq 'expect=4 rounds=2' -smp 4,sockets=1,cores=2,threads=2
    expect_status 1
    expect_output '^smp-irq: PASS cpus=4 '
}

test_interrupts_by_x2APIC() {
    own_guest smp-irq 'expect=2 rounds=5 apic=x2apic' -smp 2
    [ "$status" -ne 9 ] || skip "this KVM has no x2APIC"
    expect_status 1
    expect_output '^smp-irq: PASS cpus=2 '
}

test_timers() {
    own_guest timer ''
    expect_status 1
    expect_output '^timer: PASS'
}

test_timers_with_two_processors() {
    own_guest timer rtc=0 -smp 2
    expect_status 1
    expect_output '^timer: PASS'
}

test_the_probe_answers() {
    # No is a valid answer: KVM's internal error is skiff's status 14.
    own_guest probe ''
    case $status in
    33) expect_output '^probe: YES' ;;
    35) expect_output '^probe: NO' ;;
    14) expect_output 'skiff: vCPU 0: KVM internal error' ;;
    *) fail "exit status $status" ;;
    esac
}

# The counters of all processors stop while the VM is stopped, and continue afterwards.
test_stop_and_cont() {
    local counters='^00000000000100[48]0: 0x[0-9a-f]{16}'
    start_own_guest count ms=20 -smp 2
    wait_output '^tick 3'
    monitor stop
    wait_paused paused
    monitor 'xp /1xg 0x10040' 'xp /1xg 0x10080'
    wait_output "$counters" 2
    sleep 0.3
    monitor 'xp /1xg 0x10040' 'xp /1xg 0x10080'
    wait_output "$counters" 4
    expect_equal "different lines" "$(tr -d '\r' <"$output" | grep -aE "$counters" | sort -u | wc -l)" 2
    monitor cont
    wait_output "^tick $(($(grep -ac '^tick ' "$console") + 5))"
    kill "$skiff_pid"
    wait_skiff
    expect_status 0
}

test_stop_and_cont_many_times() {
    local i times
    times=$(rounds lab=15 check=100 long=500)
    start_own_guest smp-irq "expect=4 rounds=$((4 * times)) limit_ms=600000" -smp 4
    for ((i = 0; i < times; i++)); do
        monitor stop cont
        kill -0 "$skiff_pid" 2>/dev/null || break
    done
    wait_skiff 600 # four processors that wait for each other, on a busy host
    expect_status 1
    expect_output '^smp-irq: PASS cpus=4 '
}

run_tests

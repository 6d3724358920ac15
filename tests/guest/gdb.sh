#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 900
# gdb with a small guest, its source lines and symbols, in interactive use.
. "$(dirname "$0")/common.bash"

said=$work/said-by-gdb

# debug GUEST WORDS ARGUMENT…: runs gdb commands from standard input on the guest, stopped before
# its first instruction; gdb's output goes to $said.
debug() {
    local guest=$1
    set_own_guest "$@"
    rm -f "$work/gdb"
    start_skiff "${own_guest[@]}" -serial "file:$console" -gdb "unix:$work/gdb" -S
    wait_listening "$work/gdb"
    { printf '%s\n' 'set pagination off' 'set confirm off' "target remote $work/gdb"; cat; } >"$work/commands"
    timeout --kill-after=5 "$(seconds 200)" gdb -batch -nx -x "$work/commands" "build/guests/$guest.elf" \
        </dev/null >"$said" 2>&1 || { cat "$said"; fail "gdb ended with status $?"; }
}

expect_said() {
    grep -aqE -- "$1" "$said" || { cat "$said"; fail "gdb has not printed: $1"; }
}

test_breakpoints_before_boot_lead_from_the_first_instruction_to_c() {
    debug count 'ms=50' -smp 2 <<'END'
break boot_long
break guest_main
continue
info registers cr0
continue
backtrace
info registers cs rip efer
detach
END
    expect_said 'hit Breakpoint 1, boot_long'
    expect_said '^cr0 .*PG'
    expect_said 'hit Breakpoint 2, guest_main'
    expect_said '^#1 .* in guest_start'
    expect_said '^efer .*LMA'
    wait_output '^tick 3'
}

test_breakpoints_finish_and_data_of_a_running_guest() {
    debug count 'ms=50' -smp 2 <<'END'
tbreak boot_long
continue
tbreak guest_main
continue
break tick
continue
info threads
print shared->cpu_count
print shared->magic
delete
tbreak clock_now_ns
continue
finish
thread apply all backtrace
set var shared->ticks = 1000
detach
END
    expect_said 'hit Breakpoint 3, tick'
    expect_said 'Thread 2 "vcpu/1"'
    expect_said '= 2$'
    expect_said '"SKCOUNT1"'
    expect_said 'Value returned is'
    # Only the boot CPU's frames: the other CPU may be stopped in its start-up or in its loop.
    expect_said '^#1 +(0x[0-9a-f]+ in )?count_forever'
    expect_said '^#[0-9]+ +0x[0-9a-f]+ in smp_run_all'
    expect_said '^Thread 2 \(Thread 2 "vcpu/1"'
    wait_output '^tick 100[1-9]'
}

test_steps_go_through_the_first_instructions_one_by_one() {
    debug count 'ms=50' <<'END'
stepi
stepi
stepi
print $pc == (long)&boot_enter_long + 2
set $rax = 0x1122334455667788
print/x $rax
set $xmm3.uint128 = 77
print $xmm3.uint128
print $fs_base + $gs_base + $k_gs_base
detach
END
    expect_said '= 1$'
    expect_said '= 0x1122334455667788'
    expect_said '= 77$'
    wait_output '^tick'
}

test_a_write_watchpoint_shows_the_old_and_new_value() {
    debug count 'ms=50' <<'END'
watch *(unsigned *)&boot_protocol
continue
delete
detach
END
    expect_said 'atchpoint 1: '
    expect_said '^New value = '
    wait_output '^tick'
}

test_the_monitor_answers_and_physical_memory_is_read() {
    debug count 'ms=50' <<'END'
monitor info status
monitor info registers
maintenance packet Qqemu.PhyMemMode:1
print/x *(unsigned *)&boot_pvh_entry
maintenance packet Qqemu.PhyMemMode:0
monitor quit
END
    expect_said '^VM status: paused'
    expect_said '^[RE]IP=0*100000 '
    wait_skiff
    expect_status 0
}

test_kill_ends_skiff_with_status_0() {
    debug count 'ms=50' <<'END'
kill
END
    wait_skiff
    expect_status 0
}

test_an_invalid_device_is_refused_at_start_up() {
    local device
    for device in 'tcp:' 'bogus' 'unix:' 'tcp::99999' 'chardev:none' 'file:'; do
        skiff -display none -kernel build/guests/hello.elf -gdb "$device"
        expect_status 2
        expect_output '^skiff: .*-gdb'
    done
}

run_tests

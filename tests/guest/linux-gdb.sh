#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: lab
# timeout: 1200
# gdb debugs Debian's kernel: from before its first instruction, and while it runs on four vCPUs.
. "$(dirname "$0")/common.bash"

# The package has no symbols; the kernel itself provides some. Its ELF image runs at its link
# address.
wanted='start_kernel|setup_arch|rest_init|jiffies|linux_banner|do_idle|cpu_startup_entry|default_idle|default_idle_call'
wanted+='|__x64_sys_newuname|do_syscall_64|entry_SYSCALL_64|schedule|start_secondary|_stext|_etext|native_safe_halt'
wanted+='|x86_64_start_kernel|secondary_startup_64_no_verify|pv_native_safe_halt|acpi_idle_do_entry'

symbols=$work/symbols

# make_symbols: creates $symbols, an ELF file with them.
make_symbols() {
    linux_kernel=build/linux/vmlinux linux_guest "grep -wE '$wanted' /proc/kallsyms"
    expect_guest_status 0
    tr -d '\r' <"$output" | grep -aE '^ffffffff[0-9a-f]{8} [A-Za-z] ' | awk '
        BEGIN { print ".section .ktext,\"ax\",@nobits\nktext: .skip 0x4000000" }
        { kind = $2 ~ /[tTwW]/ ? "@function" : "@object"
          printf ".globl %s\n.type %s,%s\n.set %s, ktext + 0x%s - 0x81000000\n", $3, $3, kind, $3, substr($1, 9) }
        ' >"$work/symbols.s"
    as -o "$work/symbols.o" "$work/symbols.s"
    ld -o "$symbols" --section-start=.ktext=0xffffffff81000000 -e 0 "$work/symbols.o" 2>/dev/null
}

# start_kernel_under_gdb SCRIPT ARGUMENT…: a guest that runs SCRIPT, with the stub at $work/gdb.
start_kernel_under_gdb() {
    local script=$1
    shift
    rm -f "$work/gdb"
    start_skiff -m 512 -smp 4 -display none -serial "file:$console" -kernel build/linux/vmlinux \
        -initrd build/linux/initramfs.cpio.gz -gdb "unix:$work/gdb" \
        -append "console=ttyS0 quiet skiff.run=sh:$(printf '%s' "$script" | base64 -w0)" "$@"
    wait_listening "$work/gdb"
}

# gdb_commands: runs commands from standard input after connecting; gdb's output goes to $said.
gdb_commands() {
    said=$work/said-by-gdb
    { printf '%s\n' 'set pagination off' 'set confirm off' 'set remotetimeout 200' "target remote $work/gdb"; cat; } >"$work/commands"
    timeout --kill-after=5 "$(seconds 400)" gdb -batch -nx -x "$work/commands" "$symbols" </dev/null >"$said" 2>&1 ||
        { cat "$said"; fail "gdb ended with status $?"; }
}

expect_said() {
    grep -aqE -- "$1" "$said" || { cat "$said"; fail "gdb has not printed: $1"; }
}

test_the_kernel_provides_its_symbols() {
    make_symbols
    nm "$symbols" | grep -q ' start_kernel$'
}

test_break_at_start_kernel_before_boot_step_finish_and_reset() {
    start_kernel_under_gdb 'echo up' -S
    gdb_commands <<'END'
break start_kernel
continue
info threads
stepi
info registers rip
delete
tbreak setup_arch
continue
finish
printf "after setup_arch: %d\n", ($pc > (long)&start_kernel && $pc < (long)&start_kernel + 0x1000)
monitor info registers
break start_kernel
monitor system_reset
continue
delete
detach
END
    expect_said 'hit Breakpoint 1, 0x[0-9a-f]+ in start_kernel'
    expect_said 'Thread 4 "vcpu/3"'
    expect_said 'hit Temporary breakpoint 2, 0x[0-9a-f]+ in setup_arch'
    expect_said '^after setup_arch: 1$'
    expect_said '^RIP=ffffffff8'
    expect_said 'hit Breakpoint 3, 0x[0-9a-f]+ in start_kernel'
    wait_output '^up'
}

test_a_running_kernel_is_stopped_inspected_watched_and_detached() {
    start_kernel_under_gdb 'echo ready; n=0; while :; do uname -r >/dev/null; n=$((n+1)); [ $((n % 20)) -ne 0 ] || echo round; done'
    wait_output '^ready'
    gdb_commands <<'END'
info threads
thread apply all backtrace 3
x/s &linux_banner
maintenance packet Qqemu.PhyMemMode:1
x/s (long)&linux_banner - 0xffffffff80000000
maintenance packet Qqemu.PhyMemMode:0
break __x64_sys_newuname
continue
backtrace
delete
finish
watch *(unsigned long *)&jiffies
continue
delete
monitor info status
detach
END
    expect_said 'Thread 4 .*CPU#3'
    expect_said 'Thread 4 \(Thread 4'
    [ "$(grep -ac '"Linux version 6' "$said")" -eq 2 ] || { cat "$said"; fail "virtual and physical memory differ"; }
    expect_said 'hit Breakpoint 1, 0x[0-9a-f]+ in __x64_sys_newuname'
    expect_said '^#1  0x[0-9a-f]+ in do_syscall_64'
    expect_said 'in do_syscall_64 \(\)$'
    expect_said '^Hardware watchpoint 2: '
    expect_said '^New value = '
    expect_said 'VM status: paused'
    local rounds
    rounds=$(grep -ac '^round' "$console" || true)
    wait_output '^round' $((rounds + 2))
}

run_tests

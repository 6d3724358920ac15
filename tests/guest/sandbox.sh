#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 900
# -sandbox and -run-with, observed from outside: the process's rights once the guest runs, and that
# it works. `make check-sandbox` runs all the other scripts in a sandbox too.
. "$(dirname "$0")/common.bash"

[ -z "${SKIFF_UNCONFINED-}" ] || SKIFF=$SKIFF_UNCONFINED # the tests pass -sandbox themselves

# start_confined ARGUMENT…: a guest that spins.
start_confined() {
    start_own_guest crash spin -pidfile "$work/pid" "$@"
    wait_words 'crash: spin' 1
}

# status_of FIELD: its values in /proc, one for each thread of skiff, without duplicates.
status_of() {
    sed -n "s/^$1:[[:space:]]*//p" "/proc/$skiff_pid/task"/*/status | tr '\t' ' ' | sort -u
}

# filters_of THREAD: the number of filters on each thread of that name.
filters_of() {
    local task
    for task in "/proc/$skiff_pid/task"/*; do
        [[ $(<"$task/comm") != $1 ]] || filters_of_task "$task"
    done | sort -u
}

filters_of_task() {
    sed -n 's/^Seccomp_filters:[[:space:]]*//p' "$1/status"
}

need_root() {
    [ "$(id -u)" -eq 0 ] || skip "only root can become somebody else"
}

test_every_thread_has_filters_and_no_new_privileges() {
    start_confined -sandbox on -object iothread,id=io1 -smp 2
    expect_equal "Seccomp" "$(status_of Seccomp)" 2
    expect_equal "NoNewPrivs" "$(status_of NoNewPrivs)" 1
    if [ -n "$(filters_of 'vcpu/0')" ]; then # Linux 5.9
        expect_equal "filters of a vCPU" "$(filters_of 'vcpu/*')" 2
        expect_equal "filters of an iothread" "$(filters_of 'iothread/*')" 2
        # Not by name: a sanitizer's own thread has the same name.
        expect_equal "filters of main" "$(filters_of_task "/proc/$skiff_pid")" 2
    fi
    monitor quit
    wait_skiff
    expect_status 0
}

test_off_is_off() {
    start_confined -sandbox off
    expect_equal "Seccomp" "$(status_of Seccomp)" 0
    expect_equal "NoNewPrivs" "$(status_of NoNewPrivs)" 0
    monitor quit
    wait_skiff
    expect_status 0
}

test_stop_reset_and_quit_work_in_a_sandbox() {
    start_confined -sandbox on
    monitor stop
    wait_paused paused
    monitor system_reset cont
    wait_words 'crash: spin' 2
    monitor quit
    wait_skiff
    expect_status 0
}

test_disks_of_every_engine_work_in_a_sandbox() {
    local aio cache
    make_disk 16M
    for aio in threads native io_uring; do
        cache=none
        [ -n "$direct" ] || { [ "$aio" != native ] || continue; cache=writeback; }
        own_guest blk-verify "ops=$(rounds lab=60 check=200 long=2000) seed=1 queues=1 mode=irq" -sandbox on -object iothread,id=io0 \
            -drive "file=$disk,format=raw,if=none,id=disk,cache=$cache,aio=$aio,discard=unmap" \
            -device virtio-blk-pci,drive=disk,num-queues=1,iothread=io0
        expect_status 1
        expect_output '^blk-verify: PASS'
        refute_output 'sandbox:'
    done
}

# Everything that creates threads, descriptors, rings, sockets or memory after the start.
test_later_additions_work_in_a_sandbox() {
    make_disk 1M
    start_confined -sandbox on -qmp "unix:$work/qmp,server=on,wait=off" -object iothread,id=io0
    PYTHONPATH=tests/support timeout "$(seconds 200)" python3 - "$work" "$disk" "${direct:-no}" <<'PYTHON' ||
import socket, sys
from qmp import Qmp
work, disk, direct = sys.argv[1:]
with Qmp(work + "/qmp") as vm:
    vm.cmd("object-add", qom_type="iothread", id="io1")
    vm.cmd("object-add", qom_type="memory-backend-memfd", id="m1", size=1 << 20)

    def add(number, iothread, **options):
        node, device = "node%d" % number, "disk%d" % number
        vm.cmd("blockdev-add", driver="file", node_name=node, filename=disk, locking="off",
               read_only=True, **options)
        try:
            vm.cmd("device_add", driver="virtio-blk-pci", id=device, drive=node, iothread=iothread)
        except Exception as e:
            return str(e)
        return "plugged"

    assert add(1, "io1", aio="threads") == "plugged"
    assert add(2, "io0", aio="io_uring") == "plugged"
    if direct == "yes":
        assert add(3, "io1", aio="native", cache={"direct": True}) == "plugged"
    # A later iothread uses one of the rings made before, and returns it.
    assert add(4, "io1", aio="io_uring") == "plugged"
    for number in range(7):
        vm.cmd("object-add", qom_type="iothread", id="more%d" % number)
        assert add(5 + number, "more%d" % number, aio="io_uring") == "plugged"
    vm.cmd("object-add", qom_type="iothread", id="last")
    said = add(12, "last", aio="io_uring") # needs a new ring
    assert "io_uring" in said and "are in use; use aio=threads" in said, said
    vm.cmd("device_del", id="disk11")
    vm.cmd("system_reset") # otherwise the guest does not eject it
    vm.wait_event("DEVICE_DELETED", device="disk11")
    vm.wait_event("RESET")
    vm.cmd("blockdev-del", node_name="node11")
    assert add(13, "last", aio="io_uring") == "plugged"
    listener = socket.create_server(("localhost", 0), family=socket.AF_INET)
    port = str(listener.getsockname()[1])
    vm.cmd("chardev-add", id="c1", backend={"type": "socket", "data": {"server": False, "addr": {
        "type": "inet", "data": {"host": "localhost", "port": port}}}})
    vm.cmd("chardev-add", id="c2", backend={"type": "pty", "data": {}})
    vm.cmd("chardev-add", id="c3", backend={"type": "file", "data": {"out": work + "/out"}})
    vm.cmd("chardev-add", id="c4", backend={"type": "socket", "data": {"server": True, "wait": False, "addr": {
        "type": "unix", "data": {"path": work + "/c4"}}}})
    vm.cmd("chardev-remove", id="c4")
    vm.cmd("human-monitor-command", command_line="gdbserver unix:%s/gdb,server=on,wait=off" % work)
    vm.cmd("human-monitor-command", command_line="logfile %s/log" % work)
    vm.cmd("pmemsave", val=0, size=1 << 20, filename=work + "/memory")
    vm.cmd("dump-guest-memory", paging=False, protocol="file:%s/dump" % work)
    vm.cmd("system_reset")
    vm.wait_event("RESET")
    vm.cmd("stop")
    vm.cmd("cont")
    vm.cmd("query-blockstats")
    vm.cmd("quit")
PYTHON
        fail "see above"
    wait_skiff
    expect_status 0
    refute_output 'sandbox:'
}

test_a_crash_in_a_sandbox_is_reported_as_usual() {
    local signal
    for signal in SEGV ABRT; do
        start_confined -sandbox on
        kill -s "$signal" "$skiff_pid"
        wait_skiff
        refute_output 'sandbox:'
        # A signal's status, or a sanitizer's.
        [ "$status" -ne 0 ] && [ "$status" -ne 14 ] || fail "SIG$signal: status $status"
    done
}

test_a_sandbox_takes_the_options_of_QEMU_and_refuses_what_it_cannot_allow() {
    own_guest hello '' -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
    expect_status 1
    own_guest hello '' -sandbox on,spawn=allow
    expect_status 2
    expect_output '^skiff: -sandbox: spawn=allow: skiff has only spawn=deny'
    own_guest hello '' -sandbox perhaps
    expect_status 2
}

test_another_user_in_a_chroot_has_no_capabilities() {
    need_root
    mkdir -p "$work/root"
    start_confined -run-with "chroot=$work/root,user=65534:65533" -sandbox on -object iothread,id=io1
    expect_equal Uid "$(status_of Uid)" '65534 65534 65534 65534'
    expect_equal Gid "$(status_of Gid)" '65533 65533 65533 65533'
    expect_equal Groups "$(status_of Groups | tr -d ' ')" 65533
    expect_equal CapEff "$(status_of CapEff)" 0000000000000000
    expect_equal CapPrm "$(status_of CapPrm)" 0000000000000000
    expect_equal root "$(readlink "/proc/$skiff_pid/root")" "$work/root"
    expect_equal directory "$(readlink "/proc/$skiff_pid/cwd")" "$work/root"
    monitor system_reset
    wait_words 'crash: spin' 2
    monitor quit
    wait_skiff
    expect_status 0
    # It may no longer remove the file: it leaves it empty, and the next process takes it over.
    [ -e "$work/pid" ] && [ ! -s "$work/pid" ] || fail "the pid file: $(cat "$work/pid")"
    own_guest hello '' -pidfile "$work/pid"
    expect_status 1
    [ ! -e "$work/pid" ] || fail "the pid file still exists"
}

test_a_user_is_found_by_name_with_the_groups() {
    need_root
    start_confined -run-with user=nobody
    expect_equal Uid "$(status_of Uid)" "$(for i in 1 2 3 4; do id -u nobody; done | paste -sd' ')"
    expect_equal Groups "$(status_of Groups | xargs)" "$(id -G nobody | tr ' ' '\n' | sort -n | xargs)"
    expect_equal NoNewPrivs "$(status_of NoNewPrivs)" 0
    monitor quit
    wait_skiff
    expect_status 0
}

test_a_daemon_drops_its_rights_and_reports_to_its_parent() {
    need_root
    mkdir -p "$work/root"
    skiff -daemonize -pidfile "$work/pid" -display none -serial "file:$console" \
        -kernel build/guests/crash.elf -append spin -sandbox on \
        -run-with "chroot=$work/root,user=65534:65534"
    expect_status 0
    skiff_pid=$(<"$work/pid")
    test_daemons+=("$skiff_pid")
    expect_equal Uid "$(status_of Uid)" '65534 65534 65534 65534'
    expect_equal Seccomp "$(status_of Seccomp)" 2
    expect_equal output "$(readlink "/proc/$skiff_pid/fd/1")" /dev/null
    kill "$skiff_pid"
    timeout "$(seconds 200)" tail -s 0.05 --pid="$skiff_pid" -f /dev/null || fail "skiff does not end"
    skiff -daemonize -display none -serial none -kernel build/guests/crash.elf -append spin \
        -run-with "chroot=$work/missing"
    expect_status 2
}

test_wrong_users_and_directories_are_refused_in_one_line() {
    local value
    : >"$work/file"
    for value in user=nosuchuser user=1 user=1:2:3 user=-1:0 user=4294967295:0 user= \
        "chroot=$work/missing" "chroot=$work/file" async-teardown=on usr=nobody ''; do
        own_guest hello '' -run-with "$value"
        expect_status 2
        expect_equal "lines of $value" "$(wc -l <"$output")" 1
        expect_output '^skiff: -run-with'
    done
    own_guest hello '' -runas nobody
    expect_output 'no -runas; nearest is -run-with user='
    own_guest hello '' -chroot /
    expect_output 'no -chroot; nearest is -run-with chroot='
}

test_without_the_needed_capability_the_start_fails() {
    need_root
    local value
    setpriv --bounding-set=-setuid,-setgid,-sys_chroot true 2>/dev/null || skip "no setpriv that takes rights"
    for value in user=1:1 chroot=/; do
        status=0
        timeout "$(seconds 200)" setpriv --bounding-set=-setuid,-setgid,-sys_chroot "$SKIFF" -display none \
            -kernel build/guests/hello.elf -run-with "$value" >"$output" 2>&1 </dev/null || status=$?
        expect_status 2
        expect_output "^skiff: -run-with $value: .*only root may"
    done
}

run_tests

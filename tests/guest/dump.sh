#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 900
# dump-guest-memory: the dump of a small guest in gdb, clients that wait for it, and its failures.
. "$(dirname "$0")/common.bash"

# start_count ARGUMENT…: two CPUs count; words of known value are at LAYOUT_SHARED_GPA.
start_count() {
    qmp_socket=$(mktemp -u "$work/qmp.XXXXXX") # the previous test's may still exist
    set_own_guest count 'ms=50' -m 64 -smp 2 -qmp "unix:$qmp_socket,server=on,wait=off" "$@"
    start_skiff "${own_guest[@]}" -serial "file:$console"
    wait_output '^tick 2$'
    rm -f "$work/dump"
}

# qmp: runs the Python program on standard input; `vm` is a client, `work` the test's directory.
qmp() {
    command -v python3 >/dev/null || skip "python3 is not installed"
    {
        echo 'import os, socket, stat, sys, time'
        echo 'from qmp import Qmp, QmpError'
        echo 'work, vm = sys.argv[1], Qmp(sys.argv[2])'
        cat
    } >"$work/program.py"
    PYTHONPATH=tests/support PYTHONDONTWRITEBYTECODE=1 python3 "$work/program.py" "$work" "$qmp_socket"
}

# ask_dump FILE COMMAND…: runs gdb commands; output in $work/gdb.
ask_dump() {
    local file=$1 command arguments=()
    command -v gdb >/dev/null || skip "gdb is not installed"
    shift
    for command in "$@"; do
        arguments+=(-ex "$command")
    done
    gdb -nx -batch -c "$file" "${arguments[@]}" >"$work/gdb" 2>&1 || true # a failed command makes the status 1
}

said() {
    grep -qE -- "$1" "$work/gdb" || {
        cat "$work/gdb"
        fail "gdb has not printed: $1"
    }
}

# expect_dump FILE: gdb shows the two CPUs in the guest's code, and the words in its memory.
expect_dump() {
    ask_dump "$1" 'info threads' 'thread 1' 'p/x ($rip >= 0x100000 && $rip < 0x200000)' \
        'p/x ($rsp > 0x100000 && $rsp < 0x200000)' 'thread 2' 'p/x ($rip >= 0x100000 && $rip < 0x200000)' 'p/x $cs' \
        'x/s 0x10000' 'x/dw 0x10008' 'p *(unsigned long *)0x10010 >= 2' 'p *(unsigned long *)0x10080 > 0'
    said '^\* 1 .*LWP 1 '
    said '^  2 .*LWP 2 '
    [ "$(grep -c ' = 0x1$' "$work/gdb")" -eq 3 ] || { cat "$work/gdb"; fail "a CPU is not in the guest's program"; }
    said ' = 0x(23|8)$'
    said '^0x10000:.*"SKCOUNT1\\002"$'
    said '^0x10008:.*2$'
    [ "$(grep -cE '^\$[0-9]+ = 1$' "$work/gdb")" -eq 2 ] || { cat "$work/gdb"; fail "the counters are not in the dump"; }
}

test_gdb_finds_registers_and_memory_by_physical_address() {
    start_count
    qmp <<'PYTHON'
vm.cmd("dump-guest-memory", paging=False, protocol="file:%s/dump" % work)
done = vm.wait_event("DUMP_COMPLETED")["data"]
assert done == {"result": {"status": "completed", "completed": 64 << 20, "total": 64 << 20}}, done
assert vm.cmd("query-dump") == done["result"]
assert vm.cmd("query-status")["status"] == "running"
status = os.stat(work + "/dump")
assert stat.S_IMODE(status.st_mode) == 0o600, oct(status.st_mode)
assert status.st_blocks * 512 < 16 << 20, "pages of zeroes are no holes"
PYTHON
    expect_dump "$work/dump"
}

test_gdb_finds_registers_and_memory_by_the_page_tables() {
    start_count
    qmp <<'PYTHON'
vm.cmd("dump-guest-memory", paging=True, protocol="file:%s/dump" % work)
PYTHON
    expect_dump "$work/dump"
    # The library maps no page at 0.
    ask_dump "$work/dump" 'x/x 0'
    said 'Cannot access memory at address 0x0'
}

test_the_vm_stops_for_a_dump_and_resumes() {
    start_count
    qmp <<'PYTHON'
vm.events.clear()
vm.cmd("dump-guest-memory", paging=False, detach=True, protocol="file:%s/dump" % work)
names = []
while "RESUME" not in names:
    names.append(vm.wait_event("STOP", "RESUME", "DUMP_COMPLETED")["event"])
assert names == ["STOP", "DUMP_COMPLETED", "RESUME"], names
vm.cmd("stop")
vm.wait_event("STOP")
vm.cmd("dump-guest-memory", paging=False, protocol="file:%s/second" % work)
vm.wait_event("DUMP_COMPLETED")
assert vm.cmd("query-status")["status"] == "paused"
assert not [e for e in vm.events if e["event"] in ("STOP", "RESUME")], vm.events
vm.cmd("cont")
PYTHON
    wait_output '^tick 20$'
    expect_dump "$work/second"
}

# Both are sent while the dump is blocked: its pipe is full.
test_a_stop_during_a_dump_keeps_the_vm_stopped_and_cont_revokes_it() {
    start_count
    qmp <<'PYTHON'
def dump(*commands):
    r, w = os.pipe()
    vm.cmd("getfd", fdname="f", fds=[w])
    os.close(w)
    vm.events.clear()
    vm.cmd("dump-guest-memory", paging=False, detach=True, protocol="fd:f")
    vm.wait_event("STOP")
    for command in commands:
        vm.cmd(command)
        assert vm.cmd("query-dump")["status"] == "active"
        assert vm.cmd("query-status") == {"running": False, "status": "paused"}
    with open(r, "rb") as pipe:
        while pipe.read(1 << 20):
            pass
    vm.wait_event("DUMP_COMPLETED")

def told():
    return [e["event"] for e in vm.events if e["event"] in ("STOP", "RESUME")]

dump("stop")
vm.refusal("device_del", id="none")   # runs after the dump has released the VM
assert vm.cmd("query-status") == {"running": False, "status": "paused"}
assert told() == [], vm.events
vm.cmd("cont")
vm.wait_event("RESUME")
dump("stop", "cont")
vm.wait_event("RESUME")
assert vm.cmd("query-status")["running"] is True
assert told() == [], vm.events
PYTHON
    wait_output '^tick 20$'
}

test_a_range_and_a_descriptor() {
    start_count
    qmp <<'PYTHON'
vm.cmd("getfd", fdname="f", fds=[os.open(work + "/dump", os.O_WRONLY | os.O_CREAT)])
vm.cmd("dump-guest-memory", paging=False, protocol="fd:f", begin=0x10000, length=0x1000)
assert vm.wait_event("DUMP_COMPLETED")["data"]["result"]["total"] == 0x1000
assert "'f'" in vm.refusal("dump-guest-memory", paging=False, protocol="fd:f").desc
PYTHON
    ask_dump "$work/dump" 'x/s 0x10000' 'x/x 0x100000'
    said '^0x10000:.*"SKCOUNT1\\002"$'
    said 'Cannot access memory at address 0x100000'
}

test_a_pipe_gets_the_whole_dump() {
    start_count
    qmp <<'PYTHON'
r, w = os.pipe()
vm.cmd("getfd", fdname="f", fds=[w])
os.close(w)
vm.cmd("dump-guest-memory", paging=False, detach=True, protocol="fd:f")
with open(work + "/dump", "wb") as out, open(r, "rb") as pipe:
    while data := pipe.read(1 << 20):
        out.write(data)
assert vm.wait_event("DUMP_COMPLETED")["data"]["result"]["status"] == "completed"
PYTHON
    expect_dump "$work/dump"
}

test_all_clients_are_answered_during_a_dump_and_quit_aborts_it() {
    start_count
    qmp <<'PYTHON'
r, w = os.pipe()
vm.cmd("getfd", fdname="f", fds=[w])
os.close(w)
vm.cmd("dump-guest-memory", paging=False, detach=True, protocol="fd:f")
while vm.cmd("query-dump")["completed"] == 0:   # then it is writing memory
    os.read(r, 1 << 16)
assert vm.cmd("query-dump")["status"] == "active"
second = vm.refusal("dump-guest-memory", paging=False, protocol="file:%s/dump" % work)
assert second.desc == "There's a dump in process, please wait.", second
assert not os.path.exists(work + "/dump")
assert vm.cmd("query-status")["running"] is False
vm.cmd("stop")
vm.cmd("quit")
done = vm.wait_event("DUMP_COMPLETED")["data"]
assert done["result"]["status"] == "failed" and "aborted" in done["error"], done
PYTHON
    wait_skiff
    expect_status 0
    refute_output 'did not drain'
}

test_a_closed_reader_ends_the_dump_and_the_vm_resumes() {
    start_count
    qmp <<'PYTHON'
a, b = socket.socketpair()
vm.cmd("getfd", fdname="f", fds=[a.fileno()])
a.close()
vm.cmd("dump-guest-memory", paging=False, detach=True, protocol="fd:f")
b.recv(4096)
b.close()
done = vm.wait_event("DUMP_COMPLETED")["data"]
assert done["result"]["status"] == "failed" and "Broken pipe" in done["error"], done
assert vm.cmd("query-dump") == done["result"]
vm.cmd("dump-guest-memory", paging=False, protocol="file:%s/dump" % work)
PYTHON
    expect_dump "$work/dump"
}

test_errors_are_reported_and_no_partial_dump_remains() {
    start_count
    qmp <<'PYTHON'
def refused(why, **arguments):
    vm.events.clear()
    error = vm.refusal("dump-guest-memory", dict(paging=False, **arguments))
    assert error.error_class == "GenericError" and why in error.desc, error

with open(work + "/kept", "w") as f:
    f.write("kept")
kept = "file:%s/kept" % work
refused("must start with 'file:' or 'fd:'", protocol="exec:cat")
refused("'nobody'", protocol="fd:nobody")
refused("No such file or directory", protocol="file:")
refused("No such file or directory", protocol="file:/nonexistent/dump")
refused("Is a directory", protocol="file:" + work)
refused("'length'", protocol=kept, begin=0)
refused("'begin'", protocol=kept, length=4096)
refused("'length'", protocol=kept, begin=0, length=0)
refused("'begin'", protocol=kept, begin=1 << 40, length=4096)
refused("kdump-zlib", protocol=kept, format="kdump-zlib")
refused("win-dmp", protocol=kept, format="win-dmp")
assert open(work + "/kept").read() == "kept"
refused("No space left on device", protocol="file:/dev/full")
vm.wait_event("DUMP_COMPLETED", error="dump: failed to save memory: No space left on device")
os.mkfifo(work + "/fifo")
refused("reader", protocol="file:%s/fifo" % work)
vm.cmd("getfd", fdname="f", fds=[os.open("/dev/null", os.O_RDONLY)])
refused("not open for writing", protocol="fd:f")
assert vm.cmd("query-dump")["status"] == "failed"
assert vm.cmd("query-dump-guest-memory-capability") == {"formats": ["elf"]}
assert vm.cmd("query-status")["running"] is True
PYTHON
    wait_output '^tick 20$'
}

test_a_full_disk_is_freed_again() {
    mkdir "$work/disk"
    mount -t tmpfs -o size=64k none "$work/disk" 2>/dev/null || skip "no right to mount a tmpfs"
    at_end 'umount -l "$work/disk"'
    start_count
    qmp <<'PYTHON'
vm.cmd("getfd", fdname="f", fds=[os.open(work + "/disk/fd", os.O_WRONLY | os.O_CREAT | os.O_APPEND)])
for protocol in "file:%s/disk/dump" % work, "fd:f":
    error = vm.refusal("dump-guest-memory", paging=False, protocol=protocol)
    assert "No space left on device" in error.desc, error
assert not os.path.exists(work + "/disk/dump")
assert vm.cmd("query-status")["running"] is True
PYTHON
}

test_a_hung_file_system_delays_neither_answers_nor_quit() {
    [ -c /dev/fuse ] && [ "$(id -u)" -eq 0 ] || skip "no /dev/fuse, or no right to mount"
    command -v python3 >/dev/null || skip "python3 is not installed"
    mkdir "$work/hung"
    : >"$work/hung_fs"
    python3 tests/support/hung_fs.py "$work/hung" >"$work/hung_fs" 2>&1 &
    at_end 'umount -l "$work/hung"'
    until grep -q mounted "$work/hung_fs"; do
        kill -0 $! 2>/dev/null || skip "$(cat "$work/hung_fs")"
        sleep 0.05
    done
    : >"$work/hung/first"
    start_count
    qmp <<'PYTHON'
vm.cmd("dump-guest-memory", paging=False, detach=True, protocol="file:%s/hung/hung" % work)
vm.wait_event("STOP")
assert vm.cmd("query-dump")["status"] == "active"
vm.cmd("stop")
assert vm.cmd("query-status")["running"] is False
assert "process" in vm.refusal("dump-guest-memory", paging=False, protocol="file:%s/dump" % work).desc
vm.cmd("quit")
PYTHON
    wait_skiff
    expect_status 0
    expect_output 'did not drain within 4 s'
}

test_in_a_sandbox() {
    start_count -sandbox on
    qmp <<'PYTHON'
vm.cmd("dump-guest-memory", paging=True, protocol="file:%s/dump" % work)
a, b = socket.socketpair()
vm.cmd("getfd", fdname="f", fds=[a.fileno()])
a.close()
vm.cmd("dump-guest-memory", paging=False, detach=True, protocol="fd:f")
b.recv(4096)
b.close()
vm.wait_event("DUMP_COMPLETED", error="dump: failed to save memory: Broken pipe")
PYTHON
    expect_dump "$work/dump"
}

run_tests

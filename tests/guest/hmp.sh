#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 900
# The human monitor on a running guest: queries that do not disturb it, and keys on a terminal, a
# socket and through QMP.
. "$(dirname "$0")/common.bash"

# start_count ARGUMENT…: two CPUs count; words of known value are at LAYOUT_SHARED_GPA. Sockets are
# in $dir (DIR in arguments), one per test: the previous test's skiff may still remove its own.
start_count() {
    dir=$(mktemp -d "$work/sockets.XXXXXX")
    set_own_guest count 'ms=50' -m 64 -smp 2 -qmp "unix:$dir/qmp,server=on,wait=off" "${@//DIR/$dir}"
    start_skiff "${own_guest[@]}" -serial "file:$console"
    wait_output '^tick 2$'
}

# hmp: runs the Python program on standard input; `vm` is a QMP client, hmp() executes a monitor
# line through it, `work` is its directory, $dir.
hmp() {
    command -v python3 >/dev/null || skip "python3 is not installed"
    {
        cat <<'PYTHON'
import os, re, socket, sys, time
from qmp import Qmp, QmpError
work, skiff_pid = sys.argv[1], int(sys.argv[2])
vm = Qmp(work + "/qmp")

def hmp(line, **args):
    return vm.cmd("human-monitor-command", **{"command-line": line, **args}).replace("\r\n", "\n")

def expect(line, pattern, **args):
    out = hmp(line, **args)
    assert re.search(pattern, out, re.M), "%s: %r" % (line, out)
    return out

def expect_soon(line, pattern):
    """Waits, since stop and cont may answer before the VM's state changes."""
    until = time.monotonic() + 200
    while not re.search(pattern, hmp(line), re.M):
        assert time.monotonic() < until, "%s: %r" % (line, hmp(line))

class Terminal:
    """A client of -monitor unix:."""
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(200)
        self.socket.connect(path)
        self.data = b""
        self.wait(r"\(skiff\) $")

    def wait(self, pattern):
        while not re.search(pattern, self.text()):
            data = self.socket.recv(65536)
            assert data, "closed: %r" % self.data
            self.data += data

    def text(self):
        return self.data.decode().replace("\r\n", "\n")

    def type(self, keys, pattern):
        self.data = b""
        self.socket.sendall(keys.encode())
        self.wait(pattern)
PYTHON
        cat
    } >"$work/program.py"
    PYTHONPATH=tests/support PYTHONDONTWRITEBYTECODE=1 python3 "$work/program.py" "$dir" "$skiff_pid"
}

test_memory_of_a_running_guest() {
    start_count
    hmp <<'PYTHON'
expect("xp /8cb 0x10000", r"^0000000000010000: 'S' 'K' 'C' 'O' 'U' 'N' 'T' '1'$")
expect("x /8cb 0x10000", r"^0000000000010000: 'S' 'K' 'C' 'O' 'U' 'N' 'T' '1'$")
expect("x /1uw 0x10008", r"^0000000000010008:          2$")
expect("x /2xg 0x7fffffff0000", r"^00007fffffff0000: Cannot access memory$")
expect("gva2gpa 0x10040", r"^gpa: 0x10040$")
expect("gva2gpa 0x7fffffff0000", r"^Unmapped: ")
for cpu in 0, 1:
    first = expect("x /1xg 0x10040+64*%d" % cpu, "0x", **{"cpu-index": cpu})
    while hmp("x /1xg 0x10040+64*%d" % cpu) == first:
        pass                                 # the counters continue
hmp("memsave 0x10000 16 %s/virtual" % work)
hmp("pmemsave 0x10000 16 %s/physical" % work)
virtual, physical = (open(work + "/" + name, "rb").read() for name in ("virtual", "physical"))
assert virtual == physical and virtual.startswith(b"SKCOUNT1\2\0\0\0"), virtual
expect("memsave 0x7fffffff0000 16 %s/none" % work, r"^Error: Invalid addr 0x00007fffffff0000/size 16")
try:
    vm.cmd("memsave", val=-4096, size=1, filename=work + "/none")
    assert False
except QmpError as error:
    assert "0xfffffffffffff000" in error.desc, error
PYTHON
    wait_output "^tick $(($(grep -ac '^tick ' "$console") + 5))\$"
}

test_processors_of_a_running_guest() {
    start_count
    hmp <<'PYTHON'
out = expect("info registers -a", r"^CPU#0$")
assert out.count("\nRIP=0000000000") == 2 and out.count("\nCS =0023 ") + out.count("\nCS =") >= 2, out
assert re.search(r"^CPU#1$", out, re.M), out
assert re.search(r"^CR0=[0-9a-f]{8} CR2=[0-9a-f]{16} CR3=[0-9a-f]{16} CR4=[0-9a-f]{8}$", out, re.M), out
expect("info registers", r"^CPU#1$", **{"cpu-index": 1})
expect("info registers 1", r"^CPU#1$")
expect("info registers 2", r"^invalid CPU index; there are 0 to 1$")
pc = int(hmp("print $pc"), 16)
assert 0x100000 <= pc < 0x200000, hex(pc)
expect("print/x $rsp & 0xfffffff0", r"^0x1")
cpus = vm.cmd("query-cpus-fast")
assert [c["cpu-index"] for c in cpus] == [0, 1] and cpus[1]["props"]["socket-id"] + cpus[1]["props"]["core-id"] == 1, cpus
for cpu in cpus:
    with open("/proc/%d/task/%d/comm" % (skiff_pid, cpu["thread-id"])) as f:
        assert f.read().strip() == "vcpu/%d" % cpu["cpu-index"]
expect("info cpus", r"^  CPU #0: thread_id=\d+\n\* CPU #1: thread_id=\d+$", **{"cpu-index": 1})
assert hmp("cpu 1") == ""
expect("cpu 2", r"^invalid CPU index")
try:
    hmp("info cpus", **{"cpu-index": 2})
    assert False
except QmpError as error:
    assert "CPU number from 0 to 1" in error.desc, error
assert hmp("nmi") == ""                      # masked: this guest's local APICs are in reset state
PYTHON
    wait_output "^tick $(($(grep -ac '^tick ' "$console") + 5))\$"
}

test_the_machine_is_described() {
    start_count -device virtio-rng-pci,id=rng0 -object iothread,id=io0 -name 'a VM'
    hmp <<'PYTHON'
expect("info name", r"^a VM$")
expect("info version", r"^\d+\.\d+\.\d+skiff ")
expect("info status", r"^VM status: running$")
expect("info kvm", r"^kvm support: enabled$")
expect("info memory_size_summary", r"^base memory: 67108864\nplugged memory: 0$")
expect("info qtree", r'^  dev: virtio-rng-pci, id "rng0"\n    addr = "01\.0"$')
expect("info pci", r'^  Bus  0, device   1, function 0:\n(    .*\n)+      id "rng0"$')
expect("info mtree", r"^  0000000000000000-0000000003ffffff \(prio 0, ram\): ")
expect("info network", r"\A\s*\Z")
expect("info iothreads", r"^io0:\n  thread_id=\d+\n  poll-max-ns=32768\n")
assert hmp("object_add iothread,id=io1") == ""
assert hmp("object_add {\"qom-type\": \"iothread\", \"id\": \"io2\"}") == ""
expect("object_add iothread,id=io1", "^Error: ")
expect("info iothreads", "^io1:$")
assert hmp("object_del io1") == ""
expect("object_del io1", "^Error: ")
assert "io1" not in hmp("info iothreads")
expect("info memdev", r"^memory backend: .*\n  size:  67108864\n")
hmp("stop")
expect_soon("info status", r"^VM status: paused$")
expect("xp /1uw 0x10008", r" 2$")
expect("info registers", r"^CPU#0$")
first = hmp("xp /8xg 0x10000")
time.sleep(0.2)
assert hmp("xp /8xg 0x10000") == first       # the VM is stopped
hmp("c")
expect_soon("info status", r"^VM status: running$")
PYTHON
}

test_disks_chardevs_and_devices() {
    make_disk 1M
    "$(dirname "$SKIFF")/skiff-img" create -q -f qcow2 "$work/base.qcow2" 1M
    "$(dirname "$SKIFF")/skiff-img" snapshot -c early "$work/base.qcow2"
    "$(dirname "$SKIFF")/skiff-img" create -q -f qcow2 -b base.qcow2 -F qcow2 "$work/top.qcow2"
    start_count -drive "if=none,id=d0,format=raw,file=$disk,cache=none" -device virtio-blk-pci,drive=d0,id=disk0 \
        -blockdev "driver=qcow2,node-name=top,file.driver=file,file.filename=$work/top.qcow2"
    hmp <<'PYTHON'
expect("info block", r"^d0 \(d0\): .* \(raw\)\n    Attached to:      .*disk0.*\n    Cache mode:       writeback, direct$")
assert hmp("info block") == hmp("info block d0")
expect("info block nosuch", r"no disk 'nosuch'")
expect("info block -v d0", r"\n\nImages:\nimage: .*\nfile format: raw\nvirtual size: 1 MiB \(1048576 bytes\)\ndisk size: ")
expect("info block -v top", r"^top: .*/top\.qcow2 \(qcow2\)\n    Cache mode:       writeback\n    Backing file:     .*/base\.qcow2 \(chain depth: 1\)\n"
       r"\nImages:\nimage: .*/top\.qcow2\n(.*\n)*backing file: base\.qcow2 \(actual path: .*/base\.qcow2\)\n(.*\n)*"
       r"    compat: 1\.1\n(.*\n)*image: .*/base\.qcow2\n(.*\n)*Snapshot list:\nID  .*\n1 +early ")
assert hmp("info block -n").count("Cache mode") == len(vm.cmd("query-named-block-nodes"))
expect("info blockstats", r"^d0: rd_bytes=\d+ wr_bytes=0 ")
assert hmp("block_resize d0 2") == ""
assert vm.cmd("query-block")[0]["inserted"]["image"]["virtual-size"] == 2 << 20
expect("block_resize d0 1k5", "'size'")
expect("block_resize nosuch 5", "^Error: Cannot find device='nosuch'")
assert hmp("chardev-add null,id=c9") == ""
expect("info chardev", "^c9: filename=null$")
assert hmp("chardev-remove c9") == ""
assert "c9" not in hmp("info chardev")
expect("chardev-add dance,id=c9", "^Error: ")
expect("device_add dance", "^Error: 'dance' is not a valid device model name")
assert hmp("device_add virtio-rng-pci,id=rng9,addr=9") == ""
expect("info pci", r'device   9, function 0:\n(    .*\n)+      id "rng9"')
expect("device_add virtio-rng-pci,id=rng9", "^Error: Duplicate device ID 'rng9'")
expect("device_del nosuch", "^Error: Device 'nosuch' not found")
expect("gdbserver unix:%s/gdb" % work, "^Waiting for gdb connection on device 'unix:")
gdb = socket.socket(socket.AF_UNIX)
gdb.connect(work + "/gdb")
while "running" in hmp("info status"):       # a client stops the VM
    pass
expect("gdbserver none", "^Disabled gdbserver$")
PYTHON
}

test_one_gdbserver_is_opened_at_a_time() {
    start_count -monitor "unix:DIR/monitor,server=on,wait=off"
    hmp <<'PYTHON'
monitor = Terminal(work + "/monitor")
monitor.data = b""
monitor.socket.sendall(("gdbserver unix:%s/first,server=on\n" % work).encode())
while not os.path.exists(work + "/first"):   # it waits for a client
    pass
expect("gdbserver unix:%s/second" % work, "^Could not open gdbserver .* another request to open it is under way")
assert not os.path.exists(work + "/second")
gdb = socket.socket(socket.AF_UNIX)
gdb.connect(work + "/first")
monitor.wait("Waiting for gdb connection")
while "running" in hmp("info status"):
    pass
expect("gdbserver none", "^Disabled gdbserver$")
PYTHON
}

test_the_log_and_traces_at_run_time() {
    start_count
    hmp <<'PYTHON'
assert hmp("logfile %s/first" % work) == ""
assert hmp("logfile %s/log" % work) == ""    # from one file to the next
name = hmp("info trace-events").split(" ")[0]
expect("info trace-events " + name, "^%s : state 0$" % name)
assert hmp("trace-event %s on" % name) == ""
expect("info trace-events " + name, "^%s : state 1$" % name)
assert hmp("trace-event * off") == ""
expect("logfile /nonexistent/log", "^Error: Could not open")
PYTHON
    [ -e "$dir/log" ] || fail "there is no log file"
}

test_keys_on_a_socket() {
    start_count -monitor unix:DIR/monitor,server=on,wait=off -device virtio-rng-pci,id=rng0
    hmp <<'PYTHON'
t = Terminal(work + "/monitor")
t.type("info stat\t\r", r"info status \nVM status: running\n\(skiff\) $")
t.type("\033[A\r", r"info status \nVM status: running\n\(skiff\) $")
t.type("print 1\033[D2\005+1\r", r"0x16\n\(skiff\) $")     # 21+1
t.type("device_del r\t\025print 3\r", r"device_del rng0 .*\n0x3\n\(skiff\) $")
t.type("in\tj\t\t", r"info j\w*obs $")
t.type("\003cpu 1\r", r"\(skiff\) $")
t.type("info cpus\r", r"\n\* CPU #1: ")
t.socket.sendall(b"qui")
t.socket.close()                             # and drops its line
other = Terminal(work + "/monitor")
other.type("t\r", r"unknown command: 't'")
other.socket.sendall(bytes(range(256)) * 64 + b"\003")
other.socket.close()
other = Terminal(work + "/monitor")
other.type("info status\r", r"VM status: running")
# A client that never reads delays no other.
other.socket.setblocking(False)
try:
    for _ in range(10000):
        other.socket.send(b"help\r" * 100)
except BlockingIOError:
    pass
expect("info status", "running")
PYTHON
}

test_quit_by_QMP() {
    start_count
    hmp <<'PYTHON'
hmp("quit")
PYTHON
    wait_skiff
    expect_status 0
}

test_keys_on_a_terminal_with_the_console() {
    start_own_guest count ms=50
    wait_output '^tick 2$'
    type_in 'inf\t stat\t\n'
    wait_output '^VM status: running$'
    type_in 'sto\t\n\033[A\033[A\n'
    wait_output '^VM status: paused(, I/O still in flight)?$'
    type_in '\033[A\033[A\025cont\n'
    wait_output "^tick $(($(grep -ac '^tick ' "$console") + 5))\$"
    type_in 'quit\n'
    wait_skiff
    expect_status 0
}

test_wrong_monitors_are_refused() {
    set_own_guest crash spin
    skiff "${own_guest[@]}" -serial null -mon chardev=nosuch
    expect_status 2
    expect_output "nosuch"
    skiff "${own_guest[@]}" -serial null -chardev null,id=c -mon c,mode=dance
    expect_status 2
    expect_output "mode"
    skiff "${own_guest[@]}" -serial null -monitor dance
    expect_status 2
    expect_output "-monitor dance: "
}

run_tests

# SPDX-License-Identifier: Apache-2.0
# For tests of a NIC on the tap device tap0 whose guest (guest-images/src/net-echo.c) sends back what it gets, and whose
# host's end is Python with sockets. Sourced in a network namespace of the test, after common.bash.

ip link set lo up

# make_tap: the tap device tap0, with the address of the guest's gateway.
make_tap() {
    ip link show tap0 >/dev/null 2>&1 || ip tuntap add tap0 mode tap ${multi_queue:+multi_queue}
    ip address replace 10.0.2.2/24 dev tap0
    ip link set tap0 up
}

# start_echo ARGUMENT…: net-echo on the tap device tap0, with QMP at $work/qmp.
start_echo() {
    make_tap
    set_own_guest net-echo "until=button ${guest_words-}" "$@"
    start_skiff "${own_guest[@]}" -serial "file:$console" -qmp "unix:$work/qmp,server=on,wait=off"
    wait_output '^net-echo: ready'
}

# drive_vm ARGUMENT…: runs the Python program on standard input with `vm`, a QMP client, and helpers.
# Its failure is the test's. Then the guest ends, and has passed.
drive_vm() {
    command -v python3 >/dev/null || skip "python3 is not installed"
    {
        cat <<'PYTHON'
import socket, sys, time
sys.path.insert(0, "tests/support")
from qmp import Qmp, QmpError
work = sys.argv[1]
vm = Qmp(work + "/qmp")
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(0.2)

def echo(data, tries=500):
    """Sends a datagram until it has come back. Returns how many were needed."""
    for n in range(1, tries + 1):
        udp.sendto(data, ("10.0.2.15", 7))
        try:
            while udp.recv(65536) != data:
                pass
            return n
        except TimeoutError:
            pass
    raise AssertionError("no answer from the guest")

def echoes(count, bytes=1000):
    for n in range(count):
        echo(b"%d:" % n + bytes * b"x")

def silent(data=b"lost", tries=3):
    """No answer comes."""
    for _ in range(tries):
        udp.sendto(data, ("10.0.2.15", 7))
        try:
            while True:
                assert udp.recv(65536) != data
        except TimeoutError:
            pass

def printed(line, times):
    end = time.monotonic() + vm.timeout
    while open(sys.argv[2]).read().count(line) < times:
        assert time.monotonic() < end, line
        time.sleep(0.02)

def refuse(text, command, error_class="GenericError", **arguments):
    e = vm.refusal(command, **arguments)
    assert text in e.desc and e.error_class == error_class, e

def human(line):
    return vm.cmd("human-monitor-command", **{"command-line": line})
PYTHON
        cat
        echo 'vm.cmd("system_powerdown")'
    } >"$work/drive.py"
    python3 "$work/drive.py" "$work" "$console" "$@" || fail "see above"
    wait_skiff
    expect_status 1
    expect_output '^net-echo: PASS '
}

# drive_stops COUNT: stops the VM, and lets it run, while requests come.
drive_stops() {
    drive_vm "$1" <<'PYTHON'
for n in range(int(sys.argv[3])):
    for k in range(20):
        udp.sendto(b"load %d" % k, ("10.0.2.15", 7))
    vm.cmd("stop")
    vm.cmd("cont")
    echo(b"after %d" % n)
PYTHON
}

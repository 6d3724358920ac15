#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: lab
# timeout: 900
# Sockets between host and guest by the host's vhost-vsock, with Debian's drivers: data both ways, stops and
# resets under load, unplugging under load. skiff's system calls are filtered.
. "$(dirname "$0")/common.bash"

guest_script='
modprobe vmw_vsock_virtio_transport
vsock-peer echo 1234 &
until [ -e /sys/bus/pci/slots/7 ]; do usleep 50000; done
until echo hello from the guest | vsock-peer cat 2 4321 >/tmp/got && [ -s /tmp/got ]; do usleep 100000; done # the host listens soon
echo "== got $(cat /tmp/got)"
echo "== ready"
until [ -e /tmp/never ]; do sleep 1; done
'

host_program='
import os, socket, sys, threading, time
sys.path.insert(0, "tests/support")
from qmp import Qmp
work, rounds = sys.argv[1], int(sys.argv[2])
vm = Qmp(work + "/qmp", timeout=400)
CID, PORT = 7, 1234

def connect():
    deadline = time.monotonic() + vm.timeout
    while True:
        s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        s.settimeout(vm.timeout)
        try:
            s.connect((CID, PORT))
            return s
        except OSError as error:
            s.close()
            assert time.monotonic() < deadline, error
            time.sleep(0.1)

def echo(size):
    """Sends random bytes; what comes back is the same."""
    data, got, s = os.urandom(size), bytearray(), connect()
    sender = threading.Thread(target=s.sendall, args=(data,))
    sender.start()
    while len(got) < size:
        part = s.recv(1 << 16)
        assert part, "the connection ended after %d of %d bytes" % (len(got), size)
        got += part
    sender.join()
    s.close()
    assert bytes(got) == data, "the bytes that came back differ"

def wait_console(text, times):
    deadline = time.monotonic() + vm.timeout
    while open(work + "/console", errors="replace").read().count(text) < times:
        assert time.monotonic() < deadline, "no " + text
        time.sleep(0.1)

class Load(threading.Thread):
    """Echoes until it is told to end; a lost connection may be fine."""
    def __init__(self):
        super().__init__()
        self.ends, self.done, self.error = False, 0, None
        self.start()
    def run(self):
        try:
            while not self.ends:
                echo(1 << 16)
                self.done += 1
        except (OSError, AssertionError) as error:
            self.error = error
    def end(self):
        self.ends = True
        self.join()

def greet():
    """Serves the connection that the guest makes when it boots."""
    c = listener.accept()[0]
    assert c.makefile("rb").readline() == b"hello from the guest\n"
    c.sendall(b"hello from the host\n")
    c.close()

listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
listener.settimeout(vm.timeout)
listener.bind((socket.VMADDR_CID_ANY, 4321))
listener.listen()
greet()
wait_console("== got hello from the host", 1)
wait_console("== ready", 1)
echo(1 << 20)
print("== data")

load = Load()
for i in range(rounds):
    before = load.done
    vm.cmd("stop")
    vm.cmd("cont")
    deadline = time.monotonic() + vm.timeout
    while load.done == before and load.error is None:
        assert time.monotonic() < deadline, "nothing moves after cont"
        time.sleep(0.01)
load.end()
assert load.error is None, load.error
print("== stops")

load = Load()
vm.cmd("system_reset")
greet()
load.end()
wait_console("== ready", 2)
echo(1 << 18)
print("== reset")

load = Load()
vm.cmd("device_del", id="vs")
vm.wait_event("DEVICE_DELETED", device="vs")
load.end()
vm.cmd("device_add", **{"driver": "vhost-vsock-pci", "id": "vs", "guest-cid": CID, "addr": "7"})
echo(1 << 18)
print("== unplugged and plugged")
vm.cmd("quit")
'

start_vm() {
    start_skiff -m 256 -smp 2 -display none -serial "file:$console" -sandbox on \
        -kernel build/linux/vmlinuz -initrd build/linux/initramfs.cpio.gz \
        -append "console=ttyS0 quiet skiff.run=sh:$(printf '%s' "$guest_script" | base64 -w0)" \
        -qmp "unix:$work/qmp,server=on,wait=off" -device vhost-vsock-pci,id=vs,guest-cid=7,addr=7 "$@"
}

test_data_survives_stops_and_the_device_resets_and_unplugging() {
    command -v python3 >/dev/null || skip "python3 is not installed"
    start_vm
    python3 -c "$host_program" "$work" "$(rounds lab=10 check=10 long=100)" >"$work/steps" 2>&1 ||
        fail "$(cat "$work/steps")"
    wait_skiff
    expect_status 0
    refute_output 'guest error|needs a reset|Assertion'
    expect_equal steps "$(grep -c '^==' "$work/steps")" 4
}

# answered CID: what the guest with that address echoes.
answered() {
    local said
    said=$(echo "hello $1" | timeout 10 "$peer" cat "$1" 1234 2>&1) && [ "$said" = "hello $1" ]
}

# wait_lost CID: until the clone has noticed that the connection of the template is not its own.
wait_lost() {
    local deadline=$((SECONDS + $(seconds 200)))
    until grep -q '^== lost' "$work/console.$1"; do
        [ $SECONDS -lt $deadline ] || fail "the connection is not reset in clone $1"
        sleep 0.1
    done
}

test_clones_have_addresses_of_their_own_and_their_connections_are_reset() {
    local cid deadline script peer=build/linux-programs/vsock-peer
    script='modprobe vmw_vsock_virtio_transport; mkfifo /tmp/f; vsock-peer echo 1234 & (echo "== connected"; exec sleep 100000) >/tmp/f &
        vsock-peer cat 2 4321 </tmp/f; echo "== lost"; wait'
    "$peer" echo 4321 &
    skiff -m 256 -display none -serial "file:$console" -timeout 300 -snapshot-at "line=== connected,file=$work/t" \
        -kernel build/linux/vmlinuz -initrd build/linux/initramfs.cpio.gz -device vhost-vsock-pci,id=vs,guest-cid=7 \
        -append "console=ttyS0 quiet skiff.run=sh:$(printf '%s' "$script" | base64 -w0)"
    expect_status 0
    for cid in 8 9; do
        : >"$work/console.$cid"
        "$SKIFF" -clone "$work/t,cid=$cid" -display none -serial "file:$work/console.$cid" </dev/null >"$work/log.$cid" 2>&1 &
    done
    deadline=$((SECONDS + $(seconds 200)))
    for cid in 8 9; do
        until answered "$cid"; do
            [ $SECONDS -lt $deadline ] || fail "clone $cid does not answer: $(cat "$work/log.$cid" "$work/console.$cid")"
            sleep 0.1
        done
        wait_lost "$cid"
    done
    answered 8 || fail 'the first clone does not answer beside the second'
    ! answered 7 || fail "somebody has the template's address"
}

kernel=(-display none -S -kernel build/linux/vmlinuz)

test_an_address_belongs_to_one_guest() {
    start_skiff "${kernel[@]}" -device vhost-vsock-pci,guest-cid=9 -qmp "unix:$work/qmp,server=on,wait=off"
    wait_listening "$work/qmp"
    skiff "${kernel[@]}" -device vhost-vsock-pci,guest-cid=9
    expect_status 2
    expect_output 'guest-cid=9 cannot be reserved: .*Address already in use'
    kill "$skiff_pid"
    wait_skiff
    expect_status 0
}

test_a_passed_descriptor_is_used() {
    exec {vsock}<>/dev/vhost-vsock
    start_skiff "${kernel[@]}" -sandbox on -device "vhost-vsock-pci,guest-cid=9,vhostfd=$vsock" \
        -qmp "unix:$work/qmp,server=on,wait=off"
    wait_listening "$work/qmp"
    expect_equal "descriptors of vhost-vsock" "$(find "/proc/$skiff_pid/fd" -lname /dev/vhost-vsock | wc -l)" 1
    kill "$skiff_pid"
    wait_skiff
    expect_status 0
}

run_tests

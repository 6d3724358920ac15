#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: lab
# timeout: 1200
# Debian's unmodified kernel on a tap device by the host's vhost-net, in a network namespace: TCP in both
# directions on a queue for each processor; stops, resets of the driver and of the machine, a link that goes
# down, and a NIC that is unplugged and plugged, all under load. skiff's system calls are filtered. vhost-net.sh has
# more resets of the machine.
[ -n "${NET_NAMESPACE-}" ] || NET_NAMESPACE=yes exec unshare -n "$0" "$@"
. "$(dirname "$0")/common.bash"

ip link set lo up

# The kernel's command line has room for little: the guest fetches the rest.
boot_script='
modprobe -a virtio_pci virtio_net
until [ -e /sys/class/net/eth0 ]; do usleep 50000; done
ip link set eth0 up && ip address add 10.0.2.15/24 dev eth0
until wget -q -O /tmp/script http://10.0.2.2:8000/script; do usleep 50000; done
. /tmp/script
'

guest_script=$guest_steps'
up() {
    until_true "[ -e /sys/class/net/eth0 ]"
    ip link set eth0 up && ip address add 10.0.2.15/24 dev eth0
}
reached() { until_true "ping -c 1 -W 1 10.0.2.2 >/dev/null"; }
carrier() { until_true "[ \"\$(cat /sys/class/net/eth0/carrier 2>/dev/null)\" = $1 ]"; }
case $(wget -q -O - http://10.0.2.2:8000/boot) in
*again*)
    step booted
    while wget -q -O /dev/null http://10.0.2.2:8000/64k; do :; done
    ;;
esac
step queues $(ls -d /sys/class/net/eth0/queues/rx-* | wc -l)
step fetched $(wget -q -O - http://10.0.2.2:8000/data | md5sum | cut -c1-32)
head -c $SIZE /dev/urandom >/tmp/data
nc 10.0.2.2 8001 </tmp/data
step sent $(md5sum </tmp/data | cut -c1-32)
for k in 0 1 2 3; do taskset $((1 << k)) sh -c "head -c 200000 /dev/zero | nc 10.0.2.2 8001" & pids="$pids $!"; done
wait $pids
step ready
step under $(wget -q -O - http://10.0.2.2:8000/data | md5sum | cut -c1-32)
for n in 1 2 3; do carrier 0; step down $n; carrier 1; reached; step up $n; done
dev=$(basename $(readlink /sys/class/net/eth0/device))
for n in $(seq $RESETS); do
    ping -i 0.002 10.0.2.2 >/dev/null & p=$!
    usleep 100000
    echo $dev >/sys/bus/virtio/drivers/virtio_net/unbind
    kill $p 2>/dev/null; wait $p 2>/dev/null
    echo $dev >/sys/bus/virtio/drivers/virtio_net/bind
    up
    reached
    step reset $n
done
for n in 1 2; do
    ping -i 0.002 10.0.2.2 >/dev/null & p=$!
    until_true "[ ! -e /sys/class/net/eth0 ]"
    kill $p 2>/dev/null; wait $p 2>/dev/null
    step unplugged $n
    up
    reached
    step plugged $n
done
step all
while wget -q -O /dev/null http://10.0.2.2:8000/64k; do :; done
'

host_program='
import hashlib, os, socketserver, sys, threading, time
from functools import partial
sys.path.insert(0, "tests/support")
import drive_linux
from qmp import Qmp
work, pid, guest_script = sys.argv[1:4]
size, stops, driver_resets, machine_resets = map(int, sys.argv[4:])
script = b"SIZE=%d RESETS=%d\n" % (size, driver_resets) + guest_script.encode()
vm = Qmp(work + "/qmp", timeout=400)
data = os.urandom(size)
taken, resets = [], 0

class Serve(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

class Http(socketserver.StreamRequestHandler):
    def handle(self):
        try:
            path = self.rfile.readline().split()[1].decode()
            while self.rfile.readline().strip():
                pass
            body = {"/data": data, "/64k": bytes(65536), "/script": script, "/boot": b"again" if resets else b"first"}[path]
            self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        except OSError:
            pass

class Sink(socketserver.BaseRequestHandler):
    def handle(self):
        md5 = hashlib.md5()
        while True:
            part = self.request.recv(1 << 16)
            if not part:
                break
            md5.update(part)
        taken.append(md5.hexdigest())

for port, handler in ((8000, Http), (8001, Sink)):
    threading.Thread(target=Serve(("10.0.2.2", port), handler).serve_forever, daemon=True).start()

def console():
    return open(work + "/console", errors="replace").read()

wait_step = partial(drive_linux.wait_step, work + "/console", vm.timeout)

def wait_taken(count, md5=None):
    deadline = time.monotonic() + vm.timeout
    while len(taken) < count or (md5 and md5 not in taken):
        assert time.monotonic() < deadline, (count, md5, taken)
        time.sleep(0.1)

def kernel_threads():
    """Those of vhost: kernel threads, or since Linux 6.4 threads of skiff."""
    count = 0
    for folder in ("/proc", "/proc/%s/task" % pid):
        for task in filter(str.isdigit, os.listdir(folder)):
            try:
                count += open("%s/%s/comm" % (folder, task)).read().startswith("vhost-")
            except OSError:
                pass
    return count

md5 = hashlib.md5(data).hexdigest()
assert wait_step("queues ([0-9]+)") == ("4",)
assert kernel_threads() >= 4, kernel_threads()
assert wait_step("fetched ([0-9a-f]+)") == (md5,), console()
wait_taken(1, wait_step("sent ([0-9a-f]+)")[0])
wait_step("ready")
wait_taken(5)
print("== data")
for n in range(stops):
    vm.cmd("stop")
    vm.cmd("cont")
    time.sleep(0.02)
assert wait_step("under ([0-9a-f]+)") == (md5,), console()
print("== stops", stops)
for n in "123":
    vm.cmd("set_link", name="nic0", up=False)
    wait_step("down " + n)
    vm.cmd("set_link", name="nic0", up=True)
    wait_step("up " + n)
print("== link")
wait_step("reset %d" % driver_resets)
print("== driver", driver_resets)
for n in "12":
    vm.cmd("device_del", id="nic0")
    vm.wait_event("DEVICE_DELETED", device="nic0")
    wait_step("unplugged " + n)
    vm.cmd("device_add", driver="virtio-net-pci", netdev="net0", id="nic0", addr="7", mq=True)
    wait_step("plugged " + n)
wait_step("all")
print("== plugged")
for resets in range(1, machine_resets + 1):
    time.sleep(1)
    vm.cmd("system_reset")
    deadline = time.monotonic() + vm.timeout
    while console().count("== booted") < resets:
        assert time.monotonic() < deadline, "not booted"
        time.sleep(0.1)
print("== resets", machine_resets)
vm.cmd("quit")
'

start_vm() {
    ip link delete tap0 2>/dev/null || true
    ip tuntap add tap0 mode tap multi_queue
    ip address add 10.0.2.2/24 dev tap0
    ip link set tap0 up
    start_skiff -m 384 -smp 4 -display none -serial "file:$console" -sandbox on \
        -kernel build/linux/vmlinuz -initrd build/linux/initramfs.cpio.gz \
        -append "console=ttyS0 quiet skiff.run=sh:$(printf '%s' "$boot_script" | base64 -w0)" \
        -qmp "unix:$work/qmp,server=on,wait=off" "$@"
}

test_everything_under_load() {
    local size
    command -v python3 >/dev/null || skip "python3 is not installed"
    size=$(($(rounds lab=4 check=16 long=64) << 20))
    start_vm -netdev tap,id=net0,ifname=tap0,script=no,queues=4,vhostforce=on \
        -device virtio-net-pci,netdev=net0,mq=on,id=nic0,addr=7
    python3 -c "$host_program" "$work" "$skiff_pid" "$guest_script" "$size" "$(rounds lab=20 check=100 long=100)" \
        "$(rounds lab=5 check=20 long=100)" "$(rounds lab=1 check=3 long=10)" >"$work/steps" 2>&1 ||
        fail "$(cat "$work/steps")"
    wait_skiff
    expect_status 0
    refute_output 'guest error|needs a reset|Assertion|warning'
    expect_equal steps "$(grep -c '^==' "$work/steps")" 6
}

test_a_descriptor_for_each_queue_can_be_passed() {
    exec {one}<>/dev/vhost-net {two}<>/dev/vhost-net
    ip link delete tap0 2>/dev/null || true
    ip tuntap add tap0 mode tap multi_queue
    start_skiff -display none -S -kernel build/linux/vmlinuz -sandbox on -qmp "unix:$work/qmp,server=on,wait=off" \
        -netdev "tap,id=net0,ifname=tap0,script=no,queues=2,vhostfds=$one:$two" -device virtio-net-pci,netdev=net0,mq=on
    wait_listening "$work/qmp"
    expect_equal "descriptors of vhost-net" "$(find "/proc/$skiff_pid/fd" -lname /dev/vhost-net | wc -l)" 2
    kill "$skiff_pid"
    wait_skiff
    expect_status 0
    skiff -display none -S -kernel build/linux/vmlinuz -netdev "tap,id=net0,ifname=tap0,script=no,queues=3,vhostfds=$one:$two"
    expect_status 2
    expect_output '3 descriptors are needed, one for each queue'
}

run_tests

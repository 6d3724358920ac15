#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: lab
# timeout: 1500
# Debian's unmodified kernel on virtio-net and a tap device, in a network namespace: ping, TCP in both directions with
# offloads, queues for each processor; stops, resets of the driver, a link that goes down, and a NIC that is unplugged
# and plugged, all under load.
[ -n "${NET_NAMESPACE-}" ] || NET_NAMESPACE=yes exec unshare -n "$0" "$@"
. "$(dirname "$0")/common.bash"

ip link set lo up

# Shell functions of the guest.
guest_functions=$guest_steps'
patience=3000
modprobe -a virtio_pci virtio_net
up() {
    until_true "[ -e /sys/class/net/eth0 ]"
    ip link set eth0 up && ip address add 10.0.2.15/24 dev eth0
}
reached() { until_true "ping -c 1 -W 1 10.0.2.2 >/dev/null"; }
served() { until_true "wget -q -O /dev/null http://10.0.2.2:8000/1 2>/dev/null"; } # the host may be slower to start
fetch() { wget -q -O - http://10.0.2.2:8000/$1 | md5sum | cut -c1-32; }
# Large writes: what nc itself reads and writes, 1024 bytes, may be a segment each.
send() {
    head -c $1 /dev/urandom >/tmp/data
    nc 10.0.2.2 8001 -e dd if=/tmp/data bs=65536 status=none
    md5sum </tmp/data | cut -c1-32
}
up
'

# start_guest SCRIPT ARGUMENT…: boots it with the tap device tap0; QMP at $work/qmp.
start_guest() {
    local script="$guest_functions $1"
    shift
    ip link delete tap0 2>/dev/null || true
    ip tuntap add tap0 mode tap ${multi_queue:+multi_queue}
    ip address add 10.0.2.2/24 dev tap0
    ip link set tap0 up
    start_skiff -m 384 -display none -serial "file:$console" -no-reboot \
        -kernel build/linux/vmlinuz -initrd build/linux/initramfs.cpio.gz \
        -append "console=ttyS0 quiet skiff.run=sh:$(printf '%s' "$script" | base64 -w0)" \
        -qmp "unix:$work/qmp,server=on,wait=off" "$@"
}

tap_nic=(-netdev tap,id=net0,ifname=tap0,script=no -device virtio-net-pci,netdev=net0,id=nic0,addr=7)

# drive_host ARGUMENT…: runs the Python program on standard input; then the guest ends with status 0.
drive_host() {
    {
        cat <<'PYTHON'
import re, sys, threading, time
from functools import partial
sys.path[:0] = ["tests/support", "tests/guest"]
import drive_linux
from net_wire import Capture, Server, md5_of
from qmp import Qmp
work = sys.argv[1]
vm = Qmp(work + "/qmp", timeout=400)
server = Server("10.0.2.2")

wait_step = partial(drive_linux.wait_step, work + "/console", vm.timeout)

def check_arrived(md5):
    """The guest has sent that."""
    deadline = time.monotonic() + vm.timeout
    while md5 not in server.taken:
        assert time.monotonic() < deadline, (md5, server.taken)
        time.sleep(0.1)
PYTHON
        cat
    } >"$work/drive.py"
    python3 "$work/drive.py" "$work" "$@" || fail "see above"
    wait_skiff 400
    expect_status 0
    expect_guest_status 0
    refute_output 'guest error'
}

test_TCP_in_both_directions_with_offloads() {
    local size
    size=$(rounds lab=4 check=64 long=256)
    start_guest "
served
ping -c 5 -W 2 -i 0.2 10.0.2.2 | grep -q ' 0% packet loss' && step ping
step fetched \$(fetch $((size << 20)))
step sent \$(send $((size << 20)))
step end" "${tap_nic[@]}" -smp 2
    drive_host "$((size << 20))" <<'PYTHON'
capture = Capture("tap0")
capture.start()
wait_step("ping")
assert wait_step("fetched ([0-9a-f]+)") == (md5_of(int(sys.argv[2])),)
check_arrived(*wait_step("sent ([0-9a-f]+)"))
capture.stop()
for from_guest in (True, False):
    assert capture.largest[from_guest] > 1514, capture.largest  # segmentation is left to the other side
    assert capture.partial[from_guest] > 10, capture.partial  # so are checksums
print(capture.count, capture.largest, capture.partial)
PYTHON
}

test_TCP_without_offloads() {
    start_guest "
served
step fetched \$(fetch 2000000)
step sent \$(send 2000000)
step end" -netdev tap,id=net0,ifname=tap0,script=no,vnet_hdr=off -device virtio-net-pci,netdev=net0,mrg_rxbuf=off
    drive_host <<'PYTHON'
capture = Capture("tap0")
capture.start()
assert wait_step("fetched ([0-9a-f]+)") == (md5_of(2000000),)
check_arrived(*wait_step("sent ([0-9a-f]+)"))
capture.stop()
assert capture.largest == {True: 1514, False: 1514}, capture.largest
assert capture.partial == {True: 0, False: 0}, capture.partial
PYTHON
}

test_a_queue_for_each_processor() {
    multi_queue=yes start_guest '
step queues $(ls -d /sys/class/net/eth0/queues/rx-* | wc -l)
served
for k in 1 2 3 4 5 6 7 8; do
    taskset $((1 << k % 4)) sh -c "head -c 1000000 /dev/zero | nc 10.0.2.2 8001" & pids="$pids $!"
done
wait $pids
for k in 0 1 2 3; do
    step interrupts $k $(grep "virtio[0-9]*-output.$k\$" /proc/interrupts | awk "{print \$2 + \$3 + \$4 + \$5}")
done
cat /sys/class/net/eth0/statistics/tx_packets
step end' -smp 4 -netdev tap,id=net0,ifname=tap0,script=no,queues=4 -device virtio-net-pci,netdev=net0,mq=on,id=nic0
    drive_host <<'PYTHON'
assert wait_step("queues ([0-9]+)") == ("4",)
wait_step("end")
deadline = time.monotonic() + vm.timeout
while len(server.taken) < 8:
    assert time.monotonic() < deadline, server.taken
    time.sleep(0.1)
assert len(set(server.taken)) == 1, server.taken
PYTHON
}

test_stops_under_load() {
    local size
    size=$(rounds lab=4 check=64 long=256)
    start_guest "
served
step ready
while :; do
    step fetched \$(fetch $((size << 20)))
    step sent \$(send $((size << 20)))
    case \$(wget -q -O - http://10.0.2.2:8000/stops) in over) break ;; esac
done
reached
step end" "${tap_nic[@]}" -smp 2
    drive_host "$((size << 20))" "$(rounds lab=30 check=100 long=100)" <<'PYTHON'
# the guest fetches and sends until all stops are over
size, stops = map(int, sys.argv[2:])
wait_step("ready")
for n in range(stops):
    vm.cmd("stop")
    vm.cmd("cont")
    time.sleep(0.05)
server.words["stops"] = "over"
wait_step("end")
said = open(work + "/console", errors="replace").read()
fetched, sent = (re.findall("^== %s (.*)$" % what, said, re.M) for what in ("fetched", "sent"))
assert set(fetched) == {md5_of(size)} and len(sent) == len(fetched), said
for md5 in sent:
    check_arrived(md5)
print(stops, "stops", len(sent), "rounds")
PYTHON
}

test_resets_of_the_driver_under_load() {
    local many
    many=$(rounds lab=15 check=100 long=100)
    start_guest "
reached
dev=\$(basename \$(readlink /sys/class/net/eth0/device))
for n in \$(seq $many); do
    ping -i 0.002 10.0.2.2 >/dev/null & p=\$!
    usleep 100000
    echo \$dev >/sys/bus/virtio/drivers/virtio_net/unbind
    kill \$p 2>/dev/null; wait \$p 2>/dev/null
    echo \$dev >/sys/bus/virtio/drivers/virtio_net/bind
    up
    reached
    step reset \$n
done
step end" "${tap_nic[@]}" -smp 2
    drive_host "$many" <<'PYTHON'
# the host sends all the time
import socket
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.setblocking(False)
running = True
def flood():
    while running:
        try:
            udp.sendto(1400 * b"x", ("10.0.2.15", 9))
        except OSError:
            pass
        time.sleep(0.002)
thread = threading.Thread(target=flood)
thread.start()
wait_step("reset " + sys.argv[2])
wait_step("end")
running = False
thread.join()
PYTHON
}

test_the_link_and_a_NIC_that_is_unplugged_and_plugged_under_load() {
    start_guest '
carrier() { until_true "[ \"\$(cat /sys/class/net/eth0/carrier 2>/dev/null)\" = $1 ]"; }
for n in 1 2 3; do
    reached
    step up $n
    carrier 0
    step down $n
    carrier 1
done
for n in 1 2 3; do
    reached
    step plugged $n
    ping -i 0.002 10.0.2.2 >/dev/null & p=$!
    until_true "[ ! -e /sys/class/net/eth0 ]"
    kill $p 2>/dev/null; wait $p 2>/dev/null
    step unplugged $n
    up
done
reached
step end' "${tap_nic[@]}" -smp 2
    drive_host <<'PYTHON'
for n in "123":
    wait_step("up " + n)
    vm.cmd("set_link", name="nic0", up=False)
    wait_step("down " + n)
    vm.cmd("set_link", name="nic0", up=True)
for n in "123":
    wait_step("plugged " + n)
    vm.cmd("device_del", id="nic0")
    vm.wait_event("DEVICE_DELETED", device="nic0")
    wait_step("unplugged " + n)
    vm.cmd("device_add", driver="virtio-net-pci", netdev="net0", id="nic0", addr="7")
wait_step("end")
PYTHON
}

run_tests

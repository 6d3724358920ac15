#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 900
# A NIC on a tap device, in a network namespace of this test, which needs no privilege. The guest
# (guest-images/src/net-echo.c) sends back what it gets; the host's end is Python with sockets. In the
# middle of that the VM is stopped, the link taken down, the back end replaced.
if [ -z "${NET_NAMESPACE-}" ]; then
    if unshare -rn sh -c 'ip tuntap add tap0 mode tap' 2>/dev/null; then
        NET_NAMESPACE=yes exec unshare -rn "$0" "$@"
    fi
    echo "no tap device can be made in a namespace of an ordinary user"
    exit 77
fi
. "$(dirname "$0")/common.bash"
. "$(dirname "$0")/net-echo.bash"

tap_nic=(-netdev tap,id=net0,ifname=tap0,script=no -device virtio-net-pci,netdev=net0,id=nic0)

test_frames_of_all_sizes() {
    start_echo "${tap_nic[@]}"
    drive_vm <<'PYTHON'
for size in list(range(0, 1470, 7)) + [1471, 1472]:
    echo(b"%04d" % size + size * b"y" if size <= 1468 else size * b"z")
PYTHON
}

test_without_offloads_and_with_small_queues_and_polling() {
    guest_words='mode=poll event_idx=0 indirect=0 qsize=4' start_echo \
        -nic tap,ifname=tap0,script=no,vnet_hdr=off,mac=52:54:00:00:00:99
    drive_vm <<'PYTHON'
echoes(300)
assert vm.cmd("query-rx-filter")[0]["main-mac"] == "52:54:00:00:00:99"
PYTHON
}

test_in_an_iothread_and_confined() {
    start_echo -sandbox on -object iothread,id=io -netdev tap,id=net0,ifname=tap0,script=no \
        -device virtio-net-pci,netdev=net0,iothread=io
    drive_vm <<<'echoes(300)'
}

test_inherited_descriptors_of_a_device_with_queues() {
    command -v python3 >/dev/null || skip "python3 is not installed"
    cat >"$work/with-fds" <<'PYTHON'
import fcntl, os, struct, sys
fds = []
for _ in range(2):
    fd = os.open("/dev/net/tun", os.O_RDWR)
    # TUNSETIFF: IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_MULTI_QUEUE
    fcntl.ioctl(fd, 0x400454ca, struct.pack("16sH22x", b"tap0", 0x5102))
    os.set_inheritable(fd, True)
    fds.append(fd)
os.execv(sys.argv[1], [a.replace("FDS", "%d:%d" % tuple(fds)) for a in sys.argv[1:]])
PYTHON
    ip link delete tap0 2>/dev/null || true
    local real=$SKIFF
    printf '#!/bin/sh\nexec python3 %s/with-fds %s "$@"\n' "$work" "$real" >"$work/skiff"
    chmod +x "$work/skiff"
    multi_queue=yes SKIFF=$work/skiff start_echo -netdev tap,id=net0,fds=FDS \
        -device virtio-net-pci,netdev=net0,mq=on
    drive_vm <<<'echoes(100)'
    ip link delete tap0 2>/dev/null || true
}

test_stop_and_cont_under_load() {
    start_echo "${tap_nic[@]}"
    drive_stops "$(rounds lab=10 check=100 long=300)"
}

test_resets_under_load() {
    start_echo "${tap_nic[@]}"
    drive_vm "$(rounds lab=3 check=20 long=100)" <<'PYTHON'
rounds = int(sys.argv[3])
for n in range(rounds):
    for k in range(20):
        udp.sendto(b"load %d" % k, ("10.0.2.15", 7))
    vm.cmd("system_reset")
    printed("net-echo: ready", n + 2)
    echo(b"after %d" % n)
PYTHON
}

test_the_link_goes_down_and_up() {
    start_echo "${tap_nic[@]}"
    drive_vm <<'PYTHON'
echo(b"first")
for n, name in enumerate(("nic0", "net0", "nic0")):
    vm.cmd("set_link", name=name, up=False)
    printed("link down", n + 1)
    silent()
    vm.cmd("set_link", name=name, up=True)
    printed("link up", n + 2)
    assert echo(b"up again") <= 3
refuse("Device 'eth7' not found", "set_link", "DeviceNotFound", name="eth7", up=True)
PYTHON
}

test_the_back_end_goes_and_another_one_comes() {
    start_echo "${tap_nic[@]}"
    drive_vm <<'PYTHON'
for k in range(20):
    udp.sendto(b"load %d" % k, ("10.0.2.15", 7))
refuse("Duplicate ID 'net0'", "netdev_add", type="tap", id="net0")
refuse("nearest is tap", "netdev_add", type="tab", id="net1")
vm.cmd("netdev_del", id="net0")
printed("link down", 1)
refuse("Device 'net0' not found", "netdev_del", "DeviceNotFound", id="net0")
vm.cmd("netdev_add", type="tap", id="net0", ifname="tap9", script="no")
vm.cmd("netdev_add", type="tap", id="net1", ifname="tap8", script="no")
assert "net0: index=0,type=tap,ifname=tap9" in human("info network"), human("info network")
vm.cmd("device_add", driver="virtio-net-pci", id="nic1", netdev="net1", mac="52:54:00:00:00:77")
refuse("in use by nic1", "device_add", driver="virtio-net-pci", netdev="net1")
vm.cmd("device_del", id="nic1")
human("netdev_del net1")
assert "net1" not in human("info network")
PYTHON
}

test_queries_and_announcements() {
    start_echo "${tap_nic[@]}"
    drive_vm <<'PYTHON'
info = human("info network")
assert "nic0: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:56" in info, info
assert " \\ net0: index=0,type=tap,ifname=tap0,script=no" in info, info
filters = vm.cmd("query-rx-filter")
assert len(filters) == 1 and filters[0]["name"] == "nic0" and filters[0]["promiscuous"], filters
assert filters == vm.cmd("query-rx-filter", name="nic0")
refuse("invalid net client name: eth0", "query-rx-filter", name="eth0")
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x8035))
wire.bind(("tap0", 0x8035))
wire.settimeout(vm.timeout)
vm.cmd("announce-self", initial=10, max=50, rounds=4, step=10)
for _ in range(4):
    frame = wire.recv(100)
    assert frame[:12].hex() == "ffffffffffff525400123456" and frame[22:28].hex() == "525400123456", frame.hex()
vm.cmd("announce-self", initial=10, max=50, rounds=1, step=10, interfaces=["other"])
human("announce_self nic0")
assert len(wire.recv(100)) == 60
PYTHON
}

test_a_script_sets_the_device_up() {
    printf '#!/bin/sh\nip address add 10.0.2.2/24 dev $1 && ip link set $1 up\n' >"$work/up"
    printf '#!/bin/sh\necho "$1 is down" >%s/down-ran\n' "$work" >"$work/down"
    chmod +x "$work/up" "$work/down"
    ip link delete tap0 2>/dev/null || true
    set_own_guest net-echo until=button -netdev "tap,id=n,script=$work/up,downscript=$work/down" \
        -device virtio-net-pci,netdev=n
    start_skiff "${own_guest[@]}" -serial "file:$console" -qmp "unix:$work/qmp,server=on,wait=off"
    wait_output '^net-echo: ready'
    drive_vm <<'PYTHON'
echoes(10)
vm.cmd("netdev_del", id="n")
assert open(work + "/down-ran").read() == "tap0 is down\n"
PYTHON
    rm "$work/down-ran"
    skiff -display none -S -timeout 1 -kernel build/guests/net-echo.elf -netdev "tap,id=n,script=$work/up,downscript=$work/down"
    expect_equal "the script at the end" "$(cat "$work/down-ran")" "tap0 is down"
    skiff -display none -S -timeout 1 -kernel build/guests/net-echo.elf -netdev "tap,id=n,script=$work/up,downscript=$work/down" -sandbox on
    expect_output "network script: cannot run .*: with -sandbox on programs are run at the start only"
}

run_tests

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 1800
# Disks, sources of random bytes and serial ports are plugged and unplugged under I/O, up to 500
# times each. The guest (guest-images/src/hotplug.c) counts them, and ends the test when data is
# wrong.
. "$(dirname "$0")/common.bash"

many=$(rounds lab=12 check=200 long=500)

# start_vm GUEST ARGUMENT…: with QMP at $work/qmp and the chardev c0 at $work/port.
start_vm() {
    local guest=$1
    shift
    set_own_guest "$guest" "seed=$RANDOM ${guest_words-}" "$@"
    start_skiff "${own_guest[@]}" -m 256 -serial "file:$console" \
        -qmp "unix:$work/qmp,server=on,wait=off" -qmp "unix:$work/qmp2,server=on,wait=off" \
        -chardev "socket,id=c0,path=$work/port,server=on,wait=off" -object iothread,id=io -object iothread,id=io2
}

# drive_vm ARGUMENT…: runs the Python program on standard input with `vm`, a QMP client, and
# helpers. Its failure is the test's.
drive_vm() {
    command -v python3 >/dev/null || skip "python3 is not installed"
    {
        cat <<'PYTHON'
import socket, sys, time
sys.path.insert(0, "tests/support")
from qmp import Qmp, QmpError
work = sys.argv[1]
vm = Qmp(work + "/qmp")

def plug(**device):
    vm.cmd("device_add", {k.rstrip("_"): v for k, v in device.items()})

def expect_deleted(*ids):
    """In any order."""
    left = set(ids)
    while left:
        data = vm.wait_event("DEVICE_DELETED")["data"]
        assert data["path"] == "/machine/peripheral/" + data["device"], data
        left.remove(data["device"])

def unplug(*ids):
    for i in ids:
        vm.cmd("device_del", id=i)
    expect_deleted(*ids)

def refuse(text, command, error_class="GenericError", **arguments):
    e = vm.refusal(command, **arguments)
    assert text in e.desc and e.error_class == error_class, e

def present(i):
    return any(d["qdev_id"] == i for bus in vm.cmd("query-pci") for d in bus["devices"])

def wait_hanging():
    """Until the disk of start_with_hanging_disk hangs."""
    while b"block_fault_inject" not in open(sys.argv[2], "rb").read():
        time.sleep(0.01)
PYTHON
        cat
    } >"$work/drive.py"
    python3 "$work/drive.py" "$work" "$@"
}

# the_rounds: Python code that plugs and unplugs; it calls `meanwhile()` in the middle of each
# round.
the_rounds='
port = socket.socket(socket.AF_UNIX)
port.connect(work + "/port")
port.settimeout(vm.timeout)
for n in range(int(sys.argv[2])):
    plug(driver="virtio-blk-pci", id="disk", drive="d0", iothread=("io", "io2")[n % 2])
    plug(driver="virtio-rng-pci", id="rng", iothread="io")
    plug(driver="virtio-serial-pci", id="serial")
    plug(driver="virtserialport", id="port", bus="serial.0", chardev="c0", name="port")
    ping = b"ping %d\n" % n
    port.sendall(ping)
    echo = b""
    while len(echo) < len(ping):
        echo += port.recv(len(ping))
    assert echo == ping, echo
    meanwhile(n)
    if n % 3 == 0: # a port may be removed before its device, or with it
        unplug("port")
    for i in ("disk", "rng", "serial"):
        vm.cmd("device_del", id=i)
    meanwhile(n)
    expect_deleted("disk", "rng", "serial", *(["port"] if n % 3 else []))
    assert len(vm.cmd("query-pci")[0]["devices"]) == 2
vm.cmd("system_powerdown")
'

# expect_pass ROUNDS: the guest has seen all rounds.
expect_pass() {
    wait_skiff
    expect_status 1
    expect_output "^hotplug: PASS disks=$1 rngs=$1 serials=$1 ports=$1 ejected=$((3 * $1)) "
}

test_many_times_under_io() {
    make_disk 1M
    start_vm hotplug -blockdev "driver=raw,node-name=d0,file.driver=file,file.filename=$disk"
    drive_vm "$many" <<<"
def meanwhile(n): pass
$the_rounds"
    expect_pass "$many"
}

test_stop_and_cont_in_between() {
    local few
    few=$(rounds lab=4 check=20 long=50)
    make_disk 1M
    start_vm hotplug -blockdev "driver=raw,node-name=d0,file.driver=file,file.filename=$disk"
    drive_vm "$few" <<<"
def meanwhile(n):
    if n % 2:
        vm.cmd('stop')
        vm.cmd('cont')
$the_rounds"
    expect_pass "$few"
}

test_a_device_is_plugged_and_unplugged_while_the_VM_is_stopped() {
    make_disk 1M
    start_vm hotplug -blockdev "driver=raw,node-name=d0,file.driver=file,file.filename=$disk"
    wait_output '^hotplug: ready'
    drive_vm <<'PYTHON'
vm.cmd("stop")
vm.wait_event("STOP")
plug(driver="virtio-blk-pci", id="disk", drive="d0")
vm.cmd("device_del", id="disk")
refuse("Device disk is already in the process of unplug", "device_del", id="disk")
assert present("disk")
vm.cmd("cont")
expect_deleted("disk")
assert not present("disk")
vm.cmd("system_powerdown")
PYTHON
    wait_skiff
    expect_status 1
    expect_output '^hotplug: PASS disks=1 rngs=0 '
}

# A sandbox creates no rings: iothreads use the initial ones, and return them.
test_rings_of_added_and_removed_iothreads_in_a_sandbox() {
    local few
    few=$(rounds lab=10 check=20 long=100) # more than the number of rings
    make_disk 1M
    start_vm hotplug -sandbox on
    wait_output '^hotplug: ready'
    drive_vm "$few" "$disk" <<'PYTHON'
def requests():
    (disk,) = vm.cmd("query-blockstats")
    assert disk["node-name"] == "late", disk
    return disk["stats"]["rd_operations"] + disk["stats"]["wr_operations"]

for n in range(int(sys.argv[2])):
    vm.cmd("object-add", qom_type="iothread", id="late")
    vm.cmd("blockdev-add", driver="file", node_name="late", filename=sys.argv[3], aio="io_uring")
    plug(driver="virtio-blk-pci", id="disk", drive="late", iothread="late")
    while requests() < 20:
        pass
    unplug("disk")
    vm.cmd("blockdev-del", node_name="late")
    vm.cmd("object-del", id="late")
vm.cmd("system_powerdown")
PYTHON
    wait_skiff
    expect_status 1
    expect_output "^hotplug: PASS disks=$few "
}

test_a_device_of_the_command_line_is_unplugged_and_plugged_again() {
    make_disk 1M
    start_vm hotplug -blockdev "driver=raw,node-name=d0,file.driver=file,file.filename=$disk" \
        -device virtio-blk-pci,id=disk,drive=d0,addr=7
    wait_output '^hotplug: ready'
    drive_vm <<'PYTHON'
unplug("disk")
plug(driver="virtio-blk-pci", id="disk", drive="d0", addr="7")
unplug("disk")
vm.cmd("system_powerdown")
PYTHON
    wait_skiff
    expect_status 1
    expect_output '^hotplug: PASS disks=2 .* ejected=2 '
}

test_a_device_plugged_before_the_guest_runs_is_set_up_like_any_other() {
    make_disk 1M
    start_vm hotplug -S -blockdev "driver=raw,node-name=d0,file.driver=file,file.filename=$disk"
    drive_vm <<'PYTHON'
plug(driver="virtio-blk-pci", id="disk", drive="d0")
for device in vm.cmd("query-pci")[0]["devices"]:
    for region in device["regions"]:
        assert region["address"] != -1, device
vm.cmd("cont")
unplug("disk")
vm.cmd("system_powerdown")
PYTHON
    wait_skiff
    expect_status 1
    expect_output '^hotplug: PASS disks=1 .* ejected=1 '
}

test_a_guest_that_never_answers() {
    start_vm count -device virtio-rng-pci,id=rng -device virtio-serial-pci,id=serial \
        -device virtserialport,id=port,bus=serial.0,chardev=c0,name=x
    wait_output '^tick 1'
    drive_vm <<'PYTHON'
vm.cmd("device_del", id="rng")
vm.cmd("device_del", id="/machine/peripheral/serial")
refuse("Device rng is already in the process of unplug", "device_del", id="rng")
refuse("Duplicate device ID 'rng'", "device_add", driver="virtio-rng-pci", id="rng")
assert present("rng") and present("serial")
vm.cmd("system_reset") # counts as an ejection
expect_deleted("rng", "port", "serial")
assert not present("rng") and not present("serial")
plug(driver="virtio-rng-pci", id="rng")
vm.cmd("device_del", id="rng")
vm.cmd("quit")
PYTHON
    wait_skiff
    expect_status 0
}

test_functions_of_a_slot_are_unplugged_together() {
    start_vm count
    wait_output '^tick 1'
    drive_vm <<'PYTHON'
plug(driver="virtio-rng-pci", id="one", addr="5.1") # function 0 comes last and announces all
plug(driver="virtio-rng-pci", id="zero", addr="5.0", multifunction=True)
refuse("function 0 already occupied by virtio-rng-pci", "device_add", driver="virtio-rng-pci", addr="5.2")
vm.cmd("device_del", id="one")
refuse("Device zero is already in the process of unplug", "device_del", id="zero")
vm.cmd("system_reset")
expect_deleted("zero", "one")
vm.cmd("quit")
PYTHON
    wait_skiff
    expect_status 0
}

# The guest has written to its disk; further writes never complete.
start_with_hanging_disk() {
    start_vm hotplug -blockdev \
        driver=fault,node-name=d0,hold=on,fail-op=write,fail-after=16,file.driver=mem,file.size=1M \
        -trace block_fault_inject
    wait_output '^hotplug: ready'
}

test_quit_while_an_unplug_waits_for_a_hung_disk() {
    guest_words=rude
    start_with_hanging_disk
    drive_vm "$output" <<'PYTHON'
plug(driver="virtio-blk-pci", id="disk", drive="d0")
wait_hanging()
vm.cmd("device_del", id="disk")
while present("disk"): # the guest ejects it at once
    pass
refused = vm.start("device_add", {"driver": "virtio-rng-pci", "id": "disk"}) # waits for the unplug
other = Qmp(work + "/qmp2")
assert other.cmd("query-status")["status"] == "running"
other.cmd("quit")
PYTHON
    wait_skiff
    expect_status 0
}

test_quit_while_a_driver_waits_for_the_reset_of_a_hung_disk() {
    start_with_hanging_disk
    drive_vm "$output" <<'PYTHON'
plug(driver="virtio-blk-pci", id="disk", drive="d0")
wait_hanging()
vm.cmd("device_del", id="disk")
assert present("disk")
assert vm.cmd("query-status")["status"] == "running"
vm.cmd("quit")
PYTHON
    wait_skiff
    expect_status 0
}

test_a_root_port_and_what_is_behind_it_stay() {
    start_vm count -device pcie-root-port,id=rp,addr=9 -device virtio-rng-pci,id=behind,bus=rp
    wait_output '^tick 1'
    drive_vm <<'PYTHON'
port = "Device 'pcie-root-port' does not support hotplugging"
refuse("Bus 'rp' does not support hotplugging", "device_add", driver="virtio-rng-pci", bus="rp")
refuse(port, "device_add", driver="pcie-root-port", id="rp2")
refuse(port, "device_del", id="rp")
refuse("Bus 'rp' does not support hotplugging", "device_del", id="behind")
buses = vm.cmd("query-pci")
assert [b["bus"] for b in buses] == [0, 1], buses
device, = buses[1]["devices"]
assert (device["qdev_id"], device["bus"], device["slot"]) == ("behind", 1, 0), device
assert all(r["address"] > 0 for r in device["regions"]), device
plug(driver="virtio-rng-pci", id="other")
PYTHON
}

test_invalid_devices_are_refused() {
    start_vm count -device virtio-rng-pci,id=rng,addr=4,multifunction=on -blockdev driver=mem,node-name=d0,size=1M
    wait_output '^tick 1'
    drive_vm <<'PYTHON'
add = "device_add"
refuse("Parameter 'driver' is missing", add)
refuse("Invalid parameter type for 'driver', expected: string", add, driver=1)
refuse("'virtio-rng-pcx' is not a valid device model name", add, driver="virtio-rng-pcx")
refuse("Parameter 'driver' expects a pluggable device type", add, driver="ich9-lpc")
refuse("Bus 'isa.0' does not support hotplugging", add, driver="pvpanic")
refuse("Duplicate device ID 'rng'", add, driver="virtio-rng-pci", id="rng")
refuse("Parameter 'id' expects an identifier", add, driver="virtio-rng-pci", id="1/x")
refuse("Bus 'pcie.1' not found", add, driver="virtio-rng-pci", bus="pcie.1")
refuse("Property 'virtio-rng-pci.vectorz' not found", add, driver="virtio-rng-pci", vectorz=1)
refuse("vectors", add, driver="virtio-rng-pci", vectors="many")
refuse("vectors", add, driver="virtio-rng-pci", vectors=[1])
refuse("PCI: slot 4 function 0 not available for virtio-rng-pci, in use by virtio-rng-pci,id=rng", add, driver="virtio-rng-pci", addr="4")
refuse("function 0 already occupied by virtio-rng-pci", add, driver="virtio-rng-pci", addr="4.1", id="f1")
refuse("drive=nothing", add, driver="virtio-blk-pci", drive="nothing")
refuse("No 'virtio-serial-bus' bus found for device 'virtserialport'", add, driver="virtserialport")
plug(driver="virtio-blk-pci", id="disk", drive="d0")
refuse("d0", add, driver="virtio-blk-pci", id="disk2", drive="d0")
plug(driver="virtio-serial-pci", id="serial", max_ports=3)
plug(driver="virtserialport", id="port", chardev="c0")
refuse("c0", add, driver="virtserialport", id="port2", chardev="c0")
plug(driver="virtserialport", id="port2")
refuse("no free port", add, driver="virtserialport", id="port3")
refuse("Bus 'nobody.0' not found", add, driver="virtserialport", bus="nobody.0")
unplug("port")
plug(driver="virtserialport", id="port", chardev="c0")
refuse("Device 'nobody' not found", "device_del", "DeviceNotFound", id="nobody")
refuse("Device '/machine/peripheral/x' not found", "device_del", "DeviceNotFound",
       id="/machine/peripheral/x")
refuse("Device 'q35-host' does not support hotplugging", "device_del",
       id="/machine/unattached/device[0]")
for slot in range(1, 31):
    if slot not in (1, 2, 4):
        plug(driver="virtio-rng-pci", id="full%d" % slot)
refuse("PCI: no slot/function available for virtio-rng-pci", add, driver="virtio-rng-pci")
refuse("Device 'nothing' not found", "device-list-properties", "DeviceNotFound", typename="nothing")
refuse("non-abstract", "device-list-properties", typename="pci-device")
names = [p["name"] for p in vm.cmd("device-list-properties", typename="virtio-blk-pci")]
assert "drive" in names and "addr" in names, names
types = [t["name"] for t in vm.cmd("qom-list-types", implements="pci-device")]
assert "virtio-blk-pci" in types and "pvpanic" not in types, types
assert vm.cmd("qom-list-types", implements="nothing") == []
assert any(t.get("abstract") for t in vm.cmd("qom-list-types", abstract=True))
vm.cmd("quit")
PYTHON
    wait_skiff
    expect_status 0
}

run_tests

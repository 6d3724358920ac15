#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 900
# Limits of disks by QMP while their guest uses them. blk-verify checks all data it reads. With a limit of a
# byte a second every request waits for hours, so whatever waits for one of them does not end in time.
. "$(dirname "$0")/common.bash"
. "$(dirname "$0")/verify-qmp.bash"

size=$(rounds lab=8M check=64M long=64M)

# change_limits NODE: stops, sections, resets and changes of the limits at random. NODE is "disk", which has limits
# as a drive, or "t", a node with those of group g.
change_limits() {
    client "$1" "$RANDOM" <<'PYTHON'
import random
node, seed = sys.argv[3], int(sys.argv[4])
random.seed(seed)
print("seed", seed, flush=True)
zero = {"bps_rd": 0, "bps_wr": 0, "iops_rd": 0, "iops_wr": 0}
wait_until(guest_works)

def set_limits(bps, iops):
    if node == "t":
        for g in "g", "h":
            vm.cmd("qom-set", path="/objects/" + g, property="limits",
                   value={"bps-total": bps, "iops-total": iops})
    else:
        vm.cmd("block_set_io_throttle", dict(zero, id="vd0", bps=bps, iops=iops, group=random.choice("gh")))

def stop():
    stop_vm()
    assert stats()["in_flight"] == 0
    vm.cmd("cont")

def resize():
    vm.cmd("block_resize", node_name=node, size=rounds(lab=8, check=64, long=64) << 20)

def reset():
    vm.cmd("system_reset")
    vm.wait_event("RESET")

def change_group():
    if node == "t":
        vm.cmd("blockdev-reopen", options=[{"driver": "throttle", "node-name": "t", "file": "disk",
                                            "throttle-group": random.choice("gh")}])

for n in range(rounds(lab=8, check=50, long=500)):
    set_limits(*random.choice([(1, 0), (0, 1), (1 << 20, 0), (0, 300), (0, 0)]))
    time.sleep(random.random() / 50)
    random.choice([stop, stop, resize, reset, change_group])()
set_limits(0, 0)
before = stats()["wr_operations"]
wait_until(lambda: stats()["wr_operations"] != before)
vm.cmd("system_powerdown")
vm.wait_closed()
PYTHON
    expect_verified
}

test_limits_of_a_drive_change_under_io() {
    make_disk "$size"
    start_vm until=button -object iothread,id=io -drive "if=none,id=disk,format=raw,file=$disk,iops=100" \
        -device virtio-blk-pci,id=vd0,drive=disk,iothread=io,num-queues=2
    change_limits disk
}

test_limits_of_a_node_change_under_io() {
    make_disk "$size"
    start_vm until=button -object iothread,id=io -object throttle-group,id=g -object throttle-group,id=h \
        -blockdev "driver=file,node-name=disk,filename=$disk" \
        -blockdev driver=throttle,node-name=t,file=disk,throttle-group=g \
        -device virtio-blk-pci,id=vd0,drive=t,iothread=io,num-queues=2
    change_limits t
}

# Two disks in two iothreads share a group.
test_the_vm_stops_and_ends_while_requests_wait() {
    make_disk "$size"
    cp "$disk" "$work/other.img"
    start_vm until=button -object iothread,id=io -object iothread,id=io2 \
        -drive "if=none,id=disk,format=raw,file=$disk,group=g" -device virtio-blk-pci,id=vd0,drive=disk,iothread=io \
        -drive "if=none,id=other,format=raw,file=$work/other.img"
    client <<'PYTHON'
wait_until(guest_works)
limit = {"bps": 1, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0, "group": "g"}
vm.cmd("device_add", driver="virtio-blk-pci", id="vd1", drive="other", iothread="io2")
vm.cmd("block_set_io_throttle", dict(limit, device="disk"))
vm.cmd("block_set_io_throttle", dict(limit, id="vd1"))
assert [d["inserted"]["group"] for d in vm.cmd("query-block")] == ["g", "g"]
assert vm.cmd("human-monitor-command", command_line="info block").count("I/O throttling:   bps=1 ") == 2
stop_vm()
assert stats()["in_flight"] == 0
vm.cmd("cont")
vm.cmd("quit") # with all requests of the guest waiting
vm.wait_closed()
PYTHON
    wait_skiff 100
    expect_status 0
}

run_tests

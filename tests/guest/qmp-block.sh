#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 900
# Disks by QMP while their guest uses them: queried, counted, reopened, resized, added, deleted,
# failing, hanging. blk-verify checks all data it reads.
. "$(dirname "$0")/common.bash"
. "$(dirname "$0")/verify-qmp.bash"

disk_arguments() {
    echo -object iothread,id=io -blockdev "driver=file,node-name=disk,filename=$disk,discard=unmap" \
        -device virtio-blk-pci,id=vd0,drive=disk,iothread=io,num-queues=2
}

test_a_disk_is_reopened_resized_and_measured_under_io() {
    make_disk 64M
    start_vm until=button $(disk_arguments)
    client "$disk" "$direct" <<'PYTHON'
path, has_direct = sys.argv[3], sys.argv[4] == "yes"
wait_until(guest_works)
base = {"driver": "file", "node-name": "disk", "filename": path, "discard": "unmap"}
variants = [{"aio": "io_uring"}, {"aio": "threads", "cache": {"no-flush": True}}]
if has_direct:
    variants += [{"aio": "native", "cache": {"direct": True}}, {"cache": {"direct": True}}]
last = 0
for n in range(rounds(lab=8, check=40, long=400)):
    options = dict(base, **variants[n % len(variants)])
    vm.cmd("blockdev-reopen", options=[options])
    assert disk()["inserted"]["cache"]["direct"] == options.get("cache", {}).get("direct", False)
    refuse("written to by", "blockdev-reopen", options=[dict(base, **{"read-only": True})])
    vm.cmd("block_resize", node_name="disk", size=64 << 20)
    if n % 3 == 0: # in a stopping, stopped, or starting VM
        vm.cmd("stop")
        vm.cmd("blockdev-reopen", options=[dict(base, aio="io_uring")])
        vm.cmd("cont")
    refuse("Node disk is in use", "blockdev-del", node_name="disk")
    refuse("object 'io' is in use, can not be deleted", "object-del", id="io")
    now = stats()["wr_operations"]
    assert now >= last
    last = now
wait_until(lambda: stats()["wr_operations"] > last)
vm.cmd("system_powerdown")
vm.wait_closed()
PYTHON
    expect_verified
}

# In a stopped VM the counts do not change, and a histogram started before has counted each request.
test_counts_and_histograms_agree() {
    make_disk 64M
    start_vm until=button $(disk_arguments)
    client <<'PYTHON'
wait_until(guest_works)
vm.cmd("stop")
vm.wait_event("STOP")
vm.cmd("block-latency-histogram-set", id="vd0", boundaries=[1000, 100000, 10000000])
before = stats()
assert before["in_flight"] == 0
time.sleep(0.05)
assert stats()["wr_operations"] == before["wr_operations"]
vm.cmd("cont")
wait_until(lambda: stats()["rd_operations"] > before["rd_operations"] + 100)
wait_until(lambda: all(stats()[op + "_operations"] > before[op + "_operations"] for op in ("wr", "flush", "unmap")))
vm.cmd("stop")
vm.wait_event("STOP")
after = stats()
for op in "rd", "wr", "flush":
    histogram = after[op + "_latency_histogram"]
    assert histogram["boundaries"] == [1000, 100000, 10000000]
    done = after[op + "_operations"] - before[op + "_operations"]
    # A stop also flushes, which is a request of the disk, not of the guest.
    assert sum(histogram["bins"]) == done > 0, (op, histogram, done)
    assert after[op + "_total_time_ns"] > before[op + "_total_time_ns"]
    assert after["failed_%s_operations" % op] == 0
assert after["unmap_bytes"] > 0 and 0 < after["wr_highest_offset"] <= 64 << 20
vm.cmd("block-latency-histogram-set", id="/machine/peripheral/vd0/virtio-backend")
assert "rd_latency_histogram" not in stats()
vm.cmd("quit")
vm.wait_closed()
PYTHON
    wait_skiff
    expect_status 0
}

test_a_full_disk_stops_the_vm_and_is_reported() {
    make_disk 64M
    start_vm ops=300 -S -blockdev \
        "driver=fault,node-name=disk,fail-op=write,fail-after=20,fail-count=1,errno=28,file.driver=file,file.filename=$disk" \
        -device virtio-blk-pci,id=vd0,drive=disk,werror=stop
    client <<'PYTHON'
vm.cmd("cont")
data = vm.wait_event("BLOCK_IO_ERROR")["data"]
assert data == {"qom-path": "/machine/peripheral/vd0/virtio-backend", "device": "",
                "node-name": "disk", "operation": "write", "action": "stop", "nospace": True,
                "reason": "No space left on device"}, data
vm.wait_event("STOP")
assert vm.cmd("query-status") == {"status": "io-error", "running": False}
assert disk()["io-status"] == "nospace"
assert stats()["failed_wr_operations"] == 1
vm.cmd("cont")
PYTHON
    expect_verified
}

test_nodes_and_iothreads_are_added_and_deleted_under_io() {
    make_disk 64M
    start_vm "until=button disk=0" $(disk_arguments)
    cp "$disk" "$work/other.img"
    client "$work/other.img" <<'PYTHON'
wait_until(guest_works)
for n in range(rounds(lab=6, check=50, long=500)):
    vm.cmd("object-add", qom_type="iothread", id="io1")
    vm.cmd("blockdev-add", driver="raw", node_name="other",
           file={"driver": "file", "filename": sys.argv[3]})
    refuse("Duplicate nodes with node-name='other'", "blockdev-add", driver="null-co",
           node_name="other")
    assert "other" in [i["node-name"] for i in vm.cmd("query-named-block-nodes")]
    vm.cmd("blockdev-del", node_name="other")
    vm.cmd("object-del", id="io1")
# A node moves to the iothread of its device and stays there while the device exists.
vm.cmd("object-add", qom_type="iothread", id="io1")
# In a sandbox a later iothread has no ring.
aio = "threads" if os.environ.get("SKIFF_UNCONFINED") else "io_uring"
vm.cmd("blockdev-add", driver="file", node_name="other", filename=sys.argv[3], aio=aio)
vm.cmd("device_add", driver="virtio-blk-pci", id="vd1", drive="other", iothread="io1")
assert stats("vd1")["in_flight"] == 0
refuse("object 'io1' is in use, can not be deleted", "object-del", id="io1")
refuse("Node other is in use", "blockdev-del", node_name="other")
# A file has one writer, also within one process.
refuse("is in use by another drive or process", "blockdev-add", driver="file", node_name="x",
       filename=disk()["inserted"]["file"])
before = stats()["rd_operations"]
wait_until(lambda: stats()["rd_operations"] > before)
vm.cmd("quit")
vm.wait_closed()
PYTHON
    wait_skiff
    expect_status 0
}

test_a_hung_disk_does_not_block_queries() {
    make_disk 64M
    start_vm until=button -blockdev \
        "driver=fault,node-name=disk,fail-op=any,fail-after=50,hold=on,errno=0,file.driver=file,file.filename=$disk" \
        -device virtio-blk-pci,id=vd0,drive=disk -qmp "unix:$work/qmp2,server=on,wait=off"
    client <<'PYTHON'
wait_until(lambda: stats()["in_flight"] > 0 and stats()["idle_time_ns"] > 50000000)
reopen = vm.start("blockdev-reopen", {"options": [{"driver": "fault", "node-name": "disk"}]})
with Qmp(work + "/qmp2") as other:
    began = time.monotonic()
    for n in range(20):
        assert len(other.cmd("query-block")) == 1
        assert other.cmd("query-jobs") == []
    other.cmd("blockdev-add", driver="null-co", node_name="n")
    other.cmd("blockdev-del", node_name="n")
    assert time.monotonic() - began < vm.timeout
    other.cmd("quit")
    other.wait_closed()
PYTHON
    wait_skiff
    expect_status 0
}

test_a_drive_by_another_process_needs_locking_off() {
    make_disk 64M
    start_vm until=button $(disk_arguments)
    client <<'PYTHON'
wait_until(guest_works)
vm.cmd("stop")
PYTHON
    own_guest hello '' -drive "if=none,id=d,format=raw,file=$disk"
    expect_status 2
    expect_output "is in use by process"
    own_guest hello '' -drive "if=none,id=d,format=raw,file=$disk,file.locking=off"
    expect_status 1
    kill "$skiff_pid"
    wait_skiff
}

test_a_passed_descriptor_can_be_a_disk() {
    make_disk 64M
    start_vm until=button $(disk_arguments)
    cp "$disk" "$work/other.img"
    client "$work/other.img" <<'PYTHON'
with open(sys.argv[3], "r+b") as f:
    fdset = vm.cmd("add-fd", fds=[f.fileno()])["fdset-id"]
os.unlink(sys.argv[3])
vm.cmd("blockdev-add", driver="file", node_name="given", filename="/dev/fdset/%d" % fdset)
info = next(i for i in vm.cmd("query-named-block-nodes") if i["node-name"] == "given")
assert info["image"]["virtual-size"] == 64 << 20 and info["file"] == "/dev/fdset/%d" % fdset, info
vm.cmd("blockdev-del", node_name="given")
vm.cmd("remove-fd", fdset_id=fdset)
refuse("cannot be opened", "blockdev-add", driver="file", node_name="given",
       filename="/dev/fdset/%d" % fdset)
vm.cmd("quit")
vm.wait_closed()
PYTHON
    wait_skiff
    expect_status 0
}

run_tests

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 600
# blk-verify checks every byte that a disk on virtio-scsi reads and writes, by each completion method,
# and while other LUNs and media come and go, the VM stops and the disk grows.
. "$(dirname "$0")/common.bash"

ops=$(rounds lab=100 check=600 long=2000)

verify() { # DRIVE-OPTIONS CONTROLLER-OPTIONS WORDS ARGUMENT…
    local drive=$1 controller=$2 words=$3
    shift 3
    own_guest blk-verify "bus=scsi ops=$ops seed=$RANDOM $words" -device "virtio-scsi-pci,id=scsi0$controller" \
        -drive "if=none,id=disk,format=raw,file=$disk$drive" -device "scsi-hd,drive=disk,scsi-id=3,lun=300" "$@"
    expect_status 1
    expect_output '^blk-verify: PASS ops=[1-9]'
}

test_each_completion_method() {
    local way all='1,poll 1,irq 1,intx 4,poll 4,irq 4,intx'
    make_disk 64M
    for way in $(rounds lab='1,poll 4,irq 4,intx' check="$all" long="$all"); do
        verify ,cache=writeback,discard=unmap ",num_queues=${way%,*},iothread=io" \
            "queues=${way%,*} mode=${way#*,} target=3 lun=300" -smp 2 -object iothread,id=io
    done
}

test_several_iothreads() {
    make_disk 64M
    verify ,cache=writeback,discard=unmap \
        ,num_queues=4,iothread-vq-mapping.0.iothread=io,iothread-vq-mapping.1.iothread=io2 \
        "queues=4 mode=irq target=3 lun=300" -smp 2 -object iothread,id=io -object iothread,id=io2
}

test_without_the_page_cache() {
    make_disk 64M
    [ -n "$direct" ] || skip "no file system here has O_DIRECT"
    verify ,cache=none,aio=io_uring,discard=unmap ,num_queues=2,iothread=io "queues=2 mode=irq target=3 lun=300" -smp 2 \
        -object iothread,id=io
}

host_program='
import sys
sys.path.insert(0, "tests/support")
from qmp import Qmp, QmpError
work, rounds = sys.argv[1], int(sys.argv[2])
vm = Qmp(work + "/qmp")

def refused(text, command, **args):
    try:
        vm.cmd(command, **args)
    except QmpError as e:
        assert text in e.desc, e.desc
        return
    raise AssertionError(command + " succeeded")

def drive(name):
    return next(d for d in vm.cmd("query-block") if d["qdev"] == name)

def moved(opened):
    assert vm.wait_event("DEVICE_TRAY_MOVED", id="cd")["data"] == {"device": "cd0", "id": "cd", "tray-open": opened}

for round in range(rounds):
    vm.cmd("device_add", driver="scsi-hd", id="hot", drive="d1", bus="scsi0.0", **{"scsi-id": 3, "lun": 5})
    refused("lun already used", "device_add", driver="scsi-cd", id="x", bus="scsi0.0", **{"scsi-id": 3, "lun": 5})
    vm.cmd("stop")
    vm.cmd("device_add", driver="scsi-cd", id="x", bus="scsi0.0")
    vm.cmd("cont")
    vm.cmd("device_del", id="x")
    vm.wait_event("DEVICE_DELETED", device="x")
    vm.cmd("device_del", id="hot")
    vm.wait_event("DEVICE_DELETED", device="hot")
    vm.cmd("block_resize", size=(64 + round + 1) << 20, **{"node-name": "d0"})
    vm.cmd("blockdev-change-medium", id="cd", filename=work + "/cd%u" % (round % 2))
    moved(True)
    moved(False)
    assert drive("cd")["inserted"]["file"] == work + "/cd%u" % (round % 2)
vm.cmd("eject", device="cd0")
moved(True)
refused("no such", "device_add", driver="scsi-cd", id="x", drive="cd0", bus="scsi0.0")
assert "inserted" not in drive("cd") and drive("cd")["tray_open"] and drive("cd")["removable"]
vm.cmd("blockdev-add", driver="file", filename=work + "/cd0", **{"node-name": "m", "read-only": True})
vm.cmd("blockdev-insert-medium", id="cd", **{"node-name": "m"})
refused("already is a medium", "blockdev-insert-medium", id="cd", **{"node-name": "m"})
refused("in use", "blockdev-del", **{"node-name": "m"})
vm.cmd("blockdev-close-tray", id="cd")
moved(False)
refused("is not open", "blockdev-remove-medium", id="cd")
vm.cmd("blockdev-open-tray", id="cd")
vm.cmd("blockdev-remove-medium", id="cd")
vm.cmd("blockdev-del", **{"node-name": "m"})
refused("is not removable", "eject", id="hd")
refused("exactly one", "eject")
refused("not found", "eject", id="none")
refused("No ", "blockdev-change-medium", id="cd", filename=work + "/none")
refused("only reads", "blockdev-change-medium", id="cd", filename=work + "/cd1", **{"read-only-mode": "read-write"})
for driver in ("scsi-block", "scsi-generic"):
    refused("skiff has no device", "device_add", driver=driver, id="x")
refused("not found", "device_add", driver="scsi-cd", id="x", bus="scsi9.0")
text = vm.cmd("human-monitor-command", **{"command-line": "change cd " + work + "/cd1"})
assert text == "", text
text = vm.cmd("human-monitor-command", **{"command-line": "info block"})
assert "Removable device: not locked, tray closed" in text, text
vm.cmd("system_powerdown")
'

test_luns_and_media_come_and_go() {
    command -v python3 >/dev/null || skip "python3 is not installed"
    make_disk 64M
    truncate -s 1M "$work/hot" "$work/cd0" "$work/cd1" "$work/iso"
    set_own_guest blk-verify "bus=scsi until=button seed=$RANDOM queues=2 mode=irq target=3 lun=300 limit_ms=100000" -smp 2 \
        -object iothread,id=io -device virtio-scsi-pci,id=scsi0,iothread=io,num_queues=2 \
        -blockdev "driver=raw,node-name=d0,file.driver=file,file.filename=$disk" -device scsi-hd,id=hd,drive=d0,scsi-id=3,lun=300 \
        -blockdev "driver=raw,node-name=d1,file.driver=file,file.filename=$work/hot" \
        -drive "if=none,id=cd0,media=cdrom,format=raw,file=$work/iso" -device scsi-cd,id=cd,drive=cd0 \
        -qmp "unix:$work/qmp,server=on,wait=off"
    start_skiff "${own_guest[@]}" -serial "file:$console"
    wait_output '^blk-verify: sectors='
    python3 -c "$host_program" "$work" "$(rounds lab=2 check=6 long=100)" || fail "$(tail -n 12 "$output" "$console")"
    wait_skiff
    expect_status 1
    printed '^blk-verify: PASS ops=[1-9]' || fail "$(tail -n 3 "$console")"
}

test_what_skiff_lacks_is_refused_by_name() {
    truncate -s 64K "$work/bios"
    skiff --limit 60 -bios "$work/bios" -device scsi-hd,drive=none
    expect_status 2
    expect_output 'needs a SCSI bus.*virtio-scsi-pci'
    skiff --limit 60 -bios "$work/bios" -drive "if=scsi,format=raw,file=$work/bios"
    expect_status 2
    expect_output 'virtio-scsi-pci'
    skiff --limit 60 -bios "$work/bios" -device scsi-generic
    expect_status 2
    expect_output 'scsi-hd and scsi-cd'
}

run_tests

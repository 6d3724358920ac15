#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: lab
# timeout: 900
# Linux writes to an ext4 file system, on virtio-blk and on virtio-scsi, and fio verifies what it reads there,
# while block jobs run in generated order: snapshots, commit, stream, mirror with pivot, backup. Then
# e2fsck and qemu-img find no errors. This is for `make check-long`.
. "$(dirname "$0")/common.bash"
. "$(dirname "$0")/verify-qmp.bash"
. "$(dirname "$0")/linux-fio.bash"

# schedule SECONDS DEVICE…: the arguments for the disk "node0".
schedule() {
    local seconds=$1 image
    shift
    [ "$TEST_ROUNDS" = long ] || skip "it takes minutes: make check-long"
    command -v fio >/dev/null || skip "fio is not installed: tests/install-deps long"
    make_fio_image "$work/disk.qcow2"
    start_skiff -m 512 -display none -no-reboot -serial "file:$console" -object iothread,id=io \
        -qmp "unix:$work/qmp,server=on,wait=off" -qmp "unix:$work/qmp2,server=on,wait=off" \
        -kernel build/linux/vmlinuz -initrd build/linux/initramfs.cpio.gz \
        -append "console=ttyS0 quiet skiff.run=sh:$(fio_script "$seconds" | base64 -w0)" \
        -blockdev "driver=file,node-name=file0,discard=unmap,aio=io_uring,filename=$work/disk.qcow2" \
        -blockdev driver=qcow2,node-name=node0,discard=unmap,file=file0 "$@"
    LINUX=$((400 << 20)) client "$work/disk.qcow2" "${SKIFF_TEST_SEED:-$RANDOM}" \
        snapshot,commit,stream,mirror,active_commit,backup aio=io_uring cluster_size=64k <tests/guest/blk_jobs.py
    wait_skiff 100
    expect_status 0
    grep -q '^skiff-guest: exit 0' "$console" || fail "fio or the guest failed: $(tail -n 20 "$console")"
    while read -r image; do
        qemu-img check -q -f qcow2 "$image" >"$work/check" 2>&1 || [ $? -eq 3 ] || fail "$image: $(cat "$work/check")"
    done <"$work/chain"
    qemu-img convert -f qcow2 -O raw "$(head -n 1 "$work/chain")" "$work/disk.raw"
    e2fsck -fn "$work/disk.raw" >"$work/check" 2>&1 || fail "e2fsck: $(cat "$work/check")"
}

test_virtio_blk() {
    schedule 120 -device virtio-blk-pci,id=vd0,drive=node0,iothread=io
}
test_virtio_scsi() {
    schedule 120 -device virtio-scsi-pci,id=scsi,iothread=io \
        -device scsi-hd,id=vd0,drive=node0,bus=scsi.0
}

run_tests

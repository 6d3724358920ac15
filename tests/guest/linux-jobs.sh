#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: lab
# timeout: 900
# Linux writes to an ext4 file system, on virtio-blk and on virtio-scsi, and fio verifies what it reads there,
# while block jobs run in generated order: snapshots, commit, stream, mirror with pivot, backup. Then the last
# copies are equal to the disk, e2fsck and qemu-img find no errors, and skiff is as idle as before. This
# is for `make check-long`.
. "$(dirname "$0")/common.bash"
. "$(dirname "$0")/verify-qmp.bash"
. "$(dirname "$0")/linux-fio.bash"

# schedule SECONDS OPTIONS DEVICE…: OPTIONS are those of file nodes, the arguments DEVICE are for the disk "node0".
schedule() {
    local seconds=$1 options=$2 image disk=$work/disk.qcow2
    shift 2
    [ "$TEST_ROUNDS" = long ] || skip "it takes minutes: make check-long"
    command -v fio >/dev/null || skip "fio is not installed: tests/install-deps long"
    # The lab's files are in memory, except there.
    [ ! -d /scratch ] || disk=/scratch/disk.qcow2
    make_fio_image "$disk"
    start_skiff -m 512 -display none -no-reboot -serial stdio -object iothread,id=io \
        -qmp "unix:$work/qmp,server=on,wait=off" -qmp "unix:$work/qmp2,server=on,wait=off" \
        -kernel build/linux/vmlinuz -initrd build/linux/initramfs.cpio.gz \
        -append "console=ttyS0 quiet skiff.run=sh:$(fio_script "$seconds" | base64 -w0)" \
        -blockdev "driver=file,node-name=file0,discard=unmap,filename=$disk,$options" \
        -blockdev driver=qcow2,node-name=node0,discard=unmap,file=file0 "$@"
    console=$output LINUX=yes DISK_SIZE=$((400 << 20)) SKIFF_PID=$skiff_pid KEYBOARD=$work/keyboard client "$disk" \
        "${SKIFF_TEST_SEED:-$RANDOM}" snapshot,commit,stream,mirror,mirror_copy,active_commit,backup,grouped,incremental "$options" cluster_size=64k \
        < <(cat tests/guest/blk_jobs_nodes.py tests/guest/blk_jobs.py) >"$work/report" || fail "the schedule failed: $(cat "$work/report")"
    sed 's/^/# /' "$work/report" >&"$report"
    wait_skiff 100
    expect_status 0
    printed '^skiff-guest: exit 0' || fail "fio or the guest failed"
    printed '^fio has verified [1-9][0-9]* KiB' || fail "fio has not verified"
    grep -a '^fio has verified' "$output" | sed 's/^/# /' >&"$report"
    while read -r image; do
        qemu-img check -q -f qcow2 "$image" >"$work/check" 2>&1 || [ $? -eq 3 ] || fail "$image: $(cat "$work/check")"
    done <"$work/chain"
    qemu-img convert -f qcow2 -O raw "$(head -n 1 "$work/chain")" "$disk.raw"
    e2fsck -fn "$disk.raw" >"$work/check" 2>&1 || fail "e2fsck: $(cat "$work/check")"
    rm -f "$disk" "$disk".*
}

test_virtio_blk() {
    schedule 150 aio=io_uring -device virtio-blk-pci,id=vd0,drive=node0,iothread=io
}
test_virtio_scsi() {
    schedule 150 aio=native,cache.direct=on -device virtio-scsi-pci,id=scsi,iothread=io \
        -device scsi-hd,id=vd0,drive=node0,bus=scsi.0
}

# What is found is of interest without a failure, too.
exec {report}>&1
run_tests

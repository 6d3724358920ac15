#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 1800
# Block jobs in generated order while blk-verify uses the disk: external snapshots, mirror with and without
# pivot, commit, stream, backup. Jobs are paused, slowed down and cancelled, and the VM is stopped,
# resized (a drained section) and reset beside them. The guest reads what it wrote; copies are equal to the
# disk at their time; qemu-img finds no errors.
. "$(dirname "$0")/common.bash"
. "$(dirname "$0")/verify-qmp.bash"

# schedule OPERATIONS OPTIONS [QCOW2-OPTIONS]: OPERATIONS are names of methods of Schedule, OPTIONS those of file nodes.
# With mirror_replaces the disk is a filter, "above", on top of the images.
schedule() {
    local size root=node0 above=()
    size=$(rounds lab=8 check=64 long=64)
    make_overlay "${size}M" "${3:-cluster_size=64k}"
    at_end "rm -f '$disk'.*"
    [ -n "$direct" ] || [[ $2 != *cache.direct=on* ]] || skip "no file system here has O_DIRECT"
    if [[ $1 == *mirror_replaces* ]]; then
        root=above
        above=(-object throttle-group,id=group -blockdev driver=throttle,throttle-group=group,node-name=above,file=node0)
    fi
    start_vm "until=button qd=4" -object iothread,id=io -qmp "unix:$work/qmp2,server=on,wait=off" \
        -blockdev "driver=file,node-name=file0,discard=unmap,filename=$disk$2" \
        -blockdev driver=qcow2,node-name=node0,discard=unmap,file=file0 \
        "${above[@]}" -device "virtio-blk-pci,id=vd0,drive=$root,iothread=io,num-queues=2"
    DISK_SIZE=$((size << 20)) client "$disk" "${SKIFF_TEST_SEED:-$RANDOM}" "$1" "$2" "${3:-cluster_size=64k}" < <(cat tests/guest/blk_jobs_nodes.py tests/guest/blk_jobs.py)
    expect_verified
    local image
    while read -r image; do
        qemu-img check -q -f qcow2 "$image" >"$work/check" 2>&1 || [ $? -eq 3 ] || fail "$image: $(cat "$work/check")"
    done <"$work/chain"
}

test_snapshots_commit_and_stream() { schedule snapshot,commit,stream ,aio=io_uring; }
test_mirror() { schedule mirror,mirror_copy,mirror_replaces ,aio=io_uring,cache.direct=on; }
test_active_commit() { schedule snapshot,active_commit ,aio=threads; }
test_backup() { schedule backup,grouped,incremental,snapshot ,aio=native,cache.direct=on; }
test_everything() { schedule snapshot,commit,stream,mirror,mirror_copy,active_commit,backup,grouped,incremental ,aio=io_uring cluster_size=16k,extended_l2=on; }

run_tests

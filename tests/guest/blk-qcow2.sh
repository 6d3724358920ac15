#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 1800
# blk-verify on a qcow2 overlay of a disk: with every engine, by the page cache and without, while
# the VM is stopped, drained and reset. Afterwards qemu-img finds neither errors nor leaks. A dirty bitmap
# has what has changed.
. "$(dirname "$0")/common.bash"

ops=$(rounds lab=100 check=600 long=4000)

# make_overlay OPTIONS: $overlay over $disk, which has no zeroes; sets $direct.
make_overlay() {
    make_disk 64M
    dd if=/dev/urandom of="$disk" bs=1M count=48 conv=notrunc status=none
    overlay=$disk.qcow2
    test_files+=("$overlay")
    qemu-img create -q -f qcow2 -o "$1" -b "$(realpath "$disk")" -F raw "$overlay" 64M
}

check_overlay() {
    qemu-img check -q "$overlay" || fail "qemu-img check ends with $?"
}

# verify QCOW2-OPTIONS DRIVE-OPTIONS WORDS
verify() {
    make_overlay "$1"
    [ -n "$direct" ] || [[ $2 != *cache=none* ]] || skip "no file system here has O_DIRECT"
    own_guest blk-verify "ops=$ops seed=$RANDOM queues=2 $3" -smp 2 -object iothread,id=io \
        -drive "if=none,id=disk,format=qcow2,discard=unmap,file=$overlay$2" \
        -device virtio-blk-pci,drive=disk,num-queues=2,iothread=io
    expect_status 1
    expect_output '^blk-verify: PASS ops=[1-9]'
    check_overlay
}

test_threads_by_the_page_cache() { verify cluster_size=64k ,aio=threads,cache=writeback mode=irq; }
test_io_uring_without_the_page_cache() { verify cluster_size=64k ,aio=io_uring,cache=none mode=poll; }
test_native_without_the_page_cache() { verify cluster_size=4k ,aio=native,cache=none mode=irq; }
test_writethrough() { verify cluster_size=64k ,cache=writethrough mode=irq; }
test_subclusters() { verify cluster_size=64k,extended_l2=on ,aio=io_uring,cache=writeback mode=irq; }
test_lazy_refcounts_and_small_clusters() {
    verify cluster_size=512,lazy_refcounts=on,refcount_bits=1 ,aio=io_uring,cache=writeback 'mode=irq max=64k'
}
# The trace goes to the file "copies".
test_copy_on_read() {
    make_overlay cluster_size=64k
    own_guest blk-verify "ops=$ops seed=$RANDOM queues=2 mode=irq" -smp 2 -object iothread,id=io \
        -trace block_copy_read -D "$work/copies" \
        -drive "if=none,id=disk,format=qcow2,discard=unmap,aio=io_uring,copy-on-read=on,file=$overlay" \
        -device virtio-blk-pci,drive=disk,num-queues=2,iothread=io
    expect_status 1
    expect_output '^blk-verify: PASS ops=[1-9]'
    grep -q 'block_copy_read node=disk ' "$work/copies" || fail "nothing was copied"
    check_overlay
}
test_copy_on_read_by_a_filter() {
    make_overlay cluster_size=16k,extended_l2=on
    own_guest blk-verify "ops=$ops seed=$RANDOM queues=2 mode=irq" -smp 2 -object iothread,id=io \
        -blockdev "driver=qcow2,node-name=top,discard=unmap,file.driver=file,file.filename=$overlay" \
        -blockdev driver=copy-on-read,node-name=disk,discard=unmap,file=top \
        -device virtio-blk-pci,drive=disk,num-queues=2,iothread=io
    expect_status 1
    expect_output '^blk-verify: PASS ops=[1-9]'
    check_overlay
}
test_version_2() { verify compat=0.10 ,aio=threads,cache=unsafe mode=irq; }

# pause_briefly: 10 to 40 ms.
pause_briefly() {
    sleep "0.0$((RANDOM % 31 + 10))"
}

test_stop_resize_and_reset_with_requests_in_flight() {
    local i times deadline
    times=$(rounds lab=8 check=40 long=200)
    make_overlay cluster_size=64k
    start_own_guest blk-verify "until=button seed=$RANDOM qd=16 limit_ms=100000 mode=irq" -smp 2 \
        -object iothread,id=io \
        -drive "if=none,id=disk,format=qcow2,discard=unmap,aio=io_uring,file=$overlay" \
        -device virtio-blk-pci,drive=disk,iothread=io,num-queues=2
    wait_words 'blk-verify: sectors' 1
    for ((i = 0; i < times; i++)); do
        case $((RANDOM % 4)) in
        0) monitor system_reset ;;
        1) monitor 'block_resize disk 64M' ;;
        *)
            monitor stop
            pause_briefly
            monitor cont
            ;;
        esac
        pause_briefly
    done
    deadline=$((SECONDS + $(seconds 100)))
    while kill -0 "$skiff_pid" 2>/dev/null; do
        [ $SECONDS -lt $deadline ] || fail "the guest does not end"
        monitor system_powerdown
        sleep 0.05
    done
    wait_skiff
    expect_status 1
    expect_output '^blk-verify: PASS ops=[1-9]'
    check_overlay
}

# dirty_parts NAME: of the overlay, one "OFFSET LENGTH" a line, as qemu-nbd exports the bitmap
dirty_parts() {
    local socket=$overlay.nbd pid
    test_files+=("$socket")
    qemu-nbd -r -B "$1" -f qcow2 --socket="$(realpath -m "$socket")" "$overlay" >/dev/null 2>&1 &
    pid=$!
    until [ -S "$socket" ] || ! kill -0 $pid 2>/dev/null; do sleep 0.01; done
    qemu-img map --output=json --image-opts \
        "driver=nbd,server.type=unix,server.path=$(realpath "$socket"),x-dirty-bitmap=qemu:dirty-bitmap:$1" |
        sed -nE 's/.*"start": ([0-9]+), "length": ([0-9]+),.*"data": false.*/\1 \2/p'
    wait $pid
}

# The dirty parts, copied over the disk from before, give the disk from after.
test_a_bitmap_has_what_the_guest_has_changed() {
    local offset length dirty=0
    make_overlay cluster_size=64k
    qemu-img bitmap --add -g 32k "$overlay" changes
    test_files+=("$overlay.before" "$overlay.after")
    qemu-img convert -O raw "$overlay" "$overlay.before"
    own_guest blk-verify "ops=$ops seed=$RANDOM queues=2 mode=irq max=64k" -smp 2 -object iothread,id=io \
        -drive "if=none,id=disk,format=qcow2,discard=unmap,file=$overlay,aio=io_uring" \
        -device virtio-blk-pci,drive=disk,num-queues=2,iothread=io
    expect_status 1
    expect_output '^blk-verify: PASS ops=[1-9]'
    check_overlay
    qemu-img convert -O raw "$overlay" "$overlay.after"
    while read -r offset length; do
        dirty=$((dirty + length))
        dd if="$overlay.after" of="$overlay.before" bs=32k skip=$((offset / 32768)) seek=$((offset / 32768)) \
            count=$(((length + 32767) / 32768)) conv=notrunc status=none
    done < <(dirty_parts changes)
    [ $dirty -gt 0 ] || fail "no part is dirty"
    cmp "$overlay.before" "$overlay.after" || fail "the bitmap lacks a change"
}

run_tests

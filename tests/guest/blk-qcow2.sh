#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 1800
# blk-verify on a qcow2 overlay of a disk: with every engine, by the page cache and without, while
# the VM is stopped, drained and reset. Afterwards qemu-img finds neither errors nor leaks. A dirty bitmap
# has what has changed.
. "$(dirname "$0")/common.bash"

ops=$(rounds lab=100 check=600 long=4000)

# verify QCOW2-OPTIONS DRIVE-OPTIONS WORDS
verify() {
    make_overlay 64M "$1"
    [ -n "$direct" ] || [[ $2 != *cache=none* ]] || skip "no file system here has O_DIRECT"
    own_guest blk-verify "ops=$ops seed=$RANDOM queues=2 $3" -smp 2 -object iothread,id=io \
        -drive "if=none,id=disk,format=qcow2,discard=unmap,file=$disk$2" \
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
    make_overlay 64M cluster_size=64k
    own_guest blk-verify "ops=$ops seed=$RANDOM queues=2 mode=irq" -smp 2 -object iothread,id=io \
        -trace block_copy_read -D "$work/copies" \
        -drive "if=none,id=disk,format=qcow2,discard=unmap,aio=io_uring,copy-on-read=on,file=$disk" \
        -device virtio-blk-pci,drive=disk,num-queues=2,iothread=io
    expect_status 1
    expect_output '^blk-verify: PASS ops=[1-9]'
    grep -q 'block_copy_read node=disk ' "$work/copies" || fail "nothing was copied"
    check_overlay
}
test_copy_on_read_by_a_filter() {
    make_overlay 64M cluster_size=16k,extended_l2=on
    own_guest blk-verify "ops=$ops seed=$RANDOM queues=2 mode=irq" -smp 2 -object iothread,id=io \
        -blockdev "driver=qcow2,node-name=top,discard=unmap,file.driver=file,file.filename=$disk" \
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
    make_overlay 64M
    start_own_guest blk-verify "until=button seed=$RANDOM qd=16 limit_ms=100000 mode=irq" -smp 2 \
        -object iothread,id=io \
        -drive "if=none,id=disk,format=qcow2,discard=unmap,aio=io_uring,file=$disk" \
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
    local socket=$disk.nbd pid
    test_files+=("$socket")
    qemu-nbd -r -B "$1" -f qcow2 --socket="$(realpath -m "$socket")" "$disk" >/dev/null 2>&1 &
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
    make_overlay 64M cluster_size=64k
    qemu-img bitmap --add -g 32k "$disk" changes
    test_files+=("$disk.before" "$disk.after")
    qemu-img convert -O raw "$disk" "$disk.before"
    own_guest blk-verify "ops=$ops seed=$RANDOM queues=2 mode=irq max=64k" -smp 2 -object iothread,id=io \
        -drive "if=none,id=disk,format=qcow2,discard=unmap,file=$disk,aio=io_uring" \
        -device virtio-blk-pci,drive=disk,num-queues=2,iothread=io
    expect_status 1
    expect_output '^blk-verify: PASS ops=[1-9]'
    check_overlay
    qemu-img convert -O raw "$disk" "$disk.after"
    while read -r offset length; do
        dirty=$((dirty + length))
        dd if="$disk.after" of="$disk.before" bs=32k skip=$((offset / 32768)) seek=$((offset / 32768)) \
            count=$(((length + 32767) / 32768)) conv=notrunc status=none
    done < <(dirty_parts changes)
    [ $dirty -gt 0 ] || fail "no part is dirty"
    cmp "$disk.before" "$disk.after" || fail "the bitmap lacks a change"
}

# A killed skiff leaves leaks at most.
test_a_killed_vm_leaves_its_overlay_usable() {
    local i times status
    times=$(rounds lab=2 check=5 long=50)
    make_overlay 64M
    for ((i = 0; i < times; i++)); do
        start_own_guest blk-verify "until=button seed=$RANDOM qd=16 mode=poll" -smp 2 \
            -drive "if=virtio,format=qcow2,discard=unmap,file=$disk"
        wait_output '^blk-verify: '
        pause_briefly
        kill -KILL "$skiff_pid"
        wait_skiff
        expect_status 137
        status=0
        qemu-img check -q -f qcow2 "$disk" >"$work/check" 2>&1 || status=$?
        [[ $status = [03] ]] || fail "check: $(cat "$work/check")"
    done
    own_guest blk-verify 'ops=300' -drive "if=virtio,format=qcow2,file=$disk"
    expect_status 1
    expect_output '^blk-verify: PASS ops=[1-9]'
}

run_tests

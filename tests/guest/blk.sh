#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 1800
# blk-verify checks every byte that virtio-blk reads and writes, with every engine, cache mode,
# number of queues and completion method, with a separate iothread and without.
. "$(dirname "$0")/common.bash"

ops=$(rounds lab=100 check=600 long=2000)

# verify DRIVE-OPTIONS DEVICE-OPTIONS WORDS ARGUMENT…: runs blk-verify on $disk and expects it to
# pass.
verify() {
    local drive=$1 device=$2 words=$3
    shift 3
    own_guest blk-verify "ops=$ops seed=$RANDOM $words" \
        -drive "if=none,id=disk,format=raw,file=$disk$drive" -device "virtio-blk-pci,drive=disk$device" "$@"
    expect_status 1
    expect_output '^blk-verify: PASS ops=[1-9]'
}

# verify_all DRIVE-OPTIONS: 1 and 4 queues, polled and by interrupt, with an iothread and without.
# In the lab each method runs, but not with each number of queues.
verify_all() {
    local way queues mode all='1,poll 1,irq 1,intx 4,poll 4,irq 4,intx'
    for way in $(rounds lab='1,poll 4,irq 4,intx' check="$all" long="$all"); do
        queues=${way%,*} mode=${way#*,}
        verify "$1" ",num-queues=$queues,iothread=io" "queues=$queues mode=$mode" -smp 2 -object iothread,id=io
    done
    verify "$1" ",num-queues=2" "queues=2 mode=irq" -smp 2
    verify "$1" ",num-queues=4,iothread-vq-mapping.0.iothread=io,iothread-vq-mapping.1.iothread=io2" \
        "queues=4 mode=$(rounds lab=irq check=intx long=poll)" -smp 2 -object iothread,id=io -object iothread,id=io2
}

# One test for each engine and cache mode, defined below.
engine_test() { # AIO CACHE
    make_disk 64M
    [ "$2" != none ] || [ -n "$direct" ] || skip "no file system here has O_DIRECT"
    verify_all ",aio=$1,cache=$2,discard=unmap"
}

test_threads_without_the_page_cache() { engine_test threads none; }
test_threads_by_the_page_cache() { engine_test threads writeback; }
test_io_uring_without_the_page_cache() { engine_test io_uring none; }
test_io_uring_by_the_page_cache() { engine_test io_uring writeback; }
test_native_without_the_page_cache() { engine_test native none; }

# The guest reads back what it writes; the image and the folder of temporary files stay as they were.
test_snapshot_writes_elsewhere() {
    make_disk 64M
    local before
    before=$(sha256sum <"$disk")
    mkdir "$work/tmp"
    TMPDIR=$work/tmp verify ,cache=writeback,snapshot=on ',iothread=io' mode=irq -object iothread,id=io
    TMPDIR=$work/tmp verify ,cache=writeback '' mode=irq -snapshot
    [ "$before" = "$(sha256sum <"$disk")" ] || fail "the image has changed"
    [ -z "$(ls -A "$work/tmp")" ] || fail "a temporary file is left"
    verify ,cache=writeback,snapshot=off '' mode=irq -snapshot
    [ "$before" != "$(sha256sum <"$disk")" ] || fail "snapshot=off has written elsewhere"
    TMPDIR=$work/none own_guest blk-verify '' -drive "if=virtio,format=raw,file=$disk,snapshot=on"
    expect_status 2
    expect_output 'snapshot=on needs a temporary file.*TMPDIR'
}

test_native_needs_O_DIRECT() {
    make_disk 64M
    own_guest hello '' -drive "if=virtio,format=raw,file=$disk,aio=native,cache=writeback"
    expect_status 2
    expect_output '^skiff: .*aio=native'
}

test_writethrough_and_directsync() {
    make_disk 64M
    verify ,cache=writethrough '' mode=irq
    [ -z "$direct" ] || verify ,cache=directsync,aio=native '' mode=irq
}

test_discards_that_are_ignored_and_unsafe_flushes() {
    make_disk 64M
    verify ,cache=unsafe,discard=ignore '' mode=irq
}

test_features_one_by_one() {
    make_disk 64M
    local words
    for words in indirect=0 event_idx=0 'indirect=0 event_idx=0' odd=0 qsize=32 pci=cf8 bars=anew \
        apic=x2apic 'max=1M' 'qd=64'; do
        verify ,cache=writeback '' "mode=irq $words"
    done
}

test_device_features_turned_off() {
    make_disk 64M
    local option
    for option in indirect_desc=off event_idx=off queue-size=32 queue-size=1024; do
        verify ,cache=writeback ",$option" mode=irq
    done
}

test_the_serial_number_is_what_the_guest_reads() {
    make_disk 64M
    verify ,cache=writeback ,serial=skiff-serial-1 'serial=skiff-serial-1'
    expect_output 'id="skiff-serial-1"'
}

test_two_disks_in_two_iothreads() {
    make_disk 64M
    truncate -s 64M "$work/other"
    local number
    for number in 0 1; do
        own_guest blk-verify "ops=$ops disk=$number mode=irq" -smp 2 \
            -object iothread,id=io0 -object iothread,id=io1 \
            -drive "if=none,id=disk0,format=raw,file=$disk" -device virtio-blk-pci,drive=disk0,iothread=io0 \
            -drive "if=none,id=disk1,format=raw,file=$work/other" -device virtio-blk-pci,drive=disk1,iothread=io1
        expect_status 1
        expect_output '^blk-verify: PASS ops=[1-9]'
    done
}

test_a_disk_is_found_by_its_id_with_any_node_name() {
    make_disk 64M
    local id=drive-6b1c3f2a-9d1e-4a53-8c2b-0a0f1e2d3c4b # exceeds the length of a node name
    own_guest blk-verify "ops=$ops mode=irq" -object iothread,id=io \
        -drive "if=none,id=$id,format=raw,file=$disk" -device "virtio-blk-pci,drive=$id,iothread=io"
    expect_status 1
    expect_output '^blk-verify: PASS ops=[1-9]'
    verify ,node-name=another '' mode=irq
}

test_a_blockdev_is_a_disk_too() {
    make_disk 64M
    own_guest blk-verify "ops=$ops mode=irq" \
        -blockdev "driver=file,node-name=file0,filename=$disk" -blockdev driver=raw,node-name=disk0,file=file0 \
        -device virtio-blk-pci,drive=disk0
    expect_status 1
    expect_output '^blk-verify: PASS ops=[1-9]'
    own_guest blk-verify "ops=$ops mode=irq" \
        -blockdev '{"driver":"raw","node-name":"disk0","file":{"driver":"file","filename":"'"$disk"'"}}' \
        -device '{"driver":"virtio-blk-pci","drive":"disk0"}'
    expect_status 1
    expect_output '^blk-verify: PASS ops=[1-9]'
}

test_what_the_guest_wrote_is_in_the_file() {
    make_disk 64M
    verify ,cache=writeback '' 'mode=poll ops=50'
    [ "$(tr -d '\0' <"$disk" | head -c 1 | wc -c)" -eq 1 ] || fail "the file has only zeroes"
}

test_memory_that_is_a_shared_memfd() {
    make_disk 64M
    verify ,cache=writeback '' mode=irq \
        -object memory-backend-memfd,id=ram,size=128M,share=on -machine q35,memory-backend=ram
}

# The checker must detect a disk that changes by itself; otherwise the other tests prove nothing.
test_a_corrupted_disk_is_detected() {
    make_disk 64M
    start_own_guest blk-verify 'ms=300000 span=1M' \
        -drive "if=none,id=disk,format=raw,file=$disk,cache=writeback" -device virtio-blk-pci,drive=disk
    while kill -0 "$skiff_pid" 2>/dev/null; do
        dd if=/dev/urandom of="$disk" bs=64k count=16 conv=notrunc status=none
    done
    wait_skiff
    expect_status 3
    expect_output '^mismatch: lba='
}

run_tests

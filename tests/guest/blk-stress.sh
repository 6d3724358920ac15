#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 1800
# The VM is stopped, drained, started, reset and ended at random moments while blk-verify has
# requests in flight. No request may be lost, executed twice, or wait for ever.
. "$(dirname "$0")/common.bash"

size=$(rounds lab=8M check=64M long=64M)

# start_verify DRIVE-OPTIONS WORDS ARGUMENT…: one queue per processor, until finish_verify. $iothreads: the
# device's option; default: one iothread.
start_verify() {
    local drive=$1 words=$2 cpus depth
    shift 2
    cpus=$(rounds lab=2 check=4 long=4)
    depth=$(rounds lab=16 check=32 long=32)
    start_own_guest blk-verify "until=button seed=$RANDOM qd=$depth limit_ms=100000 $words" -smp "$cpus" \
        -object iothread,id=io -object iothread,id=io2 \
        -drive "if=none,id=disk,format=raw,file=$disk,discard=unmap$drive" \
        -device "virtio-blk-pci,drive=disk,${iothreads:-iothread=io},num-queues=$cpus" "$@"
}

# finish_verify: sends the end command until the guest ends, since a reset under way drops it. The
# guest must have found no error.
finish_verify() {
    local deadline=$((SECONDS + $(seconds 100)))
    while kill -0 "$skiff_pid" 2>/dev/null; do
        [ $SECONDS -lt $deadline ] || fail "the guest does not end"
        monitor system_powerdown
        sleep 0.05
    done
    wait_skiff
    expect_status 1
    expect_output '^blk-verify: PASS ops=[1-9]'
}

# pause_briefly: 10 to 40 ms.
pause_briefly() {
    sleep "0.0$((RANDOM % 31 + 10))"
}

# stop_and_start DRIVE-OPTIONS WORDS: stops and starts the VM while the guest works.
stop_and_start() {
    local i times
    times=$(rounds lab=5 check=50 long=200)
    make_disk "$size"
    [ -n "$direct" ] || [[ $1 != *cache=none* ]] || skip "no file system here has O_DIRECT"
    start_verify "$1" "$2"
    wait_words 'blk-verify: sectors' 1
    for ((i = 0; i < times; i++)); do
        monitor stop
        [ $((RANDOM % 2)) -eq 0 ] || pause_briefly
        # A second stop or start must change nothing.
        [ $((RANDOM % 8)) -ne 0 ] || monitor stop
        monitor cont
        [ $((RANDOM % 8)) -ne 0 ] || monitor cont
        # A separate drained section, in a VM that runs or is about to stop again.
        [ $((RANDOM % 3)) -ne 0 ] || monitor "block_resize disk $size"
        pause_briefly
    done
    finish_verify
    ! printed 'block_resize: |^Error: ' || fail "a disk could not be resized"
}

test_stop_and_cont_with_threads() { stop_and_start ,aio=threads,cache=writeback mode=irq; }
test_stop_and_cont_with_io_uring() { stop_and_start ,aio=io_uring,cache=none mode=irq; }
test_stop_and_cont_with_native() { stop_and_start ,aio=native,cache=none mode=irq; }
test_stop_and_cont_with_polling() { stop_and_start ,aio=io_uring,cache=writeback mode=poll; }
test_stop_and_cont_with_INTx() { stop_and_start ,aio=threads,cache=writeback mode=intx; }

# Two iothreads share the device's queues.
mapping=iothread-vq-mapping.0.iothread=io,iothread-vq-mapping.1.iothread=io2
test_stop_and_cont_with_two_iothreads() { iothreads=$mapping stop_and_start ,aio=io_uring,cache=writeback mode=irq; }
test_stop_and_cont_with_two_iothreads_native() { iothreads=$mapping stop_and_start ,aio=native,cache=none mode=irq; }
test_reset_with_two_iothreads() { iothreads=$mapping test_reset_with_requests_in_flight; }
test_quit_is_quick_with_two_iothreads() { iothreads=$mapping test_quit_is_quick_with_requests_in_flight; }

test_reset_with_requests_in_flight() {
    local aio i times
    times=$(rounds lab=3 check=20 long=100)
    for aio in threads,cache=writeback io_uring,cache=writeback; do
        make_disk "$size"
        start_verify ",aio=$aio" mode=irq
        for ((i = 0; i < times; i++)); do
            wait_words 'blk-verify: sectors' $((i + 1))
            pause_briefly
            monitor system_reset
        done
        finish_verify
    done
}

test_reset_while_stopped() {
    local i times
    times=$(rounds lab=4 check=10 long=100)
    make_disk "$size"
    start_verify ,cache=writeback mode=irq
    wait_output '^blk-verify: '
    for ((i = 0; i < times; i++)); do
        monitor stop
        pause_briefly
        monitor system_reset cont
        pause_briefly
    done
    finish_verify
}

test_quit_is_quick_with_requests_in_flight() {
    local aio
    # Even a slow disk must not take seconds.
    for aio in threads,cache=unsafe io_uring,cache=unsafe; do
        make_disk "$size"
        start_verify ",aio=$aio" mode=poll
        wait_output '^blk-verify: '
        pause_briefly
        kill "$skiff_pid"
        wait_skiff
        expect_status 0
        refute_output 'did not drain'
        start_verify ",aio=$aio" mode=poll
        wait_output '^blk-verify: '
        pause_briefly
        monitor quit
        wait_skiff
        expect_status 0
        refute_output 'did not drain'
    done
}

# A killed skiff leaves neither a lock nor an unusable file.
test_a_killed_vm_leaves_its_disk_usable() {
    make_disk "$size"
    start_verify ,cache=writeback mode=poll
    wait_output '^blk-verify: '
    kill -KILL "$skiff_pid"
    wait_skiff
    expect_status 137
    own_guest blk-verify 'ops=300' -drive "if=virtio,format=raw,file=$disk"
    expect_status 1
    expect_output '^blk-verify: PASS ops=[1-9]'
}

run_tests

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 900
# The VM is stopped, drained, started, reset and ended at random moments while blk-verify has
# requests in flight. Nothing may be lost, done twice, or wait for ever.
. "$(dirname "$0")/common.bash"

milliseconds=3000

# start_verify DRIVE-OPTIONS WORDS ARGUMENT…: four queues on four processors, until `milliseconds`
# are over (in the lab, more).
start_verify() {
    local drive=$1 words=$2 work_ms=$milliseconds
    shift 2
    # Long enough for what goes on meanwhile.
    ! in_lab || work_ms=$((milliseconds * 8))
    start_own_guest blk-verify "ms=$work_ms seed=$RANDOM qd=32 limit_ms=60000 $words" -smp 4 \
        -object iothread,id=io -drive "if=none,id=disk,format=raw,file=$disk,discard=unmap$drive" \
        -device virtio-blk-pci,drive=disk,iothread=io,num-queues=4 "$@"
}

# pause_briefly: up to 30 ms.
pause_briefly() {
    sleep "0.0$((RANDOM % 31 + 10))"
}

# stop_and_start DRIVE-OPTIONS WORDS: as often as it goes while the guest works.
stop_and_start() {
    local rounds=0
    make_disk 64M
    [ -n "$direct" ] || [[ $1 != *cache=none* ]] || skip "no file system here has O_DIRECT"
    start_verify "$1" "$2"
    while kill -0 "$skiff_pid" 2>/dev/null; do
        monitor stop
        [ $((RANDOM % 2)) -eq 0 ] || pause_briefly
        # Twice in a row either way must change nothing.
        [ $((RANDOM % 8)) -ne 0 ] || monitor stop
        monitor cont
        [ $((RANDOM % 8)) -ne 0 ] || monitor cont
        # A drained section of its own, in a VM that runs or is about to stop again.
        [ $((RANDOM % 3)) -ne 0 ] || monitor 'block_resize disk 64M'
        rounds=$((rounds + 1))
        pause_briefly
    done
    wait_skiff 60
    expect_status 1
    expect_output '^blk-verify: PASS ops=[1-9]'
    ! printed 'block_resize: |^Error: ' || fail "a disk could not be given its size again"
    [ "$rounds" -ge 10 ] || fail "only $rounds rounds of stop and cont"
}

test_stop_and_cont_with_threads() { stop_and_start ,aio=threads,cache=writeback mode=irq; }
test_stop_and_cont_with_io_uring() { stop_and_start ,aio=io_uring,cache=none mode=irq; }
test_stop_and_cont_with_native() { stop_and_start ,aio=native,cache=none mode=irq; }
test_stop_and_cont_with_polling() { stop_and_start ,aio=io_uring,cache=writeback mode=poll; }
test_stop_and_cont_with_INTx() { stop_and_start ,aio=threads,cache=writeback mode=intx; }

# wait_starts TIMES: the guest has started so often. A reset may cut its line short, and the next one
# then stands behind it: the words are counted, not the lines.
wait_starts() {
    local deadline=$((SECONDS + $(seconds 60)))
    until [ "$(grep -ao 'blk-verify: sectors' "$console" | wc -l)" -ge "$1" ]; do
        kill -0 "$skiff_pid" 2>/dev/null || fail "skiff ended before the guest's start number $1"
        [ $SECONDS -lt $deadline ] || fail "the guest has not started $1 times"
        sleep 0.05
    done
}

test_reset_with_requests_in_flight() {
    local aio i
    milliseconds=1500
    for aio in threads,cache=writeback io_uring,cache=writeback; do
        make_disk 64M
        start_verify ",aio=$aio" mode=irq
        for ((i = 0; i < 20; i++)); do
            wait_starts $((i + 1))
            pause_briefly
            monitor system_reset
        done
        wait_skiff 60
        expect_status 1
        expect_output '^blk-verify: PASS ops=[1-9]'
    done
}

test_reset_while_stopped() {
    local i
    milliseconds=1500
    make_disk 64M
    start_verify ,cache=writeback mode=irq
    wait_output '^blk-verify: '
    for ((i = 0; i < 10; i++)); do
        monitor stop
        pause_briefly
        monitor system_reset cont
        pause_briefly
    done
    wait_skiff 60
    expect_status 1
    expect_output '^blk-verify: PASS ops=[1-9]'
}

test_the_end_comes_soon_with_requests_in_flight() {
    local aio
    milliseconds=60000
    for aio in threads,cache=writeback io_uring,cache=writeback; do
        make_disk 64M
        start_verify ",aio=$aio" mode=poll
        wait_output '^blk-verify: '
        pause_briefly
        kill "$skiff_pid"
        wait_skiff 4
        expect_status 0
        start_verify ",aio=$aio" mode=poll
        wait_output '^blk-verify: '
        pause_briefly
        monitor quit
        wait_skiff 4
        expect_status 0
    done
}

# Who is killed leaves neither a lock nor a file that cannot be used.
test_a_killed_vm_leaves_its_disk_usable() {
    milliseconds=60000
    make_disk 64M
    start_verify ,cache=writeback mode=poll
    wait_output '^blk-verify: '
    kill -KILL "$skiff_pid"
    wait_skiff 4
    expect_status 137
    own_guest blk-verify 'ops=300' -drive "if=virtio,format=raw,file=$disk"
    expect_status 1
    expect_output '^blk-verify: PASS ops=[1-9]'
}

run_tests

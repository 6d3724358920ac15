#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 900
# vhost-user-blk-pci with Debian's qemu-storage-daemon: blk-verify checks every byte, through stops and with
# a back end that dies; and virtiofsd's greeting.
. "$(dirname "$0")/common.bash"

ops=$(rounds lab=100 check=600 long=2000)

# start_storage QUEUES: exports $disk at $work/disk.sock; sets $storage_pid.
start_storage() {
    command -v qemu-storage-daemon >/dev/null || skip "qemu-storage-daemon is not installed: tests/install-deps test"
    rm -f "$work/disk.sock"
    qemu-storage-daemon --blockdev "driver=file,node-name=f,filename=$disk,discard=unmap" --blockdev driver=raw,node-name=d,file=f,discard=unmap \
        --export "type=vhost-user-blk,id=e,node-name=d,addr.type=unix,addr.path=$work/disk.sock,writable=on,num-queues=$1" &
    storage_pid=$!
    local deadline=$((SECONDS + $(seconds 100)))
    until [ -S "$work/disk.sock" ]; do
        kill -0 "$storage_pid" || fail "qemu-storage-daemon has ended"
        [ $SECONDS -lt $deadline ] || fail "qemu-storage-daemon does not listen"
        sleep 0.05
    done
}

# verify QUEUES MODE ARGUMENT…
verify() {
    local queues=$1 mode=$2
    shift 2
    own_guest blk-verify "ops=$ops seed=$RANDOM queues=$queues mode=$mode" -chardev "socket,id=c,path=$work/disk.sock" \
        -device "vhost-user-blk-pci,chardev=c,num-queues=$queues" "$@"
    expect_status 1
    expect_output '^blk-verify: PASS ops=[1-9]'
}

test_every_byte_is_right() {
    make_disk 64M
    start_storage 4
    local way
    for way in $(rounds lab='4,irq' check='1,poll 1,intx 4,irq 4,poll' long='1,poll 1,irq 1,intx 4,poll 4,irq 4,intx'); do
        verify "${way%,*}" "${way#*,}" -smp 2
    done
    verify 1 irq -sandbox on
    verify 2 irq -smp 2 -object memory-backend-memfd,id=m,size=128M,share=on -machine memory-backend=m
}

test_the_guest_is_stopped_again_and_again() {
    make_disk 64M
    start_storage 2
    local i count
    count=$(rounds lab=5 check=30 long=100)
    start_own_guest blk-verify "ops=$((ops * 5)) seed=$RANDOM queues=2 mode=irq" -smp 2 -chardev "socket,id=c,path=$work/disk.sock" \
        -device vhost-user-blk-pci,chardev=c,num-queues=2
    for ((i = 0; i < count; i++)); do
        monitor stop cont
    done
    wait_skiff
    expect_status 1
    expect_output '^blk-verify: PASS ops=[1-9]'
}

test_a_back_end_that_dies_or_hangs_costs_only_its_device() {
    make_disk 64M
    local signal
    for signal in KILL STOP; do
        start_storage 1
        start_own_guest blk-verify "ops=100000000 seed=1 queues=1 mode=irq" -chardev "socket,id=c,path=$work/disk.sock" \
            -device vhost-user-blk-pci,id=d0,chardev=c,num-queues=1
        wait_words 'blk-verify: ' 1
        kill "-$signal" "$storage_pid"
        [ $signal = STOP ] || wait_output 'd0: .*; the device needs a reset$'
        monitor stop
        wait_paused paused
        monitor cont 'info status'
        wait_output 'VM status: running'
        monitor quit
        wait_skiff 20
        expect_status 0
        kill -KILL "$storage_pid" 2>/dev/null || true
        wait "$storage_pid" || true
    done
}

test_a_disk_of_another_process_does_not_go_back() {
    make_disk 64M
    start_storage 1
    start_own_guest blk-verify "ops=100000000 seed=1 queues=1 mode=irq" -chardev "socket,id=c,path=$work/disk.sock" \
        -device vhost-user-blk-pci,id=d0,chardev=c,num-queues=1
    wait_words 'blk-verify: ' 1
    monitor x-rewind-point
    wait_output "device 'd0': another process has its data"
    monitor "savevm-start $work/state"
    wait_saved
    monitor quit
    wait_skiff 20
    expect_status 0
    local status=0
    "$SKIFF" -clone "$work/state" -display none -monitor none >"$work/clone" 2>&1 </dev/null || status=$?
    [ $status = 2 ] || fail "status $status of a clone: $(cat "$work/clone")"
    grep -q 'device vhost-user-blk-pci,id=d0,.* has its data in another process' "$work/clone" || fail "$(cat "$work/clone")"
}

# start_switch: DPDK's testpmd passes frames between $work/a.sock and $work/b.sock; sets $switch_pid.
start_switch() {
    rm -f "$work"/{a,b}.sock
    dpdk-testpmd --no-huge -m 256 --no-pci --no-telemetry --file-prefix "skiff$$" --vdev "net_vhost0,iface=$work/a.sock" \
        --vdev "net_vhost1,iface=$work/b.sock" -- --forward-mode=io --auto-start --total-num-mbufs=4096 --stats-period=3600 \
        </dev/null >"$work/switch" 2>&1 &
    switch_pid=$!
}

# wait_file REGEX FILE TIMES: until that many lines match.
wait_file() {
    local deadline=$((SECONDS + $(seconds 100)))
    until [ "$(grep -acE -- "$1" "$2" 2>/dev/null)" -ge "$3" ]; do
        [ $SECONDS -lt $deadline ] || fail "$2 has not $3 lines that match: $1"
        sleep 0.05
    done
}

# nic SOCKET MAC: sets nic to the arguments of skiff.
set_nic() {
    nic=(-chardev "socket,id=c,path=$work/$1.sock,reconnect-ms=100" -netdev vhost-user,id=n,chardev=c
        -device "virtio-net-pci,netdev=n,mac=52:54:00:00:00:$2")
}

test_a_switch_connects_two_guests_and_is_restarted_under_traffic() {
    command -v dpdk-testpmd >/dev/null || skip "dpdk-testpmd is not installed: tests/install-deps test"
    ! in_lab || skip "it needs two processors"
    start_switch
    wait_file 'Checking link statuses' "$work/switch" 1
    set_nic a 01
    set_own_guest net-echo 'ip=10.0.2.2 mode=irq' "${nic[@]}"
    "$SKIFF" "${own_guest[@]}" -serial stdio </dev/null >"$work/echo" 2>&1 &
    wait_file 'net-echo: ready' "$work/echo" 1
    set_nic b 02
    own_guest net-bench 'peer=10.0.2.2 ms=300 qd=4 mode=irq' "${nic[@]}" -sandbox on
    expect_status 1
    expect_output 'lost=0 .*'
    start_own_guest net-bench 'peer=10.0.2.2 ms=4000 qd=4 mode=irq' "${nic[@]}"
    wait_file 'b.sock. set queue enable: 1' "$work/switch" 4
    kill -KILL "$switch_pid"
    wait_file 'net-echo: link down' "$work/echo" 1
    start_switch
    wait_file 'net-echo: link up' "$work/echo" 2
    wait_skiff
    expect_status 1
    expect_output '^net-bench: PASS'
    set_nic b 02
    own_guest net-bench 'peer=10.0.2.2 ms=300 qd=4 mode=irq' "${nic[@]}"
    expect_status 1
    expect_output 'lost=0 .*'
}

# What a guest sees of a folder is tested in the lab: tests/guest/linux-virtiofs.sh.
test_virtiofsd_is_started_and_ends_with_the_vm() {
    [ -x /usr/libexec/virtiofsd ] || [ -x /usr/lib/qemu/virtiofsd ] || skip "virtiofsd is not installed: tests/install-deps test"
    mkdir "$work/share"
    start_own_guest hello '' -S -virtiofs "tag=t,path=$work/share" -virtiofs "tag=root,path=/,readonly=on" -sandbox on
    local pids deadline=$((SECONDS + $(seconds 100)))
    until [ "$(pgrep -c -P "$skiff_pid" virtiofsd)" = 2 ]; do
        [ $SECONDS -lt $deadline ] || fail "virtiofsd is not started"
        sleep 0.05
    done
    pids=$(pgrep -P "$skiff_pid" virtiofsd)
    monitor quit
    wait_skiff
    local pid
    for pid in $pids; do
        while [[ $(ps -o stat= -p "$pid") == [^Z]* ]]; do
            [ $SECONDS -lt $deadline ] || fail "virtiofsd is still there"
            sleep 0.05
        done
    done
    [ ! -e "${TMPDIR:-/tmp}/folder" ] || fail "its mount is left on the host"
}

run_tests

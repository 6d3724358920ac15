#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: lab
# timeout: 1800
# A template of Debian's kernel with the real agent, and clones of it, each with a command of its own: docs/exec.md,
# docs/snapshots.md.
. "$(dirname "$0")/common.bash"

linux=(-m 256 -kernel build/linux/vmlinuz -initrd build/linux/initramfs.cpio.gz -append "console=ttyS0 quiet")

skiff_img() {
    "$(dirname "${SKIFF_UNCONFINED:-$SKIFF}")/skiff-img" "$@"
}

# template ARGUMENT…: $work/t.
template() {
    skiff "${linux[@]}" -display none -serial "file:$console" -timeout 300 -snapshot-at "READY,file=$work/t" "$@"
    expect_status 0
}

# clone N COMMAND ARGUMENT…: in the background, its streams in $work/out.N and $work/err.N; sets pids[N].
clone() {
    local n=$1 command=$2
    shift 2
    timeout --kill-after=5 300 "$SKIFF" -clone "$work/t" -timeout 200 "$@" -exec "$command" </dev/null >"$work/out.$n" 2>"$work/err.$n" &
    pids[n]=$!
}

# expect_clone N STATUS OUTPUT
expect_clone() {
    status=0
    wait "${pids[$1]}" || status=$?
    cat "$work/out.$1" "$work/err.$1" >"$output"
    expect_status "$2"
    expect_equal "the output of clone $1" "$(<"$work/out.$1")" "$3"
}

test_clones_run_commands_of_their_own() {
    local i at_once=3 count
    local -a pids=()
    count=$(rounds lab=10 check=10 long=100)
    skiff_img create -q -f qcow2 "$work/disk" 64M
    template -drive "file=$work/disk,format=qcow2" -device vmgenid
    cp "$work/disk" "$work/disk.before"
    for ((i = 0; i < count + at_once; i++)); do
        if [ "$i" -ge "$at_once" ]; then
            expect_clone $((i - at_once)) $(((i - at_once) % 120)) "out $((i - at_once))"
            expect_equal 'standard error' "$(<"$work/err.$((i - at_once))")" "err $((i - at_once))"
        fi
        if [ "$i" -lt "$count" ]; then
            clone "$i" "modprobe virtio_blk 2>/dev/null; [ ! -b /dev/vda ] || { echo $i | dd of=/dev/vda bs=512 conv=sync,fsync 2>/dev/null && \\
                [ \"\$(head -c 20 /dev/vda | head -n 1)\" = $i ] || exit 125; }; echo out $i; echo err $i >&2; exit $((i % 120))"
        fi
    done
    cmp "$work/disk" "$work/disk.before"
}

# Two clones begin with the same state of the kernel's random numbers; the new generation id makes them differ. The cloud kernel
# has no driver for it, the lab's own kernel has.
test_clones_have_random_numbers_of_their_own() {
    local -a pids=()
    local i command='n=0; until dmesg | grep "virtual machine fork" || [ $((n += 1)) -gt 200 ]; do usleep 50000; done; head -c 16 /dev/urandom | od -An -tx1'
    cat build/lab/initramfs.cpio.gz build/linux/initramfs.cpio.gz >"$work/initramfs" # of two, the later one's /init
    linux=(-m 256 -kernel build/lab/vmlinux -initrd "$work/initramfs" -append "console=ttyS0 quiet")
    template -device vmgenid
    for i in 0 1; do
        clone "$i" "$command"
    done
    for i in 0 1; do
        wait "${pids[i]}" || fail "clone $i has failed: $(<"$work/err.$i")"
        grep -q 'crng reseeded due to virtual machine fork' "$work/out.$i" || fail "clone $i was not notified: $(<"$work/out.$i")"
    done
    [ "$(tail -n 1 "$work/out.0")" != "$(tail -n 1 "$work/out.1")" ] || fail "both have $(<"$work/out.0")"
}

run_tests

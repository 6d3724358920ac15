#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Flash: our guests run from it, program it and check it against a model; kills, a hung image, stop and
# reset, both formats, QEMU's view of the image.
# tier: kvm
# timeout: 900
. "$(dirname "$0")/common.bash"

# rom_guest NAME WORDS: $rom, a copy of that guest with its command line.
rom_guest() {
    rom=$work/$1.rom
    cp "build/guests/$1.rom" "$rom"
    printf '%s' "$2" | dd of="$rom" conv=notrunc status=none
}

# set_flash NAME WORDS: sets flash_vm to skiff's arguments for that guest; $vars is its second flash.
set_flash() {
    rom_guest "$1" "$2"
    flash_vm=(-display none "${debug_exit[@]}" -drive "if=pflash,format=raw,readonly=on,file=$rom")
}

# skiff_img ARGUMENT…: the image tool that was built with skiff.
skiff_img() {
    "$(dirname "${SKIFF_UNCONFINED:-$SKIFF}")/skiff-img" "$@"
}

make_vars() {
    vars=$work/vars
    rm -f "$vars"
    truncate -s 64K "$vars"
}

steps=$(rounds lab=500 check=3000 long=200000)
codes=$(rounds lab=4 check=12 long=256)

test_every_command_against_the_model() {
    set_flash pflash-verify "steps=$steps codes=$codes seed=$RANDOM"
    make_vars
    skiff "${flash_vm[@]}" -serial stdio -drive "if=pflash,format=raw,file=$vars"
    expect_status 1
    expect_output '^pflash-verify: PASS'
}

test_read_only_flash_against_the_model() {
    set_flash pflash-verify "steps=$steps codes=$codes readonly"
    make_vars
    head -c 65536 /dev/urandom >"$vars"
    cp "$vars" "$work/before"
    skiff "${flash_vm[@]}" -serial stdio -drive "if=pflash,format=raw,readonly=on,file=$vars"
    expect_status 1
    expect_output '^pflash-verify: PASS'
    cmp "$vars" "$work/before"
}

test_a_qcow2_image_by_blockdev() {
    set_flash pflash-verify "steps=$steps codes=$codes"
    make_vars
    skiff_img create -q -f qcow2 "$vars.qcow2" 64K
    skiff -display none "${debug_exit[@]}" -serial stdio \
        -blockdev "driver=file,node-name=code,filename=$rom,read-only=on" \
        -blockdev "driver=qcow2,node-name=vars,file.driver=file,file.filename=$vars.qcow2" \
        -machine q35,pflash0=code,pflash1=vars
    expect_status 1
    expect_output '^pflash-verify: PASS'
    skiff_img check -f qcow2 "$vars.qcow2" >/dev/null
}

test_others_read_and_count_while_one_programs() {
    set_flash pflash-stress "ms=$(rounds lab=300 check=1000 long=20000) cpus=2"
    make_vars
    skiff "${flash_vm[@]}" -smp 2 -serial stdio -drive "if=pflash,format=raw,file=$vars"
    expect_status 1
    expect_output '^pflash-stress: PASS cpus=2 '
}

test_flash_in_a_sandbox() {
    set_flash pflash-stress 'ms=100 cpus=2'
    make_vars
    skiff "${flash_vm[@]}" -sandbox on -smp 2 -serial stdio -drive "if=pflash,format=raw,file=$vars"
    expect_status 1
    expect_output '^pflash-stress: PASS'
}

# expect_stores FILE: the bytes that the guest has reported as stored are in the raw image FILE.
expect_stores() {
    python3 -c '
import re, sys
image = open(sys.argv[1], "rb").read()
stores = re.findall(rb"stored (\d+) at (\d+)\r?\n", open(sys.argv[2], "rb").read())
assert len(stores) >= 20, "only %d stores" % len(stores)
for byte, at in stores:
    assert image[int(at)] == int(byte), "at %d: %d, not %d" % (int(at), image[int(at)], int(byte))
' "$1" "$console" 2>"$work/why" || fail "$(tail -n 1 "$work/why")"
}

# The guest never goes back to the array, so nothing is flushed before the kill.
test_a_kill_right_after_a_store_loses_nothing() {
    local kind format round
    for kind in raw qcow2 overlay small-clusters; do
        for ((round = 0; round < $(rounds lab=1 check=2 long=30); round++)); do
            make_vars
            case $kind in
            raw) set_flash pflash-stress log ;;
            qcow2)
                set_flash pflash-stress log
                skiff_img create -q -f qcow2 "$vars" 64K
                ;;
            *) # each program allocates a cluster
                set_flash pflash-stress 'log erased'
                head -c 65536 /dev/zero | tr '\0' '\377' >"$vars.base"
                [ $kind = overlay ] && format=65536 || format=512
                skiff_img create -q -f qcow2 -o "cluster_size=$format" -b "$vars.base" -F raw "$vars"
                ;;
            esac
            [ $kind = raw ] && format=raw || format=qcow2
            start_skiff "${flash_vm[@]}" -serial "file:$console" -drive "if=pflash,format=$format,file=$vars"
            wait_words 'stored' $((20 + RANDOM % 20))
            kill -KILL "$skiff_pid"
            wait_skiff
            skiff_img convert -f "$format" -O raw "$vars" "$work/raw"
            expect_stores "$work/raw"
        done
    done
}

# The image hangs: the processor that programs waits; the other one, the monitor and quit do not. A stop
# waits as for a disk, so the VM is stopping.
test_a_hung_image_hangs_nobody_else() {
    local ticks
    set_flash pflash-stress 'ms=0 cpus=2 ticks'
    make_vars
    start_skiff "${flash_vm[@]}" -smp 2 -serial "file:$console" -qmp "unix:$work/qmp,server=on,wait=off" \
        -blockdev "driver=fault,node-name=v,fail-op=write,fail-after=40,hold=on,file.driver=file,file.filename=$vars" \
        -machine pflash1=v
    wait_listening "$work/qmp"
    wait_words 'tick' 5
    python3 - "$work/qmp" "$console" <<'END' 2>"$work/why" || fail "$(tail -n 1 "$work/why")"
import sys, time
sys.path.insert(0, "tests/support")
from qmp import Qmp

def programs(vm):
    return [b["stats"]["wr_operations"] for b in vm.cmd("query-blockstats", **{"query-nodes": False})
            if b.get("node-name") == "v"][0]

def ticks():
    return open(sys.argv[2], "rb").read().count(b"tick")

with Qmp(sys.argv[1]) as vm:
    while programs(vm) < 40:
        time.sleep(0.01)
    before, replies = ticks(), 0
    while ticks() < before + 20: # the other processor runs
        assert vm.cmd("query-status")["status"] == "running"
        replies += 1
    assert replies >= 20, "only %d replies" % replies
    assert programs(vm) == 40
    vm.cmd("stop")
    assert vm.cmd("query-status").get("stopping"), "the stop did not wait for the write"
    vm.cmd("system_reset")
    vm.cmd("query-block")
    vm.cmd("quit")
END
    wait_skiff 60
    expect_status 0
}

# Stop and reset at any time, also between the writes of a command: the flash works on.
test_stop_and_reset_at_any_time() {
    local i
    set_flash pflash-stress 'ms=0 cpus=2 ticks'
    make_vars
    start_skiff "${flash_vm[@]}" -smp 2 -serial "file:$console" -serial mon:stdio \
        -drive "if=pflash,format=raw,file=$vars"
    type_in '\001c'
    wait_words 'tick' 5
    for ((i = 0; i < $(rounds lab=2 check=10 long=200); i++)); do
        monitor stop cont
        [ $((i % 5)) -ne 0 ] || monitor system_reset
    done
    monitor stop cont
    i=$(grep -ac 'tick' "$console")
    wait_words 'tick' $((i + 10))
    refute_output 'FAIL'
    monitor quit
    wait_skiff
    expect_status 0
}

# What OVMF and drivers see of a working flash: status, identifiers, query table, the modes.
test_firmware_sees_what_it_sees_in_QEMU() {
    set_flash pflash-verify print
    make_vars
    skiff "${flash_vm[@]}" -serial stdio -drive "if=pflash,format=raw,file=$vars"
    expect_status 1
    expect_output '^pflash-verify: PASS'
    tr -d '\r' <"$output" >"$work/skiff"
    make_vars
    timeout "$(seconds 200)" qemu-system-x86_64 -machine q35 -accel tcg -nodefaults -display none "${debug_exit[@]}" \
        -serial stdio -drive "if=pflash,format=raw,readonly=on,file=$rom" -drive "if=pflash,format=raw,file=$vars" \
        </dev/null 2>"$work/errors" | tr -d '\r' >"$work/qemu"
    diff "$work/qemu" "$work/skiff"
}

# An image that one wrote is the other's: raw, and qcow2.
test_the_image_is_QEMUs_too() {
    local format
    for format in raw qcow2; do
        set_flash pflash-stress "ms=300 cpus=1"
        make_vars
        qemu-img create -q -f "$format" "$vars" 64K
        skiff "${flash_vm[@]}" -serial stdio -drive "if=pflash,format=$format,file=$vars"
        expect_status 1
        qemu-img convert -f "$format" -O raw "$vars" "$work/raw"
        [ "$(stat -c %s "$work/raw")" -eq 65536 ] || fail "size of the $format image"
        [ "$format" = raw ] || qemu-img check -q "$vars"
        set_flash pflash-verify "steps=100 codes=4"
        skiff "${flash_vm[@]}" -serial stdio -drive "if=pflash,format=raw,file=$work/raw"
        expect_status 1
    done
}

test_wrong_flash_is_refused() {
    truncate -s 5000 "$work/odd"
    skiff -display none -pflash "$work/odd"
    expect_status 2
    expect_output 'a flash is a multiple of 0x1000 bytes'
    truncate -s 17M "$work/large"
    skiff -display none -pflash "$work/large"
    expect_status 2
    make_vars
    skiff -display none -drive "if=pflash,unit=1,format=raw,file=$vars"
    expect_status 2
    expect_output 'pflash1 requires pflash0'
    skiff -display none -drive "if=pflash,unit=2,format=raw,file=$vars"
    expect_status 2
    expect_output 'there is no unit 2'
    skiff -display none -pflash "$vars" -bios "$vars"
    expect_status 2
    skiff -display none -pflash "$vars" -machine pflash0=x
    expect_status 2
    expect_output 'are the same flash'
    skiff_img create -q -f qcow2 "$work/image.qcow2" 64K
    skiff -display none -pflash "$work/image.qcow2"
    expect_status 2
    expect_output 'looks like qcow2'
    skiff -display none -drive "if=pflash,format=raw,file=$vars,werror=stop"
    expect_status 2
    expect_output 'werror is not supported'
}

run_tests

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: lab
# timeout: 400
# What README does with a cloud image: an overlay of it is booted, saved, broken and restored.
. "$(dirname "$0")/common.bash"

img=$(dirname "$SKIFF")/skiff-img

# boot SCRIPT: the overlay is the root file system, on which SCRIPT runs.
boot() {
    linux_append="quiet root=/dev/vda" linux_guest "$1" -drive "file=$work/vm.qcow2,format=qcow2"
    expect_status 0
}

test_an_overlay_of_a_compressed_image_boots_and_keeps_what_is_written() {
    qemu-img convert -c -f raw -O qcow2 build/linux/rootfs.img "$work/cloud.qcow2"
    md5sum <"$work/cloud.qcow2" >"$work/sum"
    "$img" create -q -f qcow2 -b cloud.qcow2 -F qcow2 "$work/vm.qcow2"
    boot 'grep " / ext4 " /proc/mounts && echo good >/kept && sync'
    expect_guest_status 0
    expect_equal "the cloud image" "$(md5sum <"$work/cloud.qcow2")" "$(<"$work/sum")"
    "$img" check "$work/vm.qcow2" >"$output" || fail "check finds errors"
    expect_output 'No errors were found on the image.'
}

test_a_snapshot_undoes_what_a_guest_breaks() {
    "$img" snapshot -c clean "$work/vm.qcow2"
    boot 'grep -q good /kept && rm -rf /kept /sbin/* && ! [ -e /sbin/init ] && sync'
    expect_guest_status 0
    "$img" snapshot -a clean "$work/vm.qcow2"
    boot 'grep good /kept && [ -e /sbin/init ]'
    expect_guest_status 0
    qemu-img check -q "$work/vm.qcow2" || fail "qemu-img finds errors"
}

run_tests

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: lab
# timeout: 900
# Linux writes to an ext4 file system on a qcow2 overlay, and fio verifies what it reads there. This
# is for `make check-long`, which installs fio.
. "$(dirname "$0")/common.bash"
. "$(dirname "$0")/linux-fio.bash"

img=$(dirname "$SKIFF")/skiff-img

make_image() {
    make_fio_image "$work/base.qcow2"
    "$img" create -q -f qcow2 -b base.qcow2 -F qcow2 "$work/vm.qcow2"
}

test_fio_reads_what_it_wrote_to_ext4_on_an_overlay() {
    command -v fio >/dev/null || skip "fio is not installed: tests/install-deps long"
    make_image
    linux_limit=800 linux_guest "$(fio_script 0)" \
        -object iothread,id=io -device virtio-blk-pci,drive=disk,iothread=io \
        -drive "if=none,id=disk,format=qcow2,discard=unmap,file=$work/vm.qcow2,aio=io_uring"
    expect_status 0
    expect_guest_status 0
    "$img" check "$work/vm.qcow2" >"$output" || fail "check finds errors"
}

run_tests

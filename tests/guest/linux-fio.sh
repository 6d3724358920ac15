#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: lab
# timeout: 900
# Linux writes to an ext4 file system on a qcow2 overlay, and fio verifies what it reads there. This
# is for `make check-long`, which installs fio.
. "$(dirname "$0")/common.bash"

img=$(dirname "$SKIFF")/skiff-img

# An ext4 image with the host's fio and its libraries.
make_image() {
    local root=$work/root file
    mkdir -p "$root"/{dev,proc,tmp,usr/bin}
    for file in "$(command -v fio)" $(ldd "$(command -v fio)" | grep -o '/[^ ]*'); do
        install -D "$file" "$root$file"
    done
    truncate -s 400M "$work/image"
    mke2fs -q -t ext4 -d "$root" "$work/image"
    qemu-img convert -f raw -O qcow2 "$work/image" "$work/base.qcow2"
    rm -rf "$root" "$work/image"
    "$img" create -q -f qcow2 -b base.qcow2 -F qcow2 "$work/vm.qcow2"
}

test_fio_reads_what_it_wrote_to_ext4_on_an_overlay() {
    command -v fio >/dev/null || skip "fio is not installed: tests/install-deps long"
    make_image
    linux_limit=800 linux_guest '
        modprobe crc32c_generic; modprobe ext4; mkdir -p /mnt
        mount -t ext4 /dev/vda /mnt && mount -t devtmpfs dev /mnt/dev && mount -t proc proc /mnt/proc &&
        chroot /mnt '"$(command -v fio)"' --name=v --filename=/tmp/data --size=16m --bsrange=512-64k --rw=randwrite \
            --direct=1 --ioengine=psync --fsync=64 --verify=crc32c --do_verify=1 --verify_fatal=1 --thread \
            --minimal >/run/fio.out && grep -c "^[0-9]*;" /run/fio.out && umount /mnt/dev /mnt/proc /mnt && sync' \
        -object iothread,id=io -device virtio-blk-pci,drive=disk,iothread=io \
        -drive "if=none,id=disk,format=qcow2,discard=unmap,file=$work/vm.qcow2,aio=io_uring"
    expect_status 0
    expect_guest_status 0
    "$img" check "$work/vm.qcow2" >"$output" || fail "check finds errors"
}

run_tests

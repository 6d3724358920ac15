#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: lab
# timeout: 600
# Debian's unmodified cloud kernel boots by every protocol, with various memory sizes and roots.
. "$(dirname "$0")/common.bash"

# expect_memory MIB: the kernel's memory, which is a little less than the machine's.
expect_memory() {
    local found
    found=$(sed -n 's/^MemTotal: *\([0-9]*\) kB.*/\1/p' "$output")
    [ -n "$found" ] || fail "the guest did not print its memory size"
    [ $((found / 1024)) -le "$1" ] && [ $((found / 1024)) -ge $(($1 * 94 / 100 - 60)) ] ||
        fail "of $1 MiB the guest sees $((found / 1024)) MiB"
}

test_a_bzimage_boots_to_user_space_and_powers_off() {
    linux_guest 'uname -a'
    expect_status 0
    expect_guest_status 0
    expect_output '^Linux skiff .*-cloud-amd64 .* x86_64'
}

test_a_bzimage_without_64_bit_entry_boots_by_its_32_bit_one() {
    local image=$work/vmlinuz
    cp build/linux/vmlinuz "$image"
    chmod u+w "$image"
    # xloadflags: no XLF_KERNEL_64
    printf '\x00\x00' | dd of="$image" bs=1 seek=$((0x236)) conv=notrunc status=none
    linux_kernel=$image linux_guest 'uname -r; grep -m1 "model name" /proc/cpuinfo'
    expect_status 0
    expect_guest_status 0
    expect_output '^model name.*: .*[A-Za-z]'
}

test_ram_below_the_preferred_address_is_refused() {
    linux_memory=56 linux_guest 'uname -r'
    expect_status 2
    expect_output 'needs [0-9]+ KiB of RAM at 0x1000000'
}

test_an_elf_kernel_boots_by_pvh() {
    linux_kernel=build/linux/vmlinux linux_guest 'uname -r'
    expect_status 0
    expect_guest_status 0
}

test_128_MiB_are_enough() {
    linux_memory=128 linux_guest 'cat /proc/meminfo'
    expect_status 0
    expect_memory 128
}

test_3584_MiB_reach_around_the_pci_hole() {
    linux_memory=3584 linux_guest 'cat /proc/meminfo'
    expect_status 0
    expect_memory 3584
}

test_5_GiB_reach_above_4_GiB() {
    linux_memory=5G linux_guest 'cat /proc/meminfo; grep "System RAM" /proc/iomem'
    expect_status 0
    expect_memory 5120
    expect_output '^1[0-9a-f]{8}-[0-9a-f]{9} : System RAM'
}

test_the_root_file_system_may_be_on_virtio_blk() {
    cp --sparse=always build/linux/rootfs.img "$work/rootfs.img"
    linux_append='quiet root=/dev/vda' linux_guest 'grep " / " /proc/mounts && echo kept >/kept' \
        -drive "file=$work/rootfs.img,format=raw,if=none,id=root" -device virtio-blk-pci,drive=root
    expect_status 0
    expect_guest_status 0
    expect_output '^/dev/vda / ext4 rw'
    expect_equal "the file that the guest wrote" "$(debugfs -R 'cat /kept' "$work/rootfs.img" 2>/dev/null)" kept
}

run_tests

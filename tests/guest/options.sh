#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# QEMU's option spellings: short names of devices, disks by index, default devices, objects.
# tier: kvm
# timeout: 300
. "$(dirname "$0")/common.bash"

# ask COMMAND ARGUMENT…: $output is the human monitor's answer. The guest does not run.
ask() {
    local command=$1
    shift
    skiff -S -display none -kernel build/guests/hello.elf -monitor stdio "$@" <<<"$command"$'\nquit'
}

# refuse WORDS ARGUMENT…
refuse() {
    local words=$1
    shift
    skiff -display none -kernel build/guests/hello.elf "$@"
    expect_status 2
    expect_output "$words"
}

test_short_names_of_devices() {
    make_disk 1M
    ask 'info qtree' -drive "file=$disk,format=raw,if=none,id=d" -device virtio-blk,drive=d \
        -device virtio-rng -device virtio-net -device virtio-serial,id=vs -device virtconsole,bus=vs.0
    expect_status 0
    expect_output 'dev: virtio-blk-pci'
    expect_output 'dev: virtio-rng-pci'
    expect_output 'dev: virtio-net-pci'
    expect_output 'dev: virtio-serial-pci, id "vs"'
    refuse "no device 'virtio-gpu'" -device virtio-gpu
    skiff -device help
    expect_output '^virtio-blk-pci .*(also virtio-blk)'
    skiff -device virtio-rng,help
    expect_output '^virtio-rng-pci: '
}

test_disks_have_an_index() {
    make_disk 1M
    local file="file.driver=null-co,file.size=1M,format=raw"
    ask 'info block' -drive "$file" -drive "$file,index=2" -drive "$file" -drive "$file" \
        -drive "$file,if=none" -drive "$file,if=none,id=mine" -drive "$file,if=none"
    expect_status 0
    local name
    for name in virtio0 virtio1 virtio2 virtio3 none0 mine none2; do
        expect_output "^$name"
    done
    refuse 'index=1) exists' -drive "$file,index=1" -drive "$file,unit=1"
    refuse 'index=0) exists' -drive "$file" -drive "$file,index=0"
}

test_a_disk_by_its_file_name_is_a_virtio_disk() {
    make_disk 1M
    ask 'info block' "$disk" -hdc null-co://
    expect_status 0
    expect_output "hda $disk: attached as a raw virtio disk"
    expect_output '^virtio0'
    expect_output '^virtio2'
    refuse 'index=0) exists' -hda "$disk" "$disk"
}

test_nodefaults_omits_the_serial_port() {
    ask 'info qtree' -serial null
    expect_output 'dev: isa-serial'
    ask 'info qtree' -nodefaults
    refute_output 'dev: isa-serial'
    own_guest hello '' -serial none -nodefaults -chardev stdio,id=c -device isa-serial,chardev=c
    expect_status 1
    expect_output 'hello: PASS'
}

test_a_serial_port_given_as_a_device_replaces_the_default() {
    skiff -display none -kernel build/guests/hello.elf "${debug_exit[@]}" \
        -chardev stdio,id=c,signal=off -device isa-serial,chardev=c
    expect_status 1
    expect_output 'hello: PASS'
    skiff -nographic -nodefaults -kernel build/guests/hello.elf "${debug_exit[@]}" \
        -chardev stdio,id=c,mux=on,signal=off -serial chardev:c -mon chardev=c,id=m
    expect_status 1
    expect_output 'hello: PASS'
    ask 'info qtree' -serial null -device isa-serial -device isa-serial
    expect_status 0
    refuse 'are taken by serial' -serial null -device isa-serial,index=0
    refuse '4 ISA serial ports at most' -device isa-serial,index=4
}

test_sources_of_random_bytes() {
    ask 'info qtree' -object rng-random,filename=/dev/urandom,id=r -device virtio-rng-pci,rng=r \
        -object rng-builtin,id=s -device virtio-rng,rng=s
    expect_status 0
    expect_output 'rng = "r"'
    refuse 'there is no -object rng-random,id=q' -device virtio-rng-pci,rng=q
    refuse 'use filename=/dev/urandom' -object rng-random,filename=/dev/hwrng,id=r
}

test_another_escape_key() {
    set_own_guest crash spin
    start_skiff "${own_guest[@]}" -serial mon:stdio -echr 0x14
    wait_output '^crash: spin'
    type_in '\001x' # Ctrl-A is now input
    type_in '\024x'
    wait_skiff
    expect_status 0
}

run_tests

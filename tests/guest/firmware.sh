#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 900
# Firmware on /dev/kvm: Debian's SeaBIOS boots sectors of the test's own from virtio disks and CDs, in the order that the options say.
. "$(dirname "$0")/common.bash"

seabios=/usr/share/seabios/bios-256k.bin

# seabios ARGUMENT…: what sectors write to port 0xe9 is standard output; they end skiff by isa-debug-exit.
seabios() {
    [ -r "$seabios" ] || skip "$seabios is missing: tests/install-deps test"
    skiff -m 64 -display none -serial none -bios "$seabios" -debugcon stdio "${debug_exit[@]}" "$@"
}

# sector LETTER END: a boot sector that writes LETTER and ends skiff with status 1 (END is "exit") or resets the machine.
sector() {
    local code="\\xb0$1\\xe6\\xe9"
    case $2 in
    exit) code+='\xb0\x00\xe6\xf4' ;;
    reset) code+='\xb0\xfe\xe6\x64' ;;
    esac
    printf '%b' "$code\\xf4" | dd conv=sync bs=510 status=none
    printf '\x55\xaa'
}

# boot_disk NAME LETTER [END]: $work/NAME, a disk of 1 MiB.
boot_disk() {
    sector "$2" "${3:-exit}" >"$work/$1"
    truncate -s 1M "$work/$1"
}

# boot_cd NAME LETTER END: $work/NAME, a CD with an El Torito boot image without emulation ("El Torito" specification 1.0).
boot_cd() {
    sector "$2" "$3" >"$work/image"
    python3 - "$work/image" >"$work/$1" <<'PYTHON'
import struct, sys
volume = b'\x01CD001\x01\0' + b' ' * 32 + b'BOOT'.ljust(32)
boot = b'\0CD001\x01' + b'EL TORITO SPECIFICATION'.ljust(32, b'\0') + bytes(32) + struct.pack('<I', 19)
end = b'\xffCD001\x01'
check = struct.pack('<BBH24sHBB', 1, 0, 0, b'', 0, 0x55, 0xaa)
total = -sum(struct.unpack('<16H', check)) & 0xffff
check = check[:28] + struct.pack('<H', total) + check[30:]
entry = struct.pack('<BBHBBHI', 0x88, 0, 0, 0, 0, 4, 20)
sectors = [bytes(2048)] * 16 + [volume, boot, end, check + entry, open(sys.argv[1], 'rb').read(), bytes(2048)]
sys.stdout.buffer.write(b''.join(s.ljust(2048, b'\0') for s in sectors))
PYTHON
}

drive() {
    echo "-drive if=none,id=$1,file=$work/$1,format=raw"
}

test_seabios_boots_from_virtio_blk() {
    boot_disk disk A
    seabios $(drive disk) -device virtio-blk-pci,drive=disk
    expect_status 1
    expect_equal console "$(head -n 1 "$output")" A
}

test_seabios_boots_from_virtio_scsi() {
    boot_disk disk B
    seabios $(drive disk) -device virtio-scsi-pci,addr=1d -device scsi-hd,scsi-id=9,drive=disk,bootindex=0
    expect_status 1
    expect_equal console "$(head -n 1 "$output")" B
}

test_the_lowest_bootindex_is_booted() {
    boot_disk one 1
    boot_disk two 2
    boot_disk three 3
    seabios $(drive one) $(drive two) $(drive three) -device virtio-blk-pci,drive=one,bootindex=5 -device virtio-scsi-pci \
        -device scsi-hd,drive=two,bootindex=4 -device virtio-blk-pci,drive=three
    expect_status 1
    expect_equal console "$(head -n 1 "$output")" 2
}

# The machine resets itself in between, so this also is a reset with firmware.
test_once_counts_until_the_first_reset() {
    boot_disk disk C
    boot_cd cd D reset
    seabios $(drive disk) $(drive cd),readonly=on -device virtio-scsi-pci -device scsi-hd,drive=disk -device scsi-cd,drive=cd \
        -boot order=c,once=d
    expect_status 1
    expect_equal console "$(head -n 1 "$output")" DC
}

test_order_chooses_the_cd() {
    boot_disk disk C
    boot_cd cd D exit
    seabios $(drive disk) $(drive cd),readonly=on -device virtio-scsi-pci -device scsi-hd,drive=disk -device scsi-cd,drive=cd -boot dc
    expect_status 1
    expect_equal console "$(head -n 1 "$output")" D
}

# option_rom DEVICE-ID LETTER: an expansion ROM (PCI 3.0 §6.3) for that virtio device; its code writes LETTER and returns to firmware.
option_rom() {
    python3 - "$1" "$2" <<'PYTHON'
import struct, sys
code = b'\xb0' + sys.argv[2].encode() + b'\xe6\xe9\xcb'
data = struct.pack('<4sHHHHBBBBHHBBH', b'PCIR', 0x1af4, int(sys.argv[1], 0), 0, 24, 0, 0, 0, 2, 1, 0, 0, 0x80, 0)
image = bytearray(b'\x55\xaa\x01' + code).ljust(0x18, b'\0') + b'\x20\0'
image = image.ljust(0x20, b'\0') + data
image = image.ljust(511, b'\0')
image.append(-sum(image) & 0xff)
sys.stdout.buffer.write(image)
PYTHON
}

test_seabios_runs_the_expansion_rom_of_a_device() {
    boot_disk disk A
    option_rom 0x1044 R >"$work/rom"
    seabios $(drive disk) -device virtio-blk-pci,drive=disk -device "virtio-rng-pci,romfile=$work/rom"
    expect_status 1
    expect_equal console "$(head -n 1 "$output")" RA
    seabios $(drive disk) -device virtio-blk-pci,drive=disk -device "virtio-rng-pci,romfile=$work/rom,rombar=off"
    expect_equal console "$(head -n 1 "$output")" A
}

# GRUB is in the boot sector and in a partition of its own; it starts a guest of guest-images.
test_seabios_boots_grub() {
    command -v sfdisk mcopy grub-mkimage >/dev/null || skip "fdisk, mtools or grub-common is missing: tests/install-deps test"
    mkdir "$work/files"
    cp build/guests/hello.mb.elf "$work/files/hello"
    printf '%s\n' 'serial --unit=0' 'terminal_output serial' 'multiboot /hello hello grub' boot >"$work/files/grub.cfg"
    guest-images/linux/build-boot-disk "$work/disk" "$work/files"
    skiff -m 64 -display none -serial stdio "${debug_exit[@]}" -bios "$seabios" $(drive disk) -device virtio-scsi-pci -device scsi-hd,drive=disk
    expect_status 1
    expect_output 'GRUB loading'
    expect_output '^hello: skiff guest, entered by Multiboot'
    expect_output '^hello: command line: hello grub'
    expect_output '^hello: PASS'
}

# Without -bios: the same firmware in flash.
test_seabios_starts_from_flash() {
    boot_disk disk F
    skiff -m 64 -display none -serial none -pflash "$seabios" -debugcon stdio "${debug_exit[@]}" $(drive disk) -device virtio-blk-pci,drive=disk
    expect_status 1
    expect_equal console "$(head -n 1 "$output")" F
}

test_a_disk_behind_a_root_port_boots() {
    boot_disk disk P
    seabios $(drive disk) -device pcie-root-port,id=rp0,addr=6 -device virtio-blk-pci,bus=rp0,drive=disk,bootindex=0 -boot strict=on
    expect_status 1
    expect_equal console "$(head -n 1 "$output")" P
}

# The image asks the host bridge for the size of its SMRAM, as OVMF builds for secure boot do.
test_firmware_that_needs_smm_is_refused_with_that_reason() {
    {
        head -c 65520 /dev/zero
        printf '\xe9\x0d\x00' | dd conv=sync bs=16 status=none
    } >"$work/rom"
    # mov eax, 0x80000050; mov dx, 0xcf8; out dx, eax; mov dx, 0xcfc; mov ax, 0xffff; out dx, ax; hlt; jmp to hlt
    printf '\x66\xb8\x50\x00\x00\x80\xba\xf8\x0c\x66\xef\xba\xfc\x0c\xb8\xff\xff\xef\xf4\xeb\xfd' |
        dd of="$work/rom" conv=notrunc status=none
    skiff -m 64 -display none -bios "$work/rom"
    expect_status 2
    expect_output '^skiff: the firmware needs SMM .*secure boot.*OVMF_CODE_4M.fd'
}

run_tests

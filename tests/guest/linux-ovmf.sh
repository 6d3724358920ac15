#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: unit
# timeout: 3600
# Debian's OVMF in skiff, in labs that this script starts: OVMF writes CR8, which the emulator survives with --steady only. Files in a
# lab are lost, so each lab runs all steps that share one; it prints its consoles and the image of the variables.
. "$(dirname "$0")/common.bash"

[ "${1-}" = in-lab ] || only_in_check_long
code=/usr/share/OVMF/OVMF_CODE_4M.fd
vars=/usr/share/OVMF/OVMF_VARS_4M.fd
guid='-guid 5b0a9d52-3c0e-4c4b-9d0e-6f1d2a3b4c5d' # the shell sets no variables of the default one

# ---- inside the lab ----

lab_console=/tmp/console
lab_vars=/tmp/vars.fd

# ovmf ARGUMENT…: starts skiff in the background with OVMF in flash. It reads what descriptor 3 gets.
ovmf() {
    rm -f /tmp/keys
    mkfifo /tmp/keys
    "$SKIFF" -global kvm-pit.lost_tick_policy=discard -m 512 -display none -no-reboot -serial stdio \
        -drive "if=pflash,format=raw,readonly=on,file=$code" -drive "if=pflash,format=raw,file=$lab_vars" "$@" </tmp/keys >$lab_console &
    ovmf_pid=$!
    exec 3>/tmp/keys
}

# until_printed WORDS
until_printed() {
    until grep -aqF -- "$1" $lab_console; do
        kill -0 "$ovmf_pid" 2>/dev/null || { echo "skiff ended before it printed: $1"; return 1; }
        sleep 0.2
    done
}

# type_line TEXT: the shell reads the serial port by polling, with a FIFO of 16 bytes.
type_line() {
    local text=$1 i
    for ((i = 0; i < ${#text}; i += 8)); do
        printf '%s' "${text:i:8}" >&3
        sleep 0.3
    done
    printf '\r' >&3
}

end_ovmf() {
    local status=0
    exec 3>&-
    wait "$ovmf_pid" || status=$?
    printf '\n== status %s\n' "$status"
    cat $lab_console
}

print_vars() {
    printf '\n== vars\n'
    gzip -c $lab_vars | base64
    echo "== end"
}

# Three runs: a variable is set, found and another one is set before SIGKILL, and both are found.
lab_variables() {
    cp "$1" $lab_vars
    ovmf
    until_printed 'Shell>'
    type_line "setvar SkiffOne $guid -nv -bs -rt =0x11223344"
    sleep 3
    type_line 'reset -s'
    end_ovmf
    ovmf
    until_printed 'Shell>'
    type_line "setvar SkiffOne $guid"
    sleep 3
    type_line "setvar SkiffTwo $guid -nv -bs -rt =0x55667788"
    type_line 'echo stored'
    until_printed stored # the shell shows what is typed with the cursor's movements in between
    kill -KILL "$ovmf_pid"
    end_ovmf
    ovmf
    until_printed 'Shell>'
    type_line "setvar SkiffOne $guid"
    sleep 3
    type_line "setvar SkiffTwo $guid"
    sleep 3
    [ -z "$2" ] || type_line "setvar $2 $guid"
    sleep 3
    type_line 'reset -s'
    end_ovmf
    print_vars
}

# lab_boot DISK ARGUMENT…: boots the copy of a disk to its end.
lab_boot() {
    cp "$1" /tmp/disk
    shift
    cp $vars $lab_vars
    ovmf -drive if=none,id=disk,file=/tmp/disk,format=raw "$@"
    end_ovmf
}

# lab_login DISK FIRMWARE ARGUMENT…: boots an overlay of the disk to its login, logs in and powers off.
lab_login() {
    local disk=$1 firmware=$2
    shift 2
    cp $vars $lab_vars
    rm -f /tmp/keys
    mkfifo /tmp/keys
    local options=(-drive "if=pflash,format=raw,readonly=on,file=$code" -drive "if=pflash,format=raw,file=$lab_vars")
    [ "$firmware" = efi ] || options=(-bios /usr/share/seabios/bios-256k.bin)
    "$SKIFF" -global kvm-pit.lost_tick_policy=discard -m 1024 -display none -no-reboot -serial stdio "${options[@]}" \
        -drive "if=none,id=disk,file=$disk,format=raw,snapshot=on" "$@" </tmp/keys >$lab_console &
    ovmf_pid=$!
    exec 3>/tmp/keys
    until_printed 'debian login:' || { end_ovmf; return 1; }
    type_line root
    until_printed 'Password:'
    type_line skiff
    until_printed '#'
    type_line 'test -d /sys/firmware/efi && echo booted-by-efi || echo booted-by-bios; poweroff'
    end_ovmf
}

if [ "${1-}" = in-lab ]; then
    shift
    "$@"
    exit
fi

# ---- outside ----

# lab CASE ARGUMENT…: $output is what it printed.
lab() {
    command -v qemu-system-x86_64 >/dev/null || skip "no qemu-system-x86_64"
    [ -r "$code" ] || skip "$code is missing: tests/install-deps test"
    tests/lab/lab --steady --timeout "$(seconds 1500)" --retries 1 -- tests/guest/linux-ovmf.sh in-lab "$@" </dev/null >"$output" 2>&1 ||
        fail "the lab ended with status $?"
}

# make_debian: build/linux/debian.img, which is kept: it takes a minute or two, and Debian's archive.
make_debian() {
    [ -e build/linux/debian.img ] || guest-images/linux/build-debian build/linux/debian.img >"$output" 2>&1 ||
        skip "no image of Debian: $(tail -n 1 "$output")"
}

# make_boot_disk: $work/boot, whose GRUB starts Debian's kernel.
make_boot_disk() {
    [ ! -e "$work/boot" ] || return 0
    mkdir "$work/files"
    cp build/linux/vmlinuz build/linux/initramfs.cpio.gz "$work/files"
    printf '%s\n' 'serial --unit=0' 'terminal_output serial' 'linux /vmlinuz console=ttyS0 quiet skiff.run=uname' \
        'initrd /initramfs.cpio.gz' boot >"$work/files/grub.cfg"
    guest-images/linux/build-boot-disk "$work/boot" "$work/files"
}

# qemu_variable VARS LINE…: QEMU runs the same firmware with these variables, and its shell the lines of startup.nsh.
qemu_shell() {
    local image=$1
    shift
    mkdir -p "$work/esp"
    printf '%s\r\n' "$@" 'reset -s' >"$work/esp/startup.nsh"
    timeout "$(seconds 300)" qemu-system-x86_64 -M q35 -m 512 -display none -nodefaults -serial "file:$console" \
        -drive "if=pflash,format=raw,readonly=on,file=$code" -drive "if=pflash,format=raw,file=$image" \
        -drive "if=none,id=esp,format=raw,file=fat:rw:$work/esp" -device virtio-blk-pci,drive=esp </dev/null
}

test_variables_are_kept_over_runs_and_a_kill_and_are_valid_for_QEMU_both_ways() {
    cp $vars "$work/before.fd"
    qemu_shell "$work/before.fd" "setvar FromQemu $guid -nv -bs -rt =0x99aabbcc"
    lab lab_variables "$work/before.fd" FromQemu
    printed '44 33 22 11' 2 || fail "the first variable was not found twice"
    printed '88 77 66 55' || fail "the variable that was set before SIGKILL is gone"
    printed 'CC BB AA 99' || fail "QEMU's variable is gone"
    expect_output '^== status 137'
    sed -n '/^== vars/,/^== end/p' "$output" | tr -d '\r' | sed '1d;$d' | base64 -d | gzip -dc >"$work/after.fd"
    expect_equal "size of the variables" "$(stat -c %s "$work/after.fd")" "$(stat -L -c %s $vars)"
    : >"$output"
    qemu_shell "$work/after.fd" "setvar SkiffOne $guid" "setvar SkiffTwo $guid"
    expect_output '44 33 22 11'
    expect_output '88 77 66 55'
}

test_variables_go_back_with_a_guest_that_is_saved_and_restored_under_load() {
    command -v qemu-system-x86_64 >/dev/null || skip "no qemu-system-x86_64"
    [ -r "$code" ] || skip "$code is missing: tests/install-deps test"
    tests/lab/lab --steady --timeout "$(seconds 5000)" --retries 1 --disk 8G -- tests/guest/linux-snapshot.sh ovmf </dev/null >"$output" 2>&1 ||
        fail "$(cat "$output")"
    grep '^# ' "$output" >&"$report"
    refute_output '# SKIP'
}

test_a_kernel_boots_from_an_EFI_partition_on_virtio_blk() {
    make_boot_disk
    lab lab_boot "$work/boot" -device virtio-blk-pci,drive=disk,bootindex=0
    expect_output '^== status 0'
    expect_output '^Linux skiff .*x86_64'
}

test_a_kernel_boots_from_an_EFI_partition_on_virtio_scsi() {
    make_boot_disk
    lab lab_boot "$work/boot" -device virtio-scsi-pci -device scsi-hd,drive=disk,bootindex=0
    expect_output '^== status 0'
    expect_output '^Linux skiff .*x86_64'
}

test_Debian_boots_to_its_login_by_EFI() {
    make_debian
    lab lab_login "$PWD/build/linux/debian.img" efi -device virtio-scsi-pci -device scsi-hd,drive=disk,bootindex=0
    expect_output '^== status 0'
    expect_output '^booted-by-efi'
}

test_Debian_boots_to_its_login_by_BIOS() {
    make_debian
    lab lab_login "$PWD/build/linux/debian.img" bios -device virtio-blk-pci,drive=disk,bootindex=0
    expect_output '^== status 0'
    expect_output '^booted-by-bios'
}

exec {report}>&1
run_tests

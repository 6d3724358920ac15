#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 1800
# Snapshots of the machine in its disks, and state files, of a guest that writes memory at full speed, a disk and its
# flash, and talks over the network. It compares all of that with its own record, and fails by itself.
. "$(dirname "$0")/common.bash"

skiff_img=$(dirname "${SKIFF_UNCONFINED:-$SKIFF}")/skiff-img

# make_images [MACHINE OPTIONS]
make_images() {
    rom=$work/mix.rom
    disk=$work/disk.qcow2 vars=$work/vars.qcow2
    rm -f "$disk" "$vars"
    cp build/guests/mix.rom "$rom"
    printf 'ms=20 dirty=8M span=4M' | dd of="$rom" conv=notrunc status=none
    "$skiff_img" create -q -f qcow2 "$disk" 32M
    "$skiff_img" create -q -f qcow2 "$vars" 64K
    machine=(-display none "${debug_exit[@]}" -m 64 -smp 3
        -drive "if=pflash,format=raw,readonly=on,file=$rom"
        -drive "if=none,id=vars,format=qcow2,file=$vars,node-name=vars0" -machine q35,pflash1=vars0
        -drive "if=none,id=disk,format=qcow2,file=$disk,node-name=disk0" -device virtio-blk-pci,drive=disk
        -netdev user,id=net0 -device virtio-net-pci,netdev=net0 "$@")
}

# Memory that is saved by write protection, where userfaultfd is permitted.
shared_memory=(-object memory-backend-memfd,id=mem0,size=64M -machine memory-backend=mem0)

start_machine() {
    start_skiff "${machine[@]}" -serial "file:$console" -monitor stdio "$@"
}

# counts: the guest's last complete line, as words.
counts() {
    tr -d '\r' <"$console" | grep -aoE '^mix [0-9]+ disk=[0-9]+ flash=[0-9]+ net=[0-9]+ ram=[0-9]+ lost=[0-9]+$' | tail -n 1
}

# goes_on: until the guest has used everything since now.
goes_on() {
    local before after deadline=$((SECONDS + $(seconds 200)))
    wait_output '^mix [0-9]+ disk=[0-9]+ .*lost=[0-9]+$'
    before=$(counts)
    until all_grew "$before" "$(counts)"; do
        kill -0 "$skiff_pid" 2>/dev/null || fail "the guest has ended: $(tail -n 3 "$console")"
        ! all_grew "$(counts)" "$before" || before=$(counts) # it has gone back, or begun anew
        [ $SECONDS -lt $deadline ] || fail "the guest does not go on: '$before', then '$(counts)'"
        sleep 0.02
    done
}

# all_grew LINE LINE: each number but lost= is greater in the second.
all_grew() {
    local one two i
    read -ra one <<<"${1//[a-z=]/}"
    read -ra two <<<"${2//[a-z=]/}"
    for i in 0 1 2 3 4; do
        [ "${two[i]:-0}" -gt "${one[i]:-0}" ] || return 1
    done
}

# command TEXT [ERROR]: in the monitor, until it has ended; fails if it prints an error, or not that one.
command() {
    monitor_has_ended
    : >"$output"
    monitor "$1"
    monitor_has_ended
    if [ $# -gt 1 ]; then
        expect_output "$2"
    else
        refute_output '^Error'
    fi
}
marks=1000000

# until_output COMMAND PATTERN: repeats the command until its output matches.
until_output() {
    local deadline=$((SECONDS + $(seconds 200)))
    until monitor_has_ended && : >"$output" && monitor "$1" && monitor_has_ended && printed "$2"; do
        kill -0 "$skiff_pid" 2>/dev/null || fail "skiff has ended instead of '$2'"
        [ $SECONDS -lt $deadline ] || fail "$1: never '$2'"
        sleep 0.05
    done
}

# monitor_has_ended: what was typed.
monitor_has_ended() {
    marks=$((marks + 1))
    monitor "print $marks"
    wait_output "^$(printf '0x%x' "$marks")\$"
}

end_machine() {
    monitor quit
    wait_skiff
    expect_status 0
}

check_images() {
    "$skiff_img" check -q -f qcow2 "$disk" || fail 'the disk has errors'
    "$skiff_img" check -q -f qcow2 "$vars" || fail 'the flash has errors'
}

test_a_snapshot_comes_back_in_place() {
    make_images
    start_machine
    goes_on
    command 'savevm one'
    goes_on
    command 'savevm two'
    goes_on
    command 'loadvm one'
    goes_on
    command 'loadvm two'
    goes_on
    command 'info snapshots'
    expect_output '^-- +one '
    expect_output '^-- +two '
    command 'delvm one'
    command 'loadvm one' "Snapshot 'one' does not exist in one or more devices"
    goes_on
    end_machine
    check_images
}

test_a_snapshot_comes_back_in_another_process() {
    make_images
    start_machine
    goes_on
    command savevm
    command 'savevm mine'
    goes_on
    end_machine
    "$skiff_img" snapshot -l "$disk" >"$work/list"
    grep -qE ' vm-[0-9]{14} ' "$work/list" || fail "no automatic name: $(cat "$work/list")"
    start_machine -loadvm mine
    goes_on
    end_machine
    start_machine -loadvm mine -sandbox on
    goes_on
    command 'savevm boxed'
    goes_on
    command 'loadvm boxed'
    goes_on
    end_machine
    check_images
    skiff "${machine[@]}" -loadvm none
    expect_status 2
    expect_output "-loadvm none: Snapshot 'none' does not exist in one or more devices"
}

test_a_stopped_vm_stays_stopped() {
    make_images
    start_machine
    goes_on
    monitor stop
    wait_paused paused
    command 'savevm one'
    command 'info status'
    expect_output '^VM status: paused$'
    command cont
    goes_on
    monitor stop
    wait_paused paused
    command 'loadvm one'
    command 'info status'
    expect_output '^VM status: paused$'
    command cont
    goes_on
    end_machine
}

test_what_cannot_be_is_refused_by_name() {
    make_images
    cp "$rom" "$rom.copy"
    start_machine -drive "if=none,id=raw,format=raw,file=$rom.copy,node-name=raw0" -device virtio-blk-pci,drive=raw
    goes_on
    command 'savevm one' "Device 'raw0' is writable but does not support snapshots"
    end_machine
    start_machine
    goes_on
    command 'loadvm none' "Snapshot 'none' does not exist"
    goes_on
    end_machine
    check_images
}

test_names_are_words_or_in_quotes() {
    make_images
    start_machine
    goes_on
    command 'savevm ""' '^Error: The name of the snapshot is empty'
    command 'loadvm ""' '^Error: The name of the snapshot is empty'
    command 'delvm ""' '^Error: The name of the snapshot is empty'
    command 'savevm two words' "takes no 'words'"
    command 'savevm "two words"'
    goes_on
    command 'loadvm "two words"'
    goes_on
    command 'info snapshots'
    expect_output '^-- +two words '
    command 'delvm "two words"'
    end_machine
    check_images
}

# What is in temporary files can be gone back to in the same process; a save says what is lost at its end.
test_a_save_of_temporary_disks_warns_and_comes_back_in_place() {
    make_images
    start_machine -snapshot
    goes_on
    command 'savevm one'
    expect_output "warning: snapshot-save: snapshot 'one' of disk 'vars', 'disk' is in a temporary file"
    goes_on
    command 'loadvm one'
    goes_on
    command "savevm-start $work/state"
    expect_output "warning: savevm-start: what the guest has written to disk 'vars', 'disk' is in a temporary file"
    end_machine
    start_machine
    goes_on
    command 'loadvm one' "Snapshot 'one' does not exist"
    command "savevm-start $work/state"
    refute_output warning
    end_machine
    check_images
}

# The machine that goes on has to have the devices of the one that was saved, wherever they come from.
test_a_plugged_device_is_saved() {
    make_images
    start_machine
    goes_on
    command 'device_add virtio-rng-pci,id=rng9'
    command 'savevm one'
    command "savevm-start $work/state"
    until_output 'info savevm' 'savevm status: completed'
    command savevm-end
    goes_on
    command 'loadvm one'
    goes_on
    remove_device rng9
    command 'loadvm one' '/machine/peripheral/rng9, which this machine does not have'
    goes_on
    command 'device_add virtio-rng-pci,id=rng9,addr=1d'
    command 'loadvm one' "device 'rng9' was at .*, and is at .*: give its place"
    goes_on
    end_machine
    start_machine -loadvm one -device virtio-rng-pci,id=rng9
    goes_on
    end_machine
    skiff "${machine[@]}" -loadvm one
    expect_status 2
    expect_output '/machine/peripheral/rng9, which this machine does not have'
    skiff -restore "$work/state"
    expect_status 2
    expect_output "which changed after its start .device 'rng9' was plugged in.: give all options, and -loadstate"
    check_images
}

test_a_disk_of_a_job_is_refused_by_name() {
    make_images
    start_machine
    goes_on
    command 'savevm a'
    command "drive_mirror disk $work/mirror qcow2"
    command 'savevm b' "Failed to create snapshot 'b' on device 'disk0': Node 'disk0' is busy: .*'disk' uses it"
    command 'loadvm a' "Could not load snapshot 'a' on 'disk0': Node 'disk0' is busy: .*'disk' uses it"
    until_output 'block_job_complete disk' "^Error: Block job 'disk' not found"
    command 'loadvm a' "Snapshot 'a' does not exist in one or more devices"
    command 'savevm c'
    goes_on
    command 'loadvm c'
    goes_on
    end_machine
    check_images
}

# random_event: something that a save or a load has to cope with, at any time.
random_event() {
    case $((RANDOM % 8)) in
    5) monitor 'device_add virtio-rng-pci,id=rng8,addr=10' 'device_del rng8' ;;
    6)
        monitor "drive_backup -f disk $work/copy" 'block_job_set_speed disk 1M' 'savevm b' 'loadvm a'
        [ $((RANDOM % 2)) = 0 ] || monitor 'block_job_cancel -f disk'
        ;;
    0) monitor stop cont ;;
    1) monitor 'job_cancel savevm0' ;;
    2) monitor 'info snapshots' 'info jobs' ;;
    3) monitor stop 'job_cancel savevm0' cont ;;
    4) monitor system_reset ;;
    esac
}

plugged=() # the device that was plugged in, as options

# change_devices: plugs it in or removes it.
change_devices() {
    if [ ${#plugged[@]} -gt 0 ]; then
        plugged=()
        remove_device rng9
    else
        plugged=(-device "virtio-rng-pci,id=rng9,addr=11")
        command "device_add ${plugged[1]}"
    fi
}

# remove_device ID: the guest does not eject one that it has found, which then goes with a reset.
remove_device() {
    monitor "device_del $1"
    while command 'info qtree' && printed "id \"$1\"$"; do
        monitor system_reset
        sleep 0.05
    done
}

# settle: no job is left, and no device but $plugged.
settle() {
    monitor 'block_job_cancel -f disk'
    until_output 'info block-jobs' '^No active jobs$'
    remove_device rng8
}

# The guest's own record is the oracle: each round goes on from a snapshot, and makes another one.
saves_and_loads() { # [MACHINE OPTIONS]
    local round
    make_images "$@"
    plugged=()
    start_machine
    goes_on
    command 'savevm a'
    for ((round = 0; round < $(rounds lab=2 check=6 long=200); round++)); do
        if [ $((RANDOM % 2)) = 0 ]; then
            end_machine
            check_images
            start_machine "${plugged[@]}" -loadvm a
        else
            command 'loadvm a'
        fi
        goes_on
        monitor 'savevm b'
        sleep "0.0$((RANDOM % 10))"
        random_event
        goes_on
        settle
        [ $((RANDOM % 3)) != 0 ] || change_devices
        goes_on
        command 'savevm a'
        command 'info snapshots'
        expect_output '^-- +a '
        [ $((RANDOM % 3)) != 0 ] || command 'delvm b'
    done
    end_machine
    check_images
}

test_it_is_saved_and_loaded_again_and_again() {
    saves_and_loads
}

test_shared_memory_is_saved_and_loaded_again_and_again() {
    saves_and_loads "${shared_memory[@]}"
}

test_a_state_file_has_devices_of_the_same_instant() {
    local round state
    make_images
    start_machine
    for ((round = 0; round < $(rounds lab=1 check=4 long=200); round++)); do
        goes_on
        state=$work/state$((round % 2)) # the other one is mapped
        monitor "savevm-start $state"
        sleep "0.0$((RANDOM % 10))"
        case $((RANDOM % 4)) in
        0) monitor savevm-end "savevm-start $state" ;; # cancels it, or comes after it
        1) monitor stop ;; # a cont after the end would let the disk go on without the file
        esac
        until_output 'info savevm' 'savevm status: (completed|failed)'
        ! printed 'savevm status: failed' || fail 'the save has failed'
        end_machine
        start_skiff -restore "$state" -serial "file:$console" -monitor stdio
        monitor cont # it may have been stopped
    done
    goes_on
    end_machine
    check_images
}

run_tests

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 900
# savevm-start and -loadstate: a guest that writes memory at full speed is saved while it runs, and goes on in other
# processes. It fails by itself if a page that it wrote is missing.
. "$(dirname "$0")/common.bash"

skiff_img=$(dirname "$SKIFF")/skiff-img

# machine WORDS ARGUMENT…: sets the array to a machine with two CPUs that count.
machine() {
    local words=$1
    shift
    machine=(-display none "${debug_exit[@]}" -m 96 -smp 2 -kernel build/guests/count.elf -append "ms=20 $words" "$@")
}

start_machine() {
    start_skiff "${machine[@]}" -serial "file:$console" -monitor stdio "$@"
}

# wait_completed: until the save is.
wait_completed() {
    local deadline=$((SECONDS + $(seconds 200)))
    until printed 'savevm status: completed'; do
        kill -0 "$skiff_pid" 2>/dev/null || fail "skiff ended instead of saving"
        ! printed 'savevm status: failed' || fail "the save has failed"
        [ $SECONDS -lt $deadline ] || fail "the save is not completed"
        monitor 'info savevm'
        sleep 0.05
    done
}

# save FILE: of a guest that has begun; ends the process.
save() {
    wait_output '^tick 5$'
    monitor "savevm-start $1"
    wait_completed
    monitor quit
    wait_skiff
    expect_status 0
}

# last_tick: the number of the guest's last one.
last_tick() {
    tr -d '\r' <"$console" | grep -aoE '^tick [0-9]+$' | tail -n 1 | cut -d' ' -f2
}

# goes_on TICKS ARGUMENT…: loads $work/state; the guest counts on from the tick that it had.
goes_on() {
    local before ticks=$1
    shift
    before=$(last_tick)
    start_machine -loadstate "$work/state" "$@"
    wait_output "^tick $((before + ticks))\$"
    ! printed "^tick 1\$" || fail "the guest has begun anew"
    monitor quit
    wait_skiff
    expect_status 0
}

test_a_guest_that_writes_memory_goes_on_in_another_process() {
    machine dirty=24M
    start_machine
    save "$work/state"
    expect_equal 'the mode of the file' "$(stat -c %a "$work/state")" 600
    "$skiff_img" state -q "$work/state" || fail 'skiff-img finds the file wrong'
    goes_on 100
    goes_on 100 # the file is as before
}

# A quit while memory is copied: skiff waits, for a file that answers, until it is gone.
test_a_quit_during_a_save_leaves_no_file() {
    local round
    machine dirty=24M
    for round in 1 2 3 4 5 6; do
        start_machine
        wait_output '^tick 5$'
        monitor "savevm-start $work/cut"
        sleep "0.0$round"
        monitor quit
        wait_skiff
        expect_status 0
        [ ! -e "$work/cut" ] || "$skiff_img" state -q "$work/cut" || fail "round $round has left a part of a file"
        rm -f "$work/cut"
    done
}

# Memory holds secrets: a file that others can read is named.
test_a_file_that_others_can_read_is_warned_of() {
    machine ''
    : >"$work/state"
    chmod 600 "$work/state"
    start_machine
    save "$work/state"
    ! printed 'can read it' || fail 'a warning of a file that is private'
    chmod 640 "$work/state"
    start_machine -sandbox on
    save "$work/state"
    expect_output "warning: .*$work/state' was there, and others"
    expect_equal 'the mode of the file' "$(stat -c %a "$work/state")" 640
}

# The filter lets vCPUs and workers do what a save needs, also for a file that is there.
test_a_sandboxed_machine_is_saved_and_goes_on() {
    machine dirty=8M
    start_machine -sandbox on
    save "$work/state"
    "$skiff_img" state -q "$work/state" || fail 'skiff-img finds the file wrong'
    goes_on 20 -sandbox on
    start_machine -sandbox on
    wait_output '^tick 5$'
    monitor "savevm-start $work/no/directory"
    wait_output 'No such file'
    monitor quit
    wait_skiff
    expect_status 0
}

test_the_guest_goes_on_after_savevm_end() {
    local at round
    machine dirty=24M
    start_machine
    wait_output '^tick 5$'
    for round in 1 2 3; do
        : >"$output"
        monitor "savevm-start $work/state"
        wait_completed
        at=$(last_tick)
        monitor savevm-end
        wait_output "^tick $((at + 20))\$"
    done
    monitor quit
    wait_skiff
    expect_status 0
    at=$(last_tick)
    start_machine -loadstate "$work/state"
    wait_output "^tick $at\$"
}

# The guest's own checks are the oracle of each round: it goes on from a file, and is saved to it again.
test_it_is_saved_and_loaded_again_and_again() {
    local round
    machine dirty=16M
    start_machine
    save "$work/state"
    for ((round = 0; round < $(rounds lab=3 check=10 long=200); round++)); do
        start_machine -loadstate "$work/state"
        monitor cont # a stop may have come before the instant of the save, and its cont behind it
        wait_output '^tick '
        : >"$output"
        monitor "savevm-start $work/state"
        sleep "0.0$((RANDOM % 10))" # anywhere in the save
        case $((RANDOM % 4)) in
        0) monitor savevm-end "savevm-start $work/state" ;; # cancels it, or comes after it
        1) monitor stop cont ;;
        esac
        wait_completed
        monitor quit
        wait_skiff
        expect_status 0
        "$skiff_img" state -q "$work/state" || fail 'skiff-img finds the file wrong'
    done
}

test_a_vm_that_was_stopped_stays_stopped() {
    machine ''
    start_machine
    wait_output '^tick 5$'
    monitor stop
    wait_paused paused
    save "$work/state"
    start_machine -loadstate "$work/state"
    wait_paused paused
    monitor cont
    wait_output '^tick '
}

test_a_save_that_fails_leaves_the_guest_running() {
    local at
    machine ''
    start_machine
    rm -f "$work/state"
    wait_output '^tick 5$'
    monitor "savevm-start $work/none/state"
    wait_output 'Error: .*No such file'
    monitor savevm-end
    (
        ulimit -f 1024 # KiB
        exec "$SKIFF" "${machine[@]}" -serial "file:$work/console2" -monitor stdio <<<"savevm-start $work/state
info savevm
quit"
    ) >"$work/output2" 2>&1
    grep -q 'File too large' "$work/output2" || fail "no error: $(cat "$work/output2")"
    [ ! -e "$work/state" ] || fail 'the file of a failed save is there'
    at=$(last_tick)
    wait_output "^tick $((at + 5))\$"
}

test_another_machine_is_refused_by_name() {
    machine ''
    start_machine
    save "$work/state"
    machine ''
    skiff "${machine[@]}" -serial null -loadstate "$work/state" -m 64
    expect_status 2
    expect_output "$work/state': .*memory"
    skiff "${machine[@]}" -serial null -loadstate "$work/state" -smp 3
    expect_status 2
    expect_output "$work/state': .*cpus"
    skiff "${machine[@]}" -serial null -loadstate "$work/state" -device virtio-rng-pci,id=rng9
    expect_status 2
    expect_output "$work/state': .*rng9"
}

# The file carries the machine; options that are given anew replace those that it has.
test_a_machine_is_restored_by_one_word() {
    local at
    machine dirty=8M
    start_machine -chardev "file,id=log,path=$work/log" -device virtio-serial-pci -device virtconsole,chardev=log
    save "$work/state"
    at=$(last_tick)
    mkdir -p "$work/elsewhere"
    SKIFF=$(realpath "$SKIFF")
    cd "$work/elsewhere" # the saved paths are of another directory
    start_skiff -restore "$work/state" -monitor stdio
    wait_output "^tick $((at + 10))\$"
    monitor "savevm-start $work/state" # its memory is in use
    wait_output 'Error: .*in use'
    monitor quit
    wait_skiff
    expect_status 0
    console=mine
    start_skiff -restore "$work/state" -serial file:mine -chardev null,id=log -monitor stdio
    wait_output '^tick '
    rm "$work/state" # its name: the machine has the file
    wait_output "^tick $((at + 10))\$"
    monitor quit
    wait_skiff
    expect_status 0
}

# What the file has of memory, and not its holes.
test_memory_is_read_in_the_background() {
    local options
    machine fill=32M
    start_machine
    save "$work/state"
    for options in '-prefault on' '-sandbox on'; do
        # shellcheck disable=SC2086 # an option and its value
        start_skiff -restore "$work/state" -monitor stdio -trace prefault_end $options
        wait_output 'prefault_end bytes=3[3-9][0-9]{6} '
        wait_output '^tick '
        monitor quit
        wait_skiff
        expect_status 0
    done
    start_skiff -restore "$work/state" -monitor stdio -trace prefault_end -prefault off
    wait_output '^tick '
    monitor quit
    wait_skiff
    expect_status 0
    ! printed prefault_end || fail 'memory is read with -prefault off'
}

test_a_restored_machine_is_saved_again() {
    local round
    machine dirty=16M
    start_machine
    save "$work/state0"
    for round in 1 2 3; do
        start_skiff -restore "$work/state$((round - 1))" -monitor stdio
        wait_output '^tick '
        monitor "savevm-start $work/state$round"
        wait_completed
        monitor quit
        wait_skiff
        expect_status 0
    done
    skiff -restore "$work/state3" -m 64
    expect_status 2
    expect_output 'memory is'
}

# A file that is no state, or a damaged one, is refused before the guest runs.
test_a_damaged_file_is_refused() {
    local at size
    machine ''
    start_machine
    save "$work/state"
    size=$(stat -c %s "$work/state")
    for at in 0 8 16 40 4000 20000 67108864 67108880 67112960; do
        cp --sparse=always "$work/state" "$work/bad"
        printf '\xa5\x5a\xa5' | dd of="$work/bad" bs=1 seek="$at" conv=notrunc status=none
        skiff "${machine[@]}" -serial null -loadstate "$work/bad"
        expect_status 2
        expect_output "the state in '$work/bad': "
    done
    for at in 0 31 32 5000 67108864 70000000 $((size - 4096)); do
        cp --sparse=always "$work/state" "$work/bad"
        truncate -s "$at" "$work/bad"
        skiff "${machine[@]}" -serial null -loadstate "$work/bad"
        expect_status 2
        expect_output "the state in '$work/bad': "
    done
    skiff "${machine[@]}" -serial null -loadstate "$work/missing"
    expect_status 2
    expect_output "the state in '$work/missing': cannot be opened: No such file"
}

run_tests

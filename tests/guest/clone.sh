#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 900
# A machine is saved before its agent has a command, and runs commands when it goes on: docs/exec.md, docs/snapshots.md.
. "$(dirname "$0")/common.bash"

out=$work/out err=$work/err

wait_saved() {
    local deadline=$((SECONDS + $(seconds 200)))
    until printed 'savevm status: completed'; do
        kill -0 "$skiff_pid" 2>/dev/null || fail "skiff ended instead of saving"
        [ $SECONDS -lt $deadline ] || fail "the save is not completed"
        monitor 'info savevm'
        sleep 0.05
    done
}

# save FILE ARGUMENT…: a machine with exec.elf, some time after it has greeted.
save() {
    local file=$1
    shift
    start_skiff -kernel build/guests/exec.elf -display none -serial "file:$console" -monitor stdio "$@"
    wait_output '^exec: started'
    sleep 0.5
    monitor "savevm-start $file"
    wait_saved
    monitor quit
    wait_skiff
    expect_status 0
}

# execute COMMAND ARGUMENT…: sets $status, $out and $err.
execute() {
    local command=$1
    shift
    status=0
    if [ -t 0 ]; then
        exec </dev/null
    fi
    timeout --kill-after=5 "$(seconds 200)" "$SKIFF" "$@" -exec "$command" >"$out" 2>"$err" || status=$?
    cat "$out" "$err" >"$output"
    [ "$status" -ne 124 ] || fail "skiff did not end"
}

# hmp COMMAND: of the process with -qmp unix:$work/qmp.
hmp() {
    wait_listening "$work/qmp"
    PYTHONPATH=tests/support python3 -c 'import sys, qmp
with qmp.Qmp(sys.argv[1]) as vm:
    print(vm.cmd("human-monitor-command", command_line=sys.argv[2]))' "$work/qmp" "$1"
}

test_a_restored_machine_runs_commands() {
    local number
    save "$work/state" -exec-port
    for number in 0 1 42 255; do
        execute "exit $number" -restore "$work/state"
        expect_status "$number"
        expect_equal "standard error" "$(<"$err")" ""
    done
    execute 'signal 9' -restore "$work/state"
    expect_status 137
    execute streams -restore "$work/state"
    expect_status 7
    expect_equal "standard output" "$(<"$out")" out
    expect_equal "standard error" "$(<"$err")" err
    execute cat -restore "$work/state" < <(seq 10000)
    expect_status 0
    cmp "$out" <(seq 10000)
    execute poweroff -restore "$work/state"
    expect_status 16
    expect_output '^skiff: -exec: the guest powered off before the command ended; status 16'
    execute hang -restore "$work/state" -timeout "$(seconds 3)"
    expect_status 12
    expect_output '^exec: running hang'
}

# With all options on the command line, and memory that is read.
test_a_loaded_machine_runs_a_command() {
    save "$work/state" -exec-port
    execute streams -loadstate "$work/state" -kernel build/guests/exec.elf -display none -serial null
    expect_status 7
    expect_equal "standard output" "$(<"$out")" out
}

test_a_machine_without_a_command_is_saved_again() {
    save "$work/state" -exec-port
    start_skiff -restore "$work/state" -monitor stdio
    sleep 0.2
    monitor "savevm-start $work/state2"
    wait_saved
    monitor quit
    wait_skiff
    expect_status 0
    execute 'exit 6' -restore "$work/state2"
    expect_status 6
}

test_the_agent_can_greet_after_the_load() {
    start_skiff -kernel build/guests/exec.elf -display none -serial "file:$console" -monitor stdio -exec-port -S
    monitor "savevm-start $work/state"
    wait_saved
    monitor quit
    wait_skiff
    execute 'exit 8' -restore "$work/state" -S -timeout "$(seconds 1)"
    expect_status 12
    expect_output 'no agent opened org.skiff.exec.0'
    start_skiff -restore "$work/state" -exec 'exit 8' -S -qmp "unix:$work/qmp,server=on,wait=off"
    hmp cont
    wait_skiff
    expect_status 8
}

# What runs a command already takes no other.
test_a_machine_that_runs_a_command_refuses_another() {
    start_skiff -kernel build/guests/exec.elf -exec hang -serial "file:$console" -qmp "unix:$work/qmp,server=on,wait=off"
    wait_output '^last words'
    hmp "savevm-start $work/state"
    until hmp 'info savevm' | grep -q 'savevm status: completed'; do
        sleep 0.05
    done
    kill "$skiff_pid"
    wait_skiff
    execute 'exit 0' -restore "$work/state" -serial null
    expect_status 2
    expect_output "the state in '$work/state': -exec: the guest's agent was running a command"
    start_skiff -restore "$work/state" -monitor stdio -serial null
    monitor 'info status' quit
    wait_skiff
    expect_status 0
    expect_output 'VM status: '
}

test_a_machine_without_the_port_refuses_a_command() {
    save "$work/state"
    execute 'exit 0' -restore "$work/state"
    expect_status 2
    expect_output "-restore '$work/state': -exec: the saved machine has no port"
    execute 'exit 0' -loadstate "$work/state" -kernel build/guests/exec.elf -display none -serial null
    expect_status 2
    expect_output "the state in '$work/state': "
}

run_tests

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 900
# -notify: its messages, on descriptors and datagram sockets, and receivers that misbehave.
. "$(dirname "$0")/common.bash"

said=$work/said

guest=(-display none -serial null "${debug_exit[@]}" -kernel build/guests/crash.elf)

expect_said() {
    expect_equal "what was told" "$(sed 's/^MAINPID=[1-9][0-9]*$/MAINPID=N/' "$said" | tr '\n' ' ')" "$1"
}

test_a_pipe_gets_start_and_end() {
    exec 7> >(cat >"$said")
    local reader=$!
    skiff "${guest[@]}" -append exit=3 -notify fd:7
    exec 7>&-
    expect_status 7
    tail --pid="$reader" -f /dev/null
    expect_said 'READY=1 MAINPID=N STATUS=running STOPPING=1 EXIT_STATUS=7 '
}

test_a_file_gets_messages() {
    skiff "${guest[@]}" -append pvpanic -notify fd:7 7>"$said"
    expect_status 4
    expect_said 'READY=1 MAINPID=N STATUS=running STOPPING=1 EXIT_STATUS=4 '
}

# wait_runs TIMES: until that many messages that the VM runs have arrived.
wait_runs() {
    until [ "$(grep -c '^STATUS=running' "$said")" -eq "$1" ]; do
        kill -0 "$skiff_pid" || fail "skiff has ended"
        sleep 0.05
    done
}

test_pauses_are_reported() {
    start_skiff "${guest[@]}" -append spin -serial mon:stdio -notify fd:7 7>"$said"
    type_in '\001c'
    wait_runs 1 # a VM stopped before its start does not start
    monitor stop
    wait_paused paused
    monitor cont
    wait_runs 2
    monitor quit
    wait_skiff
    expect_said 'READY=1 MAINPID=N STATUS=running STATUS=paused (paused) STATUS=running STOPPING=1 EXIT_STATUS=0 '
}

test_a_vm_that_is_not_started_is_not_ready() {
    start_skiff "${guest[@]}" -append spin -serial mon:stdio -S -notify fd:7 7>"$said"
    type_in '\001c'
    wait_paused prelaunch
    monitor quit
    wait_skiff
    expect_said 'STOPPING=1 EXIT_STATUS=0 '
}

test_the_commands_status_is_reported() {
    skiff -kernel build/guests/exec.elf -exec 'exit 5' -notify fd:7 7>"$said"
    expect_status 5
    expect_said 'READY=1 MAINPID=N STATUS=running STOPPING=1 EXIT_STATUS=5 '
}

test_a_failed_start_is_reported() {
    skiff "${guest[@]}" -device nonsense -notify fd:7 7>"$said"
    expect_status 2
    expect_said 'EXIT_STATUS=2 '
}

# listen PATH: writes each datagram as a line to $said, with | for newlines; ends with EXIT_STATUS.
listen() {
    python3 - "$1" >"$said" <<'PYTHON' &
import socket, sys
path = sys.argv[1]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("\0" + path[1:] if path.startswith("@") else path)
print("listening", flush=True)
while True:
    text = s.recv(4096).decode()
    print(text.replace("\n", "|"), flush=True)
    if text.startswith("EXIT_STATUS"):
        break
PYTHON
    listener=$!
    until [ -s "$said" ]; do sleep 0.05; done
}

test_a_datagram_socket_gets_messages() {
    local path
    for path in "$work/notify" "@skiff-notify-$$"; do
        : >"$said"
        listen "$path"
        skiff "${guest[@]}" -append poweroff -notify "unix:$path"
        expect_status 0
        wait "$listener"
        grep -qE '^READY=1\|MAINPID=[1-9][0-9]*\|STATUS=running\|$' "$said"
        grep -q '^STOPPING=1|$' "$said"
        grep -q '^EXIT_STATUS=0|$' "$said"
    done
}

test_receivers_that_close_or_do_not_read_do_no_harm() {
    exec 7> >(true)
    skiff "${guest[@]}" -append exit=1 -notify fd:7
    expect_status 3
    exec 7>&-
    mkfifo "$work/full"
    exec 8<>"$work/full"
    timeout 1 cat /dev/zero >"$work/full" || true # fills it
    skiff "${guest[@]}" -append exit=1 -notify fd:8
    expect_status 3
}

test_invalid_receivers_are_refused() {
    local text
    for text in fd:x fd:99 unix: "unix:$work/nobody" nonsense fd:-1; do
        skiff "${guest[@]}" -append spin -notify "$text"
        expect_status 2
        expect_output "^skiff: -notify $text: "
    done
    skiff "${guest[@]}" -append spin -notify fd:7 7</dev/null
    expect_status 2
    expect_output 'reading only'
}

run_tests

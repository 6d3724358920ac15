#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 900
# The console in two places: on the terminal and, with the time, in a file; and on standard error
# when the guest panics with its console elsewhere.
. "$(dirname "$0")/common.bash"

log=$work/log

# same_but_for_stamps: every line of the log has a time stamp; the rest equals the terminal's
# output.
same_but_for_stamps() {
    ! grep -vaE '^\[[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}\] ' "$log" || fail "a line of the log has no time"
    sed -E 's/^\[[0-9:.]{12}\] //' "$log" >"$work/plain"
    cmp "$work/plain" "$1"
}

test_the_file_has_the_terminals_console_with_time_stamps() {
    own_guest hello '' -serial "stdio,logfile=$log,logtimestamp=on"
    expect_status 1
    same_but_for_stamps "$output"
}

test_the_monitor_may_share_the_terminal() {
    own_guest hello '' -serial "mon:stdio,logfile=$log,logtimestamp=on"
    expect_status 1
    same_but_for_stamps "$output"
}

# The guest prints without pause; skiff's own messages go elsewhere.
test_output_before_a_signal_is_in_both_places() {
    local signal lines
    for signal in TERM INT HUP ABRT; do
        set_own_guest count 'ms=1'
        start_skiff "${own_guest[@]}" -serial "stdio,logfile=$log,logtimestamp=on" -D "$work/messages"
        wait_output '^tick 50'
        kill -s "$signal" "$skiff_pid"
        wait_skiff
        sed -E 's/^\[[0-9:.]{12}\] //' "$log" >"$work/plain"
        grep -qaE '^\[[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}\] tick 50' "$log"
        if [ "$signal" = ABRT ]; then
            # Output continues while the two are written one after the other.
            lines=$(wc -l <"$output")
            cmp <(head -n "$lines" "$output") <(head -n "$lines" "$work/plain")
        else
            cmp "$output" "$work/plain"
        fi
    done
}

test_a_log_may_be_appended_to() {
    own_guest hello '' -serial "stdio,logfile=$log"
    own_guest hello '' -serial "stdio,logfile=$log,logappend=on"
    expect_equal "greetings in the log" "$(grep -c '^hello: PASS' "$log")" 2
}

test_a_panic_prints_a_console_that_is_not_on_standard_output() {
    own_guest crash pvpanic -serial "file:$log"
    expect_status 4
    expect_output "^skiff: the console's last lines:"
    expect_output '^crash: pvpanic'
    own_guest crash pvpanic -serial null
    expect_output '^crash: pvpanic'
}

test_a_panic_does_not_repeat_a_console_on_standard_output() {
    own_guest crash pvpanic -serial stdio
    expect_status 4
    refute_output "last lines"
    expect_equal "times it was shown" "$(grep -c '^crash: pvpanic' "$output")" 1
}

run_tests

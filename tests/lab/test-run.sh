#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: unit
# The test runner: what it counts as passed, failed and skipped.
. "$(dirname "$0")/../guest/common.bash"

# program NAME LINE…: an executable script $work/NAME.
program() {
    local name=$1
    shift
    printf '%s\n' '#!/bin/bash' "$@" >"$work/$name"
    chmod +x "$work/$name"
}

# run_programs NAME…: sets $status, output to $output.
run_programs() {
    status=0
    tests/run --tier unit "${@/#/$work/}" >"$output" 2>&1 || status=$?
}

expect_totals() {
    expect_equal "the last line" "$(tail -n 1 "$output")" "$1"
}

test_lines_of_tap_are_counted_one_by_one() {
    program tap 'echo "ok 1 - a"; echo "ok 2 - b # SKIP no such thing"; echo "not ok 3 # SKIP c"'
    run_programs tap
    expect_status 0
    expect_totals "1 passed, 0 failed, 2 skipped"
    expect_output '^skipped: tap: 2 \(c, no such thing\)$'
}

test_a_failed_line_fails_the_run_and_shows_the_output() {
    program bad 'echo "ok 1 - a"; echo "not ok 2 - b"; echo detail'
    run_programs bad
    expect_status 1
    expect_totals "1 passed, 1 failed, 0 skipped"
    expect_output '^	detail$'
}

test_a_program_without_tap_is_one_test_by_its_status() {
    program pass 'exit 0'
    program fail 'exit 3'
    program skip 'echo "no such device"; exit 77'
    run_programs pass fail skip
    expect_status 1
    expect_totals "1 passed, 1 failed, 1 skipped"
    expect_output 'exit status 3'
    expect_output '^skipped: skip: 1 \(no such device\)$'
}

test_a_crash_after_passed_tests_is_a_failure() {
    program crash 'echo "ok 1 - a"; kill -ABRT $$'
    run_programs crash
    expect_status 1
    expect_totals "1 passed, 1 failed, 0 skipped"
    expect_output 'killed by signal 6'
}

test_the_time_limit_ends_a_program_and_its_children() {
    program slow '# timeout: 5' 'sleep 1000 & echo $! >"'"$work"'/child"; wait'
    run_programs slow
    expect_status 1
    expect_totals "0 passed, 1 failed, 0 skipped"
    expect_output 'no end after 5 s'
    timeout 200 tail -s 0.05 --pid="$(<"$work/child")" -f /dev/null || fail "its child is still there"
}

test_programs_of_other_tiers_do_not_run() {
    program elsewhere '# tier: kvm' "touch $work/ran"
    run_programs elsewhere
    expect_status 0
    expect_totals "0 passed, 0 failed, 0 skipped"
    [ ! -e "$work/ran" ] || fail "it ran"
}

run_tests

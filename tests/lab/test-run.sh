#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: unit
# The test runner: its counts of passed, failed and skipped tests.
. "$(dirname "$0")/../guest/common.bash"

# program NAME LINE…: an executable script $work/NAME.
program() {
    local name=$1
    shift
    printf '%s\n' '#!/bin/bash' "$@" >"$work/$name"
    chmod +x "$work/$name"
}

# run_programs [--OPTION]… NAME…: sets $status, output to $output.
run_programs() {
    arguments=(--tier unit)
    run_these "$@"
}

# run_these [--OPTION]… NAME…: after the options in $arguments.
run_these() {
    local word
    for word in "$@"; do
        [[ $word == --* ]] || word=$work/$word
        arguments+=("$word")
    done
    status=0
    tests/run "${arguments[@]}" >"$output" 2>&1 || status=$?
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

test_rounds_are_those_of_check_without_long() {
    program rounds 'echo "ok 1 - $TEST_ROUNDS"; [ "$TEST_ROUNDS" = "'"$work"'" ]'
    run_programs rounds
    expect_output '^	ok 1 - check$'
    run_programs --long rounds
    expect_output '^	ok 1 - long$'
}

test_full_counts_have_four_times_the_time() {
    program slow '# timeout: 1' 'sleep 1000'
    run_programs --long slow
    expect_output 'no end after 4 s'
}

# run_in_fake_lab ARGUMENT…: run_programs with tier lab; its "machines" are this one, or break as
# the program $work/breaks decides.
run_in_fake_lab() {
    program lab 'echo $$ >>"'"$work"'/machines"' 'while [ "$1" != -- ]; do shift; done; shift' \
        '[ ! -x "'"$work"'/breaks" ] || "'"$work"'/breaks" || exit 125' 'exec "$@"'
    rm -f "$work/machines"
    arguments=(--tier lab --jobs 2)
    TEST_LAB=$work/lab QEMU_SYSTEM_X86_64=true run_these "$@"
}

test_machines_of_the_lab_take_a_program_after_each_end() {
    local i
    # The first ends when all the others have ended, so they ran in the other machine.
    program a1 '# tier: lab' '# timeout: 200' "until [ \$(ls $work/ended.* 2>/dev/null | wc -l) = 5 ]; do sleep 0.05; done"
    for i in 2 3 4 5 6; do
        program "a$i" '# tier: lab' '# timeout: 100' "touch $work/ended.$i"
    done
    run_in_fake_lab a1 a2 a3 a4 a5 a6
    expect_status 0
    expect_totals "6 passed, 0 failed, 0 skipped"
    expect_equal "machines" "$(wc -l <"$work/machines")" 2
}

test_rounds_in_the_lab_are_fewer_without_long() {
    program rounds '# tier: lab' 'echo "ok 1 - $TEST_ROUNDS"; exit 1'
    run_in_fake_lab rounds
    expect_output '^	ok 1 - lab$'
    run_in_fake_lab --long rounds
    expect_output '^	ok 1 - long$'
}

test_a_lab_that_breaks_is_tried_again() {
    program breaks "! mkdir $work/broken 2>/dev/null"
    program a1 '# tier: lab' 'echo "ok 1 - a"; echo "not ok 2 - b"; echo detail'
    program a2 '# tier: lab' true
    run_in_fake_lab a1 a2
    expect_status 1
    expect_totals "2 passed, 1 failed, 0 skipped"
    expect_output '^	detail$'
}

test_a_program_whose_machines_all_break_has_failed() {
    program breaks false
    program a1 '# tier: lab' true
    run_in_fake_lab a1
    expect_status 1
    expect_totals "0 passed, 1 failed, 0 skipped"
    expect_output 'the lab gave no result'
    expect_equal "machines" "$(wc -l <"$work/machines")" 3
}

test_programs_of_other_tiers_do_not_run() {
    program elsewhere '# tier: kvm' "touch $work/ran"
    run_programs elsewhere
    expect_status 0
    expect_totals "0 passed, 0 failed, 0 skipped"
    [ ! -e "$work/ran" ] || fail "it ran"
}

run_tests

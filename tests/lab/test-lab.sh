#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: unit
# timeout: 900
# The lab itself: what it passes through, and its exit statuses.
. "$(dirname "$0")/../guest/common.bash"
command -v qemu-system-x86_64 >/dev/null || { echo "no qemu-system-x86_64"; exit 77; }

# in_lab ARGUMENT…: sets $status; standard output to $output, standard error to $work/errors.
in_lab() {
    status=0
    tests/lab/lab "$@" >"$output" 2>"$work/errors" || status=$?
}

test_streams_status_directory_and_environment_pass_through() {
    in_lab --retries 0 --timeout "$(seconds 250)" -- bash -c \
        'pwd; echo "$TEST_TIER"; md5sum; echo complaint >&2; exit 42' < <(yes | head -c 200000)
    expect_status 42
    expect_equal "standard output" "$(paste -sd' ' "$output")" \
        "$PWD $TEST_TIER $(yes | head -c 200000 | md5sum)"
    expect_equal "standard error" "$(<"$work/errors")" complaint
}

test_kvm_tun_vhost_and_a_disk_with_direct_io_are_there() {
    in_lab --retries 0 --timeout "$(seconds 250)" --disk 64M -- bash -c \
        '[ -c /dev/kvm ] && [ -c /dev/vhost-net ] && [ -c /dev/vhost-vsock ] && [ -c /dev/net/tun ] &&
        dd if=/dev/zero of=/scratch/file oflag=direct bs=4k count=1 status=none && touch build/written'
    expect_equal "standard error" "$(<"$work/errors")" ''
    expect_status 0
    [ ! -e build/written ] || fail "the host's file tree was modified"
}

test_a_command_without_end_is_status_124() {
    in_lab --retries 0 --timeout 6 -- sleep 1000
    expect_status 124
}

test_a_broken_lab_is_tried_again_and_status_125() {
    in_lab --retries 1 --timeout "$(seconds 250)" -- bash -c 'echo try; echo c >/proc/sysrq-trigger'
    expect_status 125
    expect_equal "standard output" "$(paste -sd' ' "$output")" "try try"
    grep -q 'sysrq triggered crash' "$work/errors" || fail "the kernel's last messages are missing"
}

test_a_machine_without_a_sign_of_life_is_a_broken_lab() {
    in_lab --retries 0 --timeout "$(seconds 250)" --stuck 20 -- bash -c \
        'echo try; kill -STOP "$(cat /run/lab/beat.pid)"; sleep 1000'
    expect_status 125
    expect_equal "standard output" "$(paste -sd' ' "$output")" try
    grep -q 'no sign of life for 20 s' "$work/errors" || fail "it does not say why: $(cat "$work/errors")"
}

test_bad_usage_is_status_2() {
    in_lab --no-such-option 1 -- true
    expect_status 2
    in_lab --smp
    expect_status 2
    in_lab --
    expect_status 2
}

run_tests

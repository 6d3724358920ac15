# SPDX-License-Identifier: Apache-2.0
# Sourced by the scripts of tests/guest: runs skiff with a time limit and checks its status and output.
#
# A script defines functions test_some_sentence and ends with `run_tests`, which runs each in a subshell of its own
# with `set -e`, prints TAP, and shows what skiff printed when one fails:
#
#   #!/bin/bash
#   # tier: kvm
#   . "$(dirname "$0")/common.bash"
#
#   test_hello_passes() {
#       skiff -kernel build/guests/hello.elf -device isa-debug-exit,iobase=0xf4,iosize=4 -display none -serial stdio
#       expect_status 1
#       expect_output 'hello: PASS'
#   }
#
#   run_tests
#
# tests/run sets SKIFF, TEST_TIER, TEST_SLOW and TMPDIR; by hand a script runs as it is, with build/skiff.
# The current directory is the top of the tree.
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

: "${SKIFF:=build/skiff}" "${TEST_SLOW:=1}"
work=$(mktemp -d "${TMPDIR:-/tmp}/skiff-guest.XXXXXX")
output=$work/output
status=
test_pids=()

# seconds N: N, or more where everything is slower.
seconds() {
    echo $(($1 * TEST_SLOW))
}

# skiff [--limit SECONDS] ARGUMENT…: runs skiff to its end; sets $status and writes stdout and stderr to $output.
# Not ending within the limit (default 60) fails the test. Standard input is /dev/null unless redirected.
skiff() {
    local limit=60
    if [ "$1" = --limit ]; then
        limit=$2
        shift 2
    fi
    status=0
    if [ -t 0 ]; then
        exec </dev/null
    fi
    timeout --kill-after=5 "$(seconds "$limit")" "$SKIFF" "$@" >"$output" 2>&1 || status=$?
    [ "$status" -ne 124 ] || fail "skiff did not end within $(seconds "$limit") s"
}

# linux_guest SCRIPT ARGUMENT…: boots Debian's kernel, which runs the shell script SCRIPT and powers off. The guest's
# status is checked with expect_guest_status. $linux_append stands on the kernel's command line in place of "quiet",
# $linux_kernel is another kernel than the bzImage.
linux_guest() {
    local script=$1
    shift
    skiff --limit "${linux_limit:-90}" -m 512 -nographic -no-reboot \
        -kernel "${linux_kernel-build/linux/vmlinuz}" -initrd build/linux/initramfs.cpio.gz \
        -append "console=ttyS0 ${linux_append-quiet} skiff.run=sh:$(printf '%s' "$script" | base64 -w0)" "$@"
}

expect_guest_status() {
    printed "^skiff-guest: exit $1\$" || fail "the guest's script did not end with status $1"
}

# start_skiff ARGUMENT…: in the background, output to $output; sets $skiff_pid. Its standard input is what type_in
# sends, and stays open. Ended with the test at the latest.
start_skiff() {
    rm -f "$work/keys"
    mkfifo "$work/keys"
    exec {keys}<>"$work/keys"
    "$SKIFF" "$@" <"$work/keys" >"$output" 2>&1 &
    skiff_pid=$!
    test_pids+=("$skiff_pid")
}

# type_in TEXT: with the escapes of printf: '\001c' is Ctrl-A c, '\r' is Enter.
type_in() {
    # shellcheck disable=SC2059 # escapes are meant
    printf "$1" >&"$keys"
}

# wait_skiff [SECONDS]: waits for the end of what start_skiff started; sets $status.
wait_skiff() {
    local limit
    limit=$(seconds "${1:-60}")
    timeout "$limit" tail --pid="$skiff_pid" -f /dev/null || fail "skiff did not end within $limit s"
    status=0
    wait "$skiff_pid" || status=$?
}

# wait_output REGEX [SECONDS]: waits until the background skiff has printed a line that matches.
wait_output() {
    local limit deadline
    limit=$(seconds "${2:-60}")
    deadline=$((SECONDS + limit))
    until printed "$1"; do
        kill -0 "$skiff_pid" 2>/dev/null || printed "$1" || fail "skiff ended without printing: $1"
        [ $SECONDS -lt $deadline ] || fail "skiff did not print within $limit s: $1"
        sleep 0.05
    done
}

expect_status() {
    [ "$status" -eq "$1" ] || fail "exit status is $status, not $1"
}

# printed REGEX: a line of the output matches. A guest's console ends lines with CR LF, which is the same here.
printed() {
    tr -d '\r' <"$output" | grep -aqE -- "$1"
}

expect_output() {
    printed "$1" || fail "the output has no line that matches: $1"
}

refute_output() {
    ! printed "$1" || fail "the output has a line that matches: $1"
}

# expect_equal WHAT ACTUAL EXPECTED
expect_equal() {
    [ "$2" = "$3" ] || fail "$1 is '$2', not '$3'"
}

fail() {
    trap - ERR
    echo "$*"
    exit 1
}

# skip REASON: this test needs what is not there.
skip() {
    trap - ERR
    echo "$*"
    exit 77
}

# run_one_test FUNCTION: in a subshell; what it printed last says why it failed or was skipped.
run_one_test() {
    (
        trap '[ ${#test_pids[@]} -eq 0 ] || kill "${test_pids[@]}" 2>/dev/null || true' EXIT
        trap 'echo "line $LINENO: status $?: $BASH_COMMAND"' ERR
        set -eE
        "$1"
    ) >"$work/said" 2>&1
}

run_tests() {
    local functions function name number=0 failures=0 result
    # With extdebug, declare -F prints where each function stands: they run in the script's order.
    shopt -s extdebug
    mapfile -t functions < <(compgen -A function test_ | while read -r function; do
        declare -F "$function"
    done | sort -n -k2 | cut -d' ' -f1)
    shopt -u extdebug
    [ ${#functions[@]} -gt 0 ] || { echo "not ok - $0 has no tests"; return 1; }
    echo "1..${#functions[@]}"
    for function in "${functions[@]}"; do
        number=$((number + 1))
        name=${function#test_}
        name=${name//_/ }
        : >"$output"
        run_one_test "$function"
        result=$?
        case $result in
        0) echo "ok $number - $name" ;;
        77) echo "ok $number - $name # SKIP $(tail -n 1 "$work/said")" ;;
        *)
            failures=$((failures + 1))
            echo "not ok $number - $name"
            sed 's/^/# /' "$work/said"
            echo "# status ${result}; skiff printed:"
            tail -n 30 "$output" | sed 's/^/#   /'
            ;;
        esac
    done
    rm -rf "$work"
    [ "$failures" -eq 0 ]
}

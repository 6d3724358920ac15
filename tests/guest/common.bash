# SPDX-License-Identifier: Apache-2.0
# Sourced by the scripts of tests/guest: runs skiff with a time limit and checks its status and
# output.
#
# A script defines functions test_some_sentence and ends with `run_tests`, which runs each in a
# subshell with `set -e`, prints TAP, and shows skiff's output when one fails:
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
# tests/run sets SKIFF, TEST_TIER, TEST_SLOW, TEST_ROUNDS and TMPDIR; without them a script runs
# with build/skiff. The current directory is the top of the tree. With TEST_TIMES=1 a comment gives
# the time of each test; with SKIFF_TEST_SEED=N each test begins with that $RANDOM.
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

: "${SKIFF:=build/skiff}" "${TEST_SLOW:=1}" "${TEST_ROUNDS:=check}"
work=$(mktemp -d "${TMPDIR:-/tmp}/skiff-guest.XXXXXX")
output=$work/output
console=$work/console
status=
test_daemons=()
test_files=()
test_ends=()

# Functions for the shell scripts of Linux guests: step prints a line that wait_step() of drive_linux.py waits for;
# until_true repeats a command, 20 times a second, $patience times at most, and ends the script then. They are short,
# since a kernel's command line holds 2047 characters; _n is no variable of a script.
guest_steps='step() { echo "== $*"; }
until_true() { _n=0; until eval "$1"; do : $((_n+=1)); [ $_n != ${patience:-6000} ] || { step "never: $1"; exit 1; }; usleep 50000; done; }'

# seconds N: N, or more where everything is slower.
seconds() {
    echo $(($1 * TEST_SLOW))
}

# only_in_check_long: ends a script that takes too long for `make check`; all its tests count as one that is skipped.
only_in_check_long() {
    [ "$TEST_ROUNDS" != long ] || return 0
    printf '1..1\nok 1 - %s # SKIP it takes minutes: make check-long\n' "$(basename "$0" .sh)"
    exit 0
}

# rounds lab=N check=N long=N: prints the value for $TEST_ROUNDS, which tests/run sets by where a
# test runs. It is a number of rounds or a size, and never changes the checks of a round; a list of
# words gives the kinds of case, which a test uses in turn.
rounds() {
    local choice
    for choice in "$@"; do
        [ "${choice%%=*}" != "$TEST_ROUNDS" ] || { echo "${choice#*=}" && return; }
    done
    fail "rounds $*: nothing for $TEST_ROUNDS"
}

# in_lab: the test runs in the lab, where a processor is some 20 times slower and memory is 3 GiB.
in_lab() {
    [ -d /run/lab/job ]
}

# skiff [--limit SECONDS] ARGUMENT…: runs skiff to its end; sets $status and writes stdout, then
# stderr to $output. Not ending within the limit (default 200) fails the test. Standard input is
# /dev/null unless redirected.
skiff() {
    local limit=200 # only ends a hang, even on a busy machine
    if [ "$1" = --limit ]; then
        limit=$2
        shift 2
    fi
    status=0
    if [ -t 0 ]; then
        exec </dev/null
    fi
    # Two files, since a message may appear in the middle of the guest's line.
    timeout --kill-after=5 "$(seconds "$limit")" "$SKIFF" "$@" >"$output" 2>"$work/errors" ||
        status=$?
    [ -z "$(tail -c 1 "$output")" ] || echo >>"$output"
    cat "$work/errors" >>"$output"
    [ "$status" -ne 124 ] || fail "skiff did not end within $(seconds "$limit") s"
}

# skiff_apart SECONDS ARGUMENT…: runs skiff to its end, which comes before, with its output in the file $out and its errors in
# $err; sets $status. Standard input is /dev/null unless redirected.
skiff_apart() {
    local limit=$1
    shift
    status=0
    if [ -t 0 ]; then
        exec </dev/null
    fi
    timeout --kill-after=5 "$limit" "$SKIFF" "$@" >"$out" 2>"$err" || status=$?
    cat "$out" "$err" >"$output"
    [ "$status" -ne 124 ] || fail "skiff did not end"
}

debug_exit=(-device isa-debug-exit,iobase=0xf4,iosize=4)

# own_guest NAME WORDS ARGUMENT…: runs a guest of guest-images/ (hello, hello.mb, …) with that
# command line. Its console is standard output, unless there is a -serial among the ARGUMENTs.
own_guest() {
    set_own_guest "$@"
    [[ " $* " == *" -serial "* ]] || own_guest+=(-serial stdio)
    skiff "${own_guest[@]}"
}

# start_own_guest NAME WORDS ARGUMENT…: the same in the background, with its console in the file
# $console and a monitor (on the second serial port) on standard input and output, see `monitor`.
start_own_guest() {
    set_own_guest "$@"
    start_skiff "${own_guest[@]}" -serial "file:$console" -serial mon:stdio
    type_in '\001c'
}

# start_qmp_guest NAME WORDS ARGUMENT…: in the background, with its console in the file $console and QMP at $work/qmp.
start_qmp_guest() {
    local guest=$1 words=$2
    shift 2
    set_own_guest "$guest" "$words" "$@"
    start_skiff "${own_guest[@]}" -serial "file:$console" -qmp "unix:$work/qmp,server=on,wait=off"
}

# set_own_guest NAME WORDS ARGUMENT…: sets own_guest to the arguments of skiff.
set_own_guest() {
    local name=$1 words=$2
    shift 2
    own_guest=(-display none "${debug_exit[@]}" -kernel "build/guests/$name.elf" -append "$words" "$@")
}

# type_in TEXT: writes to the standard input of start_skiff's process, with the escapes of printf's
# %b: '\001c' is Ctrl-A c.
type_in() {
    printf '%b' "$1" >&"$keyboard"
}

# monitor COMMAND…: executes them in the monitor of start_own_guest.
monitor() {
    type_in "$(printf '%s\\n' "$@")"
}

# wait_paused REASON: until `info status` reports it; like QEMU it does not repeat the word for a
# plain stop, whose reason is "paused".
wait_paused() {
    local deadline=$((SECONDS + $(seconds 200))) said="VM status: paused \\($1\\)\$"
    [ "$1" != paused ] || said='VM status: paused$'
    until printed "$said"; do
        kill -0 "$skiff_pid" 2>/dev/null || fail "skiff ended instead of being paused ($1)"
        [ $SECONDS -lt $deadline ] || fail "skiff is not paused ($1)"
        monitor 'info status'
        sleep 0.05
    done
}

# wait_saved: until savevm-start has completed.
wait_saved() {
    local deadline=$((SECONDS + $(seconds 200)))
    until printed 'savevm status: completed'; do
        kill -0 "$skiff_pid" 2>/dev/null || fail "skiff ended instead of saving"
        [ $SECONDS -lt $deadline ] || fail "the save is not completed"
        monitor 'info savevm'
        sleep 0.05
    done
}

# make_disk SIZE: $disk, deleted after the test; $direct is set if its file system has O_DIRECT.
make_disk() {
    local dir
    for dir in build /scratch "$work"; do
        [ -d "$dir" ] && disk=$(mktemp "$dir/disk.XXXXXX" 2>/dev/null) || continue
        test_files+=("$disk")
        truncate -s "$1" "$disk"
        direct=yes
        ! dd if=/dev/zero of="$disk" bs=64k count=1 conv=notrunc oflag=direct status=none 2>/dev/null || return 0
    done
    direct=''
}

# make_overlay SIZE [OPTIONS]: $disk as a qcow2 image with these options, and half of its content in a raw
# backing file. check_overlay says whether the image is still right.
make_overlay() {
    make_disk "$1"
    mv "$disk" "$disk.base"
    test_files+=("$disk.base")
    dd if=/dev/urandom of="$disk.base" bs=1M count=$((${1%M} / 2)) conv=notrunc status=none
    "$(dirname "$SKIFF")/skiff-img" create -q -f qcow2 -o "${2:-cluster_size=64k}" -b "$(realpath "$disk.base")" -F raw "$disk"
}

check_overlay() {
    "$(dirname "$SKIFF")/skiff-img" check -f qcow2 "$disk" >"$work/check" 2>&1 || fail "check: $(cat "$work/check")"
}

# linux_guest SCRIPT ARGUMENT…: boots Debian's kernel, which runs the shell script SCRIPT and powers
# off. expect_guest_status checks the guest's status. $linux_append replaces "quiet" on the kernel's
# command line, $linux_kernel replaces the bzImage, $linux_memory the size 512 MiB.
linux_guest() {
    local script=$1
    shift
    skiff --limit "${linux_limit:-300}" -m "${linux_memory-512}" -nographic -no-reboot \
        -kernel "${linux_kernel-build/linux/vmlinuz}" -initrd build/linux/initramfs.cpio.gz \
        -append "console=ttyS0 ${linux_append-quiet} skiff.run=sh:$(printf '%s' "$script" | base64 -w0)" "$@"
}

expect_guest_status() {
    printed "^skiff-guest: exit $1\$" || fail "the guest's script did not end with status $1"
}

# start_skiff ARGUMENT…: runs skiff in the background, output to $output; sets $skiff_pid. It ends
# with the test at the latest. Its standard input is what type_in writes.
start_skiff() {
    rm -f "$work/keyboard"
    mkfifo "$work/keyboard"
    exec {keyboard}<>"$work/keyboard"
    : >"$output" >"$console"
    "$SKIFF" "$@" <"$work/keyboard" >"$output" 2>&1 {keyboard}>&- &
    skiff_pid=$!
}

# wait_skiff [SECONDS]: waits for the end of start_skiff's process; sets $status.
wait_skiff() {
    local limit
    limit=$(seconds "${1:-200}")
    timeout "$limit" tail -s 0.05 --pid="$skiff_pid" -f /dev/null || fail "skiff did not end within $limit s"
    status=0
    wait "$skiff_pid" || status=$?
}

# wait_output REGEX [TIMES]: waits until the background skiff or its guest has printed that many (1)
# matching lines.
wait_output() {
    local limit deadline
    limit=$(seconds 200)
    deadline=$((SECONDS + limit))
    until printed "$@"; do
        kill -0 "$skiff_pid" 2>/dev/null || printed "$@" || fail "skiff ended without printing: $1"
        [ $SECONDS -lt $deadline ] || fail "skiff did not print within $limit s: $1"
        sleep 0.05
    done
}

# wait_words WORDS TIMES: until they have been printed that often, anywhere in a line: a reset cuts
# the guest's line short, and its next output follows on the same line.
wait_words() {
    local deadline=$((SECONDS + $(seconds 200)))
    until [ "$(cat "$output" "$console" | grep -aoF -- "$1" | wc -l)" -ge "$2" ]; do
        kill -0 "$skiff_pid" 2>/dev/null || fail "skiff ended before it printed $2 times: $1"
        [ $SECONDS -lt $deadline ] || fail "skiff did not print $2 times: $1"
        sleep 0.05
    done
}

# wait_listening PATH: until the background skiff accepts connections on that UNIX socket, whose
# file appears before.
wait_listening() {
    local deadline=$((SECONDS + $(seconds 200)))
    until grep -q " 00010000 .* $1\$" /proc/net/unix; do # __SO_ACCEPTCON
        kill -0 "$skiff_pid" 2>/dev/null || fail "skiff has ended"
        [ $SECONDS -lt $deadline ] || fail "skiff does not listen on $1"
        sleep 0.05
    done
}

expect_status() {
    [ "$status" -eq "$1" ] || fail "exit status is $status, not $1"
}

# printed REGEX [TIMES]: that many (1) lines of the output match. A guest's console ends lines with
# CR LF, which match as well.
printed() {
    [ "$({ cat "$output"; echo; cat "$console"; } | tr -d '\r' | grep -acE -- "$1")" -ge "${2:-1}" ]
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

# skip REASON: a prerequisite of this test is missing.
skip() {
    trap - ERR
    echo "$*"
    exit 77
}

# at_end COMMAND: evaluated when the test has ended and none of its processes runs any more.
at_end() {
    test_ends+=("$1")
}

# end_test: ends the test's processes, and waits for their end before the next test: an ending
# process still writes to the console's file, and removes a socket that may be another's by then.
end_test() {
    local pid command
    set +eE
    trap - ERR
    for pid in $(jobs -p); do
        kill -KILL "$pid"
    done
    for pid in $(jobs -p); do
        wait "$pid"
    done
    for pid in "${test_daemons[@]}"; do
        while [[ $(readlink "/proc/$pid/exe") == */skiff ]]; do # not a later process with the same id
            kill -KILL "$pid"
            sleep 0.05
        done
    done
    for command in "${test_ends[@]}"; do
        eval "$command"
    done
    rm -f "${test_files[@]}"
} 2>/dev/null

# run_one_test FUNCTION: in a subshell; its last output gives the reason of a failure or skip.
run_one_test() {
    (
        trap end_test EXIT
        trap 'echo "line $LINENO: status $?: $BASH_COMMAND"' ERR
        set -eE
        [ -z "${SKIFF_TEST_SEED-}" ] || RANDOM=$SKIFF_TEST_SEED # a subshell begins with another one
        "$1"
    ) >"$work/said" 2>&1
}

run_tests() {
    local functions function name number=0 failures=0 result start
    # With extdebug, declare -F prints each function's place: they run in the script's order.
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
        : >"$output" >"$console"
        start=$EPOCHREALTIME
        run_one_test "$function"
        result=$?
        [ -z "${TEST_TIMES-}" ] || echo "# $(((${EPOCHREALTIME/./} - ${start/./}) / 1000)) ms: $name"
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

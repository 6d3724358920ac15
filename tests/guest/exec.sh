#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 1800
# -exec with a guest that has no operating system: streams, statuses, every early end, and
# leftovers. docs/exec.md
. "$(dirname "$0")/common.bash"

out=$work/out err=$work/err

# execute COMMAND ARGUMENT…: runs it in build/guests/exec.elf; sets $status, $out and $err.
execute() {
    local command=$1
    shift
    skiff_apart "$(seconds 200)" -kernel build/guests/exec.elf -exec "$command" "$@"
}

# The output of `big N`, N a multiple of 64.
pattern() {
    awk -v lines=$(($1 / 64)) 'BEGIN { for (i = 0; i < lines; i++) { s = ""; for (j = 0; j < 63; j++) s = s i % 10; print s } }'
}

# own_status NUMBER REASON: the status is skiff's own, and the last line gives the reason.
expect_own_status() {
    expect_status "$1"
    grep -q "^skiff: -exec: $2.*status $1 is skiff's own\$" "$err" || fail "no line says: $2"
}

test_the_status_is_the_commands() {
    local number
    for number in 0 1 4 7 16 255; do
        execute "exit $number"
        expect_status "$number"
        expect_equal "standard error" "$(<"$err")" ""
    done
}

test_death_by_a_signal_is_128_and_its_number() {
    execute 'signal 9'
    expect_status 137
}

test_streams_are_separate() {
    execute streams
    expect_status 7
    expect_equal "standard output" "$(<"$out")" out
    expect_equal "standard error" "$(<"$err")" err
}

test_megabytes_of_output_are_whole() {
    local bytes
    bytes=$(rounds lab=1280000 check=6400000 long=64000000)
    execute "big $bytes"
    expect_status 0
    cmp "$out" <(pattern "$bytes")
}

test_a_slow_reader_loses_nothing() {
    local size
    size=$("$SKIFF" -kernel build/guests/exec.elf -exec 'big 640000' </dev/null | { sleep 3; wc -c; })
    expect_equal "what arrived" "$size" 640000
}

test_a_closed_reader_does_not_hang_skiff() {
    status=0
    timeout --kill-after=5 "$(seconds 200)" "$SKIFF" -kernel build/guests/exec.elf -exec 'big 640000' \
        </dev/null > >(head -c 10 >/dev/null) 2>"$err" || status=$?
    expect_status 0
}

test_standard_input_arrives_with_its_end() {
    pattern 640000 >"$work/input"
    execute cat <"$work/input"
    expect_status 0
    cmp "$work/input" "$out"
    execute cat < <(cat "$work/input")
    cmp "$work/input" "$out"
    execute cat </dev/null
    expect_status 0
    expect_equal "standard output" "$(<"$out")" ""
}

test_unread_input_does_not_block_output() {
    execute streams </dev/zero
    expect_status 7
}

test_a_guest_that_does_not_power_off_is_ended() {
    execute 'exit 9' -append stays
    expect_status 9
}

test_a_panic_is_4() {
    execute panic
    expect_own_status 4 'the guest panicked before the command ended'
    expect_equal "standard output" "$(<"$out")" 'last words'
    expect_output '^exec: running panic'
}

test_of_two_ends_the_first_counts() {
    execute 'panic 1'
    expect_own_status 4 'the guest panicked'
}

test_a_power_off_or_reset_before_the_end_is_16() {
    execute poweroff
    expect_own_status 16 'the guest powered off before the command ended'
    expect_equal "standard output" "$(<"$out")" 'last words'
    execute reset
    expect_own_status 16 'the guest reset before the command ended'
    execute triple
    expect_own_status 8 'the guest reset by a triple fault'
}

test_a_hang_is_12() {
    execute hang -timeout "$(seconds 8)"
    expect_own_status 12 '-timeout expired before the command ended;'
    expect_output '^exec: running hang'
}

test_an_end_without_an_agent_is_reported() {
    execute x -append before=panic
    expect_own_status 4 'the guest panicked before the command ended; no agent opened org.skiff.exec.0'
    execute x -append before=poweroff
    expect_own_status 16 'the guest powered off before the command ended; no agent opened org.skiff.exec.0'
    execute x -append before=reset
    expect_own_status 16 'the guest reset before the command ended; no agent opened org.skiff.exec.0'
    execute x -append before=hang -timeout "$(seconds 8)"
    expect_own_status 12 '-timeout expired before the command ended; no agent opened org.skiff.exec.0'
    expect_output '^exec: started'
}

test_an_invalid_agent_is_16() {
    execute x -append before=garbage
    expect_own_status 16 'a frame of unknown type'
    execute garbage
    expect_own_status 16 'a frame of unknown type'
    execute flood
    expect_own_status 16 'more output than its window'
    execute close
    expect_own_status 16 'the agent closed its port'
}

test_debug_exit_is_its_own_status() {
    execute nonsense "${debug_exit[@]}"
    expect_own_status 7 'the guest wrote to isa-debug-exit'
}

test_a_signal_ends_it_with_16() {
    local signal
    for signal in TERM INT; do
        start_skiff -kernel build/guests/exec.elf -exec hang
        wait_output '^last words'
        kill -s "$signal" "$skiff_pid"
        wait_skiff
        expect_status 16
        expect_output '^skiff: -exec: skiff was asked to quit before the command ended; status 16'
    done
}

test_a_signal_ends_a_start_with_16() {
    start_skiff -kernel build/guests/exec.elf -exec streams -serial "unix:$work/socket,server=on,wait=on"
    wait_output 'waiting for connection'
    kill "$skiff_pid"
    wait_skiff
    expect_status 16
    expect_output '^skiff: -exec: skiff was asked to quit before the command ended; no agent'
}

# As for a command whose own write() fails: a script must not take a part for the whole.
test_output_that_cannot_be_written_is_16() {
    local bytes
    for bytes in 64 640000; do
        status=0
        timeout --kill-after=5 "$(seconds 200)" "$SKIFF" -kernel build/guests/exec.elf -exec "big $bytes" \
            </dev/null >/dev/full 2>"$err" || status=$?
        expect_own_status 16 "writing failed before all of the command's output was read"
        grep -q '^skiff: .*No space left on device' "$err" || fail "nothing says why"
        ! grep -q "console's last lines" "$err" || fail "the console is unrelated"
    done
}

test_a_reader_that_does_not_read_is_12_after_the_timeout() {
    mkfifo "$work/unread"
    exec 7<>"$work/unread"
    status=0
    "$SKIFF" -kernel build/guests/exec.elf -exec 'big 100000' -timeout "$(seconds 8)" </dev/null >&7 2>"$err" || status=$?
    expect_own_status 12 "-timeout expired before all of the command's output was read"
}

test_the_console_goes_where_the_user_says() {
    execute streams -serial "file:$work/serial"
    expect_status 7
    expect_equal "standard output" "$(<"$out")" out
    expect_equal "standard error" "$(<"$err")" err
    grep -q '^exec: running streams' "$work/serial"
}

test_standard_input_and_output_belong_to_the_command_only() {
    execute streams -serial stdio
    expect_status 2
    expect_output '^skiff: -serial stdio: stdio is used already'
    execute streams -nographic
    expect_status 7
    expect_equal "standard output" "$(<"$out")" out
}

test_contradictory_options_are_refused() {
    execute streams -no-shutdown
    expect_status 2
    expect_output '^skiff: -exec: -no-shutdown'
    execute streams -daemonize
    expect_status 2
    expect_output '^skiff: -exec: a daemon'
    execute "$(printf '%040000d' 0)"
    expect_status 2
    expect_output '^skiff: -exec: the command is too long'
}

test_its_port_is_reserved() {
    local port=org.skiff.exec.0
    execute streams -device virtio-serial-pci -device "virtserialport,chardev=$port"
    expect_status 2
    expect_output "^skiff: .*chardev '$port' is in use by -exec"
    execute streams -serial "chardev:$port"
    expect_status 2
    expect_output "^skiff: .*chardev '$port' is in use by -exec"
    execute streams -device virtio-serial-pci -device "virtserialport,id=$port,chardev=$port"
    expect_status 2
}

test_inherited_descriptors_keep_their_blocking_mode() {
    mkfifo "$work/in" "$work/out.fifo"
    exec 7<>"$work/in" 8<>"$work/out.fifo"
    "$SKIFF" -kernel build/guests/exec.elf -exec streams <&7 >&8 2>"$err" || true
    local fd flags
    for fd in 7 8; do
        flags=$(sed -n 's/^flags:\s*//p' "/proc/$BASHPID/fdinfo/$fd")
        (((8#$flags & 8#4000) == 0)) || fail "descriptor $fd is non-blocking afterwards"
    done
}

# Repeated boots multiply any leftover.
test_many_boots_leave_nothing_behind() {
    local dir=$work/boots times
    times=$(rounds lab=10 check=100 long=200)
    mkdir -p "$dir/tmp"
    cat >"$work/boots.sh" <<'SCRIPT'
# skiff's children, descriptors, files and the terminal. The check uses no pipe, which might itself
# be counted.
look() {
    echo children
    ps -o comm= --ppid $$
    echo descriptors
    ls /proc/$$/fd
    echo files
    find "$dir" -fprintf "$work/files" '%p\n'
    LC_ALL=C sort "$work/files"
    echo terminal
    stty -g
    echo sockets
    grep "$dir" /proc/net/unix
}
export TMPDIR=$dir/tmp
look >"$work/before"
for i in $(seq "$times"); do
    "$SKIFF" -kernel build/guests/exec.elf -exec 'exit 5' -pidfile "$dir/pid" \
        -chardev "pty,id=p,path=$dir/pty" -device virtio-serial-pci -device virtserialport,chardev=p \
        -chardev "socket,id=s,path=$dir/socket,server=on,wait=off" -device virtserialport,chardev=s \
        >"$work/boot" 2>&1
    [ $? -eq 5 ] || { echo "boot $i failed"; cat "$work/boot"; break; }
done
look >"$work/after"
echo finished >"$work/done"
SCRIPT
    {
        printf '%s=%q\n' dir "$dir" work "$work" SKIFF "$SKIFF" times "$times"
        cat "$work/boots.sh"
    } >"$work/boots-with-names.sh"
    timeout "$(seconds 600)" script -qefc "bash $work/boots-with-names.sh" /dev/null </dev/null >"$output" 2>&1 || true
    [ -e "$work/done" ] || fail "the boots did not finish"
    refute_output 'boot [0-9]* failed'
    diff "$work/before" "$work/after"
}

run_tests

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 900
# The terminal, pipes, files, sockets and pseudo-terminals at the serial port; -pidfile and
# -daemonize. A terminal is restored on every exit, and no output is lost.
. "$(dirname "$0")/common.bash"

# start_on_terminal ARGUMENT…: runs skiff in a separate terminal; type_in types there, and $output
# has what it shows. $wrapper starts it, if set. When skiff has ended, finish_on_terminal sets
# $status and compares the terminal's settings with those from before.
start_on_terminal() {
    rm -f "$work"/{keyboard,before,after,status,tty,pid}
    mkfifo "$work/keyboard"
    exec {keyboard}<>"$work/keyboard"
    {
        printf 'tty >%q; stty -g >%q\n' "$work/tty" "$work/before"
        printf '%q ' ${wrapper-} "$SKIFF" -display none -pidfile "$work/pid" "$@"
        printf '; echo $? >%q; stty -g >%q\n' "$work/status" "$work/after"
    } >"$work/inside"
    : >"$output" >"$console"
    script -qefc "bash $work/inside" /dev/null <"$work/keyboard" >"$output" 2>&1 {keyboard}>&- &
    skiff_pid=$!
}

finish_on_terminal() {
    wait_skiff # waits for script(1), which has shown everything by then
    status=$(<"$work/status")
    expect_equal "the terminal afterwards" "$(<"$work/after")" "$(<"$work/before")"
}

guest_on_terminal() { # WORDS ARGUMENT…
    local words=$1
    shift
    start_on_terminal "${debug_exit[@]}" -kernel build/guests/crash.elf -append "$words" "$@"
}

settings() {
    stty -F "$(<"$work/tty")" -a
}

test_a_terminal_is_raw_while_the_guest_has_it() {
    guest_on_terminal spin -serial mon:stdio
    wait_output 'crash: spin'
    [[ $(settings) == *-icanon* ]] || fail "the terminal is not raw: $(settings)"
    [[ $(settings) == *-echo\ * ]] || fail "the terminal echoes: $(settings)"
    [[ $(settings) == *-isig* ]] || fail "the terminal makes signals: $(settings)"
    type_in '\001x'
    finish_on_terminal
    expect_status 0
}

# Many test harnesses start programs this way.
test_a_terminal_that_is_not_the_controlling_one_is_used_too() {
    local wrapper='setsid --wait'
    guest_on_terminal spin -serial mon:stdio
    wait_output 'crash: spin'
    [[ $(settings) == *-icanon* ]] || fail "the terminal is not raw: $(settings)"
    type_in '\001x'
    finish_on_terminal
    expect_status 0
}

test_a_terminal_is_restored_when_the_guest_ends() {
    local word
    for word in exit=3 poweroff exception; do
        guest_on_terminal "$word" -serial mon:stdio
        finish_on_terminal
    done
}

test_a_terminal_is_restored_when_skiff_is_killed_or_crashes() {
    local signal
    # A sanitizer would handle the signals of a crash itself.
    local crashes=handle_segv=0:handle_sigbus=0:handle_abort=0
    export ASAN_OPTIONS="${ASAN_OPTIONS-}:$crashes" TSAN_OPTIONS="${TSAN_OPTIONS-}:$crashes"
    for signal in TERM HUP INT ABRT SEGV BUS; do
        guest_on_terminal spin -serial mon:stdio
        wait_output 'crash: spin'
        kill -s "$signal" "$(<"$work/pid")"
        finish_on_terminal
        case $signal in
        TERM | HUP | INT) expect_status 0 ;;
        *) [ "$status" -gt 128 ] || fail "SIG$signal: status $status" ;;
        esac
    done
}

test_a_terminal_is_restored_after_an_error() {
    start_on_terminal -serial mon:stdio -kernel "$work/missing"
    finish_on_terminal
    expect_status 2
    start_on_terminal -serial mon:stdio -kernel build/guests/hello.elf -device no-such
    finish_on_terminal
    expect_status 2
}

test_a_terminal_is_restored_after_a_time_out() {
    guest_on_terminal spin -serial mon:stdio -timeout 1
    finish_on_terminal
    expect_status 12
}

test_Ctrl_A_h_shows_help_and_c_opens_the_monitor() {
    guest_on_terminal spin -serial mon:stdio
    wait_output 'crash: spin'
    type_in '\001h'
    wait_output 'C-a x +exit skiff'
    type_in '\001cinfo status\r'
    wait_output 'VM status: running'
    type_in 'quit\r'
    finish_on_terminal
    expect_status 0
}

test_Ctrl_C_goes_to_the_guest_with_a_monitor_and_ends_skiff_without() {
    guest_on_terminal spin -serial mon:stdio
    wait_output 'crash: spin'
    type_in '\003\001cinfo status\r'
    wait_output 'VM status: running'
    type_in '\001x'
    finish_on_terminal
    guest_on_terminal spin -serial stdio
    wait_output 'crash: spin'
    type_in '\003'
    finish_on_terminal
    expect_status 0
}

test_nographic_is_a_terminal_with_a_monitor() {
    guest_on_terminal spin -nographic
    wait_output 'crash: spin'
    type_in '\001cquit\r'
    finish_on_terminal
    expect_status 0
}

test_all_output_reaches_a_pipe_a_file_and_a_socket_alike() {
    local words
    words=$(printf 'word%d=%0100d ' {1..18})
    set_own_guest hello "$words"
    "$SKIFF" "${own_guest[@]}" -serial stdio </dev/null | cat >"$work/pipe" || true
    "$SKIFF" "${own_guest[@]}" -serial "file:$work/file" </dev/null || true
    grep -q '^hello: PASS' "$work/pipe" || fail "the pipe lacks the last line"
    cmp "$work/pipe" "$work/file"
}

test_a_closed_reader_does_not_stop_the_guest() {
    set_own_guest crash exit=5
    : >"$work/status"
    { "$SKIFF" "${own_guest[@]}" -serial stdio </dev/null || echo $? >"$work/status"; } | true
    expect_equal status "$(<"$work/status")" 11
}

test_missing_standard_streams_do_no_harm() {
    set_own_guest crash exit=5
    status=0
    "$SKIFF" "${own_guest[@]}" -serial stdio <&- >"$output" 2>&1 || status=$?
    expect_status 11
    status=0
    "$SKIFF" "${own_guest[@]}" -serial stdio </dev/null >&- 2>"$output" || status=$?
    expect_status 11
    status=0
    "$SKIFF" "${own_guest[@]}" -serial null <&- >&- 2>&- || status=$?
    expect_status 11
}

# flags_of DESCRIPTOR…: flags of the open file, which all processes that inherited it share.
flags_of() {
    local descriptor
    for descriptor in "$@"; do
        grep flags "/proc/$BASHPID/fdinfo/$descriptor"
    done
}

test_inherited_descriptors_keep_their_blocking_mode() {
    local before
    mkfifo "$work/in" "$work/out"
    exec {in}<>"$work/in" {out}<>"$work/out"
    before=$(flags_of "$in" "$out")
    set_own_guest crash spin
    "$SKIFF" "${own_guest[@]}" -serial mon:stdio <&"$in" >&"$out" 2>&1 &
    skiff_pid=$!
    grep -q -m 1 '^crash: spin' <&"$out"
    expect_equal "the flags while it runs" "$(flags_of "$in" "$out")" "$before"
    kill "$skiff_pid"
    wait_skiff
    expect_equal "the flags" "$(flags_of "$in" "$out")" "$before"
}

test_a_file_is_replaced_or_appended_to() {
    own_guest crash exit=1 -serial "file:$work/log"
    own_guest crash exit=1 -serial "file:$work/log"
    expect_equal lines "$(grep -c '^crash: exit' "$work/log")" 1
    own_guest crash exit=1 -serial "file:$work/log,append=on"
    expect_equal lines "$(grep -c '^crash: exit' "$work/log")" 2
}

test_a_log_file_has_unread_output() {
    own_guest crash exit=1 -chardev "null,id=c,logfile=$work/log" -serial chardev:c
    expect_equal lines "$(grep -c '^crash: exit' "$work/log")" 1
}

test_a_pty_is_named_and_linked_to() {
    set_own_guest count ms=20
    start_skiff "${own_guest[@]}" -serial "pty,path=$work/link"
    wait_output 'pty|/dev/pts/[0-9]'
    timeout "$(seconds 200)" grep -q -m 1 '^tick ' <"$work/link" || fail "nothing came from the pty"
    kill "$skiff_pid"
    wait_skiff
    expect_status 0
    [ ! -e "$work/link" ] || fail "the link is still there"
}

# talk PATH: connects standard input and output to a UNIX socket.
talk() {
    perl -MIO::Socket::UNIX -e '
        $| = 1;
        my $socket = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die "connect: $!\n";
        if (fork()) { print while <$socket>; exit }
        syswrite($socket, $_) while <STDIN>;' "$1"
}

test_a_UNIX_socket_serves_one_client_after_the_other() {
    perl -MIO::Socket::UNIX -e 1 2>/dev/null || skip "no perl with IO::Socket::UNIX"
    set_own_guest count ms=20
    start_skiff "${own_guest[@]}" -serial "unix:$work/socket,server=on"
    wait_listening "$work/socket"
    local i
    for i in 1 2; do
        # A server waits for its first client, so the guest has not started before.
        talk "$work/socket" </dev/null | grep -q -m 1 '^tick ' || fail "client $i got nothing"
    done
    kill "$skiff_pid"
    wait_skiff
    expect_status 0
    [ ! -e "$work/socket" ] || fail "the socket is still there"
}

test_a_pidfile_exists_while_skiff_runs() {
    start_own_guest crash spin -pidfile "$work/pid"
    wait_output '^crash: spin'
    expect_equal pid "$(<"$work/pid")" "$skiff_pid"
    kill "$skiff_pid"
    wait_skiff
    [ ! -e "$work/pid" ] || fail "the pidfile is still there"
}

test_a_pidfile_of_a_running_vm_is_refused() {
    start_own_guest crash spin -pidfile "$work/pid"
    wait_output '^crash: spin'
    status=0
    "$SKIFF" -display none -kernel build/guests/crash.elf -pidfile "$work/pid" </dev/null 2>"$work/error" || status=$?
    expect_status 2
    grep -q "$work/pid" "$work/error"
    expect_equal pid "$(<"$work/pid")" "$skiff_pid"
    kill "$skiff_pid"
    wait_skiff
}

test_a_daemon_closes_its_parents_descriptors() {
    local said pid
    set_own_guest crash spin -serial "file:$console" -pidfile "$work/pid" -daemonize
    # The substitution ends when no process holds the pipe any more.
    said=$(timeout "$(seconds 200)" "$SKIFF" "${own_guest[@]}" </dev/null 2>&1)
    expect_equal "what it said" "$said" ""
    pid=$(<"$work/pid")
    test_daemons+=("$pid")
    [ "$(readlink "/proc/$pid/fd/0")" = /dev/null ] || fail "standard input is $(readlink "/proc/$pid/fd/0")"
    [ "$(readlink "/proc/$pid/cwd")" = / ] || fail "the directory is $(readlink "/proc/$pid/cwd")"
    # The VM is up when the guest runs.
    skiff_pid=$pid wait_output '^crash: spin'
    kill "$pid"
    timeout "$(seconds 200)" tail -s 0.05 --pid="$pid" -f /dev/null
    [ ! -e "$work/pid" ] || fail "the pidfile is still there"
}

test_resets_leave_no_descriptor_and_no_thread_behind() {
    local descriptors threads i times
    times=$(rounds lab=12 check=20 long=100)
    make_disk 1M
    start_own_guest crash spin -drive "if=virtio,format=raw,file=$disk" -device virtio-rng-pci
    wait_words 'crash: spin' 1
    monitor system_reset
    wait_words 'crash: spin' 2
    descriptors=$(ls "/proc/$skiff_pid/fd" | wc -l)
    threads=$(ls "/proc/$skiff_pid/task" | wc -l)
    for ((i = 3; i < 3 + times; i++)); do
        monitor stop cont system_reset
        wait_words 'crash: spin' "$i"
    done
    expect_equal descriptors "$(ls "/proc/$skiff_pid/fd" | wc -l)" "$descriptors"
    # A worker starts when none is idle: a few more, but not one for each reset.
    [ "$(ls "/proc/$skiff_pid/task" | wc -l)" -le $((threads + 10)) ] || fail "threads: more than $threads"
    kill "$skiff_pid"
    wait_skiff
}

run_tests

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 900
# vmm/skiff-gdb.py shows the state of a skiff whose disk holds requests for ever while it is
# resized: in the live process, and in its core file.
. "$(dirname "$0")/common.bash"

# start_stuck ARGUMENT…: eight requests of virtio-blk wait in the fault driver.
start_stuck() {
    command -v gdb >/dev/null || skip "gdb is not installed"
    gdb -nx -batch -ex 'python print("py" + "thon")' 2>/dev/null | grep -q '^python$' || skip "this gdb has no Python"
    ! grep -qaE '__(asan|tsan)_init' "$SKIFF" || skip "sanitizers keep stacks of their own"
    start_own_guest blk-verify 'until=button qd=4 limit_ms=10000000 mode=irq' -m 32 -smp 2 -object iothread,id=io \
        -blockdev driver=fault,node-name=disk,hold=on,fail-op=any,fail-after=5,file.driver=null-co,file.size=64M \
        -device virtio-blk-pci,id=vda,drive=disk,iothread=io -trace block_fault_inject "$@"
    wait_output block_fault_inject 8
    # The last request is traced before it waits.
    until ps -L -o comm=,stat= -p "$skiff_pid" | grep -q '^iothread/io *S'; do
        sleep 0.05
    done
}

# ask COMMAND…: runs gdb commands on the live process.
ask() {
    local command arguments=()
    for command in 'source vmm/skiff-gdb.py' "$@"; do
        arguments+=(-ex "$command")
    done
    gdb -nx -batch -p "$skiff_pid" -iex 'set debuginfod enabled off' "${arguments[@]}" >"$work/gdb" 2>&1 || true
    if grep -q 'ptrace: Operation not permitted' "$work/gdb"; then
        skip "gdb may not attach here (ptrace)"
    fi
}

# ask_core COMMAND…: the same on the core file.
ask_core() {
    local command arguments=()
    for command in 'source vmm/skiff-gdb.py' "$@"; do
        arguments+=(-ex "$command")
    done
    gdb -nx -batch -iex 'set debuginfod enabled off' "${SKIFF_UNCONFINED:-$SKIFF}" -c "$work/core" "${arguments[@]}" \
        >"$work/gdb" 2>&1
}

# said REGEX [TIMES]
said() {
    [ "$(grep -cE -- "$1" "$work/gdb")" -ge "${2:-1}" ] || {
        cat "$work/gdb"
        fail "gdb has not printed: $1"
    }
}

# said_in_order REGEX…: matching lines, in this order.
said_in_order() {
    local regex from=1 line
    for regex in "$@"; do
        line=$(tail -n "+$from" "$work/gdb" | grep -nE -- "$regex" | head -n 1 | cut -d: -f1)
        [ -n "$line" ] || {
            cat "$work/gdb"
            fail "gdb has not printed, after the lines before: $regex"
        }
        from=$((from + line))
    done
}

coroutine_of_request='python gdb.execute("skiff coroutine %#x %s" % (next(int(c.address) for c in live_coroutines() if function_at(c["entry"]) == "virtio_blk_request_run"), "full"))'

expect_request_stack() {
    said '^#0 .* co_(switch_out|wait) \('
    said_in_order ' fault_co_apply \(' ' fault_co_[a-z_]+ \(' ' block_node_co_' ' blk_co_' ' virtio_blk_request_run \(' \
        ' co_main \(' ' co_trampoline \('
    # Values come from the coroutine's registers and stack.
    said 'fault_co_apply \(n=n?@?(entry=)?0x[0-9a-f]+, op=op@entry=BLOCK_FAULT_[A-Z_]+'
    said ' r = \{op = 0x[0-9a-f]+ "[a-z-]+", .*offset = [0-9]+, bytes = [0-9]+'
}

expect_everything() {
    said '^ *[0-9]+ +LWP [0-9]+ +main +main +'
    said ' iothread +iothread/io .*sleeps in its loop'
    said ' vcpu +vcpu/0 '
    said ' vcpu +vcpu/1 '
    said '^0x[0-9a-f]+  virtio_blk_request_run, of iothread/io: waits for the release of a held request' 8
    said '^    at fault_co_apply \(block/driver/driver_fault.c:[0-9]+\)$' 8
    said '^drive vda: 8 in flight'
    said '^  in flight  [a-z-]+ +offset [0-9]+ +bytes [0-9]+ +coroutine 0x[0-9a-f]+( for [0-9.]+ s)?$' 8
    said '^  queue [01] of vda: 4 in flight$' 2
    said '^    head [0-9]+ +out [0-9]+ +in [0-9]+ +coroutine 0x[0-9a-f]+$' 8
    said '^workers: [0-9]+ threads'
    said '^  0000000000000000-0000000001ffffff ram at 0x[0-9a-f]+: '
    said 'pci-ecam +pci_ecam_ops$'
    said '^  00000000000003f8-00000000000003ff .* serial +serial_ops$'
}

all_commands=('skiff threads' 'skiff coroutine' 'skiff requests' 'skiff mtree' "$coroutine_of_request")

test_a_live_process() {
    start_stuck
    ask "${all_commands[@]}" 'skiff coroutine 1' 'skiff held'
    expect_everything
    expect_request_stack
    said '^1 is no active coroutine'
    said '^nothing is held$'
    # gdb has not changed the process.
    monitor 'info status'
    wait_output 'VM status: running'
}

test_a_release_build() {
    SKIFF=build/release/skiff
    [ -x "$SKIFF" ] || skip "there is no release build"
    start_stuck
    ask "${all_commands[@]}"
    expect_everything
    expect_request_stack
}

test_waits_and_their_holders() {
    command -v python3 >/dev/null || skip "python3 is not installed"
    start_stuck -trace block_drain_begin -qmp "unix:$work/qmp,server=on,wait=off"
    monitor 'block_resize disk 64M'
    wait_output block_drain_begin
    # It answers before the stop is done, since the stop is queued.
    PYTHONPATH=tests/support PYTHONDONTWRITEBYTECODE=1 python3 -c "import qmp; qmp.Qmp('$work/qmp').cmd('stop')"
    ask 'skiff coroutine' 'skiff held'
    said '^0x[0-9a-f]+  [a-z_]+, of main: waits for drain for [0-9.]+ s$'
    said '^0x[0-9a-f]+  [a-z_]+, of main: waits for VM operation lock.*, which coroutine 0x[0-9a-f]+ has$'
    said_in_order '^coroutine 0x[0-9a-f]+, of main$' '^  1 operation +VM operation lock$' '^  3 drained +drained section$'
    said '^  1 operation +VM operation lock \(waits for it\)$'
    # A test build records where each was taken.
    said '^ +co_drained_begin \(block/core/drain_begin.c:[0-9]+\)$'
}

test_a_core_file() {
    start_stuck
    ask "gcore $work/core"
    [ -s "$work/core" ] || skip "gdb could not write a core file here: $(tail -n 1 "$work/gdb")"
    kill -KILL "$skiff_pid"
    ask_core "${all_commands[@]}"
    expect_everything
    expect_request_stack
}

test_the_installed_script_is_loaded_automatically() {
    command -v gdb >/dev/null || skip "gdb is not installed"
    [ -x build/release/skiff ] || skip "there is no release build"
    ! in_lab || skip "make takes minutes in the lab"
    env -u MAKEFLAGS -u MAKELEVEL make -s -o all install V=release PREFIX="$work/prefix" DESTDIR= >"$work/install" 2>&1
    gdb -nx -batch -iex "add-auto-load-scripts-directory $work/prefix/share/gdb/auto-load" \
        -iex "add-auto-load-safe-path $work" -ex 'help skiff' "$work/prefix/bin/skiff" >"$work/gdb" 2>&1
    said '^skiff requests -- '
}

test_other_programs_are_no_error() {
    command -v gdb >/dev/null || skip "gdb is not installed"
    gdb -nx -batch -ex 'source vmm/skiff-gdb.py' -ex 'skiff threads' -ex 'skiff requests' /bin/true >"$work/gdb" 2>&1 || true
    said '^there is no co_made of util/loop/coroutine.c: no skiff here, or one without debug information$'
    ! grep -q Traceback "$work/gdb" || fail "a Python traceback"
}

run_tests

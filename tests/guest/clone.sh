#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 900
# A machine is saved before its agent has a command, and runs commands when it goes on, once or in many clones:
# docs/exec.md, docs/snapshots.md.
. "$(dirname "$0")/common.bash"

out=$work/out err=$work/err

# skiff_img ARGUMENT…: the image tool that was built with skiff.
skiff_img() {
    "$(dirname "${SKIFF_UNCONFINED:-$SKIFF}")/skiff-img" "$@"
}

# save FILE ARGUMENT…: a machine with exec.elf, some time after it has greeted.
save() {
    local file=$1
    shift
    start_skiff -kernel build/guests/exec.elf -display none -serial "file:$console" -monitor stdio "$@"
    wait_output '^exec: started'
    sleep 0.5
    monitor "savevm-start $file"
    wait_saved
    monitor quit
    wait_skiff
    expect_status 0
}

# execute COMMAND ARGUMENT…: sets $status, $out and $err.
execute() {
    local command=$1
    shift
    skiff_apart "$(seconds 200)" "$@" -exec "$command"
}

# hmp COMMAND: of the process with -qmp unix:$work/qmp.
hmp() {
    wait_listening "$work/qmp"
    PYTHONPATH=tests/support python3 -c 'import sys, qmp
with qmp.Qmp(sys.argv[1]) as vm:
    print(vm.cmd("human-monitor-command", command_line=sys.argv[2]))' "$work/qmp" "$1"
}

test_a_restored_machine_runs_commands() {
    local number
    save "$work/state" -exec-port
    for number in 0 1 42 255; do
        execute "exit $number" -restore "$work/state"
        expect_status "$number"
        expect_equal "standard error" "$(<"$err")" ""
    done
    execute 'signal 9' -restore "$work/state"
    expect_status 137
    execute streams -restore "$work/state"
    expect_status 7
    expect_equal "standard output" "$(<"$out")" out
    expect_equal "standard error" "$(<"$err")" err
    execute cat -restore "$work/state" < <(seq 10000)
    expect_status 0
    cmp "$out" <(seq 10000)
    execute poweroff -restore "$work/state"
    expect_status 16
    expect_output '^skiff: -exec: the guest powered off before the command ended; status 16'
    execute hang -restore "$work/state" -timeout "$(seconds 3)"
    expect_status 12
    expect_output '^exec: running hang'
}

# With all options on the command line, and memory that is read.
test_a_loaded_machine_runs_a_command() {
    save "$work/state" -exec-port
    execute streams -loadstate "$work/state" -kernel build/guests/exec.elf -display none -serial null
    expect_status 7
    expect_equal "standard output" "$(<"$out")" out
}

test_a_machine_without_a_command_is_saved_again() {
    save "$work/state" -exec-port
    start_skiff -restore "$work/state" -monitor stdio
    sleep 0.2
    monitor "savevm-start $work/state2"
    wait_saved
    monitor quit
    wait_skiff
    expect_status 0
    execute 'exit 6' -restore "$work/state2"
    expect_status 6
}

test_the_agent_can_greet_after_the_load() {
    start_skiff -kernel build/guests/exec.elf -display none -serial "file:$console" -monitor stdio -exec-port -S
    monitor "savevm-start $work/state"
    wait_saved
    monitor quit
    wait_skiff
    execute 'exit 8' -restore "$work/state" -S -timeout "$(seconds 1)"
    expect_status 12
    expect_output 'no agent opened org.skiff.exec.0'
    start_skiff -restore "$work/state" -exec 'exit 8' -S -qmp "unix:$work/qmp,server=on,wait=off"
    hmp cont
    wait_skiff
    expect_status 8
}

# What runs a command already takes no other.
test_a_machine_that_runs_a_command_refuses_another() {
    start_skiff -kernel build/guests/exec.elf -exec hang -serial "file:$console" -qmp "unix:$work/qmp,server=on,wait=off"
    wait_output '^last words'
    hmp "savevm-start $work/state"
    until hmp 'info savevm' | grep -q 'savevm status: completed'; do
        sleep 0.05
    done
    kill "$skiff_pid"
    wait_skiff
    execute 'exit 0' -restore "$work/state" -serial null
    expect_status 2
    expect_output "the state in '$work/state': -exec: the guest's agent was running a command"
    start_skiff -restore "$work/state" -monitor stdio -serial null
    monitor 'info status' quit
    wait_skiff
    expect_status 0
    expect_output 'VM status: '
}

test_a_machine_without_the_port_refuses_a_command() {
    save "$work/state"
    execute 'exit 0' -restore "$work/state"
    expect_status 2
    expect_output "-restore '$work/state': -exec: the saved machine has no port"
    execute 'exit 0' -loadstate "$work/state" -kernel build/guests/exec.elf -display none -serial null
    expect_status 2
    expect_output "the state in '$work/state': "
}

# ---- templates ----

# template FILE ARGUMENT…: by -snapshot-at READY.
template() {
    local file=$1
    shift
    [[ " $* " == *" -serial "* ]] || set -- "$@" -serial null
    skiff -kernel build/guests/exec.elf -display none -snapshot-at "READY,file=$file" "$@"
}

test_a_template_is_made_and_skiff_ends() {
    template "$work/t"
    expect_status 0
    expect_equal 'the output' "$(<"$output")" ''
    skiff_img state -q "$work/t" || fail 'skiff-img finds the file wrong'
    execute streams -clone "$work/t"
    expect_status 7
    expect_equal "standard output" "$(<"$out")" out
    expect_equal "standard error" "$(<"$err")" err
}

test_a_template_is_made_when_the_console_shows_a_text() {
    skiff -kernel build/guests/exec.elf -display none -serial "file:$console" -snapshot-at "line=c: start,file=$work/t"
    expect_status 0
    execute 'exit 3' -clone "$work/t"
    expect_status 3
    skiff -kernel build/guests/exec.elf -display none -serial none -snapshot-at "line=x,file=$work/t2"
    expect_status 2
    expect_output '-snapshot-at line=: there is no serial port'
}

# make_port_rom FILE: writes to port 0x5f0, reads it until nobody answers, and prints "X".
make_port_rom() {
    local code='\xba\xf0\x05\xee\xec\x3c\xff\x75\xfb\xba\xf8\x03\xb0X\xee\xb0\x0a\xee\xf4\xeb\xfd'
    head -c 65536 /dev/zero >"$1"
    # shellcheck disable=SC2059 # the code is a format
    printf "$code" | dd of="$1" bs=1 seek=65280 conv=notrunc status=none        # f000:ff00
    printf '\xe9\x0d\xff' | dd of="$1" bs=1 seek=65520 conv=notrunc status=none # f000:fff0: jmp ff00
}

test_a_template_is_made_when_the_guest_writes_to_a_port() {
    make_port_rom "$work/rom"
    skiff -bios "$work/rom" -display none -serial "file:$console" -snapshot-at "port=0x5f0,file=$work/t" \
        -timeout "$(seconds 60)"
    expect_status 0
    expect_equal 'the console' "$(<"$console")" '' # it stood still
    start_skiff -clone "$work/t" -serial "file:$console" -monitor stdio
    wait_output '^X'
    monitor quit
    wait_skiff
    expect_status 0
}

# expect_no_template STATUS REASON
expect_no_template() {
    expect_status "$1"
    expect_output "^skiff: -snapshot-at: $2; no state was saved"
    [ ! -e "$work/none" ] || fail 'there is a file'
}

test_a_template_that_is_not_made_is_an_error() {
    template "$work/none" -append before=poweroff
    expect_no_template 16 'the guest powered off'
    template "$work/none" -append before=reset
    expect_no_template 16 'the guest reset'
    template "$work/none" -append before=panic
    expect_no_template 4 'the guest panicked'
    template "$work/none" -append before=triple
    expect_no_template 8 'the guest reset by a triple fault'
    template "$work/none" -append before=hang -timeout "$(seconds 2)"
    expect_no_template 12 '-timeout expired'
    expect_output '^exec: started'
    template "$work/none" -append before=garbage -timeout "$(seconds 2)"
    expect_no_template 12 '-timeout expired'
    template "$work/no/folder/none"
    expect_no_template 2 '.*No such file or directory'
    start_skiff -kernel build/guests/exec.elf -display none -append before=hang -serial "file:$console" \
        -snapshot-at "READY,file=$work/none"
    wait_output '^exec: started'
    kill "$skiff_pid"
    wait_skiff
    expect_no_template 16 'skiff was asked to quit'
    (
        ulimit -f 1024 # KiB
        template "$work/none"
        expect_no_template 2 '.*File too large'
    )
}

test_a_template_is_made_of_a_template() {
    template "$work/t"
    skiff -restore "$work/t" -snapshot-at "READY,file=$work/t2"
    expect_status 0
    execute 'exit 9' -clone "$work/t2"
    expect_status 9
}

test_a_machine_that_is_restored_elsewhere_finds_its_files() {
    local skiff
    skiff=$(realpath "$SKIFF")
    mkdir "$work/a" "$work/b"
    cp build/guests/exec.elf "$work/a/kernel"
    (cd "$work/a" && "$skiff" -kernel kernel -display none -serial file:console -debugcon unix:debug,server=on,wait=off -device virtio-serial-pci \
        -chardev file,id=d,path=rel.log,logfile=rel.log2 -device virtserialport,chardev=d,name=d -snapshot-at READY,file=../t -timeout "$(seconds 60)") </dev/null
    rm "$work"/a/rel.*
    (cd "$work/b" && "$skiff" -restore ../t -exec 'exit 4') </dev/null || status=$?
    expect_status 4
    expect_equal 'files elsewhere' "$(ls "$work/b")" ''
    expect_equal 'files of the machine' "$(ls "$work/a" | tr '\n' ' ')" 'console kernel rel.log rel.log2 '
}

# ---- clones ----

# clone_disks FORMAT ARGUMENT…: a template whose disk is $work/disk, in that format; clones write it.
clone_disks() {
    local format=$1 i sum pids=()
    shift
    skiff_img create -q -f "$format" "$work/disk" 1M
    template "$work/t" -append with=disk "$@"
    expect_status 0
    sum=$(cksum <"$work/disk")
    for i in 1 2 3 4 5 6; do
        "$SKIFF" -clone "$work/t" -exec "disk $i" </dev/null >"$work/out$i" 2>&1 &
        pids[i]=$!
    done
    for i in 1 2 3 4 5 6; do
        status=0
        wait "${pids[i]}" || status=$?
        expect_equal "what clone $i found" "$(<"$work/out$i")" 00
        expect_status "$i"
    done
    expect_equal 'the disk afterwards' "$(cksum <"$work/disk")" "$sum"
    execute 'disk 200' -restore "$work/t" # which does write
    expect_status 200
    [ "$(cksum <"$work/disk")" != "$sum" ] || fail 'the disk is not used at all'
    rm "$work/disk"
}

test_clones_have_the_disk_for_themselves() {
    clone_disks raw -drive "file=$work/disk,format=raw"
    clone_disks qcow2 -drive "file=$work/disk,format=qcow2"
    clone_disks qcow2 -drive "file=$work/disk,format=qcow2,snapshot=off,if=none,id=d" -device virtio-blk-pci,drive=d
    clone_disks qcow2 -blockdev "driver=file,node-name=f,filename=$work/disk" -blockdev driver=qcow2,node-name=d,file=f \
        -object iothread,id=io -device virtio-blk-pci,drive=d,iothread=io
}

# The variables of firmware are a disk, too.
test_clones_have_the_flash_for_themselves() {
    local i before pids=()
    cp build/guests/pflash-stress.rom "$work/code"
    printf 'ms=0 ticks' | dd of="$work/code" conv=notrunc status=none
    truncate -s 512K "$work/vars"
    skiff -display none -smp 2 -drive "if=pflash,format=raw,readonly=on,file=$work/code" -drive "if=pflash,format=raw,file=$work/vars" \
        -serial "file:$console" -snapshot-at "line=pflash,file=$work/t" -timeout "$(seconds 60)"
    expect_status 0
    before=$(cksum <"$work/vars" && stat -c %y "$work/vars")
    for i in 1 2 3; do
        "$SKIFF" -clone "$work/t" -serial "file:$work/serial$i" -timeout "$(seconds 4)" </dev/null >/dev/null 2>&1 &
        pids+=("$!")
    done
    for i in "${pids[@]}"; do
        wait "$i" || true
    done
    for i in 1 2 3; do
        grep -q '^tick [0-9]' "$work/serial$i" || fail "clone $i says $(<"$work/serial$i")"
    done
    expect_equal 'the flash afterwards' "$(cksum <"$work/vars" && stat -c %y "$work/vars")" "$before"
    skiff -restore "$work/t" -serial null -timeout "$(seconds 5)" # which does write
    [ "$(stat -c %y "$work/vars")" != "$(sed 1d <<<"$before")" ] || fail 'the flash is not used at all'
}

# What a clone has not written is in the page cache once.
test_clones_share_memory() {
    local i pid private pids=()
    template "$work/t" -m 256
    expect_status 0
    for i in 1 2 3 4; do
        mkfifo "$work/in$i"
        "$SKIFF" -clone "$work/t" -exec "memory 1" <"$work/in$i" >"$work/out$i" 2>&1 &
        pids[i]=$!
    done
    for i in 1 2 3 4; do
        exec {keep[i]}>"$work/in$i" # no clone has inherited it
    done
    for i in 1 2 3 4; do
        pid=${pids[i]}
        until grep -q written "$work/out$i"; do
            kill -0 "$pid" 2>/dev/null || fail "clone $i has ended: $(<"$work/out$i")"
            sleep 0.05
        done
        private=$(awk -v file="$work/t" '/^[0-9a-f]+-/ { mine = $NF == file } mine && /^Private_Dirty/ { sum += $2 } END { print sum + 0 }' \
            "/proc/$pid/smaps")
        [ "$private" -ge 1024 ] && [ "$private" -le $((1024 + 3072)) ] || fail "clone $i has $private KiB of memory for itself"
    done
    for i in 1 2 3 4; do
        exec {keep[i]}>&-
        status=0
        wait "${pids[i]}" || status=$?
        expect_status 0
    done
}

# Consoles, sockets, the pid file and monitors are the original's.
test_a_clone_leaves_what_is_the_originals_alone() {
    local i pids=()
    template "$work/t" -serial "file:$work/log" -pidfile "$work/pid" -qmp "unix:$work/qmp,server=on,wait=off" \
        -device virtio-serial-pci -chardev "socket,id=s,path=$work/s,server=on,wait=off" -device virtserialport,chardev=s,name=s \
        -chardev "file,id=f,path=$work/f" -device virtserialport,chardev=f,name=f -chardev "null,id=l,logfile=$work/l" -debugcon "null,logfile=$work/m" \
        -device vmgenid,guid=00112233-4455-6677-8899-aabbccddeeff
    expect_status 0
    echo kept | tee "$work/f" "$work/l" >"$work/m"
    grep -q '^exec: started' "$work/log"
    for i in 1 2 3; do
        "$SKIFF" -clone "$work/t" -exec 'exit 4' </dev/null >/dev/null 2>&1 &
        pids+=("$!")
    done
    for i in "${pids[@]}"; do
        status=0
        wait "$i" || status=$?
        expect_status 4
    done
    ! grep -q 'running' "$work/log" || fail "a clone has written to the original's console"
    expect_equal 'a file' "$(<"$work/f")" kept
    expect_equal 'log files' "$(cat "$work/l" "$work/m")" $'kept\nkept'
    [ ! -e "$work/s" ] && [ ! -e "$work/pid" ] && [ ! -e "$work/qmp" ] || fail 'a clone has made a socket or a pid file'
    start_skiff -clone "$work/t" -qmp "unix:$work/qmp,server=on,wait=off"
    guid=$(hmp 'info vm-generation-id')
    [[ $guid == *-*-* && $guid != *8899-aabb* ]] || fail "the generation id is $guid"
}

test_what_clones_would_share_is_refused_by_name() {
    template "$work/t" -netdev user,id=n,hostfwd=tcp:127.0.0.1:0-:22 -device virtio-net-pci,netdev=n,id=nic
    expect_status 0
    execute 'exit 1' -clone "$work/t"
    expect_status 2
    expect_output "^skiff: -clone '$work/t': the saved option -netdev user,id=n,hostfwd=.* binds a port .*: give -netdev anew with the same id"
    execute 'exit 5' -clone "$work/t" -netdev user,id=n
    expect_status 5
    execute 'exit 5' -clone "$work/t,mac=random" -netdev user,id=n
    expect_status 5
    start_skiff -clone "$work/t,mac=random" -netdev user,id=n -qmp "unix:$work/qmp,server=on,wait=off"
    [[ $(hmp 'info network') == *macaddr=52:54:00:* && $(hmp 'info network') != *52:54:00:12:34:56* ]] ||
        fail "the address is $(hmp 'info network')"
}

# One after another: no descriptor, process, file or memory is left.
test_many_clones_leave_nothing_behind() {
    local before i times
    times=$(rounds lab=5 check=20 long=1000)
    skiff_img create -q -f qcow2 "$work/disk" 1M
    template "$work/t" -append with=disk -drive "file=$work/disk,format=qcow2"
    mkdir "$work/tmp"
    export TMPDIR=$work/tmp
    look() {
        find "$work" -name 'now' -prune -o -print | LC_ALL=C sort
        ls "/proc/$BASHPID/fd" | wc -l
        pgrep -P "$BASHPID" skiff || true
        grep "$work" /proc/net/unix || true
    }
    : >"$out" >"$err"
    look >"$work/now"
    before=$(<"$work/now")
    for ((i = 0; i < times; i++)); do
        execute "disk $((i % 100))" -clone "$work/t"
        expect_status $((i % 100))
        expect_equal "what clone $i found" "$(<"$out")" 00
    done
    look >"$work/now"
    expect_equal 'what is left' "$(<"$work/now")" "$before"
}

test_a_sandboxed_clone_runs_a_command() {
    skiff_img create -q -f qcow2 "$work/disk" 1M
    template "$work/t" -append with=disk -drive "file=$work/disk,format=qcow2" -sandbox on
    expect_status 0
    execute 'disk 3' -clone "$work/t" -sandbox on
    expect_status 3
}

run_tests

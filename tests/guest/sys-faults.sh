#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# In a session of start-up, blockdev-add, blockdev-reopen, hot plug, dump, run, stop, resize and
# quit, every system call of a kind fails once (util/sys/sys_fault.h). skiff either refuses to start
# with status 2 and one line, or answers every command and ends with 0. When KVM_RUN itself fails,
# it ends with 14 and reports that.
# tier: kvm
# timeout: 900
. "$(dirname "$0")/common.bash"

hit=$work/hit

prepare() {
    [ -z "${SKIFF_UNCONFINED:-}" ] || skip "a sandbox blocks the seam's log"
    grep -q SKIFF_SYS_FAULT_LOG "$SKIFF" || skip "a release build has no seam"
    truncate -s 1M "$work/f.img"
    cat >"$work/session" <<END
{"execute":"qmp_capabilities"}
{"execute":"blockdev-add","arguments":{"driver":"file","node-name":"g","filename":"$work/g.img","aio":"io_uring"}}
{"execute":"blockdev-reopen","arguments":{"options":[{"driver":"file","node-name":"g","filename":"$work/g.img","cache":{"direct":true},"aio":"native"}]}}
{"execute":"object-add","arguments":{"qom-type":"iothread","id":"io2"}}
{"execute":"device_add","arguments":{"driver":"virtio-blk-pci","drive":"g","id":"d2","iothread":"io2"}}
{"execute":"chardev-add","arguments":{"id":"c","backend":{"type":"socket","data":{"addr":{"type":"unix","data":{"path":"$work/socket"}},"server":true,"wait":false}}}}
{"execute":"dump-guest-memory","arguments":{"paging":false,"protocol":"file:$work/dump"}}
{"execute":"cont"}
{"execute":"stop"}
{"execute":"block_resize","arguments":{"node-name":"g","size":2097152}}
{"execute":"quit"}
END
}

session() {
    truncate -s 0 "$work/g.img"
    truncate -s 1M "$work/g.img"
    rm -f "$work/socket" "$work/dump" "$hit"
    skiff -display none -m 16 -S -nodefaults -qmp stdio -serial null \
        -kernel build/guests/crash.elf -append spin -object iothread,id=io1 \
        -blockdev "driver=file,node-name=f,filename=$work/f.img" \
        -device virtio-blk-pci,drive=f,iothread=io1 <"$work/session"
}

check_session() {
    local lines replies
    lines=$(wc -l <"$work/errors")
    replies=$(grep -cE '^\{"(return|error)"' "$output" || :)
    case $status in
    0) [ "$replies" -eq 11 ] && [ "$lines" -le 1 ] || fail "$1: $replies replies, $lines lines" ;;
    2) [ "$lines" -eq 1 ] || fail "$1: $lines lines" ;;
    14) grep -q '^skiff: vCPU 0: KVM_RUN: ' "$work/errors" || fail "$1: status 14 without its reason" ;;
    *) fail "$1: status $status" ;;
    esac
    ! grep -q 'exiting anyway' "$work/errors" || fail "$1: its storage hangs"
}

# sweep CALL ERRNO FIRST: the FIRSTth of these calls fails, then the next, up to the last. There are
# hundreds of them: in the lab only every seventh fails.
sweep() {
    local n=$3 step
    step=$(rounds lab=7 check=1 long=1)
    prepare
    unset SKIFF_SYS_FAULT
    session
    check_session "no fault"
    export SKIFF_SYS_FAULT_LOG=$hit
    while :; do
        SKIFF_SYS_FAULT=$1:$n:$2 session
        [ -e "$hit" ] || break
        check_session "$1 number $n fails"
        n=$((n + step))
    done
    [ "$n" -gt "$3" ] || fail "no $1 was reached: the seam does not intercept it"
}

enospc=28 eio=5 emfile=24 enomem=12 eagain=11 eacces=13

test_each_open_fails() { sweep open $emfile 1; }
test_each_ioctl_fails() { sweep ioctl $eio 1; }
test_each_thread_creation_fails() { sweep pthread_create $eagain 1; }
test_each_eventfd_fails() { sweep eventfd $emfile 1; }
test_each_epoll_create_fails() { sweep epoll_create1 $emfile 1; }
test_each_watch_fails() { sweep epoll_ctl $enospc 1; }
test_each_fstat_fails() { sweep fstat $eio 1; }
# The first three check whether descriptors 0, 1 and 2 are open.
test_each_fcntl_fails() { sweep fcntl $eio 4; }
test_each_pread_fails() { sweep pread $eio 1; }
test_each_madvise_fails() { sweep madvise $enomem 1; }
test_each_close_fails() { sweep close $eio 1; }
test_each_fdatasync_fails() { sweep fdatasync $eio 1; }
test_each_ftruncate_fails() { sweep ftruncate $enospc 1; }
test_each_socket_call_fails() { sweep socket,bind,listen $eacces 1; }
test_each_engine_setup_fails() { sweep io_uring_queue_init_params,io_setup $enomem 1; }

run_tests

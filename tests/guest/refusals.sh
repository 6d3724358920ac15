#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a user gets wrong ends with status 2 and one line that names the option, what is wrong and what would work.
# tier: kvm
. "$(dirname "$0")/common.bash"

# refused REGEX ARGUMENT…: skiff with these refuses to start, in one line that matches.
refused() {
    local said=$1
    shift
    skiff --limit 10 "${own_guest[@]}" "$@"
    expect_status 2
    expect_output "$said"
    expect_equal "lines of output" "$(wc -l <"$output")" 1
}

test_options_that_are_wrong() {
    set_own_guest hello "" -serial null
    refused '^skiff: unknown option -nosuch; ' -nosuch
    refused '^skiff: -m: needs an argument' -m
    refused '^skiff: -m: size=1: wants a size from' -m 1
    refused '^skiff: -m: size=99999999G: wants a size from' -m 99999999G
    refused '^skiff: cannot get .* use a smaller -m' -m 60T
    refused '^skiff: -smp: cpus=0: wants a number' -smp 0
    refused '^skiff: -smp 300: .*use fewer processors' -smp 300
    refused '^skiff: -smp: .* must equal the 5 processors' -smp 5,cores=2
    refused "^skiff: -cpu: skiff knows no feature 'nosuch'; -cpu help" -cpu host,+nosuch
    refused '^skiff: -timeout .*wants a number from 1' -timeout 0
    refused '^skiff: -action: reboot=x: wants one of reset, shutdown' -action reboot=x
    refused "^skiff: -machine: skiff has no machine 'pc'; nearest is q35" -machine pc
    refused '^skiff: -netdev|^skiff: skiff has no -netdev; ' -netdev user
}

test_objects_that_are_wrong() {
    set_own_guest hello "" -serial null
    refused "^skiff: -object iothread: option 'id' is missing" -object iothread
    refused "the id 'a' is taken; choose another" -object iothread,id=a -object iothread,id=a
    refused "the id 'm' is taken; choose another" -object memory-backend-ram,id=m,size=64M -object memory-backend-ram,id=m,size=64M
    refused "the id 'm' is taken; choose another" -object memory-backend-ram,id=m,size=64M -object iothread,id=m
    refused 'there is no -object with that id' -machine memory-backend=m
    refused '^skiff: -m says 64 MiB.* make them equal' -m 64 -object memory-backend-ram,id=m,size=32M -machine memory-backend=m
    refused "^skiff: -device: skiff has no device 'virtio-blk-pc'; nearest is virtio-blk-pci" -device virtio-blk-pc
    refused 'ports 0x3f8-0x3fb are taken by serial' -device isa-debug-exit,iobase=0x3f8,iosize=4
}

test_chardevs_that_are_wrong() {
    set_own_guest hello ""
    refused '^skiff: -serial foo: .* there are stdio' -serial foo
    refused "^skiff: -serial file:$work/no/x: can't open" -serial "file:$work/no/x"
    refused "^skiff: -device isa-serial: there is no chardev 'no'$" -serial chardev:no
    refused "^skiff: -device virtserialport: chardev 'c' is in use by virtconsole; with mux=on it can be shared" \
        -serial null -chardev null,id=c -device virtio-serial-pci -device virtconsole,chardev=c -device virtserialport,chardev=c
    refused '2 serial ports; use -device virtio-serial-pci' -serial null -serial null -serial null
    refused 'stdio is used already; several users share it' -serial stdio -debugcon stdio
    refused 'a daemon has no terminal: use file, socket or pty' -daemonize -serial stdio
    refused 'a daemon has no terminal: use file, socket or pty' -daemonize -chardev stdio,id=c
    refused 'a daemon has no terminal: use file, socket or pty' -daemonize -nographic
}

test_files_that_are_wrong() {
    set_own_guest hello "" -serial null
    refused "^skiff: -pidfile $work/no/pid: No such file" -pidfile "$work/no/pid"
    refused "^skiff: -D $work/no/log: No such file" -D "$work/no/log"
    refused "^skiff: -drive d: '$work/no': cannot be opened: No such file" -drive "file=$work/no,format=raw,id=d"
    own_guest=(-display none -serial null)
    refused '^skiff: nothing to boot: give -kernel FILE or -bios FILE'
    refused '^skiff: -append needs -kernel' -append x
    refused "^skiff: -kernel $work/no: .*No such file" -kernel "$work/no"
}

run_tests

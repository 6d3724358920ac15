#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 900
# For every fault of a command line, a file, or the host, skiff ends at once, with status 2, nothing
# on standard output and one line on standard error that names the culprit. MESSAGES=FILE collects
# all those lines.
. "$(dirname "$0")/common.bash"

problems=''
prefix=()

# refuse CULPRIT ARGUMENT…: CULPRIT is an extended regular expression that the line must match.
# Continues after a failure; `none_was_bad` ends the test. Sets $status; $or_status is accepted,
# too.
refuse() {
    local culprit=$1 line lines
    shift
    status=0
    timeout --kill-after=5 "$(seconds 200)" "${prefix[@]}" "$SKIFF" "$@" </dev/null >"$work/stdout" 2>"$work/stderr" ||
        status=$?
    [ "$status" != "${or_status-}" ] || return 0
    # Builtins only: a program costs as much as a skiff, and there are hundreds of command lines.
    mapfile lines <"$work/stderr"
    line=${lines[0]%$'\n'}
    [ -z "${MESSAGES-}" ] || printf '%-70s | %s\n' "$(printf '%.200s' "$*")" "$line" >>"$MESSAGES"
    [ "$status" -eq 2 ] || bad "status $status" "$@"
    [ ! -s "$work/stdout" ] || bad "standard output: $(head -c 100 "$work/stdout")" "$@"
    [ ${#lines[@]} -eq 1 ] && [[ ${lines[0]} == *$'\n' ]] || bad "not one line on standard error" "$@"
    [[ $line == "skiff: "?* ]] || bad "it does not begin with 'skiff: '" "$@"
    [[ $line =~ $culprit ]] || bad "it does not name '$culprit'" "$@"
}

bad() { # WHAT ARGUMENT…
    printf '%s: skiff %.300s\n' "$1" "${*:2}"
    sed 's/^/    /' "$work/stderr" | cut -c1-300 | head -n 5
    problems=yes
}

none_was_bad() {
    [ -z "$problems" ] || fail "see above"
}

kernel=build/guests/hello.elf

# with ARGUMENT…: refuse, with a bootable kernel.
with() {
    local culprit=$1
    shift
    refuse "$culprit" -display none -kernel "$kernel" "$@"
}

test_options_that_do_not_exist() {
    refuse -no-such -no-such
    refuse -no-such --no-such
    refuse 'mean -kernel' -krenel x
    refuse 'mean -nographic' -nographics
    refuse 'disk.img.*No such file' disk.img
    with 'no-such.img.*No such file' no-such.img
    refuse "''" ''
    refuse "'-'" -
    refuse "'--'" --
    refuse kernel=x -kernel=x
    none_was_bad
}

test_options_of_QEMU_that_skiff_lacks() {
    local option
    for option in cdrom usb watchdog L d mem-path virtfs fsdev; do
        with "no -$option; nearest is" "-$option" x
    done
    for option in incoming tpmdev audiodev icount numa plugin no-acpi; do
        with "no -$option: " "-$option" x
    done
    with "no display ':1'" -vnc :1
    with '/no/such/state' -loadstate /no/such/state
    with 'one state' -loadvm x -loadstate y
    with 'one state' -restore a -loadvm x
    with "-loadvm x: No block device can accept snapshots" -loadvm x
    with '-loadvm: needs a value' -loadvm ''
    with "'/dev/null'" -loadstate /dev/null
    with '/no/such/state' -restore /no/such/state
    with "'/dev/null'" -restore /dev/null
    with 'one state' -restore a -restore b
    refuse 'needs an argument' -restore
    with '/no/such/state' -clone /no/such/state
    with "'/dev/null'" -clone /dev/null,mac=random
    with 'one state' -clone a -restore b
    refuse 'needs an argument' -prefault
    refuse "-prefault: " -prefault later
    refuse 'needs an argument' -clone
    refuse "option 'file' is missing" -clone mac=random
    refuse 'expects one of same, random' -clone a,mac=52:54:00:12:34:56
    refuse "a guest's is 3 or more" -clone a,cid=2
    refuse 'needs an argument' -snapshot-at
    with "option 'file' is missing" -snapshot-at READY
    with 'one of READY, line=TEXT and port=PORT' -snapshot-at file=x
    with 'one of READY, line=TEXT and port=PORT' -snapshot-at READY,line=x,file=x
    with 'one of READY, line=TEXT and port=PORT' -snapshot-at port=1,line=x,file=x
    with 'expects one of READY' -snapshot-at BOOTED,file=x
    with 'ports 0x10000-0x10000 do not exist' -snapshot-at port=0x10000,file=x
    with 'port=: ports 0x3f8-0x3f8 are taken by serial' -snapshot-at port=0x3f8,file=x
    with 'needs a text and a file' -snapshot-at READY,file=
    with 'needs a text and a file' -snapshot-at line=,file=x
    with 'lose what the guest has written' -snapshot-at READY,file=x -snapshot
    with '-no-shutdown' -snapshot-at READY,file=x -no-shutdown
    with 'daemon' -snapshot-at READY,file=x -daemonize
    with 'give -exec to the clones' -snapshot-at READY,file=x -exec true
    with gtk -display gtk
    with vga -vga std
    with "use -nic" -net user
    with 'net=x: is no IPv4 address' -netdev user,id=n,net=x
    with 'dns=1.2.3.4: is not in the network' -netdev user,id=n,dns=1.2.3.4
    with "Invalid host forwarding rule 'tcp::1'" -netdev user,id=n,hostfwd=tcp::1
    with '-cmd:COMMAND' -netdev user,id=n,guestfwd=tcp:10.0.2.100:80-x
    with 'sandbox on' -netdev user,id=n,guestfwd=tcp:10.0.2.100:80-cmd:true -sandbox on
    with 'virtiofs' -netdev user,id=n,smb=/tmp
    with "can't connect" -netdev stream,id=n,addr.type=unix,addr.path=/no/such/socket
    with 'needs addr.path=' -netdev stream,id=n,addr.type=unix
    with 'addr.type=vsock' -netdev stream,id=n,addr.type=vsock
    with 'needs remote.type=' -netdev dgram,id=n
    with 'is not a socket' -netdev dgram,id=n,local.type=fd,local.str=999
    with 'expects one of' -netdev socket,id=n
    with 'HOST:PORT' -netdev socket,id=n,connect=x
    with parallel -parallel stdio
    none_was_bad
}

test_arguments_that_are_missing_or_twice() {
    local option
    for option in m smp cpu kernel append initrd bios drive blockdev object device chardev serial timeout name pidfile; do
        refuse "-$option: needs an argument" "-$option"
    done
    refuse '-kernel.*needs' -kernel ''
    with 'No such file' -kernel no-such-kernel
    none_was_bad
}

test_contradictory_options() {
    refuse 'nothing to boot'
    refuse 'nothing to boot' -m 128
    refuse '-append needs -kernel' -append x
    refuse '-initrd needs -kernel' -initrd x
    refuse 'no bzImage' -kernel "$kernel" -bios build/guests/first.bin
    none_was_bad
}

test_data_for_firmware() {
    with 'smbios.*needs a value' -smbios ''
    with 'type=number or file=path' -smbios serial=x
    with 'type=9.*by file=' -smbios type=9
    with 'seriall' -smbios type=1,seriall=x
    with 'UUID' -smbios type=1,uuid=x
    with 'no-such.*No such file' -smbios file=no-such
    with 'no-such.*No such file' -smbios type=11,path=no-such
    with 'is no SMBIOS structure' -smbios file=/dev/null
    with 'fw_cfg.*needs a value' -fw_cfg ''
    with 'either file= or string=' -fw_cfg opt/x
    with 'no-such.*No such file' -fw_cfg opt/x,file=no-such
    with 'file exists already' -fw_cfg opt/x,string=1 -fw_cfg opt/x,string=2
    with 'file exists already' -fw_cfg etc/e820,string=1
    with 'smbios-entry-point-type' -machine smbios-entry-point-type=16
    none_was_bad
}

test_shared_folders() {
    with '-virtiofs: needs a value' -virtiofs ''
    with "'tag' is missing" -virtiofs path=/
    with "'path' is missing" -virtiofs tag=t
    with 'no option .no-such' -virtiofs tag=t,path=/,no-such=1
    with 'readonly=maybe' -virtiofs tag=t,path=/,readonly=maybe
    with 'no-such.*No such file' -virtiofs tag=t,path=no-such
    with 'README.md: is no folder' -virtiofs tag=t,path=README.md
    with "'chardev' is missing" -device vhost-user-fs-pci,tag=t
    with "no chardev 'c'" -device vhost-user-blk-pci,chardev=c
    with "'n' is no socket" -chardev null,id=n -device vhost-user-blk-pci,chardev=n
    with 'queue-size=48 is not a power of two' -chardev null,id=n -device vhost-user-blk-pci,chardev=n,queue-size=48
    with '1 to 36 bytes' -chardev null,id=n -device vhost-user-fs-pci,chardev=n,tag=
    with "no back end has connected to chardev 's'" -chardev "socket,id=s,path=$work/s,server=on,wait=off" -device vhost-user-blk-pci,chardev=s
    with "'chardev' is missing" -netdev vhost-user,id=n
    with "no chardev 'c'" -netdev vhost-user,id=n,chardev=c
    with "'n' is no socket" -chardev null,id=n -netdev vhost-user,id=n,chardev=n
    with 'queues=0' -netdev vhost-user,id=n,chardev=c,queues=0
    with 'memory-backend-memfd' -object memory-backend-ram,id=m,size=64M -machine memory-backend=m \
        -chardev "socket,id=s,path=$work/s,server=on,wait=off" -device vhost-user-blk-pci,chardev=s
    none_was_bad
}

test_memory_sizes() {
    local size
    for size in 0 1K x '' -1 512X 1.2.3 99999T 18446744073709551616 0x; do
        with -m -m "$size"
    done
    with foo -m 128,foo=1
    with -m -m 128,size=256
    with 'from 2M to 64T: a number with an optional suffix' -m banana
    none_was_bad
}

test_processors() {
    local smp
    for smp in 0 -1 x '' 100000 4,cores=3 4,sockets=0 2,foo=1 1,maxcpus=x; do
        with -smp -smp "$smp"
    done
    with pentium -cpu pentium
    with no-such-feature -cpu host,+no-such-feature
    with no-such-feature -cpu host,no-such-feature=on
    none_was_bad
}

test_machines_and_accelerators() {
    with microvm -machine microvm
    with 'pc.*q35' -M pc
    with no-such -machine q35,no-such=1
    with USB -machine q35,usb=on
    with missing -machine q35,memory-backend=missing
    with tcg -accel tcg
    with "option 'thread'" -accel kvm,thread=multi
    with tcg -machine q35,accel=tcg
    none_was_bad
}

test_devices() {
    with no-such -device no-such
    with 'nearest is|virtio-blk-pci' -device virtio-blk
    with "''|driver" -device ''
    with drive -device virtio-blk-pci
    with missing -device virtio-blk-pci,drive=missing
    with 'no-such' -device virtio-rng-pci,no-such=1
    with addr -device virtio-rng-pci,addr=99
    with addr -device virtio-rng-pci,addr=x
    with 'slot 31' -device virtio-rng-pci,addr=1f.0
    with twin -device virtio-rng-pci,id=twin -device virtio-rng-pci,id=twin
    with iobase -device isa-debug-exit,iobase=xyz
    with iobase -device isa-debug-exit,iobase=0x10000
    with iosize -device isa-debug-exit,iosize=9
    with twice -device isa-debug-exit,iobase=0xf4,iobase=0xf5
    with '0xf4' -device isa-debug-exit,iobase=0xf4,iosize=4 -device isa-debug-exit,iobase=0xf4,iosize=4
    with 'is no GUID' -device vmgenid,guid=1
    with '3 to 4294967294' -device vhost-vsock-pci
    with '3 to 4294967294' -device vhost-vsock-pci,guest-cid=2
    with 'seqpacket' -device vhost-vsock-pci,guest-cid=7,seqpacket=maybe
    with 'vhostfd=77: skiff has inherited no such descriptor' -device vhost-vsock-pci,guest-cid=7,vhostfd=77
    with 'one virtio-balloon-pci at most' -device virtio-balloon -device virtio-balloon
    with 'free-page-hint=on' -device virtio-balloon,free-page-hint=on
    with 'deflate-on-oom' -device virtio-balloon,deflate-on-oom=maybe
    with 'exists already' -device vmgenid -device vmgenid
    with 'exists already' -device vmcoreinfo -device vmcoreinfo
    with "no device 'tpm-tis': this machine has no TPM" -device tpm-tis,tpmdev=x
    with "no device 'tpm-crb': this machine has no TPM" -device tpm-crb
    with JSON -device '{"driver":"virtio-rng-pci"'
    with driver -device '{"id":"x"}'
    with driver -device 'id=x'
    none_was_bad
}

test_objects() {
    with no-such -object no-such,id=x
    with id -object iothread
    with twin -object iothread,id=twin -object iothread,id=twin
    with poll-max-ns -object iothread,id=x,poll-max-ns=-1
    with size -object memory-backend-memfd,id=x
    with size -object memory-backend-memfd,id=x,size=0
    with share -object memory-backend-ram,id=x,size=64M,share=on
    with twin -object memory-backend-ram,id=twin,size=64M -object memory-backend-ram,id=twin,size=64M
    with twin -object memory-backend-ram,id=twin,size=64M -object iothread,id=twin
    with twin -object iothread,id=twin -object memory-backend-memfd,id=twin,size=64M
    with 128 -object memory-backend-ram,id=x,size=64M -machine memory-backend=x -m 128
    with missing -blockdev driver=null-co,node-name=n -device virtio-blk-pci,drive=n,iothread=missing
    with 'romfile=/missing: No such file' -device virtio-rng-pci,romfile=/missing
    with romfile=/dev/zero -device virtio-rng-pci,romfile=/dev/zero
    none_was_bad
}

test_drives() {
    make_disk 1M
    mkdir "$work/folder"
    with missing.img -drive file=missing.img,format=raw
    with "$work/folder" -drive "file=$work/folder,format=raw"
    with /dev/tty -drive file=/dev/tty,format=raw
    with 'file' -drive format=raw
    with 'file' -drive file=,format=raw
    with no-such -drive "file=$disk,format=no-such"
    with qcow2 -drive "file=$disk,format=qcow2"
    printf 'QFI\373\0\0\0\3' | dd of="$disk" conv=notrunc status=none
    with 'looks like qcow2: use -drive file=...,format=qcow2' -drive "file=$disk"
    with 'looks like qcow2' -hda "$disk"
    with 'looks like qcow2' -drive "file=$disk,snapshot=on"
    printf KDMV | dd of="$disk" conv=notrunc status=none
    with 'looks like vmdk: skiff does not support it' -drive "file=$disk"
    with ide -drive "file=$disk,format=raw,if=ide"
    with 'aio' -drive "file=$disk,format=raw,aio=no-such"
    with 'cache' -drive "file=$disk,format=raw,cache=no-such"
    with 'aio=native' -drive "file=$disk,format=raw,aio=native,cache=writeback"
    with no-such -drive "file=$disk,format=raw,no-such=1"
    with twin -drive "file=$disk,format=raw,if=none,id=twin,readonly=on" \
        -drive "file=$disk,format=raw,if=none,id=twin,readonly=on"
    with 'read-only|readonly' -drive "file=$disk,format=raw,readonly=maybe"
    with twice -drive "file=$disk,file=$disk,format=raw"
    local id=drive-6b1c3f2a-9d1e-4a53-8c2b-0a0f1e2d3c4b # exceeds the length of a node name
    with "-drive $id: .*missing.img" -drive "if=none,id=$id,file=missing.img,format=raw"
    none_was_bad
}

test_block_nodes() {
    make_disk 1M
    with driver -blockdev node-name=x
    with no-such -blockdev driver=no-such,node-name=x
    with filename -blockdev driver=file,node-name=x
    with missing.img -blockdev driver=file,node-name=x,filename=missing.img
    with 'Node name too long' -blockdev driver=null-co,node-name=a2345678901234567890123456789012
    with 1bad -blockdev driver=null-co,node-name=1bad
    with twin -blockdev driver=null-co,node-name=twin -blockdev driver=null-co,node-name=twin
    with missing -blockdev driver=raw,node-name=x,file=missing
    with no-such -blockdev "driver=file,node-name=x,filename=$disk,no-such=1"
    with discard -blockdev "driver=file,node-name=x,filename=$disk,discard=maybe"
    with JSON -blockdev '{"driver":"file",}'
    with "node 'n' is written to by" -blockdev driver=null-co,node-name=n -device virtio-blk-pci,drive=n -device virtio-blk-pci,drive=n
    with num-queues -blockdev driver=null-co,node-name=n -device virtio-blk-pci,drive=n,num-queues=99999
    with queue-size -blockdev driver=null-co,node-name=n -device virtio-blk-pci,drive=n,queue-size=100
    with serial -blockdev driver=null-co,node-name=n \
        -device virtio-blk-pci,drive=n,serial=longer-than-twenty-characters
    none_was_bad
}

test_a_disk_that_another_skiff_has() {
    make_disk 64M
    start_own_guest blk-verify 'until=button' -drive "file=$disk,format=raw,if=none,id=d" -device virtio-blk-pci,drive=d
    wait_output '^blk-verify: sectors'
    with "$disk.*in use by process $skiff_pid" -drive "file=$disk,format=raw"
    with "$disk.*in use by process $skiff_pid" -drive "file=$disk,format=raw,readonly=on"
    none_was_bad
    kill "$skiff_pid"
    wait_skiff
    expect_status 0
}

test_character_devices() {
    with no-such -serial no-such
    with 'file' -serial file:
    with /no-such/file -serial file:/no-such/file
    with "$work" -serial "file:$work"
    with /no-such/socket -serial unix:/no-such/socket
    with 'missing' -serial chardev:missing
    with '^skiff: -qmp: .*missing' -qmp chardev:missing
    with '^skiff: -monitor: .*missing' -monitor chardev:missing
    with '^skiff: -mon: .*missing' -mon missing,mode=control
    with 'port' -serial tcp:localhost:no-such
    # In the user's spelling.
    with '^skiff: -gdb unix:/no-such/gdb: ' -gdb unix:/no-such/gdb
    with '^skiff: -gdb tcp:no-port: ' -gdb tcp:no-port
    with '^skiff: -gdb bogus: ' -gdb bogus
    with '^skiff: -gdb chardev:missing: ' -gdb chardev:missing
    with '2 serial ports' -serial null -serial null -serial null
    with 'stdio' -serial stdio -serial stdio
    with no-such -chardev no-such,id=x
    with id -chardev null
    with path -chardev file,id=x
    with twin -chardev null,id=twin -chardev null,id=twin
    with no-such -chardev null,id=x,no-such=1
    with twin -chardev null,id=twin -serial chardev:twin -serial chardev:twin
    none_was_bad
}

test_networks() {
    local netdev
    with "type" -netdev id=n0
    with "id= is missing" -netdev tap
    with "'0' " -netdev tap,id=0
    with "nearest is tap" -netdev tab,id=n0
    with "no network 'l2tpv3': use tap" -netdev l2tpv3,id=n0
    with "no network 'af-xdp': " -netdev af-xdp,id=n0
    with "no network 'vde': " -nic vde
    with "no option 'ifnam'" -netdev tap,id=n0,ifnam=x
    with "fd=77: .*descriptor" -netdev tap,id=n0,fd=77
    with "fd=0.*|tap device" -netdev tap,id=n0,fd=0
    with "vnet_hdr" -netdev tap,id=n0,vnet_hdr=perhaps
    with "queues" -netdev tap,id=n0,queues=1000
    with "sixteen-letters-: 1 to 15" -netdev tap,id=n0,ifname=sixteen-letters-
    with "cannot run /nothing" -netdev tap,id=n0,helper=/nothing
    with "vhost=perhaps|vhost" -netdev tap,id=n0,vhost=perhaps
    with "/bin/false .*bridge br0" -netdev tap,id=n0,helper=/bin/false
    with "no NIC model 'e1000'; nearest is virtio-net-pci" -nic tap,model=e1000
    with "no -netdev with id=n1" -device virtio-net-pci,netdev=n1
    for netdev in mac=1:2 mac=01:00:00:00:00:00 speed=fast rx_queue_size=3 duplex=both rss=on; do
        with "${netdev%%=*}" -device "virtio-net-pci,$netdev"
    done
    none_was_bad
}

test_values() {
    local value
    for value in 0 -1 x '' 99999999999; do
        with -timeout -timeout "$value"
    done
    with '-timeout 0.5: a time in seconds' -timeout 0.5
    with no-such -action no-such=1
    with 'watchdog=no-such' -action watchdog=no-such
    with 'watchdog=no-such' -watchdog-action no-such
    with reboot -action reboot=no-such
    with panic -action panic=no-such
    with base -rtc base=no-such
    with clock -rtc clock=no-such
    with driftfix -rtc driftfix=no-such
    with 'was given twice' -boot order=cc
    with 'for PC' -boot once=p
    with strict -boot strict=maybe
    with no-such -uuid no-such
    with no-such -trace no-such
    for value in serial chardev qmp monitor trace action msg rtc boot sandbox run-with machine; do
        with "^skiff: -$value: needs a" "-$value" ''
    done
    with timestamp -msg timestamp=maybe
    with no-such -msg no-such=on
    with /no-such/pid -pidfile /no-such/pid
    with "$work" -pidfile "$work"
    with 'is no regular file' -pidfile /dev/full
    with /no-such/log -D /no-such/log
    none_was_bad
}

test_kernels() {
    printf 'not a kernel\n' >"$work/text"
    : >"$work/empty"
    head -c 1000000 /dev/urandom >"$work/noise"
    head -c 40 "$kernel" >"$work/head"
    head -c 20000 "$kernel" >"$work/half"
    # e_machine of another architecture.
    cp "$kernel" "$work/arm"
    printf '\xb7' | dd of="$work/arm" bs=1 seek=18 conv=notrunc status=none
    # An entry of the program header table beyond the file.
    cp "$kernel" "$work/table"
    printf '\xff\xff\xff\xff\xff\xff\xff\x7f' | dd of="$work/table" bs=1 seek=32 conv=notrunc status=none
    local file
    for file in missing text empty noise head half arm table; do
        refuse "$work/$file" -display none -kernel "$work/$file"
    done
    refuse "$work.*directory" -display none -kernel "$work"
    refuse /dev/null -display none -kernel /dev/null
    refuse "hello.*-m|-m.*hello|memory|RAM" -display none -m 2 -kernel "$kernel" -initrd "$work/noise"
    with "$work/missing" -initrd "$work/missing"
    with "$work.*directory" -initrd "$work"
    truncate -s 200M "$work/huge"
    with 'initrd|RAM|-m' -initrd "$work/huge"
    none_was_bad
}

test_a_Linux_kernel_that_is_cut_short() {
    [ -e build/linux/vmlinuz ] || skip "no build/linux/vmlinuz"
    local bytes
    for bytes in 500 600 20000 5000000; do
        head -c "$bytes" build/linux/vmlinuz >"$work/vmlinuz"
        refuse "$work/vmlinuz" -display none -kernel "$work/vmlinuz"
    done
    none_was_bad
}

test_firmware_images() {
    : >"$work/empty"
    head -c 1000 build/guests/first.bin >"$work/odd"
    truncate -s 64M "$work/huge"
    local file
    for file in missing empty odd huge; do
        refuse "$work/$file" -display none -bios "$work/$file"
    done
    refuse "$work.*directory" -display none -bios "$work"
    none_was_bad
}

# kvm_is WHAT: sets `prefix` so that skiff sees WHAT mounted on /dev/kvm, or no /dev/kvm.
kvm_is() {
    local script='mount --bind "$0" /dev/kvm && exec "$@"'
    unshare -m true 2>/dev/null || skip "mounts of one's own need root"
    if [ "$1" = missing ]; then
        script='mount --bind "$0" /dev && exec "$@"'
        mkdir -p "$work/dev"
        set -- "$work/dev"
    fi
    prefix=(unshare -m sh -c "$script" "$1")
}

# without_capabilities: sets `prefix` so that skiff, as root, may open only files that their mode
# allows.
without_capabilities() {
    [ "$(id -u)" -eq 0 ] || skip "only root can make files of other users"
    local drop=-dac_override,-dac_read_search
    prefix=(setpriv "--bounding-set=$drop" "--inh-caps=$drop")
    ! "${prefix[@]}" cat "$work/secret" >/dev/null 2>&1 || skip "capabilities cannot be dropped here"
}

# as_nobody [CAPABILITY]: sets `prefix` so that skiff runs as nobody, with at most that capability.
as_nobody() {
    [ "$(id -u)" -eq 0 ] || skip "only root can become somebody else"
    prefix=(setpriv --reuid=65534 --regid=65534 --clear-groups
        ${1:+"--inh-caps=+$1" "--ambient-caps=+$1"})
    chmod a+rx "$work"
    "${prefix[@]}" "$SKIFF" -version >/dev/null 2>&1 || skip "nobody may not run $SKIFF"
    "${prefix[@]}" test -r "$kernel" || skip "nobody may not read $kernel"
}

test_files_that_may_not_be_read() {
    cp "$kernel" "$work/secret"
    chmod 600 "$work/secret"
    truncate -s 1M "$work/read-only"
    chmod 644 "$work/read-only"
    mkdir "$work/forbidden"
    chown -R 65534:65534 "$work/secret" "$work/read-only" "$work/forbidden"
    without_capabilities
    refuse "$work/secret.*denied" -display none -kernel "$work/secret"
    with "$work/secret.*denied" -initrd "$work/secret"
    refuse "$work/secret.*denied" -display none -bios "$work/secret"
    with "$work/secret.*denied" -drive "file=$work/secret,format=raw,readonly=on"
    with "$work/read-only.*denied" -drive "file=$work/read-only,format=raw"
    with "$work/forbidden/log.*denied" -serial "file:$work/forbidden/log"
    with "$work/forbidden/pid.*denied" -pidfile "$work/forbidden/pid"
    none_was_bad
}

test_memory_that_the_host_does_not_have() {
    with 'memory|-m' -m 32T
    with 'memory|-m' -object memory-backend-memfd,id=m,size=32T,share=on -machine memory-backend=m
    # ASan and TSan themselves need terabytes of address space.
    if ! ldd "$SKIFF" | grep -qE 'lib[at]san'; then
        prefix=(prlimit --as=300000000)
        with 'memory|-m' -m 1G
    fi
    none_was_bad
}

test_KVM_that_is_missing() {
    kvm_is missing
    with '/dev/kvm: No such file.*(modprobe|module|nested|BIOS|virtuali)'
    none_was_bad
}

test_KVM_that_is_forbidden() {
    as_nobody
    : >"$work/private"
    chmod 600 "$work/private"
    prefix=(unshare -m sh -c 'mount --bind "$0" /dev/kvm && exec "$@"' "$work/private" "${prefix[@]}")
    with '/dev/kvm: Permission denied.*(group|kvm)'
    none_was_bad
}

test_KVM_that_is_something_else() {
    kvm_is /dev/null
    with '/dev/kvm'
    : >"$work/file"
    kvm_is "$work/file"
    with '/dev/kvm'
    none_was_bad
}

test_descriptors_that_run_out() {
    local limit sandbox=() or_status=1
    if [ -n "${SKIFF_UNCONFINED-}" ]; then # the wrapper is a script that needs some itself
        SKIFF=$SKIFF_UNCONFINED sandbox=(-sandbox on)
    fi
    # The exact limit does not matter: either the guest runs or the line names the shortage.
    for limit in $(rounds lab="4 6 9 12 16 20 30" check="$(seq -s' ' 4 30)" long="$(seq -s' ' 4 30)"); do
        prefix=(prlimit "--nofile=$limit")
        with 'Too many open files' "${debug_exit[@]}" "${sandbox[@]}"
    done
    [ "$status" -eq 1 ] || fail "30 descriptors are not enough"
    prefix=(prlimit --nofile=6)
    with '/dev/kvm: Too many open files: .*ulimit -n' "${sandbox[@]}"
    none_was_bad
}

test_text_with_line_breaks() {
    local text=$'a\033[31mb\nc\xff'
    with 'a\\x1b\[31mb\\x0ac\\xff' -kernel "$text"
    with 'a\\x1b\[31mb\\x0ac\\xff' -serial "file:/no-such/$text"
    with 'a\\x1b\[31mb\\x0ac\\xff' -device "$text"
    refuse 'a\\x1b\[31mb\\x0ac\\xff' "$text"
    text=$(printf '%0100000d' 0)
    with 'no-such.*\.\.\.$' -initrd "no-such/$text"
    [ "$(wc -c <"$work/stderr")" -lt 5000 ] || fail "a line of $(wc -c <"$work/stderr") bytes"
    none_was_bad
}

test_ids_that_are_invalid_names() {
    local id
    for id in '#x' 1x a/b 'a b' $'\xff' ü; do
        with 'is invalid' -device "virtio-rng-pci,id=$id"
        with 'is invalid' -chardev "null,id=$id"
        with 'is invalid' -object "iothread,id=$id"
    done
    none_was_bad
}

# Otherwise a disk would get the number of a closed descriptor, and messages would be written to it.
test_standard_descriptors_that_are_closed() {
    local closed status
    for closed in 0 1 2 012; do
        make_disk 1M
        status=0
        (
            for ((i = 0; i < ${#closed}; i++)); do
                eval "exec ${closed:i:1}>&-"
            done
            exec timeout "$(seconds 20)" "$SKIFF" -display none -serial stdio "${debug_exit[@]}" -kernel "$kernel" \
                -drive "file=$disk,format=raw,if=none,id=d" -device virtio-blk-pci,drive=d -trace '*'
        ) >"$work/stdout" 2>"$work/stderr" </dev/null || status=$?
        [ "$status" -eq 1 ] || fail "$closed closed: status $status"
        cmp "$disk" <(head -c 1M /dev/zero) || fail "$closed closed: the disk has been written to"
    done
}

test_help_that_cannot_be_written() {
    local option
    for option in -help -version '-device help'; do
        # shellcheck disable=SC2086
        ! "$SKIFF" $option >/dev/full 2>"$work/stderr" || fail "$option succeeded"
        [ "$(cat "$work/stderr")" = 'skiff: standard output: No space left on device' ] || fail "$(cat "$work/stderr")"
    done
}

# Through a pipe: standard error may not grow either.
test_files_that_may_not_grow() {
    local line
    ! grep -qa __tsan_init "$SKIFF" || skip "ThreadSanitizer itself writes files"
    SKIFF=${SKIFF_UNCONFINED:-$SKIFF} # libseccomp makes its filters in files
    prefix=(prlimit --fsize=0)
    line=$("${prefix[@]}" "$SKIFF" -display none -kernel "$kernel" -pidfile "$work/pid" 2>&1 >/dev/null | cat)
    [ "$line" = "skiff: -pidfile $work/pid: File too large" ] || fail "$line"
    line=$("${prefix[@]}" "$SKIFF" -display none "${debug_exit[@]}" -kernel "$kernel" -serial "file:$work/log" 2>&1 |
        cat; echo "${PIPESTATUS[0]}")
    [[ $line == *"$work/log: File too large"*$'\n1' ]] || fail "$line"
}

# There are at least four: main, a worker, an iothread, a vCPU.
test_threads_that_run_out() {
    as_nobody dac_override
    local limit as_nobody=("${prefix[@]}")
    for limit in 1 2 3; do
        prefix=("${as_nobody[@]}" prlimit "--nproc=$limit")
        with 'cannot start .*: Resource temporarily unavailable'
    done
    none_was_bad
}

test_the_parent_of_a_daemon_gets_its_error() {
    with 'a daemon has no terminal' -daemonize -serial stdio
    with 'a daemon has no terminal' -daemonize -chardev stdio,id=x
    with 'a daemon has no terminal' -daemonize -nographic
    refuse missing -display none -daemonize -kernel missing
    with missing.img -daemonize -drive file=missing.img,format=raw
    none_was_bad
}

run_tests

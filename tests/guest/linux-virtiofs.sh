#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: lab
# timeout: 900
# Debian's unmodified kernel on folders of the host: as its root file system, read-only; shared, with checks of
# files from both sides; by an ordinary user in a sandbox; and with a virtiofsd that dies.
. "$(dirname "$0")/common.bash"
only_in_check_long

kernel=(-m 512 -nographic -no-reboot -kernel build/linux/vmlinuz -initrd build/linux/initramfs.cpio.gz)

# need_virtiofsd: skips the test where skiff finds none.
need_virtiofsd() {
    [ -x /usr/libexec/virtiofsd ] || [ -x /usr/lib/qemu/virtiofsd ] || command -v virtiofsd >/dev/null ||
        skip "virtiofsd is not installed: tests/install-deps test"
}

# make_share: an empty folder, $share.
make_share() {
    share=$(mktemp -d "$work/share.XXXXXX")
}

# make_init SCRIPT: $work/init, a first program that runs the script, reports its status and powers off.
make_init() {
    printf '#!/bin/bash\nexport PATH=/usr/sbin:/usr/bin:/sbin:/bin\n(set -e; %s\n)\necho "skiff-guest: exit $?"\necho o >/proc/sysrq-trigger\nsleep 1000\n' \
        "$1" >"$work/init"
    chmod 755 "$work/init"
}

test_the_host_is_the_guests_root() {
    need_virtiofsd
    chmod 755 "$work"
    echo "of the host" >"$work/fact"
    make_init "
        echo root is \$(findmnt -n -o FSTYPE,SOURCE /)
        echo fact \$(cat $work/fact)
        echo release \$(cat /etc/debian_version)
        ls -l /usr/bin/ls >/dev/null
        if mount -o remount,rw / 2>/dev/null && echo x 2>/dev/null >$work/fact; then echo written; fi
        echo programs \$(dpkg-query -W -f '\${Status}' bash)
        sha256sum /usr/bin/bash"
    skiff "${kernel[@]}" -virtiofs tag=rootfs,path=/,readonly=on \
        -append "console=ttyS0 quiet rootfstype=virtiofs root=rootfs ro init=$work/init"
    expect_status 0
    expect_guest_status 0
    expect_output '^root is virtiofs rootfs$'
    expect_output '^fact of the host$'
    expect_output '^programs install ok installed$'
    expect_output "^$(sha256sum /usr/bin/bash | cut -c1-64)  /usr/bin/bash$"
    refute_output '^written$'
    expect_equal "the host's file" "$(cat "$work/fact")" "of the host"
}

# What a guest does to files, and what it must find then. Each step prints a line "== STEP".
files_script='
set -e
step() { echo "== $*"; }
sum() { md5sum | cut -c1-32; }
mkdir -p /mnt; mount -t virtiofs share /mnt; cd /mnt
step read $(cat fact)
head -c 5m /dev/urandom >data; sync; want=$(sum <data)
echo 3 >/proc/sys/vm/drop_caches; step data $([ "$(sum <data)" = $want ] && echo same); echo $want >data.md5
dd if=/dev/zero of=data bs=1000 seek=777 count=3 conv=notrunc,fsync 2>/dev/null
dd if=data bs=1000 skip=777 count=3 2>/dev/null | sum >hole; step overwritten $([ "$(cat hole)" = $(head -c 3000 /dev/zero | sum) ] && echo same)
truncate -s 100 data; step shorter $(stat -c %s data); truncate -s 9437184 data; step longer $(stat -c %s data) $(tail -c 1m data | tr -d "\0" | wc -c)
i=0; mkdir many; while [ $i -lt 300 ]; do echo $i >many/$i; i=$((i + 1)); done; step many $(ls many | wc -l) $(cat many/* | sort -n | sum)
mv many/7 many/seven; ln -s seven many/link; step moved $(cat many/link) $([ -e many/7 ] || echo gone)
ln many/seven many/hard; step links $(stat -c %h many/seven)
chmod 640 many/8; chown 5:6 many/8; step mode $(stat -c "%a %u %g" many/8)
touch -d "2001-02-03 04:05:06" many/9; step time $(stat -c %Y many/9)
rm -r many; step removed $([ -e many ] || echo gone)
mkfifo pipe; (echo through >pipe) & step fifo $(cat pipe); wait
i=0; while [ $i -lt 20 ]; do echo line $i >>log & i=$((i + 1)); done; wait; step appended $(wc -l <log)
exec 3>open; rm open; echo still >&3; step unlinked $?; exec 3>&-
echo changed >fact; step done; cd /; umount /mnt
'

test_files_are_the_same_from_both_sides() {
    need_virtiofsd
    make_share
    echo "for the guest" >"$share/fact"
    linux_guest "$files_script" -virtiofs "tag=share,path=$share" -smp 2
    expect_status 0
    expect_guest_status 0
    local line
    for line in 'read for the guest' 'data same' 'overwritten same' 'shorter 100' 'longer 9437184 0' \
        "many 300 $(seq 0 299 | md5sum | cut -c1-32)" 'moved 7 gone' 'links 2' 'mode 640 5 6' 'time 981173106' \
        'removed gone' 'fifo through' 'appended 20' 'unlinked 0' 'done'; do
        expect_output "^== $line\$"
    done
    expect_equal "the host's file" "$(cat "$share/fact")" changed
    expect_equal "its size" "$(stat -c %s "$share/data")" 9437184
}

test_a_read_only_folder_is_read_only_for_a_guest_that_writes() {
    need_virtiofsd
    make_share
    echo "as it was" >"$share/fact"
    linux_guest 'mkdir -p /mnt; mount -t virtiofs share /mnt; cat /mnt/fact
        echo x >/mnt/fact; echo x >/mnt/new; rm /mnt/fact; mkdir /mnt/d; chmod 777 /mnt/fact; ls /mnt | wc -l' \
        -virtiofs "tag=share,path=$share,readonly=on"
    expect_guest_status 0
    expect_output '^as it was'
    expect_output 'Read-only file system'
    expect_output '^1$'
    expect_equal "the host's file" "$(cat "$share/fact")" "as it was"
}

test_an_ordinary_user_in_a_sandbox() {
    need_virtiofsd
    local home
    chmod 666 /dev/kvm
    home=$(mktemp -d /tmp/skiff-user.XXXXXX) # the folders above $work are root's
    at_end "rm -rf '$home'"
    share=$home/share
    mkdir "$share"
    chown -R 1234:1234 "$home"
    # in groups that it does not need
    printf '#!/bin/sh\nexec env HOME=%s TMPDIR=%s setpriv --reuid=1234 --regid=1234 --groups=1234,4,24 --no-new-privs %s -sandbox on "$@"\n' \
        "$home" "$home" "$(realpath "$SKIFF")" >"$work/skiff"
    chmod 755 "$work/skiff"
    SKIFF=$work/skiff linux_guest 'mkdir -p /mnt; mount -t virtiofs share /mnt; echo by the guest >/mnt/file; cat /mnt/file; id -u' \
        -virtiofs "tag=share,path=$share"
    expect_status 0
    expect_guest_status 0
    expect_equal "the host's file" "$(cat "$share/file")" "by the guest"
    expect_equal "its owner" "$(stat -c %u "$share/file")" 1234
}

test_a_virtiofsd_that_is_killed_leaves_the_vm_alive() {
    need_virtiofsd
    make_share
    echo word >"$share/file"
    local script='mkdir -p /mnt; mount -t virtiofs share /mnt; cat /mnt/file; echo mounted; sleep 1; (cat /mnt/other &)
        i=0; while [ $i -lt 5 ]; do sleep 1; i=$((i + 1)); done; echo alive'
    start_skiff "${kernel[@]}" -append "console=ttyS0 quiet skiff.run=sh:$(printf '%s' "$script" | base64 -w0)" \
        -virtiofs "tag=share,path=$share"
    wait_output '^mounted'
    pkill -KILL -P "$skiff_pid" virtiofsd
    wait_output 'the device needs a reset$'
    wait_output '^alive'
    type_in '\001x' # its sync would wait for the folder
    wait_skiff
    expect_status 0
}

run_tests

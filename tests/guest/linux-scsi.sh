#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: lab
# timeout: 900
# Debian's unmodified kernel uses disks and a CD drive on virtio-scsi: sg3-utils' programs, ext4, LUNs
# and media that come and go, a disk that grows. A LUN that is removed is gone at once, so the flush that Linux sends then fails.
. "$(dirname "$0")/common.bash"

programs="sg_inq sg_vpd sg_readcap sg_luns sg_modes sg_turs sg_requests sg_unmap sg_write_same sg_verify sg_reset sg_sync sg_start
    sg_prevent mke2fs e2fsck"

# make_tools SCRIPT: an ext4 image with the host's programs, their libraries and the guest's script.
make_tools() {
    local root=$work/root program path file
    mkdir -p "$root"/{dev,proc,sys,tmp}
    for program in $programs; do
        path=$(command -v "$program") || skip "$program is not installed: tests/install-deps test"
        for file in "$path" $(ldd "$path" | grep -o '/[^ ]*'); do
            install -D "$file" "$root$file"
        done
    done
    printf '%s' "$1" >"$root/script"
    truncate -s 64M "$work/tools"
    mke2fs -q -t ext4 -d "$root" "$work/tools"
    rm -rf "$root"
}

# The script is too long for the kernel's command line: it is on the disk with the programs.
boot_script='modprobe -a virtio_pci virtio_blk crc32c_generic ext4; n=0; until [ -b /dev/vda ] || [ $n = 600 ]; do n=$((n + 1)); usleep 50000; done
    mkdir -p /mnt && mount -t ext4 /dev/vda /mnt && sh /mnt/script'

# Each step prints a line "== STEP"; commands that fail end the script.
guest_script=$guest_steps'
set -e
export PATH=$PATH:/usr/bin:/usr/sbin
in_tools() { program=$1; shift; chroot /mnt $(where $program) "$@"; }
where() { for d in /usr/bin /usr/sbin /sbin /bin; do [ ! -x /mnt$d/$1 ] || { echo $d/$1; return; }; done; }
sum() { md5sum | cut -c1-32; }
modprobe -a virtio_scsi sd_mod sr_mod sg
mkdir -p /disk
mount -t devtmpfs dev /mnt/dev; mount -t proc proc /mnt/proc; mount -t sysfs sys /mnt/sys
until_true "[ -b /dev/sda ] && [ -b /dev/sr0 ]"
step disks $(cat /sys/block/sda/size) $(cat /sys/block/sda/queue/logical_block_size) $(cat /sys/block/sda/queue/physical_block_size)
step discard $(cat /sys/block/sda/queue/discard_max_bytes) $(cat /sys/block/sda/queue/discard_granularity) $(cat /sys/block/sda/queue/write_same_max_bytes)
step rotational $(cat /sys/block/sda/queue/rotational)
step inquiry $(in_tools sg_inq /dev/sda | sed -n "s/.*Product identification: *//p;s/.*Vendor identification: *//p;s/.*Unit serial number: *//p" | tr "\n" ,)
in_tools sg_vpd -a /dev/sda >/tmp/vpd; step vpd $(grep -ciE "page" /tmp/vpd)
step lbpv $(in_tools sg_vpd -p lbpv /dev/sda | grep -E "Unmap command|Write same \(16\)" | tr -d "\n")
step wwn $(in_tools sg_vpd -p di /dev/sda | grep -o 0x5000c50015ea71ac | head -n 1)
step capacity $(in_tools sg_readcap -l /dev/sda | sed -n "s/.*Last LBA=\([0-9]*\).*/\1/p")
step luns $(in_tools sg_luns -d /dev/sda | grep -c "Peripheral\|address")
step modes $(in_tools sg_modes -a /dev/sda | grep -c "^>> ")
in_tools sg_turs -v -n 20 /dev/sda; in_tools sg_requests /dev/sda >/dev/null; in_tools sg_sync /dev/sda
step cache $(cat /sys/class/scsi_disk/*:0/cache_type | head -n 1)
for d in /sys/class/scsi_disk/*; do [ "$(ls $d/device/block)" = sda ] && sda=$d; done
echo "write through" >$sda/cache_type; step cache-off $(cat $sda/cache_type)
echo "write back" >$sda/cache_type; step cache-on $(cat $sda/cache_type)
head -c 1m /dev/urandom >/tmp/data; cp /tmp/data /mnt/tmp/data
dd if=/tmp/data of=/dev/sda bs=64k conv=fsync 2>/dev/null
echo 3 >/proc/sys/vm/drop_caches; blockdev --flushbufs /dev/sda
step data $([ "$(head -c 1m /dev/sda | sum)" = "$(sum </tmp/data)" ] && echo same)
in_tools sg_verify --count=64 --lba=0 --ndo=32768 --in=/tmp/data /dev/sda; step verify same
dd if=/dev/zero of=/mnt/tmp/data bs=512 count=1 seek=9 conv=notrunc 2>/dev/null
if in_tools sg_verify --quiet --count=64 --lba=0 --ndo=32768 --in=/tmp/data /dev/sda; then step verify missed; else step verify differs $?; fi
in_tools sg_unmap --force --lba=0 --num=64 /dev/sda; step unmap
in_tools sg_write_same --lba=100 --num=16 --in=/tmp/data --xferlen=512 /dev/sda
in_tools sg_write_same --16 --lba=200 --num=16 --in=/dev/zero --xferlen=512 --unmap /dev/sda
in_tools sg_write_same --16 --lba=300 --num=16 --ndob /dev/sda
blockdev --flushbufs /dev/sda
step zeroes $(dd if=/dev/sda bs=512 skip=200 count=16 2>/dev/null | tr -d "\0" | wc -c) $(dd if=/dev/sda bs=512 skip=300 count=16 2>/dev/null | tr -d "\0" | wc -c)
step same $([ "$(dd if=/dev/sda bs=512 skip=115 count=1 2>/dev/null | sum)" = "$(head -c 512 /mnt/tmp/data | sum)" ] && echo yes)
in_tools sg_reset --device /dev/sda >/dev/null; in_tools sg_turs /dev/sda 2>/dev/null || in_tools sg_turs /dev/sda
step reset
in_tools mke2fs -q -t ext4 /dev/sda
mount -t ext4 -o discard /dev/sda /disk
head -c 8m /dev/urandom >/disk/file; want=$(sum </disk/file); sync; umount /disk
mount -t ext4 /dev/sda /disk; step ext4 $([ "$(sum </disk/file)" = $want ] && echo same); umount /disk
in_tools e2fsck -fn /dev/sda >/dev/null 2>&1; step fsck
step ready
until_true "[ -b /dev/sdb ]"
step added $(cat /sys/block/sdb/size) $(head -c 4096 /dev/sdb | sum)
until_true "[ ! -e /sys/block/sdb ]"
step removed
until_true "[ \"\$(cat /sys/block/sda/size)\" = 131072 ]"
step grown
step cd $(cat /sys/block/sr0/size) $(head -c 4096 /dev/sr0 | sum)
step changing
until_true "[ \"\$(blockdev --flushbufs /dev/sr0 2>/dev/null; head -c 4096 /dev/sr0 2>/dev/null | sum)\" = @CD2@ ]"
step changed
in_tools sg_prevent --prevent=1 /dev/sr0; step locked
in_tools sg_prevent --allow /dev/sr0
in_tools sg_start --eject /dev/sr0; step ejected
in_tools sg_start --load /dev/sr0; step loaded
step complaints $(dmesg | grep -iE "I/O error|critical|BUG:|WARNING:|abort|failed" | grep -vE "sr0|report a bug|sdb. Synchronize Cache.*DID_BAD_TARGET")
step end
'

host_program='
import sys
from functools import partial
sys.path.insert(0, "tests/support")
import drive_linux
from qmp import Qmp
work, md5 = sys.argv[1:]
vm = Qmp(work + "/qmp", timeout=600)

wait_step = partial(drive_linux.wait_step, work + "/console", vm.timeout)

wait_step("ready")
vm.cmd("device_add", driver="scsi-hd", id="hot", drive="d1", bus="scsi0.0", **{"scsi-id": 5, "lun": 300})
wait_step("added 128 " + md5)
vm.cmd("device_del", id="hot")
vm.wait_event("DEVICE_DELETED", device="hot")
wait_step("removed")
vm.cmd("block_resize", size=64 << 20, **{"node-name": "d0"})
wait_step("grown")
wait_step("changing")
vm.cmd("blockdev-change-medium", id="cd", filename=work + "/cd2", force=True)
for moved in (True, False):
    assert vm.wait_event("DEVICE_TRAY_MOVED", id="cd")["data"]["tray-open"] == moved
wait_step("changed")
for moved in (True, False):
    assert vm.wait_event("DEVICE_TRAY_MOVED", id="cd")["data"]["tray-open"] == moved
wait_step("loaded")
wait_step("end")
'

test_debian_uses_scsi_disks_and_a_cd_drive() {
    local cd2 cd1
    command -v python3 >/dev/null || skip "python3 is not installed"
    truncate -s 32M "$work/disk"
    head -c 64k /dev/urandom >"$work/hot"
    head -c 1M /dev/urandom >"$work/cd1"
    head -c 1M /dev/urandom >"$work/cd2"
    cd1=$(head -c 4096 "$work/cd1" | md5sum | cut -c1-32)
    cd2=$(head -c 4096 "$work/cd2" | md5sum | cut -c1-32)
    make_tools "${guest_script//@CD2@/$cd2}"
    start_skiff -m 512 -smp 2 -display none -serial "file:$console" -no-reboot \
        -kernel build/linux/vmlinuz -initrd build/linux/initramfs.cpio.gz \
        -append "console=ttyS0 quiet skiff.run=sh:$(printf '%s' "$boot_script" | base64 -w0)" \
        -qmp "unix:$work/qmp,server=on,wait=off" -object iothread,id=io \
        -device virtio-scsi-pci,id=scsi0,iothread=io \
        -blockdev "driver=raw,node-name=d0,discard=unmap,file.driver=file,file.filename=$work/disk,file.discard=unmap" \
        -blockdev "driver=raw,node-name=d1,file.driver=file,file.filename=$work/hot" \
        -device scsi-hd,drive=d0,bus=scsi0.0,scsi-id=0,serial=S1,wwn=0x5000c50015ea71ac,rotation_rate=1,physical_block_size=4096 \
        -drive "if=none,id=cd0,media=cdrom,format=raw,file=$work/cd1" -device scsi-cd,id=cd,drive=cd0,scsi-id=3 \
        -drive "if=none,id=tools,format=raw,file=$work/tools" -device virtio-blk-pci,drive=tools,iothread=io
    python3 -c "$host_program" "$work" "$(head -c 4096 "$work/hot" | md5sum | cut -c1-32)" || fail "$(tail -n 30 "$console")"
    wait_skiff
    expect_status 0
    expect_guest_status 0
    expect_output '^== disks 65536 512 4096'
    expect_output '^== discard 1073741824 4096'
    expect_output '^== rotational 0'
    expect_output '^== inquiry QEMU ?,QEMU HARDDISK ?,S1,'
    expect_output '^== lbpv .*Unmap command supported .*: 1.*Write same .16.*: 1'
    expect_output '^== wwn 0x5000c50015ea71ac'
    expect_output '^== capacity 65535'
    expect_output '^== modes 3'
    expect_output '^== luns 1'
    expect_output '^== cache-off write through'
    expect_output '^== cache-on write back'
    expect_output '^== data same'
    expect_output '^== verify differs 14'
    expect_output '^== zeroes 0 0'
    expect_output '^== same yes'
    expect_output '^== ext4 same'
    expect_output "^== cd 2048 $cd1"
    refute_output 'guest error'
    expect_equal "what the kernel complains of" "$(tr -d "\r" <"$console" | sed -n "s/^== complaints *//p")" ""
}

run_tests

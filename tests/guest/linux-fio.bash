# SPDX-License-Identifier: Apache-2.0
# Sourced by scripts of tests/guest after common.bash: fio on an ext4 file system of a Linux guest.

# make_fio_image FILE [FORMAT [PROGRAM…]]: an ext4 image of 400 MiB with the host's fio and its libraries, and the static
# programs in /usr/bin.
make_fio_image() {
    local root=$work/root file
    mkdir -p "$root"/{dev,proc,tmp,usr/bin}
    for file in "$(command -v fio)" $(ldd "$(command -v fio)" | grep -o '/[^ ]*'); do
        install -D "$file" "$root$file"
    done
    [ $# -lt 3 ] || install "${@:3}" "$root/usr/bin"
    truncate -s 400M "$work/image"
    mke2fs -q -t ext4 -d "$root" "$work/image"
    rm -rf "$root"
    [ "${2-}" != raw ] || { mv "$work/image" "$1" && return; }
    qemu-img convert -f raw -O "${2:-qcow2}" "$work/image" "$1"
    rm "$work/image"
}

# fio_script SECONDS: what the guest runs: fio writes 16 MiB and verifies them, again and again for that time; 0:
# once. With a time, the guest is idle before and after that, each time until a line comes from its console.
fio_script() {
    local idle=:
    [ "$1" = 0 ] || idle="echo the guest is idle; read -r line </dev/console"
    cat <<SCRIPT
modprobe crc32c_generic; modprobe ext4; modprobe virtio_scsi; modprobe sd_mod; mkdir -p /mnt
for i in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/vda ] || [ -b /dev/sda ] || sleep 1; done
disk=/dev/vda; [ -b \$disk ] || disk=/dev/sda
idle() { $idle; }
now() { cut -d. -f1 /proc/uptime; }
verify() { # ROUND
    chroot /mnt $(command -v fio) --name=v --filename=/tmp/data --size=16m --bsrange=512-64k --rw=randwrite \
        --direct=1 --ioengine=psync --fsync=64 --verify=crc32c --do_verify=1 --verify_fatal=1 --thread \
        --randseed=\$1 --minimal >/run/fio.out && verified=\$((verified + \$(grep "^[0-9]*;" /run/fio.out | cut -d";" -f6)))
}
mount -t ext4 \$disk /mnt && mount -t devtmpfs dev /mnt/dev && mount -t proc proc /mnt/proc && idle || exit 1
end=\$((\$(now) + $1)) round=1 verified=0
verify 1 || exit 1
while [ \$(now) -lt \$end ]; do round=\$((round + 1)); verify \$round || exit 1; done
umount /mnt/dev /mnt/proc /mnt && sync && echo "fio has verified \$verified KiB in \$round rounds" && idle
SCRIPT
}

# SPDX-License-Identifier: Apache-2.0
# Sourced by scripts of tests/guest after common.bash: fio on an ext4 file system of a Linux guest.

# make_fio_image FILE [FORMAT]: an ext4 image of 400 MiB with the host's fio and its libraries.
make_fio_image() {
    local root=$work/root file
    mkdir -p "$root"/{dev,proc,tmp,usr/bin}
    for file in "$(command -v fio)" $(ldd "$(command -v fio)" | grep -o '/[^ ]*'); do
        install -D "$file" "$root$file"
    done
    truncate -s 400M "$work/image"
    mke2fs -q -t ext4 -d "$root" "$work/image"
    qemu-img convert -f raw -O "${2:-qcow2}" "$work/image" "$1"
    rm -rf "$root" "$work/image"
}

# fio_script SECONDS: what the guest runs: fio writes and verifies for that time; 0: until 16 MiB are done. With a
# time, the guest is idle before and after fio, each time until a line comes from its console.
fio_script() {
    local time='' idle=:
    [ "$1" = 0 ] || time="--time_based --runtime=$1" idle="echo the guest is idle; read -r line </dev/console"
    cat <<SCRIPT
modprobe crc32c_generic; modprobe ext4; modprobe virtio_scsi; modprobe sd_mod; mkdir -p /mnt
for i in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/vda ] || [ -b /dev/sda ] || sleep 1; done
disk=/dev/vda; [ -b \$disk ] || disk=/dev/sda
idle() { $idle; }
mount -t ext4 \$disk /mnt && mount -t devtmpfs dev /mnt/dev && mount -t proc proc /mnt/proc && idle &&
chroot /mnt $(command -v fio) --name=v --filename=/tmp/data --size=16m --bsrange=512-64k --rw=randwrite \
    --direct=1 --ioengine=psync --fsync=64 --verify=crc32c --do_verify=1 --verify_fatal=1 --thread $time \
    --minimal >/run/fio.out && grep -c "^[0-9]*;" /run/fio.out && umount /mnt/dev /mnt/proc /mnt && sync &&
echo "fio has verified \$(cut -d';' -f6 /run/fio.out) KiB and written \$(cut -d';' -f47 /run/fio.out) KiB" && idle
SCRIPT
}

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# skiff-img resize does to an image what qemu-img resize does.
# tier: unit
. "$(dirname "$0")/img.bash"

head -c 1M /dev/zero | tr '\0' r >start.raw
qemu-img convert -f raw -O qcow2 start.raw start.qcow2

# same_resize FORMAT ARGUMENT…: on equal copies; IMAGE stands for the name
same_resize() {
    local format=$1 ours theirs
    shift
    cp "start.$format" image && theirs=$(qemu-img resize "${@//IMAGE/image}" 2>&1; echo "status $?") && mv image theirs
    cp "start.$format" image && ours=$("$img" resize "${@//IMAGE/image}" 2>&1; echo "status $?") && mv image ours
    ours=${ours//skiff-img/qemu-img}
    [ "$ours" = "$theirs" ] || printf 'ours:\n%s\ntheirs:\n%s\n' "$ours" "$theirs" | sed 's/^/# /'
    [ "$ours" = "$theirs" ] &&
        { [ "$format" = qcow2 ] || [ "$(stat -c %b ours)" -le $(($(stat -c %b theirs) + 8)) ]; } &&
        qemu-img compare -q -s -f "$format" -F "$format" ours theirs &&
        { [ "$format" = raw ] || qemu-img check -q ours; }
    report $? "$format $*"
}

for format in raw qcow2; do
    for size in 2M 1M +512k 1g; do
        same_resize $format -f $format IMAGE $size
        same_resize $format -q -f $format IMAGE $size
    done
    for size in 512k -512k 64k; do
        same_resize $format -f $format IMAGE $size
        same_resize $format --shrink -f $format IMAGE $size
    done
    for size in 0 -1M -9G 1x +1x "" +; do
        same_resize $format -f $format IMAGE "$size"
    done
done
same_resize qcow2 IMAGE 2M
same_resize raw --preallocation=full -f raw IMAGE 2M
same_resize raw --preallocation=falloc -f raw IMAGE +1M
same_resize raw --preallocation=off -f raw IMAGE +1M
same_resize raw --preallocation=metadata -f raw IMAGE +1M
same_resize raw --preallocation=bogus -f raw IMAGE +1M
same_resize raw --preallocation=full -f raw IMAGE 1M
same_resize qcow2 --preallocation=bogus IMAGE +1M
same_resize qcow2 --preallocation=full IMAGE 1M
same_resize qcow2 --preallocation=off IMAGE +1M
same_resize raw --image-opts driver=raw,file.filename=IMAGE 2M
same resize
same resize 1M
same resize start.raw
same resize start.raw a 1M
refused "unrecognized option '--bogus'" resize --bogus start.raw 1M
refused "No such file" resize missing 1M
refused "must be a multiple of 512" resize -f raw start.raw 2000001
refused "The new size is too large" resize -f raw start.raw +7E

# preallocated OPTIONS SIZE COMMAND…: qcow2 images with every mode. The disk, and where it is allocated, are as qemu-img's.
preallocated() {
    local options=$1 size=$2 mode before commands=()
    shift 2
    for command in "$@"; do commands+=(-c "$command"); done
    for mode in metadata falloc full; do
        for name in ours theirs; do
            rm -f $name $name.data
            qemu-img create -q -f qcow2 -o "${options//DATA/$name.data}" $name 1000k
            [ $# -eq 0 ] || qemu-io -f qcow2 -d unmap "${commands[@]}" $name
        done
        qemu-img convert -f qcow2 -O raw ours before.raw
        before=$(used_kib)
        qemu-img resize -q --preallocation=$mode theirs $size
        "$img" resize -q --preallocation=$mode ours $size && truncate -s $size before.raw &&
            qemu-img check -q ours && qemu-img compare -q -f raw -F qcow2 before.raw ours && qemu-img compare -q ours theirs &&
            [ "$(counted ours)" = "$(counted theirs)" ] &&
            { [ $mode = metadata ] || [ $(($(used_kib) - before)) -ge $((${size%k} - 1000 - 64)) ]; }
        report $? "--preallocation=$mode $options $size"
        qemu-io -f qcow2 -c 'write -q -P 5 1000k 300k' -c "write -q -P 6 $((${size%k} - 9))k 9k" ours &&
            qemu-io -f qcow2 -r -c 'read -P 5 1000k 300k' -c "read -P 0 1300k $((${size%k} - 1309))k" ours | grep -q failed
        [ $? -eq 1 ] && qemu-img check -q ours
        report $? "writes after --preallocation=$mode $options $size"
    done
}

used_kib() {
    du -k ours ours.data 2>/dev/null | awk '{ n += $1 } END { print n }'
}

# counted IMAGE: how many clusters it has
counted() {
    qemu-img check "$1" | grep -o '[0-9]*/[0-9]* = .* allocated'
}

head -c 5M /dev/zero | tr '\0' b >base.raw
words=('write -q -P 3 0 200k' 'write -q -P 4 700k 300k' 'write -q -c -P 5 512k 64k')
preallocated "cluster_size=64k" 4000k "${words[@]}"
preallocated "cluster_size=64k" 4001k 'write -q -P 3 0 200k' 'discard -q 0 200k'
preallocated "cluster_size=512" 2000k "${words[@]}"
preallocated "cluster_size=2M" 9000k
preallocated "compat=0.10" 4000k "${words[@]}"
preallocated "extended_l2=on" 4000k "${words[@]}"
preallocated "data_file=DATA" 4000k "${words[0]}"
preallocated "data_file=DATA,data_file_raw=on" 4000k "${words[0]}"
preallocated "backing_file=base.raw,backing_fmt=raw" 4000k "${words[@]}"
preallocated "extended_l2=on,backing_file=base.raw,backing_fmt=raw" 6000k "${words[@]}"
# clusters that were used before are zeroes in the new part
head -c 400k /dev/urandom | od -An -tx1 | head -c 1M >text.raw
qemu-img convert -c -O qcow2 text.raw used.qcow2
qemu-io -f qcow2 -c 'write -q -P 0 0 1M' used.qcow2
for mode in metadata falloc full; do
    cp used.qcow2 ours
    "$img" resize -q --preallocation=$mode ours 3M && qemu-img check -q ours
    qemu-io -f qcow2 -r -c 'read -P 0 0 3M' ours | grep -q failed
    [ $? -eq 1 ]
    report $? "--preallocation=$mode of clusters that were used"
done

# an error leaves the size as it was
(ulimit -f 4096 && exec "$img" resize --preallocation=full used.qcow2 64M) >said 2>&1
[ $? -eq 1 ] && grep -q 'Could not preallocate the new part: File too large' said && qemu-img check -q used.qcow2 &&
    qemu-img info used.qcow2 | grep -q '(1048576 bytes)'
report $? "a preallocation that fails"

# metadata that does not reach the disk: the flush behind it fails
qemu-img create -q -f qcow2 lost.qcow2 1M
ends 1 "Could not preallocate the new part: Input/output error" resize --preallocation=metadata --image-opts \
    driver=qcow2,file.driver=fault,file.fail-op=flush,file.fail-after=4,file.errno=5,file.file.driver=file,file.file.filename=lost.qcow2 8M

cp start.raw image
[[ $("$img" resize image 2M 2>&1) == "WARNING: Image format was not specified"*"Image resized." ]]
report $? "a warning if a raw image was probed"
finish

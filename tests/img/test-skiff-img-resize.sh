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
same_resize raw --image-opts driver=raw,file.filename=IMAGE 2M
same resize
same resize 1M
same resize start.raw
same resize start.raw a 1M
refused "unrecognized option '--bogus'" resize --bogus start.raw 1M
refused "No such file" resize missing 1M
refused "must be a multiple of 512" resize -f raw start.raw 2000001
refused "The new size is too large" resize -f raw start.raw +7E
cp start.raw image
[[ $("$img" resize image 2M 2>&1) == "WARNING: Image format was not specified"*"Image resized." ]]
report $? "a warning if a raw image was probed"
finish

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# skiff-img compare finds what qemu-img compare finds, and says it in the same words.
# tier: unit
. "$(dirname "$0")/img.bash"

# every one with every other, in both orders
qemu-img create -q -f raw empty.raw 8M
qemu-img create -q -f raw longer.raw 9M
qemu-io -f raw -c 'write -q -P 3 1M 64k' -c 'write -q -P 0 4M 1M' -c 'write -q -P 5 6M 1536k' empty.raw
cp empty.raw other.raw
qemu-io -f raw -c 'write -q -P 4 7165k 1k' -c 'write -q -P 9 6500k 4k' other.raw
cp empty.raw tail.raw && truncate -s 9M tail.raw && printf x | dd of=tail.raw bs=1 seek=8913000 conv=notrunc status=none
qemu-img convert -f raw -O qcow2 empty.raw same.qcow2
qemu-img convert -f raw -O qcow2 -c -o cluster_size=4k empty.raw compressed.qcow2
qemu-img create -q -f qcow2 -b empty.raw -F raw overlay.qcow2 9M
qemu-img create -q -f qcow2 -b overlay.qcow2 -F qcow2 changed.qcow2
qemu-io -f qcow2 -c 'write -q -P 6 8500k 1k' changed.qcow2
qemu-img create -q -f qcow2 blank.qcow2 8M
head -c 1000 /dev/zero >odd.raw
sync
images=(empty.raw longer.raw other.raw tail.raw same.qcow2 compressed.qcow2 overlay.qcow2 changed.qcow2 blank.qcow2 odd.raw)
for a in "${images[@]}"; do
    for b in "${images[@]}"; do
        same compare "$a" "$b"
    done
    same compare -s "$a" empty.raw
    same compare -s "$a" changed.qcow2
done
same compare -f raw -F qcow2 empty.raw same.qcow2
same compare -f qcow2 -F raw same.qcow2 empty.raw
same compare -q empty.raw other.raw
same compare -q -s -U empty.raw same.qcow2
same compare -T none same.qcow2 compressed.qcow2
same compare --image-opts driver=raw,file.filename=empty.raw driver=qcow2,file.filename=same.qcow2
same compare
same compare a
same compare a b c
same compare -Z a b
same compare -T bogus a b
ends 2 "No such file" compare missing empty.raw
ends 2 "No such file" compare empty.raw missing
ends 2 "not in qcow2 format" compare -F qcow2 empty.raw empty.raw

# a chain whose end cannot be read
qemu-img create -q -f qcow2 damaged.qcow2 8M
qemu-io -f qcow2 -c 'write -q -P 1 0 64k' damaged.qcow2
l1=$(od -A n -t u1 -j 40 -N 8 damaged.qcow2 | awk '{ n = 0; for (i = 1; i <= 8; i++) n = n * 256 + $i; print n }')
printf '\200\0\0\0\0\0\2\0' | dd of=damaged.qcow2 bs=1 seek="$l1" conv=notrunc status=none
ends 3 "Sector allocation test failed for damaged.qcow2" compare empty.raw damaged.qcow2

progress=$("$img" compare -p empty.raw other.raw | tr '\r' '\n' | grep -c '^    (')
[ "$progress" -ge 2 ]
report $? "-p prints a line of progress"
finish

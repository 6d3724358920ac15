#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# skiff-img prints what qemu-img prints, and exits as it does. Messages of failed opens are skiff's own.
# tier: unit
. "$(dirname "$0")/img.bash"

truncate -s 1M sparse.raw
printf hello | dd of=sparse.raw conv=notrunc bs=1 seek=131072 2>/dev/null
head -c 1000 /dev/zero | tr '\0' x >odd.raw
truncate -s 0 empty.raw
truncate -s 5G big.raw
sync
for image in sparse.raw odd.raw empty.raw big.raw; do
    for command in info map; do
        same $command $image
        same $command -f raw --output=json $image
    done
done
same info --backing-chain --output=json -f raw sparse.raw
same map -s 100k -l 64k --output=json -f raw sparse.raw
same info --image-opts driver=raw,file.driver=file,file.filename=sparse.raw
same
same bogus
same info
same map a b
same info --bogus sparse.raw
same map --output=xml sparse.raw
same map -l sixty sparse.raw
same map sparse.raw --start-offset=x
same info -f
same map -U --start-offset=4k sparse.raw
refused "Unknown driver 'vmdk'" info -f vmdk sparse.raw
refused "No such file or directory" info missing.raw
refused "cannot be opened" map missing.raw
finish

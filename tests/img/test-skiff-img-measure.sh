#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# skiff-img measure prints what qemu-img measure prints; bench sends what it says it sends.
# tier: unit
. "$(dirname "$0")/img.bash"

qemu-img create -q -f raw base.raw 8M
qemu-io -f raw -c 'write -q -P 3 1M 64k' -c 'write -q -P 5 6M 1536k' -c 'write -q -P 7 2M 1k' base.raw
qemu-img create -q -f qcow2 -b base.raw -F raw overlay.qcow2 9M
qemu-io -f qcow2 -c 'write -q -P 6 8500k 1k' -c 'write -q -z 6M 512k' overlay.qcow2
qemu-img snapshot -c one overlay.qcow2
qemu-io -f qcow2 -c 'write -q -P 6 4M 1M' overlay.qcow2
qemu-img bitmap --add -g 4k overlay.qcow2 b0
qemu-img bitmap --add overlay.qcow2 "another bitmap"
qemu-img create -q -f qcow2 -o compat=0.10 old.qcow2 1M
sync
for options in "" "-o cluster_size=4k" "-o extended_l2=on,cluster_size=2M" "-o refcount_bits=64,cluster_size=512" \
    "-o preallocation=full" "-o preallocation=metadata" "-o compat=0.10" "-o backing_file=x,backing_fmt=raw"; do
    for source in base.raw overlay.qcow2 old.qcow2 "--size 1G" "--size 0" "--size 12345678" "--size 100T"; do
        same measure -O qcow2 $options $source
        same measure -O qcow2 --output=json $options $source
    done
done
same measure overlay.qcow2
same measure -O raw --size 1000
same measure -O raw -f qcow2 --output=json overlay.qcow2
same measure -O qcow2 -l one overlay.qcow2
same measure -O qcow2 --image-opts driver=raw,file.filename=base.raw
same measure
same measure --size 1G base.raw
same measure -f raw --size 1G
same measure --size 1x
same measure -O foo --size 1G
same measure -O qcow2 --size 1E
same measure -O qcow2 -o bogus=1 --size 1G
same measure --output=xml --size 1M
same measure base.raw base.raw
refused "No such file" measure missing
refused "Can't find snapshot" measure -l two overlay.qcow2

# same_bench ARGUMENT…: apart from the time
same_bench() {
    local ours theirs
    theirs=$(timeout 20 qemu-img bench "$@" 2>&1 | sed 's/in [0-9.]* seconds/in TIME/'; echo "status ${PIPESTATUS[0]}")
    ours=$(timeout 20 "$img" bench "$@" 2>&1 | sed 's/in [0-9.]* seconds/in TIME/'; echo "status ${PIPESTATUS[0]}")
    [ "${ours//skiff-img/qemu-img}" = "$theirs" ] || printf 'ours:\n%s\ntheirs:\n%s\n' "$ours" "$theirs" | sed 's/^/# /'
    [ "${ours//skiff-img/qemu-img}" = "$theirs" ]
    report $? "bench $*"
}

cp base.raw bench.raw
same_bench -c 1000 -f raw bench.raw
same_bench -c 100 -d 1 -n -t none -f raw bench.raw
same_bench -c 10 -s 64k -S 128k -o 1M -f raw bench.raw
same_bench -c 100 -w -d 4 --flush-interval=10 -f raw bench.raw
same_bench -c 100 -w -d 4 --flush-interval=10 --no-drain -f raw bench.raw
same_bench -c 0 -f raw bench.raw
same_bench -c x bench.raw
same_bench -d x bench.raw
same_bench -s x bench.raw
same_bench -S x bench.raw
same_bench -o x bench.raw
same_bench -t bogus bench.raw
same_bench --flush-interval=2 bench.raw
same_bench --flush-interval=2 -w -d 4 bench.raw
same_bench --pattern=x -w bench.raw
same_bench
same_bench a b
"$img" bench -w -c 2048 -s 4k --pattern=77 -f raw bench.raw >/dev/null && head -c 8M /dev/zero | tr '\0' M | cmp - bench.raw
report $? "a bench writes each place with the pattern"
refused "The first request is beyond the end" bench -o 8M -f raw bench.raw
refused "threads" bench -i bogus -f raw bench.raw
finish

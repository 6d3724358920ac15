#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# skiff-img create makes the images that qemu-img makes, and loses nothing that it was not to overwrite.
# tier: unit
. "$(dirname "$0")/img.bash"

# makes NAME ARGUMENT…: the same output as qemu-img and the same bytes in file NAME; the check finds nothing
makes() {
    local name=$1 ours theirs status
    shift
    rm -f "$name" d.raw
    theirs=$(qemu-img create "$@" 2>&1; echo "status $?")
    mv "$name" expected
    rm -f d.raw
    ours=$("$img" create "$@" 2>&1; echo "status $?")
    [ "$ours" = "$theirs" ] && cmp "$name" expected || printf 'ours:\n%s\ntheirs:\n%s\n' "$ours" "$theirs" | sed 's/^/# /'
    [ "$ours" = "$theirs" ] && cmp -s "$name" expected
    status=$?
    case $name in *.qcow2) qemu-img check -q "$name" && "$img" check -q "$name" || status=1 ;; esac
    report $status "create $*"
}

# made NAME ARGUMENT…: the layout is skiff's own; qemu-img finds nothing wrong and reads zeroes
made() {
    local name=$1 size status
    shift
    rm -f "$name" d.raw
    "$img" create -q "$@" && qemu-img check -q "$name" && "$img" check -q "$name"
    status=$?
    size=$(qemu-img info --output=json "$name" | sed -n 's/.*"virtual-size": \([0-9]*\),/\1/p' | tail -1)
    qemu-img create -q zero.raw "$size"
    qemu-img compare -q "$name" zero.raw || status=1
    report $status "create $*"
}

qemu-img create -q base.raw 10M
qemu-img create -q -f qcow2 base.qcow2 10M
mkdir sub
qemu-img create -q -f qcow2 sub/base.qcow2 7M

# whole images, byte for byte
makes a.qcow2 -f qcow2 a.qcow2 10M
makes a.qcow2 -f qcow2 a.qcow2 0
makes a.qcow2 -f qcow2 a.qcow2 1000
makes a.qcow2 -f qcow2 a.qcow2 100T
makes a.qcow2 -f qcow2 -q a.qcow2 10M
makes a.qcow2 -f qcow2 -o size=5M a.qcow2
makes a.qcow2 -f qcow2 -o cluster_size=2M a.qcow2 1P
for size in 512 1k 2k 4k 8k 16k 1M 2M; do
    makes a.qcow2 -f qcow2 -o cluster_size=$size a.qcow2 10M
done
for bits in 1 2 4 8 32 64; do
    makes a.qcow2 -f qcow2 -o refcount_bits=$bits a.qcow2 10M
done
for compat in 0.10 v2 1.1 v3; do
    makes a.qcow2 -f qcow2 -o compat=$compat a.qcow2 10M
done
makes a.qcow2 -f qcow2 -o compression_type=zstd,lazy_refcounts=on -o extended_l2=on a.qcow2 10M
makes a.qcow2 -f qcow2 -o preallocation=metadata a.qcow2 10M
makes a.qcow2 -f qcow2 -o preallocation=metadata,compat=0.10 a.qcow2 10M
makes a.qcow2 -f qcow2 -o data_file=d.raw a.qcow2 10M
makes a.qcow2 -f qcow2 -o data_file=d.raw,data_file_raw=on a.qcow2 10M
for preallocation in metadata falloc full; do
    makes a.qcow2 -f qcow2 -o data_file=d.raw,preallocation=$preallocation a.qcow2 10M
done
makes a.qcow2 -f qcow2 -b base.qcow2 -F qcow2 a.qcow2
makes a.qcow2 -f qcow2 -b base.raw -F raw a.qcow2 20M
makes a.qcow2 -f qcow2 -o backing_file=base.qcow2,backing_fmt=qcow2 a.qcow2
makes a.qcow2 -f qcow2 -b "$PWD/base.qcow2" -F qcow2 -o compat=0.10 a.qcow2
makes sub/a.qcow2 -f qcow2 -b base.qcow2 -F qcow2 sub/a.qcow2
makes a.raw a.raw 10M
makes a.raw -f raw a.raw 1000
makes a.raw -f raw -o preallocation=falloc a.raw 1000k
makes a.raw -f raw -o preallocation=full a.raw 1000k

# a layout of its own
for preallocation in metadata falloc full; do
    for options in cluster_size=64k extended_l2=on cluster_size=512 cluster_size=4k,refcount_bits=64 refcount_bits=1; do
        made a.qcow2 -f qcow2 -o preallocation=$preallocation,$options a.qcow2 3M
    done
done
made a.qcow2 -f qcow2 -o preallocation=metadata a.qcow2 3G
made a.qcow2 -f qcow2 -o preallocation=metadata,extended_l2=on -b base.raw -F raw a.qcow2
made a.qcow2 -f qcow2 -o data_file=d.raw,data_file_raw=on,cluster_size=4k a.qcow2 20M
for preallocation in falloc full; do
    rm -f a.qcow2
    "$img" create -q -f qcow2 -o preallocation=$preallocation a.qcow2 10M
    [ "$(stat -c %b a.qcow2)" -ge 20480 ]
    report $? "preallocation=$preallocation reserves storage"
done

# refusals
rm -f a.qcow2 d.raw
same create
same create a.raw
same create -f qcow2 a.qcow2 10M extra
same create -f other a.qcow2 10M
refused "Detected format of qcow2." create -f qcow2 -b base.qcow2 a.qcow2
refused "Detected format of raw." create -f qcow2 -b base.raw a.qcow2
same create -f qcow2 -u -b base.raw a.qcow2 5M
same create -f qcow2 -u -b missing -F raw a.qcow2
same create -f qcow2 -b a.qcow2 -F qcow2 a.qcow2
same create -f raw -b base.raw -F raw a.raw
same create -f raw -F raw a.raw 1M
same create -f qcow2 -F raw a.qcow2 1M
same create -f raw -o preallocation=metadata a.raw 1000
same create -f qcow2 a.qcow2 -- -5
same create -f qcow2 a.qcow2 other
same create -f qcow2 missing/a.qcow2 1M
rm a.raw # of a case where qemu-img fails too late
same create -e a.qcow2 1M
for options in size=5M bogus=5M cluster_size=100 cluster_size=4M compat=other compat=0.10,lazy_refcounts=on \
    compat=0.10,refcount_bits=1 refcount_bits=3 refcount_bits=128 refcount_bits=other lazy_refcounts=other \
    preallocation=other compression_type=other compat=0.10,compression_type=zstd extended_l2=on,cluster_size=4k \
    compat=0.10,extended_l2=on data_file_raw=on compat=0.10,data_file=d.raw \
    data_file=d.raw,data_file_raw=on,backing_file=base.raw,backing_fmt=raw \
    preallocation=metadata,backing_file=base.raw,backing_fmt=raw; do
    same create -f qcow2 -o $options a.qcow2 6M
done
same create -f qcow2 -o cluster_size=512 a.qcow2 1T
refused "expects a size" create -f qcow2 -o cluster_size=other a.qcow2 1M
refused "Could not open backing image" create -f qcow2 -b missing -F raw a.qcow2 1M
refused "Unknown driver 'other'" create -f qcow2 -b base.raw -F other a.qcow2
refused "larger cluster size" create -f qcow2 -o cluster_size=512 -u -b "$(printf 'x%.0s' {1..600})" -F raw a.qcow2 1M
refused "more than 1023 bytes" create -f qcow2 -u -b "$(printf 'x%.0s' {1..1024})" -F raw a.qcow2 1M
refused "Format driver 'mem' does not support" create -f mem a.qcow2 1M
ends 0 "data_file_raw=<bool (on/off)>" create -f qcow2 -o help
for file in a.raw a.qcow2 d.raw; do
    [ ! -e $file ]
    report $? "no refusal has left $file"
done

# what was there
cp base.qcow2 precious.qcow2
qemu-io -c 'write 0 1M' precious.qcow2 >/dev/null
cp precious.qcow2 copy.qcow2
refused "is in use" create -f qcow2 -b precious.qcow2 -F qcow2 ./precious.qcow2
ln precious.qcow2 link.qcow2
refused "is in use" create -f qcow2 -b precious.qcow2 -F qcow2 link.qcow2
refused "is in use" create -f qcow2 -o data_file=./link.qcow2 precious.qcow2 1M
mkfifo input
exec 9<>input
qemu-io precious.qcow2 <input >/dev/null &
user=$!
wait_locked $user
refused "is in use by process $user (qemu-io)" create -f qcow2 precious.qcow2 1M
refused "is in use by process $user (qemu-io)" create precious.qcow2 1M
refused "is in use by process $user (qemu-io)" create -f qcow2 -b precious.qcow2 -F qcow2 a.qcow2
refused "is in use by process $user (qemu-io)" create -f qcow2 -o data_file=precious.qcow2 a.qcow2 1M
[ ! -e a.qcow2 ]
report $? "no image remains"
kill $user
wait $user
cmp precious.qcow2 copy.qcow2
report $? "an image in use is not changed"
"$img" create -q -f qcow2 precious.qcow2 1M && qemu-img check -q precious.qcow2
report $? "an image that is not in use is overwritten"

# failures: the limit of a file's size stands for a full disk
full() { (ulimit -f 200; "$img" create "$@" 2>&1); }
cp copy.qcow2 old.qcow2
for arguments in "-f qcow2 -o preallocation=full" "-f qcow2 -o preallocation=metadata,cluster_size=512" \
    "-f raw -o preallocation=full"; do
    rm -f new.img
    full $arguments new.img 50M | grep -q "File too large" && [ ! -e new.img ]
    report $? "a failed $arguments leaves no file"
    full $arguments old.qcow2 50M | grep -q "File too large" && [ "$(stat -c %s old.qcow2)" -eq 0 ]
    report $? "a failed $arguments leaves an overwritten file empty"
done
finish

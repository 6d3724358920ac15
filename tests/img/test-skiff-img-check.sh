#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# skiff-img check finds what qemu-img check finds: in images of every kind, whole and damaged at known places.
# tier: unit
cd "$(dirname "$0")/../.." || exit 1
img=$PWD/$(dirname "${SKIFF:-build/test/skiff}")/skiff-img
[[ ${SKIFF:-} != /* ]] || img=$(dirname "$SKIFF")/skiff-img
command -v qemu-img >/dev/null || { echo "qemu-img is missing"; exit 77; }
cd "$(mktemp -d "${SKIFF_TEST_DIR:-build}/skiff-img-check-XXXXXX")" || exit 1
trap 'rm -rf "$PWD"' EXIT
number=0 failed=0

report() { # report STATUS NAME
    number=$((number + 1))
    [ "$1" -eq 0 ] && echo "ok $number - $2" && return
    failed=1
    echo "not ok $number - $2"
}

# same NAME ARGUMENT…: the same output and exit status. QEMU's driver adds a line of its own.
same() {
    local name=$1 ours theirs
    shift
    theirs=$(qemu-img check "$@" 2>&1; echo "status $?")
    theirs=$(grep -v '^qcow2: Image is corrupt' <<<"$theirs")
    ours=$("$img" check "$@" 2>&1; echo "status $?")
    [ "${ours//skiff-img/qemu-img}" = "$theirs" ] || printf '# ours:\n%s\n# theirs:\n%s\n' "$ours" "$theirs"
    [ "${ours//skiff-img/qemu-img}" = "$theirs" ]
    report $? "$name"
}

# refused WORDS ARGUMENT…: status 1 and WORDS
refused() {
    local words=$1 output status
    shift
    output=$("$img" check "$@" 2>&1)
    status=$?
    [ "$status" -eq 1 ] && [[ $output == *"$words"* ]] || echo "# $status $output"
    [ "$status" -eq 1 ] && [[ $output == *"$words"* ]]
    report $? "$*: $words"
}

damage() { # damage IMAGE OFFSET HEX…: puts these bytes at these offsets
    local image=$1
    shift
    while [ $# -gt 0 ]; do
        printf '%b' "$(sed 's/../\\x&/g' <<<"$2")" |
            dd of="$image" bs=1 seek=$(($1)) conv=notrunc status=none
        shift 2
    done
}

# damaged IMAGE OFFSET HEX…: checks a damaged copy
damaged() {
    local name="$*"
    cp "$1" bad.qcow2
    damage bad.qcow2 "${@:2}"
    same "$name" bad.qcow2
    same "$name, in JSON" --output=json bad.qcow2
}

io() { # io IMAGE COMMAND…
    local image=$1 commands=()
    shift
    for command; do commands+=(-c "$command"); done
    qemu-io "${commands[@]}" "$image" >/dev/null || exit 1
}

create() { # create NAME SIZE OPTIONS
    qemu-img create -q -f qcow2 ${3:+-o "$3"} "$1.qcow2" "$2" || exit 1
}

# Where things are in an image that qemu-img has made: 0 header, 1 refcount table, 2 refcount block, 3 L1 table, 4 L2 table
create plain 10M
io plain.qcow2 'write 0 1M' 'write 3M 512k' 'write -z 5M 128k' 'write -c 7M 64k' 'write -c 7232k 64k'
create small 1M cluster_size=512
io small.qcow2 'write 0 100k' 'write 300k 51k' 'write -z 500k 12k'
create v2 4M compat=0.10
io v2.qcow2 'write 0 1M'
create ext 4M extended_l2=on
io ext.qcow2 'write 0 1M' 'write 2M 3k' 'write -z 3M 4k'
create data 4M data_file=data.raw
io data.qcow2 'write 0 1M' 'write 2M 3k'
create bitmaps 100M
qemu-img bitmap --add bitmaps.qcow2 b0
qemu-img bitmap --add -g 512 bitmaps.qcow2 b1
io bitmaps.qcow2 'write 30M 1M'
create preallocated 20M preallocation=metadata
create large 1T cluster_size=2M
create zstd 4M compression_type=zstd
io zstd.qcow2 'write -c 0 1M'
create lazy 4M lazy_refcounts=on
qemu-img create -q -f qcow2 -b plain.qcow2 -F qcow2 overlay.qcow2
create snapshots 4M cluster_size=4k
for ((i = 1; i <= 3; i++)); do
    io snapshots.qcow2 'write 0 100k' 'write 200k 20k' "write -c ${i}M 64k"
    qemu-img snapshot -c s$i snapshots.qcow2
done
widths=(1 2 4 8 16 32 64)
for width in "${widths[@]}"; do
    create width$width 4M cluster_size=4k,refcount_bits=$width
    io width$width.qcow2 'write 0 1M'
    [ $width = 1 ] && continue
    qemu-img snapshot -c s1 width$width.qcow2
    io width$width.qcow2 'write 20k 1M'
done

for image in plain small v2 ext data bitmaps preallocated large zstd lazy overlay snapshots "${widths[@]/#/width}"; do
    same "$image is clean" $image.qcow2
    same "$image is clean, in JSON" -f qcow2 --output=json $image.qcow2
done

# refcounts
damaged plain.qcow2 0x20006 0005
damaged plain.qcow2 0x20006 0000
damaged plain.qcow2 0x20030 0001 0x20032 0001 0x20034 ffff
damaged plain.qcow2 0x20000 0000000000000000 0x20100 0001
damaged small.qcow2 0x400 00010002
for width in "${widths[@]}"; do
    damaged width$width.qcow2 0x2020 a55a00ff0102030405060708
done
# the refcount table: reserved bits, not aligned, outside, twice the same block, a block of zeroes
damaged plain.qcow2 0x10000 0000000000020001
damaged plain.qcow2 0x10000 0000000000020200
damaged plain.qcow2 0x10008 0000000100000000
damaged plain.qcow2 0x10008 0000000000020000
damaged plain.qcow2 0x10008 0000000000050000
damaged plain.qcow2 0x10000 8000000000020000
# L1 entries: the flag, reserved bits, not aligned, outside, the header, an L2 table twice
damaged plain.qcow2 0x30000 0000000000040000
damaged plain.qcow2 0x30000 8100000000040001
damaged plain.qcow2 0x30000 8000000000040200
damaged plain.qcow2 0x30000 8000000100000000
damaged plain.qcow2 0x30000 8000000000000000
damaged large.qcow2 0x600000 8000000000600000
damaged preallocated.qcow2 0x30000 0000000000000000
# L2 entries
damaged plain.qcow2 0x40008 0000000000060000
damaged plain.qcow2 0x40008 8000000000050000
damaged plain.qcow2 0x40008 8100000000060000
damaged plain.qcow2 0x40008 8000000000060200
damaged plain.qcow2 0x40008 8000000000060201
damaged plain.qcow2 0x40008 8000000000060001
damaged plain.qcow2 0x40008 8000000000040000
damaged plain.qcow2 0x40008 8000000000000000
damaged plain.qcow2 0x40008 80000000ff000000
damaged plain.qcow2 0x40008 c000000000060000
damaged plain.qcow2 0x40008 7fc0000000060000
damaged plain.qcow2 0x40010 8000000000000001
damaged ext.qcow2 0x40008 0000000000000001
damaged ext.qcow2 0x40018 00000001ffffffff
damaged ext.qcow2 0x40010 4000000000060000
damaged ext.qcow2 0x40100 8000000000060200 0x40108 ffffffff00000000
damaged data.qcow2 0x40008 0000000000010000
damaged data.qcow2 0x40008 4000000000010000
damaged data.qcow2 0x40008 8000000000010200
# bitmaps: the directory's entry of the first one, then its table
directory=$(od -An -tx8 --endian=big -j $((0x210)) -N 8 bitmaps.qcow2)
table=$(od -An -tx8 --endian=big -j $((0x${directory// /})) -N 8 bitmaps.qcow2)
directory=0x${directory// /} table=0x${table// /}
# qemu-img does not open these
for entry in 8000000000000000 0000000000050001 0000000000050200; do
    cp bitmaps.qcow2 bad.qcow2
    damage bad.qcow2 $table $entry
    output=$("$img" check bad.qcow2 2>&1)
    [ $? -eq 2 ] && [[ $output == *"bitmap table entry $entry"*"1 errors were found"* ]]
    report $? "bitmap table entry $entry"
done
damaged bitmaps.qcow2 $table 0000000000050000
damaged bitmaps.qcow2 $table 0000000100000000
damaged bitmaps.qcow2 $directory 0000000000050000
# a long name of a snapshot
create named 1M
qemu-img snapshot -c "$(printf 'x%.0s' {1..200})" named.qcow2
table=$(od -An -v -tx1 -j64 -N8 named.qcow2)
table=0x${table// /}
damage named.qcow2 $((table + 6)) 0200
output=$("$img" check named.qcow2 2>&1)
[[ $output == *"ERROR snapshot 1 (xxx"*") l1_offset="* ]] && ! grep -q 'x\{150\}' <<<"$output"
report $? "a long name is shortened"
# truncation
cp snapshots.qcow2 bad.qcow2
truncate -s 4096 bad.qcow2
refused "ends beyond the end of the file" bad.qcow2
cp plain.qcow2 bad.qcow2
for size in 1500000 1310720 1000000; do
    truncate -s $size bad.qcow2
    same "truncated to $size" bad.qcow2
done

# usage and other formats
truncate -s 1M image.raw
same "raw" image.raw
same "raw, in JSON" -f raw --output=json image.raw
same "quiet" -q plain.qcow2
same "quiet about damage" -q bad.qcow2
same "no name"
same "two names" a b
same "-r other" -r other plain.qcow2
same "--output=xml" --output=xml plain.qcow2
same "-T other" -T other plain.qcow2
same "-T none" -T none plain.qcow2
same "-T unsafe" -T unsafe plain.qcow2
same "--image-opts" --image-opts driver=qcow2,file.filename=plain.qcow2
same "unknown driver" -f other plain.qcow2
refused "No such file or directory" missing.qcow2
printf 'QFI\xfb' >tiny.qcow2
refused "the magic number is missing" -f qcow2 image.raw
refused "version 0 is not supported" -f qcow2 tiny.qcow2

# an image in use
mkfifo input
exec 9<>input
qemu-io plain.qcow2 <input >/dev/null &
user=$!
until cat /proc/$user/fdinfo/* 2>/dev/null | grep -q ' 203 203$'; do # its last lock
    kill -0 $user || exit 1
    sleep 0.05
done
refused "is in use by process $user (qemu-io)" plain.qcow2
"$img" check -U plain.qcow2 >/dev/null
report $? "-U reads an image in use"
kill $user
echo "1..$number"
exit $failed

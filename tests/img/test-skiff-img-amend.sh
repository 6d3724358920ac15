#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# skiff-img amend makes of an image what qemu-img amend makes, and says the same.
# tier: unit
. "$(dirname "$0")/img.bash"

qemu-img create -q -f raw base.raw 3M
qemu-io -f raw -c 'write -q -P 9 0 3M' base.raw

# start OPTIONS [COMMAND…]: makes start.qcow2
start() {
    local options=$1 commands=()
    shift
    for command in "$@"; do commands+=(-c "$command"); done
    rm -f start.qcow2 data.raw
    qemu-img create -q -f qcow2 -o "$options" start.qcow2 2M
    [ $# -eq 0 ] || qemu-io -f qcow2 "${commands[@]}" start.qcow2
}

# amended ARGUMENT…: on equal copies. If skiff-img refuses, its copy is unchanged; qemu-img may have changed a part.
amended() {
    local ours theirs status
    cp start.qcow2 ours.qcow2
    cp start.qcow2 theirs.qcow2
    theirs=$(qemu-img amend "$@" theirs.qcow2 2>&1; echo "status $?")
    ours=$("$img" amend "$@" ours.qcow2 2>&1; echo "status $?")
    [ "${ours//skiff-img/qemu-img}" = "$theirs" ] || printf 'ours:\n%s\ntheirs:\n%s\n' "$ours" "$theirs" | sed 's/^/# /'
    [ "${ours//skiff-img/qemu-img}" = "$theirs" ]
    status=$?
    if [[ $ours == *"status 0" ]]; then
        qemu-img check -q ours.qcow2 && qemu-img compare -q theirs.qcow2 ours.qcow2 &&
            qemu-img compare -q start.qcow2 ours.qcow2 && [ "$(described ours.qcow2)" = "$(described theirs.qcow2)" ]
    else
        cmp ours.qcow2 start.qcow2
    fi
    [ $? -eq 0 ] && [ $status -eq 0 ]
    report $? "amend $*"
}

described() {
    qemu-img info "$1" | grep -v '^image:\|^disk size:\|^Child\|^    filename\|^    file length\|^    disk size'
}

words=("write -q -P 3 0 300k" "write -q -z 512k 256k" "write -q -c -P 4 1M 64k")
for options in "cluster_size=64k" "cluster_size=512" "cluster_size=4k,backing_file=base.raw,backing_fmt=raw"; do
    start "$options" "${words[@]}"
    for bits in 1 8 64; do amended -o refcount_bits=$bits; done
    amended -o compat=0.10
    amended -o compat=1.1,lazy_refcounts=on,refcount_bits=64
    amended -o lazy_refcounts=on -o size=3M
    amended -o size=2560k
    amended -o compat=v2,size=4M
    start "compat=0.10,$options" "${words[@]}"
    qemu-img snapshot -c one start.qcow2
    qemu-io -c 'write -q -P 5 100k 200k' start.qcow2
    amended -o compat=v3
    amended -o compat=1.1,refcount_bits=4,lazy_refcounts=on
    amended -o lazy_refcounts=on
    amended -o refcount_bits=8
    amended -o lazy_refcounts=off,refcount_bits=16,compat=0.10
done
start lazy_refcounts=on "${words[@]}"
amended -o lazy_refcounts=off
amended -o lazy_refcounts=off,compat=0.10
start backing_file=base.raw,backing_fmt=raw "${words[@]}"
amended -o backing_file=other
amended -o backing_file=base.raw
amended -o backing_file=base.raw,backing_fmt=raw

# snapshots that each refer to all clusters
start cluster_size=64k "write -q -P 3 0 300k"
for name in one two three; do qemu-img snapshot -c $name start.qcow2; done
amended -o compat=0.10
amended -o refcount_bits=1
amended -o refcount_bits=2
amended -o refcount_bits=4
amended -o compat=0.10,size=3M
qemu-img resize -q start.qcow2 3M
amended -o compat=0.10
start cluster_size=64k "write -q -z 0 300k"
qemu-img snapshot -c one start.qcow2
refused "Zero clusters of internal snapshots prevent downgrade of image" amend -o compat=0.10 start.qcow2
start cluster_size=64k
qemu-img bitmap --add start.qcow2 b0
refused "Persistent bitmaps prevent downgrade of image" amend -o compat=0.10 start.qcow2
qemu-img info start.qcow2 | grep -q 'compat: 1.1'
report $? "a refused image is unchanged"

# the last two clusters, an L2 table and data, have the refcount 0: the new refcounts do not replace the table
start cluster_size=64k "write -q -P 7 0 64k"
printf '\0\0\0\0' | dd of=start.qcow2 bs=1 seek=$((0x20008)) conv=notrunc status=none
refused "Failed to write the refcounts: Input/output error" amend -o refcount_bits=64 start.qcow2
[[ $(qemu-io -r -c 'read -P 7 0 64k' start.qcow2) != *failed* ]]
report $? "the data is still there"

# features that version 2 does not have
start extended_l2=on "${words[@]}"
amended -o compat=0.10
amended -o refcount_bits=8
start compression_type=zstd
amended -o compat=0.10
start compression_type=zstd "${words[@]}"
amended -o compat=0.10

# data files
start data_file=data.raw,data_file_raw=on "write -q -P 3 0 300k"
amended -o compat=0.10
amended -o data_file_raw=on
amended -o data_file_raw=off
ln -s data.raw other.raw
amended -o data_file=other.raw
start data_file=data.raw "write -q -P 3 0 300k"
amended -o data_file_raw=on
amended -o data_file_raw=off

start cluster_size=64k "${words[@]}"
for arguments in "-o compat=bogus" "-o compat=" "-o bogus=1" "-o cluster_size=4k" "-o extended_l2=on" "-o preallocation=off" \
    "-o compression_type=zstd" "-o refcount_bits=3" "-o refcount_bits=0" "-o refcount_bits=128" "-o data_file=x" \
    "-o data_file_raw=on" "-o data_file_raw=off" "-o backing_file=x" "-o backing_file=" "-o backing_fmt=raw" "-o size=100" \
    "-o size=0" "-o size=1536k" "-o lazy_refcounts=maybe" "-o compat=0.10,lazy_refcounts=on" "-o compat=0.10,refcount_bits=8" \
    "-t bogus -o compat=1.1" "-t none -o compat=0.10" "-q -p -o compat=0.10" "--force -o compat=v2" "-f raw -o size=1M" "" \
    "-f qcow2 -o compat=0.10"; do
    amended $arguments
done
same amend -o compat=0.10
same amend -o help
same amend -f raw -o help
same amend -f bogus -o help
same amend -o compat=0.10 start.qcow2 more
refused "No such file" amend -o compat=0.10 missing
theirs=$(qemu-img amend -o help start.qcow2 | grep -v encrypt)
[ "$("$img" amend -o help start.qcow2)" = "$theirs" ]
report $? "the options"
[ "$("$img" amend -f qcow2 -o help)" = "$("$img" amend -o help,size=1 start.qcow2)" ]
report $? "help with a format and with an image"
[[ $("$img" amend -p -o compat=0.10 start.qcow2 | tr '\r' '\n') == *"(0.00/100%)"*"(100.00/100%)"* ]]
report $? "-p prints the progress"
finish

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# skiff-img commit does to the images of a chain what qemu-img commit does.
# tier: unit
# timeout: 300
. "$(dirname "$0")/img.bash"

make_images() { # make_images OPTIONS BASE-FORMAT BASE-SIZE MID-SIZE TOP-SIZE: a chain base <- mid <- top
    rm -f base mid top
    qemu-img create -q -f "$2" base "$3"
    qemu-io -f "$2" -c 'write -q -P 1 0 1M' -c 'write -q -P 2 2M 100k' -c "write -q -P 7 $((${3%M} * 1024 - 100))k 100k" base
    qemu-img create -q -f qcow2 -o "$1" -b base -F "$2" mid "$4"
    qemu-io -f qcow2 -c 'write -q -P 3 512k 200k' -c 'write -q -z 2M 64k' -c "write -q -P 4 $((${4%M} * 1024 - 60))k 10k" mid
    qemu-img create -q -f qcow2 -o "$1" -b mid -F qcow2 top "$5"
    qemu-io -f qcow2 -c 'write -q -P 5 600k 10k' -c 'write -q -z 64k 64k' -c "write -q -P 6 $((${5%M} * 1024 - 60))k 1k" top
    sync
}

state() { # what the chain holds
    for image in base mid top; do
        qemu-img convert $image raw && sha256sum <raw
        [ $image = base ] && qemu-img info --output=json $image | grep virtual-size
    done
    qemu-img map --output=json top | python3 -c '
import json, sys
last = None
for e in json.load(sys.stdin):
    if e["depth"] != last:
        last = e["depth"]
        print(e["start"], last)'
}

# committed ARGUMENT…: as qemu-img
committed() {
    local ours theirs
    mkdir keep && cp base mid top keep
    theirs=$(qemu-img commit "$@" 2>&1; echo "status $?"; state)
    cp keep/* .
    ours=$("$img" commit "$@" 2>&1; echo "status $?"; state)
    mv keep/* . && rmdir keep
    [ "${ours//skiff-img: /qemu-img: }" = "$theirs" ] || printf 'ours:\n%s\ntheirs:\n%s\n' "$ours" "$theirs" | sed 's/^/# /'
    [ "${ours//skiff-img: /qemu-img: }" = "$theirs" ]
    report $? "commit $* ($images)"
}

for images in "cluster_size=64k qcow2 4M 5M 6M" "cluster_size=4k,compat=0.10 raw 4M 4M 4M" \
    "extended_l2=on qcow2 8M 5M 6M" "lazy_refcounts=on raw 8M 4M 7M" "cluster_size=512 qcow2 4M 6M 5M"; do
    make_images $images
    committed top
    committed -d top
    committed -q -f qcow2 top
    committed -b base top
    committed -b mid -t none top
    committed mid
    "$img" commit -q top && qemu-img check -q top && qemu-img check -q mid
    report $? "the images are consistent ($images)"
done
images=plain
committed -b nope top
committed -t bogus top
committed -r 1x top
same commit base mid
same commit
qemu-img create -q -f qcow2 alone 1M
same commit alone
refused "does not have a backing file" commit -f raw base
refused "No such file" commit missing
mkfifo hold
qemu-io -r -f qcow2 mid <hold >held 2>&1 &
user=$!
exec 3>hold
echo "read 0 512" >&3
until grep -q 'read 512' held; do sleep 0.05; done
refused "process $user (qemu-io)" commit top
exec 3>&-
wait $user
[[ $("$img" commit -p top | tr '\r' '\n') == *"(0.00/100%)"*"(100.00/100%)"*"Image committed." ]]
report $? "-p prints the progress"
finish

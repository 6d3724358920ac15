#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# skiff-img snapshot does to an image what qemu-img snapshot does, and says the same.
# tier: unit
# timeout: 300
. "$(dirname "$0")/img.bash"

mkdir ours theirs

both() { # both COMMAND: in both folders
    (cd ours && eval "$1") && (cd theirs && eval "$1")
}

without_dates() {
    sed -E 's/skiff-img/qemu-img/g; s/[0-9]{4}-[0-9-]{5} [0-9:]{8}/DATE/'
}

# step ARGUMENT…: the same output, exit status, disk and list of snapshots; the image is sound
step() {
    local a b
    b=$(cd theirs && qemu-img snapshot "$@" 2>&1; echo "status $?")
    a=$(cd ours && "$img" snapshot "$@" 2>&1; echo "status $?")
    a=$(without_dates <<<"$a") b=$(without_dates <<<"$b")
    [ "$a" = "$b" ] || printf 'ours:\n%s\ntheirs:\n%s\n' "$a" "$b" | sed 's/^/# /'
    [ "$a" = "$b" ] && [ "$(qemu-img snapshot -l ours/image 2>&1 | without_dates)" = \
        "$(qemu-img snapshot -l theirs/image 2>&1 | without_dates)" ] &&
        qemu-img check -q ours/image && qemu-img compare -q -s ours/image theirs/image
    report $? "$options: snapshot $*"
}

write() { # write COMMAND…: of qemu-io
    local c args=()
    for c in "$@"; do args+=(-c "$c"); done
    qemu-io -d unmap "${args[@]}" ours/image >log 2>&1 && qemu-io -d unmap "${args[@]}" theirs/image >log 2>&1
    report $? "$options: $*"
}

same_snapshot() { # same_snapshot NAME: each of the two images holds the same
    local tag
    for tag in ours theirs; do qemu-img convert -l "$1" -O raw $tag/image $tag/out; done
    cmp ours/out theirs/out && "$img" convert -l "$1" -O raw ours/image ours/out && # has its size
        qemu-img compare -q -f raw -F raw ours/out theirs/out
    report $? "$options: the contents of $1"
}

for options in cluster_size=64k cluster_size=512,refcount_bits=64 cluster_size=16k,extended_l2=on \
    cluster_size=2M,refcount_bits=2 cluster_size=4k,compat=0.10 cluster_size=4k,lazy_refcounts=on; do
    both "qemu-img create -q -f qcow2 base 4M && qemu-io -c 'write -q -P 9 0 4M' base &&
          qemu-img create -q -f qcow2 -o $options,backing_file=base,backing_fmt=qcow2 image 6M"
    write "write -P 1 0 2M" "write -z 1M 100k" "write -c -P 8 4M 2M"
    step -c one image
    write "write -P 2 1M 2M" "discard 0 256k" "write -P 3 5M 100k" "write -P 4 4500k 10k"
    step -c two image
    both "qemu-img resize -q image 9M 2>/dev/null || true"
    write "write -P 5 300k 3M"
    step -c three image
    step -l image
    same_snapshot one
    same_snapshot two
    write "write -P 6 0 100k"
    step -a one image
    write "write -P 7 100k 100k"
    step -d one image
    step -a 3 image
    step -c three image
    step -d three image
    step -a two image
    same_snapshot two
    step -d two image
    step -d three image
    step -l image
done

options=cluster_size=64k
both "qemu-img create -q -f qcow2 image 1M"
step -c "" image
step -c "$(printf 'n%.0s' {1..300})" image
step -q -c "two words" image
step -a nothing image
step -d nothing image
step -d 1 image
step image
step -c a -d b image
step -c a
step -l -a a image
step -a "two words" --image-opts driver=qcow2,file.driver=file,file.filename=image
# A refcount of one bit has no room: skiff-img leaves no leak behind, unlike qemu-img.
qemu-img create -q -f qcow2 -o refcount_bits=1 narrow 1M && qemu-io -c "write -q 0 1M" narrow
refused "Could not create snapshot 'a': -22 (Invalid argument)" snapshot -c a narrow
succeeds "it is as it was" qemu-img check -q narrow
qemu-img create -q -f qcow2 -o data_file=data external 1M
same snapshot -c a external
same snapshot -a a external
same snapshot -d a external
truncate -s 1M raw
for action in -c -a -d; do
    [ "$("$img" snapshot $action a raw 2>&1 | grep -v WARN | tail -1)" = \
        "$(qemu-img snapshot $action a raw 2>&1 | tail -1 | sed s/qemu-img/skiff-img/)" ]
    report $? "snapshot $action of a raw image"
done
refused "force-share" snapshot -U -c a ours/image
coproc qemu-io -c "sleep 100000" ours/image
wait_locked "$COPROC_PID"
refused "is in use" snapshot -c a ours/image
kill "$COPROC_PID" && wait "$COPROC_PID" 2>/dev/null
finish

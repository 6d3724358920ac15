#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# skiff-img bitmap and convert --bitmaps do to images what qemu-img does, and say the same. The bits are what
# qemu-nbd exports of them.
# tier: unit
# timeout: 300
. "$(dirname "$0")/img.bash"

mkdir ours theirs

both() { # both COMMAND: in both folders
    (cd ours && eval "$1") && (cd theirs && eval "$1")
}

# without what is chosen by each program: names of nodes, and hints
plain() {
    sed -E "s/skiff-img/qemu-img/g; s/'#block[0-9]+'/NODE/; s/#block[0-9]+/NODE/; /^Try block-dirty-bitmap-remove/d"
}

bitmaps() { # bitmaps IMAGE: names, flags and granularities
    qemu-img info --output=json "$1" 2>&1 | sed -n '/"bitmaps": \[/,/^            \]/p'
}

# bits IMAGE NAME: the dirty parts, as qemu-nbd exports them. It ends with its only client.
bits() {
    local pid=
    rm -f socket
    qemu-nbd -r -B "$2" -f qcow2 --socket="$PWD/socket" "$1" >nbd.log 2>&1 &
    pid=$!
    until [ -S socket ] || ! kill -0 $pid 2>/dev/null; do sleep 0.01; done
    qemu-img map --output=json --image-opts \
        "driver=nbd,server.type=unix,server.path=$PWD/socket,x-dirty-bitmap=qemu:dirty-bitmap:$2"
    wait $pid
}

# step ARGUMENT…: the same output, exit status and bitmaps; the image is sound
step() {
    local a b words=$*
    b=$(cd theirs && qemu-img bitmap "$@" 2>&1; echo "status $?")
    a=$(cd ours && "$img" bitmap "$@" 2>&1; echo "status $?")
    a=$(plain <<<"$a") b=$(plain <<<"$b")
    [ "$a" = "$b" ] || printf 'ours:\n%s\ntheirs:\n%s\n' "$a" "$b" | sed 's/^/# /'
    [ "$a" = "$b" ] && [ "$(bitmaps ours/image)" = "$(bitmaps theirs/image)" ] && qemu-img check -q ours/image
    report $? "$options: bitmap ${words:0:80}"
}

same_bits() { # same_bits IMAGE NAME…
    local name image=$1
    shift
    for name in "$@"; do
        bits ours/"$image" "$name" >ours.bits && bits theirs/"$image" "$name" >theirs.bits &&
            [ -s ours.bits ] && cmp ours.bits theirs.bits
        report $? "$options: the bits of $name in $image"
    done
}

write() { # write OFFSET LENGTH: by qemu-io to one and by skiff-img to the other
    (cd theirs && qemu-io -f qcow2 -c "write -P 7 $1 $2" image >log 2>&1) &&
        (cd ours && "$img" io -f qcow2 -c "write -P 7 $1 $2" image >log 2>&1)
    report $? "$options: write $1 $2"
}

mark() { # mark FOLDER: the first bitmap of the image is in use, as after a crash
    local at directory
    at=$(grep -abo $'\x23\x85\x28\x75' "$1/image" | head -1 | cut -d: -f1)
    directory=$((16#$(dd if="$1/image" bs=1 skip=$((at + 24)) count=8 2>/dev/null | od -An -tx1 | tr -d ' \n')))
    printf '\3' | dd of="$1/image" bs=1 seek=$((directory + 15)) conv=notrunc 2>/dev/null
}

long=$(printf 'x%.0s' {1..1024})
for options in 'cluster_size=2M,data_file=$PWD/data' cluster_size=512,lazy_refcounts=on; do
    both "rm -f *; qemu-img create -q -f qcow2 -o $options image 4M"
    step --add image a
    step --add -g 512 image b
    write 1M 100k
    step --add --disable image c
    step --add image a
    write 3M 512
    same_bits image a b c
    step --merge b --enable image c
    step --disable image a
    write 0 4k
    same_bits image a b c
    step --clear --clear image b
    step --merge a --merge c image b
    step --merge nothing image b
    step --remove image nothing
    step --clear image nothing
    step --enable image nothing
    step --add image "${long:1}"
    step --remove image "${long:1}"
    same_bits image a b c
    [ "$options" = "${options#*data_file}" ] || continue
    both "cp image other && qemu-img bitmap --clear other b && qemu-img create -q -f qcow2 small 1M &&
          qemu-img bitmap --add small a"
    step --merge a -b other -F qcow2 image b
    step --merge a -b other image c
    step --merge a -b small -F qcow2 image c
    step --add --merge b --disable image d
    same_bits image a b c d
    step --image-opts --remove driver=qcow2,file.filename=image c
    for tool in qemu-img "$img"; do
        folder=ours
        [ "$tool" = "$img" ] || folder=theirs
        (cd $folder && "$tool" convert --bitmaps -O qcow2 -o cluster_size=4k image copy)
        report $? "$options: $(basename "$tool") convert --bitmaps"
    done
    [ "$(bitmaps ours/copy)" = "$(bitmaps theirs/copy)" ] && qemu-img check -q ours/copy && qemu-img compare -q ours/image ours/copy
    report $? "$options: the bitmaps of the copy"
    same_bits copy a b d
done

options=refusals
step image a
step --add image
step --add -g 100 image z
step --add -g 256 image z
step --add -g 4G image z
step --add -g abc image z
step --add -g 0 image zero
step -g 512 --remove image a
step --merge a -F qcow2 image b
step --add -b other image z
step --add image ""
step --add image "$long"
step --add --image-opts -f qcow2 driver=qcow2,file.filename=image z
both "qemu-img create -q -f qcow2 -o compat=0.10 old 1M; truncate -s 1M raw; rm -f huge; qemu-img create -q -f qcow2 -o cluster_size=2M huge 4T"
step --add old a
step --add -f raw raw a
step --add -g 512 huge a

options=inconsistent
mark ours && mark theirs
same info ours/image
same info --output=json ours/image
same measure -O qcow2 ours/image
for action in --clear --enable --disable "--merge b" --add; do
    step $action image a
done
step --merge a image b

# same_convert ARGUMENT…: the same words and status
same_convert() {
    local a b
    b=$(cd theirs && qemu-img convert "$@" 2>&1; echo "status $?")
    a=$(cd ours && "$img" convert "$@" 2>&1; echo "status $?")
    a=${a//skiff-img/qemu-img}
    [ "$a" = "$b" ] || printf 'ours:\n%s\ntheirs:\n%s\n' "$a" "$b" | sed 's/^/# /'
    [ "$a" = "$b" ]
    report $? "convert $*"
}

same_convert --bitmaps -O qcow2 image new
same_convert --skip-broken-bitmaps -O qcow2 image new
same_convert --bitmaps --skip-broken-bitmaps -O qcow2 image new
[ "$(bitmaps ours/new)" = "$(bitmaps theirs/new)" ] && qemu-img check -q ours/new
report $? "the bitmaps that are not broken"
(cd ours && "$img" resize image 8M >out 2>&1) && false || grep -q "Bitmap 'a' is inconsistent and cannot be used" ours/out
report $? "an image with an inconsistent bitmap is not resized"
both "qemu-img snapshot -c s image"
(cd ours && "$img" snapshot -a s image >out 2>&1) && false ||
    grep -q "Could not apply snapshot 's': Device has active dirty bitmaps" ours/out
report $? "a snapshot is not applied to a disk with bitmaps"
step --remove image a
same_convert --bitmaps -f raw -O qcow2 raw new
same_convert --bitmaps -O qcow2 image image new
same_convert --bitmaps -O raw image new.raw
same_convert --bitmaps -O qcow2 -o compat=0.10 image new.old
[ ! -e ours/new.raw ] && [ ! -e ours/new.old ]
report $? "no file is left of a conversion that is refused"

# Other commands list bitmaps, keep them, and let them record.
options=others
both "rm -f *; qemu-img create -q -f qcow2 base 4M; qemu-io -c 'write -q -P 1 0 1M' base
      qemu-img create -q -f qcow2 other 4M; qemu-io -c 'write -q -P 1 0 512k' -c 'write -q -P 5 2M 64k' other
      qemu-img create -q -f qcow2 -b base -F qcow2 image; qemu-io -c 'write -q -P 2 3M 256k' image
      qemu-img bitmap --add base a; qemu-img bitmap --add image a; qemu-img bitmap --add --disable image off"
same info ours/image
same info --output=json ours/image
same measure -O qcow2 ours/image
(cd theirs && qemu-img commit -q image && qemu-img rebase -b other -F qcow2 image && qemu-img resize -q image 5M) &&
    (cd ours && "$img" commit -q image && "$img" rebase -b other -F qcow2 image && "$img" resize -q image 5M)
report $? "$options: commit, rebase, resize"
for name in image base; do
    [ "$(bitmaps ours/$name)" = "$(bitmaps theirs/$name)" ] && qemu-img check -q ours/$name
    report $? "$options: the bitmaps of $name"
done
same_bits base a
same_bits image a off

# A repair of wrong refcounts, and one that writes all of them anew, keeps the bitmaps.
options=repair
both "rm -f *; qemu-img create -q -f qcow2 -o cluster_size=4k image 4M"
step --add image a
step --add -g 512 image b
write 1M 100k
for damage in "bs=1 seek=8200 count=60" "bs=4k seek=1 count=1"; do # refcounts of clusters; the refcount table
    both "cp image damaged"
    # shellcheck disable=SC2086
    dd if=/dev/zero of=ours/damaged $damage conv=notrunc 2>/dev/null
    "$img" check -q -r all ours/damaged >log 2>&1
    qemu-img check -q ours/damaged && [ "$(bitmaps ours/damaged)" = "$(bitmaps theirs/damaged)" ]
    report $? "$options: $damage"
    same_bits damaged a b
done

# A bitmap that cannot be stored is a failure, and the image stays sound.
qemu-img create -q -f qcow2 full 1M && truncate -s 64K limited
(ulimit -f 192; "$img" bitmap --add -g 512 full other >out 2>&1; exit $?)
[ $? -eq 1 ] && qemu-img check -q full && [[ $(bitmaps full) != *other* ]]
report $? "no room for a bitmap"
finish

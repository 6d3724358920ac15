#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# skiff-img rebase keeps the content of an image, and makes of its header what qemu-img makes of it.
# tier: unit
# timeout: 300
. "$(dirname "$0")/img.bash"

make_images() { # make_images OPTIONS: a chain base <- mid <- top, and other bases
    rm -f ./*.qcow2 ./*.raw
    qemu-img create -q -f qcow2 base.qcow2 4M
    qemu-io -c 'write -q -P 1 0 1M' -c 'write -q -P 2 2M 100k' base.qcow2
    qemu-img create -q -f qcow2 -o "$1" -b base.qcow2 -F qcow2 mid.qcow2 5M
    qemu-io -c 'write -q -P 3 512k 200k' -c 'write -q -z 2M 64k' -c 'write -q -P 4 4500k 10k' mid.qcow2
    qemu-img create -q -f qcow2 -o "$1" -b mid.qcow2 -F qcow2 top.qcow2 6M
    qemu-io -c 'write -q -P 5 600k 10k' -c 'write -q -P 6 5500k 1k' top.qcow2
    qemu-img create -q -f raw other.raw 3M
    qemu-io -f raw -c 'write -q -P 1 0 600k' -c 'write -q -P 9 2500k 100k' other.raw
    qemu-img create -q -f raw long.raw 8M
    qemu-io -f raw -c 'write -q -P 8 3M 5M' long.raw
    sync
}

# allocation IMAGE: which ranges which image of the chain holds
allocation() {
    qemu-img map --output=json "$1" | python3 -c '
import json, sys
last = None
for e in json.load(sys.stdin):
    if (e["depth"], e["present"]) != last:
        last = e["depth"], e["present"]
        print(e["start"], *last)'
}

# rebased IMAGE ARGUMENT…: the same content as before, the same map and information as qemu-img's
rebased() {
    local image=$1 ours theirs
    shift
    qemu-img convert "$image" before.raw
    cp "$image" keep
    theirs=$(qemu-img rebase "$@" "$image" 2>&1; echo "status $?")
    theirs+=$(qemu-img info "$image" | grep -v 'disk size'; allocation "$image")
    cp keep "$image"
    ours=$("$img" rebase "$@" "$image" 2>&1; echo "status $?")
    ours+=$(qemu-img info "$image" | grep -v 'disk size'; allocation "$image")
    [ "${ours//skiff-img: /qemu-img: }" = "$theirs" ] || printf 'ours:\n%s\ntheirs:\n%s\n' "$ours" "$theirs" | sed 's/^/# /'
    [ "${ours//skiff-img: /qemu-img: }" = "$theirs" ] && qemu-img check -q "$image" && qemu-img compare -q -f raw before.raw "$image"
    report $? "rebase $* $image"
    mv keep "$image"
}

for options in cluster_size=64k cluster_size=4k,compat=0.10 extended_l2=on,lazy_refcounts=on cluster_size=512; do
    make_images $options
    rebased top.qcow2 -b base.qcow2 -F qcow2
    rebased top.qcow2 -b mid.qcow2 -F qcow2
    rebased top.qcow2 -b other.raw -F raw
    rebased top.qcow2 -b long.raw -F raw
    rebased top.qcow2 -b ""
    rebased mid.qcow2 -b other.raw -F raw -f qcow2
    rebased mid.qcow2 -b "" -q -t none -T none
    rebased base.qcow2 -b other.raw -F raw
    rebased mid.qcow2 -u -b ./base.qcow2 -F qcow2
done
make_images cluster_size=64k
qemu-img bitmap --add top.qcow2 b0
mkdir sub && qemu-img create -q -f qcow2 -b ../base.qcow2 -F qcow2 sub/top.qcow2 4M
rebased sub/top.qcow2 -b ../other.raw -F raw
rebased sub/top.qcow2 -b "$PWD/long.raw" -F raw
qemu-img snapshot -c one mid.qcow2
rebased mid.qcow2 -b other.raw -F raw

# -u changes the header only: extensions that nobody knows stay, and the name can be long
python3 - top.qcow2 <<'PYTHON'
import struct, sys
with open(sys.argv[1], "r+b") as f:
    head = bytearray(f.read(65536))
    length, = struct.unpack(">I", head[100:104])
    name, size = struct.unpack(">QI", head[8:20])
    extra = struct.pack(">II", 0x12345678, 5) + b"extra\0\0\0"
    head = head[:length] + extra + head[length:-len(extra)]
    head[8:20] = struct.pack(">QI", name + len(extra), size)
    f.seek(0)
    f.write(head)
PYTHON
cp top.qcow2 theirs.qcow2
for name in nowhere $(head -c 1000 /dev/zero | tr '\0' n) x; do
    succeeds "-u to a name of ${#name} bytes" "$img" rebase -u -b "$name" -F raw top.qcow2
    [ "$(qemu-img info --output=json top.qcow2 | grep -c "\"full-backing-filename\": \"$name\"")" = 1 ] &&
        head -c 65536 top.qcow2 | grep -q extra && qemu-img info top.qcow2 | grep -q "name: b0"
    report $? "a name of ${#name} bytes, with all other extensions"
done
same rebase -u -b "" top.qcow2
[ "$(qemu-img info top.qcow2 | grep -c backing)" = 0 ] && qemu-img check -q top.qcow2
report $? "-u to no backing file"
refused "Could not change the backing file" rebase -u -b "$(head -c 1100 /dev/zero | tr '\0' n)" -F raw top.qcow2
qemu-img create -q -f qcow2 -o cluster_size=512 small.qcow2 1M
refused "No space left in the file header" rebase -u -b "$(head -c 500 /dev/zero | tr '\0' n)" -F raw small.qcow2
qemu-img check -q small.qcow2
report $? "the header is as before"

same rebase
same rebase x
same rebase -b x -F foo top.qcow2
same rebase -b base.qcow2 top.qcow2
same rebase -u -b base.qcow2 top.qcow2
same rebase -t bogus -b "" top.qcow2
same rebase -T bogus -b "" top.qcow2
same rebase -u -f raw -b base.qcow2 -F qcow2 other.raw
refused "No such file" rebase -b nope -F raw top.qcow2
refused "in use by" rebase -b mid.qcow2 -F qcow2 mid.qcow2
finish

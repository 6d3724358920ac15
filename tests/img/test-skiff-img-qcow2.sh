#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# info, map and snapshot -l print what qemu-img prints of qcow2 images.
# tier: unit
. "$(dirname "$0")/img.bash"

mkdir sub
qemu-img create -q -f qcow2 sub/base.qcow2 1M
qemu-io -f qcow2 -c 'write -q -P 7 0 300k' -c 'write -q -z 500k 200k' sub/base.qcow2
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 sub/mid.qcow2 2M
qemu-io -f qcow2 -c 'write -q -P 8 64k 64k' -c 'write -q -P 8 1500k 64k' sub/mid.qcow2
qemu-img create -q -f qcow2 -b sub/mid.qcow2 -F qcow2 top.qcow2 3M
qemu-io -f qcow2 -c 'write -q -P 8 128k 4k' -c 'discard -q 1500k 100k' top.qcow2
qemu-img snapshot -c one top.qcow2
qemu-img snapshot -c "a longer name than the column" top.qcow2
qemu-img bitmap --add -g 32k top.qcow2 b0
qemu-img bitmap --add --disable top.qcow2 b1
qemu-img create -q -f qcow2 -o preallocation=metadata pre.qcow2 5M
qemu-io -f qcow2 -c 'write -q -P 8 128k 4k' -c 'write -q -z -u 300k 64k' pre.qcow2
qemu-img convert -f qcow2 -O qcow2 -c -o compression_type=zstd top.qcow2 compressed.qcow2
qemu-img create -q -f qcow2 -o compat=0.10,cluster_size=4k old.qcow2 1M
qemu-img create -q -f qcow2 -o lazy_refcounts=on,extended_l2=on,refcount_bits=64 new.qcow2 1M
qemu-img create -q -f qcow2 -u -b nowhere -F raw orphan.qcow2 1M
qemu-img create -q -f qcow2 -u -b file:old.qcow2 -F qcow2 protocol.qcow2 1M
qemu-img create -q -f qcow2 -u -F qcow2 \
    -b 'json:{"driver":"qcow2","file":{"driver":"file","filename":"old.qcow2"}}' json.qcow2 1M
sync

for image in top.qcow2 sub/mid.qcow2 pre.qcow2 compressed.qcow2 old.qcow2 new.qcow2 protocol.qcow2 json.qcow2; do
    for command in info "info --backing-chain" map "snapshot -l"; do
        same $command "$image"
    done
    same info --output=json --backing-chain "$image"
    same map --output=json -f qcow2 "$image"
done
same info orphan.qcow2
same info --output=json -f qcow2 orphan.qcow2
refused "'nowhere': cannot be opened: No such file or directory" info --backing-chain orphan.qcow2
refused "backing file of 'orphan.qcow2'" map orphan.qcow2
same info file:top.qcow2
same info 'json:{"driver":"qcow2","file":{"driver":"file","filename":"top.qcow2"}}'
same info --image-opts file.driver=file,file.filename=top.qcow2
same info -f raw top.qcow2
same map -s 60k -l 100k --output=json top.qcow2
qemu-img create -q -f qcow2 -u -b b.qcow2 -F qcow2 a.qcow2 1M
qemu-img create -q -f qcow2 -u -b a.qcow2 -F qcow2 b.qcow2 1M
same info --backing-chain a.qcow2
refused "the chain of backing files is a loop" map a.qcow2
same snapshot -l -c x top.qcow2
same snapshot -x top.qcow2
same snapshot -l

# damage FIELD-OFFSET BYTES: in the first entry of the bitmap directory of top.qcow2
damage() {
    python3 - "$@" <<'PYTHON'
import struct, sys
with open("top.qcow2", "r+b") as f:
    head = f.read(65536)
    at = struct.unpack(">I", head[100:104])[0]
    while struct.unpack(">I", head[at:at + 4])[0] != 0x23852875:
        at += 8 + (struct.unpack(">I", head[at + 4:at + 8])[0] + 7) // 8 * 8
    directory = struct.unpack(">Q", head[at + 24:at + 32])[0]
    f.seek(directory + int(sys.argv[1]))
    f.write(bytes.fromhex(sys.argv[2]))
PYTHON
}

damage 17 20
refused "entry 0 of the qcow2 bitmap directory is invalid" info top.qcow2
damage 17 0f
damage 18 ffff
refused "entry 0 of the qcow2 bitmap directory is invalid" info top.qcow2
damage 18 0002
damage 20 ffffffff
refused "entry 0 of the qcow2 bitmap directory is invalid" info top.qcow2
finish

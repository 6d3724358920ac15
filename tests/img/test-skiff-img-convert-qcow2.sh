#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# skiff-img convert to qcow2: qemu-img finds the content that it should have, and no error in the image.
# tier: unit
# timeout: 300
. "$(dirname "$0")/img.bash"

qemu-img create -q -f raw base.raw 8M
qemu-io -f raw -c 'write -q -P 3 1M 64k' -c 'write -q -P 0 4M 1M' -c 'write -q -P 5 6M 1536k' \
    -c 'write -q -P 7 2M 1k' -c 'write -q -P 8 2060k 7k' base.raw
qemu-img create -q -f qcow2 -b base.raw -F raw overlay.qcow2 9M
qemu-io -f qcow2 -c 'write -q -P 6 8500k 1k' -c 'write -q -z 6M 512k' -c 'write -q -z 3M 64k' overlay.qcow2
qemu-img convert -f qcow2 -O qcow2 -c -o cluster_size=16k overlay.qcow2 compressed.qcow2
head -c 1000 /dev/zero | tr '\0' y >odd.raw
: >empty.raw
sync

# converted OPTION… SOURCE
converted() {
    local source=${*: -1} ours theirs
    rm -f ours ours.data theirs theirs.data
    timeout 60 "$img" convert -O qcow2 "${@//DATA/ours.data}" ours && qemu-img check -q ours &&
        qemu-img compare -q "$source" ours && qemu-img convert -O qcow2 "${@//DATA/theirs.data}" theirs
    ours=$? theirs=$(stat -c %b theirs)
    [ $ours -eq 0 ] && [ "$(stat -c %b ours)" -le $((theirs + 256)) ] && [ ! -e ours.skiff-* ]
    report $? "convert $*"
}

for image in base.raw overlay.qcow2 compressed.qcow2 odd.raw empty.raw; do
    for options in "" "-S 0" "-S 64k" "-m 1" "-W -m 16" "-t none" "-t directsync" "-o compat=0.10" "-o cluster_size=512" \
        "-o cluster_size=2M" "-o extended_l2=on" "-o refcount_bits=1" "-o preallocation=metadata" "-o preallocation=full" \
        "-o data_file=DATA"; do
        converted $options $image
    done
done

# compressed: as small as qemu-img's
head -c 3M /dev/urandom >random.raw
head -c 3000000 /dev/urandom | od -An -tx1 | head -c 7M >text.raw # its last cluster is a part of one
for image in base.raw overlay.qcow2 text.raw; do
    for options in "" "-S 0" "-W -m 16" "-t none" "-o cluster_size=512" "-o cluster_size=2M,compression_type=zstd" \
        "-o compat=0.10" "-o extended_l2=on" "-o refcount_bits=1"; do
        converted -c $options $image
    done
done
for image in compressed.qcow2 odd.raw empty.raw random.raw; do converted -c $image; done
# zeroes are searched for in whole clusters, also if -S is not a multiple of them
head -c 8M /dev/zero >sparse.raw
for at in 0 200 1000 2000 6000; do head -c 100000 text.raw | dd of=sparse.raw bs=1k seek=$at conv=notrunc status=none; done
for size in 96k 200k; do
    succeeds "-c -S $size" "$img" convert -c -S $size -O qcow2 sparse.raw ours
    qemu-img compare -q sparse.raw ours && qemu-img check ours | grep -q '100.00% compressed'
    report $? "-S $size: all clusters are compressed"
done
for type in zlib zstd; do
    rm -f ours theirs
    succeeds "-c, $type, several sources" "$img" convert -c -O qcow2 -o compression_type=$type odd.raw text.raw base.raw odd.raw ours
    qemu-img convert -c -O qcow2 -o compression_type=$type odd.raw text.raw base.raw odd.raw theirs
    qemu-img check -q ours && qemu-img compare -q ours theirs &&
        [ $(($(stat -c %s ours) * 100)) -le $(($(stat -c %s theirs) * 101)) ]
    report $? "several sources, compressed by $type, as large as qemu-img's"
    [ "$(qemu-img check ours | grep -o '[0-9]*/.*allocated')" = "$(qemu-img check theirs | grep -o '[0-9]*/.*allocated')" ] &&
        qemu-img check ours | grep -q '100.00% compressed'
    report $? "all clusters are compressed by $type"
done
qemu-img create -q -f qcow2 -o cluster_size=4k target.qcow2 20M
qemu-io -c 'write -q -P 9 0 20M' target.qcow2
succeeds "-c -n" "$img" convert -c -n -O qcow2 text.raw target.qcow2
cp text.raw expected.raw
truncate -s 20M expected.raw
dd if=/dev/zero bs=1k count=$((13 << 10)) status=none | tr '\0' '\11' | dd of=expected.raw bs=1M seek=7 conv=notrunc status=none
qemu-img check -q target.qcow2 && qemu-img compare -q expected.raw target.qcow2
report $? "-c -n compresses into an image and leaves what lies behind the content"
truncate -s 9M longer.raw
same convert -c base.raw new
same convert -c -C -O qcow2 base.raw new
same convert -c -O qcow2 -o preallocation=metadata base.raw new
refused "Compression and data_file not supported at the same time" convert -c -O qcow2 -o data_file=new.data base.raw new
refused "Compression not supported for this file format" convert -c -n --target-image-opts base.raw driver=raw,file.filename=longer.raw
qemu-img create -q -f qcow2 -o data_file=external.data external.qcow2 8M
refused "error while writing at byte 1048576: Operation not supported" convert -c -n -O qcow2 base.raw external.qcow2

# a target with a backing file holds what the source holds itself
for size in 8M 3M 12M; do
    cp base.raw backing.raw && truncate -s $size backing.raw
    qemu-img rebase -u -b backing.raw -F raw overlay.qcow2
    rm -f ours theirs
    succeeds "convert -c -B, $size" "$img" convert -c -O qcow2 -B backing.raw -F raw overlay.qcow2 ours
    qemu-img compare -q overlay.qcow2 ours && qemu-img check -q ours
    report $? "a compressed overlay, $size"
    rm -f ours theirs
    succeeds "convert -B, $size" "$img" convert -O qcow2 -B backing.raw -F raw overlay.qcow2 ours
    qemu-img convert -O qcow2 -B backing.raw -F raw overlay.qcow2 theirs
    qemu-img compare -q overlay.qcow2 ours && qemu-img check -q ours &&
        [ "$(qemu-img map --output=json ours | sed 's/, "offset": [0-9]*//')" = \
            "$(qemu-img map --output=json theirs | sed 's/, "offset": [0-9]*//')" ]
    report $? "the overlay is as qemu-img's, $size"
done
refused "makes no sense" convert -O qcow2 -B backing.raw -F raw overlay.qcow2 base.raw ours
refused "Backing file specified without backing format" convert -O qcow2 -B backing.raw overlay.qcow2 new
refused "Backing file not supported for file format 'raw'" convert -B backing.raw -F raw overlay.qcow2 new
refused "Unknown file format" convert -O luks base.raw new

# in place
qemu-img create -q -f qcow2 target.qcow2 10M
qemu-io -c 'write -q -P 9 0 10M' target.qcow2
succeeds "-n" "$img" convert -n -O qcow2 base.raw target.qcow2
qemu-img convert -n -O raw target.qcow2 theirs 2>/dev/null || qemu-img convert target.qcow2 theirs
cmp -n $((8 << 20)) theirs base.raw && qemu-img check -q target.qcow2
report $? "-n writes into the image"
refused "output file is smaller than input file" convert -n -O qcow2 target.qcow2 overlay.qcow2

# internal snapshots: of the same size, and of another one
qemu-img create -q -f qcow2 snapshots.qcow2 2M
qemu-io -c 'write -q -P 1 0 1M' snapshots.qcow2
qemu-img snapshot -c first snapshots.qcow2
qemu-img convert snapshots.qcow2 first.raw
qemu-io -c 'write -q -P 2 512k 1M' snapshots.qcow2
qemu-img snapshot -c second snapshots.qcow2
qemu-img convert snapshots.qcow2 second.raw
qemu-io -c 'write -q -P 3 0 2M' snapshots.qcow2
for snapshot in 1 first snapshot.id=1 snapshot.name=first snapshot.id=1,snapshot.name=first; do
    rm -f ours
    "$img" convert -l $snapshot snapshots.qcow2 ours && cmp ours first.raw
    report $? "-l $snapshot"
done
qemu-img resize -q snapshots.qcow2 3M
"$img" convert -l second -O qcow2 snapshots.qcow2 ours
qemu-img convert ours theirs && cmp theirs second.raw
report $? "-l of a snapshot with another size"
for snapshot in third snapshot.id=2,snapshot.name=first snapshot.name=; do
    same convert -l $snapshot snapshots.qcow2 new
    rm -f new
done
refused "Failed in parsing snapshot param 'snapshot.bogus=1'" convert -l snapshot.bogus=1 snapshots.qcow2 new
refused "does not support internal snapshots" convert -l first base.raw new
refused "No support for concatenating multiple snapshot" convert -l first snapshots.qcow2 snapshots.qcow2 new

# a failure leaves nothing
(ulimit -f 1024 && exec "$img" convert -O qcow2 -S 0 base.raw large.qcow2) >/dev/null 2>&1
[ $? -eq 1 ] && [ -z "$(ls large* 2>/dev/null)" ]
report $? "a write that fails leaves no file"
[ ! -e new ] && [ -z "$(ls ./*.skiff-* 2>/dev/null)" ]
report $? "nothing half-made is left"
finish

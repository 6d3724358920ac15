#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# skiff-img check -r repairs what qemu-img repairs, and nothing that the guest has written is lost.
# tier: unit
. "$(dirname "$0")/img.bash"

damage() { # damage IMAGE OFFSET HEX…: puts these bytes at these offsets
    local image=$1
    shift
    while [ $# -gt 0 ]; do
        printf '%b' "$(sed 's/../\\x&/g' <<<"$2")" | dd of="$image" bs=1 seek=$(($1)) conv=notrunc status=none
        shift 2
    done
}

damaged() { # damaged IMAGE OFFSET HEX…: bad.qcow2, a damaged copy
    cp "$1" bad.qcow2
    damage bad.qcow2 "${@:2}"
    cp bad.qcow2 before.qcow2
}

# same_disk: what could be read before the repair reads the same
same_disk() {
    qemu-img compare -q before.qcow2 bad.qcow2 >/dev/null 2>&1
    [ $? -ne 1 ]
}

check() { # check PROGRAM HOW
    cp before.qcow2 bad.qcow2
    "$1" check -r "$2" bad.qcow2 2>&1 | sed -e '/^qcow2: /d' -e 's/skiff-img/qemu-img/'
    echo "status ${PIPESTATUS[0]}"
}

# repaired HOW IMAGE OFFSET HEX…: qemu-img's output; then qemu-img finds what it finds after its own repair, and the
# disk has the same contents
repaired() {
    local how=$1 name="$*" ours theirs left status
    damaged "${@:2}"
    theirs=$(check qemu-img "$how")
    left=$(qemu-img check bad.qcow2 2>&1)
    ours=$(check "$img" "$how")
    [ "$ours" = "$theirs" ] || printf 'ours:\n%s\ntheirs:\n%s\n' "$ours" "$theirs" | sed 's/^/# /'
    [ "$ours" = "$theirs" ] && [ "$(qemu-img check bad.qcow2 2>&1)" = "$left" ]
    status=$?
    same_disk || status=1
    report $status "-r $name"
}

# rebuilt NAME: repairs bad.qcow2 with new refcounts; then qemu-img finds nothing, and the disk has the same contents
rebuilt() {
    local output status
    cp bad.qcow2 before.qcow2
    output=$("$img" check -r all bad.qcow2 2>&1)
    status=$?
    [[ $output == *"Rebuilding refcount structure"* ]] || status=1
    qemu-img check -q bad.qcow2 && qemu-img compare -q before.qcow2 bad.qcow2 || status=1
    [ $status -eq 0 ] || echo "# $output"
    report $status "rebuilt: $1"
}

io() { # io IMAGE COMMAND…
    local image=$1 commands=()
    shift
    for command; do commands+=(-c "$command"); done
    qemu-io "${commands[@]}" "$image" >/dev/null || exit 1
}

qemu-img create -q -f qcow2 plain.qcow2 10M
io plain.qcow2 'write 0 1M' 'write 3M 512k' 'write -z 5M 128k' 'write -c 7M 64k' 'write -c 7232k 64k'
qemu-img create -q -f qcow2 -o extended_l2=on ext.qcow2 4M
io ext.qcow2 'write 0 1M' 'write 2M 3k' 'write -z 3M 4k'
widths=(1 2 4 8 16 32 64)
for width in "${widths[@]}"; do
    qemu-img create -q -f qcow2 -o cluster_size=4k,refcount_bits=$width width$width.qcow2 4M
    io width$width.qcow2 'write 0 1M'
    [ $width = 1 ] && continue
    qemu-img snapshot -c s1 width$width.qcow2
    io width$width.qcow2 'write 20k 1M'
done

# the only entry of the snapshot table, with less extra data than version 3 requires
qemu-img create -q -f qcow2 snapshot.qcow2 8M
io snapshot.qcow2 'write 0 512k'
qemu-img snapshot -c one snapshot.qcow2
table=0x$(od -An -tx1 -j 64 -N 8 snapshot.qcow2 | tr -d ' ')
zeroes=$(printf '00%.0s' {1..20})
short0=($((table + 36)) 00000000 $((table + 40)) "316f6e650000000000000000$zeroes")
short8=($((table + 36)) 00000008 $((table + 40)) "0000000000000000316f6e65$zeroes")

for how in leaks all; do
    repaired $how snapshot.qcow2 "${short0[@]}"
    repaired $how snapshot.qcow2 "${short8[@]}"
    repaired $how plain.qcow2
    repaired $how plain.qcow2 0x20006 0005
    repaired $how plain.qcow2 0x20030 0002 0x20032 ffff
    repaired $how plain.qcow2 0x20080 0001
    repaired $how plain.qcow2 0x30000 0000000000040000
    repaired $how plain.qcow2 0x40008 0000000000060000
    repaired $how plain.qcow2 0x40008 0000000000060000 0x20080 0001
    repaired $how plain.qcow2 0x40008 8000000000050000
    repaired $how plain.qcow2 0x40008 8000000000060200
    repaired $how plain.qcow2 0x40008 80000000ff000000
    repaired $how plain.qcow2 0x40008 8100000000060000
    repaired $how plain.qcow2 0x40008 8000000000060201
    repaired $how ext.qcow2 0x40010 8000000000060200 0x40018 ffffffff00000000
    repaired $how ext.qcow2 0x40018 00000001ffffffff
    repaired $how ext.qcow2 0x40010 4000000000060000
    for width in "${widths[@]}"; do
        case $width in # clusters 256 and 257: a snapshot shares them
        1) repaired $how width1.qcow2 0x2020 fd ;;
        2) repaired $how width2.qcow2 0x2040 ff ;;
        4) repaired $how width4.qcow2 0x2080 4c ;;
        *) repaired $how width$width.qcow2 $((0x2000 + 32 * width + width / 8 - 1)) 07 ;;
        esac
    done
    # the flags of an image
    repaired $how plain.qcow2 72 0000000000000001
    repaired $how plain.qcow2 72 0000000000000002
    repaired $how plain.qcow2 72 0000000000000003 0x20080 0001
done
[ "$(od -An -tx1 -j 72 -N 8 bad.qcow2)" = " 00 00 00 00 00 00 00 00" ]
report $? "the flags dirty and corrupt are cleared"

# new refcounts
for width in "${widths[@]}"; do
    damaged width$width.qcow2 0x2000 "$(printf '00%.0s' {1..4096})"
    ends 1 "ERROR need to rebuild refcount structures" check -r leaks bad.qcow2
    rebuilt "a block of zeroes, width $width"
    damaged width$width.qcow2 0x1000 0000000000000000
    rebuilt "a table of zeroes, width $width"
done
damaged plain.qcow2 0x20006 0000 && rebuilt "a refcount that is 0"
damaged plain.qcow2 0x10000 0000000000020001 && rebuilt "reserved bits"
damaged plain.qcow2 0x10000 0000000000020200 && rebuilt "a block that is not aligned"
damaged plain.qcow2 0x10008 0000000100000000 && rebuilt "a block outside"
damaged plain.qcow2 0x10008 0000000000020000 && rebuilt "a block that is named twice"
damaged plain.qcow2 0x10008 0000000000060000 && rebuilt "a block in the guest's data"
[ "$(stat -c %s bad.qcow2)" -lt 3000000 ]
report $? "a rebuild does not enlarge the file much"
damaged snapshot.qcow2 0x20006 0000 "${short0[@]}" && rebuilt "a refcount that is 0, and a short snapshot entry"
[ "$(qemu-img snapshot -l bad.qcow2 | grep -c ' one ')" = 1 ]
report $? "a new snapshot table has the snapshot"

# clusters behind the end of the file get no refcounts put into them
qemu-img create -q -f qcow2 long.qcow2 10M
io long.qcow2 'write 0 2M'
damaged long.qcow2 0x10000 0000000000000000
truncate -s 1500000 bad.qcow2
cp bad.qcow2 before.qcow2
ends 2 "Rebuilding refcount structure" check -r all bad.qcow2
same_disk
report $? "the disk of a truncated image is unchanged"

# an L1 entry names a cluster of the guest's data as L2 table: the data is not changed
damaged plain.qcow2 0x30000 8000000000060000
cp bad.qcow2 before.qcow2
"$img" check -r all bad.qcow2 >/dev/null 2>&1
cmp <(dd if=plain.qcow2 bs=64k skip=6 count=1 status=none) <(dd if=bad.qcow2 bs=64k skip=6 count=1 status=none)
report $? "the guest's data is not taken for a table"

refused "force-share" check -r all -U plain.qcow2
same check -r other plain.qcow2
finish

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# skiff-img io does to an image what qemu-io does, and prints the same, apart from times.
# tier: unit
. "$(dirname "$0")/img.bash"

# timeless: leaves out times and rates
timeless() {
    sed -E 's/ops; .*/TIME/; s/^([0-9]+,[0-9]+),.*/\1,TIME/; s/(skiff-img|qemu-io): .*: /ERROR: /; s/(skiff-img|qemu-io): /ERROR: /'
}

# same_io OPTION… -- COMMAND…: on equal copies of start.raw
same_io() {
    local options=() commands=() ours theirs
    while [ "$1" != -- ]; do options+=("$1") && shift; done
    shift
    for command in "$@"; do commands+=(-c "$command"); done
    cp start.raw ours.raw && cp start.raw theirs.raw
    theirs=$(qemu-io -f raw "${options[@]}" "${commands[@]}" theirs.raw 2>&1 | timeless; echo "status ${PIPESTATUS[0]}")
    ours=$("$img" io -f raw "${options[@]}" "${commands[@]}" ours.raw 2>&1 | timeless; echo "status ${PIPESTATUS[0]}")
    [ "$ours" = "$theirs" ] || printf 'ours:\n%s\ntheirs:\n%s\n' "$ours" "$theirs" | sed 's/^/# /'
    [ "$ours" = "$theirs" ] && cmp ours.raw theirs.raw
    report $? "$*"
}

qemu-img create -q -f raw start.raw 4M
qemu-io -f raw -c 'write -q -P 3 1M 64k' -c 'write -q -P 5 3M 4k' start.raw
same_io -- "read 0 512" "read -P 3 1M 64k" "read -P 3 1M 65k" "read -v 3M 48" "read -q 0 4M" "read -C 0 1k"
same_io -- "read -P 3 -s 1k -l 1k 1047552 3k" "read -P 3 -s 512 -l 1k 1047552 3k" "r 0 1536"
same_io -- "write 0 64k" "write -P 9 100 1000" "write -P 0x2a 2M 3k" "read -P 42 2M 3k"
same_io -- "writev -P 7 5k 1k 2k 512" "readv -P 7 5k 3k 512" "w -q 1M 1k"
same_io -- "write -z 1M 64k" "read -P 0 1M 64k" "write -z -u 3M 64k" "read -P 0 3M 4k"
same_io -d unmap -- "discard 1M 64k" "read -P 0 1M 64k" "write -f -P 1 0 512"
same_io -- "discard 1M 64k"
same_io -d ignore -- "discard 1M 64k"
same_io -- "truncate 6M" length "truncate 1M" length "read 0 2M"
same_io -- flush "aio_flush" "length"
same_io -- "read 4M 512" "write 4M 512" "read 3M 2M"
same_io -- "write -P 256 0 512" "write -z -P 1 0 512" "write -u 0 512" "read x 512"
same_io -- "bogus 1 2"
same_io -t none -n -- "write -P 3 8k 4k" "read -P 3 8k 4k"
same_io -- "quit" "write 0 512"
same_io -- "sleep 1"
same_io -- "aio_write -P 8 1000 1000" "aio_flush" "aio_read -P 8 1000 1000" "aio_flush" "aio_write -z 0 4k" "aio_flush"

# compressed writes
for command in "write -c -P 5 64k 64k" "write -c -P 6 0 1M" "write -c -P 7 4M 1k" "write -c 0 1k" "write -c 512 64k" \
    "write -c 100 64k" "write -c 0 100" "write -c -f 0 64k" "write -c -u 0 64k" "write -c -z 0 64k" "write -c 0 0"; do
    qemu-img create -q -f qcow2 -o compression_type=zstd start.qcow2 4097k
    cp start.qcow2 ours.qcow2 && cp start.qcow2 theirs.qcow2
    theirs=$(qemu-io -f qcow2 -c "$command" theirs.qcow2 2>&1 | timeless; echo "status ${PIPESTATUS[0]}")
    ours=$("$img" io -f qcow2 -c "$command" ours.qcow2 2>&1 | timeless; echo "status ${PIPESTATUS[0]}")
    [ "$ours" = "$theirs" ] && qemu-img check -q ours.qcow2 && qemu-img compare -q ours.qcow2 theirs.qcow2 &&
        [ "$(qemu-img check ours.qcow2 | grep allocated)" = "$(qemu-img check theirs.qcow2 | grep allocated)" ]
    report $? "$command"
done
same_io -- "write -c 0 64k"
ends 1 "writev [-Cfquz]" io -f raw -c "writev -c 0 64k" start.raw

# many at a time: the output has any order
cp start.raw ours.raw
commands=()
for i in {1..40}; do commands+=(-c "aio_write -q -P $i ${i}k 1k"); done
succeeds "aio_write" "$img" io -f raw "${commands[@]}" ours.raw
commands=()
for i in {1..40}; do commands+=(-c "aio_read -q -P $i ${i}k 1k"); done
succeeds "aio_read" "$img" io -f raw "${commands[@]}" ours.raw
ends 1 "Pattern verification failed at offset 1024, 1024 bytes" io -f raw -c "aio_read -P 2 1k 1k" ours.raw

[ "$(printf 'write -q -P 77 0 512\n\n  read   -P 77 0 512\nquit\nbogus\n' | "$img" io -f raw ours.raw | timeless | head -1)" = \
    "read 512/512 bytes at offset 0" ]
report $? "commands from standard input"
ends 1 "write failed: Operation not permitted" io -r -f raw -c "write 0 512" ours.raw
ends 1 "length cannot exceed" io -r -f raw -c "read 0 2G" ours.raw
ends 1 "bad argument count" io -r -f raw -c "length 1" ours.raw
ends 1 "non-numeric argument" io -r -f raw -c "read 0 9E" ours.raw
ends 1 "No such file" io -c length missing.raw
ends 1 "Expecting one image file name" io -c length
ends 1 "Invalid discard option: bogus" io -d bogus -c length ours.raw
ends 0 "aio_write" io -f raw -c help ours.raw

# what an image itself holds
qemu-img create -q -f qcow2 -b start.raw -F raw overlay.qcow2
qemu-io -c 'write -q 1M 64k' -c 'write -q -z 2M 128k' overlay.qcow2
[ "$("$img" io -r -c map overlay.qcow2)" = "$(qemu-io -r -c map overlay.qcow2)" ]
report $? "map of an overlay"
finish

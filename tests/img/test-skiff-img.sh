#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# skiff-img prints what qemu-img prints, and exits as it does. Messages of failed opens are skiff's own.
# tier: unit
cd "$(dirname "$0")/../.." || exit 1
img=$PWD/$(dirname "${SKIFF:-build/test/skiff}")/skiff-img
[[ ${SKIFF:-} != /* ]] || img=$(dirname "$SKIFF")/skiff-img
command -v qemu-img >/dev/null || { echo "qemu-img is missing"; exit 77; }
cd "$(mktemp -d "${SKIFF_TEST_DIR:-build}/skiff-img-XXXXXX")" || exit 1
trap 'rm -rf "$PWD"' EXIT
number=0 failed=0

report() { # report STATUS NAME
    number=$((number + 1))
    [ "$1" -eq 0 ] && echo "ok $number - $2" && return
    failed=1
    echo "not ok $number - $2"
}

# same ARGUMENT…: the same output and exit status
same() {
    local ours theirs
    theirs=$(qemu-img "$@" 2>&1; echo "status $?")
    ours=$("$img" "$@" 2>&1; echo "status $?")
    [ "${ours//skiff-img/qemu-img}" = "$theirs" ] || printf '# ours:\n%s\n# theirs:\n%s\n' "$ours" "$theirs"
    [ "${ours//skiff-img/qemu-img}" = "$theirs" ]
    report $? "$*"
}

# refused WORDS ARGUMENT…: status 1 and WORDS
refused() {
    local words=$1 output status
    shift
    output=$("$img" "$@" 2>&1)
    status=$?
    [ "$status" -eq 1 ] && [[ $output == *"$words"* ]] || echo "# $status $output"
    [ "$status" -eq 1 ] && [[ $output == *"$words"* ]]
    report $? "$*: $words"
}

truncate -s 1M sparse.raw
printf hello | dd of=sparse.raw conv=notrunc bs=1 seek=131072 2>/dev/null
head -c 1000 /dev/zero | tr '\0' x >odd.raw
truncate -s 0 empty.raw
truncate -s 5G big.raw
sync
for image in sparse.raw odd.raw empty.raw big.raw; do
    for command in info map; do
        same $command $image
        same $command -f raw --output=json $image
    done
done
same info --backing-chain --output=json -f raw sparse.raw
same map -s 100k -l 64k --output=json -f raw sparse.raw
same info --image-opts driver=raw,file.driver=file,file.filename=sparse.raw
same
same bogus
same info
same map a b
same info --bogus sparse.raw
same map --output=xml sparse.raw
same map -l sixty sparse.raw
same map sparse.raw --start-offset=x
same info -f
same map -U --start-offset=4k sparse.raw
qemu-img create -q -f qcow2 image.qcow2 1M
refused "Unknown driver 'qcow2'" info image.qcow2
refused "No such file or directory" info missing.raw
refused "cannot be opened" map missing.raw
echo "1..$number"
exit $failed

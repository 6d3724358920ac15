# SPDX-License-Identifier: Apache-2.0
# Shared by the tests of skiff-img, which source it: a folder of its own, and comparisons with qemu-img.
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
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
    ours=${ours//skiff-img/qemu-img}
    [ "$ours" = "$theirs" ] || printf 'ours:\n%s\ntheirs:\n%s\n' "$ours" "$theirs" | sed 's/^/# /'
    [ "$ours" = "$theirs" ]
    report $? "$*"
}

# ends STATUS WORDS ARGUMENT…: exits with STATUS and says WORDS
ends() {
    local expected=$1 words=$2 output status
    shift 2
    output=$(timeout 60 "$img" "$@" 2>&1)
    status=$?
    [ "$status" -eq "$expected" ] && [[ $output == *"$words"* ]] || echo "# $status $output"
    [ "$status" -eq "$expected" ] && [[ $output == *"$words"* ]]
    report $? "$*: $expected $words"
}

# refused WORDS ARGUMENT…: status 1 and WORDS
refused() {
    ends 1 "$@"
}

# succeeds NAME COMMAND…
succeeds() {
    local name=$1 output status
    shift
    output=$(timeout 60 "$@" 2>&1)
    status=$?
    [ $status -eq 0 ] || echo "# $status $output"
    report $status "$name"
}

finish() {
    echo "1..$number"
    exit $failed
}

# wait_locked PID: until that qemu-io has all locks of its image. Asking with qemu-img would take them away.
wait_locked() {
    until cat "/proc/$1/fdinfo/"* 2>/dev/null | grep -q ' 203 203$'; do # its last lock
        kill -0 "$1" || exit 1
        sleep 0.05
    done
}

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: lab
# timeout: 900
# Debian's unmodified kernel under load, saved and restored: processors, a disk that fio (or dd) verifies, a TCP connection
# through the host's vhost-net. linux_snapshot.py has the load, and what has to be true. With the argument "ovmf" the
# guest is booted by OVMF and sets its variables, too: in a lab of `tests/lab/lab --steady --disk 8G`, see linux-ovmf.sh.
[ -n "${NET_NAMESPACE-}" ] || NET_NAMESPACE=yes exec unshare -n "$0" "$@"
. "$(dirname "$0")/common.bash"
. "$(dirname "$0")/linux-fio.bash"

[ "${1-}" = ovmf ] || only_in_check_long
firmware=()
[ "${1-}" != ovmf ] || firmware=(--ovmf /usr/share/OVMF/OVMF_CODE_4M.fd,/usr/share/OVMF/OVMF_VARS_4M.fd)
ip link set lo up

test_a_guest_under_load_is_saved_and_restored() {
    local dir=$work
    command -v python3 >/dev/null || skip "python3 is not installed"
    ip tuntap add tap0 mode tap
    ip address add 10.0.2.2/24 dev tap0
    ip link set tap0 up
    # The lab's files are in memory, except there.
    [ ! -d /scratch ] || dir=$(mktemp -d /scratch/snapshot.XXXXXX)
    if [ "$TEST_ROUNDS" = long ]; then
        command -v fio >/dev/null || skip "fio is not installed: tests/install-deps long"
        make_fio_image "$dir/disk" raw build/linux-programs/clock-peer
    else # fio and its libraries take a minute to copy
        mkdir -p "$dir/root"/{dev,proc,tmp,usr/bin}
        cp build/linux-programs/clock-peer "$dir/root/usr/bin"
        mke2fs -q -t ext4 -d "$dir/root" "$dir/disk" 32M
    fi
    "$(dirname "$SKIFF")/skiff-img" create -q -f qcow2 -b disk -F raw "$dir/disk.qcow2"
    python3 tests/guest/linux_snapshot.py "${firmware[@]}" --rounds "$(rounds lab=4 check=4 long=27)" \
        --rest "$(rounds lab=100 check=100 long=0)" "$dir" "$dir/disk.qcow2" >"$output" 2>&1 || fail "$(cat "$output")"
    sed 's/^/# /' "$output" >&"$report"
    expect_output '^== connections '
}

# What is found is of interest without a failure, too.
exec {report}>&1
run_tests

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 600
# The argument vectors of programs that start QEMU, one argument a line, in NAME.args. What skiff
# lacks today is in groups:
#
#   ! EXPRESSION       the refusal's words
#       ARGUMENT…      indented
#
# Without its groups, a vector boots; with any one of them it is refused in those words. A feature
# that comes makes a group an ordinary part of its vector. @KERNEL@, @INITRD@, @DISK@, @OVERLAY@
# and @DIR@ stand for a guest of guest-images/ and files of the test.
. "$(dirname "$0")/../guest/common.bash"

# read_vector NAME: sets `accepted` to the arguments that are, refusals to the expressions, and
# group_N to the arguments of the Nth.
read_vector() {
    local line
    accepted=() refusals=()
    while IFS= read -r line; do
        line=${line//@KERNEL@/build/guests/hello.elf}
        line=${line//@INITRD@/$work/initrd}
        line=${line//@DISK@/$disk}
        line=${line//@OVERLAY@/$work/overlay.qcow2}
        line=${line//@DIR@/$work}
        case $line in
        '#'*) ;;
        '! '*)
            refusals+=("${line#! }")
            declare -ga "group_${#refusals[@]}=()"
            ;;
        '    '*)
            local -n group=group_${#refusals[@]}
            group+=("${line#    }")
            ;;
        *) accepted+=("$line") ;;
        esac
    done <"tests/wrappers/$1.args"
    [ ${#accepted[@]} -gt 0 ] || fail "$1.args has no arguments"
}

# The guest's PASS is what ends skiff with 1, wherever the wrapper has put its console.
try_vector() {
    local i
    make_disk 1M
    echo initrd >"$work/initrd"
    qemu-img create -q -f qcow2 "$work/overlay.qcow2" 1M
    read_vector "$1"
    skiff "${accepted[@]}" "${debug_exit[@]}"
    expect_status 1
    for ((i = 1; i <= ${#refusals[@]}; i++)); do
        local -n group=group_$i
        skiff "${accepted[@]}" "${debug_exit[@]}" "${group[@]}"
        [ "$status" -eq 2 ] || fail "$1: status $status, not 2, with ${group[*]}"
        printed "${refusals[i - 1]}" || fail "$1: it does not say '${refusals[i - 1]}' of ${group[*]}"
    done
}

test_kunit() { try_vector kunit; }
test_nixos_test_driver() { try_vector nixos-test; }
test_debvm_run() { try_vector debvm-run; }
test_virtme_ng() { try_vector virtme-ng; }
test_autopkgtest_virt_qemu() { try_vector autopkgtest-virt-qemu; }
test_mkosi() { try_vector mkosi; }

test_every_vector_is_tried() {
    local vector
    for vector in tests/wrappers/*.args; do
        vector=${vector##*/}
        grep -q "try_vector ${vector%.args};" "$0" || fail "$vector is not tried"
    done
}

run_tests

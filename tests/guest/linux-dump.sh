#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: lab
# timeout: 600
# gdb reads the dump of a Debian guest whose kernel KASLR has moved: registers of all CPUs, data by
# virtual and by physical address.
. "$(dirname "$0")/common.bash"

# The guest prints addresses and then idles.
guest_script='
grep -E " (_text|_etext|linux_banner|jiffies_64)\$" /proc/kallsyms | sed "s/^/symbol /"
echo "code $(grep "Kernel code" /proc/iomem)"
cat /proc/version
sleep 1000 & sleep 1; echo ready; wait
'

# symbol NAME: its address in the guest.
symbol() {
    local value
    value=$(tr -d '\r' <"$output" | sed -n "s/^symbol \([0-9a-f]*\) . $1\$/0x\1/p")
    [ -n "$value" ] || fail "the guest has not printed the address of $1"
    echo "$value"
}

boot_and_dump() {
    command -v gdb >/dev/null || skip "gdb is not installed"
    command -v python3 >/dev/null || skip "python3 is not installed"
    start_skiff -m 256 -smp 2 -nographic -kernel build/linux/vmlinuz -initrd build/linux/initramfs.cpio.gz \
        -append "console=ttyS0 quiet skiff.run=sh:$(printf '%s' "$guest_script" | base64 -w0)" \
        -qmp "unix:$work/qmp,server=on,wait=off"
    wait_output '^ready'
    PYTHONPATH=tests/support PYTHONDONTWRITEBYTECODE=1 python3 - "$work" <<'PYTHON'
import sys
from qmp import Qmp
work = sys.argv[1]
with Qmp(work + "/qmp") as vm:
    for paging, name in (True, "virtual"), (False, "physical"):
        vm.cmd("dump-guest-memory", paging=paging, protocol="file:%s/%s" % (work, name))
        vm.wait_event("DUMP_COMPLETED", result=dict(status="completed", completed=256 << 20, total=256 << 20))
PYTHON
}

# ask_dump FILE COMMAND…: runs gdb commands; output in $work/gdb.
ask_dump() {
    local file=$1 command arguments=()
    shift
    for command in "$@"; do
        arguments+=(-ex "$command")
    done
    gdb -nx -batch -c "$file" "${arguments[@]}" >"$work/gdb" 2>&1 || true
}

said() {
    [ "$(grep -cE -- "$1" "$work/gdb")" -ge "${2:-1}" ] || {
        cat "$work/gdb"
        fail "gdb has not printed: $1"
    }
}

test_gdb_reads_the_data_that_the_guest_prints() {
    boot_and_dump
    local text end banner jiffies version code cpu commands=('info threads')
    text=$(symbol _text) end=$(symbol _etext) banner=$(symbol linux_banner) jiffies=$(symbol jiffies_64)
    version=$(tr -d '\r' <"$output" | grep -o '^Linux version [^ ]*')
    for cpu in 1 2; do
        # Idle in the kernel, on a stack in its half of 57-bit addresses.
        commands+=("thread $cpu" 'info registers rip rsp cs' "p \$rip >= $text && \$rip < $end && \$rsp >= 0xff00000000000000 && \$cs == 0x10")
    done
    # Linux starts five minutes before its 32 bits of ticks overflow (CONFIG_HZ=250).
    ask_dump "$work/virtual" 'set print elements 40' "${commands[@]}" "x/s $banner" \
        "p *(unsigned long *)$jiffies > 4294892296 && *(unsigned long *)$jiffies < 4294892296 + 250 * 3600"
    said '\(?LWP [12]\)?' 2
    said '^\$[0-9]+ = 1$' 3
    said "\"$version"

    code=$(tr -d '\r' <"$output" | sed -n 's/^code *\([0-9a-f]*\)-.*/0x\1/p')
    ask_dump "$work/physical" 'set print elements 40' "x/s $banner - $text + $code" "x/s $banner"
    said "\"$version"
    said "Cannot access memory at address $banner"
}

run_tests

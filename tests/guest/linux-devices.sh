#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: lab
# timeout: 400
# The machine as Debian's kernel sees it, in one boot with four CPUs and every virtio device.
. "$(dirname "$0")/common.bash"

# Sections of the guest's output begin with a line "== NAME".
guest_script='
section() { echo "== $1"; }
section cpus; nproc
section clocksource; cat /sys/devices/system/clocksource/clocksource0/available_clocksource
section time; date +%s
section interrupts; cat /proc/interrupts
section virtio; for d in /sys/bus/virtio/devices/*; do echo "$(cat $d/device) $(basename $(readlink $d/driver))"; done
section disk; dd if=/dev/vda bs=1M count=1 2>/dev/null | md5sum
section rng; head -c 64 /dev/hwrng | wc -c; cat /sys/class/misc/hw_random/rng_current
section ports; until [ -e /dev/virtio-ports/test.port ]; do usleep 50000; done; ls /dev/virtio-ports
section complaints; dmesg | grep -iE "acpi.*(error|warning|exception|bug)|firmware (bug|warn)|irq.*nobody cared|spurious" |
    grep -v "report a bug"
dmesg | grep -E "WARNING:|BUG:|Call Trace:|consistency problem"
section end
'

boot() {
    head -c 4M /dev/urandom >"$work/disk"
    date +%s >"$work/started"
    linux_guest "$guest_script" -smp 4 \
        -drive "file=$work/disk,format=raw,if=none,id=disk" -device virtio-blk-pci,drive=disk \
        -device virtio-rng-pci -device virtio-serial-pci \
        -chardev null,id=port -device virtserialport,chardev=port,name=test.port
    date +%s >"$work/ended"
    cp "$output" "$work/boot"
}

# section NAME: the guest's output in that section.
section() {
    cp "$work/boot" "$output"
    printed "^== $1\$" || fail "the guest did not reach its section $1"
    tr -d '\r' <"$work/boot" | sed -n "/^== $1\$/,/^== /{/^== /!p}"
}

test_it_boots_and_runs_the_script() {
    boot
    expect_status 0
    expect_guest_status 0
    expect_output '^== end'
}

test_all_four_cpus_are_online() {
    expect_equal nproc "$(section cpus)" 4
}

test_kvm_clock_is_available() {
    [[ $(section clocksource) == *kvm-clock* ]] || fail "clock sources: $(section clocksource)"
}

test_the_rtc_has_the_hosts_time() {
    local now
    now=$(section time)
    [ "$now" -ge $(($(<"$work/started") - 2)) ] && [ "$now" -le $(($(<"$work/ended") + 2)) ] ||
        fail "the guest's time is $now, the host's $(<"$work/started") to $(<"$work/ended")"
}

test_every_virtio_device_has_its_driver() {
    expect_equal "the list of devices" "$(section virtio | sort | paste -sd,)" \
        "0x0002 virtio_blk,0x0003 virtio_console,0x0004 virtio_rng"
}

test_virtio_interrupts_come_by_msi_x() {
    local by_line
    section interrupts | grep -q 'PCI-MSI.*virtio' || fail "no virtio interrupt is an MSI"
    by_line=$(section interrupts | grep virtio | grep -v MSI || true)
    expect_equal "virtio interrupts by line" "$by_line" ''
}

test_the_disk_reads_as_written() {
    expect_equal "the first MiB" "$(section disk)" "$(head -c 1M "$work/disk" | md5sum)"
}

test_the_rng_gives_bytes() {
    expect_equal "bytes and source" "$(section rng | paste -sd' ')" "64 virtio_rng.0"
}

test_a_serial_port_has_its_name() {
    expect_equal "the list of ports" "$(section ports)" test.port
}

test_the_kernel_logs_no_error() {
    expect_equal "complaints in the kernel's log" "$(section complaints)" ''
}

run_tests

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: lab
# timeout: 1200
# -exec with Debian's kernel and the real agent: streams, input, statuses, early ends. docs/exec.md
. "$(dirname "$0")/common.bash"

out=$work/out err=$work/err

# execute COMMAND ARGUMENT…: sets $status, $out and $err. $append is added to the kernel's command
# line, $initrd is another initramfs.
execute() {
    local command=$1
    shift
    skiff_apart 300 -m 256 -kernel build/linux/vmlinuz -append "console=ttyS0 quiet ${append-}" \
        -initrd "${initrd-build/linux/initramfs.cpio.gz}" "$@" -exec "$command"
}

expect_own_status() {
    expect_status "$1"
    grep -q "^skiff: -exec: $2.*status $1 is skiff's own\$" "$err" || fail "no line says: $2"
}

test_streams_are_separate_and_the_status_is_the_commands() {
    execute 'sh -c "echo out; echo err >&2; exit 7"'
    expect_status 7
    expect_equal "standard output" "$(<"$out")" out
    expect_equal "standard error" "$(<"$err")" err
}

test_megabytes_go_in_and_out() {
    head -c 3000000 /dev/urandom >"$work/input"
    execute 'cat; kill -TERM $$' <"$work/input"
    expect_status 143
    cmp "$work/input" "$out"
}

test_a_panic_is_4_and_its_text_is_on_standard_error() {
    execute 'echo before; echo c >/proc/sysrq-trigger; sleep 60'
    expect_own_status 4 'the guest panicked before the command ended'
    expect_equal "standard output" "$(<"$out")" before
    expect_output 'Kernel panic - not syncing: sysrq triggered crash'
}

test_a_hang_is_12() {
    execute 'echo before; sleep 1000' -timeout 60
    expect_own_status 12 '-timeout expired before the command ended'
    expect_equal "standard output" "$(<"$out")" before
}

test_an_early_power_off_or_reboot_is_16() {
    execute 'echo before; poweroff -f; sleep 60'
    expect_own_status 16 'the guest powered off before the command ended'
    expect_equal "standard output" "$(<"$out")" before
    execute 'reboot -f; sleep 60'
    expect_own_status 16 'the guest reset before the command ended'
}

test_an_agent_that_is_killed_is_16() {
    execute 'kill -9 $PPID; sleep 60'
    expect_own_status 16 'the agent closed its port before the command ended'
}

test_a_missing_agent_is_reported() {
    append="skiff.run=halt" execute true -timeout 15
    expect_own_status 12 '-timeout expired before the command ended; no agent opened org.skiff.exec.0'
}

test_the_agent_finds_its_port_among_others() {
    execute 'until [ "$(ls /dev/virtio-ports | wc -l)" -eq 2 ] && [ "$(ls /sys/class/virtio-ports | wc -l)" -eq 3 ]; do
            usleep 50000
        done; ls /dev/virtio-ports' -device virtio-serial-pci \
        -device virtserialport,name=another -device virtconsole
    expect_status 0
    expect_output '^another$'
    expect_output '^org.skiff.exec.0$'
}

# Only the drivers are loaded for it: this kernel has them as modules.
test_the_agent_may_be_init() {
    mkdir "$work/root"
    cat >"$work/root/first" <<'SCRIPT'
#!/bin/busybox sh
modprobe -a virtio_pci virtio_console
exec /bin/skiff-agent
SCRIPT
    chmod +x "$work/root/first"
    (cd "$work/root" && echo first | cpio --quiet --create --format=newc) >"$work/first.cpio"
    append="rdinit=/first" initrd="build/linux/initramfs.cpio.gz,$work/first.cpio" \
        execute 'echo "$$ $PPID"; test -e /proc/self || exit 4; exit 3'
    expect_status 3
    expect_output '^[0-9]+ 1$'
}

run_tests

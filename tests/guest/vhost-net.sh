#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: lab
# timeout: 600
# A NIC whose rings the host's kernel serves (vhost-net), on a tap device in a network namespace, with guests that start in
# no time: the machine is reset and stopped under load, and saved while storage hangs. linux-vhost-net.sh has Debian's driver.
[ -n "${NET_NAMESPACE-}" ] || NET_NAMESPACE=yes exec unshare -n "$0" "$@"
. "$(dirname "$0")/common.bash"
. "$(dirname "$0")/net-echo.bash"

vhost_nic=(-netdev tap,id=net0,ifname=tap0,script=no,vhostforce=on -device virtio-net-pci,netdev=net0,id=nic0)

# vhost_tasks: how many serve rings: kernel threads, or since Linux 6.4 threads of skiff.
vhost_tasks() {
    cat /proc/[0-9]*/comm /proc/"$skiff_pid"/task/*/comm 2>/dev/null | grep -c '^vhost-'
}

# Requests come without a pause, at any moment of a reset and of the guest's start.
test_resets_of_the_machine_under_load() {
    start_echo "${vhost_nic[@]}" -sandbox on
    [ "$(vhost_tasks)" -ge 1 ] || fail "no thread of vhost"
    drive_vm "$(rounds lab=100 check=100 long=1000)" <<'PYTHON'
import random, threading
resets, flooding = int(sys.argv[3]), True
answers = 0

def flood():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        while flooding:
            try:
                other.sendto(900 * b"f", ("10.0.2.15", 7))
            except OSError:
                pass
            time.sleep(0.0005)

load = threading.Thread(target=flood)
load.start()
try:
    for n in range(resets):
        time.sleep(random.random() / 20)
        vm.events.clear()
        vm.cmd("system_reset")
        vm.wait_event("RESET")
        if n % 3:  # else another one comes while the guest starts
            echo(b"after %d" % n)
            answers += 1
finally:
    flooding = False
    load.join()
printed("net-echo: ready", answers)
echo(b"end")  # the guest has started: a reset would take the press of the power button with it
PYTHON
    refute_output 'needs a reset|warning|error'
}

test_stops_under_load() {
    start_echo "${vhost_nic[@]}" -sandbox on
    drive_stops "$(rounds lab=100 check=100 long=1000)"
    refute_output 'needs a reset|warning|error'
}

test_saves_while_storage_hangs() {
    make_tap
    python3 tests/guest/snapshot-hang.py --vhost >"$output" 2>&1 || fail "$(cat "$output")"
    expect_output '^ok 2 '
}

run_tests

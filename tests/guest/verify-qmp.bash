# SPDX-License-Identifier: Apache-2.0
# Sourced by scripts of tests/guest after common.bash: blk-verify as the guest, and a Python program
# that controls its VM by QMP.
command -v python3 >/dev/null || { echo "1..0"; echo "python3 is not installed"; exit 77; }

# start_vm WORDS ARGUMENT…: blk-verify on the device vd0, with QMP at $work/qmp.
start_vm() {
    local words=$1
    shift
    set_own_guest blk-verify "seed=$RANDOM qd=$(rounds lab=4 check=16 long=16) limit_ms=100000 mode=irq $words" -smp 2 "$@"
    start_skiff "${own_guest[@]}" -serial "file:$console" -qmp "unix:$work/qmp,server=on,wait=off"
}

# client ARGUMENT…: runs the Python program on standard input with `vm`, a QMP client. Its failure
# is the test's.
client() {
    {
        cat <<'PYTHON'
import os, re, sys, time
sys.path.insert(0, "tests/support")
from qmp import Qmp, QmpError
from rounds import rounds
work, console = sys.argv[1:3]

def wait_until(condition):
    deadline = time.monotonic() + vm.timeout
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.01)

def guest_works():
    return b"blk-verify: sectors" in open(console, "rb").read()

def stats(device="vd0"):
    return next(s["stats"] for s in vm.cmd("query-blockstats")
                if s["qdev"] in (device, "/machine/peripheral/%s" % device,
                                 "/machine/peripheral/%s/virtio-backend" % device))

def stop_vm():
    """The command is answered when the stop takes long, too."""
    vm.cmd("stop")
    wait_until(lambda: "stopping" not in vm.cmd("query-status"))

def disk():
    return vm.cmd("query-block")[0]

def refuse(text, command, error_class="GenericError", **arguments):
    e = vm.refusal(command, **arguments)
    assert text in e.desc and e.error_class == error_class, e

vm = Qmp(work + "/qmp")
PYTHON
        cat
    } >"$work/client.py"
    python3 "$work/client.py" "$work" "$console" "$@"
}

# expect_verified: the guest ends, and has found no error.
expect_verified() {
    wait_skiff 100
    expect_status 1
    grep -q '^blk-verify: PASS ops=[1-9]' "$console" || fail "the guest did not pass: $(cat "$console")"
}

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 1800
# x-rewind: a guest that writes memory at full speed goes back to one point again and again. All of memory and all
# registers are compared with those of the point; the guest finds a page that is wrong, too.
. "$(dirname "$0")/common.bash"

command -v python3 >/dev/null || { echo "1..0"; echo "python3 is not installed"; exit 77; }

skiff_img=$(dirname "$SKIFF")/skiff-img

# client ARGUMENT…: runs the Python program on standard input with `vm`, a QMP client, and helpers.
client() {
    {
        cat <<'PYTHON'
import os, hashlib, random, re, sys, time
sys.path.insert(0, "tests/support")
from qmp import Qmp, QmpError
from rounds import rounds
work, console = sys.argv[1:3]
seed = int(os.environ.get("SKIFF_TEST_SEED", random.randrange(1 << 30)))
print("SKIFF_TEST_SEED=%d" % seed)
chance = random.Random(seed)

def printed(words):
    return words in open(console, "rb").read()

def wait_until(condition):
    deadline = time.monotonic() + vm.timeout
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.01)

def last_tick():
    return int((re.findall(rb"^tick (\d+)\r$", open(console, "rb").read(), re.M) or [0])[-1])

def running():
    return vm.cmd("query-status")["running"]

def machine(mib):
    """All of a stopped machine that can be seen."""
    path = work + "/memory"
    vm.cmd("pmemsave", val=0, size=mib << 20, filename=path)
    memory = open(path, "rb").read()
    registers = "".join(vm.cmd("human-monitor-command", command_line="info registers", cpu_index=cpu["cpu-index"])
                        for cpu in vm.cmd("query-cpus-fast"))
    return [hashlib.sha256(memory[at:at + (1 << 20)]).hexdigest() for at in range(0, len(memory), 1 << 20)], registers

def expect_error(words, command, **args):
    try:
        vm.cmd(command, **args)
    except QmpError as e:
        assert words in e.desc, e.desc
    else:
        assert False, command + " was not refused"

vm = Qmp(work + "/qmp")
PYTHON
        cat
    } >"$work/client.py"
    python3 "$work/client.py" "$work" "$console" "$@"
}

# The point is of a stopped machine, so what is compared is all of it.
goes_back() {
    client "$@" <<'PYTHON'
mib, memory, most = int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
wait_until(lambda: last_tick() > 20)
vm.cmd("stop")
vm.cmd("x-rewind-point")
point = machine(mib)
pages = 0
for round in range(rounds(most // 20, most // 5, most)):
    vm.cmd("cont")
    time.sleep(chance.choice((0, 0.001, 0.005, 0.02)))
    what = chance.randrange(6)
    if what == 0:
        vm.cmd("stop")
    elif what == 1:
        vm.cmd("stop")
        vm.cmd("cont")
    elif what == 2:
        vm.cmd("system_reset")
        time.sleep(chance.choice((0, 0.01, 0.3)))
    result = vm.cmd("x-rewind")
    pages += result["pages"]
    assert not running(), "it was stopped at the point"
    now = machine(mib)
    assert now == point, "round %d, %d" % (round, what)
assert pages > 0
info = vm.cmd("query-x-rewind")
assert info["status"] == "held" and info["memory"] == memory and info["rewinds"] == round + 1, info
vm.cmd("cont")
tick = last_tick()
wait_until(lambda: last_tick() > tick + 20)
vm.cmd("x-rewind-end")
assert vm.cmd("query-x-rewind") == {"status": "none"}
tick = last_tick()
wait_until(lambda: last_tick() > tick + 20)
vm.cmd("quit")
PYTHON
    wait_skiff
    expect_status 0
}

test_memory_and_registers_are_those_of_the_point() {
    start_qmp_guest count 'ms=5 dirty=8M' -m 64 -smp 2 -device virtio-rng-pci
    goes_back 64 copy-on-write 500
}

test_memory_that_is_shared_goes_back() {
    start_qmp_guest count 'ms=5 dirty=8M' -m 64 -smp 2 -object memory-backend-memfd,id=ram,size=64M,share=on -machine memory-backend=ram
    goes_back 64 copy 200
}

test_a_sandboxed_machine_goes_back() {
    start_qmp_guest count 'ms=5 dirty=8M' -m 64 -smp 2 -sandbox on
    goes_back 64 copy 200
}

# The counter goes on from the point each time, whatever the machine did since.
test_a_guest_that_runs_at_the_point_runs_on_from_there() {
    start_qmp_guest count 'ms=1 dirty=4M' -m 64 -smp 2
    client <<'PYTHON'
wait_until(lambda: last_tick() > 50)
before = last_tick()
vm.cmd("x-rewind-point")
after = last_tick() + 5  # of the point, which the console may not show yet
for round in range(rounds(20, 100, 1000)):
    wait_until(lambda: last_tick() > after)
    at = os.path.getsize(console)
    if chance.randrange(3) == 0:
        vm.cmd("stop")
    vm.cmd("x-rewind")
    assert running()
    pairs = []  # the rewind cuts a line of the old time and goes on within another
    while not pairs:
        ticks = [int(t) for t in re.findall(rb"\ntick (\d+)(?=\r\n)", open(console, "rb").read()[at:])]
        pairs = [b for a, b in zip(ticks, ticks[1:]) if b == a + 1]
    assert before <= pairs[-1] <= after + 200, ticks
vm.cmd("quit")
PYTHON
    wait_skiff
    expect_status 0
    ! printed 'count: page' || fail 'the guest has found a page that is wrong'
}

test_what_cannot_go_back_is_refused_by_name() {
    start_qmp_guest count 'ms=5' -m 64
    client <<'PYTHON'
wait_until(lambda: last_tick() > 5)
expect_error("there is no rewind point", "x-rewind")
expect_error("there is no rewind point", "x-rewind-end")
vm.cmd("x-rewind-point")
expect_error("x-rewind-end gives it up", "savevm-start", statefile=work + "/state")
vm.cmd("device_add", driver="virtio-rng-pci", id="rng7")
expect_error("a device was plugged in or removed since the rewind point", "x-rewind")
assert running()
vm.cmd("x-rewind-point")
vm.cmd("x-rewind")
vm.cmd("x-rewind-end")
vm.cmd("quit")
PYTHON
    wait_skiff
    expect_status 0
}

# The guest checks all that it reads from its disk against what it has written, as its memory has it. While a point is
# held nothing reaches the disk's own file; the end of the point, and another one, bring it all.
disks_go_back() {
    client "$@" <<'PYTHON'
disk = sys.argv[3]

def content():
    return hashlib.sha256(open(disk, "rb").read()).hexdigest() if disk else ""

wait_until(lambda: printed(b"blk-verify"))
time.sleep(0.2)
for points in range(rounds(2, 4, 20)):
    vm.cmd("x-rewind-point")
    before = content()
    for round in range(rounds(10, 40, 200)):
        time.sleep(chance.choice((0, 0.002, 0.02, 0.1)))
        what = chance.randrange(4)
        if what == 0:
            vm.cmd("stop")
        elif what == 1:
            vm.cmd("stop")
            vm.cmd("cont")
        vm.cmd("x-rewind")
        assert running()
    assert content() == before, "the file was written while the point was held"
    time.sleep(0.05)
    if chance.randrange(2) == 0:
        vm.cmd("x-rewind-end")
vm.cmd("x-rewind-point")
time.sleep(0.1)
vm.cmd("x-rewind")
vm.cmd("x-rewind-end")
time.sleep(0.1)
vm.cmd("system_powerdown")
PYTHON
    wait_skiff
    expect_status 1 # of debug-exit: the guest's 0
    expect_output '^blk-verify: PASS ops=[1-9]'
}

verify='until=button mode=irq qd=8 span=48M'

test_a_disk_goes_back_with_its_guest() {
    make_disk 64M
    start_qmp_guest blk-verify "$verify" -m 128 -smp 2 -drive "if=none,id=d,file=$disk,format=raw" -device virtio-blk-pci,drive=d,num-queues=2
    disks_go_back "$disk"
}

test_a_qcow2_disk_in_an_iothread_goes_back() {
    make_overlay 64M
    start_qmp_guest blk-verify "$verify" -m 128 -object iothread,id=io -drive "if=none,id=d,file=$disk,format=qcow2,discard=unmap" \
        -device virtio-blk-pci,drive=d,iothread=io
    disks_go_back ''
    check_overlay
}

# At any moment of points, rewinds and ends: the image is right, or has lost space at most.
test_a_kill_leaves_the_image_right() {
    local round
    for ((round = 0; round < $(rounds lab=2 check=6 long=100); round++)); do
        make_overlay 64M
        start_qmp_guest blk-verify "$verify" -m 128 -drive "if=none,id=d,file=$disk,format=qcow2,discard=unmap" -device virtio-blk-pci,drive=d
        client "$skiff_pid" <<'PYTHON' || true # its connection ends
import signal, threading
wait_until(lambda: printed(b"blk-verify"))
threading.Timer(chance.random(), os.kill, (int(sys.argv[3]), signal.SIGKILL)).start()
try:
    while True:
        vm.cmd("x-rewind-point")
        for command in chance.choice((["x-rewind"] * 5 + ["x-rewind-end"], ["x-rewind-end"], ["x-rewind"])):
            vm.cmd(command)
except (EOFError, OSError):
    pass
PYTHON
        wait_skiff
        "$skiff_img" check -q -f qcow2 "$disk" >"$work/check" 2>&1 || [ $? -eq 3 ] || fail "check: $(cat "$work/check")"
    done
}

test_jobs_and_snapshots_of_a_disk_are_refused_while_a_point_is_held() {
    make_disk 64M
    start_qmp_guest blk-verify "$verify" -m 128 -drive "if=none,id=d,file=$disk,format=raw" -device virtio-blk-pci,drive=d
    client "$disk" <<'PYTHON'
disk = sys.argv[3]
vm.cmd("x-rewind-point")
for command, args in (("drive-mirror", {"device": "d", "target": disk + ".m", "sync": "full", "job-id": "j"}),
                      ("drive-backup", {"device": "d", "target": disk + ".b", "sync": "full", "job-id": "j"}),
                      ("blockdev-snapshot-sync", {"device": "d", "snapshot-file": disk + ".s"}),
                      ("block_resize", {"device": "d", "size": 128 << 20})):
    expect_error("rewind point", command, **args)
    vm.cmd("x-rewind")
assert not vm.cmd("query-jobs")
vm.cmd("x-rewind-end")
vm.cmd("drive-mirror", device="d", target=disk + ".m", sync="full", job_id="j", speed=1)
expect_error("job 'j' is not over", "x-rewind-point")
vm.cmd("quit")
PYTHON
    rm -f "$disk".[mbs]
    wait_skiff
    expect_status 0
}

# goes_back_with_flash FORMAT OPTIONS: a guest that compares disk, flash and memory, by itself, goes back again and again.
goes_back_with_flash() {
    local rom=$work/mix.rom vars=$work/vars format=$1
    shift
    rm -f "$vars"
    cp build/guests/mix.rom "$rom"
    printf 'ms=20 dirty=4M span=4M nonet' | dd of="$rom" conv=notrunc status=none
    "$skiff_img" create -q -f qcow2 "$disk" 32M
    "$skiff_img" create -q -f "$format" "$vars" 64K
    start_skiff -display none "${debug_exit[@]}" -m 64 -smp 3 -drive "if=pflash,format=raw,readonly=on,file=$rom" \
        -drive "if=none,id=vars,format=$format,file=$vars,node-name=vars0" -machine q35,pflash1=vars0 \
        -drive "if=none,id=disk,format=qcow2,file=$disk" -device virtio-blk-pci,drive=disk \
        -serial "file:$console" -qmp "unix:$work/qmp,server=on,wait=off" "$@"
    client "$(stat -c %s "$rom")" <<'PYTHON'
rom = int(sys.argv[3])

def counts():
    lines = re.findall(rb"^mix \d+ disk=(\d+) flash=(\d+) net=\d+ ram=(\d+) lost=\d+\r$", open(console, "rb").read(), re.M)
    return [int(n) for n in lines[-1]] if lines else [0, 0, 0]

def goes_on():
    global before
    before = counts()
    def grew():
        global before
        now = counts()
        if any(n < b for n, b in zip(now, before)):
            before = now  # it has gone back
        return all(n > b for n, b in zip(now, before))
    wait_until(grew)

def run_on():
    goes_on()
    vm.cmd("stop")

def flash():
    vm.cmd("pmemsave", val=(4 << 30) - rom - (64 << 10), size=64 << 10, filename=work + "/flash")
    return open(work + "/flash", "rb").read()

wait_until(lambda: counts()[1] > 20)
for point in range(2):
    vm.cmd("stop")
    vm.cmd("x-rewind-point")
    then = flash()
    vm.cmd("cont")
    for round in range(rounds(5, 20, 200)):
        run_on()
        for _ in range(100):  # a program can leave a byte as it is, and is the same after each rewind
            if flash() != then:
                break
            vm.cmd("cont")
            run_on()
        else:
            assert False, "the flash does not change"
        vm.cmd("x-rewind")
        assert flash() == then, "round %d" % round
        vm.cmd("cont")
    goes_on()
    vm.cmd("x-rewind-end")
    goes_on()
vm.cmd("stop")
flash()
vm.cmd("quit")
PYTHON
    wait_skiff
    expect_status 0
    "$skiff_img" convert -O raw -f "$format" "$vars" "$work/vars.raw"
    cmp "$work/flash" "$work/vars.raw" || fail 'the image of the flash is not what the guest has seen'
    rm -f "$rom" "$vars" "$work/vars.raw" "$work/flash"
}

test_writable_flash_goes_back() {
    make_disk 1M
    goes_back_with_flash raw
    goes_back_with_flash qcow2 -object memory-backend-memfd,id=ram,size=64M,share=on -machine memory-backend=ram
}

test_exec_is_refused() {
    start_qmp_guest count 'ms=5' -m 64 -exec true
    client <<'PYTHON'
expect_error("-exec", "x-rewind-point")
vm.cmd("quit")
PYTHON
    wait_skiff
    expect_status 16
}

test_the_monitor_has_the_same_commands() {
    start_qmp_guest count 'ms=5 dirty=1M' -m 64
    client <<'PYTHON'
def monitor(line):
    return vm.cmd("human-monitor-command", command_line=line)

wait_until(lambda: last_tick() > 5)
assert monitor("info rewind") == "rewind point: none\r\n", monitor("info rewind")
assert "there is no rewind point" in monitor("x-rewind")
assert monitor("x-rewind-point") == ""
time.sleep(0.05)
assert monitor("x-rewind") == ""
said = monitor("info rewind")
assert re.search(r"rewind point: held\r\nmemory: copy-on-write\r\nrewinds: 1\r\nthe last one: [1-9]\d* pages, [1-9]", said), said
assert monitor("x-rewind-end") == ""
vm.cmd("quit")
PYTHON
    wait_skiff
    expect_status 0
}

test_what_a_point_has_kept_from_a_disk_is_told_at_the_end() {
    make_disk 64M
    start_qmp_guest blk-verify "$verify" -m 128 -drive "if=none,id=d,file=$disk,format=raw" -device virtio-blk-pci,drive=d
    client <<'PYTHON'
vm.cmd("x-rewind-point")
time.sleep(0.1)
vm.cmd("quit")
PYTHON
    wait_skiff
    expect_status 0
    expect_output 'warning: what was written to disks since the rewind point is dropped'
}

run_tests

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 1800
# Internal snapshots of a qcow2 disk, created and deleted while blk-verify uses the disk and the VM is
# stopped, drained and reset; I/O errors that stop the VM; skiff is killed in the middle. The guest
# reads what it wrote, each snapshot keeps its disk, and qemu-img finds neither errors nor leaks.
. "$(dirname "$0")/common.bash"
. "$(dirname "$0")/verify-qmp.bash"

# check_image: no errors, and leaks only if skiff had to exit before it had freed all clusters.
check_image() {
    local status=0
    qemu-img check -q -f qcow2 "$disk" >"$work/check" 2>&1 || status=$?
    [ $status -eq 0 ] || { [ $status -eq 3 ] && printed 'did not drain'; } || fail "check: $(tail -n 5 "$work/check")"
}

# snapshots DRIVE-OPTIONS [QCOW2-OPTIONS]: operations on snapshots beside the guest.
snapshots() {
    make_overlay "$(rounds lab=8M check=64M long=64M)" "${2:-cluster_size=64k}"
    [ -n "$direct" ] || [[ $1 != *cache=none* ]] || skip "no file system here has O_DIRECT"
    start_vm until=button -object iothread,id=io -qmp "unix:$work/qmp2,server=on,wait=off" \
        -drive "if=none,id=disk,format=qcow2,discard=unmap,file=$disk$1" \
        -device virtio-blk-pci,id=vd0,drive=disk,iothread=io,num-queues=2
    client "$disk" "$RANDOM" <<'PYTHON'
import hashlib, random, subprocess
image, seed = sys.argv[3:5]
rng = random.Random(int(seed))
other = Qmp(work + "/qmp2")
snapshots = {} # name: digest

def digest(path, name=None):
    """Of the disk that qemu-img reads from an image, or of its snapshot."""
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", *(["-l", "snapshot.name=" + name] if name else []),
                    path, work + "/disk.raw"], check=True)
    with open(work + "/disk.raw", "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()

def copy():
    """Of the image; the VM is stopped."""
    subprocess.run(["cp", "--sparse=always", image, work + "/copy.qcow2"], check=True)
    return work + "/copy.qcow2"

def disturb():
    kind = rng.choice(["stop", "drain", "reset", "nothing"])
    if kind == "stop":
        other.cmd("stop")
        other.cmd("cont")
    elif kind == "drain":
        bitmap = {"node": "disk", "name": "nothing"}
        other.cmd("transaction", actions=[{"type": "block-dirty-bitmap-add", "data": bitmap},
                                          {"type": "block-dirty-bitmap-remove", "data": bitmap}])
    elif kind == "reset":
        other.cmd("system_reset")

def operate(command, name):
    running = vm.start(command, {"device": "disk", "name": name})
    for n in range(rng.randrange(4)):
        disturb()
    vm.finish(running)

def create(name):
    stopped = rng.random() < 0.3
    if stopped:
        stop_vm()
        before = digest(copy())
        vm.cmd("blockdev-snapshot-internal-sync", device="disk", name=name)
    else:
        operate("blockdev-snapshot-internal-sync", name)
        stop_vm()
    snapshots[name] = digest(copy(), name)
    assert not stopped or snapshots[name] == before
    vm.cmd("cont")

wait_until(guest_works)
print("seed", seed)
for n in range(rounds(lab=2, check=6, long=100)):
    if len(snapshots) < 3 and rng.random() < 0.6:
        create("snap%d" % n)
    elif snapshots:
        name = rng.choice(list(snapshots))
        operate("blockdev-snapshot-delete-internal-sync", name)
        del snapshots[name]
    last = stats()["wr_operations"]
    wait_until(lambda: stats()["wr_operations"] > last)
try:
    while True: # a reset under way drops the event
        vm.cmd("system_powerdown")
        time.sleep(0.05)
except (EOFError, OSError):
    pass
with open(work + "/snapshots", "w") as f:
    for name, expected in snapshots.items():
        print(name, expected, file=f)
PYTHON
    expect_verified
    check_image
    local name expected
    while read -r name expected; do
        qemu-img convert -f qcow2 -l "snapshot.name=$name" -O raw "$disk" "$work/disk.raw"
        expect_equal "the content of $name" "$(sha256sum <"$work/disk.raw")" "$expected  -"
    done <"$work/snapshots"
}

test_snapshots_with_threads() { snapshots ,aio=threads,cache=writeback; }
test_snapshots_with_io_uring() { snapshots ,aio=io_uring,cache=none; }
test_snapshots_with_native_and_subclusters() { snapshots ,aio=native,cache=none cluster_size=64k,extended_l2=on; }
test_snapshots_with_small_clusters() { snapshots ,aio=io_uring,cache=writeback cluster_size=4k; }

# Errors of the image's file stop the VM, and each cont tries again. A snapshot fails or succeeds as a whole.
test_errors_below_the_image_stop_the_vm_and_lose_nothing() {
    make_overlay 64M
    truncate -s 100M "$disk" # a fault node cannot grow
    start_vm ops=2000 -S -blockdev "driver=file,node-name=file,discard=unmap,filename=$disk" \
        -blockdev "driver=fault,node-name=fault,fail-op=write,fail-after=30,fail-count=60,errno=28,discard=unmap,file=file" \
        -blockdev driver=qcow2,node-name=disk,discard=unmap,file=fault \
        -device virtio-blk-pci,id=vd0,drive=disk,num-queues=2,werror=stop,rerror=stop
    client <<'PYTHON'
vm.cmd("cont")
stops = failed = 0
try:
    while True:
        event = vm.wait_event("STOP", "SHUTDOWN")
        if event["event"] == "SHUTDOWN":
            break
        assert vm.cmd("query-status")["status"] == "io-error"
        assert disk()["io-status"] == "nospace"
        try:
            vm.cmd("blockdev-snapshot-internal-sync", device="disk", name="snap%d" % stops)
        except QmpError as e:
            assert "No space left on device" in e.desc, e
            failed += 1
        stops += 1
        vm.cmd("cont")
except EOFError:
    pass
assert stops > 0 and failed > 0, (stops, failed)
PYTHON
    expect_verified
    qemu-img check -q -f qcow2 "$disk" || [ $? -eq 3 ] || fail "qemu-img check has found errors"
}

# A file system without space, which gets some later.
test_a_full_file_system_stops_the_vm_until_it_has_space() {
    local mount=$work/small
    mkdir "$mount"
    mount -t tmpfs -o size=24M none "$mount" 2>/dev/null || skip "mount needs a privilege that is missing"
    at_end "umount '$mount'"
    disk=$mount/disk.qcow2
    qemu-img create -q -f qcow2 "$disk" 64M
    fallocate -l 16M "$mount/other"
    start_vm ops=2000 -S -object iothread,id=io -drive "if=none,id=disk,format=qcow2,discard=unmap,werror=stop,file=$disk" \
        -device virtio-blk-pci,id=vd0,drive=disk,iothread=io,num-queues=2
    client "$mount" <<'PYTHON'
import subprocess
vm.cmd("cont")
data = vm.wait_event("BLOCK_IO_ERROR")["data"]
assert data["nospace"] and data["action"] == "stop", data
vm.wait_event("STOP")
assert vm.cmd("query-status")["status"] == "io-error"
vm.cmd("cont") # there is still no space
vm.wait_event("STOP")
os.unlink(sys.argv[3] + "/other")
subprocess.run(["mount", "-o", "remount,size=200M", sys.argv[3]], check=True)
vm.cmd("cont")
PYTHON
    expect_verified
    check_image
}

# The next start repairs what a kill in the middle of an operation has left.
test_a_vm_killed_beside_a_snapshot_leaves_its_disk_usable() {
    local i times status
    times=$(rounds lab=2 check=6 long=50)
    make_overlay "$(rounds lab=8M check=64M long=64M)" cluster_size=4k
    for ((i = 0; i < times; i++)); do
        start_vm until=button -drive "if=none,id=disk,format=qcow2,discard=unmap,file=$disk" \
            -device virtio-blk-pci,id=vd0,drive=disk,num-queues=2
        client "$i" "$skiff_pid" <<'PYTHON'
import random, signal
wait_until(guest_works)
for n in range(random.randrange(1, 4)):
    vm.start("blockdev-snapshot-internal-sync", {"device": "disk", "name": "%s.%d" % (sys.argv[3], n)})
    vm.start("blockdev-snapshot-delete-internal-sync", {"device": "disk", "name": "%d.0" % (int(sys.argv[3]) - 1)})
time.sleep(random.random() / 20)
os.kill(int(sys.argv[4]), signal.SIGKILL)
PYTHON
        wait_skiff
        expect_status 137
        # Errors are repaired when the image is opened for writing: it has the dirty bit then.
        status=0
        qemu-img check -q -f qcow2 "$disk" >"$work/check" 2>&1 || status=$?
        [[ $status = [03] ]] || ! grep ^ERROR "$work/check" | grep -v OFLAG_COPIED || fail "$(cat "$work/check")"
        own_guest blk-verify ops=100 -drive "if=virtio,format=qcow2,file=$disk"
        expect_status 1
        expect_output '^blk-verify: PASS ops=[1-9]'
        qemu-img check -q -f qcow2 "$disk" || [ $? -eq 3 ] || fail "errors are left"
    done
}

run_tests

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 600
# The NBD server of a VM whose guest works meanwhile: disks are copied, with and without TLS; exports that
# hang; the end of the VM with clients connected. blk-verify checks all data it reads.
. "$(dirname "$0")/common.bash"
. "$(dirname "$0")/verify-qmp.bash"
for tool in nbdcopy nbdinfo psktool; do
    command -v $tool >/dev/null || { echo "1..0"; echo "$tool is not installed"; exit 77; }
done

size=$(rounds lab=8M check=64M long=64M)

# nbd_client ARGUMENT…: as client, with functions for NBD.
nbd_client() {
    {
        cat <<'PYTHON'
import socket, struct, subprocess

def start(name="nbd", **arguments):
    vm.cmd("nbd-server-start", addr={"type": "unix", "data": {"path": "%s/%s" % (work, name)}}, **arguments)

def uri(export, scheme="nbd+unix://", user="", more="", name="nbd"):
    return "%s%s/%s?socket=%s/%s%s" % (scheme, user, export, work, name, more)

def run(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=vm.timeout)

def connect(export, name="nbd"):
    """A client that has chosen an export."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(vm.timeout)
    s.connect("%s/%s" % (work, name))
    data = export.encode()
    s.sendall(struct.pack(">IQII", 3, 0x49484156454F5054, 1, len(data)) + data)
    got = b""
    while len(got) < 28:
        part = s.recv(28 - len(got))
        assert part, "the server has closed the connection"
        got += part
    return s

def request(s, kind, offset, length):
    s.sendall(struct.pack(">IHHQQI", 0x25609513, 0, kind, 1, offset, length))

PYTHON
        cat
    } | client "$@"
}

test_disks_are_copied_while_the_guest_works() {
    make_disk "$size"
    head -c $((8 << 20)) /dev/urandom >"$work/other.raw"
    cp "$work/other.raw" "$work/target.raw"
    start_vm until=button -object iothread,id=io -blockdev "driver=file,node-name=disk,filename=$disk" \
        -device virtio-blk-pci,id=vd0,drive=disk,iothread=io \
        -blockdev "driver=raw,node-name=other,file.driver=file,file.filename=$work/target.raw"
    nbd_client <<'PYTHON'
wait_until(guest_works)
start()
vm.cmd("block-export-add", type="nbd", id="e0", node_name="disk")
vm.cmd("block-export-add", type="nbd", id="e1", node_name="other", name="other", writable=True)
refuse("is written to by", "block-export-add", type="nbd", id="e2", node_name="disk", name="x", writable=True)
for n in range(rounds(lab=1, check=2, long=40)):
    before = stats()["wr_operations"]
    r = run("nbdcopy", uri("disk"), work + "/copy.raw")
    assert r.returncode == 0, r
    wait_until(lambda: stats()["wr_operations"] > before)
    if n % 2 == 0:
        vm.cmd("stop")
        vm.cmd("cont")
with open(work + "/new.raw", "wb") as f:
    f.write(os.urandom(8 << 20))
r = run("nbdcopy", "--flush", work + "/new.raw", uri("other"))
assert r.returncode == 0, r
assert open(work + "/new.raw", "rb").read() == open(work + "/target.raw", "rb").read()
stop_vm() # nothing changes the disk now
r = run("nbdcopy", uri("disk"), work + "/copy.raw")
assert r.returncode == 0, r
vm.cmd("cont")
vm.cmd("nbd-server-stop")
assert vm.cmd("query-block-exports") == []
vm.cmd("system_powerdown")
vm.wait_closed()
PYTHON
    expect_verified
}

test_clients_have_to_use_tls() {
    make_disk "$size"
    mkdir "$work/keys"
    psktool -u alice -p "$work/keys/keys.psk" >/dev/null 2>&1
    start_vm until=button -blockdev "driver=file,node-name=disk,filename=$disk" \
        -device virtio-blk-pci,id=vd0,drive=disk
    nbd_client <<'PYTHON'
wait_until(guest_works)
vm.cmd("object-add", qom_type="tls-creds-psk", id="t0", endpoint="server", dir=work + "/keys")
start(tls_creds="t0")
vm.cmd("block-export-add", type="nbd", id="e0", node_name="disk")
r = run("nbdinfo", "--size", uri("disk"))
assert r.returncode != 0, r
r = run("nbdinfo", "--list", uri("disk"))
assert r.returncode != 0 and b'"disk"' not in r.stdout, r
key = "&tls-psk-file=%s/keys/keys.psk" % work
r = run("nbdcopy", uri("disk", "nbds+unix://", "alice@", key), work + "/copy.raw")
assert r.returncode == 0, r
assert os.path.getsize(work + "/copy.raw") == rounds(lab=8, check=64, long=64) << 20
vm.cmd("system_powerdown")
vm.wait_closed()
PYTHON
    expect_verified
}

test_an_export_follows_its_disk_through_a_snapshot() {
    make_disk "$size"
    start_vm until=button -object iothread,id=io -blockdev "driver=file,node-name=disk,filename=$disk" \
        -device virtio-blk-pci,id=vd0,drive=disk,iothread=io
    nbd_client <<'PYTHON'
wait_until(guest_works)
start()
vm.cmd("block-export-add", type="nbd", id="e0", node_name="disk", name="disk")
s = connect("disk")
for n in range(20):
    request(s, 0, 0, 1 << 20) # in progress during the change
vm.cmd("blockdev-snapshot-sync", node_name="disk", snapshot_file=work + "/overlay.qcow2", snapshot_node_name="top",
       format="qcow2")
assert vm.cmd("query-block-exports")[0]["node-name"] == "top"
before = stats()["wr_operations"]
wait_until(lambda: stats()["wr_operations"] > before + 100)
stop_vm()
r = run("nbdcopy", uri("disk"), work + "/copy.raw")
assert r.returncode == 0, r
r = run("qemu-img", "compare", "-U", "-F", "raw", work + "/overlay.qcow2", work + "/copy.raw")
assert r.returncode == 0, r
vm.cmd("cont")
vm.cmd("nbd-server-stop")
vm.cmd("system_powerdown")
vm.wait_closed()
PYTHON
    expect_verified
}

test_an_export_that_hangs_delays_only_its_clients() {
    make_disk "$size"
    start_vm until=button -blockdev "driver=file,node-name=disk,filename=$disk" \
        -device virtio-blk-pci,id=vd0,drive=disk \
        -blockdev "driver=fault,node-name=hung,fail-op=any,hold=on,errno=0,file.driver=null-co"
    nbd_client <<'PYTHON'
wait_until(guest_works)
start()
vm.cmd("block-export-add", type="nbd", id="hung", node_name="hung")
vm.cmd("block-export-add", type="nbd", id="e0", node_name="disk")
s = connect("hung")
for n in range(100):
    request(s, 0, 0, 65536)
for n in range(3):
    vm.cmd("stop")
    vm.wait_event("STOP")
    vm.cmd("cont")
    vm.wait_event("RESUME")
assert len(vm.cmd("query-block-exports")) == 2
r = run("nbdinfo", "--size", uri("disk"))
assert r.returncode == 0, r
refuse("export 'hung' still in use", "block-export-del", id="hung")
vm.cmd("block-export-del", id="hung", mode="hard")
assert s.recv(1) == b""
assert {"id": "hung", "type": "nbd", "node-name": "hung", "shutting-down": True} in vm.cmd("query-block-exports")
refuse("Node hung is in use", "blockdev-del", node_name="hung")
t = connect("disk")
vm.cmd("quit") # does not wait for ever
vm.wait_closed()
PYTHON
    wait_skiff
    expect_status 0
}

test_the_end_of_the_vm_disconnects_clients() {
    make_disk "$size"
    start_vm until=button -blockdev "driver=file,node-name=disk,filename=$disk" \
        -device virtio-blk-pci,id=vd0,drive=disk
    nbd_client <<'PYTHON'
wait_until(guest_works)
start()
vm.cmd("block-export-add", type="nbd", id="e0", node_name="disk")
served = [connect("disk") for n in range(10)]
for s in served: # they do not read the replies
    for n in range(50):
        request(s, 0, 0, 1 << 20)
idle = socket.socket(socket.AF_UNIX)
idle.connect(work + "/nbd")
vm.cmd("system_powerdown")
vm.wait_closed()
assert not os.path.exists(work + "/nbd")
PYTHON
    expect_verified
}

run_tests

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 900
# Disks on NBD servers, nbdkit and qemu-nbd: blk-verify checks every byte, while the server works, is
# killed and started again, or does not answer.
. "$(dirname "$0")/common.bash"

for program in nbdkit qemu-nbd python3; do
    command -v "$program" >/dev/null || { echo "1..0"; echo "$program is not installed"; exit 77; }
done

ops=$(rounds lab=30 check=600 long=4000)
size=$(rounds lab=8M check=64M long=64M)
depth=$(rounds lab=2 check=16 long=16) # without KVM, the guest and the disk share a slow processor

# serve ARGUMENT…: nbdkit on $work/nbd.
serve() {
    rm -f "$work/nbd" "$work/nbdkit.pid"
    nbdkit -f -U "$work/nbd" -P "$work/nbdkit.pid" "$@" >>"$work/nbdkit.log" 2>&1 &
    server=$!
    until [ -s "$work/nbdkit.pid" ]; do
        kill -0 "$server" 2>/dev/null || fail "nbdkit has ended: $(cat "$work/nbdkit.log")"
        sleep 0.02
    done
}

kill_server() {
    kill -KILL "$server"
    wait "$server" 2>/dev/null || true
}

nbd="driver=nbd,node-name=disk,server.type=unix,server.path=$work/nbd"

# verify OPTIONS WORDS ARGUMENT…: blk-verify on the server's export.
verify() {
    local options=$1 words=$2
    shift 2
    own_guest blk-verify "ops=$ops seed=$RANDOM $words" -blockdev "$nbd,discard=unmap$options" \
        -object iothread,id=io -device virtio-blk-pci,drive=disk,iothread=io "$@"
    expect_status 1
    expect_output '^blk-verify: PASS ops=[1-9]'
}

test_nbdkit_in_memory() {
    serve memory "$size"
    verify '' mode=irq
    verify ,multi-conn=4 mode=irq -sandbox on
}

test_servers_with_less() {
    serve --filter=nozero memory "$size" zeromode=none
    verify '' mode=poll
    kill_server
    serve --filter=blocksize-policy memory "$size" blocksize-minimum=4096 blocksize-maximum=64K \
        blocksize-error-policy=error
    verify '' mode=poll
}

test_replies_out_of_order() {
    serve --filter=delay memory "$size" rdelay=3ms wdelay=1ms
    verify ,multi-conn=2 mode=irq
}

test_qemu_nbd_with_a_qcow2_image() {
    qemu-img create -q -f qcow2 "$work/q.qcow2" "$size"
    rm -f "$work/nbd"
    qemu-nbd -f qcow2 --discard=unmap --persistent --shared=4 --socket="$work/nbd" "$work/q.qcow2" &
    server=$!
    until [ -S "$work/nbd" ]; do
        kill -0 "$server" || fail "qemu-nbd has ended"
        sleep 0.02
    done
    verify ,multi-conn=4 mode=irq -sandbox on
    kill "$server"
    wait "$server" || true
    qemu-img check -q "$work/q.qcow2" || fail "the server's image is not clean"
}

# The key is read again for each connection; the sandbox is on when the second one is made.
test_tls() {
    mkdir -m 700 -p "$work/psk"
    (umask 077; printf 'alice:%064x\n' 4711 >"$work/psk/keys.psk")
    make_disk "$size"
    serve --tls=require --tls-psk="$work/psk/keys.psk" file "$disk"
    start_own_guest blk-verify "until=button seed=$RANDOM qd=$depth mode=irq" \
        -object "tls-creds-psk,id=t,endpoint=client,dir=$work/psk,username=alice" \
        -blockdev "$nbd,discard=unmap,reconnect-delay=100,tls-creds=t" -object iothread,id=io \
        -device virtio-blk-pci,drive=disk,iothread=io -sandbox on -trace block_nbd_up
    wait_output block_nbd_up
    kill_server
    serve --tls=require --tls-psk="$work/psk/keys.psk" file "$disk"
    wait_output block_nbd_up 2
    monitor system_powerdown
    wait_skiff
    expect_status 1
    expect_output '^blk-verify: PASS ops=[1-9]'
    refute_output 'sandbox:'
}

# The drive's name is a URI, and the image on the export qcow2.
test_an_image_on_an_export() {
    qemu-img create -q -f qcow2 "$work/q.qcow2" "$size"
    serve file "$work/q.qcow2"
    truncate -s 80M "$work/q.qcow2"
    kill_server
    serve file "$work/q.qcow2"
    own_guest blk-verify "ops=$ops seed=$RANDOM mode=irq" \
        -drive "if=virtio,format=qcow2,file=nbd+unix:///?socket=$work/nbd"
    expect_status 1
    expect_output '^blk-verify: PASS ops=[1-9]'
    kill_server
    qemu-img check -q "$work/q.qcow2" || fail "the image is not clean"
}

# Each kill hits requests in flight; they are sent again. The data is in a file.
test_a_server_is_killed_and_started_again() {
    make_disk "$size"
    serve --filter=delay file "$disk" rdelay=1ms
    start_own_guest blk-verify "until=button seed=$RANDOM qd=$depth mode=irq" \
        -blockdev "$nbd,discard=unmap,reconnect-delay=100,multi-conn=2" -object iothread,id=io \
        -device virtio-blk-pci,drive=disk,iothread=io -sandbox on -trace block_nbd_up
    wait_output block_nbd_up 2
    local round ups=2
    for ((round = 0; round < $(rounds lab=2 check=3 long=30); round++)); do
        kill_server
        serve --filter=delay file "$disk" rdelay=1ms
        ups=$((ups + 2))
        wait_output block_nbd_up $ups
    done
    monitor system_powerdown
    wait_skiff
    expect_status 1
    expect_output '^blk-verify: PASS ops=[1-9]'
    expect_output 'connection to NBD server .* is lost; connecting again'
    refute_output 'sandbox:'
}

test_without_a_delay_the_guest_meets_an_error() {
    serve memory "$size"
    start_own_guest blk-verify "until=button seed=$RANDOM qd=$depth mode=irq" -blockdev "$nbd" \
        -device virtio-blk-pci,drive=disk,werror=stop,rerror=stop -trace block_nbd_up
    wait_output block_nbd_up
    kill_server
    wait_paused io-error
    monitor quit
    wait_skiff
    expect_status 0
}

# client: the Python program on standard input has `vm`, and signals `server`.
client() {
    { cat <<'PYTHON'
import os, signal, sys, time
sys.path.insert(0, "tests/support")
from qmp import Qmp
work, server = sys.argv[1], int(sys.argv[2])
vm = Qmp(work + "/qmp")

def status():
    return vm.cmd("query-status")

def wait_until(condition):
    deadline = time.monotonic() + vm.timeout
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.01)

def in_flight():
    stats = vm.cmd("query-blockstats")[0]["stats"]
    return [stats[kind + "_operations"] for kind in ("rd", "wr", "flush")]

def hang():
    """Stops the server, until a request is in flight that gets no reply."""
    os.kill(server, signal.SIGSTOP)
    last = None
    while last != in_flight():
        last = in_flight()
        time.sleep(0.2)
PYTHON
        cat; } >"$work/client.py"
    python3 "$work/client.py" "$work" "$server" || fail "see above"
}

# start_with_qmp OPTIONS: with blk-verify at work.
start_with_qmp() {
    set_own_guest blk-verify "until=button limit_ms=10000000 qd=$depth mode=irq"
    start_skiff "${own_guest[@]}" -serial "file:$console" -qmp "unix:$work/qmp,server=on,wait=off" \
        -qmp "unix:$work/other,server=on,wait=off" \
        -blockdev "$nbd$1" -object iothread,id=io -device virtio-blk-pci,id=vda,drive=disk,iothread=io \
        -trace block_nbd_up
    wait_output block_nbd_up
    wait_listening "$work/qmp"
}

test_stop_cont_and_quit_answer_while_the_server_hangs() {
    serve --filter=delay memory "$size" rdelay=5ms
    start_with_qmp ,reconnect-delay=1000
    client <<'PYTHON'
hang()
vm.cmd("stop")
assert status() == {"status": "paused", "running": False, "stopping": True}, status()
vm.cmd("cont")
vm.cmd("query-block")
vm.cmd("query-named-block-nodes")
vm.cmd("stop")
assert status()["stopping"], status()
os.kill(server, signal.SIGCONT)
vm.wait_event("STOP")
assert status() == {"status": "paused", "running": False}, status()
vm.cmd("cont")
vm.wait_event("RESUME")
hang()
vm.cmd("quit")
vm.wait_closed()
PYTHON
    wait_skiff
    expect_status 0
    expect_output 'storage did not drain'
    kill_server
}

# Requests wait for a connection; the stop ends when they have failed.
test_a_stop_ends_with_the_delay() {
    serve memory "$size"
    start_with_qmp ,reconnect-delay=2
    client <<'PYTHON'
os.kill(server, signal.SIGKILL)
wait_until(lambda: "is lost" in open(work + "/output").read())
vm.cmd("stop")
vm.wait_event("STOP")
assert status() == {"status": "paused", "running": False}, status()
vm.cmd("quit")
vm.wait_closed()
PYTHON
    wait_skiff
    expect_status 0
    refute_output 'storage did not drain'
    wait "$server" 2>/dev/null || true
}

# A disk in a file moves to an export while the guest works, and gets an overlay there.
test_a_mirror_to_an_export_and_a_snapshot_of_it() {
    make_disk "$size"
    serve memory "$size"
    set_own_guest blk-verify "until=button seed=$RANDOM qd=$depth mode=irq"
    start_skiff "${own_guest[@]}" -serial "file:$console" -qmp "unix:$work/qmp,server=on,wait=off" \
        -drive "if=none,id=vda,format=raw,file=$disk" -device virtio-blk-pci,drive=vda -sandbox on
    wait_listening "$work/qmp"
    client <<'PYTHON'
uri = "nbd+unix:///?socket=" + work + "/nbd"
vm.cmd("drive-mirror", {"device": "vda", "target": uri, "format": "raw", "sync": "full", "mode": "existing", "job-id": "j", "speed": 1 << 40})
vm.wait_event("BLOCK_JOB_READY")
vm.cmd("block-job-complete", {"device": "j"})
e = vm.wait_event("BLOCK_JOB_COMPLETED")
assert "error" not in e["data"], e
vm.cmd("blockdev-snapshot-sync", {"device": "vda", "snapshot-file": work + "/overlay.qcow2", "format": "qcow2"})
time.sleep(0.1)
vm.cmd("system_powerdown")
vm.wait_closed()
PYTHON
    wait_skiff
    expect_status 1
    expect_output '^blk-verify: PASS ops=[1-9]'
    refute_output 'sandbox:'
    qemu-img info "$work/overlay.qcow2" >"$work/info"
    grep -q "^backing file: nbd+unix://?socket=$work/nbd\$" "$work/info" || fail "$(cat "$work/info")"
    qemu-img check -q "$work/overlay.qcow2" || fail "the overlay is not clean"
    kill_server
}

# A server that accepts and says nothing hangs only the client that adds the disk.
test_an_open_that_hangs_hangs_nobody_else() {
    serve memory "$size"
    start_with_qmp ''
    client <<'PYTHON'
import socket
s = socket.socket(socket.AF_UNIX)
s.bind(work + "/silent")
s.listen()
other = Qmp(work + "/other")
def add(to, name, **more):
    return to.start("blockdev-add", {"driver": "nbd", "node-name": name, "server": {"type": "unix", "path": work + "/silent"}, **more})
request = add(other, "a", **{"open-timeout": 1})
try:
    other.finish(request)
    assert False, "opened"
except Exception as e:
    assert "did not answer in time" in str(e), e
add(other, "b")
vm.cmd("stop")
vm.wait_event("STOP")
vm.cmd("cont")
vm.wait_event("RESUME")
vm.cmd("quit")
vm.wait_closed()
PYTHON
    wait_skiff
    expect_status 0
    kill_server
}

run_tests

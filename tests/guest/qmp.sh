#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 1800
# QMP as a script uses it: the VM's life, a disk that hangs, a hundred misbehaving clients.
. "$(dirname "$0")/common.bash"

command -v python3 >/dev/null || { echo "1..0"; echo "python3 is not installed"; exit 77; }

# client ARGUMENT…: runs the Python program on standard input with `vm`, a QMP client, and helpers
# that read the guest's console. Its failure is the test's.
client() {
    {
        cat <<'PYTHON'
import json, os, re, socket, subprocess, sys, time
sys.path.insert(0, "tests/support")
from qmp import Qmp, QmpError
from rounds import rounds
work, console = sys.argv[1:3]

def ticks():
    """How many times the guest has printed "tick"."""
    return len(re.findall(rb"^tick ", open(console, "rb").read(), re.M))

def wait_until(condition):
    deadline = time.monotonic() + vm.timeout
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.01)

def status():
    return vm.cmd("query-status")

vm = Qmp(work + "/qmp")
PYTHON
        cat
    } >"$work/client.py"
    python3 "$work/client.py" "$work" "$console" "$@"
}

test_a_vm_is_stopped_continued_reset_and_ended() {
    start_qmp_guest count ms=10 -name life -uuid 01234567-89ab-cdef-0123-456789abcdef -S
    client <<'PYTHON'
assert vm.greeting["QMP"]["version"]["package"].startswith("skiff "), vm.greeting
assert status() == {"status": "prelaunch", "running": False}, status()
assert vm.cmd("query-name") == {"name": "life"}
assert vm.cmd("query-uuid") == {"UUID": "01234567-89ab-cdef-0123-456789abcdef"}
assert vm.cmd("query-kvm") == {"enabled": True, "present": True}
vm.cmd("stop")  # it has not started yet, and does not start
assert status() == {"status": "prelaunch", "running": False}, status()
vm.cmd("cont")
vm.wait_event("RESUME")
assert status() == {"status": "running", "running": True}
wait_until(lambda: ticks() > 3)

vm.cmd("stop")
vm.wait_event("STOP")
assert status() == {"status": "paused", "running": False}
vm.cmd("stop")  # changes nothing, and sends no event
vm.cmd("cont")
before = ticks()
wait_until(lambda: ticks() > before + 3)
vm.wait_event("RESUME")
assert [e for e in vm.events if e["event"] == "STOP"] == []

for n in range(1, 4):
    vm.cmd("system_reset")
    reset = vm.wait_event("RESET", "STOP", "RESUME")
    assert reset["event"] == "RESET", reset
    assert reset["data"] == {"guest": False, "reason": "host-qmp-system-reset"}, reset
    wait_until(lambda: open(console).read().count("tick 1\n") > n)
vm.cmd("system_powerdown")
vm.wait_event("POWERDOWN")

vm.cmd("quit")
end = vm.wait_event("SHUTDOWN", "STOP")
assert end["data"] == {"guest": False, "reason": "host-qmp-quit"}, end
vm.wait_closed()
PYTHON
    wait_skiff
    expect_status 0
}

test_guest_actions_are_announced() {
    start_qmp_guest hello '' -S -action shutdown=pause
    client <<'PYTHON'
vm.cmd("cont")
vm.wait_closed()
assert [e["event"] for e in vm.events] == ["RESUME", "SHUTDOWN"], vm.events
assert vm.events[1]["data"] == {"guest": True, "reason": "guest-shutdown"}, vm.events
PYTHON
    wait_skiff
    expect_status 1
}

test_a_panic_pauses_when_set_action_says_so() {
    start_qmp_guest crash pvpanic -S
    client <<'PYTHON'
vm.cmd("set-action", panic="pause")
vm.cmd("cont")
assert vm.wait_event("GUEST_PANICKED")["data"] == {"action": "pause"}
vm.wait_event("STOP")
assert status() == {"status": "guest-panicked", "running": False}
vm.cmd("quit")
vm.wait_closed()
PYTHON
    wait_skiff
    expect_status 0
}

test_a_guest_paused_by_its_panic_continues_after_cont() {
    start_qmp_guest crash 'pvpanic poweroff' -S -action panic=pause
    client <<'PYTHON'
vm.cmd("cont")
vm.wait_event("GUEST_PANICKED")
vm.wait_event("STOP")
assert status() == {"status": "guest-panicked", "running": False}
assert not [e for e in vm.events if e["event"] == "SHUTDOWN"], vm.events
vm.cmd("cont")
assert vm.wait_event("SHUTDOWN")["data"] == {"guest": True, "reason": "guest-shutdown"}
vm.wait_closed()
PYTHON
    wait_skiff
    expect_status 0
}

# hung_disk: options of a disk whose requests hang from the third on.
hung_disk=(-blockdev "driver=fault,node-name=disk,hold=on,fail-op=any,fail-after=2,file.driver=null-co,file.size=64M"
    -device virtio-blk-pci,id=vda,drive=disk,iothread=io -object iothread,id=io -trace block_fault_inject)

test_a_hung_disk_does_not_block_clients() {
    start_qmp_guest blk-verify 'until=button qd=8 limit_ms=10000000 mode=irq' "${hung_disk[@]}"
    wait_output block_fault_inject 4
    client <<'PYTHON'
assert status() == {"status": "running", "running": True}
vm.cmd("stop")
assert status() == {"status": "paused", "running": False, "stopping": True}, status()
for n in range(rounds(lab=5, check=20, long=50)):  # no request changes that
    vm.cmd("cont")
    vm.cmd("stop")
    assert status()["stopping"], status()
vm.cmd("query-commands")
vm.cmd("system_reset")
assert [e for e in vm.events if e["event"] == "STOP"] == []
vm.cmd("quit")
vm.wait_closed()
PYTHON
    wait_skiff
    expect_status 0
    expect_output 'storage did not drain'
}

test_a_client_that_disconnects_during_a_command() {
    start_qmp_guest blk-verify 'until=button qd=8 limit_ms=10000000 mode=irq' "${hung_disk[@]}"
    wait_output block_fault_inject 4
    client <<'PYTHON'
vm.start("stop")
vm.close()
for n in range(rounds(lab=6, check=20, long=100)):
    vm = Qmp(work + "/qmp")
    assert not vm.replies and not vm.unasked
    assert vm.cmd("query-kvm") == {"enabled": True, "present": True}
    vm.start("stop" if n % 2 else "cont")
    vm.close()
vm = Qmp(work + "/qmp")
vm.cmd("quit")
vm.wait_closed()
PYTHON
    wait_skiff
    expect_status 0
}

# one_shot SOCKET TEXT HOW: connects to skiff while that is stopped, sends TEXT and closes the
# connection, or with HOW=shutdown its own side. Prints the input until skiff closes the other side.
one_shot() {
    kill -STOP "$skiff_pid"
    python3 - "$work/$1" "$2" "$3" "$skiff_pid" <<'PYTHON'
import os, signal, socket, sys
path, text, how, pid = sys.argv[1:]
s = socket.socket(socket.AF_UNIX)
s.connect(path)
s.sendall(text.encode())
if how == "shutdown":
    s.shutdown(socket.SHUT_WR)
else:
    s.close()
os.kill(int(pid), signal.SIGCONT)
while how == "shutdown" and (data := s.recv(65536)):
    sys.stdout.write(data.decode())
PYTHON
}

test_input_before_a_disconnect_is_executed_by_a_busy_skiff() {
    local how capabilities='{"execute":"qmp_capabilities"}' quit='{"execute":"quit","id":"last"}'
    for how in close shutdown; do
        start_qmp_guest crash spin
        wait_words 'crash: spin' 1
        one_shot qmp "$capabilities$quit" "$how" >"$work/said" || fail "no connection"
        wait_skiff
        expect_status 0
        [ "$how" = close ] || grep -q '"return".*"last"' "$work/said" || fail "no reply: $(cat "$work/said")"

        start_qmp_guest crash spin -monitor "unix:$work/hmp,server=on,wait=off"
        wait_words 'crash: spin' 1
        one_shot hmp $'info status\nquit\n' "$how" >"$work/said" || fail "no connection"
        wait_skiff
        expect_status 0
        [ "$how" = close ] || grep -q 'VM status: running' "$work/said" || fail "no answer: $(cat "$work/said")"

        start_qmp_guest crash spin -gdb "unix:$work/gdb"
        wait_words 'crash: spin' 1
        one_shot gdb '$qAttached#8f$k#6b' "$how" >"$work/said" || fail "no connection"
        wait_skiff
        expect_status 0
    done
}

# No client is left that could cancel the wait.
test_a_wait_is_cancelled_when_its_client_disconnects() {
    local socket="\"server\":true,\"wait\":true,\"addr\":{\"type\":\"unix\",\"data\":{\"path\":\"$work/c\"}}"
    start_qmp_guest crash spin
    wait_words 'crash: spin' 1
    one_shot qmp "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"query-status\"}{\"execute\":\"chardev-add\",
        \"arguments\":{\"id\":\"c\",\"backend\":{\"type\":\"socket\",\"data\":{$socket}}}}" close
    wait_words "waiting for connection on: unix:$work/c" 1
    client <<'PYTHON'
wait_until(lambda: not os.path.exists(work + "/c"))
assert "c" not in [c["label"] for c in vm.cmd("query-chardev")]
vm.cmd("quit")
PYTHON
    wait_skiff
    expect_status 0
}

test_a_chardev_whose_client_never_connects() {
    start_qmp_guest count ms=10 -qmp "unix:$work/other,server=on,wait=off"
    client <<'PYTHON'
def add(client, name):
    client.start("chardev-add", {"id": name, "backend": {"type": "socket", "data": {
        "wait": True, "addr": {"type": "unix", "data": {"path": work + "/" + name}}}}})
    wait_until(lambda: os.path.exists(work + "/" + name))

with Qmp(work + "/other") as other:
    add(other, "left")
wait_until(lambda: not os.path.exists(work + "/left"))
add(vm, "removed")
other = Qmp(work + "/other")
other.cmd("chardev-remove", id="removed")
assert not os.path.exists(work + "/removed")
add(vm, "pending")
other.cmd("quit")
other.wait_closed()
PYTHON
    wait_skiff
    expect_status 0
    [ ! -e "$work/pending" ] || fail "the pending chardev's socket remains"
}

test_many_clients_that_flood() {
    local i many sockets=() arguments=()
    many=$(rounds lab=12 check=100 long=100)
    for ((i = 0; i < many; i++)); do
        sockets+=("$work/f$i")
        arguments+=(-qmp "unix:$work/f$i,server=on,wait=off")
    done
    start_qmp_guest count ms=10 "${arguments[@]}"
    client "${sockets[@]}" <<'PYTHON'
flood = subprocess.Popen([sys.executable, "tests/support/qmp_flood.py"] + sys.argv[3:],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
assert flood.stdout.readline() == "flooding\n"
for n in range(rounds(lab=5, check=50, long=200)):
    before = ticks()
    vm.cmd("stop")
    vm.wait_event("STOP")
    vm.cmd("cont")
    vm.wait_event("RESUME")
    assert status() == {"status": "running", "running": True}
    wait_until(lambda: ticks() > before)
vm.cmd("system_reset")
vm.wait_event("RESET")
flood.stdin.close()
assert int(flood.stdout.readline().split()[1]) > 1000
assert flood.wait() == 0
# The sockets take the next clients.
for path in sys.argv[3:]:
    with Qmp(path) as next:
        assert next.cmd("query-status") == {"status": "running", "running": True}
vm.cmd("quit")
vm.wait_closed()
PYTHON
    wait_skiff
    expect_status 0
}

test_an_endless_line_uses_no_memory() {
    local megabytes
    megabytes=$(rounds lab=32 check=256 long=1024)
    [ "$TEST_SLOW" = 1 ] || megabytes=32
    start_qmp_guest count ms=10
    client "$megabytes" "$skiff_pid" <<'PYTHON'
def resident_kib():
    return int(re.search(r"VmRSS:\s+(\d+)", open("/proc/%s/status" % sys.argv[4]).read())[1])

wait_until(lambda: ticks() > 1)  # the guest has touched all memory that it uses
before = resident_kib()
vm.send_bytes(b'{"execute": "')
for n in range(int(sys.argv[3])):
    vm.send_bytes(b"x" * (1 << 20))
vm.send_bytes(b'"}\n')
assert "longer than 1 MiB" in vm.unasked_reply()["error"]["desc"]
assert status()["running"]
assert resident_kib() < before + 8192, (before, resident_kib())
vm.cmd("quit")
vm.wait_closed()
PYTHON
    wait_skiff
    expect_status 0
}

test_descriptors_are_passed() {
    start_qmp_guest count ms=10
    client <<'PYTHON'
with open("/dev/null", "r+") as f:
    added = vm.cmd("add-fd", fds=[f.fileno()], opaque="null")
    assert vm.cmd("query-fdsets") == [
        {"fdset-id": added["fdset-id"], "fds": [{"fd": added["fd"], "opaque": "null"}]}]
    vm.cmd("getfd", fds=[f.fileno()], fdname="null")
vm.cmd("closefd", fdname="null")
vm.cmd("remove-fd", fdset_id=added["fdset-id"])
assert vm.cmd("query-fdsets") == []
import socket
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
vm.cmd("getfd", fds=[theirs.fileno()], fdname="net")
theirs.close()
vm.cmd("netdev_add", type="dgram", id="n", local={"type": "fd", "str": "net"})
assert "not found" in vm.refusal("closefd", fdname="net").desc # it is the network's
assert "not found" in vm.refusal("netdev_add", {"type": "tap", "id": "m", "fds": "net:net"}).desc
ours.send(b"x" * 60)
vm.cmd("netdev_del", id="n")
try:
    ours.send(b"x" * 60)
    raise AssertionError("a descriptor is left open")
except ConnectionRefusedError:
    pass
ours, theirs = socket.socketpair()
vm.cmd("getfd", fds=[theirs.fileno()], fdname="no tap")
theirs.close()
assert "not a tap device" in vm.refusal("netdev_add", type="tap", id="n", fd="no tap").desc
assert ours.recv(1) == b"" # it is closed
vm.cmd("quit")
vm.wait_closed()
PYTHON
    wait_skiff
    expect_status 0
}

test_a_monitor_of_each_kind_on_chardevs() {
    local tcp=(-chardev "socket,id=tcp,host=localhost,port=0,server=on,wait=off" -mon tcp,mode=control)
    start_qmp_guest count ms=10 "${tcp[@]}" -chardev "socket,id=q,path=$work/mon,server=on,wait=off" \
        -mon chardev=q,mode=control,pretty=on -qmp-pretty "unix:$work/pretty,server=on,wait=off" \
        -monitor "unix:$work/hmp,server=on,wait=off"
    client <<'PYTHON'
for path in "mon", "pretty":
    s = socket.socket(socket.AF_UNIX)
    s.connect(work + "/" + path)
    f = s.makefile("rb")
    assert f.readline() == b"{\n", path
    while f.readline() != b"}\r\n":
        pass
    s.sendall(b'{"execute": "qmp_capabilities", "id": 1}')
    assert [f.readline() for n in range(5)] == [
        b"{\n", b'    "return": {\n', b'    },\n', b'    "id": 1\n', b"}\r\n"]
wait_until(lambda: ticks() > 0)
s = socket.socket(socket.AF_UNIX)
s.connect(work + "/hmp")
s.sendall(b"info status\nquit\n")
text = b""
while True:
    data = s.recv(4096)
    if not data:
        break
    text += data
assert b"VM status: running" in text, text
vm.wait_closed()
PYTHON
    wait_skiff
    expect_status 0
}

test_tools_can_query_types_and_properties() {
    start_qmp_guest count ms=10 -smp 2 -cpu host,-avx2 -device virtio-rng-pci,id=rng0
    client <<'PYTHON'
cpus = [c["qom-path"] for c in vm.cmd("query-cpus-fast")]
assert [c["qom-path"] for c in vm.cmd("query-hotpluggable-cpus")] == cpus
for n, path in enumerate(cpus):
    assert vm.cmd("qom-get", path=path, property="type") == "host-x86_64-cpu"
    assert vm.cmd("qom-get", path=path, property="core-id") == n
assert vm.cmd("qom-get", path="/machine", property="smp")["cpus"] == 2
assert vm.cmd("qom-get", path="rng0", property="type") == "virtio-rng-pci"
assert vm.cmd("qom-get", path="rng0", property="addr") == "01.0"

def walk(path):
    """Every listed type exists."""
    for p in vm.cmd("qom-list", path=path):
        value = vm.cmd("qom-get", path=path, property=p["name"])
        if p["type"].startswith("child<"):
            assert p["type"] == "child<%s>" % vm.cmd("qom-get", path=value, property="type")
            walk(value)
walk("/")

def expand(**props):
    model = vm.cmd("query-cpu-model-expansion", type="full", model={"name": "host", "props": props})["model"]
    assert model["name"] == "host"
    return model["props"]

features = expand()
assert features["sse2"] and features["cx8"] and not expand(sse2=False)["sse2"]
assert expand(**{name: on for name, on in features.items()}) == features
lacking = [name for name, on in features.items() if not on and name not in ("ht", "hypervisor", "tsc-deadline")]
for name in lacking[:1]:
    e = vm.refusal("query-cpu-model-expansion", type="full", model={"name": "host", "props": {name: True}})
    assert name in e.desc, e
assert vm.cmd("query-machines")[0]["cpu-max"] >= 2
vm.cmd("quit")
vm.wait_closed()
PYTHON
    wait_skiff
    expect_status 0
}

# The parsers accept every name in query-command-line-options: none is refused as unknown.
test_listed_options_are_accepted() {
    start_qmp_guest count ms=10
    client "$SKIFF" <<'PYTHON'
chardevs = {"path": "file", "append": "file", "signal": "stdio", "mux": "null", "logfile": "null", "logappend": "null"}
options = vm.cmd("query-command-line-options")
assert len(options) > 10
for o in options:
    option = {"smp-opts": "smp", "memory": "m"}.get(o["option"], o["option"])
    by_backend = {}
    for p in o["parameters"]:
        backend = chardevs.get(p["name"], "socket") if option == "chardev" else None
        by_backend.setdefault(backend, []).append(p["name"])
    for backend, names in by_backend.items():
        text = ",".join((["%s,id=x" % backend] if backend else []) + [n + "=?" for n in names])
        r = subprocess.run([sys.argv[3], "-kernel", "build/guests/hello.elf", "-display", "none", "-" + option, text],
                           stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert r.returncode == 2 and r.stderr.startswith("skiff: -" + option), (option, text, r)
        assert "no option" not in r.stderr and "unknown" not in r.stderr, (option, text, r)
vm.cmd("quit")
vm.wait_closed()
PYTHON
    wait_skiff
    expect_status 0
}

test_qmp_on_standard_input_and_output() {
    set_own_guest count ms=10
    printf '%s\n' '{"execute": "qmp_capabilities"}' '{"execute": "query-status", "id": 1}' \
        '{"execute": "quit", "id": 2}' >"$work/commands"
    skiff "${own_guest[@]}" -S -serial null -qmp stdio <"$work/commands"
    expect_status 0
    expect_output '^\{"return": \{"status": "prelaunch", "running": false\}, "id": 1\}$'
    expect_output '^\{"return": \{\}, "id": 2\}$'
}

# The stub's test of KVM before it listens takes a while.
test_commands_before_the_gdb_stub_find_the_whole_machine() {
    set_own_guest count ms=10
    printf '%s\n' '{"execute": "qmp_capabilities"}' '{"execute": "stop", "id": 1}' \
        '{"execute": "quit", "id": 2}' >"$work/commands"
    skiff "${own_guest[@]}" -S -serial null -qmp stdio -gdb "unix:$work/gdb" <"$work/commands"
    expect_status 0
    expect_output '^\{"return": \{\}, "id": 1\}$'
}

test_invalid_monitors_are_refused() {
    local text
    while read -r text; do
        # shellcheck disable=SC2086
        skiff $text -kernel build/guests/hello.elf -display none -serial null
        expect_status 2
        [ "$(wc -l <"$output")" -eq 1 ] || fail "$text: more than a line"
    done <<END
-qmp bogus
-qmp unix:
-qmp unix:/no/such/directory/qmp,server=on,wait=off
-qmp chardev:none
-mon mode=control
-mon chardev=none,mode=control
-chardev null,id=c -mon chardev=c,mode=bogus
-chardev null,id=c -mon chardev=c,pretty=on
-chardev null,id=c -mon chardev=c,mode=control,no=1
-chardev null,id=c -mon c,mode=control -mon c,mode=control
END
}

run_tests

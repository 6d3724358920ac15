#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: kvm
# timeout: 300
# Networks that need no rights, each used by an ordinary user in a sandbox: user mode, stream, dgram. The guest is net-echo;
# the host's end is a program of the test, or a socket of the host.
. "$(dirname "$0")/common.bash"

# Everything below runs as an ordinary user, if root runs the tests.
rootless() {
    command -v python3 >/dev/null || skip "python3 is not installed"
    [ "$(id -u)" -eq 0 ] && [ "$SKIFF" != "$work/skiff" ] || return 0
    local real=$SKIFF dir
    [[ $real == /* ]] || real=$PWD/$real
    chmod a+rwx "$work"
    dir=${work%/*}
    while [ -n "$dir" ] && [ "$dir" != /tmp ]; do
        chmod a+x "$dir"
        dir=${dir%/*}
    done
    # The same device with a mode that lets everybody use it, in skiff's mount namespace only.
    [ -e "$work/kvm" ] || mknod -m 666 "$work/kvm" c $((0x$(stat -c %t /dev/kvm))) $((0x$(stat -c %T /dev/kvm))) 2>/dev/null ||
        skip "no device files here"
    cat >"$work/skiff" <<END
#!/bin/sh
exec unshare -m sh -c 'mount --bind "\$0" /dev/kvm && exec setpriv --reuid=65534 --regid=65534 --clear-groups "$real" "\$@"' "$work/kvm" "\$@"
END
    chmod a+rx "$work/skiff"
    "$work/skiff" -version >/dev/null 2>&1 || skip "nobody may not run $real"
    setpriv --reuid=65534 --regid=65534 --clear-groups test -r build/guests/net-echo.elf || skip "nobody may not read build/guests"
    SKIFF=$work/skiff
    : >"$console"
    chmod a+rw "$console" "$output"
}

# start NETDEV ARGUMENT…: the guest with that network, id n.
start() {
    rootless
    local netdev=$1
    shift
    start_own_guest net-echo "${words-}" -sandbox on -netdev "$netdev" -device virtio-net-pci,netdev=n "$@"
}

finish() {
    monitor quit
    wait_skiff
    expect_status 0
    refute_output 'sandbox:|bug:|guest error'
}

# host PROGRAM ARGUMENT…: a program in Python; `limit` is its patience in seconds.
host() {
    local program=$1
    shift
    python3 -c "
import os, socket, sys, time
sys.path.insert(0, 'tests/support')
import net_frames
from net_frames import Stream, Datagrams, wait_guest, echo
work, limit = '$work', $(seconds 30)
$program" "$@" || fail "the host's end failed"
}

free_port() {
    python3 -c 'import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

echoes='
def echoes(link):
    mac = wait_guest(link, limit)
    for i in range(100):
        echo(link, mac, bytes([i % 251]) * (1 + i * 13 % 1400))
'

test_a_forwarded_port_reaches_a_guest_in_user_mode() {
    local port
    port=$(free_port)
    start "user,id=n,hostfwd=udp:127.0.0.1:$port-:7"
    host '
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("127.0.0.1", int(sys.argv[1])))
s.settimeout(0.3)
deadline = time.monotonic() + limit
def ask(data):
    while True:
        try:
            s.send(data)
            while True:
                got = s.recv(2048)
                if got == data:
                    return
        except (socket.timeout, ConnectionRefusedError):
            assert time.monotonic() < deadline, "no echo"
for i in range(80):
    ask(b"%d " % i + b"x" * (i * 7))
' "$port"
    monitor 'info usernet' "hostfwd_remove udp:127.0.0.1:$port"
    wait_output 'HOST_FORWARD|UDP\['
    wait_output "host forwarding rule for udp:127.0.0.1:$port removed"
    finish
}

test_a_server_of_a_stream_survives_its_clients() {
    start "stream,id=n,server=on,addr.type=unix,addr.path=$work/net"
    host "$echoes"'
for client in range(3):
    s = socket.socket(socket.AF_UNIX)
    deadline = time.monotonic() + limit
    while s.connect_ex(work + "/net") != 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    echoes(Stream(s, limit))
    s.close()
'
    finish
    [ ! -e "$work/net" ] || fail "the socket is still there"
}

test_a_client_of_a_stream_finds_its_server_again() {
    start "stream,id=n,addr.type=unix,addr.path=$work/net,reconnect-ms=50"
    host "$echoes"'
for server in range(3):
    s = socket.socket(socket.AF_UNIX)
    s.bind(work + "/net")
    os.chmod(work + "/net", 0o777)
    s.listen(1)
    s.settimeout(limit)
    echoes(Stream(s.accept()[0], limit))
    s.close()
    os.unlink(work + "/net")
'
    monitor quit
    wait_skiff
    expect_status 0
}

test_frames_as_datagrams() {
    local mine theirs
    mine=$(free_port)
    theirs=$(free_port)
    start "dgram,id=n,local.type=inet,local.host=127.0.0.1,local.port=$mine,remote.type=inet,remote.host=127.0.0.1,remote.port=$theirs"
    host "$echoes"'
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", int(sys.argv[2])))
echoes(Datagrams(s, ("127.0.0.1", int(sys.argv[1])), limit))
' "$mine" "$theirs"
    finish
}

# passt forwards a port of the host to the guest, whose answer comes back to it. passt's record of frames shows both.
test_passt_is_a_peer() {
    local port passt=(passt) passt_pid
    command -v passt >/dev/null || skip "passt is not installed"
    rootless
    [ "$(id -u)" -ne 0 ] || passt=(setpriv --reuid=65534 --regid=65534 --clear-groups passt)
    port=$(free_port)
    "${passt[@]}" --foreground --one-off --socket "$work/passt" --pcap "$work/frames" --address 10.0.2.15 --netmask 24 \
        --gateway 10.0.2.2 --mac-addr 02:00:00:00:00:01 --udp-ports "$port:7" >"$work/passt.log" 2>&1 &
    passt_pid=$!
    until [ -e "$work/passt" ]; do
        kill -0 $passt_pid 2>/dev/null || skip "passt does not run here: $(tail -n 1 "$work/passt.log")"
        sleep 0.05
    done
    start "stream,id=n,addr.type=unix,addr.path=$work/passt"
    host '
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("127.0.0.1", int(sys.argv[1])))
deadline = time.monotonic() + limit
while open(work + "/frames", "rb").read().count(b"ahoy, passt") < 2: # there and back
    assert time.monotonic() < deadline, open(work + "/passt.log").read()
    try:
        s.send(b"ahoy, passt")
    except ConnectionRefusedError:
        pass
    time.sleep(0.1)
' "$port"
    finish
    wait $passt_pid || true # it ends with its client
}

test_stop_reset_and_set_link_do_no_harm() {
    start "stream,id=n,server=on,addr.type=unix,addr.path=$work/net"
    host "$echoes"'
s = socket.socket(socket.AF_UNIX)
s.connect(work + "/net")
link = Stream(s, limit)
echoes(link)
open(work + "/go", "w").close()
while os.path.exists(work + "/go"):
    time.sleep(0.05)
echoes(link)
' &
    local host_pid=$!
    until [ -e "$work/go" ]; do
        kill -0 $host_pid || fail "the host's end has failed"
        sleep 0.05
    done
    monitor stop cont system_reset
    rm "$work/go"
    wait $host_pid || fail "the host's end has failed"
    finish
}

run_tests

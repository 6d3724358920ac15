#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tier: lab
# timeout: 900
# Debian's unmodified kernel on a user-mode network, in a sandbox and without any set-up of the host: DHCP, DNS, a large file in
# each direction, the guest's web server behind a forwarded port.
[ -n "${NET_NAMESPACE-}" ] || NET_NAMESPACE=yes exec unshare -nm "$0" "$@"
. "$(dirname "$0")/common.bash"

guest_script=$guest_steps'
patience=3000
modprobe -a virtio_pci virtio_net
until_true "[ -e /sys/class/net/eth0 ]"
cat >/tmp/lease <<"END"
#!/bin/busybox sh
[ "$1" = bound ] || exit 0
ip address add "$ip/$mask" dev "$interface"
ip route add default via "$router"
echo "nameserver $dns" >/etc/resolv.conf
echo "== lease $ip/$mask $router $dns"
END
chmod +x /tmp/lease
ip link set eth0 up
mkdir -p /etc
udhcpc -i eth0 -n -q -t 20 -s /tmp/lease || step no lease
until_true "nslookup -type=a boat.example 2>&1 | grep -q 192.0.2.77" # the host may not listen yet
step name
ping -c 1 -W 5 10.0.2.2 >/dev/null && step gateway
mkdir /srv
mount -t tmpfs -o size=300m tmpfs /srv
until_true "wget -q -O /srv/file http://10.0.2.2:8000/file"
step fetched $(md5sum </srv/file | cut -c1-32)
httpd -p 80 -h /srv
step serving
nc -l -p 81 >/tmp/quit
step complaints $(dmesg | grep -E "WARNING:|BUG:|Call Trace:|bad csum")
step end
'

host_program='
import hashlib, http.server, os, socket, struct, sys, threading, time, urllib.request
from functools import partial
sys.path.insert(0, "tests/support")
import drive_linux
work, mebibytes = sys.argv[1], int(sys.argv[2])
data = os.urandom(1 << 20) * mebibytes
md5 = hashlib.md5(data).hexdigest()

class Files(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

def serve_names():
    """The name server of the host: knows one name."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("127.0.0.1", 53))
    while True:
        query, client = s.recvfrom(2048)
        end = query.index(b"\0", 12) + 5
        known = query[12:end - 4] == b"\4boat\7example\0"
        answer = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + bytes([192, 0, 2, 77]) if known else b""
        s.sendto(query[:2] + struct.pack("!HHHHH", 0x8180 if known else 0x8183, 1, 1 if known else 0, 0, 0)
                 + query[12:end] + answer, client)

for target in (http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Files).serve_forever, serve_names):
    threading.Thread(target=target, daemon=True).start()

step = partial(drive_linux.wait_step, work + "/console", 600)

step(r"lease 10\.0\.2\.15/24 10\.0\.2\.2 10\.0\.2\.3")
step("name")
step("gateway")
start = time.monotonic()
assert step("fetched (.*)")[0] == md5
print("# to the guest: %.1f s" % (time.monotonic() - start))
step("serving")
start = time.monotonic()
got = urllib.request.urlopen("http://127.0.0.1:8080/file", timeout=300).read()
assert hashlib.md5(got).hexdigest() == md5, len(got)
print("# from the guest: %.1f s" % (time.monotonic() - start))
with socket.create_connection(("127.0.0.1", 8081), timeout=60) as s:
    s.sendall(b"quit\n")
step("end")
'

test_debian_on_a_user_mode_network() {
    local mebibytes
    mebibytes=$(rounds lab=16 check=100 long=100)
    command -v python3 >/dev/null || skip "python3 is not installed"
    ip link set lo up
    echo "nameserver 127.0.0.1" >"$work/resolv.conf"
    [ -e /etc/resolv.conf ] || : >/etc/resolv.conf
    mount --bind "$work/resolv.conf" /etc/resolv.conf
    start_skiff -m 640 -smp 2 -display none -serial "file:$console" -no-reboot -sandbox on \
        -kernel build/linux/vmlinuz -initrd build/linux/initramfs.cpio.gz \
        -append "console=ttyS0 quiet skiff.run=sh:$(printf '%s' "$guest_script" | base64 -w0)" \
        -nic "user,model=virtio,hostfwd=tcp:127.0.0.1:8080-:80,hostfwd=tcp:127.0.0.1:8081-:81"
    python3 -c "$host_program" "$work" "$mebibytes"
    wait_skiff
    expect_status 0
    expect_guest_status 0
    expect_output '^== complaints\s*$'
    refute_output 'sandbox:|guest error'
}

run_tests

# SPDX-License-Identifier: Apache-2.0
"""Networks on a tap device served by the process and by the host's vhost-net: in the lab, which has vhost-net. Frames of
net-bench, TCP of Debian's kernel, and what wakes the process while the guest has nothing to do."""
import base64
import os
import socket
import subprocess
import threading
import time
from functools import partial

import bench_net

BACKENDS = {
    "tap": "tap,id=n,ifname=tap0,script=no,downscript=no",
    "vhost-net": "tap,id=n,ifname=tap0,script=no,downscript=no,vhost=on",
}
FRAMES = (  # name, words of net-bench, what it prints
    ("echo, one at a time, us", "qd=1", "rtt_avg_ns"),
    ("echo, one at a time, by interrupt, us", "qd=1 mode=irq", "rtt_avg_ns"),
    ("echoes a second, depth 64", "qd=64", "per_s"),
    ("echoes a second, depth 64, by interrupt", "qd=64 mode=irq", "per_s"),
    ("frames sent a second", "op=send", "per_s"),
)
TCP = ("TCP to the guest, MiB/s", "TCP from the guest, MiB/s", "idle: switches of threads a second")
TRANSFER = 24 << 20
TRANSFERS = 3
IDLE_S = 5
PATIENCE = 300

# The guest's words; it starts each part when the host says so, on the port 8002.
GUEST = f"""
modprobe -a virtio_pci virtio_net
until [ -e /sys/class/net/eth0 ]; do usleep 50000; done
ip link set eth0 up && ip address add 10.0.2.15/24 dev eth0
head -c {TRANSFER} /dev/zero >/dev/shm/data
until ping -c 1 -W 1 10.0.2.2 >/dev/null; do :; done
for n in $(seq {TRANSFERS}); do nc 10.0.2.2 8000 </dev/null >/dev/null; done
for n in $(seq {TRANSFERS}); do nc 10.0.2.2 8001 -e dd if=/dev/shm/data bs=65536 status=none; done
nc 10.0.2.2 8002 </dev/null >/dev/null
sleep 1000
"""


def listen(port):
    server = socket.create_server((bench_net.GATEWAY, port))
    server.settimeout(PATIENCE)
    return server


def take(server):
    connection, _ = server.accept()
    connection.settimeout(PATIENCE)
    return connection


def send_all(server):
    """MiB/s of one transfer to the guest, until it has closed its end."""
    data = memoryview(bytes(1 << 20))
    with take(server) as connection:
        start = time.perf_counter()
        for _ in range(TRANSFER >> 20):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):
            pass
        return (TRANSFER >> 20) / (time.perf_counter() - start)


def receive_all(server):
    count = 0
    with take(server) as connection:
        start = time.perf_counter()
        while part := connection.recv(1 << 18):
            count += len(part)
        seconds = time.perf_counter() - start
    assert count == TRANSFER, count
    return (count >> 20) / seconds


def switches(pid):
    """How often threads of a process were given a processor, so far."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status", encoding="ascii") as file:
            total += sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
    return total


def measure_linux(peer, backend):
    """{what of TCP: number} of one boot."""
    command, device = peer
    script = base64.b64encode(GUEST.encode()).decode()
    command = command + [
        *("-m", "512", "-no-reboot", "-serial", "stdio"),
        *("-kernel", "build/linux/vmlinuz", "-initrd", "build/linux/initramfs.cpio.gz"),
        *("-append", f"console=ttyS0 quiet skiff.run=sh:{script}"),
        *("-netdev", BACKENDS[backend], "-device", f"virtio-net-pci,netdev=n{device}"),
    ]
    servers = [listen(port) for port in (8000, 8001, 8002)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        to_guest = [send_all(servers[0]) for _ in range(TRANSFERS)]
        from_guest = [receive_all(servers[1]) for _ in range(TRANSFERS)]
        take(servers[2]).close()
        time.sleep(1)  # what ends the connection
        before = switches(process.pid)
        time.sleep(IDLE_S)
        idle = (switches(process.pid) - before) / IDLE_S
        return dict(zip(TCP, (max(to_guest), max(from_guest), idle)))
    except TimeoutError as error:
        raise SystemExit(f"bench: {command[0]}, {backend}: the guest's TCP stands still") from error
    finally:
        process.kill()
        process.wait()
        for server in servers:
            server.close()


def measure_frames(peer, backend, words):
    """What net-bench printed, in the namespace that this runs in."""
    return bench_net.run_here(peer, BACKENDS[backend], "build/guests", f"ms=1000 {words}", timeout=PATIENCE)


def measure(peers, rounds, take_turns):
    """[[back end, what, {peer: [numbers]}]]. To be called in a network namespace with the tap device tap0."""
    found = []
    for backend in BACKENDS:
        for name, words, key in FRAMES:
            results = take_turns(peers, rounds, partial(measure_frames, backend=backend, words=words))
            found.append([backend, name, {p: [r[key] for r in results[p]] for p in results}])
        results = take_turns(peers, rounds, partial(measure_linux, backend=backend))
        found += [[backend, what, {p: [r[what] for r in results[p]] for p in results}] for what in TCP]
    return found

# SPDX-License-Identifier: Apache-2.0
"""Networks: echoes and frames of net-bench, the same guest in all VMMs, in a network namespace of its own."""
import re
import subprocess

GATEWAY = "10.0.2.2"
# A tap device whose other end is the kernel of the namespace, which answers echoes.
NAMESPACE = (
    "ip link set lo up && ip tuntap add tap0 mode tap && "
    f"ip addr add {GATEWAY}/24 dev tap0 && ip link set tap0 up && "
    'exec "$@"'
)
BACKENDS = {
    "tap": "tap,id=n,ifname=tap0,script=no,downscript=no",
    "user": "user,id=n",
}


def run_here(peer, netdev, guests, words, before=(), timeout=120):
    """{key: number} that net-bench printed. A peer is (command, options of the device); @before is a command that runs it."""
    command, device = peer
    command = command + [
        *("-kernel", f"{guests}/net-bench.elf", "-append", words, "-serial", "stdio"),
        *("-device", "isa-debug-exit,iobase=0xf4,iosize=4"),
        *("-netdev", netdev, "-device", f"virtio-net-pci,netdev=n{device}"),
    ]
    done = subprocess.run(
        [*before, *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
    found = re.search(r"^net-bench: (op=.*)$", done.stdout, re.MULTILINE)
    if not found or "net-bench: PASS" not in done.stdout:
        raise SystemExit(f"bench: {command[0]}: {done.stdout}{done.stderr}")
    return {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", found.group(1))}


def run(peer, backend, guests, words):
    """The same in a network namespace of its own."""
    before = ["unshare", "--net", "--map-root-user", "sh", "-c", NAMESPACE, "sh"]
    return run_here(peer, BACKENDS[backend], guests, words, before)

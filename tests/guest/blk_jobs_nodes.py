# SPDX-License-Identifier: Apache-2.0
# Read by tests/guest/blk-jobs.sh and linux-jobs.sh, before blk_jobs.py: nodes and images of a generated schedule
# of block jobs. `vm` is the VM of verify-qmp.bash. With LINUX set the guest is Linux: it is not reset, and runs
# fio_script of linux-fio.bash. SKIFF_PID is the process, KEYBOARD the guest's console.
import hashlib
import random
import subprocess

image, seed, kinds, options, qcow2_options = os.path.realpath(sys.argv[3]), *sys.argv[4:8]
rng = random.Random(int(seed))
other = Qmp(work + "/qmp2")
linux = "LINUX" in os.environ
SIZE = int(os.environ["DISK_SIZE"])


def qemu_img(*words):
    subprocess.run(["qemu-img", *words], check=True)


def digest(path, file_format):
    """Of the disk that qemu-img reads, also while the VM has the image open."""
    qemu_img("convert", "-U", "-f", file_format, "-O", "raw", path, image + ".digest")
    with open(image + ".digest", "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def guest_has_ended_fio():
    return linux and b"fio has verified" in open(console, "rb").read()


def writes_go_on():
    last = stats()["wr_operations"]
    wait_until(lambda: stats()["wr_operations"] > last or guest_has_ended_fio())


class Nodes:
    """The chain of nodes, the active one first, and nodes for copies."""

    def __init__(self):
        self.chain = [("node0", image, "qcow2")]  # without the raw image at the bottom
        self.made = 0
        self.servers = {}

    def new_image(self, backing=None, backing_node=None, fault=None):
        """Creates an image and its node. Returns the node's name, the file's, and the format. Requests to the
        file fail as @fault says, the options of a fault node."""
        self.made += 1
        name, path = "node%d" % self.made, "%s.%d" % (image, self.made)
        words = ["-u", "-b", backing, "-F", "qcow2"] if backing else []
        qemu_img("create", "-q", "-f", "qcow2", "-o", qcow2_options, *words, path, str(SIZE))
        file = {"driver": "file", "filename": path, "node-name": "file%d" % self.made, "discard": "unmap"}
        for option in options.strip(",").split(","):
            key, value = option.split("=")
            if key == "cache.direct":
                file["cache"] = {"direct": value == "on"}
            else:
                file[key] = value
        if fault:
            os.truncate(path, SIZE + (8 << 20))  # a fault node does not grow
            file = {"driver": "fault", "discard": "unmap", "file": file, **fault}
        vm.cmd("blockdev-add", driver="qcow2", **{
            "node-name": name, "discard": "unmap", "file": file, "backing": backing_node})
        return name, path, "qcow2"

    def new_target(self, fault=None):
        """A node for a copy: as new_image(), or a raw file, or a raw file of an NBD server."""
        kind = "qcow2" if fault else rng.choice(["qcow2", "qcow2", "raw", "nbd"])
        if kind == "qcow2":
            return self.new_image(fault=fault)
        self.made += 1
        name, path = "node%d" % self.made, "%s.%d" % (image, self.made)
        with open(path, "wb") as f:
            f.truncate(SIZE)
        node = {"driver": "file", "filename": path}
        if kind == "nbd":
            server = subprocess.Popen(["qemu-nbd", "--format=raw", "--discard=unmap", "--socket=%s.nbd" % path, path])
            self.servers[name] = server
            wait_until(lambda: os.path.exists(path + ".nbd") or server.poll() is not None)
            node = {"driver": "nbd", "server": {"type": "unix", "path": path + ".nbd"}, "open-timeout": 100}
        vm.cmd("blockdev-add", driver="raw", **{"node-name": name, "discard": "unmap", "file": node})
        return name, path, "raw"

    def close(self, node):
        """The image is complete then. A node without a name is that of a command, and ends with its job."""
        if node[0] is None:
            wait_until(lambda: not any(node[1] in n["file"] for n in vm.cmd("query-named-block-nodes")))
            return
        vm.cmd("blockdev-del", **{"node-name": node[0]})
        if node[0] in self.servers:
            self.servers.pop(node[0]).wait()  # it ends with its only client

    def delete(self, node):
        self.close(node)
        if node[1] != image:
            os.unlink(node[1])

    def compare(self, node, expected, what):
        """Closes a copy, which has to be equal to the disk of one moment, and deletes it."""
        self.close(node)
        if node[2] == "qcow2":
            qemu_img("check", "-q", "-f", "qcow2", node[1])
        assert digest(node[1], node[2]) == expected, what + " is not the disk at its point in time"
        os.unlink(node[1])

    def raw_disk(self, data):
        self.made += 1
        name, path = "node%d" % self.made, "%s.%d" % (image, self.made)
        with open(path, "wb") as f:
            f.write(data)
            f.truncate(SIZE)
        vm.cmd("blockdev-add", driver="raw", **{"node-name": name, "file": {"driver": "file", "filename": path}})
        return name, path, "raw"

    def file_target(self):
        """A file that a command makes."""
        self.made += 1
        return None, "%s.%d" % (image, self.made), rng.choice(["qcow2", "raw"])

# SPDX-License-Identifier: Apache-2.0
"""The images of `tests/bench/run --only images`: how they are made, and the guest's command lines."""
import os
import shutil
import subprocess

KINDS = ("raw", "qcow2 allocated", "qcow2 unallocated", "qcow2 with backing")
DEPTHS = (1, 32, 64)
WORK = {
    "4 KiB random read": ("read", "random", 4096),
    "4 KiB random write": ("write", "random", 4096),
    "1 MiB sequential read": ("read", "ascending", 1 << 20),
    "1 MiB sequential write": ("write", "ascending", 1 << 20),
}


def qemu_img(*words):
    subprocess.run(["qemu-img", *words], check=True, stdout=subprocess.DEVNULL)


class Images:
    """A raw image and, made from it, an image of each kind. Writes go to fresh ones."""

    def __init__(self, raw, directory):
        self.raw = raw
        self.directory = os.path.join(directory, f"bench.{os.getpid()}")
        os.mkdir(self.directory)
        self.size = os.path.getsize(raw)
        qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, self.path("qcow2 allocated"))

    def path(self, kind):
        return self.raw if kind == "raw" else os.path.join(self.directory, kind.replace(" ", "-"))

    def prepare(self, kind):
        """An image that no request has allocated anything in, if that is what the kind is about."""
        if kind == "qcow2 unallocated":
            qemu_img("create", "-f", "qcow2", self.path(kind), str(self.size))
        elif kind == "qcow2 with backing":
            raw = os.path.abspath(self.raw)
            qemu_img("create", "-f", "qcow2", "-b", raw, "-F", "raw", self.path(kind))
        return self.path(kind)

    def remove(self):
        shutil.rmtree(self.directory)


def guest_words(work, depth, milliseconds):
    op, order, size = WORK[work]
    return f"op={op} order={order} bs={size} qd={depth} qsize=256 queues=1 mode=poll ms={milliseconds}"


def drive(images, kind):
    image_format = "raw" if kind == "raw" else "qcow2"
    return f"if=none,id=disk,format={image_format},file={images.path(kind)},cache=none,aio=io_uring"

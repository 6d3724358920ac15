# SPDX-License-Identifier: Apache-2.0
"""hung_fs.py DIRECTORY: mounts a file system that hangs for ever after a file "hung" is created,
like a network file system whose server is gone. Prints "mounted". A kill ends it and the hang.
Needs root and /dev/fuse.

It implements FUSE (include/uapi/linux/fuse.h, protocol 7.31). Once hung, it reads no requests, so
that a waiting process can still be killed. Only for FLUSH, at close(), the kernel waits without
end. It does not send FLUSH any more after one was refused: so close another file first.
"""
import ctypes
import errno
import os
import signal
import stat
import struct
import sys

LOOKUP, FORGET, GETATTR, INIT, ACCESS, CREATE = 1, 2, 3, 26, 34, 35
FOR_EVER = 1 << 30


def attr(node, mode):
    """struct fuse_attr"""
    return struct.pack("<6Q10I", node, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def answer(opcode, node, body):
    """The body of the reply, or a negative errno."""
    if opcode == INIT:
        major, minor, readahead, _ = struct.unpack_from("<4I", body)
        return struct.pack("<4I2H2I2HI7I", 7, min(minor, 31), readahead, 0, 0, 0, 4096, 1, 1, 0, 0, *[0] * 7)
    if opcode == GETATTR and node == 1:
        return struct.pack("<Q2I", FOR_EVER, 0, 0) + attr(1, stat.S_IFDIR | 0o755)
    if opcode == CREATE:
        entry = struct.pack("<4Q2I", 2, 0, FOR_EVER, FOR_EVER, 0, 0) + attr(2, stat.S_IFREG | 0o600)
        return entry + struct.pack("<QIi", 1, 0, 0)
    return -errno.ENOENT if opcode == LOOKUP else 0 if opcode == ACCESS else -errno.ENOSYS


def main():
    directory = sys.argv[1]
    fuse = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    options = "fd=%d,rootmode=40000,user_id=0,group_id=0" % fuse
    if libc.mount(b"hung", os.fsencode(directory), b"fuse", 0, options.encode()) != 0:
        sys.exit("cannot mount: %s" % os.strerror(ctypes.get_errno()))
    print("mounted", flush=True)
    while True:
        request = os.read(fuse, 1 << 20)
        _, opcode, unique, node = struct.unpack_from("<2I2Q", request)
        if opcode == FORGET:
            continue
        body = answer(opcode, node, request[40:])
        error, body = (body, b"") if isinstance(body, int) else (0, body)
        os.write(fuse, struct.pack("<IiQ", 16 + len(body), error, unique) + body)
        if opcode == CREATE and request[40 + 16:].rstrip(b"\0") == b"hung":  # after fuse_create_in
            signal.pause()


main()

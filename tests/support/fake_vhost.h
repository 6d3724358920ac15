/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's vhost, played by the test: /dev/vhost-vsock or /dev/vhost-net as open(), ioctl() and close()
 * show it. skiff's own code makes the calls, in its workers.
 *
 * It is no kinder than the kernel. It refuses what the kernel refuses, with the same errno: a vring that
 * changes while it is connected (EBUSY), rings outside the memory table (EFAULT), features that it does not
 * have, an address of another guest (EADDRINUSE). It ignores kicks that come while a vring is not
 * connected, and serves a connected one only when it is kicked. Each instance is one open descriptor.
 *
 * The test has the kernel's thread: fake_vhost_serve().
 */
#ifndef SKIFF_TESTS_SUPPORT_FAKE_VHOST_H
#define SKIFF_TESTS_SUPPORT_FAKE_VHOST_H

#include <pthread.h>
#include "hw/virtio/virtqueue.h"
#include "util/sys/sys_fault.h"

#define FAKE_VHOST_INSTANCES 8
#define FAKE_VHOST_VRINGS 2
#define FAKE_VHOST_MARK 'K'
#define FAKE_VHOST_SEQPACKET 2ull /* VIRTIO_VSOCK_F_SEQPACKET */

typedef struct FakeVring {
    unsigned num, base;
    uint64_t desc, avail, used; /* user addresses */
    bool addressed, connected;
    int kick_fd, call_fd, err_fd;
    int backend; /* of vhost-net: the tap */
    VirtQueue *vq;
} FakeVring;

typedef struct FakeVhostInstance {
    bool open, owned, table;
    int fd;
    uint64_t features, cid;
    FakeVring vrings[FAKE_VHOST_VRINGS];
} FakeVhostInstance;

typedef struct FakeVhost {
    /* set by the test */
    uint64_t offered;
    uint64_t taken_cid;  /* of another guest */
    const GuestRam *ram; /* of the machine */
    /* records */
    FakeVhostInstance instances[FAKE_VHOST_INSTANCES];
    unsigned count;                        /* of instances so far */
    _Atomic int fds[FAKE_VHOST_INSTANCES]; /* of those that are open, else -1 */
    GString *calls;                        /* names of the calls so far, separated by blanks */
    SysDevice device;
    pthread_mutex_t lock;
} FakeVhost;

/* Becomes the device file @path. */
FakeVhost *fake_vhost_new(const char *path, const GuestRam *ram);
/* Nothing is open any more, else the test fails. */
void fake_vhost_free(FakeVhost *f);
/* How many instances are open. */
unsigned fake_vhost_open_count(FakeVhost *f);
/* Whether any vring is connected: the kernel may access guest memory. */
bool fake_vhost_connected(FakeVhost *f);
/* What the kernel's thread does for vring @index of instance @instance when it has been kicked: takes all
 * requests, fills what is writable with FAKE_VHOST_MARK, completes and interrupts. Returns how many. */
unsigned fake_vhost_serve(FakeVhost *f, unsigned instance, unsigned index);
/* Opens an instance, as for vhostfd=. */
int fake_vhost_open(FakeVhost *f);

#endif

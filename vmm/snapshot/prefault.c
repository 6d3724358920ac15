/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/prefault.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>
#include "migration/trace_events.h"
#include "util/loop/worker.h"

#define PREFAULT_PIECE (INT64_C(4) << 20) /* bytes; a quit waits for so much at most */
#define PREFAULT_POPULATE_READ 22         /* MADV_POPULATE_READ; older C libraries do not have it */

static struct Prefault {
    VmListener listener; /* from the start to the end */
    Vm *vm;              /* NULL: nothing is prepared */
    int fd;              /* from the start on the worker's */
    WorkerLane lane;
    _Atomic bool stopping; /* set by main */
    uint64_t bytes;        /* the worker's: done */
} prefault;

/* ---- in the worker ---- */

static void prefault_rest(int64_t us)
{
    g_usleep((gulong)MAX(us, 100));
}

/* Bytes from @at on in the file, which are at @host. */
static void prefault_piece(struct Prefault *p, int64_t at, uint8_t *host, int64_t bytes)
{
    int64_t began_us = g_get_monotonic_time();
    /* The kernel reads without a lock on the address space, which the guest's own page faults take. */
    posix_fadvise(p->fd, at, bytes, POSIX_FADV_WILLNEED);
    madvise(host, (size_t)bytes, PREFAULT_POPULATE_READ);
    p->bytes += (uint64_t)bytes;
    prefault_rest(g_get_monotonic_time() - began_us);
}

static void prefault_block(struct Prefault *p, const RamBlock *b)
{
    int64_t begin = (int64_t)b->fd_offset, end = begin + (int64_t)b->size, at = begin;
    while (at < end && !p->stopping) {
        int64_t data = lseek(p->fd, at, SEEK_DATA);
        if (data < 0 && errno == EINVAL) {
            data = at; /* a file system that knows no holes */
        }
        if (data < 0 || data >= end) {
            return;
        }
        at = data / GUEST_RAM_PAGE * GUEST_RAM_PAGE;
        int64_t hole = lseek(p->fd, at, SEEK_HOLE);
        int64_t piece = MIN(PREFAULT_PIECE, (hole > data ? MIN(hole, end) : end) - at);
        prefault_piece(p, at, b->host + (at - begin), piece);
        at += piece;
    }
}

static int prefault_work(void *opaque)
{
    enter_worker();
    struct Prefault *p = opaque;
    const GuestRam *ram = &p->vm->machine.ram;
    for (unsigned i = 0; i < ram->count; i++) {
        if (ram->blocks[i].of_file) {
            prefault_block(p, &ram->blocks[i]);
        }
    }
    close(p->fd);
    return 0;
}

/* ---- in main ---- */

static void prefault_vm_ending(VmListener *l, VmCause cause, bool leaving)
{
    enter_main();
    prefault.stopping = prefault.stopping || leaving;
}

static void prefault_run(void *opaque)
{
    enter_main();
    enter_coroutine();
    struct Prefault *p = opaque;
    int64_t began_ns = aio_now_ns(p->vm->ctx);
    co_run_in_lane(&p->lane, prefault_work, p);
    trace_prefault_end(p->bytes, (aio_now_ns(p->vm->ctx) - began_ns) / 1000000);
    vm_unlisten(p->vm, &p->listener);
}

void prefault_prepare(Vm *vm, int fd)
{
    g_assert(prefault.vm == NULL);
    prefault.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    prefault.vm = prefault.fd >= 0 ? vm : NULL;
}

void prefault_start(void)
{
    if (prefault.vm == NULL) {
        return;
    }
    prefault.listener = (VmListener){.ending = prefault_vm_ending};
    vm_listen(prefault.vm, &prefault.listener);
    co_start(prefault.vm->ctx, prefault_run, &prefault);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/ram/capture_fork.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "migration/ram/ram_blank.h"
#include "migration/ram/capture.h"
#include "migration/ram/ram_image.h"
#include "migration/ram/ram_pagemap.h"
#include "util/loop/sched_point.h"

struct CaptureFork {
    const GuestRam *ram;
    int pid, pidfd;
    int mem; /* the child's memory as a file; -1: /proc is not there */
    int64_t pause_ns;
};

bool capture_fork_possible(const GuestRam *ram, GError **error)
{
    if (!capture_allowed(error)) {
        return false;
    }
    for (unsigned i = 0; i < ram->count; i++) {
        if (ram->blocks[i].fd >= 0) {
            g_set_error(
                error, RAM_IMAGE_ERROR, RAM_IMAGE_ERROR_MACHINE,
                "memory '%s' is shared, and a forked copy would change with it; use memory that "
                "is not in a memfd",
                ram->blocks[i].name);
            return false;
        }
    }
    return true;
}

/* ---- the cost of a fork ---- */

/* Of page tables that are copied, measured: for a small page an entry and its counts, for a huge one an entry and a
 * table for later. */
#define FORK_SMALL_PAGE_NS 137
#define FORK_HUGE_PAGE_NS 3100
#define FORK_AREA (UINT64_C(2) << 20) /* bytes of a huge page */
#define FORK_SAMPLES 64u              /* areas of a block that are looked at */

typedef struct ForkPages {
    uint64_t looked, present, huge; /* pages of 4 KiB */
} ForkPages;

/* Adds one area. The address space is locked for that only: reading smaps would lock it for all of memory, and main waits
 * for that lock with each mapping that it makes. False: the kernel does not have the call. */
static bool fork_look_at(int pagemap, uint64_t at, uint64_t bytes, ForkPages *pages)
{
    RamPagemapRegion regions[FORK_AREA / GUEST_RAM_PAGE / 2];
    RamPagemapScan scan = {.start = at,
                           .end = at + bytes,
                           .vec = (uintptr_t)regions,
                           .vec_len = G_N_ELEMENTS(regions),
                           .category_mask = RAM_PAGEMAP_PRESENT,
                           .return_mask = RAM_PAGEMAP_PRESENT | RAM_PAGEMAP_HUGE};
    int count = ram_pagemap_scan(pagemap, &scan);
    for (int i = 0; i < count; i++) {
        uint64_t some = (regions[i].end - regions[i].begin) / GUEST_RAM_PAGE;
        pages->present += some;
        pages->huge += (regions[i].categories & RAM_PAGEMAP_HUGE) != 0 ? some : 0;
    }
    pages->looked += bytes / GUEST_RAM_PAGE;
    return count >= 0;
}

/* Nanoseconds for one block, from areas that are evenly spread. */
static int64_t fork_predict_block(int pagemap, const RamBlock *b)
{
    ForkPages pages = {0};
    uint64_t areas = (b->size + FORK_AREA - 1) / FORK_AREA;
    unsigned samples = (unsigned)MIN(areas, FORK_SAMPLES);
    bool ok = pagemap >= 0;
    for (unsigned i = 0; i < samples && ok; i++) {
        uint64_t offset = areas * i / samples * FORK_AREA;
        ok = fork_look_at(pagemap, (uintptr_t)b->host + offset, MIN(b->size - offset, FORK_AREA),
                          &pages);
    }
    if (!ok) { /* the worst */
        pages = (ForkPages){.looked = 1, .present = 1};
    }
    double factor = (double)(b->size / GUEST_RAM_PAGE) / (double)MAX(pages.looked, 1);
    double small = (double)(pages.present - pages.huge) * factor;
    double huge = (double)pages.huge * factor * GUEST_RAM_PAGE / FORK_AREA;
    return (int64_t)(small * FORK_SMALL_PAGE_NS + huge * FORK_HUGE_PAGE_NS);
}

int64_t capture_fork_predict_ns(const GuestRam *ram)
{
    int64_t sum = 0;
    int pagemap = ram_pagemap_open(0);
    for (unsigned i = 0; i < ram->count; i++) {
        sum += fork_predict_block(pagemap, &ram->blocks[i]);
    }
    if (pagemap >= 0) {
        close(pagemap);
    }
    return sum;
}

/* ---- the copy ---- */

/* The child, on a copy of the forking thread's stack. @parent: a pidfd. Only system calls: no lock, no
 * allocation, nothing of a sanitizer, since other threads held anything at the fork. */
__attribute__((noreturn, noinline, no_sanitize("address", "thread", "undefined"))) static void
capture_fork_child(int parent)
{
    struct pollfd watched = {.fd = parent, .events = POLLIN};
    if (parent > 0) {
        syscall(SYS_close_range, 0u, (unsigned)parent - 1, 0u);
    }
    syscall(SYS_close_range, (unsigned)parent + 1, ~0u, 0u);
    while (syscall(SYS_ppoll, &watched, 1u, NULL, NULL, 0ul) == -1) {
        if (errno != EINTR) {
            break;
        }
    }
    for (;;) {
        syscall(SYS_exit_group, 0);
    }
}

/* All signals are blocked, so the child has no handler to run. 0 or -errno. */
__attribute__((no_sanitize("thread"))) static int capture_fork_clone(CaptureFork *c, int parent)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int64_t began_us = g_get_monotonic_time();
    /* No exit signal: skiff's children of other kinds are unaffected. */
    long pid = syscall(SYS_clone, (unsigned long)CLONE_PIDFD, NULL, &c->pidfd, NULL, NULL);
    if (pid == 0) {
        capture_fork_child(parent);
    }
    int ret = pid < 0 ? -errno : 0;
    c->pause_ns = (g_get_monotonic_time() - began_us) * 1000;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    c->pid = (int)pid;
    return ret;
}

/* process_vm_readv() pins what it reads, and the kernel first gives the child a copy of each page that it shares, for
 * ever: a save would take the memory of the guest twice. A read of /proc/PID/mem does not pin. */
static void capture_fork_open_memory(CaptureFork *c)
{
    char path[sizeof("/proc/-2147483648/mem")];
    char self[16] = "";
    if (readlink("/proc/self", self, sizeof(self) - 1) < 0 || atoi(self) != getpid()) {
        return; /* it is of other processes: a container may see the host's */
    }
    g_snprintf(path, sizeof(path), "/proc/%d/mem", c->pid);
    c->mem = open(path, O_RDONLY | O_CLOEXEC);
}

CaptureFork *capture_fork_begin(const GuestRam *ram, GError **error)
{
    if (!capture_fork_possible(ram, error)) {
        return NULL;
    }
    CaptureFork *c = g_new0(CaptureFork, 1);
    *c = (CaptureFork){.ram = ram, .pid = -1, .pidfd = -1, .mem = -1};
    uint8_t byte;
    int parent = (int)syscall(SYS_pidfd_open, getpid(), 0);
    int ret = parent < 0 ? -errno : capture_fork_clone(c, parent);
    if (parent >= 0) {
        close(parent);
    }
    if (ret == 0) {
        capture_fork_open_memory(c);
    }
    if (ret == 0 && ram->count > 0) {
        ret = capture_fork_read(c, 0, 0, &byte, 1);
    }
    if (ret != 0) {
        g_set_error(error, RAM_IMAGE_ERROR, RAM_IMAGE_ERROR_IO, "no frozen copy of memory: %s%s",
                    g_strerror(-ret),
                    ret == -EPERM ? "; a process that has changed its user may not read its child"
                                  : "");
        capture_fork_free(c);
        return NULL;
    }
    return c;
}

int capture_fork_read(void *opaque, unsigned block, uint64_t offset, void *buf, size_t len)
{
    const CaptureFork *c = opaque;
    uint8_t *from = c->ram->blocks[block].host + offset, *to = buf;
    while (len > 0) {
        struct iovec local = {to, len}, remote = {from, len};
        ssize_t got = c->mem >= 0 ? pread(c->mem, to, len, (off_t)(uintptr_t)from)
                                  : process_vm_readv(c->pid, &local, 1, &remote, 1, 0);
        if (got <= 0) {
            return got == 0 ? -ESRCH : -errno;
        }
        from += got;
        to += got;
        len -= (size_t)got;
    }
    return 0;
}

/* The page tables of a child that was killed lose their entries, so what was found counts only if the child was there
 * afterwards. A read of an empty page proves that: it needs a new entry, which the kernel refuses to a process whose memory it takes
 * away, also to one that the OOM killer has chosen. */
static RUNS_IN_WORKER int capture_fork_check(CaptureFork *c, unsigned block, uint64_t page)
{
    uint8_t byte = 0;
    int ret = capture_fork_read(c, block, page * GUEST_RAM_PAGE, &byte, 1);
    return ret == 0 && byte != 0 ? -EIO : ret;
}

int capture_fork_blank(void *opaque, unsigned block, uint64_t offset, uint64_t pages,
                       uint64_t *bits)
{
    CaptureFork *c = opaque;
    uint64_t first = offset / GUEST_RAM_PAGE;
    ram_blank_find(&c->ram->blocks[block], c->pid, first, pages, bits);
    SP("capture_fork.blank", c);
    for (uint64_t i = 0; i < pages; i++) {
        if (ram_map_test(bits, i)) {
            return capture_fork_check(c, block, first + i);
        }
    }
    return 0;
}

int capture_fork_restore(const CaptureFork *c, struct iovec *runs, unsigned count)
{
    while (count > 0) {
        unsigned now = MIN(count, (unsigned)IOV_MAX);
        /* The child has the memory at the same addresses. */
        ssize_t got = process_vm_readv(c->pid, runs, now, runs, now, 0);
        if (got <= 0) {
            return got == 0 ? -EIO : -errno;
        }
        while (count > 0 && (size_t)got >= runs->iov_len) {
            got -= (ssize_t)runs->iov_len;
            runs++;
            count--;
        }
        if (got > 0) {
            runs->iov_base = (uint8_t *)runs->iov_base + got;
            runs->iov_len -= (size_t)got;
        }
    }
    return 0;
}

void capture_fork_end(CaptureFork *c)
{
    if (c->pidfd >= 0) {
        syscall(SYS_pidfd_send_signal, c->pidfd, SIGKILL, NULL, 0);
    }
}

void capture_fork_free(CaptureFork *c)
{
    if (c == NULL) {
        return;
    }
    capture_fork_end(c);
    if (c->mem >= 0) {
        close(c->mem);
    }
    if (c->pidfd >= 0) {
        siginfo_t info;
        /* Until here the child's id is its own, also after its end. */
        while (waitid(P_PIDFD, (id_t)c->pidfd, &info, WEXITED | __WALL) != 0 && errno == EINTR) {
        }
        close(c->pidfd);
    }
    g_free(c);
}

int64_t capture_fork_pause_ns(const CaptureFork *c)
{
    return c->pause_ns;
}

int capture_fork_pid(const CaptureFork *c)
{
    return c->pid;
}

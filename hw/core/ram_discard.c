/* SPDX-License-Identifier: Apache-2.0 */
/* Guest RAM that the guest does not need: see guest_ram_discard() in ram.h. */
#include "hw/core/ram_keep.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

/* A discard against the begin of an operation that needs all pages where they are. In workers only. */
static pthread_mutex_t ram_discard_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned ram_keepers; /* under the lock */

static const RamBlock *ram_discard_find(const GuestRam *ram, uint64_t gpa, uint64_t len)
{
    for (unsigned i = 0; i < ram->count; i++) {
        const RamBlock *b = &ram->blocks[i];
        if (gpa >= b->gpa && gpa - b->gpa < b->size) {
            return len <= b->size - (gpa - b->gpa) && !b->read_only ? b : NULL;
        }
    }
    return NULL;
}

/* Zeroes instead of the file's pages. */
static int ram_discard_file(const RamBlock *b, uint64_t offset, uint64_t len)
{
    void *at = mmap(b->host + offset, len, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (at == MAP_FAILED) {
        return -errno;
    }
    madvise(at, len, MADV_DONTDUMP);
    return 0;
}

/* The bytes of a memfd belong to the file, whoever maps it: a hole gives them back. */
static int ram_discard_pages(const RamBlock *b, uint64_t offset, uint64_t len)
{
    if (b->of_file) {
        return ram_discard_file(b, offset, len);
    }
    int ret = b->fd >= 0 ? fallocate(b->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                     (off_t)(b->fd_offset + offset), (off_t)len)
                         : madvise(b->host + offset, len, MADV_DONTNEED);
    return ret == 0 ? 0 : -errno;
}

int guest_ram_discard(const GuestRam *ram, uint64_t gpa, uint64_t len)
{
    const RamBlock *b = ram_discard_find(ram, gpa, len);
    if (b == NULL) {
        return -EFAULT;
    }
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t first = (gpa - b->gpa + page - 1) & ~(page - 1);
    uint64_t end = (gpa - b->gpa + len) & ~(page - 1);
    if (first >= end) {
        return 0;
    }
    pthread_mutex_lock(&ram_discard_lock);
    int ret = ram_keepers > 0 ? -EBUSY : ram_discard_pages(b, first, end - first);
    pthread_mutex_unlock(&ram_discard_lock);
    guest_ram_mark(ram, b->gpa + first, end - first);
    return ret;
}

void guest_ram_keep_begin(void)
{
    pthread_mutex_lock(&ram_discard_lock);
    ram_keepers++;
    pthread_mutex_unlock(&ram_discard_lock);
}

void guest_ram_keep_end(void)
{
    pthread_mutex_lock(&ram_discard_lock);
    g_assert(ram_keepers > 0);
    ram_keepers--;
    pthread_mutex_unlock(&ram_discard_lock);
}

unsigned guest_ram_keepers(void)
{
    pthread_mutex_lock(&ram_discard_lock);
    unsigned count = ram_keepers;
    pthread_mutex_unlock(&ram_discard_lock);
    return count;
}

bool guest_ram_find_host(const GuestRam *ram, const void *host, uint64_t *gpa)
{
    for (unsigned i = 0; i < ram->count; i++) {
        const RamBlock *b = &ram->blocks[i];
        const uint8_t *at = host;
        if (at >= b->host && at < b->host + b->size) {
            *gpa = b->gpa + (uint64_t)(at - b->host);
            return true;
        }
    }
    return false;
}

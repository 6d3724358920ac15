/* SPDX-License-Identifier: Apache-2.0 */
/* Dirty memory: see ram.h. */
#include "hw/core/ram.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WORD_BITS 64u

static uint64_t log_words(const RamBlock *b)
{
    return (guest_ram_block_pages(b) + WORD_BITS - 1) / WORD_BITS;
}

/* ---- marking ---- */

/* Marks pages [first, last] of @b. A bit that is already set is written too: guest_ram_log_take()
 * then reads the page after the write that set it. */
static void block_mark(const RamBlock *b, uint64_t first, uint64_t last)
{
    while (first <= last) {
        uint64_t end = MIN(last, first | (WORD_BITS - 1));
        uint64_t mask = (UINT64_MAX >> (WORD_BITS - 1 - (end - first))) << (first % WORD_BITS);
        atomic_fetch_or_explicit(&b->dirty[first / WORD_BITS], mask, memory_order_acq_rel);
        first = end + 1;
    }
}

void guest_ram_mark_logged(const GuestRam *ram, uint64_t gpa, uint64_t len)
{
    if (len == 0) {
        return;
    }
    uint64_t last = gpa + (len - 1);
    for (unsigned i = 0; i < ram->count; i++) {
        const RamBlock *b = &ram->blocks[i];
        uint64_t block_last = b->gpa + (b->size - 1);
        if (last < b->gpa || gpa > block_last) {
            continue;
        }
        block_mark(b, (MAX(gpa, b->gpa) - b->gpa) / GUEST_RAM_PAGE,
                   (MIN(last, block_last) - b->gpa) / GUEST_RAM_PAGE);
    }
}

void guest_ram_mark_bitmap(const GuestRam *ram, uint64_t gpa, const uint64_t *bitmap,
                           uint64_t pages)
{
    for (uint64_t word = 0; word * WORD_BITS < pages; word++) {
        for (uint64_t bits = bitmap[word]; bits != 0; bits &= bits - 1) {
            uint64_t page = word * WORD_BITS + (unsigned)__builtin_ctzll(bits);
            if (page < pages) {
                guest_ram_mark_logged(ram, gpa + page * GUEST_RAM_PAGE, GUEST_RAM_PAGE);
            }
        }
    }
}

/* ---- the log ---- */

/* When this returns, every other thread has executed a full barrier: it sees `logging` after its
 * next write, or its earlier writes are visible here. */
static bool log_barrier(GError **error)
{
    static bool registered;
    if (!registered &&
        syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0) {
        registered = true;
    }
    if (!registered || syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) != 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "dirty memory cannot be logged: membarrier: %s", g_strerror(errno));
        return false;
    }
    return true;
}

bool guest_ram_log_start(GuestRam *ram, GError **error)
{
    g_assert(!atomic_load(&ram->logging));
    for (unsigned i = 0; i < ram->count; i++) {
        RamBlock *b = &ram->blocks[i];
        if (b->dirty == NULL) {
            b->dirty = g_malloc0(log_words(b) * sizeof(b->dirty[0]));
        }
        for (uint64_t word = 0; word < log_words(b); word++) {
            atomic_store_explicit(&b->dirty[word], 0, memory_order_relaxed);
        }
    }
    if (ram->log_ops != NULL && !ram->log_ops->start(ram->log_opaque, error)) {
        return false;
    }
    atomic_store(&ram->logging, true);
    if (!log_barrier(error)) {
        guest_ram_log_stop(ram);
        return false;
    }
    return true;
}

void guest_ram_log_add(RamBlock *b)
{
    b->dirty = g_malloc0(log_words(b) * sizeof(b->dirty[0]));
    block_mark(b, 0, guest_ram_block_pages(b) - 1);
}

void guest_ram_log_stop(GuestRam *ram)
{
    g_assert(atomic_load(&ram->logging));
    atomic_store(&ram->logging, false); /* the bitmaps stay allocated: a late mark writes to them */
    if (ram->log_ops != NULL) {
        ram->log_ops->stop(ram->log_opaque);
    }
}

bool guest_ram_log_sync(GuestRam *ram, GError **error)
{
    g_assert(atomic_load(&ram->logging));
    for (GuestRamLogger *l = ram->loggers; l != NULL; l = l->next) {
        if (l->on) {
            l->sync(l->opaque, ram);
        }
    }
    return ram->log_ops == NULL || ram->log_ops->sync(ram->log_opaque, ram, error);
}

void guest_ram_add_logger(GuestRam *ram, GuestRamLogger *logger)
{
    logger->next = ram->loggers;
    ram->loggers = logger;
}

void guest_ram_remove_logger(GuestRam *ram, GuestRamLogger *logger)
{
    GuestRamLogger **at = &ram->loggers;
    while (*at != logger) {
        at = &(*at)->next;
    }
    *at = logger->next;
}

bool guest_ram_co_log_start(GuestRam *ram, GError **error)
{
    if (!guest_ram_log_start(ram, error)) {
        return false;
    }
    for (GuestRamLogger *l = ram->loggers; l != NULL; l = l->next) {
        l->on = true; /* from now on a back end that starts logs too */
        if (!l->co_start(l->opaque, error)) {
            l->on = false;
            guest_ram_co_log_stop(ram);
            return false;
        }
    }
    return true;
}

void guest_ram_co_log_stop(GuestRam *ram)
{
    for (GuestRamLogger *l = ram->loggers; l != NULL; l = l->next) {
        if (l->on) {
            l->co_stop(l->opaque);
            l->on = false;
        }
    }
    guest_ram_log_stop(ram);
}

uint64_t guest_ram_log_take(const RamBlock *block, uint64_t first, uint64_t count, uint64_t *bitmap)
{
    uint64_t set = 0;
    g_assert(first % WORD_BITS == 0 && first + count <= guest_ram_block_pages(block));
    for (uint64_t done = 0; done < count; done += WORD_BITS) {
        uint64_t left = count - done;
        uint64_t mask = left < WORD_BITS ? (UINT64_C(1) << left) - 1 : UINT64_MAX;
        uint64_t bits = atomic_fetch_and_explicit(&block->dirty[(first + done) / WORD_BITS], ~mask,
                                                  memory_order_acq_rel) &
                        mask;
        bitmap[done / WORD_BITS] = bits;
        set += (unsigned)__builtin_popcountll(bits);
    }
    return set;
}

void guest_ram_log_free(GuestRam *ram)
{
    for (unsigned i = 0; i < ram->count; i++) {
        g_free((void *)(uintptr_t)ram->blocks[i].dirty);
        ram->blocks[i].dirty = NULL;
    }
}

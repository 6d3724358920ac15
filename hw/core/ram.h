/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM as devices see it: a few blocks of guest-physical address space with a host mapping.
 *
 * The set of blocks is built before any vCPU or queue runs and never changes afterwards, so lookups
 * from any thread need no lock. DMA goes to RAM only (R5): an address that is not wholly RAM is the
 * device's error, never an access.
 *
 * Dirty memory has one place: a bit for each page of each block, kept while logging is on.
 *   1. Host code that writes guest RAM marks the bytes after the write (guest_ram_mark()).
 *   2. Writes by vCPUs are in the machine's own log; guest_ram_log_sync() merges it.
 *   3. A page that is read after its bit was taken is either complete or has its bit set again.
 *   4. guest_ram_log_start() returns when all unmarked earlier writes of all threads are visible to
 *      the caller; later writes are marked.
 * tests/support/ram_watch.h write-protects RAM and finds writes that break rule 1.
 */
#ifndef SKIFF_HW_CORE_RAM_H
#define SKIFF_HW_CORE_RAM_H

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "util/loop/thread.h"

typedef struct RamBlock {
    uint64_t gpa;
    uint64_t size;
    uint8_t *host;
    bool read_only; /* ROM: the guest and DMA only read it */
    bool
        of_file; /* a private mapping of a file, after a load: pages that are given back would have its contents */
    int fd;             /* memfd behind it, or -1 */
    uint64_t fd_offset; /* of the block in the memfd; with of_file in that file */
    const char *name;
    _Atomic uint64_t *dirty; /* a bit for each page; allocated by the first guest_ram_log_start() */
} RamBlock;

#define GUEST_RAM_MAX_BLOCKS 8
#define GUEST_RAM_PAGE 4096u

typedef struct GuestRam GuestRam;

/* The machine's log of writes by vCPUs. Called in main. */
typedef struct GuestRamLogOps {
    bool (*start)(void *opaque, GError **error);
    void (*stop)(void *opaque);
    /* Marks in @ram the pages written since the start or the previous call. */
    bool (*sync)(void *opaque, const GuestRam *ram, GError **error);
} GuestRamLogOps;

/* A log of writes by a party outside the process (vhost), which marks nothing itself. All in main. */
typedef struct GuestRamLogger {
    /* A coroutine. When it returns true, all writes that follow are logged. */
    bool (*co_start)(void *opaque, GError **error);
    void (*co_stop)(void *opaque); /* a coroutine */
    /* Marks in @ram what was written since the start or the previous call. */
    void (*sync)(void *opaque, const GuestRam *ram);
    void *opaque;
    bool on;
    struct GuestRamLogger *next;
} GuestRamLogger;

struct GuestRam {
    RamBlock blocks[GUEST_RAM_MAX_BLOCKS]; /* sorted by gpa, not overlapping */
    unsigned count;
    _Atomic bool logging;
    const GuestRamLogOps *log_ops; /* NULL when no vCPU writes */
    void *log_opaque;
    GuestRamLogger *loggers; /* main */
};

/* Adds a mapping that the caller owns, before anything runs. Aborts on overlap (a bug of the
 * board). */
void guest_ram_add(GuestRam *ram, const RamBlock *block) ANY_THREAD;
/* Host address of [gpa, gpa+len), all inside one block. NULL when any byte is not RAM, is read-only
 * while @write, or @len is 0. */
void *guest_ram_map(const GuestRam *ram, uint64_t gpa, uint64_t len, bool write) ANY_THREAD;
/* Copies. False (nothing copied) when the range is not wholly RAM. It may span adjacent blocks. */
bool guest_ram_read(const GuestRam *ram, uint64_t gpa, void *buf, uint64_t len) ANY_THREAD;
bool guest_ram_write(const GuestRam *ram, uint64_t gpa, const void *buf, uint64_t len) ANY_THREAD;
/* Gives the host's memory behind the whole host pages of [gpa, gpa+len) back. They read as zeroes then,
 * and are marked dirty. 0, or -errno: -EFAULT if the range is not in one block of RAM; after another
 * error the pages have either content. A system call, which may take milliseconds for a large range. */
int guest_ram_discard(const GuestRam *ram, uint64_t gpa, uint64_t len) RUNS_IN_WORKER;
/* The address of a byte that guest_ram_map() has mapped; false if it is none. */
bool guest_ram_find_host(const GuestRam *ram, const void *host, uint64_t *gpa) ANY_THREAD;
/* ---- dirty memory ---- */
/* Called after each write through a pointer from guest_ram_map(). Bytes that are not RAM are
 * ignored. Costs one load while logging is off. */
static inline void guest_ram_mark(const GuestRam *ram, uint64_t gpa, uint64_t len) ANY_THREAD;
void guest_ram_mark_logged(const GuestRam *ram, uint64_t gpa, uint64_t len) ANY_THREAD;
/* Marks, among @pages pages from @gpa, those set in @bitmap (bit n is the page at @gpa + n
 * pages). */
void guest_ram_mark_bitmap(const GuestRam *ram, uint64_t gpa, const uint64_t *bitmap,
                           uint64_t pages) ANY_THREAD;
/* Starts with all bits clear. The VM may run. False + error: the machine cannot log. */
bool guest_ram_log_start(GuestRam *ram, GError **error) RUNS_IN_MAIN;
void guest_ram_log_stop(GuestRam *ram) RUNS_IN_MAIN;
/* A block that comes while memory is logged: all of it is dirty. */
void guest_ram_log_add(RamBlock *b) ANY_THREAD;
bool guest_ram_log_sync(GuestRam *ram, GError **error) RUNS_IN_MAIN;
/* The same with loggers, which the functions above leave alone, except that a sync includes those that
 * have been started. False + error: one of them cannot log, and nothing is logged. */
bool guest_ram_co_log_start(GuestRam *ram, GError **error) coroutine_fn RUNS_IN_MAIN;
void guest_ram_co_log_stop(GuestRam *ram) coroutine_fn RUNS_IN_MAIN;
/* @logger is borrowed until it is removed. */
void guest_ram_add_logger(GuestRam *ram, GuestRamLogger *logger) RUNS_IN_MAIN;
void guest_ram_remove_logger(GuestRam *ram, GuestRamLogger *logger) RUNS_IN_MAIN;
/* Moves the bits of pages [first, first + count) of @block into @bitmap, whose bit 0 is page
 * @first. @first is a multiple of 64. Returns the number of set bits. */
uint64_t guest_ram_log_take(const RamBlock *block, uint64_t first, uint64_t count, uint64_t *bitmap)
    ANY_THREAD;
/* Frees the bitmaps, after all threads have stopped. */
void guest_ram_log_free(GuestRam *ram) ANY_THREAD;
static inline uint64_t guest_ram_block_pages(const RamBlock *block)
{
    return (block->size + GUEST_RAM_PAGE - 1) / GUEST_RAM_PAGE;
}

static inline void guest_ram_mark(const GuestRam *ram, uint64_t gpa, uint64_t len)
{
    /* Orders the write before the load. guest_ram_log_start() has the barrier for the processor. */
    atomic_signal_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&ram->logging, memory_order_acquire)) {
        guest_ram_mark_logged(ram, gpa, len);
    }
}

/* Bytes of RAM (not ROM) below/above 4 GiB. */
uint64_t guest_ram_below_4g(const GuestRam *ram) ANY_THREAD;
uint64_t guest_ram_above_4g(const GuestRam *ram) ANY_THREAD;

#endif

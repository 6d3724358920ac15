/* SPDX-License-Identifier: Apache-2.0 */
/* The states of pages, and the pool of those that are held. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include "migration/ram/capture_wp_int.h"
#include "migration/ram/ram_blank.h"
#include "migration/ram/ram_image.h"
#include "migration/ram/ram_pagemap.h"
#include "util/loop/sched_point.h"

/* ---- maps ---- */

/* Address space only: pages of it exist once they are used. NULL: there is none. */
static void *wp_map(uint64_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
        return NULL;
    }
    madvise(at, bytes, MADV_DONTDUMP); /* core files omit guest memory */
    return at;
}

static uint32_t wp_area(const WpBlock *b, uint32_t page)
{
    uintptr_t host = (uintptr_t)b->host;
    return (uint32_t)(((host + (uint64_t)page * GUEST_RAM_PAGE) >> WP_AREA_SHIFT) -
                      (host >> WP_AREA_SHIFT));
}

/* The first page of the area after that of @page. */
static uint32_t wp_area_end(const WpBlock *b, uint32_t page)
{
    uintptr_t next = ((((uintptr_t)b->host + (uint64_t)page * GUEST_RAM_PAGE) >> WP_AREA_SHIFT) + 1)
                     << WP_AREA_SHIFT;
    return (uint32_t)MIN((next - (uintptr_t)b->host) / GUEST_RAM_PAGE, b->pages);
}

static uint64_t wp_map_bytes(const WpBlock *b)
{
    return ((uint64_t)b->pages + 63) / 64 * sizeof(uint64_t);
}

static uint64_t wp_slots_bytes(const WpBlock *b)
{
    return b->pages * sizeof(uint32_t);
}

static bool wp_block_init(WpBlock *b, const RamBlock *ram)
{
    *b = (WpBlock){.host = ram->host, .pages = (uint32_t)(ram->size / GUEST_RAM_PAGE)};
    b->armed = wp_map(wp_map_bytes(b));
    b->saved = wp_map(wp_map_bytes(b));
    b->empty = wp_map(wp_map_bytes(b));
    b->scanned = b->pages;
    b->slots = wp_map(wp_slots_bytes(b));
    b->area_left = g_try_new0(uint16_t, wp_area(b, b->pages - 1) + 1);
    if (b->armed == NULL || b->saved == NULL || b->empty == NULL || b->slots == NULL ||
        b->area_left == NULL) {
        return false;
    }
    for (uint32_t page = 0; page < b->pages; page = wp_area_end(b, page)) {
        b->area_left[wp_area(b, page)] = (uint16_t)(wp_area_end(b, page) - page);
    }
    return true;
}

bool wp_pages_init(CaptureWp *c, GError **error)
{
    const GuestRam *ram = c->config.ram;
    bool ok = true;
    uint64_t pages = 0;
    c->count = ram->count;
    for (unsigned i = 0; i < ram->count && ok; i++) {
        ok = wp_block_init(&c->blocks[i], &ram->blocks[i]);
        pages += c->blocks[i].pages;
    }
    c->pool_bytes = (pages + 1) * GUEST_RAM_PAGE;
    c->pool = ok && pages < UINT32_MAX ? wp_map(c->pool_bytes) : NULL;
    if (c->pool == NULL) {
        g_set_error(error, RAM_IMAGE_ERROR, RAM_IMAGE_ERROR_IO,
                    "no write protection of memory: no address space for the pages that are held");
        return false;
    }
    c->fresh = 1;
    c->open = pages;
    if (c->config.bound == 0) {
        c->config.bound = MAX(pages * GUEST_RAM_PAGE / 4, UINT64_C(64) << 20);
    }
    return true;
}

void wp_pages_clear(CaptureWp *c)
{
    for (unsigned i = 0; i < c->count; i++) {
        WpBlock *b = &c->blocks[i];
        if (b->armed != NULL) {
            munmap(b->armed, wp_map_bytes(b));
        }
        if (b->saved != NULL) {
            munmap(b->saved, wp_map_bytes(b));
        }
        if (b->empty != NULL) {
            munmap(b->empty, wp_map_bytes(b));
        }
        if (b->slots != NULL) {
            munmap(b->slots, wp_slots_bytes(b));
        }
        g_free(b->area_left);
    }
    if (c->pool != NULL) {
        munmap(c->pool, c->pool_bytes);
    }
}

void wp_pages_drop_pool(const CaptureWp *c)
{
    madvise(c->pool, c->pool_bytes, MADV_DONTNEED);
}

static void wp_set(uint64_t *map, uint32_t page)
{
    map[page / 64] |= UINT64_C(1) << (page % 64);
}

static void wp_clear(uint64_t *map, uint32_t page)
{
    map[page / 64] &= ~(UINT64_C(1) << (page % 64));
}

/* ---- the pool ---- */

/* A free slot has the number of the next one in its first bytes. */
static uint32_t wp_slot_take(CaptureWp *c)
{
    uint32_t slot = c->free;
    if (slot != 0) {
        memcpy(&c->free, c->pool + (uint64_t)slot * GUEST_RAM_PAGE, sizeof(c->free));
    } else {
        slot = c->fresh++; /* there are as many as pages */
    }
    c->held++;
    c->stats.held_peak = MAX(c->stats.held_peak, c->held * GUEST_RAM_PAGE);
    return slot;
}

static void wp_slot_give(CaptureWp *c, uint32_t slot)
{
    memcpy(c->pool + (uint64_t)slot * GUEST_RAM_PAGE, &c->free, sizeof(c->free));
    c->free = slot;
    c->held--;
}

/* ---- faults ---- */

/* @address is of a page that the kernel has registered, so there is one. */
static WpBlock *wp_find(CaptureWp *c, uint64_t address, uint32_t *page)
{
    for (unsigned i = 0; i < c->count; i++) {
        WpBlock *b = &c->blocks[i];
        uint64_t offset = address - (uintptr_t)b->host;
        if (address >= (uintptr_t)b->host && offset / GUEST_RAM_PAGE < b->pages) {
            *page = (uint32_t)(offset / GUEST_RAM_PAGE);
            return b;
        }
    }
    bug_abort("invariant 1: a fault at %#lx, which is no guest memory", (unsigned long)address);
}

/* A page that is there, or has a protection though it is not (@empty): the thread must not read that, it would wait for
 * itself. */
static RUNS_IN_MIGRATION int wp_open_page(CaptureWp *c, WpBlock *b, uint32_t page, bool empty)
{
    if (wp_bit(b->armed, page)) { /* else another one that has met the same protection */
        if (c->phase == WP_FROZEN && !wp_bit(b->saved, page)) {
            b->slots[page] = wp_slot_take(c);
            uint8_t *held = c->pool + (uint64_t)b->slots[page] * GUEST_RAM_PAGE;
            if (empty) {
                memset(held, 0, GUEST_RAM_PAGE);
            } else {
                ram_copy_live(held, b->host + (uint64_t)page * GUEST_RAM_PAGE, GUEST_RAM_PAGE);
            }
        }
        c->open += c->phase == WP_ARMING || c->phase == WP_ARMED;
        wp_clear(b->armed, page);
    }
    return wp_kernel_unprotect(c, b, page, 1);
}

/* In FROZEN it stays EMPTY: its bytes of the instant are zeroes, whatever is written now. */
static RUNS_IN_MIGRATION int wp_fill_page(CaptureWp *c, WpBlock *b, uint32_t page)
{
    if ((c->phase == WP_ARMING || c->phase == WP_ARMED) && ram_map_test(b->empty, page)) {
        ram_map_clear(b->empty, page);
        c->open++;
    }
    int ret = wp_kernel_fill(c, b, page);
    /* Another one has met it first, or it is in a gap that was protected; then the fault comes again. */
    return ret == -EEXIST ? wp_kernel_unprotect(c, b, page, 1) : ret;
}

int wp_pages_fault(CaptureWp *c, const WpFault *fault)
{
    uint32_t page;
    WpBlock *b = wp_find(c, fault->address, &page);
    SP("capture_wp.fault", c);
    return fault->empty && !wp_bit(b->armed, page) ? wp_fill_page(c, b, page)
                                                   : wp_open_page(c, b, page, fault->empty);
}

/* ---- rounds ---- */

int wp_pages_watch_empty(CaptureWp *c)
{
    for (unsigned i = 0; i < c->count; i++) {
        WpBlock *b = &c->blocks[i];
        b->scanned = c->config.ram->blocks[i].fd < 0 ? 0 : b->pages;
    }
    return wp_kernel_watch_empty(c);
}

/* The thread alone fills what is empty, so what it finds here stays empty until it serves the fault of who needs the
 * page (wp_fill_page()). A page that was filled before is found as there, and protected. */
static RUNS_IN_MIGRATION int wp_scan(CaptureWp *c, WpBlock *b)
{
    uint32_t count = MIN(b->pages - b->scanned, WP_SCAN_PAGES);
    uint64_t *bits = b->empty + b->scanned / 64;
    int ret = ram_pagemap_find_empty(c->pagemap, b->host + (uint64_t)b->scanned * GUEST_RAM_PAGE,
                                     count, false, bits);
    c->open -= ram_blank_count(bits, count);
    b->scanned += count;
    SP("capture_wp.scan", c);
    return ret;
}

/* The first page from @page on that is open; @b->scanned: there is none that is known to be. */
static uint32_t wp_next_open(const WpBlock *b, uint32_t page)
{
    while (page < b->scanned) {
        uint64_t bits =
            ~(b->armed[page / 64] | GUINT64_FROM_LE(b->empty[page / 64])) >> (page % 64);
        if (bits != 0) {
            return MIN(page + (unsigned)__builtin_ctzll(bits), b->scanned);
        }
        page = (page / 64 + 1) * 64;
    }
    return b->scanned;
}

/* The end of the run of pages from @first on, which is open: short gaps of others are part of it. */
static uint32_t wp_run_end(const WpBlock *b, uint32_t first, uint32_t max, uint64_t *open)
{
    uint32_t end = first;
    uint32_t next = first;
    *open = 0;
    while (next < b->scanned && next - first < max && next - end < WP_GAP_PAGES) {
        end = next + 1;
        ++*open;
        next = wp_next_open(b, end);
    }
    return end;
}

static RUNS_IN_MIGRATION int wp_arm_run(CaptureWp *c, WpBlock *b, uint32_t first, uint32_t *end,
                                        uint32_t max)
{
    uint64_t open;
    *end = wp_run_end(b, first, max, &open);
    int ret = wp_kernel_protect(c, b, first, *end - first);
    for (uint32_t page = first; page < *end && ret == 0; page++) {
        if (!ram_map_test(b->empty, page)) {
            wp_set(b->armed, page);
        }
    }
    c->open -= ret == 0 ? open : 0;
    return ret;
}

int wp_pages_arm_chunk(CaptureWp *c, bool *more)
{
    int ret = 0;
    uint32_t first = 0, left = WP_CHUNK_PAGES;
    *more = true;
    while (ret == 0 && left > 0 && *more) {
        WpBlock *b = &c->blocks[c->at_block];
        first = wp_next_open(b, c->at_page);
        if (first < b->scanned) {
            ret = wp_arm_run(c, b, first, &c->at_page, left);
            left -=
                MIN(c->at_page - first + WP_GAP_PAGES, left); /* a call has a price of its own */
        } else if (first < b->pages) {
            c->at_page = first;
            ret = wp_scan(c, b);
            left -= MIN(WP_SCAN_PRICE, left);
        } else {
            c->at_page = 0;
            *more = ++c->at_block < c->count;
        }
    }
    return ret;
}

int wp_pages_arm_rest(CaptureWp *c)
{
    int ret = 0;
    for (unsigned i = 0; i < c->count && ret == 0; i++) {
        WpBlock *b = &c->blocks[i];
        uint32_t at = wp_next_open(b, 0);
        while (at < b->pages && ret == 0) {
            ret = wp_arm_run(c, b, at, &at, b->pages);
            at = wp_next_open(b, at);
        }
    }
    return ret;
}

/* ---- reads ---- */

/* From the place of the last one on, so that the maps are walked once for each time around. */
static uint64_t wp_next_held(CaptureWp *c)
{
    for (unsigned n = 0; n <= c->count; n++) {
        const WpBlock *b = &c->blocks[c->at_block];
        while (c->at_page < b->pages && b->slots[c->at_page] == 0) {
            c->at_page++;
        }
        if (c->at_page < b->pages) {
            return ((uint64_t)c->at_block << 32 | c->at_page) + 1;
        }
        c->at_page = 0;
        c->at_block = (c->at_block + 1) % c->count;
    }
    return 0;
}

void wp_pages_hurry(CaptureWp *c)
{
    uint64_t urgent = c->held * GUEST_RAM_PAGE < c->config.bound / 2 ? 0 : wp_next_held(c);
    if (urgent != atomic_load_explicit(&c->urgent, memory_order_relaxed)) {
        atomic_store(&c->urgent, urgent);
    }
}

/* An area of which all pages were saved: writes of it cost nothing from now on. */
static RUNS_IN_MIGRATION int wp_let_go(const CaptureWp *c, WpBlock *b, uint32_t page)
{
    uint32_t end = wp_area_end(b, page);
    uintptr_t host = (uintptr_t)b->host;
    uintptr_t begin = (host >> WP_AREA_SHIFT) + wp_area(b, page);
    begin = MAX(begin << WP_AREA_SHIFT, host);
    uint32_t first = (uint32_t)((begin - host) / GUEST_RAM_PAGE);
    bool armed = false;
    for (page = first; page < end; page++) {
        armed = armed || wp_bit(b->armed, page);
        wp_clear(b->armed, page);
    }
    return armed ? wp_kernel_unprotect(c, b, first, end - first) : 0;
}

/* Pages that are not wanted and were all EMPTY are no business of the thread any more: who fills one now waits for nobody. */
static RUNS_IN_MIGRATION int wp_release_empty(const CaptureWp *c, const WpBlock *b,
                                              const WpCall *read)
{
    bool all = read->blank != NULL && read->count >= WP_RELEASE_PAGES;
    for (uint32_t i = 0; i < read->count && all; i++) {
        all = ram_map_test(b->empty, read->first + i);
    }
    return all ? wp_kernel_unregister(c, b, read->first, read->count) : 0;
}

static void wp_give_bytes(CaptureWp *c, WpBlock *b, uint32_t page, uint8_t *to)
{
    uint32_t slot = b->slots[page];
    if (slot != 0) {
        if (to != NULL) {
            memcpy(to, c->pool + (uint64_t)slot * GUEST_RAM_PAGE, GUEST_RAM_PAGE);
        }
        wp_slot_give(c, slot);
        b->slots[page] = 0;
    } else if (to != NULL && ram_map_test(b->empty, page)) {
        memset(to, 0, GUEST_RAM_PAGE); /* it may have been filled before it was read */
    }
}

int wp_pages_saved(CaptureWp *c, const WpCall *read)
{
    WpBlock *b = &c->blocks[read->block];
    int ret = 0;
    for (uint32_t i = 0; i < read->count && ret == 0; i++) {
        uint32_t page = read->first + i;
        if (read->blank != NULL && !ram_map_test(read->blank, i)) {
            continue;
        }
        if (wp_bit(b->saved, page)) {
            return -ESTALE;
        }
        wp_give_bytes(c, b, page,
                      read->buf != NULL ? read->buf + (size_t)i * GUEST_RAM_PAGE : NULL);
        wp_set(b->saved, page);
        if (--b->area_left[wp_area(b, page)] == 0) {
            ret = wp_let_go(c, b, page);
        }
    }
    return ret != 0 ? ret : wp_release_empty(c, b, read);
}

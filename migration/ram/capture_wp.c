/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a capture, and its readers. */
#include "migration/ram/capture_wp.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "hw/core/ram_keep.h"
#include "migration/ram/capture_wp_int.h"
#include "migration/ram/ram_blank.h"
#include "migration/ram/ram_image.h"
#include "migration/ram/ram_pagemap.h"
#include "util/loop/sched_point.h"

/* ---- life ---- */

static RUNS_IN_WORKER bool capture_start(CaptureWp *c, GError **error)
{
    c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    c->pagemap = c->unpopulated ? ram_pagemap_open(0) : -1;
    if (c->wake_fd >= 0 && thread_start(&c->thread, THREAD_MIGRATION, "capture", wp_thread, c)) {
        c->started = true;
        return true;
    }
    g_set_error(error, RAM_IMAGE_ERROR, RAM_IMAGE_ERROR_IO,
                "no write protection of memory: no thread for it: %s", g_strerror(errno));
    return false;
}

CaptureWp *capture_wp_new(const CaptureWpConfig *config, GError **error)
{
    if (!capture_wp_possible(config->ram, error)) {
        return NULL;
    }
    CaptureWp *c = g_new0(CaptureWp, 1);
    c->config = *config;
    c->uffd = c->wake_fd = c->pagemap = -1;
    pthread_mutex_init(&c->lock, NULL);
    guest_ram_keep_begin();
    if (!wp_pages_init(c, error) || !wp_kernel_open(c, error) || !wp_kernel_register(c, error) ||
        !capture_start(c, error)) {
        capture_wp_free(c);
        return NULL;
    }
    return c;
}

void capture_wp_end(CaptureWp *c)
{
    atomic_store(&c->ended, true);
    eventfd_write(c->wake_fd, 1);
}

void capture_wp_give_up(CaptureWp *c, const char *why)
{
    const char *none = NULL;
    atomic_compare_exchange_strong(&c->failure, &none, why);
    capture_wp_end(c);
}

const char *capture_wp_failure(const CaptureWp *c)
{
    return atomic_load(&c->failure);
}

void capture_wp_free(CaptureWp *c)
{
    if (c == NULL) {
        return;
    }
    if (c->started) {
        capture_wp_end(c);
        pthread_join(c->thread, NULL);
    }
    if (c->uffd >= 0) {
        close(c->uffd); /* what is registered is released */
    }
    if (c->wake_fd >= 0) {
        close(c->wake_fd);
    }
    if (c->pagemap >= 0) {
        close(c->pagemap);
    }
    if (!c->started) {
        guest_ram_keep_end(); /* else the thread has done it */
    }
    wp_pages_clear(c);
    pthread_mutex_destroy(&c->lock);
    g_free(c);
}

/* ---- calls ---- */

static RUNS_IN_WORKER int capture_call(CaptureWp *c, WpCall *call, const char *what)
{
    completion_init(&call->done);
    pthread_mutex_lock(&c->lock);
    WpCall **at = &c->calls;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    bool gone = c->gone;
    if (!gone) {
        *at = call;
    }
    pthread_mutex_unlock(&c->lock);
    if (gone) {
        return c->error != 0 ? c->error : -ECANCELED;
    }
    eventfd_write(c->wake_fd, 1);
    return completion_wait(&call->done, what);
}

int capture_wp_arm(CaptureWp *c)
{
    WpCall call = {.kind = WP_CALL_ARM};
    return capture_call(c, &call, "protection of memory");
}

int capture_wp_freeze(CaptureWp *c)
{
    WpCall call = {.kind = WP_CALL_FREEZE};
    return capture_call(c, &call, "protection of memory");
}

int capture_wp_read(void *opaque, unsigned block, uint64_t offset, void *buf, size_t len)
{
    CaptureWp *c = opaque;
    g_assert((offset | len) % GUEST_RAM_PAGE == 0);
    if (atomic_load(&c->ended)) {
        return -ECANCELED;
    }
    WpCall call = {.kind = WP_CALL_READ,
                   .block = block,
                   .first = (uint32_t)(offset / GUEST_RAM_PAGE),
                   .count = (uint32_t)(len / GUEST_RAM_PAGE),
                   .buf = buf};
    ram_copy_live(buf, c->config.ram->blocks[block].host + offset, len);
    SP("capture_wp.read", c);
    return capture_call(c, &call, "memory that is held");
}

/* Private memory: what was EMPTY at the instant. Shared memory: a hole of the file now is one of the instant, too, since
 * nobody gives memory back meanwhile (invariant 6). A page that is written from here on is HELD until the call below, which drops
 * it: its bytes of the instant are zeroes. */
int capture_wp_blank(void *opaque, unsigned block, uint64_t offset, uint64_t pages, uint64_t *bits)
{
    CaptureWp *c = opaque;
    uint32_t first = (uint32_t)(offset / GUEST_RAM_PAGE);
    g_assert(offset % GUEST_RAM_PAGE == 0 && first % 64 == 0);
    if (atomic_load(&c->ended)) {
        return -ECANCELED;
    }
    const RamBlock *b = &c->config.ram->blocks[block];
    if (b->fd >= 0) {
        ram_blank_find(b, 0, first, pages, bits);
    } else {
        memcpy(bits, c->blocks[block].empty + first / 64, (pages + 63) / 64 * sizeof(bits[0]));
    }
    SP("capture_wp.blank", c);
    WpCall call = {.kind = WP_CALL_READ,
                   .block = block,
                   .first = first,
                   .count = (uint32_t)pages,
                   .blank = bits};
    return ram_blank_count(bits, pages) > 0 ? capture_call(c, &call, "memory that is held") : 0;
}

bool capture_wp_urgent(const CaptureWp *c, unsigned *block, uint64_t *offset)
{
    uint64_t urgent = atomic_load(&c->urgent);
    *block = (unsigned)((urgent - 1) >> 32);
    *offset = (uint32_t)(urgent - 1) * (uint64_t)GUEST_RAM_PAGE;
    return urgent != 0;
}

CaptureWpStats capture_wp_stats(const CaptureWp *c)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&c->lock;
    pthread_mutex_lock(lock);
    CaptureWpStats stats = c->stats_out;
    pthread_mutex_unlock(lock);
    return stats;
}

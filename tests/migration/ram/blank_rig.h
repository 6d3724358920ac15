/* SPDX-License-Identifier: Apache-2.0 */
/* Guest RAM of which most pages were never touched, private or shared, and what the kernel says about them. */
#ifndef SKIFF_TESTS_MIGRATION_RAM_BLANK_RIG_H
#define SKIFF_TESTS_MIGRATION_RAM_BLANK_RIG_H

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "migration/ram/ram_blank.h"
#include "migration/ram/ram_pagemap.h"
#include "tests/migration/ram/ram_test.h"
#include "util/loop/sched_point.h"
#include "util/sys/sys_fault.h"

/* More than is looked at with one call, and no whole number of anything. */
#define BLANK_LOW (UINT64_C(2) << 20)
#define BLANK_HIGH ((UINT64_C(66) << 20) + UINT64_C(67) * 4096)
#define BLANK_ALL (BLANK_LOW + BLANK_HIGH)
#define BLANK_PAGES (BLANK_ALL / 4096)
#define BLANK_HIGH_FIRST (BLANK_LOW / 4096) /* the first page of the second block */
#define BLANK_DISK "mem,size=96M"

typedef struct BlankRam {
    GuestRam ram;
    uint8_t *host;
    int fd;
    uint8_t *seeds; /* of each page: what it has to be; 0: zero */
} BlankRam;

static inline void blank_init(BlankRam *t, bool shared)
{
    *t = (BlankRam){.fd = -1, .seeds = g_malloc0(BLANK_PAGES)};
    if (shared) {
        t->fd = memfd_create("ram", MFD_CLOEXEC);
        assert_int_equal(ftruncate(t->fd, (off_t)BLANK_ALL), 0);
    }
    int flags = shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    t->host = mmap(NULL, BLANK_ALL, PROT_READ | PROT_WRITE, flags, t->fd, 0);
    assert_ptr_not_equal(t->host, MAP_FAILED);
    madvise(t->host, BLANK_ALL, MADV_NOHUGEPAGE); /* so that pages can be counted */
    guest_ram_add(&t->ram,
                  &(RamBlock){.size = BLANK_LOW, .host = t->host, .fd = t->fd, .name = "low"});
    guest_ram_add(&t->ram, &(RamBlock){.gpa = UINT64_C(4) << 30,
                                       .size = BLANK_HIGH,
                                       .host = t->host + BLANK_LOW,
                                       .fd = t->fd,
                                       .fd_offset = BLANK_LOW,
                                       .name = "high"});
}

static inline void blank_clear(BlankRam *t)
{
    munmap(t->host, BLANK_ALL);
    if (t->fd >= 0) {
        close(t->fd);
    }
    g_free(t->seeds);
}

static inline uint8_t *blank_page(const BlankRam *t, uint64_t page)
{
    return t->host + page * 4096;
}

/* Writes without a note of it: @seed 0: zeroes. */
static inline void blank_write(const BlankRam *t, uint64_t page, uint8_t seed)
{
    if (seed == 0) {
        memset(blank_page(t, page), 0, 4096);
    } else {
        test_fill(blank_page(t, page), 4096, seed);
    }
}

static inline void blank_touch(BlankRam *t, uint64_t page, uint8_t seed)
{
    blank_write(t, page, seed);
    t->seeds[page] = seed;
}

/* Some pages at random places, most of them with data, the first and last ones of each block among them. */
static inline void blank_touch_some(BlankRam *t, uint32_t random)
{
    const uint64_t ends[] = {0, BLANK_HIGH_FIRST - 1, BLANK_HIGH_FIRST, BLANK_PAGES - 1};
    for (unsigned i = 0; i < G_N_ELEMENTS(ends); i++) {
        blank_touch(t, ends[i], (uint8_t)(i + 1));
    }
    g_autoptr(GRand) rand = g_rand_new_with_seed(random);
    for (unsigned i = 0; i < 300; i++) {
        uint64_t page = (uint64_t)g_rand_int_range(rand, 0, (gint32)BLANK_PAGES);
        uint32_t run = 1 + g_rand_int(rand) % 5;
        for (; run > 0 && page < BLANK_PAGES; run--, page++) {
            blank_touch(t, page, (uint8_t)(g_rand_int(rand) % 8));
        }
    }
}

/* Whether memory is as it was noted. */
static inline void blank_check(const BlankRam *t, const uint8_t *host)
{
    uint8_t expected[4096] = {0};
    uint8_t seed = 0; /* of what is expected */
    for (uint64_t page = 0; page < BLANK_PAGES; page++) {
        if (t->seeds[page] != seed) {
            seed = t->seeds[page];
            memset(expected, 0, sizeof(expected));
        }
        if (seed != 0) {
            test_fill(expected, sizeof(expected), seed);
        }
        if (memcmp(host + page * 4096, expected, sizeof(expected)) != 0) {
            fail_msg("page %lu is not what it was", (unsigned long)page);
        }
    }
}

/* Pages that have memory: by mincore(), which does not know what ram_pagemap.c asks; in the file if it is shared. */
static inline uint64_t blank_populated(const BlankRam *t)
{
    if (t->fd >= 0) {
        struct stat st;
        assert_int_equal(fstat(t->fd, &st), 0);
        return (uint64_t)st.st_blocks * 512 / 4096;
    }
    uint64_t count = 0;
    g_autofree unsigned char *in = g_malloc(BLANK_PAGES);
    assert_int_equal(mincore(t->host, BLANK_ALL, in), 0);
    for (uint64_t page = 0; page < BLANK_PAGES; page++) {
        count += in[page] & 1;
    }
    return count;
}

/* Gives the pages of a discard back as a balloon does. */
typedef struct BlankDiscard {
    const BlankRam *t;
    uint64_t page, count;
} BlankDiscard;

static inline int blank_discard_run(void *opaque)
{
    enter_worker();
    const BlankDiscard *d = opaque;
    uint64_t gpa;
    assert_true(guest_ram_find_host(&d->t->ram, blank_page(d->t, d->page), &gpa));
    return guest_ram_discard(&d->t->ram, gpa, d->count * 4096);
}

static inline coroutine_fn RUNS_IN_MAIN void blank_discard(const BlankRam *t, uint64_t page,
                                                           uint64_t count)
{
    BlankDiscard d = {t, page, count};
    assert_int_equal(co_run_in_worker(blank_discard_run, &d), 0);
}

/* ---- saving ---- */

/* Saves with @how to @blk and loads that into memory with other contents, which has to be what was noted. */
static inline coroutine_fn RUNS_IN_MAIN int blank_save(const BlankRam *t, BlockBackend *blk,
                                                       RamImageSave how)
{
    RamImage image;
    assert_true(ram_image_plan(&image, &t->ram, NULL));
    RamTestCall s = {.save = how, .image = &image};
    s.save.blk = blk;
    s.save.offset = RAM_TEST_OFFSET;
    co_call_in(test_home, ram_test_run, &s);
    test_event_wait(&s.done);
    return s.ret;
}

static inline coroutine_fn RUNS_IN_MAIN void blank_expect_image(const BlankRam *t,
                                                                BlockBackend *blk)
{
    BlankRam loaded;
    blank_init(&loaded, false);
    memset(loaded.host, 0x5a, BLANK_ALL);
    RamTestCall l = {.save = {.blk = blk, .offset = RAM_TEST_OFFSET}, .ram = &loaded.ram};
    co_call_in(test_home, ram_test_run, &l);
    test_event_wait(&l.done);
    if (l.ret != 0) {
        fail_msg("%s", l.error->message);
    }
    blank_check(t, loaded.host);
    blank_clear(&loaded);
}

#endif

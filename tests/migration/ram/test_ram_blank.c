/* SPDX-License-Identifier: Apache-2.0 */
/* Which pages are taken for zero without being read, in each kind of memory: those that surely are, and where the kernel
 * does not tell, none. */
#include "tests/migration/ram/blank_rig.h"

#define TEST_GUARD_INSTALL 102 /* MADV_GUARD_INSTALL: Linux 6.13 */

typedef struct Find {
    const BlankRam *t;
    unsigned block;
    uint64_t first, pages;
    uint64_t bits[BLANK_PAGES / 64 + 1];
} Find;

static int find_run(void *opaque)
{
    enter_worker();
    Find *f = opaque;
    ram_blank_find(&f->t->ram.blocks[f->block], 0, f->first, f->pages, f->bits);
    return 0;
}

static coroutine_fn RUNS_IN_MAIN void find(Find *f, const BlankRam *t, unsigned block,
                                           uint64_t first, uint64_t pages)
{
    f->t = t;
    f->block = block;
    f->first = first;
    f->pages = pages;
    memset(f->bits, 0xee, sizeof(f->bits));
    co_run_in_worker(find_run, f);
}

/* Whether page @page of all memory is blank. */
static coroutine_fn RUNS_IN_MAIN bool is_blank(const BlankRam *t, uint64_t page)
{
    g_autofree Find *f = g_new(Find, 1);
    bool high = page >= BLANK_HIGH_FIRST;
    find(f, t, high, high ? page - BLANK_HIGH_FIRST : page, 1);
    assert_in_range(f->bits[0], 0, 1);
    return f->bits[0] != 0;
}

static coroutine_fn RUNS_IN_MAIN uint64_t count_blank(const BlankRam *t)
{
    g_autofree Find *f = g_new(Find, 1);
    find(f, t, 0, 0, BLANK_HIGH_FIRST);
    uint64_t count = ram_blank_count(f->bits, f->pages);
    find(f, t, 1, 0, BLANK_PAGES - BLANK_HIGH_FIRST);
    return count + ram_blank_count(f->bits, f->pages);
}

/* Each run of pages, from any page on, has the bits of the pages that were not touched and no others. */
static coroutine_fn RUNS_IN_MAIN void expect_exact(bool shared)
{
    g_autofree Find *f = g_new(Find, 1);
    g_autofree bool *there = g_new0(bool, BLANK_PAGES);
    BlankRam t;
    blank_init(&t, shared);
    g_autoptr(GRand) rand = g_rand_new_with_seed(11);
    for (unsigned i = 0; i < 2000; i++) {
        uint64_t page = (uint64_t)g_rand_int_range(rand, 0, (gint32)BLANK_PAGES);
        blank_write(&t, page, 3);
        there[page] = true;
    }
    for (unsigned i = 0; i < 60; i++) {
        const uint64_t all = BLANK_PAGES - BLANK_HIGH_FIRST;
        uint64_t first = i == 0 ? 0 : (uint64_t)g_rand_int_range(rand, 0, (gint32)all);
        uint64_t pages = i == 0 ? all : 1 + g_rand_int(rand) % (all - first);
        find(f, &t, 1, first, pages);
        for (uint64_t n = 0; n < pages; n++) {
            assert_int_equal(ram_map_test(f->bits, n), !there[BLANK_HIGH_FIRST + first + n]);
        }
        for (uint64_t n = pages; n < (pages + 63) / 64 * 64; n++) {
            assert_false(ram_map_test(f->bits, n));
        }
    }
    blank_clear(&t);
}

BLOCK_TEST(private_pages_that_were_never_touched_are_blank)
{
    expect_exact(false);
}

BLOCK_TEST(shared_pages_that_were_never_touched_are_blank)
{
    expect_exact(true);
}

BLOCK_TEST(without_the_kernels_scan_the_page_tables_are_read)
{
    sys_fault_set(&(SysFault){.calls = "ioctl", .error = ENOTTY});
    expect_exact(false);
    sys_fault_set(NULL);
}

BLOCK_TEST(a_look_populates_nothing)
{
    for (unsigned shared = 0; shared < 2; shared++) {
        BlankRam t;
        blank_init(&t, shared == 1);
        blank_write(&t, 700, 1);
        assert_int_equal(count_blank(&t), BLANK_PAGES - 1);
        assert_int_equal(blank_populated(&t), 1);
        blank_clear(&t);
    }
}

static coroutine_fn RUNS_IN_MAIN bool has_scan(const BlankRam *t)
{
    int fd = ram_pagemap_open(0);
    RamPagemapRegion region;
    RamPagemapScan scan = {.start = (uintptr_t)t->host,
                           .end = (uintptr_t)t->host + 4096,
                           .vec = (uintptr_t)&region,
                           .vec_len = 1,
                           .category_mask = RAM_PAGEMAP_PRESENT,
                           .return_mask = RAM_PAGEMAP_PRESENT};
    bool has = ram_pagemap_scan(fd, &scan) >= 0;
    close(fd);
    return has;
}

BLOCK_TEST(private_pages_of_each_kind)
{
    BlankRam t;
    blank_init(&t, false);
    blank_write(&t, 1, 7);
    blank_write(&t, 2, 0); /* zeroes that were written have to be read */
    volatile uint8_t byte = *(volatile uint8_t *)blank_page(&t, 3);
    blank_write(&t, 4, 7);
    blank_write(&t, 600, 7);
    blank_discard(&t, 4, 1);
    blank_discard(&t, 600, 1);
    assert_int_equal(byte, 0);
    assert_true(is_blank(&t, 0));
    assert_false(is_blank(&t, 1));
    assert_false(is_blank(&t, 2));
    assert_int_equal(is_blank(&t, 3), has_scan(&t)); /* the kernel's page of zeroes */
    assert_true(is_blank(&t, 4));
    assert_true(is_blank(&t, 600));
    blank_write(&t, 3, 7);
    blank_write(&t, 4, 7);
    assert_false(is_blank(&t, 3));
    assert_false(is_blank(&t, 4));
    /* A marker: no memory, but no empty entry either. */
    if (madvise(blank_page(&t, 9), 4096, TEST_GUARD_INSTALL) == 0) {
        assert_false(is_blank(&t, 9));
        assert_true(is_blank(&t, 10));
        madvise(blank_page(&t, 9), 4096, TEST_GUARD_INSTALL + 1);
    }
    t.ram.blocks[0].read_only = true; /* ROM */
    assert_true(is_blank(&t, 0));
    assert_false(is_blank(&t, 1));
    blank_clear(&t);
}

/* One byte makes all of a huge page present. */
BLOCK_TEST(a_huge_page_is_not_blank)
{
    const uint64_t size = UINT64_C(8) << 20, huge = UINT64_C(2) << 20;
    g_autofree Find *f = g_new(Find, 1);
    BlankRam t = {0};
    uint8_t *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(map, MAP_FAILED);
    uint8_t *host = (uint8_t *)(((uintptr_t)map + huge - 1) & ~(uintptr_t)(huge - 1));
    madvise(host, 2 * huge, MADV_HUGEPAGE);
    t.ram = (GuestRam){.count = 1, .blocks = {{.size = 2 * huge, .host = host, .fd = -1}}};
    host[huge + 100] = 1;
    find(f, &t, 0, 0, 1024);
    uint64_t count = ram_blank_count(f->bits, 1024);
    assert_true(count == 512 || count == 1023); /* the latter: the host has no huge page to give */
    assert_false(ram_map_test(f->bits, 512));
    munmap(map, size);
}

BLOCK_TEST(shared_pages_of_each_kind)
{
    BlankRam t;
    uint8_t data[4096];
    blank_init(&t, true);
    memset(data, 0x33, sizeof(data));
    /* Another process: this one has no entry for the page. */
    assert_int_equal(pwrite(t.fd, data, 4096, 5 * 4096), 4096);
    assert_int_equal(pwrite(t.fd, data, 1, BLANK_LOW + 5 * 4096 + 17), 1);
    blank_write(&t, 6, 7); /* the kernel drops the entry, or the user */
    assert_int_equal(madvise(blank_page(&t, 6), 4096, MADV_DONTNEED), 0);
    blank_write(&t, 7, 7);
    blank_discard(&t, 7, 1);
    assert_true(is_blank(&t, 4));
    assert_false(is_blank(&t, 5));
    assert_false(is_blank(&t, 6));
    assert_true(is_blank(&t, 7));
    assert_false(is_blank(&t, BLANK_HIGH_FIRST + 5));
    assert_true(is_blank(&t, BLANK_HIGH_FIRST + 6));
    assert_int_equal(blank_page(&t, 6)[0] != 0 || blank_page(&t, 6)[1] != 0, 1);
    blank_clear(&t);
}

/* Runs of any length, also if the kernel does not say what is in the page cache. */
BLOCK_TEST(shared_runs_of_data_end_where_they_end)
{
    g_autofree Find *f = g_new(Find, 1);
    BlankRam t;
    blank_init(&t, true);
    const uint64_t runs[] = {1, 2, 511, 512, 513, 1024, 1500};
    uint64_t page = 0, sum = 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(runs); i++) {
        for (uint64_t n = 0; n < runs[i]; n++) {
            blank_write(&t, BLANK_HIGH_FIRST + page + n, 9);
        }
        sum += runs[i];
        page += runs[i] + 1;
    }
    for (unsigned fails = 0; fails < 2; fails++) {
        find(f, &t, 1, 0, page + 10);
        assert_int_equal(ram_blank_count(f->bits, page + 10), page + 10 - sum);
        for (uint64_t at = 0, i = 0; i < G_N_ELEMENTS(runs); i++, at++) {
            at += runs[i];
            assert_true(ram_map_test(f->bits, at));
            assert_false(ram_map_test(f->bits, at - 1));
        }
        t.ram.blocks[1].host = (uint8_t *)(uintptr_t)4096; /* nothing is mapped there */
    }
    blank_clear(&t);
}

/* What is not there has the file's contents, or zeroes if it was given back: it is read. */
BLOCK_TEST(memory_that_is_mapped_from_a_state_file_is_never_blank)
{
    BlankRam t;
    blank_init(&t, false);
    t.ram.blocks[0].of_file = true;
    assert_false(is_blank(&t, 0));
    assert_true(is_blank(&t, BLANK_HIGH_FIRST));
    assert_int_equal(count_blank(&t), BLANK_PAGES - BLANK_HIGH_FIRST);
    blank_clear(&t);
}

static coroutine_fn RUNS_IN_MAIN void expect_none(bool shared, const char *calls, int error)
{
    BlankRam t;
    blank_init(&t, shared);
    assert_int_equal(count_blank(&t), BLANK_PAGES);
    sys_fault_set(&(SysFault){.calls = calls, .error = error});
    assert_int_equal(count_blank(&t), 0);
    assert_true(sys_fault_hits() > 0);
    sys_fault_set(NULL);
    blank_clear(&t);
}

BLOCK_TEST(where_the_kernel_does_not_tell_no_page_is_blank)
{
    expect_none(false, "open", EACCES);
    expect_none(false, "ioctl", ENOMEM);
    expect_none(false, "ioctl,pread", ENOTTY);
    expect_none(true, "lseek", EINVAL);
}

/* A look that fails half-way leaves nothing of its first half. */
BLOCK_TEST(a_scan_that_fails_later_finds_nothing)
{
    BlankRam t;
    blank_init(&t, false);
    for (uint64_t page = 0; page < BLANK_PAGES; page += 2) {
        blank_write(&t, page, 1);
    }
    assert_int_equal(count_blank(&t), BLANK_PAGES / 2);
    sys_fault_set(&(SysFault){.calls = "ioctl", .after = 3, .error = ENOMEM});
    assert_in_range(count_blank(&t), 0, BLANK_HIGH_FIRST / 2);
    sys_fault_set(NULL);
    blank_clear(&t);
}

/* Entries as the kernel writes them, in a file of the test: it has no swap to make some. */
BLOCK_TEST(an_entry_of_swap_is_not_empty)
{
    const uint64_t present = UINT64_C(1) << 63, swapped = UINT64_C(1) << 62;
    const uint64_t marked = UINT64_C(1) << 57, soft_dirty = UINT64_C(1) << 55;
    const uint64_t entries[] = {
        0, swapped, present, swapped | marked, soft_dirty, present | soft_dirty};
    uint64_t bits = UINT64_MAX;
    char *path = test_file_new(0);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, entries, sizeof(entries), 100 * 8), sizeof(entries));
    const void *at = (const void *)(uintptr_t)(100 * 4096);
    assert_int_equal(ram_pagemap_find_empty(fd, at, G_N_ELEMENTS(entries), true, &bits), 0);
    assert_int_equal(bits, 1 << 0 | 1 << 4);
    assert_int_equal(ram_pagemap_find_empty(fd, at, 7, true, &bits), -ESRCH); /* it ends early */
    assert_int_equal(bits, 0);
    close(fd);
    test_file_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(private_pages_that_were_never_touched_are_blank),
        cmocka_unit_test(shared_pages_that_were_never_touched_are_blank),
        cmocka_unit_test(without_the_kernels_scan_the_page_tables_are_read),
        cmocka_unit_test(a_look_populates_nothing),
        cmocka_unit_test(private_pages_of_each_kind),
        cmocka_unit_test(a_huge_page_is_not_blank),
        cmocka_unit_test(shared_pages_of_each_kind),
        cmocka_unit_test(shared_runs_of_data_end_where_they_end),
        cmocka_unit_test(memory_that_is_mapped_from_a_state_file_is_never_blank),
        cmocka_unit_test(where_the_kernel_does_not_tell_no_page_is_blank),
        cmocka_unit_test(a_scan_that_fails_later_finds_nothing),
        cmocka_unit_test(an_entry_of_swap_is_not_empty),
    };
    return block_test_main(tests);
}

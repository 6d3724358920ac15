/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include <pthread.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include "hw/core/ram.h"
#include "tests/support/ram_watch.h"

static uint8_t low[0x2000], mid[0x1000], rom[0x1000], high[0x1000];

static void make_ram(GuestRam *ram)
{
    *ram = (GuestRam){0};
    guest_ram_add(ram, &(RamBlock){.gpa = UINT64_C(1) << 32, .size = sizeof(high), .host = high});
    guest_ram_add(ram, &(RamBlock){.gpa = 0, .size = sizeof(low), .host = low});
    guest_ram_add(ram,
                  &(RamBlock){.gpa = 0x3000, .size = sizeof(rom), .host = rom, .read_only = true});
    guest_ram_add(ram, &(RamBlock){.gpa = 0x2000, .size = sizeof(mid), .host = mid});
}

static void test_map_gives_ram_inside_one_block_only(void **unused)
{
    GuestRam ram;
    make_ram(&ram);
    assert_ptr_equal(guest_ram_map(&ram, 0, 0x2000, true), low);
    assert_ptr_equal(guest_ram_map(&ram, 0x1fff, 1, true), low + 0x1fff);
    assert_null(guest_ram_map(&ram, 0x1fff, 2, true));
    assert_null(guest_ram_map(&ram, 0, 0, true));
    assert_null(guest_ram_map(&ram, 0x4000, 1, false));
    assert_null(guest_ram_map(&ram, 0x1000, UINT64_MAX, false));
    assert_null(guest_ram_map(&ram, UINT64_MAX, 2, false));
}

static void test_rom_is_read_only(void **unused)
{
    GuestRam ram;
    make_ram(&ram);
    assert_ptr_equal(guest_ram_map(&ram, 0x3000, 16, false), rom);
    assert_null(guest_ram_map(&ram, 0x3000, 16, true));
    assert_false(guest_ram_write(&ram, 0x3000, "x", 1));
}

static void test_copies_span_adjacent_blocks_or_do_nothing(void **unused)
{
    GuestRam ram;
    make_ram(&ram);
    uint8_t out[4] = {1, 2, 3, 4}, in[4] = {0};
    assert_true(guest_ram_write(&ram, 0x1ffe, out, 4));
    assert_int_equal(mid[1], 4);
    assert_true(guest_ram_read(&ram, 0x1ffe, in, 4));
    assert_memory_equal(in, out, 4);

    memset(mid + 0xffe, 0x55, 2);
    assert_false(guest_ram_write(&ram, 0x2ffe, out, 4)); /* ends in ROM */
    assert_int_equal(mid[0xffe], 0x55);
    assert_true(guest_ram_read(&ram, 0x2ffe, in, 4));
    assert_false(guest_ram_read(&ram, 0x3ffe, in, 4)); /* ends outside RAM */
    assert_false(guest_ram_read(&ram, UINT64_MAX - 1, in, 4));
}

static void test_sizes_count_ram_without_rom(void **unused)
{
    GuestRam ram;
    make_ram(&ram);
    assert_int_equal(guest_ram_below_4g(&ram), 0x3000);
    assert_int_equal(guest_ram_above_4g(&ram), 0x1000);
}

/* ---- dirty memory ---- */

static uint64_t take(const GuestRam *ram, unsigned block)
{
    uint64_t bits = 0;
    guest_ram_log_take(&ram->blocks[block], 0, guest_ram_block_pages(&ram->blocks[block]), &bits);
    return bits;
}

static void test_writes_are_marked_while_logging(void **unused)
{
    GuestRam ram;
    make_ram(&ram);
    enter_main();
    assert_true(guest_ram_write(&ram, 0x1000, "x", 1)); /* before: not logged */
    assert_true(guest_ram_log_start(&ram, NULL));
    assert_int_equal(take(&ram, 0), 0);
    assert_true(guest_ram_write(&ram, 0x1ffe, "abcd", 4));
    assert_int_equal(take(&ram, 0), 2);
    assert_int_equal(take(&ram, 0), 0);                     /* taken */
    assert_int_equal(take(&ram, 1), 1);                     /* the next block */
    assert_false(guest_ram_write(&ram, 0x2ffe, "abcd", 4)); /* ends in ROM */
    assert_int_equal(take(&ram, 1), 0);
    guest_ram_mark(&ram, 0xfff, 2);
    guest_ram_mark(&ram, 0, 0);
    guest_ram_mark(&ram, UINT64_MAX, 1);
    assert_int_equal(take(&ram, 0), 3);
    guest_ram_log_stop(&ram);
    guest_ram_mark(&ram, 0, 1);
    assert_true(guest_ram_log_start(&ram, NULL));
    guest_ram_mark(&ram, 0x1000, 1);
    assert_int_equal(take(&ram, 0), 2);
    guest_ram_log_stop(&ram);
    guest_ram_log_free(&ram);
}

static void test_a_block_that_comes_while_logging_is_dirty(void **unused)
{
    GuestRam ram = {0};
    enter_main();
    guest_ram_add(&ram, &(RamBlock){.gpa = 0, .size = sizeof(low), .host = low});
    assert_true(guest_ram_log_start(&ram, NULL));
    guest_ram_add(&ram, &(RamBlock){.gpa = 0x2000, .size = sizeof(mid), .host = mid});
    assert_int_equal(take(&ram, 1), 1);
    guest_ram_mark(&ram, 0x2fff, 1);
    assert_int_equal(take(&ram, 1), 1);
    guest_ram_log_stop(&ram);
    guest_ram_log_free(&ram);
}

static void test_long_ranges_and_bitmaps_are_marked(void **unused)
{
    enum { PAGES = 200 };
    static uint8_t memory[PAGES * GUEST_RAM_PAGE];
    GuestRam ram = {0};
    uint64_t bits[4], from[4] = {0, UINT64_C(1) << 63, 1, 0x100};
    enter_main();
    guest_ram_add(&ram, &(RamBlock){.gpa = 0x100000, .size = sizeof(memory), .host = memory});
    assert_true(guest_ram_log_start(&ram, NULL));
    guest_ram_mark(&ram, 0, 0x100000 + 130 * GUEST_RAM_PAGE); /* begins before the block */
    assert_int_equal(guest_ram_log_take(&ram.blocks[0], 0, PAGES, bits), 130);
    assert_true(bits[0] == UINT64_MAX && bits[1] == UINT64_MAX && bits[2] == 3 && bits[3] == 0);
    guest_ram_mark(&ram, 0x100000 + 63 * GUEST_RAM_PAGE + 4095, UINT64_C(1) << 40); /* and after */
    assert_int_equal(guest_ram_log_take(&ram.blocks[0], 64, 64, bits), 64);
    assert_int_equal(guest_ram_log_take(&ram.blocks[0], 0, PAGES, bits), PAGES - 63 - 64);
    guest_ram_mark_bitmap(&ram, 0x100000, from, PAGES); /* bit 200 is outside */
    assert_int_equal(guest_ram_log_take(&ram.blocks[0], 0, PAGES, bits), 2);
    assert_true(bits[1] == from[1] && bits[2] == from[2] && bits[3] == 0);
    guest_ram_log_stop(&ram);
    guest_ram_log_free(&ram);
}

/* Every write of another thread is found: its page is copied after its bit was taken. */
typedef struct Writer {
    GuestRam *ram;
    uint64_t *page;
    _Atomic bool quit;
} Writer;

static void *writer_run(void *opaque)
{
    Writer *w = opaque;
    for (uint64_t n = 1; !atomic_load(&w->quit); n++) {
        __atomic_store_n(w->page, n, __ATOMIC_RELAXED);
        guest_ram_mark(w->ram, 0, sizeof(n));
    }
    return NULL;
}

static void test_no_write_is_lost_against_the_taker(void **unused)
{
    static uint64_t page[512];
    GuestRam ram = {0};
    enter_main();
    guest_ram_add(&ram, &(RamBlock){.gpa = 0, .size = sizeof(page), .host = (uint8_t *)page});
    for (unsigned round = 0; round < 50; round++) {
        Writer w = {.ram = &ram, .page = page};
        pthread_t thread;
        uint64_t copy;
        assert_int_equal(pthread_create(&thread, NULL, writer_run, &w), 0);
        assert_true(guest_ram_log_start(&ram, NULL)); /* while it writes */
        copy = __atomic_load_n(page, __ATOMIC_RELAXED);
        for (unsigned i = 0; i < 100; i++) {
            if (take(&ram, 0)) {
                copy = __atomic_load_n(page, __ATOMIC_RELAXED);
            }
        }
        w.quit = true;
        pthread_join(thread, NULL);
        if (take(&ram, 0)) {
            copy = page[0];
        }
        assert_true(copy == page[0]);
        guest_ram_log_stop(&ram);
    }
    guest_ram_log_free(&ram);
}

static void test_the_watch_finds_an_unmarked_write(void **unused)
{
    enum { PAGES = 128 };
    RamWatch *w = ram_watch_new(PAGES * GUEST_RAM_PAGE);
    uint64_t dirty[PAGES / 64] = {0};
    if (!ram_watch_works(w)) {
        ram_watch_free(w);
        skip();
    }
    ram_watch_driver(w)[0] = 1; /* the driver's */
    assert_true(ram_watch_unmarked(w, dirty) == UINT64_MAX);
    ram_watch_device(w)[70 * GUEST_RAM_PAGE + 5] = 2;
    assert_int_equal(ram_watch_driver(w)[70 * GUEST_RAM_PAGE + 5], 2);
    assert_int_equal(ram_watch_unmarked(w, dirty), 70);
    dirty[1] = 1 << 6;
    assert_true(ram_watch_unmarked(w, dirty) == UINT64_MAX);
    assert_int_equal(getrandom(ram_watch_device(w) + 3 * GUEST_RAM_PAGE, 8, GRND_NONBLOCK), 8);
    assert_int_equal(ram_watch_unmarked(w, dirty), 3); /* the kernel's write too */
    ram_watch_free(w);
}

/* ---- discarded pages ---- */

typedef struct Discard {
    GuestRam ram;
    RamBlock *block;
    uint64_t gpa, len;
    int ret;
} Discard;

static void *discard_run(void *opaque)
{
    Discard *d = opaque;
    enter_worker();
    d->ret = guest_ram_discard(&d->ram, d->gpa, d->len);
    return NULL;
}

/* In a thread of a worker's role. */
static int discard(Discard *d, uint64_t gpa, uint64_t len)
{
    pthread_t thread;
    d->gpa = gpa;
    d->len = len;
    assert_true(thread_start(&thread, THREAD_WORKER, "worker", discard_run, d));
    pthread_join(thread, NULL);
    return d->ret;
}

#define DISCARD_GPA 0x100000u
#define DISCARD_PAGES 64u

static void discard_begin(Discard *d, int fd)
{
    size_t size = DISCARD_PAGES * GUEST_RAM_PAGE;
    int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    uint8_t *host =
        mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, fd < 0 ? 0 : GUEST_RAM_PAGE);
    assert_true(host != MAP_FAILED);
    memset(host, 1, size);
    *d = (Discard){0};
    guest_ram_add(&d->ram, &(RamBlock){.gpa = DISCARD_GPA,
                                       .size = size,
                                       .host = host,
                                       .fd = fd,
                                       .fd_offset = fd < 0 ? 0 : GUEST_RAM_PAGE});
    d->block = &d->ram.blocks[0];
    assert_true(guest_ram_log_start(&d->ram, NULL));
}

static void discard_end(Discard *d)
{
    munmap(d->block->host, d->block->size);
    guest_ram_log_stop(&d->ram);
    guest_ram_log_free(&d->ram);
}

static void check_discard(int fd)
{
    Discard d;
    uint64_t dirty[1];
    discard_begin(&d, fd);
    /* A page and parts of its neighbours. */
    assert_int_equal(discard(&d, DISCARD_GPA + 4 * GUEST_RAM_PAGE - 1, GUEST_RAM_PAGE + 2), 0);
    for (unsigned page = 0; page < DISCARD_PAGES; page++) {
        assert_int_equal(d.block->host[page * GUEST_RAM_PAGE], page != 4);
        assert_int_equal(d.block->host[page * GUEST_RAM_PAGE + GUEST_RAM_PAGE - 1], page != 4);
    }
    guest_ram_log_take(d.block, 0, DISCARD_PAGES, dirty);
    assert_true(dirty[0] == 1 << 4);
    assert_int_equal(discard(&d, DISCARD_GPA + 1, GUEST_RAM_PAGE), 0); /* no whole page */
    assert_int_equal(d.block->host[0], 1);
    assert_int_equal(discard(&d, DISCARD_GPA, d.block->size), 0);
    if (fd >= 0) { /* a read would allocate a page */
        struct stat st;
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_blocks, 0);
    }
    assert_int_equal(d.block->host[63 * GUEST_RAM_PAGE], 0);
    discard_end(&d);
}

static void test_discarded_pages_read_as_zeroes_and_are_dirty(void **unused)
{
    check_discard(-1);
    int fd = memfd_create("ram", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, (DISCARD_PAGES + 2) * GUEST_RAM_PAGE), 0);
    check_discard(fd);
    close(fd);
}

static void test_only_ram_is_discarded(void **unused)
{
    Discard d;
    discard_begin(&d, -1);
    assert_int_equal(discard(&d, 0, GUEST_RAM_PAGE), -EFAULT);
    assert_int_equal(discard(&d, DISCARD_GPA - GUEST_RAM_PAGE, 2 * GUEST_RAM_PAGE), -EFAULT);
    assert_int_equal(discard(&d, DISCARD_GPA, d.block->size + 1), -EFAULT);
    assert_int_equal(discard(&d, DISCARD_GPA, UINT64_MAX), -EFAULT);
    d.block->read_only = true;
    assert_int_equal(discard(&d, DISCARD_GPA, GUEST_RAM_PAGE), -EFAULT);
    assert_int_equal(d.block->host[0], 1);
    discard_end(&d);
}

static void test_an_address_is_found_by_its_mapping(void **unused)
{
    GuestRam ram;
    uint64_t gpa = 0;
    make_ram(&ram);
    assert_true(guest_ram_find_host(&ram, high + 5, &gpa));
    assert_true(gpa == (UINT64_C(1) << 32) + 5);
    assert_false(guest_ram_find_host(&ram, &gpa, &gpa));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_map_gives_ram_inside_one_block_only),
        cmocka_unit_test(test_rom_is_read_only),
        cmocka_unit_test(test_copies_span_adjacent_blocks_or_do_nothing),
        cmocka_unit_test(test_sizes_count_ram_without_rom),
        cmocka_unit_test(test_writes_are_marked_while_logging),
        cmocka_unit_test(test_long_ranges_and_bitmaps_are_marked),
        cmocka_unit_test(test_no_write_is_lost_against_the_taker),
        cmocka_unit_test(test_the_watch_finds_an_unmarked_write),
        cmocka_unit_test(test_a_block_that_comes_while_logging_is_dirty),
        cmocka_unit_test(test_discarded_pages_read_as_zeroes_and_are_dirty),
        cmocka_unit_test(test_only_ram_is_discarded),
        cmocka_unit_test(test_an_address_is_found_by_its_mapping),
    };
    thread_adopt_role(THREAD_MAIN, "main");
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include <pthread.h>
#include <sys/random.h>
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
    };
    thread_adopt_role(THREAD_MAIN, "main");
    return cmocka_run_group_tests(tests, NULL, NULL);
}

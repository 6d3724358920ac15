/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "hw/core/ram.h"

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
    assert_false(guest_ram_read(&ram, 0x3ffe, in, 4)); /* ends in nothing */
    assert_false(guest_ram_read(&ram, UINT64_MAX - 1, in, 4));
}

static void test_sizes_count_ram_without_rom(void **unused)
{
    GuestRam ram;
    make_ram(&ram);
    assert_int_equal(guest_ram_below_4g(&ram), 0x3000);
    assert_int_equal(guest_ram_above_4g(&ram), 0x1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_map_gives_ram_inside_one_block_only),
        cmocka_unit_test(test_rom_is_read_only),
        cmocka_unit_test(test_copies_span_adjacent_blocks_or_do_nothing),
        cmocka_unit_test(test_sizes_count_ram_without_rom),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

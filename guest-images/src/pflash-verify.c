/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every command of flash, in every mode and every width, and random sequences, each answer against
 * lib/flash_model.h. It overwrites the flash. At the end the whole array is compared.
 *
 * Words: those of lib/flash.h, `steps=` (20000) of random sequences, `seed=` (1), `codes=` (256) of
 * commands in each mode, `readonly` for flash that is not written. `print`: instead, what firmware sees
 * of the flash, to be compared with another VMM's.
 */
#include "lib/guest.h"
#include "lib/flash.h"
#include "lib/flash_model.h"
#include "lib/memory.h"
#include "lib/random.h"

static Flash flash;
static FlashModel model;
static uint64_t accesses;
static Random numbers;

static void check_read(uint32_t at, unsigned size)
{
    uint32_t got = flash_read(&flash, at, size), wanted = flash_model_read(&model, at, size);
    accesses++;
    if (got != wanted) {
        guest_fail("pflash-verify: read of %u at 0x%x in mode %c: 0x%x, expected 0x%x", size, at,
                   model.shows, got, wanted);
    }
}

static void write_both(uint32_t at, uint32_t value, unsigned size)
{
    flash_write(&flash, at, value, size);
    flash_model_write(&model, at, size == 4 ? value : value & ((1u << size * 8) - 1), size);
    accesses++;
}

/* ---- each command in each mode ---- */

static const struct {
    unsigned count;
    uint8_t values[4];
} ways[] = {{1, {0xff}},       {1, {0x70}},          {1, {0x90}}, {1, {0x98}},
            {1, {0x10}},       {1, {0x20}},          {1, {0x60}}, {1, {0xe8}},
            {2, {0xe8, 0x00}}, {3, {0xe8, 0, 0x5a}}, {1, {0xb0}}};

/* Ends whatever is under way. */
static void settle(void)
{
    while (model.command) {
        write_both(0x40, 0xff, 1);
    }
    write_both(0x40, FLASH_CLEAR, 1);
}

static void try_command(unsigned way, uint32_t code, unsigned size)
{
    for (unsigned i = 0; i < ways[way].count; i++) {
        write_both(0x1040, ways[way].values[i] * 0x01010101u, size);
    }
    write_both(0x1044, code * 0x01010101u, size);
    check_read(0x1040, size);
    check_read(0x20, 4);
    write_both(0x1040, 0xd0d0d0d0u, size);
    check_read(0x1040, 4);
    settle();
}

static void try_all_commands(void)
{
    uint32_t codes = (uint32_t)bootinfo_get_number("codes", 256);
    for (unsigned way = 0; way < sizeof(ways) / sizeof(ways[0]); way++) {
        for (uint32_t i = 0; i < codes; i++) {
            for (unsigned size = 1; size <= 4; size *= 2) {
                try_command(way, codes == 256 ? i : (uint32_t)random_below(&numbers, 256), size);
            }
        }
    }
}

/* ---- random sequences ---- */

static void random_step(void)
{
    static const uint8_t codes[] = {0x10, 0x20, 0x40, 0x50, 0x60, 0x70, 0x90, 0x98,
                                    0xb0, 0xd0, 0xd0, 0xe8, 0xff, 0x01, 0x03, 0x00};
    unsigned size = 1u << random_below(&numbers, 3);
    uint32_t at = (uint32_t)(random_chance(&numbers, 3) ? random_below(&numbers, flash.size)
                                                        : 0x0ff0 + random_below(&numbers, 0x120));
    at &= ~(size - 1);
    uint32_t value = (uint32_t)random_next(&numbers);
    if (!random_chance(&numbers, 8)) {
        value = codes[random_below(&numbers, sizeof(codes))];
    }
    if (random_chance(&numbers, 3)) {
        check_read(at, size);
    } else {
        write_both(at, value, size);
    }
}

static void compare_array(void)
{
    settle();
    write_both(0, FLASH_ARRAY, 1);
    for (uint32_t at = 0; at < flash.size; at += 4) {
        check_read(at, 4);
    }
}

/* ---- what firmware sees ---- */

static void print_reads(const char *what, uint32_t from, uint32_t end, unsigned size)
{
    printf("%s by %u:", what, size);
    for (uint32_t at = from; at < end; at += size) {
        printf(" %x", flash_read(&flash, at, size));
    }
    printf("\n");
}

static void print_all_widths(const char *what, uint32_t end)
{
    for (unsigned size = 1; size <= 4; size *= 2) {
        print_reads(what, 0, end, size);
    }
}

/* Writes bytes to one place and prints what it reads then. */
static void print_after(const char *what, unsigned count, const uint8_t *bytes)
{
    for (unsigned i = 0; i < count; i++) {
        flash_write(&flash, 0x1000, bytes[i], 1);
    }
    printf("%s: %x\n", what, flash_read(&flash, 0x1000, 4));
}

#define AFTER(what, ...)                                                                           \
    print_after(what, sizeof((const uint8_t[]){__VA_ARGS__}), (const uint8_t[]){__VA_ARGS__})

static void print_buffered(void)
{
    AFTER("buffer", 0xe8);
    AFTER("count", 0x7f);
    for (uint32_t at = 0; at < 0x80; at++) {
        flash_write(&flash, 0x1000 + at, at * 3, 1);
    }
    AFTER("confirm", 0xd0);
    AFTER("array", 0xff);
    print_reads("programmed", 0x1000, 0x1090, 4);
}

static void print_what_firmware_sees(void)
{
    AFTER("erase", 0x20, 0xd0);
    AFTER("array", 0xff);
    AFTER("status", 0x70);
    print_all_widths("status", 8);
    AFTER("clear", 0x50);
    AFTER("status", 0x70);
    AFTER("program", 0x10, 0x5a);
    AFTER("program", 0x40, 0x5a);
    AFTER("array by 0", 0x00);
    AFTER("array by f0", 0xf0);
    AFTER("identifiers", 0x90);
    print_all_widths("identifiers", 0x20);
    AFTER("array", 0xff);
    AFTER("query", 0x98);
    print_all_widths("query", 0x100);
    AFTER("array", 0xff);
    AFTER("erase", 0x20, 0xd0);
    print_buffered();
    AFTER("lock", 0x60, 0x01);
    AFTER("unlock", 0x60, 0xd0);
    AFTER("array", 0xff);
    AFTER("unknown", 0x33);
    printf("pflash-verify: PASS printed\n");
}

void guest_main(void)
{
    flash = flash_find();
    if (bootinfo_has_word("print")) {
        print_what_firmware_sees();
        return;
    }
    numbers.state = bootinfo_get_number("seed", 1);
    model = (FlashModel){.array = memory_alloc(flash.size, 4096),
                         .size = flash.size,
                         .block = FLASH_BLOCK,
                         .bank = 1,
                         .read_only = bootinfo_has_word("readonly")};
    for (uint32_t at = 0; at < flash.size; at += 4) {
        uint32_t word = flash_read(&flash, at, 4);
        memcpy(model.array + at, &word, 4);
    }
    flash_model_reset(&model);
    settle();
    try_all_commands();
    uint64_t steps = bootinfo_get_number("steps", 20000);
    for (uint64_t i = 0; i < steps; i++) {
        random_step();
    }
    compare_array();
    printf("pflash-verify: PASS accesses=%lu bytes=%u\n", accesses, flash.size);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The flash's command machine against the model of guest-images/lib, byte for byte: every command,
 * every mode, every width and interleave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "guest-images/lib/flash_model.h"
#include "hw/firmware/cfi.h"
#include "tests/support/rounds.h"

#define BLOCKS 4u
#define BLOCK 4096u
#define SIZE (BLOCKS * BLOCK)

typedef struct Bench {
    CfiFlash flash;
    CfiState state;
    FlashModel model;
    uint8_t array[SIZE], model_array[SIZE], result[BLOCK];
    GRand *rand;
} Bench;

static const CfiGeometry geometries[] = {
    /* bank, chip, chip at most */
    {.bank_width = 1},
    {.bank_width = 2},
    {.bank_width = 4},
    {.bank_width = 1, .device_width = 1, .max_device_width = 1},
    {.bank_width = 1, .device_width = 1, .max_device_width = 2},
    {.bank_width = 2, .device_width = 1, .max_device_width = 1},
    {.bank_width = 2, .device_width = 1, .max_device_width = 2},
    {.bank_width = 2, .device_width = 2, .max_device_width = 2},
    {.bank_width = 4, .device_width = 1, .max_device_width = 1},
    {.bank_width = 4, .device_width = 1, .max_device_width = 2},
    {.bank_width = 4, .device_width = 1, .max_device_width = 4},
    {.bank_width = 4, .device_width = 2, .max_device_width = 2},
    {.bank_width = 4, .device_width = 4, .max_device_width = 4},
};

static void bench_init(Bench *b, const CfiGeometry *g, bool read_only)
{
    CfiGeometry geometry = *g;
    geometry.block_size = BLOCK;
    geometry.block_count = BLOCKS;
    for (unsigned i = 0; i < 4; i++) {
        geometry.id[i] = (uint16_t)(0x89 + 0x1111 * i);
    }
    assert_true(cfi_check_geometry(&geometry, NULL));
    for (unsigned i = 0; i < SIZE; i++) {
        b->array[i] = (uint8_t)(i * 37 + (i >> 8));
    }
    memcpy(b->model_array, b->array, SIZE);
    cfi_init(&b->flash, &geometry, &b->state, b->array, b->result, read_only);
    b->model = (FlashModel){.array = b->model_array,
                            .size = SIZE,
                            .block = BLOCK,
                            .bank = g->bank_width,
                            .chip = g->device_width,
                            .chip_at_most = g->max_device_width,
                            .read_only = read_only};
    memcpy(b->model.id, geometry.id, sizeof(geometry.id));
    flash_model_reset(&b->model);
}

static int set_up(void **state)
{
    Bench *b = g_new0(Bench, 1);
    b->rand = g_rand_new_with_seed(1);
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    Bench *b = *state;
    g_rand_free(b->rand);
    g_free(b);
    return 0;
}

static void write_both(Bench *b, uint32_t offset, uint32_t value, unsigned size)
{
    uint32_t masked = size == 4 ? value : value & ((1u << (size * 8)) - 1);
    CfiOperation op = cfi_write(&b->flash, offset, masked, size);
    if (op.kind != CFI_OP_NONE) {
        assert_true(op.offset + op.bytes <= SIZE && op.bytes <= BLOCK && op.bytes > 0);
        cfi_end(&b->flash, &op, op.bytes);
    }
    flash_model_write(&b->model, offset, masked, size);
}

static void expect_read(Bench *b, uint32_t offset, unsigned size)
{
    uint32_t mask = size == 4 ? UINT32_MAX : (1u << (size * 8)) - 1;
    uint32_t got = cfi_read(&b->flash, offset, size) & mask;
    uint32_t wanted = flash_model_read(&b->model, offset, size);
    if (got != wanted) {
        fail_msg("bank %u chip %u/%u mode %u: read of %u at 0x%x: 0x%x, the model says 0x%x",
                 b->model.bank, b->model.chip, b->model.chip_at_most, b->state.mode, size, offset,
                 got, wanted);
    }
}

/* Reads in every width, at every offset of the first 0x200 bytes and around the blocks. */
static void expect_same(Bench *b)
{
    for (unsigned size = 1; size <= 4; size *= 2) {
        for (uint32_t at = 0; at < 0x200; at++) {
            expect_read(b, at, size);
        }
        for (unsigned block = 1; block < BLOCKS; block++) {
            for (uint32_t at = 0; at < 16; at++) {
                expect_read(b, block * BLOCK - 8 + at, size);
            }
        }
        expect_read(b, SIZE - size, size);
    }
    assert_memory_equal(b->array, b->model_array, SIZE);
}

/* The writes that lead to each mode. */
static const struct {
    unsigned count;
    uint8_t values[6];
} ways[] = {
    {1, {0xff}},       {1, {0x70}},          {1, {0x90}},
    {1, {0x98}},       {1, {0x10}},          {1, {0x40}},
    {1, {0x20}},       {1, {0x60}},          {1, {0xe8}},
    {2, {0xe8, 0x01}}, {3, {0xe8, 0, 0x5a}}, {2, {0x20, 0x33}},
    {1, {0x50}},       {2, {0x60, 0x01}},    {3, {0x60, 0x01, 0x20}},
    {1, {0xb0}},
};

static void every_command_in_every_mode(void **state)
{
    Bench *b = *state;
    for (unsigned g = 0; g < G_N_ELEMENTS(geometries); g++) {
        for (unsigned w = 0; w < G_N_ELEMENTS(ways); w++) {
            for (unsigned code = 0; code < 256; code++) {
                for (unsigned size = 1; size <= 4; size *= 2) {
                    bench_init(b, &geometries[g], false);
                    for (unsigned i = 0; i < ways[w].count; i++) {
                        write_both(b, 0x1040, ways[w].values[i] * 0x01010101u, size);
                    }
                    write_both(b, 0x1044, code * 0x01010101u, size);
                    expect_read(b, 0x1040, size);
                    expect_read(b, 0x20, 4);
                    expect_read(b, 0x1004, 2);
                    write_both(b, 0x1040, 0xd0d0d0d0u, size);
                    expect_read(b, 0x1040, 4);
                }
                assert_memory_equal(b->array, b->model_array, SIZE);
            }
        }
    }
}

static void every_answer_of_every_mode(void **state)
{
    Bench *b = *state;
    for (unsigned g = 0; g < G_N_ELEMENTS(geometries); g++) {
        for (unsigned w = 0; w < G_N_ELEMENTS(ways); w++) {
            bench_init(b, &geometries[g], w % 2 == 1);
            for (unsigned i = 0; i < ways[w].count; i++) {
                write_both(b, 0x1040, ways[w].values[i] * 0x01010101u, 4);
            }
            expect_same(b);
        }
    }
}

/* Mostly commands that exist, at places close to one another. */
static void random_step(Bench *b)
{
    static const uint8_t codes[] = {0x10, 0x20, 0x40, 0x50, 0x60, 0x70, 0x90, 0x98,
                                    0xb0, 0xd0, 0xd0, 0xe8, 0xff, 0x01, 0x03, 0x00};
    unsigned size = 1u << g_rand_int_range(b->rand, 0, 3);
    uint32_t offset = (uint32_t)g_rand_int_range(b->rand, 0, 3) == 0
                          ? (uint32_t)g_rand_int_range(b->rand, 0, SIZE - 4)
                          : (uint32_t)g_rand_int_range(b->rand, 0x0ff0, 0x1110);
    uint32_t value = g_rand_int(b->rand);
    if (g_rand_int_range(b->rand, 0, 4) != 0) {
        offset &= ~(size - 1);
    }
    if (g_rand_int_range(b->rand, 0, 8) != 0) {
        value = codes[g_rand_int_range(b->rand, 0, G_N_ELEMENTS(codes))];
    }
    if (b->state.mode == CFI_BUFFER_COUNT && g_rand_boolean(b->rand)) {
        value = (uint32_t)g_rand_int_range(b->rand, 0, 8);
    }
    if (g_rand_int_range(b->rand, 0, 3) == 0) {
        expect_read(b, offset, size);
    } else {
        write_both(b, offset, value, size);
    }
}

static void random_sequences(void **state)
{
    Bench *b = *state;
    unsigned steps = 20000 * test_rounds(1, 2, 100);
    for (unsigned g = 0; g < G_N_ELEMENTS(geometries); g++) {
        for (unsigned read_only = 0; read_only <= 1; read_only++) {
            bench_init(b, &geometries[g], read_only);
            for (unsigned i = 0; i < steps; i++) {
                random_step(b);
            }
            expect_same(b);
        }
    }
}

static void a_full_buffer_is_programmed(void **state)
{
    Bench *b = *state;
    for (unsigned g = 0; g < G_N_ELEMENTS(geometries); g++) {
        bench_init(b, &geometries[g], false);
        unsigned bank = geometries[g].bank_width;
        uint32_t words = b->flash.buffer_size / bank;
        write_both(b, 0x1000, 0x20, bank);
        write_both(b, 0x1000, 0xd0, bank);
        write_both(b, 0x1000, 0xe8e8e8e8, bank);
        unsigned chip = geometries[g].device_width != 0 ? geometries[g].device_width : bank;
        uint32_t count = chip == 1 ? MIN(words, 256) - 1 : words - 1;
        write_both(b, 0x1000, count, bank);
        for (uint32_t i = 0; i <= count; i++) {
            write_both(b, 0x1000 + i * bank, i * 0x9e3779b9u, bank);
        }
        write_both(b, 0x1000, 0xd0, bank);
        assert_int_equal(b->state.status, CFI_SR_READY);
        write_both(b, 0x1000, 0xff, bank);
        expect_same(b);
        assert_memory_not_equal(b->array + 0x1000, b->result + 64, 64);
    }
}

/* ---- errors of the storage ---- */

static CfiOperation begin(Bench *b, uint32_t offset, uint8_t command, uint32_t second)
{
    assert_int_equal(cfi_write(&b->flash, offset, command, 1).kind, CFI_OP_NONE);
    CfiOperation op = cfi_write(&b->flash, offset, second, 1);
    assert_int_not_equal(op.kind, CFI_OP_NONE);
    return op;
}

static void a_failed_program_leaves_the_array_and_sets_SR4(void **state)
{
    Bench *b = *state;
    bench_init(b, &geometries[0], false);
    CfiOperation op = begin(b, 0x11, 0x10, 0);
    assert_memory_equal(b->array, b->model_array, SIZE); /* not before the end */
    cfi_end(&b->flash, &op, 0);
    assert_memory_equal(b->array, b->model_array, SIZE);
    assert_int_equal(cfi_read(&b->flash, 0, 1), CFI_SR_READY | CFI_SR_PROGRAM_ERROR);
    op = begin(b, 0x11, 0x40, 0);
    cfi_end(&b->flash, &op, op.bytes);
    assert_int_equal(cfi_read(&b->flash, 0, 1), CFI_SR_READY | CFI_SR_PROGRAM_ERROR); /* sticky */
    cfi_write(&b->flash, 0, 0x50, 1);
    assert_int_equal(b->state.status, 0);
    assert_int_equal(b->array[0x11], 0);
}

static void a_failed_erase_leaves_the_array_and_sets_SR5(void **state)
{
    Bench *b = *state;
    bench_init(b, &geometries[0], false);
    CfiOperation op = begin(b, 0x1011, 0x20, 0xd0);
    assert_int_equal(op.offset, 0x1000);
    assert_int_equal(op.bytes, BLOCK);
    cfi_end(&b->flash, &op, 0);
    assert_memory_equal(b->array, b->model_array, SIZE);
    assert_int_equal(cfi_read(&b->flash, 0, 1), CFI_SR_READY | CFI_SR_ERASE_ERROR);
}

/* ---- what OVMF looks at (QemuFlashFvbServicesRuntimeDxe) ---- */

static void OVMF_finds_writable_flash(void **state)
{
    Bench *b = *state;
    for (unsigned read_only = 0; read_only <= 1; read_only++) {
        bench_init(b, &geometries[0], read_only);
        uint8_t original = (uint8_t)cfi_read(&b->flash, 1, 1);
        write_both(b, 1, 0x50, 1);
        assert_int_equal(cfi_read(&b->flash, 1, 1), original);
        write_both(b, 1, 0x70, 1);
        assert_int_equal(cfi_read(&b->flash, 1, 1), 0x00);
        write_both(b, 1, 0x10, 1);
        write_both(b, 1, original, 1);
        write_both(b, 1, 0x70, 1);
        assert_int_equal(cfi_read(&b->flash, 1, 1) & 0x10, read_only ? 0x10 : 0);
        write_both(b, 1, 0xff, 1);
        assert_int_equal(cfi_read(&b->flash, 1, 1), original);
    }
}

/* ---- state and geometry ---- */

static void the_state_table_is_complete(void **state)
{
    static const StateDesc desc = {.name = "cfi",
                                   .version = 1,
                                   .min_version = 1,
                                   .struct_size = sizeof(CfiState),
                                   .fields = cfi_state_fields};
    g_autoptr(GError) error = NULL;
    assert_true(state_check_coverage(&desc, &error));
}

static void impossible_states_are_refused(void **state)
{
    Bench *b = *state;
    bench_init(b, &geometries[0], false);
    CfiState good = b->state;
    assert_true(cfi_check_state(&b->flash, b->flash.state, NULL));
    b->state.mode = CFI_MODE_COUNT;
    assert_false(cfi_check_state(&b->flash, b->flash.state, NULL));
    b->state = good;
    b->state.window = SIZE;
    assert_false(cfi_check_state(&b->flash, b->flash.state, NULL));
    b->state = good;
    b->state.window = 1;
    assert_false(cfi_check_state(&b->flash, b->flash.state, NULL));
    b->state = good;
    b->state.mode = CFI_BUFFER_DATA;
    b->state.buffer_end = b->flash.buffer_size + 1;
    assert_false(cfi_check_state(&b->flash, b->flash.state, NULL));
    b->state.buffer_end = 1;
    b->state.words_left = 0; /* it would count below zero */
    assert_false(cfi_check_state(&b->flash, b->flash.state, NULL));
    b->state = good;
    b->state.mode = CFI_BUFFER_CONFIRM; /* nothing to program */
    assert_false(cfi_check_state(&b->flash, b->flash.state, NULL));
}

static void impossible_geometries_are_refused(void **state)
{
    static const CfiGeometry bad[] = {
        {.bank_width = 3, .block_size = 4096, .block_count = 1},
        {.bank_width = 0, .block_size = 4096, .block_count = 1},
        {.bank_width = 1,
         .device_width = 2,
         .max_device_width = 2,
         .block_size = 4096,
         .block_count = 1},
        {.bank_width = 4,
         .device_width = 2,
         .max_device_width = 4,
         .block_size = 4096,
         .block_count = 1},
        {.bank_width = 2,
         .device_width = 2,
         .max_device_width = 1,
         .block_size = 4096,
         .block_count = 1},
        {.bank_width = 1, .block_size = 2048, .block_count = 1},
        {.bank_width = 1, .block_size = 6000, .block_count = 1},
        {.bank_width = 1, .block_size = 4096, .block_count = 0},
        {.bank_width = 1, .block_size = 4096, .block_count = CFI_BLOCKS_MAX + 1},
        {.bank_width = 1, .block_size = 1u << 31, .block_count = 2},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        assert_false(cfi_check_geometry(&bad[i], &error));
        assert_non_null(error);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_command_in_every_mode),
        TEST(every_answer_of_every_mode),
        TEST(random_sequences),
        TEST(a_full_buffer_is_programmed),
        TEST(a_failed_program_leaves_the_array_and_sets_SR4),
        TEST(a_failed_erase_leaves_the_array_and_sets_SR5),
        TEST(OVMF_finds_writable_flash),
        TEST(the_state_table_is_complete),
        TEST(impossible_states_are_refused),
        TEST(impossible_geometries_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

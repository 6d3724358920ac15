/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "hw/firmware/fw_cfg.h"
#include "tests/support/fake_machine.h"

#define SELECTOR 0x510
#define DATA 0x511
#define DMA 0x514

#define ERROR 1
#define READ 2
#define SKIP 4
#define SELECT 8
#define WRITE 16
#define SELECTED(key) (((uint32_t)(key) << 16) | SELECT)

#define DESCRIPTOR 0x1000
#define TARGET 0x100000

static FakeMachine *m;
static Device *dev;

static int set_up(void **unused)
{
    m = fake_machine_new();
    m->env.cpu_count = 300;
    dev = fake_device(m, "fw_cfg_io", NULL);
    return 0;
}

static int tear_down(void **unused)
{
    fake_device_gone(dev);
    fake_machine_free(m);
    return 0;
}

static GBytes *bytes_of(const char *text)
{
    return g_bytes_new(text, strlen(text));
}

static void add(const char *name, GBytes *data)
{
    assert_true(fw_cfg_add_file(dev, name, data, NULL));
}

static uint64_t read_le(unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++) {
        value |= (uint64_t)fake_in8(m, DATA) << (8 * i);
    }
    return value;
}

static uint32_t read_be(unsigned bytes)
{
    uint32_t value = (uint32_t)read_le(bytes);
    return GUINT32_SWAP_LE_BE(value) >> (32 - 8 * bytes);
}

static uint64_t read_item(uint16_t key, unsigned bytes)
{
    fake_out16(m, SELECTOR, key);
    return read_le(bytes);
}

static void read_text(uint16_t key, char *text, unsigned size)
{
    fake_out16(m, SELECTOR, key);
    for (unsigned i = 0; i < size; i++) {
        text[i] = (char)fake_in8(m, DATA);
    }
}

/* The key of file @name in the directory, and its size. 0: there is no such file. */
static uint16_t find_file(const char *name, uint32_t *size)
{
    fake_out16(m, SELECTOR, 0x19);
    uint32_t count = read_be(4);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t length = read_be(4);
        uint16_t key = (uint16_t)read_be(2);
        char text[56];
        assert_int_equal(read_le(2), 0);
        for (unsigned c = 0; c < sizeof(text); c++) {
            text[c] = (char)fake_in8(m, DATA);
        }
        if (strncmp(text, name, sizeof(text)) == 0) {
            *size = length;
            return key;
        }
    }
    return 0;
}

/* ---- DMA ---- */

static uint8_t *ram(uint64_t gpa)
{
    return (uint8_t *)m->ram.blocks[0].host + gpa;
}

static void put_descriptor(uint64_t gpa, uint32_t control, uint32_t length, uint64_t address)
{
    const uint32_t words[] = {GUINT32_TO_BE(control), GUINT32_TO_BE(length),
                              GUINT32_TO_BE((uint32_t)(address >> 32)),
                              GUINT32_TO_BE((uint32_t)address)};
    memcpy(ram(gpa), words, sizeof(words));
}

static uint32_t control_at(uint64_t gpa)
{
    uint32_t control;
    memcpy(&control, ram(gpa), 4);
    return GUINT32_FROM_BE(control);
}

static MmioResult dispatch(IoAccess *access, uint16_t port)
{
    bql_lock();
    MmioResult result = address_space_dispatch(m->env.pio, port, access, NULL);
    bql_unlock();
    return result;
}

static IoAccess write_access(uint32_t value)
{
    return (IoAccess){.size = 4, .is_write = true, .value = GUINT32_SWAP_LE_BE(value)};
}

/* Writes the register's low half; returns the number of times the access was pended. */
static unsigned trigger(uint32_t gpa)
{
    IoAccess access = write_access(gpa);
    unsigned pended = 0;
    while (dispatch(&access, DMA + 4) == MMIO_PENDING) {
        pended++;
        fake_machine_run(m);
        assert_true(completion_done(&access.waiter.done));
    }
    return pended;
}

static uint32_t dma(uint32_t control, uint32_t length, uint64_t address)
{
    put_descriptor(DESCRIPTOR, control, length, address);
    trigger(DESCRIPTOR);
    return control_at(DESCRIPTOR);
}

/* ---- items ---- */

static void signature_and_features_are_those_of_the_specification(void **unused)
{
    char text[5];
    read_text(0x00, text, 5);
    assert_memory_equal(text, "QEMU", 5); /* zero beyond its end */
    assert_int_equal(read_item(0x01, 4), 3);
}

static void ram_size_and_processors_are_there(void **unused)
{
    assert_int_equal(read_item(0x03, 8), FAKE_RAM_SIZE);
    assert_int_equal(read_item(0x05, 2), 300);
    assert_int_equal(read_item(0x0f, 2), 300);
    assert_int_equal(read_item(0x05, 8), 300);
    assert_int_equal(fake_in8(m, DATA), 0);
}

static void keys_without_an_item_read_as_zero(void **unused)
{
    static const uint16_t keys[] = {0x06, 0x1a, 0x20, 0x3fff, 0x8000, 0x8007, 0x8008, 0xbfff};
    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++) {
        assert_int_equal(read_item(keys[i], 8), 0);
        assert_int_equal(read_item(keys[i] | 0x4000, 8), 0);
    }
    fake_out8(m, DATA, 5); /* read-only, and selects nothing */
    assert_int_equal(fake_in8(m, DATA), 0);
}

static void the_write_bit_of_a_key_is_ignored(void **unused)
{
    assert_int_equal(read_item(0x4001, 4), 3);
    fw_cfg_set_number(dev, FW_CFG_IRQ0_OVERRIDE, 1, 4);
    assert_int_equal(read_item(0xc002, 4), 1);
}

static void a_reset_forgets_the_selection(void **unused)
{
    read_item(0x01, 1);
    bql_lock();
    dev->type->reset(dev);
    bql_unlock();
    assert_int_equal(read_le(1), 'Q');
}

static void the_state_table_covers_the_device(void **unused)
{
    assert_true(state_check_coverage(dev->type->state, NULL));
}

/* ---- files ---- */

static void files_are_listed_by_name(void **unused)
{
    uint32_t size;
    add("etc/b", bytes_of("second"));
    add("opt/z", bytes_of(""));
    add("etc/a", bytes_of("one"));
    assert_int_equal(find_file("etc/a", &size), 0x20);
    assert_int_equal(size, 3);
    assert_int_equal(find_file("etc/b", &size), 0x21);
    assert_int_equal(size, 6);
    assert_int_equal(find_file("opt/z", &size), 0x22);
    assert_int_equal(size, 0);
    assert_int_equal(find_file("etc/c", &size), 0);
    char text[7];
    read_text(0x21, text, 7);
    assert_memory_equal(text, "second", 7);
}

static void bad_names_are_refused(void **unused)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *longest = g_strnfill(55, 'x'), *longer = g_strnfill(56, 'x');
    add(longest, bytes_of("1"));
    assert_false(fw_cfg_add_file(dev, longest, bytes_of("2"), &error));
    assert_non_null(strstr(error->message, "exists already"));
    assert_false(fw_cfg_add_file(dev, longer, bytes_of("2"), NULL));
    assert_false(fw_cfg_add_file(dev, "", bytes_of("2"), NULL));
    fake_out16(m, SELECTOR, 0x19);
    assert_int_equal(read_be(4), 1);
}

static void the_number_of_files_has_a_limit(void **unused)
{
    for (unsigned i = 0; i < FW_CFG_FILES_MAX; i++) {
        g_autofree char *name = g_strdup_printf("opt/%u", i);
        add(name, bytes_of("x"));
    }
    assert_false(fw_cfg_add_file(dev, "opt/more", bytes_of("x"), NULL));
}

static void generate(void *opaque)
{
    unsigned *count = opaque;
    assert_bql();
    char text[] = {(char)('0' + ++*count), '\0'};
    fw_cfg_set_file(dev, "etc/generated", bytes_of(text));
}

static void generated_files_are_made_once_for_each_reset(void **unused)
{
    unsigned count = 0;
    uint32_t size;
    add("etc/generated", bytes_of("0"));
    add("etc/other", bytes_of("x"));
    fw_cfg_set_generator(dev, generate, &count);
    fw_cfg_mark_generated(dev, "etc/generated");
    assert_int_equal(find_file("etc/generated", &size), 0x20);
    assert_int_equal(read_item(0x21, 1), 'x');
    assert_int_equal(count, 0);
    assert_int_equal(read_item(0x20, 1), '1');
    assert_int_equal(read_item(0x20, 1), '1');
    bql_lock();
    dev->type->reset(dev);
    bql_unlock();
    assert_int_equal(dma(SELECTED(0x20) | READ, 1, TARGET), 0);
    assert_int_equal(*ram(TARGET), '2');
    assert_int_equal(count, 2);
}

/* A guest that was saved in the middle of a generated file goes on reading it. */
static void a_selected_file_is_generated_after_a_load(void **unused)
{
    unsigned count = 0;
    add("etc/generated", bytes_of("0"));
    fw_cfg_set_generator(dev, generate, &count);
    fw_cfg_mark_generated(dev, "etc/generated");
    g_autoptr(GByteArray) saved = g_byte_array_new();
    size_t used;
    fake_out16(m, SELECTOR, 0x20);
    state_save(dev->type->state, dev, saved);
    assert_int_equal(count, 1);
    bql_lock();
    dev->type->reset(dev);
    assert_true(state_load(dev->type->state, dev, saved->data, saved->len, &used, NULL));
    assert_true(dev->type->post_load(dev, NULL));
    bql_unlock();
    assert_int_equal(count, 1); /* not before other devices are loaded, too */
    assert_int_equal(fake_in8(m, DATA), '2');
    assert_int_equal(fake_in8(m, DATA), 0);
    assert_int_equal(count, 2);
}

static void a_file_that_is_removed_is_gone(void **unused)
{
    uint32_t size;
    add("etc/a", bytes_of("one"));
    add("etc/b", bytes_of("second"));
    fw_cfg_remove_file(dev, "etc/a");
    fw_cfg_remove_file(dev, "etc/none");
    assert_int_equal(find_file("etc/a", &size), 0);
    assert_int_equal(find_file("etc/b", &size), 0x20);
    assert_int_equal(read_item(0x20, 1), 's');
    assert_int_equal(read_item(0x21, 1), 0);
}

/* ---- DMA ---- */

static void the_dma_register_reads_its_signature(void **unused)
{
    assert_int_equal(fake_in32(m, DMA), GUINT32_SWAP_LE_BE(0x51454d55));
    assert_int_equal(fake_in32(m, DMA + 4), GUINT32_SWAP_LE_BE(0x20434647));
    assert_int_equal(fake_in8(m, DMA + 7), 'G');
    assert_int_equal(fake_in16(m, DMA + 2), 'M' | 'U' << 8);
}

static void dma_reads_an_item_in_pieces_that_follow_one_another(void **unused)
{
    add("etc/x", bytes_of("abcdefgh"));
    memset(ram(TARGET), 0xee, 32);
    assert_int_equal(dma(SELECTED(0x20) | READ, 3, TARGET), 0);
    assert_memory_equal(ram(TARGET), "abc\xee", 4);
    assert_int_equal(dma(SKIP, 2, 0), 0);
    assert_int_equal(dma(READ, 2, TARGET), 0);
    assert_memory_equal(ram(TARGET), "fgc\xee", 4);
    assert_int_equal(fake_in8(m, DATA), 'h'); /* both interfaces have one offset */
    assert_int_equal(dma(READ, 4, TARGET), 0);
    assert_memory_equal(ram(TARGET), "\0\0\0\0\xee", 5); /* zeros beyond the end */
}

static void a_selection_alone_moves_nothing(void **unused)
{
    assert_int_equal(dma(SELECTED(0x01), 0xffffffff, 0), 0);
    assert_int_equal(read_le(4), 3);
}

static void the_high_half_of_the_address_counts_once(void **unused)
{
    fake_out32(m, DMA, GUINT32_SWAP_LE_BE(1)); /* 4 GiB and up are not RAM */
    put_descriptor(DESCRIPTOR, SELECTED(0x00) | READ, 4, TARGET);
    trigger(DESCRIPTOR);
    assert_int_equal(control_at(DESCRIPTOR), SELECTED(0x00) | READ); /* not read, not written */
    trigger(DESCRIPTOR);
    assert_int_equal(control_at(DESCRIPTOR), 0);
    assert_memory_equal(ram(TARGET), "QEMU", 4);
}

static void narrow_writes_of_the_register_do_nothing(void **unused)
{
    put_descriptor(0, SELECTED(0x00) | READ, 4, TARGET);
    fake_out8(m, DMA + 7, 0);
    fake_out16(m, DMA + 6, 0);
    assert_int_equal(control_at(0), SELECTED(0x00) | READ);
}

static void bytes_that_are_not_ram_are_an_error(void **unused)
{
    static const uint64_t addresses[] = {FAKE_RAM_SIZE,  FAKE_RAM_SIZE - 2, 0xfee00000,
                                         UINT64_MAX - 3, UINT64_MAX - 1,    UINT64_MAX};
    for (unsigned i = 0; i < G_N_ELEMENTS(addresses); i++) {
        assert_int_equal(dma(SELECTED(0x00) | READ, 4, addresses[i]), ERROR);
        assert_int_equal(dma(SELECTED(0x30) | READ, 4, addresses[i]), ERROR);
        assert_int_equal(dma(SELECTED(0x00) | WRITE, 4, addresses[i]), ERROR);
        assert_int_equal(dma(SELECTED(0x00) | READ, 0, addresses[i]), 0);
    }
    assert_int_equal(dma(SELECTED(0x00) | READ, UINT32_MAX, TARGET), ERROR);
}

static void a_descriptor_that_is_not_ram_is_ignored(void **unused)
{
    static const uint32_t addresses[] = {FAKE_RAM_SIZE, 0xfee00000, UINT32_MAX};
    for (unsigned i = 0; i < G_N_ELEMENTS(addresses); i++) {
        assert_int_equal(trigger(addresses[i]), 0);
    }
    put_descriptor(FAKE_RAM_SIZE - 16, SELECTED(0) | READ, 4, TARGET);
    trigger(FAKE_RAM_SIZE - 16);
    assert_int_equal(control_at(FAKE_RAM_SIZE - 16), 0);
    trigger(FAKE_RAM_SIZE - 8); /* its second half is not RAM: only the control field is written */
    assert_int_equal(control_at(FAKE_RAM_SIZE - 8), ERROR);
}

static void a_transfer_to_its_own_descriptor_is_an_error(void **unused)
{
    static const uint64_t addresses[] = {DESCRIPTOR - 3, DESCRIPTOR, DESCRIPTOR + 15};
    for (unsigned i = 0; i < G_N_ELEMENTS(addresses); i++) {
        assert_int_equal(dma(SELECTED(0x00) | READ, 4, addresses[i]), ERROR);
    }
    assert_int_equal(dma(SELECTED(0x00) | READ, 4, DESCRIPTOR - 4), 0);
    assert_int_equal(dma(SELECTED(0x00) | READ, 4, DESCRIPTOR + 16), 0);
}

static void unaligned_addresses_are_fine(void **unused)
{
    put_descriptor(DESCRIPTOR + 3, SELECTED(0x00) | READ, 4, TARGET + 1);
    trigger(DESCRIPTOR + 3);
    assert_int_equal(control_at(DESCRIPTOR + 3), 0);
    assert_memory_equal(ram(TARGET + 1), "QEMU", 4);
}

static void count_write(void *opaque, uint32_t offset, uint32_t size)
{
    assert_true(size == 2 ? offset == 0 : offset == 2 && size == 3);
    assert_bql();
    ++*(unsigned *)opaque;
}

static void only_writable_files_are_written_and_only_within_them(void **unused)
{
    uint8_t data[8] = "01234567";
    unsigned writes = 0;
    assert_true(fw_cfg_add_writable(dev, "etc/w", data, 8, count_write, &writes, NULL));
    add("etc/x", bytes_of("read-only"));
    memcpy(ram(TARGET), "ABCDEFGHI", 9);
    assert_int_equal(dma(SELECTED(0x20) | WRITE, 2, TARGET), 0);
    assert_int_equal(dma(WRITE, 3, TARGET), 0);
    assert_memory_equal(data, "ABABC567", 8);
    assert_int_equal(writes, 2);
    assert_int_equal(dma(WRITE, 4, TARGET), ERROR);
    assert_int_equal(dma(SELECTED(0x20) | WRITE, 9, TARGET), ERROR);
    assert_int_equal(dma(SELECTED(0x21) | WRITE, 1, TARGET), ERROR);
    assert_int_equal(dma(SELECTED(0x01) | WRITE, 1, TARGET), ERROR);
    assert_int_equal(dma(SELECTED(0x33) | WRITE, 1, TARGET), ERROR);
    assert_memory_equal(data, "ABABC567", 8);
    assert_int_equal(read_item(0x20, 2), 'A' | 'B' << 8);
    assert_int_equal(read_item(0x21, 1), 'r');
}

/* ---- large transfers ---- */

#define LARGE (FW_CFG_DMA_CHUNK * 2 + 5)

static void add_large_file(void)
{
    uint8_t *data = g_malloc(LARGE);
    for (unsigned i = 0; i < LARGE; i++) {
        data[i] = (uint8_t)(i * 7 + i / 256);
    }
    add("etc/large", g_bytes_new_take(data, LARGE));
}

static void assert_large_file_is_in_ram(void)
{
    for (unsigned i = 0; i < LARGE; i++) {
        assert_int_equal(*ram(TARGET + i), (uint8_t)(i * 7 + i / 256));
    }
}

static void a_large_transfer_gives_main_a_turn_between_pieces(void **unused)
{
    add_large_file();
    put_descriptor(DESCRIPTOR, SELECTED(0x20) | READ, LARGE, TARGET);
    assert_int_equal(trigger(DESCRIPTOR), 2);
    assert_int_equal(control_at(DESCRIPTOR), 0);
    assert_large_file_is_in_ram();
    /* The same for the zeros beyond an item's end. */
    put_descriptor(DESCRIPTOR, SELECTED(0x00) | READ, LARGE, TARGET);
    assert_int_equal(trigger(DESCRIPTOR), 2);
    assert_memory_equal(ram(TARGET), "QEMU\0", 5);
    assert_int_equal(*ram(TARGET + LARGE - 1), 0);
    /* A skip has no bytes to move. */
    put_descriptor(DESCRIPTOR, SELECTED(0x20) | SKIP, LARGE - 1, 0);
    assert_int_equal(trigger(DESCRIPTOR), 0);
    assert_int_equal(read_le(2), (uint8_t)((LARGE - 1) * 7 + (LARGE - 1) / 256));
    put_descriptor(DESCRIPTOR, SKIP, UINT32_MAX, 0);
    assert_int_equal(trigger(DESCRIPTOR), 0);
}

static void other_accesses_wait_for_the_end_of_a_transfer(void **unused)
{
    add_large_file();
    put_descriptor(DESCRIPTOR, SELECTED(0x20) | READ, LARGE, TARGET);
    put_descriptor(DESCRIPTOR + 64, SELECTED(0x00) | READ, 4, TARGET + LARGE);
    IoAccess first = write_access(DESCRIPTOR), second = write_access(DESCRIPTOR + 64);
    IoAccess third = {.size = 2, .is_write = true, .value = 0x01};
    assert_int_equal(dispatch(&first, DMA + 4), MMIO_PENDING);
    assert_int_equal(dispatch(&second, DMA + 4), MMIO_PENDING);
    assert_int_equal(dispatch(&third, SELECTOR), MMIO_PENDING);
    assert_int_equal(control_at(DESCRIPTOR + 64), SELECTED(0x00) | READ);
    assert_int_equal(fake_in8(m, DMA), 'Q'); /* this register never waits */
    fake_machine_run(m);
    assert_int_equal(dispatch(&second, DMA + 4), MMIO_PENDING); /* not the one that transfers */
    assert_int_equal(dispatch(&first, DMA + 4), MMIO_PENDING);
    fake_machine_run(m);
    assert_int_equal(dispatch(&first, DMA + 4), MMIO_DONE);
    assert_int_equal(dispatch(&third, SELECTOR), MMIO_DONE);
    assert_int_equal(dispatch(&second, DMA + 4), MMIO_DONE);
    assert_int_equal(control_at(DESCRIPTOR), 0);
    assert_int_equal(control_at(DESCRIPTOR + 64), 0);
    assert_large_file_is_in_ram();
    assert_memory_equal(ram(TARGET + LARGE), "QEMU", 4);
}

static MmioResult cover_access(void *opaque, IoAccess *access)
{
    assert_bql();
    return MMIO_DONE;
}

/* A guest may place the ACPI block over the ports meanwhile. */
static void a_transfer_ends_below_another_mapping(void **unused)
{
    static const IoRegionOps ops = {.access = cover_access};
    IoRegion cover = {.name = "cover", .ops = &ops, .size = 0x80};
    add_large_file();
    put_descriptor(DESCRIPTOR, SELECTED(0x20) | READ, LARGE, TARGET);
    IoAccess first = write_access(DESCRIPTOR), second = {.size = 1};
    assert_int_equal(dispatch(&first, DMA + 4), MMIO_PENDING);
    assert_int_equal(dispatch(&second, DATA), MMIO_PENDING);
    bql_lock();
    address_space_map(m->env.pio, &cover, 0x500, 2);
    bql_unlock();
    do {
        fake_machine_run(m);
    } while (dispatch(&first, DMA + 4) == MMIO_PENDING);
    assert_int_equal(dispatch(&second, DATA), MMIO_DONE);
    assert_int_equal(control_at(DESCRIPTOR), 0);
    assert_large_file_is_in_ram();
    bql_lock();
    address_space_unmap(&cover);
    bql_unlock();
}

static void a_descriptor_is_read_once(void **unused)
{
    add_large_file();
    put_descriptor(DESCRIPTOR, SELECTED(0x20) | READ, LARGE, TARGET);
    IoAccess access = write_access(DESCRIPTOR);
    assert_int_equal(dispatch(&access, DMA + 4), MMIO_PENDING);
    put_descriptor(DESCRIPTOR, READ, UINT32_MAX, UINT64_MAX); /* the guest changes it meanwhile */
    do {
        fake_machine_run(m);
    } while (dispatch(&access, DMA + 4) == MMIO_PENDING);
    assert_int_equal(control_at(DESCRIPTOR), 0);
    assert_large_file_is_in_ram();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(signature_and_features_are_those_of_the_specification),
        TEST(ram_size_and_processors_are_there),
        TEST(keys_without_an_item_read_as_zero),
        TEST(the_write_bit_of_a_key_is_ignored),
        TEST(a_reset_forgets_the_selection),
        TEST(the_state_table_covers_the_device),
        TEST(files_are_listed_by_name),
        TEST(bad_names_are_refused),
        TEST(the_number_of_files_has_a_limit),
        TEST(generated_files_are_made_once_for_each_reset),
        TEST(a_selected_file_is_generated_after_a_load),
        TEST(a_file_that_is_removed_is_gone),
        TEST(the_dma_register_reads_its_signature),
        TEST(dma_reads_an_item_in_pieces_that_follow_one_another),
        TEST(a_selection_alone_moves_nothing),
        TEST(the_high_half_of_the_address_counts_once),
        TEST(narrow_writes_of_the_register_do_nothing),
        TEST(bytes_that_are_not_ram_are_an_error),
        TEST(a_descriptor_that_is_not_ram_is_ignored),
        TEST(a_transfer_to_its_own_descriptor_is_an_error),
        TEST(unaligned_addresses_are_fine),
        TEST(only_writable_files_are_written_and_only_within_them),
        TEST(a_large_transfer_gives_main_a_turn_between_pieces),
        TEST(other_accesses_wait_for_the_end_of_a_transfer),
        TEST(a_transfer_ends_below_another_mapping),
        TEST(a_descriptor_is_read_once),
    };
    return cmocka_run_group_tests_name("hw/firmware/fw_cfg", tests, NULL, NULL);
}

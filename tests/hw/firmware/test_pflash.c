/* SPDX-License-Identifier: Apache-2.0 */
/* The flash with its backend: pended operations, the mapping, errors, flushes, drained sections. */
#include "tests/hw/firmware/pflash_bench.h"

static int set_up(void **state)
{
    *state = flash_bench_new("size=64K,manual=off", "drive=disk");
    return 0;
}

static int tear_down(void **state)
{
    flash_bench_free(*state);
    return 0;
}

static void make_manual(FlashBench *f)
{
    flash_write(f, 0, 0x20, 1);
    flash_write(f, 0, 0xd0, 1); /* erased: every program changes it */
    flash_write(f, 0, 0xff, 1);
    blk_disk_set_manual(&f->disk, true);
}

/* ---- programs ---- */

static void a_program_retires_after_its_data_is_on_the_disk(void **state)
{
    FlashBench *f = *state;
    IoAccess a;
    make_manual(f);
    flash_hold(f, 0x123, 0x40, 0x5a, &a);
    assert_int_equal(blk_disk_data(&f->disk)[0x123], 0xff);
    assert_int_equal(pflash_array(f->dev)[0x123], 0xff);
    assert_true(blk_disk_complete(&f->disk, 0));
    assert_int_equal(blk_disk_data(&f->disk)[0x123], 0x5a);
    assert_true(completion_done(&a.waiter.done));
    assert_int_equal(flash_dispatch(f, 0x123, &a), MMIO_DONE);
    assert_int_equal(pflash_array(f->dev)[0x123], 0x5a);
    assert_int_equal(flash_read(f, 0x123, 1), CFI_SR_READY);
}

static void an_erase_retires_after_the_block_is_on_the_disk(void **state)
{
    FlashBench *f = *state;
    IoAccess a;
    blk_disk_set_manual(&f->disk, true);
    flash_hold(f, 0x3fff, 0x20, 0xd0, &a);
    assert_true(blk_disk_complete(&f->disk, 0));
    const uint8_t *data = blk_disk_data(&f->disk);
    for (unsigned i = 0; i < FLASH_BLOCK; i++) {
        assert_int_equal(data[0x3000 + i], 0xff);
    }
    assert_int_equal(data[0x2fff], 0);
    assert_int_equal(data[0x4000], 0);
    assert_int_equal(flash_dispatch(f, 0x3fff, &a), MMIO_DONE);
    assert_memory_equal(pflash_array(f->dev), data, 0x10000);
}

/* A save in passes takes the array as a part of memory. */
static void what_changes_in_the_array_is_dirty_memory(void **state)
{
    FlashBench *f = *state;
    GuestRam *ram = f->dev->env->ram;
    uint64_t bits = 0;
    const RamBlock *b = &ram->blocks[ram->count - 1];
    enter_main();
    assert_ptr_equal(b->host, pflash_array(f->dev));
    flash_write(f, 0x3000, 0x20, 1); /* erase */
    flash_write(f, 0x3000, 0xd0, 1);
    flash_program(f, 0x5fff, 0x12);
    assert_int_equal(guest_ram_log_take(b, 0, 16, &bits), 2);
    assert_int_equal(bits, 1 << 3 | 1 << 5);
}

static void other_accesses_wait_for_the_operation(void **state)
{
    FlashBench *f = *state;
    IoAccess owner, read = {.size = 1}, write = {.value = 0x70, .size = 1, .is_write = true};
    make_manual(f);
    flash_hold(f, 0, 0x10, 0, &owner);
    assert_int_equal(flash_dispatch(f, 0x200, &read), MMIO_PENDING);
    assert_int_equal(flash_dispatch(f, 0x200, &write), MMIO_PENDING);
    assert_true(blk_disk_complete(&f->disk, 0));
    assert_true(completion_done(&owner.waiter.done));
    assert_false(completion_done(&read.waiter.done)); /* the owner ends the operation */
    /* Any of them may come first. */
    IoAccess third = {.size = 1};
    assert_int_equal(flash_dispatch(f, 0x200, &third), MMIO_PENDING);
    assert_int_equal(flash_dispatch(f, 0, &owner), MMIO_DONE);
    assert_true(completion_done(&read.waiter.done));
    assert_true(completion_done(&write.waiter.done));
    assert_true(completion_done(&third.waiter.done));
    assert_int_equal(flash_dispatch(f, 0x200, &read), MMIO_DONE);
    assert_int_equal(read.value, CFI_SR_READY);
    assert_int_equal(flash_dispatch(f, 0x200, &write), MMIO_DONE);
    assert_int_equal(flash_dispatch(f, 0x200, &third), MMIO_DONE);
}

/* main parks the vCPUs, or runs a call in one. */
static void parking_cancels_no_operation(void **state)
{
    FlashBench *f = *state;
    IoAccess owner, read = {.size = 1};
    make_manual(f);
    flash_hold(f, 0, 0x10, 0, &owner);
    assert_int_equal(flash_dispatch(f, 0x200, &read), MMIO_PENDING);
    bql_lock();
    pended_cancel(&owner.waiter);
    pended_cancel(&read.waiter);
    bql_unlock();
    assert_false(completion_done(&owner.waiter.done));
    assert_true(completion_done(&read.waiter.done));
    read.must_retire = true; /* skiff's own I/O: it waits again */
    assert_int_equal(flash_dispatch(f, 0x200, &read), MMIO_PENDING);
    assert_true(blk_disk_complete(&f->disk, 0)); /* a second signal would abort */
    assert_int_equal(flash_dispatch(f, 0, &owner), MMIO_DONE);
    assert_int_equal(flash_dispatch(f, 0x200, &read), MMIO_DONE);
}

static MmioResult cover_access(void *opaque, IoAccess *access)
{
    assert_bql();
    return MMIO_DONE;
}

/* A guest may place ECAM or the chipset's registers over the flash while an operation runs. */
static void the_owner_ends_its_operation_below_another_mapping(void **state)
{
    static const IoRegionOps ops = {.access = cover_access};
    FlashBench *f = *state;
    IoRegion cover = {.name = "cover", .ops = &ops, .size = 0x100000};
    IoAccess owner, read = {.size = 1};
    make_manual(f);
    flash_hold(f, 0x200, 0x10, 0x5a, &owner);
    bql_lock();
    address_space_map(f->m->env.mmio, &cover, FLASH_GPA, 2);
    bql_unlock();
    assert_true(blk_disk_complete(&f->disk, 0));
    assert_int_equal(flash_dispatch(f, 0x200, &owner), MMIO_DONE);
    assert_int_equal(flash_dispatch(f, 0x200, &read), MMIO_DONE);
    assert_int_equal(read.value, 0xff);   /* a new access meets the mapping */
    virtio_bench_reset(f->bench, f->dev); /* aborts while an operation has an owner */
    bql_lock();
    address_space_unmap(&cover);
    bql_unlock();
    assert_int_equal(flash_read(f, 0x200, 1), 0x5a);
}

static void a_wide_access_is_programmed_in_pieces(void **state)
{
    FlashBench *f = *state;
    make_manual(f);
    IoAccess first = {.value = 0x10, .size = 1, .is_write = true};
    IoAccess wide = {.value = 0x4040404012345678, .size = 8, .is_write = true};
    assert_int_equal(flash_dispatch(f, 0x40, &first), MMIO_DONE);
    /* The low half is data; the high half is the next command. */
    assert_int_equal(flash_dispatch(f, 0x40, &wide), MMIO_PENDING);
    virtio_bench_settle(f->bench);
    assert_true(blk_disk_complete(&f->disk, 0));
    assert_int_equal(flash_dispatch(f, 0x40, &wide), MMIO_DONE);
    assert_int_equal(flash_of(f)->state.mode, CFI_PROGRAM);
    assert_int_equal(pflash_array(f->dev)[0x43], 0x12);
    assert_int_equal(pflash_array(f->dev)[0x44], 0xff);
}

/* ---- errors ---- */

static void a_failed_write_is_in_the_status(void **state)
{
    FlashBench *f = *state;
    IoAccess a;
    make_manual(f);
    flash_hold(f, 7, 0x10, 0, &a);
    assert_true(blk_disk_complete(&f->disk, -EIO));
    assert_int_equal(flash_dispatch(f, 7, &a), MMIO_DONE);
    assert_int_equal(flash_read(f, 7, 1), CFI_SR_READY | CFI_SR_PROGRAM_ERROR);
    flash_write(f, 0, 0x50, 1);
    flash_hold(f, 7, 0x20, 0xd0, &a);
    assert_true(blk_disk_complete(&f->disk, -ENOSPC));
    assert_int_equal(flash_dispatch(f, 7, &a), MMIO_DONE);
    assert_int_equal(flash_read(f, 7, 1), CFI_SR_READY | CFI_SR_ERASE_ERROR);
    assert_int_equal(pflash_array(f->dev)[7], 0xff);
    assert_memory_equal(pflash_array(f->dev), blk_disk_data(&f->disk), 0x10000);
}

static int set_up_wide(void **state)
{
    *state = flash_bench_new("size=64K", "drive=disk,width=4");
    return 0;
}

static void a_program_that_fails_in_the_middle_is_as_long_in_the_array(void **state)
{
    FlashBench *f = *state;
    make_manual(f);
    flash_write(f, 0x200, 0xe8, 4);
    flash_write(f, 0x200, 0xff, 4);
    for (uint32_t at = 0; at < 0x400; at += 4) {
        flash_write(f, 0x200 + at, 0x5a5a5a5a, 4);
    }
    IoAccess a = {.value = 0xd0, .size = 4, .is_write = true};
    assert_int_equal(flash_dispatch(f, 0x200, &a), MMIO_PENDING);
    virtio_bench_settle(f->bench);
    assert_true(blk_disk_complete(&f->disk, 0)); /* a write with FUA: the first sector ... */
    while (!completion_done(&a.waiter.done)) {
        assert_true(blk_disk_complete(&f->disk, -EIO)); /* ... and no other */
    }
    assert_int_equal(flash_dispatch(f, 0x200, &a), MMIO_DONE);
    assert_int_equal(flash_read(f, 0, 1), CFI_SR_READY | CFI_SR_PROGRAM_ERROR);
    assert_int_equal(pflash_array(f->dev)[0x3ff], 0x5a);
    assert_int_equal(pflash_array(f->dev)[0x400], 0xff);
    assert_memory_equal(pflash_array(f->dev), blk_disk_data(&f->disk), 0x10000);
}

static void a_failed_flush_is_in_the_status_and_is_tried_again(void **state)
{
    FlashBench *f = *state;
    make_manual(f);
    blk_disk_set_manual(&f->disk, false);
    flash_program(f, 1, 0);
    blk_disk_set_manual(&f->disk, true);
    for (unsigned i = 0; i < 2; i++) {
        IoAccess a = {.value = 0xff, .size = 1, .is_write = true};
        assert_int_equal(flash_dispatch(f, 0, &a), MMIO_PENDING);
        virtio_bench_settle(f->bench);
        assert_true(blk_disk_complete(&f->disk, i == 0 ? -EIO : 0));
        assert_int_equal(flash_dispatch(f, 0, &a), MMIO_DONE);
        assert_int_equal(flash_of(f)->state.status, CFI_SR_READY | CFI_SR_PROGRAM_ERROR);
        assert_false(f->m->rom_hidden);
    }
    IoAccess a = {.value = 0xff, .size = 1, .is_write = true};
    assert_int_equal(flash_dispatch(f, 0, &a), MMIO_DONE); /* nothing is left to flush */
}

static int set_up_read_only(void **state)
{
    *state = flash_bench_new("size=64K,read-only=on", "drive=disk");
    return 0;
}

static void a_read_only_bank_refuses_and_says_so(void **state)
{
    FlashBench *f = *state;
    flash_program(f, 5, 0);
    assert_int_equal(flash_read(f, 0, 1), CFI_SR_READY | CFI_SR_PROGRAM_ERROR);
    flash_write(f, 0, 0x50, 1);
    flash_write(f, 0, 0x20, 1);
    flash_write(f, 0, 0xd0, 1);
    assert_int_equal(flash_read(f, 0, 1), CFI_SR_READY | CFI_SR_ERASE_ERROR);
    flash_write(f, 0, 0xff, 1);
    assert_false(f->m->rom_hidden);
    assert_int_equal(flash_read(f, 5, 1), 0);
}

static int set_up_write_through(void **state)
{
    *state = flash_bench_new("size=64K", "drive=disk,write-cache=off");
    return 0;
}

static void a_write_through_flash_needs_no_flush(void **state)
{
    FlashBench *f = *state;
    make_manual(f);
    blk_disk_set_manual(&f->disk, false);
    flash_program(f, 1, 0);
    IoAccess a = {.value = 0xff, .size = 1, .is_write = true};
    assert_int_equal(flash_dispatch(f, 0, &a), MMIO_DONE);
}

/* ---- the mapping ---- */

static void the_array_is_mapped_except_during_commands(void **state)
{
    FlashBench *f = *state;
    static const uint8_t commands[] = {0x10, 0x20, 0x40, 0x60, 0x70, 0x90, 0x98, 0xe8, 0xb0};
    unsigned before = f->m->rom_changes;
    flash_write(f, 0, 0xff, 1);
    flash_write(f, 0, 0x50, 1);
    flash_write(f, 0, 0xf0, 1);
    assert_int_equal(f->m->rom_changes, before); /* no change of a mode */
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        flash_write(f, 0, commands[i], 1);
        assert_true(f->m->rom_hidden);
        bql_lock();
        f->dev->type->reset(f->dev);
        bql_unlock();
        assert_false(f->m->rom_hidden);
    }
    assert_int_equal(f->m->rom_changes, before + 2 * G_N_ELEMENTS(commands));
}

static void the_array_is_mapped_again_after_the_flush(void **state)
{
    FlashBench *f = *state;
    make_manual(f);
    blk_disk_set_manual(&f->disk, false);
    flash_program(f, 1, 0);
    blk_disk_set_manual(&f->disk, true);
    IoAccess a = {.value = 0xff, .size = 1, .is_write = true};
    assert_int_equal(flash_dispatch(f, 0, &a), MMIO_PENDING);
    virtio_bench_settle(f->bench);
    assert_true(f->m->rom_hidden);
    assert_true(blk_disk_complete(&f->disk, 0));
    assert_true(f->m->rom_hidden);
    assert_int_equal(flash_dispatch(f, 0, &a), MMIO_DONE);
    assert_false(f->m->rom_hidden);
}

static void a_refused_mapping_leaves_reads_right(void **state)
{
    FlashBench *f = *state;
    flash_write(f, 0, 0x70, 1);
    f->m->refuse_rom = true;
    flash_write(f, 0, 0xff, 1);
    assert_true(f->m->rom_hidden);
    assert_int_equal(flash_read(f, 0x21, 1), pflash_array(f->dev)[0x21]);
    f->m->refuse_rom = false;
    flash_write(f, 0, 0xff, 1);
    assert_false(f->m->rom_hidden);
}

/* An access that exits while the mapping changes may be unaligned. */
static void an_unaligned_read_gives_the_array(void **state)
{
    FlashBench *f = *state;
    make_manual(f);
    blk_disk_set_manual(&f->disk, false);
    for (unsigned i = 0; i < 16; i++) {
        flash_program(f, i, (uint8_t)(0x10 + i));
    }
    flash_write(f, 0, 0xff, 1);
    assert_int_equal(flash_read(f, 1, 4), 0x14131211);
    assert_int_equal(flash_read(f, 3, 2), 0x1413);
}

static void DMA_reads_the_array_and_writes_nothing(void **state)
{
    FlashBench *f = *state;
    uint8_t byte = 1;
    flash_write(f, 0, 0x70, 1);
    assert_true(guest_ram_read(&f->m->ram, FLASH_GPA + 5, &byte, 1));
    assert_int_equal(byte, 0);
    assert_false(guest_ram_write(&f->m->ram, FLASH_GPA, &byte, 1));
}

/* ---- drained sections ---- */

typedef struct Section {
    FlashBench *f;
    bool begun;
} Section;

static void begin_section(void *opaque)
{
    Section *s = opaque;
    enter_main();
    enter_coroutine();
    BlockBackend *blk = flash_of(s->f)->blk;
    co_drained_begin(&blk, 1);
    s->begun = true;
    co_drained_end(&blk, 1);
}

static void a_drained_section_waits_for_the_operation_only(void **state)
{
    FlashBench *f = *state;
    Section s = {.f = f};
    IoAccess a;
    make_manual(f);
    flash_hold(f, 9, 0x10, 0, &a);
    co_start(f->bench->main_ctx, begin_section, &s);
    virtio_bench_settle(f->bench);
    assert_false(s.begun);
    assert_true(blk_disk_complete(&f->disk, 0));
    assert_true(s.begun); /* the vCPU has not come back */
    assert_int_equal(flash_dispatch(f, 9, &a), MMIO_DONE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_program_retires_after_its_data_is_on_the_disk),
        TEST(an_erase_retires_after_the_block_is_on_the_disk),
        TEST(what_changes_in_the_array_is_dirty_memory),
        TEST(other_accesses_wait_for_the_operation),
        TEST(parking_cancels_no_operation),
        TEST(the_owner_ends_its_operation_below_another_mapping),
        TEST(a_wide_access_is_programmed_in_pieces),
        TEST(a_failed_write_is_in_the_status),
        TEST(a_failed_flush_is_in_the_status_and_is_tried_again),
        cmocka_unit_test_setup_teardown(a_program_that_fails_in_the_middle_is_as_long_in_the_array,
                                        set_up_wide, tear_down),
        cmocka_unit_test_setup_teardown(a_read_only_bank_refuses_and_says_so, set_up_read_only,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_write_through_flash_needs_no_flush, set_up_write_through,
                                        tear_down),
        TEST(the_array_is_mapped_except_during_commands),
        TEST(the_array_is_mapped_again_after_the_flush),
        TEST(a_refused_mapping_leaves_reads_right),
        TEST(an_unaligned_read_gives_the_array),
        TEST(DMA_reads_the_array_and_writes_nothing),
        TEST(a_drained_section_waits_for_the_operation_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

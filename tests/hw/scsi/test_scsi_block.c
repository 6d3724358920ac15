/* SPDX-License-Identifier: Apache-2.0 */
/* SCSI commands that use the medium of a disk. */
#include "tests/hw/scsi/scsi_bench.h"

#define MISCOMPARE 0xe1d00u

static uint8_t *data(Fixture *f)
{
    return scsi_call_data(&f->call);
}

static uint8_t *disk(Fixture *f)
{
    return blk_disk_data(&f->g.disk);
}

static void fill(uint8_t *at, size_t bytes, unsigned seed)
{
    for (size_t i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(i * 7 + i / 512 + seed);
    }
}

/* ---- reads and writes ---- */

static void each_form_of_read_reads(void **state)
{
    Fixture *f = *state;
    static const uint8_t reads[][16] = {
        {0x08, 0, 0, 5, 2},
        {0x28, 0, 0, 0, 0, 5, 0, 0, 2},
        {0xa8, 0, 0, 0, 0, 5, 0, 0, 0, 2},
        {0x88, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2},
        {0x28, 0x18, 0, 0, 0, 5, 0, 0, 2}, /* DPO, FUA */
    };
    bring_up(f, NULL);
    fill(disk(f), 8192, 1);
    for (unsigned i = 0; i < G_N_ELEMENTS(reads); i++) {
        memset(data(f), 0, 1024);
        assert_int_equal(scsi_call_run(&f->call, reads[i], SCSI_DIR_IN, 1024), GOOD);
        assert_memory_equal(data(f), disk(f) + 5 * 512, 1024);
        assert_int_equal(scsi_call_resid(&f->call), 0);
    }
}

static void each_form_of_write_writes(void **state)
{
    Fixture *f = *state;
    static const uint8_t writes[][16] = {
        {0x0a, 0, 0, 5, 2},
        {0x2a, 0, 0, 0, 0, 5, 0, 0, 2},
        {0xaa, 0, 0, 0, 0, 5, 0, 0, 0, 2},
        {0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2},
        {0x2a, 0x18, 0, 0, 0, 5, 0, 0, 2},
    };
    bring_up(f, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(writes); i++) {
        fill(data(f), 1024, 10 + i);
        assert_int_equal(scsi_call_run(&f->call, writes[i], SCSI_DIR_OUT, 1024), GOOD);
        assert_memory_equal(data(f), disk(f) + 5 * 512, 1024);
        assert_int_equal(disk(f)[5 * 512 - 1], 0);
        assert_int_equal(disk(f)[7 * 512], 0);
    }
}

static void no_blocks_move_nothing(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL);
    assert_int_equal(RUN(f, 0x28, 0, 0, 0, 0, 5), GOOD);
    assert_int_equal(RUN(f, 0x2a, 0, 0, 0, 8, 0), GOOD); /* at the end */
    /* READ (6): 0 means 256 */
    fill(disk(f), 256 * 512, 3);
    assert_int_equal(RUN_IN(f, 256 * 512, 0x08, 0, 0, 0, 0), GOOD);
    assert_memory_equal(data(f), disk(f), 256 * 512);
}

static void blocks_beyond_the_end_are_out_of_range(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL);
    assert_int_equal(RUN_IN(f, 512, 0x28, 0, 0, 0, 0x07, 0xff, 0, 0, 1), GOOD);
    assert_check(RUN_IN(f, 1024, 0x28, 0, 0, 0, 0x07, 0xff, 0, 0, 2), OUT_OF_RANGE);
    assert_check(RUN_OUT(f, 1024, 0x2a, 0, 0, 0, 0x07, 0xff, 0, 0, 2), OUT_OF_RANGE);
    assert_check(RUN(f, 0x28, 0, 0, 0, 0x08, 0x01), OUT_OF_RANGE);
    assert_check(RUN_IN(f, 512, 0x88, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 1),
                 OUT_OF_RANGE);
    assert_check(RUN_OUT(f, 512, 0x8a, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 1),
                 OUT_OF_RANGE);
    assert_check(RUN_OUT(f, 512, 0x93, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1), OUT_OF_RANGE);
    assert_check(RUN(f, 0x2b, 0, 0, 0, 0x08, 0x00), OUT_OF_RANGE);
    assert_int_equal(RUN(f, 0x2b, 0, 0, 0, 0x07, 0xff), GOOD);
}

static void protection_information_is_refused(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL);
    assert_check(RUN_IN(f, 512, 0x28, 0x20, 0, 0, 0, 0, 0, 0, 1), INVALID_FIELD);
    assert_check(RUN_OUT(f, 512, 0x2a, 0x20, 0, 0, 0, 0, 0, 0, 1), INVALID_FIELD);
    assert_check(RUN(f, 0x2f, 0x20, 0, 0, 0, 0, 0, 0, 1), INVALID_FIELD);
    assert_check(RUN_OUT(f, 512, 0x41, 0x20, 0, 0, 0, 0, 0, 0, 1), INVALID_FIELD);
}

static void a_buffer_that_is_too_small_is_an_overrun(void **state)
{
    Fixture *f = *state;
    const unsigned overrun = SCSI_CALL_RESPONSE | VIRTIO_SCSI_S_OVERRUN;
    bring_up(f, NULL);
    assert_int_equal(RUN_IN(f, 511, 0x28, 0, 0, 0, 0, 0, 0, 0, 1), overrun);
    assert_int_equal(RUN_OUT(f, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 1), overrun);
    assert_int_equal(RUN_IN(f, 512, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1), overrun);
    assert_int_equal(RUN_IN(f, 7, 0x25), overrun);
    assert_int_equal(RUN_IN(f, 95, 0x12, 0, 0, 0, 96), overrun);
    assert_int_equal(RUN(f, 0x41, 0, 0, 0, 0, 0, 0, 0, 1), overrun);
    /* a larger one keeps the rest */
    memset(data(f), 0xee, 2048);
    assert_int_equal(RUN_IN(f, 2048, 0x28, 0, 0, 0, 0, 0, 0, 0, 1), GOOD);
    assert_int_equal(scsi_call_resid(&f->call), 1536);
    assert_int_equal(data(f)[511], 0);
    assert_int_equal(data(f)[512], 0xee);
}

static void requests_count_logical_blocks(void **state)
{
    Fixture *f = *state;
    bring_up(f, "logical_block_size=4096,physical_block_size=4096");
    fill(data(f), 4096, 9);
    assert_int_equal(RUN_OUT(f, 4096, 0x2a, 0, 0, 0, 0, 3, 0, 0, 1), GOOD);
    assert_memory_equal(disk(f) + 3 * 4096, data(f), 4096);
    assert_check(RUN_OUT(f, 4096, 0x2a, 0, 0, 0, 1, 0, 0, 0, 1), OUT_OF_RANGE);
    assert_int_equal(RUN_IN(f, 8, 0x25), GOOD);
    assert_memory_equal(data(f), "\0\0\0\xff\0\0\x10\0", 8);
}

/* ---- capacity ---- */

static void the_capacity_is_the_last_block(void **state)
{
    Fixture *f = *state;
    bring_up(f, "physical_block_size=4096");
    assert_int_equal(RUN_IN(f, 8, 0x25), GOOD);
    assert_memory_equal(data(f), "\0\0\7\xff\0\0\2\0", 8);
    static const uint8_t long_form[32] = {0, 0, 0, 0, 0, 0, 7, 0xff, 0, 0, 2, 0, 0, 3, 0x80};
    assert_int_equal(RUN_IN(f, 32, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32), GOOD);
    assert_memory_equal(data(f), long_form, 32);
    assert_check(RUN_IN(f, 8, 0x25, 0, 0, 0, 0, 1), INVALID_FIELD);
    assert_check(RUN_IN(f, 32, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 32), INVALID_FIELD);
    assert_int_equal(RUN_IN(f, 8, 0x25, 0, 0, 0, 0, 1, 0, 0, 1), GOOD); /* PMI */
}

static void a_large_disk_needs_the_long_form(void **state)
{
    Fixture *f = *state;
    scsi_guest_open(&f->g, "size=1M", "num_queues=1", ~0ull);
    f->open = true;
    BlkDisk large;
    blk_disk_open_as(&large, f->g.bench, "driver=null-co,node-name=large,size=4T");
    scsi_guest_add(&f->g, "scsi-hd", "drive=large");
    scsi_call_init(&f->call, &f->g.requests[0], 4096);
    scsi_call_clear_attentions(&f->call);
    assert_int_equal(RUN_IN(f, 8, 0x25), GOOD);
    assert_memory_equal(data(f), "\xff\xff\xff\xff\0\0\2\0", 8);
    assert_int_equal(RUN_IN(f, 32, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32), GOOD);
    assert_memory_equal(data(f), "\0\0\0\1\xff\xff\xff\xff", 8);
    scsi_guest_remove(&f->g, f->g.luns[0]);
    blk_disk_close(&large);
}

/* ---- VERIFY ---- */

static void verify_compares_with_the_guests_data(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL);
    fill(disk(f), 256 << 10, 5);
    memcpy(data(f), disk(f), 200 << 10);
    /* 400 blocks: more than a buffer */
    assert_int_equal(RUN_OUT(f, 400 * 512, 0x2f, 2, 0, 0, 0, 0, 0, 1, 0x90), GOOD);
    assert_int_equal(RUN_OUT(f, 400 * 512, 0xaf, 2, 0, 0, 0, 0, 0, 0, 1, 0x90), GOOD);
    assert_int_equal(RUN_OUT(f, 400 * 512, 0x8f, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x90), GOOD);
    data(f)[400 * 512 - 1] ^= 1;
    assert_check(RUN_OUT(f, 400 * 512, 0x2f, 2, 0, 0, 0, 0, 0, 1, 0x90), MISCOMPARE);
    assert_int_equal(RUN(f, 0x2f, 0, 0, 0, 0, 0, 0, 1, 0x90), GOOD); /* without data */
    assert_check(RUN(f, 0x2f, 0, 0, 0, 8, 0, 0, 0, 1), OUT_OF_RANGE);
    assert_check(RUN_OUT(f, 512, 0x2f, 4, 0, 0, 0, 0, 0, 0, 1), INVALID_FIELD);
    assert_check(RUN_OUT(f, 512, 0x2f, 6, 0, 0, 0, 0, 0, 0, 1), INVALID_FIELD);
}

/* ---- UNMAP ---- */

static unsigned unmap(Fixture *f, uint8_t flags, const uint8_t *list, uint32_t bytes)
{
    memcpy(data(f), list, bytes);
    return RUN_OUT(f, bytes, 0x42, flags, 0, 0, 0, 0, 0, (uint8_t)(bytes >> 8), (uint8_t)bytes);
}

static void unmap_discards_each_range(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL);
    memset(disk(f), 0xee, 1 << 20);
    static const uint8_t list[40] = {0, 38, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,    0, 1, 0, 0,
                                     0, 2,  0, 0,  0, 0, 0, 0, 0, 0, 0, 0, 7, 0xff, 0, 0, 0, 1};
    assert_int_equal(unmap(f, 0, list, 40), GOOD);
    BlkStats stats;
    blk_stats(blk_find("scsi-hd"), &stats);
    assert_int_equal(stats.operations[BLK_OP_UNMAP], 2);
    assert_int_equal(stats.bytes[BLK_OP_UNMAP], 3 * 512);
    assert_int_equal(RUN(f, 0x42), GOOD);
}

static void a_wrong_unmap_list_is_refused(void **state)
{
    Fixture *f = *state;
    bring_up(f, "max_unmap_size=4096");
    uint8_t list[24] = {0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2};
    assert_int_equal(unmap(f, 0, list, 24), GOOD);
    assert_check(unmap(f, 1, list, 24), INVALID_FIELD); /* ANCHOR */
    assert_check(unmap(f, 0, list, 7), LIST_LENGTH);
    assert_check(unmap(f, 0, list, 23), LIST_LENGTH);
    list[3] = 17;
    assert_check(unmap(f, 0, list, 24), LIST_LENGTH);
    list[3] = 15; /* an incomplete descriptor */
    assert_int_equal(unmap(f, 0, list, 24), GOOD);
    list[3] = 16;
    list[19] = 9; /* more than the limit */
    assert_check(unmap(f, 0, list, 24), INVALID_LIST);
    list[19] = 2;
    list[14] = 8; /* beyond the end */
    assert_check(unmap(f, 0, list, 24), OUT_OF_RANGE);
}

/* ---- WRITE SAME ---- */

static void write_same_repeats_the_block(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL);
    fill(data(f), 512, 77);
    assert_int_equal(RUN_OUT(f, 512, 0x41, 0, 0, 0, 0, 3, 0, 2, 0), GOOD); /* 512 blocks */
    for (unsigned i = 0; i < 512; i++) {
        assert_memory_equal(disk(f) + (3 + i) * 512, data(f), 512);
    }
    assert_int_equal(disk(f)[3 * 512 - 1], 0);
    assert_int_equal(disk(f)[515 * 512], 0);
}

static void write_same_of_zeroes_writes_zeroes(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL);
    memset(disk(f), 0xee, 8192);
    memset(data(f), 0, 512);
    assert_int_equal(RUN_OUT(f, 512, 0x41, 0, 0, 0, 0, 1, 0, 0, 2), GOOD);
    assert_int_equal(RUN_OUT(f, 512, 0x93, 8, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1), GOOD);
    assert_int_equal(RUN(f, 0x93, 9, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 1), GOOD); /* NDOB */
    for (unsigned i = 0; i < 16; i++) {
        bool zero = i == 1 || i == 2 || i == 4 || i == 6;
        assert_int_equal(disk(f)[i * 512], zero ? 0 : 0xee);
        assert_int_equal(disk(f)[i * 512 + 511], zero ? 0 : 0xee);
    }
    assert_check(RUN_OUT(f, 512, 0x41, 0, 0, 0, 0, 1), INVALID_FIELD); /* no blocks */
    assert_check(RUN_OUT(f, 512, 0x41, 0x10, 0, 0, 0, 1, 0, 0, 1), INVALID_FIELD);
    assert_check(RUN_OUT(f, 512, 0x41, 0x01, 0, 0, 0, 1, 0, 0, 1), INVALID_FIELD);
}

static void write_same_of_a_large_block_works(void **state)
{
    Fixture *f = *state;
    bring_up(f, "logical_block_size=65536,physical_block_size=65536");
    fill(data(f), 65536, 7);
    assert_int_equal(RUN_OUT(f, 65536, 0x41, 0, 0, 0, 0, 2, 0, 0, 3), GOOD);
    for (unsigned i = 2; i < 5; i++) {
        assert_memory_equal(disk(f) + i * 65536, data(f), 65536);
    }
    memset(data(f), 0, 65536);
    assert_int_equal(RUN_OUT(f, 65536, 0x41, 0, 0, 0, 0, 3, 0, 0, 1), GOOD);
    assert_int_equal(disk(f)[3 * 65536 + 65535], 0);
    assert_memory_equal(disk(f) + 3 * 65536, data(f), 65536);
}

/* ---- flush ---- */

static uint64_t flushes(void)
{
    BlkStats stats;
    blk_stats(blk_find("scsi-hd"), &stats);
    return stats.operations[BLK_OP_FLUSH];
}

static void synchronize_cache_flushes(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL);
    uint64_t before = flushes();
    assert_int_equal(RUN(f, 0x35), GOOD);
    assert_int_equal(RUN(f, 0x91), GOOD);
    assert_int_equal(flushes(), before + 2);
}

/* ---- errors ---- */

static void errors_have_sense_data(void **state)
{
    Fixture *f = *state;
    static const struct {
        int error;
        uint32_t sense;
    } errors[] = {{EIO, 0xb0006}, {ENOSPC, 0x72707}, {ENOMEM, 0x44400}, {ENOMEDIUM, 0x23a00}};
    bring_up_as(f, "size=1M", "scsi-hd", "werror=report");
    blk_disk_set_manual(&f->g.disk, true);
    for (unsigned i = 0; i < G_N_ELEMENTS(errors); i++) {
        scsi_call_send(&f->call, CDB(0x2a, 0, 0, 0, 0, 0, 0, 0, 1), SCSI_DIR_OUT, 512);
        virtio_bench_settle(f->g.bench);
        assert_int_equal(scsi_call_result(&f->call), SCSI_CALL_PENDING);
        assert_true(blk_disk_complete(&f->g.disk, -errors[i].error));
        assert_true(scsi_guest_took(f->call.queue, f->call.head));
        assert_int_equal(scsi_call_result(&f->call), CHECK);
        assert_int_equal(scsi_call_sense(&f->call), errors[i].sense);
        assert_int_equal(scsi_call_resid(&f->call), 512);
    }
    blk_disk_set_manual(&f->g.disk, false);
}

static void a_resized_disk_has_an_attention(void **state)
{
    Fixture *f = *state;
    bring_up(f, NULL);
    blk_disk_resize(&f->g.disk, 2 << 20);
    assert_check(RUN(f, 0x00), 0x62a09u);
    assert_int_equal(RUN_IN(f, 8, 0x25), GOOD);
    assert_memory_equal(data(f), "\0\0\x0f\xff", 4);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        T(each_form_of_read_reads),
        T(each_form_of_write_writes),
        T(no_blocks_move_nothing),
        T(blocks_beyond_the_end_are_out_of_range),
        T(protection_information_is_refused),
        T(a_buffer_that_is_too_small_is_an_overrun),
        T(requests_count_logical_blocks),
        T(the_capacity_is_the_last_block),
        T(a_large_disk_needs_the_long_form),
        T(verify_compares_with_the_guests_data),
        T(unmap_discards_each_range),
        T(a_wrong_unmap_list_is_refused),
        T(write_same_repeats_the_block),
        T(write_same_of_zeroes_writes_zeroes),
        T(write_same_of_a_large_block_works),
        T(synchronize_cache_flushes),
        T(errors_have_sense_data),
        T(a_resized_disk_has_an_attention),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

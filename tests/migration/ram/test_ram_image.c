/* SPDX-License-Identifier: Apache-2.0 */
/* RAM in a file: what is saved is loaded; a damaged image changes nothing; a failed save leaves no image. */
#include <zlib.h>
#include "tests/migration/ram/ram_test.h"

#define DISK "fault,file.driver=mem,file.size=16M"

BLOCK_TEST(what_was_saved_is_loaded_over_other_contents)
{
    RamTest a, b;
    ram_test_init(&a);
    ram_test_init(&b);
    ram_test_fill(&a, 1);
    ram_test_fill(&b, 2);
    BlockBackend *blk = test_blk("d", DISK, true);
    assert_int_equal(ram_test_save(blk, &a), 0);
    assert_false(ram_test_equal(&a, &b));
    assert_null(ram_test_load(blk, &b));
    assert_true(ram_test_equal(&a, &b));
    blk_co_free(blk);
    ram_test_clear(&a);
    ram_test_clear(&b);
}

/* What an earlier image left in places of zero pages is gone: the file can be mapped. */
BLOCK_TEST(places_of_zero_pages_read_as_zeroes_after_a_second_save)
{
    RamTest a;
    ram_test_init(&a);
    ram_test_fill(&a, 1);
    BlockBackend *blk = test_blk("d", DISK, true);
    assert_int_equal(ram_test_save(blk, &a), 0);
    memset(a.host, 0, RAM_TEST_LOW + RAM_TEST_HIGH);
    ram_test_fill(&a, 2);
    assert_int_equal(ram_test_save(blk, &a), 0);
    RamImage image;
    assert_true(ram_image_plan(&image, &a.ram, NULL));
    for (unsigned i = 0; i < 2; i++) {
        uint64_t size = a.ram.blocks[i].size;
        g_autofree uint8_t *data = g_malloc(size);
        uint64_t at = RAM_TEST_OFFSET + image.blocks[i].data_offset;
        assert_int_equal(test_io(blk, TEST_READ, at, size, data, 0), 0);
        assert_memory_equal(data, a.ram.blocks[i].host, size);
    }
    blk_co_free(blk);
    ram_test_clear(&a);
}

static void ram_set_fault(void *opaque)
{
    BlockFault *fault = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    block_fault_set(block_node_find("f"), fault);
}

static void ram_release(void *opaque)
{
    enter_coroutine();
    enter_iothread(test_home);
    block_fault_release(opaque, 16);
}

BLOCK_TEST(a_save_that_fails_at_any_request_leaves_no_image)
{
    static const int errors[] = {ENOSPC, EIO};
    RamTest a, b;
    ram_test_init(&a);
    ram_test_init(&b);
    ram_test_fill(&a, 1);
    BlockNode *n = test_node_add("fault,node-name=f,file.driver=mem,file.size=16M");
    BlockBackend *blk = blk_co_new("d", n, true, NULL);
    unsigned failed = 0, stand = 0;
    for (unsigned nth = 0;; nth++) {
        assert_int_equal(ram_test_save(blk, &a), 0);
        BlockFault fault = {
            .op = BLOCK_FAULT_ANY, .after = nth, .count = 1, .error = (uint32_t)errors[nth % 2]};
        test_in_home(ram_set_fault, &fault);
        int ret = ram_test_save(blk, &a);
        bool hit = block_fault_hits(n) > 0;
        fault = (BlockFault){0};
        test_in_home(ram_set_fault, &fault);
        g_autofree char *error = ram_test_load(blk, &b);
        if (!hit) {
            assert_int_equal(ret, 0);
            assert_null(error);
            break;
        }
        failed++;
        assert_int_equal(ret, -errors[nth % 2]);
        /* The first request did not clear the header, the last flush did not make it durable: a
         * complete image stands. At all others there is none. */
        assert_true(error == NULL || strstr(error, "not completed") != NULL);
        stand += error == NULL;
    }
    assert_true(failed > 100);
    assert_int_equal(stand, 2);
    blk_co_free(blk);
    test_node_del("f");
    ram_test_clear(&a);
    ram_test_clear(&b);
}

BLOCK_TEST(a_save_that_hangs_ends_as_cancelled_when_its_requests_end)
{
    RamTest a;
    ram_test_init(&a);
    ram_test_fill(&a, 1);
    BlockNode *n = test_node_add("fault,node-name=f,file.driver=mem,file.size=16M");
    BlockBackend *blk = blk_co_new("d", n, true, NULL);
    BlockFault fault = {.op = BLOCK_FAULT_WRITE, .after = 1, .hold = true};
    test_in_home(ram_set_fault, &fault);
    RamImage image;
    assert_true(ram_image_plan(&image, &a.ram, NULL));
    RamTestCall c = {
        .save = {.blk = blk, .offset = RAM_TEST_OFFSET, .read = ram_test_read, .opaque = &a},
        .image = &image};
    co_start(test_home, ram_test_run, &c);
    while (block_fault_held(n) < 16) {
        test_settle();
    }
    test_settle();
    assert_int_equal(block_fault_held(n), 16); /* two pieces with a buffer, eight runs of each */
    c.save.cancelled = true;
    fault = (BlockFault){0};
    test_in_home(ram_set_fault, &fault);
    assert_false(c.done.happened);
    test_in_home(ram_release, n);
    test_event_wait(&c.done);
    assert_int_equal(c.ret, -ECANCELED);
    RamTest b;
    ram_test_init(&b);
    g_autofree char *error = ram_test_load(blk, &b);
    assert_non_null(strstr(error, "not completed"));
    blk_co_free(blk);
    test_node_del("f");
    ram_test_clear(&a);
    ram_test_clear(&b);
}

/* ---- hostile headers ---- */

static void ram_header_seal(uint8_t *h)
{
    uint32_t crc = GUINT32_TO_LE((uint32_t)crc32(0, h, RAM_IMAGE_HEADER - 4));
    memcpy(h + RAM_IMAGE_HEADER - 4, &crc, 4);
}

static void a_header_with_any_changed_byte_is_refused(void **state)
{
    RamTest a;
    RamImage image, got;
    uint8_t good[RAM_IMAGE_HEADER], h[RAM_IMAGE_HEADER];
    ram_test_init(&a);
    assert_true(ram_image_plan(&image, &a.ram, NULL));
    ram_image_encode(&image, good);
    assert_true(ram_image_decode(&got, good, image.bytes, NULL));
    assert_memory_equal(&got, &image, sizeof(image));
    assert_false(ram_image_decode(&got, good, image.bytes - 1, NULL));
    for (unsigned i = 0; i < RAM_IMAGE_HEADER; i++) {
        memcpy(h, good, sizeof(h));
        h[i] ^= 0x80;
        assert_false(ram_image_decode(&got, h, image.bytes, NULL));
    }
    ram_test_clear(&a);
}

/* Each field of 4 or 8 bytes at bounds, with a right checksum: refused, or another machine's. */
static void a_header_with_hostile_numbers_never_matches(void **state)
{
    static const uint64_t values[] = {
        0, 1, 4095, 4096, INT64_MAX, UINT64_MAX, UINT64_MAX - 4095, UINT64_C(1) << 46};
    RamTest a;
    RamImage image, got;
    uint8_t good[RAM_IMAGE_HEADER], h[RAM_IMAGE_HEADER];
    ram_test_init(&a);
    assert_true(ram_image_plan(&image, &a.ram, NULL));
    ram_image_encode(&image, good);
    for (unsigned at = 8; at < 16 + 9 * 72; at += 4) {
        for (unsigned v = 0; v < G_N_ELEMENTS(values); v++) {
            memcpy(h, good, sizeof(h));
            memcpy(h + at, &values[v], 8);
            ram_header_seal(h);
            bool same = memcmp(h, good, sizeof(h)) == 0;
            bool ok = ram_image_decode(&got, h, image.bytes, NULL);
            bool crc = (at - 16) % 72 >= 64 && at < 160; /* flags and the map's checksum */
            assert_true(same || crc || !ok || !ram_image_matches(&got, &a.ram, NULL));
        }
    }
    ram_test_clear(&a);
}

BLOCK_TEST(a_damaged_page_map_and_another_machine_change_nothing)
{
    RamTest a, b, before;
    ram_test_init(&a);
    ram_test_init(&b);
    ram_test_init(&before);
    ram_test_fill(&a, 1);
    ram_test_fill(&b, 2);
    ram_test_fill(&before, 2);
    BlockBackend *blk = test_blk("d", DISK, true);
    assert_int_equal(ram_test_save(blk, &a), 0);
    b.ram.blocks[1].size -= 4096;
    g_autofree char *other = ram_test_load(blk, &b);
    assert_non_null(strstr(other, "'high'"));
    b.ram.blocks[1].size += 4096;
    assert_int_equal(test_io(blk, TEST_WRITE, RAM_TEST_OFFSET + 4096 + 3, 1, (uint8_t[]){0x55}, 0),
                     0);
    g_autofree char *damaged = ram_test_load(blk, &b);
    assert_non_null(strstr(damaged, "page map of 'low'"));
    assert_true(ram_test_equal(&b, &before));
    blk_co_free(blk);
    ram_test_clear(&a);
    ram_test_clear(&b);
    ram_test_clear(&before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_saved_is_loaded_over_other_contents),
        cmocka_unit_test(places_of_zero_pages_read_as_zeroes_after_a_second_save),
        cmocka_unit_test(a_save_that_fails_at_any_request_leaves_no_image),
        cmocka_unit_test(a_save_that_hangs_ends_as_cancelled_when_its_requests_end),
        cmocka_unit_test(a_header_with_any_changed_byte_is_refused),
        cmocka_unit_test(a_header_with_hostile_numbers_never_matches),
        cmocka_unit_test(a_damaged_page_map_and_another_machine_change_nothing),
    };
    return block_test_main(tests);
}

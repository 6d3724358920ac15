/* SPDX-License-Identifier: Apache-2.0 */
/* The NBD client: sizes and read-only exports. */
#include "tests/block/nbd/fake_nbd.h"
#include "block/drivers.h"

enum { KIB = 1024, MIB = 1024 * KIB };

/* ---- sizes ---- */

BLOCK_TEST(block_sizes_are_the_nodes_limits)
{
    FakeNbd f;
    static uint8_t buf[64 * KIB];
    fake_start(&f, MIB, FAKE_ALL);
    f.min_block = 4096;
    f.preferred_block = 8192;
    f.max_block = 16384;
    BlockBackend *blk = fake_blk(&f, "");
    BlockLimits limits = blk_limits(blk);
    assert_int_equal(limits.request_alignment, 4096);
    assert_int_equal(limits.opt_transfer, 8192);
    assert_int_equal(limits.max_transfer, 16384);
    assert_int_equal(test_io(blk, TEST_READ, 0, sizeof(buf), buf, 0), 0);
    assert_int_equal(f.commands[FAKE_CMD_READ], 4);
    assert_memory_equal(buf, f.data, sizeof(buf));
    assert_int_equal(test_io(blk, TEST_READ, 512, 512, buf, 0), 0);
    assert_memory_equal(buf, f.data + 512, 512);
    blk_co_free(blk);
    fake_stop(&f);
}

BLOCK_TEST(a_size_of_no_whole_sectors_has_a_tail_of_zeroes)
{
    FakeNbd f;
    uint8_t buf[1024], zero[1024] = {0};
    fake_start(&f, 1000, FAKE_ALL);
    BlockBackend *blk = fake_blk(&f, "discard=unmap");
    assert_int_equal(blk_size(blk), 1024);
    assert_int_equal(test_io(blk, TEST_READ, 0, 1024, buf, 0), 0);
    assert_memory_equal(buf, f.data, 1000);
    assert_memory_equal(buf + 1000, zero, 24);
    test_fill(buf, 1000, 6);
    assert_int_equal(test_io(blk, TEST_WRITE, 0, 1024, buf, 0), 0);
    assert_memory_equal(buf, f.data, 1000);
    buf[1023] = 1;
    assert_int_equal(test_io(blk, TEST_WRITE, 0, 1024, buf, 0), -ENOSPC);
    assert_int_equal(test_io(blk, TEST_ZERO, 512, 512, NULL, 0), 0);
    assert_memory_equal(f.data + 512, zero, 488);
    assert_int_equal(test_io(blk, TEST_DISCARD, 0, 1024, NULL, 0), 0);
    assert_memory_equal(f.data, zero, 1000);
    blk_co_free(blk);
    fake_stop(&f);
}

BLOCK_TEST(sizes_that_skiff_cannot_use_are_refused)
{
    static const struct {
        uint64_t size;
        uint32_t min, max;
        const char *says;
    } rows[] = {
        {1000, 512, 4096, "multiple"},
        {(uint64_t)1 << 63, 512, 4096, ""},
        {((uint64_t)1 << 62) + 512, 512, 4096, "too much"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        FakeNbd f;
        fake_start(&f, MIB, FAKE_ALL);
        f.size = rows[i].size;
        f.min_block = f.preferred_block = rows[i].min;
        f.max_block = rows[i].max;
        fake_open_fails(&f, "", rows[i].says);
        fake_stop(&f);
    }
}

/* libnbd drops block sizes that the protocol does not allow. */
BLOCK_TEST(impossible_block_sizes_are_as_none)
{
    static const struct {
        uint32_t min, preferred, max;
    } rows[] = {
        {65536, 65536, 4096}, {3, 4096, MIB}, {1 << 20, 1 << 20, 1 << 21}, {512, 1000, MIB}};
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        FakeNbd f;
        uint8_t buf[512];
        fake_start(&f, MIB, FAKE_ALL);
        f.min_block = rows[i].min;
        f.preferred_block = rows[i].preferred;
        f.max_block = rows[i].max;
        BlockBackend *blk = fake_blk(&f, "");
        assert_in_range(blk_limits(blk).request_alignment, 1, 512);
        assert_int_equal(test_io(blk, TEST_READ, 512, 512, buf, 0), 0);
        blk_co_free(blk);
        fake_stop(&f);
    }
}

/* ---- read-only ---- */

BLOCK_TEST(a_read_only_export_needs_a_read_only_node)
{
    FakeNbd f;
    uint8_t buf[512];
    fake_start(&f, MIB, FAKE_READ_ONLY);
    fake_open_fails(&f, "", "read-only");
    g_autofree char *automatic = fake_options(&f, "auto-read-only=on");
    BlockBackend *blk = test_blk("disk", automatic, false);
    assert_true(block_node_read_only(blk_root(blk)));
    assert_int_equal(test_io(blk, TEST_READ, 0, 512, buf, 0), 0);
    blk_co_free(blk);
    g_autofree char *asked = fake_options(&f, "read-only=on");
    blk = test_blk("disk", asked, false);
    blk_co_free(blk);
    fake_stop(&f);
}

static coroutine_fn RUNS_IN_MAIN bool reopen(const FakeNbd *f, const char *more, GError **error)
{
    g_autofree char *text = fake_options(f, more);
    g_autoptr(OptDict) d = opt_dict_parse(text, "driver", error);
    return block_co_reopen(&d, 1, error);
}

BLOCK_TEST(reopening_changes_read_only_and_nothing_else)
{
    FakeNbd f;
    fake_start(&f, MIB, FAKE_ALL);
    g_autofree char *text = fake_options(&f, "node-name=n");
    BlockNode *n = test_node_add(text);
    g_autoptr(GError) error = NULL;
    assert_true(reopen(&f, "node-name=n,read-only=on", &error));
    assert_true(block_node_read_only(n));
    assert_true(reopen(&f, "node-name=n", &error));
    assert_false(block_node_read_only(n));
    assert_false(reopen(&f, "node-name=n,reconnect-delay=3", &error));
    assert_non_null(strstr(error->message, "Cannot change"));
    g_clear_error(&error);
    assert_false(reopen(&f, "node-name=n,export=x", &error));
    assert_int_equal(f.accepted, 1);
    test_node_del("n");
    fake_stop(&f);
}

BLOCK_TEST(a_read_only_export_stays_so_when_reopened)
{
    FakeNbd f;
    fake_start(&f, MIB, FAKE_READ_ONLY);
    g_autofree char *text = fake_options(&f, "node-name=n,read-only=on");
    BlockNode *n = test_node_add(text);
    g_autoptr(GError) error = NULL;
    assert_false(reopen(&f, "node-name=n", &error));
    assert_non_null(strstr(error->message, "read-only"));
    g_clear_error(&error);
    assert_true(reopen(&f, "node-name=n,auto-read-only=on", &error));
    assert_true(block_node_read_only(n));
    test_node_del("n");
    fake_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(block_sizes_are_the_nodes_limits),
        cmocka_unit_test(a_size_of_no_whole_sectors_has_a_tail_of_zeroes),
        cmocka_unit_test(sizes_that_skiff_cannot_use_are_refused),
        cmocka_unit_test(impossible_block_sizes_are_as_none),
        cmocka_unit_test(a_read_only_export_needs_a_read_only_node),
        cmocka_unit_test(reopening_changes_read_only_and_nothing_else),
        cmocka_unit_test(a_read_only_export_stays_so_when_reopened),
    };
    block_setup(block_drivers);
    return block_test_main(tests);
}

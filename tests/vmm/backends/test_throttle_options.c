/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of -drive, in both spellings. */
#include "tests/block/block_test.h"
#include "vmm/backends/throttle.h"

static bool parse(const char *text, BlockDrive *drive, GError **error)
{
    g_autofree char *all =
        g_strdup_printf("driver=null-co,if=none,id=d%s%s", *text ? "," : "", text);
    g_autoptr(OptDict) opts = opt_dict_parse_folding(all, "file", "filename", error);
    assert_non_null(opts);
    return block_drive_to_blockdev(opts, drive, error);
}

static void expect(const char *text, const char *limits, const char *group)
{
    g_autoptr(GError) error = NULL;
    g_auto(BlockDrive) drive = {0};
    if (!parse(text, &drive, &error)) {
        fail_msg("%s: %s", text, error->message);
    }
    GString *got = g_string_new(NULL);
    for (unsigned i = 0; i < THROTTLE_NAMES; i++) {
        uint64_t value = throttle_value(&drive.limits, &throttle_names[i]);
        if (value != (throttle_names[i].is_length ? 1 : 0)) {
            g_string_append_printf(got, " %s=%" G_GUINT64_FORMAT, throttle_names[i].option, value);
        }
    }
    assert_string_equal(got->str, limits);
    g_string_free(got, true);
    assert_string_equal(drive.group_name != NULL ? drive.group_name : "", group);
    assert_false(opt_dict_has(drive.blockdev, "throttling")); /* not passed on to the node */
    assert_false(opt_dict_has(drive.blockdev, "group"));
    assert_int_equal(opt_dict_count(drive.blockdev), 2); /* driver, node-name */
}

static void expect_refused(const char *text, const char *message)
{
    g_autoptr(GError) error = NULL;
    g_auto(BlockDrive) drive = {0};
    assert_false(parse(text, &drive, &error));
    assert_string_equal(error->message, message);
    assert_null(drive.blockdev);
}

static void limits_have_two_spellings(void **state)
{
    expect("", "", "");
    expect("throttling.bps-total=1,throttling.bps-total-max=2,throttling.bps-total-max-length=3",
           " bps-total=1 bps-total-max=2 bps-total-max-length=3", "");
    expect("bps_rd=1,bps_wr=2,iops_rd=3,iops_wr=4,bps_rd_max=5,bps_wr_max=6,iops_rd_max=7,"
           "iops_wr_max=8,iops_size=9,group=g",
           " bps-read=1 bps-read-max=5 bps-write=2 bps-write-max=6 iops-read=3 iops-read-max=7"
           " iops-write=4 iops-write-max=8 iops-size=9",
           "g");
    expect("bps=1,iops=2,bps_max=3,iops_max=4",
           " bps-total=1 bps-total-max=3 iops-total=2 iops-total-max=4", "");
    expect("throttling.iops-read=0x10,throttling.iops-write-max-length=1,throttling.group=tg",
           " iops-read=16", "tg");
    expect("bps=1000000000000000", " bps-total=1000000000000000", "");
}

static void limits_that_make_no_sense_are_refused(void **state)
{
    expect_refused("bps=1,throttling.bps-total=2",
                   "'throttling.bps-total' and its alias 'bps' can't be used at the same time");
    expect_refused("group=a,throttling.group=b",
                   "'throttling.group' and its alias 'group' can't be used at the same time");
    expect_refused("bps=1,bps_rd=2", "bps/iops/max total values and read/write values cannot be "
                                     "used at the same time");
    expect_refused("bps=-1", "bps/iops/max values must be within [0, 1000000000000000]");
    expect_refused("iops_wr=18446744073709551615",
                   "bps/iops/max values must be within [0, 1000000000000000]");
    expect_refused("bps=5,throttling.bps-total-max=9,throttling.bps-total-max-length=0",
                   "the burst length cannot be 0");
    expect_refused("bps=5,throttling.bps-total-max-length=-3",
                   "burst length set without burst rate");
}

static void what_is_no_number_is_refused(void **state)
{
    static const char *const values[] = {"", "x", "1x", "1M", "--1", "18446744073709551616", "on"};
    for (unsigned i = 0; i < G_N_ELEMENTS(values); i++) {
        g_autofree char *text = g_strdup_printf("throttling.iops-total=%s", values[i]);
        g_autoptr(GError) error = NULL;
        g_auto(BlockDrive) drive = {0};
        assert_false(parse(text, &drive, &error));
        assert_true(g_str_has_prefix(error->message, "throttling.iops-total: "));
    }
}

/* It stays for the node, which refuses it by name. */
static void an_unknown_limit_is_left_over(void **state)
{
    g_auto(BlockDrive) drive = {0};
    assert_true(parse("throttling.bps-total=1,throttling.foo=1", &drive, NULL));
    assert_true(opt_dict_has(drive.blockdev, "throttling.foo"));
    g_auto(BlockDrive) flat = {0};
    assert_true(parse("bps_max_length=1", &flat, NULL)); /* no short name, as in QEMU */
    assert_true(opt_dict_has(flat.blockdev, "bps_max_length"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_have_two_spellings),
        cmocka_unit_test(limits_that_make_no_sense_are_refused),
        cmocka_unit_test(what_is_no_number_is_refused),
        cmocka_unit_test(an_unknown_limit_is_left_over),
    };
    return block_test_main(tests);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The handshake with the NBD server: each option, and clients that break the protocol. */
#include "tests/block/nbd/nbd_rig.h"

NBD_TEST(go_gives_the_size_the_flags_and_the_block_sizes)
{
    rig_begin();
    int fd = rig_greet(3);
    RigInfo info = rig_info(fd, NBD_OPT_INFO, "disk");
    assert_int_equal(info.size, RIG_SIZE);
    assert_int_equal(info.flags, NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
                                     NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES |
                                     NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_CACHE |
                                     NBD_FLAG_SEND_FAST_ZERO);
    assert_int_equal(info.min, 1);
    assert_int_equal(info.preferred, 4096);
    assert_int_equal(info.max, 32 << 20);
    rig_option_is(fd, NBD_OPT_STRUCTURED_REPLY, NULL, 0, NBD_REP_ACK);
    info = rig_info(fd, NBD_OPT_GO, "disk");
    assert_true((info.flags & NBD_FLAG_SEND_DF) != 0);
    rig_bye(fd);
    rig_end();
}

NBD_TEST(info_has_the_name_and_the_description_on_request)
{
    rig_begin();
    RigExport x = {.config = {.id = "e1", .name = "second", .description = "a text"}};
    rig_main(rig_export_add, &x);
    assert_null(x.error);
    int fd = rig_greet(3);
    uint8_t data[64];
    size_t length = rig_info_data(data, "second");
    nbd_put16(data + length - 2, 3);
    nbd_put16(nbd_put16(nbd_put16(data + length, NBD_INFO_NAME), NBD_INFO_DESCRIPTION), 77);
    rig_option(fd, NBD_OPT_INFO, data, length + 6);
    RigReply r;
    rig_option_reply(fd, NBD_OPT_INFO, &r);
    assert_int_equal(nbd_get16(r.data), NBD_INFO_NAME);
    assert_string_equal((char *)r.data + 2, "second");
    rig_option_reply(fd, NBD_OPT_INFO, &r);
    assert_int_equal(nbd_get16(r.data), NBD_INFO_DESCRIPTION);
    assert_string_equal((char *)r.data + 2, "a text");
    close(fd);
    rig_end();
}

NBD_TEST(export_name_answers_with_and_without_zeroes)
{
    rig_begin();
    for (uint32_t flags = 0; flags < 4; flags++) {
        uint8_t reply[134];
        int fd = rig_greet(flags);
        rig_option(fd, NBD_OPT_EXPORT_NAME, "disk", 4);
        rig_recv(fd, reply, (flags & NBD_FLAG_NO_ZEROES) != 0 ? 10 : 134);
        assert_int_equal(nbd_get64(reply), RIG_SIZE);
        assert_int_equal(rig_do(fd, 0, NBD_CMD_FLUSH, 0, 0), 0);
        rig_bye(fd);
    }
    int fd = rig_greet(3);
    rig_option(fd, NBD_OPT_EXPORT_NAME, "other", 5);
    rig_closed(fd);
    rig_end();
}

NBD_TEST(list_names_all_exports)
{
    rig_begin();
    RigExport x = {.config = {.id = "e1", .name = "", .description = "default"}};
    rig_main(rig_export_add, &x);
    int fd = rig_greet(3);
    RigReply r;
    rig_option(fd, NBD_OPT_LIST, NULL, 0);
    rig_option_reply(fd, NBD_OPT_LIST, &r);
    assert_int_equal(r.type, NBD_REP_SERVER);
    assert_int_equal(nbd_get32(r.data), 4);
    assert_string_equal((char *)r.data + 4, "disk");
    rig_option_reply(fd, NBD_OPT_LIST, &r);
    assert_int_equal(nbd_get32(r.data), 0);
    assert_string_equal((char *)r.data + 4, "default");
    rig_option_reply(fd, NBD_OPT_LIST, &r);
    assert_int_equal(r.type, NBD_REP_ACK);
    rig_option_is(fd, NBD_OPT_LIST, "x", 1, NBD_REP_ERR_INVALID);
    rig_info(fd, NBD_OPT_GO, "");
    rig_bye(fd);
    rig_end();
}

NBD_TEST(options_that_cannot_be_done_are_refused_and_the_handshake_goes_on)
{
    uint8_t data[5100] = {0};
    rig_begin();
    int fd = rig_greet(3);
    rig_option_is(fd, 4, NULL, 0, NBD_REP_ERR_UNSUP);
    rig_option_is(fd, UINT32_MAX, "abc", 3, NBD_REP_ERR_UNSUP);
    rig_option_is(fd, NBD_OPT_STARTTLS, NULL, 0, NBD_REP_ERR_POLICY);
    rig_option_is(fd, NBD_OPT_STARTTLS, "x", 1, NBD_REP_ERR_INVALID);
    rig_option_is(fd, NBD_OPT_GO, data, rig_info_data(data, "other"), NBD_REP_ERR_UNKNOWN);
    rig_option_is(fd, NBD_OPT_GO, data, 3, NBD_REP_ERR_INVALID);
    rig_option_is(fd, NBD_OPT_INFO, data, rig_info_data(data, "disk") + 1, NBD_REP_ERR_INVALID);
    nbd_put32(data, 5000);
    rig_option_is(fd, NBD_OPT_INFO, data, sizeof(data), NBD_REP_ERR_INVALID);
    nbd_put32(data, UINT32_MAX);
    rig_option_is(fd, NBD_OPT_INFO, data, 10, NBD_REP_ERR_INVALID);
    rig_option_is(fd, NBD_OPT_STRUCTURED_REPLY, "x", 1, NBD_REP_ERR_INVALID);
    rig_option_is(fd, NBD_OPT_STRUCTURED_REPLY, NULL, 0, NBD_REP_ACK);
    rig_option_is(fd, NBD_OPT_STRUCTURED_REPLY, NULL, 0, NBD_REP_ERR_INVALID);
    rig_option_is(fd, NBD_OPT_EXTENDED_HEADERS, NULL, 0, NBD_REP_ACK);
    rig_option_is(fd, NBD_OPT_EXTENDED_HEADERS, NULL, 0, NBD_REP_ERR_INVALID);
    rig_option_is(fd, NBD_OPT_STRUCTURED_REPLY, NULL, 0, NBD_REP_ERR_EXT_HEADER_REQD);
    g_autofree uint8_t *much = g_malloc0(1 << 20);
    rig_option_is(fd, NBD_OPT_LIST, much, (64 << 10) + 1, NBD_REP_ERR_TOO_BIG);
    rig_option_is(fd, NBD_OPT_ABORT, NULL, 0, NBD_REP_ACK);
    rig_closed(fd);
    rig_end();
}

NBD_TEST(clients_that_break_the_protocol_are_disconnected)
{
    static const struct {
        uint32_t flags, option, length;
        uint64_t magic;
    } cases[] = {
        {4, NBD_OPT_LIST, 0, NBD_OPTION_MAGIC},
        {3, NBD_OPT_LIST, 0, NBD_OPTION_MAGIC + 1},
        {2, NBD_OPT_LIST, 0, NBD_OPTION_MAGIC}, /* without fixed newstyle */
        {3, NBD_OPT_LIST, (1 << 20) + 1, NBD_OPTION_MAGIC},
        {3, NBD_OPT_EXPORT_NAME, UINT32_MAX, NBD_OPTION_MAGIC},
    };
    rig_begin();
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        uint8_t h[NBD_OPTION_SIZE];
        nbd_put32(nbd_put32(nbd_put64(h, cases[i].magic), cases[i].option), cases[i].length);
        int fd = rig_greet(cases[i].flags);
        send(fd, h, sizeof(h), MSG_NOSIGNAL);
        rig_closed(fd);
    }
    rig_end();
}

static void meta_is(int fd, uint32_t option, const char *const *queries, unsigned count,
                    const char *expected)
{
    uint8_t data[4096];
    g_autoptr(GString) got = g_string_new("");
    RigReply r;
    rig_option(fd, option, data, rig_meta_data(data, "disk", queries, count));
    for (rig_option_reply(fd, option, &r); r.type == NBD_REP_META_CONTEXT;
         rig_option_reply(fd, option, &r)) {
        g_string_append_printf(got, "%u=%s ", nbd_get32(r.data), (char *)r.data + 4);
    }
    assert_int_equal(r.type, NBD_REP_ACK);
    assert_string_equal(got->str, expected);
}

static void meta_add_bitmaps(void *opaque)
{
    enter_coroutine();
    enter_main();
    test_node_add(RIG_MEM);
    BlockNode *n = block_node_find("m");
    assert_true(block_dirty_bitmap_co_add(n, "b0", 4096, BLOCK_BITMAP_DISABLED, NULL));
    assert_true(block_dirty_bitmap_co_add(n, "b1", 4096, 0, NULL));
}

NBD_TEST(metadata_contexts_are_listed_and_set)
{
    static const char *const base[] = {"base:"}, *const all[] = {"qemu:", "base:"};
    static const char *const two[] = {"qemu:dirty-bitmap:b1", "base:allocation", "other:x"};
    static const char *const none[] = {"qemu:dirty-bitmap:", "qemu:dirty-bitmap:b2", "base:x"};
    static const NbdExportBitmap bitmaps[] = {{.name = "b0"}, {.name = "b1", .node = "m"}};
    RigServer server = {0};
    RigExport x = {
        .config = {
            .writable = true, .allocation_depth = true, .bitmaps = bitmaps, .bitmap_count = 2}};
    rig_main(meta_add_bitmaps, NULL);
    rig_main(rig_server_start, &server);
    rig_main(rig_export_add, &x);
    assert_null(x.error);
    int fd = rig_greet(3);
    uint8_t data[256];
    rig_option_is(fd, NBD_OPT_SET_META_CONTEXT, data, rig_meta_data(data, "disk", base, 1),
                  NBD_REP_ERR_INVALID); /* before structured replies */
    rig_option_is(fd, NBD_OPT_STRUCTURED_REPLY, NULL, 0, NBD_REP_ACK);
    meta_is(fd, NBD_OPT_LIST_META_CONTEXT, NULL, 0,
            "0=base:allocation 0=qemu:allocation-depth 0=qemu:dirty-bitmap:b0 "
            "0=qemu:dirty-bitmap:b1 ");
    meta_is(fd, NBD_OPT_LIST_META_CONTEXT, base, 1, "0=base:allocation ");
    meta_is(fd, NBD_OPT_LIST_META_CONTEXT, all, 1,
            "0=qemu:allocation-depth 0=qemu:dirty-bitmap:b0 0=qemu:dirty-bitmap:b1 ");
    meta_is(fd, NBD_OPT_SET_META_CONTEXT, two, 3, "0=base:allocation 3=qemu:dirty-bitmap:b1 ");
    meta_is(fd, NBD_OPT_SET_META_CONTEXT, none, 3, "");
    meta_is(fd, NBD_OPT_SET_META_CONTEXT, NULL, 0, "");
    rig_option_is(fd, NBD_OPT_SET_META_CONTEXT, data, rig_meta_data(data, "none", base, 1),
                  NBD_REP_ERR_UNKNOWN);
    rig_option_is(fd, NBD_OPT_SET_META_CONTEXT, data, rig_meta_data(data, "disk", base, 1) - 1,
                  NBD_REP_ERR_INVALID);
    close(fd);
    rig_end();
}

/* ---- time and number ---- */

static void time_begin(void *opaque)
{
    enter_coroutine();
    enter_main();
    aio_context_set_virtual_time(test_main, 1000);
}

static void time_pass(void *opaque)
{
    enter_coroutine();
    enter_main();
    aio_context_set_virtual_time(test_main, aio_now_ns(test_main) + *(int64_t *)opaque);
}

NBD_TEST(a_handshake_that_takes_too_long_ends)
{
    int64_t before = 9999999999, rest = 1;
    RigServer server = {.handshake_ns = 10000000000};
    RigExport x = {.node = RIG_MEM};
    rig_main(time_begin, NULL);
    rig_main(rig_server_start, &server);
    rig_main(rig_export_add, &x);
    int served = rig_serve(0);
    int silent = rig_greet(3), half = rig_greet(3);
    rig_send(half, "IHAVE", 5);
    rig_option_is(silent, NBD_OPT_LIST, "x", 1, NBD_REP_ERR_INVALID);
    rig_main(time_pass, &before);
    struct pollfd p = {.fd = half, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0);
    rig_main(time_pass, &rest);
    rig_closed(silent);
    rig_closed(half);
    assert_int_equal(rig_do(served, 0, NBD_CMD_FLUSH, 0, 0), 0);
    rig_bye(served);
    rig_end();
}

NBD_TEST(a_client_beyond_the_limit_waits_for_another_to_leave)
{
    RigServer server = {.max_connections = 2};
    RigExport x = {.node = RIG_MEM};
    rig_main(rig_server_start, &server);
    rig_main(rig_export_add, &x);
    int first = rig_serve(0), second = rig_serve(0), third = rig_connect();
    rig_settle_main();
    struct pollfd p = {.fd = third, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0);
    rig_bye(first);
    uint8_t greeting[NBD_GREETING_SIZE];
    rig_recv(third, greeting, sizeof(greeting));
    close(third);
    rig_bye(second);
    rig_end();
}

int main(void)
{
    block_setup(block_drivers);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(go_gives_the_size_the_flags_and_the_block_sizes),
        cmocka_unit_test(info_has_the_name_and_the_description_on_request),
        cmocka_unit_test(export_name_answers_with_and_without_zeroes),
        cmocka_unit_test(list_names_all_exports),
        cmocka_unit_test(options_that_cannot_be_done_are_refused_and_the_handshake_goes_on),
        cmocka_unit_test(clients_that_break_the_protocol_are_disconnected),
        cmocka_unit_test(metadata_contexts_are_listed_and_set),
        cmocka_unit_test(a_client_beyond_the_limit_waits_for_another_to_leave),
        cmocka_unit_test(a_handshake_that_takes_too_long_ends),
    };
    return block_test_main(tests);
}

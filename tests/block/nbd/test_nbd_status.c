/* SPDX-License-Identifier: Apache-2.0 */
/* BLOCK_STATUS of the NBD server: allocation, depth, dirty bitmaps, several at once. */
#include <inttypes.h>
#include "tests/block/nbd/nbd_rig.h"

static uint8_t data[1 << 20];

/* "0:65536=3,..." of a chunk of status, with the id of the context first. */
static char *status_text(const RigChunk *c)
{
    GString *text = g_string_new("");
    bool wide = c->type == NBD_CHUNK_STATUS_EXT;
    assert_true(wide || c->type == NBD_CHUNK_STATUS);
    g_string_append_printf(text, "%u:", nbd_get32(c->data));
    for (uint64_t at = wide ? 8 : 4; at < c->length; at += wide ? 16 : 8) {
        uint64_t length = wide ? nbd_get64(c->data + at) : nbd_get32(c->data + at);
        uint64_t flags = wide ? nbd_get64(c->data + at + 8) : nbd_get32(c->data + at + 4);
        g_string_append_printf(text, " %" PRIu64 "K=%" PRIu64, length >> 10, flags);
    }
    if (wide) {
        assert_int_equal(nbd_get32(c->data + 4), (c->length - 8) / 16);
    }
    return g_string_free(text, FALSE);
}

static void status_is(int fd, bool extended, unsigned flags, uint64_t offset, uint64_t length,
                      const char *const *expected)
{
    RigChunk c = {0};
    extended ? rig_ext_request(fd, flags, NBD_CMD_BLOCK_STATUS, 4, offset, length)
             : rig_request(fd, flags, NBD_CMD_BLOCK_STATUS, 4, offset, (uint32_t)length);
    do {
        rig_chunk(fd, extended, &c);
        g_autofree char *text = status_text(&c);
        assert_non_null(*expected);
        assert_string_equal(text, *expected);
        expected++;
    } while ((c.flags & NBD_CHUNK_FLAG_DONE) == 0);
    assert_null(*expected);
    g_free(c.data);
}
#define STATUS_IS(fd, extended, flags, offset, length, ...)                                        \
    status_is(fd, extended, flags, offset, length, (const char *const[]){__VA_ARGS__, NULL})

/* Writes 64 KiB at 1 MiB. */
static void status_write(void)
{
    int fd = rig_serve(0);
    test_fill(data, sizeof(data), 1);
    assert_int_equal(rig_write(fd, 0, 1 << 20, data, 64 << 10), 0);
    rig_bye(fd);
}

static int status_serve(uint32_t option, const char *context, uint32_t id)
{
    int fd = rig_greet(3);
    rig_option_is(fd, option, NULL, 0, NBD_REP_ACK);
    rig_set_context(fd, "disk", context, id);
    rig_info(fd, NBD_OPT_GO, "disk");
    return fd;
}

NBD_TEST(allocation_and_depth_are_shown)
{
    rig_begin();
    status_write();
    for (unsigned extended = 0; extended < 2; extended++) {
        uint32_t option = extended ? NBD_OPT_EXTENDED_HEADERS : NBD_OPT_STRUCTURED_REPLY;
        int fd = status_serve(option, "base:allocation", 0);
        STATUS_IS(fd, extended, 0, 0, RIG_SIZE, "0: 1024K=3 64K=0 3008K=3");
        STATUS_IS(fd, extended, NBD_CMD_FLAG_REQ_ONE, 1 << 20, RIG_SIZE - (1 << 20), "0: 64K=0");
        STATUS_IS(fd, extended, 0, (1 << 20) + 4096, 4096, "0: 4K=0");
        close(fd);
        fd = status_serve(option, "qemu:allocation-depth", 1);
        STATUS_IS(fd, extended, 0, 0, RIG_SIZE, "1: 4096K=1");
        close(fd);
    }
    rig_end();
}

static void status_bitmap(void *opaque)
{
    enter_coroutine();
    enter_main();
    test_node_add(RIG_MEM);
    BlockNode *n = block_node_find("m");
    assert_true(block_dirty_bitmap_co_add(n, "b0", 65536, 0, NULL));
}

NBD_TEST(several_contexts_have_a_chunk_each)
{
    static const NbdExportBitmap bitmaps[] = {{.name = "b0"}};
    static const char *const both[] = {"qemu:dirty-bitmap:b0", "base:allocation"};
    RigServer server = {0};
    RigExport x = {.config = {.writable = true, .bitmaps = bitmaps, .bitmap_count = 1}};
    RigChunk c = {0};
    uint8_t option[256];
    RigReply r;
    rig_main(status_bitmap, NULL);
    rig_main(rig_server_start, &server);
    rig_main(rig_export_add, &x);
    assert_null(x.error);
    status_write();
    int fd = rig_greet(3);
    rig_option_is(fd, NBD_OPT_EXTENDED_HEADERS, NULL, 0, NBD_REP_ACK);
    rig_option(fd, NBD_OPT_SET_META_CONTEXT, option, rig_meta_data(option, "disk", both, 2));
    do {
        rig_option_reply(fd, NBD_OPT_SET_META_CONTEXT, &r);
    } while (r.type == NBD_REP_META_CONTEXT);
    RigInfo info = rig_info(fd, NBD_OPT_GO, "disk");
    assert_true((info.flags & NBD_FLAG_BLOCK_STATUS_PAYLOAD) != 0);
    STATUS_IS(fd, true, 0, 0, RIG_SIZE, "0: 1024K=3 64K=0 3008K=3", "2: 1024K=0 64K=1 3008K=0");

    /* a payload chooses contexts */
    uint8_t payload[16];
    nbd_put32(nbd_put64(payload, 128 << 10), 2);
    rig_ext_request(fd, NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_BLOCK_STATUS, 4, 1 << 20, 12);
    rig_send(fd, payload, 12);
    rig_chunk(fd, true, &c);
    g_autofree char *text = status_text(&c);
    assert_string_equal(text, "2: 64K=1 64K=0");
    nbd_put32(payload + 8, 1); /* not negotiated */
    rig_ext_request(fd, NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_BLOCK_STATUS, 4, 0, 12);
    rig_send(fd, payload, 12);
    rig_chunk(fd, true, &c);
    assert_int_equal(nbd_get32(c.data), NBD_EINVAL);
    nbd_put32(nbd_put64(payload, UINT64_MAX), 2); /* beyond the end */
    rig_ext_request(fd, NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_BLOCK_STATUS, 4, 1, 12);
    rig_send(fd, payload, 12);
    rig_chunk(fd, true, &c);
    assert_int_equal(nbd_get32(c.data), NBD_EINVAL);
    rig_ext_request(fd, NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_BLOCK_STATUS, 4, 0, 13);
    rig_send(fd, data, 13);
    rig_chunk(fd, true, &c);
    assert_int_equal(nbd_get32(c.data), NBD_EINVAL);
    rig_ext_request(fd, 0, NBD_CMD_BLOCK_STATUS, 4, 0, 0);
    rig_chunk(fd, true, &c);
    assert_int_equal(nbd_get32(c.data), NBD_EINVAL);
    g_free(c.data);
    close(fd);
    rig_end();
}

NBD_TEST(contexts_of_another_export_do_not_count)
{
    RigChunk c = {0};
    rig_begin();
    RigExport x = {.config = {.id = "e1", .name = "second"}};
    rig_main(rig_export_add, &x);
    int fd = rig_greet(3);
    rig_option_is(fd, NBD_OPT_STRUCTURED_REPLY, NULL, 0, NBD_REP_ACK);
    rig_set_context(fd, "second", "base:allocation", 0);
    rig_info(fd, NBD_OPT_INFO, "disk");
    rig_info(fd, NBD_OPT_GO, "disk");
    rig_request(fd, 0, NBD_CMD_BLOCK_STATUS, 4, 0, 512);
    rig_chunk(fd, false, &c);
    assert_int_equal(c.type, NBD_CHUNK_ERROR);
    assert_string_equal((char *)c.data + 6, "BLOCK_STATUS was not negotiated");
    g_free(c.data);
    rig_bye(fd);
    rig_end();
}

NBD_TEST(a_reply_has_at_most_as_many_extents_as_fit)
{
    RigChunk c = {0};
    rig_begin();
    int fd = rig_serve(0);
    for (unsigned i = 0; i < RIG_SIZE; i += 8192) { /* one page of two */
        assert_int_equal(rig_write(fd, 0, i, (uint8_t[]){1}, 1), 0);
    }
    rig_bye(fd);
    fd = status_serve(NBD_OPT_STRUCTURED_REPLY, "base:allocation", 0);
    rig_request(fd, 0, NBD_CMD_BLOCK_STATUS, 4, 0, RIG_SIZE);
    rig_chunk(fd, false, &c);
    assert_true(c.length > 4 && c.length <= 4 + 8 * 1024);
    g_free(c.data);
    close(fd);
    rig_end();
}

int main(void)
{
    block_setup(block_drivers);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocation_and_depth_are_shown),
        cmocka_unit_test(several_contexts_have_a_chunk_each),
        cmocka_unit_test(contexts_of_another_export_do_not_count),
        cmocka_unit_test(a_reply_has_at_most_as_many_extents_as_fit),
    };
    return block_test_main(tests);
}

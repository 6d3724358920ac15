/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to the NBD server: each command and kind of reply, errors, and what is malformed. */
#include "block/driver/mem.h"
#include "tests/block/nbd/nbd_rig.h"

static uint8_t data[1 << 20], got[33 << 20];

NBD_TEST(simple_replies_carry_what_was_written)
{
    rig_begin();
    int fd = rig_serve(0);
    test_fill(data, sizeof(data), 1);
    assert_int_equal(rig_write(fd, 0, 12345, data, 70001), 0);
    assert_int_equal(rig_write(fd, NBD_CMD_FLAG_FUA, 0, data, 1), 0);
    assert_int_equal(rig_write(fd, 0, 4096, data, 0), 0);
    rig_request(fd, 0, NBD_CMD_READ, 5, 12345, 70001);
    assert_int_equal(rig_simple(fd, 5), 0);
    rig_recv(fd, got, 70001);
    assert_memory_equal(got, data, 70001);
    rig_request(fd, 0, NBD_CMD_READ, 6, RIG_SIZE, 0);
    assert_int_equal(rig_simple(fd, 6), 0);
    assert_int_equal(rig_do(fd, 0, NBD_CMD_FLUSH, 0, 0), 0);
    assert_int_equal(rig_do(fd, 0, NBD_CMD_CACHE, 0, 4 << 20), 0);
    assert_int_equal(rig_do(fd, NBD_CMD_FLAG_FUA, NBD_CMD_TRIM, 8192, 65536), 0);
    assert_int_equal(
        rig_do(fd, NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FUA, NBD_CMD_WRITE_ZEROES, 12345, 10), 0);
    assert_int_equal(rig_do(fd, NBD_CMD_FLAG_FAST_ZERO, NBD_CMD_WRITE_ZEROES, 0, 4 << 20), 0);
    rig_request(fd, 0, NBD_CMD_READ, 7, 0, 4 << 20);
    assert_int_equal(rig_simple(fd, 7), 0);
    rig_recv(fd, got, 4 << 20);
    for (unsigned i = 0; i < 4 << 20; i++) {
        assert_int_equal(got[i], 0);
    }
    rig_bye(fd);
    rig_end();
}

NBD_TEST(invalid_requests_get_an_error_and_the_connection_goes_on)
{
    static const struct {
        unsigned flags, type;
        uint64_t offset;
        uint32_t length, error;
    } cases[] = {
        {0, NBD_CMD_READ, RIG_SIZE, 1, NBD_EINVAL},
        {0, NBD_CMD_READ, UINT64_MAX, 2, NBD_EINVAL},
        {0, NBD_CMD_READ, 0, NBD_DATA_MAX + 1, NBD_EINVAL},
        {NBD_CMD_FLAG_DF, NBD_CMD_READ, 0, 512, NBD_EINVAL}, /* without structured replies */
        {NBD_CMD_FLAG_NO_HOLE, NBD_CMD_TRIM, 0, 512, NBD_EINVAL},
        {NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_FLUSH, 0, 0, NBD_EINVAL},
        {0, NBD_CMD_TRIM, RIG_SIZE - 1, 2, NBD_EINVAL},
        {0, NBD_CMD_WRITE_ZEROES, RIG_SIZE - 1, 2, NBD_ENOSPC},
        {0, NBD_CMD_BLOCK_STATUS, 0, 512, NBD_EINVAL},
        {0, NBD_CMD_CACHE, RIG_SIZE, 1, NBD_EINVAL},
        {0, 8, 0, 0, NBD_EINVAL},
        {0, UINT16_MAX, 0, 0, NBD_EINVAL},
    };
    rig_begin();
    int fd = rig_serve(0);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        assert_int_equal(
            rig_do(fd, cases[i].flags, cases[i].type, cases[i].offset, cases[i].length),
            cases[i].error);
    }
    assert_int_equal(rig_write(fd, 0, RIG_SIZE - 1, data, 2), NBD_ENOSPC);
    assert_int_equal(rig_write(fd, NBD_CMD_FLAG_DF, 0, data, 100), NBD_EINVAL);
    assert_int_equal(rig_write(fd, 0, 0, data, 100), 0);
    rig_bye(fd);
    rig_end();
}

NBD_TEST(requests_that_break_the_protocol_end_the_connection)
{
    rig_begin();
    int fd = rig_serve(0);
    rig_ext_request(fd, 0, NBD_CMD_READ, 1, 0, 512); /* the magic of another mode */
    rig_closed(fd);
    fd = rig_serve(0);
    rig_request(fd, 0, NBD_CMD_WRITE, 1, 0, NBD_DATA_MAX + 1);
    rig_closed(fd);
    fd = rig_serve(NBD_OPT_EXTENDED_HEADERS);
    rig_request(fd, 0, NBD_CMD_READ, 1, 0, 512);
    rig_send(fd, data, 4);
    rig_closed(fd);
    fd = rig_serve(NBD_OPT_EXTENDED_HEADERS);
    rig_ext_request(fd, NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_WRITE, 1, 0, UINT64_MAX);
    rig_closed(fd);
    rig_end();
}

NBD_TEST(a_read_only_export_refuses_changes)
{
    RigServer server = {0};
    RigExport x = {.node = RIG_MEM};
    rig_main(rig_server_start, &server);
    rig_main(rig_export_add, &x);
    int fd = rig_greet(3);
    RigInfo info = rig_info(fd, NBD_OPT_GO, "disk");
    assert_int_equal(info.flags, NBD_FLAG_HAS_FLAGS | NBD_FLAG_READ_ONLY | NBD_FLAG_SEND_FLUSH |
                                     NBD_FLAG_SEND_FUA | NBD_FLAG_CAN_MULTI_CONN |
                                     NBD_FLAG_SEND_CACHE);
    assert_int_equal(rig_write(fd, 0, 0, data, 512), NBD_EPERM);
    assert_int_equal(rig_do(fd, 0, NBD_CMD_TRIM, 0, 512), NBD_EPERM);
    assert_int_equal(rig_do(fd, 0, NBD_CMD_WRITE_ZEROES, 0, 512), NBD_EPERM);
    assert_int_equal(rig_do(fd, 0, NBD_CMD_FLUSH, 0, 0), 0);
    rig_bye(fd);
    rig_end();
}

/* Reads by chunks into @got; returns the number of holes. */
static unsigned read_chunks(int fd, bool extended, unsigned flags, uint64_t offset, uint32_t length,
                            unsigned *chunks)
{
    unsigned holes = 0;
    uint64_t sum = 0;
    RigChunk c = {0};
    *chunks = 0;
    memset(got, 0xee, length);
    extended ? rig_ext_request(fd, flags, NBD_CMD_READ, 9, offset, length)
             : rig_request(fd, flags, NBD_CMD_READ, 9, offset, length);
    do {
        rig_chunk(fd, extended, &c);
        assert_int_equal(c.cookie, 9);
        uint64_t at = nbd_get64(c.data) - offset;
        ++*chunks;
        if (c.type == NBD_CHUNK_HOLE) {
            uint32_t size = nbd_get32(c.data + 8);
            assert_int_equal(c.length, 12);
            assert_true(at + size <= length);
            memset(got + at, 0, size);
            sum += size;
            holes++;
        } else {
            assert_int_equal(c.type, NBD_CHUNK_DATA);
            assert_true(at + c.length - 8 <= length);
            memcpy(got + at, c.data + 8, c.length - 8);
            sum += c.length - 8;
        }
    } while ((c.flags & NBD_CHUNK_FLAG_DONE) == 0);
    assert_int_equal(sum, length);
    g_free(c.data);
    return holes;
}

NBD_TEST(chunks_have_holes_where_there_are_zeroes)
{
    for (unsigned extended = 0; extended < 2; extended++) {
        unsigned chunks;
        rig_begin();
        int plain = rig_serve(0);
        test_fill(data, sizeof(data), 2);
        assert_int_equal(rig_write(plain, 0, 256 << 10, data, 100 << 10), 0);
        rig_bye(plain);
        int fd = rig_serve(extended ? NBD_OPT_EXTENDED_HEADERS : NBD_OPT_STRUCTURED_REPLY);
        assert_int_equal(read_chunks(fd, extended, 0, 0, 1 << 20, &chunks), 2);
        assert_int_equal(chunks, 3);
        assert_memory_equal(got + (256 << 10), data, 100 << 10);
        for (unsigned i = 0; i < 256 << 10; i++) {
            assert_int_equal(got[i] | got[(356 << 10) + i], 0);
        }
        assert_int_equal(read_chunks(fd, extended, NBD_CMD_FLAG_DF, 0, 1 << 20, &chunks), 0);
        assert_int_equal(chunks, 1);
        assert_memory_equal(got + (256 << 10), data, 100 << 10);
        assert_int_equal(read_chunks(fd, extended, 0, 0, RIG_SIZE, &chunks), 3);
        rig_closed((shutdown(fd, SHUT_WR), fd));
        rig_end();
    }
}

NBD_TEST(structured_errors_have_a_message)
{
    RigChunk c = {0};
    rig_begin();
    int fd = rig_serve(NBD_OPT_STRUCTURED_REPLY);
    rig_request(fd, 0, NBD_CMD_READ, 3, RIG_SIZE, 1);
    rig_chunk(fd, false, &c);
    assert_int_equal(c.type, NBD_CHUNK_ERROR);
    assert_int_equal(c.flags, NBD_CHUNK_FLAG_DONE);
    assert_int_equal(nbd_get32(c.data), NBD_EINVAL);
    assert_int_equal(nbd_get16(c.data + 4), c.length - 6);
    assert_string_equal((char *)c.data + 6, "the request is beyond the end of the export");
    rig_request(fd, 0, NBD_CMD_READ, 4, 0, 0);
    rig_chunk(fd, false, &c);
    assert_int_equal(c.type, NBD_CHUNK_NONE);
    assert_int_equal(rig_write(fd, 0, 0, data, 512), 0); /* a simple reply is allowed */
    g_free(c.data);
    rig_bye(fd);
    rig_end();
}

NBD_TEST(extended_requests_and_replies_are_64_bit)
{
    RigChunk c = {0};
    rig_begin();
    int fd = rig_serve(NBD_OPT_EXTENDED_HEADERS);
    for (unsigned flags = 0; flags <= NBD_CMD_FLAG_PAYLOAD_LEN; flags += NBD_CMD_FLAG_PAYLOAD_LEN) {
        rig_ext_request(fd, flags, NBD_CMD_WRITE, 8, 512, 1000);
        rig_send(fd, data, 1000);
        rig_chunk(fd, true, &c);
        assert_int_equal(c.type, NBD_CHUNK_NONE);
    }
    rig_ext_request(fd, NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_READ, 8, 0, 1000); /* dropped */
    rig_send(fd, data, 1000);
    rig_chunk(fd, true, &c);
    assert_int_equal(nbd_get32(c.data), NBD_EINVAL);
    rig_ext_request(fd, 0, NBD_CMD_WRITE_ZEROES, 8, 0, (uint64_t)5 << 32);
    rig_chunk(fd, true, &c);
    assert_int_equal(nbd_get32(c.data), NBD_ENOSPC);
    rig_ext_request(fd, 0, NBD_CMD_TRIM, 8, 0, RIG_SIZE);
    rig_chunk(fd, true, &c);
    assert_int_equal(c.type, NBD_CHUNK_NONE);
    g_free(c.data);
    rig_ext_request(fd, 0, NBD_CMD_DISC, 0, 0, 0);
    rig_closed(fd);
    rig_end();
}

/* ---- errors of the disk ---- */

static void fault_begin(const char *options)
{
    g_autofree char *node = g_strconcat(RIG_FAULT, options, NULL);
    RigServer server = {0};
    RigExport x = {.node = node, .config.writable = true};
    rig_main(rig_server_start, &server);
    rig_main(rig_export_add, &x);
    assert_null(x.error);
}

NBD_TEST(errors_of_the_disk_reach_the_client)
{
    static const struct {
        int error;
        uint32_t nbd;
    } errors[] = {{EIO, NBD_EIO},       {ENOSPC, NBD_ENOSPC}, {EROFS, NBD_EPERM},
                  {ENOMEM, NBD_ENOMEM}, {ESTALE, NBD_EIO},    {EDQUOT, NBD_ENOSPC}};
    RigChunk c = {0};
    fault_begin("fail-op=none");
    int fd = rig_serve(0), structured = rig_serve(NBD_OPT_STRUCTURED_REPLY);
    for (unsigned i = 0; i < G_N_ELEMENTS(errors); i++) {
        BlockFault fault = {.op = BLOCK_FAULT_ANY, .error = (uint32_t)errors[i].error};
        rig_set_fault(&fault);
        assert_int_equal(rig_write(fd, 0, 0, data, 512), errors[i].nbd);
        assert_int_equal(rig_do(fd, 0, NBD_CMD_READ, 0, 512), errors[i].nbd);
        assert_int_equal(rig_do(fd, 0, NBD_CMD_FLUSH, 0, 0), errors[i].nbd);
        assert_int_equal(rig_do(fd, 0, NBD_CMD_WRITE_ZEROES, 0, 512), errors[i].nbd);
        rig_request(structured, 0, NBD_CMD_READ, 1, 0, 512);
        rig_chunk(structured, false, &c);
        assert_int_equal(c.type, NBD_CHUNK_ERROR);
        assert_int_equal(nbd_get32(c.data), errors[i].nbd);
    }
    g_free(c.data);
    rig_bye(fd);
    rig_bye(structured);
    rig_end();
}

NBD_TEST(a_long_read_fails_in_the_middle_with_an_error_chunk)
{
    BlockFault fault = {.op = BLOCK_FAULT_READ, .after = 1, .error = EIO};
    RigChunk c = {0};
    fault_begin("fail-op=none");
    int fd = rig_serve(NBD_OPT_STRUCTURED_REPLY);
    rig_set_fault(&fault);
    rig_request(fd, 0, NBD_CMD_READ, 1, 0, 4 << 20); /* two pieces */
    rig_chunk(fd, false, &c);
    assert_int_equal(c.type, NBD_CHUNK_HOLE);
    rig_chunk(fd, false, &c);
    assert_int_equal(c.type, NBD_CHUNK_ERROR);
    assert_int_equal(c.flags, NBD_CHUNK_FLAG_DONE);
    g_free(c.data);
    rig_bye(fd);
    rig_end();
}

NBD_TEST(zeroing_that_would_write_data_is_refused_when_it_has_to_be_fast)
{
    RigServer server = {0};
    RigExport x = {.node = "raw,node-name=m,file.driver=fault,file.fail-op=write-zeroes,"
                           "file.errno=95,file.file.driver=mem,file.file.size=4M",
                   .config.writable = true};
    rig_main(rig_server_start, &server);
    rig_main(rig_export_add, &x);
    assert_null(x.error);
    int fd = rig_serve(0);
    test_fill(data, 512, 3);
    assert_int_equal(rig_write(fd, 0, 0, data, 512), 0);
    assert_int_equal(rig_do(fd, NBD_CMD_FLAG_FAST_ZERO, NBD_CMD_WRITE_ZEROES, 0, 512), NBD_ENOTSUP);
    assert_int_equal(rig_do(fd, 0, NBD_CMD_WRITE_ZEROES, 0, 512), 0);
    rig_request(fd, 0, NBD_CMD_READ, 7, 0, 1);
    assert_int_equal(rig_simple(fd, 7), 0);
    rig_recv(fd, got, 1);
    assert_int_equal(got[0], 0);
    rig_bye(fd);
    rig_end();
}

int main(void)
{
    block_setup(block_drivers);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(simple_replies_carry_what_was_written),
        cmocka_unit_test(invalid_requests_get_an_error_and_the_connection_goes_on),
        cmocka_unit_test(requests_that_break_the_protocol_end_the_connection),
        cmocka_unit_test(a_read_only_export_refuses_changes),
        cmocka_unit_test(chunks_have_holes_where_there_are_zeroes),
        cmocka_unit_test(structured_errors_have_a_message),
        cmocka_unit_test(extended_requests_and_replies_are_64_bit),
        cmocka_unit_test(errors_of_the_disk_reach_the_client),
        cmocka_unit_test(a_long_read_fails_in_the_middle_with_an_error_chunk),
        cmocka_unit_test(zeroing_that_would_write_data_is_refused_when_it_has_to_be_fast),
    };
    return block_test_main(tests);
}

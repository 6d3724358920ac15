/* SPDX-License-Identifier: Apache-2.0 */
/* NBD clients beside drained sections and each other; connections that end anywhere. */
#include "tests/block/nbd/nbd_life.h"

static uint8_t data[4 << 20], got[4 << 20];

/* ---- drained sections ---- */

static struct {
    BlockBackend *blk;
    bool drained, ended;
    TestEvent end;
} life;

static void life_drain(void *opaque)
{
    unsigned count;
    enter_coroutine();
    enter_main();
    g_autofree BlockBackend **list = blk_list(&count);
    assert_int_equal(count, 1);
    life.blk = list[0];
    co_drained_begin(&life.blk, 1);
    life.drained = true;
    test_event_wait(&life.end);
    co_drained_end(&life.blk, 1);
    life.ended = true;
}

static void life_drain_start(void *opaque)
{
    enter_coroutine();
    enter_main();
    memset(&life, 0, sizeof(life));
    co_start(test_main, life_drain, NULL);
}

static void life_get_drained(void *opaque)
{
    enter_coroutine();
    *(bool *)opaque = life.drained;
}

static bool life_is_drained(void)
{
    bool drained;
    rig_main(life_get_drained, &drained);
    return drained;
}

static void life_await_drained(void)
{
    while (!life_is_drained()) {
        rig_main(rig_turn, NULL);
    }
}

static void life_get_ended(void *opaque)
{
    enter_coroutine();
    *(bool *)opaque = life.ended;
}

static void life_drain_end(void)
{
    bool ended;
    test_event_set(&life.end);
    do {
        rig_main(life_get_ended, &ended);
    } while (!ended);
}

NBD_TEST(a_drained_section_waits_for_requests_in_flight_and_keeps_later_ones)
{
    life_begin();
    int fd = rig_serve(0);
    life_hold(BLOCK_FAULT_WRITE);
    rig_request(fd, 0, NBD_CMD_WRITE, 1, 0, 512);
    rig_send(fd, data, 512);
    rig_await_held(1);
    rig_main(life_drain_start, NULL);
    rig_main(life_home_turns, NULL);
    assert_false(life_is_drained());
    life_hold_nothing();
    rig_release(1);
    life_await_drained();
    assert_int_equal(rig_simple(fd, 1), 0);
    rig_request(fd, 0, NBD_CMD_FLUSH, 2, 0, 0);
    assert_true(life_silent(fd));
    life_drain_end();
    assert_int_equal(rig_simple(fd, 2), 0);
    rig_bye(fd);
    rig_end();
}

NBD_TEST(a_client_that_does_not_read_delays_neither_a_drained_section_nor_others)
{
    life_begin();
    test_fill(data, sizeof(data), 1);
    int slow = rig_serve(0), fast = rig_serve(0);
    assert_int_equal(rig_write(fast, 0, 0, data, 1 << 20), 0);
    for (unsigned i = 0; i < 100; i++) { /* replies fill the socket's buffer */
        rig_request(slow, 0, NBD_CMD_READ, 7, 0, 1 << 20);
    }
    int sender = rig_serve(0); /* and one that sends half a write */
    rig_request(sender, 0, NBD_CMD_WRITE, 1, 2 << 20, 1 << 20);
    rig_send(sender, data, 1000);
    for (unsigned i = 0; i < 50; i++) {
        rig_request(fast, 0, NBD_CMD_READ, i, 0, 1 << 20);
        assert_int_equal(rig_simple(fast, i), 0);
        rig_recv(fast, got, 1 << 20);
    }
    rig_main(life_drain_start, NULL);
    life_await_drained();
    life_drain_end();
    for (unsigned i = 0; i < 100; i++) { /* the slow one loses nothing */
        assert_int_equal(rig_simple(slow, 7), 0);
        rig_recv(slow, got, 1 << 20);
        assert_memory_equal(got, data, 1 << 20);
    }
    rig_bye(slow);
    close(sender);
    rig_bye(fast);
    rig_end();
}

/* ---- limits ---- */

NBD_TEST(a_client_has_a_limited_number_of_requests_in_progress)
{
    life_begin();
    int fd = rig_serve(0);
    life_hold(BLOCK_FAULT_READ);
    for (unsigned i = 0; i < 200; i++) {
        rig_request(fd, 0, NBD_CMD_READ, 7, 0, 512);
    }
    rig_await_held(64);
    assert_true(life_silent(fd));
    rig_await_held(64);
    life_hold_nothing();
    rig_release(64);
    for (unsigned i = 0; i < 200; i++) {
        assert_int_equal(rig_simple(fd, 7), 0);
        rig_recv(fd, got, 512);
    }
    rig_bye(fd);
    rig_end();
}

NBD_TEST(a_client_has_a_limited_amount_of_memory)
{
    life_begin();
    int fd = rig_serve(0);
    life_hold(BLOCK_FAULT_READ);
    for (unsigned i = 0; i < 40; i++) {
        rig_request(fd, 0, NBD_CMD_READ, 7, 0, 4 << 20);
    }
    rig_await_held(32); /* 128 MiB */
    assert_true(life_silent(fd));
    rig_await_held(32);
    life_hold_nothing();
    rig_release(32);
    for (unsigned i = 0; i < 40; i++) {
        assert_int_equal(rig_simple(fd, 7), 0);
        rig_recv(fd, got, 4 << 20);
    }
    rig_bye(fd);
    rig_end();
}

NBD_TEST(requests_that_are_larger_than_the_share_are_done_in_pieces)
{
    enum { COUNT = 60 };
    int fds[COUNT];
    RigChunk c = {0};
    life_begin();
    for (unsigned i = 0; i < COUNT; i++) {
        fds[i] = rig_serve(0);
        assert_int_equal(rig_do(fds[i], 0, NBD_CMD_FLUSH, 0, 0), 0); /* it is served */
    }
    test_fill(data, sizeof(data), 5);
    assert_int_equal(rig_write(fds[3], 0, 0, data, 4 << 20), 0);
    rig_request(fds[4], 0, NBD_CMD_READ, 1, 0, 4 << 20);
    rig_request(fds[4], 0, NBD_CMD_READ, 1, 1, 3 << 20);
    assert_int_equal(rig_simple(fds[4], 1), 0);
    rig_recv(fds[4], got, 4 << 20);
    assert_memory_equal(got, data, 4 << 20);
    assert_int_equal(rig_simple(fds[4], 1), 0);
    rig_recv(fds[4], got, 3 << 20);
    assert_memory_equal(got, data + 1, 3 << 20);
    int fd = rig_serve(NBD_OPT_STRUCTURED_REPLY);
    rig_request(fd, NBD_CMD_FLAG_DF, NBD_CMD_READ, 1, 0, 4 << 20);
    rig_chunk(fd, false, &c);
    assert_int_equal(nbd_get32(c.data), NBD_EOVERFLOW);
    g_free(c.data);
    BlockFault fault = {.op = BLOCK_FAULT_WRITE, .error = ENOSPC, .after = 1, .count = 1};
    rig_set_fault(&fault);
    assert_int_equal(rig_write(fds[5], 0, 0, data, 4 << 20), NBD_ENOSPC);
    assert_int_equal(rig_write(fds[5], 0, 0, data, 4 << 20), 0);
    rig_bye(fd);
    for (unsigned i = 0; i < COUNT; i++) {
        rig_bye(fds[i]);
    }
    rig_end();
}

/* ---- ends anywhere ---- */

static void life_get_clients(void *opaque)
{
    enter_coroutine();
    enter_main();
    *(unsigned *)opaque = nbd_client_count();
}

static uint8_t *life_put_option(uint8_t *p, uint32_t option, const void *bytes, size_t length)
{
    p = nbd_put32(nbd_put32(nbd_put64(p, NBD_OPTION_MAGIC), option), (uint32_t)length);
    memcpy(p, bytes, length);
    return p + length;
}

static uint8_t *life_put_request(uint8_t *p, unsigned type, uint32_t length)
{
    p = nbd_put16(nbd_put16(nbd_put32(p, NBD_REQUEST_MAGIC), 0), (uint16_t)type);
    return nbd_put32(nbd_put64(nbd_put64(p, 1), 0), length);
}

/* A whole conversation of a client; its length. */
static size_t life_conversation(uint8_t *bytes)
{
    uint8_t info[64];
    uint8_t *p = nbd_put32(bytes, 3);
    p = life_put_option(p, NBD_OPT_LIST, "", 0);
    p = life_put_option(p, NBD_OPT_STRUCTURED_REPLY, "", 0);
    p = life_put_option(p, NBD_OPT_GO, info, rig_info_data(info, "disk"));
    p = life_put_request(p, NBD_CMD_READ, 65536);
    p = life_put_request(p, NBD_CMD_WRITE, 64);
    memset(p, 7, 64);
    p = life_put_request(p + 64, NBD_CMD_FLUSH, 0);
    return (size_t)(life_put_request(p, NBD_CMD_DISC, 0) - bytes);
}

NBD_TEST(a_connection_may_end_after_any_byte)
{
    uint8_t bytes[1024];
    size_t length = life_conversation(bytes);
    unsigned clients;
    life_begin();
    for (size_t n = 0; n <= length; n++) {
        int gone = rig_connect(), half = rig_connect(), resets = rig_connect();
        rig_send(gone, bytes, n);
        rig_send(half, bytes, n);
        rig_send(resets, bytes, n);
        close(gone);
        shutdown(resets, SHUT_RD);
        shutdown(half, SHUT_WR);
        rig_closed(half);
        close(resets);
    }
    do {
        rig_main(life_get_clients, &clients);
    } while (clients > 0);
    int fd = rig_serve(0);
    assert_int_equal(rig_do(fd, 0, NBD_CMD_FLUSH, 0, 0), 0);
    rig_bye(fd);
    rig_end();
}

/* Requests that were sent before a proper end have their replies. */
NBD_TEST(a_disconnect_waits_for_earlier_requests)
{
    life_begin();
    int fd = rig_serve(0);
    life_hold(BLOCK_FAULT_READ);
    rig_request(fd, 0, NBD_CMD_READ, 1, 0, 512);
    rig_request(fd, 0, NBD_CMD_DISC, 2, 0, 0);
    rig_await_held(1);
    assert_true(life_silent(fd));
    life_hold_nothing();
    rig_release(1);
    assert_int_equal(rig_simple(fd, 1), 0);
    rig_recv(fd, got, 512);
    rig_closed(fd);
    rig_end();
}

static void count_clients(void *opaque)
{
    enter_main();
    *(unsigned *)opaque = nbd_client_count();
}

/* With the 64-bit lengths of extended headers a request can have very many pieces. */
NBD_TEST(a_request_of_many_pieces_leaves_others_their_turns)
{
    static const unsigned types[] = {NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES, NBD_CMD_CACHE};
    RigServer server = {0};
    RigExport x = {.node = "null-co,node-name=m,size=1P,discard=unmap", .config.writable = true};
    uint8_t block[512];
    rig_main(rig_server_start, &server);
    rig_main(rig_export_add, &x);
    for (unsigned i = 0; i < G_N_ELEMENTS(types); i++) {
        unsigned clients;
        int greedy = rig_serve(NBD_OPT_EXTENDED_HEADERS), other = rig_serve(0);
        rig_ext_request(greedy, 0, types[i], 1, 0, UINT64_C(1) << 50);
        rig_request(other, 0, NBD_CMD_READ, 2, 0, sizeof(block));
        assert_int_equal(rig_simple(other, 2), 0);
        rig_recv(other, block, sizeof(block));
        close(other);
        close(greedy);
        do { /* the request does not outlive its client */
            rig_main(count_clients, &clients);
        } while (clients > 0);
    }
    rig_end();
}

int main(void)
{
    block_setup(block_drivers);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_drained_section_waits_for_requests_in_flight_and_keeps_later_ones),
        cmocka_unit_test(a_client_that_does_not_read_delays_neither_a_drained_section_nor_others),
        cmocka_unit_test(a_client_has_a_limited_number_of_requests_in_progress),
        cmocka_unit_test(a_client_has_a_limited_amount_of_memory),
        cmocka_unit_test(requests_that_are_larger_than_the_share_are_done_in_pieces),
        cmocka_unit_test(a_connection_may_end_after_any_byte),
        cmocka_unit_test(a_disconnect_waits_for_earlier_requests),
        cmocka_unit_test(a_request_of_many_pieces_leaves_others_their_turns),
    };
    return block_test_main(tests);
}

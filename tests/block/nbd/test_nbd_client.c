/* SPDX-License-Identifier: Apache-2.0 */
/* The NBD client against a server that works: requests, limits, options. */
#include "tests/block/nbd/fake_nbd.h"
#include "block/drivers.h"

enum { KIB = 1024, MIB = 1024 * KIB };

/* ---- requests ---- */

BLOCK_TEST(requests_reach_the_export)
{
    FakeNbd f;
    static uint8_t buf[64 * KIB];
    fake_start(&f, MIB, FAKE_ALL);
    BlockBackend *blk = fake_blk(&f, "discard=unmap");
    assert_int_equal(blk_size(blk), MIB);
    assert_int_equal(test_io(blk, TEST_READ, 4096, sizeof(buf), buf, 0), 0);
    assert_memory_equal(buf, f.data + 4096, sizeof(buf));
    test_fill(buf, sizeof(buf), 2);
    assert_int_equal(test_io(blk, TEST_WRITE, 8192, sizeof(buf), buf, 0), 0);
    assert_memory_equal(buf, f.data + 8192, sizeof(buf));
    assert_int_equal(f.command_flags[FAKE_CMD_WRITE], 0);
    assert_int_equal(test_io(blk, TEST_WRITE, 8192, 512, buf, BLOCK_REQ_FUA), 0);
    assert_int_equal(f.command_flags[FAKE_CMD_WRITE], 1);
    assert_int_equal(f.commands[FAKE_CMD_FLUSH], 0);
    assert_int_equal(test_io(blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
    assert_int_equal(f.commands[FAKE_CMD_FLUSH], 1);
    assert_int_equal(test_io(blk, TEST_ZERO, 0, 64 * KIB, NULL, 0), 0);
    assert_int_equal(f.command_flags[FAKE_CMD_ZEROES], 2); /* no hole */
    assert_int_equal(test_io(blk, TEST_ZERO, 0, 64 * KIB, NULL, BLOCK_REQ_MAY_UNMAP), 0);
    assert_int_equal(f.command_flags[FAKE_CMD_ZEROES], 0);
    assert_int_equal(test_io(blk, TEST_DISCARD, 0, 64 * KIB, NULL, 0), 0);
    assert_int_equal(f.commands[FAKE_CMD_TRIM], 1);
    blk_co_free(blk);
    TEST_UNTIL(f.open == 0);
    assert_int_equal(f.commands[FAKE_CMD_DISC], 1);
    fake_stop(&f);
}

BLOCK_TEST(simple_replies_do_too)
{
    FakeNbd f;
    uint8_t buf[4096];
    fake_start(&f, MIB, FAKE_ALL);
    f.no_structured = true;
    BlockBackend *blk = fake_blk(&f, "");
    assert_int_equal(test_io(blk, TEST_READ, 512, sizeof(buf), buf, 0), 0);
    assert_memory_equal(buf, f.data + 512, sizeof(buf));
    f.error = ENOSPC;
    assert_int_equal(test_io(blk, TEST_WRITE, 512, sizeof(buf), buf, 0), -ENOSPC);
    blk_co_free(blk);
    fake_stop(&f);
}

BLOCK_TEST(an_error_of_the_server_is_the_requests)
{
    FakeNbd f;
    uint8_t buf[512];
    static const struct {
        uint32_t wire;
        int ret;
    } rows[] = {{5, -EIO},         {28, -ENOSPC},     {1, -EPERM},    {22, -EINVAL},
                {95, -EOPNOTSUPP}, {108, -ESHUTDOWN}, {4711, -EINVAL}};
    fake_start(&f, MIB, FAKE_ALL);
    BlockBackend *blk = fake_blk(&f, "reconnect-delay=1000");
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        f.error = rows[i].wire;
        assert_int_equal(test_io(blk, TEST_WRITE, 0, sizeof(buf), buf, 0), rows[i].ret);
    }
    f.error = 0;
    assert_int_equal(test_io(blk, TEST_WRITE, 0, sizeof(buf), buf, 0), 0);
    assert_int_equal(f.accepted, 1);
    blk_co_free(blk);
    fake_stop(&f);
}

typedef struct Scattered {
    BlockBackend *blk;
    uint8_t *a, *b;
    int ret;
} Scattered;

static void scattered_at_home(void *opaque)
{
    Scattered *s = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    struct iovec iov[] = {{s->a, 100}, {s->b, 412}, {s->a + 100, 512}};
    s->ret = blk_co_pwritev(s->blk, 1024, 1024, iov, 3, 0);
    memset(s->a, 0, 612);
    memset(s->b, 0, 412);
    if (s->ret == 0) {
        s->ret = blk_co_preadv(s->blk, 1024, 1024, iov, 3, 0);
    }
}

BLOCK_TEST(scattered_buffers_are_one_request)
{
    FakeNbd f;
    uint8_t a[612], b[412], all[1024];
    fake_start(&f, MIB, FAKE_ALL);
    test_fill(a, sizeof(a), 3);
    test_fill(b, sizeof(b), 4);
    memcpy(all, a, 100);
    memcpy(all + 100, b, 412);
    memcpy(all + 512, a + 100, 512);
    Scattered s = {.blk = fake_blk(&f, ""), .a = a, .b = b};
    test_in_home(scattered_at_home, &s);
    assert_int_equal(s.ret, 0);
    assert_int_equal(f.total, 2);
    assert_memory_equal(f.data + 1024, all, sizeof(all));
    assert_memory_equal(a, all, 100);
    assert_memory_equal(b, all + 100, 412);
    assert_memory_equal(a + 100, all + 512, 512);
    blk_co_free(s.blk);
    fake_stop(&f);
}

BLOCK_TEST(what_the_server_lacks_is_done_without_it)
{
    FakeNbd f;
    uint8_t buf[512], zero[512] = {0};
    fake_start(&f, MIB, 0);
    test_fill(buf, sizeof(buf), 5);
    BlockBackend *blk = fake_blk(&f, "discard=unmap");
    assert_int_equal(test_io(blk, TEST_WRITE, 0, sizeof(buf), buf, BLOCK_REQ_FUA), 0);
    assert_int_equal(f.command_flags[FAKE_CMD_WRITE], 0);
    assert_int_equal(test_io(blk, TEST_FLUSH, 0, 0, NULL, 0), 0);
    assert_int_equal(test_io(blk, TEST_DISCARD, 0, 512, NULL, 0), 0);
    assert_memory_equal(f.data, buf, sizeof(buf));
    assert_int_equal(test_io(blk, TEST_ZERO, 0, 512, NULL, 0), 0); /* as a write */
    assert_memory_equal(f.data, zero, sizeof(zero));
    assert_int_equal(f.total, 2);
    blk_co_free(blk);
    fake_stop(&f);
}

/* ---- block status ---- */

typedef struct StatusCall {
    BlockBackend *blk;
    uint64_t offset, bytes;
    BlockStatus status;
    int ret;
} StatusCall;

static void status_at_home(void *opaque)
{
    StatusCall *s = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    s->ret = blk_co_block_status(s->blk, s->offset, s->bytes, true, &s->status);
}

static coroutine_fn RUNS_IN_MAIN unsigned status_of(BlockBackend *blk, uint64_t offset,
                                                    uint64_t bytes, uint64_t expected_bytes)
{
    StatusCall s = {.blk = blk, .offset = offset, .bytes = bytes};
    test_in_home(status_at_home, &s);
    assert_int_equal(s.ret, 0);
    assert_int_equal(s.status.bytes, expected_bytes);
    return s.status.flags & (BLOCK_STATUS_DATA | BLOCK_STATUS_ZERO);
}

BLOCK_TEST(block_status_tells_holes_from_data)
{
    FakeNbd f;
    fake_start(&f, MIB, FAKE_ALL);
    f.status_flags[1] = 3; /* hole, zero */
    f.status_flags[2] = 2; /* zero */
    f.status_flags[3] = 1; /* hole: its bytes are unknown */
    BlockBackend *blk = fake_blk(&f, "");
    uint64_t part = MIB / 4;
    assert_int_equal(status_of(blk, 0, part, part), BLOCK_STATUS_DATA);
    assert_int_equal(status_of(blk, part + 512, part, part), BLOCK_STATUS_ZERO);
    assert_int_equal(status_of(blk, 2 * part + 512, 1024, 1024),
                     BLOCK_STATUS_ZERO | BLOCK_STATUS_DATA);
    assert_int_equal(status_of(blk, 3 * part + 512, 1024, 1024), BLOCK_STATUS_DATA);
    assert_int_equal(f.command_flags[FAKE_CMD_STATUS], 8); /* one extent */
    f.status_bytes = 4096;
    assert_int_equal(status_of(blk, 0, part, 4096), BLOCK_STATUS_DATA);
    f.status_bytes = UINT32_MAX; /* beyond what was asked for */
    assert_int_equal(status_of(blk, 0, part, part), BLOCK_STATUS_DATA);
    blk_co_free(blk);
    f.no_structured = true;
    blk = fake_blk(&f, "");
    assert_int_equal(status_of(blk, part, part, part), BLOCK_STATUS_DATA);
    blk_co_free(blk);
    fake_stop(&f);
}

BLOCK_TEST(an_extent_shorter_than_a_block_is_data)
{
    FakeNbd f;
    fake_start(&f, MIB, FAKE_ALL);
    f.min_block = f.preferred_block = 4096;
    f.max_block = MIB;
    f.status_bytes = 512;
    f.status_flags[0] = 3;
    BlockBackend *blk = fake_blk(&f, "");
    assert_int_equal(status_of(blk, 0, MIB, 4096), BLOCK_STATUS_DATA);
    blk_co_free(blk);
    fake_stop(&f);
}

BLOCK_TEST(another_context_is_shown_in_place_of_allocation)
{
    FakeNbd f;
    uint64_t part = MIB / 4;
    fake_start(&f, MIB, FAKE_ALL);
    fake_open_fails(&f, "x-dirty-bitmap=qemu:dirty-bitmap:b",
                    "x-dirty-bitmap qemu:dirty-bitmap:b not found");
    fake_open_fails(&f, "x-dirty-bitmap=b", "name of a context");
    f.context = "qemu:dirty-bitmap:b";
    f.status_flags[1] = 1; /* dirty */
    BlockBackend *blk = fake_blk(&f, "x-dirty-bitmap=qemu:dirty-bitmap:b");
    assert_int_equal(status_of(blk, 0, part, part), BLOCK_STATUS_DATA);
    assert_int_equal(status_of(blk, part + 512, 1024, 1024), 0);
    blk_co_free(blk);
    f.context = "qemu:allocation-depth";
    f.status_flags[2] = 2;
    f.status_flags[3] = 7;
    blk = fake_blk(&f, "x-dirty-bitmap=qemu:allocation-depth");
    assert_int_equal(status_of(blk, part + 512, 1024, 1024), 0);
    assert_int_equal(status_of(blk, 2 * part + 512, 1024, 1024),
                     BLOCK_STATUS_DATA | BLOCK_STATUS_ZERO);
    assert_int_equal(status_of(blk, 3 * part + 512, 1024, 1024),
                     BLOCK_STATUS_DATA | BLOCK_STATUS_ZERO);
    blk_co_free(blk);
    fake_stop(&f);
}

/* ---- several connections ---- */

BLOCK_TEST(several_connections_share_the_requests)
{
    FakeNbd f;
    uint8_t buf[8][512];
    TestRequest r[8];
    fake_start(&f, MIB, FAKE_ALL | FAKE_MULTI_CONN);
    sched_point_count("nbd.up");
    BlockBackend *blk = fake_blk(&f, "multi-conn=4");
    TEST_UNTIL(sched_point_count("nbd.up") == 4);
    test_settle();
    f.hold = true;
    for (unsigned i = 0; i < 8; i++) {
        r[i] = (TestRequest){
            .blk = blk, .op = TEST_READ, .offset = i * 512, .bytes = 512, .buf = buf[i]};
        test_start(&r[i]);
    }
    TEST_UNTIL(f.total >= 4); /* each connection's first one; it holds the others back */
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(f.by_conn[i], 1);
    }
    fake_release(&f);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(test_finish(&r[i]), 0);
        assert_memory_equal(buf[i], f.data + i * 512, 512);
    }
    assert_int_equal(f.by_conn[0] + f.by_conn[1] + f.by_conn[2] + f.by_conn[3], 8);
    blk_co_free(blk);
    TEST_UNTIL(f.open == 0);
    assert_int_equal(f.commands[FAKE_CMD_DISC], 4);
    fake_stop(&f);
}

BLOCK_TEST(a_server_without_multi_conn_gets_one_connection)
{
    FakeNbd f;
    uint8_t buf[512];
    fake_start(&f, MIB, FAKE_ALL);
    BlockBackend *blk = fake_blk(&f, "multi-conn=16");
    assert_int_equal(test_io(blk, TEST_READ, 0, 512, buf, 0), 0);
    assert_int_equal(f.accepted, 1);
    blk_co_free(blk);
    fake_stop(&f);
}

/* ---- options ---- */

BLOCK_TEST(wrong_options_are_refused_in_words)
{
    test_open_fails("nbd", "server.type");
    test_open_fails("nbd,server.type=inet,server.host=h", "server.port");
    test_open_fails("nbd,server.type=unix", "server.path");
    test_open_fails("nbd,server.type=fd", "server.str");
    test_open_fails("nbd,server.type=unix,server.path=x,server.host=h", "another server.type");
    test_open_fails("nbd,server.type=vsock", "server.type");
    test_open_fails("nbd,path=x,host=h", "same time");
    test_open_fails("nbd,path=x,server.type=inet,server.host=h", "same time");
    test_open_fails("nbd,path=/nonexistent/x,export=e", "nbd+unix:///e?socket=/nonexistent/x");
    test_open_fails("nbd,port=7", "server.host");
    test_open_fails("nbd,server.type=fd,server.str=3,multi-conn=2", "multi-conn");
    test_open_fails("nbd,server.type=unix,server.path=x,multi-conn=17", "multi-conn");
    test_open_fails("nbd,server.type=unix,server.path=/nonexistent/x", "No such file");
    test_open_fails("nbd,server.type=fd,server.str=0", "fd=");
}

static void join_in_main(void *opaque)
{
    FakeConn *c = opaque;
    enter_coroutine();
    enter_main();
    fake_conn_run(c);
}

BLOCK_TEST(a_passed_descriptor_is_a_connection)
{
    FakeNbd f;
    int pair[2];
    uint8_t buf[512];
    fake_start(&f, MIB, FAKE_ALL);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    FakeConn *c = g_new0(FakeConn, 1);
    *c = (FakeConn){.fake = &f, .index = f.accepted++, .fd = pair[0]};
    c->handler = aio_handler_add(test_main, pair[0], &fake_conn_ops, c);
    aio_handler_watch(c->handler, false, false);
    f.conns[0] = c;
    f.open++;
    co_start(test_main, join_in_main, c);
    g_autofree char *text = g_strdup_printf("nbd,server.type=fd,server.str=%d", pair[1]);
    BlockBackend *blk = test_blk("disk", text, true);
    assert_int_equal(test_io(blk, TEST_READ, 0, 512, buf, 0), 0);
    assert_memory_equal(buf, f.data, 512);
    blk_co_free(blk);
    TEST_UNTIL(f.open == 0); /* the last descriptor was closed */
    fake_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_reach_the_export),
        cmocka_unit_test(simple_replies_do_too),
        cmocka_unit_test(an_error_of_the_server_is_the_requests),
        cmocka_unit_test(scattered_buffers_are_one_request),
        cmocka_unit_test(what_the_server_lacks_is_done_without_it),
        cmocka_unit_test(block_status_tells_holes_from_data),
        cmocka_unit_test(an_extent_shorter_than_a_block_is_data),
        cmocka_unit_test(another_context_is_shown_in_place_of_allocation),
        cmocka_unit_test(several_connections_share_the_requests),
        cmocka_unit_test(a_server_without_multi_conn_gets_one_connection),
        cmocka_unit_test(wrong_options_are_refused_in_words),
        cmocka_unit_test(a_passed_descriptor_is_a_connection),
    };
    block_setup(block_drivers);
    return block_test_main(tests);
}

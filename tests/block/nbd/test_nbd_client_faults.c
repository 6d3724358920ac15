/* SPDX-License-Identifier: Apache-2.0 */
/* The NBD client against servers that hang up, hang or lie, at each byte of what they say and hear. */
#include "tests/block/nbd/fake_nbd.h"
#include "block/drivers.h"
#include "util/zero.h"

enum { EXPORT = 64 * 1024 };

/* ---- the negotiation ---- */

typedef struct Lengths {
    int64_t sent, received; /* by the server, until the transmission begins */
} Lengths;

/* Measures a negotiation. */
static coroutine_fn RUNS_IN_MAIN Lengths measure(FakeNbd *f)
{
    enum { DISCONNECT = 28 };
    BlockBackend *blk = fake_blk(f, "");
    blk_co_free(blk);
    TEST_UNTIL(f->open == 0);
    assert_int_equal(f->commands[FAKE_CMD_DISC], 1);
    f->commands[FAKE_CMD_DISC] = f->total = 0;
    f->accepted = f->negotiated = 0;
    return (Lengths){f->sent, f->received - DISCONNECT};
}

static coroutine_fn RUNS_IN_MAIN void start(FakeNbd *f)
{
    fake_pass_time(0);
    fake_start(f, EXPORT, FAKE_ALL);
    f->min_block = 512;
    f->preferred_block = 4096;
    f->max_block = EXPORT;
}

BLOCK_TEST(an_open_fails_wherever_the_server_hangs_up)
{
    FakeNbd f;
    start(&f);
    Lengths l = measure(&f);
    assert_true(l.sent > 100 && l.received > 60);
    f.limit_to = UINT_MAX;
    for (f.cut_sent = 0; f.cut_sent < l.sent; f.cut_sent++) {
        fake_open_fails(&f, "", "NBD server");
        TEST_UNTIL(f.open == 0);
        f.accepted = 0;
    }
    f.cut_sent = -1;
    for (f.cut_received = 0; f.cut_received < l.received; f.cut_received++) {
        fake_open_fails(&f, "", "NBD server");
        TEST_UNTIL(f.open == 0);
        f.accepted = 0;
    }
    f.cut_received = -1;
    blk_co_free(fake_blk(&f, ""));
    fake_stop(&f);
}

typedef struct Opening {
    const FakeNbd *fake;
    GError *error;
    bool ended;
} Opening;

static void open_in_main(void *opaque)
{
    Opening *o = opaque;
    enter_coroutine();
    enter_main();
    g_autofree char *text = fake_options(o->fake, "open-timeout=5");
    assert_null(test_open(text, &o->error));
    o->ended = true;
}

/* An open meets a server that hangs, until open-timeout is over. */
static coroutine_fn RUNS_IN_MAIN void open_in_time(FakeNbd *f)
{
    Opening o = {.fake = f};
    f->accepted = f->limits_met = 0;
    co_start(test_main, open_in_main, &o);
    TEST_UNTIL(f->limits_met == 1);
    fake_pass_time(4);
    assert_false(o.ended);
    fake_pass_time(1);
    TEST_UNTIL(o.ended);
    assert_non_null(strstr(o.error->message, "did not answer in time"));
    g_clear_error(&o.error);
    for (unsigned i = 0; i < FAKE_CONNS; i++) {
        if (f->conns[i] != NULL) {
            fake_end_conn(f->conns[i]);
        }
    }
    TEST_UNTIL(f->open == 0);
}

BLOCK_TEST(an_open_ends_in_time_wherever_the_server_hangs)
{
    FakeNbd f;
    start(&f);
    Lengths l = measure(&f);
    f.limit_to = UINT_MAX;
    f.hangs = true;
    for (f.cut_sent = 0; f.cut_sent < l.sent; f.cut_sent += 3) {
        open_in_time(&f);
    }
    f.cut_sent = -1;
    for (f.cut_received = 0; f.cut_received < l.received; f.cut_received += 3) {
        open_in_time(&f);
    }
    fake_stop(&f);
}

BLOCK_TEST(an_open_with_a_timeout_tries_again)
{
    FakeNbd f;
    start(&f);
    f.limit_to = 2;
    f.cut_sent = 20;
    unsigned pauses = sched_point_count("nbd.pause");
    Opening o = {.fake = &f};
    co_start(test_main, open_in_main, &o);
    for (unsigned i = 1; i <= 4; i++) {
        TEST_UNTIL(sched_point_count("nbd.pause") == pauses + i);
        assert_int_equal(f.limits_met, MIN(i, 2));
        if (i == 2) {
            fake_down(&f);
        }
        fake_pass_time(1);
    }
    TEST_UNTIL(o.ended); /* a fifth pause would end with the timeout */
    assert_int_equal(sched_point_count("nbd.pause"), pauses + 4);
    g_clear_error(&o.error);
    fake_stop(&f);
}

/* ---- the transmission ---- */

enum { SESSION = 7 };

typedef struct Session {
    TestRequest r[SESSION];
    uint8_t written[2][512], read[2][512];
} Session;

static void session_start(Session *s, BlockBackend *blk, unsigned seed)
{
    static const struct {
        TestOp op;
        uint64_t offset, bytes;
        unsigned flags;
    } rows[SESSION] = {
        {TEST_WRITE, 0, 512, 0},       {TEST_READ, 32768, 512, 0},
        {TEST_FLUSH, 0, 0, 0},         {TEST_WRITE, 1024, 512, BLOCK_REQ_FUA},
        {TEST_ZERO, 8192, 512, 0},     {TEST_READ, 49152, 512, 0},
        {TEST_DISCARD, 16384, 512, 0},
    };
    void *const buffers[SESSION] = {s->written[0], s->read[0], NULL, s->written[1],
                                    NULL,          s->read[1], NULL};
    memset(s, 0, sizeof(*s));
    test_fill(s->written, sizeof(s->written), seed);
    for (unsigned i = 0; i < SESSION; i++) {
        s->r[i] = (TestRequest){.blk = blk,
                                .op = rows[i].op,
                                .offset = rows[i].offset,
                                .bytes = rows[i].bytes,
                                .flags = rows[i].flags,
                                .buf = buffers[i]};
        test_start(&s->r[i]);
    }
}

/* All have completed once, and done what they should. */
static coroutine_fn RUNS_IN_MAIN void session_check(Session *s, const FakeNbd *f)
{
    static const uint8_t zero[512];
    for (unsigned i = 0; i < SESSION; i++) {
        assert_int_equal(test_finish(&s->r[i]), 0);
    }
    assert_memory_equal(f->data, s->written[0], 512);
    assert_memory_equal(f->data + 1024, s->written[1], 512);
    assert_memory_equal(s->read[0], f->data + 32768, 512);
    assert_memory_equal(s->read[1], f->data + 49152, 512);
    assert_memory_equal(f->data + 8192, zero, 512);
    assert_memory_equal(f->data + 16384, zero, 512);
}

/* A session whose first connection ends somewhere. Returns whether it did. */
static coroutine_fn RUNS_IN_MAIN bool session_run(FakeNbd *f, unsigned seed)
{
    Session s;
    f->accepted = f->limits_met = 0;
    memset(f->data + 8192, 0xff, 512);
    memset(f->data + 16384, 0xff, 512);
    BlockBackend *blk = fake_blk(f, "reconnect-delay=10,discard=unmap");
    session_start(&s, blk, seed);
    session_check(&s, f);
    blk_co_free(blk);
    TEST_UNTIL(f->open == 0);
    return f->limits_met > 0;
}

BLOCK_TEST(a_request_completes_once_wherever_its_connection_ends)
{
    FakeNbd f;
    unsigned seed = 10, cuts = 0;
    start(&f);
    Lengths l = measure(&f);
    f.limit_to = 1;
    for (f.cut_sent = l.sent; session_run(&f, seed++); f.cut_sent++) {
        cuts++;
    }
    assert_true(cuts > 2 * 512);
    f.cut_sent = -1;
    cuts = 0;
    for (f.cut_received = l.received; session_run(&f, seed++); f.cut_received++) {
        cuts++;
    }
    assert_true(cuts > 2 * 512);
    fake_stop(&f);
}

/* ---- lies ---- */

static unsigned lie; /* which one */
static unsigned lies_told;

static coroutine_fn RUNS_IN_MAIN bool lie_with(FakeConn *c, uint64_t cookie, uint16_t type,
                                               uint32_t bytes, const void *data)
{
    struct {
        uint32_t magic;
        uint16_t flags, type;
        uint64_t cookie;
        uint32_t bytes;
    } __attribute__((packed))
    r = {htobe32(0x668e33ef), htobe16(1), htobe16(type), cookie, htobe32(bytes)};
    fake_co_send(c, &r, sizeof(r));
    fake_co_send(c, data, MIN(bytes, 4096));
    return true;
}

enum { LIES = 14 };

static coroutine_fn RUNS_IN_MAIN bool tell_lie(FakeConn *c, uint16_t type, uint64_t cookie,
                                               uint64_t offset, uint32_t bytes)
{
    static uint8_t data[4096];
    uint64_t at = htobe64(offset), past = htobe64(offset + bytes);
    if (c->index > 0) {
        return false;
    }
    lies_told++;
    memset(data, 0, sizeof(data));
    switch (lie) {
    case 0: /* another cookie */
        return fake_co_simple(c, ~cookie, 0, data, bytes);
    case 1: /* an unknown magic */
        return fake_co_send(c, data, sizeof(data));
    case 2: /* a simple reply, which a read must not have */
        return fake_co_simple(c, cookie, 0, data, bytes);
    case 3: /* more data than was asked for */
        memcpy(data, &at, 8);
        return lie_with(c, cookie, 1, 8 + 2 * bytes, data);
    case 4: /* data elsewhere */
        memcpy(data, &past, 8);
        return lie_with(c, cookie, 1, 8 + bytes, data);
    case 5: /* a chunk as long as can be */
        return lie_with(c, cookie, 1, UINT32_MAX, data);
    case 6: /* an empty chunk of data */
        return lie_with(c, cookie, 1, 8, data);
    case 7: /* too short for its type */
        return lie_with(c, cookie, 1, 3, data);
    case 8: /* an unknown type */
        return lie_with(c, cookie, 77, 4, data);
    case 9: /* the status of blocks, for a read */
        return lie_with(c, cookie, 5, 12, data);
    case 10: /* a hole elsewhere */
        memcpy(data, &past, 8);
        data[11] = 1;
        return lie_with(c, cookie, 2, 12, data);
    case 11: /* a hole of nothing */
        memcpy(data, &at, 8);
        return lie_with(c, cookie, 2, 12, data);
    case 12: /* an error without a number */
        return lie_with(c, cookie, 0x8001, 6, data);
    case 13: /* an error whose text is longer than its chunk */
        data[3] = 5;
        data[4] = 0xff;
        return lie_with(c, cookie, 0x8001, 6, data);
    default: /* random bytes */
        test_fill(data, sizeof(data), lie);
        return fake_co_send(c, data, 1 + lie % 200);
    }
}

/* The connection ends, or the request fails. In the end all is well. */
BLOCK_TEST(a_lie_costs_the_connection_or_the_request)
{
    for (lie = 0; lie < LIES + 100; lie++) {
        FakeNbd f;
        uint8_t buf[512];
        start(&f);
        f.co_lie = tell_lie;
        memset(buf, 0xaa, sizeof(buf));
        TestRequest r;
        BlockBackend *blk = fake_blk(&f, "reconnect-delay=10");
        r = (TestRequest){.blk = blk, .op = TEST_READ, .offset = 512, .bytes = 512, .buf = buf};
        test_start(&r);
        TEST_UNTIL(r.done.happened || f.accepted > 1 || lie >= LIES);
        if (!r.done.happened && f.accepted == 1) { /* libnbd waits for more */
            TEST_UNTIL(f.total > 0);
            if (f.conns[0] != NULL) {
                fake_end_conn(f.conns[0]);
            }
        }
        if (test_finish(&r) == 0) { /* a chunk without data is a success; the rest is zeroes */
            assert_true(bytes_are_zero(buf, 512) || memcmp(buf, f.data + 512, 512) == 0);
        }
        f.co_lie = NULL;
        assert_int_equal(test_io(blk, TEST_READ, 512, 512, buf, 0), 0);
        assert_memory_equal(buf, f.data + 512, 512);
        blk_co_free(blk);
        fake_stop(&f);
    }
    assert_true(lies_told >= LIES);
}

static coroutine_fn RUNS_IN_MAIN bool say_nothing(FakeConn *c, uint16_t type, uint64_t cookie,
                                                  uint64_t offset, uint32_t bytes)
{
    return type == FAKE_CMD_STATUS ? lie_with(c, cookie, 0, 0, NULL)
                                   : type == FAKE_CMD_READ && lie_with(c, cookie, 0, 0, NULL);
}

BLOCK_TEST(a_read_without_data_shows_no_memory_of_skiff)
{
    FakeNbd f;
    uint8_t buf[512], zero[512] = {0};
    start(&f);
    f.co_lie = say_nothing;
    BlockBackend *blk = fake_blk(&f, "");
    memset(buf, 0xaa, sizeof(buf));
    int ret = test_io(blk, TEST_READ, 0, 512, buf, 0);
    if (ret == 0) {
        assert_memory_equal(buf, zero, sizeof(zero));
    }
    blk_co_free(blk);
    fake_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_open_fails_wherever_the_server_hangs_up),
        cmocka_unit_test(an_open_ends_in_time_wherever_the_server_hangs),
        cmocka_unit_test(an_open_with_a_timeout_tries_again),
        cmocka_unit_test(a_request_completes_once_wherever_its_connection_ends),
        cmocka_unit_test(a_lie_costs_the_connection_or_the_request),
        cmocka_unit_test(a_read_without_data_shows_no_memory_of_skiff),
    };
    block_setup(block_drivers);
    return block_test_main(tests);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Tracked requests: which of them run together, in forced and in random orders. */
#include "tests/block/block_test.h"
#include "util/loop/sched_point.h"

#define TRACK_ALIGN 4096u
#define TRACK_NODE "fault,node-name=n,align=4096,file.driver=null-co,file.size=1G"

/* A request of a test: it is tracked from its begin until the test ends it. */
typedef struct Tracked {
    BlockNode *node;
    BlockTracked t;
    uint64_t offset, bytes;
    bool serialising;
    unsigned turns; /* until it ends by itself; 0: the test ends it */
    bool running, ended;
    struct Tracked *all; /* of the random test: @count requests in the order of their begins */
    unsigned count, index;
    unsigned *left;
    TestEvent *done;
} Tracked;

static bool tracked_meet(const Tracked *a, const Tracked *b)
{
    uint64_t a_start = block_align_down(a->offset, TRACK_ALIGN);
    uint64_t b_start = block_align_down(b->offset, TRACK_ALIGN);
    return a_start < block_align_up(b->offset + b->bytes, TRACK_ALIGN) &&
           b_start < block_align_up(a->offset + a->bytes, TRACK_ALIGN);
}

/* No older request that it has to wait for is left, and it runs beside none. */
static void tracked_check(const Tracked *r)
{
    for (unsigned i = 0; i < r->count; i++) {
        const Tracked *other = &r->all[i];
        bool conflict =
            other != r && (r->serialising || other->serialising) && tracked_meet(r, other);
        if (conflict && (other->running || (i < r->index && !other->ended))) {
            fail_msg("request %u runs beside request %u", r->index, i);
        }
    }
}

static void tracked_run(void *opaque)
{
    Tracked *r = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    block_track_co_begin(r->node, &r->t, r->offset, r->bytes, r->serialising);
    tracked_check(r);
    r->running = true;
    for (unsigned i = 0; i < r->turns; i++) {
        co_yield_turn();
    }
    if (r->turns > 0) {
        r->running = false;
        r->ended = true;
        block_track_end(r->node, &r->t);
        if (--*r->left == 0) {
            test_event_set(r->done);
        }
    }
}

static void tracked_end(void *opaque)
{
    Tracked *r = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    r->running = false;
    block_track_end(r->node, &r->t);
}

static coroutine_fn RUNS_IN_MAIN void tracked_start(Tracked *r, BlockNode *n, uint64_t offset,
                                                    uint64_t bytes, bool serialising)
{
    *r = (Tracked){.node = n, .offset = offset, .bytes = bytes, .serialising = serialising};
    co_start(test_home, tracked_run, r);
    test_settle();
}

static coroutine_fn RUNS_IN_MAIN void tracked_finish(Tracked *r)
{
    assert_true(r->running);
    test_in_home(tracked_end, r);
    test_settle();
}

BLOCK_TEST(requests_that_do_not_change_part_of_a_block_run_together)
{
    BlockNode *n = test_node_add(TRACK_NODE);
    Tracked a, b;
    tracked_start(&a, n, 0, TRACK_ALIGN, false);
    tracked_start(&b, n, 0, TRACK_ALIGN, false);
    assert_true(a.running && b.running);
    tracked_finish(&a);
    tracked_finish(&b);
    test_node_del("n");
}

BLOCK_TEST(a_serialising_request_waits_for_all_older_ones_and_newer_ones_wait_for_it)
{
    BlockNode *n = test_node_add(TRACK_NODE);
    Tracked a, b, c, d, other;
    tracked_start(&a, n, 0, TRACK_ALIGN, false);
    tracked_start(&b, n, TRACK_ALIGN, TRACK_ALIGN, false);
    tracked_start(&c, n, 100, TRACK_ALIGN, true); /* in both blocks */
    tracked_start(&d, n, TRACK_ALIGN, TRACK_ALIGN, false);
    tracked_start(&other, n, 2 * TRACK_ALIGN, 1, true);
    assert_true(other.running && !c.running && !d.running);
    tracked_finish(&b);
    assert_false(c.running);
    tracked_finish(&a);
    assert_true(c.running && !d.running);
    tracked_finish(&c);
    assert_true(d.running);
    tracked_finish(&d);
    tracked_finish(&other);
    test_node_del("n");
}

static void track_add_user(void *opaque)
{
    BlockNode *n = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    block_track_co_add_user(n, 65536);
}

static void track_remove_user(void *opaque)
{
    BlockNode *n = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    block_track_remove_user(n);
}

BLOCK_TEST(a_user_of_the_node_chooses_a_larger_unit)
{
    BlockNode *n = test_node_add(TRACK_NODE);
    Tracked a, b;
    test_in_home(track_add_user, n);
    tracked_start(&a, n, 0, TRACK_ALIGN, true);
    tracked_start(&b, n, 32768, TRACK_ALIGN, false);
    assert_false(b.running);
    tracked_finish(&a);
    tracked_finish(&b);
    test_in_home(track_remove_user, n);
    tracked_start(&a, n, 0, TRACK_ALIGN, true);
    tracked_start(&b, n, 32768, TRACK_ALIGN, false);
    tracked_finish(&b);
    tracked_finish(&a);
    test_node_del("n");
}

/* ---- random ones ---- */

typedef struct TrackLoad {
    BlockNode *node;
    Tracked *all;
    unsigned count, left;
    TestEvent done;
} TrackLoad;

static void load_start(void *opaque)
{
    TrackLoad *l = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    for (unsigned i = 0; i < l->count; i++) {
        co_start(test_home, tracked_run, &l->all[i]);
    }
}

/* Requests in @blocks blocks; one of @one_in is serialising. */
static coroutine_fn RUNS_IN_MAIN void load_run(GRand *rand, BlockNode *n, unsigned count,
                                               unsigned blocks, unsigned one_in)
{
    TrackLoad l = {.node = n, .all = g_new0(Tracked, count), .count = count, .left = count};
    for (unsigned i = 0; i < count; i++) {
        uint32_t end = blocks * TRACK_ALIGN;
        uint64_t offset = g_rand_int_range(rand, 0, (gint32)end);
        uint64_t most = g_rand_int_range(rand, 0, 8) == 0 ? end - offset : 3 * TRACK_ALIGN;
        l.all[i] = (Tracked){
            .node = n,
            .offset = offset,
            .bytes = (uint64_t)g_rand_int_range(rand, 1, (gint32)most + 1),
            .serialising = g_rand_int_range(rand, 0, (gint32)one_in) == 0,
            .turns = (unsigned)g_rand_int_range(rand, 1, 6),
            .all = l.all,
            .count = count,
            .index = i,
            .left = &l.left,
            .done = &l.done,
        };
    }
    test_in_home(load_start, &l);
    test_event_wait(&l.done);
    assert_null(n->track.root);
    assert_int_equal(n->track.serialisers, 0);
    g_free(l.all);
}

BLOCK_TEST(random_requests_run_beside_those_they_may_and_all_end)
{
    uint32_t seed = g_random_int();
    print_message("seed %u\n", seed);
    GRand *rand = g_rand_new_with_seed(seed);
    BlockNode *n = test_node_add(TRACK_NODE);
    for (unsigned round = 0; round < 60; round++) {
        unsigned count = (unsigned)g_rand_int_range(rand, 1, 250);
        load_run(rand, n, count, 1u << g_rand_int_range(rand, 0, 8),
                 1u << g_rand_int_range(rand, 0, 6));
    }
    test_node_del("n");
    g_rand_free(rand);
}

/* Each of those that wait for the same block is woken once, not once for each that is before it. */
BLOCK_TEST(requests_that_queue_for_a_block_are_woken_once_each)
{
    enum { COUNT = 512 };
    BlockNode *n = test_node_add(TRACK_NODE);
    TrackLoad l = {.node = n, .all = g_new0(Tracked, COUNT), .count = COUNT, .left = COUNT};
    for (unsigned i = 0; i < COUNT; i++) {
        l.all[i] = (Tracked){.node = n,
                             .bytes = 1,
                             .serialising = true,
                             .turns = 1,
                             .all = l.all,
                             .count = COUNT,
                             .index = i,
                             .left = &l.left,
                             .done = &l.done};
    }
    sched_point_reset();
    sched_point_count("block.track_wait");
    test_in_home(load_start, &l);
    test_event_wait(&l.done);
    assert_int_equal(sched_point_count("block.track_wait"), COUNT - 1);
    g_free(l.all);
    test_node_del("n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_that_do_not_change_part_of_a_block_run_together),
        cmocka_unit_test(a_serialising_request_waits_for_all_older_ones_and_newer_ones_wait_for_it),
        cmocka_unit_test(a_user_of_the_node_chooses_a_larger_unit),
        cmocka_unit_test(random_requests_run_beside_those_they_may_and_all_end),
        cmocka_unit_test(requests_that_queue_for_a_block_are_woken_once_each),
    };
    return block_test_main(tests);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk with more requests in its rings than may be in flight, or than there are stacks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include "tests/support/blk_guest.h"
#include "util/loop/co_stack.h"

#define QUEUES 32u
#define QUEUE_SIZE 1024u
#define STACKS_MAX 100000u

typedef struct Fixture {
    VirtioBench *bench;
    BlkDisk disk;
    Device *dev;
    VirtioGuest guest;
    VirtioGuestQueue queues[QUEUES];
    BlkRequest request; /* all requests share its memory */
    uint64_t table;     /* and one table of descriptors */
    unsigned offered, used[QUEUES];
    CoStack *rest; /* stacks that the test keeps */
    unsigned rest_count;
    bool stopped;
} Fixture;

static _Atomic bool no_memory;

static int fail_to_map(CoStackCall call)
{
    return call == CO_STACK_MAP && atomic_load(&no_memory) ? ENOMEM : 0;
}

static void bring_up(Fixture *f, const char *properties, unsigned queues, unsigned size)
{
    f->dev = virtio_bench_device(f->bench, "virtio-blk-pci", properties);
    virtio_bench_start(f->bench, f->dev);
    virtio_guest_init(&f->guest, f->bench, f->dev);
    assert_true(virtio_guest_negotiate(&f->guest, ~0ull));
    for (unsigned i = 0; i < queues; i++) {
        virtio_guest_queue(&f->guest, &f->queues[i], i, size, VIRTIO_NO_VECTOR);
    }
    virtio_guest_driver_ok(&f->guest);
    virtio_bench_settle(f->bench);
    blk_request_init(&f->request, &f->queues[0], 512);
    blk_request_header(&f->request, BLK_IN, 0);
    f->table = virtio_bench_alloc(f->bench, 4096);
}

static int set_up(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    f->bench = virtio_bench_new();
    blk_disk_open(&f->disk, f->bench, "size=1M,manual=on");
    co_stack_set_fault(fail_to_map);
    *state = f;
    return 0;
}

static void finish_at_home(void *opaque)
{
    Fixture *f = opaque;
    enter_iothread(f->bench->home);
    block_mem_set_manual(f->disk.node, false);
    while (block_mem_complete(f->disk.node, 0)) {
    }
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    virtio_bench_at_home(f->bench, finish_at_home, f);
    for (unsigned i = 0; i < f->rest_count; i++) {
        co_stack_free(&f->rest[i]);
    }
    g_free(f->rest);
    virtio_bench_unplug(f->bench, f->dev);
    blk_disk_close(&f->disk);
    virtio_bench_free(f->bench);
    co_stack_set_fault(NULL);
    g_free(f);
    return 0;
}

/* Sends @count reads on queue @index, and a kick. */
static void offer(Fixture *f, unsigned index, unsigned count)
{
    VringBuffer chain[3] = {
        {f->request.header, 16, false}, {f->request.data, 512, true}, {f->request.status, 1, true}};
    VringDriver *ring = &f->queues[index].ring;
    for (unsigned i = 0; i < count; i++) {
        uint16_t head = f->offered + i == 0 ? vring_driver_indirect(ring, f->table, chain, 3)
                                            : vring_driver_indirect_again(ring, f->table, 3);
        vring_driver_offer(ring, head);
    }
    f->offered += count;
    virtio_guest_kick(&f->queues[index]);
}

typedef struct Complete {
    Fixture *f;
    unsigned count;
} Complete;

static void complete_at_home(void *opaque)
{
    Complete *c = opaque;
    enter_iothread(c->f->bench->home);
    while (c->count && block_mem_complete(c->f->disk.node, 0)) {
        c->count--;
    }
}

/* Takes used entries from the rings; each head is taken once. */
static unsigned count_used(Fixture *f)
{
    unsigned all = 0;
    for (unsigned i = 0; i < QUEUES; i++) {
        uint32_t id, len;
        while (f->queues[i].guest != NULL &&
               vring_driver_take_used(&f->queues[i].ring, &id, &len)) {
            assert_int_equal(len, 513);
            f->used[i]++;
        }
        all += f->used[i];
    }
    return all;
}

/* Completes @count of the waiting requests; returns the number of all used entries. */
static unsigned complete(Fixture *f, unsigned count)
{
    Complete c = {.f = f, .count = count};
    aio_post(f->bench->home, complete_at_home, &c); /* a coroutine would need a stack */
    virtio_bench_settle(f->bench);
    assert_int_equal(c.count, 0);
    return count_used(f);
}

static unsigned in_flight(Fixture *f)
{
    virtio_bench_settle(f->bench);
    return block_mem_waiting(f->disk.node);
}

/* ---- the share of the loop ---- */

static void full_rings_over_storage_that_hangs_take_a_share(void **state)
{
    Fixture *f = *state;
    bring_up(f, "drive=disk,num-queues=32,queue-size=1024", QUEUES, QUEUE_SIZE);
    for (unsigned i = 0; i < QUEUES; i++) {
        offer(f, i, QUEUE_SIZE);
    }
    assert_int_equal(in_flight(f), CO_REQUESTS_MAX);
    assert_in_range(co_stack_count(), CO_REQUESTS_MAX, CO_REQUESTS_MAX + 256);

    /* All requests in flight complete: each waiting queue has had a turn. */
    unsigned used = complete(f, CO_REQUESTS_MAX);
    assert_int_equal(used, CO_REQUESTS_MAX);
    assert_int_equal(in_flight(f), CO_REQUESTS_MAX);
    while (used < f->offered) {
        used = complete(f, MIN(CO_REQUESTS_MAX, f->offered - used));
        assert_int_equal(in_flight(f), MIN(CO_REQUESTS_MAX, f->offered - used));
    }
    for (unsigned i = 0; i < QUEUES; i++) {
        assert_int_equal(f->used[i], QUEUE_SIZE);
    }
    /* Kicks are enabled again. */
    offer(f, 7, 1);
    assert_int_equal(in_flight(f), 1);
    complete(f, 1);
    assert_int_equal(f->used[7], QUEUE_SIZE + 1);
}

static void queues_that_wait_take_turns(void **state)
{
    Fixture *f = *state;
    bring_up(f, "drive=disk,num-queues=32,queue-size=1024", QUEUES, QUEUE_SIZE);
    for (unsigned i = 0; i < QUEUES; i++) {
        offer(f, i, QUEUE_SIZE);
        virtio_bench_settle(f->bench);
    }
    unsigned first = CO_REQUESTS_MAX / QUEUE_SIZE; /* their requests are all in flight */
    complete(f, CO_REQUESTS_MAX);
    for (unsigned i = 0; i < QUEUES; i++) {
        assert_int_equal(f->used[i], i < first ? QUEUE_SIZE : 0);
    }
    complete(f, CO_REQUESTS_MAX);
    unsigned turns = CO_REQUESTS_MAX / VIRTIO_QUEUE_BUDGET;
    for (unsigned i = first; i < MIN(first + turns, QUEUES); i++) {
        assert_in_range(f->used[i], VIRTIO_QUEUE_BUDGET, 2 * VIRTIO_QUEUE_BUDGET);
    }
}

static void stop_disk(void *opaque)
{
    Fixture *f = opaque;
    enter_main();
    enter_coroutine();
    f->dev->type->co_stop(f->dev);
    f->stopped = true;
}

static void a_stop_waits_only_for_requests_in_flight(void **state)
{
    Fixture *f = *state;
    bring_up(f, "drive=disk,num-queues=32,queue-size=1024", QUEUES, QUEUE_SIZE);
    for (unsigned i = 0; i < QUEUES; i++) {
        offer(f, i, QUEUE_SIZE);
    }
    assert_int_equal(in_flight(f), CO_REQUESTS_MAX);
    co_start(f->bench->main_ctx, stop_disk, f);
    virtio_bench_settle(f->bench);
    assert_int_equal(complete(f, CO_REQUESTS_MAX - 1), CO_REQUESTS_MAX - 1);
    assert_false(f->stopped);
    assert_int_equal(complete(f, 1), CO_REQUESTS_MAX);
    assert_true(f->stopped);
    assert_int_equal(in_flight(f), 0);
    virtio_bench_start(f->bench, f->dev);
    assert_int_equal(in_flight(f), CO_REQUESTS_MAX);
}

/* ---- no stack ---- */

/* From now on there are only the stacks that the threads keep. */
static void take_stacks_away(Fixture *f)
{
    f->rest = g_new0(CoStack, STACKS_MAX);
    atomic_store(&no_memory, true);
    while (f->rest_count < STACKS_MAX &&
           co_stack_alloc(&f->rest[f->rest_count], CO_STACK_FOR_ALL)) {
        f->rest_count++;
    }
}

static void without_stacks_requests_wait_in_the_ring(void **state)
{
    Fixture *f = *state;
    bring_up(f, "drive=disk", 1, 128);
    take_stacks_away(f);
    offer(f, 0, 100);
    unsigned few = in_flight(f);
    assert_in_range(few, 1, 50);
    /* With as many stacks as there are, all requests are executed one after the other. */
    for (unsigned used = 1; used <= f->offered; used++) {
        assert_int_equal(complete(f, 1), used);
        assert_int_equal(in_flight(f), MIN(few, f->offered - used));
    }
    atomic_store(&no_memory, false);
}

typedef struct Hold {
    AioContext *home;
    _Atomic unsigned held; /* coroutines that keep the home loop's stacks */
    bool release;          /* home */
    CoToken tokens[64];
    int64_t now_ns;
} Hold;

static void hold_stack(void *opaque)
{
    Hold *h = opaque;
    enter_coroutine();
    CoToken token = co_arm();
    h->tokens[atomic_fetch_add(&h->held, 1)] = token;
    co_wait(token);
}

static void set_time(void *opaque)
{
    Hold *h = opaque;
    aio_context_set_virtual_time(h->home, h->now_ns);
}

static void let_go(void *opaque)
{
    Hold *h = opaque;
    for (unsigned i = 0; i < atomic_load(&h->held); i++) {
        co_wake(h->tokens[i]);
    }
}

/* Without requests in flight no completion retries, so a timer does. */
static void without_any_stack_a_timer_tries_again(void **state)
{
    Fixture *f = *state;
    Hold h = {.home = f->bench->home};
    bring_up(f, "drive=disk", 1, 128);
    aio_post(h.home, set_time, &h);
    take_stacks_away(f);
    unsigned before;
    do {
        before = atomic_load(&h.held);
        co_start(h.home, hold_stack, &h);
        virtio_bench_settle(f->bench);
    } while (atomic_load(&h.held) > before);
    offer(f, 0, 1);
    assert_int_equal(in_flight(f), 0);
    atomic_store(&no_memory, false);
    assert_int_equal(in_flight(f), 0);
    h.now_ns = 1000000000;
    aio_post(h.home, set_time, &h);
    assert_int_equal(in_flight(f), 1);
    assert_int_equal(complete(f, 1), 1);
    aio_post(h.home, let_go, &h);
    virtio_bench_settle(f->bench);
}

#define depth_test(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        depth_test(full_rings_over_storage_that_hangs_take_a_share),
        depth_test(queues_that_wait_take_turns),
        depth_test(a_stop_waits_only_for_requests_in_flight),
        depth_test(without_stacks_requests_wait_in_the_ring),
        depth_test(without_any_stack_a_timer_tries_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

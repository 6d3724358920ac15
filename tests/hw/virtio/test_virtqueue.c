/* SPDX-License-Identifier: Apache-2.0 */
/* Virtqueues: correct drivers, and notification in both directions. */
#include "tests/hw/virtio/virtqueue_bench.h"

/* ---- correct drivers ---- */

static void a_chain_arrives_whole_and_comes_back(void **state)
{
    Bench *b = *state;
    VringBuffer chain[] = {
        {DATA_GPA, 16, false}, {DATA_GPA + 16, 32, false}, {DATA_GPA + 64, 8, true}};
    bench_start(b, false, false);
    uint16_t head = vring_driver_chain(&b->driver, chain, 3);
    vring_driver_offer(&b->driver, head);

    VirtQueueElement *e = virtqueue_pop(b->vq);
    assert_non_null(e);
    assert_int_equal(e->out_num, 2);
    assert_int_equal(e->in_num, 1);
    assert_int_equal(e->out_len, 48);
    assert_int_equal(e->in_len, 8);
    assert_ptr_equal(e->in[0].iov_base, b->ram.blocks[0].host + DATA_GPA + 64);
    virtqueue_push(b->vq, e, 8);

    uint32_t id, len;
    assert_false(vring_driver_take_used(&b->driver, &id, &len)); /* not before the flush */
    assert_true(virtqueue_flush(b->vq));
    assert_true(vring_driver_take_used(&b->driver, &id, &len));
    assert_int_equal(id, head);
    assert_int_equal(len, 8);
}

static void an_indirect_table_may_lie_at_any_address(void **state)
{
    Bench *b = *state;
    VringBuffer chain[] = {{DATA_GPA, 16, false}, {DATA_GPA + 64, 8, true}};
    bench_start(b, false, true);
    vring_driver_offer(&b->driver, vring_driver_indirect(&b->driver, TABLE_GPA + 3, chain, 2));
    VirtQueueElement *e = virtqueue_pop(b->vq);
    assert_non_null(e);
    assert_int_equal(e->out_len, 16);
    assert_int_equal(e->in_len, 8);
    virtqueue_push(b->vq, e, 0);
}

static void direct_descriptors_may_lead_to_an_indirect_table(void **state)
{
    Bench *b = *state;
    VringBuffer direct[] = {{DATA_GPA, 16, false}, {0, 0, false}};
    VringBuffer table[] = {{DATA_GPA + 64, 8, true}};
    bench_start(b, false, true);
    uint16_t head = vring_driver_chain(&b->driver, direct, 2);
    uint16_t second = b->driver.desc[head].next;
    uint16_t indirect = vring_driver_indirect(&b->driver, TABLE_GPA, table, 1);
    b->driver.desc[second] = b->driver.desc[indirect];
    b->driver.desc[second].flags |= VRING_DESC_F_WRITE; /* to be ignored, §2.7.5.3.2 */
    vring_driver_offer(&b->driver, head);
    VirtQueueElement *e = virtqueue_pop(b->vq);
    assert_non_null(e);
    assert_int_equal(e->out_len, 16);
    assert_int_equal(e->in_len, 8);
    virtqueue_push(b->vq, e, 0);
}

static void the_whole_queue_can_be_in_flight(void **state)
{
    Bench *b = *state;
    VirtQueueElement *e[QUEUE_SIZE];
    bench_start(b, false, false);
    for (unsigned i = 0; i < QUEUE_SIZE; i++) {
        offer_one(b);
    }
    for (unsigned i = 0; i < QUEUE_SIZE; i++) {
        e[i] = virtqueue_pop(b->vq);
        assert_non_null(e[i]);
    }
    assert_null(virtqueue_pop(b->vq));
    assert_null(virtqueue_broken(b->vq));
    assert_int_equal(virtqueue_in_flight(b->vq), QUEUE_SIZE);
    for (unsigned i = QUEUE_SIZE; i-- > 0;) {
        virtqueue_push(b->vq, e[i], 1);
    }
    assert_true(virtqueue_flush(b->vq));
    assert_false(virtqueue_flush(b->vq)); /* one interrupt for the batch */
}

static void an_unpopped_buffer_comes_again(void **state)
{
    Bench *b = *state;
    bench_start(b, false, false);
    uint16_t head = offer_one(b);
    VirtQueueElement *e = virtqueue_pop(b->vq);
    virtqueue_unpop(b->vq, e);
    assert_int_equal(virtqueue_in_flight(b->vq), 0);
    e = virtqueue_pop(b->vq);
    assert_int_equal(e->head, head);
    virtqueue_push(b->vq, e, 0);
}

static void parked_heads_come_first_after_the_next_start(void **state)
{
    Bench *b = *state;
    bench_start(b, false, false);
    offer_one(b);
    uint16_t parked = offer_one(b);
    VirtQueueElement *first = virtqueue_pop(b->vq), *second = virtqueue_pop(b->vq);
    virtqueue_park(b->vq, second);
    assert_int_equal(virtqueue_in_flight(b->vq), 1); /* a parked element is not in flight */
    assert_null(virtqueue_pop(b->vq));
    virtqueue_push(b->vq, first, 0);
    virtqueue_flush(b->vq);

    VirtQueuePosition position, after;
    VirtQueueSetup setup = vring_driver_setup(&b->driver, false, false);
    virtqueue_stop(b->vq, &position);
    assert_true(virtqueue_start(b->vq, &b->ram, &setup, &position));
    virtqueue_stop(b->vq, &after); /* stopped before it was popped again: still parked */
    assert_memory_equal(&position, &after, sizeof(after));
    assert_true(virtqueue_start(b->vq, &b->ram, &setup, &after));
    uint16_t fresh = offer_one(b);
    VirtQueueElement *e = virtqueue_pop(b->vq);
    assert_int_equal(e->head, parked);
    virtqueue_push(b->vq, e, 0);
    e = virtqueue_pop(b->vq);
    assert_int_equal(e->head, fresh);
    virtqueue_push(b->vq, e, 0);
}

static void a_retried_head_that_is_unpopped_comes_again(void **state)
{
    Bench *b = *state;
    VirtQueuePosition position, after;
    VirtQueueSetup setup = vring_driver_setup(&b->driver, false, false);
    bench_start(b, false, false);
    uint16_t parked = offer_one(b);
    virtqueue_park(b->vq, virtqueue_pop(b->vq));
    virtqueue_stop(b->vq, &position);
    assert_true(virtqueue_start(b->vq, &b->ram, &setup, &position));
    uint16_t fresh = offer_one(b);
    virtqueue_unpop(b->vq, virtqueue_pop(b->vq));
    VirtQueueElement *e = virtqueue_pop(b->vq);
    assert_int_equal(e->head, parked);
    virtqueue_unpop(b->vq, e);
    virtqueue_stop(b->vq, &after);
    assert_memory_equal(&position, &after, sizeof(after));
    assert_true(virtqueue_start(b->vq, &b->ram, &setup, &after));
    e = virtqueue_pop(b->vq);
    assert_int_equal(e->head, parked);
    virtqueue_push(b->vq, e, 0);
    e = virtqueue_pop(b->vq);
    assert_int_equal(e->head, fresh);
    virtqueue_push(b->vq, e, 0);
    assert_null(virtqueue_pop(b->vq));
}

/* ---- notification ---- */

static void event_idx_interrupts_once_per_wish_across_the_wrap(void **state)
{
    Bench *b = *state;
    bench_start(b, true, false);
    unsigned interrupts = 0;
    for (unsigned i = 0; i < 3u * 65536; i++) {
        offer_one(b);
        VirtQueueElement *e = virtqueue_pop(b->vq);
        assert_non_null(e);
        virtqueue_push(b->vq, e, 0);
        bool wants = i % 1000 == 999; /* an interrupt is requested for every 1000th entry */
        vring_driver_set_used_event(&b->driver, (uint16_t)(wants ? i : i + 1000));
        bool told = virtqueue_flush(b->vq);
        interrupts += told;
        if (i > 0) { /* the first flush after a start always notifies */
            assert_int_equal(told, wants);
        }
        uint32_t id, len;
        assert_true(vring_driver_take_used(&b->driver, &id, &len));
    }
    assert_int_equal(interrupts, 1 + 3u * 65536 / 1000);
}

static void event_idx_asks_for_a_kick_only_when_enabled(void **state)
{
    Bench *b = *state;
    bench_start(b, true, false);
    for (unsigned i = 0; i < 2u * 65536; i++) {
        uint16_t old = b->driver.avail_idx;
        virtqueue_set_notification(b->vq, true);
        assert_false(virtqueue_has_new(b->vq));
        offer_one(b);
        assert_true(vring_driver_wants_kick(&b->driver, old, true));
        assert_true(virtqueue_has_new(b->vq));
        virtqueue_set_notification(b->vq, false);
        VirtQueueElement *e = virtqueue_pop(b->vq);
        virtqueue_push(b->vq, e, 0);
        old = b->driver.avail_idx;
        offer_one(b);
        assert_false(vring_driver_wants_kick(&b->driver, old, true));
        e = virtqueue_pop(b->vq);
        virtqueue_push(b->vq, e, 0);
        virtqueue_flush(b->vq);
    }
}

static void flags_suppress_both_ways_without_event_idx(void **state)
{
    Bench *b = *state;
    bench_start(b, false, false);
    virtqueue_set_notification(b->vq, false);
    assert_false(vring_driver_wants_kick(&b->driver, 0, false));
    virtqueue_set_notification(b->vq, true);
    assert_true(vring_driver_wants_kick(&b->driver, 0, false));
    atomic_store(&b->driver.avail->flags, VRING_AVAIL_F_NO_INTERRUPT);
    offer_one(b);
    virtqueue_push(b->vq, virtqueue_pop(b->vq), 0);
    assert_false(virtqueue_flush(b->vq));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(a_chain_arrives_whole_and_comes_back),
        T(an_indirect_table_may_lie_at_any_address),
        T(direct_descriptors_may_lead_to_an_indirect_table),
        T(the_whole_queue_can_be_in_flight),
        T(an_unpopped_buffer_comes_again),
        T(parked_heads_come_first_after_the_next_start),
        T(a_retried_head_that_is_unpopped_comes_again),
        T(event_idx_interrupts_once_per_wish_across_the_wrap),
        T(event_idx_asks_for_a_kick_only_when_enabled),
        T(flags_suppress_both_ways_without_event_idx),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Virtqueues: hostile drivers. */
#include "tests/hw/virtio/virtqueue_bench.h"

static void assert_breaks(Bench *b, const char *why)
{
    assert_null(virtqueue_pop(b->vq));
    assert_non_null(virtqueue_broken(b->vq));
    if (!strstr(virtqueue_broken(b->vq), why)) {
        fail_msg("broken by '%s', not '%s'", virtqueue_broken(b->vq), why);
    }
    assert_null(virtqueue_pop(b->vq)); /* and remains broken */
    assert_int_equal(virtqueue_in_flight(b->vq), 0);
}

/* ---- hostile drivers ---- */

static void a_descriptor_loop_breaks_the_queue(void **state)
{
    Bench *b = *state;
    VringBuffer chain[] = {{DATA_GPA, 16, false}, {DATA_GPA, 16, false}};
    bench_start(b, false, false);
    uint16_t head = vring_driver_chain(&b->driver, chain, 2);
    VringDesc *second = &b->driver.desc[b->driver.desc[head].next];
    second->flags |= VRING_DESC_F_NEXT;
    second->next = head;
    vring_driver_offer(&b->driver, head);
    assert_breaks(b, "loop");
}

static void a_descriptor_that_follows_itself_breaks_the_queue(void **state)
{
    Bench *b = *state;
    VringBuffer chain[] = {{DATA_GPA, 16, false}};
    bench_start(b, false, true);
    uint16_t head = vring_driver_indirect(&b->driver, TABLE_GPA, chain, 1);
    VringDesc *table = guest_ram_map(&b->ram, TABLE_GPA, sizeof(VringDesc), true);
    table->flags |= VRING_DESC_F_NEXT; /* next is 0: itself */
    vring_driver_offer(&b->driver, head);
    assert_breaks(b, "loop");
}

static void indirect_in_indirect_breaks_the_queue(void **state)
{
    Bench *b = *state;
    VringBuffer chain[] = {{DATA_GPA, 16, false}};
    bench_start(b, false, true);
    uint16_t head = vring_driver_indirect(&b->driver, TABLE_GPA, chain, 1);
    VringDesc *table = guest_ram_map(&b->ram, TABLE_GPA, sizeof(VringDesc), true);
    table->flags = VRING_DESC_F_INDIRECT;
    vring_driver_offer(&b->driver, head);
    assert_breaks(b, "inside INDIRECT");
}

static void indirect_without_the_feature_breaks_the_queue(void **state)
{
    Bench *b = *state;
    VringBuffer chain[] = {{DATA_GPA, 16, false}};
    bench_start(b, false, false);
    vring_driver_offer(&b->driver, vring_driver_indirect(&b->driver, TABLE_GPA, chain, 1));
    assert_breaks(b, "not negotiated");
}

static void indirect_with_next_breaks_the_queue(void **state)
{
    Bench *b = *state;
    VringBuffer chain[] = {{DATA_GPA, 16, false}};
    bench_start(b, false, true);
    uint16_t head = vring_driver_indirect(&b->driver, TABLE_GPA, chain, 1);
    b->driver.desc[head].flags |= VRING_DESC_F_NEXT;
    vring_driver_offer(&b->driver, head);
    assert_breaks(b, "INDIRECT table of");
}

static void an_indirect_table_of_broken_length_breaks_the_queue(void **state)
{
    Bench *b = *state;
    static const uint32_t lengths[] = {0, 1, 17, 0x100001u * 16};
    VringBuffer chain[] = {{DATA_GPA, 16, false}};
    for (unsigned i = 0; i < G_N_ELEMENTS(lengths); i++) {
        vring_driver_init(&b->driver, &b->ram, RINGS_GPA, QUEUE_SIZE);
        bench_start(b, false, true);
        uint16_t head = vring_driver_indirect(&b->driver, TABLE_GPA, chain, 1);
        b->driver.desc[head].len = lengths[i];
        vring_driver_offer(&b->driver, head);
        assert_breaks(b, "INDIRECT table of");
        VirtQueuePosition position;
        virtqueue_stop(b->vq, &position);
    }
}

static void a_chain_longer_than_the_queue_breaks_it(void **state)
{
    Bench *b = *state;
    VringBuffer chain[QUEUE_SIZE + 1];
    for (unsigned i = 0; i <= QUEUE_SIZE; i++) {
        chain[i] = (VringBuffer){DATA_GPA, 16, false};
    }
    bench_start(b, false, true);
    vring_driver_offer(&b->driver,
                       vring_driver_indirect(&b->driver, TABLE_GPA, chain, QUEUE_SIZE + 1));
    assert_breaks(b, "chain longer than 8");
}

static void a_chain_of_more_than_4_gib_breaks_the_queue(void **state)
{
    Bench *b = *state;
    VringBuffer chain[] = {{0, UINT32_MAX, false}, {0, 1, false}};
    bench_start(b, false, false);
    b->ram.blocks[0].size = 1ull << 33; /* never accessed: only lengths are checked */
    b->ram.blocks[1].gpa = 1ull << 34;
    vring_driver_offer(&b->driver, vring_driver_chain(&b->driver, chain, 2));
    assert_breaks(b, "4 GiB");
}

static void memory_that_is_not_ram_breaks_the_queue(void **state)
{
    Bench *b = *state;
    static const VringBuffer outside[] = {
        {RAM_SIZE, 16, false},      /* no memory */
        {RAM_SIZE - 8, 16, false},  /* half of it exists */
        {0xfee00000, 4, true},      /* MMIO */
        {UINT64_MAX - 7, 16, true}, /* wraps */
        {ROM_GPA, 16, true},        /* ROM, for writing */
        {DATA_GPA, 0, true},        /* length 0 */
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(outside); i++) {
        vring_driver_init(&b->driver, &b->ram, RINGS_GPA, QUEUE_SIZE);
        bench_start(b, false, false);
        vring_driver_offer(&b->driver, vring_driver_chain(&b->driver, &outside[i], 1));
        assert_breaks(b, "is not RAM");
        VirtQueuePosition position;
        virtqueue_stop(b->vq, &position);
    }
}

static void an_indirect_table_outside_ram_breaks_the_queue(void **state)
{
    Bench *b = *state;
    VringBuffer chain[] = {{DATA_GPA, 16, false}};
    bench_start(b, false, true);
    uint16_t head = vring_driver_indirect(&b->driver, TABLE_GPA, chain, 1);
    b->driver.desc[head].addr = 0xfee00000;
    vring_driver_offer(&b->driver, head);
    assert_breaks(b, "is not RAM");
}

static void next_outside_the_table_breaks_the_queue(void **state)
{
    Bench *b = *state;
    VringBuffer chain[] = {{DATA_GPA, 16, false}, {DATA_GPA, 16, false}};
    bench_start(b, false, false);
    uint16_t head = vring_driver_chain(&b->driver, chain, 2);
    b->driver.desc[head].next = QUEUE_SIZE;
    vring_driver_offer(&b->driver, head);
    assert_breaks(b, "outside a table");
}

static void a_head_outside_the_queue_breaks_it(void **state)
{
    Bench *b = *state;
    bench_start(b, false, false);
    vring_driver_offer(&b->driver, QUEUE_SIZE);
    assert_breaks(b, "head 8 in a queue of 8");
}

static void readable_after_writable_breaks_the_queue(void **state)
{
    Bench *b = *state;
    VringBuffer chain[] = {{DATA_GPA, 16, true}, {DATA_GPA, 16, false}};
    bench_start(b, false, false);
    vring_driver_offer(&b->driver, vring_driver_chain(&b->driver, chain, 2));
    assert_breaks(b, "behind a writable one");
}

static void an_available_index_jump_breaks_the_queue(void **state)
{
    Bench *b = *state;
    static const uint16_t jumps[] = {QUEUE_SIZE + 1, 0x8000, 0xffff};
    for (unsigned i = 0; i < G_N_ELEMENTS(jumps); i++) {
        vring_driver_init(&b->driver, &b->ram, RINGS_GPA, QUEUE_SIZE);
        bench_start(b, false, false);
        atomic_store(&b->driver.avail->idx, jumps[i]);
        assert_breaks(b, "jumped");
        assert_false(virtqueue_has_new(b->vq)); /* no busy loop */
        VirtQueuePosition position;
        virtqueue_stop(b->vq, &position);
    }
}

static void the_same_head_twice_in_flight_breaks_the_queue(void **state)
{
    Bench *b = *state;
    bench_start(b, false, false);
    uint16_t head = offer_one(b);
    VirtQueueElement *e = virtqueue_pop(b->vq);
    assert_non_null(e);
    vring_driver_offer(&b->driver, head);
    assert_null(virtqueue_pop(b->vq));
    assert_non_null(strstr(virtqueue_broken(b->vq), "still in flight"));
    virtqueue_push(b->vq, e, 0); /* requests in flight may still end */
    virtqueue_flush(b->vq);
}

static void a_parked_head_offered_again_breaks_the_queue(void **state)
{
    Bench *b = *state;
    bench_start(b, false, false);
    uint16_t head = offer_one(b);
    virtqueue_park(b->vq, virtqueue_pop(b->vq));
    vring_driver_offer(&b->driver, head);
    assert_breaks(b, "still in flight");
}

static void invalid_rings_are_refused_at_the_start(void **state)
{
    Bench *b = *state;
    VirtQueueSetup good = vring_driver_setup(&b->driver, false, false);
    VirtQueueSetup bad[9];
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        bad[i] = good;
    }
    bad[0].size = 0;
    bad[1].size = QUEUE_SIZE - 1;
    bad[2].size = QUEUE_SIZE * 2;
    bad[3].desc_gpa += 8;
    bad[4].avail_gpa += 1;
    bad[5].used_gpa += 2;
    bad[6].desc_gpa = RAM_SIZE - 16;
    bad[7].avail_gpa = 0xfee00000;
    bad[8].used_gpa = ROM_GPA;
    VirtQueuePosition position = {0};
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        assert_false(virtqueue_start(b->vq, &b->ram, &bad[i], &position));
        assert_non_null(virtqueue_broken(b->vq));
        assert_null(virtqueue_pop(b->vq));
        virtqueue_set_notification(b->vq, true);
        assert_false(virtqueue_has_new(b->vq));
        assert_false(virtqueue_flush(b->vq));
        virtqueue_stop(b->vq, &position);
        assert_int_equal(position.last_avail, 0);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(a_descriptor_loop_breaks_the_queue),
        T(a_descriptor_that_follows_itself_breaks_the_queue),
        T(indirect_in_indirect_breaks_the_queue),
        T(indirect_without_the_feature_breaks_the_queue),
        T(indirect_with_next_breaks_the_queue),
        T(an_indirect_table_of_broken_length_breaks_the_queue),
        T(a_chain_longer_than_the_queue_breaks_it),
        T(a_chain_of_more_than_4_gib_breaks_the_queue),
        T(memory_that_is_not_ram_breaks_the_queue),
        T(an_indirect_table_outside_ram_breaks_the_queue),
        T(next_outside_the_table_breaks_the_queue),
        T(a_head_outside_the_queue_breaks_it),
        T(readable_after_writable_breaks_the_queue),
        T(an_available_index_jump_breaks_the_queue),
        T(the_same_head_twice_in_flight_breaks_the_queue),
        T(a_parked_head_offered_again_breaks_the_queue),
        T(invalid_rings_are_refused_at_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

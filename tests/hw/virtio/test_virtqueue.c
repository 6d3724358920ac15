/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <glib.h>
#include <string.h>
#include "tests/support/vring_driver.h"

#define RAM_SIZE (1u << 20)
#define ROM_GPA 0x800000u
#define RINGS_GPA 0x10000u
#define TABLE_GPA 0x20000u
#define DATA_GPA 0x40000u
#define QUEUE_SIZE 8

typedef struct Bench {
    GuestRam ram;
    VirtQueue *vq;
    VringDriver driver;
} Bench;

static void bench_start(Bench *b, bool event_idx, bool indirect)
{
    VirtQueueSetup setup = vring_driver_setup(&b->driver, event_idx, indirect);
    VirtQueuePosition position = {0};
    assert_true(virtqueue_start(b->vq, &b->ram, &setup, &position));
}

static int set_up(void **state)
{
    Bench *b = g_new0(Bench, 1);
    RamBlock ram = {.size = RAM_SIZE, .host = g_malloc0(RAM_SIZE), .fd = -1, .name = "ram"};
    RamBlock rom = {.gpa = ROM_GPA,
                    .size = 0x1000,
                    .host = g_malloc0(0x1000),
                    .read_only = true,
                    .fd = -1,
                    .name = "rom"};
    guest_ram_add(&b->ram, &ram);
    guest_ram_add(&b->ram, &rom);
    b->vq = virtqueue_new(QUEUE_SIZE, sizeof(VirtQueueElement));
    vring_driver_init(&b->driver, &b->ram, RINGS_GPA, QUEUE_SIZE);
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    Bench *b = *state;
    VirtQueuePosition position;
    if (virtqueue_started(b->vq)) {
        virtqueue_stop(b->vq, &position);
    }
    virtqueue_free(b->vq);
    g_free(b->ram.blocks[0].host);
    g_free(b->ram.blocks[1].host);
    g_free(b);
    return 0;
}

/* Offers one buffer; the test does not care which. */
static uint16_t offer_one(Bench *b)
{
    VringBuffer buffer = {.gpa = DATA_GPA, .len = 16, .write = true};
    uint16_t head = vring_driver_chain(&b->driver, &buffer, 1);
    vring_driver_offer(&b->driver, head);
    return head;
}

static void assert_breaks(Bench *b, const char *why)
{
    assert_null(virtqueue_pop(b->vq));
    assert_non_null(virtqueue_broken(b->vq));
    if (!strstr(virtqueue_broken(b->vq), why)) {
        fail_msg("broken by '%s', not '%s'", virtqueue_broken(b->vq), why);
    }
    assert_null(virtqueue_pop(b->vq)); /* and stays so */
    assert_int_equal(virtqueue_in_flight(b->vq), 0);
}

/* ---- what works ---- */

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
    assert_int_equal(virtqueue_in_flight(b->vq), 1); /* what is parked is not in flight */
    assert_null(virtqueue_pop(b->vq));
    virtqueue_push(b->vq, first, 0);
    virtqueue_flush(b->vq);

    VirtQueuePosition position, after;
    VirtQueueSetup setup = vring_driver_setup(&b->driver, false, false);
    virtqueue_stop(b->vq, &position);
    assert_true(virtqueue_start(b->vq, &b->ram, &setup, &position));
    virtqueue_stop(b->vq, &after); /* stopped again before it was popped: still there */
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
        bool wants = i % 1000 == 999; /* the driver asks for entry i, every 1000th */
        vring_driver_set_used_event(&b->driver, (uint16_t)(wants ? i : i + 1000));
        bool told = virtqueue_flush(b->vq);
        interrupts += told;
        if (i > 0) { /* the first after a start is told always */
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
    b->ram.blocks[0].size = 1ull << 33; /* never touched: only lengths are looked at */
    b->ram.blocks[1].gpa = 1ull << 34;
    vring_driver_offer(&b->driver, vring_driver_chain(&b->driver, chain, 2));
    assert_breaks(b, "4 GiB");
}

static void memory_that_is_not_ram_breaks_the_queue(void **state)
{
    Bench *b = *state;
    static const VringBuffer outside[] = {
        {RAM_SIZE, 16, false},      /* nothing there */
        {RAM_SIZE - 8, 16, false},  /* half of it */
        {0xfee00000, 4, true},      /* MMIO */
        {UINT64_MAX - 7, 16, true}, /* wraps */
        {ROM_GPA, 16, true},        /* ROM, for writing */
        {DATA_GPA, 0, true},        /* nothing at all */
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
        assert_false(virtqueue_has_new(b->vq)); /* nothing to spin on */
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
    virtqueue_push(b->vq, e, 0); /* what is in flight may still end */
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

static void rings_that_cannot_be_are_refused_at_the_start(void **state)
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
        T(a_chain_arrives_whole_and_comes_back),
        T(an_indirect_table_may_lie_at_any_address),
        T(direct_descriptors_may_lead_to_an_indirect_table),
        T(the_whole_queue_can_be_in_flight),
        T(an_unpopped_buffer_comes_again),
        T(parked_heads_come_first_after_the_next_start),
        T(event_idx_interrupts_once_per_wish_across_the_wrap),
        T(event_idx_asks_for_a_kick_only_when_enabled),
        T(flags_suppress_both_ways_without_event_idx),
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
        T(rings_that_cannot_be_are_refused_at_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

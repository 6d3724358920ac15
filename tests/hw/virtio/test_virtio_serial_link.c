/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-serial between the home loop and main: chunks, page faults, settling, ports that leave. */
#include <semaphore.h>
#include "tests/hw/virtio/virtio_serial_rig.h"

/* Simulates a page fault in guest RAM: the home loop blocks until it is released. */
typedef struct Fault {
    AioBh bh;
    sem_t entered, end;
} Fault;

static void fault_run(void *opaque)
{
    Fault *fault = opaque;
    sem_post(&fault->entered);
    sem_wait(&fault->end);
}

static void fault_begin(Fault *fault, AioContext *home)
{
    sem_init(&fault->entered, 0, 0);
    sem_init(&fault->end, 0, 0);
    aio_bh_init(&fault->bh, home, fault_run, fault);
    aio_bh_schedule(&fault->bh);
    sem_wait(&fault->entered);
}

static void main_turns(Fixture *f)
{
    while (aio_context_step(f->bench->main_ctx, false)) {
    }
}

static void a_page_fault_of_the_guest_does_not_stall_main(void **state)
{
    Fixture *f = *state;
    Fault fault;
    uint32_t id, len;
    VringBuffer b = {f->data, 16, true};
    bring_up(f);
    virtio_guest_add(&f->queues[PORT1_RX], &b, 1);
    virtio_bench_settle(f->bench);
    fault_begin(&fault, f->bench->home);
    assert_int_equal(fake_chardev_input(f->port_chr, "hello world", 11), 11);
    assert_int_equal(fake_chardev_input(f->port_chr, "more", 4), 0); /* bounded */
    fake_chardev_event(f->port_chr, CHARDEV_CLOSED);
    fake_chardev_event(f->port_chr, CHARDEV_OPENED);
    main_turns(f); /* returns */
    assert_false(vring_driver_take_used(&f->queues[PORT1_RX].ring, &id, &len));
    sem_post(&fault.end);
    assert_true(virtio_guest_used(&f->queues[PORT1_RX], &id, &len));
    assert_int_equal(len, 11);
    assert_memory_equal(virtio_bench_ram(f->bench, f->data, 11), "hello world", 11);
}

/* The chardev has delivered input when the stop begins: it is in the guest's buffer after it. */
static void input_on_its_way_survives_a_stop(void **state)
{
    Fixture *f = *state;
    Fault fault;
    uint32_t id, len;
    VringBuffer b = {f->data, 16, true};
    bring_up(f);
    virtio_guest_add(&f->queues[PORT1_RX], &b, 1);
    virtio_bench_settle(f->bench);
    fault_begin(&fault, f->bench->home);
    assert_int_equal(fake_chardev_input(f->port_chr, "hello", 5), 5);
    sem_post(&fault.end);
    virtio_bench_stop(f->bench, f->dev);
    assert_int_equal(fake_chardev_input(f->port_chr, "x", 1), 0);
    assert_memory_equal(virtio_bench_ram(f->bench, f->data, 5), "hello", 5);
    virtio_bench_start(f->bench, f->dev);
    assert_true(virtio_guest_used(&f->queues[PORT1_RX], &id, &len));
    assert_int_equal(len, 5);
}

/* Main has the chunk and the chardev takes nothing: the queues are returned nevertheless. */
static void a_stuck_chardev_holds_up_no_stop_reset_or_unplug(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    bring_up(f);
    f->port_chr->room = 0;
    f->console_chr->room = 0;
    send(f, PORT1_TX, "0123456789");
    send(f, 1, "abc");
    virtio_bench_stop(f->bench, f->dev);
    virtio_bench_start(f->bench, f->dev);
    virtio_bench_settle(f->bench);
    virtio_bench_unplug(f->bench, f->port);
    f->port = NULL;
    assert_true(virtio_guest_used(&f->queues[PORT1_TX], &id, &len)); /* dropped with its port */
    assert_false(virtio_guest_used(&f->queues[1], &id, &len));
    virtio_guest_reset(&f->guest);
    fake_chardev_make_room(f->console_chr, 100);
    virtio_bench_settle(f->bench);
    assert_string_equal(f->console_chr->output->str, ""); /* a reset drops unsent output */
    assert_string_equal(f->port_chr->output->str, "");
}

/* Many chunks, a chardev that takes a few bytes at a time, and stops: every byte arrives once. */
static void output_in_many_chunks_loses_nothing_over_stops(void **state)
{
    enum { BYTES = 3 * VIRTIO_SERIAL_CHUNK_BYTES + 777 };
    Fixture *f = *state;
    uint32_t id, len;
    bring_up(f);
    uint64_t gpa = virtio_bench_alloc(f->bench, BYTES);
    uint8_t *bytes = virtio_bench_ram(f->bench, gpa, BYTES);
    for (unsigned i = 0; i < BYTES; i++) {
        bytes[i] = (uint8_t)(i * 7 + (i >> 8));
    }
    f->port_chr->room = 100;
    VringBuffer b[] = {{gpa, 5000, false}, {gpa + 5000, BYTES - 5000, false}};
    virtio_guest_add(&f->queues[PORT1_TX], b, 2);
    for (unsigned i = 0; f->port_chr->output->len < BYTES; i++) {
        assert_true(i < 1000);
        virtio_bench_settle(f->bench);
        if (i % 3 == 0) {
            virtio_bench_stop(f->bench, f->dev);
            virtio_bench_start(f->bench, f->dev);
        }
        fake_chardev_make_room(f->port_chr, 4000 + i);
    }
    assert_int_equal(f->port_chr->output->len, BYTES);
    assert_memory_equal(f->port_chr->output->str, bytes, BYTES);
    assert_true(virtio_guest_used(&f->queues[PORT1_TX], &id, &len));
    assert_false(virtio_guest_used(&f->queues[PORT1_TX], &id, &len));
}

static void settle_port(void *opaque)
{
    virtio_serial_port_co_settle(opaque);
}

/* A guest that sends and ends: its doorbell has not been served. */
static void settling_moves_the_ring_to_the_chardev(void **state)
{
    Fixture *f = *state;
    VirtioGuestQueue *tx = &f->queues[PORT1_TX];
    bring_up(f);
    memcpy(virtio_bench_ram(f->bench, f->data, 6), "abcdef", 6);
    for (unsigned i = 0; i < 3; i++) {
        VringBuffer b = {f->data + 2 * i, 2, false};
        vring_driver_offer(&tx->ring, vring_driver_chain(&tx->ring, &b, 1)); /* no kick */
    }
    virtio_bench_run(f->bench, settle_port, f->port);
    assert_string_equal(f->port_chr->output->str, "abcdef");
    f->port_chr->room = 1;
    VringBuffer b = {f->data, 6, false};
    vring_driver_offer(&tx->ring, vring_driver_chain(&tx->ring, &b, 1));
    virtio_bench_run(f->bench, settle_port, f->port); /* returns: the chardev is full */
    assert_string_equal(f->port_chr->output->str, "abcdefa");
    virtio_bench_stop(f->bench, f->dev);
    virtio_bench_run(f->bench, settle_port, f->port); /* the queues are stopped */
}

/* Closed and opened again before main handles the first: both are reported. */
static void a_port_closed_and_opened_at_once_is_reported_twice(void **state)
{
    Fixture *f = *state;
    Control m[2] = {{1, OPEN, 0}, {1, OPEN, 1}};
    VringBuffer b[2];
    port_changes = g_string_new(NULL);
    bring_up(f);
    f->bench->machine->env.serial_port_changed = note_port_change;
    memcpy(virtio_bench_ram(f->bench, f->data, sizeof(m)), m, sizeof(m));
    for (unsigned i = 0; i < 2; i++) {
        b[i] = (VringBuffer){f->data + i * sizeof(m[0]), sizeof(m[0]), false};
        virtio_guest_add(&f->queues[CONTROL_TX], &b[i], 1);
    }
    virtio_bench_settle(f->bench);
    assert_string_equal(port_changes->str, "virtserialport:0 virtserialport:1 ");
    f->bench->machine->env.serial_port_changed = NULL;
    g_string_free(port_changes, TRUE);
}

/* ---- ports that leave ---- */

/* A buffer of @bytes, all of them different from their neighbours; returns them. */
static const uint8_t *send_big(Fixture *f, unsigned bytes)
{
    uint64_t gpa = virtio_bench_alloc(f->bench, bytes);
    uint8_t *data = virtio_bench_ram(f->bench, gpa, bytes);
    for (unsigned i = 0; i < bytes; i++) {
        data[i] = (uint8_t)(i * 7 + (i >> 8));
    }
    VringBuffer b = {gpa, bytes, false};
    virtio_guest_add(&f->queues[PORT1_TX], &b, 1);
    virtio_bench_settle(f->bench);
    return data;
}

static void home_turn(void *opaque)
{
    sem_post(opaque);
}

/* Returns when the home loop has done its pending work; main does none. */
static void home_turns(Fixture *f)
{
    sem_t turned;
    sem_init(&turned, 0, 0);
    for (unsigned i = 0; i < 3; i++) {
        aio_post(f->bench->home, home_turn, &turned);
        sem_wait(&turned);
    }
    sem_destroy(&turned);
}

typedef struct Leaving {
    Device *port;
    bool done;
} Leaving;

static void leave(void *opaque)
{
    Leaving *l = opaque;
    enter_main();
    enter_coroutine();
    device_unrealize(l->port);
    device_free(l->port);
    l->done = true;
}

/* Unplugs port 1. The loops run in turn: one's messages have arrived when the other's turn begins.
 * Home waits in a coroutine meanwhile, so that its next turn begins with the bottom halves. */
static void leave_in_turns(Fixture *f)
{
    Leaving l = {.port = f->port};
    co_start(f->bench->main_ctx, leave, &l);
    while (!l.done) {
        Fault fault;
        sem_init(&fault.entered, 0, 0);
        sem_init(&fault.end, 0, 0);
        co_start(f->bench->home, fault_run, &fault);
        sem_wait(&fault.entered);
        virtio_bench_step(f->bench);
        sem_post(&fault.end);
        home_turns(f);
    }
    f->port = NULL;
    virtio_bench_settle(f->bench);
}

/* The chardev has room again when the port leaves: what the port holds is dropped, and no message
 * about it is under way when the port is gone. */
static void a_port_that_leaves_sends_no_more_chunks(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    bring_up(f);
    f->port_chr->room = 0;
    send_big(f, 3 * VIRTIO_SERIAL_CHUNK_BYTES);
    f->port_chr->room = SIZE_MAX;
    leave_in_turns(f);
    assert_int_equal(f->port_chr->output->len, 0);
    assert_true(virtio_guest_used(&f->queues[PORT1_TX], &id, &len));
}

/* Another port takes the number of one that has gone while the VM was stopped. */
static void a_port_that_is_replaced_while_stopped_is_removed_and_added(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    virtio_bench_stop(f->bench, f->dev);
    virtio_bench_unplug(f->bench, f->port);
    f->port = add_port(f, "virtserialport", "nr=1,name=other");
    virtio_bench_start(f->bench, f->dev);
    assert_told(f, 1, REMOVE, 1, "");
    assert_told(f, 1, ADD, 1, "");
    tell(f, 1, PORT_READY, 1);
    assert_told(f, 1, NAME, 1, "other");
}

/* The driver gets the removal of the earlier port while the new one is transmitting. */
static void a_late_removal_does_not_disturb_the_next_port(void **state)
{
    Fixture *f = *state;
    enum { BYTES = 3 * VIRTIO_SERIAL_CHUNK_BYTES };
    bring_up(f);
    virtio_bench_unplug(f->bench, f->port);
    f->port = add_port(f, "virtserialport", "nr=1,chardev=agent,name=other");
    f->port_chr->room = VIRTIO_SERIAL_CHUNK_BYTES;
    const uint8_t *bytes = send_big(f, BYTES);
    assert_int_equal(f->port_chr->output->len, VIRTIO_SERIAL_CHUNK_BYTES);
    assert_told(f, 1, REMOVE, 1, "");
    fake_chardev_make_room(f->port_chr, 2 * BYTES);
    virtio_bench_settle(f->bench);
    assert_int_equal(f->port_chr->output->len, BYTES);
    assert_memory_equal(f->port_chr->output->str, bytes, BYTES);
}

/* -exec settles a port that device_del takes away meanwhile. */
static void a_port_may_leave_while_it_is_settled(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    f->port_chr->room = 0;
    send_big(f, 8 * VIRTIO_SERIAL_CHUNK_BYTES);
    f->port_chr->room = SIZE_MAX;
    co_start(f->bench->main_ctx, settle_port, f->port);
    leave_in_turns(f);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        T(a_page_fault_of_the_guest_does_not_stall_main),
        T(input_on_its_way_survives_a_stop),
        T(a_stuck_chardev_holds_up_no_stop_reset_or_unplug),
        T(output_in_many_chunks_loses_nothing_over_stops),
        T(settling_moves_the_ring_to_the_chardev),
        T(a_port_closed_and_opened_at_once_is_reported_twice),
        T(a_port_that_leaves_sends_no_more_chunks),
        T(a_port_that_is_replaced_while_stopped_is_removed_and_added),
        T(a_late_removal_does_not_disturb_the_next_port),
        T(a_port_may_leave_while_it_is_settled),
    };
    return cmocka_run_group_tests_name("hw/virtio/virtio_serial_link", tests, NULL, NULL);
}

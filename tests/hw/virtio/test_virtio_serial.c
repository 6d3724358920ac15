/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <semaphore.h>
#include <string.h>
#include "hw/virtio/virtio_serial.h"
#include "tests/support/fake_chardev.h"
#include "tests/support/virtio_guest.h"

#define CONTROL_RX 2
#define CONTROL_TX 3
#define PORT1_RX 4
#define PORT1_TX 5

/* Control events, §5.3.6.2. */
enum { READY = 0, ADD = 1, REMOVE = 2, PORT_READY = 3, CONSOLE = 4, OPEN = 6, NAME = 7 };

typedef struct Control {
    uint32_t id;
    uint16_t event, value;
} Control;

typedef struct Fixture {
    VirtioBench *bench;
    Device *dev, *console, *port;
    FakeChardev *console_chr, *port_chr;
    VirtioGuest guest;
    VirtioGuestQueue queues[6];
    uint64_t data;
} Fixture;

static Device *add_port(Fixture *f, const char *type, const char *properties)
{
    Device *dev;
    g_autofree char *text = virtio_bench_try_device(f->bench, type, properties, f->dev, &dev);
    if (text) {
        fail_msg("%s", text);
    }
    return dev;
}

static int set_up(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    f->bench = virtio_bench_new();
    f->bench->machine->env.find_chardev = fake_chardev_find;
    f->dev = virtio_bench_device(f->bench, "virtio-serial-pci", "max_ports=3");
    f->console_chr = fake_chardev_new("con");
    f->port_chr = fake_chardev_new("agent");
    f->console = add_port(f, "virtconsole", "chardev=con");
    f->port = add_port(f, "virtserialport", "chardev=agent,name=org.skiff.agent");
    virtio_bench_start(f->bench, f->dev);
    virtio_guest_init(&f->guest, f->bench, f->dev);
    f->data = virtio_bench_alloc(f->bench, 0x10000);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    if (f->port) {
        virtio_bench_unplug(f->bench, f->port);
    }
    virtio_bench_unplug(f->bench, f->console);
    virtio_bench_unplug(f->bench, f->dev);
    fake_chardev_free(f->console_chr);
    fake_chardev_free(f->port_chr);
    virtio_bench_free(f->bench);
    g_free(f);
    return 0;
}

static void bring_up_without_control(Fixture *f, uint64_t features)
{
    assert_true(virtio_guest_negotiate(&f->guest, features));
    for (unsigned i = 0; i < 6; i++) {
        virtio_guest_queue(&f->guest, &f->queues[i], i, 0, VIRTIO_NO_VECTOR);
    }
    virtio_guest_driver_ok(&f->guest);
    virtio_bench_settle(f->bench);
}

/* Adds a buffer for one control message. */
static void give_control_buffer(Fixture *f)
{
    VringBuffer b = {f->data + 0x8000, 64, true};
    virtio_guest_add(&f->queues[CONTROL_RX], &b, 1);
}

static void tell(Fixture *f, uint32_t id, uint16_t event, uint16_t value)
{
    Control m = {id, event, value};
    uint32_t used, len;
    memcpy(virtio_bench_ram(f->bench, f->data + 0x9000, sizeof(m)), &m, sizeof(m));
    VringBuffer b = {f->data + 0x9000, sizeof(m), false};
    virtio_guest_add(&f->queues[CONTROL_TX], &b, 1);
    assert_true(virtio_guest_used(&f->queues[CONTROL_TX], &used, &len));
}

static void assert_told(Fixture *f, uint32_t id, uint16_t event, uint16_t value, const char *tail)
{
    uint32_t used, len;
    give_control_buffer(f);
    assert_true(virtio_guest_used(&f->queues[CONTROL_RX], &used, &len));
    const uint8_t *buf = virtio_bench_ram(f->bench, f->data + 0x8000, 64);
    Control m;
    memcpy(&m, buf, sizeof(m));
    assert_int_equal(m.id, id);
    assert_int_equal(m.event, event);
    assert_int_equal(m.value, value);
    assert_int_equal(len, sizeof(m) + strlen(tail));
    assert_memory_equal(buf + sizeof(m), tail, strlen(tail));
}

static void assert_told_nothing(Fixture *f)
{
    uint32_t used, len;
    assert_false(virtio_guest_used(&f->queues[CONTROL_RX], &used, &len));
}

static void bring_up(Fixture *f)
{
    bring_up_without_control(f, ~0ull);
    tell(f, 0, READY, 1);
    assert_told(f, 0, ADD, 1, "");
    assert_told(f, 1, ADD, 1, "");
    tell(f, 0, PORT_READY, 1);
    assert_told(f, 0, CONSOLE, 1, "");
    assert_told(f, 0, OPEN, 1, "");
    tell(f, 1, PORT_READY, 1);
    assert_told(f, 1, NAME, 1, "org.skiff.agent");
    assert_told(f, 1, OPEN, 1, "");
    tell(f, 0, OPEN, 1);
    tell(f, 1, OPEN, 1);
}

static void send(Fixture *f, unsigned queue, const char *text)
{
    memcpy(virtio_bench_ram(f->bench, f->data, strlen(text)), text, strlen(text));
    VringBuffer b = {f->data, (uint32_t)strlen(text), false};
    virtio_guest_add(&f->queues[queue], &b, 1);
    virtio_bench_settle(f->bench);
}

/* ---- control ---- */

static void ports_are_announced_in_order(void **state)
{
    bring_up(*state);
}

static void messages_wait_for_buffers(void **state)
{
    Fixture *f = *state;
    bring_up_without_control(f, ~0ull);
    tell(f, 0, READY, 1);
    assert_told_nothing(f);
    assert_told(f, 0, ADD, 1, "");
    assert_told(f, 1, ADD, 1, "");
}

static void nonsense_on_the_control_queue_is_only_logged(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    tell(f, 2, PORT_READY, 1); /* no port there */
    tell(f, 77, OPEN, 1);
    tell(f, 0xffffffff, OPEN, 1);
    tell(f, 0, 99, 99);
    assert_int_equal(virtio_guest_status(&f->guest), 15);
}

static void a_short_control_message_needs_a_reset(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    VringBuffer b = {f->data, 7, false};
    virtio_guest_add(&f->queues[CONTROL_TX], &b, 1);
    virtio_bench_settle(f->bench);
    assert_true(virtio_guest_status(&f->guest) & VIRTIO_STATUS_NEEDS_RESET);
}

static void ports_come_and_go_while_the_guest_runs(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    Device *third = add_port(f, "virtserialport", "name=late");
    assert_told(f, 2, ADD, 1, "");
    tell(f, 2, PORT_READY, 1);
    assert_told(f, 2, NAME, 1, "late");
    virtio_bench_unplug(f->bench, third);
    third = add_port(f, "virtserialport", "name=back"); /* before the guest got the removal */
    assert_told(f, 2, REMOVE, 1, "");
    assert_told(f, 2, ADD, 1, "");
    virtio_bench_unplug(f->bench, third);
    assert_told(f, 2, REMOVE, 1, "");
    assert_told_nothing(f);
}

static void open_and_close_of_the_host_are_sent_to_the_driver(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    fake_chardev_event(f->port_chr, CHARDEV_CLOSED);
    assert_told(f, 1, OPEN, 0, "");
    fake_chardev_event(f->port_chr, CHARDEV_OPENED);
    assert_told(f, 1, OPEN, 1, "");
    fake_chardev_event(f->port_chr, CHARDEV_CLOSED); /* both at once: no change */
    fake_chardev_event(f->port_chr, CHARDEV_OPENED);
    fake_chardev_event(f->console_chr, CHARDEV_CLOSED); /* a console stays open */
    give_control_buffer(f);
    uint32_t id, len;
    bool told = virtio_guest_used(&f->queues[CONTROL_RX], &id, &len);
    Control m;
    memcpy(&m, virtio_bench_ram(f->bench, f->data + 0x8000, sizeof(m)), sizeof(m));
    assert_true(!told || m.value == 1); /* never the earlier state */
}

static GString *port_changes;

static void note_port_change(void *opaque, const Device *port, bool open)
{
    g_string_append_printf(port_changes, "%s:%d ", device_label(port), open);
}

static void open_and_close_of_the_guest_are_reported_to_the_environment(void **state)
{
    Fixture *f = *state;
    port_changes = g_string_new(NULL);
    f->bench->machine->env.serial_port_changed = note_port_change;
    bring_up(f);
    assert_string_equal(port_changes->str, "virtconsole:1 virtserialport:1 ");
    g_string_truncate(port_changes, 0);
    tell(f, 1, OPEN, 1); /* no change */
    tell(f, 1, OPEN, 0);
    tell(f, 1, OPEN, 1);
    assert_string_equal(port_changes->str, "virtserialport:0 virtserialport:1 ");
    g_string_truncate(port_changes, 0);
    virtio_guest_reset(&f->guest);
    virtio_bench_settle(f->bench);
    assert_string_equal(port_changes->str, "virtconsole:0 virtserialport:0 ");
    f->bench->machine->env.serial_port_changed = NULL;
    g_string_free(port_changes, TRUE);
}

static void changes_while_stopped_are_sent_after_cont(void **state)
{
    Fixture *f = *state;
    VringBuffer b = {f->data, 5, true};
    bring_up(f);
    virtio_guest_add(&f->queues[0], &b, 1);
    virtio_bench_settle(f->bench);
    virtio_bench_stop(f->bench, f->dev);
    fake_chardev_event(f->port_chr, CHARDEV_CLOSED);
    assert_int_equal(fake_chardev_input(f->console_chr, "x", 1), 0);
    unsigned accepts = f->console_chr->accepts;
    virtio_bench_start(f->bench, f->dev);
    assert_told(f, 1, OPEN, 0, "");
    assert_true(f->console_chr->accepts > accepts);
}

/* ---- data ---- */

static void output_of_the_guest_arrives(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    bring_up(f);
    send(f, 1, "to the console");
    send(f, PORT1_TX, "to the port");
    assert_string_equal(f->console_chr->output->str, "to the console");
    assert_string_equal(f->port_chr->output->str, "to the port");
    assert_true(virtio_guest_used(&f->queues[1], &id, &len));
    assert_int_equal(len, 0);
}

static void a_full_chardev_holds_the_ring_and_loses_nothing(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    bring_up(f);
    f->port_chr->room = 4;
    send(f, PORT1_TX, "0123456789");
    assert_string_equal(f->port_chr->output->str, "0123");
    assert_false(virtio_guest_used(&f->queues[PORT1_TX], &id, &len));
    fake_chardev_make_room(f->port_chr, 3);
    virtio_bench_settle(f->bench);
    assert_string_equal(f->port_chr->output->str, "0123456");
    virtio_bench_stop(f->bench, f->dev); /* a held buffer is not in flight */
    fake_chardev_make_room(f->port_chr, 100);
    virtio_bench_start(f->bench, f->dev);
    assert_true(virtio_guest_used(&f->queues[PORT1_TX], &id, &len));
    assert_string_equal(f->port_chr->output->str, "0123456789");
}

static void a_half_sent_buffer_survives_save_and_load(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    bring_up(f);
    f->port_chr->room = 4;
    send(f, PORT1_TX, "0123456789");
    virtio_bench_stop(f->bench, f->dev);
    g_autoptr(GByteArray) saved = virtio_bench_save(f->bench, f->dev);
    virtio_bench_reset(f->bench, f->dev);
    virtio_bench_stop(f->bench, f->dev);
    g_autofree char *text = virtio_bench_load(f->bench, f->dev, saved);
    assert_null(text);
    f->port_chr->room = 100;
    virtio_bench_start(f->bench, f->dev);
    assert_true(virtio_guest_used(&f->queues[PORT1_TX], &id, &len));
    assert_string_equal(f->port_chr->output->str, "0123456789");
}

static void without_a_reader_the_guest_does_not_hang(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    bring_up(f);
    f->console_chr->room = 2;
    send(f, 1, "lost");
    assert_false(virtio_guest_used(&f->queues[1], &id, &len));
    f->console_chr->disconnected = true;
    fake_chardev_event(f->console_chr, CHARDEV_CLOSED);
    assert_true(virtio_guest_used(&f->queues[1], &id, &len));
}

/* The chardev drops it, and has its log file and its last lines. */
static void output_goes_to_the_chardev_also_without_a_peer(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    bring_up(f);
    fake_chardev_event(f->console_chr, CHARDEV_CLOSED);
    send(f, 1, "early");
    assert_true(virtio_guest_used(&f->queues[1], &id, &len));
    assert_string_equal(f->console_chr->output->str, "early");
}

static void input_comes_as_the_guest_has_room(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    bring_up(f);
    assert_int_equal(fake_chardev_input(f->port_chr, "hello world", 11), 0);
    unsigned accepts = f->port_chr->accepts;
    VringBuffer b = {f->data, 5, true};
    virtio_guest_add(&f->queues[PORT1_RX], &b, 1);
    virtio_bench_settle(f->bench);
    assert_true(f->port_chr->accepts > accepts);
    assert_int_equal(fake_chardev_input(f->port_chr, "hello world", 11), 5);
    assert_true(virtio_guest_used(&f->queues[PORT1_RX], &id, &len));
    assert_int_equal(len, 5);
    assert_memory_equal(virtio_bench_ram(f->bench, f->data, 5), "hello", 5);
    assert_int_equal(fake_chardev_input(f->port_chr, " world", 6), 0);
}

static void a_port_the_guest_has_not_opened_takes_no_input(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    VringBuffer b = {f->data, 5, true};
    virtio_guest_add(&f->queues[PORT1_RX], &b, 1);
    tell(f, 1, OPEN, 0);
    assert_int_equal(fake_chardev_input(f->port_chr, "x", 1), 0);
    tell(f, 1, OPEN, 1);
    assert_int_equal(fake_chardev_input(f->port_chr, "x", 1), 1);
}

/* The driver clears WRITE of a buffer between the call for its room and the delivery. */
static void a_receive_buffer_is_read_once(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    const Chardev *c = &f->port_chr->base;
    bring_up(f);
    VringBuffer b = {f->data, 5, true};
    uint16_t head = virtio_guest_add(&f->queues[PORT1_RX], &b, 1);
    virtio_bench_settle(f->bench);
    assert_int_equal(c->frontend->can_receive(c->frontend_opaque), 5);
    f->queues[PORT1_RX].ring.desc[head].flags = 0;
    c->frontend->receive(c->frontend_opaque, (const uint8_t *)"hello", 5);
    assert_true(virtio_guest_used(&f->queues[PORT1_RX], &id, &len));
    assert_int_equal(len, 5);
    assert_memory_equal(virtio_bench_ram(f->bench, f->data, 5), "hello", 5);
}

/* More input than the room, into buffers that are not writable. */
static void input_for_unwritable_buffers_ends(void **state)
{
    Fixture *f = *state;
    const Chardev *c = &f->port_chr->base;
    bring_up(f);
    VringBuffer good = {f->data, 2, true}, bad = {f->data, 5, false};
    virtio_guest_add(&f->queues[PORT1_RX], &good, 1);
    virtio_guest_add(&f->queues[PORT1_RX], &bad, 1);
    virtio_bench_settle(f->bench);
    assert_int_equal(c->frontend->can_receive(c->frontend_opaque), 2);
    c->frontend->receive(c->frontend_opaque, (const uint8_t *)"hello", 5);
    virtio_bench_settle(f->bench);
    assert_true(virtio_guest_status(&f->guest) & VIRTIO_STATUS_NEEDS_RESET);
}

static void a_held_receive_buffer_is_given_back(void **state)
{
    Fixture *f = *state;
    const Chardev *c = &f->port_chr->base;
    bring_up(f);
    VringBuffer b = {f->data, 5, true};
    virtio_guest_add(&f->queues[PORT1_RX], &b, 1);
    virtio_bench_settle(f->bench);
    assert_int_equal(c->frontend->can_receive(c->frontend_opaque), 5);
    virtio_bench_stop(f->bench, f->dev); /* returns: nothing is in flight */
    virtio_bench_start(f->bench, f->dev);
    virtio_bench_settle(f->bench);
    assert_int_equal(c->frontend->can_receive(c->frontend_opaque), 5);
    virtio_guest_reset(&f->guest);
    bring_up(f);
    virtio_guest_add(&f->queues[PORT1_RX], &b, 1);
    virtio_bench_settle(f->bench);
    assert_int_equal(c->frontend->can_receive(c->frontend_opaque), 5);
    virtio_bench_unplug(f->bench, f->port);
    f->port = NULL;
    virtio_bench_stop(f->bench, f->dev);
}

/* ---- between the home loop and main ---- */

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

static void waiting_receive_buffers_do_not_keep_the_loop_busy(void **state)
{
    Fixture *f = *state;
    bring_up(f);
    VringBuffer b = {f->data, 5, true};
    for (unsigned i = 0; i < 10; i++) {
        virtio_guest_add(&f->queues[PORT1_RX], &b, 1);
    }
    virtio_bench_settle(f->bench);
    for (unsigned i = 0; i < 10; i++) {
        assert_false(aio_context_step(f->bench->main_ctx, false));
    }
}

static void without_multiport_there_is_the_console(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    bring_up_without_control(f, ~VIRTIO_CONSOLE_F_MULTIPORT);
    send(f, 1, "plain");
    assert_string_equal(f->console_chr->output->str, "plain");
    VringBuffer b = {f->data, 5, true};
    virtio_guest_add(&f->queues[0], &b, 1);
    virtio_bench_settle(f->bench);
    assert_int_equal(fake_chardev_input(f->console_chr, "in", 2), 2);
    assert_true(virtio_guest_used(&f->queues[0], &id, &len));
    assert_int_equal(len, 2);
}

static void an_emergency_write_needs_no_driver(void **state)
{
    Fixture *f = *state;
    virtio_guest_write(&f->guest, f->guest.config + 8, '!', 4);
    assert_string_equal(f->console_chr->output->str, "!");
    assert_int_equal(virtio_guest_read(&f->guest, f->guest.config + 4, 4), 3);
}

/* ---- properties ---- */

static void impossible_ports_are_refused(void **state)
{
    Fixture *f = *state;
    static const struct {
        const char *type, *properties, *says;
    } bad[] = {
        {"virtserialport", "nr=0", "virtconsole"},
        {"virtserialport", "nr=1", "taken"},
        {"virtserialport", "nr=3", "max_ports=3"},
        {"virtserialport", "name=org.skiff.agent", "port 1"},
        {"virtserialport", "chardev=nobody", "missing"},
        {"virtserialport", "chardev=agent", "in use"},
    };
    Device *dev;
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *text =
            virtio_bench_try_device(f->bench, bad[i].type, bad[i].properties, f->dev, &dev);
        assert_non_null(text);
        assert_non_null(strstr(text, bad[i].says));
    }
    g_autofree char *text = virtio_bench_try_device(f->bench, "virtserialport", NULL, NULL, &dev);
    assert_non_null(strstr(text, "virtio-serial-pci"));
}

static void the_state_table_leaves_no_gap(void **state)
{
    GError *error = NULL;
    if (!state_check_coverage(device_type_find("virtio-serial-pci")->state, &error)) {
        fail_msg("%s", error->message);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(ports_are_announced_in_order),
        T(messages_wait_for_buffers),
        T(nonsense_on_the_control_queue_is_only_logged),
        T(a_short_control_message_needs_a_reset),
        T(ports_come_and_go_while_the_guest_runs),
        T(open_and_close_of_the_host_are_sent_to_the_driver),
        T(open_and_close_of_the_guest_are_reported_to_the_environment),
        T(changes_while_stopped_are_sent_after_cont),
        T(output_of_the_guest_arrives),
        T(a_full_chardev_holds_the_ring_and_loses_nothing),
        T(a_half_sent_buffer_survives_save_and_load),
        T(without_a_reader_the_guest_does_not_hang),
        T(output_goes_to_the_chardev_also_without_a_peer),
        T(input_comes_as_the_guest_has_room),
        T(a_port_the_guest_has_not_opened_takes_no_input),
        T(a_receive_buffer_is_read_once),
        T(input_for_unwritable_buffers_ends),
        T(a_held_receive_buffer_is_given_back),
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
        T(waiting_receive_buffers_do_not_keep_the_loop_busy),
        T(without_multiport_there_is_the_console),
        T(an_emergency_write_needs_no_driver),
        T(impossible_ports_are_refused),
        T(the_state_table_leaves_no_gap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

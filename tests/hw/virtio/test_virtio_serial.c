/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-serial as its driver sees it: the control queue, data, properties. */
#include "tests/hw/virtio/virtio_serial_rig.h"

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

/* The loaded driver never starts the queues. */
static void a_load_closes_ports_that_are_not_open_in_it(void **state)
{
    Fixture *f = *state;
    port_changes = g_string_new(NULL);
    f->bench->machine->env.serial_port_changed = note_port_change;
    virtio_bench_stop(f->bench, f->dev);
    g_autoptr(GByteArray) saved = virtio_bench_save(f->bench, f->dev);
    virtio_bench_start(f->bench, f->dev);
    bring_up(f);
    virtio_bench_stop(f->bench, f->dev);
    g_string_truncate(port_changes, 0);
    assert_null(virtio_bench_load(f->bench, f->dev, saved));
    virtio_bench_start(f->bench, f->dev);
    virtio_bench_settle(f->bench);
    assert_string_equal(port_changes->str, "virtconsole:0 virtserialport:0 ");
    f->bench->machine->env.serial_port_changed = NULL;
    g_string_free(port_changes, TRUE);
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
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
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
        T(a_load_closes_ports_that_are_not_open_in_it),
        T(without_a_reader_the_guest_does_not_hang),
        T(output_goes_to_the_chardev_also_without_a_peer),
        T(input_comes_as_the_guest_has_room),
        T(a_port_the_guest_has_not_opened_takes_no_input),
        T(a_receive_buffer_is_read_once),
        T(input_for_unwritable_buffers_ends),
        T(a_held_receive_buffer_is_given_back),
        T(waiting_receive_buffers_do_not_keep_the_loop_busy),
        T(without_multiport_there_is_the_console),
        T(an_emergency_write_needs_no_driver),
        T(impossible_ports_are_refused),
        T(the_state_table_leaves_no_gap),
    };
    return cmocka_run_group_tests_name("hw/virtio/virtio_serial", tests, NULL, NULL);
}

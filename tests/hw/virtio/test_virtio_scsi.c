/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-scsi: configuration, framing, invalid requests, events, properties. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "tests/support/scsi_guest.h"

typedef struct Fixture {
    ScsiGuest g;
    ScsiCall call;
} Fixture;

static const uint8_t ready[6];
static const uint8_t read_one[10] = {SCSI_READ_10, 0, 0, 0, 0, 0, 0, 0, 1};

typedef struct Event {
    uint64_t gpa;
} Event;

static void event_offer(ScsiGuest *g, Event *e)
{
    e->gpa = virtio_bench_alloc(g->bench, 4096);
    VringBuffer buffer = {e->gpa, 16, true};
    virtio_guest_add(&g->events, &buffer, 1);
    virtio_bench_settle(g->bench);
}

static void assert_event(ScsiGuest *g, const Event *e, const char *bytes)
{
    uint32_t id, len;
    assert_true(virtio_guest_used(&g->events, &id, &len));
    assert_int_equal(len, 16);
    assert_memory_equal(virtio_bench_ram(g->bench, e->gpa, 16), bytes, 16);
}

static int set_up_with(void **state, const char *controller, uint64_t features)
{
    Fixture *f = g_new0(Fixture, 1);
    scsi_guest_open(&f->g, "size=1M", controller, features);
    scsi_guest_add(&f->g, "scsi-hd", "drive=disk");
    if (features & VIRTIO_SCSI_F_HOTPLUG) { /* the disk came without a buffer for the event */
        Event e;
        event_offer(&f->g, &e);
        assert_event(&f->g, &e, "\0\0\0\x80\0\0\0\0\0\0\0\0\0\0\0\0");
    }
    scsi_call_init(&f->call, &f->g.requests[0], 4096);
    scsi_call_clear_attentions(&f->call);
    *state = f;
    return 0;
}

static int set_up(void **state)
{
    return set_up_with(state, "num_queues=4,virtqueue_size=64", ~0ull);
}

static int set_up_without_events(void **state)
{
    return set_up_with(state, "num_queues=1", ~(VIRTIO_SCSI_F_HOTPLUG | VIRTIO_SCSI_F_CHANGE));
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    scsi_guest_close(&f->g);
    g_free(f);
    return 0;
}

static uint32_t config(Fixture *f, unsigned offset, unsigned size)
{
    return (uint32_t)virtio_guest_read(&f->g.guest, f->g.guest.config + offset, size);
}

static bool needs_reset(Fixture *f)
{
    virtio_bench_settle(f->g.bench);
    return virtio_guest_status(&f->g.guest) & VIRTIO_STATUS_NEEDS_RESET;
}

/* ---- configuration ---- */

static void the_configuration_has_its_limits(void **state)
{
    Fixture *f = *state;
    static const struct {
        unsigned offset, size;
        uint32_t value;
    } fields[] = {{0, 4, 4},   {4, 4, 62},  {8, 4, 65535}, {12, 4, 128}, {16, 4, 16},
                  {20, 4, 96}, {24, 4, 32}, {28, 2, 0},    {30, 2, 255}, {32, 4, 16383}};
    for (unsigned i = 0; i < G_N_ELEMENTS(fields); i++) {
        assert_int_equal(config(f, fields[i].offset, fields[i].size), fields[i].value);
    }
    assert_int_equal(virtio_guest_offered(&f->g.guest) & 0xf,
                     VIRTIO_SCSI_F_HOTPLUG | VIRTIO_SCSI_F_CHANGE);
}

static void the_driver_chooses_the_sizes_of_sense_and_cdb(void **state)
{
    Fixture *f = *state;
    VirtioGuest *g = &f->g.guest;
    virtio_guest_write(g, g->config + 20, 252, 4); /* too late */
    assert_int_equal(config(f, 20, 4), 96);
    virtio_guest_reset(g);
    assert_true(virtio_guest_negotiate(g, ~0ull));
    virtio_guest_write(g, g->config + 20, 4, 4);
    virtio_guest_write(g, g->config + 24, 16, 4);
    virtio_guest_write(g, g->config + 20, 65536, 4); /* refused, as are parts of a field */
    virtio_guest_write(g, g->config + 24, 256, 4);
    virtio_guest_write(g, g->config + 24, 9, 1);
    virtio_guest_write(g, g->config, 9, 4);
    assert_int_equal(config(f, 20, 4), 4);
    assert_int_equal(config(f, 24, 4), 16);
    virtio_guest_queue(g, &f->g.requests[0], 2, 0, VIRTIO_NO_VECTOR);
    virtio_guest_driver_ok(g);
    ScsiCall *c = &f->call;
    scsi_call_init(c, &f->g.requests[0], 4096);
    VringBuffer chain[3];
    scsi_call_build(c, ready, SCSI_DIR_NONE, 0, chain);
    chain[0].len = 19 + 16;
    chain[1].len = 12 + 4;
    virtio_guest_add(c->queue, chain, 2);
    virtio_bench_settle(f->g.bench);
    const uint8_t *r = virtio_bench_ram(f->g.bench, c->response, 32);
    assert_memory_equal(r, "\4\0\0\0\0\0\0\0\0\0\2\0\x70\0\6\0\xff", 17);
    virtio_guest_reset(g); /* back to the defaults */
    assert_int_equal(config(f, 20, 4), 96);
    scsi_guest_bring_up(&f->g, ~0ull);
}

static void each_queue_serves(void **state)
{
    Fixture *f = *state;
    for (unsigned i = 0; i < 4; i++) {
        scsi_call_init(&f->call, &f->g.requests[i], 512);
        assert_int_equal(scsi_call_run(&f->call, read_one, SCSI_DIR_IN, 512), SCSI_STATUS_GOOD);
    }
}

/* ---- framing ---- */

static void framing_is_the_drivers_own(void **state)
{
    Fixture *f = *state;
    ScsiCall *c = &f->call;
    VringBuffer chain[3];
    uint32_t id, len;
    memset(blk_disk_data(&f->g.disk), 0x5a, 512);
    scsi_call_build(c, read_one, SCSI_DIR_IN, 512, chain);
    /* the response ends inside an element; header and data are in pieces */
    c->response = c->data - 108;
    memset(virtio_bench_ram(f->g.bench, c->response, 108), 0xff, 108);
    VringBuffer pieces[] = {
        {c->header, 1, false},  {c->header + 1, 20, false},       {c->header + 21, 30, false},
        {c->response, 5, true}, {c->response + 5, 103 + 7, true}, {c->data + 7, 505, true}};
    virtio_guest_add(c->queue, pieces, 6);
    assert_true(virtio_guest_used(c->queue, &id, &len));
    assert_int_equal(len, 108 + 512);
    assert_int_equal(scsi_call_result(c), SCSI_STATUS_GOOD);
    assert_memory_equal(scsi_call_data(c), blk_disk_data(&f->g.disk), 512);
}

static void a_request_without_room_needs_a_reset(void **state)
{
    Fixture *f = *state;
    static const struct {
        uint32_t header, response;
    } sizes[] = {{50, 108}, {51, 107}, {1, 108}};
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        VringBuffer chain[3];
        scsi_call_build(&f->call, ready, SCSI_DIR_NONE, 0, chain);
        chain[0].len = sizes[i].header;
        chain[1].len = sizes[i].response;
        virtio_guest_add(f->call.queue, chain, 2);
        assert_true(needs_reset(f));
        virtio_guest_reset(&f->g.guest);
        scsi_guest_bring_up(&f->g, ~0ull);
        scsi_call_init(&f->call, &f->g.requests[0], 4096);
    }
    scsi_call_clear_attentions(&f->call);
    assert_int_equal(scsi_call_run(&f->call, ready, SCSI_DIR_NONE, 0), SCSI_STATUS_GOOD);
}

static void data_in_both_directions_fails(void **state)
{
    Fixture *f = *state;
    ScsiCall *c = &f->call;
    VringBuffer chain[4];
    scsi_call_build(c, read_one, SCSI_DIR_IN, 512, chain);
    chain[3] = chain[2];
    chain[2] = chain[1];
    chain[1] = (VringBuffer){c->data + 512, 512, false};
    virtio_guest_add(c->queue, chain, 4);
    virtio_bench_settle(f->g.bench);
    assert_int_equal(scsi_call_result(c), SCSI_CALL_RESPONSE | VIRTIO_SCSI_S_FAILURE);
    assert_int_equal(scsi_call_resid(c), 1024);
}

static void other_addresses_are_bad_targets(void **state)
{
    Fixture *f = *state;
    static const uint8_t luns[][8] = {{0, 0, 0x40}, {2, 0, 0x40},       {1, 1, 0x40},
                                      {1, 0, 0xc0}, {1, 0, 0x40, 0, 1}, {0xc1, 1}};
    for (unsigned i = 0; i < G_N_ELEMENTS(luns); i++) {
        VringBuffer chain[3];
        unsigned count = scsi_call_build(&f->call, ready, SCSI_DIR_NONE, 0, chain);
        memcpy(virtio_bench_ram(f->g.bench, f->call.header, 8), luns[i], 8);
        virtio_guest_add(f->call.queue, chain, count);
        virtio_bench_settle(f->g.bench);
        assert_int_equal(scsi_call_result(&f->call), SCSI_CALL_RESPONSE | VIRTIO_SCSI_S_BAD_TARGET);
    }
}

/* ---- the control queue ---- */

static void notifications_are_not_supported(void **state)
{
    Fixture *f = *state;
    uint64_t gpa = virtio_bench_alloc(f->g.bench, 4096);
    uint8_t *ram = virtio_bench_ram(f->g.bench, gpa, 4096);
    for (uint8_t type = 1; type <= 2; type++) {
        ram[0] = type;
        memset(ram + 512, 0xff, 8);
        VringBuffer chain[] = {{gpa, 16, false}, {gpa + 512, 5, true}};
        virtio_guest_add(&f->g.control, chain, 2);
        virtio_bench_settle(f->g.bench);
        assert_memory_equal(ram + 512, "\0\0\0\0\0\xff", 6);
    }
}

static void a_wrong_control_request_needs_a_reset(void **state)
{
    Fixture *f = *state;
    static const struct {
        uint8_t type;
        uint32_t out, in;
    } wrong[] = {{0, 23, 1}, {0, 24, 0}, {1, 15, 5}, {2, 16, 4}, {3, 64, 64}, {0, 3, 8}};
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        uint64_t gpa = virtio_bench_alloc(f->g.bench, 4096);
        ((uint8_t *)virtio_bench_ram(f->g.bench, gpa, 4096))[0] = wrong[i].type;
        VringBuffer chain[] = {{gpa, wrong[i].out, false}, {gpa + 512, wrong[i].in, true}};
        virtio_guest_add(&f->g.control, chain, wrong[i].in ? 2 : 1);
        assert_true(needs_reset(f));
        virtio_guest_reset(&f->g.guest);
        scsi_guest_bring_up(&f->g, ~0ull);
    }
}

/* ---- events ---- */

static void luns_that_come_and_go_are_events(void **state)
{
    Fixture *f = *state;
    Event added, removed;
    uint32_t id, len;
    event_offer(&f->g, &added);
    event_offer(&f->g, &removed);
    assert_false(virtio_guest_used(&f->g.events, &id, &len));
    Device *cd = scsi_guest_add(&f->g, "scsi-cd", "scsi-id=7,lun=300");
    assert_event(&f->g, &added, "\1\0\0\0\1\7\x41\x2c\0\0\0\0\1\0\0\0");
    scsi_guest_remove(&f->g, cd);
    assert_event(&f->g, &removed, "\1\0\0\0\1\7\x41\x2c\0\0\0\0\2\0\0\0");
}

static void a_resize_is_an_event(void **state)
{
    Fixture *f = *state;
    Event e;
    event_offer(&f->g, &e);
    blk_disk_resize(&f->g.disk, 2 << 20);
    assert_event(&f->g, &e, "\3\0\0\0\1\0\0\0\0\0\0\0\x2a\x09\0\0");
}

static void missed_events_are_reported(void **state)
{
    Fixture *f = *state;
    Event first, second;
    scsi_guest_add(&f->g, "scsi-cd", "scsi-id=7"); /* no buffer */
    event_offer(&f->g, &first);
    assert_event(&f->g, &first, "\0\0\0\x80\0\0\0\0\0\0\0\0\0\0\0\0");
    virtio_bench_stop(f->g.bench, f->g.controller);
    scsi_guest_add(&f->g, "scsi-cd", "scsi-id=8"); /* while the VM is stopped */
    blk_disk_resize(&f->g.disk, 2 << 20);
    virtio_bench_settle(f->g.bench); /* the messages of both have arrived */
    g_autoptr(GByteArray) saved = virtio_bench_save(f->g.bench, f->g.controller);
    g_autofree char *text = virtio_bench_load(f->g.bench, f->g.controller, saved);
    assert_null(text);
    virtio_bench_start(f->g.bench, f->g.controller);
    virtio_bench_settle(f->g.bench);
    event_offer(&f->g, &second);
    assert_event(&f->g, &second, "\0\0\0\x80\0\0\0\0\0\0\0\0\0\0\0\0");
}

static void a_short_event_buffer_needs_a_reset(void **state)
{
    Fixture *f = *state;
    VringBuffer buffer = {virtio_bench_alloc(f->g.bench, 4096), 15, true};
    virtio_guest_add(&f->g.events, &buffer, 1);
    assert_false(needs_reset(f)); /* not looked at without an event */
    scsi_guest_add(&f->g, "scsi-cd", "scsi-id=7");
    assert_true(needs_reset(f));
}

static void a_driver_without_the_features_has_no_events(void **state)
{
    Fixture *f = *state;
    Event e;
    uint32_t id, len;
    event_offer(&f->g, &e);
    scsi_guest_add(&f->g, "scsi-cd", "scsi-id=7");
    blk_disk_resize(&f->g.disk, 2 << 20);
    assert_false(virtio_guest_used(&f->g.events, &id, &len));
}

/* ---- devices ---- */

static void devices_have_free_addresses(void **state)
{
    Fixture *f = *state;
    const ScsiLun *a = (ScsiLun *)(void *)scsi_guest_add(&f->g, "scsi-cd", NULL);
    assert_int_equal(a->target, 1);
    assert_int_equal(a->lun, 0);
    const ScsiLun *b = (ScsiLun *)(void *)scsi_guest_add(&f->g, "scsi-cd", "scsi-id=1");
    assert_int_equal(b->lun, 1);
    const ScsiLun *c = (ScsiLun *)(void *)scsi_guest_add(&f->g, "scsi-cd", "lun=1");
    assert_int_equal(c->target, 0);
}

static void wrong_properties_are_refused(void **state)
{
    Fixture *f = *state;
    static const char *const wrong[][3] = {
        {"scsi-hd", NULL, "drive= is needed"},
        {"scsi-hd", "drive=none", "there is no such"},
        {"scsi-hd", "drive=disk", "drive 'scsi-hd"}, /* a second writer */
        {"scsi-cd", "scsi-id=0,lun=0", "lun already used by 'scsi-hd'"},
        {"scsi-cd", "scsi-id=256", "bad scsi device id: 256"},
        {"scsi-cd", "lun=16384", "bad scsi device lun: 16384"},
        {"scsi-cd", "channel=1", "bad scsi channel id: 1"},
        {"scsi-cd", "serial=1234567890123456789012345678901234567", "longer than 36"},
        {"scsi-cd", "vendor=123456789", "longer than 8"},
        {"scsi-cd", "rerror=enospc", "a read cannot fill a disk"},
        {"scsi-hd", "drive=disk,share-rw=on", "one writer"},
        {"scsi-hd", "drive=disk,logical_block_size=1000", "powers of two"},
        {"scsi-hd", "drive=disk,logical_block_size=4096", "not above the physical"},
        {"scsi-hd", "drive=disk,discard_granularity=700", "multiples of"}};
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autofree char *text = scsi_guest_try_add(&f->g, wrong[i][0], wrong[i][1]);
        assert_non_null(text);
        if (!strstr(text, wrong[i][2])) {
            fail_msg("%s: '%s' is not in: %s", wrong[i][1], wrong[i][2], text);
        }
    }
    scsi_call_clear_attentions(&f->call);
    assert_int_equal(scsi_call_run(&f->call, read_one, SCSI_DIR_IN, 512), SCSI_STATUS_GOOD);
}

static void the_state_tables_leave_no_gap(void **state)
{
    g_autoptr(GError) error = NULL;
    assert_true(state_check_coverage(virtio_scsi_pci_type.state, &error));
    assert_null(error);
    assert_true(state_check_coverage(&scsi_lun_state_desc, &error));
    assert_null(error);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        T(the_configuration_has_its_limits),
        T(the_driver_chooses_the_sizes_of_sense_and_cdb),
        T(each_queue_serves),
        T(framing_is_the_drivers_own),
        T(a_request_without_room_needs_a_reset),
        T(data_in_both_directions_fails),
        T(other_addresses_are_bad_targets),
        T(notifications_are_not_supported),
        T(a_wrong_control_request_needs_a_reset),
        T(luns_that_come_and_go_are_events),
        T(a_resize_is_an_event),
        T(missed_events_are_reported),
        T(a_short_event_buffer_needs_a_reset),
        cmocka_unit_test_setup_teardown(a_driver_without_the_features_has_no_events,
                                        set_up_without_events, tear_down),
        T(devices_have_free_addresses),
        T(wrong_properties_are_refused),
        cmocka_unit_test(the_state_tables_leave_no_gap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

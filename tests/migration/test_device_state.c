/* SPDX-License-Identifier: Apache-2.0 */
/* The devices of a machine, one of each type, saved and loaded together. */
#include "tests/migration/device_state_rig.h"
#include "hw/firmware/fw_cfg_int.h"
#include "tests/support/fake_net.h"
#include "tests/support/scsi_guest.h"

/* ---- the types ---- */

static void the_rack_has_each_type(void **state)
{
    DeviceRack *r = device_rack_new(RACK_WALL_NS);
    for (const DeviceType *const *t = device_type_all(); *t != NULL; t++) {
        assert_ptr_equal(device_rack_find(r, (*t)->name)->type, *t);
    }
    device_rack_free(r);
}

/* Types whose guest can change nothing, or only what another device keeps for them. */
static bool keeps_nothing(const char *type)
{
    static const char *const types[] = {"isa-debug-exit", "isa-debugcon",   "pvpanic",
                                        "virtconsole",    "virtserialport", "pcie-root-port"};
    for (unsigned i = 0; i < G_N_ELEMENTS(types); i++) {
        if (strcmp(types[i], type) == 0) {
            return true;
        }
    }
    return false;
}

static void each_table_is_complete(void **state)
{
    for (const DeviceType *const *t = device_type_all(); *t != NULL; t++) {
        g_autoptr(GError) error = NULL;
        const StateDesc *tables[] = {(*t)->base_state, (*t)->state};
        assert_true(((*t)->state == NULL) == keeps_nothing((*t)->name));
        for (unsigned i = 0; i < G_N_ELEMENTS(tables); i++) {
            assert_true(tables[i] == NULL || state_check_coverage(tables[i], &error));
            assert_no_error(error);
        }
    }
}

/* ---- saved and loaded ---- */

/* Each device with a table has another state than after a reset. */
static void stirring_changes_each_device(void **state)
{
    g_autoptr(GByteArray) new = NULL, stirred = NULL;
    DeviceRack *r = device_rack_new(RACK_WALL_NS);
    for (unsigned round = 0; round < 2; round++) {
        if (round == 1) {
            device_rack_stir(r, false);
        }
        device_rack_stop(r);
        *(round == 0 ? &new : &stirred) = device_rack_save(r, NULL);
        device_rack_start(r);
    }
    g_autoptr(StateStream) a = state_stream_decode(new->data, new->len, NULL);
    g_autoptr(StateStream) b = state_stream_decode(stirred->data, stirred->len, NULL);
    assert_int_equal(a->sections->len, b->sections->len);
    for (unsigned i = 0; i < a->sections->len; i++) {
        const StateSection *x = a->sections->pdata[i], *y = b->sections->pdata[i];
        if (x->size == y->size && memcmp(x->data, y->data, x->size) == 0) {
            fail_msg("%s of %s has not changed", state_section_name(x), x->instance);
        }
    }
    device_rack_free(r);
}

static void a_loaded_state_is_saved_to_the_byte(void **state)
{
    for (unsigned msix = 0; msix < 2; msix++) {
        Left l = leave(msix);
        DeviceRack *r = arrive(&l);
        load(r, &l);
        g_autoptr(GByteArray) again = device_rack_save(r, NULL);
        assert_streams_equal(l.stream, again);
        device_rack_free(r);
        left_clear(&l);
    }
}

/* ---- interrupts ---- */

static void lines_are_raised_again(void **state)
{
    static const unsigned gsis[] = {1, 4, 5, 8, 9}; /* i8042, serial, pc-testdev, rtc, SCI */
    Left l = leave(false);
    for (unsigned i = 0; i < G_N_ELEMENTS(gsis); i++) {
        assert_true(l.guest->gsi_level[gsis[i]]);
    }
    DeviceRack *r = arrive(&l);
    for (unsigned i = 0; i < FAKE_GSI_COUNT; i++) {
        assert_false(r->m->gsi_level[i]);
    }
    for (unsigned i = 0; i < r->devices->len; i++) {
        const char *type = ((const Device *)r->devices->pdata[i])->type->name;
        bool drives = (strstr(type, "virtio-") != NULL || strstr(type, "vhost-") != NULL) &&
                      strcmp(type, "vhost-user-fs-pci") != 0;
        assert_int_equal(l.guest->intx >> i & 1, drives);
    }
    load(r, &l);
    assert_memory_equal(r->m->gsi_level, l.guest->gsi_level, sizeof(l.guest->gsi_level));
    assert_int_equal(device_rack_intx(r), l.guest->intx);
    device_rack_free(r);
    left_clear(&l);
}

static void vectors_that_are_pending_arrive_when_they_are_unmasked(void **state)
{
    Left l = leave(true);
    DeviceRack *r = arrive(&l);
    load(r, &l);
    device_rack_start(r);
    fake_machine_settle(r->m);
    assert_int_equal(r->m->delivered_count, 0);
    for (unsigned i = 0; i < RACK_DRIVERS; i++) {
        VirtioGuest *g = &r->drivers[i].guest;
        virtio_guest_write(g, virtio_guest_ecam(g) + g->dev->pci.msix.cap + 2u, 0x8000, 2);
    }
    virtio_bench_settle(r->bench);
    fake_machine_settle(r->m);
    assert_int_equal(fake_machine_delivered(r->m, 0x100), RACK_DRIVERS - 1); /* of config spaces */
    device_rack_stop(r);
    device_rack_free(r);
    left_clear(&l);
}

/* ---- queues ---- */

static void assert_used(RackDriver *d, unsigned queue)
{
    uint32_t id, len;
    assert_true(virtio_guest_used(&d->queues[queue], &id, &len));
}

/* The request that had failed is executed, and further ones are. */
static void blk_goes_on(DeviceRack *r)
{
    RackDriver *d = device_rack_driver(r, "virtio-blk-pci");
    BlkRequest again;
    assert_used(d, 0);
    blk_request_init(&again, &d->queues[0], 512);
    assert_int_equal(blk_request_run(&again, BLK_IN, 1, UINT32_MAX), BLK_OK);
    assert_int_equal(blk_request_data(&again)[511], 'b');
}

static void scsi_goes_on(DeviceRack *r)
{
    static const uint8_t ready[6] = {0}, sense[6] = {0x1a, 0, 8, 0, 64};
    RackDriver *d = device_rack_driver(r, "virtio-scsi-pci");
    ScsiCall hd, cd;
    scsi_call_init(&hd, &d->queues[2], 64);
    scsi_call_init(&cd, &d->queues[3], 64);
    cd.target = 1;
    assert_int_equal(scsi_call_run(&hd, ready, SCSI_DIR_NONE, 0), 0);
    assert_int_equal(scsi_call_run(&hd, sense, SCSI_DIR_IN, 64), 0);
    assert_int_equal(scsi_call_data(&hd)[4 + 2] & 4, 0); /* the write cache is off */
    assert_int_equal(scsi_call_run(&cd, ready, SCSI_DIR_NONE, 0), 2);
    assert_int_equal(scsi_call_sense(&cd) >> 16, 2); /* the tray is open */
}

static void net_goes_on(DeviceRack *r)
{
    static const uint8_t frame[64] = {0x52, 0x54, 0x00, 0x99, 0x99, 0x99}; /* promiscuous */
    RackDriver *d = device_rack_driver(r, "virtio-net-pci");
    enter_main();
    FakeNet *net = fake_net_find("net0");
    assert_true(fake_net_push(net, 0, NULL, frame, sizeof(frame)));
    assert_used(d, 0);
    device_rack_offer(r, d, 1, 100, false);
    assert_used(d, 1);
    g_autoptr(GBytes) sent = fake_net_take(net, 0);
    assert_non_null(sent);
}

/* The rest of the bytes is sent, none twice. */
static void serial_goes_on(DeviceRack *r)
{
    RackDriver *d = device_rack_driver(r, "virtio-serial-pci");
    assert_used(d, 5);
    assert_int_equal(fake_chardev_output_size(r->chardevs[3]), 5);
    device_rack_offer(r, d, 5, 8, false);
    assert_used(d, 5);
    assert_int_equal(fake_chardev_output_size(r->chardevs[3]), 13);
    enter_main();
    device_rack_offer(r, d, 4, 64, true);
    assert_int_equal(fake_chardev_input(r->chardevs[3], "in", 2), 2);
    assert_used(d, 4);
}

static void vsock_goes_on(DeviceRack *r)
{
    RackDriver *d = device_rack_driver(r, "vhost-vsock-pci");
    while (d->guest.dev->vdev.owner != VIRTIO_OWNER_BACK_END) {
        aio_context_step(r->bench->main_ctx, true);
    }
    assert_used(d, 2); /* all connections are gone */
    device_rack_offer(r, d, 0, 64, true);
    assert_int_equal(fake_vhost_serve(r->vhost, 0, 0), 1);
    assert_used(d, 0);
}

static void others_go_on(DeviceRack *r)
{
    RackDriver *rng = device_rack_driver(r, "virtio-rng-pci");
    RackDriver *bridged = device_rack_driver(r, "virtio-rng-pci.2");
    RackDriver *balloon = device_rack_driver(r, "virtio-balloon-pci");
    RackDriver *blk = device_rack_driver(r, "vhost-user-blk-pci");
    device_rack_offer(r, rng, 0, 16, true);
    assert_used(rng, 0);
    device_rack_offer(r, bridged, 0, 16, true);
    assert_used(bridged, 0);
    device_rack_offer(r, balloon, 1, 4, false);
    assert_used(balloon, 1);
    device_rack_offer(r, blk, 0, 64, true);
    assert_int_equal(vhost_user_peer_serve(r->peers[1], 0), 1);
    assert_used(blk, 0);
}

static void queues_go_on_where_they_were(void **state)
{
    Left l = leave(false);
    DeviceRack *r = arrive(&l);
    load(r, &l);
    device_rack_start(r);
    blk_goes_on(r);
    scsi_goes_on(r);
    net_goes_on(r);
    serial_goes_on(r);
    vsock_goes_on(r);
    others_go_on(r);
    device_rack_stop(r);
    device_rack_free(r);
    left_clear(&l);
}

/* ---- what is refused ---- */

/* The last device refuses after all others were loaded. */
static void a_load_that_is_refused_at_the_end_changes_nothing(void **state)
{
    g_autoptr(GError) error = NULL;
    DeviceRack *r = device_rack_new(RACK_WALL_NS);
    device_rack_stop(r);
    Picky *picky = add_picky(r, PICKY_BAD);
    g_autoptr(GByteArray) other = device_rack_save(r, NULL);
    device_rack_start(r);
    device_rack_stir(r, false);
    device_rack_stop(r);
    picky->state.value = 2;
    g_autoptr(GByteArray) before = device_rack_save(r, NULL);
    g_autoptr(RackGuest) guest = device_rack_leave(r);
    assert_false(device_rack_load(r, other, 5, &error));
    assert_string_equal(error->message, "/machine/rack/picky: no");
    g_autoptr(GByteArray) after = device_rack_save(r, NULL);
    assert_streams_equal(before, after);
    assert_int_equal(picky->state.value, 2);
    assert_int_equal(device_rack_intx(r), guest->intx);
    assert_memory_equal(r->m->gsi_level, guest->gsi_level, sizeof(guest->gsi_level));
    device_rack_start(r);
    others_go_on(r);
    device_rack_stop(r);
    device_rack_free(r);
}

static void a_mounted_folder_keeps_the_machine_from_being_saved(void **state)
{
    g_autoptr(GError) error = NULL;
    DeviceRack *r = device_rack_new(RACK_WALL_NS);
    device_rack_stir(r, false);
    virtio_guest_driver_ok(&device_rack_driver(r, "vhost-user-fs-pci")->guest);
    device_rack_stop(r);
    assert_null(device_rack_save(r, &error));
    assert_non_null(strstr(error->message, "vhost-user-fs-pci: the guest uses tag=share"));
    device_rack_free(r);
}

/* ---- other streams ---- */

/* The error of a stream that a rack without its devices' state is given; to be freed. */
static char *refusal_of(DeviceRack *r, const GByteArray *stream)
{
    GError *error = NULL;
    g_autoptr(GByteArray) before = device_rack_tables(r);
    assert_false(device_rack_load(r, stream, 5, &error));
    g_autoptr(GByteArray) after = device_rack_tables(r);
    assert_bytes_equal(before, after);
    char *text = g_strdup(error->message);
    g_error_free(error);
    return text;
}

/* A stream of the stopped rack and of @picky. */
static GByteArray *save_with(DeviceRack *r, Picky *picky, const DeviceType *type)
{
    const DeviceType *own = picky->base.type;
    picky->base.type = type;
    GByteArray *stream = device_rack_save(r, NULL);
    picky->base.type = own;
    return stream;
}

static void what_is_missing_unknown_or_of_another_version_is_named(void **state)
{
    static const StateDesc other =
        STATE_DESC("other", 1, Picky, state, struct PickyState, picky_fields);
    static const StateDesc newer =
        STATE_DESC("picky", 2, Picky, state, struct PickyState, picky_fields);
    const DeviceType other_type = {.name = "picky", .state = &other};
    const DeviceType newer_type = {.name = "picky", .state = &newer};
    const DeviceType both_type = {.name = "picky", .base_state = &other, .state = &picky_desc};
    DeviceRack *r = device_rack_new(RACK_WALL_NS);
    device_rack_stop(r);
    g_autoptr(GByteArray) without = device_rack_save(r, NULL);
    Picky *picky = add_picky(r, 1);
    g_autoptr(GByteArray) with = device_rack_save(r, NULL);
    g_autoptr(GByteArray) other_stream = save_with(r, picky, &other_type);
    g_autoptr(GByteArray) newer_stream = save_with(r, picky, &newer_type);
    g_autoptr(GByteArray) both_stream = save_with(r, picky, &both_type);

    g_autofree char *missing = refusal_of(r, without);
    assert_string_equal(missing, "/machine/rack/picky: the state has no section picky");
    g_autofree char *replaced = refusal_of(r, other_stream);
    assert_string_equal(replaced, "/machine/rack/picky: the state has no section picky");
    g_autofree char *version = refusal_of(r, newer_stream);
    assert_string_equal(version,
                        "/machine/rack/picky: state of picky is version 2; versions 1 to 1 are "
                        "supported");
    g_autofree char *more = refusal_of(r, both_stream);
    assert_string_equal(more, "/machine/rack/picky: the state has a section other, which the "
                              "device does not have");
    device_rack_remove_last(r);
    g_autofree char *unknown = refusal_of(r, with);
    assert_non_null(strstr(unknown, "a section picky of /machine/rack/picky"));
    device_rack_free(r);
}

/* Version 1 of fw_cfg's table, which had no DMA register. */
typedef struct OldFwCfg {
    uint32_t offset;
    uint16_t key;
    uint8_t reserved[2];
} OldFwCfg;

static const StateField old_fw_cfg_fields[] = {STATE_FIELD(OldFwCfg, STATE_U32, offset),
                                               STATE_FIELD(OldFwCfg, STATE_U16, key),
                                               STATE_PADDING(OldFwCfg, reserved),
                                               {0}};
static const StateDesc old_fw_cfg_desc = {.name = "fw_cfg",
                                          .version = 1,
                                          .min_version = 1,
                                          .struct_size = sizeof(OldFwCfg),
                                          .fields = old_fw_cfg_fields};

/* The stopped rack's stream with fw_cfg's state of version 1. */
static GByteArray *save_with_old_fw_cfg(DeviceRack *r, const OldFwCfg *old)
{
    g_autoptr(StateWriter) w = state_writer_new();
    g_autoptr(GPtrArray) others = g_ptr_array_new();
    const Device *fw_cfg = device_rack_find(r, "fw_cfg_io");
    for (unsigned i = 0; i < r->devices->len; i++) {
        if (r->devices->pdata[i] != fw_cfg) {
            g_ptr_array_add(others, r->devices->pdata[i]);
        }
    }
    const VmStopped token = {.count = 1};
    enter_main();
    bql_lock();
    assert_true(device_state_save(others, &token, w, NULL));
    bql_unlock();
    assert_true(state_writer_section(w, fw_cfg->path, &old_fw_cfg_desc, old, 0, NULL));
    return state_writer_end(w, NULL);
}

static void fields_that_an_older_table_lacks_are_as_after_a_reset(void **state)
{
    g_autoptr(GError) error = NULL;
    const OldFwCfg old = {.offset = 2, .key = 0x19};
    DeviceRack *r = device_rack_new(RACK_WALL_NS);
    device_rack_stop(r);
    g_autoptr(GByteArray) stream = save_with_old_fw_cfg(r, &old);
    device_rack_start(r);
    device_rack_stir(r, false);
    device_rack_stop(r);
    const FwCfgState *s = &((const FwCfg *)device_rack_find(r, "fw_cfg_io"))->state;
    assert_int_not_equal(s->dma_address, 0);
    assert_true(device_rack_load(r, stream, 5, &error));
    assert_int_equal(s->dma_address, 0);
    assert_int_equal(s->offset, 2);
    assert_int_equal(s->key, 0x19);
    device_rack_free(r);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rack_has_each_type),
        cmocka_unit_test(each_table_is_complete),
        cmocka_unit_test(stirring_changes_each_device),
        cmocka_unit_test(a_loaded_state_is_saved_to_the_byte),
        cmocka_unit_test(lines_are_raised_again),
        cmocka_unit_test(vectors_that_are_pending_arrive_when_they_are_unmasked),
        cmocka_unit_test(queues_go_on_where_they_were),
        cmocka_unit_test(a_load_that_is_refused_at_the_end_changes_nothing),
        cmocka_unit_test(what_is_missing_unknown_or_of_another_version_is_named),
        cmocka_unit_test(fields_that_an_older_table_lacks_are_as_after_a_reset),
        cmocka_unit_test(a_mounted_folder_keeps_the_machine_from_being_saved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

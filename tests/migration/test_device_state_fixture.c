/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The devices of a machine as the first version of their tables saved them (device_state_v1.h): they must load
 * for ever. With --write, prints a new fixture: for a table's new version a second file, beside the first.
 */
#include "tests/migration/device_state_rig.h"
#include <stdio.h>
#include <zlib.h>
#include "tests/migration/device_state_v1.h"

#define STREAM_MAX (1u << 20)
#define LINE_CHARS 100

/* Base64 of zlib's format. */
static GByteArray *unpack(const char *const *lines)
{
    g_autofree char *text = g_strjoinv("", (char **)(uintptr_t)lines);
    gsize packed_size;
    g_autofree uint8_t *packed = g_base64_decode(text, &packed_size);
    GByteArray *out = g_byte_array_new();
    uLongf size = STREAM_MAX;
    g_byte_array_set_size(out, STREAM_MAX);
    assert_int_equal(uncompress(out->data, &size, packed, packed_size), Z_OK);
    g_byte_array_set_size(out, (guint)size);
    return out;
}

static void print_packed(const GByteArray *stream)
{
    uLongf size = compressBound(stream->len);
    g_autofree uint8_t *packed = g_malloc(size);
    assert_int_equal(compress2(packed, &size, stream->data, stream->len, Z_BEST_COMPRESSION), Z_OK);
    g_autofree char *text = g_base64_encode(packed, size);
    for (size_t at = 0; at < strlen(text); at += LINE_CHARS) {
        printf("    \"%.*s\",\n", LINE_CHARS, text + at);
    }
}

/* Removes the devices that came later. */
static void keep_those_of(DeviceRack *r, const StateStream *s, GPtrArray *kept)
{
    g_autoptr(GHashTable) paths = g_hash_table_new(g_str_hash, g_str_equal);
    for (unsigned i = 0; i < s->sections->len; i++) {
        const StateSection *x = s->sections->pdata[i];
        g_hash_table_add(paths, x->instance);
    }
    for (unsigned i = 0; i < r->devices->len; i++) {
        Device *dev = r->devices->pdata[i];
        if (g_hash_table_contains(paths, dev->path)) {
            g_ptr_array_add(kept, dev);
        }
    }
}

static void assert_machine_is_as_it_was_saved(DeviceRack *r)
{
    static const unsigned gsis[] = {1, 4, 5, 8, 9};
    for (unsigned i = 0; i < G_N_ELEMENTS(gsis); i++) {
        assert_true(r->m->gsi_level[gsis[i]]);
    }
    assert_int_equal(fake_in8(r->m, 0x80), 0x42);
    assert_int_equal(fake_in32(r->m, 0xe0), 0x11223344);
    assert_int_equal(fake_in8(r->m, 0x3ff), 0xa5);
    assert_int_equal(fake_in8(r->m, 0x3f8), 'a');
    fake_out8(r->m, 0x70, 0x44);
    assert_int_equal(fake_in8(r->m, 0x71), 0x55);
    static const char *const live[] = {
        "virtio-blk-pci",  "virtio-rng-pci",  "virtio-balloon-pci", "virtio-serial-pci",
        "vhost-vsock-pci", "virtio-scsi-pci", "virtio-net-pci",     "vhost-user-blk-pci"};
    for (unsigned i = 0; i < G_N_ELEMENTS(live); i++) {
        const VirtioPci *p = (const VirtioPci *)(void *)device_rack_find(r, live[i]);
        assert_int_equal(p->vdev.state->status, 15);
        assert_true(p->vdev.state->queues[0].enabled);
        assert_true(p->pci.intx.level);
    }
}

static void the_first_version_loads_for_ever(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) kept = g_ptr_array_new();
    g_autoptr(GByteArray) stream = unpack(device_state_v1());
    const VmStopped token = {.count = 1};
    DeviceRack *r = device_rack_new(RACK_WALL_NS);
    device_rack_stop(r);
    enter_main();
    g_autoptr(StateStream) s = state_stream_decode(stream->data, stream->len, &error);
    assert_no_error(error);
    keep_those_of(r, s, kept);
    g_autoptr(DeviceStateLoad) l = device_state_stage(kept, s, &error);
    assert_no_error(error);
    assert_true(state_stream_all_taken(s, &error));
    bql_lock();
    assert_true(device_state_apply(l, &token, &error));
    bql_unlock();
    assert_machine_is_as_it_was_saved(r);
    device_rack_free(r);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_version_loads_for_ever),
    };
    if (argc == 2 && strcmp(argv[1], "--write") == 0) {
        Left l = leave(false);
        print_packed(l.stream);
        left_clear(&l);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

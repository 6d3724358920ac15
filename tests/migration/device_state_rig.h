/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of the devices' state: racks that a guest leaves, and racks in which it arrives. */
#ifndef SKIFF_TESTS_MIGRATION_DEVICE_STATE_RIG_H
#define SKIFF_TESTS_MIGRATION_DEVICE_STATE_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "tests/support/device_rack.h"

/* What a rack that was stirred and stopped leaves. */
typedef struct Left {
    RackGuest *guest;
    GByteArray *stream;
} Left;

static inline void assert_no_error(const GError *error)
{
    if (error != NULL) {
        fail_msg("%s", error->message);
    }
}

static inline Left leave(bool msix)
{
    g_autoptr(GError) error = NULL;
    DeviceRack *r = device_rack_new(RACK_WALL_NS);
    device_rack_stir(r, msix);
    device_rack_stop(r);
    GByteArray *stream = device_rack_save(r, &error);
    assert_no_error(error);
    Left left = {device_rack_leave(r), stream};
    device_rack_free(r);
    return left;
}

static inline void left_clear(Left *l)
{
    rack_guest_free(l->guest);
    g_byte_array_unref(l->stream);
}

/* A stopped rack that has the guest's RAM, but not its devices' state. */
static inline DeviceRack *arrive(const Left *l)
{
    DeviceRack *r = device_rack_new(l->guest->wall_ns);
    device_rack_stop(r);
    device_rack_adopt(r, l->guest);
    return r;
}

static inline void load(DeviceRack *r, const Left *l)
{
    g_autoptr(GError) error = NULL;
    bool ok = device_rack_load(r, l->stream, l->guest->clock_ns, &error);
    assert_no_error(error);
    assert_true(ok);
}

/* Two whole streams, or devices' tables without a frame. */
static inline void assert_bytes_equal(const GByteArray *a, const GByteArray *b)
{
    assert_int_equal(a->len, b->len);
    assert_memory_equal(a->data, b->data, a->len);
}

/* Names what differs. */
static inline void assert_streams_equal(const GByteArray *a, const GByteArray *b)
{
    g_autoptr(StateStream) s = state_stream_decode(a->data, a->len, NULL);
    g_autoptr(StateStream) t = state_stream_decode(b->data, b->len, NULL);
    assert_int_equal(s->sections->len, t->sections->len);
    for (unsigned i = 0; i < s->sections->len; i++) {
        const StateSection *x = s->sections->pdata[i], *y = t->sections->pdata[i];
        for (unsigned k = 0; k < x->size && k < y->size; k++) {
            if (x->data[k] != y->data[k]) {
                fail_msg("%s: byte %u of %s: 0x%x became 0x%x", x->instance, k,
                         state_section_name(x), x->data[k], y->data[k]);
            }
        }
    }
    assert_bytes_equal(a, b);
}

/* A device that takes any state but one. */
typedef struct Picky {
    Device base;
    struct PickyState {
        uint32_t value;
    } state;
} Picky;

#define PICKY_BAD 0xbad

static inline bool picky_post_load(Device *dev, GError **error)
{
    if (((Picky *)(void *)dev)->state.value == PICKY_BAD) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_VALUE, "no");
        return false;
    }
    return true;
}

static const StateField picky_fields[] = {STATE_FIELD(struct PickyState, STATE_U32, value), {0}};
static const StateDesc picky_desc =
    STATE_DESC("picky", 1, Picky, state, struct PickyState, picky_fields);
static const DeviceType picky_type = {.name = "picky",
                                      .instance_size = sizeof(Picky),
                                      .state = &picky_desc,
                                      .post_load = picky_post_load};

static inline Picky *add_picky(DeviceRack *r, uint32_t value)
{
    Device *dev = virtio_bench_device_of(r->bench, &picky_type, NULL);
    Picky *p = (Picky *)(void *)dev;
    dev->path = g_strdup("/machine/rack/picky");
    p->state.value = value;
    g_ptr_array_add(r->devices, dev);
    return p;
}

#endif

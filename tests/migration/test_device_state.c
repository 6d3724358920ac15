/* SPDX-License-Identifier: Apache-2.0 */
/* The devices of a machine, one of each type, saved and loaded together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "tests/support/device_rack.h"
#include "tests/support/fake_net.h"
#include "tests/support/scsi_guest.h"

/* What a rack that was stirred and stopped leaves. */
typedef struct Left {
    RackGuest *guest;
    GByteArray *stream;
} Left;

static void assert_no_error(const GError *error)
{
    if (error != NULL) {
        fail_msg("%s", error->message);
    }
}

static Left leave(bool msix)
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

static void left_clear(Left *l)
{
    rack_guest_free(l->guest);
    g_byte_array_unref(l->stream);
}

/* A stopped rack that has the guest's RAM, but not its devices' state. */
static DeviceRack *arrive(const Left *l)
{
    DeviceRack *r = device_rack_new(l->guest->wall_ns);
    device_rack_stop(r);
    device_rack_adopt(r, l->guest);
    return r;
}

static void load(DeviceRack *r, const Left *l)
{
    g_autoptr(GError) error = NULL;
    bool ok = device_rack_load(r, l->stream, l->guest->clock_ns, &error);
    assert_no_error(error);
    assert_true(ok);
}

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
    static const char *const types[] = {"isa-debug-exit", "isa-debugcon", "pvpanic", "virtconsole",
                                        "virtserialport", "pcie-root-port"};
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
        g_autoptr(StateStream) a = state_stream_decode(l.stream->data, l.stream->len, NULL);
        g_autoptr(StateStream) b = state_stream_decode(again->data, again->len, NULL);
        for (unsigned i = 0; i < a->sections->len; i++) {
            const StateSection *x = a->sections->pdata[i], *y = b->sections->pdata[i];
            for (unsigned k = 0; k < x->size; k++) {
                if (x->data[k] != y->data[k]) {
                    fail_msg("%s: byte %u of %s: 0x%x became 0x%x", x->instance, k,
                             state_section_name(x), x->data[k], y->data[k]);
                }
            }
        }
        assert_int_equal(again->len, l.stream->len);
        assert_memory_equal(again->data, l.stream->data, again->len);
        device_rack_free(r);
        left_clear(&l);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rack_has_each_type),
        cmocka_unit_test(each_table_is_complete),
        cmocka_unit_test(stirring_changes_each_device),
        cmocka_unit_test(a_loaded_state_is_saved_to_the_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

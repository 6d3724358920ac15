/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Damaged states of devices: each field at its edges, each section cut short. A load is refused and has changed
 * nothing, or it is accepted and the device bears it. Sanitizers see the rest.
 */
#include "tests/migration/device_state_rig.h"
#include "hw/core/vm_clock.h"
#include "tests/support/state_seal.h"
#include "util/state/state_table.h"

/* ---- where the fields are ---- */

typedef struct Leaf {
    size_t at; /* in the stream */
    unsigned size;
    uint64_t max;
} Leaf;

typedef struct Leaves {
    const uint8_t *stream;
    GArray *found;
    unsigned skipped; /* elements of tables that are passed over, nested */
} Leaves;

static void leaf_add(Leaves *l, const StateTableField *f, const uint8_t *at)
{
    unsigned size = state_type_size(f->type);
    uint64_t most = f->type == STATE_BOOL ? 1 : size == 8 ? UINT64_MAX : (1ull << (8 * size)) - 1;
    Leaf leaf = {(size_t)(at - l->stream), size, f->max != 0 ? f->max : most};
    g_array_append_val(l->found, leaf);
}

/* The first element and the last one. */
static void leaf_values(void *opaque, const StateTableField *f, const uint8_t *data, uint32_t count)
{
    Leaves *l = opaque;
    if (l->skipped > 0 || count == 0) {
        return;
    }
    leaf_add(l, f, data);
    if (count > 1) {
        leaf_add(l, f, data + (size_t)(count - 1) * state_type_size(f->type));
    }
}

/* Two elements of a table, and the last one. */
static void leaf_element(void *opaque, const StateTableField *f, uint32_t index)
{
    Leaves *l = opaque;
    l->skipped += l->skipped > 0 || (index > 1 && index + 1 < f->count);
}

static void leaf_element_end(void *opaque, const StateTableField *f)
{
    Leaves *l = opaque;
    l->skipped -= l->skipped > 0;
}

static GArray *leaves_of(const GByteArray *stream, const StateSection *x)
{
    static const StateVisitor visitor = {
        .values = leaf_values, .element = leaf_element, .element_end = leaf_element_end};
    Leaves l = {stream->data, g_array_new(FALSE, FALSE, sizeof(Leaf)), 0};
    assert_true(state_table_walk(x->table, x->payload, x->payload_size, &visitor, &l, NULL));
    return l.found;
}

/* ---- loads ---- */

static Device *device_of(const DeviceRack *r, const char *path)
{
    for (unsigned i = 0; i < r->devices->len; i++) {
        Device *dev = r->devices->pdata[i];
        if (strcmp(dev->path, path) == 0) {
            return dev;
        }
    }
    g_assert_not_reached();
}

/* The device runs for a moment: its queues, and the timers of all. */
static void run_briefly(DeviceRack *r, Device *dev)
{
    enter_main();
    g_autofree char *refusal = virtio_bench_try_start(r->bench, dev);
    virtio_bench_settle(r->bench);
    vm_clock_resume();
    fake_machine_advance(r->m, 1000000);
    vm_clock_pause();
    virtio_bench_stop(r->bench, dev);
    virtio_bench_settle(r->bench);
    fake_machine_settle(r->m);
    r->m->request_count = r->m->delivered_count = 0;
}

typedef struct Counts {
    unsigned refused, accepted;
} Counts;

static void try_value(DeviceRack *r, const Left *l, Device *dev, const Leaf *leaf, uint64_t value,
                      Counts *counts)
{
    g_autoptr(GByteArray) bad = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    g_byte_array_append(bad, l->stream->data, l->stream->len);
    for (unsigned i = 0; i < leaf->size; i++) {
        bad->data[leaf->at + i] = (uint8_t)(value >> (8 * i));
    }
    state_seal(bad);
    g_autoptr(GByteArray) before = device_rack_tables(r);
    if (device_rack_load(r, bad, l->guest->clock_ns, &error)) {
        counts->accepted++;
        run_briefly(r, dev);
        return;
    }
    counts->refused++;
    assert_non_null(error);
    g_autoptr(GByteArray) after = device_rack_tables(r);
    assert_bytes_equal(before, after);
}

/* What the guest had is loaded again, whatever the device has been through. */
static void assert_loads_whole(DeviceRack *r, const Left *l)
{
    vm_clock_set_wall_ns(l->guest->wall_ns);
    load(r, l);
    g_autoptr(GByteArray) again = device_rack_save(r, NULL);
    assert_streams_equal(l->stream, again);
}

static void try_section(DeviceRack *r, const Left *l, const StateSection *x, Counts *counts)
{
    g_autoptr(GArray) leaves = leaves_of(l->stream, x);
    Device *dev = device_of(r, x->instance);
    for (unsigned k = 0; k < leaves->len; k++) {
        const Leaf *leaf = &g_array_index(leaves, Leaf, k);
        const uint64_t values[] = {0, leaf->max, leaf->max + 1, UINT64_MAX};
        for (unsigned v = 0; v < G_N_ELEMENTS(values); v++) {
            try_value(r, l, dev, leaf, values[v], counts);
        }
    }
}

static void each_field_at_its_edges(void **state)
{
    log_open("/dev/null", false); /* there is much to be told */
    Counts counts = {0};
    Left l = leave(true);
    DeviceRack *r = arrive(&l);
    g_autoptr(StateStream) s = state_stream_decode(l.stream->data, l.stream->len, NULL);
    for (unsigned i = 0; i < s->sections->len; i++) {
        try_section(r, &l, s->sections->pdata[i], &counts);
        assert_loads_whole(r, &l);
    }
    assert_true(counts.refused > 100 && counts.accepted > 500);
    device_rack_free(r);
    left_clear(&l);
}

/* ---- cut short ---- */

/* A stream of HEAD, the first @size bytes of the section's body, and END. */
static GByteArray *cut_section(const GByteArray *stream, unsigned index, unsigned count,
                               guint32 size)
{
    GByteArray *out = g_byte_array_new();
    StateSpan head, section, end;
    assert_true(state_seal_find(stream, 0, &head));
    assert_true(state_seal_find(stream, index + 1, &section));
    assert_true(state_seal_find(stream, count + 1, &end));
    g_byte_array_append(out, stream->data, STATE_STREAM_PREFIX);
    g_byte_array_append(out, stream->data + head.at, head.size);
    g_byte_array_append(out, stream->data + section.at, 8 + size);
    g_byte_array_append(out, (const guint8 *)"CRC.", 4);
    g_byte_array_append(out, stream->data + end.at, end.size);
    memset(out->data + STATE_STREAM_PREFIX + head.size + 8, 0, MIN(size, 4)); /* it is the first */
    state_seal_resize(out, 1, size);
    state_seal(out);
    return out;
}

/* At each byte; of large sections at each of the first 4 KiB, and at some of the rest. */
static void each_section_cut_short(void **state)
{
    Left l = leave(true);
    g_autoptr(StateStream) s = state_stream_decode(l.stream->data, l.stream->len, NULL);
    for (unsigned i = 0; i < s->sections->len; i++) {
        StateSpan span;
        assert_true(state_seal_find(l.stream, i + 1, &span));
        for (guint32 size = 0; size < span.size - 12; size += size < 4096 ? 1 : 997) {
            g_autoptr(GByteArray) cut = cut_section(l.stream, i, s->sections->len, size);
            g_autoptr(GError) error = NULL;
            assert_null(state_stream_decode(cut->data, cut->len, &error));
            assert_non_null(error);
        }
    }
    left_clear(&l);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_field_at_its_edges),
        cmocka_unit_test(each_section_cut_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/device_state.h"

#include <string.h>
#include "hw/core/vm_clock.h"
#include "migration/trace_events.h"

/* The state of a device, as state_save() writes it; NULL: it has no such table. */
typedef struct DeviceStateItem {
    Device *dev;
    GBytes *base, *own;
    bool older; /* fields that are not in it have their values after a reset */
} DeviceStateItem;

struct DeviceStateLoad {
    GArray *items; /* DeviceStateItem */
    bool has_clock;
    int64_t clock_ns;
};

static void device_state_item_clear(void *opaque)
{
    DeviceStateItem *item = opaque;
    g_clear_pointer(&item->base, g_bytes_unref);
    g_clear_pointer(&item->own, g_bytes_unref);
}

static GArray *device_state_items_new(void)
{
    GArray *items = g_array_new(FALSE, TRUE, sizeof(DeviceStateItem));
    g_array_set_clear_func(items, device_state_item_clear);
    return items;
}

/* ---- save ---- */

static bool device_state_save_table(const Device *dev, const StateDesc *desc, StateWriter *w,
                                    GError **error)
{
    return desc == NULL || state_writer_section(w, dev->path, desc, dev, 0, error);
}

static bool device_state_all_can_save(const GPtrArray *devices, GError **error) BQL_HELD
{
    for (unsigned i = 0; i < devices->len; i++) {
        const Device *dev = devices->pdata[i];
        if (dev->type->can_save != NULL && !dev->type->can_save(dev, error)) {
            return false;
        }
    }
    return true;
}

bool device_state_save(const GPtrArray *devices, const VmStopped *token, StateWriter *w,
                       GError **error)
{
    assert_bql();
    g_assert(token != NULL && token->count > 0);
    if (!device_state_all_can_save(devices, error)) {
        return false;
    }
    for (unsigned i = 0; i < devices->len; i++) {
        Device *dev = devices->pdata[i];
        g_assert(dev->path != NULL && dev->realized);
        trace_device_state_save(dev->path);
        if (dev->type->pre_save != NULL) {
            dev->type->pre_save(dev);
        }
        if (!device_state_save_table(dev, dev->type->base_state, w, error) ||
            !device_state_save_table(dev, dev->type->state, w, error)) {
            return false;
        }
    }
    return true;
}

/* ---- stage ---- */

/* Loads the section of @desc into @scratch, an instance that is none, and keeps it in *@kept. */
static bool device_state_stage_table(DeviceStateItem *item, const StateDesc *desc, uint8_t *scratch,
                                     StateStream *s, GBytes **kept, GError **error)
{
    const Device *dev = item->dev;
    if (desc == NULL) {
        return true;
    }
    StateSection *section = state_stream_find(s, dev->path, desc->name);
    if (section != NULL && section->version < desc->version) {
        item->older = true;
        memcpy(scratch + desc->struct_offset, (const uint8_t *)dev + desc->struct_offset,
               desc->struct_size);
    }
    if (!state_stream_load(s, dev->path, desc, scratch, false, error)) {
        return false;
    }
    *kept = g_bytes_new(section->data, section->size);
    return true;
}

static bool device_state_stage_device(DeviceStateItem *item, StateStream *s, GError **error)
{
    const Device *dev = item->dev;
    const DeviceType *type = dev->type;
    g_autofree uint8_t *scratch = g_malloc0(type->instance_size);
    g_assert(dev->path != NULL && dev->realized);
    if (!device_state_stage_table(item, type->base_state, scratch, s, &item->base, error) ||
        !device_state_stage_table(item, type->state, scratch, s, &item->own, error)) {
        return false;
    }
    if (type->check_state != NULL &&
        !type->check_state(dev, scratch + type->state->struct_offset, error)) {
        g_prefix_error(error, "%s: ", dev->path);
        return false;
    }
    return true;
}

/* All sections of @devices that the stream has were taken, or may be ignored. */
static bool device_state_none_is_left(const GPtrArray *devices, const StateStream *s,
                                      GError **error)
{
    g_autoptr(GHashTable) paths = g_hash_table_new(g_str_hash, g_str_equal);
    for (unsigned i = 0; i < devices->len; i++) {
        const Device *dev = devices->pdata[i];
        g_hash_table_add(paths, dev->path);
    }
    for (unsigned i = 0; i < s->sections->len; i++) {
        const StateSection *x = s->sections->pdata[i];
        if (!x->taken && !(x->flags & STATE_SECTION_IGNORABLE) &&
            g_hash_table_contains(paths, x->instance)) {
            g_set_error(error, STATE_ERROR, STATE_ERROR_MACHINE,
                        "%s: the state has a section %s, which the device does not have",
                        x->instance, state_section_name(x));
            return false;
        }
    }
    return true;
}

DeviceStateLoad *device_state_stage(const GPtrArray *devices, StateStream *s, GError **error)
{
    g_autoptr(DeviceStateLoad) l = g_new0(DeviceStateLoad, 1);
    enter_main();
    l->items = device_state_items_new();
    for (unsigned i = 0; i < devices->len; i++) {
        g_array_set_size(l->items, i + 1);
        DeviceStateItem *item = &g_array_index(l->items, DeviceStateItem, i);
        item->dev = devices->pdata[i];
        if (!device_state_stage_device(item, s, error)) {
            return NULL;
        }
    }
    return device_state_none_is_left(devices, s, error) ? g_steal_pointer(&l) : NULL;
}

void device_state_set_clock(DeviceStateLoad *l, int64_t now_ns)
{
    g_assert(now_ns >= 0 && now_ns <= DEVICE_STATE_CLOCK_MAX);
    l->has_clock = true;
    l->clock_ns = now_ns;
}

void device_state_load_free(DeviceStateLoad *l)
{
    if (l != NULL) {
        g_array_unref(l->items);
        g_free(l);
    }
}

/* ---- apply ---- */

static GBytes *device_state_keep_table(const Device *dev, const StateDesc *desc)
{
    if (desc == NULL) {
        return NULL;
    }
    GByteArray *out = g_byte_array_new();
    state_save(desc, dev, out);
    return g_byte_array_free_to_bytes(out);
}

/* The present state of the devices of @l. */
static GArray *device_state_keep_all(const DeviceStateLoad *l) BQL_HELD
{
    GArray *old = device_state_items_new();
    g_array_set_size(old, l->items->len);
    for (unsigned i = 0; i < l->items->len; i++) {
        Device *dev = g_array_index(l->items, DeviceStateItem, i).dev;
        if (dev->type->pre_save != NULL) {
            dev->type->pre_save(dev);
        }
        g_array_index(old, DeviceStateItem, i) =
            (DeviceStateItem){.dev = dev,
                              .base = device_state_keep_table(dev, dev->type->base_state),
                              .own = device_state_keep_table(dev, dev->type->state)};
    }
    return old;
}

static bool device_state_load_table(Device *dev, const StateDesc *desc, GBytes *data,
                                    GError **error)
{
    gsize size, used;
    if (desc == NULL) {
        return true;
    }
    const uint8_t *bytes = g_bytes_get_data(data, &size);
    return state_load(desc, dev, bytes, size, &used, error);
}

static bool device_state_load_device(const DeviceStateItem *item, GError **error) BQL_HELD
{
    Device *dev = item->dev;
    const DeviceType *type = dev->type;
    trace_device_state_load(dev->path);
    if (item->older && type->reset != NULL) {
        type->reset(dev);
    }
    if (!device_state_load_table(dev, type->base_state, item->base, error) ||
        !device_state_load_table(dev, type->state, item->own, error) ||
        (type->post_load != NULL && !type->post_load(dev, error))) {
        g_prefix_error(error, "%s: ", dev->path);
        return false;
    }
    return true;
}

/* The first @count devices get their old state back, which they had, so none refuses it. */
static void device_state_put_back(const GArray *old, unsigned count) BQL_HELD
{
    for (unsigned i = 0; i < count; i++) {
        g_autoptr(GError) error = NULL;
        if (!device_state_load_device(&g_array_index(old, DeviceStateItem, i), &error)) {
            bug_abort("a device does not take its own state back: %s", error->message);
        }
    }
}

bool device_state_apply(DeviceStateLoad *l, const VmStopped *token, GError **error)
{
    assert_bql();
    g_assert(token != NULL && token->count > 0);
    g_autoptr(GArray) old = device_state_keep_all(l);
    int64_t old_ns = vm_clock_now_ns();
    if (l->has_clock) {
        vm_clock_set_ns(l->clock_ns);
    }
    for (unsigned i = 0; i < l->items->len; i++) {
        if (!device_state_load_device(&g_array_index(l->items, DeviceStateItem, i), error)) {
            if (l->has_clock) {
                vm_clock_set_ns(old_ns);
            }
            device_state_put_back(old, i + 1);
            return false;
        }
    }
    return true;
}

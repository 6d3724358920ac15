/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/virtio/virtio_mapping.h"

#include <assert.h>
#include <string.h>

#define refuse(error, ...) (g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, __VA_ARGS__), false)
#define UNASSIGNED UINT8_MAX

static const OptDict *mapping_item(const VirtioMapping *m, unsigned i)
{
    g_autofree char *key = g_strdup_printf("%u", i);
    return opt_dict_get_dict(m->dict, key);
}

static bool mapping_assign(VirtioMapping *m, unsigned i, const char *iothread, const char *text,
                           GError **error)
{
    uint64_t vq;
    if (!opt_parse_u64(text, 0, UINT16_MAX, &vq, error)) {
        g_prefix_error(error, "iothread-vq-mapping: vqs: ");
        return false;
    }
    if (vq >= m->num_queues) {
        return refuse(error,
                      "vq index %u for IOThread \"%s\" must be less than num_queues %u in "
                      "iothread-vq-mapping",
                      (unsigned)vq, iothread, m->num_queues);
    }
    if (m->queue_lanes[m->first + vq] != UNASSIGNED) {
        return refuse(error,
                      "cannot assign vq %u to IOThread \"%s\" because it is already assigned",
                      (unsigned)vq, iothread);
    }
    m->queue_lanes[m->first + vq] = (uint8_t)i;
    return true;
}

/* The queues of item @i, if it names some. */
static bool mapping_take_vqs(VirtioMapping *m, unsigned i, const char *iothread,
                             const OptDict *item, GError **error)
{
    const OptDict *vqs = opt_dict_get_dict(item, "vqs");
    unsigned count = vqs ? opt_dict_count(vqs) : 0;
    for (unsigned n = 0; n < count; n++) {
        g_autofree char *key = g_strdup_printf("%u", n);
        const char *text = opt_dict_get(vqs, key);
        if (!text) {
            return refuse(error, "iothread-vq-mapping: vqs is a list of numbers");
        }
        if (!mapping_assign(m, i, iothread, text, error)) {
            return false;
        }
    }
    return true;
}

static RUNS_IN_MAIN bool mapping_take_item(VirtioMapping *m, const Device *dev, unsigned i,
                                           bool *has_vqs, GError **error)
{
    const DeviceEnv *env = dev->env;
    const OptDict *item = mapping_item(m, i);
    const char *iothread = item ? opt_dict_get(item, "iothread") : NULL;
    if (!iothread) {
        return refuse(error, "iothread-vq-mapping: each item has an iothread");
    }
    *has_vqs = opt_dict_has(item, "vqs");
    if (opt_dict_count(item) != (*has_vqs ? 2u : 1u) ||
        (*has_vqs && !opt_dict_get_dict(item, "vqs"))) {
        return refuse(error,
                      "iothread-vq-mapping: an item has iothread and a list of vqs, no more");
    }
    AioContext *home = env->find_iothread ? env->find_iothread(env->opaque, iothread) : NULL;
    if (!home) {
        return refuse(error, "IOThread \"%s\" object does not exist", iothread);
    }
    for (unsigned n = 0; n < i; n++) {
        if (m->homes[n] == home) {
            return refuse(error, "duplicate IOThread name \"%s\" in iothread-vq-mapping", iothread);
        }
    }
    m->homes[i] = home;
    return mapping_take_vqs(m, i, iothread, item, error);
}

static RUNS_IN_MAIN bool mapping_take(VirtioMapping *m, const Device *dev, GError **error)
{
    bool first_has_vqs = false;
    for (unsigned i = 0; i < m->count; i++) {
        bool has_vqs;
        if (!mapping_take_item(m, dev, i, &has_vqs, error)) {
            return false;
        }
        if (i > 0 && has_vqs != first_has_vqs) {
            return refuse(error, "either all items in iothread-vq-mapping must have vqs or none of "
                                 "them must have it");
        }
        first_has_vqs = has_vqs;
    }
    for (unsigned vq = 0; vq < m->num_queues; vq++) {
        if (!first_has_vqs) {
            m->queue_lanes[m->first + vq] = (uint8_t)(vq % m->count);
        } else if (m->queue_lanes[m->first + vq] == UNASSIGNED) {
            return refuse(error, "missing vq %u IOThread assignment in iothread-vq-mapping", vq);
        }
    }
    return true;
}

bool virtio_mapping_resolve(VirtioMapping *m, const Device *dev, const char *iothread,
                            unsigned first, unsigned num_queues, GError **error)
{
    if (!m->dict) {
        return true;
    }
    if (iothread) {
        return refuse(error,
                      "iothread and iothread-vq-mapping properties cannot be set at the same time");
    }
    m->first = first;
    m->num_queues = num_queues;
    m->count = opt_dict_count(m->dict);
    if (m->count == 0 || m->count > VIRTIO_MAX_QUEUES) {
        return refuse(error, "iothread-vq-mapping has 1 to %u items", VIRTIO_MAX_QUEUES);
    }
    m->homes = g_new0(AioContext *, m->count);
    memset(m->queue_lanes, 0, first);
    memset(m->queue_lanes + first, UNASSIGNED, sizeof(m->queue_lanes) - first);
    if (!mapping_take(m, dev, error)) {
        virtio_mapping_clear(m);
        return false;
    }
    return true;
}

void virtio_mapping_apply(const VirtioMapping *m, VirtioDevice *vdev)
{
    if (m->homes) {
        assert(vdev->home == m->homes[0]);
        vdev->num_lanes = m->count;
        vdev->lane_homes = m->homes;
        vdev->queue_lanes = m->queue_lanes;
    }
}

void virtio_mapping_clear(VirtioMapping *m)
{
    g_clear_pointer(&m->homes, g_free);
}

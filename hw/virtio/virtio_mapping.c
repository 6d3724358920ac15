/* SPDX-License-Identifier: Apache-2.0 */
/*
 * iothread-vq-mapping of virtio-blk: which iothread serves which virtqueue.
 *
 *   [{"iothread": "a", "vqs": [0, 2]}, {"iothread": "b", "vqs": [1, 3]}]
 *   [{"iothread": "a"}, {"iothread": "b"}]       queue n: item n % 2
 *
 * The first iothread is the home of the drive.
 */
#include <string.h>
#include "hw/virtio/virtio_blk.h"

#define refuse(error, ...) (g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, __VA_ARGS__), false)
#define UNASSIGNED UINT8_MAX

static const OptDict *mapping_item(const VirtioBlk *b, unsigned i)
{
    g_autofree char *key = g_strdup_printf("%u", i);
    return opt_dict_get_dict(b->vq_mapping, key);
}

static bool mapping_assign(VirtioBlk *b, unsigned i, const char *iothread, const char *text,
                           GError **error)
{
    uint64_t vq;
    if (!opt_parse_u64(text, 0, UINT16_MAX, &vq, error)) {
        g_prefix_error(error, "iothread-vq-mapping: vqs: ");
        return false;
    }
    if (vq >= b->num_queues) {
        return refuse(error,
                      "vq index %u for IOThread \"%s\" must be less than num_queues %u in "
                      "iothread-vq-mapping",
                      (unsigned)vq, iothread, b->num_queues);
    }
    if (b->queue_lanes[vq] != UNASSIGNED) {
        return refuse(error,
                      "cannot assign vq %u to IOThread \"%s\" because it is already assigned",
                      (unsigned)vq, iothread);
    }
    b->queue_lanes[vq] = (uint8_t)i;
    return true;
}

/* The queues of item @i, if it names some. */
static bool mapping_take_vqs(VirtioBlk *b, unsigned i, const char *iothread, const OptDict *item,
                             GError **error)
{
    const OptDict *vqs = opt_dict_get_dict(item, "vqs");
    unsigned count = vqs ? opt_dict_count(vqs) : 0;
    for (unsigned n = 0; n < count; n++) {
        g_autofree char *key = g_strdup_printf("%u", n);
        const char *text = opt_dict_get(vqs, key);
        if (!text) {
            return refuse(error, "iothread-vq-mapping: vqs is a list of numbers");
        }
        if (!mapping_assign(b, i, iothread, text, error)) {
            return false;
        }
    }
    return true;
}

static RUNS_IN_MAIN bool mapping_take_item(VirtioBlk *b, unsigned i, bool *has_vqs, GError **error)
{
    const DeviceEnv *env = b->base.pci.base.env;
    const OptDict *item = mapping_item(b, i);
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
        if (b->vq_homes[n] == home) {
            return refuse(error, "duplicate IOThread name \"%s\" in iothread-vq-mapping", iothread);
        }
    }
    b->vq_homes[i] = home;
    return mapping_take_vqs(b, i, iothread, item, error);
}

static RUNS_IN_MAIN bool mapping_take(VirtioBlk *b, GError **error)
{
    bool first_has_vqs = false;
    for (unsigned i = 0; i < b->vq_home_count; i++) {
        bool has_vqs;
        if (!mapping_take_item(b, i, &has_vqs, error)) {
            return false;
        }
        if (i > 0 && has_vqs != first_has_vqs) {
            return refuse(error, "either all items in iothread-vq-mapping must have vqs or none of "
                                 "them must have it");
        }
        first_has_vqs = has_vqs;
    }
    for (unsigned vq = 0; vq < b->num_queues; vq++) {
        if (!first_has_vqs) {
            b->queue_lanes[vq] = (uint8_t)(vq % b->vq_home_count);
        } else if (b->queue_lanes[vq] == UNASSIGNED) {
            return refuse(error, "missing vq %u IOThread assignment in iothread-vq-mapping", vq);
        }
    }
    return true;
}

bool virtio_blk_map_queues(VirtioBlk *b, GError **error)
{
    if (!b->vq_mapping) {
        return true;
    }
    if (b->iothread) {
        return refuse(error,
                      "iothread and iothread-vq-mapping properties cannot be set at the same time");
    }
    b->vq_home_count = opt_dict_count(b->vq_mapping);
    if (b->vq_home_count == 0 || b->vq_home_count > VIRTIO_MAX_QUEUES) {
        return refuse(error, "iothread-vq-mapping has 1 to %u items", VIRTIO_MAX_QUEUES);
    }
    b->vq_homes = g_new0(AioContext *, b->vq_home_count);
    memset(b->queue_lanes, UNASSIGNED, sizeof(b->queue_lanes));
    if (!mapping_take(b, error)) {
        g_clear_pointer(&b->vq_homes, g_free);
        return false;
    }
    return true;
}

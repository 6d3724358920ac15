/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <string.h>
#include "hw/virtio/trace_events.h"
#include "hw/virtio/virtio.h"
#include "util/loop/held.h"

/* ---- saved state ---- */

static const StateField queue_fields[] = {
    STATE_FIELD(VirtioQueueState, STATE_U64, desc_gpa),
    STATE_FIELD(VirtioQueueState, STATE_U64, avail_gpa),
    STATE_FIELD(VirtioQueueState, STATE_U64, used_gpa),
    STATE_FIELD(VirtioQueueState, STATE_U16, size),
    STATE_FIELD(VirtioQueueState, STATE_U16, vector),
    STATE_FIELD(VirtioQueueState, STATE_U16, last_avail),
    STATE_FIELD(VirtioQueueState, STATE_U16, used),
    STATE_FIELD(VirtioQueueState, STATE_BOOL, enabled),
    STATE_ARRAY(VirtioQueueState, STATE_PAD, pad),
    {.name = "parked",
     .type = STATE_BYTES,
     .offset = offsetof(VirtioQueueState, parked),
     .size = 1,
     .count = VIRTQUEUE_MAX_SIZE / 8},
    {0},
};

static const StateDesc queue_state_desc = {.name = "virtio-queue",
                                           .version = 1,
                                           .min_version = 1,
                                           .struct_size = sizeof(VirtioQueueState),
                                           .fields = queue_fields};

static const StateField virtio_fields[] = {
    STATE_FIELD(VirtioState, STATE_U64, driver_features),
    STATE_FIELD(VirtioState, STATE_U32, device_feature_select),
    STATE_FIELD(VirtioState, STATE_U32, driver_feature_select),
    STATE_FIELD(VirtioState, STATE_U16, config_vector),
    STATE_FIELD(VirtioState, STATE_U16, queue_select),
    STATE_FIELD(VirtioState, STATE_U8, status),
    STATE_FIELD(VirtioState, STATE_U8, config_generation),
    STATE_FIELD(VirtioState, STATE_BOOL, config_changed),
    STATE_FIELD_MAX(VirtioState, STATE_U8, isr, 3),
    STATE_STRUCTS(VirtioState, queues, &queue_state_desc),
    {0},
};

const StateDesc virtio_state_desc = {.name = "virtio",
                                     .version = 1,
                                     .min_version = 1,
                                     .struct_size = sizeof(VirtioState),
                                     .fields = virtio_fields};

/* ---- the status machine ---- */

/* The function that makes each move. A driver's write that would make any other move is refused. */
static const char *const moves[VIRTIO_PHASES][VIRTIO_PHASES] = {
    [VIRTIO_RESET] = {[VIRTIO_ACKNOWLEDGED] = "status_add", [VIRTIO_FAILED] = "status_add"},
    [VIRTIO_ACKNOWLEDGED] = {[VIRTIO_DRIVER] = "status_add",
                             [VIRTIO_FAILED] = "status_add",
                             [VIRTIO_RESET] = "virtio_finish_reset"},
    [VIRTIO_DRIVER] = {[VIRTIO_NEGOTIATED] = "status_add",
                       [VIRTIO_FAILED] = "status_add",
                       [VIRTIO_RESET] = "virtio_finish_reset"},
    [VIRTIO_NEGOTIATED] = {[VIRTIO_LIVE] = "status_add",
                           [VIRTIO_FAILED] = "status_add",
                           [VIRTIO_RESET] = "virtio_finish_reset"},
    [VIRTIO_LIVE] = {[VIRTIO_NEEDS_RESET] = "virtio_set_needs_reset",
                     [VIRTIO_FAILED] = "status_add",
                     [VIRTIO_RESETTING] = "reset_request",
                     [VIRTIO_RESET] = "virtio_finish_reset"},
    [VIRTIO_NEEDS_RESET] = {[VIRTIO_FAILED] = "status_add",
                            [VIRTIO_RESETTING] = "reset_request",
                            [VIRTIO_RESET] = "virtio_finish_reset"},
    [VIRTIO_FAILED] =
        {[VIRTIO_RESETTING] = "reset_request", [VIRTIO_RESET] = "virtio_finish_reset"},
    [VIRTIO_RESETTING] = {[VIRTIO_RESET] = "virtio_finish_reset"},
};

static bool move_is_by(VirtioPhase from, VirtioPhase to, const char *by)
{
    return moves[from][to] && strcmp(moves[from][to], by) == 0;
}

static VirtioPhase phase_of(uint8_t status)
{
    if (!status) {
        return VIRTIO_RESET;
    }
    if (status & VIRTIO_STATUS_FAILED) {
        return VIRTIO_FAILED;
    }
    if (status & VIRTIO_STATUS_NEEDS_RESET) {
        return VIRTIO_NEEDS_RESET;
    }
    if (status & VIRTIO_STATUS_DRIVER_OK) {
        return VIRTIO_LIVE;
    }
    if (status & VIRTIO_STATUS_FEATURES_OK) {
        return VIRTIO_NEGOTIATED;
    }
    return status & VIRTIO_STATUS_DRIVER ? VIRTIO_DRIVER : VIRTIO_ACKNOWLEDGED;
}

VirtioPhase virtio_phase(const VirtioDevice *vdev)
{
    return vdev->resetting ? VIRTIO_RESETTING : phase_of(vdev->state->status);
}

void assert_virtio_state(const VirtioDevice *vdev)
{
    const VirtioState *s = vdev->state;
    if (vdev->owner == VIRTIO_OWNER_HOME || vdev->owner == VIRTIO_OWNER_STARTING ||
        vdev->owner == VIRTIO_OWNER_BACK_END) {
        assert(s->status & VIRTIO_STATUS_DRIVER_OK); /* 1 */
        assert(vdev->vm_running && !vdev->resetting && !vdev->dma_blocked);
    }
    if (vdev->resetting) {
        assert(vdev->owner == VIRTIO_OWNER_RECALLING || vdev->owner == VIRTIO_OWNER_CANCELLING ||
               vdev->owner == VIRTIO_OWNER_STOPPING); /* 2 */
    }
    if (!s->status) {
        assert(vdev->owner == VIRTIO_OWNER_MAIN);
    }
    if (s->status & VIRTIO_STATUS_FEATURES_OK) {
        assert(!(s->driver_features & ~vdev->features)); /* 3 */
    }
}

static BQL_HELD void status_move_by(VirtioDevice *vdev, uint8_t status, const char *by)
{
    VirtioState *s = vdev->state;
    VirtioPhase from = virtio_phase(vdev), to = phase_of(status);
    assert(from == to || move_is_by(from, to, by));
    trace_virtio_status(device_label(vdev->dev), s->status, status);
    s->status = status;
}
#define status_move(vdev, status) status_move_by(vdev, status, __func__)

static BQL_HELD bool features_accept(VirtioDevice *vdev)
{
    const VirtioState *s = vdev->state;
    if ((s->driver_features & ~vdev->features) || !(s->driver_features & VIRTIO_F_VERSION_1)) {
        virtio_guest_error(vdev, "driver features 0x%" PRIx64 " refused, 0x%" PRIx64 " offered",
                           s->driver_features, vdev->features);
        return false;
    }
    if (vdev->ops->negotiated) {
        vdev->ops->negotiated(vdev);
    }
    return true;
}

/* Sets one status bit, in the order that the driver must follow (§3.1.1). */
static BQL_HELD void status_add(VirtioDevice *vdev, uint8_t bit)
{
    VirtioState *s = vdev->state;
    uint8_t status = s->status | bit;
    VirtioPhase from = virtio_phase(vdev), to = phase_of(status);
    if (from == VIRTIO_FAILED || (from != to && !moves[from][to])) { /* a reset ends FAILED */
        virtio_guest_error(vdev, "status 0x%x set out of order after 0x%x", bit, s->status);
        return;
    }
    if (bit == VIRTIO_STATUS_FEATURES_OK && !features_accept(vdev)) {
        return;
    }
    status_move(vdev, status);
    if (bit == VIRTIO_STATUS_DRIVER_OK) {
        virtio_hand_over(vdev);
    }
}

static BQL_HELD void registers_reset(VirtioDevice *vdev)
{
    VirtioState *s = vdev->state;
    memset(s, 0, sizeof(*s));
    s->config_vector = VIRTIO_NO_VECTOR;
    for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++) {
        s->queues[i].size = i < vdev->num_queues ? vdev->queue_size : 0;
        s->queues[i].vector = VIRTIO_NO_VECTOR;
    }
    if (vdev->ops->reset) {
        vdev->ops->reset(vdev);
    }
    vdev->transport->reset(vdev->transport_opaque);
}

void virtio_finish_reset(VirtioDevice *vdev)
{
    assert(vdev->owner == VIRTIO_OWNER_MAIN);
    status_move(vdev, 0);
    vdev->resetting = false;
    registers_reset(vdev);
    assert_virtio_state(vdev);
}

/* The driver wrote 0: resets at once when main owns the queues, else when they are returned. */
static BQL_HELD void reset_request(VirtioDevice *vdev)
{
    vdev->generation++;
    if (vdev->owner == VIRTIO_OWNER_MAIN) {
        virtio_finish_reset(vdev);
        return;
    }
    virtio_recall(vdev);
    assert(move_is_by(virtio_phase(vdev), VIRTIO_RESETTING, __func__));
    vdev->resetting = true;
}

void virtio_reset(VirtioDevice *vdev)
{
    assert(vdev->owner == VIRTIO_OWNER_MAIN);
    vdev->generation++;
    if (vdev->state->status) {
        virtio_finish_reset(vdev);
    } else {
        registers_reset(vdev);
    }
}

void virtio_set_needs_reset(VirtioDevice *vdev)
{
    VirtioState *s = vdev->state;
    if (!s->status || (s->status & VIRTIO_STATUS_NEEDS_RESET)) {
        return;
    }
    status_move(vdev, s->status | VIRTIO_STATUS_NEEDS_RESET);
    if (s->status & VIRTIO_STATUS_DRIVER_OK) {
        vdev->transport->notify_config(vdev->transport_opaque); /* §2.1.2 */
    }
}

bool virtio_resetting(const VirtioDevice *vdev)
{
    return vdev->resetting;
}

uint8_t virtio_read_status(const VirtioDevice *vdev)
{
    return vdev->state->status;
}

void virtio_write_status(VirtioDevice *vdev, uint8_t value)
{
    static const uint8_t order[] = {VIRTIO_STATUS_ACKNOWLEDGE, VIRTIO_STATUS_DRIVER,
                                    VIRTIO_STATUS_FEATURES_OK, VIRTIO_STATUS_DRIVER_OK,
                                    VIRTIO_STATUS_FAILED};
    VirtioState *s = vdev->state;
    assert(!vdev->resetting);
    if (!value) {
        if (s->status) {
            reset_request(vdev);
        } else {
            virtio_reset(vdev); /* feature and queue registers may have been written */
        }
        return;
    }
    uint8_t device_owned = VIRTIO_STATUS_NEEDS_RESET;
    if (s->status & ~value & ~device_owned) {
        virtio_guest_error(vdev, "status 0x%x would clear bits of 0x%x", value, s->status);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(order); i++) {
        if ((value & order[i]) && !(s->status & order[i])) {
            status_add(vdev, order[i]);
        }
    }
    assert_virtio_state(vdev);
}

/* ---- features ---- */

static uint32_t feature_half(uint64_t features, uint32_t select)
{
    return select > 1 ? 0 : (uint32_t)(features >> (32 * select));
}

uint32_t virtio_read_features(const VirtioDevice *vdev, uint32_t select)
{
    return feature_half(vdev->features, select);
}

uint32_t virtio_read_driver_features(const VirtioDevice *vdev, uint32_t select)
{
    return feature_half(vdev->state->driver_features, select);
}

void virtio_write_features(VirtioDevice *vdev, uint32_t select, uint32_t value)
{
    VirtioState *s = vdev->state;
    if (s->status & VIRTIO_STATUS_FEATURES_OK) {
        virtio_guest_error(vdev, "features written after FEATURES_OK");
        return;
    }
    if (select > 1) {
        return;
    }
    unsigned shift = 32 * select;
    s->driver_features &= ~(0xffffffffull << shift);
    s->driver_features |= (uint64_t)value << shift;
}

bool virtio_has_feature(const VirtioDevice *vdev, uint64_t bit)
{
    return vdev->state->driver_features & bit;
}

/* ---- queue registers ---- */

VirtioQueueState *virtio_selected_queue(VirtioDevice *vdev)
{
    unsigned index = vdev->state->queue_select;
    return index < vdev->num_queues ? &vdev->state->queues[index] : NULL;
}

/* Registers of a queue are read-only once it is enabled or DRIVER_OK is set (§4.1.4.3.2). */
static BQL_HELD VirtioQueueState *queue_to_set_up(VirtioDevice *vdev, const char *what)
{
    VirtioQueueState *q = virtio_selected_queue(vdev);
    if (!q) {
        return NULL;
    }
    if (q->enabled || (vdev->state->status & VIRTIO_STATUS_DRIVER_OK)) {
        virtio_guest_error(vdev, "%s of queue %u written after it was enabled or DRIVER_OK", what,
                           vdev->state->queue_select);
        return NULL;
    }
    return q;
}

void virtio_write_queue_size(VirtioDevice *vdev, uint16_t size)
{
    VirtioQueueState *q = queue_to_set_up(vdev, "size");
    if (!q) {
        return;
    }
    if (!size || size > vdev->queue_size || (size & (size - 1))) {
        virtio_guest_error(vdev, "size %u of queue %u is not a power of two up to %u", size,
                           vdev->state->queue_select, vdev->queue_size);
        return;
    }
    q->size = size;
}

void virtio_write_queue_gpa(VirtioDevice *vdev, uint64_t *field, bool high, uint32_t value)
{
    if (!queue_to_set_up(vdev, "address")) {
        return;
    }
    if (high) {
        *field = (*field & 0xffffffffull) | (uint64_t)value << 32;
    } else {
        *field = (*field & ~0xffffffffull) | value;
    }
}

void virtio_enable_queue(VirtioDevice *vdev)
{
    VirtioQueueState *q = queue_to_set_up(vdev, "enable");
    if (q) {
        q->enabled = true;
    }
}

/* ---- configuration space ---- */

uint32_t virtio_read_config(VirtioDevice *vdev, unsigned offset, unsigned size)
{
    VirtioState *s = vdev->state;
    uint8_t config[VIRTIO_MAX_CONFIG] = {0};
    if (offset + size > vdev->config_size) {
        return 0xffffffffu >> (32 - 8 * size);
    }
    if (s->config_changed) { /* §4.1.4.3.1: no later than the read of the new value */
        s->config_changed = false;
        s->config_generation++;
    }
    vdev->ops->get_config(vdev, config);
    uint32_t value = 0;
    memcpy(&value, config + offset, size);
    return value;
}

void virtio_write_config(VirtioDevice *vdev, unsigned offset, unsigned size, uint32_t value)
{
    if (offset + size <= vdev->config_size && vdev->ops->set_config) {
        vdev->ops->set_config(vdev, offset, size, value);
    }
}

void virtio_config_changed(VirtioDevice *vdev)
{
    vdev->state->config_changed = true;
    if ((vdev->state->status & VIRTIO_STATUS_DRIVER_OK) && !vdev->resetting) {
        vdev->transport->notify_config(vdev->transport_opaque);
    }
}

/* ---- life cycle ---- */

bool virtio_init(VirtioDevice *vdev, GError **error)
{
    assert(vdev->num_queues && vdev->num_queues <= VIRTIO_MAX_QUEUES);
    assert(vdev->config_size <= VIRTIO_MAX_CONFIG);
    vdev->pended.what = "the return of the virtqueues";
    co_queue_init(&vdev->returned);
    if (!virtio_queues_init(vdev, error)) {
        return false;
    }
    bql_lock();
    registers_reset(vdev);
    bql_unlock();
    return true;
}

void virtio_cleanup(VirtioDevice *vdev)
{
    virtio_queues_cleanup(vdev);
}

static bool is_power_of_two(unsigned n)
{
    return n && !(n & (n - 1));
}

bool virtio_check_state(const VirtioDevice *vdev, const VirtioState *s, GError **error)
{
    const char *wrong = NULL;
    if ((s->status & VIRTIO_STATUS_FEATURES_OK) && (s->driver_features & ~vdev->features)) {
        wrong = "features this device does not offer";
    } else if ((s->status & VIRTIO_STATUS_DRIVER_OK) && !(s->status & VIRTIO_STATUS_FEATURES_OK)) {
        wrong = "DRIVER_OK without FEATURES_OK";
    }
    for (unsigned i = 0; i < VIRTIO_MAX_QUEUES && !wrong; i++) {
        const VirtioQueueState *q = &s->queues[i];
        if (i >= vdev->num_queues ? q->enabled
                                  : q->size > vdev->queue_size || !is_power_of_two(q->size)) {
            wrong = "a queue this device does not have, or of another size";
        }
    }
    if (wrong) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "%s: saved state has %s",
                    device_label(vdev->dev), wrong);
    }
    return !wrong;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/virtio/virtio_balloon.h"
#include "vmm/monitor/commands/qmp_balloon.h"
#include "vmm/monitor/commands/qmp_events.h"

static RUNS_IN_MAIN Device *qmp_balloon_find(Vm *vm, GError **error)
{
    Device *dev = machine_find_type(&vm->machine, virtio_balloon_pci_type.name);
    if (dev == NULL || dev->leaving) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_DEVICE_NOT_ACTIVE,
                    "No balloon device has been activated");
        return NULL;
    }
    return dev;
}

static struct json_object *qmp_balloon(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    int64_t value = qmp_arg_int(args, "value", 0);
    Device *dev = qmp_balloon_find(call->vm, error);
    if (dev != NULL && value <= 0) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "Parameter 'target' expects a size");
    } else if (dev != NULL) {
        virtio_balloon_set_target(dev, (uint64_t)value);
    }
    return NULL;
}

static struct json_object *qmp_query_balloon(QmpCall *call, struct json_object *args,
                                             GError **error)
{
    enter_main();
    Device *dev = qmp_balloon_find(call->vm, error);
    if (dev == NULL) {
        return NULL;
    }
    struct json_object *info = json_object_new_object();
    qmp_put_u64(info, "actual", virtio_balloon_actual(dev));
    return info;
}

/* ---- properties ---- */

bool qmp_is_balloon(const DeviceType *type)
{
    return type == &virtio_balloon_pci_type;
}

void qmp_put_balloon_values(struct json_object *values, const Device *dev)
{
    const VirtioBalloonStats *stats = virtio_balloon_stats(dev);
    struct json_object *info = json_object_new_object(), *list = json_object_new_object();
    for (unsigned i = 0; i < VIRTIO_BALLOON_STAT_COUNT; i++) {
        qmp_put(list, virtio_balloon_stat_names[i], json_object_new_uint64(stats->values[i]));
    }
    qmp_put(info, "stats", list);
    qmp_put_int(info, "last-update", stats->updated_s);
    qmp_put(values, QMP_BALLOON_STATS, info);
    qmp_put_int(values, QMP_BALLOON_INTERVAL, virtio_balloon_poll_interval(dev));
}

bool qmp_balloon_set_interval(Device *dev, struct json_object *value, GError **error)
{
    if (!json_object_is_type(value, json_type_int)) {
        return qmp_refuse(error, "Invalid parameter type for '" QMP_BALLOON_INTERVAL
                                 "', expected: integer");
    }
    int64_t seconds = json_object_get_int64(value);
    if (seconds < 0) {
        return qmp_refuse(error, "timer value must be greater than zero");
    }
    if (seconds > UINT32_MAX) {
        return qmp_refuse(error, "timer value is too big");
    }
    virtio_balloon_set_poll_interval(dev, (uint32_t)seconds);
    return true;
}

/* ---- the event ---- */

#define QMP_BALLOON_QUIET_NS (INT64_C(1) * 1000000000)

static struct {
    uint64_t actual;
    bool pending;   /* `actual` has not been announced */
    AioTimer quiet; /* armed for QMP_BALLOON_QUIET_NS after an event */
} qmp_balloon_state;

static void qmp_balloon_announce(void *opaque)
{
    enter_main();
    AioTimer *quiet = &qmp_balloon_state.quiet;
    if (!qmp_balloon_state.pending) {
        return;
    }
    struct json_object *data = json_object_new_object();
    qmp_balloon_state.pending = false;
    qmp_put_u64(data, "actual", qmp_balloon_state.actual);
    qmp_event_emit("BALLOON_CHANGE", data);
    aio_timer_arm(quiet, aio_now_ns(quiet->ctx) + QMP_BALLOON_QUIET_NS);
}

void qmp_balloon_changed(VmListener *l, uint64_t actual)
{
    if (qmp_balloon_state.quiet.ctx != l->vm->ctx) {
        aio_timer_init(&qmp_balloon_state.quiet, l->vm->ctx, qmp_balloon_announce, NULL);
    }
    qmp_balloon_state.actual = actual;
    qmp_balloon_state.pending = true;
    if (qmp_balloon_state.quiet.heap_index == 0) {
        qmp_balloon_announce(NULL);
    }
}

/* ---- schema ---- */

static const QmpType qmp_balloon_args = {
    .name = "balloon-arg",
    .kind = QMP_KIND_STRUCT,
    .members =
        QMP_MEMBERS({"value", &qmp_int, .doc = "the memory that the guest shall have, in bytes"}),
};
static const QmpType qmp_balloon_info = {
    .name = "BalloonInfo",
    .kind = QMP_KIND_STRUCT,
    .members =
        QMP_MEMBERS({"actual", &qmp_int, .doc = "the memory that the guest has left, in bytes"}),
};
static const QmpType qmp_balloon_change = {
    .name = "q_obj_BALLOON_CHANGE-arg",
    .kind = QMP_KIND_STRUCT,
    .members =
        QMP_MEMBERS({"actual", &qmp_int, .doc = "the memory that the guest has left, in bytes"}),
};

static const QmpCommand qmp_balloon_commands[] = {
    {"balloon", &qmp_balloon_args, NULL, QMP_INSTANT, qmp_balloon,
     "Asks the guest, through virtio-balloon-pci, to give memory back or to take it again. Returns "
     "before "
     "the guest has done so: BALLOON_CHANGE and query-balloon have the size."},
    {"query-balloon", NULL, &qmp_balloon_info, QMP_INSTANT, qmp_query_balloon,
     "The size of the guest's memory without what is in the balloon, as the guest reports it."},
    {0},
};
static const QmpEvent qmp_balloon_events[] = {
    {"BALLOON_CHANGE", &qmp_balloon_change,
     "The guest has changed the size of the balloon. At most one event per second, with the size "
     "of that "
     "time."},
    {0},
};

QMP_GROUP(balloon);

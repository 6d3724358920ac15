/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of disks: block_set_io_throttle, and what queries show of them. */
#include <string.h>
#include "vmm/backends/throttle.h"
#include "vmm/monitor/commands/qmp_block.h"
#include "vmm/monitor/commands/qmp_throttle.h"

/* ---- queries ---- */

void qmp_put_throttle(struct json_object *info, const ThrottleGroup *g)
{
    RateLimits limits;
    rate_limits_init(&limits);
    if (g != NULL) {
        throttle_group_limits(g, &limits);
    }
    for (unsigned i = 0; i < RATE_BUCKETS; i++) { /* rate, burst, length of the burst */
        const ThrottleName *name = &throttle_names[3 * i];
        const RateBucketLimits *b = &limits.buckets[i];
        qmp_put_int(info, name[0].query, (int64_t)b->avg);
        if (b->max != 0) {
            qmp_put_int(info, name[1].query, (int64_t)b->max);
            qmp_put_int(info, name[2].query, (int64_t)b->length_s);
        }
    }
    if (limits.iops_size != 0) {
        qmp_put_int(info, "iops_size", (int64_t)limits.iops_size);
    }
    if (g != NULL) {
        qmp_put_str(info, "group", throttle_group_name(g));
    }
}

struct json_object *qmp_throttle_values(const ThrottleGroup *g)
{
    RateLimits limits;
    throttle_group_limits(g, &limits);
    struct json_object *values = json_object_new_object(), *all = json_object_new_object();
    for (unsigned i = 0; i < THROTTLE_NAMES; i++) {
        const ThrottleName *name = &throttle_names[i];
        int64_t value = (int64_t)throttle_value(&limits, name);
        g_autofree char *property = g_strconcat("x-", name->option, NULL);
        qmp_put_int(all, name->option, value);
        qmp_put_int(values, property, value);
    }
    qmp_put(values, "limits", all);
    return values;
}

/* ---- block_set_io_throttle ---- */

static BlockDrive *qmp_find_drive(Vm *vm, const char *id)
{
    for (unsigned i = 0; i < vm->backends.drives->len; i++) {
        BlockDrive *d = vm->backends.drives->pdata[i];
        if (strcmp(d->id, id) == 0) {
            return d;
        }
    }
    return NULL;
}

/* The backend of the device that uses the drive; NULL: none does. */
static RUNS_IN_MAIN BlockBackend *qmp_backend_of_drive(Vm *vm, const char *drive)
{
    unsigned count;
    g_autofree BlockBackend **list = blk_list(&count);
    for (unsigned i = 0; i < count; i++) {
        const char *node_name = block_node_name(blk_root(list[i]));
        if (strcmp(backends_drive_of_node(&vm->backends, node_name), drive) == 0 &&
            qmp_backend_has_device(vm, list[i])) {
            return list[i];
        }
    }
    return NULL;
}

/* Finds the disk that the arguments name. */
static RUNS_IN_MAIN bool qmp_throttle_find_disk(Vm *vm, struct json_object *args,
                                                ThrottleDisk *disk, GError **error)
{
    const char *device = qmp_arg_str(args, "device"), *id = qmp_arg_str(args, "id");
    if ((device != NULL) == (id != NULL)) {
        g_set_error_literal(error, QMP_ERROR, QMP_ERROR_GENERIC,
                            "Need exactly one of 'device' and 'id'");
        return false;
    }
    *disk = (ThrottleDisk){.id = device != NULL ? device : id};
    if (device != NULL) {
        disk->drive = qmp_find_drive(vm, device);
        if (disk->drive == NULL) {
            g_set_error(error, QMP_ERROR, QMP_ERROR_DEVICE_NOT_FOUND, "Device '%s' not found",
                        device);
            return false;
        }
        disk->blk = qmp_backend_of_drive(vm, device);
        return true;
    }
    disk->blk = qmp_find_backend(vm, id, error);
    if (disk->blk == NULL) {
        return false;
    }
    const char *node_name = block_node_name(blk_root(disk->blk));
    disk->drive = qmp_find_drive(vm, backends_drive_of_node(&vm->backends, node_name));
    return true;
}

static struct json_object *qmp_block_set_io_throttle(QmpCall *call, struct json_object *args,
                                                     GError **error)
{
    enter_main();
    enter_coroutine();
    RateLimits limits;
    ThrottleDisk disk;
    rate_limits_init(&limits);
    for (unsigned i = 0; i < THROTTLE_NAMES; i++) {
        const ThrottleName *name = &throttle_names[i];
        if (qmp_arg_has(args, name->query)) {
            throttle_set_value(&limits, name, (uint64_t)qmp_arg_int(args, name->query, 0));
        }
    }
    vm_operation_begin(&call->vm->run); /* keeps the device from being removed */
    if (qmp_throttle_find_disk(call->vm, args, &disk, error)) {
        throttle_co_set_disk(&disk, &limits, qmp_arg_str(args, "group"), error);
    }
    vm_operation_end(&call->vm->run);
    return NULL;
}

/* ---- schema ---- */

static const QmpType throttle_arg = {
    .name = "BlockIOThrottle",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"device", &qmp_str, true, .doc = "id of a -drive"},
        {"id", &qmp_str, true, .doc = "instead: id or path of the guest's device"},
        {"bps", &qmp_int, .doc = "bytes a second; 0: no limit"},
        {"bps_rd", &qmp_int, .doc = "of reads"}, {"bps_wr", &qmp_int, .doc = "of writes"},
        {"iops", &qmp_int, .doc = "requests a second; 0: no limit"},
        {"iops_rd", &qmp_int, .doc = "of reads"}, {"iops_wr", &qmp_int, .doc = "of writes"},
        {"bps_max", &qmp_int, true, .doc = "bytes a second in a burst; 0: no burst"},
        {"bps_rd_max", &qmp_int, true, .doc = "of reads"},
        {"bps_wr_max", &qmp_int, true, .doc = "of writes"},
        {"iops_max", &qmp_int, true, .doc = "requests a second in a burst; 0: no burst"},
        {"iops_rd_max", &qmp_int, true, .doc = "of reads"},
        {"iops_wr_max", &qmp_int, true, .doc = "of writes"},
        {"bps_max_length", &qmp_int, true, .doc = "seconds of a burst; 1 by default"},
        {"bps_rd_max_length", &qmp_int, true, .doc = "of reads"},
        {"bps_wr_max_length", &qmp_int, true, .doc = "of writes"},
        {"iops_max_length", &qmp_int, true, .doc = "seconds of a burst; 1 by default"},
        {"iops_rd_max_length", &qmp_int, true, .doc = "of reads"},
        {"iops_wr_max_length", &qmp_int, true, .doc = "of writes"},
        {"iops_size", &qmp_int, true,
         .doc = "a larger request counts once for each so many bytes; 0: once"},
        {"group", &qmp_str, true, .doc = "the group that shares the limits; its own by default"}),
};

static const QmpCommand qmp_throttle_commands[] = {
    {"block_set_io_throttle", &throttle_arg, NULL, 0, qmp_block_set_io_throttle,
     "Limits the I/O of a disk, also of the other disks of its group. All zero ends that, and the "
     "disk leaves its group."},
    {0},
};

static const QmpEvent qmp_throttle_events[] = {{0}};

QMP_GROUP(throttle);

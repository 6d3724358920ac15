/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits of disks as users write them: -object throttle-group, throttling.* of -drive,
 * block_set_io_throttle.
 *
 *   -object throttle-group,id=g,limits.iops-total=100,limits.iops-total-max=1000
 *   -blockdev driver=throttle,throttle-group=g,...    a node with these limits
 *   -drive ...,throttling.iops-total=100,throttling.group=g
 *
 * A group of -drive exists as long as it has members; that of -object until object-del. The limits
 * of -drive belong to the drive: each device that uses it gets them. All in main.
 */
#ifndef SKIFF_VMM_BACKENDS_THROTTLE_H
#define SKIFF_VMM_BACKENDS_THROTTLE_H

#include "block/throttle.h"
#include "vmm/backends/backends.h"
#include "vmm/backends/drive_options.h"

/* A value of RateLimits. */
typedef struct ThrottleName {
    const char *option; /* "bps-read-max": of limits, and after "x-" and "throttling." */
    const char *query;  /* "bps_rd_max": of query-block and block_set_io_throttle */
    size_t offset;      /* in RateLimits */
    bool is_length;     /* -drive has no short name for it */
} ThrottleName;

#define THROTTLE_NAMES 19u
extern const ThrottleName throttle_names[THROTTLE_NAMES];

static inline uint64_t throttle_value(const RateLimits *limits, const ThrottleName *name)
{
    return *(const uint64_t *)(const void *)((const char *)limits + name->offset);
}
static inline void throttle_set_value(RateLimits *limits, const ThrottleName *name, uint64_t value)
{
    *(uint64_t *)(void *)((char *)limits + name->offset) = value;
}

/* Moves the values that @d has below @prefix ("limits.") to @limits. With @short_names also those of
 * -drive ("bps_rd"). A negative number becomes one that rate_limits_check() refuses. */
bool throttle_take_values(OptDict *d, const char *prefix, bool short_names, RateLimits *limits,
                          GError **error) ANY_THREAD;

/* ---- -object throttle-group ---- */
/* @opts with "qom-type" and "id", which is free. */
bool throttle_add_object(Backends *b, const OptDict *opts, GError **error) RUNS_IN_MAIN;
ThrottleGroup *throttle_find_object(const Backends *b, const char *id) RUNS_IN_MAIN; /* or NULL */
/* False + error: it is in use. */
bool throttle_del_object(Backends *b, const char *id, GError **error) RUNS_IN_MAIN;
/* Changes the limits that @values names. */
bool throttle_set_object_limits(ThrottleGroup *g, OptDict *values, GError **error) RUNS_IN_MAIN;

/* ---- disks ---- */
/* The limits of a new -drive. */
void throttle_add_drive(BlockDrive *d) RUNS_IN_MAIN;
/* Gives the limits of the -drive with node @node_name to the backend of the new device @label. */
void throttle_co_add_device(Backends *b, const char *node_name, const char *label)
    coroutine_fn RUNS_IN_MAIN;
/* Sets the limits of a disk: of @d or @blk, or of both, when the device is the drive's; one may be
 * NULL. @group: its group, NULL: the present one, or else a group of that id. Without limits it
 * leaves its group. False + error: nothing has changed. Under the operation lock. */
typedef struct ThrottleDisk {
    BlockDrive *drive;
    BlockBackend *blk;
    const char *id;
} ThrottleDisk;
bool throttle_co_set_disk(const ThrottleDisk *disk, const RateLimits *limits, const char *group,
                          GError **error) coroutine_fn RUNS_IN_MAIN;

#endif

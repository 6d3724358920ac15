/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The devices of a stopped machine as sections of a state stream, and back.
 *
 * A device has a section for each of its tables, with its path as instance: first `base_state` (of the bus),
 * then `state`. A device type without a table has nothing to save.
 *
 *   save    can_save of all; then for each device pre_save and its sections
 *   stage   finds, decodes and checks all sections, in scratch memory
 *   apply   keeps the old state; then for each device base state, state, post_load
 *
 * What makes a load fail is found by `stage`. Should a device refuse later, `apply` puts the old state of all
 * that it has changed back, by the same tables.
 *
 * Invariants
 *   1. `stage` changes no device. `apply` changes all, or none that shows.
 *   2. Devices are loaded in the order of @devices, that of their creation: a bus before what is on it.
 *   3. Between two devices each is consistent: loaded wholly, or not at all.
 */
#ifndef SKIFF_MIGRATION_DEVICE_STATE_H
#define SKIFF_MIGRATION_DEVICE_STATE_H

#include "hw/core/device.h"
#include "hw/core/run_state.h"
#include "util/state/state_stream.h"

/* Appends the state of @devices (Device, in order of creation; each has a path). False + error: one cannot be
 * saved now, and says why; or the stream would be too large. */
bool device_state_save(const GPtrArray *devices, const VmStopped *token, StateWriter *w,
                       GError **error) BQL_HELD RUNS_IN_MAIN;

/* A load that was checked. */
typedef struct DeviceStateLoad DeviceStateLoad;
/* Takes the sections of @devices from @s and checks them; changes no device. @devices live as long as the
 * result, @s need not. NULL + error: a section is missing, is another version's, or has values that the device
 * cannot have; or the stream has a section of one of @devices that it does not know. */
DeviceStateLoad *device_state_stage(const GPtrArray *devices, StateStream *s, GError **error)
    RUNS_IN_MAIN;
/* The VM's clock in the machine that was saved, in ns. `apply` sets it between keeping the old state and
 * loading the new one, and sets it back if it fails. Without a call the clock is left alone: then the caller
 * sets it before, and timers of an old state that is put back may be wrong. @now_ns is at most
 * DEVICE_STATE_CLOCK_MAX, and not negative. */
#define DEVICE_STATE_CLOCK_MAX (INT64_MAX / 4)
void device_state_set_clock(DeviceStateLoad *l, int64_t now_ns) RUNS_IN_MAIN;
/* Loads what was staged. False + error: a device refuses; all have the state they had before. As often as
 * wanted. */
bool device_state_apply(DeviceStateLoad *l, const VmStopped *token, GError **error)
    BQL_HELD RUNS_IN_MAIN;
void device_state_load_free(DeviceStateLoad *l) ANY_THREAD;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DeviceStateLoad, device_state_load_free)

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the devices of a machine are on their buses, as a text of a state stream. A guest knows its devices by that, so a
 * machine that has them elsewhere cannot go on from the state.
 *
 * The text "addresses" has "PATH=ADDRESS" for each PCI device and each disk on a SCSI bus, with spaces between: the QOM
 * path, and the place as Open Firmware writes it ("/pci@i0cf8/scsi@3/channel@0/disk@0,1").
 */
#ifndef SKIFF_VMM_SNAPSHOT_MACHINE_ADDRESSES_H
#define SKIFF_VMM_SNAPSHOT_MACHINE_ADDRESSES_H

#include "util/state/state_stream.h"

/* Of @devices (Device). False + error: the text is too long. */
bool machine_addresses_write(const GPtrArray *devices, StateWriter *w, GError **error) RUNS_IN_MAIN;
/* False + error names a device of @devices that is elsewhere, or the text is none. Devices that only one of the two has
 * are not looked at. A stream without the text is right. */
bool machine_addresses_check(const GPtrArray *devices, const StateStream *s, GError **error)
    RUNS_IN_MAIN;

#endif

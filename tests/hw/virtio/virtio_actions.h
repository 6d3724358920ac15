/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest or a user may do to a device at any moment, for tests that try each moment. */
#ifndef SKIFF_TESTS_HW_VIRTIO_VIRTIO_ACTIONS_H
#define SKIFF_TESTS_HW_VIRTIO_VIRTIO_ACTIONS_H

#include "tests/support/virtio_guest.h"

enum { DOES_NOTHING, RESETS, CLEARS_MASTER, STOPS, RESETS_SYSTEM, UNPLUGS, ACTIONS };

/* UNPLUGS frees @dev. */
static inline RUNS_IN_MAIN void virtio_act(VirtioGuest *guest, VirtioBench *bench, Device *dev,
                                           unsigned action)
{
    switch (action) {
    case RESETS:
        virtio_guest_reset(guest);
        break;
    case CLEARS_MASTER:
        virtio_guest_set_master(guest, false);
        break;
    case STOPS:
        virtio_bench_stop(bench, dev);
        break;
    case RESETS_SYSTEM:
        virtio_bench_reset(bench, dev);
        break;
    case UNPLUGS:
        virtio_bench_unplug(bench, dev);
        break;
    default:
        break;
    }
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Steps that tests of networks take in main: functions for virtio_bench_run(), or for co_start() when something else
 * is to happen meanwhile.
 */
#ifndef SKIFF_TESTS_SUPPORT_NET_STEPS_H
#define SKIFF_TESTS_SUPPORT_NET_STEPS_H

#include "hw/net/net.h"
#include "tests/support/virtio_guest.h"

typedef struct NetStep {
    const char *text;
    bool ok;
    GError *error; /* set when the step has failed */
} NetStep;

/* Of a NetStep: adds a back end, "stream,id=n,...", or removes the one with this id. */
void net_step_add(void *opaque);
void net_step_remove(void *opaque);
/* Of a NetClient: its end. */
void net_step_leave(void *opaque);
/* Removes all back ends. */
void net_step_shutdown(void *opaque);

/* Takes the step @fn of a NetStep, which must succeed. */
void net_steps_run(VirtioBench *b, void (*fn)(void *opaque), const char *text);
/* It must fail, with an error that has @why. */
void net_steps_refused(VirtioBench *b, void (*fn)(void *opaque), const char *text, const char *why);

#endif

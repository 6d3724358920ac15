/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/qmp/qmp_turns.h"

#define QMP_TURN_CLIENTS 8

static struct {
    unsigned users;
    CoQueue waiting;
    AioBh bh;
} qmp_turns; /* main */

static void qmp_turns_run(void *opaque)
{
    enter_main();
    for (unsigned i = 0; i < QMP_TURN_CLIENTS && co_queue_wake_one(&qmp_turns.waiting); i++) {
    }
    if (!co_queue_empty(&qmp_turns.waiting)) {
        aio_bh_schedule(&qmp_turns.bh);
    }
}

void qmp_turns_co_wait(void)
{
    aio_bh_schedule(&qmp_turns.bh);
    co_queue_wait(&qmp_turns.waiting, "a client's turn");
}

void qmp_turns_ref(AioContext *ctx)
{
    if (qmp_turns.users++ == 0) {
        co_queue_init(&qmp_turns.waiting);
        aio_bh_init(&qmp_turns.bh, ctx, qmp_turns_run, NULL);
    }
}

void qmp_turns_unref(void)
{
    if (--qmp_turns.users == 0) {
        aio_bh_cancel(&qmp_turns.bh); /* may be scheduled with no client waiting */
    }
}

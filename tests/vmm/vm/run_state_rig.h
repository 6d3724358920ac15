/* SPDX-License-Identifier: Apache-2.0 */
/* The run-state machine on a fake machine that counts, and can be slow. */
#ifndef SKIFF_TESTS_VMM_VM_RUN_STATE_RIG_H
#define SKIFF_TESTS_VMM_VM_RUN_STATE_RIG_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "hw/core/run_state.h"

typedef struct Fake {
    RunState rs;
    AioContext *ctx;
    char log[256];
    char announced[256]; /* "STOP(reason)" and "RESUME", one after the other; see fake_changed() */
    bool told_running;
    bool slow; /* each step takes a turn of the loop */
    bool unparked;
    unsigned unparks;
    bool hold_drain; /* a drain waits until released, as for a hung disk */
    CoToken held;
    bool reset_fails, start_fails;
    VmStopped *token;
    void (*breaks)(struct Fake *f);
} Fake;

static inline void fake_log(Fake *f, const char *word)
{
    g_strlcat(f->log, word, sizeof(f->log));
    g_strlcat(f->log, " ", sizeof(f->log));
}

/* A step of a stop, start or reset. */
static inline coroutine_fn void fake_co_step(Fake *f, const char *word)
{
    fake_log(f, word);
    if (f->slow) {
        co_yield_turn();
    }
}

static inline void fake_co_park(void *opaque)
{
    enter_coroutine();
    ((Fake *)opaque)->unparked = false;
    fake_co_step(opaque, "park");
}

static inline void fake_unpark(void *opaque)
{
    Fake *f = opaque;
    f->unparked = true;
    f->unparks++;
    fake_log(f, "unpark");
}

static inline void fake_co_stop_backends(void *opaque)
{
    enter_coroutine();
    fake_co_step(opaque, "take-back");
}

static inline bool fake_co_start_backends(void *opaque, GError **error)
{
    Fake *f = opaque;
    enter_coroutine();
    fake_co_step(f, "hand-over");
    if (f->start_fails) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_IO, "net0: no back end");
    }
    return !f->start_fails;
}

static inline void fake_co_drain(void *opaque)
{
    Fake *f = opaque;
    enter_coroutine();
    fake_co_step(f, "drain");
    if (f->hold_drain) {
        f->held = co_arm();
        co_wait(f->held);
    }
}

static inline bool fake_co_reset(void *opaque, GError **error)
{
    Fake *f = opaque;
    enter_coroutine();
    fake_co_step(f, "reset");
    if (f->reset_fails) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_IO, "no kernel any more");
        return false;
    }
    return true;
}

/* Records events as QMP sends them: none of a reset, otherwise each change once; and also changes
 * of the reason only. */
static inline void fake_changed(void *opaque, RunPhase phase, StopReason reason)
{
    Fake *f = opaque;
    char word[32] = "RESUME";
    enter_main();
    if (phase == RUN_STOPPED) {
        snprintf(word, sizeof(word), "STOP(%s)", run_state_qemu_name(&f->rs));
    }
    if ((phase != RUN_RUNNING && phase != RUN_STOPPED) || f->rs.brief ||
        (phase == RUN_RUNNING && f->told_running)) {
        return;
    }
    f->told_running = phase == RUN_RUNNING;
    g_strlcat(f->announced, word, sizeof(f->announced));
    g_strlcat(f->announced, " ", sizeof(f->announced));
}

static const RunStateOps fake_ops = {
    .co_park = fake_co_park,
    .unpark = fake_unpark,
    .co_stop_backends = fake_co_stop_backends,
    .co_start_backends = fake_co_start_backends,
    .co_drain = fake_co_drain,
    .co_reset = fake_co_reset,
    .changed = fake_changed,
};

static inline int fake_setup(void **state)
{
    Fake *f = g_new0(Fake, 1);
    thread_adopt_role(THREAD_MAIN, "main");
    enter_main();
    f->ctx = aio_context_new("main", NULL);
    run_state_init(&f->rs, f->ctx, &fake_ops, f);
    *state = f;
    return 0;
}

static inline int fake_teardown(void **state)
{
    Fake *f = *state;
    aio_context_free(f->ctx);
    g_free(f);
    return 0;
}

static inline void fake_settle(Fake *f)
{
    while (aio_context_step(f->ctx, false)) {
    }
}

static inline void fake_start(Fake *f)
{
    run_state_request_start(&f->rs);
    fake_settle(f);
    f->log[0] = f->announced[0] = '\0';
}

/* ---- an operation like a dump: under the lock, with the VM stopped, until it is released ---- */

typedef struct Dump {
    Fake *f;
    unsigned turns; /* takes this many, and then until @hold is false */
    bool hold, done;
} Dump;

static inline void dump_body(void *opaque)
{
    Dump *d = opaque;
    RunState *rs = &d->f->rs;
    enter_main();
    enter_coroutine();
    vm_operation_begin(rs);
    VmStopped *token = co_vm_stop(rs, STOP_PAUSED);
    for (unsigned i = 0; i < d->turns || d->hold; i++) {
        co_yield_turn();
    }
    vm_stopped_put(rs, token);
    co_vm_resume(rs);
    vm_operation_end(rs);
    d->done = true;
}

static inline RUNS_IN_MAIN void take_turns(Fake *f, unsigned turns)
{
    for (unsigned i = 0; i < turns; i++) {
        aio_context_step(f->ctx, false);
    }
}

#define ON_FAKE(f) cmocka_unit_test_setup_teardown(f, fake_setup, fake_teardown)

#endif

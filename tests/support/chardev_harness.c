/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/chardev_harness.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

typedef struct HarnessCall {
    OptDict *opts;
    GError *error;
    bool *done;
    bool own_done;
    bool free_self;
} HarnessCall;

static void harness_add(void *opaque)
{
    HarnessCall *call = opaque;
    bool *done = call->done;

    enter_coroutine();
    enter_main();
    chardev_co_add(call->opts, &call->error);
    if (call->free_self) {
        if (call->error) {
            fail_msg("%s", call->error->message);
        }
        g_free(call);
    }
    *done = true;
}

static void harness_shutdown_run(void *opaque)
{
    enter_coroutine();
    enter_main();
    chardev_co_shutdown();
    *(bool *)opaque = true;
}

static OptDict *harness_parse(const char *options)
{
    g_autoptr(GError) error = NULL;
    OptDict *d = opt_dict_parse(options, "backend", &error);

    if (!d) {
        fail_msg("%s: %s", options, error->message);
    }
    return d;
}

AioContext *chardev_harness_begin(void)
{
    AioContext *ctx;

    if (thread_role() != THREAD_MAIN) {
        thread_adopt_role(THREAD_MAIN, "main");
    }
    enter_main();
    ctx = aio_context_new("main", NULL);
    chardev_setup(ctx);
    return ctx;
}

void chardev_harness_shutdown(AioContext *ctx)
{
    bool done = false;

    co_start(ctx, harness_shutdown_run, &done);
    STEP_UNTIL(ctx, done);
    chardev_harness_settle(ctx);
}

void chardev_harness_end(AioContext *ctx)
{
    chardev_harness_shutdown(ctx);
    aio_context_free(ctx);
}

char *chardev_harness_add(AioContext *ctx, const char *options)
{
    HarnessCall call = {.opts = harness_parse(options), .done = &call.own_done};
    char *message = NULL;

    co_start(ctx, harness_add, &call);
    STEP_UNTIL(ctx, call.own_done);
    if (call.error) {
        message = g_strdup(call.error->message);
        g_error_free(call.error);
    }
    return message;
}

void chardev_harness_add_begin(AioContext *ctx, const char *options, bool *done)
{
    HarnessCall *call = g_new0(HarnessCall, 1);

    *call = (HarnessCall){.opts = harness_parse(options), .done = done, .free_self = true};
    co_start(ctx, harness_add, call);
}

void chardev_harness_settle(AioContext *ctx)
{
    while (aio_context_step(ctx, false)) {
        ;
    }
}

/* ---- frontend ---- */

static size_t recording_can_receive(void *opaque)
{
    return ((RecordingFrontend *)opaque)->room;
}

static void recording_receive(void *opaque, const uint8_t *data, size_t size)
{
    RecordingFrontend *f = opaque;

    assert_true(size > 0 && size <= f->room);
    f->room -= size;
    g_string_append_len(f->received, (const char *)data, (gssize)size);
}

static void recording_event(void *opaque, ChardevEvent event)
{
    static const char letters[] = "OCBFU";

    g_string_append_c(((RecordingFrontend *)opaque)->events, letters[event]);
}

static void recording_writable(void *opaque)
{
    ((RecordingFrontend *)opaque)->writable++;
}

static bool recording_is_answering(void *opaque)
{
    return ((RecordingFrontend *)opaque)->answering;
}

const ChardevFrontendOps recording_frontend_ops = {
    .can_receive = recording_can_receive,
    .receive = recording_receive,
    .event = recording_event,
    .writable = recording_writable,
    .is_answering = recording_is_answering,
};

RecordingFrontend *recording_frontend_new(size_t room)
{
    RecordingFrontend *f = g_new0(RecordingFrontend, 1);

    f->room = room;
    f->received = g_string_new(NULL);
    f->events = g_string_new(NULL);
    return f;
}

void recording_frontend_free(RecordingFrontend *f)
{
    g_string_free(f->received, TRUE);
    g_string_free(f->events, TRUE);
    g_free(f);
}

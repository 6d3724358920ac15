/* SPDX-License-Identifier: Apache-2.0 */
/* The process's chardevs: adding, claiming and flushing them. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "hw/chardev/chardev_int.h"
#include "util/crash.h"
#include "hw/chardev/terminal.h"

#define CHARDEV_DEFAULT_ESCAPE 0x01 /* Ctrl-A */

static AioContext *chardev_ctx;
static ChardevStream *_Atomic chardev_list; /* crash paths walk it; main changes it */
static bool chardev_held;
static uint8_t chardev_escape_byte = CHARDEV_DEFAULT_ESCAPE;
static void (*terminate_fn)(void *opaque);
static void *terminate_opaque;

AioContext *chardev_context(void)
{
    return chardev_ctx;
}

ChardevStream *chardev_streams(void)
{
    return atomic_load(&chardev_list);
}

void chardev_enter(ChardevStream *s)
{
    s->next = chardev_streams();
    atomic_store(&chardev_list, s);
}

ChardevStream *chardev_find(const char *id)
{
    for (ChardevStream *s = chardev_streams(); s; s = s->next) {
        if (!strcmp(s->base.id, id)) {
            return s;
        }
    }
    return NULL;
}

/* ---- set-up ---- */

static void chardev_unlink_names(ChardevStream *s)
{
    for (; s; s = s->next) {
        if (s->opened && s->backend->unlink) {
            s->backend->unlink(s);
        }
    }
}

void chardev_leave(void)
{
    terminal_restore(); /* first: the calls below may fail in a sandbox */
    chardev_unlink_names(chardev_streams());
    chardev_unlink_opening();
}

static void chardev_crash(void)
{
    for (ChardevStream *s = chardev_streams(); s; s = s->next) {
        sink_flush_crash(&s->out);
        sink_flush_crash(&s->log);
    }
    chardev_leave();
}

void chardev_setup(AioContext *main_ctx)
{
    static bool caught;

    chardev_ctx = main_ctx;
    chardev_add_setup();
    signal(SIGPIPE, SIG_IGN); /* a reader that disconnects causes an error code, not a signal */
    if (!caught) {
        caught = true;
        crash_catch_signals(chardev_crash);
    }
}

void chardev_co_shutdown(void)
{
    ChardevStream *s;

    while ((s = chardev_streams())) {
        atomic_store(&chardev_list, s->next);
        stream_co_free(s);
    }
    chardev_set_terminate_handler(NULL, NULL);
    chardev_held = false;
    chardev_escape_byte = CHARDEV_DEFAULT_ESCAPE;
}

void chardev_set_terminate_handler(void (*fn)(void *opaque), void *opaque)
{
    terminate_fn = fn;
    terminate_opaque = opaque;
}

void chardev_terminate(void)
{
    if (terminate_fn) {
        terminate_fn(terminate_opaque);
    }
}

void chardev_hold_input(bool held)
{
    chardev_held = held;
    for (ChardevStream *s = chardev_streams(); s && !held; s = s->next) {
        stream_input_kick(s);
    }
}

bool chardev_input_held(void)
{
    return chardev_held;
}

void chardev_set_escape(uint8_t byte)
{
    chardev_escape_byte = byte;
}

uint8_t chardev_escape(void)
{
    return chardev_escape_byte;
}

/* ---- users ---- */

static struct {
    Chardev *chardev; /* NULL: none */
    const char *owner;
} chardev_provided;

void chardev_provide(Chardev *c, const char *owner)
{
    assert(chardev_provided.chardev == NULL);
    chardev_provided.chardev = c;
    chardev_provided.owner = owner;
}

static Chardev *chardev_claim_provided(const char *who, GError **error)
{
    Chardev *c = chardev_provided.chardev;

    if (c->frontend != NULL || strcmp(who, c->id) != 0) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "chardev '%s' is in use by %s", c->id,
                    chardev_provided.owner);
        return NULL;
    }
    return c;
}

Chardev *chardev_claim(const char *id, const char *who, GError **error)
{
    if (chardev_provided.chardev != NULL && strcmp(id, chardev_provided.chardev->id) == 0) {
        return chardev_claim_provided(who, error);
    }
    ChardevStream *s = chardev_find(id);

    if (!s) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN, "there is no chardev '%s'", id);
        return NULL;
    }
    if (s->mux) {
        return mux_claim(s->mux, who, error);
    }
    if (s->user) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "chardev '%s' is in use by %s; with mux=on it can be shared", id, s->user);
        return NULL;
    }
    s->user = g_strdup(who);
    return &s->base;
}

bool chardev_has_focus(const Chardev *c)
{
    return !mux_owns(c) || mux_has_focus(c);
}

void chardev_release(Chardev *c)
{
    if (!c || c == chardev_provided.chardev) {
        return;
    }
    if (mux_owns(c)) {
        mux_release(c);
        return;
    }
    chardev_attach(c, NULL, NULL);
    g_clear_pointer(&((ChardevStream *)c)->user, g_free);
}

void chardev_foreach(void (*fn)(const ChardevInfo *info, void *opaque), void *opaque)
{
    for (ChardevStream *s = chardev_streams(); s; s = s->next) {
        ChardevInfo info = {.id = s->base.id,
                            .filename = s->filename ? s->filename : s->backend->name,
                            .connected = atomic_load(&s->connected),
                            .frontend_open = s->mux ? mux_in_use(s->mux) : s->user != NULL};

        fn(&info, opaque);
    }
}

bool chardev_co_remove(const char *id, GError **error)
{
    ChardevStream *s = chardev_find(id);

    if (!s && chardev_call_off(id)) {
        chardev_co_await_opening(id);
        return true;
    }
    if (!s) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN, "Chardev '%s' not found", id);
        return false;
    }
    if (s->user || (s->mux && mux_in_use(s->mux))) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "Chardev '%s' is busy", id);
        return false;
    }
    if (chardev_streams() == s) {
        atomic_store(&chardev_list, s->next);
    } else {
        ChardevStream *before = chardev_streams();

        while (before->next != s) {
            before = before->next;
        }
        before->next = s->next;
    }
    stream_co_free(s);
    return true;
}

bool chardev_send_break(const char *id, GError **error)
{
    ChardevStream *s = chardev_find(id);

    if (!s) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN, "Chardev '%s' not found", id);
        return false;
    }
    if (s->mux) {
        mux_send_break(s->mux);
    } else {
        stream_event(s, CHARDEV_BREAK);
    }
    return true;
}

static ChardevStream *chardev_stream_of(Chardev *c)
{
    if (!c) {
        return NULL;
    }
    if (mux_owns(c)) {
        return mux_stream(c);
    }
    return c->ops == &chardev_stream_ops ? (ChardevStream *)c : NULL;
}

bool chardev_is_stdio(Chardev *c)
{
    const ChardevStream *s = chardev_stream_of(c);

    return s && s->backend == &chardev_stdio_backend;
}

size_t chardev_tail(Chardev *c, uint8_t *buf, size_t size)
{
    ChardevStream *s = chardev_stream_of(c);

    return s ? stream_tail(s, buf, size) : 0;
}

void chardev_watch(Chardev *c, const char *text, void (*fn)(void *opaque), void *opaque)
{
    ChardevStream *s = chardev_stream_of(c);

    if (s) {
        stream_watch(s, watch_new(s->ctx, text, fn, opaque));
    }
}

bool chardev_co_flush(Chardev *c)
{
    ChardevStream *s = chardev_stream_of(c);

    if (s) {
        stream_co_flush(s);
    }
    return !s || !s->output_lost;
}

bool chardev_flush_all_blocking(unsigned bound_ms)
{
    struct timespec now;
    int64_t deadline_ns;
    bool all = true;

    clock_gettime(CLOCK_MONOTONIC, &now);
    deadline_ns = now.tv_sec * INT64_C(1000000000) + now.tv_nsec + bound_ms * INT64_C(1000000);
    for (ChardevStream *s = chardev_streams(); s; s = s->next) {
        all = sink_flush_blocking(&s->out, deadline_ns) && all;
        all = sink_flush_blocking(&s->log, deadline_ns) && all;
    }
    return all;
}

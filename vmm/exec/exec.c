/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/exec/exec.h"
#include <string.h>
#include "vmm/exec/exec_int.h"

static void exec_begin_end(Exec *e);

/* ---- output ---- */

/* Passes buffered output to the chardev; every byte it takes lets the agent send one more. */
static RUNS_IN_MAIN void exec_output_flush(ExecOutput *o)
{
    while (o->count > 0) {
        size_t chunk = MIN(o->count, EXEC_WINDOW_BYTES - o->head);
        size_t taken = o->closed ? chunk : chardev_write(o->chr, o->ring + o->head, chunk);

        o->head = (o->head + taken) % EXEC_WINDOW_BYTES;
        o->count -= taken;
        o->owed += (uint32_t)taken;
        if (taken < chunk) {
            return; /* exec_output_writable() continues */
        }
    }
    exec_port_kick(o->exec);
    co_queue_wake_all(&o->exec->drained);
}

static void exec_output_writable(void *opaque)
{
    enter_main();
    exec_output_flush(opaque);
}

static void exec_output_event(void *opaque, ChardevEvent event)
{
    ExecOutput *o = opaque;

    enter_main();
    if (event == CHARDEV_CLOSED && !o->closed) {
        o->closed = o->send_close = true; /* the command gets a SIGPIPE, as in a pipeline */
        exec_output_flush(o);
    }
}

static const ChardevFrontendOps exec_output_ops = {
    .writable = exec_output_writable,
    .event = exec_output_event,
};

static RUNS_IN_MAIN void exec_output_take(ExecOutput *o, const uint8_t *data, size_t size)
{
    size_t tail = (o->head + o->count) % EXEC_WINDOW_BYTES;
    size_t first = MIN(size, EXEC_WINDOW_BYTES - tail);

    if (size > o->window) {
        exec_lose(o->exec, "more output than its window");
        return;
    }
    o->window -= (uint32_t)size;
    memcpy(o->ring + tail, data, first);
    memcpy(o->ring, data + first, size - first);
    o->count += size;
    exec_output_flush(o);
}

/* ---- input ---- */

static size_t exec_input_can_receive(void *opaque)
{
    const Exec *e = opaque;

    return e->state == EXEC_STATE_RUNNING && e->in.count == 0 ? MIN(e->in.window, EXEC_DATA_MAX)
                                                              : 0;
}

static void exec_input_receive(void *opaque, const uint8_t *data, size_t size)
{
    Exec *e = opaque;

    enter_main();
    memcpy(e->in.data, data, size);
    e->in.count = size;
    e->in.window -= (uint32_t)size;
    exec_port_kick(e);
}

static void exec_input_event(void *opaque, ChardevEvent event)
{
    Exec *e = opaque;

    enter_main();
    if (event == CHARDEV_CLOSED) {
        e->in.ended = true;
        exec_port_kick(e);
    }
}

static const ChardevFrontendOps exec_input_ops = {
    .can_receive = exec_input_can_receive,
    .receive = exec_input_receive,
    .event = exec_input_event,
};

/* ---- states ---- */

static RUNS_IN_MAIN void exec_greeted(Exec *e, const ExecFrame *hello)
{
    if (hello->version != EXEC_PROTOCOL_VERSION) {
        exec_lose(e, "another version of the protocol than 1");
        return;
    }
    e->powers_off = (hello->flags & EXEC_HELLO_POWERS_OFF) != 0;
    exec_serve(e);
}

void exec_serve(Exec *e)
{
    g_assert(e->state == EXEC_STATE_WAITING);
    e->has_agent = true;
    if (e->config.command != NULL) {
        e->state = EXEC_STATE_RUNNING;
        e->send_run = true;
        exec_port_kick(e);
        return;
    }
    e->state = EXEC_STATE_READY;
    if (e->config.ready != NULL) {
        e->config.ready(e->config.opaque);
    }
}

static RUNS_IN_MAIN void exec_exited(Exec *e, const ExecFrame *frame)
{
    e->exited = true;
    e->how = frame->how;
    e->number = frame->number;
    e->state = EXEC_STATE_EXITED;
    e->send_bye = true;
    exec_port_kick(e);
    exec_begin_end(e);
}

void exec_lose(Exec *e, const char *why)
{
    g_assert(e->state <= EXEC_STATE_RUNNING);
    e->state = EXEC_STATE_LOST;
    if (e->config.command == NULL) {
        log_guest_error(&e->log_limit, EXEC_PORT_NAME, "the agent is not understood: %s", why);
        return;
    }
    e->failure = g_strdup(why);
    exec_begin_end(e);
}

static RUNS_IN_MAIN void exec_more_input(Exec *e, uint32_t bytes)
{
    if (bytes > EXEC_WINDOW_MAX - e->in.window) {
        exec_lose(e, "too large a window");
        return;
    }
    e->in.window += bytes;
    chardev_accept_input(e->in.chr);
}

void exec_take_frame(Exec *e, const ExecFrame *frame)
{
    if (e->state == EXEC_STATE_READY) {
        exec_lose(e, "a frame before a command");
        return;
    }
    if ((frame->type == EXEC_HELLO) != (e->state == EXEC_STATE_WAITING)) {
        exec_lose(e, frame->type == EXEC_HELLO ? "a second greeting" : "no greeting");
        return;
    }
    switch (frame->type) {
    case EXEC_HELLO:
        exec_greeted(e, frame);
        break;
    case EXEC_STDOUT:
    case EXEC_STDERR:
        exec_output_take(&e->out[frame->type - EXEC_STDOUT], frame->data, frame->size);
        break;
    case EXEC_STDIN_WINDOW:
        exec_more_input(e, frame->window);
        break;
    case EXEC_EXIT:
        exec_exited(e, frame);
        break;
    default:
        bug_abort("exec: the parser let a frame of type %d pass", (int)frame->type);
    }
}

/* ---- the end ---- */

static void exec_finish(void *opaque)
{
    Exec *e = opaque;

    enter_main();
    if (e->state == EXEC_STATE_ENDED) {
        return;
    }
    aio_timer_disarm(&e->close_timer);
    aio_timer_disarm(&e->power_off_timer);
    e->state = EXEC_STATE_ENDED;
    e->config.finished(e->config.opaque);
}

static void exec_end_run(void *opaque)
{
    Exec *e = opaque;

    enter_main();
    enter_coroutine();
    if (e->config.co_settle != NULL) {
        e->config.co_settle(e->config.opaque);
    }
    if (e->state == EXEC_STATE_WAITING || e->state == EXEC_STATE_RUNNING) {
        exec_lose(e, NULL);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(e->out); i++) {
        while (e->out[i].count > 0) {
            co_queue_wait(&e->drained, "standard output");
        }
        if (!chardev_co_flush(e->out[i].chr) && e->exited && e->failure == NULL) {
            e->failure = g_strdup("writing failed");
        }
    }
    e->flushed = true;
    if (e->state == EXEC_STATE_EXITED && e->powers_off && !e->guest_over) {
        aio_timer_arm(&e->power_off_timer, aio_now_ns(e->config.ctx) + EXEC_POWER_OFF_NS);
        return;
    }
    exec_finish(e);
}

static void exec_begin_end(Exec *e)
{
    if (!e->ending) {
        e->ending = true;
        co_start(e->config.ctx, exec_end_run, e);
    }
}

void exec_guest_ended(Exec *e)
{
    e->guest_over = true;
    if (e->flushed) {
        exec_finish(e);
    } else {
        exec_begin_end(e);
    }
}

ExecState exec_state(const Exec *e)
{
    return e->state;
}

bool exec_result(const Exec *e, int *status)
{
    if (!e->exited || !e->flushed || e->failure != NULL) {
        return false;
    }
    *status = e->how == EXEC_EXIT_SIGNAL ? 128 + e->number : e->number;
    return true;
}

bool exec_command_ended(const Exec *e)
{
    return e->exited;
}

bool exec_has_agent(const Exec *e)
{
    return e->has_agent;
}

const char *exec_failure(const Exec *e)
{
    return e->failure;
}

/* ---- life ---- */

static coroutine_fn RUNS_IN_MAIN Chardev *exec_co_open_stream(const char *name, int in_fd,
                                                              int out_fd, GError **error)
{
    g_autofree char *id = g_strconcat("exec.", name, NULL);

    return chardev_co_add_fd(id, in_fd, out_fd, error) ? chardev_claim(id, "-exec", error) : NULL;
}

static coroutine_fn RUNS_IN_MAIN bool exec_co_open_streams(Exec *e, GError **error)
{
    static const char *const names[] = {"stdout", "stderr"};
    const int *fds = e->config.fds;

    e->in.chr = exec_co_open_stream("stdin", fds[0], -1, error);
    for (unsigned i = 0; e->in.chr && i < G_N_ELEMENTS(e->out); i++) {
        ExecOutput *o = &e->out[i];

        o->exec = e;
        o->stream = (uint8_t)(EXEC_STDOUT + i);
        o->window = EXEC_WINDOW_BYTES;
        o->chr = exec_co_open_stream(names[i], -1, fds[i + 1], error);
        if (!o->chr) {
            return false;
        }
        chardev_attach(o->chr, &exec_output_ops, o);
    }
    if (e->in.chr) {
        chardev_attach(e->in.chr, &exec_input_ops, e);
    }
    return e->in.chr != NULL;
}

Exec *exec_co_new(const ExecConfig *config, GError **error)
{
    Exec *e = g_new0(Exec, 1);

    e->config = *config;
    co_queue_init(&e->drained);
    aio_timer_init(&e->power_off_timer, config->ctx, exec_finish, e);
    exec_port_init(e);
    if (config->command != NULL && !exec_co_open_streams(e, error)) {
        exec_free(e);
        return NULL;
    }
    return e;
}

void exec_free(Exec *e)
{
    aio_timer_disarm(&e->close_timer);
    aio_timer_disarm(&e->power_off_timer);
    aio_bh_cancel(&e->push_bh);
    chardev_release(e->in.chr);
    for (unsigned i = 0; i < G_N_ELEMENTS(e->out); i++) {
        chardev_release(e->out[i].chr);
    }
    g_free(e->port.id);
    g_free(e->failure);
    g_free(e);
}

Chardev *exec_chardev(Exec *e)
{
    return &e->port;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The host's side of the agent's port: parses received frames and composes sent ones, one at a
 * time. */
#include <stdatomic.h>
#include <string.h>
#include "vmm/exec/exec_int.h"

/* Window updates are collected: a frame for every few bytes would double the traffic. */
#define EXEC_GRANT_LEAST (EXEC_WINDOW_BYTES / 4)

/* ---- to the agent ---- */

static void exec_put_u16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static void exec_put_u32(uint8_t *at, uint32_t value)
{
    exec_put_u16(at, value & 0xffff);
    exec_put_u16(at + 2, value >> 16);
}

/* Begins the next frame; the caller fills in its payload. */
static uint8_t *exec_begin_frame(Exec *e, enum ExecFrameType type, size_t size)
{
    e->tx[0] = (uint8_t)type;
    e->tx[1] = 0;
    exec_put_u16(e->tx + 2, (unsigned)size);
    e->tx_at = 0;
    e->tx_size = EXEC_HEADER_BYTES + size;
    return e->tx + EXEC_HEADER_BYTES;
}

static void exec_compose_run(Exec *e)
{
    size_t length = strlen(e->config.command);
    uint8_t *at = exec_begin_frame(e, EXEC_RUN, EXEC_RUN_BYTES + length);

    exec_put_u16(at, EXEC_PROTOCOL_VERSION);
    exec_put_u16(at + 2, 0);
    exec_put_u32(at + 4, EXEC_WINDOW_BYTES);
    exec_put_u32(at + 8, EXEC_WINDOW_BYTES);
    memcpy(at + EXEC_RUN_BYTES, e->config.command, length);
    e->send_run = false;
}

static bool exec_compose_for_output(Exec *e, ExecOutput *o)
{
    uint8_t *at;

    if (o->send_close) {
        o->send_close = false;
        at = exec_begin_frame(e, EXEC_CLOSE, 4);
        exec_put_u32(at, o->stream);
        return true;
    }
    if (o->owed < EXEC_GRANT_LEAST) {
        return false;
    }
    at = exec_begin_frame(e, EXEC_WINDOW, 8);
    exec_put_u32(at, o->stream);
    exec_put_u32(at + 4, o->owed);
    o->window += o->owed;
    o->owed = 0;
    return true;
}

static RUNS_IN_MAIN bool exec_compose_input(Exec *e)
{
    ExecInput *in = &e->in;

    if (in->count > 0) {
        memcpy(exec_begin_frame(e, EXEC_STDIN, in->count), in->data, in->count);
        in->count = 0;
        chardev_accept_input(in->chr);
        return true;
    }
    if (in->ended && !in->told_end) {
        in->told_end = true;
        exec_begin_frame(e, EXEC_STDIN_END, 0);
        return true;
    }
    return false;
}

/* Composes the next frame, most urgent first. False: nothing to send. */
static RUNS_IN_MAIN bool exec_compose(Exec *e)
{
    if (e->send_run) {
        exec_compose_run(e);
        return true;
    }
    if (e->send_bye) {
        e->send_bye = false;
        exec_begin_frame(e, EXEC_BYE, 0);
        return true;
    }
    if (e->state != EXEC_STATE_RUNNING) {
        return false;
    }
    return exec_compose_for_output(e, &e->out[0]) || exec_compose_for_output(e, &e->out[1]) ||
           exec_compose_input(e);
}

/* Sends as much as the guest accepts. */
static void exec_push(void *opaque)
{
    Exec *e = opaque;
    const ChardevFrontendOps *frontend = e->port.frontend;

    enter_main();
    while (frontend && (e->tx_at < e->tx_size || exec_compose(e))) {
        size_t room = frontend->can_receive(e->port.frontend_opaque);
        size_t chunk = MIN(room, e->tx_size - e->tx_at);

        if (chunk == 0) {
            return; /* exec_accept_input() continues */
        }
        frontend->receive(e->port.frontend_opaque, e->tx + e->tx_at, chunk);
        e->tx_at += chunk;
    }
}

void exec_port_kick(Exec *e)
{
    aio_bh_schedule(&e->push_bh);
}

/* ---- from the agent ---- */

/* Takes all bytes: data beyond a stream's window is a protocol error. */
static size_t exec_write(Chardev *c, const uint8_t *data, size_t size, bool reserved)
{
    Exec *e = (Exec *)c;
    size_t at = 0;

    enter_main();
    while (e->state <= EXEC_STATE_RUNNING) {
        ExecFrame frame;
        const char *why;
        size_t used;
        ExecParse result = exec_parser_feed(&e->parser, data + at, size - at, &used, &frame, &why);

        at += used;
        if (result == EXEC_PARSE_MORE) {
            break;
        }
        if (result == EXEC_PARSE_BAD) {
            exec_lose(e, why);
        } else {
            exec_take_frame(e, &frame);
        }
    }
    return size;
}

static void exec_attach(Chardev *c)
{
    exec_port_kick((Exec *)c);
}

static void exec_accept_input(Chardev *c)
{
    exec_port_kick((Exec *)c);
}

static bool exec_connected(const Chardev *c)
{
    return !atomic_load(&((const Exec *)c)->hung_up);
}

static const ChardevOps exec_port_ops = {
    .write = exec_write,
    .connected = exec_connected,
    .attach = exec_attach,
    .accept_input = exec_accept_input,
};

static void exec_close_overdue(void *opaque)
{
    Exec *e = opaque;

    enter_main();
    if (e->state == EXEC_STATE_RUNNING) {
        exec_lose(e, "the agent closed its port");
    }
}

void exec_port_init(Exec *e)
{
    aio_timer_init(&e->close_timer, e->config.ctx, exec_close_overdue, e);
    e->port.ops = &exec_port_ops;
    e->port.id = g_strdup(EXEC_PORT_NAME);
    aio_bh_init(&e->push_bh, e->config.ctx, exec_push, e);
}

void exec_port_hang_up(Exec *e, bool hung_up)
{
    const ChardevFrontendOps *frontend = e->port.frontend;

    if (e->hung_up == hung_up) {
        return;
    }
    atomic_store(&e->hung_up, hung_up);
    if (frontend && frontend->event) {
        frontend->event(e->port.frontend_opaque, hung_up ? CHARDEV_CLOSED : CHARDEV_OPENED);
    }
}

/* Without a command: the next agent may greet. */
static RUNS_IN_MAIN void exec_port_closed_idle(Exec *e)
{
    e->state = EXEC_STATE_WAITING;
    e->has_agent = false;
    exec_port_hang_up(e, false);
}

void exec_port_changed(Exec *e, bool open)
{
    if (open == e->open) {
        return; /* a load is reported */
    }
    e->open = open;
    exec_parser_reset(&e->parser);
    if (e->config.command == NULL) {
        if (!open) {
            exec_port_closed_idle(e);
        }
    } else if (e->state == EXEC_STATE_RUNNING && open) {
        exec_close_overdue(e); /* it was closed: this is another agent */
    } else if (e->state == EXEC_STATE_RUNNING) {
        aio_timer_arm(&e->close_timer, aio_now_ns(e->config.ctx) + EXEC_CLOSE_NS);
    }
    exec_port_kick(e);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several frontends on one stream. The output of all goes to the stream; its input goes to the port
 * that has the focus. The escape byte (Ctrl-A) begins a command:
 *
 *   PLAIN --Ctrl-A--> ESCAPE --x,c,b,t,h,?--> (command) --> PLAIN
 *                        \-----Ctrl-A-------> one Ctrl-A to the port --> PLAIN
 *                        \-----else---------> (ignored) --> PLAIN
 *
 * Each port has a queue of input. While it is full the stream is not read, as with any frontend.
 * But a guest that takes no input must not block Ctrl-A x on a terminal: after MUX_STALL_NS without
 * a byte taken, input is read again, commands are executed, and other input is dropped.
 */
#include <string.h>
#include "hw/chardev/chardev_int.h"

#define MUX_PORTS 4
#define MUX_QUEUE_BYTES 4096
#define MUX_STALL_NS INT64_C(1000000000)

typedef struct MuxPort {
    Chardev base;
    ChardevMux *mux;
    char *user;    /* NULL: free */
    bool announce; /* CHARDEV_OPENED is due */
    bool leaving;  /* CHARDEV_CLOSED is due, after the input in the queue */
    AioBh input_bh;
    size_t head, count;
    uint8_t queue[MUX_QUEUE_BYTES];
} MuxPort;

struct ChardevMux {
    ChardevStream *stream;
    MuxPort *ports[MUX_PORTS];
    unsigned count;
    unsigned focus;
    bool escape;
    bool stalled;
    AioTimer stall_timer;
};

static const ChardevOps mux_port_ops;

static void mux_port_event(MuxPort *port, ChardevEvent event)
{
    if (port->base.frontend && port->base.frontend->event) {
        port->base.frontend->event(port->base.frontend_opaque, event);
    }
}

/* ---- input of a port ---- */

static void mux_port_push(MuxPort *port, uint8_t byte)
{
    if (port->count < MUX_QUEUE_BYTES) {
        port->queue[(port->head + port->count++) % MUX_QUEUE_BYTES] = byte;
    }
}

/* All input of the peer that disconnected is delivered: reports its end, and then the next peer. */
static RUNS_IN_MAIN void mux_port_finish_leaving(MuxPort *port)
{
    port->leaving = false;
    mux_port_event(port, CHARDEV_CLOSED);
    if (port->announce) {
        port->announce = false;
        mux_port_event(port, CHARDEV_OPENED);
    }
    chardev_accept_input(&port->mux->stream->base);
}

/* Passes on as much input as the frontend has room for. */
static RUNS_IN_MAIN void mux_port_deliver(MuxPort *port)
{
    ChardevMux *mux = port->mux;
    bool was_full = port->count == MUX_QUEUE_BYTES;

    while (port->count > 0) {
        const ChardevFrontendOps *frontend = port->base.frontend;
        size_t room, chunk = MIN(port->count, MUX_QUEUE_BYTES - port->head);

        if (!frontend || !frontend->receive) {
            break;
        }
        room = frontend->can_receive ? frontend->can_receive(port->base.frontend_opaque) : chunk;
        chunk = MIN(chunk, room);
        if (chunk == 0) {
            break;
        }
        /* Removed first: receive() may call this again. */
        const uint8_t *data = port->queue + port->head;
        port->head = (port->head + chunk) % MUX_QUEUE_BYTES;
        port->count -= chunk;
        frontend->receive(port->base.frontend_opaque, data, chunk);
    }
    if (was_full && port->count < MUX_QUEUE_BYTES) {
        mux->stalled = false;
        aio_timer_disarm(&mux->stall_timer);
        chardev_accept_input(&mux->stream->base);
    }
    if (port->leaving && port->count == 0) {
        mux_port_finish_leaving(port);
    }
}

static void mux_port_input_bh(void *opaque)
{
    MuxPort *port = opaque;

    enter_main();
    if (port->announce && !port->leaving) {
        port->announce = false;
        mux_port_event(port, CHARDEV_OPENED);
    }
    mux_port_deliver(port);
}

/* ---- commands ---- */

static void mux_say(ChardevMux *mux, const char *text)
{
    chardev_write(&mux->stream->base, (const uint8_t *)text, strlen(text));
}

static RUNS_IN_MAIN void mux_help(ChardevMux *mux)
{
    uint8_t escape = chardev_escape();
    char name[16];
    g_autofree char *text = NULL;

    if (escape < 0x20) {
        g_snprintf(name, sizeof(name), "C-%c", g_ascii_tolower(escape + '@'));
    } else {
        g_snprintf(name, sizeof(name), "%c", escape);
    }
    text = g_strdup_printf("\r\n"
                           "%s h    print this help\r\n"
                           "%s x    exit skiff\r\n"
                           "%s c    switch between console and monitor\r\n"
                           "%s b    send break (magic sysrq)\r\n"
                           "%s t    toggle console timestamps\r\n"
                           "%s %s  sends %s\r\n",
                           name, name, name, name, name, name, name, name);
    mux_say(mux, text);
}

/* Moves the focus to the next port that has a user. */
static RUNS_IN_MAIN void mux_switch(ChardevMux *mux)
{
    unsigned next = mux->focus;

    do {
        next = (next + 1) % mux->count;
    } while (next != mux->focus && !mux->ports[next]->user);
    if (next == mux->focus) {
        return;
    }
    mux_port_event(mux->ports[mux->focus], CHARDEV_UNFOCUSED);
    mux->focus = next;
    mux->stalled = false;
    mux_port_event(mux->ports[next], CHARDEV_FOCUSED);
}

static RUNS_IN_MAIN void mux_command(ChardevMux *mux, uint8_t byte)
{
    MuxPort *port = mux->ports[mux->focus];

    if (byte == chardev_escape()) {
        mux_port_push(port, byte);
        return;
    }
    switch (byte) {
    case 'x':
        mux_say(mux, "\r\nskiff: Terminated\r\n");
        chardev_terminate();
        break;
    case 'c':
        mux_switch(mux);
        break;
    case 'b':
        mux_port_event(port, CHARDEV_BREAK);
        break;
    case 't':
        stream_set_timestamps(mux->stream, !stream_timestamps(mux->stream));
        break;
    case 'h':
    case '?':
        mux_help(mux);
        break;
    default:
        break;
    }
}

/* ---- the stream's frontend ---- */

static size_t mux_can_receive(void *opaque)
{
    ChardevMux *mux = opaque;
    size_t room;

    if (mux->count == 0) {
        return 0;
    }
    if (mux->ports[mux->focus]->leaving) {
        return 0; /* the queue holds the last peer's input */
    }
    room = MUX_QUEUE_BYTES - mux->ports[mux->focus]->count;
    if (room == 0 && mux->stalled) {
        return 1;
    }
    if (room == 0 && mux->stream->interactive && mux->stall_timer.heap_index == 0) {
        aio_timer_arm(&mux->stall_timer, aio_now_ns(mux->stream->ctx) + MUX_STALL_NS);
    }
    return room;
}

static void mux_stall(void *opaque)
{
    ChardevMux *mux = opaque;

    enter_main();
    mux->stalled = true;
    stream_input_kick(mux->stream);
}

static void mux_receive(void *opaque, const uint8_t *data, size_t size)
{
    ChardevMux *mux = opaque;

    enter_main();
    for (size_t i = 0; i < size; i++) {
        if (mux->escape) {
            mux->escape = false;
            mux_command(mux, data[i]);
        } else if (data[i] == chardev_escape()) {
            mux->escape = true;
        } else {
            mux_port_push(mux->ports[mux->focus], data[i]);
        }
    }
    for (unsigned i = 0; i < mux->count; i++) {
        mux_port_deliver(mux->ports[i]);
    }
}

static void mux_event(void *opaque, ChardevEvent event)
{
    ChardevMux *mux = opaque;

    for (unsigned i = 0; i < mux->count; i++) {
        MuxPort *port = mux->ports[i];
        const ChardevFrontendOps *frontend = port->base.frontend;

        /* A monitor's answers belong to the peer that asked; a guest's console keeps its input. */
        port->leaving |= event == CHARDEV_CLOSED && port->count > 0 && frontend != NULL &&
                         frontend->is_answering != NULL;
        port->announce = port->leaving && event == CHARDEV_OPENED;
        if (!port->leaving) {
            mux_port_event(port, event);
        }
    }
}

static void mux_writable(void *opaque)
{
    ChardevMux *mux = opaque;

    for (unsigned i = 0; i < mux->count; i++) {
        const Chardev *c = &mux->ports[i]->base;

        if (c->frontend && c->frontend->writable) {
            c->frontend->writable(c->frontend_opaque);
        }
    }
}

static bool mux_is_answering(void *opaque)
{
    const ChardevMux *mux = opaque;
    bool answering = false;

    for (unsigned i = 0; i < mux->count; i++) {
        const Chardev *c = &mux->ports[i]->base;

        answering |= c->frontend && c->frontend->is_answering &&
                     (mux->ports[i]->count > 0 || c->frontend->is_answering(c->frontend_opaque));
    }
    return answering;
}

static const ChardevFrontendOps mux_frontend_ops = {
    .can_receive = mux_can_receive,
    .receive = mux_receive,
    .event = mux_event,
    .writable = mux_writable,
    .is_answering = mux_is_answering,
};

/* ---- ports as chardevs ---- */

static size_t mux_port_write(Chardev *c, const uint8_t *data, size_t size, bool reserved)
{
    Chardev *stream = &((MuxPort *)c)->mux->stream->base;
    return stream->ops->write(stream, data, size, reserved);
}

static void mux_port_attach(Chardev *c)
{
    MuxPort *port = (MuxPort *)c;

    enter_main();
    port->announce = c->frontend && chardev_connected(&port->mux->stream->base);
    port->leaving = false;
    if (c->frontend) {
        aio_bh_schedule(&port->input_bh);
    }
}

static void mux_port_accept_input(Chardev *c)
{
    MuxPort *port = (MuxPort *)c;

    aio_bh_schedule(&port->input_bh);
    chardev_accept_input(&port->mux->stream->base); /* it may be waiting for the port's answers */
}

static bool mux_port_connected(const Chardev *c)
{
    return chardev_connected(&((const MuxPort *)c)->mux->stream->base);
}

static const ChardevOps mux_port_ops = {
    .write = mux_port_write,
    .attach = mux_port_attach,
    .accept_input = mux_port_accept_input,
    .connected = mux_port_connected,
};

/* ---- life cycle ---- */

ChardevMux *mux_new(ChardevStream *s)
{
    ChardevMux *mux = g_new0(ChardevMux, 1);

    mux->stream = s;
    aio_timer_init(&mux->stall_timer, s->ctx, mux_stall, mux);
    chardev_attach(&s->base, &mux_frontend_ops, mux);
    return mux;
}

void mux_free(ChardevMux *mux)
{
    chardev_attach(&mux->stream->base, NULL, NULL);
    aio_timer_disarm(&mux->stall_timer);
    for (unsigned i = 0; i < mux->count; i++) {
        aio_bh_cancel(&mux->ports[i]->input_bh);
        g_free(mux->ports[i]->user);
        g_free(mux->ports[i]->base.id);
        g_free(mux->ports[i]);
    }
    g_free(mux);
}

Chardev *mux_claim(ChardevMux *mux, const char *who, GError **error)
{
    MuxPort *port = NULL;

    for (unsigned i = 0; i < mux->count && !port; i++) {
        port = mux->ports[i]->user ? NULL : mux->ports[i];
    }
    if (!port) {
        if (mux->count == MUX_PORTS) {
            g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "chardev '%s' is shared by %d already",
                        mux->stream->base.id, MUX_PORTS);
            return NULL;
        }
        port = g_new0(MuxPort, 1);
        port->mux = mux;
        port->base.ops = &mux_port_ops;
        port->base.id = g_strdup(mux->stream->base.id);
        aio_bh_init(&port->input_bh, mux->stream->ctx, mux_port_input_bh, port);
        mux->ports[mux->count++] = port;
        stream_input_kick(mux->stream);
    }
    port->user = g_strdup(who);
    return &port->base;
}

bool mux_in_use(const ChardevMux *mux)
{
    for (unsigned i = 0; i < mux->count; i++) {
        if (mux->ports[i]->user) {
            return true;
        }
    }
    return false;
}

void mux_send_break(ChardevMux *mux)
{
    if (mux->count > 0) {
        mux_port_event(mux->ports[mux->focus], CHARDEV_BREAK);
    }
}

bool mux_owns(const Chardev *c)
{
    return c->ops == &mux_port_ops;
}

bool mux_has_focus(const Chardev *c)
{
    const MuxPort *port = (const MuxPort *)c;
    return port == port->mux->ports[port->mux->focus];
}

void mux_release(Chardev *c)
{
    MuxPort *port = (MuxPort *)c;

    chardev_attach(c, NULL, NULL);
    port->head = port->count = 0;
    g_clear_pointer(&port->user, g_free);
    if (port == port->mux->ports[port->mux->focus]) {
        mux_switch(port->mux);
    }
    chardev_accept_input(&port->mux->stream->base);
}

ChardevStream *mux_stream(const Chardev *c)
{
    return ((const MuxPort *)c)->mux->stream;
}

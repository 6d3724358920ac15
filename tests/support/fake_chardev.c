/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/fake_chardev.h"

#include <string.h>
#include <unistd.h>
#include "util/opts/opts.h"

static GPtrArray *fake_chardevs;

static size_t fake_chardev_write(Chardev *chardev, const uint8_t *data, size_t size, bool reserved)
{
    FakeChardev *c = (FakeChardev *)chardev;
    pthread_mutex_lock(&c->lock);
    size_t taken = MIN(size, c->room + (reserved ? c->reserve : 0));
    g_string_append_len(c->output, (const char *)data, (gssize)taken);
    c->reserve -= taken > c->room ? taken - c->room : 0;
    c->room -= MIN(taken, c->room);
    c->refused |= taken < size;
    pthread_mutex_unlock(&c->lock);
    return taken;
}

static void fake_chardev_accept_input(Chardev *chardev)
{
    ((FakeChardev *)chardev)->accepts++;
}

static bool fake_chardev_connected(const Chardev *chardev)
{
    return !((const FakeChardev *)chardev)->disconnected;
}

/* ---- sockets ---- */

static void fake_chardev_announce(void *opaque)
{
    FakeChardev *c = opaque;
    if (c->base.frontend != NULL && c->socket >= 0) {
        fake_chardev_event(c, CHARDEV_OPENED);
    }
}

static void fake_chardev_attach(Chardev *chardev)
{
    FakeChardev *c = (FakeChardev *)chardev;
    if (c->ctx != NULL) {
        aio_bh_cancel(&c->announce);
        aio_bh_schedule(&c->announce);
    }
}

static bool fake_chardev_is_socket(const Chardev *chardev)
{
    return ((const FakeChardev *)chardev)->ctx != NULL;
}

static int fake_chardev_socket_fd(const Chardev *chardev)
{
    return ((const FakeChardev *)chardev)->socket;
}

static void fake_chardev_disconnect(Chardev *chardev)
{
    FakeChardev *c = (FakeChardev *)chardev;
    if (c->socket < 0) {
        return;
    }
    close(c->socket);
    c->socket = -1;
    c->disconnects++;
    if (c->base.frontend != NULL) {
        fake_chardev_event(c, CHARDEV_CLOSED);
    }
}

void fake_chardev_set_ctx(FakeChardev *c, AioContext *ctx)
{
    if (c->ctx != NULL) {
        aio_bh_cancel(&c->announce);
    }
    c->ctx = ctx;
    if (ctx != NULL) {
        aio_bh_init(&c->announce, ctx, fake_chardev_announce, c);
    }
}

FakeChardev *fake_chardev_new_socket(const char *id, AioContext *ctx)
{
    FakeChardev *c = fake_chardev_new(id);
    fake_chardev_set_ctx(c, ctx);
    return c;
}

void fake_chardev_connect(FakeChardev *c, int fd)
{
    fake_chardev_disconnect(&c->base);
    c->socket = fd;
    aio_bh_cancel(&c->announce);
    aio_bh_schedule(&c->announce);
}

static const ChardevOps fake_chardev_ops = {
    .write = fake_chardev_write,
    .accept_input = fake_chardev_accept_input,
    .connected = fake_chardev_connected,
    .attach = fake_chardev_attach,
    .is_socket = fake_chardev_is_socket,
    .socket_fd = fake_chardev_socket_fd,
    .disconnect = fake_chardev_disconnect,
};

FakeChardev *fake_chardev_new(const char *id)
{
    FakeChardev *c = g_new0(FakeChardev, 1);
    pthread_mutex_init(&c->lock, NULL);
    c->base.ops = &fake_chardev_ops;
    c->base.id = g_strdup(id);
    c->output = g_string_new(NULL);
    c->room = SIZE_MAX;
    c->socket = -1;
    if (fake_chardevs == NULL) {
        fake_chardevs = g_ptr_array_new();
    }
    g_ptr_array_insert(fake_chardevs, 0, c);
    return c;
}

void fake_chardev_free(FakeChardev *c)
{
    g_assert(c->base.frontend == NULL);
    fake_chardev_disconnect(&c->base);
    if (c->ctx != NULL) {
        aio_bh_cancel(&c->announce);
    }
    g_ptr_array_remove(fake_chardevs, c);
    if (fake_chardevs->len == 0) {
        g_ptr_array_free(g_steal_pointer(&fake_chardevs), TRUE);
    }
    pthread_mutex_destroy(&c->lock);
    g_string_free(c->output, TRUE);
    g_free(c->base.id);
    g_free(c);
}

void fake_chardev_make_room(FakeChardev *c, size_t room)
{
    pthread_mutex_lock(&c->lock);
    bool refused = c->refused;
    c->room = room;
    c->refused = false;
    pthread_mutex_unlock(&c->lock);
    if (refused && c->base.frontend != NULL) {
        c->base.frontend->writable(c->base.frontend_opaque);
    }
}

size_t fake_chardev_output_size(FakeChardev *c)
{
    pthread_mutex_lock(&c->lock);
    size_t size = c->output->len;
    pthread_mutex_unlock(&c->lock);
    return size;
}

size_t fake_chardev_input(FakeChardev *c, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    size_t given = 0;
    while (given < size) {
        size_t n = c->base.frontend->can_receive(c->base.frontend_opaque);
        n = MIN(n, size - given);
        if (n == 0) {
            break;
        }
        c->base.frontend->receive(c->base.frontend_opaque, bytes + given, n);
        given += n;
    }
    return given;
}

void fake_chardev_event(FakeChardev *c, ChardevEvent event)
{
    if (event == CHARDEV_OPENED || event == CHARDEV_CLOSED) {
        c->disconnected = event == CHARDEV_CLOSED;
    }
    c->base.frontend->event(c->base.frontend_opaque, event);
}

Chardev *fake_chardev_find(void *opaque, const char *id, const char *user, GError **error)
{
    for (unsigned i = 0; fake_chardevs != NULL && i < fake_chardevs->len; i++) {
        FakeChardev *c = fake_chardevs->pdata[i];
        if (strcmp(c->base.id, id) == 0) {
            if (c->base.frontend != NULL) {
                break;
            }
            return &c->base;
        }
    }
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "chardev '%s' is missing or in use", id);
    return NULL;
}

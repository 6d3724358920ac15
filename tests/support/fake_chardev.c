/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/fake_chardev.h"

#include <string.h>
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

static const ChardevOps fake_chardev_ops = {
    .write = fake_chardev_write,
    .accept_input = fake_chardev_accept_input,
    .connected = fake_chardev_connected,
};

FakeChardev *fake_chardev_new(const char *id)
{
    FakeChardev *c = g_new0(FakeChardev, 1);
    pthread_mutex_init(&c->lock, NULL);
    c->base.ops = &fake_chardev_ops;
    c->base.id = g_strdup(id);
    c->output = g_string_new(NULL);
    c->room = SIZE_MAX;
    if (fake_chardevs == NULL) {
        fake_chardevs = g_ptr_array_new();
    }
    g_ptr_array_insert(fake_chardevs, 0, c);
    return c;
}

void fake_chardev_free(FakeChardev *c)
{
    g_assert(c->base.frontend == NULL);
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

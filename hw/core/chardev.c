/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/core/chardev.h"

size_t chardev_write(Chardev *c, const uint8_t *data, size_t size)
{
    return c ? c->ops->write(c, data, size, false) : size;
}

size_t chardev_write_reserved(Chardev *c, const uint8_t *data, size_t size)
{
    return c ? c->ops->write(c, data, size, true) : size;
}

void chardev_accept_input(Chardev *c)
{
    if (c && c->ops->accept_input) {
        c->ops->accept_input(c);
    }
}

bool chardev_connected(const Chardev *c)
{
    return c && (!c->ops->connected || c->ops->connected(c));
}

int chardev_take_fd(Chardev *c)
{
    return c != NULL && c->ops->take_fd != NULL ? c->ops->take_fd(c) : -1;
}

bool chardev_is_socket(const Chardev *c)
{
    return c != NULL && c->ops->is_socket != NULL && c->ops->is_socket(c);
}

int chardev_socket_fd(const Chardev *c)
{
    return chardev_is_socket(c) ? c->ops->socket_fd(c) : -1;
}

void chardev_disconnect(Chardev *c)
{
    if (chardev_is_socket(c)) {
        c->ops->disconnect(c);
    }
}

void chardev_attach(Chardev *c, const ChardevFrontendOps *ops, void *opaque)
{
    if (!c) {
        return;
    }
    if (ops && c->frontend) {
        bug_abort("chardev '%s' has a frontend already", c->id ? c->id : "");
    }
    c->frontend = ops;
    c->frontend_opaque = ops ? opaque : NULL;
    if (c->ops->attach) {
        c->ops->attach(c);
    }
}

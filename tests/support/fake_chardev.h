/* SPDX-License-Identifier: Apache-2.0 */
/* A chardev that stores what is written, with limited room. Any thread may write; all other
 * functions are main's. */
#ifndef SKIFF_TESTS_SUPPORT_FAKE_CHARDEV_H
#define SKIFF_TESTS_SUPPORT_FAKE_CHARDEV_H

#include <glib.h>
#include "hw/core/chardev.h"
#include "util/loop/aio.h"

typedef struct FakeChardev {
    Chardev base;
    pthread_mutex_t lock;
    GString *output;
    size_t reserve; /* bytes it accepts beyond that by chardev_write_reserved() */
    size_t room;    /* bytes it accepts until fake_chardev_make_room() */
    bool refused;   /* a write was short since then */
    bool disconnected;
    _Atomic unsigned accepts; /* calls of accept_input */
    /* of a socket, else NULL and -1 */
    AioContext *ctx;
    int socket;
    AioBh announce;
    unsigned disconnects;
} FakeChardev;

FakeChardev *fake_chardev_new(const char *id);
/* A socket without connection, for a frontend that makes all transfers itself. */
FakeChardev *fake_chardev_new_socket(const char *id, AioContext *ctx);
/* The loop of another machine; NULL between two. */
void fake_chardev_set_ctx(FakeChardev *c, AioContext *ctx);
/* Ends the connection, if there is one, and begins another on @fd, which is taken. */
void fake_chardev_connect(FakeChardev *c, int fd);
void fake_chardev_free(FakeChardev *c);
/* The output so far; other threads may be writing. */
size_t fake_chardev_output_size(FakeChardev *c);
/* Sets the room and notifies the frontend if a write was refused before. Main. */
void fake_chardev_make_room(FakeChardev *c, size_t room);
/* Delivers as much input as the frontend accepts now; returns how much. Main. */
size_t fake_chardev_input(FakeChardev *c, const void *data, size_t size);
void fake_chardev_event(FakeChardev *c, ChardevEvent event);
/* For DeviceEnv.find_chardev: the newest chardev with this id, if it is unused. */
Chardev *fake_chardev_find(void *opaque, const char *id, const char *user, GError **error);

#endif

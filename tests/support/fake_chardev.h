/* SPDX-License-Identifier: Apache-2.0 */
/* A chardev that keeps what was written, in a ring as small as the test wants, and says so. Written
 * to by any thread; the rest is main's. */
#ifndef SKIFF_TESTS_SUPPORT_FAKE_CHARDEV_H
#define SKIFF_TESTS_SUPPORT_FAKE_CHARDEV_H

#include <glib.h>
#include "hw/core/chardev.h"

typedef struct FakeChardev {
    Chardev base;
    pthread_mutex_t lock;
    GString *output;
    size_t room;  /* how many bytes it takes until fake_chardev_make_room() */
    bool refused; /* a write came back short since */
    bool disconnected;
    _Atomic unsigned accepts; /* calls of accept_input */
} FakeChardev;

FakeChardev *fake_chardev_new(const char *id);
void fake_chardev_free(FakeChardev *c);
/* What was written so far, while others may be writing. */
size_t fake_chardev_output_size(FakeChardev *c);
/* Sets the room and tells the frontend, when it was refused before. Main. */
void fake_chardev_make_room(FakeChardev *c, size_t room);
/* Delivers as much of the input as the frontend takes now; returns how much. Main. */
size_t fake_chardev_input(FakeChardev *c, const void *data, size_t size);
void fake_chardev_event(FakeChardev *c, ChardevEvent event);
/* For DeviceEnv.find_chardev: the one that was made last under this id, if nobody has it. */
Chardev *fake_chardev_find(void *opaque, const char *id, const char *user, GError **error);

#endif

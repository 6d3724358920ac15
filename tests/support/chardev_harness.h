/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of chardevs: a stepped main loop, and a frontend that logs its input.
 */
#ifndef SKIFF_TESTS_SUPPORT_CHARDEV_HARNESS_H
#define SKIFF_TESTS_SUPPORT_CHARDEV_HARNESS_H

#include <glib.h>
#include "util/loop/aio.h"
#include "hw/chardev/chardev_set.h"

typedef struct RecordingFrontend {
    size_t room;    /* the result of can_receive(); receive() reduces it */
    bool answering; /* the result of is_answering() */
    GString *received;
    GString *events; /* one letter each: O C B F U */
    unsigned writable;
} RecordingFrontend;

extern const ChardevFrontendOps recording_frontend_ops;

/* Makes the calling thread main, if it is not, and returns a context that it runs. */
AioContext *chardev_harness_begin(void);
/* Shuts all chardevs down. */
void chardev_harness_shutdown(AioContext *ctx);
/* The same, and frees the context. */
void chardev_harness_end(AioContext *ctx);
/* Adds a chardev and steps the loop until it is open. Returns NULL, or the error. */
char *chardev_harness_add(AioContext *ctx, const char *options);
/* The same without waiting; *@done is set when it is open. Fails the test on error. */
void chardev_harness_add_begin(AioContext *ctx, const char *options, bool *done);

RecordingFrontend *recording_frontend_new(size_t room);
void recording_frontend_free(RecordingFrontend *f);

/* Runs the loop until the condition holds. alarm(2) ends a test that waits for ever. */
#define STEP_UNTIL(ctx, condition)                                                                 \
    do {                                                                                           \
        while (!(condition)) {                                                                     \
            aio_context_step((ctx), true);                                                         \
        }                                                                                          \
    } while (0)
/* Runs everything that is ready, until nothing is. */
void chardev_harness_settle(AioContext *ctx);

#endif

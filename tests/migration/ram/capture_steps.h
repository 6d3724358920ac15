/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of a capture of guest RAM, for co_run_in_worker(). */
#ifndef SKIFF_TESTS_MIGRATION_RAM_CAPTURE_STEPS_H
#define SKIFF_TESTS_MIGRATION_RAM_CAPTURE_STEPS_H

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "migration/ram/capture_fork.h"
#include "migration/ram/capture_wp.h"
#include "tests/migration/ram/ram_test.h"

typedef struct Capture {
    CaptureWpConfig config; /* of a fork `ram` only */
    CaptureFork *fork;
    CaptureWp *wp;
    GError *error;
    uint64_t *bits; /* of a look, at the second block */
    uint64_t pages;
    unsigned looks, kill_at; /* the child is killed in this look */
} Capture;

static inline int capture_begin_fork(void *opaque)
{
    Capture *c = opaque;
    enter_worker();
    c->fork = capture_fork_begin(c->config.ram, &c->error);
    return c->fork != NULL ? 0 : -1;
}

static inline int capture_begin_wp(void *opaque)
{
    Capture *c = opaque;
    enter_worker();
    c->wp = capture_wp_new(&c->config, &c->error);
    return c->wp != NULL ? 0 : -1;
}

static inline int capture_arm(void *opaque)
{
    enter_worker();
    return capture_wp_arm(((Capture *)opaque)->wp);
}

static inline int capture_freeze(void *opaque)
{
    enter_worker();
    return capture_wp_freeze(((Capture *)opaque)->wp);
}

static inline int capture_free(void *opaque)
{
    const Capture *c = opaque;
    enter_worker();
    capture_fork_free(c->fork);
    capture_wp_free(c->wp);
    return 0;
}

static inline coroutine_fn RUNS_IN_MAIN void capture_ok(Capture *c, int (*fn)(void *opaque))
{
    if (co_run_in_worker(fn, c) != 0) {
        fail_msg("%s", c->error != NULL ? c->error->message : "a step of a capture has failed");
    }
}

static inline bool capture_wp_is_permitted(void)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    if (fd < 0) {
        fd = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    }
    if (fd >= 0) {
        close(fd);
    }
    return fd >= 0;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* A VhostUser without a device, with guest RAM, and a peer that the test controls. */
#ifndef SKIFF_TESTS_HW_VHOST_VHOST_USER_RIG_H
#define SKIFF_TESTS_HW_VHOST_VHOST_USER_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include "hw/vhost/vhost_user.h"
#include "tests/support/fake_machine.h"
#include "tests/support/vhost_user_peer.h"

#define RIG_RAM (1u << 20)
#define RIG_RINGS 2
#define RIG_CONFIG 60
#define RIG_RING_SIZE 16
#define SECONDS(n) ((n)*INT64_C(1000000000))

typedef struct Rig {
    FakeMachine *machine;
    AioContext *ctx;
    FakeChardev *chardev;
    VhostUserPeer *peer;
    VhostUser user;
    GuestRam ram;
    VhostUserNeeds needs;
    VhostVring vrings[RIG_RINGS];
    VhostStart start;
    unsigned config_changes, lost, came_back;
    char *lost_why;
    unsigned fds;
    /* the call under way */
    bool done, ok;
    char *error;
} Rig;

static inline unsigned rig_open_fds(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 256; fd++) {
        n += fcntl(fd, F_GETFD) >= 0;
    }
    return n;
}

static void rig_config_changed(void *opaque)
{
    ((Rig *)opaque)->config_changes++;
}

static void rig_lost(void *opaque, const char *why)
{
    Rig *r = opaque;
    r->lost++;
    g_free(r->lost_why);
    r->lost_why = g_strdup(why);
}

static void rig_came_back(void *opaque)
{
    ((Rig *)opaque)->came_back++;
}

static const VhostUserEvents rig_events = {.config_changed = rig_config_changed};
static const VhostEvents rig_vhost_events = {.lost = rig_lost, .came_back = rig_came_back};

static inline void rig_finish(Rig *r, bool ok, GError *error)
{
    r->done = true;
    r->ok = ok;
    g_free(r->error);
    r->error = error != NULL ? g_strdup(error->message) : NULL;
    g_clear_error(&error);
}

static void rig_open_run(void *opaque)
{
    Rig *r = opaque;
    GError *error = NULL;
    enter_coroutine();
    enter_main();
    bool ok = vhost_user_co_open(&r->user, &r->needs, &r->chardev->base, r->ctx, &r->ram, "x",
                                 &rig_events, r, &error);
    if (ok) {
        r->user.dev.events = &rig_vhost_events;
        r->user.dev.events_opaque = r;
    }
    rig_finish(r, ok, error);
}

static void rig_start_run(void *opaque)
{
    Rig *r = opaque;
    GError *error = NULL;
    enter_coroutine();
    enter_main();
    bool ok = vhost_co_start(&r->user.dev, &r->start, &error);
    rig_finish(r, ok, error);
}

static void rig_stop_run(void *opaque)
{
    Rig *r = opaque;
    enter_coroutine();
    enter_main();
    rig_finish(r, vhost_co_stop(&r->user.dev, &r->start), NULL);
}

static void rig_close_run(void *opaque)
{
    Rig *r = opaque;
    enter_coroutine();
    enter_main();
    vhost_user_co_close(&r->user);
    rig_finish(r, true, NULL);
}

static void rig_set_config_run(void *opaque)
{
    Rig *r = opaque;
    GError *error = NULL;
    enter_coroutine();
    enter_main();
    bool ok = vhost_user_co_set_config(&r->user, 32, (const uint8_t *)"w", 1, &error);
    rig_finish(r, ok, error);
}

/* Begins @fn as a coroutine and runs main until it has nothing to do. */
static inline void rig_begin(Rig *r, CoroutineEntry *fn)
{
    r->done = false;
    co_start(r->ctx, fn, r);
    fake_machine_run(r->machine);
}

/* The same for what ends without time passing. */
static inline bool rig_do(Rig *r, CoroutineEntry *fn)
{
    rig_begin(r, fn);
    assert_true(r->done);
    return r->ok;
}

static inline void rig_make_vrings(Rig *r)
{
    for (unsigned i = 0; i < RIG_RINGS; i++) {
        r->vrings[i] = (VhostVring){.index = i,
                                    .size = RIG_RING_SIZE,
                                    .desc_gpa = 0x10000 + i * 0x4000,
                                    .avail_gpa = 0x11000 + i * 0x4000,
                                    .used_gpa = 0x12000 + i * 0x4000,
                                    .kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                                    .call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                                    .err_fd = -1};
    }
    r->start = (VhostStart){.features = 1ull << 32, .vrings = r->vrings, .count = RIG_RINGS};
}

static inline int rig_set_up(void **state)
{
    Rig *r = g_new0(Rig, 1);
    int fd = memfd_create("ram", MFD_CLOEXEC);
    r->machine = fake_machine_new();
    enter_main();
    r->ctx = r->machine->env.main_ctx;
    assert_true(fd >= 0 && ftruncate(fd, RIG_RAM) == 0);
    RamBlock block = {.size = RIG_RAM, .fd = fd, .name = "ram"};
    block.host = mmap(NULL, RIG_RAM, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    guest_ram_add(&r->ram, &block);
    rig_make_vrings(r);
    r->chardev = fake_chardev_new_socket("c", r->ctx);
    r->fds = rig_open_fds();
    r->peer = vhost_user_peer_new(r->chardev);
    r->needs =
        (VhostUserNeeds){.vrings = RIG_RINGS, .vrings_per_unit = 1, .config_size = RIG_CONFIG};
    *state = r;
    return 0;
}

static inline int rig_tear_down(void **state)
{
    Rig *r = *state;
    enter_main();
    rig_do(r, rig_close_run);
    vhost_user_peer_free(r->peer);
    fake_machine_run(r->machine);
    assert_int_equal(rig_open_fds(), r->fds); /* no descriptor was leaked */
    fake_chardev_free(r->chardev);
    for (unsigned i = 0; i < RIG_RINGS; i++) {
        close(r->vrings[i].kick_fd);
        close(r->vrings[i].call_fd);
    }
    munmap(r->ram.blocks[0].host, RIG_RAM);
    close(r->ram.blocks[0].fd);
    fake_machine_free(r->machine);
    g_free(r->error);
    g_free(r->lost_why);
    g_free(r);
    return 0;
}

/* A VhostUser whose peer is there. */
static inline int rig_set_up_open(void **state)
{
    rig_set_up(state);
    Rig *r = *state;
    vhost_user_peer_connect(r->peer);
    assert_true(rig_do(r, rig_open_run));
    return 0;
}

static inline void rig_set_used_index(Rig *r, unsigned ring, uint16_t index)
{
    uint16_t *used = (uint16_t *)(void *)(r->ram.blocks[0].host + r->vrings[ring].used_gpa);
    used[1] = index;
}

#endif

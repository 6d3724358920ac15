/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the tests of clients' lives: an export of a disk whose requests can be held. */
#ifndef SKIFF_TESTS_BLOCK_NBD_NBD_LIFE_H
#define SKIFF_TESTS_BLOCK_NBD_NBD_LIFE_H

#include "tests/block/nbd/nbd_rig.h"

static inline void life_begin(void)
{
    RigServer server = {0};
    RigExport x = {.node = RIG_FAULT "fail-op=none", .config.writable = true};
    rig_main(rig_server_start, &server);
    rig_main(rig_export_add, &x);
    assert_null(x.error);
}

static inline void life_hold(int op)
{
    BlockFault fault = {.op = op, .hold = true};
    rig_set_fault(&fault);
}

static inline void life_hold_nothing(void)
{
    BlockFault fault = {0};
    rig_set_fault(&fault);
}

static void life_home_turns(void *opaque)
{
    enter_coroutine();
    enter_main();
    for (unsigned i = 0; i < 10; i++) {
        test_settle();
    }
}

/* Whether nothing has arrived after both loops had time for it. */
static inline bool life_silent(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    rig_main(life_home_turns, NULL);
    rig_settle_main();
    return poll(&p, 1, 0) == 0;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting until an iothread, and main, whose loop the test steps, are idle.
 */
#ifndef SKIFF_TESTS_SUPPORT_LOOPS_SETTLE_H
#define SKIFF_TESTS_SUPPORT_LOOPS_SETTLE_H

#include "util/loop/aio.h"

/* Returns when neither has anything to do. It checks their state and does not count turns, because
 * an operation may take many. It does not wait for timers or other threads; if those keep the two
 * busy, it gives up after a while. Thread: @main_ctx's, outside its turns. */
void loops_settle(AioContext *main_ctx, AioContext *home);

#endif

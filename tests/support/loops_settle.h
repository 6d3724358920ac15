/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for an iothread and for main, whose loop the test steps, to have done what they have to.
 */
#ifndef SKIFF_TESTS_SUPPORT_LOOPS_SETTLE_H
#define SKIFF_TESTS_SUPPORT_LOOPS_SETTLE_H

#include "util/loop/aio.h"

/* Returns when neither has anything to do: not by a count of turns, which an operation of many
 * steps would outlast, but by looking. It does not wait for timers, nor for other threads; while
 * those keep the two busy it gives up after a while. Thread: @main_ctx's, outside its turns. */
void loops_settle(AioContext *main_ctx, AioContext *home);

#endif

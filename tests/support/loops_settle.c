/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/loops_settle.h"

#include <semaphore.h>
#include <stdatomic.h>
#include "util/loop/aio_int.h"

/* Successive checks. The first may run before descriptors and coroutines that write, the second
 * before the `flush` of their output. */
#define IDLE_CHECKS 3
#define CHECKS_MAX 64
#define ROUNDS_MAX 64

typedef struct HomeCheck {
    AioContext *home;
    unsigned idle, all;
    sem_t done;
} HomeCheck;

/* Runs after the descriptors of its turn and before the ready coroutines. */
static void home_check(void *opaque)
{
    HomeCheck *check = opaque;
    const AioContext *home = check->home;
    bool busy = atomic_load(&home->bh_head) != NULL || atomic_load(&home->incoming_bh) != NULL ||
                home->co_head != NULL || atomic_load(&home->incoming_co) != NULL;
    check->idle = busy ? 0 : check->idle + 1;
    if (check->idle < IDLE_CHECKS && ++check->all < CHECKS_MAX) {
        aio_post(check->home, home_check, check);
    } else {
        sem_post(&check->done);
    }
}

/* Main is blocked meanwhile; new work for it counts as progress. */
static void home_await_idle(AioContext *home)
{
    HomeCheck check = {.home = home};
    sem_init(&check.done, 0, 0);
    aio_post(home, home_check, &check);
    while (sem_wait(&check.done) != 0) {
    }
    sem_destroy(&check.done);
}

void loops_settle(AioContext *main_ctx, AioContext *home)
{
    bool progress = true;
    for (unsigned round = 0; progress && round < ROUNDS_MAX; round++) {
        home_await_idle(home);
        progress = false;
        while (aio_context_step(main_ctx, false)) {
            progress = true;
        }
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/loops_settle.h"

#include <semaphore.h>
#include <stdatomic.h>
#include "util/loop/aio_int.h"

/* Successive checks. The first may run before descriptors and coroutines that write, the second
 * before the `flush` of their output. */
#define IDLE_LOOKS 3
#define LOOKS_MAX 64
#define ROUNDS_MAX 64

typedef struct HomeLook {
    AioContext *home;
    unsigned idle, all;
    sem_t done;
} HomeLook;

/* Runs after the descriptors of its turn and before the ready coroutines. */
static void home_look(void *opaque)
{
    HomeLook *look = opaque;
    const AioContext *home = look->home;
    bool busy = atomic_load(&home->bh_head) != NULL || atomic_load(&home->incoming_bh) != NULL ||
                home->co_head != NULL || atomic_load(&home->incoming_co) != NULL;
    look->idle = busy ? 0 : look->idle + 1;
    if (look->idle < IDLE_LOOKS && ++look->all < LOOKS_MAX) {
        aio_post(look->home, home_look, look);
    } else {
        sem_post(&look->done);
    }
}

/* Main is blocked meanwhile; new work for it counts as progress. */
static void home_await_idle(AioContext *home)
{
    HomeLook look = {.home = home};
    sem_init(&look.done, 0, 0);
    aio_post(home, home_look, &look);
    while (sem_wait(&look.done) != 0) {
    }
    sem_destroy(&look.done);
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

/* SPDX-License-Identifier: Apache-2.0 */
/* Several coroutines of the home that share a job. */
#include "block/img/img.h"

typedef struct Crew {
    void (*work)(void *opaque);
    void *opaque;
    unsigned left; /* members that work */
    CoToken ended;
} Crew;

static void crew_member(void *opaque)
{
    Crew *c = opaque;
    enter_coroutine();
    enter_iothread(aio_context_current());
    c->work(c->opaque);
    if (--c->left == 0) {
        co_wake(c->ended);
    }
}

typedef struct CrewCall {
    Crew crew;
    unsigned count;
} CrewCall;

static void crew_at_home(void *opaque)
{
    CrewCall *call = opaque;
    AioContext *home = aio_context_current();
    enter_coroutine();
    enter_iothread(home);
    call->crew.left = call->count;
    call->crew.ended = co_arm();
    for (unsigned i = 0; i < call->count; i++) {
        co_start(home, crew_member, &call->crew);
    }
    co_wait(call->crew.ended);
}

void img_co_crew(Img *img, unsigned count, void (*work)(void *opaque), void *opaque)
{
    CrewCall call = {.crew = {.work = work, .opaque = opaque}, .count = count};
    co_call_in(img->home, crew_at_home, &call);
}

/* ---- turns ---- */

void img_turn_init(ImgTurn *t)
{
    t->taken = false;
    co_queue_init(&t->waiters);
}

void img_turn_co_take(ImgTurn *t)
{
    while (t->taken) {
        co_queue_wait(&t->waiters, "another coroutine's turn");
    }
    t->taken = true;
}

void img_turn_give(ImgTurn *t)
{
    t->taken = false;
    co_queue_wake_one(&t->waiters);
}

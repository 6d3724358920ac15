/* SPDX-License-Identifier: Apache-2.0 */
/* Stops, starts and resets requested while an operation is under way: at every turn of the loop, at
 * every move of the state, and from another thread. */
#include "tests/vmm/vm/run_state_rig.h"

#include <pthread.h>
#include <stdatomic.h>
#include "util/loop/sched_point.h"
#include "util/loop/thread.h"

/* ---- every interleaving of an operation and three requests ---- */

enum { ASK_STOP, ASK_IO_ERROR, ASK_START, ASK_RESET, ASKS };

typedef enum Scene { SCENE_DUMP, SCENE_DUMP_OF_PAUSED, SCENE_RESET, SCENE_STOP, SCENES } Scene;

typedef struct Play {
    Fake *f;
    Dump dump;
    int asks[3]; /* ASKS: none */
    unsigned at; /* a turn, or a move of the state */
    bool spread; /* one request a turn */
    bool run_requested;
    bool io_error; /* there was such a stop since the last start */
    bool reset;    /* at any time: it clears the reason */
    /* those before the last stop, and the one that could no longer be prevented */
    unsigned unparks;
} Play;

static void play_ask(Play *p, int ask)
{
    RunState *rs = &p->f->rs;
    bool stop = ask == ASK_STOP || ask == ASK_IO_ERROR;
    if (ask == ASK_START) {
        run_state_request_start(rs);
    } else if (ask == ASK_RESET) {
        run_state_request_reset(rs);
    } else if (stop) {
        run_state_request_stop(rs, ask == ASK_STOP ? STOP_PAUSED : STOP_IO_ERROR);
    }
    if (ask == ASK_START || stop) {
        p->run_requested = !stop;
    }
    p->reset |= ask == ASK_RESET;
    p->io_error = ask == ASK_IO_ERROR || (ask == ASK_STOP && p->io_error);
    if (stop) {
        bool starting = rs->starting || (rs->phase == RUN_RUNNING && !p->f->unparked);
        p->unparks = p->f->unparks + (starting ? 1 : 0);
    }
}

static RUNS_IN_MAIN void play_asks(Play *p)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(p->asks); i++) {
        play_ask(p, p->asks[i]);
        if (p->spread) {
            take_turns(p->f, 1);
        }
    }
}

static RUNS_IN_MAIN void play_scene(Play *p, Scene scene)
{
    p->dump = (Dump){.f = p->f, .turns = 6};
    p->run_requested = scene != SCENE_DUMP_OF_PAUSED;
    if (p->run_requested) {
        fake_start(p->f);
    }
    p->f->slow = true;
    if (scene == SCENE_RESET) {
        play_ask(p, ASK_RESET);
    } else if (scene == SCENE_STOP) {
        play_ask(p, ASK_STOP);
    } else {
        co_start(p->f->ctx, dump_body, &p->dump);
    }
}

static RUNS_IN_MAIN void play_check(Play *p)
{
    const RunState *rs = &p->f->rs;
    assert_false(rs->serving || rs->busy || rs->queued != 0 || rs->stop_reasons != 0);
    assert_int_equal(rs->phase, p->run_requested ? RUN_RUNNING : RUN_STOPPED);
    assert_int_equal(p->f->told_running, p->run_requested);
    if (!p->run_requested) { /* nothing has run since the last stop request */
        assert_true(p->f->unparks <= p->unparks);
    }
    if (p->io_error && !p->reset) {
        assert_string_equal(run_state_name(rs), "io-error");
        assert_true(g_str_has_suffix(p->f->announced, "STOP(io-error) "));
    }
}

static void at_move(void *arg, const void *object)
{
    Play *p = arg;
    enter_main();
    if (p->at-- == 0) {
        play_asks(p);
    }
}

/* False: the operation had ended before. */
static RUNS_IN_MAIN bool play(Scene scene, const Play *plan, bool at_moves)
{
    void *state;
    Play p = *plan;
    fake_setup(&state);
    p.f = state;
    play_scene(&p, scene);
    if (at_moves) {
        sched_point_hook("run_state.moved", at_move, &p);
    } else {
        take_turns(p.f, p.at);
        play_asks(&p);
    }
    fake_settle(p.f);
    sched_point_hook("run_state.moved", NULL, NULL);
    bool asked = !at_moves || p.at > plan->at;
    if (asked) {
        play_check(&p);
    }
    fake_teardown(&state);
    return asked;
}

static void the_last_of_stop_and_start_counts_at_every_turn(void **state)
{
    enter_main();
    for (unsigned i = 0; i < SCENES * 2 * ASKS * (ASKS + 1) * (ASKS + 1); i++) {
        unsigned asks = i / SCENES / 2;
        Play plan = {.spread = (i / SCENES) % 2 != 0,
                     .asks = {asks % ASKS, asks / ASKS % (ASKS + 1), asks / ASKS / (ASKS + 1)}};
        for (plan.at = 0; plan.at < 24; plan.at++) {
            play(i % SCENES, &plan, false);
        }
    }
}

static void the_last_of_stop_and_start_counts_at_every_move(void **state)
{
    unsigned played = 0;
    enter_main();
    for (unsigned i = 0; i < SCENES * ASKS * (ASKS + 1) * (ASKS + 1); i++) {
        unsigned asks = i / SCENES;
        Play plan = {.asks = {asks % ASKS, asks / ASKS % (ASKS + 1), asks / ASKS / (ASKS + 1)}};
        while (play(i % SCENES, &plan, true)) {
            plan.at++;
            played++;
        }
    }
    assert_true(played > 1000);
}

/* ---- from another thread ---- */

#define SOAK_REQUESTS 20000

typedef struct Soak {
    RunState *rs;
    _Atomic bool done;
} Soak;

static void *soak_thread(void *opaque)
{
    Soak *s = opaque;
    uint32_t random = 1;
    for (unsigned i = 0; i < SOAK_REQUESTS; i++) {
        random = random * 1664525 + 1013904223;
        switch (random >> 30) {
        case 0:
            run_state_request_reset(s->rs);
            break;
        case 1:
            run_state_request_start(s->rs);
            break;
        default:
            run_state_request_stop(s->rs, (random >> 29) % 2 != 0 ? STOP_PAUSED : STOP_IO_ERROR);
            break;
        }
    }
    run_state_request_stop(s->rs, STOP_IO_ERROR);
    atomic_store(&s->done, true);
    return NULL;
}

static void requests_of_another_thread_are_served_in_the_end(void **state)
{
    Fake *f = *state;
    Soak s = {.rs = &f->rs};
    pthread_t thread;
    Dump d = {.f = f, .turns = 3, .done = true};
    enter_main();
    fake_start(f);
    f->slow = true;
    assert_true(thread_start(&thread, THREAD_WORKER, "soak", soak_thread, &s));
    while (!atomic_load(&s.done)) {
        if (d.done) {
            d.done = false;
            co_start(f->ctx, dump_body, &d);
        }
        aio_context_step(f->ctx, false);
        f->log[0] = f->announced[0] = '\0';
    }
    pthread_join(thread, NULL);
    fake_settle(f);
    assert_true(d.done);
    assert_int_equal(f->rs.phase, RUN_STOPPED);
    assert_false(f->rs.run_requested || f->rs.serving);
}

static int become_main(void **state)
{
    thread_adopt_role(THREAD_MAIN, "main");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_of_stop_and_start_counts_at_every_turn),
        cmocka_unit_test(the_last_of_stop_and_start_counts_at_every_move),
        ON_FAKE(requests_of_another_thread_are_served_in_the_end),
    };
    return cmocka_run_group_tests_name("vmm/vm/run_state, races", tests, become_main, NULL);
}

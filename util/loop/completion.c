/* SPDX-License-Identifier: Apache-2.0 */
#include "util/loop/completion.h"

#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "util/loop/coroutine.h"
#include "util/loop/held.h"
#include "util/loop/waitgraph.h"

enum { COMPLETION_PENDING, COMPLETION_WAITED, COMPLETION_DONE };

void completion_init(Completion *c)
{
    atomic_init(&c->state, COMPLETION_PENDING);
    c->result = 0;
}

void completion_signal(Completion *c, int result)
{
    c->result = result;
    uint32_t old = atomic_exchange(&c->state, COMPLETION_DONE);
    if (old == COMPLETION_DONE) {
        bug_abort("a completion is signalled twice");
    }
    if (old == COMPLETION_WAITED) {
        /* The waiter may already have seen DONE and freed @c. The address is only a futex key now;
         * a stray wake of another futex is harmless. */
        syscall(SYS_futex, &c->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}

int completion_wait(Completion *c, const char *what)
{
    if (thread_role() == THREAD_MAIN || thread_role() == THREAD_IOTHREAD ||
        aio_context_current() != NULL) {
        bug_abort("a loop thread would block on a completion (%s)", what);
    }
    held_assert_none(what);

    WaitRecord record;
    wait_begin(&record, NULL, what);
    uint32_t pending = COMPLETION_PENDING;
    atomic_compare_exchange_strong(&c->state, &pending, COMPLETION_WAITED);
    while (atomic_load(&c->state) != COMPLETION_DONE) {
        syscall(SYS_futex, &c->state, FUTEX_WAIT_PRIVATE, COMPLETION_WAITED, NULL, NULL, 0);
    }
    wait_end(&record);
    return c->result;
}

bool completion_done(const Completion *c)
{
    return atomic_load(&c->state) == COMPLETION_DONE;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Stacks of coroutines: few mappings, guards, limits; failed allocations. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "util/loop/co_stack.h"
#include "util/loop/coroutine.h"

#define MANY 320u
#define TOO_MANY 100000u

static unsigned calls[3];
static int errors[3]; /* the error of each call */

static int count_and_fail(CoStackCall call)
{
    calls[call]++;
    return errors[call];
}

static int seam_setup(void **state)
{
    (void)state;
    memset(calls, 0, sizeof(calls));
    memset(errors, 0, sizeof(errors));
    co_stack_set_fault(count_and_fail);
    return 0;
}

static int seam_teardown(void **state)
{
    (void)state;
    co_stack_set_fault(NULL);
    return 0;
}

/* Allocates until an allocation fails; returns the number of stacks. */
static unsigned take_all(CoStack *stacks, CoStackUse use)
{
    unsigned n = 0;
    while (n < TOO_MANY && co_stack_alloc(&stacks[n], use)) {
        n++;
    }
    return n;
}

static void give_back(CoStack *stacks, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        co_stack_free(&stacks[i]);
    }
}

static void many_stacks_share_a_mapping(void **state)
{
    (void)state;
    CoStack stacks[MANY];
    for (unsigned i = 0; i < MANY; i++) {
        assert_true(co_stack_alloc(&stacks[i], CO_STACK_FOR_ALL));
    }
    assert_int_equal(co_stack_count(), MANY);
    assert_in_range(calls[CO_STACK_MAP], 1, MANY / CO_SLAB_STACKS);
    give_back(stacks, MANY);
    assert_int_equal(co_stack_count(), 0);
}

static void a_freed_stack_keeps_its_guard_and_loses_its_memory(void **state)
{
    (void)state;
    CoStack a, b;
    assert_true(co_stack_alloc(&a, CO_STACK_FOR_ALL));
    a.base[CO_STACK_SIZE - 1] = 42;
    co_stack_free(&a);
    unsigned guards = calls[CO_STACK_GUARD] + calls[CO_STACK_PROTECT];
    assert_true(co_stack_alloc(&b, CO_STACK_FOR_ALL));
    assert_int_equal(calls[CO_STACK_GUARD] + calls[CO_STACK_PROTECT], guards);
    assert_int_equal(b.base[CO_STACK_SIZE - 1], 0);
    co_stack_free(&b);
}

static void assert_faults(volatile uint8_t *address)
{
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL); /* a sanitizer's handler would exit */
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        *address = 1;
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
}

static void assert_guarded(void)
{
    CoStack pair[2];
    for (unsigned i = 0; i < 2; i++) {
        assert_true(co_stack_alloc(&pair[i], CO_STACK_FOR_ALL));
        assert_faults(pair[i].base);
    }
    give_back(pair, 2);
}

static void the_lowest_page_of_each_stack_faults(void **state)
{
    (void)state;
    assert_guarded();
}

/* Where the mapping that holds @address begins. */
static uintptr_t mapping_start(const void *address)
{
    uintptr_t start, end, found = 0;
    char line[512];
    FILE *f = fopen("/proc/self/maps", "r");
    assert_non_null(f);
    while (found == 0 && fgets(line, sizeof(line), f) != NULL) {
        if (sscanf(line, "%lx-%lx", &start, &end) == 2 && (uintptr_t)address >= start &&
            (uintptr_t)address < end) {
            found = start;
        }
    }
    fclose(f);
    return found;
}

/* gdb's gcore saves a mapping up to the first page that it cannot read. */
static void a_debugger_can_save_the_first_stacks(void **state)
{
    (void)state;
    CoStack stacks[MANY];
    for (unsigned i = 0; i < MANY; i++) {
        assert_true(co_stack_alloc(&stacks[i], CO_STACK_FOR_ALL));
        uint8_t *top = stacks[i].base + CO_STACK_SIZE - 1;
        assert_int_equal(mapping_start(top), (uintptr_t)stacks[i].base + (size_t)getpagesize());
    }
    give_back(stacks, MANY);
}

static void stacks_beyond_the_guards_that_split_have_light_ones(void **state)
{
    (void)state;
    if (madvise(NULL, 0, 102) != 0) { /* MADV_GUARD_INSTALL, Linux 6.13 */
        skip();
    }
    errors[CO_STACK_PROTECT] = ENOMEM;
    CoStack stacks[MANY];
    for (unsigned i = 0; i < MANY; i++) {
        assert_true(co_stack_alloc(&stacks[i], CO_STACK_FOR_ALL));
    }
    assert_guarded();
    give_back(stacks, MANY);
}

static void a_kernel_without_light_guards_gets_pages_that_split(void **state)
{
    (void)state;
    errors[CO_STACK_GUARD] = EINVAL;
    /* More than the slab left by earlier tests: its stacks have their guards already. */
    CoStack stacks[MANY];
    for (unsigned i = 0; i < MANY; i++) {
        assert_true(co_stack_alloc(&stacks[i], CO_STACK_FOR_ALL));
    }
    assert_int_equal(calls[CO_STACK_GUARD], 1); /* tried once */
    assert_in_range(calls[CO_STACK_PROTECT], MANY - CO_SLAB_STACKS, MANY);
    assert_guarded();
    give_back(stacks, MANY);
}

/* A limit far below vm.max_map_count; requests leave some stacks for other uses. */
static void splitting_guards_limit_the_stacks(void **state)
{
    (void)state;
    CoStack *stacks = g_new0(CoStack, TOO_MANY);
    errors[CO_STACK_GUARD] = EINVAL;
    unsigned requests = take_all(stacks, CO_STACK_FOR_REQUEST);
    assert_in_range(requests, CO_SLAB_STACKS, 65530 / 4);
    unsigned others = take_all(stacks + requests, CO_STACK_FOR_ALL);
    assert_in_range(others, 1, requests / 4);
    give_back(stacks, requests + others);
    g_free(stacks);
}

static void a_call_that_fails_gives_no_stack_and_changes_nothing(void **state)
{
    (void)state;
    CoStack *stacks = g_new0(CoStack, TOO_MANY);
    for (unsigned call = CO_STACK_MAP; call <= CO_STACK_PROTECT; call++) {
        memset(errors, 0, sizeof(errors));
        errors[call] = ENOMEM;
        if (call != CO_STACK_MAP) { /* either kind of guard suffices */
            errors[CO_STACK_PROTECT] = ENOMEM;
            errors[CO_STACK_GUARD] = call == CO_STACK_PROTECT ? EINVAL : ENOMEM;
        }
        co_stack_set_fault(count_and_fail);
        unsigned n = take_all(stacks, CO_STACK_FOR_ALL);
        assert_in_range(n, 0, CO_SLAB_STACKS); /* of the slab that is kept */
        assert_int_equal(co_stack_count(), n);
        memset(errors, 0, sizeof(errors));
        assert_true(co_stack_alloc(&stacks[n], CO_STACK_FOR_ALL));
        give_back(stacks, n + 1);
        assert_int_equal(co_stack_count(), 0);
    }
    g_free(stacks);
}

/* ---- coroutines without a stack ---- */

typedef struct Waits {
    CoToken token;
    unsigned started, finished;
} Waits;

static void wait_for_the_test(void *opaque)
{
    Waits *w = opaque;
    enter_coroutine();
    w->started++;
    w->token = co_arm();
    co_wait(w->token);
    w->finished++;
}

static void start_only(void *opaque)
{
    Waits *w = opaque;
    w->started++;
}

static void a_coroutine_without_a_stack_stays_ready(void **state)
{
    (void)state;
    AioContext *ctx = aio_context_new("test", NULL);
    CoStack *rest = g_new0(CoStack, TOO_MANY);
    Waits holder = {0}, late = {0};
    aio_context_set_virtual_time(ctx, 0);
    co_start(ctx, wait_for_the_test, &holder);
    while (aio_context_step(ctx, false)) {
    }
    errors[CO_STACK_MAP] = ENOMEM;
    unsigned n = take_all(rest, CO_STACK_FOR_ALL);
    for (unsigned i = 0; i < 3; i++) {
        co_start(ctx, start_only, &late);
    }
    enter_loop(ctx);
    assert_false(co_request_ready(ctx));
    co_start_now(ctx, start_only, &late); /* it is queued */
    assert_false(aio_context_step(ctx, false));
    assert_int_equal(late.started, 0);

    co_wake(holder.token); /* all use its stack, one after the other */
    while (aio_context_step(ctx, false)) {
    }
    assert_int_equal(holder.finished, 1);
    assert_int_equal(late.started, 4);
    assert_true(co_request_ready(ctx));
    give_back(rest, n);
    g_free(rest);
    aio_context_free(ctx);
}

static void a_failed_stack_allocation_is_retried_after_a_while(void **state)
{
    (void)state;
    AioContext *ctx = aio_context_new("test", NULL);
    CoStack *rest = g_new0(CoStack, TOO_MANY);
    Waits late = {0}, holder = {0};
    aio_context_set_virtual_time(ctx, 0);
    co_start(ctx, wait_for_the_test, &holder); /* takes the stack in the thread's pool */
    while (aio_context_step(ctx, false)) {
    }
    errors[CO_STACK_MAP] = ENOMEM;
    unsigned n = take_all(rest, CO_STACK_FOR_ALL);
    co_start(ctx, start_only, &late);
    assert_false(aio_context_step(ctx, false));
    errors[CO_STACK_MAP] = 0;
    aio_context_set_virtual_time(ctx, 1000000000);
    while (aio_context_step(ctx, true)) { /* a timer ends the wait: without it this hangs */
        if (late.started) {
            break;
        }
    }
    assert_int_equal(late.started, 1);
    co_wake(holder.token);
    while (aio_context_step(ctx, false)) {
    }
    give_back(rest, n);
    g_free(rest);
    aio_context_free(ctx);
}

/* ---- what a thread keeps ---- */

static unsigned run_at_depth(AioContext *ctx, Waits *waits, unsigned depth)
{
    memset(calls, 0, sizeof(calls));
    for (unsigned i = 0; i < depth; i++) {
        enter_loop(ctx);
        co_start_now(ctx, wait_for_the_test, &waits[i]);
    }
    for (unsigned i = 0; i < depth; i++) {
        co_wake(waits[i].token);
    }
    while (aio_context_step(ctx, false)) {
    }
    return calls[CO_STACK_MAP] + calls[CO_STACK_GUARD] + calls[CO_STACK_PROTECT];
}

static void a_reserved_depth_maps_nothing_the_second_time(void **state)
{
    (void)state;
    AioContext *ctx = aio_context_new("test", NULL);
    Waits *waits = g_new0(Waits, 1024);
    enter_loop(ctx);
    co_requests_begin(ctx, 1024);
    assert_int_equal(co_requests_limit(ctx), CO_REQUESTS_MAX);
    assert_in_range(run_at_depth(ctx, waits, 1024), 1, UINT_MAX);
    assert_int_equal(run_at_depth(ctx, waits, 1024), 0);
    assert_in_range(co_stack_count(), 1024, 2048);
    co_requests_end(ctx, 1024);
    assert_in_range(co_stack_count(), 1, 256); /* released */
    g_free(waits);
    aio_context_free(ctx);
}

static void sources_of_a_loop_share_its_requests(void **state)
{
    (void)state;
    AioContext *ctx = aio_context_new("test", NULL);
    enter_loop(ctx);
    for (unsigned n = 1; n <= 200; n++) {
        co_requests_begin(ctx, 256);
        assert_int_equal(co_requests_limit(ctx), MAX(CO_REQUESTS_MAX / n, CO_REQUESTS_MIN));
    }
    for (unsigned n = 200; n >= 2; n--) {
        co_requests_end(ctx, 256);
        assert_int_equal(co_requests_limit(ctx), MAX(CO_REQUESTS_MAX / (n - 1), CO_REQUESTS_MIN));
    }
    co_requests_end(ctx, 256);
    aio_context_free(ctx);
}

#define stack_test(f) cmocka_unit_test_setup_teardown(f, seam_setup, seam_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        stack_test(many_stacks_share_a_mapping),
        stack_test(a_freed_stack_keeps_its_guard_and_loses_its_memory),
        stack_test(the_lowest_page_of_each_stack_faults),
        stack_test(a_debugger_can_save_the_first_stacks),
        stack_test(stacks_beyond_the_guards_that_split_have_light_ones),
        stack_test(a_kernel_without_light_guards_gets_pages_that_split),
        stack_test(splitting_guards_limit_the_stacks),
        stack_test(a_call_that_fails_gives_no_stack_and_changes_nothing),
        /* From here on the thread has a pool. */
        stack_test(a_coroutine_without_a_stack_stays_ready),
        stack_test(a_failed_stack_allocation_is_retried_after_a_while),
        stack_test(a_reserved_depth_maps_nothing_the_second_time),
        stack_test(sources_of_a_loop_share_its_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

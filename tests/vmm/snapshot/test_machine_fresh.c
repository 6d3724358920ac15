/* SPDX-License-Identifier: Apache-2.0 */
/* tier: kvm */
/* timeout: 300 */
/* A machine that is saved here goes on in another process: this program starts itself once more, which builds the
 * machine anew, loads it before its guest has run, and goes on to the same numbers and clocks. */
#include <stdlib.h>
#include <time.h>
#include "tests/support/rounds.h"
#include "tests/vmm/snapshot/snapshot_rig.h"

#define FRESH_FOLDER "SNAPSHOT_TEST_FOLDER" /* set: this is the other process */

/* What is not in the machine. */
typedef struct FreshFacts {
    GuestModel model;
    uint32_t accesses;
    int64_t saved_ns; /* CLOCK_MONOTONIC, before the save */
} FreshFacts;

static int64_t fresh_host_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void fresh_put(const char *folder, const char *name, const void *data, size_t size)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    assert_true(g_file_set_contents(path, data, (gssize)size, NULL));
}

static uint8_t *fresh_get(const char *folder, const char *name, size_t *size)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    char *data = NULL;
    assert_true(g_file_get_contents(path, &data, size, NULL));
    return (uint8_t *)data;
}

/* ---- the process that saves ---- */

static int64_t fresh_saved_ns;

static void stopped_save(Rig *r, const VmStopped *token)
{
    enter_main();
    enter_coroutine();
    fresh_saved_ns = fresh_host_ns();
    stopped_compare_and_put_aside(r, token);
}

static void fresh_run_other(const char *folder)
{
    char *argv[] = {(char *)(uintptr_t) "/proc/self/exe", NULL};
    g_autoptr(GError) error = NULL;
    g_autofree char *output = NULL, *errors = NULL;
    g_auto(GStrv) environment = g_environ_setenv(g_get_environ(), FRESH_FOLDER, folder, TRUE);
    int status = -1;
    if (!g_spawn_sync(NULL, argv, environment, G_SPAWN_DEFAULT, NULL, NULL, &output, &errors,
                      &status, &error)) {
        fail_msg("%s", error->message);
    }
    if (status != 0) {
        fail_msg("the other process: status %d: %s%s", status, output, errors);
    }
}

static void body_save(Rig *r)
{
    enter_main();
    enter_coroutine();
    rig_await(r, GUEST_OTHER, 0);
    for (unsigned i = test_rounds(2, 5, 50); i > 0; i--) {
        g_autofree char *folder = g_dir_make_tmp("skiff-fresh.XXXXXX", NULL);
        rig_await(r, GUEST_STEPS, r->model.steps + 2);
        rig_while_stopped(r, stopped_save);
        const FreshFacts facts = {
            .model = r->model, .accesses = r->kept_accesses, .saved_ns = fresh_saved_ns};
        fresh_put(folder, "facts", &facts, sizeof(facts));
        fresh_put(folder, "stream", r->stream->data, r->stream->len);
        fresh_put(folder, "ram", r->ram, r->vm.machine.memory->size);
        fresh_run_other(folder);
        g_autofree char *command = g_strdup_printf("rm -r '%s'", folder);
        assert_int_equal(system(command), 0);
    }
}

/* ---- the process that loads ---- */

static FreshFacts facts;

static void stopped_load(Rig *r, const VmStopped *token)
{
    enter_main();
    enter_coroutine();
    rig_co_load(r, token);
    rig_co_expect_state(r, r->stream, token);
}

static void stopped_check(Rig *r, const VmStopped *token)
{
    enter_main();
    enter_coroutine();
    rig_compare(r);
}

/* The TSC of vCPU 0, and its frequency, as they were saved. */
static uint64_t fresh_saved_tsc(const Rig *r, uint32_t *khz)
{
    g_autoptr(StateStream) s = state_stream_decode(r->stream->data, r->stream->len, NULL);
    g_autoptr(ArchVcpuState) v = arch_vcpu_state_new();
    assert_true(state_stream_load(s, "/machine/cpu/0", &arch_vcpu_state_desc, v, false, NULL));
    *khz = v->tsc_khz;
    for (uint32_t i = 0; i < v->msrs_used; i++) {
        if (v->msrs[i].index == X86_MSR_IA32_TSC) {
            return v->msrs[i].data;
        }
    }
    fail_msg("no TSC is saved");
    return 0;
}

static void fresh_check_tsc(const Rig *r)
{
    uint32_t khz, newest = rig_word(r, GUEST_STEPS) - 1;
    uint64_t from = fresh_saved_tsc(r, &khz), to;
    memcpy(&to, r->vm.machine.memory->host + GUEST_TSC + 8 * (newest & 1), sizeof(to));
    int64_t real_ns = fresh_host_ns() - facts.saved_ns;
    double most = (double)khz * (double)(real_ns + real_ns / 1000 + 1000000) / 1e6;
    if (to < from || (double)(to - from) > most) {
        fail_msg("the TSC: from %" PRIu64 " to %" PRIu64 " in %" PRId64 " ns", from, to, real_ns);
    }
}

static void body_load(Rig *r)
{
    enter_main();
    enter_coroutine();
    const char *folder = g_getenv(FRESH_FOLDER);
    size_t size;
    g_autofree uint8_t *got = fresh_get(folder, "facts", &size);
    memcpy(&facts, got, sizeof(facts));
    uint8_t *stream = fresh_get(folder, "stream", &size);
    r->stream = g_byte_array_new_take(stream, size);
    r->ram = fresh_get(folder, "ram", &size);
    r->kept_accesses = facts.accesses;
    r->kept_clock_ns = 0;
    assert_int_equal(size, r->vm.machine.memory->size);
    assert_int_equal(r->vm.run.phase, RUN_STOPPED);
    r->vm.run.run_requested = true;
    rig_while_stopped(r, stopped_load);
    r->model = facts.model;
    uint32_t other = rig_word(r, GUEST_OTHER), ticks = rig_word(r, GUEST_TICKS);
    rig_await(r, GUEST_STEPS, r->model.steps + 20);
    rig_await(r, GUEST_OTHER, other);
    rig_await(r, GUEST_TICKS, ticks);
    fresh_check_tsc(r);
    rig_while_stopped(r, stopped_check);
}

RIG_TEST(a_machine_goes_on_in_another_process, body_save)
RIG_TEST(the_other_process, body_load)

int main(void)
{
    const struct CMUnitTest here[] = {cmocka_unit_test(a_machine_goes_on_in_another_process)};
    const struct CMUnitTest there[] = {cmocka_unit_test(the_other_process)};
    rig.starts_stopped = g_getenv(FRESH_FOLDER) != NULL;
    return rig.starts_stopped ? cmocka_run_group_tests(there, rig_setup, rig_teardown)
                              : cmocka_run_group_tests(here, rig_setup, rig_teardown);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* tier: kvm */
/* timeout: 300 */
/* x-rewind of a whole machine: after each one memory, vCPUs, chips, devices and clocks are those of the point, and the
 * guest goes on from there: each number that it computes is the model's. */
#include "tests/support/rounds.h"
#include "tests/vmm/snapshot/snapshot_rig.h"
#include "vmm/snapshot/rewind.h"

#define GUEST_CLOCK_BYTES 32

static int64_t kvm_clock_ns; /* of the stopped machine */

static coroutine_fn RUNS_IN_MAIN void machine_requests(Rig *r, void (*request)(RunState *rs))
{
    request(&r->vm.run);
    run_state_co_settle(&r->vm.run, INT64_MAX / 2);
}

static void request_stop(RunState *rs)
{
    run_state_request_stop(rs, STOP_PAUSED);
}

static coroutine_fn RUNS_IN_MAIN void machine_must(Rig *r, bool (*command)(Vm *vm, GError **error))
{
    g_autoptr(GError) error = NULL;
    if (!command(&r->vm, &error)) {
        fail_msg("%s", error->message);
    }
}

static void note_kvm_clock(const GByteArray *stream)
{
    g_autoptr(StateStream) s = state_stream_decode(stream->data, stream->len, NULL);
    ArchVmState chips;
    assert_true(state_stream_load(s, "/machine", &arch_vm_state_desc, &chips, false, NULL));
    kvm_clock_ns = (int64_t)chips.clock_ns;
}

static void stopped_expect_point(Rig *r, const VmStopped *token)
{
    enter_main();
    enter_coroutine();
    int64_t then = kvm_clock_ns;
    rig_co_expect_state(r, r->stream, token);
    /* KVM writes its clock page as it likes */
    memcpy(r->ram + GUEST_CLOCK, r->vm.machine.memory->host + GUEST_CLOCK, GUEST_CLOCK_BYTES);
    assert_memory_equal(r->vm.machine.memory->host, r->ram, r->vm.machine.memory->size);
    assert_int_equal(vm_clock_now_ns(), r->kept_clock_ns);
    g_autoptr(GByteArray) now = rig_co_save(r, token);
    note_kvm_clock(now);
    assert_int_equal(kvm_clock_ns, then);
}

static void body_rewind(Rig *r)
{
    enter_main();
    enter_coroutine();
    rig_await(r, GUEST_OTHER, 0);
    for (unsigned point = 0; point < 3; point++) {
        rig_await(r, GUEST_STEPS, r->model.steps + 20);
        machine_requests(r, request_stop);
        rig_while_stopped(r, stopped_compare_and_put_aside);
        note_kvm_clock(r->stream);
        machine_must(r, rewind_co_point);
        GuestModel kept = r->model;
        for (unsigned i = test_rounds(5, 50, 500); i > 0; i--) {
            machine_requests(r, run_state_request_start);
            rig_await(r, GUEST_STEPS, kept.steps + i % 7);
            if (i % 5 == 0) {
                machine_requests(r, run_state_request_reset);
            }
            machine_must(r, rewind_co_back);
            assert_int_equal(r->vm.run.phase, RUN_STOPPED);
            rig_while_stopped(r, stopped_expect_point);
            r->accesses = r->kept_accesses; /* of the test's device, which no state has */
            r->model = kept;
        }
        machine_requests(r, run_state_request_start);
        rig_await(r, GUEST_STEPS, kept.steps + 20);
        rig_compare(r);
    }
    machine_must(r, rewind_co_end);
    rig_await(r, GUEST_STEPS, r->model.steps + 20);
    rig_compare(r);
}

RIG_TEST(a_machine_is_that_of_the_point_after_each_rewind, body_rewind)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_machine_is_that_of_the_point_after_each_rewind),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}

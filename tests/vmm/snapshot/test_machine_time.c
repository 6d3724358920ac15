/* SPDX-License-Identifier: Apache-2.0 */
/* tier: kvm */
/* timeout: 300 */
/* The guest's clocks after a load: kvmclock and the VM's clock go on where they stood, as the guest sees it; the TSC
 * jumps by no more than the time between save and load, on all vCPUs alike. */
#include <time.h>
#include "tests/support/rounds.h"
#include "tests/vmm/snapshot/snapshot_rig.h"

#define MONOTONIC_SLACK_NS 1000000 /* the kernel steers CLOCK_MONOTONIC, kvmclock it does not */

/* As KVM writes it (linux/Documentation/virt/kvm/x86/msr.rst). */
typedef struct GuestClock {
    uint32_t version, pad;
    uint64_t tsc, ns;
    uint32_t multiplier;
    int8_t shift;
    uint8_t flags, pad2[2];
} GuestClock;

typedef struct Times {
    int64_t kvm_ns, vm_ns; /* of the stopped machine */
    uint64_t tsc[2];       /* as they were read, one after the other */
    uint32_t khz;
    uint64_t guest_tsc; /* of the newest step */
    int64_t guest_ns;
} Times;
static Times times;

static int64_t host_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int64_t slack_of(int64_t ns)
{
    return ns / 1000 + MONOTONIC_SLACK_NS;
}

static int64_t clock_at(const GuestClock *c, uint64_t tsc)
{
    int64_t cycles = (int64_t)(tsc - c->tsc);
    __int128 scaled = c->shift >= 0 ? (__int128)cycles << c->shift : cycles >> -c->shift;
    return (int64_t)c->ns + (int64_t)(scaled * c->multiplier >> 32);
}

static void note_times(Rig *r)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StateStream) s = state_stream_decode(r->stream->data, r->stream->len, &error);
    VmStateSaved vm;
    GuestClock clock;
    ArchVmState chips;
    uint32_t newest = rig_word(r, GUEST_STEPS) - 1;
    memcpy(&clock, r->vm.machine.memory->host + GUEST_CLOCK, sizeof(clock));
    memcpy(&times.guest_tsc, r->vm.machine.memory->host + GUEST_TSC + 8 * (newest & 1),
           sizeof(times.guest_tsc));
    assert_true(state_stream_load(s, "/machine", &machine_vm_state_desc, &vm, false, &error));
    assert_true(state_stream_load(s, "/machine", &arch_vm_state_desc, &chips, false, &error));
    times.vm_ns = (int64_t)vm.clock_ns;
    times.kvm_ns = (int64_t)chips.clock_ns;
    times.guest_ns = clock_at(&clock, times.guest_tsc);
    for (unsigned i = 0; i < 2; i++) {
        g_autoptr(ArchVcpuState) v = arch_vcpu_state_new();
        g_autofree char *instance = g_strdup_printf("/machine/cpu/%u", i);
        assert_true(state_stream_load(s, instance, &arch_vcpu_state_desc, v, false, &error));
        times.khz = v->tsc_khz;
        for (uint32_t m = 0; m < v->msrs_used; m++) {
            if (v->msrs[m].index == X86_MSR_IA32_TSC) {
                times.tsc[i] = v->msrs[m].data;
            }
        }
    }
}

static void stopped_note_times(Rig *r, const VmStopped *token)
{
    enter_main();
    enter_coroutine();
    stopped_compare_and_put_aside(r, token);
    note_times(r);
}

static void stopped_reset_and_load(Rig *r, const VmStopped *token)
{
    enter_main();
    enter_coroutine();
    assert_true(r->vm.run.ops->co_reset(r->vm.run.opaque, NULL));
    rig_co_load(r, token);
}

/* A clock that has run from @from to @to, of a machine that ran for @ran_ns at most. */
static void expect_no_jump(const char *what, int64_t from, int64_t to, int64_t ran_ns)
{
    if (to < from || to - from > ran_ns + slack_of(ran_ns)) {
        fail_msg("%s: from %" PRId64 " to %" PRId64 " ns in %" PRId64 " ns", what, from, to,
                 ran_ns);
    }
}

static uint64_t cycles_of(uint32_t khz, int64_t ns)
{
    return (uint64_t)((unsigned __int128)(uint64_t)ns * khz / 1000000);
}

static void expect_tsc_goes_on(uint64_t from, uint64_t to, int64_t real_ns)
{
    if (to < from || to - from > cycles_of(times.khz, real_ns + slack_of(real_ns))) {
        fail_msg("the TSC (%u kHz): from %" PRIu64 " to %" PRIu64 " in %" PRId64 " ns", times.khz,
                 from, to, real_ns);
    }
}

/* Both were read between @begin_ns and @end_ns. */
static void expect_tscs_together(int64_t begin_ns, int64_t end_ns)
{
    int64_t apart = (int64_t)(times.tsc[1] - times.tsc[0]);
    uint64_t most = cycles_of(times.khz, end_ns - begin_ns + slack_of(end_ns - begin_ns));
    if ((uint64_t)(apart < 0 ? -apart : apart) > most) {
        fail_msg("the TSCs are %" PRId64 " cycles apart", apart);
    }
}

static void body_time(Rig *r)
{
    enter_main();
    enter_coroutine();
    rig_await(r, GUEST_OTHER, 0);
    for (unsigned i = test_rounds(5, 50, 500); i > 0; i--) {
        int64_t save_ns = host_ns();
        rig_while_stopped(r, stopped_note_times);
        Times saved = times;
        GuestModel kept = r->model;
        rig_await(r, GUEST_STEPS, r->model.steps + 5); /* the time of this is never seen */
        int64_t load_ns = host_ns();
        rig_while_stopped(r, stopped_reset_and_load);
        r->model = kept;
        rig_await(r, GUEST_STEPS, r->model.steps + 5);
        int64_t stop_ns = host_ns();
        rig_while_stopped(r, stopped_note_times);
        int64_t end_ns = host_ns(), slack_ns = slack_of(end_ns - save_ns);
        expect_no_jump("kvmclock", saved.kvm_ns, times.kvm_ns, end_ns - load_ns);
        expect_no_jump("the VM's clock", saved.vm_ns, times.vm_ns, end_ns - load_ns);
        assert_in_range(times.guest_ns, saved.kvm_ns - slack_ns, times.kvm_ns + slack_ns);
        assert_true(times.guest_ns >= saved.guest_ns);
        expect_tsc_goes_on(saved.tsc[0], times.guest_tsc, end_ns - save_ns);
        assert_int_equal(times.khz, saved.khz);
        expect_tscs_together(stop_ns, end_ns);
    }
}

RIG_TEST(no_clock_jumps_beyond_the_pause, body_time)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_clock_jumps_beyond_the_pause),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}

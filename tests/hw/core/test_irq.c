/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "tests/support/fake_machine.h"
#include "tests/support/msi_contract.h"

static void test_gate_is_the_or_of_its_lines(void **unused)
{
    FakeMachine *m = fake_machine_new();
    IrqLine a, b;
    irq_line_init(&a, &m->gates[5]);
    irq_line_init(&b, &m->gates[5]);
    irq_line_set(&a, true);
    assert_true(m->gsi_level[5]);
    irq_line_set(&b, true);
    irq_line_set(&b, true);
    irq_line_set(&a, false);
    assert_true(m->gsi_level[5]);
    irq_line_set(&b, false);
    assert_false(m->gsi_level[5]);
    assert_int_equal(m->gsi_raised[5], 1);
    fake_machine_free(m);
}

static void test_line_without_gate_goes_nowhere(void **unused)
{
    IrqLine line;
    irq_line_init(&line, NULL);
    irq_line_set(&line, true);
    assert_false(line.level);
}

/* Two threads share a cause word: an iothread raises a virtio ISR and a vCPU clears it by a read.
 * The last of them computes the level from the word, so the line matches the word. */
typedef struct Shared {
    _Atomic unsigned cause;
    IrqLine line;
} Shared;

static bool shared_cause(void *opaque)
{
    return ((Shared *)opaque)->cause != 0;
}

static void *shared_raiser(void *opaque)
{
    Shared *s = opaque;
    for (int i = 0; i < 20000; i++) {
        s->cause |= 1;
        irq_line_update(&s->line, shared_cause, s);
    }
    return NULL;
}

static void test_raise_and_acknowledge_cannot_cross(void **unused)
{
    FakeMachine *m = fake_machine_new();
    Shared s = {0};
    irq_line_init(&s.line, &m->gates[11]);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, shared_raiser, &s), 0);
    for (int i = 0; i < 20000; i++) {
        s.cause = 0;
        irq_line_update(&s.line, shared_cause, &s);
    }
    pthread_join(thread, NULL);
    irq_line_update(&s.line, shared_cause, &s);
    assert_int_equal(m->gsi_level[11], s.cause != 0);
    fake_machine_free(m);
}

/* ---- the double of MSI routes behaves as KVM's, see tests/vmm/kvm/test_kvm_irq.c ---- */

typedef struct FakeDelivery {
    FakeMachine *m;
    unsigned seen[256]; /* by data */
} FakeDelivery;

static bool fake_delivered(void *context, uint32_t data)
{
    FakeDelivery *d = context;
    fake_machine_settle(d->m);
    unsigned now = fake_machine_delivered(d->m, data), before = d->seen[data];
    d->seen[data] = now;
    return now > before;
}

static void test_the_double_keeps_the_contract(void **unused)
{
    static void (*const checks[])(const MsiContract *) = {
        msi_contract_pending_event_comes_once, msi_contract_event_is_taken_at_once,
        msi_contract_detached_event_stays,     msi_contract_new_message_takes_effect,
        msi_contract_reattach_raises_nothing,  msi_contract_routes_run_out_with_an_error,
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(checks); i++) {
        FakeDelivery d = {.m = fake_machine_new()};
        const MsiContract contract = {.ops = d.m->machine.ops,
                                      .opaque = d.m,
                                      .delivered = fake_delivered,
                                      .context = &d,
                                      .min_routes = 1040};
        checks[i](&contract);
        fake_machine_free(d.m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gate_is_the_or_of_its_lines),
        cmocka_unit_test(test_line_without_gate_goes_nowhere),
        cmocka_unit_test(test_raise_and_acknowledge_cannot_cross),
        cmocka_unit_test(test_the_double_keeps_the_contract),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* tier: kvm lab */
/* MSI routes on /dev/kvm: what hw/ relies on, and messages that KVM refuses. A local APIC shows the
 * delivered interrupts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "tests/support/host_kvm.h"
#include "tests/support/msi_contract.h"

#define LAPIC_SVR 0xf0
#define LAPIC_IRR 0x200
#define LAPIC_VECTORS_BYTES 0x80 /* 256 bits, 4 bytes in each 16 */

static Kvm kvm;
static ArchCpus cpus;
static int vcpu_fd;
static MachineOps ops;

static void lapic_get(struct kvm_lapic_state *lapic)
{
    assert_int_equal(ioctl(vcpu_fd, KVM_GET_LAPIC, lapic), 0);
}

static bool irr(uint32_t vector)
{
    struct kvm_lapic_state lapic;
    uint32_t word;
    lapic_get(&lapic);
    memcpy(&word, lapic.regs + LAPIC_IRR + vector / 32 * 16, sizeof(word));
    return word >> (vector % 32) & 1;
}

/* Enables it by software, with nothing pending. */
static void lapic_clear(void)
{
    struct kvm_lapic_state lapic;
    const uint32_t svr = 0x1ff;
    lapic_get(&lapic);
    memcpy(lapic.regs + LAPIC_SVR, &svr, sizeof(svr));
    memset(lapic.regs + LAPIC_IRR, 0, LAPIC_VECTORS_BYTES);
    assert_int_equal(ioctl(vcpu_fd, KVM_SET_LAPIC, &lapic), 0);
}

static bool delivered(void *context, uint32_t vector)
{
    bool was = irr(vector);
    if (was) {
        lapic_clear();
    }
    return was;
}

static const MsiContract contract = {
    .ops = &ops, .opaque = &kvm, .delivered = delivered, .min_routes = 1040};

static int set_up(void **unused)
{
    static const GuestRam no_ram;
    host_kvm_open(&kvm, &cpus, &no_ram, 1);
    kvm_irq_fill_ops(&ops);
    vcpu_fd = ioctl(kvm.vm_fd, KVM_CREATE_VCPU, 0);
    assert_true(vcpu_fd >= 0);
    lapic_clear();
    return 0;
}

static int tear_down(void **unused)
{
    close(vcpu_fd);
    host_kvm_close(&kvm, &cpus);
    return 0;
}

#define CONTRACT(name)                                                                             \
    static void name(void **unused)                                                                \
    {                                                                                              \
        msi_contract_##name(&contract);                                                            \
    }
CONTRACT(pending_event_comes_once)
CONTRACT(event_is_taken_at_once)
CONTRACT(detached_event_stays)
CONTRACT(new_message_takes_effect)
CONTRACT(reattach_raises_nothing)
CONTRACT(routes_run_out_with_an_error)

/* One commit for any number of messages, none for masking. */
static void changes_are_committed_together(void **unused)
{
    MsiRoute *r[100];
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    bql_lock();
    unsigned before = kvm.table_commits;
    for (unsigned i = 0; i < G_N_ELEMENTS(r); i++) {
        r[i] = ops.msi_route_new(&kvm, 8, fd, NULL);
        assert_non_null(r[i]);
        ops.msi_route_set(&kvm, r[i], (MsiMessage){0xfee00000, 0x50});
    }
    ops.msi_routes_commit(&kvm);
    ops.msi_routes_commit(&kvm); /* nothing has changed */
    for (unsigned i = 0; i < 10; i++) {
        assert_true(ops.msi_route_attach(&kvm, r[5], NULL));
        ops.msi_route_detach(&kvm, r[5]);
    }
    assert_int_equal(kvm.table_commits - before, 1);
    for (unsigned i = 0; i < G_N_ELEMENTS(r); i++) {
        ops.msi_route_free(&kvm, r[i]);
    }
    bql_unlock();
    close(fd);
}

/* A guest may write any address. KVM then refuses the whole table; other routes still work. */
static void a_refused_message_does_not_affect_others(void **unused)
{
    int fd[3];
    MsiRoute *r[3];
    struct kvm_enable_cap cap = {.cap = KVM_CAP_X2APIC_API, .args = {KVM_X2APIC_API_USE_32BIT_IDS}};
    g_autoptr(GError) error = NULL;
    if (ioctl(kvm.vm_fd, KVM_ENABLE_CAP, &cap) != 0) {
        skip(); /* otherwise KVM refuses no address */
    }
    bql_lock();
    for (unsigned i = 0; i < 3; i++) {
        fd[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        r[i] = ops.msi_route_new(&kvm, 8, fd[i], NULL);
        ops.msi_route_set(&kvm, r[i], (MsiMessage){i == 1 ? 0x12fee00000 : 0xfee00000, 0x60 + i});
    }
    ops.msi_routes_commit(&kvm);
    assert_true(ops.msi_route_attach(&kvm, r[0], NULL));
    assert_false(ops.msi_route_attach(&kvm, r[1], &error));
    assert_non_null(strstr(error->message, "0x12fee00000"));
    assert_true(ops.msi_route_attach(&kvm, r[2], NULL));
    /* attached: the old message stays */
    ops.msi_route_set(&kvm, r[0], (MsiMessage){0x12fee00000, 0x70});
    ops.msi_routes_commit(&kvm);
    for (unsigned i = 0; i < 3; i += 2) {
        eventfd_write(fd[i], 1);
        assert_true(delivered(NULL, 0x60 + i));
        ops.msi_route_detach(&kvm, r[i]);
    }
    for (unsigned i = 0; i < 3; i++) {
        ops.msi_route_free(&kvm, r[i]);
        close(fd[i]);
    }
    bql_unlock();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(pending_event_comes_once),       T(event_is_taken_at_once),
        T(detached_event_stays),           T(new_message_takes_effect),
        T(reattach_raises_nothing),        T(routes_run_out_with_an_error),
        T(changes_are_committed_together), T(a_refused_message_does_not_affect_others),
    };
    thread_adopt_role(THREAD_MAIN, "main");
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All CPUs up, then: every CPU adds to one atomic and one lock-guarded sum; every CPU sends
 * `rounds=` (20) IPIs to every CPU, itself included, each with the sender's own vector, and waits
 * for each to be counted; every CPU sends one to all others at once; and CPUs that sleep in hlt
 * are woken. A wait that takes longer than `limit_ms=` (20000) fails. `expect=N` demands N CPUs.
 */
#include "lib/guest.h"
#include "lib/clock.h"
#include "lib/lapic.h"
#include "lib/smp.h"

#define ADDITIONS 20000

static uint8_t sender_vectors[CPU_MAX];
static uint8_t sender_of_vector[256];
/* received[to][from]: written by the handler on CPU `to` only. */
static volatile uint32_t received[CPU_MAX][CPU_MAX];

static uint64_t atomic_sum, guarded_sum;
static int sum_lock;
static unsigned arrived;
static uint64_t rounds, limit_ns;

static void on_ipi(InterruptFrame *frame)
{
    received[cpu_this()->index][sender_of_vector[frame->vector]]++;
    lapic_end_interrupt();
}

static void add_to_sums(void)
{
    for (unsigned i = 0; i < ADDITIONS; i++) {
        __atomic_fetch_add(&atomic_sum, 1, __ATOMIC_RELAXED);
        while (__atomic_exchange_n(&sum_lock, 1, __ATOMIC_ACQUIRE)) {
            cpu_pause();
        }
        guarded_sum++;
        __atomic_store_n(&sum_lock, 0, __ATOMIC_RELEASE);
    }
}

static void wait_received(unsigned to, unsigned from, uint32_t wanted)
{
    uint64_t start = clock_now_ns();
    while (received[to][from] != wanted) {
        if (clock_now_ns() - start > limit_ns) {
            guest_fail("smp-irq: IPI of CPU %u to CPU %u: %u counted, expected %u", from, to,
                       received[to][from], wanted);
        }
        cpu_pause();
    }
}

/* Waits until all @cpu_count CPUs have come here @pass times. */
static void wait_everyone(unsigned cpu_count, unsigned pass)
{
    __atomic_fetch_add(&arrived, 1, __ATOMIC_ACQ_REL);
    uint64_t start = clock_now_ns();
    while (__atomic_load_n(&arrived, __ATOMIC_ACQUIRE) < cpu_count * pass) {
        if (clock_now_ns() - start > limit_ns) {
            guest_fail("smp-irq: CPU %u waited too long for the others", cpu_this()->index);
        }
        cpu_pause();
    }
}

static void exercise(void *arg)
{
    unsigned me = cpu_this()->index, cpu_count = smp_count();
    cpu_enable_interrupts();
    add_to_sums();
    wait_everyone(cpu_count, 1);
    for (uint32_t round = 1; round <= rounds; round++) {
        for (unsigned to = 0; to < cpu_count; to++) {
            /* The local APIC keeps one interrupt per vector: wait for this one before the next. */
            lapic_send_ipi(smp_cpu(to)->apic_id, sender_vectors[me]);
            wait_received(to, me, round);
        }
    }
    wait_everyone(cpu_count, 2);
    lapic_send_ipi_others(sender_vectors[me]);
    for (unsigned to = 0; to < cpu_count; to++) {
        wait_received(to, me, (uint32_t)rounds + (to == me ? 0 : 1));
    }
    wait_everyone(cpu_count, 3);
    cpu_disable_interrupts();
}

/* Sleeps until the boot CPU's next IPI. */
static void sleep_once(void *arg)
{
    unsigned me = cpu_this()->index;
    uint32_t before = received[me][0];
    __atomic_fetch_add(&arrived, 1, __ATOMIC_ACQ_REL);
    while (received[me][0] == before) {
        cpu_wait_interrupt();
    }
}

static void wake_sleepers(unsigned cpu_count)
{
    for (unsigned i = 1; i < cpu_count; i++) {
        uint32_t before = received[i][0];
        __atomic_store_n(&arrived, 0, __ATOMIC_RELEASE);
        smp_run(i, sleep_once, NULL);
        while (__atomic_load_n(&arrived, __ATOMIC_ACQUIRE) == 0) {
            cpu_pause();
        }
        lapic_send_ipi(smp_cpu(i)->apic_id, sender_vectors[0]);
        wait_received(i, 0, before + 1);
    }
}

void guest_main(void)
{
    rounds = bootinfo_get_number("rounds", 20);
    limit_ns = bootinfo_get_number("limit_ms", 20000) * CLOCK_NS_PER_MS;
    unsigned cpu_count = smp_start();
    uint64_t expected = bootinfo_get_number("expect", cpu_count);
    if (cpu_count != expected) {
        guest_fail("smp-irq: %u CPUs came up, expected %lu", cpu_count, expected);
    }
    for (unsigned i = 0; i < cpu_count; i++) {
        sender_vectors[i] = interrupts_alloc_vector(on_ipi);
        sender_of_vector[sender_vectors[i]] = (uint8_t)i;
    }
    printf("smp-irq: cpus=%u apic=%s\n", cpu_count, lapic_is_x2apic() ? "x2apic" : "xapic");
    smp_run_all(exercise, NULL);
    uint64_t sum = (uint64_t)cpu_count * ADDITIONS;
    if (atomic_sum != sum || guarded_sum != sum) {
        guest_fail("smp-irq: sums are %lu and %lu, expected %lu", atomic_sum, guarded_sum, sum);
    }
    wake_sleepers(cpu_count);
    printf("smp-irq: PASS cpus=%u ipis=%lu\n", cpu_count,
           cpu_count * cpu_count * rounds + cpu_count * (cpu_count - 1));
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every timer of the machine: TSC (monotonic on each CPU), local APIC one-shot, periodic and TSC
 * deadline, PIT through the 8259 and through the IOAPIC, PM timer, RTC. A missing timer is named
 * and skipped.
 *
 * The checks also hold on a loaded host: an interrupt is never early, arrives as often as
 * requested, and arrives within `limit_ms=` (20000). `rtc=0` skips the RTC, which takes a second.
 */
#include "lib/guest.h"
#include "lib/acpi.h"
#include "lib/clock.h"
#include "lib/irqchip.h"
#include "lib/lapic.h"
#include "lib/smp.h"

#define CPUID_1_ECX_TSC_DEADLINE (1u << 24)
#define MSR_TSC_DEADLINE 0x6e0
#define PIT_CHANNEL0_PORT 0x40
#define PIT_COMMAND_PORT 0x43
#define PIT_RATE_GENERATOR 0x34
#define PIT_IRQ 0
#define PIT_USUAL_GSI 2
#define RTC_INDEX_PORT 0x70
#define RTC_DATA_PORT 0x71
#define RTC_SECONDS 0x00
#define RTC_MINUTES 0x02
#define RTC_STATUS_A 0x0a
#define RTC_UPDATING 0x80

#define ONE_SHOT_NS (5 * CLOCK_NS_PER_MS)
#define PERIOD_NS (2 * CLOCK_NS_PER_MS)
#define PERIODS 10
#define PIT_DIVISOR 5966 /* 5 ms */
#define PIT_TICKS 5
#define MONOTONIC_READS 20000
/* How early an interrupt may seem, in percent: two rates were measured over 10-20 ms each, and a busy
 * host may have been away for milliseconds of them. */
#define RATE_ERROR_PERCENT 20

static uint64_t limit_ns;
static volatile uint32_t interrupts;
static bool by_pic;

static void on_timer(InterruptFrame *frame)
{
    interrupts++;
    if (by_pic) {
        pic_end_interrupt(PIT_IRQ);
    } else {
        lapic_end_interrupt();
    }
}

/* Waits until @wanted interrupts were counted; returns the time since @start_ns. */
static uint64_t wait_interrupts(const char *name, uint32_t wanted, uint64_t start_ns)
{
    while (interrupts < wanted) {
        /* Not hlt: the limit must also be noticed without an interrupt. */
        cpu_enable_interrupts();
        clock_wait_ns(100 * CLOCK_NS_PER_US);
        cpu_disable_interrupts();
        if (clock_now_ns() - start_ns > limit_ns) {
            guest_fail("timer: %s: %u interrupts, expected %u", name, interrupts, wanted);
        }
    }
    return clock_now_ns() - start_ns;
}

static void check_not_early(const char *name, uint64_t took_ns, uint64_t asked_ns)
{
    if (took_ns < asked_ns - asked_ns * RATE_ERROR_PERCENT / 100) {
        guest_fail("timer: %s: %lu us after its start, asked for %lu us", name,
                   took_ns / CLOCK_NS_PER_US, asked_ns / CLOCK_NS_PER_US);
    }
    printf("timer: %s: asked %lu us, took %lu us\n", name, asked_ns / CLOCK_NS_PER_US,
           took_ns / CLOCK_NS_PER_US);
}

static void check_silent(const char *name, uint32_t wanted)
{
    cpu_enable_interrupts();
    clock_wait_ns(2 * PERIOD_NS);
    cpu_disable_interrupts();
    if (interrupts != wanted) {
        guest_fail("timer: %s: %u interrupts, expected %u", name, interrupts, wanted);
    }
}

static void check_monotonic(void *arg)
{
    uint64_t last = cpu_read_tsc();
    for (unsigned i = 0; i < MONOTONIC_READS; i++) {
        uint64_t now = cpu_read_tsc();
        if (now < last) {
            guest_fail("timer: TSC of CPU %u went from %lu back to %lu", cpu_this()->index, last,
                       now);
        }
        last = now;
    }
}

/* A tick between the last expected one and the mask is still pending: without this it would be
 * counted for the next timer. */
static void take_late_ticks(void)
{
    cpu_enable_interrupts();
    clock_wait_ns(100 * CLOCK_NS_PER_US);
    cpu_disable_interrupts();
}

static void check_lapic(uint8_t vector)
{
    uint64_t hz = lapic_timer_measure_hz();
    printf("timer: lapic: %lu kHz\n", hz * 16 / 1000);
    interrupts = 0;
    lapic_timer_setup(vector);
    uint64_t start = clock_now_ns();
    lapic_timer_start((uint32_t)(hz * ONE_SHOT_NS / CLOCK_NS_PER_S));
    check_not_early("lapic one-shot", wait_interrupts("lapic one-shot", 1, start), ONE_SHOT_NS);
    check_silent("lapic one-shot", 1);

    interrupts = 0;
    lapic_timer_setup(vector | LAPIC_TIMER_PERIODIC);
    start = clock_now_ns();
    lapic_timer_start((uint32_t)(hz * PERIOD_NS / CLOCK_NS_PER_S));
    uint64_t took = wait_interrupts("lapic periodic", PERIODS, start);
    lapic_timer_setup(LAPIC_LVT_MASKED);
    lapic_timer_start(0);
    take_late_ticks();
    check_not_early("lapic periodic", took, PERIODS * PERIOD_NS);
}

/* Relative to the TSC as seen at CPL 0, which the deadline is compared with. */
static uint64_t ring0_set_deadline(uint64_t cycles, uint64_t unused, CpuTrapFrame *frame)
{
    uint64_t deadline = cpu_read_tsc() + cycles;
    __asm__ volatile("wrmsr" ::"c"(MSR_TSC_DEADLINE), "a"((uint32_t)deadline),
                     "d"((uint32_t)(deadline >> 32)));
    return 0;
}

static void check_deadline(uint8_t vector)
{
    if (!(cpu_read_cpuid(1, 0).ecx & CPUID_1_ECX_TSC_DEADLINE)) {
        printf("timer: tsc deadline: not offered by CPUID\n");
        return;
    }
    interrupts = 0;
    lapic_timer_setup(vector | LAPIC_TIMER_TSC_DEADLINE);
    uint64_t start = clock_now_ns();
    cpu_call_ring0(ring0_set_deadline, clock_tsc_hz() * ONE_SHOT_NS / CLOCK_NS_PER_S, 0);
    check_not_early("tsc deadline", wait_interrupts("tsc deadline", 1, start), ONE_SHOT_NS);
    check_silent("tsc deadline", 1);
    lapic_timer_setup(LAPIC_LVT_MASKED);
}

static bool pit_is_there(void)
{
    clock_pit_start(0);
    uint16_t first = clock_pit_read(0);
    clock_wait_ns(CLOCK_NS_PER_MS);
    return clock_pit_read(0) != first;
}

static void pit_set_rate(uint16_t divisor)
{
    cpu_out8(PIT_COMMAND_PORT, PIT_RATE_GENERATOR);
    cpu_out8(PIT_CHANNEL0_PORT, (uint8_t)divisor);
    cpu_out8(PIT_CHANNEL0_PORT, (uint8_t)(divisor >> 8));
}

/* Whether the PIT's interrupt arrives at this pin of the IOAPIC. If so the pin stays routed. */
static bool pit_ticks_at(unsigned gsi, uint8_t vector)
{
    ioapic_route(gsi, vector, cpu_this()->apic_id, IOAPIC_EDGE_HIGH);
    pit_set_rate(PIT_DIVISOR);
    interrupts = 0;
    uint64_t start = clock_now_ns();
    cpu_enable_interrupts();
    while (interrupts == 0 && clock_now_ns() - start < limit_ns / 2) { /* a busy emulator is slow */
        cpu_pause();
    }
    cpu_disable_interrupts();
    if (interrupts == 0) {
        ioapic_mask(gsi);
    }
    return interrupts != 0;
}

static void run_pit(const char *name)
{
    pit_set_rate(PIT_DIVISOR);
    interrupts = 0;
    uint64_t start = clock_now_ns();
    uint64_t took = wait_interrupts(name, PIT_TICKS, start);
    /* The first may have been pending, and the second may follow it at once. */
    check_not_early(name, took, (PIT_TICKS - 2) * PIT_DIVISOR * CLOCK_NS_PER_S / CLOCK_PIT_HZ);
}

static void check_pit(uint8_t vector)
{
    bool has_pic = pic_is_there();
    if (has_pic) {
        pic_init();
    }
    if (!pit_is_there()) {
        printf("timer: pit: not there\n");
        return;
    }
    if (has_pic) {
        interrupts_set_handler(PIC_FIRST_VECTOR + PIT_IRQ, on_timer);
        by_pic = true;
        lapic_set_lint0(LAPIC_LVT_EXTINT);
        pic_set_mask((uint16_t) ~(1u << PIT_IRQ));
        run_pit("pit by pic");
        pic_set_mask(0xffff);
        lapic_set_lint0(LAPIC_LVT_MASKED);
        by_pic = false;
    } else {
        printf("timer: pic: not there\n");
    }
    if (!ioapic_is_there()) {
        printf("timer: ioapic: not there\n");
        return;
    }
    unsigned gsi = ioapic_isa_gsi(PIT_IRQ);
    ioapic_mask_all();
    /* A machine with few tables (QEMU microvm) wires it to pin 2 as a PC does, without describing
     * it. */
    if (gsi == PIT_IRQ && pit_ticks_at(PIT_USUAL_GSI, vector)) {
        gsi = PIT_USUAL_GSI;
    }
    ioapic_route(gsi, vector, cpu_this()->apic_id, IOAPIC_EDGE_HIGH);
    run_pit("pit by ioapic");
    ioapic_mask(gsi);
}

static void check_pm_timer(void)
{
    if (!acpi_facts()->pm_timer_port) {
        printf("timer: pm timer: not there\n");
        return;
    }
    uint32_t first = clock_pm_timer_read();
    clock_wait_ns(ONE_SHOT_NS);
    uint32_t ticks = (clock_pm_timer_read() - first) & 0xffffff;
    uint64_t least = CLOCK_PM_TIMER_HZ / 1000 * (ONE_SHOT_NS / CLOCK_NS_PER_MS);
    if (ticks < least - least * RATE_ERROR_PERCENT / 100) {
        guest_fail("timer: pm timer: %u ticks in %lu ms", ticks, ONE_SHOT_NS / CLOCK_NS_PER_MS);
    }
    printf("timer: pm timer: %u ticks\n", ticks);
}

static uint8_t rtc_read(uint8_t index)
{
    cpu_out8(RTC_INDEX_PORT, index);
    return cpu_in8(RTC_DATA_PORT);
}

static uint8_t rtc_read_stable(uint8_t index)
{
    uint8_t value, again = rtc_read(index);
    do {
        value = again;
        while (rtc_read(RTC_STATUS_A) & RTC_UPDATING) {
            cpu_pause();
        }
        again = rtc_read(index);
    } while (value != again);
    return value;
}

static void check_rtc(void)
{
    if (rtc_read(RTC_STATUS_A) == 0xff) {
        printf("timer: rtc: not there\n");
        return;
    }
    uint8_t first = rtc_read_stable(RTC_SECONDS);
    uint64_t start = clock_now_ns();
    while (rtc_read_stable(RTC_SECONDS) == first) {
        if (clock_now_ns() - start > limit_ns) {
            guest_fail("timer: rtc stands at second 0x%x", first);
        }
    }
    printf("timer: rtc: minute 0x%02x, second 0x%02x to 0x%02x\n", rtc_read_stable(RTC_MINUTES),
           first, rtc_read_stable(RTC_SECONDS));
}

void guest_main(void)
{
    limit_ns = bootinfo_get_number("limit_ms", 20000) * CLOCK_NS_PER_MS;
    unsigned cpu_count = smp_start();
    printf("timer: cpus=%u tsc=%lu kHz by %s\n", cpu_count, clock_tsc_hz() / 1000, clock_source());
    smp_run_all(check_monotonic, NULL);
    uint8_t vector = interrupts_alloc_vector(on_timer);
    check_lapic(vector);
    check_deadline(vector);
    check_pit(vector);
    check_pm_timer();
    if (bootinfo_get_number("rtc", 1)) {
        check_rtc();
    }
    printf("timer: PASS\n");
}

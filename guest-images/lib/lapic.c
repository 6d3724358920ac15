/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/lapic.h"
#include "lib/bootinfo.h"
#include "lib/clock.h"
#include "lib/cpu.h"
#include "lib/exit.h"
#include "lib/interrupts.h"

#define XAPIC_GPA 0xfee00000ull
#define MSR_APIC_BASE 0x1b
#define APIC_BASE_ENABLED (1u << 11)
#define APIC_BASE_X2APIC (1u << 10)
#define MSR_X2APIC 0x800
#define CPUID_1_ECX_X2APIC (1u << 21)

#define REG_ID 0x020
#define REG_TASK_PRIORITY 0x080
#define REG_END_INTERRUPT 0x0b0
#define REG_SPURIOUS 0x0f0
#define REG_COMMAND_LOW 0x300
#define REG_COMMAND_HIGH 0x310
#define REG_LVT_TIMER 0x320
#define REG_LVT_LINT0 0x350
#define REG_LVT_LINT1 0x360
#define REG_TIMER_INITIAL 0x380
#define REG_TIMER_CURRENT 0x390
#define REG_TIMER_DIVIDE 0x3e0

#define SPURIOUS_ENABLE 0x100
#define COMMAND_PENDING (1u << 12)
#define COMMAND_ASSERT (1u << 14)
#define COMMAND_INIT 0x500
#define COMMAND_STARTUP 0x600
#define COMMAND_OTHERS (3u << 18)
#define DIVIDE_BY_16 3

static bool x2apic;

static uint32_t read_register(uint32_t reg)
{
    if (x2apic) {
        return (uint32_t)cpu_read_msr(MSR_X2APIC + (reg >> 4));
    }
    return mmio_read32(XAPIC_GPA + reg);
}

static void write_register(uint32_t reg, uint32_t value)
{
    if (x2apic) {
        cpu_write_msr(MSR_X2APIC + (reg >> 4), value);
    } else {
        mmio_write32(XAPIC_GPA + reg, value);
    }
}

static void on_spurious(InterruptFrame *frame)
{
}

void lapic_init(void)
{
    uint64_t base = cpu_read_msr(MSR_APIC_BASE);
    bool wanted = bootinfo_is_value("apic", "x2apic");
    if (wanted && !(cpu_read_cpuid(1, 0).ecx & CPUID_1_ECX_X2APIC)) {
        guest_refuse(EXIT_MISSING, "apic=x2apic, but CPUID offers none");
    }
    if (!(base & APIC_BASE_ENABLED)) {
        base |= APIC_BASE_ENABLED;
        cpu_write_msr(MSR_APIC_BASE, base);
    }
    if (wanted && !(base & APIC_BASE_X2APIC)) {
        base |= APIC_BASE_X2APIC;
        cpu_write_msr(MSR_APIC_BASE, base);
    }
    x2apic = base & APIC_BASE_X2APIC;
    interrupts_set_handler(VECTOR_SPURIOUS, on_spurious);
    write_register(REG_SPURIOUS, SPURIOUS_ENABLE | VECTOR_SPURIOUS);
    write_register(REG_TASK_PRIORITY, 0);
    write_register(REG_LVT_TIMER, LAPIC_LVT_MASKED);
    write_register(REG_LVT_LINT0, LAPIC_LVT_MASKED);
    write_register(REG_LVT_LINT1, LAPIC_LVT_MASKED);
}

bool lapic_is_x2apic(void)
{
    return x2apic;
}

uint32_t lapic_id(void)
{
    uint32_t id = read_register(REG_ID);
    return x2apic ? id : id >> 24;
}

void lapic_end_interrupt(void)
{
    write_register(REG_END_INTERRUPT, 0);
}

static void send_command(uint32_t apic_id, uint32_t command)
{
    if (x2apic) {
        cpu_write_msr(MSR_X2APIC + (REG_COMMAND_LOW >> 4), (uint64_t)apic_id << 32 | command);
        return;
    }
    while (mmio_read32(XAPIC_GPA + REG_COMMAND_LOW) & COMMAND_PENDING) {
        cpu_pause();
    }
    mmio_write32(XAPIC_GPA + REG_COMMAND_HIGH, apic_id << 24);
    mmio_write32(XAPIC_GPA + REG_COMMAND_LOW, command);
}

void lapic_send_ipi(uint32_t apic_id, uint8_t vector)
{
    send_command(apic_id, COMMAND_ASSERT | vector);
}

void lapic_send_ipi_others(uint8_t vector)
{
    send_command(0, COMMAND_OTHERS | COMMAND_ASSERT | vector);
}

void lapic_send_init(uint32_t apic_id)
{
    send_command(apic_id, COMMAND_ASSERT | COMMAND_INIT);
}

void lapic_send_startup(uint32_t apic_id, uint8_t page)
{
    send_command(apic_id, COMMAND_ASSERT | COMMAND_STARTUP | page);
}

void lapic_set_lint0(uint32_t lvt)
{
    write_register(REG_LVT_LINT0, lvt);
}

void lapic_timer_setup(uint32_t lvt)
{
    write_register(REG_TIMER_DIVIDE, DIVIDE_BY_16);
    write_register(REG_LVT_TIMER, lvt);
}

void lapic_timer_start(uint32_t count)
{
    write_register(REG_TIMER_INITIAL, count);
}

uint32_t lapic_timer_read(void)
{
    return read_register(REG_TIMER_CURRENT);
}

static uint64_t timer_measure_hz_once(void)
{
    lapic_timer_start(UINT32_MAX);
    uint64_t start_ns = clock_now_ns();
    uint32_t start = lapic_timer_read();
    clock_wait_ns(10 * CLOCK_NS_PER_MS);
    uint32_t count = start - lapic_timer_read();
    uint64_t span_ns = clock_now_ns() - start_ns;
    lapic_timer_start(0);
    return (uint64_t)count * CLOCK_NS_PER_S / span_ns;
}

uint64_t lapic_timer_measure_hz(void)
{
    uint64_t best = 0;
    lapic_timer_setup(LAPIC_LVT_MASKED);
    /* The span is at least the counted time, and longer if the host descheduled the CPU between the
     * two reads: the largest result is the best. */
    for (int i = 0; i < 3; i++) {
        uint64_t hz = timer_measure_hz_once();
        best = hz > best ? hz : best;
    }
    return best;
}

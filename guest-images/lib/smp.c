/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/smp.h"
#include "lib/acpi.h"
#include "lib/bootinfo.h"
#include "lib/clock.h"
#include "lib/exit.h"
#include "lib/interrupts.h"
#include "lib/irqchip.h"
#include "lib/lapic.h"
#include "lib/memory.h"
#include "lib/text.h"

#define INIT_SETTLE_NS (200 * CLOCK_NS_PER_US)
#define START_AGAIN_NS (100 * CLOCK_NS_PER_MS)
/* A CPU in the tables starts, if late on a busy host; others may not exist. */
#define START_LIMIT_NS (60 * CLOCK_NS_PER_S)
#define GUESS_LIMIT_NS (1 * CLOCK_NS_PER_S)

extern const uint8_t trampoline_start[], trampoline_end[];
extern const uint32_t trampoline_cpu, trampoline_stack;

typedef struct SmpSlot {
    Cpu *cpu;
    SmpWork *work; /* set by smp_run(), cleared by the worker when done */
    void *arg;
} SmpSlot;

static SmpSlot slots[CPU_MAX];
static unsigned count;
static uint8_t wake_vector;

static void on_wake(InterruptFrame *frame)
{
    lapic_end_interrupt();
}

/* First function of a started CPU at CPL 3. */
static _Noreturn void smp_main(void)
{
    lapic_init();
    SmpSlot *slot = &slots[cpu_this()->index];
    __atomic_store_n(&slot->cpu->online, true, __ATOMIC_RELEASE);
    for (;;) {
        SmpWork *work = __atomic_load_n(&slot->work, __ATOMIC_ACQUIRE);
        if (!work) {
            cpu_wait_interrupt();
            continue;
        }
        work(slot->arg);
        cpu_disable_interrupts();
        __atomic_store_n(&slot->work, NULL, __ATOMIC_RELEASE);
    }
}

static void fill_trampoline(const Cpu *cpu)
{
    uint8_t *copy = (uint8_t *)LAYOUT_TRAMPOLINE_GPA;
    uint32_t words[2] = {(uint32_t)(uint64_t)cpu, (uint32_t)cpu->ring0_stack};
    memcpy(copy, trampoline_start, (size_t)(trampoline_end - trampoline_start));
    memcpy(copy + ((const uint8_t *)&trampoline_cpu - trampoline_start), words, sizeof(words));
}

static bool wait_online(const Cpu *cpu, uint64_t limit_ns)
{
    uint64_t start = clock_now_ns();
    while (!__atomic_load_n(&cpu->online, __ATOMIC_ACQUIRE)) {
        if (clock_now_ns() - start > limit_ns) {
            return false;
        }
        cpu_pause();
    }
    return true;
}

static bool start_cpu(uint32_t apic_id, uint64_t limit_ns)
{
    Cpu *cpu = memory_alloc(sizeof(*cpu), 64);
    uint8_t *stacks = memory_alloc(2 * CPU_STACK_SIZE, 16);
    cpu->self = cpu;
    cpu->entry = (uint64_t)smp_main;
    cpu->entry_stack = (uint64_t)stacks + CPU_STACK_SIZE;
    cpu->ring0_stack = (uint64_t)stacks + 2 * CPU_STACK_SIZE;
    cpu->index = count;
    cpu->apic_id = apic_id;
    slots[count].cpu = cpu;
    fill_trampoline(cpu);
    lapic_send_init(apic_id);
    clock_wait_ns(INIT_SETTLE_NS);
    lapic_send_startup(apic_id, LAYOUT_TRAMPOLINE_GPA >> 12);
    if (!wait_online(cpu, START_AGAIN_NS)) {
        lapic_send_startup(apic_id, LAYOUT_TRAMPOLINE_GPA >> 12);
        if (!wait_online(cpu, limit_ns)) {
            return false;
        }
    }
    count++;
    return true;
}

/* The number of CPUs to try without a MADT. */
static unsigned guess_count(uint64_t limit)
{
    unsigned threads = cpu_read_cpuid(1, 0).ebx >> 16 & 0xff;
    return limit < CPU_MAX ? (unsigned)limit : threads ? threads : 1;
}

unsigned smp_start(void)
{
    if (count) {
        return count;
    }
    const AcpiFacts *acpi = acpi_facts();
    clock_init();
    /* Firmware may leave the PIT ticking into the 8259: mask the 8259 first, then LINT0. */
    pic_set_mask(0xffff);
    lapic_init();
    wake_vector = interrupts_alloc_vector(on_wake);
    slots[0].cpu = cpu_this();
    slots[0].cpu->apic_id = lapic_id();
    slots[0].cpu->online = true;
    count = 1;
    uint64_t limit = bootinfo_get_number("cpus", CPU_MAX);
    unsigned candidates = acpi->cpu_count ? acpi->cpu_count : guess_count(limit);
    for (unsigned i = 0; i < candidates && count < limit; i++) {
        uint32_t apic_id = acpi->cpu_count ? acpi->apic_ids[i] : i;
        /* A late CPU would take the start data of the next one, so the search ends here. */
        uint64_t limit_ns = acpi->cpu_count ? START_LIMIT_NS : GUESS_LIMIT_NS;
        if (apic_id != slots[0].cpu->apic_id && !start_cpu(apic_id, limit_ns)) {
            break;
        }
    }
    return count;
}

unsigned smp_count(void)
{
    return count;
}

Cpu *smp_cpu(unsigned index)
{
    return slots[index].cpu;
}

void smp_run(unsigned index, SmpWork *work, void *arg)
{
    SmpSlot *slot = &slots[index];
    slot->arg = arg;
    __atomic_store_n(&slot->work, work, __ATOMIC_RELEASE);
    lapic_send_ipi(slot->cpu->apic_id, wake_vector);
}

void smp_run_all(SmpWork *work, void *arg)
{
    for (unsigned i = 1; i < count; i++) {
        smp_run(i, work, arg);
    }
    work(arg);
    for (unsigned i = 1; i < count; i++) {
        while (__atomic_load_n(&slots[i].work, __ATOMIC_ACQUIRE)) {
            cpu_pause();
        }
    }
}

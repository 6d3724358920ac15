/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/power.h"
#include "lib/acpi.h"
#include "lib/cpu.h"
#include "lib/exit.h"

#define RESET_PORT 0xcf9
#define RESET_SYSTEM 0x02
#define RESET_NOW 0x04
#define KEYBOARD_STATUS_PORT 0x64
#define KEYBOARD_INPUT_FULL 0x02
#define KEYBOARD_PULSE_RESET 0xfe
#define PVPANIC_PORT 0x505
#define PVPANIC_PANICKED 1
#define PM1_POWER_BUTTON 0x0100
#define PM1_SLEEP_TYPE_SHIFT 10
#define PM1_SLEEP_ENABLE (1u << 13)

void power_off(void)
{
    const AcpiFacts *acpi = acpi_facts();
    if (!acpi->pm1a_control_port || acpi->s5_type < 0) {
        guest_refuse(EXIT_MISSING, "ACPI names no way to power off");
    }
    cpu_out16(acpi->pm1a_control_port,
              (uint16_t)((unsigned)acpi->s5_type << PM1_SLEEP_TYPE_SHIFT | PM1_SLEEP_ENABLE));
}

void power_reset(void)
{
    cpu_out8(RESET_PORT, RESET_SYSTEM);
    cpu_out8(RESET_PORT, RESET_SYSTEM | RESET_NOW);
}

void power_reset_by_keyboard(void)
{
    for (unsigned i = 0; i < 1000; i++) {
        if (!(cpu_in8(KEYBOARD_STATUS_PORT) & KEYBOARD_INPUT_FULL)) {
            break;
        }
    }
    cpu_out8(KEYBOARD_STATUS_PORT, KEYBOARD_PULSE_RESET);
}

bool power_button_pressed(void)
{
    uint16_t port = acpi_facts()->pm1a_event_port;
    return port && (cpu_in16(port) & PM1_POWER_BUTTON);
}

void power_panic(void)
{
    cpu_out8(PVPANIC_PORT, PVPANIC_PANICKED);
}

static uint64_t ring0_triple_fault(uint64_t a, uint64_t b, CpuTrapFrame *frame)
{
    struct __attribute__((packed)) {
        uint16_t limit;
        uint64_t base;
    } no_idt = {0, 0};
    __asm__ volatile("lidt %0; ud2" ::"m"(no_idt));
    return 0;
}

void power_triple_fault(void)
{
    cpu_call_ring0(ring0_triple_fault, 0, 0);
}
